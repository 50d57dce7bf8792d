"""One phase: train it, checkpoint it on the way, commit it to the store with its curve and its cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sweep.chain.bench import ENCODER_WEIGHTS, HEAD_WEIGHTS, Bench, model_to_train
from sweep.chain.checkpoint import read_checkpoint, write_checkpoint
from sweep.chain.meter import Event, encoded_flops
from sweep.data import Sample, sample, sizes, training_data
from sweep.planning.budget import TRAINING, forward_flops, masked_head_flops
from sweep.planning.plan import Phase
from sweep.store import PhaseRecord
from sweep.tasks.base import Task
from sweep.training.encoders import cpu_weights
from sweep.training.mixture import Mixture, Stream
from sweep.training.model import Chainable
from sweep.training.schedule import FitSettings
from sweep.training.scoring import score_all
from sweep.training.train import Progress, fit

CURVE_POINTS = 200
COLLAPSE_MARGIN = 0.01  # a dev score within one point of the best constant answer has learned nothing


def train_phase(bench: Bench, phase: Phase) -> Iterator[Event]:
    """Trains a phase from its start or its last checkpoint, and commits it."""
    with bench.store.training(phase.key) as scratch:
        if not bench.store.has_weights(phase.key):
            yield from _train(bench, phase, scratch)


def _train(bench: Bench, phase: Phase, scratch: Path) -> Iterator[Event]:
    tasks = [bench.plan.tasks[name] for name in phase.recipe.tasks]
    model = model_to_train(bench, tasks, phase)
    mixture, facts = _mixture(bench, tasks, phase)
    yield bench.meter.event(phase.recipe.kind, phase.key, 0, 0, facts=facts)
    dev = _dev_sets(bench, tasks, phase)
    state, log = read_checkpoint(scratch)
    book = Logbook(bench, phase, log)
    saved = time.time()
    for progress in fit(model, mixture, _settings(bench, phase, mixture), _evaluator(bench, model, dev), state):
        book.note(progress)
        if time.time() - saved > bench.runtime.checkpoint_seconds:
            write_checkpoint(scratch, progress.snapshot(), book.log)
            saved = time.time()
        yield book.event(progress)
    _commit(bench, phase, model, dev, book.log, scratch)
    yield bench.meter.event(phase.recipe.kind, phase.key, book.log["steps"], book.log["steps"], committed=True)


class Logbook:
    """Curve, dev scores and cost of a phase. Part of its checkpoint, so that a resumed phase has one history."""

    def __init__(self, bench: Bench, phase: Phase, log: dict[str, Any]) -> None:
        empty: dict[str, Any] = {"curve": [], "dev": [], "flops": 0, "seconds": 0.0, "padded": 0, "attended": 0}
        self.log = log or {"started": time.time(), **empty}
        self._bench, self._phase = bench, phase
        self._flops_before = self.log["flops"] - bench.meter.flops
        self._seconds_before = self.log["seconds"] - bench.meter.device_seconds
        self._masked = {name for name in phase.recipe.tasks if bench.plan.tasks[name].family == "masked"}

    def note(self, progress: Progress) -> None:
        """Keeps what the step cost and, every so often, its loss."""
        log, meter = self.log, self._bench.meter
        meter.flops += self._step_flops(progress)
        log.update(
            padded=progress.padded_tokens, attended=progress.attended_tokens, tokens=progress.tokens,
            examples=progress.examples, steps=progress.step, selected=progress.best_step or progress.step,
            flops=self._flops_before + meter.flops, seconds=self._seconds_before + meter.device_seconds,
        )  # fmt: skip
        now = time.time()
        if progress.step % max(1, progress.steps // CURVE_POINTS) == 0 or progress.step == progress.steps:
            point = {"step": progress.step, "loss": progress.loss_value(), "tokens": progress.tokens, "time": now}
            log["curve"].append(point)
        if progress.dev is not None:
            log["dev"].append({"step": progress.step, "value": progress.dev, "time": now})

    def event(self, progress: Progress) -> Event:
        loss = self.log["curve"][-1]["loss"] if self.log["curve"] else None
        step, steps = progress.step, progress.steps
        return self._bench.meter.event(
            self._phase.recipe.kind, self._phase.key, step, steps, loss=loss, dev=progress.dev
        )

    def _step_flops(self, progress: Progress) -> float:
        shape = self._bench.encoder.shape
        fed = progress.padded_tokens - self.log["padded"]
        flops = forward_flops(shape, fed, progress.attended_tokens - self.log["attended"], 1)
        return TRAINING * (flops + (masked_head_flops(shape, fed) if progress.task in self._masked else 0))


def _mixture(bench: Bench, tasks: Sequence[Task], phase: Phase) -> tuple[Mixture, dict[str, str]]:
    settings, streams, facts = phase.recipe.settings, [], {}
    nested = settings.schedule == "wsd"
    for task in tasks:
        digest = bench.plan.data[task.name]
        by_language = {
            language: bench.reader.encoded(task, digest, "train", language, settings.max_length)
            for language in task.trained_in
        }
        facts.update(sizes(task, "train", by_language))
        chosen = training_data(by_language, phase.recipe.examples, phase.seed, nested)
        streams.append(Stream(task.name, chosen, settings.sampling.cap))
    sampling = settings.sampling
    mixed = (sampling.by, sampling.temperature, nested)
    return Mixture(tuple(streams), settings.batch_tokens, phase.seed, *mixed), facts


def _dev_sets(bench: Bench, tasks: Sequence[Task], phase: Phase) -> list[Sample]:
    # Mixed-in text is there to keep the encoder multilingual, not to be good at: it selects only where it is alone.
    chosen = [task for task in tasks if task.family != "masked"] or tasks
    settings, samples = phase.recipe.settings, []
    for task in chosen:
        language = task.trained_in[0]
        encoded = bench.reader.encoded(task, bench.plan.data[task.name], "dev", language, settings.max_length)
        samples.append(sample(encoded, task, "dev", language, settings.dev_examples))
    return samples


def _evaluator(bench: Bench, model: Chainable, dev: Sequence[Sample]) -> Callable[[], float]:
    tokens, precision = bench.runtime.score_batch_tokens, bench.precision
    flops = encoded_flops(bench.encoder.shape, (one.encoded for one in dev), tokens)

    def evaluate() -> float:
        values = []
        for one in dev:
            outputs = score_all(model, {"dev": one.encoded}, one.task.name, batch_tokens=tokens, precision=precision)
            values.append(one.value(one.statistics(one.predictions(outputs["dev"]))))
        bench.meter.flops += flops
        return sum(values) / len(values)

    return evaluate


def _settings(bench: Bench, phase: Phase, mixture: Mixture) -> FitSettings:
    settings = phase.recipe.settings
    return FitSettings(
        learning_rate=phase.learning_rate, steps=settings.steps or mixture.steps_for(settings.epochs or 0),
        seed=phase.seed, warmup=settings.warmup.share or 0.0, warmup_steps=settings.warmup.steps,
        schedule=settings.schedule, decay=settings.decay,
        weight_decay=settings.weight_decay, clip=settings.clip, evaluations=settings.evaluations,
        select=settings.select, precision=bench.precision, micro_batch_tokens=bench.runtime.micro_batch_tokens,
    )  # fmt: skip


def _commit(
    bench: Bench, phase: Phase, model: Chainable, dev: Sequence[Sample], log: dict[str, Any], scratch: Path
) -> None:
    files = {ENCODER_WEIGHTS: scratch / ENCODER_WEIGHTS, HEAD_WEIGHTS: scratch / HEAD_WEIGHTS}
    save_file(cpu_weights(model.encoder), files[ENCODER_WEIGHTS])
    save_file(cpu_weights(model.heads), files[HEAD_WEIGHTS])
    values = [point["value"] for point in log["dev"]]
    reached = max(values) if phase.recipe.settings.select == "best" else values[-1]
    majority = sum(one.majority() for one in dev) / len(dev)
    record = PhaseRecord(
        key=phase.key, kind=phase.recipe.kind, parent=phase.parent, recipe=phase.record(), curve=log["curve"],
        dev=log["dev"], dev_score=reached, majority=majority, collapsed=reached <= majority + COLLAPSE_MARGIN,
        selected_step=log["selected"], steps=log["steps"], tokens=log["tokens"], examples=log["examples"],
        flops=float(log["flops"]), device_seconds=log["seconds"], started=log["started"], ended=time.time(),
        versions=_versions(), files={},
    )  # fmt: skip
    bench.store.commit_phase(record, files)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "numpy")}
