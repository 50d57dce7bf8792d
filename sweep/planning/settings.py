"""What is compared: the columns that name a cell; its setting, that is what its intermediate phase is and what its
chains may spend; names and places in tables.
"""

from __future__ import annotations

from typing import NamedTuple

from sweep.planning.axes import NONE, OWN

BASELINE = NONE
NOTHING = "-"  # volume and source where there is no intermediate phase
FULL, ALL = "full", "all"


class Setting(NamedTuple):
    """Tasks joined by "+" (or none), volume of their data, its language, and the FLOPs that a chain trains with."""

    intermediate: str
    volume: str = NOTHING
    source: str = NOTHING
    chain_budget: str = NOTHING

    @property
    def baseline(self) -> bool:
        return self.intermediate == BASELINE

    @property
    def reference(self) -> Setting:
        """No intermediate phase, with as much compute."""
        return Setting(BASELINE, chain_budget=self.chain_budget)

    @property
    def tasks(self) -> tuple[str, ...]:
        return () if self.baseline else tuple(self.intermediate.split("+"))  # no task of an axis has one in its name

    @property
    def arm(self) -> str:
        """The name without volume and budget; a source that says nothing is left out."""
        if self.source in (NOTHING, OWN):
            return self.intermediate
        return f"{self.intermediate} in {'all languages' if self.source == ALL else self.source}"

    @property
    def name(self) -> str:
        """One label; what says nothing is left out."""
        said = [] if self.volume in (NOTHING, FULL) else [self.volume]
        said += [] if self.chain_budget == NOTHING else [f"{self.chain_budget} FLOPs"]
        return f"{self.arm} ({', '.join(said)})" if said else self.arm

    @property
    def order(self) -> tuple[bool, int, str, bool, str, float, float]:
        """Sorts as a reader expects: none, single tasks, combinations; own source first, small before large."""
        size = float(self.volume) if self.volume.replace(".", "", 1).isdigit() else float("inf")
        flops = 0.0 if self.chain_budget == NOTHING else float(self.chain_budget)
        other = self.source not in (NOTHING, OWN)
        return not self.baseline, self.intermediate.count("+"), self.intermediate, other, self.source, size, flops


# One point of the grid of axes, seeds apart: whatever groups or names results does it by all of these.
CELL = ("encoder", *Setting._fields, "target")
