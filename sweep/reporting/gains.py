"""What an intermediate phase gains over none, with bootstrap intervals over seeds and test examples.

A draw takes seeds and test examples with replacement; both arms of a comparison, all seeds, and all test sets of one
size see the *same* examples, so a difference is paired and translations of one test set stay together. A metric is the
family's `value(sum of per-example statistics)`, hence one matrix product per test set. The spread between seeds is
widened by sqrt(S / (S - 1)), because S resampled seeds vary by that factor less than S new ones (Hesterberg 2014, arXiv
1411.5279). A run whose target phase collapsed is counted, marked and kept, and what is left without such runs stands
beside it; one that ended before its target phase has no scores, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from sweep.reporting.results import BASELINE, NO_VOLUME, Ended, Result, setting_order
from sweep.store import Store
from sweep.tasks import FAMILIES

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Name = TypeVar("Name", bound=tuple[str, ...])
Arm = dict[int, dict[str, Floats]]
"""seed -> language -> [1 + draws] metric values; entry 0 is the whole test set, the others are draws."""

HELPS, HURTS, UNDECIDED, MISSING = "helps", "hurts", "no difference shown", "missing"
ZERO_SHOT = "zero_shot"
SETTING = ["encoder", "intermediate", "volume"]
ESTIMATE = ["gain", "low", "high", "verdict"]
_CHUNK = 2**22  # counts held at once: 32 MB


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    draws: int = 2000
    confidence: float = 0.95
    seed: int = 0


DEFAULT = Bootstrap()


@dataclass(frozen=True)
class Estimates:
    """Tables of selected chains. Values, gains and interval ends are in 0..1.

    cells      per encoder, intermediate, volume, target: mean zero-shot `value` with interval, gain over none with
               interval and verdict, seeds, paired seeds, languages, whether it overlaps with its target, runs that
               `collapsed` or were `lost` without scores, and `value_without`, `gain_without` (each with _low, _high):
               without runs that collapsed here or in the baseline, where there are such
    languages  the same per language, and the language's majority level and number of test examples
    groups     gain per cell and group of languages
    overall    gain per setting, averaged over the targets it can be compared on; overlapping cells are left out
    """

    cells: pd.DataFrame
    languages: pd.DataFrame
    groups: pd.DataFrame
    overall: pd.DataFrame
    bootstrap: Bootstrap


def estimate(
    found: Sequence[Result],
    store: Store,
    groups: Mapping[str, tuple[str, ...]] | None = None,
    overlaps: frozenset[tuple[str, str]] = frozenset(),
    bootstrap: Bootstrap = DEFAULT,
    over: Sequence[Ended] = (),
) -> Estimates:
    """`overlaps` holds pairs (intermediate task, target) that share a corpus. Raises StoreError."""
    import pandas as pd

    lost = Counter(run.chain.cell for run in over if run.chain.selected)
    selected = [result for result in found if result.chain.selected]
    tables: dict[str, list[dict[str, object]]] = {"cells": [], "languages": [], "groups": []}
    draws: dict[tuple[str, str, str, str], Floats] = {}
    for (encoder, target), members in grouped(selected, lambda r: (r.chain.encoder, r.chain.target)):
        settings = list(grouped(members, lambda r: (r.chain.intermediate, r.chain.volume)))
        arms = _arms(members, store, bootstrap)
        baseline = next((name for name, _ in settings if name[0] == BASELINE), None)
        for (intermediate, volume), chosen in settings:
            beside = arms[baseline] if baseline and intermediate != BASELINE else {}
            unsound = frozenset(
                result.chain.seed
                for result in members
                if result.collapsed and result.chain.intermediate in (BASELINE, intermediate)
                if result.chain.volume in (NO_VOLUME, volume)
            )
            cell = _Cell(chosen, arms[intermediate, volume], beside, bootstrap, unsound)
            name = {"encoder": encoder, "intermediate": intermediate, "volume": volume, "target": target}
            overlap = any((task, target) in overlaps for task in intermediate.split("+"))
            beyond = {"overlap": overlap, "lost": lost[chosen[0].chain.cell]}
            tables["cells"].append({**name, **cell.summary(), **beyond})
            tables["languages"].extend({**name, **row} for row in cell.languages())
            tables["groups"].extend({**name, **row} for row in cell.groups(groups or {}))
            if cell.paired and not overlap:
                draws[(encoder, intermediate, volume, target)] = cell.gain(cell.zero_shot)
    overall = [_overall(name, chosen, draws, bootstrap) for name, chosen in _settings(selected)]
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return Estimates(overall=pd.DataFrame(overall), bootstrap=bootstrap, **frames)


@dataclass(frozen=True)
class _Cell:
    """The chosen results of one cell (one per seed) beside the baseline of the same encoder and target."""

    members: Sequence[Result]
    arm: Arm
    baseline: Arm
    bootstrap: Bootstrap
    unsound: frozenset[int] = frozenset()  # seeds whose run, or the baseline's, collapsed

    @property
    def zero_shot(self) -> tuple[str, ...]:
        return self.members[0].zero_shot

    @property
    def paired(self) -> list[int]:
        return sorted(set(self.arm) & set(self.baseline)) if self.zero_shot else []

    def value(self, languages: Sequence[str]) -> Floats:
        """[1 + draws] mean over languages and seeds."""
        return over_seeds([_mean(self.arm[seed], languages) for seed in sorted(self.arm)], self.bootstrap)

    def gain(self, languages: Sequence[str]) -> Floats:
        """[1 + draws] mean paired difference to the baseline."""
        pairs = [(self.arm[seed], self.baseline[seed]) for seed in self.paired]
        return over_seeds([_mean(arm, languages) - _mean(base, languages) for arm, base in pairs], self.bootstrap)

    def summary(self) -> dict[str, object]:
        collapsed = sum(result.collapsed for result in self.members)
        counts = {"seeds": len(self.arm), "paired": len(self.paired), "languages": len(self.zero_shot)}
        value = interval_of(self.value(self.zero_shot), self.bootstrap) if self.zero_shot else (np.nan,) * 3
        cost = {name: float(np.mean([getattr(r, name) for r in self.members])) for name in ("flops", "device_seconds")}
        level = dict(zip(("value", "value_low", "value_high"), value, strict=True))
        return {**level, **self._gain(self.zero_shot), **counts, "collapsed": collapsed, **cost, **self._without()}

    def _without(self) -> dict[str, float]:
        """Value and gain over the seeds that are sound; NaN where all are, or none is."""
        arm, baseline = (_kept(one, self.unsound) for one in (self.arm, self.baseline))
        cell = _Cell(self.members, arm, baseline, self.bootstrap)
        asked = bool(self.unsound) and bool(self.zero_shot)
        value = interval_of(cell.value(self.zero_shot), self.bootstrap) if asked and arm else (np.nan,) * 3
        gain = interval_of(cell.gain(self.zero_shot), self.bootstrap) if asked and cell.paired else (np.nan,) * 3
        names = [f"{what}_without{end}" for what in ("value", "gain") for end in ("", "_low", "_high")]
        return dict(zip(names, (*value, *gain), strict=True))

    def languages(self) -> Iterator[dict[str, object]]:
        score = self.members[0].score
        for language, entry in sorted(score.languages.items()):
            value, low, high = interval_of(self.value((language,)), self.bootstrap)
            yield {
                "language": language,
                "is_source": language == score.train_language,
                "value": value,
                "value_low": low,
                "value_high": high,
                **self._gain((language,)),
                "majority": float(entry["majority"]),
                "examples": int(entry["examples"]),
            }

    def groups(self, groups: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, object]]:
        for name, wanted in {ZERO_SHOT: self.zero_shot, **groups}.items():
            languages = tuple(language for language in wanted if language in self.zero_shot)
            if languages:
                yield {"group": name, "languages": len(languages), **self._gain(languages)}

    def _gain(self, languages: Sequence[str]) -> dict[str, object]:
        return _named(self.gain(languages) if self.paired else None, self.bootstrap)


def _kept(arm: Arm, unsound: frozenset[int]) -> Arm:
    return {seed: values for seed, values in arm.items() if seed not in unsound}


def _overall(
    name: tuple[str, str, str],
    members: Sequence[Result],
    draws: Mapping[tuple[str, str, str, str], Floats],
    bootstrap: Bootstrap,
) -> dict[str, object]:
    targets = sorted({result.chain.target for result in members})
    found = [draws[(*name, target)] for target in targets if (*name, target) in draws]
    averaged = _named(np.mean(found, axis=0) if found else None, bootstrap)
    return {**dict(zip(SETTING, name, strict=True)), **averaged, "targets": len(found)}


def _settings(members: Iterable[Result]) -> Iterator[tuple[tuple[str, str, str], list[Result]]]:
    ordered = sorted(members, key=lambda r: (r.chain.encoder, setting_order(r.chain.intermediate, r.chain.volume)))
    compared = (result for result in ordered if result.chain.intermediate != BASELINE)
    for name, chosen in groupby(compared, lambda r: (r.chain.encoder, r.chain.intermediate, r.chain.volume)):
        yield name, list(chosen)


def grouped(members: Iterable[Result], name: Callable[[Result], Name]) -> Iterator[tuple[Name, list[Result]]]:
    """Groups in the order of their first member."""
    found: dict[Name, list[Result]] = {}
    for member in members:
        found.setdefault(name(member), []).append(member)
    yield from found.items()


def _arms(members: Sequence[Result], store: Store, bootstrap: Bootstrap) -> dict[tuple[str, str], Arm]:
    """(intermediate, volume) -> seed -> language -> [1 + draws], for the chains of one encoder and target."""
    arms: dict[tuple[str, str], Arm] = {}
    tables = {result.score.key: store.statistics(result.score.key) for result in members}
    for language in sorted({language for result in members for language in result.score.languages}):
        having = [
            (tables[result.score.key][language], result) for result in members if language in result.score.languages
        ]
        for size in sorted({len(table) for table, _ in having}):
            same = [(table, result) for table, result in having if len(table) == size]
            values = metric_draws(np.stack([table for table, _ in same]), same[0][1].score.family, bootstrap)
            for (_, result), drawn in zip(same, values, strict=True):
                arm = arms.setdefault((result.chain.intermediate, result.chain.volume), {})
                arm.setdefault(result.chain.seed, {})[language] = drawn
    return arms


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


def _mean(arm: Mapping[str, Floats], languages: Sequence[str]) -> Floats:
    mean: Floats = np.mean([arm[language] for language in languages], axis=0)
    return mean


def interval_of(values: Floats, bootstrap: Bootstrap) -> tuple[float, float, float]:
    """(estimate, low, high) from [1 + draws]."""
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(values[1:], (tail, 1 - tail))
    return float(values[0]), float(low), float(high)


def _named(values: Floats | None, bootstrap: Bootstrap) -> dict[str, object]:
    if values is None:
        return {"gain": np.nan, "low": np.nan, "high": np.nan, "verdict": MISSING}
    gain, low, high = interval_of(values, bootstrap)
    return {"gain": gain, "low": low, "high": high, "verdict": verdict(low, high)}


def verdict(low: float, high: float) -> str:
    """What an interval says about a gain."""
    return HELPS if low > 0 else HURTS if high < 0 else UNDECIDED
