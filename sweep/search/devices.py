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

COLOCATIONS = (8, 4, 2, 1)  # chains per device; powers of two: whatever mixture of shares runs, they fill a device
MARGIN = 1.1  # another order of batches leaves other gaps in memory
JUST_BELOW = 0.999  # of that memory: exactly that much may be rounded to one chain fewer
ROUNDING = 1e-6  # of a sum of shares


class DeviceShares:
    """The share of a device that each chain gets, and whether as much is free."""

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self._plan, self._runtime, self._facts = plan, plan.study.runtime, facts
        self.devices: float | None = None  # of the machine, once it is known; None: a cluster has its own queue

    def learn(self, facts: Facts) -> None:
        """Adds what workers have measured."""
        self._facts |= facts

    def needed(self, chain: Chain, missing: Sequence[Phase], scored: bool) -> float:
        """Devices for a chain that trains these phases, and is scored or not: GPUs, or cores where it uses no GPU."""
        if not self._runtime.shares:
            return self._runtime.devices
        return 1 / chains_per_device(work_names(self._plan, chain, missing, scored), self._facts, self._runtime.cores)

    def are_free(self, needed: float, taken: Iterable[float]) -> bool:
        """Whether `needed` devices are free beside those `taken`; where no device is shared, Ray Tune counts chains."""
        if self.devices is None or not self._runtime.shares:
            return True
        return sum(taken) + needed <= self.devices + ROUNDING

    def enlarge(self, chain: Chain, missing: Sequence[Phase], share: float) -> Facts:
        """Facts that double the share of a chain whose first work had too little memory in this one."""
        first, *_ = work_names(self._plan, chain, missing, scored=True)
        facts = with_larger_share(first, self._facts, round(1 / share))
        self.learn(facts)
        return facts


def work_names(plan: Plan, chain: Chain, missing: Sequence[Phase], scored: bool) -> list[str]:
    """Names of what a chain will do on a device, in its order; equal names need about the same memory."""
    training = [phase_work(plan, chain.cell.encoder, phase) for phase in missing]
    return [*training, score_work(plan, chain)] if scored else training


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


def chains_per_device(works: Sequence[str], facts: Facts, cores: int) -> int:
    """Chains that share a device where each does these works with so many cores; 1 where a work is not measured."""
    if not works or facts.cores_per_device is None:
        return 1
    fits = int(facts.cores_per_device // cores)
    for work in works:
        memory = facts.memory(work)
        if memory is None:
            return 1
        needed, device = memory
        fits = min(fits, int(device // (needed * MARGIN)))
    return next((chains for chains in COLOCATIONS if chains <= fits and _pays(works, facts, chains)), 1)


def with_larger_share(work: str, facts: Facts, chains: int) -> Facts:
    """Facts by which half as many chains share a device from now on: a measured work ran out of memory among so many.

    Its memory is set to just less than what a share twice as large has.
    """
    memory = facts.memory(work)
    assert memory is not None
    _, device = memory
    return NO_FACTS.with_memory(work, JUST_BELOW * 2 * device / chains / MARGIN, device)


def _pays(works: Sequence[str], facts: Facts, chains: int) -> bool:
    """Whether a FLOP of these works costs no more device-seconds co-located than alone, where both were measured."""
    paces = [(facts.pace(work, chains), facts.pace(work, 1)) for work in works]
    measured = [(shared, alone) for shared, alone in paces if shared is not None and alone is not None]
    return sum(shared for shared, _ in measured) <= sum(alone for _, alone in measured)
