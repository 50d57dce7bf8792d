"""From a file's raw row to a row in the columns of a family: which column means what, and how labels are spelled.

Shared by local files and the hub. What a row says is not judged here (the family's `check` does that), only whether it
can be read as the study file claims; if not, DataError names the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NoReturn

from sweep.errors import DataError, nearest
from sweep.tasks.base import IGNORED, Row
from sweep.tasks.formats import LINES, UNIT, Raw
from sweep.tasks.normalise import in_form
from sweep.tasks.schemes import STRICT, Scheme, notation

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
WHOLE = re.compile(r"(-?\d+)\.0+")  # an integer as tables write it that had gaps


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
    labels: tuple[str, ...] = ()  # token: names in the order of their integers, as their scheme writes them
    omit: tuple[str, ...] = ()  # token: words with these tags are left out
    omit_empty: bool = False  # token: so are words without a character
    skip_misplaced: bool = False  # span: rows with an answer that is not at its offset are left out
    normal_form: str | None = None  # span: the Unicode normal form in which contexts, questions and answers are read
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
                if self.skip_misplaced and any(map(partial(_misplaced, row["context"]), row["answers"])):
                    continue
                if (self.omit or self.omit_empty) and not row["words"]:
                    continue
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
        """The integer of a row's label as the file spells it. Raises DataError, also where it says there is none."""
        found = self._integer(value)
        if found is None and _is_below_zero(value):
            column = self.columns["label"]
            key = column if isinstance(column, str) else "column"
            wanted = f"`skip: {{{key}: [{spelling(value)}]}}` leaves out such rows, and `labels` may give it a name"
            raise DataError(where, f"the label {spelling(value)}, which names none (hidden, or not annotated)", wanted)
        return self._unknown(value, where) if found is None else found

    def tag(self, value: object, where: str) -> int:
        """The integer of a word's tag, IGNORED where a number below zero says that there is none. Raises DataError."""
        found = self._integer(value)
        if found is None and _is_below_zero(value):
            return IGNORED
        return self._unknown(value, where) if found is None else found

    def _integer(self, value: object) -> int | None:
        """What a spelling stands for. Where nothing is said of options, they are numbered from 0."""
        for way in _ways(value):
            if way in self.spellings:
                return self.spellings[way]
            if self.family == "choice" and not self.spellings and way.isdecimal():
                return int(way)
        return None

    def _unknown(self, value: object, where: str) -> NoReturn:
        shown = spelling(value)
        known = ", ".join(islice(self.spellings, 20)) + (", ..." if len(self.spellings) > 20 else "")
        wanted = f"add it to `labels`, or its rows to `skip`; known are {known or 'the numbers of options, from 0'}"
        raise DataError(where, f"the label {shown!r}", wanted, nearest(shown, self.spellings))


def spelling(value: object) -> str:
    """A value as YAML and data files both say it: `true` for a boolean, no fraction for a whole number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _ways(value: object) -> Iterator[str]:
    """How a label may be written in `labels`, the nearest first: booleans are 1 and 0 too, and True is true."""
    yield spelling(value)
    if isinstance(value, bool):
        yield str(int(value))
    if isinstance(value, str) and value.lower() in ("true", "false"):
        yield value.lower()
    if isinstance(value, str) and (whole := WHOLE.fullmatch(value)):
        yield whole[1]


def _is_below_zero(value: object) -> bool:
    return any(way.startswith("-") and way[1:].isdecimal() for way in _ways(value))


def fill(template: str, names: Mapping[str, str]) -> str:
    """The template with each {name} that is in `names` replaced."""
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), template)


def _among(value: object, values: Iterable[str]) -> bool:
    """Whether a value is one of these, or begins as one that ends in `*` does."""
    text = spelling(value)
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
            known = [column for column in raw if column not in (LINES, UNIT)]
            raise DataError(where, f"no column {name!r}", f"the columns are {', '.join(known)}", nearest(name, known))
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
    tags = columns.value(raw, "tags", where)
    if not isinstance(tags, (list, tuple)):
        raise DataError(where, f"{type(tags).__name__} {tags!r} as tags", "a list of them is expected")
    words = _texts(columns.value(raw, "words", where), "words", where)
    if len(words) != len(tags):
        raise DataError(where, f"{len(words)} words but {len(tags)} tags", "a tag for every word is expected")
    kept, numbers = list[int](), list[int]()
    for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
        if spelling(tag) in columns.omit or (columns.omit_empty and not word.strip()):
            continue
        at = _of_word(raw, where, number)
        if not word:
            wanted = "give it a word, or leave such words out with `omit_empty: true` beside `columns`"
            raise DataError(at, f"an empty word, number {number + 1} of its sentence", wanted)
        kept.append(number)
        numbers.append(columns.tag(tag, at))
    _refuse_misfit(columns, numbers, [_of_word(raw, where, number) for number in kept])
    return {"words": [words[number] for number in kept], "tags": numbers}


def _of_word(raw: Raw, where: str, number: int) -> str:
    """The place of a word where the file has each on a line of its own, else that of its row."""
    return f"{where.rpartition(':')[0]}:{raw[LINES][number]}" if LINES in raw else where


def _refuse_misfit(columns: Columns, tags: Sequence[int], places: Sequence[str]) -> None:
    """Refuses tags that make no entity in a scheme whose entities have an end."""
    scheme = notation(columns.labels).scheme
    if scheme not in STRICT:
        return
    tagged = [(tag, at) for tag, at in zip(tags, places, strict=True) if tag != IGNORED]
    misfit = _scheme(columns.labels).misfit([tag for tag, _ in tagged])
    if misfit is not None:
        tag, at = tagged[misfit]
        wanted = (
            f"an entity in {scheme} is {STRICT[scheme]}, all of one type: correct the file, or spell its tags as those"
            " of IOB2 in `labels`, such as {B-PER: [B-PER, S-PER, U-PER], I-PER: [I-PER, E-PER, L-PER]}"
        )
        raise DataError(at, f"the tag {columns.labels[tag]} outside of an entity", wanted)


@lru_cache(maxsize=16)
def _scheme(labels: tuple[str, ...]) -> Scheme:
    return Scheme.of(labels)


def _span(columns: Columns, raw: Raw, where: str) -> Row:
    context = columns.value(raw, "context", where)
    if not isinstance(context, str):
        raise DataError(where, f"{type(context).__name__} as context", "text is expected")
    row = {
        "id": str(columns.value(raw, "id", where)) if "id" in columns.columns else where,
        "context": context,  # never stripped: answers are offsets into it
        "question": columns.text(raw, "question", where),
        "answers": _answers(columns.value(raw, "answers", where), where),
    }
    return row if columns.normal_form is None else in_form(row, columns.normal_form)


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
