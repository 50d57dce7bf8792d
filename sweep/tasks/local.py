"""Rows from data files on this machine. The files' contents are their identity; where they lie is not.

A split consists of parts: files that are read alike. A plan asks for sizes, so these come from one pass over bytes and
a look at the first rows; nothing is kept in memory but digests and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from itertools import islice
from math import ceil
from pathlib import Path

from sweep.errors import DataError, nearest
from sweep.fingerprint import file_digest, fingerprint
from sweep.tasks import parquet
from sweep.tasks.base import Row, Size
from sweep.tasks.formats import Layout, Raw, open_bytes, read
from sweep.tasks.mapping import Columns, Located, fill, held_out

BYTES_PER_TOKEN = 4.2  # UTF-8 bytes per subword of English text; other scripts differ, and what is loaded corrects it
SAMPLE = 64  # rows that are looked at to guess the mean length
CHUNK = 1 << 20
PATTERNS = {"gaps": (b"\n\n", b"\n\r\n"), "questions": (b'"question"',)}
OVERLAP = 16  # longer than the longest pattern


@dataclass(frozen=True)
class Join:
    """A second file whose columns are added to the rows with the same id."""

    path: str
    format: str
    on: str
    header: tuple[str, ...] = ()
    quoting: bool | None = None


@dataclass(frozen=True)
class Part:
    """Files of a split that are read alike: one, or one per language where the path has {language} or {code}."""

    path: str
    format: str
    columns: Columns
    languages: Mapping[str, str]  # language -> its code in paths
    where: str  # place in the study file
    header: tuple[str, ...] = ()
    quoting: bool | None = None
    lines: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    pair: str | None = None
    join: Join | None = None

    def names(self, language: str) -> dict[str, str]:
        """What {language} and {code} stand for."""
        return {"language": language, "code": self.languages[language]}


@dataclass(frozen=True)
class LocalSource:
    """base.Source over files below `root`."""

    root: Path
    splits: Mapping[str, tuple[Part, ...]]
    dev_share: Fraction | None  # of train, where there are no dev files
    where: str  # place in the study file
    sizes: Mapping[str, int] = field(default_factory=dict)  # split -> rows per language, to spare a plan the counting
    tokens: float | None = None  # mean subword tokens of an example, likewise

    def identity(self) -> Mapping[str, object]:
        """{split: {language: digest of files and of how they are read}}. Raises DataError where a file is absent."""
        result: dict[str, object] = {"kind": "local", "dev_share": str(self.dev_share)}
        for split, parts in self.splits.items():
            languages = dict.fromkeys(language for part in parts for language in part.languages)
            result[split] = {language: self._digest(split, language) for language in languages}
        return result

    def size(self, split: str, language: str) -> Size:
        """Rows counted by bytes, where the description does not state them; rows that are to be filtered are read."""
        origin, share = self._origin(split)
        parts = self._parts(origin, language)
        examples = self.sizes.get(origin) or sum(self._count(part, language) for part in parts)
        sample = [row for part in parts for _, row in islice(self._part_rows(part, language), SAMPLE)]
        tokens = self.tokens or sum(map(guess_tokens, sample)) / max(len(sample), 1)
        if share is not None:
            held = ceil(examples * share)
            examples = held if split == "dev" else examples - held
        return Size(max(examples, 1), tokens)

    def rows(self, split: str, language: str) -> list[Row]:
        """All rows of a split in one language. Raises DataError, also where there are none."""
        return [row for _, row in self.located(split, language)]

    def located(self, split: str, language: str) -> Located:
        """(file:line, row) of the same rows."""
        origin, share = self._origin(split)
        parts = self._parts(origin, language)
        rows = (located for part in parts for located in self._part_rows(part, language))
        empty = True
        for located in rows if share is None else held_out(rows, share, split == "dev"):
            empty = False
            yield located
        if empty:
            path = self._files(parts[0], language)[0]
            raise DataError(path, f"no {split} rows", f"{parts[0].where} must name a file with at least one row to use")

    def _origin(self, split: str) -> tuple[str, Fraction | None]:
        if self.dev_share is not None and split in ("train", "dev"):
            return "train", self.dev_share
        return split, None

    def _parts(self, split: str, language: str) -> list[Part]:
        parts = self.splits.get(split, ())
        found = [part for part in parts if language in part.languages]
        if not found:
            known = sorted({language for part in parts for language in part.languages})
            wanted = f"its languages are {', '.join(known)}" if known else f"the task has no {split} data"
            raise DataError(f"{self.where}.{split}", f"language {language!r}", wanted, nearest(language, known))
        return found

    def _files(self, part: Part, language: str) -> list[Path]:
        """The part's file for a language, then its second side and its joined file. Raises DataError."""
        templates = [part.path, part.pair, part.join.path if part.join else None]
        files = [self.root / fill(template, part.names(language)) for template in templates if template is not None]
        for file in files:
            if not file.is_file():
                found = "a folder" if file.is_dir() else "no such file"
                raise DataError(file, found, f"correct {part.where} or data_root in the study file")
        return files

    def _count(self, part: Part, language: str) -> int:
        if part.columns.keep or part.columns.skip:
            return sum(1 for _ in self._part_rows(part, language))
        return _count(self._files(part, language)[0], part)

    def _digest(self, split: str, language: str) -> str:
        parts = self._parts(split, language)
        files = [[_digest(*_state(file)) for file in self._files(part, language)] for part in parts]
        how = [replace(part, path="", pair=None, where="", languages={}, join=_unnamed(part.join)) for part in parts]
        return fingerprint({"files": files, "how": how, "names": [part.names(language) for part in parts]})

    def _part_rows(self, part: Part, language: str) -> Located:
        raw = self._raw(part, self._files(part, language))
        return part.columns.rows(raw, part.names(language))

    def _raw(self, part: Part, files: list[Path]) -> Iterator[tuple[str, Raw]]:
        layout = Layout(part.header, part.quoting, part.lines, part.numbers, files[1] if part.pair else None)
        rows = ((f"{files[0]}:{number}", raw) for number, raw in read(files[0], part.format, layout))
        return _joined(rows, part.join, files[-1]) if part.join else rows


def _unnamed(join: Join | None) -> Join | None:
    return join and replace(join, path="")


def _joined(rows: Iterator[tuple[str, Raw]], join: Join, path: Path) -> Iterator[tuple[str, Raw]]:
    others: dict[str, Raw] = {}
    for number, other in read(path, join.format, Layout(join.header, join.quoting)):
        if join.on not in other:
            raise DataError(f"{path}:{number}", f"no column {join.on!r}", f"the columns are {', '.join(other)}")
        others[str(other[join.on])] = other
    for where, raw in rows:
        if join.on not in raw:
            raise DataError(where, f"no column {join.on!r}", f"the columns are {', '.join(raw)}")
        if (identifier := str(raw[join.on])) not in others:
            raise DataError(where, f"{join.on} {identifier!r}", f"{path} must have a row with it")
        yield where, {**others[identifier], **raw}


def guess_tokens(row: Row) -> float:
    """Subword tokens of a row, all its sequences together, guessed from its UTF-8 bytes."""

    def tokens(*texts: str | None) -> float:
        return 3 + sum(len(text.encode()) for text in texts if text) / BYTES_PER_TOKEN

    if "options" in row:
        return sum(tokens(row["prompt"], option) for option in row["options"])
    if "words" in row:
        return 2 + sum(max(1.0, len(word.encode()) / BYTES_PER_TOKEN) for word in row["words"])
    if "context" in row:
        return tokens(row["context"], row["question"])
    return tokens(row["text"], row.get("pair"))


def _state(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


@cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    """Cached per state of the file."""
    return file_digest(path)


@cache
def _scan(path: Path, _size: int, _changed: int) -> Counter[str]:
    """ "lines", and the names in PATTERNS. Cached per state of the file."""
    counts, tail = Counter[str](), b"\n"
    with open_bytes(path) as stream:
        try:
            while chunk := stream.read(CHUNK):
                counts.update(_counts(tail, chunk))
                tail = (tail + chunk)[-OVERLAP:]
        except (OSError, EOFError) as error:
            raise DataError(path, f"damaged data ({error})", "fetch the file again") from error
    counts["lines"] += not tail.endswith(b"\n")
    return counts


def _counts(before: bytes, chunk: bytes) -> Counter[str]:
    """What a chunk adds; `before` is the end of what came before it, for patterns that lie across."""
    counts = Counter(lines=chunk.count(b"\n"))
    for name, patterns in PATTERNS.items():
        for pattern in patterns:
            window = before[len(before) - len(pattern) + 1 :] + chunk
            counts[name] += window.count(pattern)
    return counts


def _count(path: Path, part: Part) -> int:
    """Rows of a file, before any are skipped."""
    if part.format == "parquet":
        return parquet.count(path)
    counts = _scan(*_state(path))
    if part.format == "squad":
        return counts["questions"]
    if part.format in ("conllu", "conll"):
        return counts["gaps"]
    if part.format == "blocks":
        return counts["lines"] // len(part.lines)
    return counts["lines"] - (part.format in ("csv", "tsv") and not part.header)
