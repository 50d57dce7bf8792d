"""Training and scoring loops, and one phase from its data to its commit. No Ray."""
