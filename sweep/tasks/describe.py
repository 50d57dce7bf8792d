"""Task of a data set that a study file describes, without code.

Keys with their types and meanings are in description.py; what depends on the family, other keys or names of columns is
checked here. Each mistake is a StudyError with its place in the YAML, and those that do not depend on each other are
raised together. No data is opened, except a file of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from sweep.config.load import meaning, mistakes_of
from sweep.data import SPLITS
from sweep.data.columns import PLACEHOLDER, Columns, Part
from sweep.data.files import text_lines
from sweep.data.hub import HubPart, HubSource
from sweep.data.local import Files, Join, LocalSource
from sweep.data.retrieval_formats import FIXED_COLUMNS, NUMBERED_COLUMNS, REQUIRED_KEYS
from sweep.errors import Mistakes, StudyError, nearest
from sweep.tasks import FAMILIES, family_of
from sweep.tasks.catalog import publishers
from sweep.tasks.description import DESCRIPTION, Description, HubDataSet, LocalDataSet, Published, kind_of
from sweep.tasks.task import Family, Task


def own_task(
    name: str, description: Mapping[str, Any], data_root: Path, where: str, folder: Path | None = None
) -> Task:
    """Task of a description at the place `where`, such as `study.yaml: tasks.topics`. Raises StudyError.

    `data_root` is the folder of local files; `folder` that of the study file, beside which a user's own Python lies.
    """
    if isinstance(description.get("labels"), str) and kind_of(description) == "local files":
        description = {**description, "labels": _labels_of(data_root / description["labels"], f"{where}.labels")}
    try:
        keys = DESCRIPTION.validate_python(dict(description))
    except ValidationError as failure:
        raise mistakes_of(failure, description, Description, f"{where}.") from None
    if isinstance(keys, Published):
        whole = publishers.description(keys.task or name, keys.path, f"{where}.task")
        return _limited(own_task(name, whole, data_root, where), tuple(keys.languages or ()), f"{where}.languages")
    data_set = DataSet(keys, where, family_of(keys.family, f"{where}.family", folder))
    return _task(name, data_set, _source(data_set, data_root), folder)


def _labels_of(path: Path, where: str) -> list[str]:
    """Labels of a file with one on each line, for those too many for a study file."""
    if not path.is_file():
        expected = "a list of labels, {label: [spellings]}, or a file with a label on each line is expected"
        raise StudyError(where, repr(str(path)), expected)
    return [line.strip() for _, line in text_lines(path) if line.strip()]


@dataclass(frozen=True)
class DataSet:
    """Description of a data set, with its place and its family."""

    keys: LocalDataSet | HubDataSet
    where: str
    family: Family

    @property
    def trained_in(self) -> tuple[str, ...]:
        """Languages of the training data."""
        return self.keys.train_languages or (self.keys.train_language,)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels in the order of their integers; entity tags as their scheme writes them."""
        where = f"{self.where}.labels"
        if self.keys.labels is None and self.family.labels == "named":
            raise StudyError(where, "nothing", "a list of labels, or {label: [spellings]}, is expected")
        try:
            return self.family.label_names(tuple(self.keys.labels or ()))
        except ValueError as error:
            expected = (
                "O and the tags of one scheme are expected, or other names for them: {NAME: [as the file spells it]}"
            )
            raise StudyError(where, str(error), expected) from None


@dataclass(frozen=True)
class Section:
    """Part of a split, whose keys are completed with those of its data set that say how rows are read."""

    keys: Any  # LocalPart or HubPart
    own: frozenset[str]  # keys that it has itself
    where: str
    whole: DataSet

    def place(self, key: str) -> str:
        """Place of a key, or of where it is missing."""
        inherited = key not in self.own and key in self.whole.keys.model_fields_set
        return f"{self.whole.where if inherited else self.where}.{key}"

    def need(self, key: str) -> Any:
        """Value of a key that must be there. Raises StudyError."""
        if not (value := getattr(self.keys, key)):
            expected = f"the key {key!r} is expected: {meaning(type(self.keys).model_fields[key])}"
            raise StudyError(self.place(key), "nothing", expected)
        return value


def _sections(whole: DataSet, split: str) -> Iterator[Section]:
    parts = getattr(whole.keys, split)
    for index, part in enumerate(parts):
        own = part.model_fields_set
        inherited = {key for key in whole.keys.model_fields_set - own if key in type(part).model_fields}
        keys = part.model_copy(update={key: getattr(whole.keys, key) for key in inherited})
        where = f"{whole.where}.{split}" + (f"[{index}]" if len(parts) > 1 else "")
        yield Section(keys, frozenset(own), where, whole)


def _source(whole: DataSet, root: Path) -> LocalSource | HubSource:
    """Source of rows: the parts of all splits, and their stated sizes."""
    keys, mistakes = whole.keys, Mistakes()
    share = Fraction(str(keys.dev)) if isinstance(keys.dev, float) else None
    if share and keys.train is None:
        raise StudyError(f"{whole.where}.dev", f"a share of {keys.dev}", "there is no train to take it from")
    splits: dict[str, tuple[Any, ...]] = {}
    for split in (split for split in SPLITS if isinstance(getattr(keys, split), tuple)):
        parts = []
        for section in _sections(whole, split):
            with mistakes.collect():
                parts.append(_files(section, split) if isinstance(keys, LocalDataSet) else _hub_part(section, split))
        splits[split] = tuple(parts)
    mistakes.raise_first()
    sizes = {split: rows for split in SPLITS if (rows := getattr(keys.sizes, split, None))}
    if isinstance(keys, LocalDataSet):
        return LocalSource(splits, share, sizes, keys.tokens, whole.where, root)
    stated = {split: set(sizes.get(split, {})) for split in splits}
    unstated = {split: set(_languages(parts)) - stated[split] for split, parts in splits.items()}
    if lacking := [split for split in splits if unstated[split] and "other" not in stated[split]]:
        expected = f"the rows per language of {', '.join(lacking)} are expected"
        raise StudyError(f"{whole.where}.sizes", "nothing", expected)
    return HubSource(splits, share, sizes, keys.tokens, whole.where)


def _files(part: Section, split: str) -> Files:
    keys, form = part.keys, part.need("format")
    for key in REQUIRED_KEYS.get(form, ()):
        part.need(key)
    has = () if keys.join else FIXED_COLUMNS.get(form) or keys.header or keys.lines
    columns = _columns(part, has, NUMBERED_COLUMNS.get(form, {}))
    numbers = _numbers(columns, part.place("columns")) if form in NUMBERED_COLUMNS else ()
    languages = _stated_languages(part, split)
    _one_file_each((keys.path, *chain(*columns.keep.values())), languages, part.where)
    join = Join(**dict(keys.join)) if keys.join else None
    return Files(
        columns, languages, part.where, keys.path, form, keys.header, keys.quoting, keys.lines, numbers, keys.pair,
        keys.gold, join,
    )  # fmt: skip


def _hub_part(part: Section, split: str) -> HubPart:
    keys, data_set = part.keys, part.need("hub")
    columns, languages = _columns(part), _stated_languages(part, split)
    _one_file_each((keys.config or "", keys.split, *chain(*columns.keep.values())), languages, part.where)
    here = part.whole.where
    files = f"the benchmark's own files, read by `format: xtreme` in {here}"
    instead = files if here.removeprefix("tasks.") in publishers.FILES else ""
    return HubPart(
        columns, languages, part.where, data_set, keys.config, keys.split, keys.revision, keys.fallback, keys.first,
        instead,
    )  # fmt: skip


def _columns(part: Section, has: Sequence[str] = (), default: Mapping[str, str] = MappingProxyType({})) -> Columns:
    """Columns of a part. `has`: raw columns, where they are known; `default`: canonical -> raw column."""
    keys, family, place = part.keys, part.whole.family, part.place("columns")
    known, own = (*family.columns, *family.optional_columns), dict(keys.columns or {})
    for name in own:
        if name not in (*known, "unit"):
            expected = f"one of {', '.join((*known, 'unit'))} is expected"
            raise StudyError(f"{place}.{name}", f"the unknown key {name!r}", expected, nearest(name, (*known, "unit")))
    own = {name: default.get(name, name) for name in known if name in family.columns or name in has} | own
    used = [(f"{place}.{name}", raw) for name, column in own.items() for raw in _raw_columns(column)]
    used += [(part.place(key), raw) for key in ("keep", "skip") for raw in getattr(keys, key) or ()]
    for where, raw in used:
        if has and raw not in has:
            raise StudyError(where, f"no column {raw!r}", f"the columns are {', '.join(has)}", nearest(raw, has))
    for other in FAMILIES.values():
        for key in other.reading_keys:
            if getattr(keys, key) and key not in family.reading_keys:
                expected = f"a {family} task has no use for it: leave it out"
                raise StudyError(part.place(key), f"a key of {other} tasks", expected)
    unit = own.pop("unit", None)
    return Columns(
        family, own, _spellings(part), keys.keep or {}, keys.skip or {},
        family.labels_to_read(part.whole.label_names), keys.omit, keys.omit_empty, keys.skip_misplaced,
        keys.normal_form, unit,
    )  # fmt: skip


def _raw_columns(column: Any) -> Iterator[str]:
    """Raw columns that a column of the family is read from."""
    if isinstance(column, Mapping):
        yield column["by"]
        column = [value for key, value in column.items() if key != "by"]
    if isinstance(column, list):
        for item in column:
            yield from _raw_columns(item)
    else:
        yield from PLACEHOLDER.findall(column) or [column]


def _numbers(columns: Columns, place: str) -> tuple[int, ...]:
    """Columns that a CoNLL reader must keep; their names are numbers from 1 on."""
    used = list(_raw_columns([*columns.columns.values(), columns.unit or []]))
    for raw in (*used, *columns.keep, *columns.skip):
        if not raw.isdecimal() or raw == "0":
            raise StudyError(place, repr(raw), "numbers of columns, counted from 1, are expected")
    return tuple(sorted({int(raw) for raw in used}))


def _spellings(part: Section) -> dict[str, int]:
    """Label as the files of this part spell it -> integer. A label may always be written as it is named."""
    kind, labels, place = part.whole.family.labels, part.keys.labels, part.place("labels")
    if kind == "none" or labels is None:
        return {}
    order = list(labels if kind == "numbered" else part.whole.keys.labels or ())
    spelled: dict[str, int] = {}
    for name, ways in labels.items():
        if name not in order:
            raise StudyError(place, repr(name), f"the task's labels are {', '.join(order)}", nearest(name, order))
        for way in ways:
            if spelled.setdefault(way, order.index(name)) != order.index(name):
                raise StudyError(place, f"{way!r} for {order[spelled[way]]} and for {name}", "one of them is expected")
    return {**{name: order.index(name) for name in labels if name not in spelled}, **spelled}


def _stated_languages(part: Section, split: str) -> dict[str, str]:
    """Languages of a part with codes: its own, else those of the task for test and the trained ones for train and dev.

    Dev data that calibrates what is tested has the languages of test.
    """
    codes: dict[str, str] = part.keys.languages or {}
    if split == "test" or "languages" in part.own or part.whole.family.calibrates:
        if not codes:
            raise StudyError(part.place("languages"), "nothing", "the languages of the test data are expected")
        return codes
    return {language: codes.get(language, language) for language in part.whole.trained_in}


def _one_file_each(templates: Iterable[str], codes: Mapping[str, str], where: str) -> None:
    """Refusal of one file for several languages. Raises StudyError."""
    named = {name for template in templates for name in PLACEHOLDER.findall(template)}
    if len(codes) > 1 and not named & {"language", "code"}:
        same = f"the same data for {len(codes)} languages ({', '.join(codes)})"
        raise StudyError(where, same, "{language} or {code} is expected in its path, config or `keep`")


def _languages(parts: Iterable[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(language for part in parts for language in part.languages))


def _task(name: str, whole: DataSet, source: LocalSource | HubSource, folder: Path | None) -> Task:
    """Task of a description, whose splits are checked against each other."""
    keys, where, family = whole.keys, whole.where, whole.family
    train, dev, test = (source.splits.get(split, ()) for split in SPLITS)
    if not train and not test:
        raise StudyError(where, "no data", "at least one of `train` and `test` is expected")
    if train and keys.dev is None:
        raise StudyError(f"{where}.dev", "nothing", "a file, or a share of train such as 0.1, is expected")
    trained, tested = whole.trained_in if train else (), _languages(test)
    if lacking := set(trained) - set(_languages(train)):
        without = f"no part for {', '.join(sorted(lacking))}"
        raise StudyError(f"{where}.train", without, "one with it in its `languages` is expected")
    if family.calibrates and (lacking := set(tested) - set(_languages(dev))):
        without = f"no dev data for {', '.join(sorted(lacking))}"
        raise StudyError(f"{where}.dev", without, "the threshold of a mining task is calibrated on it")
    for language in keys.pool:
        if not family.pools or language not in tested:
            expected = f"a language of a ranking task's test data is expected: {', '.join(tested)}"
            raise StudyError(f"{where}.pool", repr(language), expected, nearest(language, tested))
    held_out = _languages(train if source.dev_share else dev)
    sources = tuple(language for language in _languages(train) if language in held_out)
    labels = whole.label_names
    return Task(
        name=name,
        family=family,
        source=source,
        languages=tuple(language for language in tested if language not in keys.pool),
        pool=keys.pool,
        train_language=trained[0] if trained else None,
        labels=labels,
        corpora=keys.corpora,
        licence=keys.licence,
        train_languages=trained if keys.train_languages else (),
        sources=sources if set(sources) - set(trained) else (),
        normaliser=keys.normaliser,
        metric=None if keys.metric is None else family.metric_of(keys.metric, f"{where}.metric", folder, labels),
    )


def _limited(task: Task, chosen: Sequence[str], where: str) -> Task:
    """Task in the chosen ones of its languages, and its train language; in all where none are chosen."""
    assert isinstance(task.source, LocalSource)
    if not chosen:
        return task
    known = dict.fromkeys((*task.languages, *task.sources))
    for language in chosen:
        if language not in known:
            expected = f"its languages are {', '.join(known)}"
            raise StudyError(where, f"language {language!r}", expected, nearest(language, known))
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
    """Parts in these languages alone."""
    for part in parts:
        if kept := {language: code for language, code in part.languages.items() if language in languages}:
            yield replace(part, languages=kept)
