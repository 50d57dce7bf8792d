"""Run of a study: its chains on a Ray cluster, the live view, tracking in MLflow."""
