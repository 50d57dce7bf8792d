"""How much of the intermediate tasks is left after the target phase: one row per chain and task, and means over seeds.

Intervals are those of gains: seeds and test examples drawn together, all scores of a task on the same examples, so a
ratio of two of them is paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweep.planning.settings import CELL
from sweep.reporting.bootstrap import DEFAULT, Bootstrap, Floats, interval_of, metric_draws, over_seeds
from sweep.reporting.gains import grouped
from sweep.reporting.results import Result, setting_in
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

HEADS = ("before", "saved_head", "fresh_head")
FILE = "retention.csv"


def retention_frame(study: str, found: Sequence[Result]) -> pd.DataFrame:
    """Scores in 0..1 of every done chain and intermediate task; `retention` is saved_head / before. Empty without."""
    import pandas as pd

    rows = []
    for result in found:
        chain = result.chain
        for task, entry in sorted(result.score.retention.items()):
            names = (*CELL, "seed", "candidate", "role", "selected")
            values = {f"retention_{head}": entry[head] for head in HEADS}
            about = {name: entry[name] for name in ("split", "language", "metric", "examples", "majority")}
            ratio = entry["saved_head"] / entry["before"] if entry["before"] else None
            first = {"study": study, **{name: getattr(chain, name) for name in names}, "task": task}
            rows.append({**first, **about, **values, "retention": ratio, "chain": chain.key})
    return pd.DataFrame(rows)


def write_retention(frame: pd.DataFrame, folder: Path) -> None:
    """retention.csv; nothing where no chain was asked."""
    if not frame.empty:
        frame.to_csv(folder / FILE, index=False, float_format="%.10g", lineterminator="\n")


def estimate_retention(found: Sequence[Result], store: Store, bootstrap: Bootstrap = DEFAULT) -> pd.DataFrame:
    """Per cell and intermediate task, over the seeds of selected chains: each score and `kept` with interval ends.

    Columns: those of CELL, task, seeds, majority; then before, saved_head, fresh_head, kept
    (saved_head / before) and fresh_kept (fresh_head / before), each with _low and _high. Raises StoreError.
    """
    import pandas as pd

    asked = [result for result in found if result.chain.selected and result.score.retention]
    cells = grouped(asked, lambda r: tuple(r.chain.names.values()))
    rows: list[dict[str, object]] = []
    for name, members in cells:
        cell = dict(zip(CELL, name, strict=True))
        tasks = sorted(members[0].score.retention)
        rows += [{**cell, "task": task, **dict(_estimated(members, task, store, bootstrap))} for task in tasks]
    return pd.DataFrame(rows)


def _estimated(
    members: Sequence[Result], task: str, store: Store, bootstrap: Bootstrap
) -> Iterator[tuple[str, object]]:
    entry = members[0].score.retention[task]
    yield "seeds", len(members)
    yield "majority", entry["majority"]
    draws: dict[str, Floats] = {}
    for head in HEADS:
        if entry[head] is not None:
            tables = [store.statistics(r.score.key)[f"retention/{task}/{head}"] for r in members]
            draws[head] = over_seeds(list(metric_draws(np.stack(tables), entry["family"], bootstrap)), bootstrap)
    before = draws["before"]
    for name, head in (("kept", "saved_head"), ("fresh_kept", "fresh_head")):
        if head in draws and before[0] > 0:
            draws[name] = np.divide(draws[head], before, out=np.zeros_like(before), where=before > 0)
    for name in (*HEADS, "kept", "fresh_kept"):
        value, low, high = interval_of(draws[name], bootstrap) if name in draws else (np.nan,) * 3
        yield from ((name, value), (f"{name}_low", low), (f"{name}_high", high))


def retention_table(estimated: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """The same as texts, in points; what is kept in per cent of before."""
    import pandas as pd

    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "trained": setting_in(row).name,
            "target": row["target"],
            "task": row["task"],
            "before": _text(row, "before"),
            "after, saved head": _text(row, "saved_head"),
            "after, fresh head": _text(row, "fresh_head"),
            "kept with the saved head, %": _text(row, "kept"),
            "kept with a fresh head, %": _text(row, "fresh_kept"),
            "best constant answer": f"{100 * row['majority']:.1f}",
            "seeds": row["seeds"],
        }
        for row in estimated.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _text(row: Mapping[Any, Any], name: str) -> str:
    if row[name] != row[name]:
        return "–"
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"
