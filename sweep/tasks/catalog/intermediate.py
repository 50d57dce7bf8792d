"""Hub data sets for intermediate phases: English, some with machine-translated training data in other languages.

The nine of X-STILTs (arXiv 2005.13013) and further ones. A row is a description that sources.py reads. Where the hub
has no labelled test split, its validation split is the test split and dev is a share of train, so that no checkpoint is
ever chosen on what is reported. Traps of a data set are noted at its row.
"""

from __future__ import annotations

from typing import Any

from sweep.tasks.catalog import languages_of

NLI = ["entailment", "neutral", "contradiction"]
PARAPHRASE = {"different": ["0"], "paraphrase": ["1"]}
NO_LABEL = {"label": [-1]}
PARQUET = "refs/convert/parquet"  # where the hub keeps what it has made of a loading script, which cannot be loaded

MNLI_TRANSLATED = [language for language in languages_of("xnli") if language != "en"]
SQUAD_TRANSLATED = ["ar", "de", "es", "hi", "vi", "zh"]  # MLQA's translate-train
# fmt: off
SQUAD_SIZES = {
    "en": 87_599, "ar": 78_058, "de": 80_069, "es": 81_810, "hi": 82_451, "vi": 84_816, "zh": 76_285,
}
SQUAD = [
    {"split": "train", "hub": "rajpurkar/squad", "config": "plain_text", "languages": ["en"]},
    {
        "split": "train", "hub": "facebook/mlqa", "config": "mlqa-translate-train.{language}", "fallback": PARQUET,
        "languages": SQUAD_TRANSLATED, "skip_misplaced": True,
    },
]
ANLI_TRAIN = [{"split": f"train_r{number}", "hub": "facebook/anli", "config": "plain_text"} for number in (1, 2, 3)]

ENGLISH: dict[str, dict[str, Any]] = {
    "anli_plus": {  # one data set and one head, so every row is equally likely; 785 rows of SNLI have no label
        "family": "sequence", "corpora": ["snli", "mnli", "anli"], "licence": "non-commercial (ANLI: CC BY-NC 4.0)",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI, "skip": NO_LABEL,
        "train": [
            {"split": "train", "hub": "stanfordnlp/snli", "config": "plain_text"},
            {"split": "train", "hub": "nyu-mll/multi_nli", "config": "default"},
            *ANLI_TRAIN,
        ],
        # MNLI's, as for mnli itself: ANLI's were written to fool models, and would choose for that
        "dev": {"split": "validation_matched", "hub": "nyu-mll/multi_nli", "config": "default"},
        "test": {"split": "validation_mismatched", "hub": "nyu-mll/multi_nli", "config": "default"},
        "sizes": {"train": 1_104_934, "dev": 9_815, "test": 9_832}, "tokens": 40,
    },
    "mnli": {  # in other languages XNLI's translations
        "family": "sequence", "hub": "nyu-mll/glue", "config": "mnli", "corpora": ["mnli"],
        "licence": "OANC, with parts under CC BY 3.0, CC BY-SA 3.0 and others",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI,
        "train": [
            {"split": "train", "languages": ["en"]},
            {"split": "train", "hub": "facebook/xnli", "config": "{language}", "languages": MNLI_TRANSLATED},
        ],
        "dev": [
            {"split": "validation_matched", "languages": ["en"]},
            {"split": "validation", "hub": "facebook/xnli", "config": "{language}", "languages": MNLI_TRANSLATED},
        ],
        "test": "validation_mismatched",
        "sizes": {"train": 392_702, "dev": {"en": 9_815, "other": 2_490}, "test": 9_832}, "tokens": 42,
    },
    "snli": {
        "family": "sequence", "hub": "stanfordnlp/snli", "config": "plain_text", "corpora": ["snli"],
        "licence": "CC BY-SA 4.0",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI, "skip": NO_LABEL,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 549_367, "dev": 9_842, "test": 9_824}, "tokens": 28,
    },
    "qqp": {  # a few questions are empty
        "family": "sequence", "hub": "nyu-mll/glue", "config": "qqp", "corpora": ["qqp"],
        "licence": "Quora's terms: non-commercial",
        "columns": {"text": "question1", "pair": "question2"},
        "labels": {"different": ["not_duplicate"], "paraphrase": ["duplicate"]},
        "skip": {"question1": [""], "question2": [""]},
        "train": "train", "dev": 0.02, "test": "validation",
        "sizes": {"train": 363_846, "test": 40_430}, "tokens": 30,
    },
    "paws": {
        "family": "sequence", "hub": "google-research-datasets/paws", "config": "labeled_final", "corpora": ["paws"],
        "licence": "free for any use, with acknowledgement of Google",
        "columns": {"text": "sentence1", "pair": "sentence2"}, "labels": PARAPHRASE,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 49_401, "dev": 8_000, "test": 8_000}, "tokens": 58,
    },
    "squad": {  # in other languages MLQA's translate-train, some answers of which are not where their offset says
        "family": "span", "hub": "rajpurkar/squad", "config": "plain_text", "corpora": ["squad"],
        "licence": "CC BY-SA 4.0",
        "columns": {"id": "id"}, "train": SQUAD, "dev": 0.05, "test": "validation",
        "sizes": {"train": SQUAD_SIZES, "test": 10_570}, "tokens": 175,
    },
    "squad2": {
        "family": "span", "hub": "rajpurkar/squad_v2", "config": "squad_v2", "corpora": ["squad", "squad2"],
        "licence": "CC BY-SA 4.0",
        "columns": {"id": "id"}, "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 130_319, "test": 11_873}, "tokens": 175,
    },
    "hellaswag": {  # the label is text, "0" to "3", and "" in the hub's test split
        "family": "choice", "hub": "Rowan/hellaswag", "config": "default", "fallback": PARQUET,
        "corpora": ["hellaswag"], "licence": "MIT",
        "columns": {"prompt": "ctx_a", "options": [f"{{ctx_b}} {{endings.{number}}}" for number in range(4)]},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 39_905, "test": 10_042}, "tokens": 330,
    },
    "cosmos_qa": {
        "family": "choice", "hub": "allenai/cosmos_qa", "config": "default", "fallback": PARQUET,
        "corpora": ["cosmos_qa"], "licence": "CC BY 4.0",
        "columns": {
            "prompt": "{context} {question}", "options": ["answer0", "answer1", "answer2", "answer3"],
            "unit": "context",
        },
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 25_262, "test": 2_985}, "tokens": 430,
    },
    "commonsense_qa": {
        "family": "choice", "hub": "tau/commonsense_qa", "config": "default", "corpora": ["commonsense_qa"],
        "licence": "MIT", "labels": ["A", "B", "C", "D", "E"],
        "columns": {"prompt": "question", "options": "choices.text", "label": "answerKey"},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 9_741, "test": 1_221}, "tokens": 110,
    },
    "siqa": {  # allenai/social_i_qa is a script
        "family": "choice", "hub": "lighteval/siqa", "corpora": ["siqa"],
        "licence": "see its card", "labels": ["1", "2", "3"],
        "columns": {
            "prompt": "{context} {question}", "options": ["answerA", "answerB", "answerC"], "unit": "context",
        },
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 33_410, "test": 1_954}, "tokens": 110,
    },
}
# fmt: on
