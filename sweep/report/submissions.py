"""A finished study as submissions: `submissions/<arm>/seed-<n>` in the official layout.

Each holds the targets of one arm, scored by its selected chains: those, and nothing that an earlier state of the
study has left. What is there already and is right is left alone, so publishing again costs next to nothing.

`submission.json` is the mark of a folder of ours, and says which files are. No other file is deleted or written over.
It is written before the files that it names, so that a kill leaves none without a mark.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.errors import SweepError
from sweep.keys import file_name
from sweep.report.results import Result
from sweep.store import paths
from sweep.store.artifacts import Store, write_atomically
from sweep.store.records import ScoreRecord
from sweep.xtreme import DESCRIPTION, EXAMPLES, LABELS, PREDICTIONS, family_with_files, test_file, unpack

MARK = {"made by": "sweep"}
SHOWN = 3  # files in a sentence
Tasks = dict[str, dict[str, Any]]


def publish_submissions(folder: Path, results: Iterable[Result], store: Store) -> list[str]:
    """Makes the submissions in `folder` those of these results; returns sentences about files there that are not ours.

    Raises StoreError where kept predictions are damaged.
    """
    root = folder / paths.SUBMISSIONS
    submissions: defaultdict[Path, dict[str, ScoreRecord]] = defaultdict(dict)
    for result in results:
        if result.chain.selected and paths.PREDICTIONS in result.score.files:
            submission = root / result.arm.folder / f"seed-{result.chain.seed}"
            submissions[submission][result.score.task] = result.score
    for path in root.glob(f"*/seed-*/{DESCRIPTION}"):
        submissions.setdefault(path.parent, {})
    ours: set[Path] = set()
    for submission, scores in sorted(submissions.items()):
        ours |= _publish(submission, scores, store)
    return list(_foreign(root, ours))


def _publish(submission: Path, scores: Mapping[str, ScoreRecord], store: Store) -> set[Path]:
    """Makes a folder show these scores, task by task; returns our files in it, none where it is somebody else's."""
    path, tasks = submission / DESCRIPTION, _published(submission, scores)
    if tasks is None:
        return set()
    for name in [name for name, task in tasks.items() if name not in scores or task["score"] != scores[name].key]:
        task = tasks[name] = {**tasks[name], "score": ""}
        _describe(submission, tasks)  # a kill leaves no task half there that is marked as whole
        _withdraw(submission, name, task)
        del tasks[name]
        _describe(submission, tasks)
    for name, score in scores.items():
        if name not in tasks:
            archive, labels = store.predictions(score.key), store.labels(score.key)
            described = json.loads((labels / DESCRIPTION).read_text(encoding="utf-8"))
            tasks[name] = {**described, "languages": list(score.languages), "score": ""}
            _describe(submission, tasks)
            for side in (PREDICTIONS, LABELS):
                (submission / side / file_name(name)).mkdir(parents=True, exist_ok=True)
            unpack(archive, submission / PREDICTIONS / file_name(name))
            _link_labels(labels, submission / LABELS / file_name(name))
            tasks[name]["score"] = score.key
            _describe(submission, tasks)
    files = {file for name, task in tasks.items() for file in _files(submission, name, task)}
    return {path, *files} if tasks else set()


def _published(submission: Path, scores: Mapping[str, ScoreRecord]) -> Tasks | None:
    """Task -> its description and the key of its scores; None where the folder, or a file we need, is not ours."""
    path = submission / DESCRIPTION
    if not path.exists():
        needed = ({"family": score.family, "languages": list(score.languages)} for score in scores.values())
        files = (file for name, task in zip(scores, needed, strict=True) for file in _files(submission, name, task))
        return None if any(file.exists() for file in files) else {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        marked = all(content[name] == value for name, value in MARK.items())
        tasks: Tasks = content["tasks"]
        known = all(task.keys() >= {"score", "languages"} for task in tasks.values())
        for task in tasks.values():
            family_with_files(task["family"], path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SweepError):
        return None
    return tasks if marked and known else None


def _files(submission: Path, name: str, task: Mapping[str, Any]) -> Iterator[Path]:
    """Files of a task. Their names come from functions that cannot leave the folder, whatever a description says."""
    family = family_with_files(task["family"], submission)
    for side in (PREDICTIONS, LABELS):
        for language in task["languages"]:
            yield submission / side / file_name(name) / test_file(family, str(language))


def _withdraw(submission: Path, name: str, task: Mapping[str, Any]) -> None:
    for file in _files(submission, name, task):
        file.unlink(missing_ok=True)
    for folder in (submission / PREDICTIONS / file_name(name), submission / LABELS / file_name(name)):
        _remove_empty(folder, submission)


def _describe(submission: Path, tasks: Tasks) -> None:
    """Writes the description; without tasks there is none, and no folder but for files that are not ours."""
    if tasks:
        submission.mkdir(parents=True, exist_ok=True)
        write_atomically(submission / DESCRIPTION, json.dumps({**MARK, "tasks": tasks}, indent=1, ensure_ascii=False))
    else:
        (submission / DESCRIPTION).unlink(missing_ok=True)
        _remove_empty(submission, submission.parent.parent.parent)


def _remove_empty(folder: Path, below: Path) -> None:
    """Removes a folder and those around it, up to `below`, as far as nothing is in them."""
    with contextlib.suppress(OSError):  # not empty, or not there
        while folder != below:
            folder.rmdir()
            folder = folder.parent


def _foreign(root: Path, ours: set[Path]) -> Iterator[str]:
    """Sentence on files that this program has not written."""
    entries = (Path(path) / name for path, folders, names in os.walk(root) for name in (*names, *folders))
    left = sorted(path for path in entries if path not in ours and (path.is_symlink() or not path.is_dir()))
    if left:
        names = ", ".join(str(path.relative_to(root)) for path in left[:SHOWN])
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        yield (
            f"{root}: {len(left)} files there are not this study's and were left alone ({names}{more}); a folder with a"
            f" {DESCRIPTION} that sweep has not written is not written into: delete it to have it made anew"
        )


def _link_labels(labels: Path, folder: Path) -> None:
    """Puts the label files there, as links where the file system has them."""
    for file in labels.iterdir():
        if file.name not in (DESCRIPTION, EXAMPLES):
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copyfile(file, folder / file.name)
