"""Resolution of a study file into a plan: looks up tasks and encoders, makes the cells, flags what to distrust.

Every mistake is said before anything runs, with its place in the file. Needs no network: hub data that was not resolved
yet is planned from tables and gets its commit at first use.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.config.axes import CROSSED, PAIRED, Cell
from sweep.config.study import Study
from sweep.data.hub import HubSource, version_of
from sweep.errors import Mistakes, StudyError, nearest
from sweep.keys import fingerprint
from sweep.models.registry import EncoderSource, encoder_source, per_seed
from sweep.plan.checks import (
    check_affordable,
    check_chain_budgets,
    check_layers,
    check_mixing,
    check_scored_layers,
    check_settings,
    check_splits,
    check_target_axes,
    check_tuned,
    check_vocabulary,
    plan_flags,
    volume_flags,
)
from sweep.plan.data_facts import counted_examples, overlaps
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.halving import check_rungs
from sweep.plan.languages import check_groups, check_sources, source_settings
from sweep.plan.plan import Plan, Rows
from sweep.plan.recipe import PRETRAIN
from sweep.tasks.describe import own_task
from sweep.tasks.table import TASKS
from sweep.tasks.task import Family, Task


@dataclass(frozen=True)
class Named:
    """Tasks and encoders that a study file names, looked up; what lies on the hub has no commit yet.

    It has only what is sound.
    """

    study: Study
    path: Path  # of the study file
    tasks: Mapping[str, Task]
    rows: Rows  # of tasks that are not on the hub
    encoders: Mapping[str, EncoderSource]  # without those whose tokenizer is trained on text of the hub


def resolve(study: Study, path: Path, facts: Facts = NO_FACTS) -> Plan:
    """The plan of a study, as far as `facts` of earlier runs go. Raises StudyError and DataError."""
    mistakes = Mistakes()
    plan = make_plan(look_up(study, path, mistakes), facts, mistakes)
    mistakes.raise_first()
    return plan


def look_up(study: Study, path: Path, mistakes: Mistakes) -> Named:
    """Tasks and encoders that a study file names; reads files for their digests, asks no hub. Adds to `mistakes`."""
    for check in (check_settings, check_chain_budgets):
        with mistakes.collect():
            check(study, path)
    tasks, rows = dict[str, Task](), dict[tuple[str, str, str], str]()
    for name, task in _tasks(study, path, mistakes).items():
        with mistakes.collect():
            rows |= {} if _on_hub(task) else _row_digests(task)
            tasks[name] = task
    with mistakes.collect():
        check_splits(tasks)
    encoders = dict[str, EncoderSource]()
    for index, name in enumerate(study.axes.encoder):
        text = _tokenizer_text(study, name)
        if text is None or (text in tasks and not _on_hub(tasks[text])):
            with mistakes.collect():
                encoders[name] = _encoder(study, path, index, rows, tasks)
    named = Named(study, path, tasks, rows, encoders)
    if not mistakes:
        checks = (
            check_groups,
            check_sources,
            check_mixing,
            check_vocabulary,
            check_target_axes,
            check_scored_layers,
            check_rungs,
        )
        for check_tasks in checks:
            with mistakes.collect():
                check_tasks(study, tasks, path)
    return named


def make_plan(named: Named, facts: Facts, mistakes: Mistakes) -> Plan:
    """The plan of what was looked up, at the commits that `facts` have. Adds to `mistakes`.

    Where there are any, the plan has what is sound, and no cells.
    """
    study, path = named.study, named.path
    tasks, rows, encoders = dict[str, Task](), dict(named.rows), dict[str, EncoderSource]()
    for name, task in named.tasks.items():
        with mistakes.collect():
            pinned = _pinned(task, facts)
            rows |= _row_digests(pinned) if _on_hub(task) else {}
            tasks[name] = pinned
    for index, name in enumerate(study.axes.encoder):
        text = _tokenizer_text(study, name)
        with mistakes.collect():
            if name in named.encoders:
                encoders[name] = _as_known(named.encoders[name], facts, f"{path}: axes.encoder[{index}]")
            elif text in tasks and _on_hub(tasks[text]):
                encoders[name] = _encoder(study, path, index, rows, tasks)
    plan = Plan(study, encoders, tasks, rows, ())
    with mistakes.collect():
        check_layers(study, encoders, path)
    if mistakes:
        return plan
    plan = informed(dataclasses.replace(plan, cells=_cells(study, tasks)), facts)
    for check_plan in (check_tuned, check_affordable):
        with mistakes.collect():
            check_plan(plan, path)
    return plan


def shaped(plan: Plan, facts: Facts, path: Path) -> Plan:
    """A plan with the shapes of hub encoders that were read meanwhile. Raises StudyError where they do not fit."""
    encoders = {
        name: _as_known(source, facts, f"{path}: axes.encoder[{index}]")
        for index, (name, source) in enumerate(plan.encoders.items())
    }
    if encoders == plan.encoders:
        return plan
    plan = dataclasses.replace(plan, encoders=encoders)
    check_layers(plan.study, encoders, path)
    check_affordable(plan, path)
    return plan


def _on_hub(task: Task) -> bool:
    return isinstance(task.source, HubSource)


def _tokenizer_text(study: Study, encoder: str) -> str | None:
    """The task whose text trains the tokenizer of an encoder with random weights."""
    described = study.encoders.get(encoder)
    return described.tokenizer.text if described is not None and described.tokenizer is not None else None


def _row_digests(task: Task) -> dict[tuple[str, str, str], str]:
    """(task, split, language) -> digest of its rows and of what they mean: all that a study can read of a task."""
    trained = tuple(dict.fromkeys((*task.trained_in, *task.sources)))
    dev = task.calibrated_in or trained
    languages_of = {"train": trained, "dev": dev, "test": (*task.languages, *task.pool)}
    return {
        (task.name, split, language): task.digest(split, language)
        for split, languages in languages_of.items()
        for language in languages
    }


def _pinned(task: Task, facts: Facts) -> Task:
    if not isinstance(task.source, HubSource):
        return task
    commits = ((part.data_set, facts.data_commit(part.data_set)) for part in task.source.data_sets)
    known = {data_set: commit for data_set, commit in commits if commit is not None}
    return dataclasses.replace(task, source=task.source.at(known))


def _tasks(study: Study, path: Path, mistakes: Mistakes) -> dict[str, Task]:
    """Every task that a phase, a tokenizer or a score of the study reads."""
    known = {**TASKS, **dict.fromkeys(study.tasks)}
    for name, description in study.tasks.items():
        with mistakes.collect():
            known[name] = own_task(name, description, study.data_folder, f"{path}: tasks.{name}", path.parent.resolve())
    tasks = {}
    for where, name, used in _named(study):
        with mistakes.collect():
            if name not in known:
                expected = f"one of {', '.join(sorted(known))} is expected"
                raise StudyError(f"{path}: {where}", f"the unknown task {name!r}", expected, nearest(name, known))
            if used and (task := known[name]) is not None:
                _check_use(task, f"{path}: {where}", study)
                tasks[name] = task
    return tasks


def _named(study: Study) -> Iterator[tuple[str, str, bool]]:
    """(place, name of a task, whether the study reads it): an override may be idle, and an encoder on no axis."""
    for index, names in enumerate(study.axes.intermediate):
        yield from ((f"axes.intermediate[{index}]", name, True) for name in names)
    yield from ((f"axes.target[{index}]", name, True) for index, name in enumerate(study.axes.target))
    if study.pretrain is not None:
        yield "pretrain.task", study.pretrain.task, True
    for name, encoder in study.encoders.items():
        if encoder.tokenizer is not None:
            yield f"encoders.{name}.tokenizer.text", encoder.tokenizer.text, name in study.axes.encoder
    for phase, settings in (("intermediate", study.intermediate), ("target", study.target)):
        if settings is not None:
            yield from ((f"{phase}.overrides.{name}", name, False) for name in settings.overrides)


def _check_use(task: Task, where: str, study: Study) -> None:
    if where.endswith((".task", ".text")) and not task.family.raw_text:
        raise StudyError(where, f"{task.name}, a {task.family} task", "a masked task (raw text) is expected")
    if ".intermediate[" in where and not task.trained_in:
        raise StudyError(where, f"{task.name}, which has no training data", "a task with training data is expected")
    if "axes.target[" in where:
        if task.family.suffix is None:
            raise StudyError(
                where, f"{task.name}, a {task.family} task", "a task with labels or sentence pairs is expected"
            )
        if not task.trained_in and not task.family.vectors:
            expected = f"a {task.family} task has a head to train: `train` and `dev` in its description are expected"
            raise StudyError(where, f"{task.name}, which has no training data", expected)
        if task.trained_in and study.target is None:
            raise StudyError(
                f"{where.partition(': ')[0]}: target", "nothing", "the settings of the target phase are expected"
            )


def _encoder(study: Study, path: Path, index: int, rows: Rows, tasks: Mapping[str, Task]) -> EncoderSource:
    """An encoder of the axis; one of the hub without its commit."""
    name = study.axes.encoder[index]
    described = study.encoders.get(name)
    where = f"{path}: axes.encoder[{index}]"
    hint = nearest(name, study.encoders) if described is None else None
    if hint is not None and "/" not in name:
        expected = f"one of {', '.join(study.encoders)} is expected"
        raise StudyError(where, f"the unknown encoder {name!r}", expected, hint)
    text = _text_digest(tasks[described.tokenizer.text], rows) if described and described.tokenizer else None
    return encoder_source(name, described, path.parent, text, study.axes.seed, where)


def _as_known(source: EncoderSource, facts: Facts, where: str) -> EncoderSource:
    """An encoder with the commit and the shape that a run has found. Raises StudyError where shapes of seeds differ."""
    known = {seed: _checkpoint_as_known(checkpoint, facts) for seed, checkpoint in source.by_seed}
    return per_seed(known, where) if known else _checkpoint_as_known(source, facts)


def _checkpoint_as_known(source: EncoderSource, facts: Facts) -> EncoderSource:
    location = source.location
    if location is None or not source.on_hub:
        return source
    commit = facts.encoder_commit(location)
    if commit and source.revision is None:
        source = source.at(commit)
    known = facts.shape(location, source.revision)
    return dataclasses.replace(source, shape=known, guessed=False) if known else source


def _text_digest(task: Task, rows: Rows) -> str:
    """Identity of the raw text that a tokenizer is trained on."""
    return fingerprint([rows[task.name, "train", language] for language in task.trained_in])


def _cells(study: Study, tasks: Mapping[str, Task]) -> tuple[Cell, ...]:
    first, *other_axes = CROSSED
    pairs, values = source_settings(study, tasks), map(study.axes.values, other_axes)
    points = itertools.product(study.axes.values(first), pairs, *values, study.axes.points())
    names = (first, *PAIRED, *other_axes, "settings")
    cells = (Cell(**dict(zip(names, (value, *pair, *rest), strict=True))) for value, pair, *rest in points)
    cells = (cell if study.is_random(cell.encoder) else cell.idle(PRETRAIN) for cell in cells)
    return tuple(dict.fromkeys(cell.reference if cell.baseline else cell for cell in cells))


def informed(plan: Plan, facts: Facts) -> Plan:
    """A plan with what is known of its data now: which volumes are all of it, which tasks overlap, what is flagged.

    Volumes that leave out nothing are one cell, with the largest of them.
    """
    asked = dataclasses.replace(plan, cells=_cells(plan.study, plan.tasks), counted=counted_examples(plan, facts))
    cells = tuple(dict.fromkeys(map(asked.shown, asked.cells)))
    flags = tuple(dict.fromkeys((*plan_flags(asked, facts), *volume_flags(asked))))
    return dataclasses.replace(asked, cells=cells, flags=flags, overlaps=overlaps(plan, facts))


# -- the first run of a study ------------------------------------------------------------------------------------------


def resolve_revisions(named: Named, facts: Facts) -> Facts:
    """Commits of hub data sets and encoders that no earlier run has resolved. Raises SweepError."""
    resolved = NO_FACTS
    for task in named.tasks.values():
        for part in task.source.data_sets if isinstance(task.source, HubSource) else ():
            if (facts | resolved).data_commit(part.data_set) is None:
                resolved = resolved.with_data_commit(part.data_set, version_of(part))
    for encoder in _checkpoints(named.encoders):
        if encoder.on_hub and encoder.revision is None:
            assert encoder.location is not None
            if facts.encoder_commit(encoder.location) is None:
                resolved = resolved.with_encoder_commit(encoder.location, encoder_commit(encoder.location))
    return resolved


def encoder_commit(location: str) -> str:
    """The commit of a hub encoder's main branch: asked from the hub, or from the local cache when offline."""
    from httpx2 import HTTPError  # huggingface_hub lets the errors of its client through
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    cached = try_to_load_from_cache(location, "config.json")
    try:
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled("offline")
        return str(HfApi().model_info(location, timeout=20.0).sha)
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError) as failure:
        if isinstance(cached, str):
            return Path(cached).parent.name  # .../snapshots/<commit>/config.json
        expected = "a hub encoder that can be reached or is in the local cache, or a model folder, is expected"
        raise StudyError(f"encoder {location}", f"no answer ({type(failure).__name__})", expected) from failure


def asked_families(plan: Plan) -> list[Family]:
    """The families that every encoder of the study must be able to do."""
    axes = plan.study.axes
    names = {*axes.target, *(name for names in axes.intermediate for name in names)}
    return sorted({plan.tasks[name].family for name in names if name in plan.tasks}, key=str)


def unchecked_encoders(plan: Plan, facts: Facts) -> list[EncoderSource]:
    """Encoders that no earlier run has looked at for these families (run/inspection.py does)."""
    families = [family.name for family in asked_families(plan)]
    distinct = {source.digest: source for source in _checkpoints(plan.encoders)}
    return [source for digest, source in distinct.items() if not facts.is_encoder_checked(digest, families)]


def _checkpoints(encoders: Mapping[str, EncoderSource]) -> Iterator[EncoderSource]:
    return (checkpoint for encoder in encoders.values() for checkpoint in encoder.checkpoints)
