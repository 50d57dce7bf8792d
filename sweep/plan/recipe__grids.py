"""Points of a grid of learning rates, one axis per kind of phase: in which order they are tried as long as nothing is
known of them.

A point holds an index per axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

Point = tuple[int, ...]


@cache
def spread(sizes: tuple[int, ...], count: int, first: Point) -> tuple[Point, ...]:
    """`count` points of a grid: a given one, then always the point farthest from those before it.

    Deterministic, and a longer list begins with a shorter one. From the middle of three rates: middle, lowest, highest.
    """
    chosen = [first]
    while len(chosen) < min(count, math.prod(sizes)):
        left = untried(sizes, chosen)
        chosen.append(max(left, key=lambda point: min(_apart(sizes, point, other) for other in chosen)))
    return tuple(chosen)


def nearest(sizes: Sequence[int], wanted: Point, tried: Sequence[Point]) -> Point:
    """The wanted point, or the untried one nearest to it, by its last axis if possible: twice would be a waste.

    The last axis is the last phase's. Another rate for one before it may be a phase that nobody has trained.
    """
    return min(
        untried(sizes, tried), key=lambda point: (_square(point[:-1], wanted[:-1]), _square(point[-1:], wanted[-1:]))
    )


def untried(sizes: Sequence[int], tried: Sequence[Point]) -> Iterator[Point]:
    """The other points, in the order of the grid."""
    return (point for point in itertools.product(*map(range, sizes)) if point not in tried)


def rates_at(grid: Mapping[str, Sequence[float]], point: Point) -> dict[str, float]:
    """The rates of a point, by kind of phase."""
    return {kind: rates[index] for (kind, rates), index in zip(grid.items(), point, strict=True)}


def _square(one: Point, other: Point) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _apart(sizes: Sequence[int], one: Point, other: Point) -> float:
    steps = zip(one, other, sizes, strict=True)
    return float(sum(((a - b) / max(size - 1, 1)) ** 2 for a, b, size in steps))
