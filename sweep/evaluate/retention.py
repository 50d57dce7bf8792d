"""Retention of the intermediate tasks: their scores before and after the target phase.

Three scores per task: `before`, right after the intermediate phase; `saved_head`, the head of that phase on the target
phase's encoder; `fresh_head`, a linear head fitted anew on that encoder, frozen (evaluate/linear_probe.py). From
`before` to `saved_head` encoder and head have drifted apart; from `before` to `fresh_head` the encoder has forgotten.
Masked and retrieval tasks have no linear head, and no fresh one. Retention is after divided by before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Size
from sweep.data.encoded import Encoded
from sweep.data.units import Ids
from sweep.evaluate.linear_probe import fit_head
from sweep.heartbeat import JUDGE, SCORE
from sweep.models.model import MultiTaskModel
from sweep.plan.cost import probe_examples
from sweep.plan.recipe import INTERMEDIATE, Chain, Phase
from sweep.tasks.task import Task
from sweep.train.context import LOADING, ChainContext, encoded_flops, model_with_heads
from sweep.train.data import SAMPLE_SEED, Sample, sampled_units, training_data
from sweep.train.score import score

BEFORE, SAVED_HEAD, FRESH_HEAD = "before", "saved_head", "fresh_head"


@dataclass
class Retention:
    """Retention of a chain: fields of its record by task, statistics [N, K] of held-out examples, and FLOPs."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # by `statistics_name`
    units: dict[str, Ids] = field(default_factory=dict)  # [N] by `units_name`
    flops: float = 0


def statistics_name(task: str, head: str) -> str:
    """Name of a task's statistics beside those of the languages; `head` is one of the three scores."""
    return f"retention/{task}/{head}"


def units_name(task: str) -> str:
    """Name of the units of a task's held-out examples beside those of the languages."""
    return f"retention/{task}"


def measure_retention(context: ChainContext, chain: Chain) -> Retention:
    """Retention of a chain's intermediate tasks; empty where the study does not ask for it.

    Raises SweepError where data, encoder or store are at fault.
    """
    retention, names = Retention(), context.plan.retained(chain.cell)
    if not names:
        return retention
    phase, last = [phase for phase in chain.phases if phase.recipe.kind == INTERMEDIATE][-1], chain.phases[-1]
    tasks, samples = [context.plan.tasks[name] for name in names], list[Sample]()
    for task in tasks:
        samples.append(_held_out(context, task, phase))
        retention.units[units_name(task.name)] = sampled_units({"": samples[-1]})[""]
    texts = [held_out.encoded for held_out in samples]
    context.meter.beat(LOADING)
    before = model_with_heads(context, tasks, phase, phase, texts)
    context.meter.beat()
    _score(context, retention, before, samples, BEFORE)
    del before
    linear = [held_out for held_out in samples if held_out.task.family.probe]
    trains = [_probe_data(context, held_out.task, phase) for held_out in linear]
    context.meter.beat(LOADING)
    after = model_with_heads(context, tasks, last, phase, [*texts, *trains])
    context.meter.beat()
    _score(context, retention, after, samples, SAVED_HEAD)
    for held_out, train in zip(linear, trains, strict=True):
        _fit(context, retention, after, held_out.task, train)
        context.meter.beat()
    _score(context, retention, after, linear, FRESH_HEAD)
    return retention


def _score(
    context: ChainContext, retention: Retention, model: MultiTaskModel, samples: Sequence[Sample], head: str
) -> None:
    """Adds the scores, statistics and FLOPs of one model on the held-out samples; `head` is one of the three scores."""
    for held_out in samples:
        name, flops = held_out.task.name, _flops(context, held_out.encoded)
        tokens, precision = context.runtime.score_batch_tokens, context.precision
        scoring = score(model, {"": held_out.encoded}, name, batch_tokens=tokens, precision=precision)
        outputs = context.meter.scored(flops, scoring, lambda _: context.meter.report(0, 0))
        with context.meter.during(JUDGE):
            statistics = held_out.statistics(held_out.predictions(outputs[0][""]))
            retention.statistics[statistics_name(name, head)] = statistics
            retention.tasks.setdefault(name, _facts(held_out))[head] = held_out.value(statistics)
        retention.flops += flops


def _facts(held_out: Sample) -> dict[str, Any]:
    """Fields of a task in the record, scores left out."""
    split, language = held_out.task.held_out
    return {
        "family": held_out.task.family.name, "metric": held_out.task.metric_name, "split": split, "language": language,
        "examples": len(held_out.rows), "majority": held_out.chance_level(), FRESH_HEAD: None,
    }  # fmt: skip


def _held_out(context: ChainContext, task: Task, phase: Phase) -> Sample:
    limit, length = context.plan.study.scoring.examples, phase.recipe.settings.max_length
    return context.reader.sample(task, *task.held_out, limit, length)


def _probe_data(context: ChainContext, task: Task, phase: Phase) -> Encoded:
    """Train examples of a fresh head, which depend on no chain: a volume of the phase does not cut them."""
    _, language = task.held_out
    whole = context.reader.encoded(task, "train", language, phase.recipe.settings.max_length)
    examples = probe_examples(task, Size(whole.examples, len(whole.tokens) / max(whole.examples, 1)))
    return training_data({language: whole}, examples, SAMPLE_SEED)


def _fit(context: ChainContext, retention: Retention, model: MultiTaskModel, task: Task, train: Encoded) -> None:
    """Fits a fresh head, and adds the FLOPs of it."""
    context.meter.beat(f"fitting a head for {task.name}")
    tokens, precision = context.runtime.score_batch_tokens, context.precision
    with context.meter.during(SCORE):
        fit_head(model, task.name, train, batch_tokens=tokens, precision=precision)
    context.meter.flops += _flops(context, train)
    retention.flops += _flops(context, train)


def _flops(context: ChainContext, encoded: Encoded) -> float:
    return encoded_flops(context.encoder.shape, [encoded], context.runtime.score_batch_tokens)
