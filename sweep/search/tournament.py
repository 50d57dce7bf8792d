"""Tournament inside a cell: candidates compared rung by rung, eliminated or promoted, one winner.

A candidate is eliminated as soon as enough others of its stage are better: further results only add to those. So its
weights need not wait for the others, and which candidates are eliminated in the end depends on no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sweep.config.axes import Cell
from sweep.config.spaces import Value
from sweep.plan.halving import SCORED, Stage
from sweep.plan.order import WarmStarts
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Hyperparameters
from sweep.search.suggestions import CandidateResult, ranked, suggest, winner


@dataclass(frozen=True)
class Entry:
    """A possible attempt: a candidate of a cell through a stage, or the winner with the first or another seed."""

    cell: int
    candidate: int
    seed: int
    role: str
    stage: int | None = None  # None: to its scores, whatever the cell's stages are


@dataclass
class Tournament:
    """The candidates of a cell and what they have reached."""

    cell: Cell
    count: int  # candidates
    startup: int  # so many of them ask for no dev score of this cell
    stages: tuple[Stage, ...]
    started: dict[int, Chain] = field(default_factory=dict)  # number of a candidate -> its chain

    def __post_init__(self) -> None:
        self._results: list[dict[int, CandidateResult]] = [{} for _ in self.stages]
        self._eliminated: set[int] = set()

    @property
    def first_results(self) -> dict[int, CandidateResult]:
        """Results of candidates at the first stage: all that proposals of later candidates may know."""
        return self._results[0]

    def have_passed_first(self, number: int) -> bool:
        """Whether all candidates up to a number, as far as the cell has so many, are through the first stage."""
        return all(earlier in self.first_results for earlier in range(min(number + 1, self.count)))

    def best(self, number: int) -> Hyperparameters:
        """Those of the best candidate up to a number at the first stage; none where all failed or collapsed."""
        reached = {earlier: result for earlier, result in self.first_results.items() if earlier <= number}
        best = winner(reached)
        return reached[best].hyperparameters if best is not None else {}

    @property
    def winner(self) -> int | None:
        """The best of those that have come through the last stage, as far as is known."""
        return winner(self._results[-1])

    @property
    def winning_chain(self) -> Chain | None:
        """The chain of the winner, as far as is known."""
        return None if self.winner is None else self.started.get(self.winner)

    @property
    def scores_winner_after(self) -> bool:
        """Whether the last stage leaves the winner without scores."""
        return self.stages[-1].pause_at is not SCORED

    def pause_at(self, entry: Entry) -> float | None:
        """The share of the target phase after which an attempt pauses; None where it goes on to its scores."""
        return SCORED if entry.stage is None else self.stages[entry.stage].pause_at

    def resume_at(self, entry: Entry) -> float:
        """The share of the target phase that earlier stages have trained."""
        return self.stages[entry.stage - 1].pause_at or 0.0 if entry.stage else 0.0

    def record(self, stage: int, candidate: int, result: CandidateResult) -> Iterator[int]:
        """Keeps what a candidate has reached; yields the numbers of those that are eliminated by it."""
        results = self._results[stage]
        results[candidate] = result
        for number in ranked(results)[self.stages[stage].keep :]:
            if number not in self._eliminated:
                self._eliminated.add(number)
                yield number

    def entrants(self, stage: int) -> list[int]:
        """Candidates that go through a stage, all or those promoted; none as long as that is not known."""
        if stage == 0:
            return list(range(self.count))
        if not self.is_complete(stage - 1):
            return []
        return sorted(ranked(self._results[stage - 1])[: self.stages[stage - 1].keep])

    def is_complete(self, stage: int) -> bool:
        """Whether all that go through a stage are through."""
        known = stage == 0 or self.is_complete(stage - 1)
        return known and len(self._results[stage]) == len(self.entrants(stage))


def proposal(
    plan: Plan, cells: Sequence[Tournament], warm_starts: WarmStarts, cell: Tournament, number: int
) -> Hyperparameters | None:
    """Hyperparameters of a cell's candidate; None while they depend on candidates that are not through the first stage.

    The last start-up point waits for the candidates of its warm starts up to the same number, those of Optuna for all
    earlier ones of their own cell. So cells are tuned round by round, and no two wait for each other.
    """
    startup = number < cell.startup
    last = startup and not plan.is_fixed(cell.cell, number)
    sources = {kind: cells[index] for kind, index in warm_starts.items() if last}
    if not startup and not cell.have_passed_first(number - 1):
        return None
    if any(earlier not in cell.started for earlier in range(number)):
        return None
    if not all(source.have_passed_first(number) for source in sources.values()):
        return None
    best = {name: value for kind, source in sources.items() for name, value in _of_phase(kind, source.best(number))}
    unscored = {earlier: CandidateResult(cell.started[earlier].hyperparameters, None) for earlier in range(number)}
    before = unscored if startup else cell.first_results  # a start-up point waits for no dev score of its own cell
    return suggest(plan, cell.cell, number, [before[earlier] for earlier in range(number)], best)


def _of_phase(kind: str, hyperparameters: Hyperparameters) -> Iterator[tuple[str, Value]]:
    return ((name, value) for name, value in hyperparameters.items() if name.partition(".")[0] == kind)
