"""How far a cell is: its candidates, compared stage by stage; who is beaten, who goes on, who has won. Knows no Ray.

A candidate is beaten as soon as enough others of its stage are better: further results only add to those. So its
weights need not wait for the others, and who is beaten in the end depends on no order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sweep.planning.plan import Cell, Chain
from sweep.planning.rungs import SCORED, Stage
from sweep.tuning import Tried, ranked


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
    stages: tuple[Stage, ...]
    started: dict[int, Chain] = field(default_factory=dict)
    beaten: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._results: list[dict[int, Tried]] = [{} for _ in self.stages]

    @property
    def tried(self) -> dict[int, Tried]:
        """What proposals of later candidates may know: what all candidates have reached at the first stage."""
        return self._results[0]

    @property
    def winner(self) -> int | None:
        """The best of those that have come through the last stage, as far as is known."""
        return next(iter(ranked(self._results[-1])), None)

    @property
    def tuned(self) -> bool:
        """Whether the winner is known, or that there is none."""
        return self.complete(len(self.stages) - 1)

    @property
    def unscored_winner(self) -> bool:
        """Whether the last stage leaves the winner without scores."""
        return self.stages[-1].until is not SCORED

    def until(self, work: Work) -> float | None:
        """How far an attempt goes."""
        return SCORED if work.stage is None else self.stages[work.stage].until

    def since(self, work: Work) -> float:
        """From where it goes on."""
        return self.stages[work.stage - 1].until or 0.0 if work.stage else 0.0

    def note(self, stage: int, candidate: int, result: Tried) -> Iterator[int]:
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
