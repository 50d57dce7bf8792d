"""What more data or more compute buys: scores of a group of languages by volume, or by the budget of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sweep.planning.settings import NOTHING, Setting
from sweep.reporting.figures import GREY, INK, MARKERS, PAGE_WIDTH, PALE, STYLE, Styles, error_bars
from sweep.reporting.gains import ZERO_SHOT
from sweep.reporting.results import labels, settings_in

if TYPE_CHECKING:
    import pandas as pd

LOW_RESOURCE = "low_resource"  # a study with a group of this name asks about it
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
ASIDE = 0.02  # of the distance between two places: intervals do not cover each other
AXES = {"chain_budget": "FLOPs that a chain trains with", "volume": "examples of each intermediate task"}


def shown_group(groups: pd.DataFrame) -> str:
    """The group of languages whose scores are drawn: low-resource ones where the study names them, else all unseen."""
    return LOW_RESOURCE if len(groups) and (groups["group"] == LOW_RESOURCE).any() else ZERO_SHOT


def tradeoff(groups: pd.DataFrame, styles: Styles) -> Figure | None:
    """Score by budget, else by volume; one panel per target, a line per encoder and setting but for that axis.

    None with one point each.
    """
    axis = next((name for name in AXES if len({getattr(one, name) for one in styles} - {NOTHING}) > 1), None)
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
        for axes, (target, group) in zip(grid, panels, strict=False):
            for index, encoder in enumerate(encoders):
                _draw(axes, group[group["encoder"] == encoder], axis, styles, index)
            axes.set_title(str(target))
            axes.set(xlabel=AXES[axis], ylabel="score")
            axes.grid(color=PALE, linewidth=0.6)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _legend(figure, _colours(styles, axis), list(labels(encoders).values()))
    return figure


def _draw(axes: Axes, group: pd.DataFrame, axis: str, styles: Styles, encoder: int) -> None:
    places = _places([getattr(setting, axis) for setting in styles])
    settings = settings_in(group)
    x = [float(places.get(getattr(one, axis), "nan")) for one in settings]
    group = group.assign(line=[_line(one, axis) for one in settings], x=x)
    line = LINES[encoder % len(LINES)]
    look: dict[str, Any] = {"linestyle": line, "linewidth": 1.2, "markersize": 5, "elinewidth": 0.8}
    colours = _colours(styles, axis)
    for number, (name, rows) in enumerate(group.groupby("line", sort=False)):
        colour = colours.get(str(name), GREY)
        known = rows.dropna(subset=["x"]).sort_values("x")
        if known.empty:  # volumes: no intermediate phase has none
            axes.axhline(100 * float(rows["value"].iloc[0]), color=colour, linestyle=line, linewidth=1.2)
            continue
        look |= {"color": colour, "marker": MARKERS[encoder % len(MARKERS)]}
        axes.errorbar(known["x"] + ASIDE * (2 * number + encoder), 100 * known["value"], error_bars(known), **look)
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlim(-0.3, len(places) - 0.7)


def _places(values: Sequence[str]) -> dict[str, int]:
    """Even places, because `full` is a number that only the data know; smallest first."""
    known = sorted({value for value in values if value != NOTHING}, key=_size)
    return {value: place for place, value in enumerate(known)}


def _size(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


def _line(setting: Setting, axis: str) -> str:
    """The name of the settings that differ in the axis alone."""
    return setting._replace(**{axis: NOTHING}).name


def _colours(styles: Styles, axis: str) -> dict[str, str]:
    """One colour per line: that of its first point."""
    found: dict[str, str] = {}
    for setting, look in styles.items():
        found.setdefault(_line(setting, axis), look["color"])
    return found


def _legend(figure: Figure, colours: Mapping[str, str], encoders: Sequence[str]) -> None:
    handles = [Line2D([], [], label=name, color=colour) for name, colour in colours.items()]
    for index, name in enumerate(encoders) if len(encoders) > 1 else ():
        line, marker = LINES[index % len(LINES)], MARKERS[index % len(MARKERS)]
        handles.append(Line2D([], [], label=name, color=INK, linestyle=line, marker=marker, markersize=5))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), frameon=False)
