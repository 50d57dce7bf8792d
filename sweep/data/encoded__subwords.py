"""What the families need of a tokenizer: subwords of many texts at once, and the special tokens to put round them.

Truncation, windows and splitting differ between families, so they take bare subwords and frame them themselves; the
tokenizer's own truncation and padding are never used and are left as they were found. Works with any fast Hugging Face
tokenizer, whatever its special tokens. Knows nothing of what is in a row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sweep.data.source import Row

ROWS_AT_ONCE = 1024  # enough to keep the tokenizer's threads busy, little enough to be stopped between two of them


def slices(rows: Sequence[Row]) -> Iterator[tuple[int, Sequence[Row]]]:
    """(number of its first row, rows) over consecutive slices that are worth a call of the tokenizer."""
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
    """Subword ids of every text, no special tokens added."""
    with plain(tokenizer) as backend:
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def subwords_with_offsets(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Subword ids of every text and, for each subword, the characters [start, end) of the text that it stands for.

    These are characters of the text as it was given, and whole ones: a mark that the tokenizer's normaliser has put
    into the letter before it, or taken off, belongs to that letter's subword.
    """
    with plain(tokenizer) as backend:
        encodings = backend.encode_batch(list(texts), add_special_tokens=False)
    return [(one.ids, _with_marks(text, one.offsets)) for text, one in zip(texts, encodings, strict=True)]


def _with_marks(text: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ends moved beyond marks that no subword begins with."""
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
    """Whether a character belongs to the one before it: combining marks, and vowels and finals of Hangul syllables.

    So do those that decompose into one, such as the half-width voicing marks of Katakana.
    """

    def __missing__(self, character: str) -> bool:
        decomposed = unicodedata.normalize("NFKD", character)[0]
        self[character] = unicodedata.category(decomposed).startswith("M") or "\u1160" <= decomposed <= "\u11ff"
        return self[character]


_MARKS = _Marks()


@dataclass(frozen=True)
class Frame:
    """The special tokens round one text or a pair: gaps[0] text gaps[1], or gaps[0] text gaps[1] pair gaps[2]."""

    gaps: tuple[tuple[int, ...], ...]
    gap_segments: tuple[tuple[int, ...], ...]
    text_segments: tuple[int, ...]
    has_segments: bool  # whether the encoder takes token type ids

    def room(self, max_length: int) -> int:
        """Subwords that fit beside the special tokens. Raises ValueError where none does."""
        room = max_length - sum(map(len, self.gaps))
        if room < 1:
            raise ValueError(f"max_length {max_length} leaves no room beside the special tokens")
        return room

    def join(self, *texts: Sequence[int]) -> list[int]:
        """The framed sequence of one or two texts."""
        tokens = list(self.gaps[0])
        for text, gap in zip(texts, self.gaps[1:], strict=True):
            tokens.extend(text)
            tokens.extend(gap)
        return tokens

    def segments(self, *lengths: int) -> list[int] | None:
        """Token type ids of the framed sequence of texts of these lengths, or None where the encoder takes none."""
        if not self.has_segments:
            return None
        segments = list(self.gap_segments[0])
        for length, segment, gap in zip(lengths, self.text_segments, self.gap_segments[1:], strict=True):
            segments.extend([segment] * length)
            segments.extend(gap)
        return segments


def frame(tokenizer: Any, *, pair: bool) -> Frame:
    """How the tokenizer frames one text or a pair, read off what it does to a word that it knows."""
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
