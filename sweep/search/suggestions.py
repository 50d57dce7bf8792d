"""Learning rates of a cell's candidates: start-up points, then Optuna, then the winner.

Start-up points are fixed, but for the last one, the warm start: it takes up what was best in cells that the plan's
order puts before this one and that train one of its phases (sweep/plan/order.py), as far as candidates of the same
number go. Kinds of phase of which they know nothing keep the fixed point's rate.

A suggestion is a pure function of the cell and of the finished candidates before it. No Optuna study lives between
calls: each call makes one, adds the finished candidates, and asks once with a sampler seeded by (phases, number). So a
restart suggests what an undisturbed run would have, and one worker and forty give the same study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.config.axes import Cell
from sweep.keys import fingerprint
from sweep.plan.plan import Plan
from sweep.plan.recipe import Point, Rates, nearest, rates_at


@dataclass(frozen=True)
class CandidateResult:
    """Learning rates of a candidate and the dev score that they have reached."""

    rates: Mapping[str, float]  # by kind of phase
    dev: float | None  # 0..1; None where it failed or collapsed before its target phase
    collapsed: bool = False


def rates_for(plan: Plan, cell: Cell, candidate: int, before: Sequence[CandidateResult], known: Rates) -> Rates:
    """Rates of a cell's candidate after those `before` it, of which a start-up point asks for no dev score.

    `known` are the best rates of the cell's warm starts, by kind of phase; its last start-up point takes them up.
    """
    if plan.is_fixed(cell, candidate):
        return plan.planned_rates(cell, candidate)
    grid = plan.grid(cell)
    if candidate < plan.startup(cell):
        goal = _point(grid, {**plan.planned_rates(cell, candidate), **known})
    else:
        goal = _asked(_seed(plan, cell, candidate), grid, before)
    point = nearest([len(values) for values in grid.values()], goal, [_point(grid, result.rates) for result in before])
    return rates_at(grid, point)


def winner(tried: Mapping[int, CandidateResult]) -> int | None:
    """Number of the candidate with the highest dev score, the earlier among equals; None where all failed or collapsed.

    Where nothing was trained there is no dev score, and no choice: the only candidate wins.
    """
    return next(iter(ranked(tried)), None)


def ranked(tried: Mapping[int, CandidateResult]) -> list[int]:
    """Numbers of the candidates that have a dev score, the best first, the earlier first among equals."""
    finished = {number: result.dev for number, result in tried.items() if result.dev is not None}
    return sorted(finished, key=lambda number: (-finished[number], number))


def _seed(plan: Plan, cell: Cell, candidate: int) -> int:
    """Cells that train the same phases have the same dev scores: they ask the same questions, and share the answers."""
    phases = [recipe.digest for recipe in plan.recipes(cell)]
    return int(fingerprint([plan.encoders[cell.encoder].digest, phases, candidate])[:7], 16)


def _asked(seed: int, grid: Mapping[str, tuple[float, ...]], before: Sequence[CandidateResult]) -> Point:
    import optuna
    from optuna.distributions import IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        kind: IntDistribution(0, len(values) - 1) for kind, values in grid.items() if len(values) > 1
    }
    # The start-up points are ours and already there, so the model speaks from the first question on.
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for result in before:
        point = dict(zip(grid, _point(grid, result.rates), strict=True))
        params = {kind: point[kind] for kind in space}
        # Optuna forgets a failed trial, but a collapsed one says where not to look: no metric is below 0.
        value = 0.0 if result.collapsed else result.dev
        state = optuna.trial.TrialState.COMPLETE if value is not None else optuna.trial.TrialState.FAIL
        study.add_trial(optuna.create_trial(params=params, distributions=space, value=value, state=state))
    asked = study.ask(fixed_distributions=space).params
    return tuple(int(asked.get(kind, 0)) for kind in grid)


def _point(grid: Mapping[str, tuple[float, ...]], rates: Mapping[str, float]) -> Point:
    return tuple(values.index(rates[kind]) for kind, values in grid.items())
