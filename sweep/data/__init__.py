"""Data: rows from files and the hub to token ids on disk, and the contract of it all, Source.

No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Row = dict[str, Any]  # one example in the columns of its family, whose file says what is in them

SPLITS = ("train", "dev", "test")
IGNORED = -100  # a target that has no loss and no score, as in torch.nn.CrossEntropyLoss


@dataclass(frozen=True)
class Size:
    """Size of a split before it is loaded; all that a plan needs."""

    examples: int
    tokens: float  # mean subword tokens per example, all its sequences together, special tokens included
    sequences: float | None = None  # mean per example (options of a choice); None: as many as its family usually has


class Source(Protocol):
    """Origin of a task's rows. Implementations are frozen dataclasses: embedded, local files, hub."""

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Digests that the rows of a split depend on, as plain data for a key: of files, of a hub commit, of a seed.

        Data sets that are read alike have one identity, whatever other splits lie beside them. Raises DataError.
        """

    def size(self, split: str, language: str) -> Size:
        """Size of a split, without loading it where that can be avoided. Raises DataError."""

    def rows(self, split: str, language: str) -> list[Row]:
        """Rows of a split in the family's columns, labels as integers. Raises DataError."""

    def places(self, split: str, language: str) -> list[str]:
        """Places of these rows, such as `file name:line`, by which a person finds them. Raises DataError."""


def short_place(place: str) -> str:
    """Place such as file:line without the folders of its file, which are others on another machine."""
    return place.rpartition("/")[2]


BYTES_PER_TOKEN = 4.2  # UTF-8 bytes per subword of English text; other scripts differ, and what is loaded corrects it


def guess_tokens(*texts: str) -> float:
    """Estimated subword tokens of a sequence of these texts, special ones included, from their UTF-8 bytes."""
    return 3 + sum(len(text.encode()) for text in texts) / BYTES_PER_TOKEN
