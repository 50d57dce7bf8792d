"""Whose tuning a cell begins from: cells that the order puts before it and that train one of its phases.

The first of them, for every kind of phase with rates to choose from: mostly the baseline says which rate the target
takes, and the first target which one the intermediate phase takes, whose result is in the store by then. A rate is
taken from a cell that is judged by a phase of the same kind alone: what is best for the intermediate task itself may be
nothing for a target after it.

Who that is follows from the plan, never from who was finished first. Cells that train the very same phases follow the
same cells, so they remain alike. A cell that tries its whole grid follows nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.plan.plan import Plan

Forerunners = Mapping[str, int]  # kind of phase -> index of the cell whose rate for it is taken up


def forerunners(plan: Plan, order: Sequence[int]) -> dict[int, Forerunners]:
    """Index of a cell -> its forerunners, for cells in the order in which they are first tried."""
    first: dict[tuple[object, ...], int] = {}
    alike: dict[tuple[object, ...], Forerunners] = {}
    found = {}
    for index in order:
        cell = plan.cells[index]
        recipes = plan.recipes(cell)
        same = (cell.encoder, *((recipe.digest, recipe.rates, recipe.beginning) for recipe in recipes))
        if same not in alike:
            judged = recipes[-1].kind if recipes else ""
            tuned = [recipe for recipe in recipes if len(recipe.rates) > 1]
            places = {recipe.kind: (cell.encoder, judged, recipe.digest, recipe.rates) for recipe in tuned}
            known = {kind: first[place] for kind, place in places.items() if place in first}
            alike[same] = known if plan.has_choice(cell) else {}
            for place in places.values():
                first.setdefault(place, index)
        found[index] = alike[same]
    return found
