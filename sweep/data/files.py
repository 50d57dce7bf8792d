"""Data files as lines of text, one JSON value or a Parquet table; decompressed by their names.

Damaged files and text that is not UTF-8 raise DataError with `file:line`. Class labels are handed on by name, because
the same integer means different things in different data sets. Official prediction and label files are held to what
would make the official scorer stop or miscount.
"""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from sweep.errors import DataError, nearest

BOM = "\ufeff"
DAMAGED = (OSError, EOFError, zlib.error)  # what reading gives where compressed data is not whole
Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}


def open_bytes(path: Path) -> IO[bytes]:
    """Stream of a file's bytes, decompressed by its suffix. Raises DataError."""
    opener = COMPRESSED.get(path.suffix)
    try:
        return cast(IO[bytes], opener(path)) if opener else path.open("rb")
    except IsADirectoryError as error:
        raise DataError(path, "a folder", "name a file in it") from error
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "correct the path or data_root") from error
    except OSError as error:
        raise DataError(path, f"a file that cannot be opened ({error.strerror})", "make it readable") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end). Only \\n and \\r\\n end a line: U+2028 occurs inside sentences.

    Raises DataError with file:line for text that is not UTF-8, a carriage return alone, and damaged archives.
    """
    number = 0
    with open_bytes(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                text = line.decode("utf-8").rstrip("\r\n")
                if number == 1 and "\r" in text and not line.endswith(b"\n"):
                    raise DataError(path, "lines that end with a carriage return alone", "end them with a line feed")
                yield number, text.removeprefix(BOM) if number == 1 else text
        except UnicodeDecodeError as error:
            problem = f"bytes that are not UTF-8 (0x{error.object[error.start]:02x} at byte {error.start} of the line)"
            raise DataError(f"{path}:{number}", problem, "save the file as UTF-8") from error
        except DAMAGED as error:
            raise DataError(f"{path}:{number + 1}", f"damaged data ({error})", "fetch the file again") from error


def parsed(text: str, pairs: Pairs | None = None) -> Any:
    """Value of a JSON text; `pairs` makes objects of their items.

    Raises ValueError for broken JSON, and for half a character (a lone surrogate), which UTF-8 cannot hold.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def document(path: Path, pairs: Pairs | None = None) -> Any:
    """Value of a file that is one JSON text. Raises DataError."""
    try:
        return parsed("\n".join(line for _, line in text_lines(path)), pairs)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}", f"broken JSON ({error.msg})", "repair the file or fetch it again"
        ) from error
    except ValueError as error:
        raise DataError(path, f"broken JSON ({error})", "repair the file or fetch it again") from error


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(record number from 1, row with class labels by name) of a Parquet file. Raises DataError."""
    import pyarrow

    number = 0
    try:
        file = _open(path)
        names = _class_labels((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"), path)
        for batch in file.iter_batches(batch_size=4096):
            for row in _listed(batch, f"{path}:{number + 1}"):
                number += 1
                yield number, named(row, names)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}:{number + 1}", f"damaged data ({error})", "fetch the file again") from error


def count(path: Path) -> int:
    """Number of rows in a Parquet file's metadata. Raises DataError."""
    return int(_open(path).metadata.num_rows)


def named(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Row with class labels (one, or a list) replaced by names; numbers without a name, such as -1, stay."""
    for column, labels in names.items():
        value = row.get(column)
        if isinstance(value, list):
            row[column] = [_named(item, labels) for item in value]
        elif value is not None:
            row[column] = _named(value, labels)
    return row


def _named(value: Any, labels: Sequence[str]) -> Any:
    return labels[value] if isinstance(value, int) and 0 <= value < len(labels) else value


def _listed(batch: Any, where: str) -> list[dict[str, Any]]:
    """Rows of a record batch. Raises DataError with the column that cannot be read."""
    columns = {}
    for number, field in enumerate(batch.schema):
        try:
            columns[field.name] = batch.column(number).to_pylist()
        except (ValueError, ArithmeticError) as error:
            problem = f"column {field.name!r} of {field.type}, which cannot be read ({error})"
            raise DataError(where, problem, "write the column anew, text as UTF-8") from error
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _class_labels(metadata: bytes, path: Path) -> dict[str, list[str]]:
    """Column -> names of its class labels, from the features that `datasets` writes into a file's schema."""
    try:
        features = json.loads(metadata).get("info", {}).get("features", {}) or {}
    except (ValueError, AttributeError) as error:
        problem = f"features in its schema's 'huggingface' that cannot be read ({error})"
        raise DataError(path, problem, "write the file anew with `datasets`, or without them") from error
    labels = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else feature  # tags: a list of labels
        if isinstance(inner, dict) and inner.get("names"):
            labels[column] = list(inner["names"])
    return labels


def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(path, f"a file that is not Parquet ({error})", "correct `format` or the file") from error


def file_lines(path: Path) -> list[str]:
    """Lines stripped of white space, without blank ones at the end. Raises DataError."""
    lines = [line.strip() for _, line in text_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def same_length(lines: Sequence[str], predictions: Path, gold: Sequence[str], labels: Path) -> None:
    """Raises DataError where a prediction file has more or fewer lines than its label file."""
    if len(lines) != len(gold):
        place = f"{predictions}:{min(len(lines), len(gold)) + 1}"
        count = f"the end of the file after {len(lines)} lines" if len(lines) < len(gold) else f"{len(lines)} lines"
        raise DataError(place, count, f"one prediction for each of the {len(gold)} lines of {labels} is expected")


def numbered(
    names: Sequence[str], numbers: Mapping[str, int], path: Path, lines: Sequence[str] | None = None
) -> list[int]:
    """Integers of label names. `lines` are those of the file where `names` lacks some. Raises DataError."""
    try:
        return [numbers[name] for name in names]
    except KeyError as error:
        name = error.args[0]
        expected = f"one of {', '.join(numbers)} is expected"
        line = (names if lines is None else lines).index(name) + 1
        raise DataError(f"{path}:{line}", f"the unknown label {name!r}", expected, nearest(name, numbers)) from error


def json_object(path: Path) -> dict[str, Any]:
    """JSON object of a file, with distinct keys. Raises DataError."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        each_once((name for name, _ in items), path)
        return dict(items)

    content = document(path, pairs)
    if not isinstance(content, dict):
        raise DataError(path, f"a JSON {type(content).__name__}", "a JSON object by id is expected")
    return content


def object_text(values: Iterable[tuple[str, Any]]) -> str:
    """JSON object with one key a line."""
    return json.dumps(dict(values), ensure_ascii=False, indent=0) + "\n"


def each_once(ids: Iterable[str], path: Path) -> None:
    """Raises DataError for an id that occurs twice."""
    previous = set()
    for name in ids:
        if name in previous:
            raise DataError(path, f"the id {name!r} twice", "each id once is expected")
        previous.add(name)


def coverage_notes(predictions: Mapping[str, Any], ids: Sequence[str], path: Path) -> tuple[str, ...]:
    """Notes on predictions by id that do not cover the labels, as the official scorer treats them."""
    lacking = sum(name not in predictions for name in ids)
    foreign = len(predictions) - (len(ids) - lacking)
    notes = []
    if lacking:
        notes.append(f"{path}: {lacking} of {len(ids)} questions have no prediction and score 0")
    if foreign:
        notes.append(f"{path}: {foreign} predictions have an id that no question has and are left out")
    return tuple(notes)
