"""The source language of the intermediate phase: which languages its tasks are trained in, and which cells that gives.

A source is `own` (what a task is usually trained in: English in the table), `all` (every language that it has training
data in, joined), or a language. Tasks of one phase take the same source; where one of them lacks it there is no such
phase, because a phase with one task in German and one in English answers no question. Raw text is not translated: it
comes in the languages that its description or `text` names, whatever the source. Dev data stay in a task's own
language, so English dev alone selects in every arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sweep.config.axes import ALL, OWN
from sweep.config.study import Study
from sweep.errors import StudyError, nearest
from sweep.tasks.task import Task

Pair = tuple[tuple[str, ...], str]  # the tasks of an intermediate phase and their source; no tasks: no phase


def trained_in(task: Task, source: str) -> tuple[str, ...]:
    """The languages that a phase trains the task in; none where the task has no training data in the source."""
    if task.family.raw_text or source == OWN:
        return task.trained_in
    if source == ALL:
        return task.sources
    return (source,) if source in having(task) else ()


def judged_in(task: Task, languages: Sequence[str]) -> str:
    """The language of the dev data of a task that is trained in `languages`."""
    return languages[0] if task.family.raw_text else task.trained_in[0]


def having(task: Task) -> tuple[str, ...]:
    """The languages that a task has training data in."""
    return task.sources or task.trained_in


def source_settings(study: Study, tasks: Mapping[str, Task]) -> list[Pair]:
    """Each intermediate with each source that all of its tasks have.

    A source that means what `own` means, such as `en` for English tasks, is `own`: it is no other cell.
    """
    found = ((names, _canonical([tasks[name] for name in names], source)) for names, source in _asked(study))
    return list(dict.fromkeys((names, source) for names, source in found if source is not None))


def check_sources(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Refuses a source that no intermediate task has. Raises StudyError."""
    used = _translatable(study, tasks)
    known = sorted({language for task in used for language in having(task)})
    for index, source in enumerate(study.axes.source):
        where = f"{path}: axes.source[{index}]"
        if source == ALL and not any(task.sources for task in used):
            found = "'all', while no intermediate task has training data in more than one language"
            raise StudyError(where, found, f"one of {', '.join([OWN, *known])} is expected")
        if source not in (OWN, ALL, *known):
            found = f"the language {source!r}, in which no intermediate task has training data"
            wanted = f"one of {', '.join([OWN, ALL, *known])} is expected"
            raise StudyError(where, found, wanted, nearest(source, [OWN, ALL, *known]))


def source_flags(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    """What of the grid is left out, and what makes its arms unequal."""
    used = _translatable(study, tasks)
    for source in study.axes.source:
        lacking = [task.name for task in used if not trained_in(task, source)]
        if lacking:
            why = "training data in one language only" if source == ALL else "no training data in it"
            has = "has" if len(lacking) == 1 else "have"
            yield f"source {source}: {', '.join(lacking)} {has} {why}; cells with {_it(lacking)} are left out"
    if ALL in study.axes.source and "full" in study.axes.volume:
        yield "source all: with volume 'full' it trains on more data than one language has; a number makes them equal"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "one of them"


def _asked(study: Study) -> Iterator[Pair]:
    for names in study.axes.intermediate:
        yield from ((names, source) for source in (study.axes.source if names else (OWN,)))


def _canonical(tasks: Sequence[Task], source: str) -> str | None:
    languages = [trained_in(task, source) for task in tasks]
    if not all(languages):
        return None
    return OWN if languages == [task.trained_in for task in tasks] else source


def _translatable(study: Study, tasks: Mapping[str, Task]) -> list[Task]:
    """The intermediate tasks that a source language makes a difference to, in the study's order."""
    names = dict.fromkeys(name for setting in study.axes.intermediate for name in setting)
    return [tasks[name] for name in names if not tasks[name].family.raw_text]
