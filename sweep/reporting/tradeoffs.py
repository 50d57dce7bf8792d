"""What more data or more compute buys: scores of a group of languages by volume, or by the budget of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sweep.planning.axes import AMOUNTS, AXES, NOTHING
from sweep.reporting.figures import INK, PAGE_WIDTH, PALE, STYLE, Styles, drawn_arms, error_bars, styles_without
from sweep.reporting.gains import ZERO_SHOT
from sweep.reporting.results import labels

if TYPE_CHECKING:
    import pandas as pd

LOW_RESOURCE = "low_resource"  # a study with a group of this name asks about it
LINES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
ASIDE = 0.02  # of the distance between two places: intervals do not cover each other


def shown_group(groups: pd.DataFrame) -> str:
    """The group of languages whose scores are drawn: low-resource ones where the study names them, else all unseen."""
    return LOW_RESOURCE if len(groups) and (groups["group"] == LOW_RESOURCE).any() else ZERO_SHOT


def tradeoff(groups: pd.DataFrame, styles: Styles) -> Figure | None:
    """Score by budget, else by volume; one panel per target, a line per encoder and arm but for that axis.

    None with one point each.
    """
    texts = {name: [arm.text(name) for arm in styles] for name in reversed(AMOUNTS)}
    axis = next((name for name, found in texts.items() if len({*found} - {NOTHING}) > 1), None)
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
        lines, places = styles_without(styles, axis), _places(texts[axis])
        for axes, (target, group) in zip(grid, panels, strict=False):
            for index, encoder in enumerate(encoders):
                _draw(axes, group[group["encoder"] == encoder], axis, lines, places, (index, len(encoders)))
            axes.set_xticks(list(places.values()), list(places))
            axes.set_xlim(-0.4, len(places) - 0.6)
            axes.set_title(str(target))
            axes.set(xlabel=AXES[axis].amount, ylabel="score")
            axes.grid(color=PALE, linewidth=0.6)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _legend(figure, lines, list(labels(encoders).values()))
    return figure


def _draw(
    axes: Axes, group: pd.DataFrame, axis: str, lines: Styles, places: Mapping[str, int], encoder: tuple[int, int]
) -> None:
    """The lines of an encoder, which is the one with this index among so many."""
    index, encoders = encoder
    arms = drawn_arms(group)
    group = group.assign(x=[float(places.get(arm.text(axis), "nan")) for arm in arms])
    line_of, order, count = [arm.without(axis) for arm in arms], list(lines), len(lines) * encoders
    for line in dict.fromkeys(line_of):
        rows = group[[other == line for other in line_of]]
        look: dict[str, Any] = {**lines[line], **_of_encoder(index), "linewidth": 1.2}
        known = rows.dropna(subset=["x"]).sort_values("x")
        if known.empty:  # volumes: no intermediate phase has none
            level = 100 * float(rows["value"].iloc[0])
            axes.axhline(level, color=look["color"], linestyle=look["linestyle"], linewidth=1.2)
            continue
        aside = (order.index(line) * encoders + index - (count - 1) / 2) * min(ASIDE, 0.5 / count)
        look |= {"markersize": 5, "elinewidth": 0.8}
        axes.errorbar(known["x"] + aside, 100 * known["value"], error_bars(known), **look)


def _places(values: Sequence[str]) -> dict[str, int]:
    """Even places, because `full` is a number that only the data know; smallest first."""
    known = sorted({value for value in values if value != NOTHING}, key=_size)
    return {value: place for place, value in enumerate(known)}


def _size(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


def _of_encoder(index: int) -> dict[str, Any]:
    """How the lines of an encoder differ from those of another."""
    hollow = {"markerfacecolor": "white"} if index // len(LINES) % 2 else {}
    return {"linestyle": LINES[index % len(LINES)], **hollow}


def _legend(figure: Figure, lines: Styles, encoders: Sequence[str]) -> None:
    handles = [Line2D([], [], label=arm.label, markersize=5, **look) for arm, look in lines.items()]
    for index, name in enumerate(encoders) if len(encoders) > 1 else ():
        handles.append(Line2D([], [], label=name, color=INK, marker="o", markersize=4, **_of_encoder(index)))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), frameon=False)
