"""Tables of the report: estimates as frames of texts, a line per cell, language, group, contrast or candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.planning.axes import ARM_COLUMNS, CELL_COLUMNS, NONE, Arm, Cell
from sweep.reporting.answers import gain_text
from sweep.reporting.results import arms_in

if TYPE_CHECKING:
    import pandas as pd


def cell_table(cells: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Cells as texts: absolute score and gain with intervals, verdict, counts; and the same without collapsed runs."""
    shaky = len(cells) > 0 and bool((cells["collapsed"] + cells["lost"]).any() or cells["value_without"].notna().any())
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
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
    """How many seeds of a cell collapsed, with scores or without, and what is left without them."""
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
    """Languages as texts."""
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
            "language": row["language"] + ("*" if row["is_source"] else ""),
            "intermediate": Arm.of(row).label,
            "score": _level(row, "value"),
            "gain": "" if row["intermediate"] == NONE else gain_text(row),
            "best constant answer": f"{100 * row['majority']:.1f}",
            "examples": row["examples"],
        }
        for row in _sorted(languages)
    ]
    return _frame(rows)


def group_table(groups: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """One line per cell, one column per group of languages; empty where the study names no groups."""
    if groups.empty or groups["group"].nunique() < 2:
        return _frame([])
    rows = []
    for name, members in groups.groupby(list(CELL_COLUMNS), sort=False):
        cell = Cell.of(dict(zip(CELL_COLUMNS, map(str, name), strict=True)))
        if cell.baseline:
            continue
        first = {"encoder": encoders[cell.encoder]} if len(encoders) > 1 else {}
        gains = {f"{row['group']} ({row['languages']})": gain_text(row) for row in members.to_dict("records")}
        rows.append({**first, "target": cell.target, "intermediate": cell.label, **gains})
    return _frame(rows).fillna("–")  # groups differ between encoders


def contrast_table(contrasts: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """One line per cell and what it is compared with."""
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
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
    """Tuning candidates as texts; the dev score is in points."""
    if tuning.empty:
        return tuning
    shown = tuning.copy().astype(object)
    shown["intermediate"] = [arm.label for arm in arms_in(tuning)]
    shown = shown.drop(columns=[name for name in ARM_COLUMNS if name not in ("encoder", "intermediate")])
    for name in [name for name in tuning if str(name).startswith("lr.")]:
        shown[name] = [_number(rate, ".3g") for rate in tuning[name]]
    shown["dev"] = [_number(100 * dev, ".1f") for dev in tuning["dev"].astype(float)]
    shown["selected"] = ["yes" if chosen else "" for chosen in tuning["selected"]]
    shown["encoder"] = [encoders[name] for name in tuning["encoder"]]
    return shown if len(encoders) > 1 else shown.drop(columns="encoder")


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _level(row: Mapping[Any, Any], name: str) -> str:
    if row[name] != row[name]:
        return "–"
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"


def _sorted(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Records by encoder, then target; settings keep their order."""
    records: list[dict[Any, Any]] = frame.to_dict("records")
    return sorted(records, key=lambda row: (row["encoder"], row["target"], row.get("language", "")))


def _frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
