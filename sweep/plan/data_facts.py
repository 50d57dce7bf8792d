"""Facts on a study's data: every row read once and checked, then rows counted, shared rows, overlaps.

A fact is kept under digests of the rows that it is about: it holds for any study that reads them, and for no others. So
a second run of a study reads nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate

from sweep.data.columns import PartedSource
from sweep.data.local import LocalSource
from sweep.errors import DataError, Mistakes
from sweep.keys import fingerprint
from sweep.plan.facts import NO_FACTS, Facts, RowsRead, TaskData
from sweep.plan.languages import trained_in
from sweep.plan.plan import Plan
from sweep.tasks.data_check import Checked, SharedRows, check, overlap
from sweep.tasks.synthetic import EmbeddedSource

SMALL = 500_000  # bytes of data that are read and compared in a fifth of a second


@dataclass(frozen=True)
class CheckedData:
    """Facts that spare reading the data the next time, and how data is read that was looked at now."""

    facts: Facts
    notes: tuple[str, ...] = ()


def check_data(plan: Plan, facts: Facts, names: Iterable[str] | None = None) -> CheckedData:
    """Reads every split of every task that the study uses. Raises DataError; its facts spare it the next time.

    They say how many rows there are, what weakens them, and which rows intermediate tasks share with targets. `names`:
    only these tasks.
    """
    new_facts, read = NO_FACTS, dict[str, Checked]()

    def checked(name: str) -> Checked:
        if name not in read:
            task = plan.tasks[name]
            read[name] = check(task, training_languages(plan, name))
        return read[name]

    chosen, mistakes = list(plan.tasks if names is None else names), Mistakes()
    for name in chosen:
        with mistakes.collect():
            if facts.rows_read(data := task_data(plan, name)) is None:
                result = checked(name)
                new_facts = new_facts.with_rows_read(data, RowsRead(result.rows, result.train, result.doubts))
    mistakes.raise_first()
    for name, target in compared_pairs(plan):
        if not {name, target} <= {*chosen}:
            continue
        pair = training_data(plan, name), task_data(plan, target)
        if facts.shared_rows(*pair) is None:
            training = [rows for (split, _), rows in checked(name).digests.items() if split == "train"]
            new_facts = new_facts.with_shared_rows(*pair, SharedRows.of(training, checked(target).digests))
    return CheckedData(new_facts, tuple(note for result in read.values() for note in result.notes))


def check_small_data(plan: Plan, facts: Facts) -> Facts:
    """Facts on data that a plan can read on the side: local files of SMALL bytes in all, the smallest sets first."""
    sizes = {name: task.source.bytes() for name, task in plan.tasks.items() if isinstance(task.source, LocalSource)}
    ordered = sorted(sizes, key=lambda name: sizes[name])
    totals = accumulate(sizes[name] for name in ordered)
    small = [name for name, total in zip(ordered, totals, strict=True) if total <= SMALL]
    try:
        return check_data(plan, facts, small).facts
    except DataError:  # `check` and `run` say it; a plan asks for sizes alone
        return NO_FACTS


def task_data(plan: Plan, name: str) -> TaskData:
    """All rows that the study reads of a task."""
    rows = fingerprint([digest for (read, *_), digest in plan.rows.items() if read == name])
    return TaskData(name, rows, tuple(training_languages(plan, name)))


def training_data(plan: Plan, name: str) -> list[str]:
    """Digests of an intermediate task's training rows, language by language: a target may have some of them too."""
    languages = dict.fromkeys([*plan.tasks[name].trained_in, *training_languages(plan, name)])
    return [plan.rows[name, "train", language] for language in languages]


def training_languages(plan: Plan, name: str) -> list[str]:
    """The languages that the study's intermediate phases train a task in."""
    settings = {(cell.intermediate, cell.source): None for cell in plan.cells}
    used = [trained_in(plan.tasks[name], source) for names, source in settings if name in names]
    return sorted({language for languages in used for language in languages})


def compared_pairs(plan: Plan) -> Iterator[tuple[str, str]]:
    """(intermediate task, target) of which both are read from data that somebody else has made."""
    read = [name for name, task in plan.tasks.items() if isinstance(task.source, PartedSource)]
    names = dict.fromkeys(name for setting in plan.study.axes.intermediate for name in setting)
    targets = [target for target in plan.study.axes.target if target in read]
    yield from ((name, target) for name in names for target in targets if name in read and name != target)


def shared_rows(plan: Plan, facts: Facts) -> Iterator[tuple[tuple[str, str], SharedRows]]:
    """((intermediate task, target), rows that they share), as far as both were read."""
    training, tests = cache(partial(training_data, plan)), cache(partial(task_data, plan))
    for name, target in compared_pairs(plan):
        if shared := facts.shared_rows(training(name), tests(target)):
            yield (name, target), shared


def counted_examples(plan: Plan, facts: Facts) -> dict[tuple[str, str], int]:
    """(task, language) -> training examples, of data that was read and of what this program makes itself.

    What descriptions state and what a look at a file's bytes gives is not exact, and decides nothing.
    """
    counts = dict[tuple[str, str], int]()
    for name, task in plan.tasks.items():
        known: Mapping[str, int]
        if isinstance(source := task.source, EmbeddedSource):
            known = {language: source.examples("train", language) for language in (*task.trained_in, *task.sources)}
        else:
            read = facts.rows_read(task_data(plan, name))
            known = read.train if read is not None else {}
        counts |= {(name, language): examples for language, examples in known.items()}
    return counts


def overlaps(plan: Plan, facts: Facts) -> dict[tuple[str, str], str]:
    """(intermediate task, target) where a gain is no fair one, as far as is known, and why."""
    reasons = {}
    rows = dict(shared_rows(plan, facts))
    for target in plan.study.axes.target:
        for name in sorted({name for names in plan.study.axes.intermediate for name in names}):
            if reason := overlap(plan.tasks[name], plan.tasks[target], rows.get((name, target))):
                reasons[name, target] = reason
    return reasons
