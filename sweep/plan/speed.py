"""Speed of devices: device-seconds of a study's work, from what its encoders have taken so far.

The forecast for a part of a chain, a phase or its scores, is

    seconds = (fixed + per_flop * FLOPs) * ratio

`fixed` and `per_flop` are the line through all parts of the encoder that were measured in training, or in scoring: by
least squares of relative errors, `fixed` drawn to zero. What a part loads, stores and warms up depends little on its
size, and phases of a few steps consist of it. `ratio` is what all parts of a kind have taken, over what the line says:
from general kinds (tagging) to the very recipe, each drawn to the one before with the weight of DRAWN seconds. So seeds
and candidates are forecast by what the same recipe took, and what is new by what resembles it most.

Data is encoded once per encoder: seconds per example, times the examples that nothing has read yet.

Before anything was measured, FLOPs over a device's peak and over the part of it that chains are known to use give a
range (sweep/plan/hardware.py), and the forecast is the geometric mean of its ends.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import astuple, dataclass, field
from functools import cached_property, partial

from sweep.config.study import Budget
from sweep.plan.cost import Data, Work
from sweep.plan.hardware import Device, device_of

DRAWN = 0.3  # seconds
FIXED = 0.02  # weight of "no fixed part", relative to that of all parts
SHORTEST = 0.05  # seconds: the clock says little about shorter parts

HOURS = 360.0  # device-seconds from which on they are written as hours

# Relative errors of parts, for the range, by what was measured: other encoders alone, the encoder, its training or its
# scoring, the family, and what is closer still: the studies of benchmarks/forecast.py took up to 21% less.
ERRORS = (1.0, 0.5, 0.3, 0.25, 0.2, 0.2)


@dataclass(frozen=True)
class Taken:
    """Time that parts of chains have taken, with the FLOPs that they really took: sums that can be added.

    Weighted sums are those of the least squares, each part with the weight 1 / seconds.
    """

    flops: float = 0.0
    seconds: float = 0.0  # device-seconds, without those of encoding
    parts: float = 0.0
    examples: float = 0.0  # that were encoded for them
    encoding: float = 0.0  # device-seconds of that
    weights: float = 0.0
    weighted_flops: float = 0.0
    weighted_squares: float = 0.0  # of FLOPs
    weighted_products: float = 0.0  # of FLOPs and seconds
    weighted_seconds: float = 0.0

    @classmethod
    def of(cls, flops: float, seconds: float, examples: int = 0, encoding: float = 0.0) -> Taken:
        """Time of one part."""
        weight = 1 / max(seconds, SHORTEST)
        products = flops, flops**2, flops * seconds, seconds
        return cls(flops, seconds, 1.0, examples, encoding, weight, *(weight * each for each in products))

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    @cached_property
    def line(self) -> tuple[float, float]:
        """(seconds of a part whatever its size, seconds per FLOP), the former 0 where nothing says otherwise."""
        parts = (1 + FIXED) * self.weights
        determinant = parts * self.weighted_squares - self.weighted_flops**2
        fixed = self.weighted_seconds * self.weighted_squares - self.weighted_flops * self.weighted_products
        per_flop = parts * self.weighted_products - self.weighted_flops * self.weighted_seconds
        if fixed >= 0 and per_flop > 0:
            return fixed / determinant, per_flop / determinant
        return 0.0, self.seconds / self.flops


NOTHING = Taken()
Place = tuple[str, ...]  # an encoder, then kinds of work from the general to the particular


@dataclass(frozen=True)
class DeviceTime:
    """Forecast of device-seconds: a range, and what it rests on in words."""

    low: float
    expected: float
    high: float
    basis: str

    def __str__(self) -> str:
        unit, size = ("device-hours", 3600) if self.expected >= HOURS else ("device-seconds", 1)
        low, high = (f"{float(f'{seconds / size:.2g}'):,g}" for seconds in (self.low, self.high))
        return f"{low} to {high} {unit}"


@dataclass(frozen=True)
class Speed:
    """Device-seconds of work, learned from what was `taken` so far; before that, assumed of a device."""

    taken: Mapping[Place, Taken] = field(default_factory=dict)  # by encoder and all kinds of a part
    device: Device = field(default_factory=partial(device_of, 0, "auto"))

    @property
    def measured(self) -> bool:
        """Whether anything was measured."""
        return () in self._sums

    def device_seconds(self, work: Work) -> float:
        """Forecast for a part of a chain, the encoding of its data left out."""
        return self._forecast(work)[0]

    def amount(self, budget: Budget | None, work: Work) -> float:
        """Forecast for a part of a chain in the budget's unit; device-seconds without a budget."""
        return work.flops if budget is not None and budget.unit == "flops" else self.device_seconds(work)

    def encoding(self, works: Iterable[Work], read: Set[Data] = frozenset()) -> float:
        """Device-seconds of encoding data that nothing has `read` before; 0 until that was measured."""
        known = sum(self.taken.values(), NOTHING)
        unread = {data: count for work in works for data, count in work.data.items() if data not in read}
        return sum(unread.values()) * known.encoding / known.examples if known.examples else 0.0

    def device_time(self, works: Sequence[Work]) -> DeviceTime:
        """Forecast for works of which nothing is done, as a range: the wider, the less is known of them."""
        if not self.measured:
            flops = sum(work.flops for work in works)
            low, high = self.device.seconds(flops)
            return DeviceTime(low, math.sqrt(low * high), high, f"on {self.device}")
        encoding, parts = self.encoding(works), [self._forecast(work) for work in works]
        low, expected, high = (
            encoding + sum(seconds * (1 + error) ** sign for seconds, error in parts) for sign in (-1, 0, 1)
        )
        return DeviceTime(low, expected, high, "as its encoders were measured")

    def _forecast(self, work: Work) -> tuple[float, float]:
        """(seconds, relative error) of a part, or of several alike."""
        if not work.flops:
            return 0.0, 0.0
        if not self.measured:
            low, high = self.device.seconds(work.flops)
            return math.sqrt(low * high), math.sqrt(high / low) - 1
        places = [(work.encoder, *work.kinds[:count]) for count in range(len(work.kinds) + 1)]
        known = [place for place in places if place in self._sums]
        fixed, per_flop = self._sums[known[min(len(known), 2) - 1] if known else ()].line
        ratio = 1.0
        for sums in map(self._sums.__getitem__, known[1:]):
            line = fixed * sums.parts + per_flop * sums.flops
            ratio = (sums.seconds + DRAWN * ratio) / (line + DRAWN)
        return (fixed * work.parts + per_flop * work.flops) * ratio, ERRORS[min(len(known), len(ERRORS) - 1)]

    @cached_property
    def _sums(self) -> dict[Place, Taken]:
        """Sums of all parts, of an encoder's, and of those of each kind from the general one on."""
        sums = defaultdict[Place, Taken](Taken)
        for place, taken in self.taken.items():
            if taken.flops > 0:  # else it has loaded so far
                for count in range(len(place) + 1):
                    sums[place[:count]] += taken
        return dict(sums)
