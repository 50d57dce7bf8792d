"""Local data files: rows, sizes and digests. Contents of files are in keys; their names and folders are not.

A split consists of parts: files that are read alike. A plan asks for sizes, so these come from one pass over bytes and
a sample of the first rows; nothing is kept in memory but digests and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

from sweep.data import Row, Size
from sweep.data.columns import Part, PartedSource, fill
from sweep.data.files import DAMAGED, count, open_bytes
from sweep.data.formats import Layout, Raw, read
from sweep.data.retrieval_formats import ALL_READERS
from sweep.errors import DataError
from sweep.keys import file_digest, fingerprint

SAMPLE = 64  # rows that are looked at to guess the mean length
CHUNK = 1 << 20
# A line between sentences may hold a tab or a blank (WNUT 17).
GAPS = (b"\n\n", b"\n\r\n", b"\n\t\n", b"\n\t\r\n", b"\n \n", b"\n \r\n")
PATTERNS = {"gaps": GAPS, "questions": (b'"question"',)}
READ_BY_LANGUAGE = ("conllu-written",)  # whose raw rows depend on `Layout.language`
READ_TO_COUNT = ("sentence_pool", "mentions")  # a record is several rows
_LOOKED: dict[str, tuple[int, list[Row]]] = {}  # digest of a part in a language -> its rows, and the first of them
OVERLAP = 16  # longer than the longest pattern


@dataclass(frozen=True)
class Join:
    """Second file whose columns are added to the rows with the same id."""

    path: str
    format: str
    on: str
    header: tuple[str, ...] = ()
    quoting: bool | None = None


@dataclass(frozen=True)
class Files(Part):
    """Part of a split in files: one, or one per language where the path has {language} or {code}.

    A `*` in a path matches any part of a name: all matching files are read, in the order of their names.
    """

    path: str
    format: str
    header: tuple[str, ...] = ()
    quoting: bool | None = None
    lines: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    pair: str | None = None
    gold: str | None = None
    join: Join | None = None


@dataclass(frozen=True)
class LocalSource(PartedSource[Files]):
    """Source over files below `root`."""

    root: Path

    def size(self, split: str, language: str) -> Size:
        """Size counted in bytes where the description does not state it; rows that are filtered are read."""
        parts, stated = self.parts(split, language), self.stated(split, language)
        looked = [self._look(part, language, counted=not stated) for part in parts]
        examples = stated or sum(count for count, _ in looked)
        sample = [row for _, first in looked for row in first]
        if not sample:
            raise self.without_rows(split, language)
        tokens = self.tokens or sum(map(parts[0].columns.family.guess_tokens, sample)) / len(sample)
        options = [len(row["options"]) for row in sample if "options" in row]
        sequences = sum(options) / len(options) if options else None
        return Size(max(self.portion(split, examples), 1), tokens, sequences)

    def bytes(self) -> int:
        """Total size of all its files in bytes. Raises DataError where one is absent."""
        files = {
            file
            for parts in self.splits.values()
            for part in parts
            for language in part.languages
            for file in (*self._files(part, language), *self._beside(part, language).values())
        }
        return sum(file.stat().st_size for file in files)

    def part_raw(self, part: Files, language: str) -> Iterator[tuple[str, Raw]]:
        """(file:line, raw row) of a part. Raises DataError."""
        beside = self._beside(part, language)
        second, gold = beside.get("pair"), beside.get("gold")
        layout = Layout(part.header, part.quoting, part.lines, part.numbers, second, gold, language)
        files = self._files(part, language)
        raw = ((f"{file}:{number}", row) for file in files for number, row in ALL_READERS[part.format](file, layout))
        return _joined(raw, part.join, beside["join"]) if part.join else raw

    def part_origin(self, part: Files, language: str) -> object:
        """Paths of its files; of a format that reads every language in its own way also the language."""
        names, joined = part.names(language), part.join.path if part.join else None
        own = language if part.format in READ_BY_LANGUAGE else None
        return own, [path and fill(path, names) for path in (part.path, part.pair, part.gold, joined)]

    def part_digest(self, part: Files, language: str) -> str:
        """Digest of the files' contents and of how they are read. Raises DataError where a file is absent."""
        paths = (*self._files(part, language), *self._beside(part, language).values())
        files = [_digest(*_state(file)) for file in paths]
        how = part.reading(path="", pair=None, gold=None, join=_unnamed(part.join))
        return fingerprint({"files": files, "how": how, "names": part.names(language)})

    def part_place(self, part: Files, language: str) -> str:
        """Path of the part's first file."""
        return str(self._files(part, language)[0])

    def _look(self, part: Files, language: str, counted: bool) -> tuple[int, list[Row]]:
        """Number of rows of a part, 0 unless it is `counted`, and its first SAMPLE rows. Raises DataError."""
        if counted and (part.columns.keep or part.columns.skip or part.format in READ_TO_COUNT):
            return self._read_to_count(part, language)
        files = self._files(part, language) if counted else []
        if counted and part.format == "comparable":
            files.append(self._beside(part, language)["pair"])
        first = [row for _, row in islice(self.part_rows(part, language), SAMPLE)]
        return sum(_count(file, part) for file in files), first

    def _read_to_count(self, part: Files, language: str) -> tuple[int, list[Row]]:
        """Number of a part's rows, and the first of them, from one pass over its files for all their languages."""
        digest = self.part_digest(part, language)
        if digest not in _LOOKED:
            origin = self.part_origin(part, language)
            beside = [name for name in part.languages if self.part_origin(part, name) == origin]
            digests = {name: self.part_digest(part, name) for name in beside}
            readers = {name: part.columns.reader(part.names(name)) for name in beside}
            counts, first = Counter[str](), {name: list[Row]() for name in beside}
            for where, raw in self.part_raw(part, language):
                for name, read in [*readers.items()]:
                    try:
                        row = read(where, raw)
                    except DataError:
                        if name == language:
                            raise
                        del readers[name]  # nobody has asked for it yet
                        continue
                    if row is not None:
                        counts[name] += 1
                        first[name] += [row][: SAMPLE - len(first[name])]
            _LOOKED.update({digests[name]: (counts[name], first[name]) for name in readers})
        return _LOOKED[digest]

    def _files(self, part: Files, language: str) -> list[Path]:
        """Files of a part for a language: one, or all that a `*` matches. Raises DataError."""
        path = fill(part.path, part.names(language))
        if "*" not in path:
            return [self._there(path, part)]
        files = sorted(self.root.glob(path), key=lambda file: (file.name, str(file)))
        return [self._there(str(file), part) for file in files] or [self._there(path, part)]

    def _beside(self, part: Files, language: str) -> dict[str, Path]:
        """Second side, gold and joined file of a part, where it has them. Raises DataError."""
        templates = {"pair": part.pair, "gold": part.gold, "join": part.join.path if part.join else None}
        names = part.names(language)
        return {role: self._there(fill(path, names), part) for role, path in templates.items() if path is not None}

    def _there(self, path: str, part: Files) -> Path:
        file = self.root / path
        if not file.is_file():
            problem = "a folder" if file.is_dir() else "no such file"
            raise DataError(file, problem, f"correct {part.where} or data_root in the study file")
        return file


def _unnamed(join: Join | None) -> Join | None:
    return join and replace(join, path="")


def _joined(rows: Iterator[tuple[str, Raw]], join: Join, path: Path) -> Iterator[tuple[str, Raw]]:
    by_id: dict[str, Raw] = {}
    for number, joined in read(path, join.format, Layout(join.header, join.quoting)):
        if join.on not in joined:
            raise DataError(f"{path}:{number}", f"no column {join.on!r}", f"the columns are {', '.join(joined)}")
        by_id[str(joined[join.on])] = joined
    for where, raw in rows:
        if join.on not in raw:
            raise DataError(where, f"no column {join.on!r}", f"the columns are {', '.join(raw)}")
        if (identifier := str(raw[join.on])) not in by_id:
            raise DataError(where, f"{join.on} {identifier!r}", f"{path} must have a row with it")
        yield where, {**by_id[identifier], **raw}


def _state(path: Path) -> tuple[Path, int, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns, status.st_ino


@cache
def _digest(path: Path, *_version: int) -> str:
    """Digest of a file, cached per size, time of change and inode."""
    return file_digest(path)


@cache
def _scan(path: Path, *_version: int) -> Counter[str]:
    """Counts of line ends ("lines") and of PATTERNS in a file, cached per size, time of change and inode."""
    counts, tail = Counter[str](), b"\n"
    with open_bytes(path) as stream:
        try:
            while chunk := stream.read(CHUNK):
                counts.update(_counts(tail, chunk))
                tail = (tail + chunk)[-OVERLAP:]
        except DAMAGED as error:
            raise DataError(path, f"damaged data ({error})", "fetch the file again") from error
    counts["lines"] += not tail.endswith(b"\n")
    return counts


def _counts(before: bytes, chunk: bytes) -> Counter[str]:
    """Counts that a chunk adds; `before` is the end of the previous one, for patterns that span both."""
    counts = Counter(lines=chunk.count(b"\n"))
    for name, patterns in PATTERNS.items():
        for pattern in patterns:
            window = before[len(before) - len(pattern) + 1 :] + chunk
            counts[name] += window.count(pattern)
    return counts


def _count(path: Path, part: Files) -> int:
    """Rows of a file, before any are skipped."""
    if part.format == "parquet":
        return count(path)
    counts = _scan(*_state(path))
    if part.format in ("squad", "sentence_pairs"):
        return counts["questions"]
    if part.format in ("conllu", "conllu-written", "conll", "panx"):
        return counts["gaps"]
    if part.format == "blocks":
        return counts["lines"] // len(part.lines)
    return counts["lines"] - (part.format in ("csv", "tsv") and not part.header)
