"""One phase: train it, checkpoint it on the way, commit it to the store with its curve and its cost.

A phase that learned nothing is tried again with another seed, as often as its recipe says; which attempt succeeds is
therefore a function of the phase's key. Attempts differ in random weights, heads, order and dropout; the examples that
a volume has are those of the phase's own seed in all of them, so volumes stay nested.

A trunk segment is the beginning of a run whose schedule is wsd: it stops before the decay and leaves its state, with
the optimizer's, to runs of other lengths that begin with the same steps. Each of them equals itself done alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sweep.data.encoded__base_encoded import Encoded
from sweep.errors import StoreError
from sweep.models.encoders import cpu_weights
from sweep.models.model import Chainable
from sweep.plan.facts import NO_FACTS, Reached
from sweep.plan.halving import TRAINED, rung_step
from sweep.plan.recipe import TARGET, Phase, attempt_seed
from sweep.store import paths
from sweep.store.records import PhaseRecord
from sweep.tasks.task import Task
from sweep.train.checkpoint import CheckpointWriter, read_checkpoint, write_checkpoint
from sweep.train.checkpoint__logbook import Logbook, new_log, next_log
from sweep.train.context import LOADING, Bench, model_to_train
from sweep.train.data import divided, sizes, training_data
from sweep.train.loop import Progress, State, fit, start
from sweep.train.loop__schedule import FitSettings
from sweep.train.mixture import Mixture, Stream
from sweep.train.phase__dev import DevSets, has_collapsed
from sweep.train.phase__length import steps_of, trunk_end


def train_phase(bench: Bench, phase: Phase, until: float | None = None) -> None:
    """Trains a phase from its start or its last checkpoint, and commits it.

    A target phase pauses after the share `until` of its steps where there is one below 1: it leaves a checkpoint, and
    says what its dev score is.
    """
    rung = until if until is not None and until < TRAINED and phase.kind == TARGET else None
    bench.meter.enter(phase.kind, phase.key)
    with bench.store.training(phase.key, bench.meter) as scratch:
        bench.meter.beat()
        if bench.store.is_trained(phase.key):
            return
        if phase.trunk:
            _train_trunk(bench, phase, scratch)
        else:
            _train(bench, phase, scratch, rung)


def _train_trunk(bench: Bench, phase: Phase, scratch: Path) -> None:
    tasks = [bench.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read(bench, tasks, phase)
    bench.meter.beat(LOADING)
    mixture, model = _mixture(phase, streams, phase.seed), model_to_train(bench, tasks, phase, phase.seed)
    bench.meter.beat()
    settings = _settings(bench, phase, mixture)
    end = trunk_end(phase, settings, mixture)
    state, log = _beginning(bench, phase, scratch, end)
    state = state or start(model, mixture, settings)
    if state["values"]["step"] == end:
        write_checkpoint(scratch, state, log)
    book = Logbook(bench, phase, log)
    _steps(book, fit(model, mixture, settings, resume=state, stop=end), {}, scratch, end)
    bench.store.commit_phase(_record(book), {paths.CHECKPOINT: scratch / paths.CHECKPOINT})
    bench.meter.report(end, end, committed=True)


def _train(bench: Bench, phase: Phase, scratch: Path, rung: float | None) -> None:
    tasks = [bench.plan.tasks[name] for name in phase.recipe.tasks]
    streams = _read(bench, tasks, phase)
    dev = DevSets.read(bench, tasks, phase)
    bench.meter.beat()
    own = _mixture(phase, streams, phase.seed)
    state, log = _beginning(bench, phase, scratch, trunk_end(phase, _settings(bench, phase, own), own))
    while True:
        seed = attempt_seed(phase.seed, len(log["attempts"]))
        bench.meter.beat(LOADING)
        model = model_to_train(bench, tasks, phase, seed)
        bench.meter.beat()
        book = Logbook(bench, phase, log)
        mixture = _mixture(phase, streams, seed)
        settings = _settings(bench, phase, mixture)
        end = rung_step(settings.steps, settings.evaluations, rung) if rung and not log["attempts"] else settings.steps
        run = fit(model, mixture, settings, partial(_evaluated, dev, book, model), state, end)
        _steps(book, run, dev.latest, scratch, end if end < settings.steps else None)
        if rung and end < settings.steps:
            reached = dev.selected([point for point in log["dev"] if point["step"] <= end])["value"]
            pause = Reached(reached, float(log["flops"]), log["seconds"])
            facts = NO_FACTS.with_reached(phase.key, rung, pause)
            bench.meter.report(end, settings.steps, facts=facts)
            return
        chosen = dev.selected(log["dev"])
        collapsed = has_collapsed(dev.verdict(chosen["tasks"]))
        book.close(seed, chosen["value"], collapsed)
        if not collapsed or len(log["attempts"]) > phase.recipe.settings.retries:
            break
        state, log = None, next_log(log)
        write_checkpoint(scratch, state, log)
    _commit(book, model, dev, scratch)
    steps, attempt = log["steps"], len(log["attempts"]) - 1
    bench.meter.report(steps, steps, committed=True, attempt=attempt, collapsed=collapsed)


def _evaluated(dev: DevSets, book: Logbook, model: Chainable, progress: Progress) -> float:
    """The dev score of a step, which is reported batch by batch."""
    return dev.evaluate(model, partial(book.report, progress))


def _beginning(bench: Bench, phase: Phase, scratch: Path, latest: int) -> tuple[State | None, dict[str, Any]]:
    """State and log of the phase's last checkpoint, else of the trunk where it is not beyond the step `latest`.

    A checkpoint that cannot be read is deleted.
    """
    try:
        state, log = read_checkpoint(scratch)
    except StoreError as damage:
        (scratch / paths.CHECKPOINT).unlink()
        state, log = None, {}
        said = f"begins its {phase.kind} phase anew: {damage.where}, {damage.found}"
        bench.meter.report(0, 0, preparing=True, said=said)
    else:
        bench.meter.beat()
    if not log and phase.resumes is not None and bench.store.has_weights(phase.resumes):
        trunk, _ = read_checkpoint(bench.store.weights(phase.resumes))
        # An example more may make a batch fewer: then the trunk of the smaller volume ends too late.
        if trunk is not None and trunk["values"]["step"] <= latest:
            return trunk, new_log(trunk, phase.resumes)
    return state, log or new_log()


def _steps(
    book: Logbook, run: Iterable[Progress], by_task: Mapping[str, float], scratch: Path, end: int | None = None
) -> None:
    """Goes through a run and keeps a checkpoint now and then, and one of the step `end`."""
    saved = time.time()
    with CheckpointWriter(scratch) as writer:
        for progress in run:
            book.note(progress, by_task)
            if progress.step == end or time.time() - saved > book.bench.runtime.checkpoint_seconds:
                writer.write(progress.snapshot(), book.log)
                saved = time.time()
            book.report(progress)


def _read(bench: Bench, tasks: Sequence[Task], phase: Phase) -> tuple[Stream, ...]:
    """Encoded train splits, cut to the phase's volume; reports their sizes as facts."""
    settings, streams, facts = phase.recipe.settings, list[Stream](), NO_FACTS
    nested, smoothed = settings.schedule == "wsd", settings.text.temperature > 1
    for task, languages in zip(tasks, phase.recipe.languages, strict=True):
        by_language = dict[str, Encoded]()
        for language in languages:
            digest = bench.plan.rows[task.name, "train", language]
            by_language[language] = bench.reader.encoded(task, digest, "train", language, settings.max_length)
        facts |= sizes(task, "train", by_language)
        for parts, examples in divided(by_language, phase.recipe.examples, smoothed and task.family.raw_text):
            streams.append(Stream(task.name, training_data(parts, examples, phase.seed, nested)))
            bench.meter.beat()
    bench.meter.report(0, 0, facts=facts, preparing=True)
    return tuple(streams)


def _mixture(phase: Phase, streams: tuple[Stream, ...], seed: int) -> Mixture:
    settings = phase.recipe.settings
    nested, smoothing = settings.schedule == "wsd", settings.text.temperature
    return Mixture(streams, settings.batch_tokens, seed, settings.sampling, smoothing, nested)


def _settings(bench: Bench, phase: Phase, mixture: Mixture) -> FitSettings:
    settings = phase.recipe.settings
    return FitSettings(
        learning_rate=phase.learning_rate, steps=steps_of(bench, phase, mixture),
        seed=mixture.seed, warmup=settings.warmup.share or 0.0, warmup_steps=settings.warmup.steps,
        schedule=settings.schedule, decay=settings.decay,
        weight_decay=settings.weight_decay, clip=settings.clip, evaluations=settings.evaluations,
        select=settings.select, precision=bench.precision, micro_batch_tokens=bench.runtime.micro_batch_tokens,
    )  # fmt: skip


def _commit(book: Logbook, model: Chainable, dev: DevSets, scratch: Path) -> None:
    """The record of all attempts; weights and curve are those of the last, and nobody gets those of a dead end."""
    attempts, chosen = book.log["attempts"], dev.selected(book.log["dev"])
    record = replace(
        _record(book), dev_score=chosen["value"], majority=dev.majority(), collapsed=attempts[-1]["collapsed"],
        selected_step=chosen["step"], flops=sum(attempt["flops"] for attempt in attempts),
        device_seconds=sum(attempt["device_seconds"] for attempt in attempts), tasks=dev.verdict(chosen["tasks"]),
    )  # fmt: skip
    files = {}
    if not record.dead_end:
        files = {name: scratch / name for name in (paths.ENCODER_WEIGHTS, paths.HEAD_WEIGHTS)}
        save_file(cpu_weights(model.encoder), files[paths.ENCODER_WEIGHTS])
        save_file(cpu_weights(model.heads), files[paths.HEAD_WEIGHTS])
    book.bench.store.commit_phase(record, files)


def _record(book: Logbook) -> PhaseRecord:
    """The record of what has no dev scores."""
    phase, log = book.phase, book.log
    return PhaseRecord(
        key=phase.key, kind=phase.kind, parent=phase.parent, recipe=phase.record(), curve=log["curve"], dev=log["dev"],
        dev_score=None, majority=None, collapsed=False, selected_step=log["steps"], steps=log["steps"],
        tokens=log["tokens"], examples=log["examples"], flops=float(log["flops"]), device_seconds=log["seconds"],
        started=log["began"], ended=time.time(), files={}, attempts=log["attempts"], resumes=log["resumes"],
        **book.made(),
    )  # fmt: skip
