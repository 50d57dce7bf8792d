"""Checks of a study against its tasks: mixing, chain budgets, rows in common, examples counted.

A fact is kept under digests of the rows that it is about: it holds for any study that reads them, and for no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sweep.config.axes import Cell
from sweep.config.phases import Phases, Text
from sweep.config.study import Study
from sweep.data.columns import PartedSource
from sweep.errors import StudyError, nearest
from sweep.identity import fingerprint
from sweep.plan.cost import Costs
from sweep.plan.facts import Facts, TaskData
from sweep.plan.languages import trained_in
from sweep.plan.plan import Plan
from sweep.plan.recipe import PRETRAIN
from sweep.tasks.check import SharedRows, overlap
from sweep.tasks.synthetic import EmbeddedSource
from sweep.tasks.task import Task


def check_mixing(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Ratios must be of tasks that are mixed and leave something for the others. Raises StudyError."""
    if study.pretrain is not None:
        _check_text(study.pretrain.text, [tasks[study.pretrain.task]], f"{path}: pretrain.text")
    if study.target is not None:
        _check_text(study.target.text, [], f"{path}: target.text")
    if study.intermediate is not None:
        used = dict.fromkeys(name for names in study.axes.intermediate for name in names)
        _check_text(study.intermediate.text, [tasks[name] for name in used], f"{path}: intermediate.text")
        _check_ratios(study.intermediate.sampling.ratios, study.axes.intermediate, f"{path}: intermediate")


def _check_ratios(ratios: Mapping[str, float], phases: Sequence[tuple[str, ...]], where: str) -> None:
    mixed = [names for names in phases if len(names) > 1]
    known = sorted({name for names in mixed for name in names})
    for name in ratios:
        if name not in known:
            wanted = f"one of {', '.join(known)}" if known else "an intermediate of several tasks"
            found = f"{name!r}, which no phase mixes with another task"
            raise StudyError(f"{where}.sampling.ratios", found, f"{wanted} is expected", nearest(name, known))
    for names in mixed:
        total, free = sum(ratios.get(name, 0.0) for name in names), [name for name in names if name not in ratios]
        found = f"{total:g} for {'+'.join(names)}"
        if not free and abs(total - 1) > 1e-6:
            raise StudyError(f"{where}.sampling.ratios", f"{found}, each with a ratio", "1 together is expected")
        if free and total > 1 - 1e-6:
            found += f", which leaves nothing for {', '.join(free)}"
            raise StudyError(f"{where}.sampling.ratios", found, "less than 1 together is expected")


def _check_text(text: Text, tasks: Sequence[Task], where: str) -> None:
    raw = [task for task in tasks if task.family.raw_text]
    if text != Text() and not raw:
        raise StudyError(where, "settings of raw text", "a masked task among the phase's tasks is expected")
    for task in raw:
        for index, language in enumerate(text.languages or ()):
            if language not in task.trained_in:
                found = f"the language {language!r}, in which {task.name} has no text"
                wanted = f"one of {', '.join(task.trained_in)} is expected"
                raise StudyError(f"{where}.languages[{index}]", found, wanted, nearest(language, task.trained_in))


def check_chain_budgets(study: Study, path: Path) -> None:
    """Raises StudyError where it is not said once how long a phase is."""
    budgeted = study.axes.chain_budget is not None
    for place, settings in (
        ("pretrain", study.pretrain),
        ("intermediate", study.intermediate),
        ("target", study.target),
    ):
        if settings is None:
            continue
        by_budget = budgeted and settings is not study.pretrain
        overrides = settings.overrides if isinstance(settings, Phases) else {}
        said = [("", settings.model_dump()), *((f".overrides.{name}", found) for name, found in overrides.items())]
        lengths = [f"{place}{where}.{name}" for where, one in said for name in ("epochs", "steps") if one.get(name)]
        if by_budget and lengths:
            wanted = "axes.chain_budget says how long this phase is: leave it out"
            raise StudyError(f"{path}: {lengths[0]}", "a length", wanted)
        if not by_budget and settings.epochs is None and settings.steps is None:
            raise StudyError(f"{path}: {place}", "no length", "exactly one of 'epochs' and 'steps' is expected")


def check_affordable(plan: Plan, path: Path) -> None:
    """Raises StudyError where a budget is too small for one step of each phase of some chain, as far as is planned."""
    axis = plan.study.axes.chain_budget
    if axis is None:
        return
    costs = Costs(plan)
    least, cell = max(((_least(costs, cell), cell) for cell in plan.cells), key=lambda pair: pair[0])
    for index, flops in enumerate(axis.flops):
        if flops < least:
            wanted = (
                f"at least {least:.3g} is expected: one step of each phase of {replace(cell, chain_budget=None).name}"
            )
            raise StudyError(f"{path}: axes.chain_budget.flops[{index}]", f"{flops:g}", wanted)


def _least(costs: Costs, cell: Cell) -> float:
    recipes = [recipe for recipe in costs.plan.recipes(cell) if recipe.kind != PRETRAIN]
    assert cell.chain_budget is not None
    steps = ((costs.step(cell, recipe), (recipe.flops or 0.0) / cell.chain_budget) for recipe in recipes)
    return max((cost / share for cost, share in steps), default=0.0)


def budget_flags(study: Study) -> Iterator[str]:
    """What the plan says of an axis of chain budgets."""
    axis = study.axes.chain_budget
    if axis is None:
        return
    shares = f"{axis.shares.intermediate:g} to the intermediate, {axis.shares.target:g} to the target phase"
    yield (
        f"chain budgets: {shares}; a chain that trains only one of them gives it all, so all chains of a budget train"
        " with as many FLOPs; pretraining, dev evaluations and scoring are not counted"
    )
    if len(study.axes.volume) > 1 and study.intermediate is not None and study.intermediate.schedule == "wsd":
        yield "volumes share no steps: with chain budgets, those of one volume do"


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
        if (name, target) not in marked and (said := ", ".join(found.sentences())):
            yield f"of {target} {said} stand in the training data of {name}: too few to mark its cells"
    for name in plan.tasks:
        if read := facts.rows_read(task_data(plan, name)):
            yield from read.doubts


def _shared(plan: Plan, facts: Facts) -> Iterator[tuple[tuple[str, str], SharedRows]]:
    for name, target in compared_pairs(plan):
        if shared := facts.shared_rows(training_data(plan, name), task_data(plan, target)):
            yield (name, target), shared
