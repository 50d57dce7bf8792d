"""Batches, models, fit() and score(): no Ray, no store."""
