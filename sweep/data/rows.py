"""Rows on disk: one split in the languages that one pass over its data gives, in an Arrow file that processes map.

Rows depend on data and description alone, so encoders share them. The file has one record batch per language, with one
row of JSON and one place per example. They are decoded whenever they are asked for: a language costs memory while it is
worked on. What a file depends on, where it lies and who may write it is up to the caller.

Rows come back equal to the last type: texts as they were, of any Unicode form, halves of characters included; integers,
floats, booleans and None apart from each other; lists, tuples and mappings by text inside each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, overload

import numpy as np

from sweep.data import Row, Source, short_place
from sweep.data.columns import PartedSource
from sweep.data.encoded import write_batches
from sweep.errors import DataError, StoreError
from sweep.heartbeat import NO_LISTENER, Heartbeat

AT_ONCE = 256  # values that are decoded together
BEAT = 4096  # rows that are read between two beats
TUPLE = "\0tuple"  # the only key of a mapping that stands for a tuple
MARK = json.dumps(TUPLE)  # as it stands in JSON
ATOMS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Split:
    """Rows of a split in one language, and their places, such as `file name:line`, by which a person finds them."""

    rows: Sequence[Row]
    places: Sequence[str]


def together(source: Source, split: str, language: str) -> tuple[str, ...]:
    """Languages whose rows of a split one pass over the data gives, this one among them. Raises DataError."""
    return source.together(split, language) if isinstance(source, PartedSource) else (language,)


def located(source: Source, split: str, languages: Sequence[str]) -> Iterator[tuple[str, str, Row]]:
    """(language, place, row) of a split in languages that stand `together`, in one pass. Raises DataError."""
    if isinstance(source, PartedSource):
        for language, place, row in source.located_together(split, languages):
            yield language, short_place(place), row
    else:
        for language in languages:
            for place, row in zip(source.places(split, language), source.rows(split, language), strict=True):
                yield language, place, row


def write_rows(
    rows: Iterable[tuple[str, str, Row]], languages: Sequence[str], path: Path, heartbeat: Heartbeat = NO_LISTENER
) -> None:
    """Writes the file of (language, place, row), complete or not at all.

    Raises DataError for a value that JSON cannot give back.
    """
    import pyarrow as pa

    columns: dict[str, tuple[list[bytes], list[bytes]]] = {language: ([], []) for language in languages}
    for number, (language, place, row) in enumerate(rows, start=1):
        texts, places = columns[language]
        texts.append(_line(_plain(row, place)))
        places.append(_line(place))
        if number % BEAT == 0:
            heartbeat.beat()
    schema = pa.schema([("row", pa.large_binary()), ("place", pa.large_binary())])
    schema = schema.with_metadata({"languages": json.dumps(languages)})
    batches = (
        pa.RecordBatch.from_arrays([pa.array(column, pa.large_binary()) for column in columns[language]], schema=schema)
        for language in languages
    )
    write_batches(schema, batches, path)


def open_rows(path: Path, language: str) -> Split:
    """Rows in one language, from the memory-mapped file; pages are read when used.

    Raises FileNotFoundError, and StoreError where the file is not one that `write_rows` completed; so do the sequences
    where a value cannot be decoded.
    """
    import pyarrow as pa

    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        languages = json.loads(file.schema.metadata[b"languages"])
        batch = file.get_batch(languages.index(language))
        return Split(_Values(batch.column("row"), path), _Values(batch.column("place"), path))
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path, error) from error


class _Values(Sequence[Any]):
    """Values of a column of JSON, decoded whenever they are asked for; a slice is a list."""

    def __init__(self, column: Any, path: Path) -> None:
        _, bounds, data = column.buffers()
        self._bounds = (
            np.frombuffer(bounds, dtype=np.int64)[: len(column) + 1] if len(column) else np.zeros(1, np.int64)
        )
        self._data, self._path = memoryview(data or b""), path

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Any]:
        for first in range(0, len(self), AT_ONCE):
            yield from self._decoded(first, min(first + AT_ONCE, len(self)))

    @overload
    def __getitem__(self, key: int) -> Any: ...

    @overload
    def __getitem__(self, key: slice) -> list[Any]: ...

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            first, last, step = key.indices(len(self))
            return self._decoded(first, last) if step == 1 else [self[number] for number in range(first, last, step)]
        number = range(len(self))[index(key)]
        return self._decoded(number, number + 1)[0]

    def _decoded(self, first: int, last: int) -> list[Any]:
        """Values from number `first` to before `last`. Raises StoreError."""
        if first >= last:
            return []
        try:
            text = str(self._data[self._bounds[first] : self._bounds[last]], "utf-8", "surrogatepass")
            values: list[Any] = json.loads(f"[{text[:-1]}]")
        except ValueError as error:
            raise _damaged(self._path, error) from error
        if len(values) != last - first:
            raise _damaged(self._path, f"{len(values)} values where {last - first} were written")
        return [_restored(value) for value in values] if MARK in text else values


def _line(value: object) -> bytes:
    """JSON and a comma, so that consecutive values are decoded in one."""
    return f"{json.dumps(value, ensure_ascii=False, separators=(',', ':'))},".encode("utf-8", "surrogatepass")


def _plain(value: Any, place: str) -> Any:
    """Value that JSON gives back as it is. Raises DataError for one that it cannot give back."""
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is list:
        return [_plain(item, place) for item in value]
    if kind is tuple:
        return {TUPLE: [_plain(item, place) for item in value]}
    if kind is dict and all(type(name) is str and name != TUPLE for name in value):
        return {name: _plain(item, place) for name, item in value.items()}
    expected = "text, numbers, booleans, None, lists, tuples and mappings by text are expected of the family's `row`"
    raise DataError(place, f"a value of the type {kind.__name__} in a row", expected)


def _restored(value: Any) -> Any:
    """Value before `_plain`."""
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, dict):
        return (
            tuple(map(_restored, value[TUPLE])) if TUPLE in value else {k: _restored(item) for k, item in value.items()}
        )
    return value


def _damaged(path: Path, error: object) -> StoreError:
    return StoreError(path, f"damaged rows ({error})", "delete the file; it is made again")
