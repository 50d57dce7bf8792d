"""Index of what the store holds: what a chain still needs, and the status of a study in its results folder.

A results folder outlives changes of its study file: an axis value or a seed is taken away, steps or rates are changed,
a data file is corrected. What was made before stays in the store and is used again where it is asked for, but a chain
of an earlier version is no result of this one. A ledger's row is of this version where the plan makes the same key
from the row's cell, rates, seed and candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.config.axes import Cell
from sweep.plan.halving import rung_step
from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE, REPLICA, Chain, Phase
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import ELIMINATED, ChainRow


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
        level = f"dev {best:.3f} at best, the best constant answer has {record.majority:.3f}"
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
class StudyStatus:
    """Status of a study in its results folder: chains done and left, and the phases that these lack."""

    done: int = 0  # chains
    left: int = 0
    scored_alone: int = 0  # of those that are left: all their weights are there
    first: dict[str, int] = field(default_factory=dict)  # kind of phase -> to be trained for the first time
    again: dict[str, int] = field(default_factory=dict)  # kind of phase -> trained before, and their weights released
    wanted_by: list[str] = field(default_factory=list)  # targets whose scores need what is trained again

    def lines(self, folder: object) -> Iterator[str]:
        """Lines of `sweep plan` on a results folder."""
        yield f"in {folder}: {self.done:,} of {self.done + self.left:,} chains are done"
        if self.first:
            yield f"  to train for the first time: {_counted(self.first)}"
        if self.again:
            yield (
                f"  to train again: {_counted(self.again)}, whose weights were released after scoring: scores of"
                f" {', '.join(self.wanted_by)} are asked for that are not there (runtime.keep_winners: what is kept)"
            )
        if self.scored_alone:
            yield f"  to score without training: {self.scored_alone:,} chains, whose weights are kept"


def study_status(plan: Plan, rows: Sequence[ChainRow], store: Store) -> StudyStatus:
    """Status of a plan, its chains with the rates that they had when they ran; where none has run, those planned."""
    status, stored, seen = StudyStatus(), StoreIndex(store), set[str]()
    for chain in latest_chains(plan, rows):
        if chain is None or stored.is_over(chain):
            status.done += 1
            continue
        status.left += 1
        missing = stored.to_train(chain)
        status.scored_alone += not missing
        for phase in missing:
            record = None if phase.key in seen else store.phase(phase.key)
            counted = status.first if record is None else status.again
            if phase.key not in seen:
                counted[phase.recipe.kind] = counted.get(phase.recipe.kind, 0) + 1
            if record is not None and chain.cell.target not in status.wanted_by:
                status.wanted_by.append(chain.cell.target)
            seen.add(phase.key)
    return status


def latest_chains(plan: Plan, rows: Sequence[ChainRow]) -> Iterator[Chain | None]:
    """The plan's chains with the rates that they had when they ran; those that have not run as they are planned.

    None for one that was eliminated in its cell, and will not run.
    """
    candidates = {(row.cell.name, row.candidate): row for row in rows if row.role == CANDIDATE}  # the latest of each
    winners = {row.cell.name: row for row in rows if row.selected and row.role == CANDIDATE}
    for chain in plan.planned_chains():
        row = candidates.get((chain.cell.name, chain.candidate))
        row = winners.get(chain.cell.name, row) if chain.role == REPLICA else row
        if row is None or row.rates.keys() != chain.rates.keys():
            yield chain
        elif row.state == ELIMINATED:
            yield None
        else:
            yield plan.chain(chain.cell, row.rates, chain.seed, row.candidate, chain.role)


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
    return plan.chain(cell, row.rates, row.seed, row.candidate).key == row.key


def _are_proposed(plan: Plan, cell: Cell, row: ChainRow) -> bool:
    """Whether a candidate of this number may have these rates: those that depend on scores may be any of the grid."""
    grid = plan.grid(cell)
    if grid.keys() != row.rates.keys():
        return False
    if plan.is_fixed(cell, row.candidate):
        return plan.planned_rates(cell, row.candidate) == row.rates
    return all(rate in grid[kind] for kind, rate in row.rates.items())
