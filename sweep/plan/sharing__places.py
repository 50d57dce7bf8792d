"""What of the devices each chain has: cores, GPUs, or with `gpu: auto` a share as small as its work allows. No Ray."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweep.plan.facts import Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Phase
from sweep.plan.sharing import crowd, refused, works

ROUNDING = 1e-6


class Places:
    """Devices per chain, and whether as many are free."""

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self._plan, self._runtime, self._facts = plan, plan.study.runtime, facts
        self.devices: float | None = None  # of the machine, once it is known; None: a cluster has its own queue

    def learn(self, facts: Facts) -> None:
        """What workers have measured."""
        self._facts |= facts

    def wanted(self, chain: Chain, missing: Sequence[Phase], scored: bool) -> float:
        """Devices for a chain that trains these phases, and is scored or not: GPUs, or cores where it uses no GPU."""
        if not self._runtime.shares:
            return self._runtime.devices
        return 1 / crowd(works(self._plan, chain, missing, scored), self._facts, self._runtime.cores)

    def room(self, wanted: float, taken: Iterable[float]) -> bool:
        """Whether so much is free; where shares do not change, Ray Tune counts chains itself."""
        if self.devices is None or not self._runtime.shares:
            return True
        return sum(taken) + wanted <= self.devices + ROUNDING

    def refused(self, chain: Chain, missing: Sequence[Phase], share: float) -> Facts:
        """Facts of a chain whose first work found no room in its share of a device."""
        name, *_ = works(self._plan, chain, missing, scored=True)
        found = refused(name, self._facts, round(1 / share))
        self.learn(found)
        return found
