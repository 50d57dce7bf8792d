"""Successive halving inside one cell: rungs, promotions, and how far each candidate is planned to come.

A stage ends at a share of the target phase (a rung), at its end, or with scores. Candidates are compared when all of
their cell stand there, so who goes on depends on no clock. Cells whose target is not trained in, and those of one
candidate, have nothing to save: their candidates go to their scores at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.config.axes import Cell
from sweep.config.phases import LENGTHS, Phases, PhaseSettings
from sweep.config.study import Study
from sweep.errors import StudyError
from sweep.plan.plan import Plan
from sweep.plan.recipe import REPLICA, Chain
from sweep.tasks.task import Task

TRAINED = 1.0  # the end of the target phase
SCORED = None


@dataclass(frozen=True)
class Stage:
    """A stage of successive halving: where candidates pause, and how many of them are promoted."""

    pause_at: float | None  # share of the target phase's steps; None: to their scores
    keep: int


def stages(plan: Plan, cell: Cell) -> tuple[Stage, ...]:
    """Stages that the candidates of a cell go through; the one that is left after the last is the winner."""
    left = plan.candidates(cell)
    if left == 1 or not plan.tasks[cell.target].trained_in:
        return (Stage(SCORED, 1),)
    rungs = []
    halving = plan.study.tuning.halving
    for rung in halving.rungs if halving is not None else ():
        assert halving is not None
        left = math.ceil(left * halving.keep)
        rungs.append(Stage(rung, left))
    last = TRAINED if plan.study.scoring.chains == "winners" else SCORED
    return (*rungs, Stage(last, 1))


def cell_by_cell(study: Study) -> bool:
    """Whether one cell is tuned after another, because its winner is known only at its end; else in rounds."""
    return study.scoring.chains == "winners" or study.tuning.halving is not None


def planned_end(plan: Plan, chain: Chain) -> tuple[float, bool]:
    """(share of its target phase that a chain is trained for, whether it is scored), if the first candidates win."""
    if chain.role == REPLICA:
        return TRAINED, True
    for stage in stages(plan, chain.cell):
        if stage.pause_at is not SCORED and chain.candidate >= stage.keep:
            return stage.pause_at, False
    return TRAINED, True


def rung_step(steps: int, evaluations: int, rung: float) -> int:
    """The step of the dev evaluation at a rung; see evaluated_steps in sweep/train/loop.py."""
    return max(round(steps * round(rung * evaluations) / evaluations), 1)


def check_rungs(study: Study, tasks: Mapping[str, Task], path: Path) -> None:
    """Checks that every target phase has a dev score at each rung, of candidates that are alike. Raises StudyError."""
    halving, where = study.tuning.halving, f"{path}: tuning.halving"
    if halving is None:
        return
    variants = [settings for settings in study.variants("target") if isinstance(settings, Phases)]
    trained = [name for name in study.axes.target if tasks[name].trained_in]
    for settings, name in ((one.of((name,)), name) for one in variants for name in trained):
        if tuned := [key for key in _amounts(settings) if key in settings.spaces]:
            problem = f"target.{tuned[0]} with a search space: at a rung its candidates have not trained equally much"
            raise StudyError(where, problem, "one value of it, or no 'halving', is expected")
        if settings.schedule == "wsd":
            problem = f"the schedule wsd, whose decay alone is scored on dev (target {name})"
            raise StudyError(where, problem, "another schedule of the target phase, or no 'halving', is expected")
        for index, rung in enumerate(halving.rungs):
            if abs(rung * settings.evaluations - round(rung * settings.evaluations)) > 1e-9:
                problem = f"{rung:g}, where the target phase of {name} has no dev score"
                expected = f"one of {', '.join(_scored_at(settings.evaluations))} is expected"
                if settings.evaluations == 1:
                    expected = "target.evaluations of at least 2 is expected: halving compares them"
                raise StudyError(f"{where}.rungs[{index}]", problem, expected)


def _amounts(settings: PhaseSettings) -> Iterator[str]:
    """Numbers that say how much a phase trains. A rung compares what is left of the same amount.

    At equal shares of unequal lengths the longer run looks better than it is at its end, the more so the faster a cell
    still learns: cells would not be tuned alike. At equal steps the shorter run has decayed, and the longer one not.
    """
    yield from LENGTHS
    if settings.steps is not None:
        yield "batch_tokens"


def _scored_at(evaluations: int) -> Iterator[str]:
    return (f"{number / evaluations:.6g}" for number in range(1, evaluations))
