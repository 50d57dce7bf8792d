"""Encoded data: subwords of many texts at once, sequences of token ids, and the Arrow file that processes map.

Truncation, windows and splitting differ between families, so they take bare subwords and frame them themselves; the
tokenizer's own truncation and padding are switched off and restored. Works with any fast Hugging Face tokenizer,
whatever its special tokens, and for rows of any family.

The file is one record batch with one row per sequence and list columns with 64-bit offsets: its buffers are exactly the
flat arrays of `Encoded`, so opening costs no time and no memory. What a file depends on, where it lies and who may
write it is up to the caller.
"""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.errors import StoreError
from sweep.heartbeat import NO_LISTENER, Heartbeat

if TYPE_CHECKING:
    from sweep.tasks.task import Family

# Raised when the same data would be read as other rows, or the same rows be encoded otherwise: part of every key.
ENCODING_VERSION = 3


@dataclass(frozen=True)
class Encoded:
    """Token sequences of one split in one language: flat numpy arrays, usually views of a memory-mapped Arrow file.

    An *example* is one row; it owns one or more consecutive *sequences* (the options of a choice, the windows of a long
    context, the two sides of a sentence pair). S sequences, T tokens in all.
    """

    tokens: NDArray[np.int32]  # [T]
    bounds: NDArray[np.int64]  # [S+1]: sequence s is tokens[bounds[s]:bounds[s+1]]
    example: NDArray[np.int32]  # [S]: the example that owns the sequence; starts at 0, nondecreasing, no gaps
    targets: NDArray[np.int32]  # [U] targets of the head, flat; their meaning is up to the family
    target_bounds: NDArray[np.int64]  # [S+1]: as bounds, of targets
    segments: NDArray[np.int8] | None = None  # [T] token type ids where the encoder uses them
    offsets: NDArray[np.int32] | None = None  # [T, 2] span: characters [start, end) of the context, (-1, -1) outside

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.example[-1]) + 1 if len(self.example) else 0

    def lengths(self) -> NDArray[np.int64]:
        """[S] tokens per sequence."""
        return np.diff(self.bounds)

    def example_bounds(self) -> NDArray[np.int64]:
        """[N+1]: example n owns sequences example_bounds[n]:example_bounds[n+1]."""
        return np.searchsorted(self.example, np.arange(self.examples + 1)).astype(np.int64)


@dataclass(frozen=True)
class EncodedSequence:
    """Sequence as a family yields it, before the flat arrays are built."""

    tokens: Sequence[int]
    example: int
    targets: Sequence[int] = ()
    segments: Sequence[int] | None = None
    offsets: Sequence[tuple[int, int]] | None = None


ROWS_AT_ONCE = 1024  # enough to keep the tokenizer's threads busy, little enough to be stopped between two of them


def slices(rows: Sequence[Row]) -> Iterator[tuple[int, Sequence[Row]]]:
    """(number of the first row, rows) of consecutive slices large enough for one call of the tokenizer."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, rows[start : start + ROWS_AT_ONCE]


@contextmanager
def plain(tokenizer: Any) -> Iterator[Any]:
    """The tokenizer's backend with truncation and padding off, both restored at exit."""
    backend = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield backend
    finally:
        if truncation is not None:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


def subwords(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Subword ids of every text, without special tokens."""
    with plain(tokenizer) as backend:
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def subwords_with_offsets(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Subword ids of every text, with the characters [start, end) of the text that each subword covers.

    Offsets count characters of the text as given, and whole ones: a mark that the tokenizer's normaliser has merged
    into the letter before it, or removed, belongs to that letter's subword.
    """
    with plain(tokenizer) as backend:
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
    return [
        (encoding.ids, _with_marks(text, encoding.offsets)) for text, encoding in zip(texts, encodings, strict=True)
    ]


def _with_marks(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets whose ends include marks that no subword begins with."""
    if text.isascii():
        return offsets
    firsts = {first for first, last in offsets if first < last}
    whole = []
    for first, last in offsets:
        end = last
        while first < end < len(text) and end not in firsts and _MARKS[text[end]]:
            end += 1
        whole.append((first, end))
    return whole


class _Marks(dict[str, bool]):
    """Cache of which characters belong to the one before: combining marks, vowels and finals of Hangul syllables.

    So do those that decompose into one, such as the half-width voicing marks of Katakana.
    """

    def __missing__(self, character: str) -> bool:
        decomposed = unicodedata.normalize("NFKD", character)[0]
        self[character] = unicodedata.category(decomposed).startswith("M") or "\u1160" <= decomposed <= "\u11ff"
        return self[character]


_MARKS = _Marks()


@dataclass(frozen=True)
class Frame:
    """Special tokens round one text or a pair: gaps[0] text gaps[1], or gaps[0] text gaps[1] pair gaps[2]."""

    gaps: tuple[tuple[int, ...], ...]
    gap_segments: tuple[tuple[int, ...], ...]
    text_segments: tuple[int, ...]
    has_segments: bool  # whether the encoder takes token type ids

    def room(self, max_length: int) -> int:
        """Subword tokens that fit into `max_length` beside the special ones. Raises ValueError where none does."""
        room = max_length - sum(map(len, self.gaps))
        if room < 1:
            raise ValueError(f"max_length {max_length} leaves no room beside the special tokens")
        return room

    def join(self, *texts: Sequence[int]) -> list[int]:
        """Token ids of one or two texts with the special tokens."""
        tokens = list(self.gaps[0])
        for text, gap in zip(texts, self.gaps[1:], strict=True):
            tokens.extend(text)
            tokens.extend(gap)
        return tokens

    def segments(self, *lengths: int) -> list[int] | None:
        """Token type ids [L] of the framed texts of these lengths, or None where the encoder takes none."""
        if not self.has_segments:
            return None
        segments = list(self.gap_segments[0])
        for length, segment, gap in zip(lengths, self.text_segments, self.gap_segments[1:], strict=True):
            segments.extend([segment] * length)
            segments.extend(gap)
        return segments


def frame(tokenizer: Any, *, pair: bool) -> Frame:
    """Frame that a tokenizer puts round one text or a pair, read off its encoding of a known word."""
    with plain(tokenizer) as backend:
        candidates = chain(("a",), map(tokenizer.convert_ids_to_tokens, range(len(tokenizer))))
        word = next(word for word in candidates if backend.encode(word, add_special_tokens=False).ids)
        encoding = backend.encode(word, word) if pair else backend.encode(word)
    owners, count = encoding.sequence_ids, 2 if pair else 1
    firsts = [owners.index(text) for text in range(count)]
    ends = [len(owners) - owners[::-1].index(text) for text in range(count)]
    spans = list(zip([0, *ends], [*firsts, len(owners)], strict=True))
    return Frame(
        gaps=tuple(tuple(encoding.ids[start:end]) for start, end in spans),
        gap_segments=tuple(tuple(encoding.type_ids[start:end]) for start, end in spans),
        text_segments=tuple(encoding.type_ids[first] for first in firsts),
        has_segments="token_type_ids" in tokenizer.model_input_names,
    )


SEQUENCES_AT_ONCE = 256


def encode(
    family: Family,
    rows: Sequence[Row],
    tokenizer: Any,
    max_length: int,
    path: Path,
    heartbeat: Heartbeat = NO_LISTENER,
) -> Encoded:
    """Encodes rows, writes the Arrow file (complete or not at all) and returns its memory-mapped view."""
    flat = _Flat()
    for number, sequence in enumerate(family.encode(rows, tokenizer, max_length), start=1):
        flat.add(sequence)
        if number % SEQUENCES_AT_ONCE == 0:
            heartbeat.beat()
    write(flat.encoded(), path)
    return open_encoded(path)


def write(encoded: Encoded, path: Path) -> None:
    """Writes the Arrow file, complete or not at all."""
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
    write_batches(batch.schema, [batch], path)


def write_batches(schema: Any, batches: Iterable[Any], path: Path) -> None:
    """Writes record batches as an Arrow file under another name, then renames it."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _lists(bounds: NDArray[np.int64], values: NDArray[Any]) -> Any:
    import pyarrow as pa

    return pa.LargeListArray.from_arrays(pa.array(bounds), pa.array(values))


def open_encoded(path: Path) -> Encoded:
    """Read-only views of the memory-mapped file; pages are read when used.

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
        raise StoreError(path, f"damaged encoded data ({error})", "delete the file; it is made again") from error


def _view(values: Any) -> NDArray[Any]:
    view: NDArray[Any] = values.to_numpy(zero_copy_only=True)
    return view


def from_sequences(sequences: Iterable[EncodedSequence]) -> Encoded:
    """Flat arrays of the sequences, in memory. Raises ValueError where lengths or example numbers do not fit."""
    flat = _Flat()
    for sequence in sequences:
        flat.add(sequence)
    return flat.encoded()


@dataclass
class _Flat:
    """Growing arrays of an `Encoded`."""

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
        """The finished arrays. Raises ValueError where lengths or example numbers do not fit."""
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
    """Examples of all parts, one part after the other.

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
