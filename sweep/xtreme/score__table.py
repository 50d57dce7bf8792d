"""Official scores as text for a terminal: every task by language, then what the benchmarks make of them."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.tasks.catalog import BENCHMARKS
from sweep.terminal import table
from sweep.xtreme.score import Averages, Scores, TaskScores, averages, headline


def scores_text(scores: Scores, version: str | None = None) -> str:
    """Tasks and languages, then the averages of the version, or of those that some task belongs to."""
    lines = [line for name, found in scores.tasks.items() for line in _task(name, found)]
    versions = [version] if version else [name for name, tasks in BENCHMARKS.items() if tasks.keys() & scores.tasks]
    for name in versions:
        lines += ["", *_averages(averages(scores, name))]
    return "\n".join(lines)


def _task(name: str, scores: TaskScores) -> Iterator[str]:
    languages = list(scores.sums)
    found, means = scores.metrics(languages), scores.means(languages)
    yield f"{name}: {headline(means):.2f} over {len(languages)} languages"
    rows = [
        (metric, f"{mean:.2f}", [f"{language} {found[language][metric]:.1f}" for language in languages])
        for metric, mean in means.items()
    ]
    yield table(rows, numbers={1}, indent=2)


def _averages(found: Averages) -> Iterator[str]:
    shown = [f"{group} {value:.2f}" for group, value in found.groups.items()]
    shown += [f"overall {found.overall:.2f}"] if found.overall is not None else []
    yield table([[f"{found.version}: {', '.join(shown) or 'no average'}"]])
    if found.missing:
        parts = [
            f"{task} ({' '.join(languages)})" if task in found.missing and languages else task
            for task, languages in found.missing.items()
        ]
        yield table([("no overall value without", ", ".join(parts))], indent=2)
