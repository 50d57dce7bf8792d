"""Bootstrap draws of metrics: test examples and seeds with replacement, the same ones for everything that is compared.

Both arms of a comparison, all seeds, and all test sets of one size see the *same* examples, so a difference is paired
and translations of one test set stay together. A metric is the family's `value(sum of per-example statistics)`, hence
one matrix product per test set. The spread between seeds is widened by sqrt(S / (S - 1)), because S resampled seeds
vary by that factor less than S new ones (Hesterberg 2014, arXiv 1411.5279).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.tasks import FAMILIES

Floats = NDArray[np.float64]
HELPS, HURTS, UNDECIDED, MISSING = "helps", "hurts", "no difference shown", "missing"
_CHUNK = 2**22  # counts held at once: 32 MB


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    draws: int = 2000
    confidence: float = 0.95
    seed: int = 0


DEFAULT = Bootstrap()


def metric_draws(statistics: Floats, family: str, bootstrap: Bootstrap) -> Floats:
    """[R, 1 + draws] metric from [R, N, K] per-example statistics of R runs on the same N examples, drawn together."""
    runs, examples, width = statistics.shape
    flat = np.moveaxis(statistics, 0, 1).reshape(examples, runs * width)
    sums = [flat.sum(axis=0, keepdims=True)]
    sums.extend(counts @ flat for counts in _example_counts(examples, bootstrap))
    drawn: Floats = FAMILIES[family].value(np.concatenate(sums).reshape(-1, runs, width))
    return drawn.T


def _example_counts(examples: int, bootstrap: Bootstrap) -> Iterator[Floats]:
    """[b, N] how often each draw took each example; a pure function of the number of examples."""
    random = np.random.default_rng([bootstrap.seed, examples])
    size = max(1, min(bootstrap.draws, _CHUNK // max(examples, 1)))
    for start in range(0, bootstrap.draws, size):
        draws = min(size, bootstrap.draws - start)
        picked = random.integers(examples, size=(draws, examples)) + np.arange(draws)[:, None] * examples
        yield np.bincount(picked.ravel(), minlength=draws * examples).reshape(draws, examples).astype(np.float64)


def over_seeds(by_seed: Sequence[Floats], bootstrap: Bootstrap) -> Floats:
    """[1 + draws] weighted mean over seeds; entry 0 weighs them equally."""
    seeds = len(by_seed)
    weights = np.full((1 + bootstrap.draws, seeds), 1 / seeds)
    if seeds > 1:
        random = np.random.default_rng([bootstrap.seed, seeds, 1])
        taken = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=bootstrap.draws) / seeds
        weights[1:] += (taken - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
    mean: Floats = np.einsum("ds,sd->d", weights, np.stack(by_seed))
    return mean


def mean_over(arm: Mapping[str, Floats], languages: Sequence[str]) -> Floats:
    """[1 + draws] mean over languages."""
    mean: Floats = np.mean([arm[language] for language in languages], axis=0)
    return mean


def interval_of(values: Floats, bootstrap: Bootstrap) -> tuple[float, float, float]:
    """(estimate, low, high) from [1 + draws]."""
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(values[1:], (tail, 1 - tail))
    return float(values[0]), float(low), float(high)


def named_gain(values: Floats | None, bootstrap: Bootstrap) -> dict[str, object]:
    """Columns of a gain with [1 + draws] values, or of none."""
    if values is None:
        return {"gain": np.nan, "low": np.nan, "high": np.nan, "verdict": MISSING}
    gain, low, high = interval_of(values, bootstrap)
    return {"gain": gain, "low": low, "high": high, "verdict": verdict(low, high)}


def verdict(low: float, high: float) -> str:
    """What an interval says about a gain."""
    return HELPS if low > 0 else HURTS if high < 0 else UNDECIDED
