"""A user's own data set: its description in the study file becomes a Task, so that it needs no code.

Checks all that can be known without opening a file; each mistake is a StudyError with its place in the YAML. Keys:

    family, labels, languages, train_language or train_languages, corpora
    train, dev, test   each a path (hub: the name of a split); a mapping {path, ...} with reading keys that hold for
                       this part alone; or a list of these. dev may also be a share of train such as 0.1
    reading keys       columns, keep, skip; files: format, header, quoting, lines, pair, join; hub: hub, config,
                       revision
    sizes, tokens      hub only: rows per split and language, mean subword tokens (a plan needs no network)

{language} and {code} in paths, configurations, `keep` and `skip` stand for the language and what `languages` makes of
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sweep.errors import DataError, StudyError, nearest
from sweep.tasks import described
from sweep.tasks.base import SPLITS, Family, Task
from sweep.tasks.described import Description
from sweep.tasks.formats import READERS
from sweep.tasks.hub import HubPart, HubSource
from sweep.tasks.local import Join, LocalSource, Part
from sweep.tasks.mapping import Columns

COMMON_KEYS = ("family", "labels", "languages", "train_language", "train_languages", "corpora", *SPLITS)
LOCAL_KEYS = ("format", "columns", "keep", "skip", "header", "quoting", "lines", "pair", "join")
HUB_KEYS = ("hub", "config", "revision", "columns", "keep", "skip")
JOIN_KEYS = ("path", "format", "on", "header", "quoting")

# the raw columns of formats that have no header, and those that canonical columns are where nothing is said
FIXED_COLUMNS = {
    "squad": ("id", "title", "context", "question", "answers", "is_impossible"),
    "lines": ("text",),
    "parallel": ("text", "pair"),
}
NUMBERED_COLUMNS = {"conllu": {"words": "2", "tags": "4"}, "conll": {"words": "1", "tags": "2"}}


def local_task(name: str, description: Description, data_root: Path, where: str) -> Task:
    """A task on local files. Raises StudyError with a place below `where`, such as `tasks.topics.columns.label`."""
    described.known_keys(description, (*COMMON_KEYS, *LOCAL_KEYS), where)
    splits = {
        split: tuple(_local_part(part, description, split, place) for part, place in parts)
        for split, parts in _splits(description, LOCAL_KEYS, "path", where)
    }
    return _task(name, description, LocalSource(data_root, splits, described.share(description, where), where), where)


def hub_task(name: str, description: Description, where: str) -> Task:
    """A task on hub data sets, or on local folders laid out like one. Raises StudyError. Touches no network."""
    described.known_keys(description, (*COMMON_KEYS, *HUB_KEYS, "sizes", "tokens"), where)
    splits = {
        split: tuple(_hub_part(part, description, split, place) for part, place in parts)
        for split, parts in _splits(description, HUB_KEYS, "split", where)
    }
    sizes = described.need(description, "sizes", where, "{split: rows per language} is expected")
    for split in splits:
        if not isinstance(sizes, Mapping) or not isinstance(sizes.get(split), int) or sizes[split] < 1:
            raise StudyError(f"{where}.sizes", repr(sizes), f"the rows per language of {split} are expected")
    tokens = described.need(
        description, "tokens", where, "the mean subword tokens of an example are expected; a guess will do"
    )
    if not isinstance(tokens, (int, float)) or tokens <= 0:
        raise StudyError(f"{where}.tokens", repr(tokens), "a number above zero is expected")
    source = HubSource(splits, described.share(description, where), dict(sizes), float(tokens), where)
    return _task(name, description, source, where)


def check(task: Task, family: Family) -> int:
    """Reads all splits in all languages and returns the number of rows. Raises DataError with the place of a bad one.

    Embedded tasks make their rows themselves and are not read.
    """
    source = task.source
    if not isinstance(source, (LocalSource, HubSource)):
        return 0
    wanted = [("test", language) for language in task.languages]
    wanted += [(split, language) for split in ("train", "dev") for language in task.trained_in]
    rows = 0
    for split, language in wanted:
        for place, row in source.located(split, language):
            rows += 1
            if problem := family.check(row, task.labels):
                raise DataError(place, problem, f"correct the file, or what {source.where} says of it")
    return rows


def _task(name: str, description: Description, source: LocalSource | HubSource, where: str) -> Task:
    train, test = source.splits.get("train", ()), source.splits.get("test", ())
    if not train and not test:
        raise StudyError(where, "no data", "at least one of `train` and `test` is expected")
    if train and description.get("dev") is None:
        raise StudyError(f"{where}.dev", "nothing", "a file, or a share of train such as 0.1, is expected")
    trained = described.trained_in(description, where) if train else ()
    lacking = set(trained) - {language for part in train for language in part.languages}
    if lacking:
        raise StudyError(
            f"{where}.train", f"no part for {', '.join(sorted(lacking))}", "one in its `languages` is expected"
        )
    return Task(
        name=name,
        family=described.family(description, where),
        source=source,
        languages=tuple(dict.fromkeys(language for part in test for language in part.languages)),
        train_language=trained[0] if trained else None,
        labels=described.label_names(description, where),
        corpora=described.strings(description, "corpora", where),
        train_languages=trained if "train_languages" in description else (),
    )


def _splits(
    description: Description, keys: Iterable[str], main: str, where: str
) -> Iterable[tuple[str, list[tuple[Description, str]]]]:
    """(split, its parts with their places): each part has the task's reading keys where it has none of its own."""
    shared = {key: description[key] for key in keys if key in description}
    for split in SPLITS:
        given = description.get(split)
        if given is None or (split == "dev" and isinstance(given, (int, float))):
            continue
        several = isinstance(given, (list, tuple))
        parts: list[tuple[Description, str]] = []
        for index, item in enumerate(given if several else [given]):
            place = f"{where}.{split}[{index}]" if several else f"{where}.{split}"
            own = {main: item} if isinstance(item, str) else item
            if not isinstance(own, Mapping):
                raise StudyError(place, repr(item), f"a {main}, or a mapping with `{main}`, is expected")
            described.known_keys(own, (main, "labels", "languages", *keys), place)
            parts.append(({"labels": description.get("labels"), **shared, **own}, place))
        yield split, parts


def _local_part(part: Description, description: Description, split: str, where: str) -> Part:
    form = _format(part, where)
    header, lines = described.strings(part, "header", where), described.strings(part, "lines", where)
    if form == "blocks" and not lines:
        raise StudyError(f"{where}.lines", "nothing", "the names of a record's lines are expected")
    path, pair = described.text(part, "path", where), described.optional_text(part, "pair", where)
    if form == "parallel" and pair is None:
        raise StudyError(f"{where}.pair", "nothing", "the path of the file with the translations is expected")
    join = _join(part, where)
    has = () if join else FIXED_COLUMNS.get(form) or header or lines
    columns = described.columns(part, description, has, NUMBERED_COLUMNS.get(form, {}), where)
    numbers = _numbers(columns, where) if form in NUMBERED_COLUMNS else ()
    languages = described.languages(part, description, split, where)
    described.one_file_each((path, *_kept(columns)), languages, where)
    quoting = described.flag(part, "quoting", where)
    return Part(path, form, columns, languages, where, header, quoting, lines, numbers, pair, join)


def _hub_part(part: Description, description: Description, split: str, where: str) -> HubPart:
    columns = described.columns(part, description, (), {}, where)
    languages = described.languages(part, description, split, where)
    identifier, name = described.text(part, "hub", where), described.text(part, "split", where)
    config = described.optional_text(part, "config", where)
    revision = described.optional_text(part, "revision", where)
    described.one_file_each((config or "", name, *_kept(columns)), languages, where)
    return HubPart(identifier, config, name, revision, columns, languages, where)


def _format(part: Description, where: str) -> str:
    name = described.text(part, "format", where)
    if name not in READERS:
        known = ", ".join(READERS)
        raise StudyError(f"{where}.format", repr(name), f"one of {known} is expected", nearest(name, READERS))
    return name


def _join(part: Description, where: str) -> Join | None:
    given, place = part.get("join"), f"{where}.join"
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise StudyError(place, repr(given), "a mapping with `path`, `format` and `on` is expected")
    described.known_keys(given, JOIN_KEYS, place)
    path, on = described.text(given, "path", place), described.text(given, "on", place)
    header = described.strings(given, "header", place)
    return Join(path, _format(given, place), on, header, described.flag(given, "quoting", place))


def _numbers(columns: Columns, where: str) -> tuple[int, ...]:
    """The columns that a CoNLL reader must keep: their names are numbers."""
    used = [raw for spec in columns.columns.values() for raw in described.raw_columns(spec)]
    for raw in (*used, *columns.keep, *columns.skip):
        if not raw.isdecimal() or raw == "0":
            raise StudyError(f"{where}.columns", repr(raw), "numbers of columns, counted from 1, are expected")
    return tuple(sorted({int(raw) for raw in used}))


def _kept(columns: Columns) -> Iterable[str]:
    return (value for values in columns.keep.values() for value in values)
