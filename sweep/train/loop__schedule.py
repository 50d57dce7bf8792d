"""What a phase's training is told: steps, learning rate over time, when dev is scored. The loop is in train.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sweep.models.model import Precision


@dataclass(frozen=True)
class FitSettings:
    """How a phase is trained; what it is trained on, and in which order, is in its Mixture."""

    learning_rate: float
    steps: int
    seed: int  # dropout and masking
    warmup: float = 0.1  # share of steps
    warmup_steps: int | None = None  # instead of a share
    schedule: Literal["linear", "wsd", "constant"] = "linear"
    decay: float = 0.2  # share of steps, wsd only
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    evaluations: int = 1  # on dev, evenly spaced (wsd: within the decay), the last step included
    select: Literal["best", "last"] = "best"
    precision: Precision = "fp32"  # bf16 where the device has it: see autocast()
    micro_batch_tokens: int | None = None  # padded tokens that fit into memory at once

    @property
    def decay_start(self) -> int:
        """Steps before wsd's decay: with a warm-up in steps they do not depend on the length of the run."""
        return self.steps - round(self.decay * self.steps)


def rate(step: int, settings: FitSettings) -> float:
    """Learning rate of 1-based `step`.

    All schedules rise linearly over the warm-up, whose last step has the full rate. With N steps, W of them warm-up and
    D decay, and n = step - 1 done before: linear is (N - n) / (N - W); constant is 1; wsd is 1, then over the decay
    1 - sqrt((n - (N - D)) / D) (Hägele et al. 2024, arXiv 2405.18392, section 3). Where the warm-up reaches into the
    decay, the lower of the two counts.
    """
    total, done = settings.steps, step - 1
    warmup = round(settings.warmup * total) if settings.warmup_steps is None else settings.warmup_steps
    rising = step / warmup if done < warmup else 1.0
    if settings.schedule == "wsd":
        factor = min(rising, _decayed(done, settings))
    elif settings.schedule == "linear" and done >= warmup:
        factor = (total - done) / (total - warmup)
    else:
        factor = rising
    return settings.learning_rate * factor


def _decayed(done: int, settings: FitSettings) -> float:
    start = settings.decay_start
    return 1 - math.sqrt((done - start) / (settings.steps - start)) if done > start else 1.0


def evaluated_steps(settings: FitSettings) -> frozenset[int]:
    """1-based steps after which dev is scored.

    With wsd they lie in the decay: before it, runs of several lengths are one, and none of them has settled.
    """
    before = settings.decay_start if settings.schedule == "wsd" else 0
    before = min(before, settings.steps - 1)
    count, span = settings.evaluations, settings.steps - before
    return frozenset(before + round(span * (n + 1) / count) for n in range(count)) - {before}
