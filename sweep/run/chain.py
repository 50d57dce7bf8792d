"""One chain, from the encoder to its zero-shot scores. Knows no Ray.

A phase that the store has is taken from it; the others are trained and committed. The listener is told of every unit of
work and may end the chain there by raising something: a stopped chain loses no more than the time since its last
checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from sweep.errors import DeviceError
from sweep.evaluate.zero_shot import score_chain
from sweep.models.batches import peak_memory, reset_peak_memory
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.search.devices import phase_work, score_work
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.train.context import ChainContext, Event, Listener, ignore_events, set_up
from sweep.train.phase import train_phase


@contextmanager
def measured(context: ChainContext, work: str) -> Iterator[None]:
    """Adds to the reports of finished work its memory and pace on the device, where shares are measured.

    Raises DeviceError where the device has no room for one example.
    """
    listener, first = context.meter.listener, list[Event]()

    def listen(event: Event) -> None:
        if not first or not first[0].step:  # before its first step it was loading
            first[:] = [event]
        done = event.committed or (event.facts and event.step)
        listener(replace(event, facts=event.facts | _facts(context, work, first[0], event)) if done else event)

    if context.runtime.shares and context.device.type == "cuda":
        reset_peak_memory()
        context.meter.listener = listen
    try:
        with _room(context):
            yield
    finally:
        context.meter.listener = listener


def _facts(context: ChainContext, work: str, first: Event, last: Event) -> Facts:
    chains = round(1 / context.meter.devices)
    # Among neighbours nobody can say who took what.
    memory = NO_FACTS.with_memory(work, *peak_memory()) if chains == 1 else NO_FACTS
    return memory | pace(work, chains, first, last)


def pace(work: str, chains: int, first: Event, last: Event) -> Facts:
    """Seconds per FLOP between two reports; none of scoring, whose time is not all the device's."""
    flops, device_seconds = last.flops - first.flops, last.device_seconds - first.device_seconds
    if last.phase == "score" or flops <= 0:
        return NO_FACTS
    return NO_FACTS.with_pace(work, chains, device_seconds / flops)


@contextmanager
def _room(context: ChainContext) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        devices, encoder = context.meter.devices, context.encoder.name
        raise DeviceError(
            "runtime.gpu", f"no room for {encoder} and one example of its longest batch on {devices:g} of a GPU",
            "a larger share, a smaller max_length or a smaller encoder is expected (batch_tokens need not be smaller:"
            " a batch that does not fit is cut into parts)",
        ) from None  # fmt: skip


@contextmanager
def _same_threads() -> Iterator[None]:
    """Leaves torch the number of threads that it had: a chain computes with the cores of its study."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run(
    chain: Chain,
    plan: Plan,
    store: Store,
    listener: Listener = ignore_events,
    *,
    began: tuple[float, float] | None = None,
    pause_at: float | None = None,
    devices: float | None = None,
    keep: bool = False,
) -> None:
    """Trains what is missing of a chain and scores it. Raises SweepError where data, encoder or store are at fault.

    It began at (time.time(), time.process_time()), by default now, and occupies so many `devices`, by default what the
    study says. `pause_at` is the share of the target phase after which it pauses, without scores. A chain ends, without
    scores, at a phase before the target phase that has collapsed. `keep` leaves the target phase its weights.
    """
    stored = StoreIndex(store)
    if stored.is_over(chain):
        return
    with _same_threads():
        context = set_up(chain, plan, store, listener, began, devices)
        with context.commits:
            for phase in stored.to_train(chain):
                with measured(context, phase_work(plan, chain.cell.encoder, phase)):
                    train_phase(context, phase, pause_at)
                stored.learn(phase.key)
                if stored.dead_end(chain) is not None:
                    return
            if pause_at is None:
                with measured(context, score_work(plan, chain)):
                    score_chain(context, chain, keep)
            else:
                context.commits.wait(context.meter)
