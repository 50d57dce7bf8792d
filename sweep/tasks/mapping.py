"""From a file's raw row to a row in the columns of a family: which column means what, and how labels are spelled.

Shared by local files and the hub. What a row says is not judged here (the family's `check` does that), only whether it
can be read as the study file claims; if not, DataError names the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from sweep.errors import DataError, nearest
from sweep.tasks.base import Row
from sweep.tasks.formats import UNIT, Raw

Located = Iterator[tuple[str, Row]]  # (place such as file:line, row)

# canonical columns of a family: those a row must have, then those it may have
COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sequence": (("text", "label"), ("pair",)),
    "choice": (("prompt", "options", "label"), ()),
    "token": (("words", "tags"), ()),
    "span": (("context", "question", "answers"), ("id",)),
    "embedding": (("text", "pair"), ()),
    "mining": (("id", "side", "text", "links"), ()),
    "ranking": (("id",), ("query", "candidate", "links")),
    "masked": (("text",), ()),
}
LABELLED = ("sequence", "token")  # families whose labels must be named; options are numbered where nothing is said

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Columns:
    """How raw rows are read in one part of a split.

    A column is the name of one in the file; a text with `{names}` in it; a list of these; or a mapping
    `{"by": column, value: text}`, where the value of a column chooses the text. `keep` and `skip` hold, per raw column,
    the values that rows must or must not have; they may contain {code} and {language}, and a final `*` stands for any
    ending.
    """

    family: str
    columns: Mapping[str, Any]
    spellings: Mapping[str, int]  # a label as the file spells it -> its integer
    keep: Mapping[str, tuple[str, ...]]
    skip: Mapping[str, tuple[str, ...]]
    omit: tuple[str, ...] = ()  # token: words with these tags are left out
    skip_misplaced: bool = False  # span: rows with an answer that is not at its offset are left out
    unit: Any = None  # the column that rows of one unit have in common; None: what the format says

    def rows(self, numbered: Iterable[tuple[str, Raw]], names: Mapping[str, str]) -> Located:
        """(place, row) of the raw rows that are kept. `names` fills {code} and {language}. Raises DataError."""
        keep = {column: [fill(value, names) for value in values] for column, values in self.keep.items()}
        skip = {column: [fill(value, names) for value in values] for column, values in self.skip.items()}
        build = _BUILDERS[self.family]
        for where, raw in numbered:
            if all(_among(_column(raw, column, where), values) for column, values in keep.items()) and not any(
                _among(_column(raw, column, where), values) for column, values in skip.items()
            ):
                row = build(self, raw, where)
                unit = raw.get(UNIT) if self.unit is None else _value(raw, self.unit, where)
                if unit not in (None, ""):
                    row["unit"] = str(unit)
                if not (self.skip_misplaced and any(map(partial(_misplaced, row["context"]), row["answers"]))):
                    yield where, row

    def reading(self) -> dict[str, object]:
        """All that rows depend on, as plain data; the unit of a row changes nothing that is learned from it."""
        return {name: value for name, value in vars(self).items() if name != "unit"}

    def value(self, raw: Raw, canonical: str, where: str) -> Any:
        """What the raw row has for a canonical column. Raises DataError where the column is absent."""
        return _value(raw, self.columns[canonical], where)

    def text(self, raw: Raw, canonical: str, where: str) -> str:
        """The same, which must be text; a line end that the file left on it is taken off."""
        return _text(self.value(raw, canonical, where), canonical, where)

    def label(self, value: object, where: str) -> int:
        """The integer of a label as the file spells it. Raises DataError."""
        found = self.spellings.get(str(value))
        if found is None:
            known = ", ".join(islice(self.spellings, 20)) + (", ..." if len(self.spellings) > 20 else "")
            wanted = f"add it to `labels`, or its rows to `skip`; known are {known}"
            raise DataError(where, f"the label {str(value)!r}", wanted, nearest(str(value), self.spellings))
        return found


def fill(template: str, names: Mapping[str, str]) -> str:
    """The template with each {name} that is in `names` replaced."""
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), template)


def _among(value: object, values: Iterable[str]) -> bool:
    """Whether a value is one of these, or begins as one that ends in `*` does."""
    text = str(value)
    return any(text.startswith(known[:-1]) if known.endswith("*") else text == known for known in values)


def _misplaced(context: str, answer: Mapping[str, Any]) -> bool:
    """Whether the answer is not where its offset says, as in some machine-translated data."""
    text, start = answer["text"], answer["start"]
    return not text or start < 0 or not context.startswith(text, start)


def _column(raw: Raw, name: str, where: str) -> Any:
    """The value of a column; where none has that very name, `a.b` is b inside a, and `a.0` the first item of a."""
    if name in raw:
        return raw[name]
    value: Any = raw
    for step in name.split("."):
        if isinstance(value, (list, tuple)) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        else:
            raise DataError(where, f"no column {name!r}", f"the columns are {', '.join(raw)}", nearest(name, raw))
    return value


def _value(raw: Raw, spec: Any, where: str) -> Any:
    if isinstance(spec, Mapping):
        chosen = str(_column(raw, spec["by"], where))
        if chosen not in spec:
            known = ", ".join(name for name in spec if name != "by")
            raise DataError(where, f"{chosen!r} in column {spec['by']!r}", f"`columns` has a text for {known}")
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


def _sequence(columns: Columns, raw: Raw, where: str) -> Row:
    pair = columns.text(raw, "pair", where) if "pair" in columns.columns else None
    label = columns.label(columns.value(raw, "label", where), where)
    return {"text": columns.text(raw, "text", where), "pair": pair, "label": label}


def _choice(columns: Columns, raw: Raw, where: str) -> Row:
    options = _texts(columns.value(raw, "options", where), "options", where)
    label = columns.label(columns.value(raw, "label", where), where)
    return {"prompt": columns.text(raw, "prompt", where), "options": options, "label": label}


def _token(columns: Columns, raw: Raw, where: str) -> Row:
    tags = _texts(columns.value(raw, "tags", where), "tags", where)
    words = _texts(columns.value(raw, "words", where), "words", where)
    if columns.omit and len(words) == len(tags):
        words = [word for word, tag in zip(words, tags, strict=True) if tag not in columns.omit]
        tags = [tag for tag in tags if tag not in columns.omit]
    return {"words": words, "tags": [columns.label(tag, where) for tag in tags]}


def _span(columns: Columns, raw: Raw, where: str) -> Row:
    context = columns.value(raw, "context", where)
    if not isinstance(context, str):
        raise DataError(where, f"{type(context).__name__} as context", "text is expected")
    return {
        "id": str(columns.value(raw, "id", where)) if "id" in columns.columns else where,
        "context": context,  # never stripped: answers are offsets into it
        "question": columns.text(raw, "question", where),
        "answers": _answers(columns.value(raw, "answers", where), where),
    }


def _answers(value: Any, where: str) -> list[dict[str, Any]]:
    """SQuAD files have a list of {text, answer_start}; the hub has one {text: [...], answer_start: [...]}."""
    try:
        if isinstance(value, Mapping):
            pairs = list(zip(value["text"], value["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in value]
        return [{"text": str(text), "start": int(start)} for text, start in pairs]
    except (KeyError, TypeError, ValueError) as error:
        wanted = "answers are a list of {text, answer_start}, or {text: [...], answer_start: [...]}"
        raise DataError(where, f"answers that cannot be read ({error})", wanted) from error


def _embedding(columns: Columns, raw: Raw, where: str) -> Row:
    return {"text": columns.text(raw, "text", where), "pair": columns.text(raw, "pair", where)}


def _mining(columns: Columns, raw: Raw, where: str) -> Row:
    return {
        "id": str(columns.value(raw, "id", where)),
        "side": columns.text(raw, "side", where),
        "text": columns.text(raw, "text", where),
        "links": _texts(columns.value(raw, "links", where), "links", where),
    }


def _ranking(columns: Columns, raw: Raw, where: str) -> Row:
    row: Row = {"id": str(columns.value(raw, "id", where)), "query": None, "candidate": None, "links": []}
    for side in ("query", "candidate"):
        if side in columns.columns and columns.value(raw, side, where) is not None:
            row[side] = columns.text(raw, side, where)
    if "links" in columns.columns:
        row["links"] = _texts(columns.value(raw, "links", where), "links", where)
    return row


def _masked(columns: Columns, raw: Raw, where: str) -> Row:
    return {"text": columns.text(raw, "text", where)}


_BUILDERS: dict[str, Callable[[Columns, Raw, str], Row]] = {
    "sequence": _sequence,
    "choice": _choice,
    "token": _token,
    "span": _span,
    "embedding": _embedding,
    "mining": _mining,
    "ranking": _ranking,
    "masked": _masked,
}
