"""Metrics of classes: accuracy, F1 variants and Matthews correlation as values of sums of per-example counts.

An example counts, per class, what of it is right, predicted and gold. Where an example has one class these counts are
all that the metrics need of the confusion matrix: its diagonal and its margins.

    accuracy      right over gold; equal to micro_f1 where every example has one class and gets one
    micro_f1      F1 of all classes together
    macro_f1      mean F1 of the classes that are predicted or gold
    weighted_f1   mean F1 of the classes, weighted by their gold examples
    binary_f1     F1 of the second of two labels, as GLUE's scorer has it for MRPC and QQP
    matthews      correlation of predicted and gold classes, -1..1 (Gorodkin 2004, the statistic R_K; with two classes
                  the phi coefficient of Matthews 1975)

Means and conventions are scikit-learn's: F1 of a class that is neither predicted nor gold is left out of macro_f1, and
a correlation without variance is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.tasks.task import Family, Prediction, Task

Sums = NDArray[np.float64]


def class_counts(predicted: Sequence[Any], gold: Sequence[Sequence[int]], classes: int) -> Sums:
    """[N, 3 C] counts per example: of each class what is right, predicted and gold, from a class or classes each."""
    lengths = [len(one) for one in gold]
    owner = np.repeat(np.arange(len(gold)), lengths)
    flat_gold = np.concatenate([np.zeros(0, np.int64), *map(np.atleast_1d, gold)]).astype(np.int64)
    flat = np.concatenate([np.zeros(0, np.int64), *map(np.atleast_1d, predicted)]).astype(np.int64)
    right = flat == flat_gold
    counted = ((owner[right], flat[right]), (owner, flat), (owner, flat_gold))
    places = np.concatenate([(who * classes + which) * 3 + kind for kind, (who, which) in enumerate(counted)])
    return np.bincount(places, minlength=len(gold) * classes * 3).reshape(len(gold), -1).astype(np.float64)


def _parts(sums: Sums) -> tuple[Sums, Sums, Sums]:
    """[..., C] right, predicted, gold from [..., 3 C]."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    return counts[..., 0], counts[..., 1], counts[..., 2]


def _over(share: Sums, of: Sums) -> Sums:
    """0 where there is nothing to divide by."""
    return np.divide(share, of, out=np.zeros_like(of), where=of > 0)


def _accuracy(sums: Sums) -> Sums:
    right, _, gold = _parts(sums)
    return _over(right.sum(axis=-1), gold.sum(axis=-1))


def _micro_f1(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    return _over(2 * right.sum(axis=-1), (predicted + gold).sum(axis=-1))


def _f1(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    return _over(2 * right, predicted + gold)


def _macro_f1(sums: Sums) -> Sums:
    _, predicted, gold = _parts(sums)
    return _over(_f1(sums).sum(axis=-1), ((predicted + gold) > 0).sum(axis=-1).astype(np.float64))


def _weighted_f1(sums: Sums) -> Sums:
    gold = _parts(sums)[2]
    return _over((_f1(sums) * gold).sum(axis=-1), gold.sum(axis=-1))


def _binary_f1(sums: Sums) -> Sums:
    return _f1(sums)[..., 1]


def _matthews(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    total, hits = gold.sum(axis=-1), right.sum(axis=-1)
    covariance = hits * total - (predicted * gold).sum(axis=-1)
    variances = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (gold**2).sum(axis=-1))
    return _over(covariance, np.sqrt(np.maximum(variances, 0)))


VALUES: dict[str, Callable[[Sums], Sums]] = {
    "accuracy": _accuracy, "micro_f1": _micro_f1, "macro_f1": _macro_f1, "weighted_f1": _weighted_f1,
    "binary_f1": _binary_f1, "matthews": _matthews,
}  # fmt: skip


@dataclass(frozen=True)
class ClassMetric:
    """A metric of VALUES for a family whose rows, or their words, are of `classes`."""

    family: Family
    name: str = "accuracy"

    @property
    def identity(self) -> object:
        """Its name."""
        return self.name

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 3 C] counts of classes."""
        return class_counts(predictions, [self.family.classes(row) for row in rows], len(task.labels))

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric of this name."""
        return VALUES[self.name](sums)

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The metric of this name."""
        return {self.name: self.value(sums)}


def class_metrics(family: Family, labels: Sequence[str] | None) -> list[ClassMetric]:
    """The metrics of classes that there are for these labels (None: for any), the family's own left out."""
    two = labels is None or len(labels) == 2
    return [ClassMetric(family, name) for name in VALUES if name != family.metric and (two or name != "binary_f1")]
