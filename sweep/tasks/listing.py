"""The table of tasks as `sweep tasks` shows it: for machines (plain data), and as text of at most 100 columns.

Sizes are what the descriptions state; nothing is loaded.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.errors import DataError, StudyError, nearest
from sweep.tasks import FAMILIES, TASKS
from sweep.tasks.base import SPLITS, Task
from sweep.tasks.benchmarks import BENCHMARKS
from sweep.tasks.hub import HubSource
from sweep.tasks.overlap import overlap
from sweep.tasks.provided import MissingSource
from sweep.tasks.schemes import RAW, notation

WIDTH = 100
KEEP = "\u00a0"  # a space at which no line ends
HEADER = ("task", "family", "languages", "train", "dev", "test", "metric")


def facts(name: str) -> dict[str, Any]:
    """All that the table knows of one task. Raises StudyError where there is no such task."""
    if name not in TASKS:
        raise StudyError(f"task {name}", "no such name", f"one of {', '.join(TASKS)} is expected", nearest(name, TASKS))
    task = TASKS[name]
    return {
        "task": name,
        "family": task.family,
        "metric": FAMILIES[task.family].metric,
        "scheme": notation(task.labels).scheme if task.family == "token" else None,
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
    """Two lines or more per task: its figures, then its source, licence and overlaps."""
    found = [facts(name) for name in names]
    rows = [HEADER, *(_figures(known) for known in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    heading, *lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    text = [heading.rstrip()]
    for line, known in zip(lines, found, strict=True):
        notes = [", ".join(known["source"]), f"licence: {known['licence']}"]
        notes += [f"overlaps with {', '.join(known['overlap'])}"] if known["overlap"] else []
        text += [line.rstrip(), *_wrapped("; ".join(notes), "    ")]
    return "\n".join([*text, "", "sizes are those of English, or of the first language; `sweep tasks NAME` has all"])


def details(name: str) -> str:
    """One task with its languages, and its sizes in each of them."""
    known = facts(name)
    scheme = {None: "", RAW: " of runs of equal tags"}.get(known["scheme"], f" of entities in {known['scheme']}")
    lines = [
        f"{name}: {known['family']}, {known['metric']}{scheme}",
        *_wrapped(", ".join(known["source"]), "  source   "),
    ]
    lines += _wrapped(known["licence"], "  licence  ")
    source = TASKS[name].source
    lines += _wrapped(source.wanted, "  needed   ") if isinstance(source, MissingSource) else []
    for other, reason in known["overlap"].items():
        lines += _wrapped(f"{name} and {other} {reason}", "  overlap  ")
    for version, languages in known["benchmarks"].items():
        lines += _wrapped(f"{version} averages over {' '.join(languages) or 'one pool of all languages'}", "  ")
    for split, sizes in known["sizes"].items():
        shown = "  ".join(f"{language}{KEEP}{rows:,}" for language, rows in sizes.items())
        lines += _wrapped(f"{len(sizes)} languages: {shown}" if sizes else "none", f"  {split:<7}")
    return "\n".join(lines)


def _figures(known: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = [f"{next(iter(rows.values())):,}" if rows else "-" for rows in known["sizes"].values()]
    return known["task"], known["family"], str(len(known["languages"])), *sizes, known["metric"]


def _sizes(task: Task, split: str) -> dict[str, int]:
    """Rows by language, the train language first; empty where they are not known or there are none."""
    languages = task.languages if split == "test" else task.sources or task.trained_in
    ordered = sorted(languages, key=lambda language: language != (task.train_language or "en"))
    try:
        found = {language: task.source.size(split, language).examples for language in ordered}
    except DataError:  # data that its user must bring, or a split that the task does not have
        return {}
    return {language: rows for language, rows in found.items() if rows}


def _sources(task: Task) -> list[str]:
    if isinstance(task.source, HubSource):
        return [part.id for part in task.source.data_sets]
    return ["your own files"] if isinstance(task.source, MissingSource) else ["embedded benchmark"]


def _either(one: Task, other: Task) -> str | None:
    return overlap(one, other) or overlap(other, one)


def _wrapped(text: str, indent: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent))
    return [line.replace(KEEP, " ") for line in lines]
