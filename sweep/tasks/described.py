"""What a data set's description says of columns, labels and languages, checked: StudyError with the place in the YAML.

Knows no files and no hub; sources.py puts the pieces together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from sweep.errors import StudyError, nearest
from sweep.tasks.mapping import COLUMNS, LABELLED, PLACEHOLDER, Columns

OPTIONS = tuple("01234")  # how the answer of a choice is written where `labels` says nothing

Description = Mapping[str, Any]


def known_keys(given: Description, known: Iterable[str], where: str) -> None:
    """Refuses a key that nothing reads."""
    known = tuple(dict.fromkeys(known))
    for key in given:
        if key not in known:
            raise StudyError(
                f"{where}.{key}", "an unknown key", f"known are {', '.join(known)}", nearest(str(key), known)
            )


def need(given: Description, key: str, where: str, wanted: str) -> Any:
    """The value of a key that must be there."""
    if given.get(key) is None:
        raise StudyError(f"{where}.{key}", "nothing", wanted)
    return given[key]


def text(given: Description, key: str, where: str) -> str:
    """The value of a key that must be there and be text."""
    value = need(given, key, where, "text is expected")
    if not isinstance(value, str):
        raise StudyError(f"{where}.{key}", repr(value), "text is expected")
    return value


def optional_text(given: Description, key: str, where: str) -> str | None:
    """The same of a key that may be absent."""
    return None if given.get(key) is None else text(given, key, where)


def strings(given: Description, key: str, where: str) -> tuple[str, ...]:
    """The value of a key that is a list of texts, or absent."""
    value = given.get(key, ())
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise StudyError(f"{where}.{key}", repr(value), "a list of texts is expected")
    return tuple(value)


def flag(given: Description, key: str, where: str) -> bool | None:
    """The value of a key that is true, false or absent."""
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise StudyError(f"{where}.{key}", repr(value), "true or false is expected")
    return value


def share(description: Description, where: str) -> Fraction | None:
    """The share of train that `dev` asks for, or None where it names data."""
    value = description.get("dev")
    if not isinstance(value, (int, float)):
        return None
    if isinstance(value, bool) or not 0 < value < 1:
        raise StudyError(f"{where}.dev", repr(value), "a share between 0 and 1, or a file, is expected")
    if description.get("train") is None:
        raise StudyError(f"{where}.dev", f"a share of {value}", "there is no train to take it from")
    return Fraction(str(value))


def family(description: Description, where: str) -> str:
    """The task's family."""
    name = text(description, "family", where)
    if name not in COLUMNS:
        raise StudyError(
            f"{where}.family", repr(name), f"one of {', '.join(COLUMNS)} is expected", nearest(name, COLUMNS)
        )
    return name


def label_names(description: Description, where: str) -> tuple[str, ...]:
    """The task's labels in the order of their integers."""
    labels = description.get("labels")
    if labels is None:
        if family(description, where) in LABELLED:
            raise StudyError(f"{where}.labels", "nothing", "a list of labels, or {label: [spellings]}, is expected")
        return ()
    return tuple(name for name, _ in _spelled(labels, f"{where}.labels"))


def spellings(part: Description, kind: str, names: Sequence[str], where: str) -> dict[str, int]:
    """Label as the files of this part spell it -> integer. A label may always be written as it is named."""
    if kind not in (*LABELLED, "choice"):
        return {}
    place = f"{where}.labels"
    labels = _spelled(part.get("labels") or names or OPTIONS, place)
    order = [name for name, _ in labels] if kind == "choice" else list(names)
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
        return [(str(name), ()) for name in labels]
    if isinstance(labels, Mapping) and labels:
        return [(str(name), tuple(map(str, _listed(ways)))) for name, ways in labels.items()]
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


def trained_in(description: Description, where: str) -> tuple[str, ...]:
    """The languages of the training data."""
    if "train_languages" in description:
        if not (languages := strings(description, "train_languages", where)):
            raise StudyError(f"{where}.train_languages", "an empty list", "at least one language is expected")
        return languages
    return (text(description, "train_language", where) if "train_language" in description else "en",)


def languages(part: Description, description: Description, split: str, where: str) -> dict[str, str]:
    """The languages of a part: its own, else those of the task for test and the trained ones for train and dev."""
    if part.get("languages") is not None:
        return language_codes(part["languages"], f"{where}.languages")
    task = description.get("languages")
    codes = language_codes(task, f"{where}.languages") if task is not None else {}
    if split == "test":
        if not codes:
            raise StudyError(f"{where}.languages", "nothing", "the languages of the test data are expected")
        return codes
    return {language: codes.get(language, language) for language in trained_in(description, where)}


def one_file_each(templates: Iterable[str], codes: Mapping[str, str], where: str) -> None:
    """Refuses one file for several languages."""
    named = {name for template in templates for name in PLACEHOLDER.findall(template)}
    if len(codes) > 1 and not named & {"language", "code"}:
        found = f"the same data for {len(codes)} languages ({', '.join(codes)})"
        raise StudyError(where, found, "{language} or {code} is expected in its path, config or `keep`")


def columns(
    part: Description, description: Description, has: Sequence[str], default: Mapping[str, str], where: str
) -> Columns:
    """How rows of a part are read. `has`: the raw columns where they are known; `default`: canonical -> raw column."""
    kind, names = family(description, where), label_names(description, where)
    required, optional = COLUMNS[kind]
    given = part.get("columns", {})
    place = f"{where}.columns"
    if not isinstance(given, Mapping):
        raise StudyError(place, repr(given), "a mapping such as {text: name of a column} is expected")
    known_keys(given, (*required, *optional), place)
    taken = {name: default.get(name, name) for name in (*required, *optional) if name in required or name in has}
    taken |= {name: _plain(spec, f"{place}.{name}") for name, spec in given.items()}
    filters = {key: _values(part, key, where) for key in ("keep", "skip")}
    used = [(f"{place}.{name}", raw) for name, spec in taken.items() for raw in raw_columns(spec)]
    used += [(f"{where}.{key}", raw) for key, values in filters.items() for raw in values]
    for at, raw in used:
        if has and raw not in has:
            raise StudyError(at, f"no column {raw!r}", f"the columns are {', '.join(has)}", nearest(raw, has))
    return Columns(kind, taken, spellings(part, kind, names, where), filters["keep"], filters["skip"])


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


def _values(part: Description, key: str, where: str) -> dict[str, tuple[str, ...]]:
    given = part.get(key, {})
    if not isinstance(given, Mapping):
        raise StudyError(f"{where}.{key}", repr(given), "a mapping such as {column: [values]} is expected")
    return {str(column): tuple(map(str, _listed(values))) for column, values in given.items()}
