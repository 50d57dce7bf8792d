"""Own data sets: a description in the study file, checked, becomes a Task without code.

Knows no files and no hub; sources.py puts the pieces together.

Checks all that can be known without opening a file; each mistake is a StudyError with its place in the YAML. Keys:

    family             a name of the table; or module:Class, a family of a Python file beside the study file
    labels (a list, {label: [spellings]}, or a file with one on each line), languages, train_language or
                       train_languages, corpora, licence
    pool               ranking only: languages of the test data whose candidates are searched but that are not scored
    metric             how predictions are judged, where not by the family's own metric: accuracy, micro_f1, macro_f1,
                       weighted_f1, binary_f1 or matthews of classes; or module:function of a Python file beside the
                       study file
    normaliser         span only: how answers are compared, squad or mlqa
    train, dev, test   each a path (hub: the name of a split); a mapping {path, ...} with reading keys that hold for
                       this part alone; or a list of these. dev may also be a share of train such as 0.1
    reading keys       columns, keep, skip, omit (words with these tags), omit_empty (words without a character),
                       skip_misplaced (answers), normal_form (of questions, contexts and answers: NFC, NFD, NFKC,
                       NFKD); files: format, header, quoting, lines, pair, gold, join; hub: hub, config, revision,
                       fallback (a revision for where the main one cannot be loaded), first (so many rows, streamed)
    sizes, tokens      rows per split (or {split: {language: rows, other: rows}}), mean subword tokens; needed for the
                       hub, for a plan has no network; otherwise what would take long to count

{language} and {code} in paths, configurations, `keep` and `skip` stand for the language and what `languages` makes of
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from sweep.data import SPLITS
from sweep.data.columns import PLACEHOLDER, Columns, Part, spelling
from sweep.data.files import text_lines
from sweep.data.hub import HubPart, HubSource
from sweep.data.local import Files, Join, LocalSource
from sweep.data.retrieval_formats import ALL_READERS
from sweep.errors import StudyError, nearest
from sweep.tasks import FAMILIES, family_of
from sweep.tasks.catalog import publishers
from sweep.tasks.question_answering import FORMS, NORMALISERS
from sweep.tasks.task import Family, Metric, Task


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


COMMON_KEYS = (
    "family",
    "labels",
    "languages",
    "train_language",
    "train_languages",
    "corpora",
    "normaliser",
    "metric",
    "pool",
    "licence",
    "sizes",
    "tokens",
    *SPLITS,
)
READING_KEYS = ("columns", "keep", "skip", "omit", "omit_empty", "skip_misplaced", "normal_form")
LOCAL_KEYS = (*READING_KEYS, "format", "header", "quoting", "lines", "pair", "gold", "join")
HUB_KEYS = (*READING_KEYS, "hub", "config", "revision", "fallback", "first")
JOIN_KEYS = ("path", "format", "on", "header", "quoting")

# the raw columns of formats that have no header, and those that canonical columns are where nothing is said
FIXED_COLUMNS = {
    "squad": ("id", "title", "context", "question", "answers", "is_impossible"),
    "lines": ("text",),
    "parallel": ("text", "pair"),
    "conllu-written": ("words", "tags"),
    "panx": ("words", "tags"),
    "comparable": ("id", "side", "text", "links"),
    **dict.fromkeys(
        ("sentence_pool", "sentence_pairs", "entities", "mention_pairs"), ("id", "query", "candidate", "links")
    ),
    "mentions": ("id", "query", "candidate", "links", "language"),
}
# what a format needs beside `path`, and what that is
BESIDE = {
    "parallel": {"pair": "the path of the file with the translations"},
    "comparable": {"pair": "the path of the other side", "gold": "the path of the pairs of ids"},
}
NUMBERED_COLUMNS = {"conllu": {"words": "2", "tags": "4"}, "conll": {"words": "1", "tags": "2"}}


def own_task(
    name: str, description: Mapping[str, Any], data_root: Path, where: str, folder: Path | None = None
) -> Task:
    """A task that a study describes: on the hub where the description or a part of it says `hub`, else on local files.

    `folder` is that of the study file, beside which a user's own Python may lie. Raises StudyError.
    """
    parts = [part for split in SPLITS for part in _listed_parts(description.get(split))]
    if any("hub" in section for section in (description, *parts) if isinstance(section, Mapping)):
        return hub_task(name, description, where, folder)
    return local_task(name, description, data_root, where, folder)


def _listed_parts(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def local_task(
    name: str, description: Mapping[str, Any], data_root: Path, where: str, folder: Path | None = None
) -> Task:
    """A task on local files. Raises StudyError with a place below `where`, such as `tasks.topics.columns.label`."""
    if description.get("format") == publishers.FORMAT:
        whole = local_task(name, publishers.description(name, description, where), data_root, where)
        return _limited(whole, description.get("languages"), f"{where}.languages")
    if isinstance(description.get("labels"), str):
        description = {**description, "labels": _listed_labels(data_root / description["labels"], f"{where}.labels")}
    task = Section(description, where, folder=folder)
    known_keys(description, (*COMMON_KEYS, *LOCAL_KEYS), where)
    splits = {
        split: tuple(_local_part(part, split) for part in parts) for split, parts in _splits(task, LOCAL_KEYS, "path")
    }
    return _task(name, task, LocalSource(splits, share(task), *stated_sizes(task), where, data_root))


def _listed_labels(path: Path, where: str) -> list[str]:
    """Labels that are too many for a study file, one on each line of a file."""
    if not path.is_file():
        wanted = "a list of labels, {label: [spellings]}, or a file with a label on each line is expected"
        raise StudyError(where, repr(str(path)), wanted)
    return [line.strip() for _, line in text_lines(path) if line.strip()]


def hub_task(name: str, description: Mapping[str, Any], where: str, folder: Path | None = None) -> Task:
    """A task on hub data sets, or on local folders laid out like one. Raises StudyError. Touches no network."""
    task = Section(description, where, folder=folder)
    known_keys(description, (*COMMON_KEYS, *HUB_KEYS), where)
    splits = {
        split: tuple(_hub_part(part, split) for part in parts) for split, parts in _splits(task, HUB_KEYS, "split")
    }
    sizes, tokens = stated_sizes(task)
    if lacking := [split for split, parts in splits.items() if not _sized(sizes.get(split, {}), _languages(parts))]:
        raise StudyError(task.place("sizes"), "nothing", f"the rows per language of {', '.join(lacking)} are expected")
    if tokens is None:
        wanted = "the mean subword tokens of an example are expected; a guess will do"
        raise StudyError(task.place("tokens"), "nothing", wanted)
    return _task(name, task, HubSource(splits, share(task), sizes, tokens, where))


def _pool(task: Section, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The languages of the test data that are searched and not scored."""
    pool = strings(task, "pool")
    for language in pool:
        if not family(task).pools or language not in languages:
            wanted = f"a language of a ranking task's test data is expected: {', '.join(languages)}"
            raise StudyError(task.place("pool"), repr(language), wanted, nearest(language, languages))
    return pool


def _task(name: str, task: Section, source: LocalSource | HubSource) -> Task:
    train, test = source.splits.get("train", ()), source.splits.get("test", ())
    if not train and not test:
        raise StudyError(task.where, "no data", "at least one of `train` and `test` is expected")
    if train and task.get("dev") is None:
        raise StudyError(task.place("dev"), "nothing", "a file, or a share of train such as 0.1, is expected")
    trained = trained_in(task) if train else ()
    if lacking := set(trained) - set(_languages(train)):
        found = f"no part for {', '.join(sorted(lacking))}"
        raise StudyError(task.place("train"), found, "one with it in its `languages` is expected")
    tested, pool = _languages(test), _pool(task, _languages(test))
    calibrates = family(task).calibrates
    if calibrates and (lacking := set(tested) - set(_languages(source.splits.get("dev", ())))):
        found = f"no dev data for {', '.join(sorted(lacking))}"
        raise StudyError(task.place("dev"), found, "the threshold of a mining task is calibrated on it")
    dev = train if source.dev_share else source.splits.get("dev", ())
    sources = tuple(language for language in _languages(train) if language in _languages(dev))
    return Task(
        name=name,
        family=family(task),
        source=source,
        languages=tuple(language for language in tested if language not in pool),
        pool=pool,
        train_language=trained[0] if trained else None,
        labels=label_names(task),
        corpora=strings(task, "corpora"),
        licence=optional_text(task, "licence") or "",
        train_languages=trained if task.get("train_languages") else (),
        sources=sources if set(sources) - set(trained) else (),
        normaliser=normaliser(task),
        metric=metric(task),
    )


def _sized(rows: Mapping[str, int], languages: Iterable[str]) -> bool:
    return "other" in rows or set(languages) <= set(rows)


def _languages(parts: Iterable[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(language for part in parts for language in part.languages))


def _limited(task: Task, languages: Any, where: str) -> Task:
    """The task in some of its languages, and its train language; all of them where nothing is said."""
    assert isinstance(task.source, LocalSource)
    if languages is None:
        return task
    known = dict.fromkeys((*task.languages, *task.sources))
    for language in (chosen := tuple(language_codes(languages, where))):
        if language not in known:
            wanted = f"its languages are {', '.join(known)}"
            raise StudyError(where, f"language {language!r}", wanted, nearest(language, known))
    splits = {
        split: tuple(_spoken(parts, (*chosen, *(task.pool if split == "test" else task.trained_in))))
        for split, parts in task.source.splits.items()
    }
    return replace(
        task,
        source=replace(task.source, splits=splits),
        languages=tuple(language for language in task.languages if language in chosen),
        sources=tuple(language for language in task.sources if language in (*task.trained_in, *chosen)),
    )


def _spoken(parts: Iterable[Files], languages: Iterable[str]) -> Iterator[Files]:
    """The parts in these languages alone."""
    for part in parts:
        if kept := {language: code for language, code in part.languages.items() if language in languages}:
            yield replace(part, languages=kept)


def _splits(task: Section, keys: tuple[str, ...], main: str) -> Iterator[tuple[str, list[Section]]]:
    """(split, its parts). `main` is the key that a part must have and that a plain text stands for."""
    for split in SPLITS:
        given = task.get(split)
        if given is None or (split == "dev" and isinstance(given, (int, float))):
            continue
        several = isinstance(given, (list, tuple))
        parts = []
        for index, item in enumerate(given if several else [given]):
            place = f"{task.place(split)}[{index}]" if several else task.place(split)
            own = {main: item} if isinstance(item, str) else item
            if not isinstance(own, Mapping):
                raise StudyError(place, repr(item), f"a {main}, or a mapping with `{main}`, is expected")
            known_keys(own, (main, "labels", "languages", *keys), place)
            parts.append(Section(own, place, outer=task))
        yield split, parts


def _local_part(part: Section, split: str) -> Files:
    form = _format(part)
    header, lines = strings(part, "header"), strings(part, "lines")
    if form == "blocks" and not lines:
        raise StudyError(part.place("lines"), "nothing", "the names of a record's lines are expected")
    path, pair, gold = text(part, "path"), *(optional_text(part, key) for key in ("pair", "gold"))
    for key, what in BESIDE.get(form, {}).items():
        need(part, key, f"{what} is expected")
    join = _join(part)
    has = () if join else FIXED_COLUMNS.get(form) or header or lines
    columns = stated_columns(part, has, NUMBERED_COLUMNS.get(form, {}))
    numbers = _numbers(columns, part.place("columns")) if form in NUMBERED_COLUMNS else ()
    languages = stated_languages(part, split)
    one_file_each((path, *_kept(columns)), languages, part.where)
    quoting = flag(part, "quoting")
    return Files(columns, languages, part.where, path, form, header, quoting, lines, numbers, pair, gold, join)


def _hub_part(part: Section, split: str) -> HubPart:
    columns = stated_columns(part, (), {})
    languages = stated_languages(part, split)
    identifier, name = text(part, "hub"), text(part, "split")
    config, revision = optional_text(part, "config"), optional_text(part, "revision")
    one_file_each((config or "", name, *_kept(columns)), languages, part.where)
    fallback, first = optional_text(part, "fallback"), part.get("first")
    if first is not None and (type(first) is not int or first <= 0):
        raise StudyError(part.place("first"), repr(first), "a number of rows above zero is expected")
    here = part.task.where
    files = f"the benchmark's own files, read by `format: {publishers.FORMAT}` in {here}"
    instead = files if here.removeprefix("tasks.") in publishers.FILES else ""
    return HubPart(columns, languages, part.where, identifier, config, name, revision, fallback, first, instead)


def _format(section: Section) -> str:
    name = text(section, "format")
    if name not in ALL_READERS:
        wanted = f"one of {', '.join(ALL_READERS)} is expected"
        raise StudyError(section.place("format"), repr(name), wanted, nearest(name, ALL_READERS))
    return name


def _join(part: Section) -> Join | None:
    given, place = part.get("join"), part.place("join")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise StudyError(place, repr(given), "a mapping with `path`, `format` and `on` is expected")
    known_keys(given, JOIN_KEYS, place)
    join = Section(given, place)
    header, quoting = strings(join, "header"), flag(join, "quoting")
    return Join(text(join, "path"), _format(join), text(join, "on"), header, quoting)


def _numbers(columns: Columns, place: str) -> tuple[int, ...]:
    """The columns that a CoNLL reader must keep: their names are numbers."""
    named = [*columns.columns.values(), *([] if columns.unit is None else [columns.unit])]
    used = [raw for spec in named for raw in raw_columns(spec)]
    for raw in (*used, *columns.keep, *columns.skip):
        if not raw.isdecimal() or raw == "0":
            raise StudyError(place, repr(raw), "numbers of columns, counted from 1, are expected")
    return tuple(sorted({int(raw) for raw in used}))


def _kept(columns: Columns) -> Iterable[str]:
    return (value for values in columns.keep.values() for value in values)
