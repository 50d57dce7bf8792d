"""A half-done phase on disk: one safetensors file whose header carries counters, log and a checksum. No pickle.

The checksum is a CRC-32 of all that the file holds: it finds what disks and broken writes do, at 4 GB/s.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sweep.errors import StoreError
from sweep.store import paths
from sweep.store.artifacts import put
from sweep.train.loop import State


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


def write_checkpoint(folder: Path, state: State | None, log: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in one move: a kill leaves the previous one or this one."""
    with CheckpointWriter(folder) as writer:
        writer.write(state, log)


class CheckpointWriter:
    """Writes a folder's checkpoints in a thread, one after another, while training goes on.

    State and log are taken as they are at the call. Leaving the context waits; an error of the thread is raised at the
    next call or there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._thread = folder, ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._thread.shutdown()

    def write(self, state: State | None, log: Mapping[str, Any]) -> None:
        """Waits for the checkpoint before, then begins this one."""
        self._wait()
        tensors, values = (state["tensors"], state["values"]) if state is not None else ({}, None)
        header = json.dumps({"state": values, "log": log})  # here: the log goes on
        self._writing = self._thread.submit(_replace, self._folder, tensors, header)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _replace(folder: Path, tensors: dict[str, Tensor], header: str) -> None:
    unfinished = folder / f".{paths.CHECKPOINT}"
    save_file(tensors, unfinished, metadata={"values": header, "checksum": _checksum(tensors, header)})
    put(unfinished, folder / paths.CHECKPOINT)


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    found = zlib.crc32(header.encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
