"""Costs and progress of an attempt at a chain, and the events that report them.

Work reports between its units, and whoever is reported to may raise what ends it there (sweep/heartbeat.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sweep.data.encoded__base_encoded import Encoded
from sweep.heartbeat import Heartbeat
from sweep.models.registry import Shape
from sweep.plan.cost import TRAINING, forward_flops, masked_head_flops
from sweep.plan.facts import NO_FACTS, Facts
from sweep.tasks.task import Outputs
from sweep.train.score import ScoreProgress


@dataclass(frozen=True)
class Event:
    """Something to report. Costs are those of this attempt so far."""

    phase: str  # kind of phase, or "score"
    key: str
    step: int
    steps: int
    flops: float
    device_seconds: float
    seconds: float = 0.0  # by the clock, since the attempt began
    loss: float | None = None
    dev: float | None = None
    attempt: int = 0  # of the phase: a collapsed one is tried again
    collapsed: bool = False  # the committed phase has learned nothing
    committed: bool = False  # the phase or the scores are in the store now
    preparing: bool = False  # it loads, encodes, or waits for another worker: nothing is computed yet
    doing: str = ""  # what it does until its next event, where that may take long
    said: str = ""  # a line for the user
    waits: str = ""  # for whose lock it waits now
    waited: float = 0.0  # seconds for which this attempt has waited so far, which cost nothing
    facts: Facts = NO_FACTS


Listener: TypeAlias = Callable[[Event], None]  # hears every event; what it raises ends the attempt


def ignore(_event: Event) -> None:
    """Listens to an attempt that nobody watches."""


@dataclass
class Meter(Heartbeat):
    """FLOPs and device-seconds of an attempt, from its start to its end, reported with every unit of its work.

    A GPU is charged by the clock, because nobody else can have it meanwhile. Cores are charged by processor time: a
    core that other programs keep busy would make the same work cost several times as much. Waiting for another
    worker's lock costs nothing.
    """

    devices: float  # what the chain occupies: GPUs, or cores where it uses no GPU
    began: tuple[float, float]  # (time.time(), time.process_time())
    clocked: bool  # whether it is charged by the clock
    listener: Listener = ignore
    flops: float = 0
    waited: float = 0.0  # seconds
    phase: str = ""  # what it is at: kind of phase, or "score"
    key: str = ""
    waits: str = ""  # for whose lock

    @property
    def seconds(self) -> float:
        """By the clock."""
        return time.time() - self.began[0]

    @property
    def device_seconds(self) -> float:
        if self.clocked:
            return (self.seconds - self.waited) * self.devices
        return time.process_time() - self.began[1]

    def enter(self, phase: str, key: str) -> None:
        """What is reported from now on is of this phase, or of the scores."""
        self.phase, self.key = phase, key

    def beat(self, doing: str = "") -> None:
        """Reports that something was loaded or encoded, and what comes next: nothing is computed yet."""
        self.report(0, 0, preparing=True, doing=doing)

    def wait(self, reason: str, seconds: float) -> None:
        """Reports for whose lock the attempt waits, at its first turn also as a line for the user."""
        said, self.waits = "" if self.waits else reason, reason
        self.waited += seconds
        self.report(0, 0, preparing=True, said=said, waits=reason)

    def report(self, step: int, steps: int, **rest: Any) -> None:
        """Tells of a step, with the costs so far; `rest` are further fields of the event."""
        spent = float(self.flops), self.device_seconds, self.seconds
        self.listener(Event(self.phase, self.key, step, steps, *spent, waited=self.waited, **rest))

    def scored(
        self, flops: float, scoring: Iterable[ScoreProgress], heard: Callable[[ScoreProgress], None]
    ) -> list[dict[str, Outputs]]:
        """Outputs of scoring by layer and language; takes its `flops` down batch by batch, each followed by `heard`."""
        before, outputs = self.flops, list[dict[str, Outputs]]()
        for progress in scoring:
            self.flops = before + flops * progress.tokens / max(progress.total_tokens, 1)
            heard(progress)
            outputs = progress.outputs or outputs
        self.flops = before + flops  # to the last digit, however many batches there were
        return outputs


def step_flops(shape: Shape, padded: int, attended: int, masked: bool) -> float:
    """FLOPs of one optimizer step on a batch of so many padded tokens and attended pairs."""
    forward = forward_flops(shape, padded, attended, 1)
    return TRAINING * (forward + (masked_head_flops(shape, padded) if masked else 0))


def encoded_flops(shape: Shape, parts: Iterable[Encoded], batch_tokens: int) -> float:
    """FLOPs of one forward pass over all sequences of all parts in full batches, padding left out."""
    lengths = np.concatenate([part.lengths() for part in parts])
    tokens = int(lengths.sum())
    return forward_flops(shape, tokens, int((lengths**2).sum()), -(-tokens // batch_tokens))
