"""Which chains of a ledger the study file no longer asks for.

A results folder outlives changes of its study file: an axis value or a seed is taken away, steps or rates are changed,
a data file is corrected. What was made before stays in the store and is used again where it is asked for, but a chain
of an earlier version is no result of this one. A ledger's row is of this version where the plan makes the same key
from the row's cell, rates, seed and candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweep.config.axes import Cell
from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE
from sweep.store.ledger import ChainRow


def outdated(plan: Plan, rows: Iterable[ChainRow]) -> Iterator[str]:
    """Keys of the chains that this plan would not make."""
    cells = {cell.name: cell for cell in plan.cells}
    for row in rows:
        cell = cells.get(row.cell.name)
        if cell is None or not _is_asked(plan, cell, row):
            yield row.key


def _is_asked(plan: Plan, cell: Cell, row: ChainRow) -> bool:
    first, *others = plan.study.axes.seed
    if row.seed not in ([first] if row.role == CANDIDATE else others):
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
