"""Hyperparameters of a cell's candidates: start-up points, then Optuna, then the winner.

Start-up points are fixed, but for the last one, the warm start: it takes up what was best in cells that the plan's
order puts before this one and that train one of its phases (sweep/plan/order.py), as far as candidates of the same
number go. Kinds of phase of which they know nothing keep the fixed point's values.

A suggestion is a pure function of the cell and of the finished candidates before it. No Optuna study lives between
calls: each call makes one, adds the finished candidates, and asks once with a sampler seeded by (phases, number). So a
restart suggests what an undisturbed run would have, and one worker and forty give the same study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from sweep.config.axes import Cell
from sweep.config.spaces import Value
from sweep.keys import fingerprint
from sweep.plan.plan import Plan
from sweep.plan.recipe import Hyperparameters, Point, nearest, values_at

Grid = Mapping[str, tuple[Value, ...]]  # name of a hyperparameter -> values to choose from


@dataclass(frozen=True)
class CandidateResult:
    """Hyperparameters of a candidate and the dev score that they have reached."""

    hyperparameters: Hyperparameters
    dev: float | None  # 0..1; None where it failed or collapsed before its target phase
    collapsed: bool = False


def suggest(
    plan: Plan, cell: Cell, candidate: int, before: Sequence[CandidateResult], known: Hyperparameters
) -> Hyperparameters:
    """Hyperparameters of a cell's candidate after those `before` it, of which a start-up point asks for no dev score.

    `known` are the best ones of the cell's warm starts; its last start-up point takes them up.
    """
    if plan.is_fixed(cell, candidate):
        return plan.planned(cell, candidate)
    recipes, grid = plan.recipes(cell), plan.grid(cell)
    if candidate < plan.startup(cell):
        goal = _point(grid, {**plan.planned(cell, candidate), **known})
    else:
        unordered = set[str]().union(*(recipe.unordered for recipe in recipes))
        goal = _asked(_seed(plan, cell, candidate), grid, unordered, before)
    tried = [_point(grid, result.hyperparameters) for result in before]
    return values_at(grid, nearest([len(values) for values in grid.values()], goal, tried, last=len(recipes[-1].grid)))


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


def _asked(seed: int, grid: Grid, unordered: Set[str], before: Sequence[CandidateResult]) -> Point:
    import optuna
    from optuna.distributions import CategoricalDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        name: CategoricalDistribution(range(len(values))) if name in unordered else IntDistribution(0, len(values) - 1)
        for name, values in grid.items()
        if len(values) > 1
    }
    # The start-up points are ours and already there, so the model speaks from the first question on.
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, constant_liar=False)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for result in before:
        point = dict(zip(grid, _point(grid, result.hyperparameters), strict=True))
        params = {name: point[name] for name in space}
        # Optuna forgets a failed trial, but a collapsed one says where not to look: no metric is below 0.
        value = 0.0 if result.collapsed else result.dev
        state = optuna.trial.TrialState.COMPLETE if value is not None else optuna.trial.TrialState.FAIL
        study.add_trial(optuna.create_trial(params=params, distributions=space, value=value, state=state))
    asked = study.ask(fixed_distributions=space).params
    return tuple(int(asked.get(name, 0)) for name in grid)


def _point(grid: Grid, hyperparameters: Hyperparameters) -> Point:
    return tuple(values.index(hyperparameters[name]) for name, values in grid.items())
