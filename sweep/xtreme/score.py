"""Scores of a folder in the official layout, by task and language, with the averages of XTREME and XTREME-R.

Metrics carry the official scorer's names, on its scale of 0 to 100. Averages are its own, too: a task is the mean over
its languages, English included; a question answering task has the mean of exact match and F1, any other its only metric
or F1; a group and the overall value are means over tasks, and exist only where none is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweep.errors import DataError, nearest
from sweep.tasks.catalog import BENCHMARKS, GROUPS, languages_of
from sweep.tasks.task import Pair, Task
from sweep.terminal import table
from sweep.xtreme import LABELS, PREDICTIONS, Folder

PERCENT = 100.0

Metrics = dict[str, float]


@dataclass(frozen=True)
class TaskScores:
    """Scores of a task's files: sums of statistics [K] by language, in the order of the benchmarks."""

    task: Task
    sums: Mapping[str, NDArray[np.float64]]

    def metrics(self, languages: Sequence[str]) -> dict[str, Metrics]:
        """Official metrics by language, 0..100."""
        return {language: self._metrics(self.sums[language]) for language in languages}

    def means(self, languages: Sequence[str]) -> Metrics:
        """Means of metrics over languages; without languages, the metrics of all examples together."""
        if not languages:
            return self._metrics(np.sum(list(self.sums.values()), axis=0))
        values = list(self.metrics(languages).values())
        return {name: sum(metrics[name] for metrics in values) / len(values) for name in values[0]}

    def _metrics(self, sums: NDArray[np.float64]) -> Metrics:
        return {name: PERCENT * float(value) for name, value in self.task.measure.details(sums).items()}


@dataclass(frozen=True)
class Averages:
    """Averages of a version of the benchmark; `missing`: task -> its languages without a score."""

    version: str
    tasks: dict[str, float]
    groups: dict[str, float]
    overall: float | None
    missing: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Scores:
    """Scores of all tasks in a folder, and notes on its files."""

    tasks: dict[str, TaskScores]
    notes: list[str] = field(default_factory=list)

    def by_language(self) -> dict[str, dict[str, Metrics]]:
        """task -> language -> metric -> value (0..100)."""
        return {name: scores.metrics(list(scores.sums)) for name, scores in self.tasks.items()}


def score(root: Path, version: str | None = None) -> Scores:
    """Scores the tasks in a folder; with `version` only those of the benchmark's version, in all its languages.

    Raises DataError.
    """
    folder, scores = Folder(root), Scores({})
    for name in _chosen(folder, version):
        task = folder.task(name)
        sums = {}
        for language in _languages(folder, task, version):
            pair = read_pair(folder.file(PREDICTIONS, task, language), folder.file(LABELS, task, language), task)
            statistics = task.measure.judge(pair.predictions, pair.rows, pair.task, language)
            sums[language] = statistics.sum(axis=0)
            scores.notes.extend(pair.notes)
        scores.tasks[name] = TaskScores(task, sums)
    return scores


def read_pair(predictions: Path, labels: Path, task: Task) -> Pair:
    """Predictions and gold rows of a language. Raises DataError, also where there are none."""
    pair = task.family.read_files(predictions, labels, task)
    if not pair.rows:
        raise DataError(labels, "nothing to score", "at least one label is expected")
    return pair


def averages(scores: Scores, version: str) -> Averages:
    """Averages of a version of the benchmark over the scores."""
    languages = BENCHMARKS[version]
    missing, tasks = {}, {}
    for name, expected in languages.items():
        sums = scores.tasks[name].sums if name in scores.tasks else {}
        lacking = tuple(language for language in expected if language not in sums)
        if lacking or not sums:
            missing[name] = lacking
        else:
            tasks[name] = headline(scores.tasks[name].means(expected))
    groups = {
        group: sum(tasks[name] for name in members) / len(members)
        for group, members in GROUPS[version].items()
        if not missing.keys() & set(members)
    }
    overall = None if missing else sum(tasks.values()) / len(tasks)
    return Averages(version, tasks, groups, overall, missing)


def headline(metrics: Metrics) -> float:
    """Value with which a task counts in averages, from its metrics."""
    if "exact_match" in metrics:
        return (metrics["exact_match"] + metrics["f1"]) / 2
    return metrics["f1"] if "f1" in metrics else next(iter(metrics.values()))


def _chosen(folder: Folder, version: str | None) -> Iterator[str]:
    """Tasks with predictions, those of the benchmarks first and in their order. Raises DataError without any."""
    present = folder.tasks(PREDICTIONS)
    order = dict.fromkeys(name for tasks in BENCHMARKS.values() for name in tasks)
    tasks_of_version = BENCHMARKS[version] if version else order
    if version and not set(present) & set(tasks_of_version):
        expected = f"a task of {version} is expected: {', '.join(tasks_of_version)}"
        raise DataError(folder.root / PREDICTIONS, ", ".join(present), expected, nearest(present[0], tasks_of_version))
    yield from (name for name in tasks_of_version if name in present)
    if not version:
        yield from (name for name in present if name not in order)


def _languages(folder: Folder, task: Task, version: str | None) -> list[str]:
    """Languages of the version, else those with predictions or labels, in the benchmarks' order."""
    expected = BENCHMARKS[version][task.name] if version else ()
    if expected:
        return list(expected)
    present = {language for side in (PREDICTIONS, LABELS) for language in folder.languages(side, task)}
    first = [language for language in languages_of(task.name) if language in present]
    return first + sorted(present - set(first))


def scores_text(scores: Scores, version: str | None = None) -> str:
    """Text of the scores of tasks and languages, then the averages of the version, or of those that apply."""
    lines = [line for name, task_scores in scores.tasks.items() for line in _task(name, task_scores)]
    versions = [version] if version else [name for name, tasks in BENCHMARKS.items() if tasks.keys() & scores.tasks]
    for name in versions:
        lines += ["", *_averages(averages(scores, name))]
    return "\n".join(lines)


def _task(name: str, scores: TaskScores) -> Iterator[str]:
    languages = list(scores.sums)
    by_language, means = scores.metrics(languages), scores.means(languages)
    yield f"{name}: {headline(means):.2f} over {len(languages)} languages"
    rows = [
        (metric, f"{mean:.2f}", [f"{language} {by_language[language][metric]:.1f}" for language in languages])
        for metric, mean in means.items()
    ]
    yield table(rows, numbers={1}, indent=2)


def _averages(means: Averages) -> Iterator[str]:
    shown = [f"{group} {value:.2f}" for group, value in means.groups.items()]
    shown += [f"overall {means.overall:.2f}"] if means.overall is not None else []
    yield table([[f"{means.version}: {', '.join(shown) or 'no average'}"]])
    if means.missing:
        parts = [
            f"{task} ({' '.join(languages)})" if task in means.missing and languages else task
            for task, languages in means.missing.items()
        ]
        yield table([("no overall value without", ", ".join(parts))], indent=2)
