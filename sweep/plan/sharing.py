"""Co-location of chains on a GPU (`gpu: auto`), by the memory and the speed that were measured.

A chain has a device to itself until everything that it will do has been measured so: once per encoder, kind of work and
batch. Then as many share a device as fit, in memory and in cores, and as pay: where a phase's FLOP costs more
device-seconds among neighbours than alone, half as many do. What was measured is kept as facts of the study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Phase

CROWDS = (8, 4, 2, 1)  # halves of halves: whatever mixture of shares runs, no device is left with a crumb
MARGIN = 1.1  # another order of batches leaves other gaps in memory
JUST = 0.999  # so much less than what would not fit, whatever rounding does


def works(plan: Plan, chain: Chain, missing: Sequence[Phase], scored: bool) -> list[str]:
    """Names of what a chain will do on a device, in its order; equal names need about the same memory."""
    found = [phase_work(plan, chain.cell.encoder, phase) for phase in missing]
    return [*found, score_work(plan, chain)] if scored else found


def phase_work(plan: Plan, encoder: str, phase: Phase) -> str:
    """The name of training a phase, its dev evaluations included."""
    settings, runtime = phase.recipe.settings, plan.study.runtime
    families = "+".join(sorted({plan.tasks[name].family.name for name in phase.recipe.tasks}))
    batch = f"{runtime.micro_batch_tokens or settings.batch_tokens} of {settings.max_length or 'usual'}"
    return f"{encoder}, {phase.kind} {families}, {batch}, {runtime.score_batch_tokens}, {runtime.precision}"


def score_work(plan: Plan, chain: Chain) -> str:
    """The name of scoring a chain's target, and its intermediate tasks again where that is asked for."""
    runtime, family = plan.study.runtime, plan.tasks[chain.cell.target].family.name
    again = "+".join(sorted({plan.tasks[name].family.name for name in plan.retained(chain.cell)}))
    return f"{chain.cell.encoder}, score {family} {again}, {runtime.score_batch_tokens}, {runtime.precision}"


def crowd(names: Sequence[str], facts: Facts, cores: int) -> int:
    """How many chains that do these works, with so many cores each, share a device; 1 where one is not measured."""
    if not names or facts.cores_per_device is None:
        return 1
    fits = int(facts.cores_per_device // cores)
    for name in names:
        known = facts.memory(name)
        if known is None:
            return 1
        needed, device = known
        fits = min(fits, int(device // (needed * MARGIN)))
    return next((many for many in CROWDS if many <= fits and _pays(names, facts, many)), 1)


def refused(name: str, facts: Facts, many: int) -> Facts:
    """That a work which was measured found no room among so many chains: from now on half as many share a device."""
    known = facts.memory(name)
    assert known is not None
    _, device = known
    return NO_FACTS.with_memory(name, JUST * 2 * device / many / MARGIN, device)


def _pays(names: Sequence[str], facts: Facts, many: int) -> bool:
    """Whether works cost no more so than alone, where both were measured."""
    paces = [(facts.pace(name, many), facts.pace(name, 1)) for name in names]
    known = [(shared, alone) for shared, alone in paces if shared is not None and alone is not None]
    return sum(shared for shared, _ in known) <= sum(alone for _, alone in known)


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
