"""Family of bitext mining (`mining`): translations that two comparable corpora share, as XTREME scores BUCC 2018.

Both sides are deduplicated (the last occurrence gives the vector). A pair's score is its cosine over the mean cosine of
both sentences to their four nearest neighbours (the ratio margin of Artetxe and Schwenk 2019, arXiv 1811.01136). The
best candidate of every sentence, in both directions, is taken in the order of scores, each sentence once. Pairs of a
sentence that its corpus has more than once (white space around it aside) have no single id and are dropped.

Pairs count from a threshold on, which is calibrated on dev: the middle between the score at the best F1 and the next.
Statistics are (right, predicted, gold) pairs of a foreign sentence; the metric is their micro F1. Source:
third_party/utils_retrieve.py of google-research/xtreme.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence
from sweep.data.files import file_lines
from sweep.errors import DataError
from sweep.tasks.retrieval import Neighbours, RowIds, Text, Vectors, text_sequences
from sweep.tasks.tagging import micro_scores
from sweep.tasks.task import Family, HeadSpec, Pair, Prediction, Task

SIDES = ("text", "pair")
NEIGHBOURS = 4


class MiningFamily(Family):
    """Bitext mining: one sequence per row, without targets.

    Row: id: str, side: "text" (foreign) or "pair" (pivot), text: str, links: list[str] (of side text: ids of its
    translations on the other side). Output: Vectors. Prediction: {id of a translation on the other side: its score};
    empty for a sentence without one, and for side pair.
    """

    name = "mining"
    also_called = ("bitext_mining", "bitext", "bucc")
    metric = "f1"
    columns = ("id", "side", "text", "links")
    default_max_length = 512
    vectors = True
    calibrates = True

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of a sentence, its side, and the ids of its translations. Raises DataError."""
        return {
            "id": str(columns.value(raw, "id", where)),
            "side": columns.text(raw, "side", where),
            "text": columns.text(raw, "text", where),
            "links": columns.texts(raw, "links", where),
        }

    def contents(self, row: Row) -> Iterable[str]:
        """Its sentence."""
        return (row["text"],)

    def readable(self, row: Row) -> dict[str, str]:
        """Its sentence."""
        return {"text": row["text"]}

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Ids of its translations and of those that were found, with spaces between them."""
        return " ".join(row["links"]), " ".join(prediction)

    def is_scored(self, row: Row) -> bool:
        """Whether the sentence is foreign: those are the examples of a score."""
        return bool(row["side"] == "text")

    def may_be_left_out(self, row: Row) -> bool:
        """False: both sides are searched."""
        return False

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Vectors of the encoder."""
        return HeadSpec("vector")

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        if row["side"] not in SIDES:
            return f"side {row['side']!r} is not text or pair"
        if not isinstance(row["text"], str) or not row["text"].strip():
            return "empty text"
        return None

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per row, without targets."""
        return text_sequences(rows, self._texts, tokenizer, max_length)

    def _texts(self, row: Row) -> list[Text]:
        return [(row["text"], ())]

    def predict(
        self, outputs: Vectors, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Pair of every foreign sentence that has one, with its score, before any threshold."""
        texts, pairs = (_distinct(rows, side) for side in SIDES)
        predictions: list[Prediction] = [{} for _ in rows]
        if not len(texts) or not len(pairs):
            return predictions
        once = [_once(rows, side) for side in SIDES]
        for foreign, pivot, score in _candidates(*outputs.mutual(texts, pairs, NEIGHBOURS)):
            text, pair = int(texts[foreign]), int(pairs[pivot])
            if rows[text]["text"].strip() in once[0] and rows[pair]["text"].strip() in once[1]:
                predictions[text] = {rows[pair]["id"]: score}
        return predictions

    def calibrate(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> float:
        """Threshold of best F1, the highest of several; 0 where no pair is right, as in XTREME's code."""
        scored = [
            (score, pair in row["links"])
            for row, prediction in zip(rows, predictions, strict=True)
            for pair, score in prediction.items()
        ]
        scores = np.array([score for score, _ in scored])
        order = np.argsort(-scores, kind="stable")
        right = np.cumsum(np.array([hit for _, hit in scored], dtype=np.float64)[order])
        if not len(right) or not right[-1]:
            return 0.0
        precision = right / np.arange(1, len(right) + 1)
        recall = right / sum(len(set(row["links"])) for row in rows if row["side"] == "text")
        both = precision + recall
        f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
        best = int(f1.argmax())
        descending = scores[order]
        return float((descending[best] + descending[min(best + 1, len(descending) - 1)]) / 2)

    def apply_threshold(self, predictions: Sequence[Prediction], threshold: float) -> list[Prediction]:
        """Pairs with at least the threshold's score."""
        return [{pair: score for pair, score in prediction.items() if score >= threshold} for prediction in predictions]

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 3]: (right, predicted, gold) pairs of foreign sentences, zeros for the pivot side."""
        counts = np.zeros((len(rows), 3))
        for number, (row, prediction) in enumerate(zip(rows, predictions, strict=True)):
            if row["side"] == "text":
                gold = set(row["links"])
                counts[number] = len(gold.intersection(prediction)), len(prediction), len(gold)
        return counts

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Micro F1 [...] of pairs; 0 where there is none."""
        return micro_scores(sums)["f1"]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """F1, precision and recall of pairs, each [...]."""
        return micro_scores(sums)

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """F1 of one right pair: the same translation for all sentences, which only one of them can keep."""
        gold = sum(len(set(row["links"])) for row in rows if row["side"] == "text")
        return 2 / (1 + gold) if gold else 0.0

    def gold(self, row: Row, number: int) -> Prediction:
        """Ids of a foreign sentence's translations."""
        return row["links"] if self.is_scored(row) else ()

    def predictions_text(self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
        """Lines of id, tab, id."""
        pairs = zip(rows, predictions, strict=True)
        return "".join([f"{row['id']}\t{pair}\n" for row, prediction in pairs for pair in prediction])

    def read_files(self, predictions: Path, labels: Path, task: Task) -> Pair:
        """Pairs of both files. Raises DataError."""
        gold, predicted = (_links(path) for path in (labels, predictions))
        rows: list[Row] = [
            {"id": name, "side": "text", "text": "", "links": list(gold.get(name, {}))}
            for name in {**gold, **predicted}
        ]
        return Pair(task, rows if gold else [], [predicted.get(row["id"], {}) for row in rows])


def _links(path: Path) -> dict[str, dict[str, float]]:
    """id -> ids that it is paired with. A pair that occurs twice counts once, as in the official scorer."""
    links: dict[str, dict[str, float]] = {}
    for number, line in enumerate(file_lines(path), start=1):
        foreign, tab, pivot = line.partition("\t")
        if not tab or "\t" in pivot:
            raise DataError(f"{path}:{number}", repr(line[:60]), "two ids with a tab between them are expected")
        links.setdefault(foreign, {})[pivot] = 1.0
    return links


def _distinct(rows: Sequence[Row], side: str) -> RowIds:
    """Rows [M] of a side without duplicates, in the order of first occurrence; the last occurrence is kept."""
    last = {row["text"]: number for number, row in enumerate(rows) if row["side"] == side}
    return np.array(list(last.values()), dtype=np.int64)


def _once(rows: Sequence[Row], side: str) -> set[str]:
    """Texts that occur once on a side, white space around them aside."""
    counts = Counter(row["text"].strip() for row in rows if row["side"] == side)
    return {text for text, count in counts.items() if count == 1}


def _candidates(forward: Neighbours, backward: Neighbours) -> Iterator[tuple[int, int, float]]:
    """(foreign, pivot, score) of the pairs that are taken, by descending score: each sentence once, scores above 0."""
    near, far = (neighbours.cosine.mean(axis=1, dtype=np.float64) for neighbours in (forward, backward))
    forward_best, forward_scores = _best(forward, near, far)
    backward_best, backward_scores = _best(backward, far, near)
    foreign = np.concatenate([np.arange(len(forward_best)), backward_best])
    pivot = np.concatenate([forward_best, np.arange(len(backward_best))])
    scores = np.concatenate([forward_scores, backward_scores])
    taken_foreign, taken_pivot = bytearray(len(forward_best)), bytearray(len(backward_best))
    order = np.argsort(-scores, kind="stable")
    for left, right, score in zip(foreign[order].tolist(), pivot[order].tolist(), scores[order].tolist(), strict=True):
        if score <= 0:
            return
        if not taken_foreign[left] and not taken_pivot[right]:
            taken_foreign[left] = taken_pivot[right] = 1
            yield left, right, score


def _best(
    neighbours: Neighbours, means: NDArray[np.float64], means_of_keys: NDArray[np.float64]
) -> tuple[RowIds, NDArray[np.float64]]:
    """Neighbour of greatest margin for each sentence [N], and that margin [N]."""
    between = (means[:, None] + means_of_keys[neighbours.keys]) / 2
    margins = np.divide(neighbours.cosine, between, out=np.zeros_like(between), where=between != 0)
    best = margins.argmax(axis=1)
    rows = np.arange(len(best))
    return neighbours.keys[rows, best], margins[rows, best]


MINING = MiningFamily()
