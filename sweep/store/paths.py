"""Paths of a results folder: every file and folder in it is named here.

    study.yaml                  the study file as the last run read it
    ledger.sqlite               chains, attempts, facts
    store/                      finished phases and scores, by key
        phases/<key>/           record.json, encoder.safetensors, heads.safetensors; checkpoint.safetensors of a trunk
                                (the encoder's may hold some embeddings alone: sweep/models/vocabulary.py)
        scores/<key>/           record.json, statistics.npz, units.npz, predictions.zip, probabilities.npz
        previews/<key>/         record.json
        labels/<key>/           what is right in a test set and its texts, shared by all scores on it
        scratch/<key>/          a phase that is half done, with its last checkpoint
        data/<key>.arrow        encoded rows; rows-<key>.arrow: the rows themselves, of dev and test data
        encoders/<digest>/      tokenizers of encoders with random weights
        study.json              whose store it is
    logs/<chain>.log            what a chain's worker printed, warned of and failed with
    mlflow.sqlite, artifacts/   MLflow's database, where the study names no server; tracking.json: what was sent
    report.html, report-*.svg, scores.csv, scores.parquet, groups.csv, retention.csv, submissions/
    predictions.parquet         predictions of the same chains beside texts and right answers, by `sweep predictions`

What stands in a submission is the official layout (sweep/xtreme/__init__.py).
"""

from __future__ import annotations

# In the results folder.
STUDY_FILE = "study.yaml"
LEDGER = "ledger.sqlite"
STORE = "store"
LOGS = "logs"
LOCK = ".lock"  # held by the one run that may be at work in a results folder, and by who works on a half-done phase
MLFLOW, MLFLOW_ARTIFACTS, MLFLOW_SENT = "mlflow.sqlite", "artifacts", "tracking.json"

# Written by the report.
PAGE = "report.html"
PICTURES = {"gains": "report-gains.svg", "profiles": "report-languages.svg"}  # that are files of their own too
SCORES_CSV, SCORES_PARQUET, GROUPS_CSV, RETENTION_CSV = "scores.csv", "scores.parquet", "groups.csv", "retention.csv"
SUBMISSIONS = "submissions"
PREDICTIONS_PARQUET = "predictions.parquet"  # by a command of its own

# In the store.
OWNER = "study.json"
PHASES, SCORES, PREVIEWS, LABELS, SCRATCH = "phases", "scores", "previews", "labels", "scratch"
DATA, ENCODERS = "data", "encoders"  # made once by whoever comes first
RECORD = "record.json"  # in the folder of a phase, of scores, of a preview: written last
ENCODER_WEIGHTS, HEAD_WEIGHTS, CHECKPOINT = "encoder.safetensors", "heads.safetensors", "checkpoint.safetensors"
STATISTICS, UNITS, PREDICTIONS = "statistics.npz", "units.npz", "predictions.zip"
PROBABILITIES = "probabilities.npz"
