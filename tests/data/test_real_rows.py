"""Real rows: what is right in them can still be found when they are encoded. Skips where they are absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from family_cases import CASES, statistics
from small_tokenizers import KINDS, small_tokenizer

from sweep.data import Row
from sweep.data.encoded import from_sequences
from sweep.tasks.question_answering import SPAN
from sweep.tasks.tagging import TOKEN, chunk_counts


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
