"""How much of the intermediate tasks is left after the target phase: one row per chain and task, and means over seeds.

Intervals are those of gains: seeds and test examples are drawn, all scores of a task are on the same examples, so a
ratio of two of them is paired; how much a seed changes a score is learned from all cells of an encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sweep.config.axes import Arm, Cell
from sweep.report.gains import grouped
from sweep.report.results import Result
from sweep.report.statistics import Floats, Integers, Model, Scores, fitted, ratio, scores_of
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.tasks import measure_of

if TYPE_CHECKING:
    import pandas as pd

BEFORE = "before"
HEADS = (BEFORE, "saved_head", "fresh_head")
RATIOS = {"kept": "saved_head", "fresh_kept": "fresh_head"}  # to before
WHAT = (*HEADS, *RATIOS)
Kept = Mapping[str, tuple[Mapping[str, Floats], Mapping[str, Integers]]]
"""key of scores -> statistics and units by name"""


def retention_frame(study: str, found: Sequence[Result]) -> pd.DataFrame:
    """Scores in 0..1 of every done chain and intermediate task; `retention` is saved_head / before. Empty without."""
    import pandas as pd

    rows = []
    for result in found:
        chain = result.chain
        for task, entry in sorted(result.score.retention.items()):
            run = {name: getattr(chain, name) for name in ("seed", "candidate", "role", "selected")}
            values = {f"retention_{head}": entry[head] for head in HEADS}
            about = {name: entry[name] for name in ("split", "language", "metric", "examples", "majority")}
            ratio = entry["saved_head"] / entry["before"] if entry["before"] else None
            first = {"study": study, **chain.cell.columns(), **run, "task": task}
            rows.append({**first, **about, **values, "retention": ratio, "chain": chain.key})
    return pd.DataFrame(rows)


def write_retention(frame: pd.DataFrame, folder: Path) -> None:
    """retention.csv; nothing where no chain was asked."""
    if not frame.empty:
        frame.to_csv(folder / paths.RETENTION_CSV, index=False, float_format="%.10g", lineterminator="\n")


def estimate_retention(found: Sequence[Result], store: Store) -> pd.DataFrame:
    """Per cell and intermediate task, over the seeds of selected chains: each score and `kept` with interval ends.

    Columns: those of the cell, task, seeds, majority; then before, saved_head, fresh_head, kept
    (saved_head / before) and fresh_kept (fresh_head / before), each with _low and _high. Raises StoreError.
    """
    import pandas as pd

    asked = [result for result in found if result.chain.selected and result.score.retention]
    models = _models(asked, store)
    rows: list[dict[str, object]] = []
    for cell, members in grouped(asked, _cell):
        for task, entry in sorted(members[0].score.retention.items()):
            first = {**cell.columns(), "task": task, "seeds": len(members), "majority": entry["majority"]}
            mine = {what: models.get((cell.encoder, task, what)) for what in WHAT}
            rows.append({**first, **dict(_estimated(cell, mine))})
    return pd.DataFrame(rows)


def _cell(result: Result) -> Cell:
    return result.chain.cell


def _before(cell: Cell) -> Arm:
    """What trained the intermediate phase: the cell without its target, except where they share a budget."""
    return cell.arm if cell.chain_budget is None else cell


def _models(asked: Sequence[Result], store: Store) -> dict[tuple[str, str, str], Model]:
    """(encoder, task, one of WHAT) -> its model; arms are cells, of `before` what trained the intermediate phase."""
    found: dict[tuple[str, str, str], Scores] = {}
    kept = {r.score.key: (store.statistics(r.score.key), store.units(r.score.key)) for r in asked}
    for encoder, task in dict.fromkeys(
        (r.chain.cell.encoder, task) for r in asked for task in sorted(r.score.retention)
    ):
        mine = [r for r in asked if r.chain.cell.encoder == encoder and task in r.score.retention]
        judged = {head: _scores(mine, kept, task, head) for head in HEADS}
        for name, head in RATIOS.items():
            if judged[head].runs:
                found[encoder, task, name] = ratio(judged[head], judged[BEFORE])
        # An intermediate phase that several target phases follow is one run.
        once = {(_before(_cell(r)), r.chain.seed): r for r in reversed(mine)}
        judged[BEFORE] = replace(_scores(list(once.values()), kept, task, BEFORE), runs=tuple(once))
        found |= {(encoder, task, head): scores for head, scores in judged.items() if scores.runs}
    return dict(zip(found, fitted(found.values()), strict=True))


def _scores(having: Sequence[Result], kept: Kept, task: str, head: str) -> Scores:
    """Of the runs that have this head, named by cell and seed."""
    known = [r for r in having if r.score.retention[task][head] is not None]
    judged = [kept[r.score.key][0][f"retention/{task}/{head}"] for r in known]
    units = [kept[r.score.key][1].get(f"retention/{task}") for r in known]
    about = having[0].score.retention[task]
    value = measure_of(about["family"], about["metric"]).value
    return scores_of([(_cell(r), r.chain.seed) for r in known], judged, value, units)


def _estimated(cell: Cell, models: Mapping[str, Model | None]) -> Iterator[tuple[str, object]]:
    for name, model in models.items():
        arm = _before(cell) if name == BEFORE else cell
        level = model.level(arm, share=name in HEADS) if model is not None else None
        low, high = (max(level.low, 0.0), level.high) if level else (np.nan, np.nan)
        yield from ((name, level.value if level else np.nan), (f"{name}_low", low), (f"{name}_high", high))
