"""Plans of studies: cells, chains, shared phases, their cost and order. Runs nothing."""
