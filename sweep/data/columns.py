"""Columns of a data file: from a raw row to a row of its family, and the parts that a split consists of.

Shared by local files and the hub. Only whether a row can be read as the study file describes it is checked here, with
the place of the row in the error; whether its contents make sense is checked by the family's `check`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from sweep.data import IGNORED, Row, short_place
from sweep.data.formats import LINES, UNIT, Raw
from sweep.data.units import DRAW_VERSION, dev_size, drawn_as_dev
from sweep.errors import DataError, nearest

if TYPE_CHECKING:
    from sweep.tasks.task import Family

Located = Iterator[tuple[str, Row]]  # (place such as file:line, row)

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
LONGEST_NAME = 60  # characters of a column's name; what is longer was no name
# What stands in the name of the only column where a table was divided at something else, and what would do.
SEPARATORS = {
    "\t": "`format: tsv` divides at tabs",
    ";": "no format divides at semicolons; write the file with tabs or commas",
    ",": "`format: csv` divides at commas",
}
WHOLE = re.compile(r"(-?\d+)\.0+")  # an integer as tables write it that had gaps


@dataclass(frozen=True)
class Columns:
    """Mapping of a file's columns to those of a family, and of label spellings to integers.

    A column is the name of one in the file; a text with `{names}` in it; a list of these; or a mapping `{"by":
    column, value: text}`, where the value of a column chooses the text. `keep` and `skip` hold, per raw column, the
    values that rows must or must not have; they may contain {code} and {language}, and a final `*` matches any
    ending.
    """

    family: Family
    columns: Mapping[str, Any]
    spellings: Mapping[str, int]  # a label as the file spells it -> its integer
    keep: Mapping[str, tuple[str, ...]]
    skip: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()  # token: names in the order of their integers, as their scheme writes them
    omit: tuple[str, ...] = ()  # token: words with these tags are left out
    omit_empty: bool = False  # token: so are words without a character
    skip_misplaced: bool = False  # span: rows with an answer that is not at its offset are left out
    normal_form: str | None = None  # span: the Unicode normal form in which contexts, questions and answers are read
    unit: Any = None  # the column that rows of one unit have in common; None: what the format says

    def rows(self, numbered: Iterable[tuple[str, Raw]], names: Mapping[str, str]) -> Located:
        """(place, row) of the raw rows that are kept; `names` fills {code} and {language}. Raises DataError."""
        read = self.reader(names)
        return ((where, row) for where, raw in numbered if (row := read(where, raw)) is not None)

    def reader(self, names: Mapping[str, str]) -> Callable[[str, Raw], Row | None]:
        """Function of (place, raw row) to the row, None where it is not kept. It raises DataError."""
        keep = {column: [fill(value, names) for value in values] for column, values in self.keep.items()}
        skip = {column: [fill(value, names) for value in values] for column, values in self.skip.items()}

        def read(where: str, raw: Raw) -> Row | None:
            for column, values in keep.items():
                if not _among(_column(raw, column, where), values):
                    return None
            for column, values in skip.items():
                if _among(_column(raw, column, where), values):
                    return None
            row = self.family.row(self, raw, where)
            if row is not None:
                unit = raw.get(UNIT) if self.unit is None else _value(raw, self.unit, where)
                if unit not in (None, ""):
                    row["unit"] = str(unit)
            return row

        return read

    def reading(self) -> dict[str, object]:
        """Fields that rows depend on, as plain data for a digest; the unit of a row is none of them."""
        fields = {name: value for name, value in vars(self).items() if name != "unit"}
        return {**fields, "family": self.family.identity}

    def value(self, raw: Raw, canonical: str, where: str) -> Any:
        """Value of a family's column in a raw row. Raises DataError where the column is absent."""
        return _value(raw, self.columns[canonical], where)

    def text(self, raw: Raw, canonical: str, where: str) -> str:
        """Text of a family's column, without a line end. Raises DataError where it is absent or not text."""
        return _text(self.value(raw, canonical, where), canonical, where)

    def texts(self, raw: Raw, canonical: str, where: str) -> list[str]:
        """List of texts of a family's column. Raises DataError where it is absent or something else."""
        return _texts(self.value(raw, canonical, where), canonical, where)

    def label(self, value: object, where: str) -> int:
        """Integer of a row's label. Raises DataError for an unknown spelling, or a number below zero (no label)."""
        number = self._integer(value)
        if number is None and _is_below_zero(value):
            column = self.columns["label"]
            key = column if isinstance(column, str) else "column"
            expected = f"`skip: {{{key}: [{spelling(value)}]}}` leaves out such rows, and `labels` may give it a name"
            raise DataError(
                where, f"the label {spelling(value)}, which names none (hidden, or not annotated)", expected
            )
        return self._unknown(value, where) if number is None else number

    def tag(self, value: object, where: str) -> int:
        """Integer of a word's tag, IGNORED for a number below zero (no tag). Raises DataError."""
        number = self._integer(value)
        if number is None and _is_below_zero(value):
            return IGNORED
        return self._unknown(value, where) if number is None else number

    def _integer(self, value: object) -> int | None:
        """Integer of a spelling, or None. Without `labels`, options are numbered from 0."""
        if isinstance(value, str) and value in self.spellings:  # most often, once a word
            return self.spellings[value]
        for form in _spellings(value):
            if form in self.spellings:
                return self.spellings[form]
            if self.family.labels == "numbered" and not self.spellings and form.isdecimal():
                return int(form)
        return None

    def _unknown(self, value: object, where: str) -> NoReturn:
        shown = spelling(value)
        spellings = ", ".join(islice(self.spellings, 20)) + (", ..." if len(self.spellings) > 20 else "")
        expected = (
            f"add it to `labels`, or its rows to `skip`; labels are {spellings or 'the numbers of options, from 0'}"
        )
        raise DataError(where, f"the label {shown!r}", expected, nearest(shown, self.spellings))


def spelling(value: object) -> str:
    """Text of a value as YAML and data files both write it: `true` for a boolean, no fraction for a whole number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _spellings(value: object) -> Iterator[str]:
    """Spellings of a label in `labels`, the nearest first: booleans are 1 and 0 too, and True is true."""
    yield spelling(value)
    if isinstance(value, bool):
        yield str(int(value))
    if isinstance(value, str) and value.lower() in ("true", "false"):
        yield value.lower()
    if isinstance(value, str) and (whole := WHOLE.fullmatch(value)):
        yield whole[1]


def _is_below_zero(value: object) -> bool:
    return any(form.startswith("-") and form[1:].isdecimal() for form in _spellings(value))


def fill(template: str, names: Mapping[str, str]) -> str:
    """Template with each {name} that is in `names` replaced."""
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), template)


def _among(value: object, values: Iterable[str]) -> bool:
    """Whether a value equals one of the patterns, or begins like one that ends in `*`."""
    text = spelling(value)
    return any(text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern for pattern in values)


def _column(raw: Raw, name: str, where: str) -> Any:
    """Value of a column; if none has that very name, that of a path.

    `a.b` is b inside a, `a.0` the first item of a, and `a.*.b` the list of the b of every item of a.
    """
    if name in raw:
        return raw[name]
    before, star, after = name.partition(".*.")
    items = _column(raw, before, where) if star else None
    if isinstance(items, (list, tuple)) and all(isinstance(item, Mapping) for item in items):
        return [_column(item, after, where) for item in items]
    value: Any = raw
    for step in name.split("."):
        if isinstance(value, (list, tuple)) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        else:
            columns = [column for column in raw if column not in (LINES, UNIT)]
            expected = f"the columns are {', '.join(columns)}"
            if any(len(column) > LONGEST_NAME for column in columns):
                expected += "; `header: [...]` names them where the first line of the file does not"
            if joined := [mark for mark in SEPARATORS if len(columns) == 1 and mark in columns[0]]:
                expected = f"the only column is {columns[0]!r}: {SEPARATORS[joined[0]]}"
                raise DataError(where, f"no column {name!r}", expected)
            raise DataError(where, f"no column {name!r}", expected, nearest(name, columns))
    return value


def _value(raw: Raw, spec: Any, where: str) -> Any:
    if isinstance(spec, Mapping):
        chosen = str(_column(raw, spec["by"], where))
        if chosen not in spec:
            values = ", ".join(name for name in spec if name != "by")
            raise DataError(where, f"{chosen!r} in column {spec['by']!r}", f"`columns` has entries for {values}")
        return _value(raw, spec[chosen], where)
    if isinstance(spec, (list, tuple)):
        return [_value(raw, item, where) for item in spec]
    if PLACEHOLDER.search(spec):
        return PLACEHOLDER.sub(lambda match: _text(_column(raw, match[1], where), match[1], where), spec)
    return _column(raw, spec, where)


def _text(value: object, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(where, f"{type(value).__name__} {value!r} as {column}", "text is expected")
    return value.rstrip("\r\n")


def _texts(value: object, column: str, where: str) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise DataError(where, f"{type(value).__name__} {value!r} as {column}", "a list of texts is expected")
    return [_text(item, column, where) for item in value]


@dataclass(frozen=True)
class Part:
    """Part of a split: data that is read one way and serves some languages. Subclasses say where it lies."""

    columns: Columns
    languages: Mapping[str, str]  # language -> its code in paths and configurations
    where: str  # place in the study file

    def names(self, language: str) -> dict[str, str]:
        """Values of {language} and {code}."""
        return {"language": language, "code": self.languages[language]}

    def reading(self, **instead: object) -> dict[str, object]:
        """Fields that its rows depend on, as plain data for a digest; `instead` replaces those that locate the data."""
        return {**vars(self), "where": "", "languages": {}, "columns": self.columns.reading(), **instead}


AnyPart = TypeVar("AnyPart", bound=Part)


@dataclass(frozen=True)
class PartedSource(ABC, Generic[AnyPart]):
    """Source whose splits consist of parts. Subclasses read a part and digest it.

    Where dev is a share of train, both splits are read from the parts of train.
    """

    splits: Mapping[str, tuple[AnyPart, ...]]
    dev_share: Fraction | None  # of train, where there is no dev data
    sizes: Mapping[str, Mapping[str, int]]  # split -> language, or "other" -> rows, as far as they are stated
    tokens: float | None  # mean subword tokens of an example, if stated
    where: str  # place in the study file

    @abstractmethod
    def part_raw(self, part: AnyPart, language: str) -> Iterator[tuple[str, Raw]]:
        """(place, raw row) of a part, kept or not. Raises DataError."""

    @abstractmethod
    def part_origin(self, part: AnyPart, language: str) -> object:
        """Place of the data that a part's raw rows are read from, as plain data: at equal ones are the same raw rows.

        It is not looked at: the data may be gone.
        """

    @abstractmethod
    def part_digest(self, part: AnyPart, language: str) -> str:
        """Digest of all that the rows of a part depend on. Raises DataError where a file is absent."""

    @abstractmethod
    def part_place(self, part: AnyPart, language: str) -> str:
        """Name of the part's data in messages."""

    def part_rows(self, part: AnyPart, language: str) -> Located:
        """(place, row) of a part. Raises DataError."""
        return part.columns.rows(self.part_raw(part, language), part.names(language))

    def together(self, split: str, language: str) -> tuple[str, ...]:
        """Languages whose rows of a split one pass over the data gives, this one among them. Raises DataError."""
        parts = self.parts(split, language)
        if self.share(split) is not None:
            return (language,)
        origins = [self.part_origin(part, language) for part in parts]
        return tuple(
            name
            for name in parts[0].languages
            if self.parts(split, name) == parts and [self.part_origin(part, name) for part in parts] == origins
        )

    def located_together(self, split: str, languages: Sequence[str]) -> Iterator[tuple[str, str, Row]]:
        """(language, place, row) in languages that stand `together`, in one pass; each as `located` has it.

        Raises DataError, also where a language has no rows.
        """
        if len(languages) == 1:
            yield from ((languages[0], place, row) for place, row in self.located(split, languages[0]))
            return
        found = set[str]()
        for part in self.parts(split, languages[0]):
            readers = {language: part.columns.reader(part.names(language)) for language in languages}
            for place, raw in self.part_raw(part, languages[0]):
                for language, read in readers.items():
                    if (row := read(place, raw)) is not None:
                        found.add(language)
                        yield language, place, row
        for language in languages:
            if language not in found:
                raise self.without_rows(split, language)

    def rows(self, split: str, language: str) -> list[Row]:
        """All rows of a split in one language. Raises DataError, also where there are none."""
        return [row for _, row in self.located(split, language)]

    def places(self, split: str, language: str) -> list[str]:
        """Places of all rows of a split in one language, without folders. Raises DataError."""
        return [short_place(place) for place, _ in self.located(split, language)]

    def located(self, split: str, language: str) -> Located:
        """(place such as file:line, row) of a split in one language. Raises DataError, also where there are none."""
        share, empty = self.share(split), True
        for located in self._all(split, language) if share is None else self._side(split, language, share):
            empty = False
            yield located
        if empty:
            raise self.without_rows(split, language)

    def _all(self, split: str, language: str) -> Located:
        return (located for part in self.parts(split, language) for located in self.part_rows(part, language))

    def _side(self, split: str, language: str, share: Fraction) -> Located:
        """Rows of train that are drawn as dev, or all other rows of train."""
        located = list(self._all(split, language))
        if not located:
            return iter(())
        try:
            dev = drawn_as_dev(self.parts(split, language)[0].columns.family, [row for _, row in located], share)
        except ValueError as error:
            place = self.part_place(self.parts(split, language)[0], language)
            problem = f"{len(located)} rows that all belong to one unit, which no share can divide"
            expected = f"rows of two passages, documents or texts at least, or a file in {self.where}.dev, are expected"
            raise DataError(place, problem, expected) from error
        return (entry for entry, is_dev in zip(located, dev.tolist(), strict=True) if is_dev == (split == "dev"))

    def without_rows(self, split: str, language: str) -> DataError:
        """DataError for a split whose data exists and has no row to use."""
        part = self.parts(split, language)[0]
        expected = f"{part.where} must name data with at least one row to use"
        return DataError(self.part_place(part, language), f"no {split} rows", expected)

    def parts(self, split: str, language: str) -> list[AnyPart]:
        """Parts that serve a split in a language. Raises DataError where there is none."""
        parts = self.splits.get(self.origin(split), ())
        serving = [part for part in parts if language in part.languages]
        if not serving:
            languages = sorted({language for part in parts for language in part.languages})
            expected = f"its languages are {', '.join(languages)}" if languages else f"the task has no {split} data"
            raise DataError(f"{self.where}.{split}", f"language {language!r}", expected, nearest(language, languages))
        return serving

    def units(self, split: str, language: str) -> list[Any]:
        """Column of each part of a split by which its rows have units. Raises DataError."""
        return [part.columns.unit for part in self.parts(split, language)]

    def share(self, split: str) -> Fraction | None:
        """Share of train that is drawn as dev, for train and dev; else None."""
        return self.dev_share if split in ("train", "dev") else None

    def stated(self, split: str, language: str) -> int | None:
        """Number of rows that the description states for the split's parts, or None."""
        rows = self.sizes.get(self.origin(split), {})
        return rows.get(language, rows.get("other"))

    def origin(self, split: str) -> str:
        """Split whose parts are read."""
        return "train" if self.share(split) is not None else split

    def portion(self, split: str, examples: int) -> int:
        """Rows of a split whose parts have so many rows."""
        share = self.share(split)
        if share is None:
            return examples
        dev = dev_size(examples, share)
        return dev if split == "dev" else examples - dev

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Digests of the split's parts and the share drawn from them. Raises DataError where a file is absent."""
        share = self.share(split)
        parts = [self.part_digest(part, language) for part in self.parts(split, language)]
        drawn_by = None if share is None else [split, str(share), DRAW_VERSION]
        facts: dict[str, object] = {"parts": parts, "share": drawn_by}
        units = self.units(split, language)
        if any(unit is not None for unit in units) and (split == "test" or share is not None):
            facts["units"] = units  # scores are kept with them, and a share is of whole units
        return facts
