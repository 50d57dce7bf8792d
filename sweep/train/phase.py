"""One phase: trained, judged on dev, checkpointed on the way, committed with its curve and cost.

A task has collapsed where its dev score is within the phase's `collapse_margin` of the best constant answer; where that
leaves little room, because one class is most of dev, within that share of what is left (`is_collapsed`). A phase
has collapsed where every task that judges it has; one that collapsed beside others that did not is marked, and the
phase is passed on. Mixed-in text is there to keep the encoder multilingual, not to be good at: it judges a phase only
where it is alone.

Answers are compared as SQuAD's script does, whatever a target's own script does in its test languages: XTREME chooses
checkpoints so, and targets that are trained on the same data share a phase.

A phase that learned nothing is tried again with another seed, as often as its recipe says; which attempt succeeds is
therefore a function of the phase's key. Attempts differ in random weights, heads, order and dropout; the examples that
a volume has are those of the phase's own seed in all of them, so volumes stay nested.

A trunk segment is the beginning of a run whose schedule is wsd: it stops before the decay and leaves its state, with
the optimizer's, to runs of other lengths that begin with the same steps. Each of them equals itself done alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sweep.data.encoded import Encoded
from sweep.errors import StoreError, StudyError
from sweep.models.encoders import cpu_weights
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
from sweep.train.data import Mixture, Sample, Stream, language_groups, sample, size_facts, training_data
from sweep.train.loop import FitSettings, Progress, State, fit, start
from sweep.train.score import score


def optimizer_steps(context: ChainContext, phase: Phase, mixture: Mixture) -> int:
    """Optimizer steps: as many as the study says, or as the phase's part of the chain's budget pays. Raises StudyError.

    Dev evaluations are no part of a chain's budget: what is compared is training.
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
        found = f"{flops:.3g} FLOPs for the {phase.recipe.kind} phase on {'+'.join(phase.recipe.tasks)}"
        raise StudyError("axes.chain_budget", found, f"at least {math.ceil(cost):.3g}, its first step, is expected")
    return steps


def trunk_end(phase: Phase, settings: FitSettings, mixture: Mixture) -> int:
    """The last step before the decay; of a trunk of volumes, at most the last one that larger volumes begin with."""
    if not phase.trunk or phase.recipe.flops is not None:  # budgets go through the same data, however often
        return settings.decay_start
    return min(settings.decay_start, mixture.shared_steps())


ROOM = 0.1  # above the best constant answer; with less the margin is smaller
SQUAD = "squad"  # a key of sweep.tasks.question_answering.NORMALISERS


class DevSets:
    """The dev sets of a phase, each in its task's own language, English, whatever language it is trained in."""

    def __init__(self, context: ChainContext, phase: Phase, samples: Sequence[Sample]) -> None:
        self._context, self._settings, self._dev = context, phase.recipe.settings, samples
        tokens = context.runtime.score_batch_tokens
        self._flops = [encoded_flops(context.encoder.shape, [one.encoded], tokens) for one in self._dev]
        self._chance_levels = {one.task.name: one.chance_level() for one in self._dev}
        self.latest: dict[str, float] = {}  # task -> dev score of the last evaluation

    @classmethod
    def read(cls, context: ChainContext, tasks: Sequence[Task], phase: Phase) -> DevSets:
        """Encodes what is not encoded yet."""
        judging = [task for task in tasks if not task.family.raw_text] or tasks
        return cls(context, phase, [_sample(context, task, phase) for task in judging])

    def evaluate(self, model: MultiTaskModel, on_batch: Callable[[], None]) -> float:
        """Mean over the tasks of their metrics, 0..1; calls `on_batch` after every batch, what it cost taken down."""
        tokens, precision = self._context.runtime.score_batch_tokens, self._context.precision
        for one, flops in zip(self._dev, self._flops, strict=True):
            name = one.task.name
            scoring = score(model, {"dev": one.encoded}, name, batch_tokens=tokens, precision=precision)
            outputs = self._context.meter.scored(flops, scoring, lambda _: on_batch())
            self.latest[name] = one.value(one.statistics(one.predictions(outputs[0]["dev"])))
        return sum(self.latest.values()) / len(self.latest)

    def selected(self, points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Of the evaluations of an attempt, the one whose weights were kept."""
        best = self._settings.select == "best"
        return max(points, key=lambda point: (point["value"], -point["step"])) if best else points[-1]

    def verdict(self, values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """Per task its dev score, that of the best constant answer, and whether it collapsed."""
        margin = self._settings.collapse_margin
        found = {}
        for name, value in values.items():
            collapsed = is_collapsed(value, self._chance_levels[name], margin)
            found[name] = {"dev": value, "majority": self._chance_levels[name], "collapsed": collapsed}
        return found

    def chance_level(self) -> float:
        """Mean over the tasks of the best constant answers' dev scores."""
        return sum(self._chance_levels.values()) / len(self._chance_levels)


def _sample(context: ChainContext, task: Task, phase: Phase) -> Sample:
    trained = dict(zip(phase.recipe.tasks, phase.recipe.languages, strict=True))[task.name]
    language, settings = judged_in(task, trained), phase.recipe.settings
    digest = context.plan.rows[task.name, "dev", language]
    encoded = context.reader.encoded(task, digest, "dev", language, settings.max_length)
    return sample(encoded, replace(task, normaliser=SQUAD), "dev", language, settings.dev_examples)


def is_collapsed(value: float, constant: float, margin: float) -> bool:
    """Whether a dev score shows nothing beyond the best constant answer, both 0..1.

    The margin is that of a dev set with a tenth of its answers or more left to find, and shrinks with what is left: at
    0.99 a margin of 0.01 is 0.001, which one right answer in a thousand exceeds. Where one answer is always right
    nothing can be told, and at a margin of -1 nothing is.
    """
    room = 1 - constant
    return margin > -1 and room > 0 and value <= constant + margin * min(1.0, room / ROOM)


def has_collapsed(verdict: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether no task of a phase has learned anything."""
    return all(entry["collapsed"] for entry in verdict.values())


def train_phase(context: ChainContext, phase: Phase, pause_at: float | None = None) -> None:
    """Trains a phase from its start or its last checkpoint, and commits it.

    A target phase pauses after the share `pause_at` of its steps where there is one below 1: it leaves a checkpoint and
    reports its dev score.
    """
    rung = pause_at if pause_at is not None and pause_at < TRAINED and phase.kind == TARGET else None
    context.meter.enter(phase.kind, phase.key)
    with context.store.training(phase.key, context.meter) as scratch:
        context.meter.beat()
        if context.store.is_trained(phase.key):
            return
        if phase.trunk:
            _train_trunk(context, phase, scratch)
        else:
            _train(context, phase, scratch, rung)


def _train_trunk(context: ChainContext, phase: Phase, scratch: Path) -> None:
    tasks = [context.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read(context, tasks, phase)
    context.meter.beat(LOADING)
    mixture, model = _mixture(phase, streams, phase.seed), model_to_train(context, tasks, phase, phase.seed)
    context.meter.beat()
    settings = _settings(context, phase, mixture)
    end = trunk_end(phase, settings, mixture)
    state, log = _beginning(context, phase, scratch, end)
    state = state or start(model, mixture, settings)
    if state["values"]["step"] == end:
        write_checkpoint(scratch, state, log)
    attempt_log = AttemptLog(context, phase, log)
    _steps(attempt_log, fit(model, mixture, settings, resume=state, stop=end), {}, scratch, end)
    context.store.commit_phase(_record(attempt_log), {paths.CHECKPOINT: scratch / paths.CHECKPOINT})
    context.meter.report(end, end, committed=True)


def _train(context: ChainContext, phase: Phase, scratch: Path, rung: float | None) -> None:
    tasks = [context.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read(context, tasks, phase)
    dev = DevSets.read(context, tasks, phase)
    context.meter.beat()
    own = _mixture(phase, streams, phase.seed)
    state, log = _beginning(context, phase, scratch, trunk_end(phase, _settings(context, phase, own), own))
    while True:
        seed = attempt_seed(phase.seed, len(log["attempts"]))
        context.meter.beat(LOADING)
        model = model_to_train(context, tasks, phase, seed)
        context.meter.beat()
        attempt_log = AttemptLog(context, phase, log)
        mixture = _mixture(phase, streams, seed)
        settings = _settings(context, phase, mixture)
        end = rung_step(settings.steps, settings.evaluations, rung) if rung and not log["attempts"] else settings.steps
        run = fit(model, mixture, settings, partial(_evaluated, dev, attempt_log, model), state, end)
        _steps(attempt_log, run, dev.latest, scratch, end if end < settings.steps else None)
        if rung and end < settings.steps:
            reached = dev.selected([point for point in log["dev"] if point["step"] <= end])["value"]
            pause = Reached(reached, float(log["flops"]), log["seconds"])
            facts = NO_FACTS.with_reached(phase.key, rung, pause)
            context.meter.report(end, settings.steps, facts=facts)
            return
        chosen = dev.selected(log["dev"])
        collapsed = has_collapsed(dev.verdict(chosen["tasks"]))
        attempt_log.close(seed, chosen["value"], collapsed)
        if not collapsed or len(log["attempts"]) > phase.recipe.settings.retries:
            break
        state, log = None, next_log(log)
        write_checkpoint(scratch, state, log)
    _commit(attempt_log, model, dev, scratch)
    steps, attempt = log["steps"], len(log["attempts"]) - 1
    context.meter.report(steps, steps, committed=True, attempt=attempt, collapsed=collapsed)


def _evaluated(dev: DevSets, attempt_log: AttemptLog, model: MultiTaskModel, progress: Progress) -> float:
    """The dev score of a step, which is reported batch by batch."""
    return dev.evaluate(model, partial(attempt_log.report, progress))


def _beginning(context: ChainContext, phase: Phase, scratch: Path, latest: int) -> tuple[State | None, dict[str, Any]]:
    """State and log of the phase's last checkpoint, else of the trunk where it is not beyond the step `latest`.

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
        context.meter.beat()
    if not log and phase.resumes is not None and context.store.has_weights(phase.resumes):
        trunk, _ = read_checkpoint(context.store.weights(phase.resumes))
        # An example more may make a batch fewer: then the trunk of the smaller volume ends too late.
        if trunk is not None and trunk["values"]["step"] <= latest:
            return trunk, new_log(trunk, phase.resumes)
    return state, log or new_log()


def _steps(
    attempt_log: AttemptLog,
    run: Iterable[Progress],
    by_task: Mapping[str, float],
    scratch: Path,
    end: int | None = None,
) -> None:
    """Goes through a run and keeps a checkpoint now and then, and one of the step `end`."""
    saved = time.time()
    with CheckpointWriter(scratch) as writer:
        for progress in run:
            attempt_log.note(progress, by_task)
            if progress.step == end or time.time() - saved > attempt_log.context.runtime.checkpoint_seconds:
                writer.write(progress.snapshot(), attempt_log.log)
                saved = time.time()
            attempt_log.report(progress)


def _read(context: ChainContext, tasks: Sequence[Task], phase: Phase) -> tuple[Stream, ...]:
    """Encoded train splits, cut to the phase's volume; reports their sizes as facts."""
    settings, streams, facts = phase.recipe.settings, list[Stream](), NO_FACTS
    nested, smoothed = settings.schedule == "wsd", settings.text.temperature > 1
    for task, languages in zip(tasks, phase.recipe.languages, strict=True):
        by_language = dict[str, Encoded]()
        for language in languages:
            digest = context.plan.rows[task.name, "train", language]
            by_language[language] = context.reader.encoded(task, digest, "train", language, settings.max_length)
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


def _settings(context: ChainContext, phase: Phase, mixture: Mixture) -> FitSettings:
    settings = phase.recipe.settings
    return FitSettings(
        learning_rate=phase.learning_rate, steps=optimizer_steps(context, phase, mixture),
        seed=mixture.seed, warmup=settings.warmup.share or 0.0, warmup_steps=settings.warmup.steps,
        schedule=settings.schedule, decay=settings.decay,
        weight_decay=settings.weight_decay, clip=settings.clip, evaluations=settings.evaluations,
        select=settings.select, precision=context.precision, micro_batch_tokens=context.runtime.micro_batch_tokens,
    )  # fmt: skip


def _commit(attempt_log: AttemptLog, model: MultiTaskModel, dev: DevSets, scratch: Path) -> None:
    """The record of all attempts; weights and curve are those of the last, and nobody gets those of a dead end."""
    attempts, chosen = attempt_log.log["attempts"], dev.selected(attempt_log.log["dev"])
    record = replace(
        _record(attempt_log), dev_score=chosen["value"], majority=dev.chance_level(),
        collapsed=attempts[-1]["collapsed"], selected_step=chosen["step"],
        flops=sum(attempt["flops"] for attempt in attempts),
        device_seconds=sum(attempt["device_seconds"] for attempt in attempts), tasks=dev.verdict(chosen["tasks"]),
    )  # fmt: skip
    files = {}
    if not record.dead_end:
        files = {name: scratch / name for name in (paths.ENCODER_WEIGHTS, paths.HEAD_WEIGHTS)}
        save_file(cpu_weights(model.encoder), files[paths.ENCODER_WEIGHTS])
        save_file(cpu_weights(model.heads), files[paths.HEAD_WEIGHTS])
    attempt_log.context.store.commit_phase(record, files)


def _record(attempt_log: AttemptLog) -> PhaseRecord:
    """The record of what has no dev scores."""
    phase, log = attempt_log.phase, attempt_log.log
    return PhaseRecord(
        key=phase.key, kind=phase.kind, parent=phase.parent, recipe=phase.record(), curve=log["curve"], dev=log["dev"],
        dev_score=None, majority=None, collapsed=False, selected_step=log["steps"], steps=log["steps"],
        tokens=log["tokens"], examples=log["examples"], flops=float(log["flops"]), device_seconds=log["seconds"],
        started=log["began"], ended=time.time(), files={}, attempts=log["attempts"], resumes=log["resumes"],
        **attempt_log.provenance(),
    )  # fmt: skip
