"""The share of train that is dev where a study says `dev: 0.1`: a seeded draw, stratified by label, of whole units.

Train is all other rows, exactly. Files are often ordered, by label, source or difficulty, so that no rule on positions
is fair. A passage, document or text that was trained on is no dev data: rows of a unit (sweep/data/units.py) and rows
that say the same stay on one side. Each label gets its part of the share, rounded so that the parts add up to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sweep.data.source import Row
from sweep.data.units import content, group

if TYPE_CHECKING:
    from sweep.tasks.task import Family

DRAW = 1  # part of what train and dev rows depend on; raised when other rows would be drawn
SEED = 0


def held(examples: int, share: Fraction) -> int:
    """Rows of dev where there are so many; where units are larger than a row it is about that."""
    return ceil(examples * share)


def drawn(family: Family, rows: Sequence[Row], share: Fraction) -> NDArray[np.bool_]:
    """[N] which rows are dev: not all, and at least one. Raises ValueError where all rows are one unit."""
    numbers: dict[str, int] = {}
    unit = [numbers.setdefault(group(family, row) or f"row {content(family, row)}", len(numbers)) for row in rows]
    if (
        len(numbers) < 2 <= len(rows) and group(family, rows[0]) is None
    ):  # all say the same: it does not matter which is where
        unit, numbers = list(range(len(rows))), {str(number): number for number in range(len(rows))}
    if len(numbers) < 2:
        raise ValueError("a unit is not divided")
    strata = family.strata(rows)
    wanted = _quotas(Counter(strata), held(len(rows), share))
    within: list[Counter[int]] = [Counter() for _ in numbers]
    for number, stratum in zip(unit, strata, strict=True):
        within[number][stratum] += 1
    chosen, taken = set[int](), Counter[int]()
    order = np.random.Generator(np.random.PCG64([SEED, len(numbers)])).permutation(len(numbers)).tolist()
    for number in order:
        # Whether it brings the counts nearer to what is wanted, in squares.
        if sum(n * (n + 2 * (taken[stratum] - wanted[stratum])) for stratum, n in within[number].items()) < 0:
            chosen.add(number)
            taken += within[number]
    if len(chosen) in (0, len(numbers)):  # a few large units: one of the smallest is on the side that has none
        chosen ^= {min(order, key=lambda number: within[number].total())}
    return np.isin(unit, list(chosen))


def _quotas(counts: Counter[int], total: int) -> dict[int, int]:
    """Rows of each stratum, `total` in all: their shares rounded down, the rest by the largest remainders."""
    examples = sum(counts.values())
    parts = {stratum: Fraction(count * total, examples) for stratum, count in counts.items()}
    found = {stratum: int(part) for stratum, part in parts.items()}
    for stratum in sorted(parts, key=lambda one: (found[one] - parts[one], one))[: total - sum(found.values())]:
        found[stratum] += 1
    return found
