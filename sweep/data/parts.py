"""Parts of a split: what local and hub sources share, each part read one way and serving some languages.

Where dev is a share of train, both splits are read from the parts of train.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from sweep.data import Row
from sweep.data.columns import Columns, Located
from sweep.data.units import DRAW, drawn, held
from sweep.errors import DataError, nearest


@dataclass(frozen=True)
class Part:
    """Some data of a split. Its subclasses say where that is."""

    columns: Columns
    languages: Mapping[str, str]  # language -> its code in paths and configurations
    where: str  # place in the study file

    def names(self, language: str) -> dict[str, str]:
        """What {language} and {code} stand for."""
        return {"language": language, "code": self.languages[language]}

    def reading(self, **instead: object) -> dict[str, object]:
        """How its data is read, as plain data for a digest, with other values of what says where the data lies."""
        return {**vars(self), "where": "", "languages": {}, "columns": self.columns.reading(), **instead}


AnyPart = TypeVar("AnyPart", bound=Part)


@dataclass(frozen=True)
class PartedSource(ABC, Generic[AnyPart]):
    """Most of base.Source, over parts. Subclasses say what a part's rows are, and what they depend on."""

    splits: Mapping[str, tuple[AnyPart, ...]]
    dev_share: Fraction | None  # of train, where there is no dev data
    sizes: Mapping[str, Mapping[str, int]]  # split -> language, or "other" -> rows, as far as they are stated
    tokens: float | None  # mean subword tokens of an example, if stated
    where: str  # place in the study file

    @abstractmethod
    def part_rows(self, part: AnyPart, language: str) -> Located:
        """(place, row) of a part. Raises DataError."""

    @abstractmethod
    def part_digest(self, part: AnyPart, language: str) -> str:
        """What the rows of a part depend on."""

    @abstractmethod
    def part_place(self, part: AnyPart, language: str) -> str:
        """The part's data, named for messages."""

    def rows(self, split: str, language: str) -> list[Row]:
        """All rows of a split in one language. Raises DataError, also where there are none."""
        return [row for _, row in self.located(split, language)]

    def located(self, split: str, language: str) -> Located:
        """(place such as file:line, row) of the same rows."""
        share, empty = self.share(split), True
        for located in self._all(split, language) if share is None else self._side(split, language, share):
            empty = False
            yield located
        if empty:
            raise self.without_rows(split, language)

    def _all(self, split: str, language: str) -> Located:
        return (located for part in self.parts(split, language) for located in self.part_rows(part, language))

    def _side(self, split: str, language: str, share: Fraction) -> Located:
        """The rows of train that are dev, or the others."""
        located = list(self._all(split, language))
        if not located:
            return iter(())
        try:
            dev = drawn(self.parts(split, language)[0].columns.family, [row for _, row in located], share)
        except ValueError as error:
            place = self.part_place(self.parts(split, language)[0], language)
            found = f"rows that belong together, {len(located)} of them, which no share can divide"
            wanted = f"rows of two passages, documents or texts at least, or a file in {self.where}.dev, are expected"
            raise DataError(place, found, wanted) from error
        return (one for one, is_dev in zip(located, dev.tolist(), strict=True) if is_dev == (split == "dev"))

    def without_rows(self, split: str, language: str) -> DataError:
        """That the parts of a split are there, and have nothing to use."""
        part = self.parts(split, language)[0]
        wanted = f"{part.where} must name data with at least one row to use"
        return DataError(self.part_place(part, language), f"no {split} rows", wanted)

    def parts(self, split: str, language: str) -> list[AnyPart]:
        """The parts that a split's rows come from. Raises DataError where it lacks the language."""
        parts = self.splits.get(self.origin(split), ())
        found = [part for part in parts if language in part.languages]
        if not found:
            known = sorted({language for part in parts for language in part.languages})
            wanted = f"its languages are {', '.join(known)}" if known else f"the task has no {split} data"
            raise DataError(f"{self.where}.{split}", f"language {language!r}", wanted, nearest(language, known))
        return found

    def share(self, split: str) -> Fraction | None:
        """The share of train that dev takes, for the two splits that this concerns."""
        return self.dev_share if split in ("train", "dev") else None

    def stated(self, split: str, language: str) -> int | None:
        """Rows of the split's parts as the description states them."""
        rows = self.sizes.get(self.origin(split), {})
        return rows.get(language, rows.get("other"))

    def origin(self, split: str) -> str:
        """The split whose parts are read."""
        return "train" if self.share(split) is not None else split

    def portion(self, split: str, examples: int) -> int:
        """Rows of a split where its parts have so many."""
        share = self.share(split)
        if share is None:
            return examples
        dev = held(examples, share)
        return dev if split == "dev" else examples - dev

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Of the split's parts, and of the share of them that it takes. Raises DataError where a file is absent."""
        share = self.share(split)
        parts = [self.part_digest(part, language) for part in self.parts(split, language)]
        drawn_by = None if share is None else [split, str(share), DRAW]
        found: dict[str, object] = {"parts": parts, "share": drawn_by}
        named = [part.columns.unit for part in self.parts(split, language)]
        if any(unit is not None for unit in named) and (split == "test" or share is not None):
            found["units"] = named  # scores are kept with them, and a share is of whole units
        return found
