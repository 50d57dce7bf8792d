"""Prediction and label files as XTREME's official scorer reads them: written by chains, scored by `sweep score`."""
