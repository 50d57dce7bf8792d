"""Official prediction and label files, as far as families share how they are written and read.

Raises DataError with file and line for what would make the official scorer stop or count nonsense.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.data.files import document, text_lines
from sweep.errors import DataError, nearest


def file_lines(path: Path) -> list[str]:
    """Lines without the blanks around them; blank ones at the end are none."""
    lines = [line.strip() for _, line in text_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def same_length(found: Sequence[str], predictions: Path, gold: Sequence[str], labels: Path) -> None:
    """Refuses a prediction file with more or fewer lines than its label file."""
    if len(found) != len(gold):
        place = f"{predictions}:{min(len(found), len(gold)) + 1}"
        what = f"the end of the file after {len(found)} lines" if len(found) < len(gold) else f"{len(found)} lines"
        raise DataError(place, what, f"one prediction for each of the {len(gold)} lines of {labels} is expected")


def numbered(
    names: Sequence[str], numbers: Mapping[str, int], path: Path, lines: Sequence[str] | None = None
) -> list[int]:
    """The integer of each label. `lines` are those of the file where `names` lacks some."""
    try:
        return [numbers[name] for name in names]
    except KeyError as error:
        name = error.args[0]
        wanted = f"one of {', '.join(numbers)} is expected"
        line = (names if lines is None else lines).index(name) + 1
        raise DataError(f"{path}:{line}", f"the unknown label {name!r}", wanted, nearest(name, numbers)) from error


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object of a file, each key once."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        each_once((name for name, _ in items), path)
        return dict(items)

    found = document(path, pairs)
    if not isinstance(found, dict):
        raise DataError(path, f"a JSON {type(found).__name__}", "a JSON object by id is expected")
    return found


def object_text(values: Iterable[tuple[str, Any]]) -> str:
    """A JSON object with a line for each of its keys."""
    return json.dumps(dict(values), ensure_ascii=False, indent=0) + "\n"


def each_once(ids: Iterable[str], path: Path) -> None:
    """Refuses an id that stands twice."""
    seen = set()
    for name in ids:
        if name in seen:
            raise DataError(path, f"the id {name!r} twice", "each id once is expected")
        seen.add(name)


def coverage_notes(found: Mapping[str, Any], ids: Sequence[str], path: Path) -> tuple[str, ...]:
    """What the official scorer says of predictions by id that do not cover the labels."""
    lacking = sum(name not in found for name in ids)
    foreign = len(found) - (len(ids) - lacking)
    notes = []
    if lacking:
        notes.append(f"{path}: {lacking} of {len(ids)} questions have no prediction and score 0")
    if foreign:
        notes.append(f"{path}: {foreign} predictions have an id that no question has and are left out")
    return tuple(notes)
