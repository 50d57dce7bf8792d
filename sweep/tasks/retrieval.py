"""The family `embedding`: find the translation of a sentence by the nearest vector.

As XTREME scores Tatoeba: for every sentence of the PIVOT side the FOREIGN sentence of greatest cosine is looked up; it
is right where both have the same row. No margin, no centring, no pardon for duplicates. Statistics are (correct, 1),
the metric is accuracy. Which layer and pooling gave the vectors is not decided here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.tasks.base import Encoded, EncodedSequence, Prediction, Row, Task
from sweep.tasks.classify import accuracy, right_or_wrong
from sweep.tasks.subwords import frame, slices, subwords
from sweep.tasks.vectors import Vectors

Text = tuple[str, Sequence[int]]  # a text and the targets of its sequence


def text_sequences(rows: Sequence[Row], texts: Any, tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
    """One sequence [CLS] text [SEP] for each of `texts(row)`, in order; ends are cut."""
    around = frame(tokenizer, pair=False)
    room = around.room(max_length)
    for start, part in slices(rows):
        owned = [(number, text) for number, row in enumerate(part, start) for text in texts(row)]
        pieces = subwords(tokenizer, [text for _, (text, _) in owned])
        for (number, (_, targets)), piece in zip(owned, pieces, strict=True):
            shown = piece[:room]
            yield EncodedSequence(around.join(shown), number, targets, around.segments(len(shown)))


def identity(text: str) -> int:
    """A number that equal texts share: what a training batch must not take for a wrong answer."""
    return zlib.crc32(text.encode()) >> 1


class EmbeddingFamily:
    """Two sequences per row, the foreign side first."""

    name = "embedding"
    metric = "accuracy"
    required: tuple[str, ...] = ("text", "pair")
    default_max_length = 512

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
        for column in self.required:
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
        """The row whose foreign sentence is nearest to each row's pivot sentence."""
        if not rows:
            return []
        sequences = np.arange(2 * len(rows), dtype=np.int64)
        found = outputs.nearest(sequences[1::2], sequences[0::2], 1)
        nearest: list[Prediction] = found.keys[:, 0].tolist()
        return nearest

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 2] (correct, 1)."""
        return right_or_wrong(predictions, [row.get("match", position) for position, row in enumerate(rows)])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy."""
        return accuracy(sums)

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Accuracy."""
        return {self.metric: self.value(sums)}

    def majority(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """1/N: the same foreign sentence for every query is right once."""
        return 1.0 / len(rows) if rows else 0.0


EMBEDDING = EmbeddingFamily()
