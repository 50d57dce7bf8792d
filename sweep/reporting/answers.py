"""The study's answer in words: one sentence, and a table for the terminal. Frames in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweep.planning.axes import NONE, Arm
from sweep.reporting.gains import SOURCE, Estimates
from sweep.reporting.results import arms_in, labels
from sweep.reporting.statistics import CONFIDENCE, HELPS, HURTS, LEVEL, ONE_SEED
from sweep.terminal import split_table

if TYPE_CHECKING:
    import pandas as pd

Column = tuple[str, list[str]]  # heading, then a text per row; targets may be called as other columns are


def points(value: float) -> str:
    """A gain in 0..1 as signed points."""
    return f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def interval(low: float, high: float) -> str:
    """An interval of gains as signed points."""
    return f"[{points(low)}, {points(high)}]"


def gain_text(row: Mapping[Any, Any]) -> str:
    """Gain with interval, of a row that has gain, low and high; a dash where there is none."""
    return "–" if row["gain"] != row["gain"] else f"{points(row['gain'])} {interval(row['low'], row['high'])}"


def first_sentence(estimates: Estimates, progress: str = "no pair of chains is done") -> str:
    """Which setting gains most on average, and whether that is more than noise.

    A setting that was compared on less than half as many targets as another is not called best: a mean over one easy
    target is no answer. `progress` ends the sentence of a study that has nothing to compare yet.
    """
    overall = estimates.overall
    known = overall[overall["gain"].notna()] if len(overall) else overall
    if known.empty:
        return f"Nothing can be compared with no intermediate phase yet: {progress}."
    most = int(known["targets"].max())
    wide = known[2 * known["targets"] >= most]
    best = wide.sort_values("gain", ascending=False, kind="stable").iloc[0]
    targets = f"{best['targets']} targets" if best["targets"] == most else f"{best['targets']} of {most} targets"
    where = f"on average over {targets}" if best["targets"] > 1 else f"on {_only_target(estimates, best)}"
    number = f"{points(best['gain'])} points {interval(best['low'], best['high'])} ({_basis(estimates, len(known))})"
    choice = f", the best of {len(wide)} settings," if len(wide) > 1 else ""
    subject = f"{_setting(best.to_dict(), estimates.cells)}{choice}"
    if best["verdict"] == HELPS:
        return f"Training on {subject} before the target phase helps zero-shot transfer {where}: {number}."
    change = f"{subject} changes zero-shot scores by {number}{_clearest(estimates)}"
    if best["verdict"] == ONE_SEED:
        return f"One seed shows nothing about training noise: {where} {change}."
    if best["verdict"] == HURTS:
        return f"No intermediate phase helps {where}: even {change}."
    return f"No intermediate phase is shown to help {where}: {change}."


def _only_target(estimates: Estimates, best: pd.Series) -> str:
    cells = estimates.cells
    arm = Arm.of(best.to_dict())
    rows = [row for row in cells[cells["counted"]].to_dict("records") if Arm.of(row) == arm]
    return str(rows[0]["target"])


def _basis(estimates: Estimates, settings: int) -> str:
    seeds = int(estimates.cells["paired"].max())
    corrected = f"; what is claimed allows for the choice among {settings}" if settings > 1 and seeds > 1 else ""
    return f"{CONFIDENCE:.0%} interval over {f'{seeds} seeds and ' if seeds > 1 else ''}test examples{corrected}"


def _setting(row: Mapping[Any, Any], cells: pd.DataFrame) -> str:
    encoders = labels(cells["encoder"])
    named = Arm.of(row).label
    return named if len(encoders) == 1 else f"{named} with {encoders[row['encoder']]}"


def _clearest(estimates: Estimates) -> str:
    """The single cell that helps most, where the mean over targets shows no help."""
    cells = estimates.cells
    sure = cells[(cells["verdict"] == HELPS) & cells["counted"]]
    if sure.empty or cells["target"].nunique() < 2:
        return ""
    best = sure.sort_values("gain", ascending=False, kind="stable").iloc[0]
    return f"; on {best['target']} alone {_setting(best.to_dict(), cells)} gains {gain_text(best.to_dict())}"


def contrast_sentences(estimates: Estimates) -> Iterator[str]:
    """What another source language or mixed-in text changes, one sentence per setting, with seeds and interval."""
    for row in estimates.arms.to_dict("records"):
        subject = _setting(row, estimates.cells)
        if row["gain"] != row["gain"]:
            yield f"{subject} cannot be compared with {row['against']} yet."
            continue
        other = f"instead of {row['against']}" + ("" if row["differs"] == SOURCE else " alone")
        seeds = "1 seed" if row["paired"] == 1 else f"{row['paired']} seeds"
        where = f"on average over {row['targets']} targets" if row["targets"] > 1 else "on one target"
        yield f"{subject} {other}: {gain_text(row)} points {where} ({seeds}; {row['verdict']})."


def leading_table(estimates: Estimates, width: int | None = None) -> str:
    """Intermediate by target: gain in points with interval, * where it is claimed; as wide as the terminal at most."""
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
        found = {Arm.of(row): row for row in rows.to_dict("records")}
        columns.append((name, [_text(found.get(arm)) for arm in arms]))
    return columns


def _text(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return "–"
    mark = "*" if row["verdict"] in (HELPS, HURTS) else " "
    return gain_text(row).replace(" [", f"{mark} [", 1)
