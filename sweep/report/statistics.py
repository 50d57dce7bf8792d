"""Intervals for a few seeds and many test examples: a model with two crossed random factors. Numbers in, numbers out.

**The model.** The score of arm a with seed s is m_a + b_s + e_as + (what the test examples add). b_s is what a seed
does to all arms (it cancels between arms of one seed), e_as what it does to one, with variance v_a; test examples are
drawn too, and all runs see the same ones. Two-way random effects, as in multi-reader multi-case studies (Obuchowski and
Rockette 1995; Hillis 2007), except that v_a may differ between arms.

**Examples.** A score is the family's value of a sum of statistics, so what it owes to one unit is known by leaving that
unit out (the jackknife; Efron and Stein 1981). A unit is what is drawn together: an example, or a passage with all its
questions, in all languages. Products of these influences [R, U] are the covariance of all runs that examples cause; for
an average c'y that part is |c' influence|^2. It holds what examples do to single runs, divided by the number of seeds.

**Seeds.** Therefore that must not be counted again with the spread between seeds. An arm's residuals in the additive
table of arms and seeds (least squares; cells may be missing) have the expected sum of squares
nu_a (k_a v_a + (1 - k_a) mean(v) + w_a): nu_a and k_a follow from the residual-making matrix M, w_a is what examples
add, the arm's part of tr(M C M) with C their covariance. With S seeds and A arms nu_a = (S - 1)(1 - 1/A) and
k_a = 1 - 1/A. A sum of squares is taken as its expectation times chi-square / nu_a.

**Pooling.** log v_a is normal around log m with standard deviation tau: arms inform each other, as in moderated
t-statistics (Smyth 2004), and neither w_a nor an estimate below zero does harm. m has the density 1 / m, of a variance
of which nothing is known, times (m / (m + w))^HIDDEN, between it and that of one which may hide below the noise of
examples (1 / (m + w); Tiao and Tan 1965); how far between was chosen by simulation. tau is half-normal and the same in
all tables of a study, whose evidence is multiplied. All three lie on grids: nothing is iterated, and nothing is random
but the fixed order of the draws.

**The interval.** Given the variances an average is normal, so its distribution is the mean of DRAWS normals, one per
draw of (all v_a, the variance of b_s, the examples' variance given its estimate: chi-square with units - 1). Interval
ends and two-sided p-values are those of this mixture: Student's t where one setting stands alone without noise of
examples. A level's interval is Wilson's, with the number of examples that would give the same width, as for clustered
surveys (Korn and Graubard 1998): it stays in the range of the metric and has a width where all answers are right. An
average over one seed has an interval over examples alone, and no p-value.

**Ranges.** A score lies in 0..1, a correlation in -1..1. No variance is larger than ((1 - lowest) / 2)^2, no gain than
1 - lowest.

docs/statistics.md says the same in plain words, and how often these intervals cover the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr, ndtri

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Run = tuple[Hashable, int]
"""(arm, seed)"""

LEVEL = 0.05  # of a claim
CONFIDENCE = 1 - LEVEL  # of an interval
HELPS, HURTS, UNDECIDED, ONE_SEED, MISSING = "helps", "hurts", "no difference shown", "one seed", "missing"

DRAWS = 512
TAUS = np.array([0.0, 0.5, 1.0, 1.6])  # of log v between arms; 1.0: half of them lie within half and twice the middle
TAU_SCALE = 1.0
HIDDEN = 0.25  # 0: with 3 seeds too narrow where both noises are equal; 0.5: with 2 too wide where examples dominate
GRID = np.exp(np.linspace(np.log(3e-3), np.log(2e3), 33))  # v and m, in units of what the residuals show
COMMON = np.exp(np.linspace(np.log(0.03), np.log(100), 24))  # sd of b_s in units of that of e_as, half-Cauchy
NEWTON_STEPS = 50


@dataclass(frozen=True)
class Scores:
    """Scores of the runs of one encoder, on one test set or on average over several, and what examples do to them."""

    runs: tuple[Run, ...]
    values: Floats  # [R] from `lowest` to 1
    influence: Floats  # [R, U]: the products of two rows sum to the covariance of their scores over test sets
    units: int  # that were drawn
    grain: float  # the variance that one example stands for: no test set says that there is less
    lowest: float = 0.0  # score that the metric can give; -1 of a correlation

    @property
    def width(self) -> float:
        """Width of the range in which scores lie; two of them differ by no more."""
        return 1 - self.lowest

    @property
    def largest_variance(self) -> float:
        """Largest variance of a score in its range: half the scores at each end (Popoviciu 1935)."""
        return (self.width / 2) ** 2

    def only(self, runs: Iterable[Run]) -> Scores:
        """Scores of some runs, in the order that they have here."""
        chosen = set(runs)
        return self.ordered([run for run in self.runs if run in chosen])

    def ordered(self, runs: Sequence[Run]) -> Scores:
        """Scores of these runs, in their order."""
        row_of = {run: row for row, run in enumerate(self.runs)}
        rows = [row_of[run] for run in runs]
        return replace(self, runs=tuple(runs), values=self.values[rows], influence=self.influence[rows])


def scores_of(
    runs: Sequence[Run],
    statistics: Sequence[Floats],
    value: Callable[[Floats], Floats],
    units: Sequence[Integers | None] = (),
    lowest: float = 0.0,
) -> Scores:
    """Scores and influences of runs on one test set in one language.

    `statistics` are [N, K] per run, `value` their metric: [..., K] sums to [...] scores from `lowest` to 1. `units` are
    [N] per run, the number of the unit that each example belongs to; None: each is one. Equal numbers are the same unit
    in every run, and in other languages.
    """
    alike: dict[tuple[int, bytes], list[int]] = {}  # rows whose examples belong to the same units
    for row, (table, unit) in enumerate(zip(statistics, units or [None] * len(statistics), strict=True)):
        alike.setdefault((len(table), b"" if unit is None else unit.tobytes()), []).append(row)
    parts = []
    for rows in alike.values():
        numbers = units[rows[0]] if units else None
        unit = np.arange(len(statistics[rows[0]])) if numbers is None else numbers
        parts.append((rows, np.unique(unit), *_jackknife(np.stack([statistics[row] for row in rows]), value, unit)))
    width = 1 + max((int(names[-1]) for _, names, *_ in parts), default=0)
    values, influence = np.zeros(len(runs)), np.zeros((len(runs), width))
    for rows, names, scores, own in parts:
        values[rows], influence[np.array(rows)[:, None], names] = scores, own
    drawn = min((len(names) for _, names, *_ in parts), default=1)
    examples = min((len(table) for table in statistics), default=1)
    if (values < 0).any():  # a user's own correlation, which need not say that it is one
        lowest = min(lowest, -1.0)
    return Scores(tuple(runs), values, influence, drawn, ((1 - lowest) / examples) ** 2, lowest)


def _jackknife(tables: Floats, value: Callable[[Floats], Floats], units: Integers) -> tuple[Floats, Floats]:
    """[R] scores of [R, N, K] statistics, and [R, U] what each unit, in the order of their numbers, adds to them."""
    order = np.argsort(units, kind="stable")
    _, starts = np.unique(units[order], return_index=True)
    sums, drawn = np.add.reduceat(tables[:, order], starts, axis=1), len(starts)
    total = sums.sum(axis=1)
    without = value(total[:, None] - sums)
    own: Floats = (without.mean(axis=1, keepdims=True) - without) * np.sqrt((drawn - 1) / drawn)
    return value(total), own


def average(parts: Sequence[Scores], *, same_units: bool) -> Scores:
    """Mean over languages, which have the `same_units`, or over targets, which have not, of the runs that all have."""
    runs = tuple(run for run in parts[0].runs if all(run in part.runs for part in parts))
    chosen, count = [part.ordered(runs) for part in parts], len(parts)
    values = np.mean([part.values for part in chosen], axis=0)
    if same_units:
        influence = np.zeros((len(runs), max(part.influence.shape[1] for part in chosen)))
        for part in chosen:
            influence[:, : part.influence.shape[1]] += part.influence / count
        units = max(part.units for part in chosen)
    else:
        influence = np.concatenate([part.influence / count for part in chosen], axis=1)
        units = sum(part.units for part in chosen)
    lowest = sum(part.lowest for part in parts) / count
    return Scores(runs, values, influence, units, sum(part.grain for part in parts) / count**2, lowest)


def ratio(part: Scores, whole: Scores) -> Scores:
    """Quotients of two scores on the same examples, of the runs that have both and a `whole` above zero."""
    positive = {run for run, value in zip(whole.runs, whole.values, strict=True) if value > 0}
    runs = tuple(run for run in part.runs if run in positive)
    above, below = part.ordered(runs), whole.ordered(runs)
    values = above.values / below.values
    influence = (above.influence - values[:, None] * below.influence) / below.values[:, None]
    return replace(above, values=values, influence=influence)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, by default of 95%, and the two-sided p-value of zero, NaN with one seed."""

    value: float
    low: float
    high: float
    p: float
    seeds: int


class Model:
    """Variances behind one table of scores: how likely they are, and what follows for averages over its runs.

    `inequality` are [TAUS] weights, as the function `inequality` has them from all tables of a study.
    """

    def __init__(self, scores: Scores, inequality: Floats | None = None) -> None:
        self.scores = scores
        self.inequality = inequality
        self._rows: dict[Hashable, dict[int, int]] = {}  # arm -> seed -> row
        for row, (arm, seed) in enumerate(scores.runs):
            self._rows.setdefault(arm, {})[seed] = row
        self.arms = tuple(self._rows)
        # Not by BLAS, whose threads wait for each other while a study runs on all cores: 125 ms instead of 2 were seen.
        self._covariance = np.einsum("iu,ju->ij", scores.influence, scores.influence)

    def level(self, arm: Hashable, confidence: float = CONFIDENCE, *, bounded: bool = True) -> Estimate | None:
        """Mean score of an arm; None without a run. The interval of a `bounded` one lies in the range of the scores."""
        mean = self.contrast({arm: 1.0}, confidence)
        if mean is None or not bounded:
            return mean
        low, high = _wilson(mean.value, mean.high - mean.value, self.scores)
        return replace(mean, low=low, high=high, p=np.nan)

    def gain(self, arm: Hashable, reference: Hashable, confidence: float = CONFIDENCE) -> Estimate | None:
        """Mean score of an arm minus that of another, over the seeds that both have; None without one."""
        gain, width = self.contrast({arm: 1.0, reference: -1.0}, confidence), self.scores.width
        return gain and replace(gain, low=max(gain.low, -width), high=min(gain.high, width))

    def contrast(self, weights: Mapping[Hashable, float], confidence: float = CONFIDENCE) -> Estimate | None:
        """Weighted sum of arms, each the mean over the seeds that all of them have; None without one."""
        seeds = set.intersection(*(set(self._rows.get(arm, ())) for arm in weights))
        if not seeds:
            return None
        c, value = np.zeros(len(self.scores.runs)), 0.0
        for arm, weight in weights.items():
            rows = [self._rows[arm][seed] for seed in seeds]
            c[rows] = weight / len(rows)
            value += weight * float(self.scores.values[rows].mean())
        deviations = np.sqrt(self._variances(c, several=len(seeds) > 1))
        half = _half_width(deviations, confidence)
        p = _p_value(value, deviations) if len(seeds) > 1 else np.nan
        return Estimate(value, value - half, value + half, p, len(seeds))

    def _variances(self, c: Floats, *, several: bool) -> Floats:
        """[DRAWS] of c'y: what examples add, and with several seeds what seeds do."""
        drawn = self._draws
        examples = max(float(c @ self._covariance @ c), self.scores.grain) * drawn.examples
        if not several:
            return examples
        own, common = (c * c) @ self._design.arms, float(((c @ self._design.seeds) ** 2).sum())
        variances: Floats = examples + drawn.own @ own + common * drawn.common
        return variances

    @cached_property
    def _design(self) -> _Design:
        runs = self.scores.runs
        return _design(_numbered([arm for arm, _ in runs]), _numbered([seed for _, seed in runs]))

    @cached_property
    def _residuals(self) -> _Residuals:
        return _residuals(self.scores, self._covariance, self._design)

    @cached_property
    def _draws(self) -> _Draws:
        return _draws(self._residuals, self._design, self.inequality, self.scores.units)

    @property
    def evidence(self) -> Floats:
        """[TAUS] log likelihood of how unequal the variances of the arms are."""
        logs: Floats = _logsum(self._residuals.evidence) if self.arms else np.zeros(len(TAUS))
        return logs


def _numbered(names: Sequence[Hashable]) -> tuple[int, ...]:
    """Number of each name among all, in the order of their first."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(numbers[name] for name in names)


def inequality(models: Iterable[Model]) -> Floats:
    """[TAUS] posterior weights of how unequal the seed variances of arms are, learned from all these tables."""
    logs = -((TAUS / TAU_SCALE) ** 2) / 2 + sum(model.evidence for model in models)
    weights = np.exp(logs - logs.max())
    shares: Floats = weights / weights.sum()
    return shares


def fitted(tables: Iterable[Scores]) -> list[Model]:
    """A model for each table of one study, the inequality of variances learned from all."""
    models = [Model(table) for table in tables]
    weights = inequality(models)
    for model in models:
        model.inequality = weights
    return models


def holm(p_values: Sequence[float]) -> Floats:
    """[N] p-values corrected for their number (Holm 1979), valid however they depend; NaN are no comparisons."""
    p = np.asarray(p_values, dtype=np.float64)
    compared = np.flatnonzero(~np.isnan(p))
    order = compared[np.argsort(p[compared], kind="stable")]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return corrected


# ---- the table of arms and seeds -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Design:
    arms: Floats  # [R, A] 1 where a run is of the arm
    seeds: Floats  # [R, S]
    residual: Floats  # [R, R] makes residuals of the additive table
    common: Floats  # [R, R] projects on what seeds do beyond arms; zero where that cannot be told
    freedom: Floats  # [A] of each arm's residuals
    share: Floats  # [A] of their variance that is the arm's own
    by_arm: Floats  # [A] of the projection
    common_freedom: float
    common_share: float  # how often b_s is in the projection's sum of squares, per degree of freedom


@lru_cache(maxsize=64)
def _design(arms: tuple[int, ...], seeds: tuple[int, ...]) -> _Design:
    of_arms, of_seeds = (np.eye(max(index) + 1)[list(index)] for index in (arms, seeds))
    of_one = of_arms @ np.linalg.pinv(of_arms)
    both = np.concatenate([of_arms, of_seeds], axis=1)
    residual, common = np.eye(len(arms)) - both @ np.linalg.pinv(both), both @ np.linalg.pinv(both) - of_one
    if np.trace(residual) < 0.5:  # one arm, or arms without a seed in common: a seed's effect is its arm's
        residual, common = np.eye(len(arms)) - of_one, np.zeros_like(common)
    freedom = of_arms.T @ np.diag(residual)
    own = np.diag(of_arms.T @ residual**2 @ of_arms)
    share = np.divide(own, freedom, out=np.zeros_like(own), where=freedom > 1e-9)
    trace = float(np.trace(common))
    times = float(np.trace(of_seeds.T @ common @ of_seeds)) / trace if trace > 0.5 else 0.0
    by_arm = of_arms.T @ np.diag(common)
    return _Design(of_arms, of_seeds, residual, common, np.maximum(freedom, 0.0), share, by_arm, trace, times)


@dataclass(frozen=True)
class _Residuals:
    grid: Floats  # [I] variances
    noise: float  # examples' part of one run's residual variance, on average
    likelihood: Floats  # [A, H, I] of an arm's variance at I, with its prior given (tau, m) at H = TAUS x I
    evidence: Floats  # [TAUS, I] log, over all arms
    squares: float  # of what seeds do to all arms
    examples: float  # what examples add to it
    largest: float  # variance that a score can have


def _residuals(scores: Scores, covariance: Floats, design: _Design) -> _Residuals:
    values, largest = scores.values, scores.largest_variance
    squares = design.arms.T @ (design.residual @ values) ** 2
    added = design.arms.T @ np.einsum("ij,jk,ik->i", design.residual, covariance, design.residual)
    noise = np.divide(added, design.freedom, out=np.zeros_like(added), where=design.freedom > 1e-9)
    freedom = max(float(design.freedom.sum()), 1e-9)
    shown, mean_noise = float(squares.sum()) / freedom, float(added.sum()) / freedom
    grid = GRID * max(shown, mean_noise, 1e-9)
    means = np.exp(TAUS[:, None] ** 2 / 2) * grid  # [TAUS, M] of v over arms
    own = design.share[:, None, None, None]
    variance = own * grid + (1 - own) * means[:, :, None] + noise[:, None, None, None]  # [A, TAUS, M, I]
    half = design.freedom[:, None, None, None] / 2
    logs = -half * np.log(variance) - squares[:, None, None, None] / 2 / variance
    possible = grid <= max(largest, grid[0])
    logs -= logs.max(axis=(1, 2, 3), keepdims=True)
    likelihood = np.exp(logs) * _priors() * possible
    prior = HIDDEN * np.log(grid / (grid + mean_noise)) + np.where(possible, 0.0, -np.inf)
    evidence = np.log(np.maximum(likelihood.sum(axis=3), 1e-300)).sum(axis=0) + prior
    arms = len(squares)
    return _Residuals(
        *(grid, mean_noise, likelihood.reshape(arms, -1, len(grid)), evidence),
        *(float(values @ design.common @ values), float(np.trace(design.common @ covariance)), largest),
    )


@cache
def _priors() -> Floats:
    """[TAUS, M, I] of log v at I, normal around log m at M."""
    log = np.log(GRID)
    densities = np.exp(-(((log - log[:, None]) / np.maximum(TAUS, 1e-3)[:, None, None]) ** 2) / 2)
    priors: Floats = densities / densities.sum(axis=2, keepdims=True)
    return priors


# ---- draws and quantiles ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Draws:
    own: Floats  # [DRAWS, A] variances v
    common: Floats  # [DRAWS] variance of b
    examples: Floats  # [DRAWS] how many times the estimated variance of examples is the true one


def _draws(known: _Residuals, design: _Design, inequality: Floats | None, units: int) -> _Draws:
    arms = len(design.freedom)
    even = _even(arms + 2)
    by_tau = np.exp(known.evidence - _logsum(known.evidence)[:, None])
    prior = np.exp(-((TAUS / TAU_SCALE) ** 2) / 2 + _logsum(known.evidence)) if inequality is None else inequality
    chosen = _inverse((by_tau * prior[:, None]).reshape(1, -1), (np.arange(DRAWS) + 0.5) / DRAWS)
    distinct, back = np.unique(chosen, return_inverse=True)
    of_arm = known.likelihood[:, distinct]  # [A, distinct, I]
    own = known.grid[_inverse(of_arm, even[:arms], back)].T
    free = units - 1
    examples = free / (2 * gammaincinv(free / 2, even[-1])) if free else np.full(DRAWS, np.inf)
    return _Draws(own, _common(known, design, own, even[-2]), examples)


def _common(known: _Residuals, design: _Design, own: Floats, even: Floats) -> Floats:
    """[DRAWS] variance of what seeds do to all arms, given the variances of what they do to one."""
    if not design.common_share:
        return np.zeros(DRAWS)
    unit = own.mean(axis=1) + known.noise
    grid = COMMON**2 * unit[:, None]  # [DRAWS, G]
    beyond = (own @ design.by_arm + known.examples) / design.common_freedom
    variance = design.common_share * grid + beyond[:, None]
    logs = -design.common_freedom / 2 * np.log(variance) - known.squares / 2 / variance
    logs = np.where(grid <= known.largest, logs, -np.inf)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True)) * COMMON / (1 + COMMON**2)
    variances: Floats = grid[np.arange(DRAWS), _inverse(weights, even)]
    return variances


def _inverse(weights: Floats, even: Floats, back: Integers | None = None) -> Integers:
    """[..., DRAWS] indices of quantiles of [..., DRAWS or 1, I] weights; `back` says which of them each draw takes."""
    sums = np.cumsum(weights, axis=-1)
    sums = sums if back is None else sums[:, back]
    indices: Integers = (sums < even[..., None] * sums[..., -1:]).sum(axis=-1)
    return indices


@cache
def _even(count: int) -> Floats:
    """[count, DRAWS] of a Latin square: each row has every quantile once, in an order of its own."""
    random = np.random.default_rng(0)
    return np.stack([(random.permutation(DRAWS) + 0.5) / DRAWS for _ in range(count)])


def _logsum(logs: Floats) -> Floats:
    """[...] log of the sum of exponentials over the last axis."""
    most = logs.max(axis=-1, keepdims=True)
    sums: Floats = (most + np.log(np.exp(logs - most).sum(axis=-1, keepdims=True)))[..., 0]
    return sums


def _half_width(deviations: Floats, confidence: float) -> float:
    """Half of the interval of a mixture of centred normals; infinite where one is."""
    if not np.isfinite(deviations).all():
        return np.inf
    quantile = (1 + confidence) / 2
    # Distribution functions of normals are concave above zero: the start lies below the root, and so does every step.
    precise = 1 / deviations
    half = float(ndtri(quantile)) / float(precise.mean())
    for _ in range(NEWTON_STEPS):
        scaled = half * precise
        density = float(np.exp(-(scaled**2) / 2) @ precise) / np.sqrt(2 * np.pi)
        step = (quantile * len(precise) - float(ndtr(scaled).sum())) / density
        half += step
        if abs(step) < 1e-6 * half:
            break
    return half


def _p_value(value: float, deviations: Floats) -> float:
    """Two-sided, of zero."""
    return 2 * float(ndtr(-abs(value) / deviations).mean())


def _wilson(value: float, half: float, scores: Scores) -> tuple[float, float]:
    """Wilson's interval (1927) of a score as a share of its range, with as many examples as give half the width."""
    if not np.isfinite(half):
        return scores.lowest, 1.0
    width = scores.width
    share, half = (value - scores.lowest) / width, half / width
    ratio = half**2 / max(share * (1 - share), np.sqrt(scores.grain) / width)
    centre, spread = share + ratio / 2, np.sqrt(ratio * share * (1 - share) + ratio**2 / 4)
    low, high = (centre - spread) / (1 + ratio), (centre + spread) / (1 + ratio)
    # The share itself lies inside, whatever is rounded.
    ends = float(np.clip(low, 0.0, share)), float(np.clip(high, share, 1.0))
    return scores.lowest + width * ends[0], scores.lowest + width * ends[1]
