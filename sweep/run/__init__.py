"""One chain: its phases from the store or trained, then its zero-shot scores. Knows no Ray."""
