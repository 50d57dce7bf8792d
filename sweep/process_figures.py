"""Pictures of how results came about: learning curves, score against compute, spending and what sharing saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.figures import GREY, INK, MARKERS, PAGE_WIDTH, PALE, STYLE, Styles, legend
from sweep.results import BASELINE, NO_VOLUME, Result, Setting, labels
from sweep.store import PhaseRecord

if TYPE_CHECKING:
    import pandas as pd

KIND_COLOURS = {"pretrain": "#bbbbbb", "intermediate": "#0072B2", "target": "#E69F00", "scoring": "#009E73"}


def curves(found: Sequence[Result], styles: Styles) -> Figure | None:
    """Dev score (or loss, where a phase has no dev data) by step, one panel per kind of phase and target; all seeds."""
    panels: dict[str, dict[str, tuple[Setting, PhaseRecord]]] = {}
    for result in found:
        setting = (result.chain.intermediate, result.chain.volume)
        for phase in result.phases:
            title = phase.kind if phase.kind != "target" else f"target: {result.chain.target}"
            # A phase that several settings share (pretraining) belongs to none of them.
            known = panels.setdefault(title, {}).get(phase.key)
            shared = known is not None and known[0] != setting
            panels[title][phase.key] = ((BASELINE, "-") if shared else setting, phase)
    drawn = [
        (title, list(lines.values()))
        for title, lines in panels.items()
        if any(_points(p)[0] for _, p in lines.values())
    ]
    if not drawn:
        return None
    drawn.sort(key=lambda panel: (panel[0].startswith("target"), panel[0] != "pretrain", panel[0]))
    columns = min(4, len(drawn))
    rows = -(-len(drawn) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 2.3 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (title, lines) in zip(grid, drawn, strict=False):
            _draw_curves(axes, title, lines, styles)
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        legend(figure, list(styles), styles)
    return figure


def _points(phase: PhaseRecord) -> tuple[list[float], list[float], str]:
    """Steps, values and what they are."""
    if phase.dev:
        return [point["step"] for point in phase.dev], [100 * point["value"] for point in phase.dev], "dev score"
    return [point["step"] for point in phase.curve], [point["loss"] for point in phase.curve], "loss"


def _draw_curves(axes: Axes, title: str, lines: Sequence[tuple[Setting, PhaseRecord]], styles: Styles) -> None:
    names = set()
    for setting, phase in lines:
        steps, values, name = _points(phase)
        names.add(name)
        colour = styles[setting]["color"]
        axes.plot(
            steps, values, color=colour, linewidth=1.1, alpha=0.8, marker="o" if len(steps) < 12 else "", markersize=2
        )
        if phase.collapsed and steps:
            axes.plot(steps[-1], values[-1], marker="x", color=INK, markersize=6)
    axes.set_title(title, size=9)
    axes.set(xlabel="step", ylabel=" / ".join(sorted(names)))
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.locator_params(axis="x", nbins=4)


def tradeoff(cells: pd.DataFrame, styles: Styles) -> Figure | None:
    """Mean zero-shot score against FLOPs of the chain alone, volumes of one intermediate joined; None with one."""
    volumes = {volume for name, volume in styles if name != BASELINE}
    if len(volumes) < 2:
        return None
    panels = list(cells.groupby("target", sort=True))
    encoders = sorted(set(cells["encoder"]))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 2.9 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (target, group) in zip(grid, panels, strict=False):
            for index, encoder in enumerate(encoders):
                _draw_tradeoff(axes, group[group["encoder"] == encoder], styles, MARKERS[index % len(MARKERS)])
            axes.set_title(str(target))
            axes.set(xscale="log", xlabel="FLOPs of the chain", ylabel="zero-shot score")
            axes.grid(color=PALE, linewidth=0.6)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        by_intermediate = {
            (name, "full" if name != BASELINE else "-"): look for (name, _), look in _first(styles).items()
        }
        shapes = dict(zip(labels(encoders).values(), MARKERS, strict=False)) if len(encoders) > 1 else {}
        legend(figure, list(by_intermediate), by_intermediate, shapes=shapes)
    return figure


def _first(styles: Styles) -> dict[Setting, Mapping[str, Any]]:
    """One look per intermediate, that of its first volume."""
    looks: dict[str, tuple[Setting, Mapping[str, Any]]] = {}
    for setting, look in styles.items():
        looks.setdefault(setting[0], (setting, look))
    return dict(looks.values())


def _draw_tradeoff(axes: Axes, group: pd.DataFrame, styles: Styles, marker: str) -> None:
    looks = {setting[0]: look for setting, look in _first(styles).items()}
    for intermediate, rows in group.groupby("intermediate", sort=False):
        ordered = rows.sort_values("flops")
        colour = looks[str(intermediate)]["color"]
        spread = [
            100 * (ordered["value"] - ordered["value_low"]).clip(0),
            100 * (ordered["value_high"] - ordered["value"]).clip(0),
        ]
        axes.errorbar(
            ordered["flops"], 100 * ordered["value"], spread, color=colour, marker=marker, markersize=5, linewidth=1.2
        )
        if intermediate == BASELINE:
            axes.axhline(100 * float(ordered["value"].iloc[0]), color=GREY, linewidth=0.8, linestyle="--")
        for row in ordered.to_dict("records"):
            if row["volume"] not in (NO_VOLUME, "full"):
                place = row["flops"], 100 * row["value"]
                axes.annotate(row["volume"], place, (4, -9), textcoords="offset points", size=7)


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
        figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False)
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
