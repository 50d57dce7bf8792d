"""What an attempt at a chain has spent, and the events that say so."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sweep.facts import NO_FACTS, Facts
from sweep.planning.budget import TRAINING, forward_flops, masked_head_flops
from sweep.planning.registry import Shape
from sweep.store import Wait
from sweep.tasks.base import Encoded
from sweep.training.scoring import ScoreProgress

Result = TypeVar("Result")


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
    said: str = ""  # a line for the user
    waits: str = ""  # for whose lock it waits now
    waited: float = 0.0  # seconds for which this attempt has waited so far, which cost nothing
    facts: Facts = NO_FACTS


@dataclass
class Meter:
    """FLOPs and device-seconds of an attempt, from its start to its end.

    A GPU is charged by the clock, because nobody else can have it meanwhile. Cores are charged by processor time: a
    core that other programs keep busy would make the same work cost several times as much. Waiting for another
    worker's lock costs nothing.
    """

    devices: float  # what the chain occupies: GPUs, or cores where it uses no GPU
    began: tuple[float, float]  # (time.time(), time.process_time())
    clocked: bool  # whether it is charged by the clock
    flops: float = 0
    waited: float = 0.0  # seconds

    @property
    def seconds(self) -> float:
        """By the clock."""
        return time.time() - self.began[0]

    @property
    def device_seconds(self) -> float:
        if self.clocked:
            return (self.seconds - self.waited) * self.devices
        return time.process_time() - self.began[1]

    def counting(self, flops: float, scoring: Iterable[ScoreProgress]) -> Iterator[ScoreProgress]:
        """Passes scoring on and takes its `flops` down batch by batch, so that every report says what was spent."""
        before = self.flops
        for progress in scoring:
            self.flops = before + flops * progress.tokens / max(progress.total_tokens, 1)
            yield progress
        self.flops = before + flops  # to the last digit, however many batches there were

    def preparing(self, phase: str, key: str, said: str = "", waits: str = "") -> Event:
        return self.event(phase, key, 0, 0, preparing=True, said=said, waits=waits)

    def meanwhile(self, phase: str, key: str, work: Generator[Wait, None, Result]) -> Generator[Event, None, Result]:
        """The result of work that prepares something, and an event whenever it yields and when it is done."""
        waits, since = "", time.time()
        with closing(work):
            while True:
                try:
                    now_waits = next(work) or ""
                except StopIteration as end:
                    yield self.preparing(phase, key)
                    result: Result = end.value
                    return result
                now = time.time()
                if waits or now_waits:  # a turn of waiting ends with a lock that is still held, or is ours now
                    self.waited += now - since
                said = "" if waits else now_waits
                waits, since = now_waits, now
                yield self.preparing(phase, key, said, waits)

    def event(self, phase: str, key: str, step: int, steps: int, **rest: Any) -> Event:
        spent = float(self.flops), self.device_seconds, self.seconds
        return Event(phase, key, step, steps, *spent, waited=self.waited, **rest)


def step_flops(shape: Shape, padded: int, attended: int, masked: bool) -> float:
    """FLOPs of one optimizer step on a batch of so many padded tokens and attended pairs."""
    forward = forward_flops(shape, padded, attended, 1)
    return TRAINING * (forward + (masked_head_flops(shape, padded) if masked else 0))


def encoded_flops(shape: Shape, parts: Iterable[Encoded], batch_tokens: int) -> float:
    """FLOPs of one forward pass over all sequences of all parts in full batches, padding left out."""
    lengths = np.concatenate([part.lengths() for part in parts])
    tokens = int(lengths.sum())
    return forward_flops(shape, tokens, int((lengths**2).sum()), -(-tokens // batch_tokens))
