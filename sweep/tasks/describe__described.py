"""What a data set's description says of columns, labels and languages, checked: StudyError with the place in the YAML.

Knows no files and no hub; sources.py puts the pieces together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sweep.data.columns import PLACEHOLDER, Columns, spelling
from sweep.data.source import SPLITS
from sweep.errors import StudyError, nearest
from sweep.tasks import FAMILIES, family_of
from sweep.tasks.question_answering__normalise import FORMS, NORMALISERS
from sweep.tasks.task import Family, Metric


@dataclass(frozen=True)
class Section:
    """A mapping of the study file and its place. What a part of a split does not say, its task (`outer`) may."""

    own: Mapping[str, Any]
    where: str
    outer: Section | None = None
    folder: Path | None = None  # of the study file, beside which a user's own Python may lie

    def get(self, key: str) -> Any:
        """The value of a key, its own or the task's, or None."""
        value = self.own.get(key)
        return self.outer.get(key) if value is None and self.outer else value

    def place(self, key: str) -> str:
        """Where the value of a key stands."""
        if self.own.get(key) is None and self.outer and self.outer.get(key) is not None:
            return self.outer.place(key)
        return f"{self.where}.{key}"

    @property
    def task(self) -> Section:
        """The whole data set's section."""
        return self.outer or self


def known_keys(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuses a key that nothing reads."""
    known = tuple(dict.fromkeys(known))
    for key in given:
        if key not in known:
            wanted = f"known are {', '.join(known)}"
            raise StudyError(f"{where}.{key}", "an unknown key", wanted, nearest(str(key), known))


def need(section: Section, key: str, wanted: str) -> Any:
    """The value of a key that must be there."""
    value = section.get(key)
    if value is None:
        raise StudyError(section.place(key), "nothing", wanted)
    return value


def text(section: Section, key: str) -> str:
    """The value of a key that must be there and be text."""
    value = need(section, key, "text is expected")
    if not isinstance(value, str):
        raise StudyError(section.place(key), repr(value), "text is expected")
    return value


def optional_text(section: Section, key: str) -> str | None:
    """The same of a key that may be absent."""
    return None if section.get(key) is None else text(section, key)


def strings(section: Section, key: str) -> tuple[str, ...]:
    """The value of a key that is a list of texts, or absent."""
    value = section.get(key) or ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise StudyError(section.place(key), repr(value), "a list of texts is expected")
    return tuple(value)


def flag(section: Section, key: str) -> bool | None:
    """The value of a key that is true, false or absent."""
    value = section.get(key)
    if value is not None and not isinstance(value, bool):
        raise StudyError(section.place(key), repr(value), "true or false is expected")
    return value


def share(task: Section) -> Fraction | None:
    """The share of train that `dev` asks for, or None where it names data."""
    value = task.get("dev")
    if not isinstance(value, (int, float)):
        return None
    if isinstance(value, bool) or not 0 < value < 1:
        raise StudyError(task.place("dev"), repr(value), "a share between 0 and 1, or a file, is expected")
    if task.get("train") is None:
        raise StudyError(task.place("dev"), f"a share of {value}", "there is no train to take it from")
    return Fraction(str(value))


def stated_sizes(task: Section) -> tuple[dict[str, dict[str, int]], float | None]:
    """Rows per split and language (or "other") and mean tokens, as far as they are stated."""
    given, tokens = task.get("sizes") or {}, task.get("tokens")
    if not isinstance(given, Mapping):
        raise StudyError(task.place("sizes"), repr(given), "{split: rows per language} is expected")
    known_keys(given, SPLITS, task.place("sizes"))
    rows = {split: dict(count) if isinstance(count, Mapping) else {"other": count} for split, count in given.items()}
    if not all(type(count) is int and count > 0 for counts in rows.values() for count in counts.values()):
        wanted = "{split: rows per language} is expected, or {split: {language: rows, other: rows}}"
        raise StudyError(task.place("sizes"), repr(given), wanted)
    if tokens is not None and (type(tokens) not in (int, float) or tokens <= 0):
        raise StudyError(task.place("tokens"), repr(tokens), "a number above zero is expected")
    return rows, None if tokens is None else float(tokens)


def family(task: Section) -> Family:
    """The task's family."""
    return family_of(text(task, "family"), task.place("family"), task.folder)


def metric(task: Section) -> Metric | None:
    """What the task is judged by; None: by its family's own metric."""
    if (name := optional_text(task, "metric")) is None:
        return None
    return family(task).metric_of(name, task.place("metric"), task.folder, label_names(task))


def normaliser(task: Section) -> str:
    """How the answers of a span task are compared."""
    name = optional_text(task, "normaliser") or "squad"
    if name not in NORMALISERS:
        wanted = f"one of {', '.join(NORMALISERS)} is expected"
        raise StudyError(task.place("normaliser"), repr(name), wanted, nearest(name, NORMALISERS))
    return name


def label_names(task: Section) -> tuple[str, ...]:
    """The task's labels in the order of their integers; entity tags as their scheme writes them."""
    names = _given_names(task)
    try:
        return family(task).label_names(names)
    except ValueError as error:
        wanted = "O and the tags of one scheme are expected, or other names for them: {NAME: [as the file spells it]}"
        raise StudyError(task.place("labels"), str(error), wanted) from None


def _given_names(task: Section) -> tuple[str, ...]:
    labels = task.get("labels")
    if labels is None:
        if family(task).labels == "named":
            raise StudyError(task.place("labels"), "nothing", "a list of labels, or {label: [spellings]}, is expected")
        return ()
    return tuple(name for name, _ in _spelled(labels, task.place("labels")))


def spellings(part: Section) -> dict[str, int]:
    """Label as the files of this part spell it -> integer. A label may always be written as it is named."""
    kind, names = family(part.task).labels, _given_names(part.task)
    if kind == "none" or (kind == "numbered" and part.get("labels") is None):
        return {}
    place = part.place("labels")
    labels = _spelled(part.get("labels"), place)
    order = [name for name, _ in labels] if kind == "numbered" else list(names)
    found: dict[str, int] = {}
    for name, ways in labels:
        if name not in order:
            raise StudyError(place, repr(name), f"the task's labels are {', '.join(order)}", nearest(name, order))
        for way in ways:
            if found.setdefault(way, order.index(name)) != order.index(name):
                raise StudyError(place, f"{way!r} for {order[found[way]]} and for {name}", "one of them is expected")
    return {**{name: order.index(name) for name, _ in labels if name not in found}, **found}


def _spelled(labels: Any, where: str) -> list[tuple[str, tuple[str, ...]]]:
    if isinstance(labels, (list, tuple)) and labels:
        return [(spelling(name), ()) for name in labels]
    if isinstance(labels, Mapping) and labels:
        return [(spelling(name), tuple(map(spelling, _listed(ways)))) for name, ways in labels.items()]
    raise StudyError(where, repr(labels), "a list of labels, or {label: [spellings]}, is expected")


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def language_codes(given: Any, where: str) -> dict[str, str]:
    """Language -> code, from a mapping or a plain list."""
    if isinstance(given, (list, tuple)) and given and all(isinstance(item, str) for item in given):
        return {language: language for language in given}
    if isinstance(given, Mapping) and given and all(isinstance(code, str) for code in given.values()):
        return {str(language): code for language, code in given.items()}
    raise StudyError(where, repr(given), "a list of languages, or {language: code}, is expected")


def trained_in(task: Section) -> tuple[str, ...]:
    """The languages of the training data."""
    if task.get("train_languages") is not None:
        if not (found := strings(task, "train_languages")):
            raise StudyError(task.place("train_languages"), "an empty list", "at least one language is expected")
        return found
    return (optional_text(task, "train_language") or "en",)


def stated_languages(part: Section, split: str) -> dict[str, str]:
    """The languages of a part: its own, else those of the task for test and the trained ones for train and dev.

    Dev data that calibrates what is tested has the languages of test.
    """
    codes = {} if part.get("languages") is None else language_codes(part.get("languages"), part.place("languages"))
    if split == "test" or part.own.get("languages") is not None or family(part.task).calibrates:
        if not codes:
            raise StudyError(part.place("languages"), "nothing", "the languages of the test data are expected")
        return codes
    return {language: codes.get(language, language) for language in trained_in(part.task)}


def one_file_each(templates: Iterable[str], codes: Mapping[str, str], where: str) -> None:
    """Refuses one file for several languages."""
    named = {name for template in templates for name in PLACEHOLDER.findall(template)}
    if len(codes) > 1 and not named & {"language", "code"}:
        found = f"the same data for {len(codes)} languages ({', '.join(codes)})"
        raise StudyError(where, found, "{language} or {code} is expected in its path, config or `keep`")


def stated_columns(part: Section, has: Sequence[str], default: Mapping[str, str]) -> Columns:
    """How rows of a part are read. `has`: the raw columns where they are known; `default`: canonical -> raw column."""
    kind = family(part.task)
    required, optional = kind.columns, kind.optional_columns
    given, place = part.get("columns") or {}, part.place("columns")
    if not isinstance(given, Mapping):
        raise StudyError(place, repr(given), "a mapping such as {text: name of a column} is expected")
    known_keys(given, (*required, *optional, "unit"), place)
    taken = {name: default.get(name, name) for name in (*required, *optional) if name in required or name in has}
    taken |= {name: _plain(spec, f"{place}.{name}") for name, spec in given.items() if name != "unit"}
    unit = None if given.get("unit") is None else _plain(given["unit"], f"{place}.unit")
    keep, skip = (_values(part, key) for key in ("keep", "skip"))
    named = taken if unit is None else {**taken, "unit": unit}
    used = [(f"{place}.{name}", raw) for name, spec in named.items() for raw in raw_columns(spec)]
    used += [(part.place("keep"), raw) for raw in keep] + [(part.place("skip"), raw) for raw in skip]
    for at, raw in used:
        if has and raw not in has:
            raise StudyError(at, f"no column {raw!r}", f"the columns are {', '.join(has)}", nearest(raw, has))
    read = Columns(
        kind, taken, spellings(part), keep, skip, kind.labels_to_read(label_names(part.task)),
        strings(part, "omit"), bool(flag(part, "omit_empty")), bool(flag(part, "skip_misplaced")), normal_form(part),
        unit,
    )  # fmt: skip
    for other in FAMILIES.values():
        for key in other.reading_keys:
            if part.get(key) and key not in kind.reading_keys:
                wanted = f"a {kind} task has no use for it: leave it out"
                raise StudyError(part.place(key), f"a key of {other} tasks", wanted)
    return read


def normal_form(part: Section) -> str | None:
    """The Unicode form in which questions, contexts and answers are read, or None: as they are."""
    name = optional_text(part, "normal_form")
    if name is not None and name not in FORMS:
        raise StudyError(part.place("normal_form"), repr(name), f"one of {', '.join(FORMS)} is expected")
    return name


def _plain(spec: Any, where: str) -> Any:
    """The column specification as plain data: text, list, or mapping with `by`."""
    if isinstance(spec, (str, int)) and not isinstance(spec, bool):
        return str(spec)
    if isinstance(spec, (list, tuple)):
        return [_plain(item, where) for item in spec]
    if isinstance(spec, Mapping) and isinstance(spec.get("by"), str):
        return {str(key): _plain(value, where) for key, value in spec.items()}
    wanted = "a column, a text with {columns} in it, a list of these, or {by: column, value: text} is expected"
    raise StudyError(where, repr(spec), wanted)


def raw_columns(spec: Any) -> Iterator[str]:
    """The file's columns that a specification reads."""
    if isinstance(spec, Mapping):
        yield spec["by"]
        spec = [value for key, value in spec.items() if key != "by"]
    if isinstance(spec, list):
        for item in spec:
            yield from raw_columns(item)
    else:
        yield from PLACEHOLDER.findall(spec) or [spec]


def _values(part: Section, key: str) -> dict[str, tuple[str, ...]]:
    given = part.get(key) or {}
    if not isinstance(given, Mapping):
        raise StudyError(part.place(key), repr(given), "a mapping such as {column: [values]} is expected")
    return {str(column): tuple(map(spelling, _listed(values))) for column, values in given.items()}
