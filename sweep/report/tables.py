"""Tables of the report as texts: gains for the terminal; for the page a frame per table, its cells texts already."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.config.axes import AMOUNTS, NONE, Arm, Cell, arm_columns, cell_columns
from sweep.config.spaces import value_text
from sweep.heartbeat import ACTIVITIES, COMPUTING
from sweep.report.gains import Estimates
from sweep.report.results import Result, Unscored, arms_in, cells_text, labels
from sweep.report.statistics import CONFIDENCE, HELPS, HURTS, LEVEL
from sweep.report.text import gain_text
from sweep.store.ledger import ChainRow
from sweep.store.records import PhaseRecord
from sweep.terminal import split_table

if TYPE_CHECKING:
    import pandas as pd

Column = tuple[str, list[str]]  # heading, then a text per row; a target may have the name of another column


def leading_table(estimates: Estimates, width: int | None = None) -> str:
    """Table of gains, intermediate by target, for the terminal: points with interval, * where claimed.

    At most `width` characters wide, by default the terminal's.
    """
    cells = estimates.cells
    compared = cells[cells["intermediate"] != NONE] if len(cells) else cells
    if compared.empty:
        return "no intermediate setting has a result yet"
    blocks = []
    for encoder, block in compared.groupby("encoder", sort=True):
        means = estimates.overall[estimates.overall["encoder"] == encoder]
        title = [f"encoder {encoder}"] if compared["encoder"].nunique() > 1 else []
        blocks.append("\n".join([*title, split_table(_columns(block, means), width)]))
    note = (
        f"gain over no intermediate phase in points, {CONFIDENCE:.0%} interval; "
        f"* not zero, at {LEVEL:.0%} for the whole table; – no result or no baseline"
    )
    return "\n\n".join([*blocks, note])


def _columns(block: pd.DataFrame, means: pd.DataFrame) -> list[Column]:
    arms = sorted(set(arms_in(block)), key=lambda arm: arm.order)
    columns = [("intermediate", [arm.label for arm in arms])]
    parts = [(str(target), rows) for target, rows in block.groupby("target", sort=True)]
    for name, rows in [*parts, *([("mean", means)] if len(parts) > 1 else [])]:
        by_arm = {Arm.of(row): row for row in rows.to_dict("records")}
        columns.append((name, [_text(by_arm.get(arm)) for arm in arms]))
    return columns


def _text(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return "–"
    mark = "*" if row["verdict"] in (HELPS, HURTS) else " "
    return gain_text(row).replace(" [", f"{mark} [", 1)


def cell_table(cells: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of cells: score and gain in points with intervals, verdict, counts; and the same without collapsed runs."""
    shaky = len(cells) > 0 and bool((cells["collapsed"] + cells["lost"]).any() or cells["value_without"].notna().any())
    rows = [
        {
            **_cell_columns(row, encoders),
            "intermediate": Arm.of(row).label,
            "zero-shot score": _level(row, "value"),
            "gain": "" if row["intermediate"] == NONE else gain_text(row),
            "verdict": "" if row["intermediate"] == NONE else row["verdict"],
            "seeds": row["seeds"],
            "languages": row["languages"],
            **(_collapsed(row) if shaky else {}),
            "note": "overlap" if row["overlap"] else "",
        }
        for row in _sorted(cells)
    ]
    return _frame(rows)


def _collapsed(row: Mapping[Any, Any]) -> dict[str, object]:
    """Columns of seeds of a cell that collapsed, with scores or without, and of its score without them."""
    seeds, gain = row["seeds"] + row["lost"], {"gain": row["gain_without"], "low": row["gain_without_low"]}
    counted = f"{row['collapsed'] + row['lost']} of {seeds}" + (
        f", {row['lost']} without scores" if row["lost"] else ""
    )
    return {
        "collapsed seeds": counted if row["collapsed"] + row["lost"] else "",
        "score without them": _level(row, "value_without"),
        "gain without them": gain_text({**gain, "high": row["gain_without_high"]}),
    }


def language_table(languages: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of cells and languages: score and gain in points with intervals, chance level, test examples."""
    rows = [
        {
            **_cell_columns(row, encoders),
            "language": row["language"] + ("*" if row["is_source"] else ""),
            "intermediate": Arm.of(row).label,
            "score": _level(row, "value"),
            "gain": "" if row["intermediate"] == NONE else gain_text(row),
            "chance level": f"{100 * row['majority']:.1f}",
            "examples": row["examples"],
        }
        for row in _sorted(languages)
    ]
    return _frame(rows)


def group_table(groups: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of gains, a row per cell, a column per group of languages; empty where the study names no groups."""
    if groups.empty or groups["group"].nunique() < 2:
        return _frame([])
    rows = []
    columns = list(cell_columns(groups))
    for name, members in groups.groupby(columns, sort=False):
        cell = Cell.of(dict(zip(columns, map(str, name), strict=True)))
        if cell.baseline:
            continue
        gains = {f"{row['group']} ({row['languages']})": gain_text(row) for row in members.to_dict("records")}
        rows.append({**_cell_columns(cell.columns(), encoders), "intermediate": cell.label, **gains})
    return _frame(rows).fillna("–")  # groups differ between encoders


def contrast_table(contrasts: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of contrasts, a row per cell and arm that it is compared with."""
    rows = [
        {
            **_cell_columns(row, encoders),
            "intermediate": Arm.of(row).label,
            "against": row["against"],
            "gain": gain_text(row),
            "verdict": row["verdict"],
            "seeds": row["paired"],
            "languages": row["languages"],
            "note": "overlap" if row["overlap"] else "",
        }
        for row in _sorted(contrasts)
    ]
    return _frame(rows)


def tuning_table(tuning: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of tuning candidates, a row each; dev scores in points."""
    if tuning.empty:
        return tuning
    shown = tuning.copy().astype(object)
    shown["intermediate"] = [arm.label for arm in arms_in(tuning)]
    columns = arm_columns(tuning)
    shown = shown.drop(columns=[name for name in columns if name not in ("encoder", "intermediate")])
    for name in [name for name in map(str, tuning) if "." in name and name not in columns]:
        form = ".3g" if name.startswith("lr.") else ".10g"
        shown[name] = [_number(value, form) for value in tuning[name].astype(float)]
    shown["dev"] = [_number(100 * dev, ".1f") for dev in tuning["dev"].astype(float)]
    shown["selected"] = ["yes" if chosen else "" for chosen in tuning["selected"]]
    shown["encoder"] = [encoders[name] for name in tuning["encoder"]]
    return shown if len(encoders) > 1 else shown.drop(columns="encoder")


def layer_table(results: Sequence[Result], encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of scores per layer read, means over languages and seeds; empty where no layers were compared."""
    means: defaultdict[tuple[Cell, int], list[float]] = defaultdict(list)
    counting: dict[tuple[str, str], int] = {}
    for result in results:
        cell, layers = result.chain.cell, result.score.layers
        if len(layers) < 2 or not result.chain.selected:
            continue
        counting[cell.encoder, cell.target] = result.score.settings["layers"][0]
        for layer, languages in layers.items():
            means[cell, int(layer)].append(sum(languages.values()) / len(languages))
    rows = [
        {
            **_cell_columns(cell.columns(), encoders),
            "intermediate": cell.label,
            "layer": layer,
            "score": f"{100 * sum(values) / len(values):.1f}",
            "counts": "yes" if layer == counting[cell.encoder, cell.target] else "",
        }
        for (cell, layer), values in means.items()
    ]
    return _frame(rows)


def retention_table(estimated: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of retention, a row per cell and intermediate task: scores in points, `kept` in per cent of before."""
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "trained": Arm.of(row).label,
            "target": row["target"],
            "task": row["task"],
            "before": _level(row, "before"),
            "after, saved head": _level(row, "saved_head"),
            "after, fresh head": _level(row, "fresh_head"),
            "kept with the saved head, %": _level(row, "kept"),
            "kept with a fresh head, %": _level(row, "fresh_kept"),
            "chance level": f"{100 * row['majority']:.1f}",
            "seeds": row["seeds"],
        }
        for row in estimated.to_dict("records")
    ]
    return _frame(rows)


def preview_table(frame: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of previews, a row per setting: log evidence in nats per label, gains in points."""
    rows = [
        {
            **_cell_columns(row, encoders),
            "rank": "–" if row["rank"] != row["rank"] else f"{row['rank']:.0f}",
            "intermediate": Arm.of(row, but=AMOUNTS).label,
            "log evidence": f"{row['evidence']:.4f}",
            "gain when run": "–" if row["gain"] != row["gain"] else f"{100 * row['gain']:+.1f}",
        }
        for row in frame.to_dict("records")
    ]
    return _frame(rows)


def regret_table(regrets: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of regrets in points, a row per encoder, target and number of settings kept."""
    rows = [
        {
            **_cell_columns(row, encoders),
            "settings kept": f"{row['kept']} of {row['of']}",
            "best gain": f"{100 * row['best']:+.1f}",
            "best gain among those kept": f"{100 * row['best_kept']:+.1f}",
            "regret": _regret(row),
        }
        for row in regrets.to_dict("records")
    ]
    return _frame(rows)


def _regret(row: Mapping[Any, Any]) -> str:
    text = f"{100 * row['regret']:.1f}"
    return text if row["low"] != row["low"] else f"{text} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def phase_table(results: Sequence[Result], collapsed: Sequence[Unscored]) -> pd.DataFrame:
    """Table of phases that collapsed or were tried again, a row each; scores in points."""
    runs: list[Result | Unscored] = [*results, *collapsed]
    encoders = labels(run.chain.cell.encoder for run in runs)
    chains: dict[str, list[ChainRow]] = {}
    for run in runs:
        for key in {phase.key for phase in run.phases}:
            chains.setdefault(key, []).append(run.chain)
    phases = {phase.key: phase for run in runs for phase in run.phases if phase.collapsed or _collapsed_tasks(phase)}
    phases |= {phase.key: phase for run in runs for phase in run.phases if len(phase.attempts) > 1}
    tuned = {key: _tuned(chains[key][0], phase.kind) for key, phase in phases.items()}
    rows = [
        {
            **({"encoder": encoders[chains[key][0].cell.encoder]} if len(encoders) > 1 else {}),
            **_described(phase),
            **({"tuned": tuned[key]} if any(tuned.values()) else {}),
            "cells": cells_text(chains[key], {}),
            "chains": len(chains[key]),
        }
        for key, phase in phases.items()
    ]
    return _frame(rows)


def time_table(times: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Table of where device time went: a row per activity, its share in all and in each kind of phase of an encoder."""
    if times.empty:
        return times
    columns = {
        f"{row['kind']} ({encoders[row['encoder']]})" if len(encoders) > 1 else str(row["kind"]): row
        for row in times.to_dict("records")
    }
    if len(columns) > 1:
        columns = {"all": times.drop(columns=["encoder", "kind"]).sum().to_dict(), **columns}
    totals = {name: sum(row[activity] for activity in ACTIVITIES) for name, row in columns.items()}

    def shares(*activities: str) -> dict[str, str]:
        amounts = {name: sum(row[activity] for activity in activities) for name, row in columns.items()}
        return {name: _number(100 * amount / totals[name], ".1f") for name, amount in amounts.items() if totals[name]}

    rows = [
        {"": "phases or scores", **{name: f"{row['count']:.0f}" for name, row in columns.items()}},
        {"": "device-seconds", **{name: f"{total:,.1f}" for name, total in totals.items()}},
        {"": "computing, %", **shares(*COMPUTING)},
        *({"": f"{name}, %", **shares(name)} for name in ACTIVITIES if times[name].any()),
        {"": "waited, seconds by the clock", **{name: f"{row['waited']:,.1f}" for name, row in columns.items()}},
    ]
    return _frame(rows).fillna("–")


def _described(phase: PhaseRecord) -> dict[str, object]:
    alone = ", ".join(_collapsed_tasks(phase))
    outcome = f"passed on, with {alone} collapsed" if alone else "passed on"
    if phase.collapsed:
        outcome = "not passed on" if phase.dead_end else "scored and marked"
    tried = [attempt["dev"] for attempt in phase.attempts] or [phase.dev_score]
    return {
        "phase": phase.kind,
        "tasks": "+".join(phase.recipe.get("tasks", ())),
        "seed": phase.recipe.get("seed", ""),
        "learning rate": f"{phase.recipe.get('learning_rate', float('nan')):.3g}",
        "dev score of each attempt": ", ".join("–" if dev is None else f"{100 * dev:.1f}" for dev in tried),
        "chance level": "–" if phase.majority is None else f"{100 * phase.majority:.1f}",
        "outcome": outcome,
    }


def _tuned(chain: ChainRow, kind: str) -> str:
    """Tuned values of a chain's phase of this kind, its learning rate apart."""
    own = ((name.partition("."), value) for name, value in chain.hyperparameters.items())
    return ", ".join(f"{key} {value_text(value)}" for (phase, _, key), value in own if phase == kind and key)


def _collapsed_tasks(phase: PhaseRecord) -> list[str]:
    """Tasks of a joint phase that collapsed while others did not."""
    return [name for name, entry in sorted(phase.tasks.items()) if entry["collapsed"] and not phase.collapsed]


def _cell_columns(row: Mapping[Any, Any], encoders: Mapping[str, str]) -> dict[str, str]:
    """Columns that name the encoder, where there are several, and the target of a row."""
    return {**({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}), "target": row["target"]}


def _sorted(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Records by encoder, then target; settings keep their order."""
    records: list[dict[Any, Any]] = frame.to_dict("records")
    return sorted(records, key=lambda row: (row["encoder"], row["target"], row.get("language", "")))


def _level(row: Mapping[Any, Any], name: str) -> str:
    if row[name] != row[name]:
        return "–"
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
