"""The family without a head (`embedding`): find the translation of a sentence by the nearest vector.

As XTREME scores Tatoeba: vectors are scaled to length 1, and for every sentence of the PIVOT side the nearest sentence
of the FOREIGN side is looked up; it is right where both have the same row. No margin, no centring, no pardon for
duplicates. Statistics are (correct, 1), the metric is accuracy. Which layer and pooling gave the vectors is not decided
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.tasks.base import Encoded, EncodedSequence, Prediction, Row, Task
from sweep.tasks.classify import accuracy, right_or_wrong
from sweep.tasks.subwords import frame, slices, subwords

QUERIES_AT_ONCE = 1024  # similarities held at a time: this many rows of N


def nearest_foreign(foreign: NDArray[Any], pivot: NDArray[Any]) -> NDArray[np.int64]:
    """[N] row of the foreign vector [N, D] of the greatest cosine to each pivot vector [N, D]; the first of equals."""
    keys, queries = _unit(foreign), _unit(pivot)
    starts = range(0, len(queries), QUERIES_AT_ONCE)
    found = [(queries[start : start + QUERIES_AT_ONCE] @ keys.T).argmax(axis=1) for start in starts]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found]).astype(np.int64)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


class EmbeddingFamily:
    """Two sequences per row: [CLS] text [SEP] of the foreign side, then that of the pivot side; ends are cut."""

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
        """Two sequences per row, without targets."""
        around = frame(tokenizer, pair=False)
        room = around.room(max_length)
        for start, part in slices(rows):
            texts = subwords(tokenizer, [text for row in part for text in (row["text"], row["pair"])])
            for position, text in enumerate(texts, 2 * start):
                shown = text[:room]
                yield EncodedSequence(around.join(shown), position // 2, (), around.segments(len(shown)))

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """The row whose foreign sentence is nearest to each row's pivot sentence, from the sentence vectors [D]."""
        if not outputs:
            return []
        vectors = np.stack(outputs)
        nearest: list[Prediction] = nearest_foreign(vectors[0::2], vectors[1::2]).tolist()
        return nearest

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 2] (correct, 1)."""
        return right_or_wrong(predictions, [row.get("match", position) for position, row in enumerate(rows)])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy."""
        return accuracy(sums)

    def majority(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """1/N: the same foreign sentence for every query is right once."""
        return 1.0 / len(rows) if rows else 0.0


EMBEDDING = EmbeddingFamily()
