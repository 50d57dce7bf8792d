"""A setting: what the intermediate phase of a cell is, its name everywhere, its place in tables."""

from __future__ import annotations

from typing import NamedTuple

from sweep.planning.spec import NONE, OWN

BASELINE = NONE
NOTHING = "-"  # volume and source where there is no intermediate phase
FULL, ALL = "full", "all"


class Setting(NamedTuple):
    """Tasks joined by "+" (or none), volume of their data, and its language."""

    intermediate: str
    volume: str = NOTHING
    source: str = NOTHING

    @property
    def baseline(self) -> bool:
        return self.intermediate == BASELINE

    @property
    def tasks(self) -> tuple[str, ...]:
        return () if self.baseline else tuple(self.intermediate.split("+"))

    @property
    def arm(self) -> str:
        """The name without the volume; a source that says nothing is left out."""
        if self.source in (NOTHING, OWN):
            return self.intermediate
        return f"{self.intermediate} in {'all languages' if self.source == ALL else self.source}"

    @property
    def name(self) -> str:
        """One label; what says nothing is left out."""
        return self.arm if self.volume in (NOTHING, FULL) else f"{self.arm} ({self.volume})"

    @property
    def order(self) -> tuple[bool, int, str, bool, str, float]:
        """Sorts as a reader expects: none, single tasks, combinations; own source first, small volumes before large."""
        size = float(self.volume) if self.volume.replace(".", "", 1).isdigit() else float("inf")
        other = self.source not in (NOTHING, OWN)
        return not self.baseline, self.intermediate.count("+"), self.intermediate, other, self.source, size
