"""What a chain measures for `gpu: auto`, phase by phase, and what it says where its share of a device does not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from sweep.errors import DeviceError
from sweep.models.batches__memory import taken_memory, watch_memory
from sweep.plan.facts import NO_FACTS, Facts
from sweep.train.context import Bench
from sweep.train.context__meter import Event


@contextmanager
def measured(bench: Bench, work: str) -> Iterator[None]:
    """Adds to the reports of a work that is done what it took of the device, where shares are measured.

    Raises DeviceError where the device has no room for one example.
    """
    listener, first = bench.meter.listener, list[Event]()

    def listen(event: Event) -> None:
        if not first or not first[0].step:  # before its first step it was loading
            first[:] = [event]
        done = event.committed or (event.facts and event.step)
        listener(replace(event, facts=event.facts | _facts(bench, work, first[0], event)) if done else event)

    if bench.runtime.shares and bench.device.type == "cuda":
        watch_memory()
        bench.meter.listener = listen
    try:
        with _room(bench):
            yield
    finally:
        bench.meter.listener = listener


def _facts(bench: Bench, work: str, first: Event, last: Event) -> Facts:
    crowd = round(1 / bench.meter.devices)
    # Among neighbours nobody can say who took what.
    memory = NO_FACTS.with_memory(work, *taken_memory()) if crowd == 1 else NO_FACTS
    return memory | pace(work, crowd, first, last)


def pace(work: str, crowd: int, first: Event, last: Event) -> Facts:
    """What a FLOP cost between two reports; nothing of what is scored, whose time is not all the device's."""
    flops, device_seconds = last.flops - first.flops, last.device_seconds - first.device_seconds
    if last.phase == "score" or flops <= 0:
        return NO_FACTS
    return NO_FACTS.with_pace(work, crowd, device_seconds / flops)


@contextmanager
def _room(bench: Bench) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        devices, encoder = bench.meter.devices, bench.encoder.name
        raise DeviceError(
            "runtime.gpu", f"no room for {encoder} and one example of its longest batch on {devices:g} of a GPU",
            "a larger share, a smaller max_length or a smaller encoder is expected (batch_tokens need not be smaller:"
            " a batch that does not fit is cut into parts)",
        ) from None  # fmt: skip
