"""A budget per chain as an axis: what goes with it, the least that would do, and what to know when reading it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sweep.config.axes import Cell
from sweep.config.phases import Phases
from sweep.config.study import Study
from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.plan import Plan
from sweep.plan.recipe import PRETRAIN


def check_chain_budgets(study: Study, path: Path) -> None:
    """Raises StudyError where it is not said once how long a phase is."""
    budgeted = study.axes.chain_budget is not None
    for place, settings in (
        ("pretrain", study.pretrain),
        ("intermediate", study.intermediate),
        ("target", study.target),
    ):
        if settings is None:
            continue
        by_budget = budgeted and settings is not study.pretrain
        overrides = settings.overrides if isinstance(settings, Phases) else {}
        said = [("", settings.model_dump()), *((f".overrides.{name}", found) for name, found in overrides.items())]
        lengths = [f"{place}{where}.{name}" for where, one in said for name in ("epochs", "steps") if one.get(name)]
        if by_budget and lengths:
            wanted = "axes.chain_budget says how long this phase is: leave it out"
            raise StudyError(f"{path}: {lengths[0]}", "a length", wanted)
        if not by_budget and settings.epochs is None and settings.steps is None:
            raise StudyError(f"{path}: {place}", "no length", "exactly one of 'epochs' and 'steps' is expected")


def check_affordable(plan: Plan, path: Path) -> None:
    """Raises StudyError where a budget is too small for one step of each phase of some chain, as far as is planned."""
    axis = plan.study.axes.chain_budget
    if axis is None:
        return
    costs = Costs(plan)
    least, cell = max(((_least(costs, cell), cell) for cell in plan.cells), key=lambda pair: pair[0])
    for index, flops in enumerate(axis.flops):
        if flops < least:
            wanted = (
                f"at least {least:.3g} is expected: one step of each phase of {replace(cell, chain_budget=None).name}"
            )
            raise StudyError(f"{path}: axes.chain_budget.flops[{index}]", f"{flops:g}", wanted)


def _least(costs: Costs, cell: Cell) -> float:
    recipes = [recipe for recipe in costs.plan.recipes(cell) if recipe.kind != PRETRAIN]
    assert cell.chain_budget is not None
    steps = ((costs.step(cell, recipe), (recipe.flops or 0.0) / cell.chain_budget) for recipe in recipes)
    return max((cost / share for cost, share in steps), default=0.0)


def budget_flags(study: Study) -> Iterator[str]:
    """What the plan says of an axis of chain budgets."""
    axis = study.axes.chain_budget
    if axis is None:
        return
    shares = f"{axis.shares.intermediate:g} to the intermediate, {axis.shares.target:g} to the target phase"
    yield (
        f"chain budgets: {shares}; a chain that trains only one of them gives it all, so all chains of a budget train"
        " with as many FLOPs; pretraining, dev evaluations and scoring are not counted"
    )
    if len(study.axes.volume) > 1 and study.intermediate is not None and study.intermediate.schedule == "wsd":
        yield "volumes share no steps: with chain budgets, those of one volume do"
