"""`sweep gc`: weights of a study that nobody needs any more, and what they take on disk.

Only weights and half-done phases go: records, curves, scores and predictions stay, so a report says the same before and
after. What a later chain needs of that is trained again.

A cell is over when all its candidates and seeds are. Of one that is not, all phases are kept that its chains may have,
whatever learning rates it will choose.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.config.axes import Cell
from sweep.config.load import load
from sweep.plan.plan import Plan
from sweep.plan.preview import previews, short_plan
from sweep.plan.recipe import TARGET
from sweep.plan.resolve import resolve
from sweep.run.study import prepared
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.index import superseded
from sweep.store.ledger import OVER, ChainRow, no_study, opened_to_read
from sweep.terminal import table


@dataclass(frozen=True)
class Garbage:
    """Key of a phase -> bytes on disk."""

    outdated: Mapping[str, int]  # weights of phases that the study file does not ask for
    half_done: Mapping[str, int]  # what was begun and no chain will go on with
    finished: Mapping[str, int]  # weights of phases from which no chain is left to start


def collect(path: Path, *, delete: bool = False, finished: bool = False) -> Garbage:
    """What nobody needs of a study; with `delete` it is gone, what is finished only where that is asked for too.

    Raises SweepError.
    """
    study = load(path)
    if not (study.results_folder / paths.LEDGER).exists():
        raise no_study(study.results_folder)
    if not delete:  # whoever only looks changes nothing, and may do so beside a run
        store = Store(study.results_folder / paths.STORE)
        with opened_to_read(study.results_folder / paths.LEDGER) as ledger:
            return _found(resolve(study, path, ledger.facts()), ledger.chains(), store)
    with prepared(path) as (plan, ledger, folder):
        store = Store(folder / paths.STORE)
        garbage = _found(plan, ledger.chains(), store)
        for key in (*garbage.outdated, *(garbage.finished if finished else ())):
            store.release(key)
        for key in garbage.half_done:
            store.abandon(key)
    return garbage


def _found(plan: Plan, rows: Sequence[ChainRow], store: Store) -> Garbage:
    asked, needed = _phases(plan, plan.cells) | _previewed(plan), _phases(plan, _left(plan, rows))
    records = [record for key in store.keys(paths.PHASES) if (record := store.phase(key)) is not None]
    held = {record.key: size for record in records if (size := store.bytes_held(record))}
    runtime = plan.study.runtime
    won = {key for row in rows if row.selected and runtime.keep_winners for key in row.phases[-1:]}
    wanted = {one.key for one in records if one.kind == TARGET and (runtime.keep_target_weights or one.key in won)}
    return Garbage(
        outdated={key: size for key, size in held.items() if key not in asked},
        half_done={key: store.bytes_begun(key) for key in store.keys(paths.SCRATCH) if key not in needed},
        finished={key: size for key, size in held.items() if key in asked - needed - wanted},
    )


def _left(plan: Plan, rows: Sequence[ChainRow]) -> Iterator[Cell]:
    """Cells of which a chain may still run."""
    old = set(superseded(plan, rows))
    over = Counter(row.cell.name for row in rows if row.state in OVER and row.key not in old)
    for cell in plan.cells:
        if over[cell.name] < plan.candidates(cell) + len(plan.study.axes.seed) - 1:
            yield cell


def _phases(plan: Plan, cells: Iterable[Cell]) -> set[str]:
    """Keys of all phases that chains of these cells may have, whatever rates they take."""
    found = set[str]()
    for cell, seed in itertools.product(cells, plan.study.axes.seed):
        grid = plan.grid(cell)
        for point in itertools.product(*grid.values()):
            chain = plan.chain(cell, dict(zip(grid, point, strict=True)), seed)
            found.update(phase.key for phase in chain.phases)
    return found


def _previewed(plan: Plan) -> set[str]:
    """Keys of the short phases of a preview."""
    return {phase.key for chain in previews(short_plan(plan)) for phase in chain.phases}


def text(garbage: Garbage, path: Path, *, delete: bool, finished: bool) -> str:
    """What the command prints."""
    groups = {
        "weights of phases that the study file does not ask for": garbage.outdated,
        "half-done phases that no chain will go on with": garbage.half_done,
        "weights of finished phases from which no chain is left to start": garbage.finished,
    }
    rows = [(f"{sum(sizes.values()) / 1e9:.3f} GB", str(len(sizes)), what) for what, sizes in groups.items()]
    lines = [table(rows, numbers={0, 1})]
    if not delete:
        lines.append(
            f"nothing was deleted: 'sweep gc {path} --delete' takes the first two, with --finished all three;"
            " records and scores stay, and what a later chain needs is trained again"
        )
    else:
        lines.append("deleted" if finished else "deleted, but for the finished ones (--finished takes them too)")
    return "\n".join(lines)
