"""Zero-shot scores of a chain: its target in every language, as one stream, with the statistics that intervals need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.bench import Bench, model_to_score
from sweep.data import sizes
from sweep.meter import Event, encoded_flops
from sweep.plan import TARGET, Chain
from sweep.scoring import score
from sweep.store import ScoreRecord
from sweep.tasks import FAMILIES
from sweep.tasks.base import Encoded, Task

Statistics = Mapping[str, NDArray[np.float64]]


def score_chain(bench: Bench, chain: Chain) -> Iterator[Event]:
    """Scores the target in every language that it has, and commits the scores."""
    started, spent = time.time(), bench.meter.device_seconds
    task = bench.plan.tasks[chain.cell.target]
    last = chain.phases[-1] if chain.phases else None
    model = model_to_score(bench, task, last)
    length = last.recipe.settings.max_length if last is not None and last.recipe.kind == TARGET else None
    encoded = {
        language: bench.reader.encoded(task, bench.plan.data[task.name], "test", language, length)
        for language in task.languages
    }
    retrieval = bench.plan.study.retrieval
    outputs: Mapping[str, list[NDArray[Any]]] = {}
    for progress in score(
        model, encoded, task.name, batch_tokens=bench.runtime.score_batch_tokens, precision=bench.precision,
        layer=retrieval.layer, pooling=retrieval.pooling,
    ):  # fmt: skip
        outputs = progress.outputs or outputs
        yield bench.meter.event("score", chain.score, progress.tokens, progress.total_tokens)
    statistics, languages = _judged(task, outputs, encoded)
    flops = sum(encoded_flops(bench.encoder.shape, part) for part in encoded.values())
    bench.meter.flops += flops
    record = ScoreRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, family=task.family,
        metric=FAMILIES[task.family].metric, train_language=task.train_language,
        settings=retrieval.model_dump() if task.family == "embedding" else {}, languages=languages,
        flops=float(flops), device_seconds=bench.meter.device_seconds - spent, started=started, ended=time.time(),
        files={},
    )  # fmt: skip
    bench.store.commit_score(record, statistics)
    yield bench.meter.event("score", chain.score, 1, 1, committed=True, facts=sizes(task, "test", encoded))


def _judged(
    task: Task, outputs: Mapping[str, list[NDArray[Any]]], encoded: Mapping[str, Encoded]
) -> tuple[Statistics, dict[str, dict[str, float]]]:
    """Per-example statistics and, per language, the metric, the number of examples and the best constant answer."""
    family = FAMILIES[task.family]
    statistics, languages = {}, {}
    for language, part in encoded.items():
        rows = task.source.rows("test", language)
        found = family.statistics(outputs[language], part, rows, task.labels)
        statistics[language] = found
        languages[language] = {
            "value": float(family.value(found.sum(axis=0))),
            "examples": len(found),
            "majority": family.majority(rows, task.labels),
        }
    return statistics, languages
