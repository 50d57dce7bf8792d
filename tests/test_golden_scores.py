"""The scores of XTREME's own scorer on its mock predictions, and real data that must survive encoding.

Skips where these data are absent.
The expected numbers are those that google-research/xtreme holds its scorer to (means over languages, in per cent).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from family_cases import CASES, statistics, task_of
from small_tokenizers import KINDS, small_tokenizer

from sweep.tasks.base import Row
from sweep.tasks.classify import SEQUENCE
from sweep.tasks.encoding import from_sequences
from sweep.tasks.qa import SPAN
from sweep.tasks.token import TOKEN, chunk_counts


def pairs(shared_data: Path, task: str) -> Iterator[tuple[Path, Path]]:
    """(labels, predictions) of every language."""
    folder = shared_data / "xtreme_golden"
    for labels in sorted((folder / "labels" / task).iterdir()):
        yield labels, folder / "predictions" / task / labels.name


@pytest.mark.parametrize(("task", "accuracy"), [("pawsx", 51.42857142857143), ("xnli", 30.666666666666668)])
def test_accuracy_is_xtremes(shared_data: Path, task: str, accuracy: float) -> None:
    values = []
    for labels, predictions in pairs(shared_data, task):
        gold, found = (path.read_text().split("\n") for path in (labels, predictions))
        gold, found = ([line.strip() for line in lines if line.strip()] for lines in (gold, found))
        correct = np.array([[one == other, 1] for one, other in zip(gold, found, strict=True)], dtype=np.float64)
        values.append(SEQUENCE.value(correct.sum(axis=0)))
    assert 100 * np.mean(values) == pytest.approx(accuracy, abs=1e-11)


def sentences(path: Path) -> list[list[str]]:
    return [block.split("\n") for block in path.read_text().strip().split("\n\n")]


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("udpos", (70.21746048354693, 71.02232625883823, 69.54982073976082)),
        ("panx", (57.50793650793652, 54.729166666666664, 62.750000000000014)),
    ],
)
def test_f1_precision_and_recall_of_tags_are_xtremes(shared_data: Path, task: str, wanted: tuple[float, ...]) -> None:
    values = []
    for gold_path, found_path in pairs(shared_data, task):
        gold, found = sentences(gold_path), sentences(found_path)
        labels = sorted({tag for sentence in (*gold, *found) for tag in sentence})
        of_word = np.repeat(np.arange(len(gold)), [len(sentence) for sentence in gold])
        tags = [np.array([labels.index(tag) for sentence in side for tag in sentence]) for side in (found, gold)]
        sums = chunk_counts(*tags, of_word, len(gold), labels).sum(axis=0)
        right, predicted, golden = sums
        values.append((float(TOKEN.value(sums)), right / predicted if predicted else 0.0, right / golden))
    assert 100 * np.mean(values, axis=0) == pytest.approx(wanted, abs=1e-11)


def squad_rows(path: Path) -> list[Row]:
    """The rows of a file in SQuAD's format."""
    return [
        {
            "id": question["id"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": [{"text": gold["text"], "start": gold["answer_start"]} for gold in question["answers"]],
        }
        for article in json.loads(path.read_text())["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("xquad", (79.9586776859504, 77.27272727272727)),
        ("mlqa", (81.76870748299321, 57.142857142857146)),
        ("tydiqa", (97.22222222222223, 88.88888888888889)),
    ],
)
def test_f1_and_exact_match_of_answers_are_xtremes(shared_data: Path, task: str, wanted: tuple[float, ...]) -> None:
    values = []
    for labels, predictions in pairs(shared_data, task):
        found = json.loads(predictions.read_text())
        rows, known = squad_rows(labels), task_of(SPAN, normaliser="mlqa" if task == "mlqa" else "squad")
        scores = SPAN.judge([found.get(row["id"]) for row in rows], rows, known, labels.stem[-2:])
        values.append(scores[:, :2].mean(axis=0))
    assert 100 * np.mean(values, axis=0) == pytest.approx(wanted, abs=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "ar", "zh"])
def test_the_answers_of_xquad_can_be_found_again(shared_data: Path, kind: str, language: str) -> None:
    rows = squad_rows(shared_data / "xquad" / f"xquad.{language}.json")
    assert {SPAN.check(row, ()) for row in rows} == {None}
    tokenizer = small_tokenizer(kind, [row["context"] for row in rows], 4000)
    encoded = from_sequences(SPAN.encode(rows, tokenizer, 384))
    outputs = CASES["span"].perfect(encoded, rows)
    details = SPAN.details(statistics(SPAN, outputs, encoded, rows).sum(axis=0))
    # Not all: an answer may begin or end inside a token (half a word of Arabic, one of several Chinese characters).
    assert details["f1"] > (0.95 if language == "zh" else 0.99)


def tagged_rows(path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """Rows and tags of a CoNLL-U file."""
    blocks = [
        [line.split("\t") for line in block.split("\n") if line and line.split("\t")[0].isdigit()]
        for block in path.read_text().strip().split("\n\n")
    ]
    labels = sorted({line[3] for block in blocks for line in block})
    rows: list[Row] = [
        {"words": [line[1] for line in block], "tags": [labels.index(line[3]) for line in block]} for block in blocks
    ]
    return rows, tuple(labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("treebank", ["UD_Tamil-TTB/ta_ttb-ud-test.conllu", "UD_German-GSD/de_gsd-ud-test.conllu"])
def test_every_tag_of_a_treebank_is_scored(shared_data: Path, kind: str, treebank: str) -> None:
    rows, labels = tagged_rows(shared_data / "ud" / treebank)
    assert {TOKEN.check(row, labels) for row in rows} == {None}
    tokenizer = small_tokenizer(kind, [" ".join(row["words"]) for row in rows[:50]], 300)
    encoded = from_sequences(TOKEN.encode(rows, tokenizer, 40))
    sums = statistics(TOKEN, CASES["upos"].perfect(encoded, rows), encoded, rows, labels).sum(axis=0)
    gold = [tag for row in rows for tag in row["tags"]]
    of_word = np.repeat(np.arange(len(rows)), [len(row["tags"]) for row in rows])
    assert (
        sums.tolist() == chunk_counts(np.array(gold), np.array(gold), of_word, len(rows), labels).sum(axis=0).tolist()
    )
