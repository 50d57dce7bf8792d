"""What runs have found out about a study's data, as the ledger keeps it: names of facts, and what they say of a plan.

A fact is named by digests of the rows that it is about: it holds for any study that reads them, and for no other data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from sweep.fingerprint import fingerprint
from sweep.planning.plan import Plan
from sweep.planning.sources import trained_in
from sweep.tasks.overlap import Shared, overlap
from sweep.tasks.parts import PartedSource
from sweep.tasks.synthetic import EmbeddedSource

Facts = Mapping[str, str]


def sources(plan: Plan, name: str) -> list[str]:
    """The languages that the study's intermediate phases train a task in."""
    settings = {(cell.intermediate, cell.source): None for cell in plan.cells}
    used = [trained_in(plan.tasks[name], source) for names, source in settings if name in names]
    return sorted({language for languages in used for language in languages})


def checked(plan: Plan, name: str) -> str:
    """Name of the fact that a task's rows were read without a fault."""
    rows = fingerprint([digest for (read, *_), digest in plan.rows.items() if read == name])
    return ":".join(["read", name, rows, *sources(plan, name)])


def shared(plan: Plan, name: str, target: str) -> str:
    """Name of the fact which rows an intermediate task's training data shares with a target."""
    languages = dict.fromkeys([*plan.tasks[name].trained_in, *sources(plan, name)])
    training = [plan.rows[name, "train", language] for language in languages]
    return f"shared:{fingerprint([training, checked(plan, target)])}"


def pairs(plan: Plan) -> Iterator[tuple[str, str]]:
    """(intermediate task, target) of which both are read from data that somebody else has made."""
    read = [name for name, task in plan.tasks.items() if isinstance(task.source, PartedSource)]
    names = dict.fromkeys(name for setting in plan.study.axes.intermediate for name in setting)
    targets = [target for target in plan.study.axes.target if target in read]
    yield from ((name, target) for name in names for target in targets if name in read and name != target)


def counted(plan: Plan, facts: Facts) -> dict[tuple[str, str], int]:
    """(task, language) -> training examples, of data that was read and of what this program makes itself.

    What descriptions state and what a look at a file's bytes gives is not exact, and decides nothing.
    """
    found = dict[tuple[str, str], int]()
    for name, task in plan.tasks.items():
        if isinstance(source := task.source, EmbeddedSource):
            known = {language: source.examples("train", language) for language in (*task.trained_in, *task.sources)}
        else:
            text = facts.get(checked(plan, name))
            known = json.loads(text)["train"] if text else {}
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


def flags(plan: Plan, facts: Facts) -> Iterator[str]:
    """What weakens the study, as far as its data was read, in sentences."""
    done = "counted in means" if plan.study.report.overlapping else "left out of means"
    marked = overlaps(plan, facts)
    yield from (f"overlap: {name} and {target} {reason}; {done}" for (name, target), reason in marked.items())
    for (name, target), found in _shared(plan, facts):
        if (name, target) not in marked and (said := ", ".join(found.said())):
            yield f"of {target} {said} stand in the training data of {name}: too few to mark its cells"
    for name in plan.tasks:
        if text := facts.get(checked(plan, name)):
            yield from json.loads(text)["doubts"]


def _shared(plan: Plan, facts: Facts) -> Iterator[tuple[tuple[str, str], Shared]]:
    for name, target in pairs(plan):
        if text := facts.get(shared(plan, name, target)):
            yield (name, target), Shared.read(text)
