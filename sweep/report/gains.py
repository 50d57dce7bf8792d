"""Gains of an intermediate phase with intervals; retention of its tasks; regret of a preview that chose it.

**Gains** are over no intermediate phase, and over an arm that differs in one thing. A translated or multilingual
intermediate phase is measured against the same tasks in their own language, a phase with raw text mixed in against the
same labelled tasks alone, any phase under a further value of a settings axis against the same under the first. Both
sides have the same volume, and the means are over the same languages, those that the target phase has not seen; that
some of them were seen in the intermediate phase is what is compared. A run whose target phase collapsed is counted,
marked and kept, and the means without such runs stand beside it; one that ended before its target phase has no scores,
and is counted.

**Retention** of an intermediate task is its score after the target phase, and the ratio to that before. All scores of a
task are on the same examples, so the ratio is paired; how much a seed changes a score is learned from all cells of an
encoder.

**Regret** is the best gain among all settings minus the best gain among those that a preview ranks highest: the loss of
running these alone. Of a setting with several volumes or budgets the best one counts. Which one is the best is not
known either, so the regret's interval comes from all differences between a setting that was kept and one that was not,
at once (Bonferroni), as in comparisons with the best (Hsu 1984).

The model behind all intervals is in statistics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sweep.config.axes import AMOUNTS, NONE, Arm, Cell, phase_of
from sweep.plan.recipe import TARGET
from sweep.report.results import BEFORE_TARGET, RANKED_FOR, RETENTION_SCORES, Result, Unscored
from sweep.report.statistics import (
    HELPS,
    HURTS,
    LEVEL,
    MISSING,
    ONE_SEED,
    UNDECIDED,
    Estimate,
    Floats,
    Integers,
    Model,
    Scores,
    average,
    fitted,
    holm,
    inequality,
    ratio,
    scores_of,
)
from sweep.store.artifacts import Store
from sweep.tasks import measure_of

if TYPE_CHECKING:
    import pandas as pd

Name = TypeVar("Name", bound=Hashable)
Row = dict[str, Any]
Groups = Mapping[str, Mapping[str, tuple[str, ...]]]
"""encoder -> name of a group -> its languages; a group such as `unseen` differs between encoders."""
ZERO_SHOT = "zero_shot"
ENDS = ("", "_low", "_high")
SOURCE, TEXT = "source language", "raw text"


@dataclass(frozen=True)
class Asked:
    """Settings of estimates: groups of languages, and what counts in means."""

    groups: Groups = field(default_factory=dict)
    overlaps: frozenset[tuple[str, str]] = frozenset()  # (intermediate task, target) that share a corpus
    overlapping: bool = False  # whether overlapping cells count in means
    text: frozenset[str] = frozenset()  # masked tasks, which are mixed into intermediate phases


NOTHING_MORE = Asked()


@dataclass(frozen=True)
class Estimates:
    """Tables of selected chains. Values, gains and interval ends are in the unit of the metric, of which 1 is the best.

    Every gain has the ends of its 95% interval, `p` (of no gain; NaN with one seed), `p_corrected` for the number of
    rows of its table (Holm), and a `verdict` that rests on the latter: what an interval excludes by itself is no claim.

    cells      per arm and target: mean zero-shot `value` with interval,
               gain over none, seeds, paired seeds, languages, whether it overlaps with its
               target, whether it is `counted` in means, runs that `collapsed` or were `lost` without scores, and
               `value_without`, `gain_without` (each with _low, _high): without runs that collapsed here or in the
               baseline, where there are such
    languages  the same per language, and the language's majority level and number of test examples
    groups     value and gain per cell and group of languages
    overall    gain per arm, averaged over the targets where it is counted, over the seeds that all of these have
    contrasts  gain per cell over the same arm without what `differs`, called `against`
    arms       the same per setting, averaged over the targets where it is counted

    `models` are those behind `cells`, by encoder and target; their arms are `Arm`.
    """

    cells: pd.DataFrame
    languages: pd.DataFrame
    groups: pd.DataFrame
    overall: pd.DataFrame
    contrasts: pd.DataFrame
    arms: pd.DataFrame
    models: Mapping[tuple[str, str], Model]


def estimate(
    results: Sequence[Result], store: Store, asked: Asked = NOTHING_MORE, collapsed: Sequence[Unscored] = ()
) -> Estimates:
    """Estimates of gains of selected chains. `collapsed` are those without scores, to be counted. Raises StoreError."""
    import pandas as pd

    lost = Counter(run.chain.cell for run in collapsed if run.chain.selected)
    selected = [result for result in results if result.chain.selected]
    rows: dict[str, list[Row]] = {name: [] for name in ("cells", "languages", "groups", "contrasts")}
    means: dict[str, list[tuple[Row, _Cell]]] = {"overall": [], "arms": []}
    targets = _targets(selected, store)
    for cell in _cells(targets):
        overlap = any((task, cell.target) in asked.overlaps for task in cell.arm.intermediate)
        counts = asked.overlapping or not overlap
        name = cell.members[0].chain.cell.columns()
        beyond = {"overlap": overlap, "counted": counts and bool(cell.paired), "lost": lost[cell.members[0].chain.cell]}
        rows["cells"].append({**name, **cell.summary(), **beyond})
        rows["languages"].extend({**name, **row} for row in cell.languages())
        rows["groups"].extend({**name, **row} for row in cell.groups(asked.groups.get(cell.encoder, {})))
        if not cell.arm.baseline:
            means["overall"].append((cell.arm.columns(), cell.if_counted(counts)))
        for differs, reference in references(cell.arm, cell.scored.arms, asked.text):
            if cell.scored.same(reference) == cell.scored.same(cell.arm):
                continue
            beside, what = replace(cell, reference=reference), {"differs": differs, "against": reference.label}
            rows["contrasts"].append({**name, **what, **beside.contrast(), "overlap": overlap})
            means["arms"].append(({**cell.arm.columns(), **what}, beside.if_counted(counts)))
    tables = rows | {name: list(_averages(cells)) for name, cells in means.items()}
    frames = {name: pd.DataFrame(_with_verdicts(table)) for name, table in tables.items()}
    return Estimates(**frames, models={name: scored.model() for name, scored in targets.items()})


class _Scored:
    """Scores of one encoder on one target, and a model for each choice of languages."""

    def __init__(self, members: Sequence[Result], store: Store) -> None:
        self.members = members
        self.zero_shot = members[0].zero_shot
        self.arms = tuple(dict.fromkeys(result.arm for result in members))
        self.inequality: Floats | None = None
        self._by_language = _by_language(members, store)
        self._sound = {_run(result) for result in members if not result.collapsed}
        self._same: dict[Arm, Arm] = {}
        first: dict[frozenset[tuple[int, str]], Arm] = {}
        for arm, own in grouped(members, lambda result: result.arm):
            scored = frozenset((result.chain.seed, result.score.key) for result in own)
            self._same[arm] = first.setdefault(scored, arm)
        self._once = {_run(result) for result in members if self._same[result.arm] == result.arm}
        self._models: dict[tuple[tuple[str, ...], bool], Model] = {}

    def same(self, arm: Arm) -> Arm:
        """First arm with the very runs of this one: without a target phase, its settings and budgets are no others."""
        return self._same.get(arm, arm)

    def scores(self, languages: Sequence[str]) -> Scores:
        """Scores averaged over languages."""
        return average([self._by_language[language] for language in languages], same_units=True)

    def model(self, languages: Sequence[str] | None = None, *, sound: bool = False) -> Model:
        """Model of all runs, or of those that are `sound`, each once, by default over the zero-shot languages."""
        chosen = self.zero_shot if languages is None else tuple(languages)
        name = chosen, sound
        if name not in self._models:
            scores = self.scores(chosen or tuple(self._by_language))
            self._models[name] = Model(scores.only(self._once & self._sound if sound else self._once), self.inequality)
        return self._models[name]


def _run(result: Result) -> tuple[Arm, int]:
    return result.arm, result.chain.seed


def _by_language(members: Sequence[Result], store: Store) -> dict[str, Scores]:
    """Scores per language, of the runs that have it."""
    tables = {result.score.key: store.statistics(result.score.key) for result in members}
    units = {key: store.units(key) for key in tables}
    scores = {}
    for language in sorted({language for result in members for language in result.score.languages}):
        having = [result for result in members if language in result.score.languages]
        measure = measure_of(having[0].score.family, having[0].score.metric)
        rows = [tables[result.score.key][language] for result in having]
        drawn = [units[result.score.key].get(language) for result in having]
        runs = [_run(result) for result in having]
        scores[language] = scores_of(runs, rows, measure.value, drawn, measure.lowest)
    return scores


def _targets(selected: Sequence[Result], store: Store) -> dict[tuple[str, str], _Scored]:
    """Scores per (encoder, target). How unequal seed variances are is learned from all targets of an encoder."""
    groups = grouped(selected, lambda r: (r.chain.cell.encoder, r.chain.cell.target))
    targets = {(name[0], name[1]): _Scored(members, store) for name, members in groups}
    for encoder in dict.fromkeys(name for name, _ in targets):
        mine = [scored for (name, _), scored in targets.items() if name == encoder]
        weights = inequality([scored.model() for scored in mine])
        for scored in mine:
            scored.inequality = weights
            scored.model().inequality = weights
    return targets


def _cells(targets: Mapping[tuple[str, str], _Scored]) -> Iterator[_Cell]:
    """Every cell, with the baseline of the same encoder, target and compute as its reference."""
    for scored in targets.values():
        for arm, chosen in grouped(scored.members, lambda r: r.arm):
            unsound = any(r.collapsed and r.arm in (arm, arm.reference) for r in scored.members)
            yield _Cell(chosen, scored, None if arm.baseline else arm.reference, unsound)


@dataclass(frozen=True)
class _Cell:
    """Selected results of one cell (one per seed), with another arm of the same encoder and target to compare with."""

    members: Sequence[Result]
    scored: _Scored
    reference: Arm | None
    unsound: bool = False  # whether a run of it or of the reference collapsed

    @property
    def arm(self) -> Arm:
        return self.members[0].arm

    @property
    def encoder(self) -> str:
        return self.members[0].chain.cell.encoder

    @property
    def target(self) -> str:
        return self.members[0].chain.cell.target

    @property
    def zero_shot(self) -> tuple[str, ...]:
        return self.members[0].zero_shot

    @property
    def paired(self) -> int:
        """Number of seeds that the reference has too."""
        gain = self.gain(self.zero_shot)
        return gain.seeds if gain else 0

    def if_counted(self, counts: bool) -> _Cell:
        """The cell itself, or without a reference where it is not to count."""
        return self if counts else replace(self, reference=None)

    def value(self, languages: Sequence[str], *, sound: bool = False) -> Estimate | None:
        """Mean score over languages and seeds."""
        return self.scored.model(languages, sound=sound).level(self.scored.same(self.arm)) if languages else None

    def gain(self, languages: Sequence[str], *, sound: bool = False) -> Estimate | None:
        """Mean difference to the reference, paired by seed."""
        if not languages or self.reference is None:
            return None
        arm, reference = map(self.scored.same, (self.arm, self.reference))
        return self.scored.model(languages, sound=sound).gain(arm, reference)

    def summary(self) -> Row:
        collapsed = sum(result.collapsed for result in self.members)
        seeds = len({result.chain.seed for result in self.members})
        counts = {"seeds": seeds, "paired": self.paired, "languages": len(self.zero_shot)}
        cost = {name: float(np.mean([getattr(r, name) for r in self.members])) for name in ("flops", "device_seconds")}
        level = _named("value", self.value(self.zero_shot))
        return {**level, **self._gain(self.zero_shot), **counts, "collapsed": collapsed, **cost, **self._without()}

    def _without(self) -> Row:
        """Columns of value and gain over the runs that are sound; NaN where all are, or none is."""
        languages = self.zero_shot if self.unsound else ()
        value, gain = self.value(languages, sound=True), self.gain(languages, sound=True)
        return {**_named("value_without", value), **_named("gain_without", gain)}

    def contrast(self) -> Row:
        return {**self._gain(self.zero_shot), "paired": self.paired, "languages": len(self.zero_shot)}

    def languages(self) -> Iterator[Row]:
        score = self.members[0].score
        for language, entry in sorted(score.languages.items()):
            yield {
                "language": language,
                "is_source": language == score.train_language,
                **_named("value", self.value((language,))),
                **self._gain((language,)),
                "majority": float(entry["majority"]),
                "examples": int(entry["examples"]),
            }

    def groups(self, groups: Mapping[str, tuple[str, ...]]) -> Iterator[Row]:
        for name, members in {ZERO_SHOT: self.zero_shot, **groups}.items():
            languages = tuple(language for language in members if language in self.zero_shot)
            if languages:
                value = _named("value", self.value(languages))
                yield {"group": name, "languages": len(languages), **value, **self._gain(languages)}

    def _gain(self, languages: Sequence[str]) -> Row:
        return _gained(self.gain(languages))


def _named(name: str, estimate: Estimate | None) -> Row:
    """Columns of an estimate with its interval."""
    numbers = (estimate.value, estimate.low, estimate.high) if estimate else (np.nan,) * 3
    return {f"{name}{end}": number for end, number in zip(ENDS, numbers, strict=True)}


def _gained(gain: Estimate | None) -> Row:
    """Columns of a gain; the verdict needs the other rows of its table."""
    numbers = (gain.value, gain.low, gain.high, gain.p) if gain else (np.nan,) * 4
    return {**dict(zip(("gain", "low", "high", "p"), numbers, strict=True)), "p_corrected": np.nan, "verdict": MISSING}


def _with_verdicts(rows: Sequence[Row]) -> list[Row]:
    """Rows of a table with p-values corrected for their number, and the verdicts that rest on these."""
    corrected = holm([row["p"] for row in rows])
    return [
        {**row, "p_corrected": p, "verdict": verdict(row["gain"], p)} for row, p in zip(rows, corrected, strict=True)
    ]


def verdict(gain: float, p_corrected: float) -> str:
    """Verdict on a gain: HELPS, HURTS, UNDECIDED, ONE_SEED or MISSING."""
    if np.isnan(gain):
        return MISSING
    if np.isnan(p_corrected):
        return ONE_SEED
    return UNDECIDED if p_corrected >= LEVEL else HELPS if gain > 0 else HURTS


def _averages(named: Iterable[tuple[Row, _Cell]]) -> Iterator[Row]:
    """Rows, one per name in the order of arms: the gain averaged over the targets that have one."""
    by_name: dict[tuple[tuple[str, Any], ...], list[_Cell]] = {}
    models: dict[tuple[_Scored, ...], Model] = {}
    for name, cell in sorted(named, key=lambda pair: pair[1].arm.order):
        by_name.setdefault(tuple(name.items()), []).append(cell)
    for names, cells in by_name.items():
        paired = [cell for cell in cells if cell.paired]
        averaged = _mean_gain(paired, models) if paired else None
        counts = {"targets": len(paired), "paired": averaged.seeds if averaged else 0}
        yield {**dict(names), **_gained(averaged), **counts}


def _mean_gain(cells: Sequence[_Cell], models: dict[tuple[_Scored, ...], Model]) -> Estimate | None:
    """Gain over the targets of these cells of one arm. A seed is one draw for all: targets are averaged first."""
    targets, first = tuple(cell.scored for cell in cells), cells[0]
    if targets not in models:
        parts = [scored.scores(scored.zero_shot) for scored in targets]
        models[targets] = Model(average(parts, same_units=False), first.scored.inequality)
    return None if first.reference is None else models[targets].gain(first.arm, first.reference)


def grouped(members: Iterable[Result], name: Callable[[Result], Name]) -> Iterator[tuple[Name, list[Result]]]:
    """Results by name, in the order of their first."""
    groups: dict[Name, list[Result]] = {}
    for member in members:
        groups.setdefault(name(member), []).append(member)
    yield from groups.items()


# ---- references beside no intermediate phase -------------------------------------------------------------------------


def references(arm: Arm, known: Collection[Arm], text: Set[str]) -> Iterator[tuple[str, Arm]]:
    """Pairs (what differs, the arm without it), of the arms in `known`. `text` holds the masked tasks.

    Of settings axes the other arm has the first of the values that are known beside the rest of the arm.
    """
    labelled = tuple(task for task in arm.intermediate if task not in text)
    without = []
    if arm.is_set("source"):
        without.append((SOURCE, arm.without("source")))
    if labelled and labelled != arm.intermediate:
        without.append((TEXT, replace(arm, intermediate=labelled)))
    for path, _ in arm.settings:
        beside = (one for one in known if one.without(path) == arm.without(path))
        first = min(beside, key=lambda one: one.order, default=arm)
        if first.text(path) != arm.text(path):
            yield path, first
    for what, reference in without:
        yield from ((what, known_arm) for known_arm in known if _in_any_order(known_arm) == _in_any_order(reference))


def _in_any_order(arm: Arm) -> Arm:
    """The arm whatever order a study names its tasks in."""
    return replace(arm, intermediate=tuple(sorted(arm.intermediate)))


# ---- retention -------------------------------------------------------------------------------------------------------


RATIOS = {"kept": "saved_head", "fresh_kept": "fresh_head"}  # to before
RETENTION = (*RETENTION_SCORES, *RATIOS)
Judged = Mapping[str, tuple[Mapping[str, Floats], Mapping[str, Integers]]]
"""key of scores -> statistics and units by name"""


def estimate_retention(results: Sequence[Result], store: Store) -> pd.DataFrame:
    """Frame with one row per cell and intermediate task, over the seeds of selected chains. Raises StoreError.

    Columns: those of the cell, task, seeds, majority; then before, saved_head, fresh_head, kept
    (saved_head / before) and fresh_kept (fresh_head / before), each with _low and _high.
    """
    import pandas as pd

    measured = [result for result in results if result.chain.selected and result.score.retention]
    models = _retention_models(measured, store)
    rows: list[Row] = []
    for cell, members in grouped(measured, _cell):
        for task, entry in sorted(members[0].score.retention.items()):
            first = {**cell.columns(), "task": task, "seeds": len(members), "majority": entry["majority"]}
            own = {name: models.get((cell.encoder, task, name)) for name in RETENTION}
            rows.append({**first, **dict(_retention_columns(cell, own))})
    return pd.DataFrame(rows)


def _cell(result: Result) -> Cell:
    return result.chain.cell


def _trained_by(cell: Cell) -> Arm:
    """Arm that trained the intermediate phase: the cell without its target, except where they share a budget.

    Settings of the target phase came after it.
    """
    cell = cell.without(*(path for path, _ in cell.settings if phase_of(path) == TARGET))
    return cell.arm if cell.chain_budget is None else cell


def _retention_models(measured: Sequence[Result], store: Store) -> dict[tuple[str, str, str], Model]:
    """Models by (encoder, task, one of RETENTION); arms are cells, of `before` what trained the intermediate phase."""
    tables: dict[tuple[str, str, str], Scores] = {}
    judged = {r.score.key: (store.statistics(r.score.key), store.units(r.score.key)) for r in measured}
    for encoder, task in dict.fromkeys(
        (r.chain.cell.encoder, task) for r in measured for task in sorted(r.score.retention)
    ):
        having = [r for r in measured if r.chain.cell.encoder == encoder and task in r.score.retention]
        scores = {name: _retention_scores(having, judged, task, name) for name in RETENTION_SCORES}
        for name, numerator in RATIOS.items():
            if scores[numerator].runs:
                tables[encoder, task, name] = ratio(scores[numerator], scores[BEFORE_TARGET])
        # An intermediate phase that several target phases follow is one run.
        once = {(_trained_by(_cell(r)), r.chain.seed): r for r in reversed(having)}
        before = _retention_scores(list(once.values()), judged, task, BEFORE_TARGET)
        scores[BEFORE_TARGET] = replace(before, runs=tuple(once))
        tables |= {(encoder, task, name): table for name, table in scores.items() if table.runs}
    return dict(zip(tables, fitted(tables.values()), strict=True))


def _retention_scores(having: Sequence[Result], judged: Judged, task: str, name: str) -> Scores:
    """Scores of the runs that have this one of RETENTION_SCORES; runs are named by cell and seed."""
    scored = [r for r in having if r.score.retention[task][name] is not None]
    statistics = [judged[r.score.key][0][f"retention/{task}/{name}"] for r in scored]
    units = [judged[r.score.key][1].get(f"retention/{task}") for r in scored]
    about = having[0].score.retention[task]
    measure = measure_of(about["family"], about["metric"])
    runs = [(_cell(r), r.chain.seed) for r in scored]
    return scores_of(runs, statistics, measure.value, units, measure.lowest)


def _retention_columns(cell: Cell, models: Mapping[str, Model | None]) -> Iterator[tuple[str, object]]:
    for name, model in models.items():
        arm = _trained_by(cell) if name == BEFORE_TARGET else cell
        level = model.level(arm, bounded=name in RETENTION_SCORES) if model is not None else None
        low, high = (level.low, level.high) if level else (np.nan, np.nan)
        if name in RATIOS and model is not None and model.scores.lowest == 0:
            low = max(low, 0.0)
        yield from ((name, level.value if level else np.nan), (f"{name}_low", low), (f"{name}_high", high))


# ---- regret of previews ----------------------------------------------------------------------------------------------


KEPT = (1, 2, 3, 5)  # how many settings a user might keep


def estimate_regrets(previews: pd.DataFrame, models: Mapping[tuple[str, str], Model]) -> pd.DataFrame:
    """Frame with one row per encoder, target and number of settings kept, where every setting has a gain.

    Columns: encoder, target, kept, of (settings in all), best, best_kept (gains), regret, low, high (ends of its
    interval; NaN without a model). `previews` is a preview_frame with gains, `models` are those of the Estimates.
    """
    import pandas as pd

    names = [*RANKED_FOR, "kept", "of", "best", "best_kept", "regret", "low", "high"]
    return pd.DataFrame(list(_regrets(previews, models)), columns=names)


def _regrets(previews: pd.DataFrame, models: Mapping[tuple[str, str], Model]) -> Iterator[Row]:
    for (encoder, target), settings in previews[previews["intermediate"] != NONE].groupby(RANKED_FOR, sort=False):
        if settings["gain"].isna().any():
            continue
        best, model = settings["gain"].max(), models.get((str(encoder), str(target)))
        for count in (number for number in KEPT if number < len(settings)):
            kept = settings[settings["rank"] <= count]
            best_kept, names = kept["gain"].max(), _ranked_arms(kept)
            dropped = _ranked_arms(settings) - names
            low, high = _regret_interval(model, names, dropped) if model is not None else (np.nan, np.nan)
            yield {
                "encoder": encoder, "target": target, "kept": count, "of": len(settings), "best": best,
                "best_kept": best_kept, "regret": best - best_kept, "low": low, "high": high,
            }  # fmt: skip


def _ranked_arms(settings: pd.DataFrame) -> set[Arm]:
    """Arms of previews, without what a preview does not see."""
    return {Arm.of(row, but=AMOUNTS) for row in settings.to_dict("records")}


def _regret_interval(model: Model, kept: Set[Arm], dropped: Set[Arm]) -> tuple[float, float]:
    """Interval of the best gain of all settings minus the best of those that were kept, whichever these are.

    It is at most the largest lead over any one that was kept, and at least the smallest lead of any that was not.
    """
    arms = [arm for arm in model.arms if isinstance(arm, Arm)]
    seen = {path for arm in (*kept, *dropped) for path, _ in arm.settings}
    ranked = {arm: arm.without(*AMOUNTS, *(path for path, _ in arm.settings if path not in seen)) for arm in arms}
    kept_arms = [arm for arm in arms if ranked[arm] in kept]
    dropped_arms = [arm for arm in arms if ranked[arm] in dropped]
    confidence = 1 - LEVEL / max(len(kept_arms) * len(dropped_arms), 1)
    leads = [[_lead(model, arm, over, confidence) for over in kept_arms] for arm in dropped_arms]
    by_dropped = [[lead for lead in row if lead] for row in leads]
    by_kept = [[lead for lead in column if lead] for column in zip(*leads, strict=True)]
    low = max((min(lead.low for lead in row) for row in by_dropped if row), default=0.0)
    high = min((max(lead.high for lead in column) for column in by_kept if column), default=0.0)
    width = model.scores.width
    return min(max(low, 0.0), width), min(max(high, 0.0), width)


def _lead(model: Model, arm: Arm, over: Arm, confidence: float) -> Estimate | None:
    """Gain of an arm minus the gain of another."""
    weights = Counter({arm: 1, over: -1})
    weights.subtract({arm.reference: 1})
    weights.update({over.reference: 1})
    return model.contrast({arm: weight for arm, weight in weights.items() if weight}, confidence)
