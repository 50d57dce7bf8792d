"""TODO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    targets: NDArray[np.int32]  # [U]: what the head is to predict, flat; what they mean, its family says
    target_bounds: NDArray[np.int64]  # [S+1]
    segments: NDArray[np.int8] | None = None  # [T] token type ids where the encoder uses them
    offsets: NDArray[np.int32] | None = None  # [T, 2] span only: characters in the context, (-1, -1) outside it

    @property
    def examples(self) -> int:
        return int(self.example[-1]) + 1 if len(self.example) else 0

    def lengths(self) -> NDArray[np.int64]:
        """[S] tokens per sequence."""
        return np.diff(self.bounds)

    def example_bounds(self) -> NDArray[np.int64]:
        """[N+1]: example n owns sequences example_bounds[n]:example_bounds[n+1]."""
        return np.searchsorted(self.example, np.arange(self.examples + 1)).astype(np.int64)


@dataclass(frozen=True)
class EncodedSequence:
    """One sequence as a family hands it over, before the flat arrays are built."""

    tokens: Sequence[int]
    example: int
    targets: Sequence[int] = ()
    segments: Sequence[int] | None = None
    offsets: Sequence[tuple[int, int]] | None = None
