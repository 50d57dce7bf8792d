"""What a phase's training is told: steps, learning rate over time, when dev is scored. The loop is in train.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sweep.training.model import Precision


@dataclass(frozen=True)
class FitSettings:
    """How a phase is trained; what it is trained on, and in which order, is in its Mixture."""

    learning_rate: float
    steps: int
    seed: int  # dropout and masking
    warmup: float = 0.1  # share of steps
    schedule: Literal["linear", "wsd", "constant"] = "linear"
    decay: float = 0.2  # share of steps, wsd only
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    evaluations: int = 1  # on dev, evenly spaced, the last step included
    select: Literal["best", "last"] = "best"
    precision: Precision = "fp32"  # bf16 is autocast on CUDA, and fp32 elsewhere: see autocast()
    micro_batch_tokens: int | None = None  # padded tokens that fit into memory at once


def rate(step: int, settings: FitSettings) -> float:
    """Learning rate of 1-based `step`.

    All schedules rise linearly over the warm-up, whose last step has the full rate. With N steps, W of them warm-up and
    D decay, and n = step - 1 done before: linear is (N - n) / (N - W); constant is 1; wsd is 1, then over the decay
    1 - sqrt((n - (N - D)) / D) (Hägele et al. 2024, arXiv 2405.18392, section 3).
    """
    total, done = settings.steps, step - 1
    warmup, decay = round(settings.warmup * total), round(settings.decay * total)
    if done < warmup:
        factor = step / warmup
    elif settings.schedule == "linear":
        factor = (total - done) / (total - warmup)
    elif settings.schedule == "wsd" and done > total - decay:
        factor = 1 - math.sqrt((done - (total - decay)) / decay)
    else:
        factor = 1.0
    return settings.learning_rate * factor


def evaluated_steps(settings: FitSettings) -> frozenset[int]:
    """1-based steps after which dev is scored."""
    return frozenset(round(settings.steps * (n + 1) / settings.evaluations) for n in range(settings.evaluations)) - {0}
