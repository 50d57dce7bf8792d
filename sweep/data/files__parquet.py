"""Parquet files, and the class labels that `datasets` keeps in them (or in a loaded data set) as integers.

Labels are handed on by name, because the same integer means different things in different data sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.errors import DataError


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(record number from 1, row). Raises DataError."""
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
    """Rows by the file's own account. Raises DataError."""
    return int(_open(path).metadata.num_rows)


def named(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The row with class labels (one, or a list of them) by name; what names none, such as -1, stays a number."""
    for column, known in names.items():
        value = row.get(column)
        if isinstance(value, list):
            row[column] = [_named(item, known) for item in value]
        elif value is not None:
            row[column] = _named(value, known)
    return row


def _named(value: Any, known: Sequence[str]) -> Any:
    return known[value] if isinstance(value, int) and 0 <= value < len(known) else value


def _listed(batch: Any, where: str) -> list[dict[str, Any]]:
    """The rows of a batch. Raises DataError with the column that cannot be read."""
    columns = {}
    for number, field in enumerate(batch.schema):
        try:
            columns[field.name] = batch.column(number).to_pylist()
        except (ValueError, ArithmeticError) as error:
            found = f"column {field.name!r} of {field.type}, which cannot be read ({error})"
            raise DataError(where, found, "write the column anew, text as UTF-8") from error
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _class_labels(metadata: bytes, path: Path) -> dict[str, list[str]]:
    """Column -> names of its class labels, from the features that `datasets` writes into a file's schema."""
    try:
        features = json.loads(metadata).get("info", {}).get("features", {}) or {}
    except (ValueError, AttributeError) as error:
        problem = f"features in its schema's 'huggingface' that cannot be read ({error})"
        raise DataError(path, problem, "write the file anew with `datasets`, or without them") from error
    found = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else feature  # tags: a list of labels
        if isinstance(inner, dict) and inner.get("names"):
            found[column] = list(inner["names"])
    return found


def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(path, f"a file that is not Parquet ({error})", "correct `format` or the file") from error
