"""Tasks of the papers whose data cannot be fetched: a study names them after its user has described files for them.

Until then whatever asks for their data is answered with one line: what is needed, and what would do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from sweep.data.source import Row, Size
from sweep.errors import DataError
from sweep.tasks import FAMILIES
from sweep.tasks.catalog import languages_of
from sweep.tasks.task import Task


@dataclass(frozen=True)
class MissingSource:
    """base.Source of data that is not there. Everything raises DataError."""

    where: str  # place in the study file that would describe the data
    wanted: str
    why: str  # nobody but the user can bring them

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Raises DataError."""
        self._refuse()

    def size(self, split: str, language: str) -> Size:
        """Raises DataError."""
        self._refuse()

    def rows(self, split: str, language: str) -> list[Row]:
        """Raises DataError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DataError(self.where, f"no data, {self.why}", self.wanted)


CCG = Task(
    name="ccg",
    family=FAMILIES["token"],
    source=MissingSource(
        "tasks.ccg",
        "describe your own files of CCGbank (LDC2005T13) there, as `family: token, format: conll, labels: FILE` with a"
        " word and its supertag on a line, and the supertags in FILE, a line each; or take udpos, English parts of"
        " speech, which are free and not the paper's task",
        "which its licence keeps off the hub",
    ),
    languages=("en",),
    corpora=("ccgbank",),
    licence="LDC (LDC2005T13): not free, bring your own",
)


def _published(name: str, family: str, languages: tuple[str, ...], why: str, **rest: Any) -> Task:
    """A task of the benchmarks that the hub does not have as its score needs it."""
    wanted = "describe them there as {format: xtreme, path: folder}; sweep/tasks/catalog/publishers.py says which files"
    source = MissingSource(f"tasks.{name}", wanted, why)
    return Task(name, FAMILIES[family], source, languages, licence="as its publishers state", **rest)


XQUAD_R = languages_of("xquad")[:-1]  # it has no Romanian
PROVIDED = (
    CCG,
    _published(
        "bucc2018", "mining", languages_of("bucc2018"), "of which the hub has the gold pairs alone",
        train_language=None, corpora=("bucc2018",),
    ),
    _published("lareqa", "ranking", XQUAD_R, "whose sentence breaks the hub does not have", corpora=("squad",)),
    _published(
        "mewslix", "ranking", languages_of("mewslix"), "which its own script makes", corpora=("mewslix",),
        pool=("candidates",),
    ),
)  # fmt: skip
