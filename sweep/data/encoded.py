"""Encoded data as an Arrow file that every process maps instead of copying.

One record batch, one row per sequence, list columns with 64-bit offsets: the buffers of the file are exactly the flat
arrays of `Encoded`, so opening costs no time and no memory. What a file depends on, where it lies and who may write it
is the caller's business.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweep.data.encoded__base_encoded import Encoded, EncodedSequence
from sweep.data.source import Row
from sweep.errors import StoreError
from sweep.heartbeat import UNHEARD, Heartbeat

if TYPE_CHECKING:
    from sweep.tasks.task import Family

SEQUENCES_AT_ONCE = 256


def encode(
    family: Family,
    rows: Sequence[Row],
    tokenizer: Any,
    max_length: int,
    path: Path,
    heartbeat: Heartbeat = UNHEARD,
) -> Encoded:
    """Encode the rows, write the Arrow file (which appears complete or not at all) and return its mapped view."""
    flat = _Flat()
    for number, sequence in enumerate(family.encode(rows, tokenizer, max_length), start=1):
        flat.add(sequence)
        if number % SEQUENCES_AT_ONCE == 0:
            heartbeat.beat()
    write(flat.encoded(), path)
    return open_encoded(path)


def write(encoded: Encoded, path: Path) -> None:
    """Write the Arrow file: under another name first, then renamed."""
    import pyarrow as pa

    columns = {
        "tokens": _lists(encoded.bounds, encoded.tokens),
        "example": pa.array(encoded.example),
        "targets": _lists(encoded.target_bounds, encoded.targets),
    }
    if encoded.segments is not None:
        columns["segments"] = _lists(encoded.bounds, encoded.segments)
    if encoded.offsets is not None:
        pairs = pa.FixedSizeListArray.from_arrays(pa.array(encoded.offsets.reshape(-1)), 2)
        columns["offsets"] = pa.LargeListArray.from_arrays(pa.array(encoded.bounds), pairs)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _lists(bounds: NDArray[np.int64], values: NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array(bounds), pa.array(values))


def open_encoded(path: Path) -> Encoded:
    """The file as read-only views of its memory map; nothing is read before it is used.

    Raises FileNotFoundError, and StoreError where the file is not one that `write` completed.
    """
    import pyarrow as pa

    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        columns = {name: batch.column(name) for name in batch.schema.names}
        tokens, targets = columns["tokens"], columns["targets"]
        return Encoded(
            tokens=_view(tokens.values),
            bounds=_view(tokens.offsets),
            example=_view(columns["example"]),
            targets=_view(targets.values),
            target_bounds=_view(targets.offsets),
            segments=_view(columns["segments"].values) if "segments" in columns else None,
            offsets=_view(columns["offsets"].values.values).reshape(-1, 2) if "offsets" in columns else None,
        )
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(path, f"a damaged file of encoded data ({error})", "delete it, it is made again") from error


def _view(values: Any) -> NDArray[Any]:
    view: NDArray[Any] = values.to_numpy(zero_copy_only=True)
    return view


def from_sequences(sequences: Iterable[EncodedSequence]) -> Encoded:
    """The flat arrays of the sequences, in memory. Raises ValueError where lengths or example numbers do not fit."""
    flat = _Flat()
    for sequence in sequences:
        flat.add(sequence)
    return flat.encoded()


@dataclass
class _Flat:
    """The arrays of `Encoded` while they grow."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    targets: array[int] = field(default_factory=lambda: array("i"))
    offsets: array[int] = field(default_factory=lambda: array("i"))
    segments: array[int] = field(default_factory=lambda: array("b"))
    bounds: array[int] = field(default_factory=lambda: array("q", [0]))
    target_bounds: array[int] = field(default_factory=lambda: array("q", [0]))
    example: array[int] = field(default_factory=lambda: array("i"))

    def add(self, sequence: EncodedSequence) -> None:
        self.tokens.extend(sequence.tokens)
        self.targets.extend(sequence.targets)
        self.bounds.append(len(self.tokens))
        self.target_bounds.append(len(self.targets))
        self.example.append(sequence.example)
        if sequence.segments is not None:
            self.segments.extend(sequence.segments)
        if sequence.offsets is not None:
            self.offsets.extend(chain.from_iterable(sequence.offsets))

    def encoded(self) -> Encoded:
        """Raises ValueError."""
        if len(self.segments) not in (0, len(self.tokens)) or len(self.offsets) not in (0, 2 * len(self.tokens)):
            raise ValueError("segments and offsets are given for every token or for none")
        owners = _array(self.example, np.int32)
        if np.any(np.diff(owners, prepend=-1) < 0) or np.any(np.diff(owners, prepend=-1) > 1):
            raise ValueError("examples are numbered from 0, in order, without gaps")
        return Encoded(
            tokens=_array(self.tokens, np.int32),
            bounds=_array(self.bounds, np.int64),
            example=owners,
            targets=_array(self.targets, np.int32),
            target_bounds=_array(self.target_bounds, np.int64),
            segments=_array(self.segments, np.int8) if self.segments else None,
            offsets=_array(self.offsets, np.int32).reshape(-1, 2) if self.offsets else None,
        )


def _array(values: array[int], dtype: Any) -> NDArray[Any]:
    # numpy refuses a view of an empty buffer
    return np.frombuffer(values, dtype=dtype) if values else np.zeros(0, dtype=dtype)


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """The examples of all parts, one part after the other.

    Raises ValueError for no parts, and where only some of them have segments or offsets.
    """
    if not parts:
        raise ValueError("nothing to concatenate")
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0, *(part.examples for part in parts)])
    return Encoded(
        tokens=np.concatenate([part.tokens for part in parts]),
        bounds=_joined_bounds([part.bounds for part in parts]),
        example=np.concatenate(
            [part.example + np.int32(first) for part, first in zip(parts, firsts[:-1], strict=True)]
        ),
        targets=np.concatenate([part.targets for part in parts]),
        target_bounds=_joined_bounds([part.target_bounds for part in parts]),
        segments=_joined([part.segments for part in parts]),
        offsets=_joined([part.offsets for part in parts]),
    )


def _joined_bounds(bounds: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part) for part in bounds]))]).astype(np.int64)


def _joined(arrays: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [part for part in arrays if part is not None]
    if present and len(present) < len(arrays):
        raise ValueError("segments and offsets are in every part or in none")
    return np.concatenate(present) if present else None
