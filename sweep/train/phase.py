"""One phase: trained, scored on dev, checkpointed on the way, committed with its curve and cost.

A task has collapsed where its dev score is within the phase's `collapse_margin` of the chance level (the best constant
answer); where that leaves little room, because one class is most of dev, within that share of what is left
(`is_collapsed`). A phase has collapsed where every task that it is scored on has; a task that collapsed beside others
that did not is marked, and the phase is passed on. A phase is scored on mixed-in text only where that is alone: it is
there to keep the encoder multilingual.

On dev, answers are compared as SQuAD's script does, whatever a target's own script does in its test languages: XTREME
selects checkpoints so, and targets that are trained on the same data share a phase.

A collapsed phase is tried again with another seed, as often as its recipe says; which attempt succeeds is therefore a
function of the phase's key. Attempts differ in random weights, heads, order and dropout; the examples of a volume are
those of the phase's own seed in all of them, so volumes stay nested.

A trunk segment is the beginning of a run whose schedule is wsd: it stops before the decay and leaves its state, with
the optimizer's, to runs of other lengths that begin with the same steps. Each of them equals itself done alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sweep.data.encoded import Encoded
from sweep.errors import StoreError, StudyError
from sweep.heartbeat import DEV, JUDGE, STORE, TRAIN
from sweep.models.model import MultiTaskModel
from sweep.plan.facts import NO_FACTS, Reached
from sweep.plan.halving import TRAINED, rung_step
from sweep.plan.languages import judged_in
from sweep.plan.recipe import TARGET, Phase, attempt_seed
from sweep.store import paths
from sweep.store.records import PhaseRecord
from sweep.tasks.task import Task
from sweep.train.checkpoint import AttemptLog, CheckpointWriter, new_log, next_log, read_checkpoint, write_checkpoint
from sweep.train.context import LOADING, ChainContext, encoded_flops, model_to_train, step_flops
from sweep.train.data import Mixture, Sample, Stream, language_groups, size_facts, training_data
from sweep.train.loop import FitSettings, Progress, State, fit, start
from sweep.train.score import score
from sweep.train.weights import handed_over


def optimizer_steps(context: ChainContext, phase: Phase, mixture: Mixture) -> int:
    """Number of optimizer steps: those of the study, or as many as the phase's part of the chain's budget pays for.

    Dev evaluations are no part of a chain's budget, which compares training. Raises StudyError where it does not pay
    for the first step.
    """
    settings, flops = phase.recipe.settings, phase.recipe.flops
    if flops is None:
        return settings.steps or mixture.steps_for(settings.epochs or 0)
    masked = {name for name in phase.recipe.tasks if context.plan.tasks[name].family.raw_text}
    steps, left = 0, flops
    for task, padded, attended in mixture.step_shapes():
        left -= (cost := step_flops(context.encoder.shape, padded, attended, task in masked))
        if left < 0:
            break
        steps += 1
    if not steps:
        share = f"{flops:.3g} FLOPs for the {phase.recipe.kind} phase on {'+'.join(phase.recipe.tasks)}"
        raise StudyError("axes.chain_budget", share, f"at least {math.ceil(cost):.3g}, its first step, is expected")
    return steps


def trunk_end(phase: Phase, settings: FitSettings, mixture: Mixture) -> int:
    """Last step before the decay; of a trunk for larger volumes, at most the last one that they share."""
    if not phase.trunk or phase.same_data:
        return settings.decay_start
    return min(settings.decay_start, mixture.shared_steps())


ROOM = 0.1  # above the chance level; with less the collapse margin is smaller
SQUAD = "squad"  # a key of sweep.tasks.question_answering.NORMALISERS


class DevSets:
    """Dev sets of a phase, each in its task's own language, English, whatever language it is trained in."""

    def __init__(self, context: ChainContext, phase: Phase, samples: Sequence[Sample]) -> None:
        self._context, self._settings, self._samples = context, phase.recipe.settings, samples
        tokens = context.runtime.score_batch_tokens
        self._flops = [encoded_flops(context.encoder.shape, [dev.encoded], tokens) for dev in samples]
        self._chance_levels = {dev.task.name: dev.chance_level() for dev in samples}
        self.latest: dict[str, float] = {}  # task -> dev score of the last evaluation

    @classmethod
    def read(cls, context: ChainContext, tasks: Sequence[Task], phase: Phase) -> DevSets:
        """Dev sets of a phase's tasks, encoded where they are not yet. Raises DataError."""
        scored = [task for task in tasks if not task.family.raw_text] or tasks
        return cls(context, phase, [_sample(context, task, phase) for task in scored])

    @property
    def texts(self) -> list[Encoded]:
        """All that an evaluation reads."""
        return [dev.encoded for dev in self._samples]

    def evaluate(self, model: MultiTaskModel, on_batch: Callable[[], None]) -> float:
        """Dev score: mean over the tasks of their metrics; calls `on_batch` after every batch, its cost charged."""
        tokens, precision = self._context.runtime.score_batch_tokens, self._context.precision
        for dev, flops in zip(self._samples, self._flops, strict=True):
            name = dev.task.name
            scoring = score(model, {"dev": dev.encoded}, name, batch_tokens=tokens, precision=precision)
            outputs = self._context.meter.scored(flops, scoring, lambda _: on_batch(), DEV)
            with self._context.meter.during(JUDGE):
                self.latest[name] = dev.value(dev.statistics(dev.predictions(outputs[0]["dev"])))
        return sum(self.latest.values()) / len(self.latest)

    def selected(self, points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Evaluation of an attempt whose weights were kept."""
        best = self._settings.select == "best"
        return max(points, key=lambda point: (point["value"], -point["step"])) if best else points[-1]

    def by_task(self, values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """By task its dev score, its chance level (`majority`), and whether it collapsed; dev scores are 0..1."""
        margin, tasks = self._settings.collapse_margin, {}
        for name, value in values.items():
            collapsed = is_collapsed(value, self._chance_levels[name], margin)
            tasks[name] = {"dev": value, "majority": self._chance_levels[name], "collapsed": collapsed}
        return tasks

    def chance_level(self) -> float:
        """Mean over the tasks of their chance levels, 0..1."""
        return sum(self._chance_levels.values()) / len(self._chance_levels)


def _sample(context: ChainContext, task: Task, phase: Phase) -> Sample:
    trained = dict(zip(phase.recipe.tasks, phase.recipe.languages, strict=True))[task.name]
    language, settings, as_squad = judged_in(task, trained), phase.recipe.settings, replace(task, normaliser=SQUAD)
    dev = context.reader.sample(as_squad, "dev", language, settings.dev_examples, settings.max_length)
    return replace(dev, rows=list(dev.rows))  # which every evaluation needs again


def is_collapsed(dev: float, chance_level: float, margin: float) -> bool:
    """Whether a dev score is no more than chance level, both 0..1.

    The margin is that of a chance level of 0.9 or less, and shrinks above with what is left: at 0.99 a margin of 0.01
    is 0.001, which one right answer in a thousand exceeds. Nothing is collapsed at a chance level of 1, and at a margin
    of -1.
    """
    room = 1 - chance_level
    return margin > -1 and room > 0 and dev <= chance_level + margin * min(1.0, room / ROOM)


def has_collapsed(tasks: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all tasks of a phase, as `DevSets.by_task` has them, have collapsed."""
    return all(entry["collapsed"] for entry in tasks.values())


def train_phase(context: ChainContext, phase: Phase, pause_at: float | None = None) -> None:
    """Trains a phase from its start or its last checkpoint, and commits it.

    A target phase pauses after the share `pause_at` of its steps where there is one below 1: it leaves a checkpoint and
    reports its dev score.
    """
    rung = pause_at if pause_at is not None and pause_at < TRAINED and phase.kind == TARGET else None
    context.meter.enter(phase.kind, phase.key)
    with ExitStack() as lock:
        scratch = lock.enter_context(context.store.training(phase.key, context.meter))
        context.meter.beat()
        if context.store.is_trained(phase.key):
            return
        if phase.trunk:
            _train_trunk(context, phase, scratch)
        else:
            _train(context, phase, scratch, rung, lock)


def _train_trunk(context: ChainContext, phase: Phase, scratch: Path) -> None:
    """Trains a trunk segment up to its end, and commits its checkpoint."""
    tasks = [context.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read_streams(context, tasks, phase)
    mixture = _mixture(phase, streams, phase.seed)
    settings = _fit_settings(context, phase, mixture)
    end = trunk_end(phase, settings, mixture)
    state, log = _starting_point(context, phase, scratch, end)
    context.meter.beat(LOADING)
    model = model_to_train(context, tasks, phase, phase.seed, [stream.encoded for stream in streams], state)
    context.meter.beat()
    state = state or start(model, mixture, settings)
    if state["values"]["step"] == end:
        write_checkpoint(scratch, state, log, context.meter)
    attempt_log = AttemptLog(context, phase, log)
    _run_steps(attempt_log, fit(model, mixture, settings, resume=state, stop=end), {}, scratch, end)
    with context.meter.during(STORE):
        context.commits.wait(context.meter)
        record = replace(_record(attempt_log, model), **context.meter.recorded())
        context.store.commit_phase(record, {paths.CHECKPOINT: scratch / paths.CHECKPOINT})
    context.meter.report(end, end, committed=True)


def _train(context: ChainContext, phase: Phase, scratch: Path, rung: float | None, lock: ExitStack) -> None:
    """Trains a phase in as many attempts as it takes, and commits it; or up to a rung, a share of its steps.

    Its `lock` is held until it is committed.
    """
    tasks = [context.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read_streams(context, tasks, phase)
    dev = DevSets.read(context, tasks, phase)
    texts = [*(stream.encoded for stream in streams), *dev.texts]
    context.meter.beat()
    own = _mixture(phase, streams, phase.seed)
    state, log = _starting_point(context, phase, scratch, trunk_end(phase, _fit_settings(context, phase, own), own))
    while True:
        seed = attempt_seed(phase.seed, len(log["attempts"]))
        context.meter.beat(LOADING)
        model = model_to_train(context, tasks, phase, seed, texts, state)
        context.meter.beat()
        attempt_log = AttemptLog(context, phase, log)
        mixture = _mixture(phase, streams, seed)
        settings = _fit_settings(context, phase, mixture)
        end = rung_step(settings.steps, settings.evaluations, rung) if rung and not log["attempts"] else settings.steps
        run = fit(model, mixture, settings, partial(_dev_score, dev, attempt_log, model), state, end)
        _run_steps(attempt_log, run, dev.latest, scratch, end if end < settings.steps else None)
        if rung and end < settings.steps:
            reached = dev.selected([point for point in log["dev"] if point["step"] <= end])["value"]
            fact = Reached(reached, float(log["flops"]), log["seconds"])
            context.meter.report(end, settings.steps, facts=NO_FACTS.with_reached(phase.key, rung, fact))
            return
        chosen = dev.selected(log["dev"])
        collapsed = has_collapsed(dev.by_task(chosen["tasks"]))
        attempt_log.close(seed, chosen["value"], collapsed)
        if not collapsed or len(log["attempts"]) > phase.recipe.settings.retries:
            break
        state, log = None, next_log(log)
        write_checkpoint(scratch, state, log, context.meter)
    _commit(attempt_log, model, dev, scratch, lock)
    steps, attempt = log["steps"], len(log["attempts"]) - 1
    context.meter.report(steps, steps, committed=True, attempt=attempt, collapsed=collapsed)


def _dev_score(dev: DevSets, attempt_log: AttemptLog, model: MultiTaskModel, progress: Progress) -> float:
    """Dev score of a step, whose evaluation is reported batch by batch."""
    return dev.evaluate(model, partial(attempt_log.report, progress))


def _starting_point(
    context: ChainContext, phase: Phase, scratch: Path, latest: int
) -> tuple[State | None, dict[str, Any]]:
    """State and log to start from: the phase's last checkpoint, else its trunk's if that is at most at step `latest`.

    A checkpoint that cannot be read is deleted.
    """
    try:
        state, log = read_checkpoint(scratch)
    except StoreError as damage:
        (scratch / paths.CHECKPOINT).unlink()
        state, log = None, {}
        message = f"begins its {phase.kind} phase anew: {damage.where}, {damage.found}"
        context.meter.report(0, 0, preparing=True, message=message)
    else:
        context.meter.resume(log.get("activities", {}))  # checkpoints of earlier versions have none
        context.meter.beat()
    if not log and phase.resumes is not None and context.store.has_weights(phase.resumes):
        trunk, _ = read_checkpoint(context.store.weights(phase.resumes))
        # An example more may make a batch fewer: then the trunk of the smaller volume ends too late.
        if trunk is not None and trunk["values"]["step"] <= latest:
            return trunk, new_log(trunk, phase.resumes)
    return state, log or new_log()


def _run_steps(
    attempt_log: AttemptLog,
    run: Iterable[Progress],
    by_task: Mapping[str, float],
    scratch: Path,
    end: int | None = None,
) -> None:
    """Runs the steps of a fit, with a checkpoint now and then and one of the step `end`."""
    saved, meter = time.time(), attempt_log.context.meter
    with meter.during(TRAIN), CheckpointWriter(scratch, meter) as writer:
        for progress in run:
            attempt_log.add_step(progress, by_task)
            if progress.step == end or time.time() - saved > attempt_log.context.runtime.checkpoint_seconds:
                with meter.during(STORE):
                    writer.write(progress.snapshot(), attempt_log.log)
                saved = time.time()
            attempt_log.report(progress)


def _read_streams(context: ChainContext, tasks: Sequence[Task], phase: Phase) -> tuple[Stream, ...]:
    """Encoded train splits, cut to the phase's volume; reports their sizes as facts."""
    settings, streams, facts = phase.recipe.settings, list[Stream](), NO_FACTS
    nested, smoothed = settings.schedule == "wsd", settings.text.temperature > 1
    for task, languages in zip(tasks, phase.recipe.languages, strict=True):
        by_language = dict[str, Encoded]()
        for language in languages:
            by_language[language] = context.reader.encoded(task, "train", language, settings.max_length)
        facts |= size_facts(task, "train", by_language)
        for parts, examples in language_groups(by_language, phase.recipe.examples, smoothed and task.family.raw_text):
            streams.append(Stream(task.name, training_data(parts, examples, phase.seed, nested)))
            context.meter.beat()
    context.meter.report(0, 0, facts=facts, preparing=True)
    return tuple(streams)


def _mixture(phase: Phase, streams: tuple[Stream, ...], seed: int) -> Mixture:
    settings = phase.recipe.settings
    nested, smoothing = settings.schedule == "wsd", settings.text.temperature
    return Mixture(streams, settings.batch_tokens, seed, settings.sampling, smoothing, nested)


def _fit_settings(context: ChainContext, phase: Phase, mixture: Mixture) -> FitSettings:
    settings = phase.recipe.settings
    return FitSettings(
        learning_rate=phase.learning_rate, steps=optimizer_steps(context, phase, mixture),
        seed=mixture.seed, warmup=settings.warmup.share or 0.0, warmup_steps=settings.warmup.steps,
        schedule=settings.schedule, decay=settings.decay,
        weight_decay=settings.weight_decay, clip=settings.clip, evaluations=settings.evaluations,
        select=settings.select, precision=context.precision, micro_batch_tokens=context.runtime.micro_batch_tokens,
    )  # fmt: skip


def _commit(attempt_log: AttemptLog, model: MultiTaskModel, dev: DevSets, scratch: Path, lock: ExitStack) -> None:
    """Commits the record of all attempts, with the weights and the curve of the last; a dead end leaves no weights.

    Weights are written while the chain goes on.
    """
    attempts, chosen = attempt_log.log["attempts"], dev.selected(attempt_log.log["dev"])
    record = replace(
        _record(attempt_log, model), dev_score=chosen["value"], majority=dev.chance_level(),
        collapsed=attempts[-1]["collapsed"], selected_step=chosen["step"],
        flops=sum(attempt["flops"] for attempt in attempts), tasks=dev.by_task(chosen["tasks"]),
    )  # fmt: skip
    context = attempt_log.context
    with context.meter.during(STORE):
        context.commits.wait(context.meter)
        record = replace(record, **context.meter.recorded())
        if record.dead_end:
            context.store.commit_phase(record, {})
            return
        encoder = {**handed_over(model.encoder), **(model.rows.tensors if model.rows is not None else {})}
        files = {paths.ENCODER_WEIGHTS: encoder, paths.HEAD_WEIGHTS: handed_over(model.heads)}
    context.commits.begin(record, files, scratch, lock.pop_all(), context.meter)


def _record(attempt_log: AttemptLog, model: MultiTaskModel) -> PhaseRecord:
    """Record of a phase without dev scores, and without the time that it took."""
    phase, log, rows = attempt_log.phase, attempt_log.log, model.rows
    return PhaseRecord(
        key=phase.key, kind=phase.kind, parent=phase.parent, recipe=phase.record(), curve=log["curve"], dev=log["dev"],
        dev_score=None, majority=None, collapsed=False, selected_step=log["steps"], steps=log["steps"],
        tokens=log["tokens"], examples=log["examples"], flops=float(log["flops"]), device_seconds=0.0,
        started=log["began"], ended=time.time(), files={}, attempts=log["attempts"], resumes=log["resumes"],
        rows=None if rows is None else len(rows.ids), decay=1.0 if rows is None else rows.factor,
        **attempt_log.provenance(),
    )  # fmt: skip
