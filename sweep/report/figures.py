"""Figures of the report: frames in, matplotlib figures and SVG documents out.

No pyplot and no global state, so pictures can be drawn in any thread. Colours are safe for the colour-blind: brown to
teal around zero for gains, the palette of Okabe and Ito for arms.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from sweep.config.axes import AMOUNTS, AXES, NONE, NOTHING, Arm, phase_of
from sweep.config.phases import PHASES
from sweep.plan.recipe import INTERMEDIATE, PRETRAIN, TARGET
from sweep.report.gains import ZERO_SHOT, Estimates
from sweep.report.results import SCORING, STOPPED, Result, Unscored, arms_in, labels
from sweep.report.statistics import CONFIDENCE, HELPS, HURTS, LEVEL
from sweep.report.text import amount, interval, points
from sweep.store.records import PhaseRecord

if TYPE_CHECKING:
    import pandas as pd

INK, GREY, PALE = "#222222", "#777777", "#dddddd"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288", "#44AA99")
MARKERS = "osD^vP"
PAGE_WIDTH = 11.0  # inches
CELL = (1.18, 0.56)  # inches
MEAN, MEAN_GAP = "", 0.12  # the column of means; a target may be called "mean", none has no name
CHARACTER = 0.085  # inches of a label's character at 9 points
LEGEND_ROW = 0.19  # inches
SHOWN_ARMS = 4  # per panel of the language profile, with no intermediate phase
Block = dict[Arm, dict[str, Mapping[Any, Any]]]
Styles = Mapping[Arm, Mapping[str, Any]]  # by arm without its encoder
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",  # text stays text: small files, readable by search and screen readers
    "svg.hashsalt": "sweep",  # equal figures give equal bytes
}
LOW_RESOURCE = "low_resource"  # a study with a group of this name asks about it
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
ASIDE = 0.02  # of the distance between two ticks: intervals do not cover each other
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
    STOPPED: "#D55E00",
    SCORING: "#009E73",
}


def svg(figure: Figure | None) -> str:
    """SVG document of a figure, without metadata or references to anything outside it; "" where there is no figure."""
    if figure is None:
        return ""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.08
        )
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    return text.replace("'DejaVu Sans'", "'Helvetica Neue', Arial, 'DejaVu Sans'").strip()


def drawn_arms(frame: pd.DataFrame) -> list[Arm]:
    """Arm of each row of a frame, without its encoder: arms look alike whatever they begin from."""
    return [arm.without("encoder") for arm in arms_in(frame)]


def arm_styles(cells: pd.DataFrame) -> dict[Arm, dict[str, Any]]:
    """Colour and marker per arm without its encoder, the same in every picture; grey for no intermediate phase."""
    known = drawn_arms(cells)
    ordered = sorted({*known, *(arm.reference for arm in known), Arm()}, key=lambda arm: arm.order)
    compared = [arm for arm in ordered if not arm.baseline]
    without = {arm: {"color": GREY, "marker": "o"} for arm in ordered if arm.baseline}
    return {**without, **dict(zip(compared, looks(len(compared)), strict=True))}


def styles_without(styles: Styles, *axes: str) -> dict[Arm, dict[str, Any]]:
    """Colour and marker per arm without these axes: one for all arms that differ in them alone."""
    without = {arm.without(*axes): dict(look) for arm, look in styles.items() if arm.baseline}
    compared = list(dict.fromkeys(arm.without(*axes) for arm in styles if not arm.baseline))
    return {**without, **dict(zip(compared, looks(len(compared)), strict=True))}


def looks(count: int) -> list[dict[str, Any]]:
    """Colours and markers of `count` lines; no two of sixty are alike."""
    palette, markers = len(PALETTE), len(MARKERS)
    return [{"color": PALETTE[i % palette], "marker": MARKERS[i // palette % markers]} for i in range(count)]


# ---- the heat map ----------------------------------------------------------------------------------------------------


def gains_map(estimates: Estimates) -> Figure | None:
    """Heat map of gains, intermediate by target: points, interval beneath; a block of rows per encoder."""
    cells = estimates.cells
    compared = cells[cells["intermediate"] != NONE] if len(cells) else cells
    if compared.empty:
        return None
    targets = sorted(set(compared["target"]))
    columns = [*targets, *([MEAN] if len(targets) > 1 else [])]
    blocks = [(str(encoder), _block(group, estimates)) for encoder, group in compared.groupby("encoder", sort=True)]
    names = labels([encoder for encoder, _ in blocks])
    limit = max(1.0, 100 * float(compared["gain"].abs().fillna(0).max()))
    slanted = max(map(len, [*columns, "mean"])) * CHARACTER > CELL[0] - 0.1
    head = 0.95 if slanted else 0.4
    gap = head + (0.5 if len(blocks) > 1 else 0)
    width = CELL[0] * (len(columns) + MEAN_GAP)
    height = sum(CELL[1] * len(rows) + gap for _, rows in blocks) + 0.62
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        top = height
        for encoder, rows in blocks:
            top -= gap + CELL[1] * len(rows)
            axes = figure.add_axes((0.0, top / height, 1.0, CELL[1] * len(rows) / height))
            _draw_block(axes, rows, columns, Normalize(-limit, limit), slanted)
            if len(blocks) > 1:
                above: dict[str, Any] = {
                    "xytext": (0, head * 72),
                    "textcoords": "offset points",
                    "xycoords": "axes fraction",
                }
                axes.annotate(names[encoder], (0, 1), weight="bold", size=11, **above)
        _legend_bar(figure, (0.0, 0.34 / height, min(1.0, 3.0 / width), 0.13 / height), limit)
    return figure


def _block(group: pd.DataFrame, estimates: Estimates) -> Block:
    """Rows of one encoder, mean included."""
    means = estimates.overall[estimates.overall["encoder"] == group["encoder"].iloc[0]].assign(target=MEAN)
    block: Block = {}
    for row in [*group.to_dict("records"), *means.to_dict("records")]:
        block.setdefault(Arm.of(row), {})[row["target"]] = row
    return dict(sorted(block.items(), key=lambda item: item[0].order))


def _draw_block(axes: Axes, block: Block, columns: Sequence[str], norm: Normalize, slanted: bool) -> None:
    axes.set(xlim=(0, len(columns) + MEAN_GAP), ylim=(len(block), 0))
    axes.axis("off")
    slant: dict[str, Any] = {"rotation": 28, "ha": "left"} if slanted else {"ha": "center"}
    left = {name: index + (MEAN_GAP if name == MEAN else 0) for index, name in enumerate(columns)}
    for name, x in left.items():
        axes.text(x + (0.35 if slanted else 0.5), -0.12, name or "mean", va="bottom", **slant)
    for y, (arm, entries) in enumerate(block.items()):
        axes.text(-0.07, y + 0.5, arm.label, ha="right", va="center")
        for name, x in left.items():
            _draw_cell(axes, x, y, entries.get(name), norm)


def _draw_cell(axes: Axes, x: float, y: float, entry: Mapping[Any, Any] | None, norm: Normalize) -> None:
    box = (x + 0.02, y + 0.03), 0.96, 0.94
    if entry is None or math.isnan(entry["gain"]):
        axes.add_patch(Rectangle(*box, facecolor="#f7f7f7", edgecolor=PALE, hatch="////", linewidth=0))
        return
    shade = float(norm(100 * entry["gain"]))
    axes.add_patch(Rectangle(*box, facecolor=_colour(shade), linewidth=0))
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if abs(shade - 0.5) > 0.27 else INK}
    marks = ("†" if entry.get("overlap", False) else "") + (
        "‡" if entry.get("collapsed", 0) or entry.get("lost", 0) else ""
    )
    weight = "bold" if entry["verdict"] in (HELPS, HURTS) else "normal"
    axes.text(x + 0.5, y + 0.37, points(entry["gain"]) + marks, weight=weight, size=11, **style)
    axes.text(x + 0.5, y + 0.72, interval(entry["low"], entry["high"]), size=7, **style)


def _colour(shade: float) -> tuple[float, float, float, float]:
    # The ends of the map are nearly black: leave them out.
    return matplotlib.colormaps["BrBG"](0.04 + 0.92 * shade)


def _legend_bar(figure: Figure, box: tuple[float, float, float, float], limit: float) -> None:
    axes = figure.add_axes(box)
    steps = 41
    for step in range(steps):
        axes.add_patch(Rectangle((step, 0), 1.02, 1, facecolor=_colour(step / (steps - 1)), linewidth=0))
    axes.set(xlim=(0, steps), ylim=(0, 1), yticks=[])
    axes.set_xticks([0, steps / 2, steps], [f"−{limit:.0f}", "0", f"+{limit:.0f}"], size=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    claimed = f"bold: not zero, at {LEVEL:.0%} for the whole table"
    text = f"gain in points over no intermediate phase;\n{CONFIDENCE:.0%} interval beneath; {claimed}"
    axes.annotate(text, (1, 0.5), (12, -3), "axes fraction", "offset points", va="center", size=8, color=INK)


# ---- scores by language ----------------------------------------------------------------------------------------------


def language_order(languages: pd.DataFrame, preferred: Sequence[str]) -> list[str]:
    """Source language first, then the preferred, then by falling score without an intermediate phase."""
    source = sorted(set(languages.loc[languages["is_source"], "language"]))
    baseline = languages[languages["intermediate"] == NONE]
    scores = (languages if baseline.empty else baseline).groupby("language")["value"].mean()
    falling = sorted(set(languages["language"]), key=lambda name: (-float(scores.get(name, 0.0)), name))
    given = [name for name in preferred if name in falling and name not in source]
    return [*source, *given, *(name for name in falling if name not in source and name not in given)]


def profiles(languages: pd.DataFrame, cells: pd.DataFrame, preferred: Sequence[str] = ()) -> Figure | None:
    """Score by language, one panel per encoder and target: no intermediate phase against the best settings."""
    if languages.empty:
        return None
    panels = list(languages.groupby(["encoder", "target"], sort=True))
    widest = max(group["language"].nunique() for _, group in panels)
    columns = min(len(panels), 1 if widest > 16 else 2 if widest > 8 else 3)
    lines = -(-len(panels) // columns)
    names = labels(languages["encoder"])
    styles, shown = arm_styles(cells), dict[Arm, None]()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 2.75 * lines + 0.5), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes, ((encoder, target), group) in zip(grid, panels, strict=False):
            best = _best_arms(cells[(cells["encoder"] == encoder) & (cells["target"] == target)])
            shown.update(dict.fromkeys(best))
            _draw_profile(axes, group, language_order(group, preferred), best, styles)
            axes.set_title(target if len(names) == 1 else f"{target}, {names[str(encoder)]}")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        crowded = len(shown) > SHOWN_ARMS and columns == 1
        for axes in grid[: len(panels)] if crowded else ():
            axes.legend(loc="upper right", ncols=SHOWN_ARMS, frameon=False, fontsize=8, borderaxespad=0)
        legend(figure, [] if crowded else [arm for arm in styles if arm in shown], styles, chance=True)
    return figure


def _best_arms(cells: pd.DataFrame) -> list[Arm]:
    ranked = cells[cells["intermediate"] != NONE].sort_values("value", ascending=False, kind="stable")
    chosen = drawn_arms(ranked)[: SHOWN_ARMS - 1]
    without = [arm for arm in drawn_arms(cells) if arm.baseline]
    beside = [arm for arm in without if not chosen or arm == chosen[0].reference]
    return [*beside[-1:], *chosen]


def _draw_profile(axes: Axes, group: pd.DataFrame, order: Sequence[str], arms: Sequence[Arm], styles: Styles) -> None:
    crowded = (max(map(len, order)) + 1) * CHARACTER * len(order) > PAGE_WIDTH * axes.get_position().width
    column = {language: index for index, language in enumerate(order)}
    for index, arm in enumerate(arms):
        rows = group[[drawn == arm for drawn in drawn_arms(group)]]
        rows = rows.assign(x=rows["language"].map(column)).sort_values("x")
        x = rows["x"] + 0.13 * (index - (len(arms) - 1) / 2)
        error = error_bars(rows)
        axes.errorbar(x, 100 * rows["value"], error, fmt="none", ecolor=styles[arm]["color"], elinewidth=1.2)
        axes.plot(x, 100 * rows["value"], linestyle="none", markersize=4.5, label=arm.label, **styles[arm])
        axes.plot(x, 100 * rows["value"], color=styles[arm]["color"], linewidth=0.8, alpha=0.35)
    chance = 100 * group.groupby("language")["majority"].mean().reindex(list(order)).to_numpy()
    at = np.arange(len(order))
    axes.hlines(chance, at - 0.45, at + 0.45, colors=INK, linestyles=":", linewidth=1)
    sources = set(group.loc[group["is_source"], "language"])
    axes.set_xticks(range(len(order)), [f"{name}*" if name in sources else name for name in order])
    axes.tick_params(axis="x", length=0, rotation=90 if crowded else 0)
    axes.set(xlim=(-0.6, len(order) - 0.4), ylabel="score")
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def error_bars(rows: pd.DataFrame) -> list[Any]:
    """Lengths of error bars in points: [below, above] the value, of rows with value, value_low and value_high."""
    return [
        100 * (rows["value"] - rows["value_low"]).clip(0),
        100 * (rows["value_high"] - rows["value"]).clip(0),
    ]


def legend(
    figure: Figure,
    arms: Sequence[Arm],
    styles: Styles,
    chance: bool = False,
    shapes: Mapping[str, str] | None = None,
) -> None:
    """One legend above all panels: arms, then the chance level, then what marker shapes mean."""
    handles = [Line2D([], [], label=arm.label, markersize=5, **styles[arm]) for arm in arms]
    if chance:
        handles.append(Line2D([], [], label="chance level", color=INK, linestyle=":", linewidth=1))
    for name, marker in (shapes or {}).items():
        handles.append(Line2D([], [], label=name, color=INK, marker=marker, linestyle="none"))
    _put_legend(figure, handles, 6)


def _put_legend(figure: Figure, handles: Sequence[Line2D], most: int) -> None:
    """A legend in as many columns as the page is wide enough for; one of many rows makes the figure higher."""
    widest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = max(min(most, len(handles), int(PAGE_WIDTH / (widest * CHARACTER + 0.6))), 1)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(-(-len(handles) // columns) - 2, 0))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False)


# ---- score by volume or budget ---------------------------------------------------------------------------------------


def shown_group(groups: pd.DataFrame) -> str:
    """The group of languages whose scores are drawn: low-resource ones where the study names them, else all unseen."""
    return LOW_RESOURCE if len(groups) and (groups["group"] == LOW_RESOURCE).any() else ZERO_SHOT


def tradeoff(groups: pd.DataFrame, styles: Styles) -> Figure | None:
    """Score by budget, else by volume; one panel per target, a line per encoder and arm but for that axis.

    None with one point each.
    """
    texts = {name: [arm.text(name) for arm in styles] for name in reversed(AMOUNTS)}
    axis = next((name for name, amounts in texts.items() if len({*amounts} - {NOTHING}) > 1), None)
    if axis is None or groups.empty:
        return None
    shown = groups[groups["group"] == shown_group(groups)]
    panels = list(shown.groupby("target", sort=True))
    encoders = sorted(set(shown["encoder"]))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 3.1 * rows + 0.6), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        lines, ticks = styles_without(styles, axis), _ticks(texts[axis])
        for axes, (target, group) in zip(grid, panels, strict=False):
            for index, encoder in enumerate(encoders):
                _draw_tradeoff(axes, group[group["encoder"] == encoder], axis, lines, ticks, (index, len(encoders)))
            axes.set_xticks(list(ticks.values()), list(ticks))
            axes.set_xlim(-0.4, len(ticks) - 0.6)
            axes.set_title(str(target))
            axes.set(xlabel=AXES[axis].amount, ylabel="score")
            axes.grid(color=PALE, linewidth=0.6)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _tradeoff_legend(figure, lines, list(labels(encoders).values()))
    return figure


def _draw_tradeoff(
    axes: Axes, group: pd.DataFrame, axis: str, lines: Styles, ticks: Mapping[str, int], encoder: tuple[int, int]
) -> None:
    """Draws the lines of an encoder, given as (index, number of encoders)."""
    index, encoders = encoder
    arms = drawn_arms(group)
    group = group.assign(x=[float(ticks.get(arm.text(axis), "nan")) for arm in arms])
    line_of, order, count = [arm.without(axis) for arm in arms], list(lines), len(lines) * encoders
    for line in dict.fromkeys(line_of):
        rows = group[[drawn == line for drawn in line_of]]
        look: dict[str, Any] = {**lines[line], **_of_encoder(index), "linewidth": 1.2}
        known = rows.dropna(subset=["x"]).sort_values("x")
        if known.empty:  # volumes: no intermediate phase has none
            level = 100 * float(rows["value"].iloc[0])
            axes.axhline(level, color=look["color"], linestyle=look["linestyle"], linewidth=1.2)
            continue
        aside = (order.index(line) * encoders + index - (count - 1) / 2) * min(ASIDE, 0.5 / count)
        look |= {"markersize": 5, "elinewidth": 0.8}
        axes.errorbar(known["x"] + aside, 100 * known["value"], error_bars(known), **look)


def _ticks(values: Sequence[str]) -> dict[str, int]:
    """Evenly spaced ticks, because `full` is a number that only the data know; smallest first."""
    amounts = sorted({value for value in values if value != NOTHING}, key=_size)
    return {value: position for position, value in enumerate(amounts)}


def _size(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


def _of_encoder(index: int) -> dict[str, Any]:
    """Line style and fill of the lines of the encoder with this index."""
    hollow = {"markerfacecolor": "white"} if index // len(LINES) % 2 else {}
    return {"linestyle": LINES[index % len(LINES)], **hollow}


def _tradeoff_legend(figure: Figure, lines: Styles, encoders: Sequence[str]) -> None:
    handles = [Line2D([], [], label=arm.label, markersize=5, **look) for arm, look in lines.items()]
    for index, name in enumerate(encoders) if len(encoders) > 1 else ():
        handles.append(Line2D([], [], label=name, color=INK, marker="o", markersize=4, **_of_encoder(index)))
    _put_legend(figure, handles, 4)


# ---- how results came about: curves, retention, spending -------------------------------------------------------------


def curves(runs: Sequence[Result | Unscored], styles: Styles) -> Figure | None:
    """Dev score (or loss, where a phase has no dev data) by step; a panel per kind of phase, target and encoder.

    All seeds; a colour per arm, whatever its volume and budget.
    """
    encoders = labels(run.chain.cell.encoder for run in runs)
    panels: dict[tuple[str, str, str], dict[str, tuple[Arm, PhaseRecord]]] = {}  # by kind, target and encoder
    shared = dict[Arm, None]()  # arms of phases that their settings of later phases share
    for run in runs:
        cell = run.chain.cell
        for phase in run.phases:
            arm = _trained(cell.arm.without("encoder", *AMOUNTS), phase)
            shared |= {arm: None} if arm.settings != cell.arm.settings and not arm.baseline else {}
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
    compared = list(dict.fromkeys([*(arm for arm in shown if not arm.baseline), *shared]))
    shown |= dict(zip(compared, looks(len(compared)), strict=True))
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


def _trained(arm: Arm, phase: PhaseRecord) -> Arm:
    """The arm without the settings of phases after this one."""
    own = PHASES.index(phase.kind) if phase.kind in PHASES else PHASES.index(INTERMEDIATE)
    return arm.without(*(path for path, _ in arm.settings if PHASES.index(phase_of(path)) > own))


def _points(phase: PhaseRecord) -> tuple[list[float], list[float], str]:
    """Steps, values and the name of the values."""
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
    names, ticks = labels(estimated["encoder"]), [_row_labels(group) for _, group in panels]
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
        handles.append(Line2D([], [], label="chance level", color=INK, linestyle=":", linewidth=1))
        figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False)
    return figure


def _row_labels(group: pd.DataFrame) -> list[str]:
    """Labels of rows: the arm and its target."""
    arms = [arm.label for arm in arms_in(group)]
    shown = arms if len(set(arms)) > 1 else [""] * len(arms)
    return [f"{name} → {target}".strip() for name, target in zip(shown, group["target"], strict=True)]


def _draw_retention(axes: Axes, group: pd.DataFrame, ticks: Sequence[str]) -> None:
    y = np.arange(len(group))
    for number, (head, (_, colour, mark)) in enumerate(HEADS.items()):
        rows = group.rename(columns={head: "value", f"{head}_low": "value_low", f"{head}_high": "value_high"})
        look: dict[str, Any] = {"color": colour, "marker": mark, "linestyle": "none", "markersize": 5}
        axes.errorbar(100 * rows["value"], y + 0.18 * (number - 1), xerr=error_bars(rows), **look)
    axes.vlines(100 * group["majority"], y - 0.4, y + 0.4, colors=INK, linestyles=":", linewidth=1)
    axes.set_yticks(y, ticks, size=8)
    axes.set(ylim=(len(group) - 0.4, -0.6), xlabel="score")
    axes.grid(axis="x", color=PALE, linewidth=0.6)


def spending(savings: pd.DataFrame) -> Figure | None:
    """Two bars per unit: every chain trained alone, and every phase trained once."""
    if savings.empty:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, 2.0), layout="constrained")
        grid = figure.subplots(1, 2, sharey=True)
        for axes, unit, name in zip(grid, ("flops", "device_seconds"), ("compute", "device time"), strict=True):
            _draw_bars(axes, savings, unit)
            axes.set_title(name)
        handles = [matplotlib.patches.Patch(color=KIND_COLOURS[kind], label=kind) for kind in savings["kind"]]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(KIND_COLOURS), frameon=False)
    return figure


def _draw_bars(axes: Axes, savings: pd.DataFrame, unit: str) -> None:
    totals = {how: float(savings[f"{unit}_{how}"].sum()) for how in ("unshared", "shared")}
    for y, how in ((1, "unshared"), (0, "shared")):
        left = 0.0
        for row in savings.to_dict("records"):
            axes.barh(y, row[f"{unit}_{how}"], left=left, color=KIND_COLOURS[row["kind"]], height=0.62)
            left += row[f"{unit}_{how}"]
        text = amount(totals[how], unit)
        if how == "shared" and totals["unshared"]:
            text += f" ({1 - totals['shared'] / totals['unshared']:.0%} saved)"
        axes.annotate(text, (left, y), (5, 0), textcoords="offset points", va="center", size=9)
    axes.set_yticks([1, 0], ["one chain at a time", "phases shared"])
    axes.set_xlim(0, 1.45 * max(totals.values()) or 1)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
