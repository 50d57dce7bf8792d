"""Family of translation retrieval (`embedding`, Tatoeba): the nearest vector of the other language.

As XTREME scores Tatoeba: for every sentence of the PIVOT side the FOREIGN sentence of greatest cosine is looked up; it
is right where both have the same row. No margin, no centring, and duplicates count as errors. Statistics are (correct,
1), the metric is accuracy. Layer and pooling of the vectors are chosen elsewhere (the study's `scoring`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row, guess_tokens
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.data.sample import Sample
from sweep.errors import DataError
from sweep.tasks.classification import accuracy, right_or_wrong
from sweep.tasks.task import ALONE, NAMES, SHAPE, Family, Guess, HeadSpec, Prediction, Task

RowIds = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Nearest of M keys for each of N queries, the nearest first; of equally near ones the lower key first."""

    keys: RowIds  # [N, k] positions among the keys; k is the smaller of what was asked for and M
    cosine: NDArray[np.float32]  # [N, k]


class Vectors(Protocol):
    """Vectors of a set of sequences, one each, and the search among them. Rows are numbers of sequences."""

    def __len__(self) -> int:
        """Number of sequences."""

    def nearest(self, queries: RowIds, keys: RowIds, count: int) -> Neighbours:
        """The `count` rows of `keys` nearest to each row of `queries`, by cosine."""

    def mutual(self, left: RowIds, right: RowIds, count: int) -> tuple[Neighbours, Neighbours]:
        """`nearest` from `left` to `right`, and back, for the price of one matrix product."""


Text = tuple[str, Sequence[int]]  # a text and the targets of its sequence


def text_sequences(rows: Sequence[Row], texts: Any, tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
    """One sequence [CLS] text [SEP] for each of `texts(row)`, in order, cut at its end."""
    around = frame(tokenizer, pair=False)
    room = around.room(max_length)
    for start, part in slices(rows):
        owned = [(number, text) for number, row in enumerate(part, start) for text in texts(row)]
        pieces = subwords(tokenizer, [text for _, (text, _) in owned])
        for (number, (_, targets)), piece in zip(owned, pieces, strict=True):
            shown = piece[:room]
            yield EncodedSequence(around.join(shown), number, targets, around.segments(len(shown)))


def identity(text: str) -> int:
    """Number that equal texts share: a training batch must not take them for negatives of each other."""
    return zlib.crc32(text.encode()) >> 1


class EmbeddingFamily(Family):
    """Pair of translations: two sequences per row, the foreign side first.

    Row: text: str (foreign side), pair: str (pivot side); row i of the sides are translations of each other, unless
    `match: int` gives the row whose foreign side translates the pivot side. Targets: [identity of the text] on the
    pair's sequence, [] on the other: equal ones are no negatives. Output: Vectors. Prediction: int, the row whose
    foreign side is nearest to this row's pivot side.
    """

    name = "embedding"
    also_called = ("retrieval", "sentence_retrieval", "parallel", "translation")
    columns = ("text", "pair")
    default_max_length = 512
    sequences = 2.0
    vectors = True

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Two texts of a row, or two files of as many lines, and no label."""
        if sample.form == "parallel":
            return Guess({}, ALONE, "lines of two files that translate each other")
        texts = sample.texts()
        if len(texts) != 2 or any(column.has_classes for column in sample.columns.values()):
            return None
        pivot = sample.named("en", "eng", "english", "translation.en", "target", "tgt", "pair")
        text, pair = texts if texts[1] == pivot or pivot not in texts else texts[::-1]
        sure = NAMES if pivot in texts else SHAPE
        return Guess({"text": text, "pair": pair}, sure, "two texts and no label: translations of each other")

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of both sides. Raises DataError."""
        return {name: columns.text(raw, name, where) for name in self.columns}

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """Each side."""
        return [(row["text"],), (row["pair"],)]

    def guess_tokens(self, row: Row) -> float:
        """Estimate for both sides as one sequence; part of recorded plans, so it stays as it is."""
        return guess_tokens(row["text"], row["pair"])

    def unit(self, row: Row) -> str | None:
        """Its pivot side, the same text in every language."""
        return f"text {row['pair']}"

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Vectors of the encoder."""
        return HeadSpec("vector")

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        for column in self.columns:
            if not isinstance(row[column], str) or not row[column].strip():
                return f"empty {column}"
        return None

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """Two sequences per row; the second has its identity as target."""
        return text_sequences(rows, self._texts, tokenizer, max_length)

    def _texts(self, row: Row) -> list[Text]:
        return [(row["text"], ()), (row["pair"], (identity(row["pair"]),))]

    def predict(
        self, outputs: Vectors, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Row whose foreign sentence is nearest to each row's pivot sentence."""
        if not rows:
            return []
        sequences = np.arange(2 * len(rows), dtype=np.int64)
        neighbours = outputs.nearest(sequences[1::2], sequences[0::2], 1)
        nearest: list[Prediction] = neighbours.keys[:, 0].tolist()
        return nearest

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 2]: (correct, 1)."""
        return right_or_wrong(predictions, [row.get("match", position) for position, row in enumerate(rows)])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy [...] from sums [..., 2]."""
        return accuracy(sums)

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """1/N: the same foreign sentence for every query is right once."""
        return 1.0 / len(rows) if rows else 0.0

    def gold(self, row: Row, number: int) -> Prediction:
        """Its own row, or that in its `match`."""
        return row.get("match", number)

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """Rows of the foreign side. Raises DataError with file:line."""
        for number, line in enumerate(lines, start=1):
            if not line.isdecimal():
                expected = "the number of a sentence, counted from 0, is expected"
                raise DataError(f"{path}:{number}", repr(line[:60]), expected)
        return [int(line) for line in lines]

    def from_gold(self, gold: Prediction) -> Row:
        """Row with its `match`."""
        return {"match": gold}


EMBEDDING = EmbeddingFamily()
