"""Pictures of how results came about: learning curves, score against compute, spending and what sharing saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sweep.planning.axes import AMOUNTS, Arm
from sweep.planning.chains import PRETRAIN, TARGET
from sweep.records import PhaseRecord
from sweep.reporting.figures import (
    CHARACTER,
    GREY,
    INK,
    PAGE_WIDTH,
    PALE,
    STYLE,
    Styles,
    error_bars,
    legend,
    styles_without,
)
from sweep.reporting.results import Ended, Result, arms_in, labels

if TYPE_CHECKING:
    import pandas as pd

HEADS = {  # column -> label, colour, marker
    "before": ("before the target phase", GREY, "o"),
    "saved_head": ("after it, with the saved head", "#0072B2", "s"),
    "fresh_head": ("after it, with a fresh head", "#E69F00", "D"),
}
KIND_COLOURS = {
    "pretrain": "#bbbbbb",
    "trunk": "#56B4E9",
    "intermediate": "#0072B2",
    "target": "#E69F00",
    "stopped at a rung": "#D55E00",
    "scoring": "#009E73",
}


def curves(found: Sequence[Result | Ended], styles: Styles) -> Figure | None:
    """Dev score (or loss, where a phase has no dev data) by step; a panel per kind of phase, target and encoder.

    All seeds; a colour per arm, whatever its volume and budget.
    """
    encoders = labels(result.chain.cell.encoder for result in found)
    panels: dict[tuple[str, str, str], dict[str, tuple[Arm, PhaseRecord]]] = {}  # by kind, target and encoder
    for result in found:
        cell = result.chain.cell
        arm = cell.arm.without("encoder", *AMOUNTS)
        for phase in result.phases:
            target = cell.target if phase.kind == TARGET else ""
            lines = panels.setdefault((phase.kind, target, encoders[cell.encoder]), {})
            known = lines.get(phase.key, (arm, phase))[0]
            # A phase that several arms share, as pretraining, belongs to none of them.
            lines[phase.key] = (known if known == arm else Arm(), phase)
    names = [name for name in panels if any(phase.dev or phase.curve for _, phase in panels[name].values())]
    if not names:
        return None
    names.sort(key=lambda name: (name[0] == TARGET, name[0] != PRETRAIN, name))
    shown = styles_without(styles, *AMOUNTS)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, (2.3 if len(encoders) == 1 else 2.5) * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, name in zip(grid, names, strict=False):
            kind, target, encoder = name
            title = [f"{kind}: {target}" if target else kind, *([encoder] if len(encoders) > 1 else [])]
            _draw_curves(axes, "\n".join(title), list(panels[name].values()), shown)
        for axes in grid[len(names) :]:
            axes.set_axis_off()
        legend(figure, list(shown), shown)
    return figure


def _points(phase: PhaseRecord) -> tuple[list[float], list[float], str]:
    """Steps, values and what they are."""
    if phase.dev:
        return [point["step"] for point in phase.dev], [100 * point["value"] for point in phase.dev], "dev score"
    return [point["step"] for point in phase.curve], [point["loss"] for point in phase.curve], "loss"


def _draw_curves(axes: Axes, title: str, lines: Sequence[tuple[Arm, PhaseRecord]], shown: Styles) -> None:
    names = set()
    for arm, phase in lines:
        steps, values, name = _points(phase)
        names.add(name)
        # An arm that only ever collapsed has no cell, and no colour of its own.
        look: dict[str, Any] = {**shown.get(arm, {"color": GREY, "marker": "o"}), "markersize": 2.5}
        if len(steps) >= 12:
            look["marker"] = ""
        axes.plot(steps, values, linewidth=1.1, alpha=0.8, **look)
        if phase.collapsed and steps:
            axes.plot(steps[-1], values[-1], marker="x", color=INK, markersize=6)
    axes.set_title(title, size=9)
    axes.set(xlabel="step", ylabel=" / ".join(sorted(names)))
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.locator_params(axis="x", nbins=4)


def retention(estimated: pd.DataFrame) -> Figure | None:
    """Scores of intermediate tasks before and after the target phase, one panel per encoder and task."""
    if estimated.empty:
        return None
    panels = list(estimated.groupby(["encoder", "task"], sort=True))
    names, ticks = labels(estimated["encoder"]), [_trained(group) for _, group in panels]
    widest = max(len(tick) for group in ticks for tick in group) * CHARACTER
    columns = max(min(3, len(panels), int(PAGE_WIDTH / (widest + 2.4))), 1)
    heights = [1.0 + 0.3 * max(map(len, ticks[start : start + columns])) for start in range(0, len(panels), columns)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flatten()
        for axes, ((encoder, task), group), shown in zip(grid, panels, ticks, strict=False):
            _draw_retention(axes, group, shown)
            axes.set_title(task if len(names) == 1 else f"{task}, {names[str(encoder)]}")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        handles = [Line2D([], [], label=label, color=colour, marker=mark) for label, colour, mark in HEADS.values()]
        handles.append(Line2D([], [], label="best constant answer", color=INK, linestyle=":", linewidth=1))
        figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False)
    return figure


def _trained(group: pd.DataFrame) -> list[str]:
    """What was trained before which target, in a row each."""
    arms = [arm.label for arm in arms_in(group)]
    shown = arms if len(set(arms)) > 1 else [""] * len(arms)
    return [f"{name} → {target}".strip() for name, target in zip(shown, group["target"], strict=True)]


def _draw_retention(axes: Axes, group: pd.DataFrame, ticks: Sequence[str]) -> None:
    place = np.arange(len(group))
    for number, (head, (_, colour, mark)) in enumerate(HEADS.items()):
        rows = group.rename(columns={head: "value", f"{head}_low": "value_low", f"{head}_high": "value_high"})
        look: dict[str, Any] = {"color": colour, "marker": mark, "linestyle": "none", "markersize": 5}
        axes.errorbar(100 * rows["value"], place + 0.18 * (number - 1), xerr=error_bars(rows), **look)
    axes.vlines(100 * group["majority"], place - 0.4, place + 0.4, colors=INK, linestyles=":", linewidth=1)
    axes.set_yticks(place, ticks, size=8)
    axes.set(ylim=(len(group) - 0.4, -0.6), xlabel="score")
    axes.grid(axis="x", color=PALE, linewidth=0.6)


def spending(saved: pd.DataFrame) -> Figure | None:
    """Two bars per unit: every chain trained alone, and every phase trained once."""
    if saved.empty:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 2.0), layout="constrained")
        grid = figure.subplots(1, 2, sharey=True)
        for axes, unit, name in zip(grid, ("flops", "device_seconds"), ("compute", "device time"), strict=True):
            _draw_bars(axes, saved, unit)
            axes.set_title(name)
        handles = [matplotlib.patches.Patch(color=KIND_COLOURS[kind], label=kind) for kind in saved["kind"]]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(KIND_COLOURS), frameon=False)
    return figure


def _draw_bars(axes: Axes, saved: pd.DataFrame, unit: str) -> None:
    totals = {how: float(saved[f"{unit}_{how}"].sum()) for how in ("unshared", "shared")}
    for place, how in ((1, "unshared"), (0, "shared")):
        left = 0.0
        for row in saved.to_dict("records"):
            axes.barh(place, row[f"{unit}_{how}"], left=left, color=KIND_COLOURS[row["kind"]], height=0.62)
            left += row[f"{unit}_{how}"]
        text = amount(totals[how], unit)
        if how == "shared" and totals["unshared"]:
            text += f" ({1 - totals['shared'] / totals['unshared']:.0%} saved)"
        axes.annotate(text, (left, place), (5, 0), textcoords="offset points", va="center", size=9)
    axes.set_yticks([1, 0], ["one chain at a time", "phases shared"])
    axes.set_xlim(0, 1.45 * max(totals.values()) or 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def amount(value: float, unit: str) -> str:
    """FLOPs or device-seconds in words."""
    if unit == "flops":
        for size, name in ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} FLOP"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if value >= 1.5 * size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} seconds"
