"""Tasks of the papers whose data cannot be fetched: a study names them after its user has described files for them.

Until then whatever asks for their data is answered with one line: what is needed, and what would do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from sweep.errors import DataError
from sweep.tasks.base import Row, Size, Task


@dataclass(frozen=True)
class MissingSource:
    """base.Source of data that is not there. Everything raises DataError."""

    where: str  # place in the study file that would describe the data
    wanted: str

    def identity(self) -> Mapping[str, object]:
        """Raises DataError."""
        self._refuse()

    def size(self, split: str, language: str) -> Size:
        """Raises DataError."""
        self._refuse()

    def rows(self, split: str, language: str) -> list[Row]:
        """Raises DataError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DataError(self.where, "no data, which its licence keeps off the hub", self.wanted)


CCG = Task(
    name="ccg",
    family="token",
    source=MissingSource(
        "tasks.ccg",
        "describe your own files of CCGbank (LDC2005T13) there, as `family: token, format: conll, labels: FILE` with a"
        " word and its supertag on a line, and the supertags in FILE, a line each; or take udpos, English parts of"
        " speech, which are free and not the paper's task",
    ),
    languages=("en",),
    corpora=("ccgbank",),
    licence="LDC (LDC2005T13): not free, bring your own",
)
PROVIDED = (CCG,)
