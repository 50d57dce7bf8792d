"""Checkpoints and log of a half-done phase: one safetensors file whose header carries counters, log and checksum.

The checksum is a CRC-32 of all that the file holds: it detects errors of disks and broken writes, at 4 GB/s.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sweep.errors import StoreError
from sweep.heartbeat import NO_LISTENER, STORE, Heartbeat
from sweep.plan.recipe import Phase
from sweep.store import paths
from sweep.store.artifacts import put
from sweep.train.context import ChainContext, step_flops
from sweep.train.loop import Progress, State

CURVE_POINTS = 200  # of the loss in a log
COUNTERS = {  # in a log -> in Progress and State; all from the first step of the run on
    "steps": "step",
    "tokens": "tokens",
    "padded": "padded_tokens",
    "attended": "attended_tokens",
    "examples": "examples",
}


def read_checkpoint(folder: Path) -> tuple[State | None, dict[str, Any]]:
    """State and log of a half-done phase, or (None, {}) where there is none. Raises StoreError for a damaged file.

    There is a log without a state where an attempt has collapsed and the next one is to begin.
    """
    path = folder / paths.CHECKPOINT
    if not path.exists():
        return None, {}
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        if metadata["checksum"] != _checksum(tensors, metadata["values"]):
            raise ValueError("it does not match its checksum")
        header = json.loads(metadata["values"])
    except (SafetensorError, ValueError, KeyError, TypeError) as damage:
        raise StoreError(path, f"a damaged checkpoint ({damage})", "delete it: the phase begins anew") from damage
    state = None if header["state"] is None else State(tensors=tensors, values=header["state"])
    return state, header["log"]


def write_checkpoint(
    folder: Path, state: State | None, log: Mapping[str, Any], heartbeat: Heartbeat = NO_LISTENER
) -> None:
    """Replaces a folder's checkpoint in one move: a kill leaves the previous one or this one."""
    with CheckpointWriter(folder, heartbeat) as writer:
        writer.write(state, log)


class CheckpointWriter:
    """Writer of a folder's checkpoints: in a thread, one after another, while training goes on.

    State and log are those at the call. Leaving the context waits for the thread; its error is raised at the next call
    or there.
    """

    def __init__(self, folder: Path, heartbeat: Heartbeat = NO_LISTENER) -> None:
        self._folder, self._heartbeat, self._thread = folder, heartbeat, ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._thread.shutdown()

    def write(self, state: State | None, log: Mapping[str, Any]) -> None:
        """Waits for the previous checkpoint, then begins this one."""
        self._wait()
        tensors, values = (state["tensors"], state["values"]) if state is not None else ({}, None)
        header = json.dumps({"state": values, "log": log})  # not in the thread: the log changes with the next step
        self._writing = self._thread.submit(self._replace, tensors, header)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._heartbeat.during(STORE):
                writing.result()

    def _replace(self, tensors: dict[str, Tensor], header: str) -> None:
        with self._heartbeat.beside(STORE):
            unfinished = self._folder / f".{paths.CHECKPOINT}"
            save_file(tensors, unfinished, metadata={"values": header, "checksum": _checksum(tensors, header)})
            put(unfinished, self._folder / paths.CHECKPOINT)


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    checksum = zlib.crc32(header.encode())
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def new_log(state: State | None = None, resumes: str | None = None) -> dict[str, Any]:
    """Log of a phase that begins: at its first step, or at the `state` of the trunk segment `resumes` (a key)."""
    log: dict[str, Any] = {"began": time.time(), "attempts": [], "resumes": resumes, "made": []}
    return log | _first_counters(state["values"] if state is not None else {})


def next_log(collapsed: Mapping[str, Any]) -> dict[str, Any]:
    """Log of the attempt after one that has collapsed."""
    kept = ("began", "attempts", "resumes", "made", "activities")
    return {name: collapsed[name] for name in kept} | _first_counters({})


def _first_counters(trunk: Mapping[str, int]) -> dict[str, Any]:
    """Counters and costs before the first step; steps and tokens count on from those of the run's trunk."""
    counters = {name: trunk.get(counter, 0) for name, counter in COUNTERS.items()}
    return {"curve": [], "dev": [], "flops": 0, "seconds": 0.0, **counters}


class AttemptLog:
    """Log of one attempt at a phase, kept in its checkpoints; `log["attempts"]` are the collapsed ones before it."""

    def __init__(self, context: ChainContext, phase: Phase, log: dict[str, Any]) -> None:
        self._log = log
        self._loss: Callable[[], float] | None = None  # of the last point of the curve, while it is not read
        if context.provenance not in log["made"]:
            log["made"].append(context.provenance)
        self.context, self.phase = context, phase
        self._flops_before = log["flops"] - context.meter.flops
        self._seconds_before = log["seconds"] - context.meter.device_seconds
        self._masked = {name for name in phase.recipe.tasks if context.plan.tasks[name].family.raw_text}

    @property
    def log(self) -> dict[str, Any]:
        """The log with every loss of its curve; waits for the last of them."""
        self._read_loss()
        return self._log

    def _read_loss(self) -> None:
        """Reads the loss of the curve's last point: by now the device has other steps to do meanwhile."""
        if self._loss is not None:
            self._log["curve"][-1]["loss"], self._loss = self._loss(), None

    def add_step(self, progress: Progress, by_task: Mapping[str, float]) -> None:
        """Adds a step: costs and counters, now and then its loss, and its dev scores `by_task` where it has some."""
        log, meter = self._log, self.context.meter
        meter.flops += self._step_flops(progress)
        log.update(
            {name: getattr(progress, counter) for name, counter in COUNTERS.items()},
            flops=self._flops_before + meter.flops, seconds=self._seconds_before + meter.device_seconds,
            activities=meter.activities,
        )  # fmt: skip
        now = time.time()
        if progress.step % max(1, progress.steps // CURVE_POINTS) == 0 or progress.step == progress.steps:
            self._read_loss()
            log["curve"].append({"step": progress.step, "loss": None, "tokens": progress.tokens, "time": now})
            self._loss = progress.loss_later()
        if progress.dev is not None:
            log["dev"].append({"step": progress.step, "value": progress.dev, "time": now, "tasks": dict(by_task)})

    def report(self, progress: Progress) -> None:
        """Reports a step, or a batch of its dev evaluation."""
        known = [point["loss"] for point in self._log["curve"][-2:] if point["loss"] is not None]
        loss, attempt = known[-1] if known else None, len(self._log["attempts"])
        self.context.meter.report(progress.step, progress.steps, loss=loss, dev=progress.dev, attempt=attempt)

    def provenance(self) -> dict[str, Any]:
        """Fields of a record: precision, device, kernels and versions of all attempts, which may differ in them."""
        made = self._log["made"]
        versions = {name: _distinct(entry["versions"][name] for entry in made) for name in made[-1]["versions"]}
        # A checkpoint of an earlier version does not name its kernels.
        hardware = {
            name: _distinct(entry.get(name, "") for entry in made) for name in ("precision", "device", "kernels")
        }
        return {**hardware, "versions": versions}

    def close(self, seed: int, dev: float, collapsed: bool) -> None:
        """Ends the attempt: adds its seed, dev score and costs to `log["attempts"]`."""
        log = self._log
        log["attempts"].append({
            "seed": seed, "dev": dev, "steps": log["steps"], "flops": float(log["flops"]),
            "device_seconds": log["seconds"], "collapsed": collapsed,
        })  # fmt: skip

    def _step_flops(self, progress: Progress) -> float:
        padded, attended = (
            progress.padded_tokens - self._log["padded"],
            progress.attended_tokens - self._log["attended"],
        )
        return step_flops(self.context.encoder.shape, padded, attended, progress.task in self._masked)


def _distinct(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(filter(None, values)))
