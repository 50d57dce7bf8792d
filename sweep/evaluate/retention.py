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
from sweep.models.model import Chainable
from sweep.plan.cost import probe_examples
from sweep.plan.recipe import INTERMEDIATE, Chain, Phase
from sweep.tasks.task import Task
from sweep.train.context import LOADING, Bench, encoded_flops, model_with_heads
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


def measure(bench: Bench, chain: Chain) -> Retention:
    """Retention of a chain's intermediate tasks; nothing where the study does not ask for it."""
    found, names = Retention(), bench.plan.retained(chain.cell)
    if not names:
        return found
    phase, last = [one for one in chain.phases if one.recipe.kind == INTERMEDIATE][-1], chain.phases[-1]
    tasks, samples = [bench.plan.tasks[name] for name in names], list[Sample]()
    for task in tasks:
        samples.append(_held_out(bench, task, phase))
        found.units[units_name(task.name)] = sampled_units({"": samples[-1]})[""]
    bench.meter.beat(LOADING)
    before = model_with_heads(bench, tasks, phase, phase)
    bench.meter.beat()
    _score(bench, found, before, samples, BEFORE)
    del before
    bench.meter.beat(LOADING)
    after = model_with_heads(bench, tasks, last, phase)
    bench.meter.beat()
    _score(bench, found, after, samples, SAVED_HEAD)
    linear = [one for one in samples if one.task.family.probe]
    for one in linear:
        _fit(bench, found, after, one.task, phase)
        bench.meter.beat()
    _score(bench, found, after, linear, FRESH_HEAD)
    return found


def _score(bench: Bench, found: Retention, model: Chainable, samples: Sequence[Sample], head: str) -> None:
    for one in samples:
        name, flops = one.task.name, _flops(bench, one.encoded)
        tokens, precision = bench.runtime.score_batch_tokens, bench.precision
        scoring = score(model, {"": one.encoded}, name, batch_tokens=tokens, precision=precision)
        outputs = bench.meter.scored(flops, scoring, lambda _: bench.meter.report(0, 0))
        statistics = one.statistics(one.predictions(outputs[0][""]))
        found.statistics[statistics_name(name, head)] = statistics
        found.tasks.setdefault(name, _facts(one))[head] = one.value(statistics)
        found.flops += flops


def _facts(one: Sample) -> dict[str, Any]:
    split, language = one.task.held_out
    return {
        "family": one.task.family.name, "metric": one.task.metric_name, "split": split, "language": language,
        "examples": len(one.rows), "majority": one.majority(), FRESH_HEAD: None,
    }  # fmt: skip


def _held_out(bench: Bench, task: Task, phase: Phase) -> Sample:
    split, language = task.held_out
    plan, length = bench.plan, phase.recipe.settings.max_length
    digest = plan.rows[task.name, split, language]
    encoded = bench.reader.encoded(task, digest, split, language, length)
    return sample(encoded, task, split, language, plan.study.scoring.examples)


def _fit(bench: Bench, found: Retention, model: Chainable, task: Task, phase: Phase) -> None:
    """On train examples that depend on no chain: a volume of the phase does not cut them."""
    _, language = task.held_out
    digest = bench.plan.rows[task.name, "train", language]
    whole = bench.reader.encoded(task, digest, "train", language, phase.recipe.settings.max_length)
    examples = probe_examples(task, Size(whole.examples, len(whole.tokens) / max(whole.examples, 1)))
    chosen = training_data({language: whole}, examples, SAMPLE_SEED)
    bench.meter.beat(f"fitting a head for {task.name}")
    fit_head(model, task.name, chosen, batch_tokens=bench.runtime.score_batch_tokens, precision=bench.precision)
    bench.meter.flops += _flops(bench, chosen)
    found.flops += _flops(bench, chosen)


def _flops(bench: Bench, encoded: Encoded) -> float:
    return encoded_flops(bench.encoder.shape, [encoded], bench.runtime.score_batch_tokens)
