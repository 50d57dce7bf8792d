"""How long a phase is, from what it is really fed: its steps, and the last one that runs of other lengths share."""

from __future__ import annotations

import math

from sweep.errors import StudyError
from sweep.plan.recipe import Phase
from sweep.train.context import Bench
from sweep.train.context__meter import step_flops
from sweep.train.loop__schedule import FitSettings
from sweep.train.mixture import Mixture


def steps_of(bench: Bench, phase: Phase, mixture: Mixture) -> int:
    """Optimizer steps: as many as the study says, or as the phase's part of the chain's budget pays. Raises StudyError.

    Dev evaluations are no part of a chain's budget: what is compared is training.
    """
    settings, flops = phase.recipe.settings, phase.recipe.flops
    if flops is None:
        return settings.steps or mixture.steps_for(settings.epochs or 0)
    masked = {name for name in phase.recipe.tasks if bench.plan.tasks[name].family.raw_text}
    steps, left = 0, flops
    for task, padded, attended in mixture.fed():
        left -= (cost := step_flops(bench.encoder.shape, padded, attended, task in masked))
        if left < 0:
            break
        steps += 1
    if not steps:
        found = f"{flops:.3g} FLOPs for the {phase.recipe.kind} phase on {'+'.join(phase.recipe.tasks)}"
        raise StudyError("axes.chain_budget", found, f"at least {math.ceil(cost):.3g}, its first step, is expected")
    return steps


def trunk_end(phase: Phase, settings: FitSettings, mixture: Mixture) -> int:
    """The last step before the decay; of a trunk of volumes, at most the last one that larger volumes begin with."""
    if not phase.trunk or phase.recipe.flops is not None:  # budgets go through the same data, however often
        return settings.decay_start
    return min(settings.decay_start, mixture.shared_steps())
