"""Official layout of XTREME: `predictions/<task>/test-<language>.<suffix>` and `labels/<task>/`, and archives of it.

The scorer of google-research/xtreme (evaluate.py) reads it. The benchmark's tasks and languages keep their names there;
others get file names from sweep.keys, and `submission.json` holds their names and describes tasks that are in no
table. Folders of other programs may nest tasks in folders: the path is then the task's name.

The archive has the same bytes for the same predictions, so that a resumed chain leaves what an undisturbed one does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from sweep.data import Row, Size
from sweep.errors import DataError, StoreError, nearest
from sweep.keys import file_name
from sweep.tasks import FAMILIES, family_of
from sweep.tasks.plugins import is_reference
from sweep.tasks.question_answering import NORMALISERS
from sweep.tasks.table import TASKS
from sweep.tasks.task import Family, Prediction, Task

PREDICTIONS, LABELS, DESCRIPTION = "predictions", "labels", "submission.json"
EXAMPLES = "examples.zip"  # beside the label files of a test set in the store

# Tasks of the benchmarks whose data no table names; their files say enough.
UNLISTED = {"bucc2018": "mining", "lareqa": "ranking", "mewslix": "ranking"}


def test_file(family: Family, language: str) -> str:
    """Name of a language's prediction and label files. Families without a suffix are never a target."""
    assert family.suffix is not None
    return f"test-{file_name(language)}.{family.suffix}"


@dataclass(frozen=True)
class NoRows:
    """Source of a task that is known from prediction and label files alone."""

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        return {}

    def size(self, split: str, language: str) -> Size:
        return Size(0, 0)

    def rows(self, split: str, language: str) -> list[Row]:
        return []

    def places(self, split: str, language: str) -> list[str]:
        return []


@dataclass(frozen=True)
class Folder:
    """Folder in the official layout. Raises DataError where it is none."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            problem = "a file" if self.root.exists() else "nothing"
            raise DataError(self.root, problem, f"a folder with {PREDICTIONS}/ and {LABELS}/ is expected")
        if not self.tasks(PREDICTIONS):
            expected = f"{PREDICTIONS}/<task>/test-<language>.tsv, .json or .jsonl is expected"
            raise DataError(self.root, "no prediction files", expected)

    def tasks(self, side: str) -> list[str]:
        """Names of the tasks that have files on a side, sorted."""
        return sorted(self._places[side])

    def languages(self, side: str, task: Task) -> list[str]:
        """Languages of a task that have files on a side, sorted."""
        return sorted(self._files(side, task))

    def file(self, side: str, task: Task, language: str) -> Path:
        """Path of a language's predictions or labels. Raises DataError where there is no such file."""
        path = self._files(side, task).get(language)
        if path is None:
            name = test_file(task.family, language)
            counterpart = self._files(LABELS if side == PREDICTIONS else PREDICTIONS, task).get(language)
            reason = f"{counterpart} has its other half" if counterpart else f"{language} is one of its languages"
            expected = f"{task.name} is scored in {language}, and needs it: {reason}"
            raise DataError(self._place(side, task.name) / name, "no such file", expected)
        return path

    @cached_property
    def _places(self) -> dict[str, dict[str, Path]]:
        """Side -> task -> the folder with its files."""
        names_of = {file_name(name): name for name in self._described}
        places: dict[str, dict[str, Path]] = {PREDICTIONS: {}, LABELS: {}}
        for side, tasks in places.items():
            for path, _, names in os.walk(self.root / side, followlinks=True):
                if any(name.startswith("test-") for name in names):
                    made = Path(path).relative_to(self.root / side).as_posix()
                    tasks[names_of.get(made, made)] = Path(path)
        return places

    def _place(self, side: str, task: str) -> Path:
        return self._places[side].get(task, self.root / side / file_name(task))

    def _files(self, side: str, task: Task) -> dict[str, Path]:
        """Language -> file."""
        described, ending = self._described.get(task.name), f".{task.family.suffix}"
        languages = described.get("languages", ()) if isinstance(described, dict) else ()
        languages_of = {file_name(str(language)): str(language) for language in languages}
        paths = self._place(side, task.name).glob(f"test-*{ending}")
        names = {path.name.removeprefix("test-").removesuffix(ending): path for path in paths}
        return {languages_of.get(name, name): path for name, path in names.items()}

    def task(self, name: str) -> Task:
        """Task as the folder's description or the table of tasks has it. Raises DataError for an unknown one."""
        if name in self._described:
            return described_task(name, self._described[name], self.root / DESCRIPTION)
        if name not in TASKS and name in UNLISTED:
            return Task(name, FAMILIES[UNLISTED[name]], NoRows(), ())
        if name not in TASKS or TASKS[name].family.suffix is None:
            names = [*UNLISTED, *(name for name, task in TASKS.items() if task.family.suffix)]
            expected = f"a task of the table, or one that {DESCRIPTION} describes, is expected"
            raise DataError(
                self._place(PREDICTIONS, name), f"the unknown task {name!r}", expected, nearest(name, names)
            )
        return TASKS[name]

    @cached_property
    def _described(self) -> Mapping[str, Any]:
        path = self.root / DESCRIPTION
        if not path.exists():
            return {}
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))["tasks"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            expected = 'a JSON object {"tasks": {name: {"family": ..., "labels": [...]}}} is expected'
            raise DataError(path, f"something unreadable ({error})", expected) from error


def description(task: Task) -> dict[str, Any]:
    """Entry of a task in DESCRIPTION."""
    own = {"metric": task.metric_name} if task.metric else {}
    return {"family": task.family.name, "labels": list(task.labels), "normaliser": task.normaliser, **own}


def family_with_files(name: object, where: object) -> Family:
    """Family of a description. Raises DataError where it is unknown or has no prediction files."""
    names = [family.name for family in FAMILIES.values() if family.suffix]
    chosen = family_of(name, where) if isinstance(name, str) and (name in names or is_reference(name)) else None
    if chosen is None or chosen.suffix is None:
        raise DataError(where, f"the family {str(name)!r}", f"one of {', '.join(names)} is expected")
    return chosen


def described_task(name: str, described: Mapping[str, Any], path: Path) -> Task:
    """Task of a description, without rows. Raises DataError where it lacks something; `path` is its file."""
    try:
        family_name, normaliser = str(described["family"]), str(described["normaliser"])
        labels = tuple(str(label) for label in described["labels"])
    except (KeyError, TypeError) as error:
        expected = f"family, labels and normaliser of {name} are expected"
        raise DataError(path, f"an incomplete description ({error})", expected) from error
    family = family_with_files(family_name, path)
    if normaliser not in NORMALISERS:
        raise DataError(
            path, f"the normaliser {normaliser!r} of {name}", f"one of {', '.join(NORMALISERS)} is expected"
        )
    metric = family.metric_of(str(described["metric"]), path, labels=labels) if "metric" in described else None
    return Task(name, family, NoRows(), (), None, labels=labels, normaliser=normaliser, metric=metric)


EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can say


def packed(task: Task, rows: Mapping[str, Sequence[Row]], predictions: Mapping[str, Sequence[Prediction]]) -> bytes:
    """Bytes of a zip file with the prediction file of every language."""
    texts = (
        (test_file(task.family, language), task.family.predictions_text(answers, rows[language], task))
        for language, answers in predictions.items()
    )
    return _zipped(texts)


def _zipped(texts: Iterable[tuple[str, str]]) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts:
            archive.writestr(zipfile.ZipInfo(name, EPOCH), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _examples_text(family: Family, rows: Sequence[Row], places: Sequence[str]) -> str:
    """Lines of JSON objects: the id of every example, or its place without one, and its readable columns."""
    named = zip(family.ids(rows), rows, places, strict=True)
    examples = ({"id": name or place, **family.readable(row)} for name, row, place in named if family.is_scored(row))
    return "".join(f"{json.dumps(example, ensure_ascii=False)}\n" for example in examples)


def read_examples(labels: Path, task: Task, language: str) -> list[dict[str, str]] | None:
    """Examples of a test set in a language as a person reads them, with their ids; None where they were not kept."""
    if not (labels / EXAMPLES).exists():
        return None
    with zipfile.ZipFile(labels / EXAMPLES) as archive:
        text = archive.read(test_file(task.family, language)).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def write_labels(
    folder: Path, task: Task, rows: Mapping[str, Sequence[Row]], places: Mapping[str, Sequence[str]]
) -> None:
    """Writes label files and examples of every language and the task's description, all of them or nothing.

    `places` are those of the rows, which stand for the ids of those without one.
    """
    unfinished = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for language, gold in rows.items():
        text = task.family.labels_text(gold, task)
        (unfinished / test_file(task.family, language)).write_text(text, encoding="utf-8")
    texts = ((test_file(task.family, name), _examples_text(task.family, rows[name], places[name])) for name in rows)
    (unfinished / EXAMPLES).write_bytes(_zipped(texts))
    described = description(task)
    (unfinished / DESCRIPTION).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(folder)


def described_in(folder: Path, name: str) -> Task:
    """Task of a name, as the folder of its label files in the store describes it. Raises DataError."""
    return described_task(name, json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")), folder / DESCRIPTION)


def unpack(archive: Path, folder: Path, only: str | None = None) -> None:
    """Extracts the prediction files of an archive, or `only` one, into an existing folder.

    Raises StoreError for other entries.
    """
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if not re.fullmatch(r"test-[^/\\\0]+", name):
                raise StoreError(archive, f"the entry {name!r}", "prediction files, test-<language>, are expected")
        opened.extractall(folder, None if only is None else [only])
