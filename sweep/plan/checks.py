"""Checks of a study against its tasks and encoders, and the notes of its plan on what weakens it.

A check raises StudyError with the place in the study file. A note is a sentence: `sweep plan` prints it and the report
repeats it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.config.axes import Arm, Cell, phase_of
from sweep.config.phases import LENGTHS, PHASES, Phases, PhaseSettings, Text
from sweep.config.study import Study
from sweep.data.columns import PartedSource
from sweep.errors import StudyError, nearest
from sweep.models.registry import GUESS, EncoderSource
from sweep.plan.cost import Costs
from sweep.plan.data_facts import overlaps, shared_rows, task_data
from sweep.plan.facts import Facts
from sweep.plan.languages import group_flags, source_flags
from sweep.plan.plan import Plan
from sweep.plan.recipe import INTERMEDIATE, LEARNING_RATE, PRETRAIN, TARGET, Recipe
from sweep.tasks.task import Task

# -- mistakes in the study file ----------------------------------------------------------------------------------------


def check_settings(study: Study, path: Path) -> None:
    """Checks that each phase that the axes need has settings. Raises StudyError."""
    if any(study.axes.intermediate) and study.intermediate is None:
        raise StudyError(f"{path}: intermediate", "nothing", "the settings of the intermediate phase are expected")
    used = [study.encoders[name] for name in study.axes.encoder if name in study.encoders]
    if any(encoder.random_init for encoder in used) and study.pretrain is None:
        raise StudyError(f"{path}: pretrain", "nothing", "an encoder with 'random_init' needs a pretrain phase")


def check_splits(tasks: Mapping[str, Task]) -> None:
    """Checks that no test data is named as training data too. Raises StudyError."""
    for source in (task.source for task in tasks.values() if isinstance(task.source, PartedSource)):
        for test, train in itertools.product(source.splits.get("test", ()), source.splits.get("train", ())):
            both = [language for language in test.languages if language in train.languages]
            if both and test.reading() == train.reading():
                problem = f"{source.part_place(test, both[0])}, which {train.where} names too"
                raise StudyError(test.where, problem, "rows that nothing was trained on are expected")


def check_mixing(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Checks sampling ratios (of mixed tasks, 1 together at most) and settings of raw text. Raises StudyError."""
    used = dict.fromkeys(name for names in study.axes.intermediate for name in names)
    read = {"pretrain": [study.pretrain.task] if study.pretrain is not None else [], "intermediate": used, "target": []}
    for phase, names in read.items():
        for settings in study.variants(phase):
            where = f"{path}: {_stated(study, f'{phase}.text')}"
            _check_text(settings.text, [tasks[name] for name in names], where)
    for settings in study.variants("intermediate"):
        where = f"{path}: {_stated(study, 'intermediate.sampling.ratios')}"
        _check_ratios(settings.sampling.ratios, study.axes.intermediate, where)


def check_vocabulary(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Checks that no phase guesses words where those in use alone are to be held. Raises StudyError."""
    used = {name for names in study.axes.intermediate for name in names}
    used |= {study.pretrain.task} if study.pretrain is not None else set()
    guessing = sorted(name for name in used if tasks[name].family.raw_text)
    if study.runtime.vocabulary == "in_use" and guessing:
        problem = f"'in_use', while phases on {', '.join(guessing)} guess words of the whole vocabulary"
        expected = "'auto' is expected, which holds all words in these and those after them, or 'full'"
        raise StudyError(f"{path}: runtime.vocabulary", problem, expected)


def _stated(study: Study, key: str) -> str:
    """Place where a study states a key of a phase: under its axis, or in the phase's section."""
    axes = (path for path in study.axes.settings if f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}."))
    return next((f"axes.{path}" for path in axes), key)


def _check_ratios(ratios: Mapping[str, float], phases: Sequence[tuple[str, ...]], where: str) -> None:
    mixed = [names for names in phases if len(names) > 1]
    known = sorted({name for names in mixed for name in names})
    for name in ratios:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "an intermediate of several tasks"
            problem = f"{name!r}, which no phase mixes with another task"
            raise StudyError(where, problem, f"{expected} is expected", nearest(name, known))
    for names in mixed:
        total, free = sum(ratios.get(name, 0.0) for name in names), [name for name in names if name not in ratios]
        problem = f"{total:g} for {'+'.join(names)}"
        if not free and abs(total - 1) > 1e-6:
            raise StudyError(where, f"{problem}, each with a ratio", "1 together is expected")
        if free and total > 1 - 1e-6:
            problem += f", which leaves nothing for {', '.join(free)}"
            raise StudyError(where, problem, "less than 1 together is expected")


def _check_text(text: Text, tasks: Sequence[Task], where: str) -> None:
    raw = [task for task in tasks if task.family.raw_text]
    if text != Text() and not raw:
        raise StudyError(where, "settings of raw text", "a masked task among the phase's tasks is expected")
    for task in raw:
        for index, language in enumerate(text.languages or ()):
            if language not in task.trained_in:
                problem = f"the language {language!r}, in which {task.name} has no text"
                expected = f"one of {', '.join(task.trained_in)} is expected"
                raise StudyError(f"{where}.languages[{index}]", problem, expected, nearest(language, task.trained_in))


def check_target_axes(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Checks that settings axes of the target phase have a target that is trained. Raises StudyError."""
    if not any(tasks[name].trained_in for name in study.axes.target):
        for axis in (axis for axis in study.axes.settings if phase_of(axis) == TARGET):
            problem = "an axis of the target phase, which no target of this study has"
            raise StudyError(f"{path}: axes.{axis}", problem, "a target with training data is expected")


def check_scored_layers(study: Study, tasks: Mapping[str, Task], path: Path) -> None:
    """Checks that overrides of scoring are of retrieval targets that are not trained. Raises StudyError."""
    read = [name for name in study.axes.target if tasks[name].family.vectors and not tasks[name].trained_in]
    for name in study.scoring.overrides:
        if name not in read:
            expected = "a retrieval target that is not trained is expected"
            raise StudyError(f"{path}: scoring.overrides.{name}", repr(name), expected, nearest(name, read))


def check_layers(study: Study, encoders: Mapping[str, EncoderSource], path: Path) -> None:
    """Checks that every encoder has each layer that is scored, once. Raises StudyError."""
    places = {"scoring.layer": study.scoring.layer}
    places |= {f"scoring.overrides.{task}.layer": own.layer for task, own in study.scoring.overrides.items()}
    for (place, layers), (name, source) in itertools.product(places.items(), encoders.items()):
        last = source.shape.layers
        for layer in layers or ():
            if not -last - 1 <= layer <= last:
                problem = f"{layer}, while {name} has the layers 0 (its embeddings) to {last}"
                raise StudyError(f"{path}: {place}", problem, "a layer that every encoder has is expected")
        read = [layer % (last + 1) for layer in layers or ()]  # -1 is the last one
        if twice := [layer for layer, count in Counter(read).items() if count > 1]:
            problem = f"{list(layers or ())}, which is layer {twice[0]} of {name} twice"
            raise StudyError(f"{path}: {place}", problem, "each layer once is expected")


def check_chain_budgets(study: Study, path: Path) -> None:
    """Checks that the length of each phase is given exactly once. Raises StudyError."""
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
        parts = {"": settings.model_dump(), **{f".overrides.{task}": changes for task, changes in overrides.items()}}
        lengths = [f"{place}{part}.{name}" for part in parts for name in ("epochs", "steps") if parts[part].get(name)]
        if by_budget and lengths:
            expected = "axes.chain_budget says how long this phase is: leave it out"
            raise StudyError(f"{path}: {lengths[0]}", "a length", expected)
        if not by_budget and settings.epochs is None and settings.steps is None:
            raise StudyError(f"{path}: {place}", "no length", "exactly one of 'epochs' and 'steps' is expected")


def check_tuned(plan: Plan, path: Path) -> None:
    """Checks that every search space is one of a number that a phase of the study uses. Raises StudyError.

    A grid of learning rates may wait, with its phase, for an axis that needs it.
    """
    used = {name for cell in plan.cells for name in plan.grid(cell)}
    for kind, settings in ((kind, getattr(plan.study, kind)) for kind in (PRETRAIN, INTERMEDIATE, TARGET)):
        for key in settings.spaces if settings is not None else ():
            if key != LEARNING_RATE and f"{kind}.{key}" not in used:
                problem = f"a search space, though no {kind} phase of this study depends on it"
                raise StudyError(f"{path}: {kind}.{key}", problem, "one number, or nothing, is expected")


def check_affordable(plan: Plan, path: Path) -> None:
    """Checks that each chain budget pays one step of each phase of every chain, as planned. Raises StudyError."""
    axis = plan.study.axes.chain_budget
    if axis is None:
        return
    costs = Costs(plan)
    least, cell = max(((_least(costs, cell), cell) for cell in plan.cells), key=lambda pair: pair[0])
    for index, flops in enumerate(axis.flops):
        if flops < least:
            expected = (
                f"at least {least:.3g} is expected: one step of each phase of {replace(cell, chain_budget=None).name}"
            )
            raise StudyError(f"{path}: axes.chain_budget.flops[{index}]", f"{flops:g}", expected)


def _least(costs: Costs, cell: Cell) -> float:
    recipes = [recipe for recipe in costs.plan.recipes(cell) if recipe.kind != PRETRAIN]
    assert cell.chain_budget is not None
    steps = ((costs.step(cell, recipe), (recipe.flops or 0.0) / cell.chain_budget) for recipe in recipes)
    return max((cost / share for cost, share in steps), default=0.0)


# -- notes of the plan -------------------------------------------------------------------------------------------------


def plan_flags(plan: Plan, facts: Facts) -> Iterator[str]:
    """Notes on a plan, those on its volumes apart."""
    study, tasks, encoders = plan.study, plan.tasks, plan.encoders
    if () not in study.axes.intermediate:
        yield "no baseline: axes.intermediate lacks 'none', so no gain can be shown"
    if len(study.axes.seed) == 1:
        yield "one seed: differences between seeds are not seen, intervals are over examples only"
    yield from data_flags(plan, facts)
    for name, source in encoders.items():
        if len({checkpoint.digest for checkpoint in source.checkpoints}) < len(source.checkpoints):
            yield f"{name}: seeds with equal checkpoints; their differences show no noise of pretraining"
        if source.guessed:
            yield (
                f"{name}: planned as if it had the shape of {GUESS}, and so are its costs: its own is known when a run"
                " has begun; a model folder tells it at once"
            )
    yield from _idle_overrides(study, tasks)
    yield from _length_flags(study, encoders)
    yield from _trunk_flags(study)
    yield from _tuning_flags(plan)
    yield from source_flags(study, tasks)
    yield from budget_flags(study)
    yield from group_flags(study, tasks)


def data_flags(plan: Plan, facts: Facts) -> Iterator[str]:
    """Sentences on what weakens the study, as far as its data was read: overlaps, and doubts about rows."""
    done = "counted in means" if plan.study.report.overlapping else "left out of means"
    marked = overlaps(plan, facts)
    yield from (f"overlap: {name} and {target} {reason}; {done}" for (name, target), reason in marked.items())
    for (name, target), shared in shared_rows(plan, facts):
        if (name, target) not in marked and (sentences := ", ".join(shared.sentences())):
            yield f"of {target} {sentences} stand in the training data of {name}: too few to mark its cells"
    for name in plan.tasks:
        if read := facts.rows_read(task_data(plan, name)):
            yield from read.doubts


def _idle_overrides(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Overrides of a task that no phase is on alone: nothing in the study reads them."""
    alone = {
        "intermediate": {names[0] for names in study.axes.intermediate if len(names) == 1},
        "target": {name for name in study.axes.target if tasks[name].trained_in},
    }
    for kind, settings in (("intermediate", study.intermediate), ("target", study.target)):
        for name in settings.overrides if settings is not None else ():
            if name not in alone[kind]:
                yield f"{kind}.overrides.{name} changes nothing: no {kind} phase of this study is on {name} alone"


def _length_flags(study: Study, encoders: Mapping[str, EncoderSource]) -> Iterator[str]:
    """Lengths that an encoder does not take: its sequences are cut to what it takes."""
    asked: dict[tuple[str, int], None] = {}
    for kind, settings in ((phase, settings) for phase in PHASES for settings in study.variants(phase)):
        asked[_stated(study, f"{kind}.max_length"), _longest(settings)] = None
        if isinstance(settings, Phases):
            own = (name for name, changes in settings.overrides.items() if "max_length" in changes)
            lengths = {name: _longest(settings.of((name,))) for name in own}
            asked |= {(f"{kind}.overrides.{name}.max_length", length): None for name, length in lengths.items()}
    for place, length in asked:
        for name, source in encoders.items():
            if length > (longest := source.shape.max_length):
                yield f"{place}: {length} tokens, of which {name} takes {longest} and the rest is cut; write {longest}"


def _longest(settings: PhaseSettings) -> int:
    """The largest `max_length` that a phase may have; 0 where it has the default of the task's family alone."""
    return max(filter(None, settings.possible("max_length")), default=0)


def _tuning_flags(plan: Plan) -> Iterator[str]:
    """Notes on phases of one kind that are compared on a target and tuned over different spaces."""
    spaces: dict[tuple[str, str], dict[Any, Recipe]] = {}
    for cell in plan.cells:
        for recipe in plan.recipes(cell):
            of_kind = spaces.setdefault((recipe.kind, cell.target), {})
            of_kind.setdefault(tuple(pair for pair in recipe.grid.items() if len(pair[1]) > 1), recipe)
    different = {kind: [*recipes.values()][:2] for (kind, _), recipes in spaces.items() if len(recipes) > 1}
    for kind, recipes in different.items():
        one, other = ("+".join(recipe.tasks) for recipe in recipes)
        yield f"unequal tuning: {kind} phases have different search spaces, as those on {one} and on {other}"


def _trunk_flags(study: Study) -> Iterator[str]:
    if len(study.axes.volume) == 1 or study.axes.chain_budget is not None:
        return
    variants = [settings for settings in study.variants("intermediate") if isinstance(settings, Phases)]
    for settings, tasks in itertools.product(variants, study.axes.intermediate):
        chosen = settings.of(tasks)
        if chosen.schedule != "wsd" or not tasks:
            continue
        if len(tasks) > 1:
            yield f"volumes of {'+'.join(tasks)} share no steps: how its tasks are mixed depends on the volume"
        elif chosen.spaces.keys() & set(LENGTHS):
            yield f"volumes of {tasks[0]} share no steps: with tuned lengths, those of one volume do"
        elif chosen.epochs and chosen.epochs > 1:
            yield f"volumes of {tasks[0]} share their first pass alone: epochs is {chosen.epochs:g}"


def budget_flags(study: Study) -> Iterator[str]:
    """Notes of a plan on its axis of chain budgets."""
    axis = study.axes.chain_budget
    if axis is None:
        return
    shares = f"{axis.shares.intermediate:g} to the intermediate, {axis.shares.target:g} to the target phase"
    yield (
        f"chain budgets: {shares}; a chain that trains only one of them gives it all, so all chains of a budget train"
        " with as many FLOPs; pretraining, dev evaluations and scoring are not counted"
    )
    if len(study.axes.volume) > 1 and any(one.schedule == "wsd" for one in study.variants("intermediate")):
        yield "volumes share no steps: with chain budgets, those of one volume do"


def volume_flags(asked: Plan) -> Iterator[str]:
    """Volumes that leave out nothing, or may leave out nothing."""
    settings = {(cell.intermediate, cell.source, cell.volume): cell for cell in asked.cells if cell.volume is not None}
    for (names, source, volume), cell in settings.items():
        read = next(recipe.languages for recipe in asked.recipes(cell) if recipe.kind == INTERMEDIATE)
        phases = list(zip(names, read, strict=True))
        known = [asked.examples(name, languages) for name, languages in phases]
        named_volume = f"volume {volume} of {Arm(intermediate=names, source=source).label}"
        most = f"the {max(filter(None, known)):,} training examples" if all(known) else "`examples`"
        if (shown := asked.shown(cell)) != cell:
            yield f"{named_volume}: no less than {most} that there are; run once, as {shown.text('volume')}"
        elif all(known) and volume > max(filter(None, known)):
            yield f"{named_volume}: more than {most} that there are; it is all of them"
        elif None in known:
            sizes = [asked.tasks[name].source.size("train", language) for name, spoken in phases for language in spoken]
            if volume >= (guess := sum(size.examples for size in sizes)):
                yield f"{named_volume}: there are about {guess:,} training examples; where no more, it is all of them"
