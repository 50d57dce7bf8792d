"""Retention: how well the intermediate tasks are still done after the target phase.

Three scores per task: `before`, right after the intermediate phase; `saved_head`, the head of that phase on the target
phase's encoder; `fresh_head`, a linear head fitted anew on that encoder, frozen (evaluate/linear_probe.py). The first
gap says what head and encoder have lost of each other, the second what the encoder has lost. Masked tasks and those
that are answered by vectors have no linear head, and no fresh one. Retention is after divided by before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Size
from sweep.data.encoded import Encoded
from sweep.evaluate.linear_probe import fit_head
from sweep.models.model import MultiTaskModel
from sweep.plan.cost import probe_examples
from sweep.plan.recipe import INTERMEDIATE, Chain, Phase
from sweep.tasks.task import Task
from sweep.train.context import LOADING, ChainContext, encoded_flops, model_with_heads
from sweep.train.data import SAMPLE_SEED, Sample, sample, sampled_units, training_data
from sweep.train.score import score

BEFORE, SAVED_HEAD, FRESH_HEAD = "before", "saved_head", "fresh_head"


@dataclass
class Retention:
    """Scores per task, per-example statistics by `statistics_name`, and FLOPs."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    units: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # by `units_name`
    flops: float = 0


def statistics_name(task: str, head: str) -> str:
    """Under which a task's statistics lie beside those of the languages."""
    return f"retention/{task}/{head}"


def units_name(task: str) -> str:
    """Under which the units of a task's held-out examples lie beside those of the languages."""
    return f"retention/{task}"


def measure_retention(context: ChainContext, chain: Chain) -> Retention:
    """Retention of a chain's intermediate tasks; nothing where the study does not ask for it."""
    found, names = Retention(), context.plan.retained(chain.cell)
    if not names:
        return found
    phase, last = [one for one in chain.phases if one.recipe.kind == INTERMEDIATE][-1], chain.phases[-1]
    tasks, samples = [context.plan.tasks[name] for name in names], list[Sample]()
    for task in tasks:
        samples.append(_held_out(context, task, phase))
        found.units[units_name(task.name)] = sampled_units({"": samples[-1]})[""]
    context.meter.beat(LOADING)
    before = model_with_heads(context, tasks, phase, phase)
    context.meter.beat()
    _score(context, found, before, samples, BEFORE)
    del before
    context.meter.beat(LOADING)
    after = model_with_heads(context, tasks, last, phase)
    context.meter.beat()
    _score(context, found, after, samples, SAVED_HEAD)
    linear = [one for one in samples if one.task.family.probe]
    for one in linear:
        _fit(context, found, after, one.task, phase)
        context.meter.beat()
    _score(context, found, after, linear, FRESH_HEAD)
    return found


def _score(
    context: ChainContext, found: Retention, model: MultiTaskModel, samples: Sequence[Sample], head: str
) -> None:
    for one in samples:
        name, flops = one.task.name, _flops(context, one.encoded)
        tokens, precision = context.runtime.score_batch_tokens, context.precision
        scoring = score(model, {"": one.encoded}, name, batch_tokens=tokens, precision=precision)
        outputs = context.meter.scored(flops, scoring, lambda _: context.meter.report(0, 0))
        statistics = one.statistics(one.predictions(outputs[0][""]))
        found.statistics[statistics_name(name, head)] = statistics
        found.tasks.setdefault(name, _facts(one))[head] = one.value(statistics)
        found.flops += flops


def _facts(one: Sample) -> dict[str, Any]:
    split, language = one.task.held_out
    return {
        "family": one.task.family.name, "metric": one.task.metric_name, "split": split, "language": language,
        "examples": len(one.rows), "majority": one.chance_level(), FRESH_HEAD: None,
    }  # fmt: skip


def _held_out(context: ChainContext, task: Task, phase: Phase) -> Sample:
    split, language = task.held_out
    plan, length = context.plan, phase.recipe.settings.max_length
    digest = plan.rows[task.name, split, language]
    encoded = context.reader.encoded(task, digest, split, language, length)
    return sample(encoded, task, split, language, plan.study.scoring.examples)


def _fit(context: ChainContext, found: Retention, model: MultiTaskModel, task: Task, phase: Phase) -> None:
    """On train examples that depend on no chain: a volume of the phase does not cut them."""
    _, language = task.held_out
    digest = context.plan.rows[task.name, "train", language]
    whole = context.reader.encoded(task, digest, "train", language, phase.recipe.settings.max_length)
    examples = probe_examples(task, Size(whole.examples, len(whole.tokens) / max(whole.examples, 1)))
    chosen = training_data({language: whole}, examples, SAMPLE_SEED)
    context.meter.beat(f"fitting a head for {task.name}")
    fit_head(model, task.name, chosen, batch_tokens=context.runtime.score_batch_tokens, precision=context.precision)
    context.meter.flops += _flops(context, chosen)
    found.flops += _flops(context, chosen)


def _flops(context: ChainContext, encoded: Encoded) -> float:
    return encoded_flops(context.encoder.shape, [encoded], context.runtime.score_batch_tokens)
