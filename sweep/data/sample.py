"""Samples of data files: the format that a file can be read in, found by looking, and what its columns hold.

Names suggest a format, contents decide. All rows are read, as a label may stand in the last of them; of the values no
more is kept than it takes to say what a column is. Nothing is known here of families, languages and splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sweep.data.columns import spelling
from sweep.data.files import COMPRESSED, parsed, text_lines
from sweep.data.formats import LINES, UNIT, Layout, Raw
from sweep.data.retrieval_formats import ALL_READERS
from sweep.errors import DataError

LOOKED_AT = 400  # lines by which formats are told apart
KEPT = 20  # rows
MOST_VALUES = 500  # distinct values that are counted of a column; one with more has no labels
LONGEST_LABEL = 60  # characters
SENTENCE = 12.0  # mean characters from which a text without spaces is no label: not all scripts have them
HIDDEN = re.compile(r"\s*|[-_?]|-\d+")  # labels that say that there is none
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
LANGUAGE_PREFIX = re.compile(r"([a-z]{2,3}(?:-[a-z]+)?):.")
TEXT_NAMES = ("text", "sentence", "content", "review", "tweet", "utterance", "comment", "body", "headline", "document")
TEXT_PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("sentence_a", "sentence_b"), ("sent1", "sent2")),
    *(("text1", "text2"), ("text_a", "text_b"), ("question1", "question2"), ("text", "pair"), ("sent0", "sent1")),
    *(("#1 String", "#2 String"), ("s1", "s2"), ("question", "sentence")),
)
# Columns of few values that say something else of a row than its class.
ABOUT_ROWS = frozenset(
    ("language", "lang", "locale", "split", "set", "partition", "fold", "genre", "domain", "source", "title", "level")
)
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".csv": "csv", ".tsv": "tsv"}


@dataclass
class Column:
    """Values of a column, or the items of its lists."""

    rows: int = 0
    absent: int = 0  # rows with nothing, or white space alone
    lists: int = 0  # rows with a list
    mappings: int = 0  # rows with a mapping, or a list of them
    texts: int = 0
    numbers: int = 0  # texts included that are a number
    fractions: int = 0
    characters: int = 0
    words: int = 0
    foreign: int = 0  # texts with characters beyond ASCII, of scripts that may have no spaces
    values: Counter[str] | None = field(default_factory=Counter)  # spelling -> rows; None: more than MOST_VALUES
    blank: set[str] = field(default_factory=set)  # spellings of what is nothing, or white space alone
    first: list[Any] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """Takes in the value of a row."""
        self.rows += 1
        if len(self.first) < KEPT:
            self.first.append(value)
        items = value if isinstance(value, (list, tuple)) else [value]
        self.lists += isinstance(value, (list, tuple))
        self.mappings += any(isinstance(item, Mapping) for item in (value, *items))
        if value is None or (isinstance(value, str) and not value.strip()):
            self.absent += 1
            self.blank.add(spelling(value))
        for item in items:
            self._add_item(item)

    def _add_item(self, item: Any) -> None:
        if isinstance(item, (list, tuple, Mapping)) or item is None:
            return
        text = spelling(item)
        self.characters += len(text)
        self.words += len(text.split())
        self.texts += isinstance(item, str)
        self.foreign += not text.isascii()
        if number := NUMBER.fullmatch(text):
            self.numbers += 1
            self.fractions += float(number[0]) % 1 != 0
        if self.values is not None:
            self.values[text] += 1
            if len(self.values) > MOST_VALUES or len(text) > 4 * LONGEST_LABEL:
                self.values = None

    @property
    def numeric(self) -> bool:
        """Whether every value is a number."""
        return self.filled > 0 and not self.lists and self.numbers == self.filled

    @property
    def filled(self) -> int:
        """Rows with a value."""
        return self.rows - self.absent

    @property
    def reads_as_text(self) -> bool:
        """Whether its values are texts of several words, or long, and no few that return again and again."""
        if not self.filled or self.lists or self.mappings or self.numeric or self.texts < self.filled:
            return False
        unspaced = 2 * self.foreign > self.filled and self.characters > SENTENCE * self.filled
        long = self.words > 1.5 * self.filled or unspaced
        return long and (self.values is None or len(self.values) * 10 > self.filled)

    @property
    def has_classes(self) -> bool:
        """Whether it has at least two short values, of which rows have the same ones."""
        if self.values is None or self.lists or self.mappings or self.fractions:
            return False
        named = [value for value in self.values if value.strip()]
        return len(named) >= 2 and 2 * len(named) <= self.filled and max(map(len, named)) <= LONGEST_LABEL


@dataclass(frozen=True)
class Sample:
    """Data file, or several that are read alike, as their columns show it."""

    form: str  # key of ALL_READERS
    keys: Mapping[str, Any]  # further keys of a description with which they are read: header, quoting, lines
    rows: int
    first: tuple[Raw, ...]
    columns: Mapping[str, Column]

    def named(self, *names: str) -> str | None:
        """Column with the first of these names that is there, whatever its case and separators; or None."""
        simple = {_simple(column): column for column in reversed(list(self.columns))}
        return next((simple[name] for name in map(_simple, names) if name in simple), None)

    def texts(self) -> list[str]:
        """Columns that read as text."""
        return [name for name, column in self.columns.items() if column.reads_as_text]

    def text_or_pair(self) -> list[str]:
        """Column of a text, or the two of a pair: by names that belong together, else those that read as text."""
        for names in TEXT_PAIRS:
            pair = [self.named(name) for name in names]
            if all(pair):
                return [name for name in pair if name]
        texts = self.texts()
        if len(texts) > 2 or (len(texts) == 2 and self.named("title") in texts):
            usual = self.named(*TEXT_NAMES)
            return [usual if usual in texts else max(texts, key=lambda name: self.columns[name].characters)]
        return texts or [name for name in [self.named(*TEXT_NAMES)] if name]

    def classes(self, *names: str) -> str | None:
        """Column whose values are classes: the first of these names with few values, else the last that looks so."""
        for name in names:
            column = self.named(name)
            if column and self.columns[column].values and not self._is_other(column):
                return column
        seeming = [name for name, column in self.columns.items() if column.has_classes and not self._is_other(name)]
        return next((name for name in reversed(seeming) if _simple(name) not in ABOUT_ROWS), None)

    def _is_other(self, name: str) -> bool:
        column = self.columns[name]
        return bool(column.lists or column.mappings or column.fractions or column.reads_as_text)

    def series(self) -> dict[str, list[str]]:
        """Stem -> columns whose names end in 0, 1, ... or 1, 2, ... or A, B, ..., in that order."""
        found: dict[str, dict[str, str]] = {}
        for name in self.columns:
            if match := re.fullmatch(r"(.*?)[-_ ]?(\d|[A-J]|(?<=[-_ ])[a-j])", name):
                found.setdefault(_simple(match[1]), {})[match[2].upper()] = name
        runs = ("0123456789", "123456789", "ABCDEFGHIJ")
        return {
            stem: [members[mark] for mark in sorted(members)]
            for stem, members in found.items()
            if len(members) > 1 and "".join(sorted(members)).startswith(("01", "12", "AB"))
            and any("".join(sorted(members)) in run for run in runs)
        }  # fmt: skip


def _simple(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def sample(path: Path) -> Sample:
    """Sample of a file in the first format in which all of it can be read. Raises DataError, also where it is empty."""
    suffix = Path(path.name.removesuffix(path.suffix)).suffix if path.suffix in COMPRESSED else path.suffix
    refused: DataError | None = None
    for form, keys in [(SUFFIXES[suffix], {})] if suffix == ".parquet" else _formats(path, suffix.lower()):
        try:
            found = _read(path, form, keys)
        except DataError as error:
            refused = refused or error
            continue
        if not found.rows:
            raise DataError(path, "no rows", "a data file with rows is expected")
        return found
    raise refused or DataError(path, "no lines", "a data file with rows is expected")


def _read(path: Path, form: str, keys: Mapping[str, Any]) -> Sample:
    keys, numbers = dict(keys), keys.get("numbers", ())
    header, lines = (tuple(keys.get(name, ())) for name in ("header", "lines"))
    layout = Layout(header=header, quoting=keys.get("quoting"), lines=lines, numbers=tuple(numbers))
    keys.pop("numbers", None)
    read = (row for _, row in ALL_READERS[form](path, layout))
    found = merged([_gathered(form, keys, read)])
    if form in ("csv", "tsv") and "header" not in keys and not _is_header(found):
        width = len(found.columns)
        return _read(path, form, {**keys, "header": [f"column{number}" for number in range(1, width + 1)]})
    return found if not numbers else Sample(form, keys, found.rows, found.first, found.columns)


def _gathered(form: str, keys: Mapping[str, Any], rows: Iterator[Raw]) -> Sample:
    columns: dict[str, Column] = {}
    first = list[Raw]()
    count = 0
    for row in rows:
        count += 1
        if len(first) < KEPT:
            first.append(row)
        for name, value in _flat(row):
            columns.setdefault(name, Column()).add(value)
    return Sample(form, keys, count, tuple(first), columns)


def _flat(row: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    """Columns of a row; of a mapping, or a list of them, also the entries, as a description names them."""
    for key, value in row.items():
        if key in (LINES, UNIT):
            continue
        name = f"{inside}{key}"
        yield name, value
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            shared = set.intersection(*map(set, value))
            yield from ((f"{name}.*.{inner}", [item[inner] for item in value]) for inner in value[0] if inner in shared)


def merged(samples: Sequence[Sample]) -> Sample:
    """Sample of several files that are read alike, columns of any of them together."""
    if len(samples) == 1:
        return samples[0]
    columns: dict[str, Column] = {}
    for found in samples:
        for name, column in found.columns.items():
            columns[name] = _sum(columns[name], column) if name in columns else column
    first = tuple(islice((row for found in samples for row in found.first), KEPT))
    return Sample(samples[0].form, samples[0].keys, sum(found.rows for found in samples), first, columns)


def _sum(one: Column, other: Column) -> Column:
    counts = ("rows", "absent", "lists", "mappings", "texts", "numbers", "fractions", "characters", "words", "foreign")
    values = None if one.values is None or other.values is None else one.values + other.values
    values = None if values is not None and len(values) > MOST_VALUES else values
    sums = {name: getattr(one, name) + getattr(other, name) for name in counts}
    return Column(**sums, values=values, blank=one.blank | other.blank, first=[*one.first, *other.first][:KEPT])


# ---- formats ---------------------------------------------------------------------------------------------------------


def _formats(path: Path, suffix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Formats, with keys, that the first lines of a file suggest; raises DataError where they suggest no known one."""
    lines = [line for _, line in islice(text_lines(path), LOOKED_AT)]
    while lines and not lines[-1].strip():
        lines.pop()
    filled = [line for line in lines if line.strip()]
    if not filled:
        raise DataError(path, "an empty file", "a data file with rows is expected")
    if filled[0].lstrip()[0] in "{[":
        yield from _json(path, filled)
    elif suffix in (".csv", ".tsv"):
        yield from _table(path, SUFFIXES[suffix], filled)
    else:
        yield from _plain(lines, filled)


def _json(path: Path, filled: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if filled[0].lstrip().startswith("["):
        expected = "one JSON object per line is expected: `jq -c '.[]' FILE` writes it"
        raise DataError(path, "a JSON list", expected)
    try:
        rows = [parsed(line) for line in filled[:2]]
    except ValueError:
        rows = []
    if rows and not (len(filled) == 1 and isinstance(rows[0].get("data"), list)):
        yield "jsonl", {}
        return
    breaks = any('"sentence_breaks"' in line for line in filled)
    yield "sentence_pool" if breaks else "squad", {}


def _table(path: Path, form: str, filled: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    separator = "," if form == "csv" else "\t"
    if not any(separator in line for line in filled) and all(";" in line for line in filled):
        raise DataError(path, "values separated by ';'", f"write them with a {'comma' if form == 'csv' else 'tab'}")
    other = {"csv": "tsv", "tsv": "csv"}[form]
    quoted = sum(f'"{separator}' in line or f'{separator}"' in line for line in filled)
    usual: list[dict[str, Any]] = [{}, {"quoting": form == "tsv"}]
    yield from ((form, keys) for keys in (usual[::-1] if form == "tsv" and 2 * quoted > len(filled) else usual))
    if not any(separator in line for line in filled):
        yield other, {}


def _plain(lines: Sequence[str], filled: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Formats without a name that says them: words by line, tables, records of several lines, lines of text."""
    words = [line for line in filled if not line.startswith(("# ", "#\t", "-DOCSTART-"))]
    blanks = any(not line.strip() for line in lines) or any(line.startswith("-DOCSTART-") for line in lines)
    if blanks and words:
        yield from _by_word(words)
    tabs = {line.count("\t") for line in filled}
    if tabs == {next(iter(tabs))} and tabs != {0}:
        yield "tsv", {}
        yield "tsv", {"quoting": True}
    elif tabs != {0} and not blanks:
        yield "tsv", {"quoting": True}
    if (names := _records(lines)) is not None:
        yield "blocks", {"lines": names}
    yield "lines", {}


def _by_word(words: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    tabbed = [line.split("\t") for line in words]
    widths = Counter(map(len, tabbed))
    width, most = widths.most_common(1)[0]
    numbered = sum(fields[0].replace("-", "").replace(".", "").isdecimal() for fields in tabbed)
    if width > 2 and numbered == len(tabbed) and sum(fields[0] == "1" for fields in tabbed) > 1:
        yield "conllu", {"numbers": range(1, min(widths) + 1)}
        return
    prefixes = [LANGUAGE_PREFIX.match(fields[0]) for fields in tabbed]
    if width == 2 and all(prefixes) and len({prefix[1] for prefix in prefixes if prefix}) == 1:
        yield "panx", {}
        return
    if width == 1:
        widths = Counter(len(line.split()) for line in words)
        width, most = widths.most_common(1)[0]
    # A few words may lack their tag, or be written with a space in them; lines of text have any number of words.
    if width > 1 and most > 0.98 * len(words):
        yield "conll", {"numbers": range(1, min(width, *widths) + 1)}


def _records(lines: Sequence[str]) -> list[str] | None:
    """Names of the lines of records of equal length, told by a small number on one line of each; None: no records."""
    places = [number for number, line in enumerate(lines) if re.fullmatch(r"\d", line.strip())]
    if len(places) < 2 or places[0] > 9:
        return None
    length = places[1] - places[0]
    regular = list(range(places[0], len(lines), length)) == places
    return [f"line{number}" for number in range(1, length + 1)] if regular and places[0] < length > 2 else None


def _is_header(found: Sample) -> bool:
    """Whether the first line of a table names its columns: by what stands below each name."""
    evidence = 0.0
    for name, column in found.columns.items():
        known = column.values or Counter()
        if NUMBER.fullmatch(name) or name in known or len(name) > LONGEST_LABEL or name.endswith((".", "?", "!")):
            evidence -= 2
        elif column.numeric:
            evidence += 1
        elif _simple(name) in USUAL:
            evidence += 2
        elif column.reads_as_text and column.characters > 3 * len(name) * column.filled and len(name.split()) <= 2:
            evidence += 0.5
    return evidence > 0


# Simple forms of names that columns of published tables have; where there are none, contents tell.
USUAL = frozenset(
    (
        *("id", "index", "idx", "text", "sentence", "pair", "label", "labels", "category", "class", "target", "score"),
        *("language", "lang", "split", "title", "context", "question", "answer", "answers", "premise", "hypothesis"),
        *("sentence1", "sentence2", "sentencea", "sentenceb", "query", "document", "candidate", "passage", "goldlabel"),
        *("quality", "prompt", "choice1", "choice2", "source", "tokens", "words", "tags", "url", "genre"),
    )
)
