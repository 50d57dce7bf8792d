"""A half-done phase on disk: one safetensors file whose header carries the counters and the log. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sweep.errors import StoreError
from sweep.training.train import State

CHECKPOINT = "checkpoint.safetensors"


def read_checkpoint(folder: Path) -> tuple[State | None, dict[str, Any]]:
    """State and log of a half-done phase, or (None, {}) where there is none. Raises StoreError for a damaged file.

    There is a log without a state where an attempt has collapsed and the next one is to begin.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None, {}
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads(opened.metadata()["values"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as damage:
        raise StoreError(path, f"a damaged checkpoint ({damage})", "delete it: the phase begins anew") from damage
    state = None if header["state"] is None else State(tensors=tensors, values=header["state"])
    return state, header["log"]


def write_checkpoint(folder: Path, state: State | None, log: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in one move: a kill leaves the previous one or this one."""
    tensors, values = (state["tensors"], state["values"]) if state is not None else ({}, None)
    unfinished = folder / f".{CHECKPOINT}"
    save_file(tensors, unfinished, metadata={"values": json.dumps({"state": values, "log": log})})
    unfinished.replace(folder / CHECKPOINT)
