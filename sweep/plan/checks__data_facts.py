"""What facts about a study's data say of its plan: examples counted, rows in common, doubts.

A fact is kept under digests of the rows that it is about: it holds for any study that reads them, and for no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweep.data.parts import PartedSource
from sweep.identity import fingerprint
from sweep.plan.facts import Facts, TaskData
from sweep.plan.languages import trained_in
from sweep.plan.plan import Plan
from sweep.tasks.check__overlap import Shared, overlap
from sweep.tasks.synthetic import EmbeddedSource


def training_languages(plan: Plan, name: str) -> list[str]:
    """The languages that the study's intermediate phases train a task in."""
    settings = {(cell.intermediate, cell.source): None for cell in plan.cells}
    used = [trained_in(plan.tasks[name], source) for names, source in settings if name in names]
    return sorted({language for languages in used for language in languages})


def task_data(plan: Plan, name: str) -> TaskData:
    """All rows that the study reads of a task."""
    rows = fingerprint([digest for (read, *_), digest in plan.rows.items() if read == name])
    return TaskData(name, rows, tuple(training_languages(plan, name)))


def training_data(plan: Plan, name: str) -> list[str]:
    """Digests of an intermediate task's training rows, language by language: a target may have some of them too."""
    languages = dict.fromkeys([*plan.tasks[name].trained_in, *training_languages(plan, name)])
    return [plan.rows[name, "train", language] for language in languages]


def compared_pairs(plan: Plan) -> Iterator[tuple[str, str]]:
    """(intermediate task, target) of which both are read from data that somebody else has made."""
    read = [name for name, task in plan.tasks.items() if isinstance(task.source, PartedSource)]
    names = dict.fromkeys(name for setting in plan.study.axes.intermediate for name in setting)
    targets = [target for target in plan.study.axes.target if target in read]
    yield from ((name, target) for name in names for target in targets if name in read and name != target)


def counted_examples(plan: Plan, facts: Facts) -> dict[tuple[str, str], int]:
    """(task, language) -> training examples, of data that was read and of what this program makes itself.

    What descriptions state and what a look at a file's bytes gives is not exact, and decides nothing.
    """
    found = dict[tuple[str, str], int]()
    for name, task in plan.tasks.items():
        known: Mapping[str, int]
        if isinstance(source := task.source, EmbeddedSource):
            known = {language: source.examples("train", language) for language in (*task.trained_in, *task.sources)}
        else:
            read = facts.rows_read(task_data(plan, name))
            known = read.train if read is not None else {}
        found |= {(name, language): examples for language, examples in known.items()}
    return found


def overlaps(plan: Plan, facts: Facts) -> dict[tuple[str, str], str]:
    """(intermediate task, target) where a gain is no fair one, as far as is known, and why."""
    found = {}
    rows = dict(_shared(plan, facts))
    for target in plan.study.axes.target:
        for name in sorted({name for names in plan.study.axes.intermediate for name in names}):
            if reason := overlap(plan.tasks[name], plan.tasks[target], rows.get((name, target))):
                found[name, target] = reason
    return found


def data_flags(plan: Plan, facts: Facts) -> Iterator[str]:
    """What weakens the study, as far as its data was read, in sentences."""
    done = "counted in means" if plan.study.report.overlapping else "left out of means"
    marked = overlaps(plan, facts)
    yield from (f"overlap: {name} and {target} {reason}; {done}" for (name, target), reason in marked.items())
    for (name, target), found in _shared(plan, facts):
        if (name, target) not in marked and (said := ", ".join(found.said())):
            yield f"of {target} {said} stand in the training data of {name}: too few to mark its cells"
    for name in plan.tasks:
        if read := facts.rows_read(task_data(plan, name)):
            yield from read.doubts


def _shared(plan: Plan, facts: Facts) -> Iterator[tuple[tuple[str, str], Shared]]:
    for name, target in compared_pairs(plan):
        if shared := facts.shared_rows(training_data(plan, name), task_data(plan, target)):
            yield (name, target), shared
