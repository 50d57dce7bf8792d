"""A language's prediction and label file, read together: predictions and rows for the judge of their family.

What the official scorer forgives is forgiven and noted (questions without a prediction, ids without a question); what
would make it stop or count nonsense raises DataError with file and line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import DataError, nearest
from sweep.tasks.base import Prediction, Row, Task
from sweep.tasks.files import document, text_lines
from sweep.tasks.formats import read
from sweep.tasks.schemes import notation

OUTSIDE = "O"  # the official taggers have it as a class, whatever the tag set


@dataclass(frozen=True)
class Pair:
    """What a family's judge needs, and what its reader should know."""

    task: Task
    rows: list[Row]
    predictions: list[Prediction]
    notes: tuple[str, ...] = ()


def read_pair(predictions: Path, labels: Path, task: Task) -> Pair:
    """Reads both files of a language. Raises DataError."""
    pair = _READERS[task.family](predictions, labels, task)
    if not pair.rows:
        raise DataError(labels, "nothing to score", "at least one label is expected")
    return pair


# Files with a line per row


def _sequence(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = _lines(labels), _lines(predictions)
    _same_length(found, predictions, gold, labels)
    numbers = {name.strip(): number for number, name in enumerate(task.labels)}
    rows: list[Row] = [{"label": label} for label in _numbers(gold, numbers, labels)]
    return Pair(task, rows, _numbers(found, numbers, predictions))


def _token(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = _lines(labels), _lines(predictions)
    _same_sentences(found, predictions, gold, labels)
    names = list(dict.fromkeys([*task.labels, *sorted(set(gold) - {""}), OUTSIDE]))
    try:
        notation(tuple(names))
    except ValueError as error:
        raise DataError(labels, str(error), "the tags of one scheme are expected, such as B-PER and I-PER") from error
    numbers = {name.strip(): number for number, name in enumerate(names)}
    words = np.array([bool(tag) for tag in gold], dtype=np.bool_)
    # Blank line b is followed by sentence b + 1, which begins after the words before it.
    cuts = np.cumsum(words)[~words]
    tags = [
        np.split(np.array(_numbers([tag for tag in side if tag], numbers, path, side), dtype=np.int64), cuts)
        for side, path in ((gold, labels), (found, predictions))
    ]
    rows: list[Row] = [{"tags": sentence} for sentence in tags[0]] if gold else []
    return Pair(replace(task, labels=tuple(names)), rows, tags[1])


def _embedding(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = _lines(labels), _lines(predictions)
    _same_length(found, predictions, gold, labels)
    rows: list[Row] = [{"match": number} for number in _integers(gold, labels)]
    return Pair(task, rows, _integers(found, predictions))


def _choice(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = _lines(labels), _lines(predictions)
    _same_length(found, predictions, gold, labels)
    rows: list[Row] = [{"label": option} for option in _options(gold, labels)]
    return Pair(task, rows, _options(found, predictions))


def _mining(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = (_links(path) for path in (labels, predictions))
    rows: list[Row] = [
        {"id": one, "side": "text", "text": "", "links": list(gold.get(one, {}))} for one in {**gold, **found}
    ]
    return Pair(task, rows if gold else [], [found.get(row["id"], {}) for row in rows])


def _links(path: Path) -> dict[str, dict[str, float]]:
    """id -> ids it is paired with. A pair that stands twice counts once, as in the official scorer."""
    links: dict[str, dict[str, float]] = {}
    for number, line in enumerate(_lines(path), start=1):
        one, tab, other = line.partition("\t")
        if not tab or "\t" in other:
            raise DataError(f"{path}:{number}", repr(line[:60]), "two ids with a tab between them are expected")
        links.setdefault(one, {})[other] = 1.0
    return links


def _lines(path: Path) -> list[str]:
    """Lines without the blanks around them; blank ones at the end are none."""
    lines = [line.strip() for _, line in text_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_length(found: Sequence[str], predictions: Path, gold: Sequence[str], labels: Path) -> None:
    if len(found) != len(gold):
        place = f"{predictions}:{min(len(found), len(gold)) + 1}"
        what = f"the end of the file after {len(found)} lines" if len(found) < len(gold) else f"{len(found)} lines"
        raise DataError(place, what, f"one prediction for each of the {len(gold)} lines of {labels} is expected")


def _same_sentences(found: Sequence[str], predictions: Path, gold: Sequence[str], labels: Path) -> None:
    for number, (tag, wanted) in enumerate(zip(found, gold, strict=False), start=1):
        if (not tag) != (not wanted):
            what, instead = ("a tag", "a blank line") if tag else ("a blank line", "a tag")
            raise DataError(f"{predictions}:{number}", what, f"{instead} is expected, as at {labels}:{number}")
    _same_length(found, predictions, gold, labels)


def _numbers(
    found: Sequence[str], numbers: Mapping[str, int], path: Path, lines: Sequence[str] | None = None
) -> list[int]:
    """The integer of each label. `lines` are those of the file where `found` lacks some."""
    try:
        return [numbers[name] for name in found]
    except KeyError as error:
        name = error.args[0]
        wanted = f"one of {', '.join(numbers)} is expected"
        line = (found if lines is None else lines).index(name) + 1
        raise DataError(f"{path}:{line}", f"the unknown label {name!r}", wanted, nearest(name, numbers)) from error


def _integers(lines: Sequence[str], path: Path) -> list[int]:
    for number, line in enumerate(lines, start=1):
        if not line.isdecimal():
            raise DataError(
                f"{path}:{number}", repr(line[:60]), "the number of a sentence, counted from 0, is expected"
            )
    return [int(line) for line in lines]


def _options(lines: Sequence[str], path: Path) -> list[int]:
    options = []
    for number, line in enumerate(lines, start=1):
        try:
            option = json.loads(line)["label"]
        except (ValueError, KeyError, TypeError, IndexError):
            option = line
        if type(option) is not int or option < 0:
            wanted = '{"label": option} with the number of an option, counted from 0, is expected'
            raise DataError(f"{path}:{number}", repr(option), wanted)
        options.append(option)
    return options


# JSON files by id


def _span(predictions: Path, labels: Path, task: Task) -> Pair:
    rows: list[Row] = []
    for _, raw in read(labels, "squad"):
        try:
            rows.append({"id": str(raw["id"]), "answers": [{"text": str(gold["text"])} for gold in raw["answers"]]})
        except (KeyError, TypeError) as error:
            raise DataError(labels, f"question {raw['id']} with no {error}", "answers[].text is expected") from error
    _no_repetition((row["id"] for row in rows), labels)
    found = _object(predictions)
    for name, answer in found.items():
        if not isinstance(answer, str):
            raise DataError(predictions, f"{answer!r} for {name!r}", "the text of an answer is expected")
    return Pair(task, rows, [found.get(row["id"]) for row in rows], _notes(found, rows, predictions))


def _ranking(predictions: Path, labels: Path, task: Task) -> Pair:
    gold, found = (_object(path) for path in (labels, predictions))
    for path, side in ((labels, gold), (predictions, found)):
        for name, ids in side.items():
            if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
                raise DataError(path, f"{ids!r} for {name!r}", "a list of ids is expected")
    rows: list[Row] = [
        {"id": name, "query": "", "candidate": None, "links": [one.strip() for one in ids]}
        for name, ids in gold.items()
    ]
    return Pair(task, rows, [found.get(row["id"], []) for row in rows], _notes(found, rows, predictions))


def _object(path: Path) -> dict[str, Any]:
    """A JSON object of a file, each key once."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        _no_repetition((name for name, _ in items), path)
        return dict(items)

    found = document(path, pairs)
    if not isinstance(found, dict):
        raise DataError(path, f"a JSON {type(found).__name__}", "a JSON object by id is expected")
    return found


def _no_repetition(ids: Iterable[str], path: Path) -> None:
    seen = set()
    for name in ids:
        if name in seen:
            raise DataError(path, f"the id {name!r} twice", "each id once is expected")
        seen.add(name)


def _notes(found: Mapping[str, Any], rows: Sequence[Row], path: Path) -> tuple[str, ...]:
    """What the official scorer says of predictions that do not cover the labels."""
    lacking = sum(row["id"] not in found for row in rows)
    foreign = len(found) - (len(rows) - lacking)
    notes = []
    if lacking:
        notes.append(f"{path}: {lacking} of {len(rows)} questions have no prediction and score 0")
    if foreign:
        notes.append(f"{path}: {foreign} predictions have an id that no question has and are left out")
    return tuple(notes)


_READERS: dict[str, Callable[[Path, Path, Task], Pair]] = {
    "sequence": _sequence,
    "choice": _choice,
    "token": _token,
    "span": _span,
    "embedding": _embedding,
    "mining": _mining,
    "ranking": _ranking,
}
