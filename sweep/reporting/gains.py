"""What an intermediate phase gains over none, and over a phase that differs from it in one thing, with intervals.

How draws are made is in bootstrap. A run whose target phase collapsed is counted, marked and kept, and what is left
without such runs stands beside it; one that ended before its target phase has no scores, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sweep.planning.settings import Setting
from sweep.reporting.bootstrap import (
    DEFAULT,
    Bootstrap,
    Floats,
    interval_of,
    mean_over,
    metric_draws,
    named_gain,
    over_seeds,
)
from sweep.reporting.contrasts import references
from sweep.reporting.results import Ended, Result
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

Name = TypeVar("Name", bound=tuple[str, ...])
Row = dict[str, Any]
Arm = dict[int, dict[str, Floats]]
"""seed -> language -> [1 + draws] metric values; entry 0 is the whole test set, the others are draws."""
Groups = Mapping[str, Mapping[str, tuple[str, ...]]]
"""encoder -> name of a group -> its languages; a group such as `unseen` differs between encoders."""

ZERO_SHOT = "zero_shot"
VALUE = ("value", "value_low", "value_high")
ESTIMATE = ["gain", "low", "high", "verdict"]


@dataclass(frozen=True)
class Asked:
    """What a study asks of its scores."""

    groups: Groups = field(default_factory=dict)
    overlaps: frozenset[tuple[str, str]] = frozenset()  # (intermediate task, target) that share a corpus
    overlapping: bool = False  # whether overlapping cells count in means
    text: frozenset[str] = frozenset()  # masked tasks, which are mixed into intermediate phases


NOTHING_MORE = Asked()


@dataclass(frozen=True)
class Estimates:
    """Tables of selected chains. Values, gains and interval ends are in 0..1.

    cells      per encoder, setting (intermediate, volume, source) and target: mean zero-shot `value` with interval,
               gain over none with interval and verdict, seeds, paired seeds, languages, whether it overlaps with its
               target, whether it is `counted` in means, runs that `collapsed` or were `lost` without scores, and
               `value_without`, `gain_without` (each with _low, _high): without runs that collapsed here or in the
               baseline, where there are such
    languages  the same per language, and the language's majority level and number of test examples
    groups     value and gain per cell and group of languages
    overall    gain per setting, averaged over the targets where it is counted
    contrasts  gain per cell over the same setting without what `differs`, called `against`
    arms       the same per setting, averaged over the targets where it is counted
    """

    cells: pd.DataFrame
    languages: pd.DataFrame
    groups: pd.DataFrame
    overall: pd.DataFrame
    contrasts: pd.DataFrame
    arms: pd.DataFrame
    bootstrap: Bootstrap


def estimate(
    found: Sequence[Result],
    store: Store,
    asked: Asked = NOTHING_MORE,
    bootstrap: Bootstrap = DEFAULT,
    over: Sequence[Ended] = (),
) -> Estimates:
    """All tables. `over` are chains that ended without scores. Raises StoreError."""
    import pandas as pd

    lost = Counter(run.chain.cell for run in over if run.chain.selected)
    selected = [result for result in found if result.chain.selected]
    rows: dict[str, list[Row]] = {name: [] for name in ("cells", "languages", "groups", "contrasts")}
    means: dict[str, list[tuple[Row, _Cell]]] = {"overall": [], "arms": []}
    for cell in _cells(selected, store, bootstrap):
        overlap = any((task, cell.target) in asked.overlaps for task in cell.setting.tasks)
        counts = asked.overlapping or not overlap
        name = {**cell.arm_name, "target": cell.target}
        beyond = {"overlap": overlap, "counted": counts and bool(cell.paired), "lost": lost[cell.members[0].chain.cell]}
        rows["cells"].append({**name, **cell.summary(), **beyond})
        rows["languages"].extend({**name, **row} for row in cell.languages())
        rows["groups"].extend({**name, **row} for row in cell.groups(asked.groups.get(cell.encoder, {})))
        if not cell.setting.baseline:
            means["overall"].append((cell.arm_name, cell.if_counted(counts)))
        for differs, other in references(cell.setting, cell.arms, asked.text):
            beside, what = replace(cell, reference=other), {"differs": differs, "against": other.name}
            rows["contrasts"].append({**name, **what, **beside.contrast(), "overlap": overlap})
            means["arms"].append(({**cell.arm_name, **what}, beside.if_counted(counts)))
    frames = {name: pd.DataFrame(table) for name, table in rows.items()}
    averaged = {name: pd.DataFrame(_averages(cells, bootstrap)) for name, cells in means.items()}
    return Estimates(**frames, **averaged, bootstrap=bootstrap)


def _cells(selected: Sequence[Result], store: Store, bootstrap: Bootstrap) -> Iterator[_Cell]:
    """Every cell beside the baseline of the same encoder, target and compute."""
    for _, members in grouped(selected, lambda r: (r.chain.encoder, r.chain.target)):
        arms = _arms(members, store, bootstrap)
        for setting, chosen in grouped(members, lambda r: r.setting):
            compared = (setting, setting.reference)
            unsound = frozenset(r.chain.seed for r in members if r.collapsed and r.setting in compared)
            yield _Cell(chosen, arms, None if setting.baseline else setting.reference, bootstrap, unsound)


@dataclass(frozen=True)
class _Cell:
    """The chosen results of one cell (one per seed) beside another setting of the same encoder and target."""

    members: Sequence[Result]
    arms: Mapping[Setting, Arm]
    reference: Setting | None
    bootstrap: Bootstrap
    unsound: frozenset[int] = frozenset()  # seeds whose run, or the baseline's, collapsed

    @property
    def setting(self) -> Setting:
        return self.members[0].setting

    @property
    def encoder(self) -> str:
        return self.members[0].chain.encoder

    @property
    def target(self) -> str:
        return self.members[0].chain.target

    @property
    def arm_name(self) -> Row:
        """The columns that name the cell, its target apart."""
        return {"encoder": self.encoder, **self.setting._asdict()}

    @property
    def arm(self) -> Arm:
        return self.arms[self.setting]

    @property
    def baseline(self) -> Arm:
        return self.arms.get(self.reference, {}) if self.reference else {}

    @property
    def zero_shot(self) -> tuple[str, ...]:
        return self.members[0].zero_shot

    @property
    def paired(self) -> list[int]:
        return sorted(set(self.arm) & set(self.baseline)) if self.zero_shot else []

    def if_counted(self, counts: bool) -> _Cell:
        """The cell itself, or without a reference where it is not to count."""
        return self if counts else replace(self, reference=None)

    def value(self, languages: Sequence[str]) -> Floats:
        """[1 + draws] mean over languages and seeds."""
        return over_seeds([mean_over(self.arm[seed], languages) for seed in sorted(self.arm)], self.bootstrap)

    def gain(self, languages: Sequence[str]) -> Floats:
        """[1 + draws] mean paired difference to the baseline."""
        pairs = [(self.arm[seed], self.baseline[seed]) for seed in self.paired]
        return over_seeds(
            [mean_over(arm, languages) - mean_over(base, languages) for arm, base in pairs], self.bootstrap
        )

    def summary(self) -> dict[str, object]:
        collapsed = sum(result.collapsed for result in self.members)
        counts = {"seeds": len(self.arm), "paired": len(self.paired), "languages": len(self.zero_shot)}
        value = interval_of(self.value(self.zero_shot), self.bootstrap) if self.zero_shot else (np.nan,) * 3
        cost = {name: float(np.mean([getattr(r, name) for r in self.members])) for name in ("flops", "device_seconds")}
        level = dict(zip(VALUE, value, strict=True))
        return {**level, **self._gain(self.zero_shot), **counts, "collapsed": collapsed, **cost, **self._without()}

    def _without(self) -> dict[str, float]:
        """Value and gain over the seeds that are sound; NaN where all are, or none is."""
        cell = replace(self, arms={name: _kept(arm, self.unsound) for name, arm in self.arms.items()})
        asked = bool(self.unsound) and bool(self.zero_shot)
        value = interval_of(cell.value(self.zero_shot), self.bootstrap) if asked and cell.arm else (np.nan,) * 3
        gain = interval_of(cell.gain(self.zero_shot), self.bootstrap) if asked and cell.paired else (np.nan,) * 3
        names = [f"{what}_without{end}" for what in ("value", "gain") for end in ("", "_low", "_high")]
        return dict(zip(names, (*value, *gain), strict=True))

    def contrast(self) -> dict[str, object]:
        return {**self._gain(self.zero_shot), "paired": len(self.paired), "languages": len(self.zero_shot)}

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
                value = dict(zip(VALUE, interval_of(self.value(languages), self.bootstrap), strict=True))
                yield {"group": name, "languages": len(languages), **value, **self._gain(languages)}

    def _gain(self, languages: Sequence[str]) -> dict[str, object]:
        return named_gain(self.gain(languages) if self.paired else None, self.bootstrap)


def _kept(arm: Arm, unsound: frozenset[int]) -> Arm:
    return {seed: values for seed, values in arm.items() if seed not in unsound}


def _averages(found: Iterable[tuple[Row, _Cell]], bootstrap: Bootstrap) -> Iterator[Row]:
    """One row per name, in the order of encoders and settings: the gain averaged over the targets that have one."""
    by_name: dict[tuple[tuple[str, Any], ...], list[_Cell]] = {}
    for name, cell in sorted(found, key=lambda one: (one[1].encoder, one[1].setting.order)):
        by_name.setdefault(tuple(name.items()), []).append(cell)
    for names, cells in by_name.items():
        paired = [cell for cell in cells if cell.paired]
        drawn = [cell.gain(cell.zero_shot) for cell in paired]
        averaged = named_gain(np.mean(drawn, axis=0) if drawn else None, bootstrap)
        seeds = min((len(cell.paired) for cell in paired), default=0)
        yield {**dict(names), **averaged, "targets": len(drawn), "paired": seeds}


def grouped(members: Iterable[Result], name: Callable[[Result], Name]) -> Iterator[tuple[Name, list[Result]]]:
    """Groups in the order of their first member."""
    found: dict[Name, list[Result]] = {}
    for member in members:
        found.setdefault(name(member), []).append(member)
    yield from found.items()


def _arms(members: Sequence[Result], store: Store, bootstrap: Bootstrap) -> dict[Setting, Arm]:
    """setting -> seed -> language -> [1 + draws], for the chains of one encoder and target."""
    arms: dict[Setting, Arm] = {}
    tables = {result.score.key: store.statistics(result.score.key) for result in members}
    for language in sorted({language for result in members for language in result.score.languages}):
        having = [
            (tables[result.score.key][language], result) for result in members if language in result.score.languages
        ]
        for size in sorted({len(table) for table, _ in having}):
            same = [(table, result) for table, result in having if len(table) == size]
            values = metric_draws(np.stack([table for table, _ in same]), same[0][1].score.family, bootstrap)
            for (_, result), drawn in zip(same, values, strict=True):
                arm = arms.setdefault(result.setting, {})
                arm.setdefault(result.chain.seed, {})[language] = drawn
    return arms
