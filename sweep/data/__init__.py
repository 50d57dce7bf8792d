"""Rows from anywhere to token ids on disk: files, hub, columns, units, encoded arrays. No torch."""
