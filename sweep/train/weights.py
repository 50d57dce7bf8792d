"""Weights in the memory of a process: those that it has trained or read, kept for its next chains; and their commits.

What a phase has learned is in memory when it ends. It is written to the store in a thread, while the chain goes on from
the tensors themselves: nothing is read back. When it is committed its tensors are kept by the digests of their files,
as those are that were read for a phase of the store, and published encoders by theirs; so a worker that goes on with
another chain of the same encoder, or of the same parent, reads nothing. All of it lies on the host, never on a GPU.

Weights in memory belong to nobody: a model that only scores holds the tensors themselves, one that trains has copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sweep.config.study import Runtime
from sweep.heartbeat import STORE, Heartbeat
from sweep.plan.recipe import TARGET
from sweep.store.artifacts import Store
from sweep.store.records import PhaseRecord

if TYPE_CHECKING:
    from sweep.train.context import Event, Listener, Meter

SHARE = 0.25  # of the memory that a chain may use, kept for weights where the study does not say how much
GPUS = Path("/proc/driver/nvidia/gpus")  # has a folder for each
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of a container, below CONTROL_GROUPS; version 2, version 1
CONTROL_GROUPS = Path("/sys/fs/cgroup")

Tensors: TypeAlias = Mapping[str, Tensor]


class WeightsInMemory:
    """Tensors that this process keeps, by name, at most `limit` bytes of them; the least recently used are given up."""

    def __init__(self, limit: float) -> None:
        self._limit, self._kept = limit, dict[str, Tensors]()  # the least recently used first

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    @property
    def bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(map(size, self._kept.values()))

    def resize(self, limit: float) -> None:
        """Sets the limit, and gives up what is above it."""
        self._limit = limit
        self._make_room(0)

    def get(self, name: str, read: Callable[[], Tensors]) -> Tensors:
        """Tensors of a name, read where they are not kept; they are not to be changed."""
        if name not in self._kept:
            tensors = read()
            self.keep(name, tensors)
            return tensors
        self._kept[name] = self._kept.pop(name)
        return self._kept[name]

    def keep(self, name: str, tensors: Tensors, *, spare: bool = False) -> None:
        """Keeps tensors, if there is room for them alone; `spare` ones give way to all others."""
        self._kept.pop(name, None)
        if spare:
            if self.bytes + size(tensors) <= self._limit:
                self._kept = {name: tensors, **self._kept}
        elif size(tensors) <= self._limit:
            self._make_room(size(tensors))
            self._kept[name] = tensors

    def drop(self, name: str) -> None:
        """Gives up tensors that nobody will ask for."""
        self._kept.pop(name, None)

    def _make_room(self, needed: int) -> None:
        held = self.bytes
        while self._kept and held + needed > self._limit:
            held -= size(self._kept.pop(next(iter(self._kept))))


def size(tensors: Tensors) -> int:
    """Bytes of tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


def memory_for_weights(runtime: Runtime) -> float:
    """Bytes for weights in memory: as the study says, or a share of what a chain may use of this machine's memory."""
    if runtime.weights_in_memory is not None:
        return runtime.weights_in_memory
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chains = cores / runtime.cores
    if runtime.gpus:
        gpus = len(list(GPUS.iterdir())) if GPUS.is_dir() else torch.cuda.device_count()
        chains = min(chains, gpus / runtime.gpus)
    return SHARE * _memory() / max(chains, 1.0)


def _memory() -> float:
    """Bytes of memory of this machine, or of the container that this process is in."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in LIMITS:
        with suppress(OSError, ValueError):  # `max`, no number, is none
            total = min(total, float((CONTROL_GROUPS / name).read_text(encoding="ascii")))
    return total


KEPT = WeightsInMemory(0)  # of this process; the limit is set with each chain


def handed_over(module: nn.Module) -> dict[str, Tensor]:
    """Weights of a module on the host, by name, as safetensors needs them: contiguous, none a part of another.

    They are the module's own where they can be: nobody trains it any more.
    """
    weights, seen = dict[str, Tensor](), set[int]()
    for name, tensor in module.state_dict().items():
        own = tensor.detach().to("cpu").contiguous()
        storage = own.untyped_storage()
        if storage.nbytes() != own.nbytes or storage.data_ptr() in seen:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        weights[name] = own
    return weights


@dataclass
class _Commit:
    """A phase on its way to the store."""

    key: str
    files: Mapping[str, Tensors]
    writing: Future[PhaseRecord]
    told: Event | None = None  # that it is committed: kept back until it is


class CommitsBehind:
    """Commits of a chain's phases in a thread, one after another, while the chain goes on.

    An event that says `committed` reaches the listener when it is true. An error of the thread is raised at the next
    event, at the next commit, or by `wait`. Leaving the context waits: a chain that ends or is stopped loses nothing.
    """

    def __init__(self, store: Store, listener: Listener, kept: WeightsInMemory) -> None:
        self._store, self._listener, self._kept = store, listener, kept
        self._commit: _Commit | None = None
        self._trained: tuple[str, Mapping[str, Tensors]] = "", {}  # key and files of the last phase of this chain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._trained = "", {}
        self._written()

    def listen(self, event: Event) -> None:
        """Passes an event on, after that of a phase which is in the store by now."""
        commit = self._commit
        if commit is not None and event.committed and event.key == commit.key:
            commit.told = event
        if commit is not None and commit.writing.done():
            self._tell(event)
        if commit is None or commit.told is not event:
            self._listener(event)

    def begin(
        self,
        record: PhaseRecord,
        files: Mapping[str, Tensors],
        scratch: Path,
        lock: ExitStack,
        heartbeat: Heartbeat,
    ) -> None:
        """Begins to write a phase's tensors by file, and its record; closes `lock` when they are in the store."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")
        writing = thread.submit(_write, self._store, record, files, scratch, lock, heartbeat)
        thread.shutdown(wait=False)
        self._trained, self._commit = (record.key, files), _Commit(record.key, files, writing)

    def tensors(self, key: str, file: str) -> Tensors | None:
        """Tensors of a file of the phase that this chain has trained last; None of every other one."""
        trained, files = self._trained
        return files[file] if key == trained else None

    def wait(self, meter: Meter) -> None:
        """Waits until the phase that was begun is in the store, and says so."""
        if self._commit is not None:
            meter.beat("writing to the store")
        if self._commit is not None:
            wait((self._commit.writing,))
            meter.beat()

    def _tell(self, now: Event) -> None:
        """Tells, with the costs so far, of the phase that is in the store by now."""
        told = self._written()
        if told is not None:
            costs = {name: getattr(now, name) for name in ("flops", "device_seconds", "seconds", "waited")}
            self._listener(replace(told, **costs))

    def _written(self) -> Event | None:
        """Waits for the phase that is written, and keeps its weights; returns the event that says so."""
        commit, self._commit = self._commit, None
        if commit is None:
            return None
        record = commit.writing.result()
        for file, tensors in commit.files.items():
            self._kept.keep(record.files[file], tensors, spare=record.kind == TARGET)
        return commit.told


def _write(
    store: Store,
    record: PhaseRecord,
    files: Mapping[str, Tensors],
    scratch: Path,
    lock: ExitStack,
    heartbeat: Heartbeat,
) -> PhaseRecord:
    """Writes a phase's files, then commits it; returns its complete record."""
    with lock:
        for file, tensors in files.items():
            with heartbeat.beside(STORE):  # each by itself: the work beside may turn to something else meanwhile
                save_file(dict(tensors), scratch / file)
        with heartbeat.beside(STORE):
            return store.commit_phase(record, {file: scratch / file for file in files})
