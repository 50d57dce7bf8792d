"""Tournament inside a cell: candidates compared rung by rung, eliminated or promoted, one winner.

A candidate is beaten as soon as enough others of its stage are better: further results only add to those. So its
weights need not wait for the others, and who is beaten in the end depends on no order.

A target that gets another language tomorrow is then scored on them; without weights its phase is trained again. The
winner of a cell is known when its candidates are compared, so the best so far is kept, one per cell and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sweep.config.axes import Cell
from sweep.plan.halving import SCORED, Stage
from sweep.plan.order import WarmStarts
from sweep.plan.plan import Plan
from sweep.plan.recipe import TARGET, Chain, Rates
from sweep.search.candidates import CandidateResult, ranked, rates_for, winner
from sweep.store.index import StoreIndex


@dataclass(frozen=True)
class Work:
    """A possible attempt: a candidate of a cell through a stage, or the winner with the first or another seed."""

    cell: int
    candidate: int
    seed: int
    role: str
    stage: int | None = None  # None: to its scores, whatever the cell's stages are


@dataclass
class CellState:
    """The candidates of a cell and what they have reached."""

    cell: Cell
    count: int  # candidates
    startup: int  # so many of them ask for no dev score of this cell
    stages: tuple[Stage, ...]
    started: dict[int, Chain] = field(default_factory=dict)
    beaten: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._results: list[dict[int, CandidateResult]] = [{} for _ in self.stages]

    @property
    def tried(self) -> dict[int, CandidateResult]:
        """What proposals of later candidates may know: what all candidates have reached at the first stage."""
        return self._results[0]

    def through(self, number: int) -> bool:
        """Whether all candidates up to a number, as far as the cell has so many, are through the first stage."""
        return all(earlier in self.tried for earlier in range(min(number + 1, self.count)))

    def best(self, number: int) -> Rates:
        """Rates of the best candidate up to a number at the first stage; none where all failed or collapsed."""
        reached = {earlier: one for earlier, one in self.tried.items() if earlier <= number}
        found = winner(reached)
        return reached[found].rates if found is not None else {}

    @property
    def winner(self) -> int | None:
        """The best of those that have come through the last stage, as far as is known."""
        return winner(self._results[-1])

    @property
    def tuned(self) -> bool:
        """Whether the winner is known, or that there is none."""
        return self.complete(len(self.stages) - 1)

    @property
    def unscored_winner(self) -> bool:
        """Whether the last stage leaves the winner without scores."""
        return self.stages[-1].pause_at is not SCORED

    def pause_at(self, work: Work) -> float | None:
        """How far an attempt goes."""
        return SCORED if work.stage is None else self.stages[work.stage].pause_at

    def resume_at(self, work: Work) -> float:
        """From where it goes on."""
        return self.stages[work.stage - 1].pause_at or 0.0 if work.stage else 0.0

    def note(self, stage: int, candidate: int, result: CandidateResult) -> Iterator[int]:
        """Takes down what a candidate has reached; yields those that are beaten now."""
        results = self._results[stage]
        results[candidate] = result
        for number in ranked(results)[self.stages[stage].keep :]:
            if number not in self.beaten:
                self.beaten.add(number)
                yield number

    def entrants(self, stage: int) -> list[int]:
        """Candidates that go through a stage; none as long as that is not known."""
        if stage == 0:
            return list(range(self.count))
        return (
            sorted(ranked(self._results[stage - 1])[: self.stages[stage - 1].keep]) if self.complete(stage - 1) else []
        )

    def complete(self, stage: int) -> bool:
        """Whether all that go through a stage are through."""
        known = stage == 0 or self.complete(stage - 1)
        return known and len(self._results[stage]) == len(self.entrants(stage))


def proposal(
    plan: Plan, cells: Sequence[CellState], warm_starts: WarmStarts, state: CellState, number: int
) -> Rates | None:
    """Rates of a cell's candidate; None while they depend on candidates that are not through the first stage.

    The last start-up point waits for the candidates of its warm starts up to the same number, those of Optuna for all
    earlier ones of their own cell. So cells are tuned round by round, and no two wait for each other.
    """
    startup = number < state.startup
    last = startup and not plan.is_fixed(state.cell, number)
    others = {kind: cells[index] for kind, index in warm_starts.items() if last}
    if not startup and not state.through(number - 1):
        return None
    if any(earlier not in state.started for earlier in range(number)):
        return None
    if not all(other.through(number) for other in others.values()):
        return None
    known = {kind: rates[kind] for kind, other in others.items() if (rates := other.best(number))}
    untold = {earlier: CandidateResult(state.started[earlier].rates, None) for earlier in range(number)}
    before = untold if startup else state.tried  # a start-up point waits for no dev score of its own cell
    return rates_for(plan, state.cell, number, [before[earlier] for earlier in range(number)], known)


class KeptWeights:
    """Bytes of the weights that are kept. One instance, in the driver; a restart counts anew what the store has."""

    def __init__(self, plan: Plan, stored: StoreIndex) -> None:
        self._plan, self._stored = plan, stored
        self._room = plan.study.runtime.keep_winners
        self._bytes: dict[str, int] = {}  # key of a phase -> what its weights take
        self._holders: dict[str, set[str]] = {}  # key of a phase -> chains that keep it: targets may share one

    @property
    def room(self) -> bool:
        """Whether the weights of another chain may be kept."""
        return sum(self._bytes.values()) < self._room

    def keep(self, chain: Chain) -> None:
        """A scored chain is the best of its cell so far, or a replica of the winner."""
        key = _target_phase(chain)
        if key is None or not self._stored.has_weights(key):
            return
        if key not in self._bytes:
            size = self._stored.bytes_held(key)
            if sum(self._bytes.values()) + size > self._room:
                self.drop(chain)
                return
            self._bytes[key] = size
        self._holders.setdefault(key, set()).add(chain.key)

    def drop(self, chain: Chain) -> None:
        """Another chain of the cell is better, or there is no room; nobody keeps what other targets do not need."""
        key = _target_phase(chain)
        if key is None or self._plan.study.runtime.keep_target_weights or not self._stored.has_weights(key):
            return
        self._holders.get(key, set()).discard(chain.key)
        if not self._holders.get(key) and all(map(self._stored.has_score, self._plan.readers(chain))):
            self._bytes.pop(key, None)
            self._stored.release(key)


def _target_phase(chain: Chain) -> str | None:
    last = chain.phases[-1] if chain.phases else None
    return last.key if last is not None and last.recipe.kind == TARGET else None
