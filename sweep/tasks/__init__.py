"""The tables of what a study can name: output shapes, the embedded benchmark's tasks, and well-known hub data sets.

A hub row says which columns mean what, how large the splits are and how long the examples, so that a plan needs no
network. Traps of a data set are noted at its row. No commit is pinned here: a study records the one it resolved.
"""

from __future__ import annotations

from typing import Any

from sweep.tasks.base import Family, Task
from sweep.tasks.benchmarks import BENCHMARKS, languages_of
from sweep.tasks.classify import CHOICE, SEQUENCE
from sweep.tasks.languages import NAMES, THREE_LETTERS
from sweep.tasks.masked import MASKED
from sweep.tasks.qa import SPAN
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.sources import hub_task
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.tasks.token import TOKEN

FAMILIES: dict[str, Family] = {family.name: family for family in (SEQUENCE, CHOICE, TOKEN, SPAN, EMBEDDING, MASKED)}

NLI = ["entailment", "neutral", "contradiction"]
UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ"]
UPOS += ["SYM", "VERB", "X"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
NO_LABEL = {"label": [None]}  # what -1 becomes

PAWS_X = ["en", "de", "es", "fr", "ja", "ko", "zh"]
PAN_X = sorted(BENCHMARKS["xtreme"]["panx"])  # what google/xtreme has; XTREME-R's further languages are elsewhere
UD_NAMES = {language: NAMES[language] for language in BENCHMARKS["xtreme"]["udpos"]}
TATOEBA_CODES = {language: THREE_LETTERS[language] for language in BENCHMARKS["xtreme"]["tatoeba"]}
XNLI = ["en", *(language for language in languages_of("xnli") if language != "en")]

# fmt: off
# English, for intermediate phases. Where the hub has no labelled test split, its validation split is the test split and
# dev is a share of train, so that no checkpoint is ever chosen on what is reported.
ENGLISH: dict[str, dict[str, Any]] = {
    "mnli": {
        "family": "sequence", "hub": "nyu-mll/glue", "config": "mnli", "corpora": ["mnli"],
        "columns": {"text": "premise", "pair": "hypothesis"}, "labels": NLI,
        "train": "train", "dev": "validation_matched", "test": "validation_mismatched",
        "sizes": {"train": 392_702, "dev": 9_815, "test": 9_832}, "tokens": 42,
    },
    "snli": {
        "family": "sequence", "hub": "stanfordnlp/snli", "config": "plain_text", "corpora": ["snli"],
        "columns": {"text": "premise", "pair": "hypothesis"}, "labels": NLI, "skip": NO_LABEL,  # 783 of 550,152 rows
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 549_367, "dev": 10_000, "test": 10_000}, "tokens": 28,
    },
    "squad": {
        "family": "span", "hub": "rajpurkar/squad", "config": "plain_text", "corpora": ["squad"],
        "columns": {"id": "id"}, "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 87_599, "test": 10_570}, "tokens": 175,
    },
    "hellaswag": {
        "family": "choice", "hub": "Rowan/hellaswag", "config": "default", "corpora": ["hellaswag"],
        "columns": {"prompt": "{activity_label}: {ctx}", "options": "endings"},  # label: "0".."3", "" in test
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 39_905, "test": 10_042}, "tokens": 330,
    },
    "siqa": {  # allenai/social_i_qa is a script, which `datasets` no longer runs
        "family": "choice", "hub": "lighteval/siqa", "corpora": ["siqa"], "labels": ["1", "2", "3"],
        "columns": {"prompt": "{context} {question}", "options": ["answerA", "answerB", "answerC"]},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 33_410, "test": 1_954}, "tokens": 110,
    },
    "commonsense_qa": {
        "family": "choice", "hub": "tau/commonsense_qa", "corpora": ["commonsense_qa"],
        "labels": ["A", "B", "C", "D", "E"],
        "columns": {"prompt": "question", "options": "choices.text", "label": "answerKey"},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 9_741, "test": 1_221}, "tokens": 110,
    },
}

# Trained in English, tested in every language. Test sizes are those of most languages; what is loaded corrects them.
MULTILINGUAL: dict[str, dict[str, Any]] = {
    "xnli": {  # its English training data is MNLI's
        "family": "sequence", "hub": "facebook/xnli", "config": "{language}", "corpora": ["mnli", "xnli"],
        "columns": {"text": "premise", "pair": "hypothesis"}, "labels": NLI, "languages": XNLI,
        "train": {"split": "train", "languages": XNLI},  # machine-translated in all but English
        "dev": {"split": "validation", "languages": XNLI}, "test": "test",
        "sizes": {"train": 392_702, "dev": 2_490, "test": 5_010}, "tokens": 42,
    },
    "pawsx": {  # not google/xtreme's copy, which lost rows to CSV quoting
        "family": "sequence", "hub": "google-research-datasets/paws-x", "config": "{language}", "corpora": ["paws"],
        "columns": {"text": "sentence1", "pair": "sentence2"}, "labels": {"different": ["0"], "paraphrase": ["1"]},
        "languages": PAWS_X, "train": {"split": "train", "languages": PAWS_X},  # the same
        "dev": {"split": "validation", "languages": PAWS_X}, "test": "test",
        "sizes": {"train": 49_401, "dev": 2_000, "test": 2_000}, "tokens": 58,
    },
    "panx": {
        "family": "token", "hub": "google/xtreme", "config": "PAN-X.{language}", "corpora": ["wikiann"],
        "columns": {"words": "tokens", "tags": "ner_tags"}, "labels": ENTITIES, "languages": PAN_X,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 20_000, "dev": 10_000, "test": 10_000}, "tokens": 14,
    },
    "udpos": {  # syntactic words: multiword tokens are split, unlike in XTREME's own files, so scores differ a little
        "family": "token", "hub": "google/xtreme", "config": "udpos.{code}", "corpora": ["ud_english_ewt"],
        "columns": {"words": "tokens", "tags": "pos_tags"}, "labels": UPOS, "languages": UD_NAMES,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 21_253, "dev": 3_974, "test": 1_000}, "tokens": 25,
    },
    "xquad": {
        "family": "span", "hub": "google/xquad", "config": "xquad.{language}", "corpora": ["squad"],
        "columns": {"id": "id"}, "languages": ["en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"],
        "train": {"split": "train", "hub": "rajpurkar/squad", "config": "plain_text"}, "dev": 0.05,
        "test": "validation", "sizes": {"train": 87_599, "test": 1_190}, "tokens": 190,
    },
    "xcopa": {  # English: COPA, whose test labels are hidden
        "family": "choice", "hub": "cambridgeltl/xcopa", "config": "{language}", "corpora": ["copa"],
        "columns": {
            "prompt": {"by": "question", "cause": "{premise} This is because", "effect": "{premise} As a result"},
            "options": ["choice1", "choice2"],
        },
        "labels": {"0": ["choice1"], "1": ["choice2"]},
        "train": {"split": "train", "hub": "aps/super_glue", "config": "copa"}, "dev": 0.1,
        "test": [
            {"split": "validation", "hub": "aps/super_glue", "config": "copa", "languages": ["en"]},
            {"split": "test", "languages": ["et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"]},
        ],
        "sizes": {"train": 400, "test": 500}, "tokens": 46,
    },
    "tatoeba": {  # sentences keep their line ends, and source_lang is not to be trusted
        "family": "embedding", "hub": "google/xtreme", "config": "tatoeba.{code}", "corpora": ["tatoeba"],
        "columns": {"text": "source_sentence", "pair": "target_sentence"}, "languages": TATOEBA_CODES,
        "test": "validation", "sizes": {"test": 1_000}, "tokens": 22,
    },
}
# fmt: on

HUB = {**{name: {"languages": ["en"], **row} for name, row in ENGLISH.items()}, **MULTILINGUAL}

TASKS: dict[str, Task] = {task.name: task for task in EMBEDDED}
TASKS |= {name: hub_task(name, row, f"tasks.{name}") for name, row in HUB.items()}
