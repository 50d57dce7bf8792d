"""A small folder in the official layout, right in every respect, for tests to read or to spoil. No tests here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TAGS = "NOUN\nNOUN\nVERB\n\nSCONJ\nSCONJ\n"  # one chunk of two nouns, a verb, two conjunctions that stand alone
FOUND = "NOUN\nADJ\nVERB\n\nSCONJ\nNOUN\n"  # right: VERB, the first SCONJ; five predicted


def squad(*questions: tuple[str, str]) -> str:
    """A label file of (id, answer)."""
    qas = [{"id": name, "question": "?", "answers": [{"text": text, "answer_start": 0}]} for name, text in questions]
    return json.dumps({"version": "1.1", "data": [{"paragraphs": [{"context": "", "qas": qas}]}]})


FILES = {
    "labels/xnli/test-de.tsv": "neutral\nentailment\ncontradiction\nneutral\n",
    "predictions/xnli/test-de.tsv": "neutral\nentailment\nneutral\nneutral\n",
    "labels/xnli/test-sw.tsv": "neutral\nentailment\n",
    "predictions/xnli/test-sw.tsv": "contradiction\nentailment",
    "labels/udpos/test-de.tsv": TAGS,
    "predictions/udpos/test-de.tsv": FOUND,
    "labels/xquad/test-de.json": squad(("q1", "The cat"), ("q2", "eine Katze")),
    "predictions/xquad/test-de.json": json.dumps({"q1": "cat", "q2": "Katze"}),
    "labels/tatoeba/test-de.tsv": "1\n0\n2\n",
    "predictions/tatoeba/test-de.tsv": "1\n2\n2\n",
    "labels/bucc2018/test-de.tsv": "de-1\ten-1\nde-2\ten-2\n",
    "predictions/bucc2018/test-de.tsv": "de-1\ten-1\nde-1\ten-1\nde-2\ten-3\nde-4\ten-4\n",  # the first one twice
    "labels/mewslix/test-de.json": json.dumps({"m1": ["Q1"], "m2": ["Q2"]}),
    "predictions/mewslix/test-de.json": json.dumps({"m1": ["Q1"], "m2": ["Q1", "Q3", "Q2"]}),
    "labels/xcopa/test-et.jsonl": '{"premise": "a", "label": 1}\n{"label": 0}\n',
    "predictions/xcopa/test-et.jsonl": '{"label": 1}\n{"label": 1}\n',
}
EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    "xnli": {"de": {"accuracy": 75.0}, "sw": {"accuracy": 50.0}},
    "udpos": {"de": {"f1": 100 * 4 / 9, "precision": 40.0, "recall": 50.0}},
    "xquad": {"de": {"f1": 100 * (1 + 2 / 3) / 2, "exact_match": 50.0}},
    "tatoeba": {"de": {"accuracy": 100 * 2 / 3}},
    "bucc2018": {"de": {"f1": 40.0, "precision": 100 / 3, "recall": 50.0}},
    "mewslix": {"de": {"map@20": 100 * (1 + 1 / 3) / 2}},
    "xcopa": {"et": {"accuracy": 50.0}},
}
GOLDEN = {  # means over languages that google-research/xtreme holds its scorer to (evaluate_test.py)
    "pawsx": {"accuracy": 51.42857142857143},
    "xnli": {"accuracy": 30.666666666666668},
    "panx": {"f1": 57.50793650793652, "precision": 54.729166666666664, "recall": 62.750000000000014},
    "udpos": {"f1": 70.21746048354693, "precision": 71.02232625883823, "recall": 69.54982073976082},
    "bucc2018": {"f1": 55.0, "precision": 55.0, "recall": 55.0},
    "tatoeba": {"accuracy": 53.611111111111114},
    "xquad": {"exact_match": 77.27272727272727, "f1": 79.9586776859504},
    "mlqa": {"exact_match": 57.142857142857146, "f1": 81.76870748299321},
    "tydiqa": {"exact_match": 88.88888888888889, "f1": 97.22222222222223},
    "mewslix": {"map@20": 14.39025156130419},
}


def official_folder(root: Path, **changed: str | None) -> Path:
    """FILES below `root`; `changed` are others by name, None for none. Slashes in names are written `__`."""
    for name, content in {**FILES, **{key.replace("__", "/"): text for key, text in changed.items()}}.items():
        if content is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content, encoding="utf-8")
    return root
