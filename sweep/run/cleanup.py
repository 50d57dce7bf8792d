"""Garbage of a study (`sweep gc`): weights that no chain needs any more, and their bytes on disk.

Only weights and half-done phases go: records, curves, scores and predictions stay, so a report says the same before and
after. What a later chain needs of that is trained again.

A cell is over when all its candidates and seeds are. Of one that is not, all phases are kept that its chains may have,
whatever hyperparameters it will choose of those that were tried anywhere: no others are in the store.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import contains
from pathlib import Path

from sweep.config.axes import Cell
from sweep.config.load import load
from sweep.plan.plan import Plan
from sweep.plan.preview import previews, short_plan
from sweep.plan.recipe import TARGET, Hyperparameters, Recipe, values_at
from sweep.plan.resolve import resolve
from sweep.run.study import prepared
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.index import superseded
from sweep.store.ledger import OVER, ChainRow, no_study, opened_to_read, results_of
from sweep.store.records import PhaseRecord
from sweep.terminal import table


@dataclass(frozen=True)
class Garbage:
    """Bytes on disk by key of a phase."""

    outdated: Mapping[str, int]  # weights of phases that the study file does not ask for
    half_done: Mapping[str, int]  # phases that no chain will resume
    finished: Mapping[str, int]  # weights of phases from which no chain is left to start


def collect(path: Path, *, delete: bool = False, finished: bool = False) -> Garbage:
    """Garbage of a study. With `delete` it is deleted, of finished phases with `finished` alone. Raises SweepError."""
    study = load(path)
    results = results_of(study)
    if not (results / paths.LEDGER).exists():
        raise no_study(results)
    if not delete:  # changes nothing, and may be done beside a run
        store = Store(results / paths.STORE)
        with opened_to_read(results / paths.LEDGER) as ledger:
            return _garbage(resolve(study, path, ledger.facts()), ledger.chains(), store)
    with prepared(path) as (plan, ledger, folder):
        store = Store(folder / paths.STORE)
        garbage = _garbage(plan, ledger.chains(), store)
        for key in (*garbage.outdated, *(garbage.finished if finished else ())):
            store.release(key)
        for key in garbage.half_done:
            store.abandon(key)
    return garbage


def _garbage(plan: Plan, rows: Sequence[ChainRow], store: Store) -> Garbage:
    records = [record for key in store.keys(paths.PHASES) if (record := store.phase(key)) is not None]
    tried = _Tried(rows, records)
    planned, needed = _phases(plan, plan.cells, tried) | _previewed(plan), _phases(plan, _left(plan, rows), tried)
    held = {record.key: size for record in records if (size := store.bytes_held(record))}
    runtime = plan.study.runtime
    won = {key for row in rows if row.selected and runtime.keep_winners for key in row.phases[-1:]}
    kept = {
        record.key for record in records if record.kind == TARGET and (runtime.keep_target_weights or record.key in won)
    }
    return Garbage(
        outdated={key: size for key, size in held.items() if key not in planned},
        half_done={key: store.bytes_begun(key) for key in store.keys(paths.SCRATCH) if key not in needed},
        finished={key: size for key, size in held.items() if key in planned - needed - kept},
    )


def _left(plan: Plan, rows: Sequence[ChainRow]) -> Iterator[Cell]:
    """Cells of which a chain may still run."""
    earlier = set(superseded(plan, rows))
    over = Counter(row.cell.name for row in rows if row.state in OVER and row.key not in earlier)
    for cell in plan.cells:
        if over[cell.name] < plan.candidates(cell) + len(plan.study.axes.seed) - 1:
            yield cell


class _Tried:
    """Points of search spaces at which chains and phases were begun."""

    def __init__(self, rows: Sequence[ChainRow], records: Sequence[PhaseRecord]) -> None:
        self._rows, self._records = rows, records
        self._points: dict[str, list[Hyperparameters]] = {}  # by digest of a recipe

    def of(self, recipe: Recipe) -> list[Hyperparameters]:
        """Those of a phase's recipe, the one that tuning begins with among them."""
        if recipe.digest not in self._points:
            known: list[Hyperparameters] = [row.hyperparameters for row in self._rows]
            recorded = (record.recipe for record in self._records)
            known += [recipe.read(one) for one in recorded if one.get("kind") == recipe.kind]
            points = {tuple(tried.get(name) for name in recipe.grid) for tried in known}
            of_grid = [point for point in points if all(map(contains, recipe.grid.values(), point))]
            begun = tuple(values_at(recipe.grid, recipe.beginning).values())
            self._points[recipe.digest] = [dict(zip(recipe.grid, point, strict=True)) for point in {begun, *of_grid}]
        return self._points[recipe.digest]


def _phases(plan: Plan, cells: Iterable[Cell], tried: _Tried) -> set[str]:
    """Keys of all phases that chains of these cells may have at points that were tried."""
    keys = set[str]()
    for cell, seed in itertools.product(cells, plan.study.axes.seed):
        for points in itertools.product(*map(tried.of, plan.recipes(cell))):
            chain = plan.chain(cell, {name: value for point in points for name, value in point.items()}, seed)
            keys.update(phase.key for phase in chain.phases)
    return keys


def _previewed(plan: Plan) -> set[str]:
    """Keys of the short phases of a preview."""
    return {phase.key for chain in previews(short_plan(plan)) for phase in chain.phases}


def text(garbage: Garbage, path: Path, *, delete: bool, finished: bool) -> str:
    """Text of the command: number and size of each kind of garbage, and how to delete it."""
    groups = {
        "weights of phases that are not in the study file's plan": garbage.outdated,
        "half-done phases that no chain will resume": garbage.half_done,
        "weights of finished phases that no chain is left to warm-start from": garbage.finished,
    }
    rows = [(f"{sum(sizes.values()) / 1e9:.3f} GB", str(len(sizes)), name) for name, sizes in groups.items()]
    lines = [table(rows, numbers={0, 1})]
    if not delete:
        lines.append(
            f"nothing deleted: 'sweep gc {path} --delete' deletes the first two, with --finished all three;"
            " records and scores stay, and weights that a later chain needs are trained again"
        )
    else:
        lines.append(
            "deleted" if finished else "deleted, except those of finished phases (--finished deletes them too)"
        )
    return "\n".join(lines)
