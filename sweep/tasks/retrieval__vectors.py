"""What retrieval families ask of sentence vectors: which are nearest to which. sweep.train.score__neighbours answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RowIds = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """The nearest of M keys for each of N queries, the nearest first; of equally near ones the lower key first."""

    keys: RowIds  # [N, k] positions among the keys; k is the smaller of what was asked for and M
    cosine: NDArray[np.float32]  # [N, k]


class Vectors(Protocol):
    """One vector per sequence, and the search among them. Rows are numbers of sequences."""

    def __len__(self) -> int:
        """Sequences."""

    def nearest(self, queries: RowIds, keys: RowIds, count: int) -> Neighbours:
        """The `count` rows of `keys` nearest to each row of `queries`, by cosine."""

    def mutual(self, one: RowIds, other: RowIds, count: int) -> tuple[Neighbours, Neighbours]:
        """`nearest` from one side to the other, and back, for the price of one matrix product."""
