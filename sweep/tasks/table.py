"""Table of the tasks that a study can name, and the text of `sweep tasks`.

Hub data sets are described in catalog/hub.py, with the sizes of their splits and the length of their examples, so that
a plan needs no network: nothing is loaded here. No commit is pinned; a study records the one that it resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep import terminal
from sweep.data import SPLITS
from sweep.data.hub import HubSource
from sweep.errors import DataError, StudyError, nearest
from sweep.tasks.catalog import BENCHMARKS, PROVIDED, MissingSource
from sweep.tasks.catalog.hub import ENGLISH, TARGETS
from sweep.tasks.data_check import overlap
from sweep.tasks.describe import own_task
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.tasks.tagging import RAW
from sweep.tasks.task import Task

HUB = {**{name: {"languages": ["en"], **row} for name, row in ENGLISH.items()}, **TARGETS}

TASKS: dict[str, Task] = {task.name: task for task in (*EMBEDDED, *PROVIDED)}
TASKS |= {name: own_task(name, row, Path(), f"tasks.{name}") for name, row in HUB.items()}


HEADER = ("task", "family", "languages", "train", "dev", "test", "metric")


def facts(name: str) -> dict[str, Any]:
    """Facts of one task for `sweep tasks`, as plain data. Raises StudyError for an unknown name."""
    if name not in TASKS:
        raise StudyError(f"task {name}", "no such name", f"one of {', '.join(TASKS)} is expected", nearest(name, TASKS))
    task = TASKS[name]
    return {
        "task": name,
        "family": task.family.name,
        "metric": task.metric_name,
        "scheme": task.family.scheme(task.labels),
        "languages": list(task.languages),
        "train_languages": list(task.sources or task.trained_in),
        "benchmarks": {version: list(tasks[name]) for version, tasks in BENCHMARKS.items() if name in tasks},
        "sizes": {split: _sizes(task, split) for split in SPLITS},
        "source": _sources(task),
        "licence": task.licence or "part of this program",
        "overlap": {
            other.name: reason for other in TASKS.values() if other != task and (reason := _either(task, other))
        },
    }


def table(names: Sequence[str]) -> str:
    """Text of `sweep tasks`: a table of sizes, then source, licence and overlaps of each task."""
    tasks = [facts(name) for name in names]
    return "\n".join(
        [
            terminal.table(map(_figures, tasks), HEADER),
            "",
            terminal.table(map(_about, tasks)),
            "",
            "sizes are those of English, or of the first language; `sweep tasks NAME` has all",
        ]
    )


def details(name: str) -> str:
    """Text of `sweep tasks NAME`: languages of a task, and its sizes in each of them."""
    task, source = facts(name), TASKS[name].source
    scheme = {None: "", RAW: " of runs of equal tags"}.get(task["scheme"], f" of entities in {task['scheme']}")
    about = [("source", ", ".join(task["source"])), ("licence", task["licence"])]
    about += [("needed", source.expected)] if isinstance(source, MissingSource) else []
    about += [("overlap", f"{name} and {other} {reason}") for other, reason in task["overlap"].items()]
    averaged = [
        (version, f"averages over {' '.join(languages) or 'one pool of all languages'}")
        for version, languages in task["benchmarks"].items()
    ]
    sizes = [
        (
            split,
            f"{len(rows)} languages:" if rows else "none",
            [f"{language} {count:,}" for language, count in rows.items()],
        )
        for split, rows in task["sizes"].items()
    ]
    title = f"{name}: {task['family']}, {task['metric']}{scheme}"
    return "\n".join([title, terminal.table([*about, *averaged], indent=2), terminal.table(sizes, indent=2)])


def _figures(task: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = [f"{next(iter(rows.values())):,}" if rows else "-" for rows in task["sizes"].values()]
    return task["task"], task["family"], str(len(task["languages"])), *sizes, task["metric"]


def _about(task: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [", ".join(task["source"]), f"licence: {task['licence']}"]
    notes += [f"overlaps with {', '.join(task['overlap'])}"] if task["overlap"] else []
    return task["task"], "; ".join(notes)


def _sizes(task: Task, split: str) -> dict[str, int]:
    """Rows by language, the train language first; empty where sizes are unknown or the split does not exist."""
    languages = task.languages if split == "test" else task.sources or task.trained_in
    ordered = sorted(languages, key=lambda language: language != (task.train_language or "en"))
    try:
        examples = {language: task.source.size(split, language).examples for language in ordered}
    except DataError:  # data that its user must bring, or a split that the task does not have
        return {}
    return {language: rows for language, rows in examples.items() if rows}


def _sources(task: Task) -> list[str]:
    if isinstance(task.source, HubSource):
        return [part.id for part in task.source.data_sets]
    return ["your own files"] if isinstance(task.source, MissingSource) else ["embedded benchmark"]


def _either(first: Task, second: Task) -> str | None:
    return overlap(first, second) or overlap(second, first)
