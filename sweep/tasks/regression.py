"""Family of regression (`regression`): similarity of two sentences (STS-B), judged by Spearman's rank correlation.

A correlation is no sum over examples. What is summed is its linearisation (infinitesimal jackknife): the statistics of
an example are (rho + its influence on rho, r + its influence on r, 1), and their means over a whole test set are rho
and Pearson's r exactly, as influences sum to zero. Leaving an example out of the sums changes the mean by its influence
/ (n - 1), that on the ranks of all others included, so intervals and paired comparisons hold to first order. The mean
of a part of a test set is no correlation within that part. Chance level: 0, that of a constant answer.

Influences are those of Croux and Dehon 2010 (Statistical Methods and Applications 19:497-515), for ranks that ties
share (mid-distribution function), which is Pearson's r of average ranks, as scipy.stats.spearmanr has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence
from sweep.data.sample import Sample
from sweep.errors import DataError
from sweep.tasks.classification import one_sequence_each
from sweep.tasks.task import NAMES, SHAPE, Family, Guess, HeadSpec, Prediction, Task

Values = NDArray[np.float64]
SCORE_NAMES = ("score", "similarity", "relatedness_score", "relatedness", "gold_score", "rating", "value", "label")


def correlation(x: Values, y: Values) -> tuple[float, Values]:
    """Pearson's r of [N] and [N], and the influence [N] of each example on it; 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    x_variance, y_variance = (x * x).mean(), (y * y).mean()
    if x_variance <= 0 or y_variance <= 0:
        return 0.0, np.zeros_like(x)
    x, y = x / math.sqrt(x_variance), y / math.sqrt(y_variance)
    r = float((x * y).mean())
    return r, x * y - r * (x * x + y * y) / 2


def rank_correlation(x: Values, y: Values) -> tuple[float, Values]:
    """Spearman's rho of [N] and [N], and the influence [N] of each example; 0 where one of them does not vary."""
    ranks = _mid_ranks(x) - 0.5, _mid_ranks(y) - 0.5
    a, b = ranks
    x_variance, y_variance = (a * a).mean(), (b * b).mean()
    if x_variance <= 0 or y_variance <= 0:
        return 0.0, np.zeros_like(a)
    scale = math.sqrt(x_variance * y_variance)
    rho = float((a * b).mean()) / scale
    # Of mean(a b), of mean(a a) and of mean(b b): an example counts in them itself, and moves the ranks of the others.
    both = a * b + _above(x, b) + _above(y, a) - 3 * rho * scale
    of_x = a * a + 2 * _above(x, a) - 3 * x_variance
    of_y = b * b + 2 * _above(y, b) - 3 * y_variance
    return rho, both / scale - rho / 2 * (of_x / x_variance + of_y / y_variance)


def _mid_ranks(values: Values) -> Values:
    """Share of examples below each one [N], with half of those that are equal to it, itself included."""
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + upto) / (2 * len(values))


def _above(values: Values, weights: Values) -> Values:
    """Mean over all examples of the weights of those above each one [N], with half of those that are equal to it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    summed = np.concatenate([[0.0], np.cumsum(weights[order])])
    below, upto = (summed[np.searchsorted(ordered, values, side)] for side in ("left", "right"))
    above: Values = (summed[-1] - (below + upto) / 2) / len(values)
    return above


def squared_error(outputs: Any, targets: Any) -> Any:
    """Summed squared differences of outputs [E, 1] and the float32 scores in the bits of integer targets [E]."""
    return (outputs[:, 0] - targets.int().view(outputs.dtype)).square().sum()


def _as_target(score: float) -> int:
    """Integer with the bits of a score's float32."""
    return int(np.float32(score).view(np.int32))


class RegressionFamily(Family):
    """Number of a pair: [CLS] text [SEP] pair [SEP]; the mean vector becomes a number, trained by squared error.

    Row: text: str, pair: str, score: float. Target: [bits of the score's float32]. Output: [1]. Prediction: float.
    """

    name = "regression"
    also_called = ("sts", "similarity")
    metric = "spearman"
    lowest = -1.0
    further_metrics = ("pearson",)
    columns = ("text", "pair", "score")

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Two texts and a column of numbers: fractions, or a scale."""
        texts, named = sample.text_or_pair(), sample.named(*SCORE_NAMES)
        numeric = [name for name, column in sample.columns.items() if column.numeric]
        fractions = [name for name in numeric if sample.columns[name].fractions]
        score = named if named in numeric else next(iter(fractions), None)
        if score is None or len(texts) < 2:
            return None
        sure = NAMES if score in fractions else SHAPE
        return Guess({**dict(zip(self.columns, texts, strict=False)), "score": score}, sure, "two texts and a number")

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of both texts and the score. Raises DataError."""
        value = columns.value(raw, "score", where)
        try:
            score = float(value)
        except (TypeError, ValueError):
            raise DataError(where, f"{value!r} as score", "a number is expected") from None
        return {**{name: columns.text(raw, name, where) for name in ("text", "pair")}, "score": score}

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        for column in ("text", "pair"):
            if not isinstance(row[column], str) or not row[column].strip():
                return f"empty {column}"
        return None if math.isfinite(row["score"]) else f"score {row['score']} is not a finite number"

    def answer(self, row: Row) -> str | None:
        """Its score."""
        return f"score {row['score']}"

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per row."""
        return one_sequence_each(rows, [_as_target(row["score"]) for row in rows], tokenizer, max_length)

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """One number per text."""
        return HeadSpec("text", 1, squared_error)

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Number [1] of each row; 0 where it is not finite."""
        return [float(output[0]) if math.isfinite(output[0]) else 0.0 for output in outputs]

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 3]: (rho + influence, r + influence, 1) of a whole test set."""
        if not rows:
            return np.zeros((0, 3))
        x, y = np.array(predictions, dtype=np.float64), np.array([row["score"] for row in rows], dtype=np.float64)
        parts = [value + influence for value, influence in (rank_correlation(x, y), correlation(x, y))]
        return np.stack([*parts, np.ones_like(x)], axis=1)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spearman's rho [...], -1..1."""
        return self.details(sums)["spearman"]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Spearman's rho and Pearson's r, each [...]."""
        count = sums[..., 2]
        return {
            name: np.divide(sums[..., column], count, out=np.zeros_like(count), where=count > 0)
            for column, name in enumerate(("spearman", "pearson"))
        }

    def constants(self, rows: Sequence[Row], labels: Sequence[str]) -> Iterator[list[Prediction]]:
        """A constant: any has no correlation."""
        yield [0.0] * len(rows)

    def gold(self, row: Row, number: int) -> Prediction:
        """Its score."""
        return row["score"]

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """Numbers of the lines. Raises DataError with file:line."""
        return [_number(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]

    def from_gold(self, gold: Prediction) -> Row:
        """Its score."""
        return {"score": gold}


def _number(line: str, where: str) -> float:
    try:
        number = float(line)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(where, repr(line[:60]), "a number is expected")
    return number


REGRESSION = RegressionFamily()
