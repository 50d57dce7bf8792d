"""Results on disk: phases and scores by key, the ledger of what was spent, remembered facts."""
