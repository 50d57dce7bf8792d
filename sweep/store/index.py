"""Index of what the store holds: what a chain still needs, and the status of a study in its results folder.

A results folder outlives changes of its study file: an axis value or a seed is taken away, steps or spaces are changed,
a data file is corrected. What was made before stays in the store and is used again where it is asked for, but a chain
of an earlier version is no result of this one. A ledger's row is of this version where the plan makes the same key from
the row's cell, hyperparameters, seed and candidate.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweep.config.axes import Cell
from sweep.plan.cost import Costs
from sweep.plan.halving import rung_step
from sweep.plan.plan import Plan
from sweep.plan.recipe import (
    CANDIDATE,
    INTERMEDIATE,
    PRETRAIN,
    REPLICA,
    TARGET,
    Chain,
    Phase,
    scoring_settings,
)
from sweep.plan.speed import Speed
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import ELIMINATED, ChainRow
from sweep.store.records import PhaseRecord


def _saved_step(checkpoint: Path) -> int | None:
    """The step of a half-done phase; None where it has no checkpoint, or none that can be read.

    Looks into the header of the file alone: a driver has no torch.
    """
    try:
        with checkpoint.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        state = json.loads(header["__metadata__"]["values"])["state"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return None
    return int(state["step"]) if state else 0


class StoreIndex:
    """Index of the store's content in the memory of one process; `learn` what others have finished since."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._weights: dict[str, bool] = {}
        self._scores: dict[str, bool] = {}
        self._dead_ends: dict[str, bool] = {}
        self._dev: dict[str, float | None] = {}

    def learn(self, key: str) -> None:
        """Forgets what is known of a key under which something was committed, so that the next question looks again."""
        self._weights.pop(key, None)
        self._scores.pop(key, None)
        self._dead_ends.pop(key, None)
        self._dev.pop(key, None)

    def look_again(self, chain: Chain) -> None:
        """Looks for a chain's records again: on a network's file system those of another node show late.

        Opening a folder asks its server.
        """
        for kind, keys in ((paths.PHASES, [phase.key for phase in chain.phases]), (paths.SCORES, [chain.score])):
            self.store.keys(kind)
            for key in keys:
                self.learn(key)

    def has_score(self, key: str) -> bool:
        if key not in self._scores:
            self._scores[key] = self.store.score(key) is not None
        return self._scores[key]

    def has_weights(self, key: str) -> bool:
        if key not in self._weights:
            self._weights[key] = self.store.has_weights(key)
        return self._weights[key]

    def dead_end(self, chain: Chain) -> Phase | None:
        """The phase that collapsed before the chain's target phase; where there is one, the chain ends with it."""
        return next((phase for phase in chain.phases if self._is_dead_end(phase.key)), None)

    def _is_dead_end(self, key: str) -> bool:
        if key not in self._dead_ends:
            record = self.store.phase(key)
            self._dead_ends[key] = record is not None and record.dead_end
        return self._dead_ends[key]

    def is_over(self, chain: Chain) -> bool:
        """Scored, or without a way to its scores."""
        return self.has_score(chain.score) or self.dead_end(chain) is not None

    def why_collapsed(self, phase: Phase) -> str:
        """A sentence about a dead end."""
        record = self.store.phase(phase.key)
        assert record is not None
        tries = f"{len(record.attempts)} attempts" if len(record.attempts) > 1 else "its only attempt"
        best = max((attempt["dev"] for attempt in record.attempts), default=record.dev_score)
        level = f"dev {best:.3f} at best, chance level is {record.majority:.3f}"
        return f"the {record.kind} phase learned nothing in {tries} ({level})"

    def to_train(self, chain: Chain) -> tuple[Phase, ...]:
        """The phases after the last one whose weights are there; none where the chain is scored or has collapsed."""
        if self.is_over(chain):
            return ()
        for index in reversed(range(len(chain.phases))):
            if self.has_weights(chain.phases[index].key):
                return chain.phases[index + 1 :]
        return chain.phases

    def whence(self, chain: Chain) -> str:
        """Point from which a stopped chain goes on, in words."""
        missing = self.to_train(chain)
        if not missing:
            return "has trained all its phases and goes on with its scores"
        phase, step = missing[0], _saved_step(self.store.root / paths.SCRATCH / missing[0].key / paths.CHECKPOINT)
        kind = f"{phase.recipe.kind} phase"
        return f"begins its {kind} anew" if step is None else f"resumes from step {step} of its {kind}"

    def dev_score(self, chain: Chain) -> float | None:
        """English dev score of the chain's last phase, whether its weights are kept or not; None where it has none."""
        key = chain.phases[-1].key if chain.phases else ""
        if key not in self._dev:
            record = self.store.phase(key) if key else None
            self._dev[key] = record.dev_score if record is not None else None
        return self._dev[key]

    def dev_at(self, chain: Chain, rung: float) -> float | None:
        """The dev score that the chain's trained last phase had at a rung; None where it is not trained."""
        record = self.store.phase(chain.phases[-1].key) if self.dev_score(chain) is not None else None
        if record is None:
            return None
        settings = chain.phases[-1].recipe.settings
        last = rung_step(record.steps, settings.evaluations, rung)
        values = [float(point["value"]) for point in record.dev if point["step"] <= last] or [record.dev[0]["value"]]
        return max(values) if settings.select == "best" else values[-1]

    def bytes_held(self, key: str) -> int:
        """Bytes on disk of the weights of a phase."""
        record = self.store.phase(key)
        return self.store.bytes_held(record) if record is not None else 0

    def release(self, key: str) -> None:
        """Deletes the weights of a phase that no chain needs any more; its record stays."""
        self.store.release(key)
        self.learn(key)

    def drop(self, chain: Chain) -> None:
        """Deletes the weights of a chain's last phase, and what is half done of it; its record stays."""
        key = chain.phases[-1].key
        self.store.release(key)
        self.store.abandon(key)
        self.learn(key)


@dataclass
class Change:
    """Work that a change of the study file makes to be done again."""

    phases: int = 0  # to be trained
    scores: int = 0  # to be scored, where all weights are there
    device_seconds: float = 0.0


@dataclass
class StudyStatus:
    """Status of a study in its results folder: chains done and left, and what these lack."""

    done: int = 0  # chains
    left: int = 0
    device_seconds: float = 0.0  # that these take: shared phases once, and scores
    scored_alone: int = 0  # of those that are left: all their weights are there
    first: dict[str, int] = field(default_factory=dict)  # kind of phase -> to be trained for the first time
    again: dict[str, int] = field(default_factory=dict)  # kind of phase -> trained before, and their weights released
    wanted_by: list[str] = field(default_factory=list)  # targets whose scores need what is trained again
    # What has changed in the study file since, such as "target.epochs 3 -> 4".
    changed: dict[str, Change] = field(default_factory=dict)

    def lines(self, folder: object) -> Iterator[str]:
        """Lines of `sweep plan` on a results folder."""
        takes = f"; what is left takes about {_device_time(self.device_seconds)}" if self.left else ""
        yield f"in {folder}: {self.done:,} of {self.done + self.left:,} chains are done{takes}"
        for what, change in self.changed.items():
            done = [_many(change.phases, "phase", "trained again"), _many(change.scores, "chain", "scored again")]
            yield f"  {what}: {' and '.join(filter(None, done))}, {_device_time(change.device_seconds)}"
        if self.first:
            yield f"  to train for the first time: {_counted(self.first)}"
        if self.again:
            yield (
                f"  to train again: {_counted(self.again)}, whose weights were released after scoring: scores of"
                f" {', '.join(self.wanted_by)} are asked for that are not there (runtime.keep_winners: what is kept)"
            )
        if self.scored_alone:
            yield f"  to score without training: {self.scored_alone:,} chains, whose weights are kept"


def study_status(plan: Plan, rows: Sequence[ChainRow], store: Store, costs: Costs, speed: Speed) -> StudyStatus:
    """Status of a plan, its chains with the hyperparameters with which they ran; where none has run, as planned."""
    status, stored, earlier = StudyStatus(), StoreIndex(store), _Earlier(plan, rows, store)
    seen = set[str]()
    for chain in latest_chains(plan, rows):
        if chain is None or stored.is_over(chain):
            status.done += 1
            continue
        status.left += 1
        missing, works = stored.to_train(chain), costs.works(chain, costs.parts(chain))
        status.scored_alone += not missing
        for phase in missing:
            record = None if phase.key in seen else store.phase(phase.key)
            if record is not None and chain.cell.target not in status.wanted_by:
                status.wanted_by.append(chain.cell.target)
            if phase.key in seen:
                continue
            seen.add(phase.key)
            seconds = speed.device_seconds(works[phase.key])
            status.device_seconds += seconds
            why = earlier.why_trained(chain, phase) if record is None else ""
            if why:
                change = status.changed.setdefault(why, Change())
                change.phases += 1
                change.device_seconds += seconds
            else:
                counted = status.first if record is None else status.again
                counted[phase.recipe.kind] = counted.get(phase.recipe.kind, 0) + 1
        seconds = speed.device_seconds(works[chain.score])
        status.device_seconds += seconds
        if not missing and (why := earlier.why_scored(chain)):
            change = status.changed.setdefault(why, Change())
            change.scores += 1
            change.device_seconds += seconds
    return status


class _Earlier:
    """Differences between a ledger's chains and a plan: what of the study file is another now."""

    def __init__(self, plan: Plan, rows: Sequence[ChainRow], store: Store) -> None:
        self._plan, self._store = plan, store
        self._rows = dict[tuple[object, ...], list[ChainRow]]()  # those that a phase of a kind is compared with
        for row in rows:
            for kind in (PRETRAIN, INTERMEDIATE, TARGET):
                self._rows.setdefault(_alike(kind, row.cell, row.seed), []).append(row)
        self._why = dict[str, tuple[str, ...]]()  # key of a phase -> what is another, what its parents have included

    def why_trained(self, chain: Chain, phase: Phase) -> str:
        """Change for which a phase is trained where an earlier one stood, as in the study file; "" where none did."""
        if phase.key not in self._why:
            before = [*self._why.get(phase.parent or "", ()), *self._why.get(phase.resumes or "", ())]
            found = self._own(chain, phase)
            self._why[phase.key] = () if found is None else tuple(dict.fromkeys([*before, *found]))
        return " and ".join(self._why[phase.key])

    def _own(self, chain: Chain, phase: Phase) -> Sequence[str] | None:
        """Differences to the most similar phase that there was in its place; None where there was none."""
        rows = self._rows.get(_alike(phase.recipe.kind, chain.cell, chain.seed), ())
        records = [self._store.phase(key) for key in dict.fromkeys(key for row in rows for key in row.phases)]
        known = [record for record in records if record is not None and record.kind == phase.recipe.kind]
        grid = self._plan.grid(chain.cell)
        differences = (list(_differences(phase, record, grid)) for record in known)
        return min(differences, key=len, default=None)

    def why_scored(self, chain: Chain) -> str:
        """Change for which weights are scored again; "" where they never were, or no setting says it."""
        weights = chain.phases[-1].key if chain.phases else None
        for row in self._rows.get(_alike(TARGET, chain.cell, chain.seed), ()):
            record = self._store.score(row.score)
            if record is not None and record.phase == weights:
                encoder = self._plan.encoders[chain.cell.encoder].of(chain.seed)
                now = scoring_settings(self._plan.study, self._plan.tasks[chain.cell.target], encoder)
                return " and ".join(itertools.starmap(_sentence, _changes("scoring", record.settings, _plain(now))))
        return ""


def _alike(kind: str, cell: Cell, seed: int) -> tuple[object, ...]:
    """Mark of the chains among which a phase of this kind has its like."""
    if kind == PRETRAIN:
        return kind, cell.encoder, seed
    return kind, cell if kind == TARGET else replace(cell, target=""), seed


# Fields of a recipe that are no setting of a phase, or say nothing about its weights.
OTHERS = ("kind", "tasks", "seed", "learning_rate", "data", "languages", "examples", "flops", "precision")


def _differences(phase: Phase, record: PhaseRecord, grid: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Differences of a phase from a record of its kind; none where its parent or its candidate alone is another.

    `grid` has the values that a candidate may have by name.
    """
    kind, before, now = phase.recipe.kind, record.recipe, _plain(phase.record())
    data = zip(phase.recipe.tasks, before.get("data", ()), now["data"], strict=False)
    found = [f"the data of {task}" for task, old, new in data if old != new]
    settings = ({name: value for name, value in each.items() if name not in OTHERS} for each in (before, now))
    changes = list(_changes(kind, *settings))
    found += [_sentence(place, old, new) for place, old, new in changes if old not in grid.get(place, ())]
    amounts = {} if phase.trunk else {"examples": f"{kind}.examples", "flops": "axes.chain_budget"}
    for name, place in {"precision": "runtime.precision", **amounts}.items():
        if name in before and before[name] != now.get(name):
            found.append(_sentence(place, before[name], now.get(name)))
    rate = before.get("learning_rate")
    if rate is not None and rate not in phase.recipe.rates:
        found.append(f"{kind}.learning_rate {rate:g} -> {', '.join(f'{each:g}' for each in phase.recipe.rates)}")
    if not found and not changes and (record.parent, rate) == (phase.parent, phase.learning_rate):
        found.append("another version of the encoder or of sweep")
    yield from found


def _changes(place: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(place in the study file, before, now) of settings below a place that are other than before, and in both."""
    for name, old in before.items():
        new = now.get(name, old)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(f"{place}.{name}", old, new)
        elif old != new:
            yield f"{place}.{name}", old, new


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a record has them."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _sentence(place: str, before: object, now: object) -> str:
    old, new = ("none" if value is None else str(value) for value in (before, now))
    return f"{place} {old} -> {new}"


def latest_chains(plan: Plan, rows: Sequence[ChainRow]) -> Iterator[Chain | None]:
    """The plan's chains with the rates that they had when they ran; those that have not run as they are planned.

    None for one that was eliminated in its cell, and will not run.
    """
    candidates = {(row.cell.name, row.candidate): row for row in rows if row.role == CANDIDATE}  # the latest of each
    winners = {row.cell.name: row for row in rows if row.selected and row.role == CANDIDATE}
    for planned in plan.planned_chains():
        row = candidates.get((planned.cell.name, planned.candidate))
        row = winners.get(planned.cell.name, row) if planned.role == REPLICA else row
        if row is None or not _are_proposed(plan, planned.cell, row):
            yield planned
            continue
        chain = plan.chain(planned.cell, row.hyperparameters, planned.seed, row.candidate, planned.role)
        yield None if row.state == ELIMINATED and row.key == chain.key else chain


def _device_time(seconds: float) -> str:
    """Device-seconds, or device-hours from six minutes on."""
    return f"{seconds:,.0f} device-seconds" if seconds < 360 else f"{seconds / 3600:,.1f} device-hours"


def _many(count: int, what: str, done: str) -> str:
    return f"{count:,} {what}{'s are' if count > 1 else ' is'} {done}" if count else ""


def _counted(phases: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind} phase{'s' if count > 1 else ''}" for kind, count in sorted(phases.items()))


def superseded(plan: Plan, rows: Iterable[ChainRow]) -> Iterator[str]:
    """Keys of the chains in a ledger that this plan would not make."""
    cells = {cell.name: cell for cell in plan.cells}
    for row in rows:
        cell = cells.get(row.cell.name)
        if cell is None or not _is_asked(plan, cell, row):
            yield row.key


def _is_asked(plan: Plan, cell: Cell, row: ChainRow) -> bool:
    first, *replica_seeds = plan.study.axes.seed
    if row.seed not in ([first] if row.role == CANDIDATE else replica_seeds):
        return False
    if row.candidate >= plan.candidates(cell) or not _are_proposed(plan, cell, row):
        return False
    return plan.chain(cell, row.hyperparameters, row.seed, row.candidate).key == row.key


def _are_proposed(plan: Plan, cell: Cell, row: ChainRow) -> bool:
    """Whether a candidate of this number may have these hyperparameters: those that depend on scores may be any."""
    if row.hyperparameters.keys() != plan.grid(cell).keys():
        return False
    if plan.is_fixed(cell, row.candidate):
        return plan.planned(cell, row.candidate) == row.hyperparameters
    return plan.is_point(cell, row.hyperparameters)
