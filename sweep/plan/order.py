"""Coverage order of the cells, warm starts of their tuning, and the summary of a plan that `sweep plan` prints.

Baselines come first, then the others, both along the diagonals of their grid: after any number of cells the values of
an axis have been tried equally often, give or take one. Where some intermediates lack some sources, that holds for the
pairs that there are, and for either axis as nearly as they allow.

Among cells that cover equally the one with the least marginal cost comes first: the FLOPs of its first chain that no
earlier cell of the order has paid for. That is a matter of the plan alone, of stated sizes, never of what was measured
or of what a store happens to hold: one worker and forty, a first run and a resumed one, have the same order.

A cell's tuning starts warm, per kind of phase with a choice, at the best hyperparameters of the first cell of the order
that trains this phase: mostly the baseline says which ones the target takes, and the first target which ones the
intermediate phase takes, whose result is in the store by then. They are taken from a cell that is judged by a phase of
the same kind alone: what is best for the intermediate task itself may be nothing for a target after it. Which cell that
is follows from the plan, never from which was finished first. Cells that train the very same phases start from the same
cells, so they remain alike. A cell that tries its whole grid has no warm start.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Any

from sweep.config.axes import CROSSED, PAIRED, Cell, cell_columns, settings_axes
from sweep.config.spaces import Value, value_text
from sweep.plan.cost import Costs, Work
from sweep.plan.halving import cell_by_cell, stages
from sweep.plan.hardware import Price
from sweep.plan.plan import Plan
from sweep.plan.recipe import TARGET, Chain
from sweep.plan.speed import DeviceTime, Place, Speed
from sweep.terminal import table

Parts = Mapping[str, float]  # key -> FLOPs of all that a chain needs


@dataclass(frozen=True)
class Covered:
    """A cell whose first chain a budget pays, in the budget's unit."""

    cell: Cell
    amount: float  # what the chain adds to the cells before it
    spent: float  # with all of those


@dataclass(frozen=True)
class Coverage:
    """The first chain of every cell, what they cost, and in which order they are tried."""

    plan: Plan
    costs: Costs

    @cached_property
    def firsts(self) -> list[Parts]:
        """Per cell, key -> FLOPs of its first candidate; of all its candidates where cells are tuned one by one."""
        return [self._needs(cell) for cell in self.plan.cells]

    def _needs(self, cell: Cell) -> Parts:
        needed: dict[str, float] = {}
        for chain in self._first_chains(cell):
            needed |= self.costs.planned(chain)
        return needed

    def _first_chains(self, cell: Cell) -> Iterator[Chain]:
        count = self.plan.candidates(cell) if cell_by_cell(self.plan.study) else 1
        return (self._chain(cell, number) for number in range(count))

    def _chain(self, cell: Cell, number: int) -> Chain:
        return self.plan.chain(cell, self.plan.planned(cell, number), self.plan.study.axes.seed[0], number)

    @cached_property
    def order(self) -> list[int]:
        """Indices of cells in the order in which they are first tried."""
        if self.costs.measured:
            return coverage_order(self.plan)
        place = {cell: index for index, cell in enumerate(self.plan.cells)}
        prices = {cell: sum(parts.values()) for cell, parts in zip(self.plan.cells, self.firsts, strict=True)}
        done: set[str] = set()
        ordered: list[int] = []
        for trained in (False, True):
            part = [cell for cell in self.plan.cells if bool(cell.intermediate) == trained]
            for cells in _rounds(_along_diagonals(part, prices), part):
                ordered += _cheapest_first([place[cell] for cell in cells], self.firsts, done)
        return ordered

    def covered(self, speed: Speed) -> Iterator[Covered]:
        """The cells that the study's budget covers with at least their first candidate; without one, all of them.

        What cannot be paid is passed over, and something cheaper behind it may still be tried.
        """
        budget = self.plan.study.budget
        done: set[str] = set()
        spent = 0.0
        for index in self.order:
            cell, parts = self.plan.cells[index], self.firsts[index]
            in_flops = budget is None or budget.unit == "flops"
            amount = _missing(parts, done) if in_flops else self._device_seconds(cell, parts, done, speed)
            if budget is None or spent + amount <= budget.amount:
                spent += amount
                done.update(parts)
                yield Covered(cell, amount, spent)

    def least(self, speed: Speed) -> float:
        """Cost of the cheapest first chain alone, in the budget's unit (device-seconds where there is no budget)."""
        budget, amounts = self.plan.study.budget, []
        for cell in self.plan.cells:
            chain = self._chain(cell, 0)
            flops = self.costs.attempt(chain, chain.phases, stages(self.plan, cell)[0].pause_at)
            amounts.append(sum(speed.amount(budget, work) for work in self.costs.works(chain, flops).values()))
        return min(amounts, default=0.0)

    def _device_seconds(self, cell: Cell, parts: Parts, done: Set[str], speed: Speed) -> float:
        """Forecast for those of a cell's parts that are not done."""
        works: dict[str, Work] = {}
        for chain in self._first_chains(cell):
            needed = self.costs.planned(chain).keys() - done
            works |= self.costs.works(chain, {key: parts[key] for key in needed})
        return sum(map(speed.device_seconds, works.values()))


def coverage_order(plan: Plan) -> list[int]:
    """Indices of cells in the order in which they are first tried."""
    return Coverage(plan, Costs(plan)).order


# Cells that cover equally


def _rounds(cells: Iterable[Cell], part: list[Cell]) -> Iterator[list[Cell]]:
    """Consecutive cells of a balanced order that may change places: values of each are among the least tried.

    No value occurs twice in them, axes with a single value apart, so any order of them is as balanced.
    """
    values = {axis: known for axis in _axes(part) if len(known := set(_values(part, axis))) > 1}
    tried = {axis: Counter(dict.fromkeys(known, 0)) for axis, known in values.items()}
    behind: dict[str, set[Any]] = {axis: set(known) for axis, known in values.items()}
    group: list[Cell] = []
    for cell in cells:
        if any(cell.value(axis) not in least for axis, least in behind.items()):
            if group:
                yield group
            group = []
            behind = {axis: least or _least_tried(tried[axis]) for axis, least in behind.items()}
        group.append(cell)
        for axis, least in behind.items():
            least.discard(cell.value(axis))
            tried[axis][cell.value(axis)] += 1
    if group:
        yield group


def _least_tried(tried: Counter[Any]) -> set[Any]:
    least = min(tried.values())
    return {value for value, count in tried.items() if count == least}


def _cheapest_first(cells: list[int], firsts: Sequence[Parts], done: set[str]) -> list[int]:
    """The cells by marginal cost, that of each after those before it; equally cheap ones as they come."""
    users: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        for key in firsts[cell]:
            users.setdefault(key, []).append(place)
    missing = [_missing(firsts[cell], done) for cell in cells]
    heap = [(flops, place) for place, flops in enumerate(missing)]
    heapify(heap)
    ordered: dict[int, int] = {}
    while len(ordered) < len(cells):
        flops, place = heappop(heap)
        if place in ordered or flops != missing[place]:
            continue  # a price from before some of it was paid
        ordered[place] = cells[place]
        new = [key for key in firsts[cells[place]] if key not in done]
        done.update(new)
        for user in {user for key in new for user in users[key] if user not in ordered}:
            missing[user] = _missing(firsts[cells[user]], done)
            heappush(heap, (missing[user], user))
    return list(ordered.values())


def _missing(parts: Parts, done: Set[str]) -> float:
    return sum(flops for key, flops in parts.items() if key not in done)


# The balanced order


def _along_diagonals(cells: list[Cell], prices: Mapping[Cell, float]) -> Iterator[Cell]:
    """Cells, whose settings (intermediate and source) come with values of the other axes, evenly on every axis.

    The cheapest values of all axes meet first. Points of the grid that are no cells of their own, as volumes above the
    size of an intermediate task's data, are passed over.
    """
    values = {axis: _by_price(cells, axis, prices) for axis in _axes(cells)}
    # Settings come first: the first axis is never shifted, so its own even order is kept.
    settings = _evenly({(cell.intermediate, cell.source) for cell in cells}, values["intermediate"], values["source"])
    points: list[tuple[Any, ...]] = list(settings)
    paths = settings_axes(values)
    for axis in (*CROSSED, *paths):
        points = _diagonals(points, values[axis])
    there, count = set(cells), len(PAIRED) + len(CROSSED)
    for point in points:
        named = dict(zip((*PAIRED, *CROSSED), point[:count], strict=True))
        if (cell := Cell(**named, settings=tuple(zip(paths, point[count:], strict=True)))) in there:
            yield cell


def _axes(cells: Sequence[Cell]) -> tuple[str, ...]:
    return cell_columns(cells[0].columns() if cells else ())


def _values(cells: Iterable[Cell], axis: str) -> list[Any]:
    return list(dict.fromkeys(cell.value(axis) for cell in cells))


def _by_price(cells: list[Cell], axis: str, prices: Mapping[Cell, float]) -> list[Any]:
    """Values of an axis, by what the cheapest cell with them costs alone; equally cheap ones as the study has them."""
    least: dict[Any, float] = {}
    for cell in cells:
        value = cell.value(axis)
        least[value] = min(least.get(value, math.inf), prices[cell])
    return sorted(least, key=least.__getitem__)


def _diagonals(points: list[tuple[Any, ...]], values: list[Any]) -> list[tuple[Any, ...]]:
    """Every point with every value: both go round and round until all pairs are there.

    A common divisor needs a shift of the values after each full turn.
    """
    turns, length = math.gcd(len(points), len(values)), math.lcm(len(points), len(values))
    return [
        (*points[step % len(points)], values[(step + shift) % len(values)])
        for shift in range(turns if points else 0)
        for step in range(length)
    ]


def _evenly(settings: Set[tuple[Any, Any]], names: list[Any], sources: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Settings such that intermediates and sources have been tried about equally often at any time.

    The setting whose two sides were tried least comes next, of several the one whose intermediate was. Along the
    diagonals of a full grid that is the diagonals themselves; a grid with gaps is covered as evenly as it allows.
    """
    grid = _diagonals([(name,) for name in names], sources)
    left, tried = [(name, source) for name, source in grid if (name, source) in settings], Counter[object]()
    while left:
        chosen = min(left, key=lambda pair: (tried[pair[0]] + tried[pair[1]], tried[pair[0]]))
        left.remove(chosen)
        tried.update(chosen)
        yield chosen


WarmStarts = Mapping[str, int]  # kind of phase -> index of the cell whose hyperparameters for it are taken up


def warm_starts(plan: Plan, order: Sequence[int]) -> dict[int, WarmStarts]:
    """Index of a cell -> its warm starts, for cells in the order in which they are first tried."""
    first: dict[tuple[object, ...], int] = {}
    alike: dict[tuple[object, ...], WarmStarts] = {}
    starts = {}
    for index in order:
        cell = plan.cells[index]
        recipes = plan.recipes(cell)
        same = (cell.encoder, *((recipe.digest, recipe.rates, recipe.beginning) for recipe in recipes))
        if same not in alike:
            judged = recipes[-1].kind if recipes else ""
            tuned = [recipe for recipe in recipes if recipe.points > 1]
            places = {recipe.kind: (cell.encoder, judged, recipe.digest, recipe.rates) for recipe in tuned}
            known = {kind: first[place] for kind, place in places.items() if place in first}
            alike[same] = known if plan.has_choice(cell) else {}
            for place in places.values():
                first.setdefault(place, index)
        starts[index] = alike[same]
    return starts


# The summary that is printed

SHOWN_CELLS = 100  # that a budget covers, in print


def summary(plan: Plan, costs: Costs, speed: Speed) -> dict[str, object]:
    """Summary of a plan as `sweep plan --json` prints it: counts, FLOPs, what the budget covers.

    `flops_last` is the part of `flops_shared` that would be left if all phases before the target phase were free.
    """
    chains = phases = 0
    unshared = 0.0
    distinct: dict[str, float] = {}
    needed: dict[str, float] = {}
    works: dict[Place, Work] = {}
    amounts: dict[Place, tuple[float, int]] = {}  # FLOPs and parts
    kinds: set[str] = set()
    last: set[str] = set()
    first = Coverage(plan, costs)
    for chain in plan.planned_chains():
        parts = costs.parts(chain)
        chains += 1
        phases += len(chain.phases)
        unshared += sum(parts.values())
        distinct.update(parts)
        planned = costs.planned(chain)
        new = {key: flops for key, flops in planned.items() if key not in needed}
        needed |= new
        for key, flops in new.items():
            work = costs.kind(chain, key)
            before, count = amounts.get(work.place, (0.0, 0))
            works[work.place], amounts[work.place] = work, (before + flops, count + 1)
        kinds.update(phase.key for phase in chain.phases)
        last.update(phase.key for phase in chain.phases if phase.recipe.kind == TARGET)
        last.add(chain.score)
    alike = [replace(works[place], flops=flops, parts=count) for place, (flops, count) in amounts.items()]
    return {
        "study": plan.study.study,
        "encoders": {
            name: {"licence": source.entry.licence, "text": source.entry.text} for name, source in plan.encoders.items()
        },
        "cells": len(plan.cells),
        "chains": chains,
        "phases_unshared": phases,
        "phases_distinct": len(kinds),
        "flops_unshared": unshared,
        "flops_shared": sum(distinct.values()),
        "flops_last": sum(flops for key, flops in distinct.items() if key in last),
        "flops_planned": sum(needed.values()),  # what eliminated candidates are spared left out
        "device_time": asdict(speed.device_time(alike)),
        "covered_by_budget": sum(1 for _ in first.covered(speed)),
        "least_budget": first.least(speed),
        # Their candidates are planned as if no dev score were known: what they share of earlier phases may differ.
        "cells_tuned_by_scores": sum(map(plan.has_choice, plan.cells)),
        "tuned": {name: list(values) for name, values in _tuned(plan).items()},
        "flags": list(plan.flags),
    }


def _tuned(plan: Plan) -> dict[str, tuple[Value, ...]]:
    """Name of a hyperparameter -> values to choose from, where there are several; of any cell."""
    grids = {name: values for cell in plan.cells for name, values in plan.grid(cell).items()}
    return {name: values for name, values in grids.items() if len(values) > 1}


def coverage(plan: Plan, costs: Costs, speed: Speed) -> list[dict[str, object]]:
    """The cells that the budget covers, in the order in which they are tried; amounts in the budget's unit."""
    cells = Coverage(plan, costs).covered(speed)
    return [{"cell": covered.cell.name, "amount": covered.amount, "spent": covered.spent} for covered in cells]


def plan_text(planned: Plan, numbers: Mapping[str, Any], speed: Speed, price: Price | None = None) -> str:
    """Summary of a plan as text. `numbers` is `summary`, with "coverage" where that is to be shown."""
    axes = planned.study.axes.texts()
    lines = [f"study {numbers['study']}", table([(name, ", ".join(values)) for name, values in axes.items()], indent=2)]
    ratio, limit = (numbers["flops_unshared"] / max(numbers[part], 1) for part in ("flops_shared", "flops_last"))
    shared = f"{ratio:.1f} times; {limit:.1f} at most, were all phases before the target phase free"
    lines += [
        f"{numbers['cells']:,} cells, {numbers['chains']:,} chains",
        f"{numbers['phases_distinct']:,} distinct phases instead of {numbers['phases_unshared']:,}",
        f"{numbers['flops_shared']:.3g} FLOPs, {numbers['flops_unshared']:.3g} one chain at a time ({shared})",
    ]
    if numbers["flops_planned"] < numbers["flops_shared"]:
        ratio = numbers["flops_unshared"] / max(numbers["flops_planned"], 1)
        lines.append(
            f"{numbers['flops_planned']:.3g} FLOPs ({ratio:.1f} times) without what eliminated candidates are spared"
        )
    lines.append(_time_line(DeviceTime(**numbers["device_time"]), price))
    if by_scores := numbers["cells_tuned_by_scores"]:
        guessed = "planned as if none were known: they may share other phases than that"
        lines.append(f"{by_scores:,} cells choose hyperparameters by dev scores, {guessed}")
    lines += [
        f"tuned: {name if '.' in name else f'{name}.learning_rate'} in {', '.join(map(value_text, values))}"
        for name, values in numbers["tuned"].items()
    ]
    budget = planned.study.budget
    whole = planned.study.scoring.chains == "winners" or planned.study.tuning.halving is not None
    what = "the tuning of" if whole else "the first candidate of"
    covered = f"covers {what} {numbers['covered_by_budget']:,} of {numbers['cells']:,} cells"
    if budget and not numbers["covered_by_budget"]:
        least = budget.model_copy(update={"amount": numbers["least_budget"]})
        covered = f"below the cheapest chain, which needs {least}"
    lines.append(f"budget {budget}: {covered}" if budget else "no budget: everything is run")
    if budget and budget.unit == "device_seconds":
        assumed = "an assumed speed; a run measures it with the first chain of each encoder"
        lines.append(f"  (forecast at {'the speed that this study has measured' if speed.measured else assumed})")
    lines += [f"note: {flag}" for flag in numbers["flags"]]
    return "\n".join([*lines, *_coverage_lines(numbers.get("coverage", []), budget)])


def _time_line(time: DeviceTime, price: Price | None) -> str:
    """Line on what the whole study takes of devices, and on what that costs."""
    costs = f", {price.written(price.of(time.low), price.of(time.high))} at {price}" if price is not None else ""
    return f"device time of all of it: {time}{costs}\n  ({time.basis})"


def _coverage_lines(cells: Sequence[dict[str, Any]], budget: Any) -> Iterator[str]:
    """The cells that a budget covers, in their order: what each adds, and what has been spent with it."""
    rows = []
    for number, entry in enumerate(cells[:SHOWN_CELLS], start=1):
        amount, spent = (budget.model_copy(update={"amount": entry[name]}) for name in ("amount", "spent"))
        rows.append((str(number), f"{entry['cell']}: {amount}, with those before {spent}"))
    if rows:
        yield table(rows, numbers={0}, indent=2)
    if len(cells) > SHOWN_CELLS:
        yield f"      and {len(cells) - SHOWN_CELLS:,} more (--json has all)"
