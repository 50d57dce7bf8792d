"""Zero-shot scores of a chain: its target in every language, as one stream, with the statistics that intervals need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from sweep.chain.bench import Bench, model_to_score
from sweep.chain.meter import Event, encoded_flops
from sweep.chain.retention import measure
from sweep.data import Sample, sample, sizes
from sweep.fingerprint import fingerprint
from sweep.official.archive import packed, write_labels
from sweep.official.layout import description
from sweep.planning.plan import TARGET, Chain, scoring_settings
from sweep.store import ScoreRecord
from sweep.tasks import FAMILIES
from sweep.tasks.base import Outputs, Task
from sweep.training.scoring import score


def score_chain(bench: Bench, chain: Chain) -> Iterator[Event]:
    """Scores the target in every language that it has, commits the scores, and releases weights without further use."""
    started, spent = time.time(), bench.meter.device_seconds
    task = bench.plan.tasks[chain.cell.target]
    last = chain.phases[-1] if chain.phases else None
    model = model_to_score(bench, task, last)
    length = last.recipe.settings.max_length if last is not None and last.recipe.kind == TARGET else None
    settings, digest = scoring_settings(bench.plan.study, task), bench.plan.tests[task.name]
    samples = {}
    for language in task.languages:
        part = bench.reader.encoded(task, digest, "test", language, length)
        samples[language] = sample(part, task, "test", language, settings["examples"])
    encoded = {language: one.encoded for language, one in samples.items()}
    scoring = bench.plan.study.scoring
    outputs: Mapping[str, Outputs] = {}
    for progress in score(
        model, encoded, task.name, batch_tokens=bench.runtime.score_batch_tokens, precision=bench.precision,
        layers=(scoring.layer,), pooling=scoring.pooling,
    ):  # fmt: skip
        outputs = progress.outputs[0] if progress.outputs else outputs
        yield bench.meter.event("score", chain.score, progress.tokens, progress.total_tokens)
    predictions = {language: one.predictions(outputs[language]) for language, one in samples.items()}
    statistics = {language: one.statistics(predictions[language]) for language, one in samples.items()}
    flops = encoded_flops(bench.encoder.shape, encoded.values(), bench.runtime.score_batch_tokens)
    bench.meter.flops += flops
    del model
    again = yield from measure(bench, chain)
    record = ScoreRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, family=task.family,
        metric=FAMILIES[task.family].metric, train_language=task.train_language, settings=settings,
        languages={language: _judged(one, statistics[language]) for language, one in samples.items()},
        flops=float(flops + again.flops), device_seconds=bench.meter.device_seconds - spent, started=started,
        ended=time.time(), files={}, retention=again.tasks, labels=_labels(bench, samples, task, settings["examples"]),
    )  # fmt: skip
    rows = {language: one.rows for language, one in samples.items()}
    bench.store.commit_score(record, {**statistics, **again.statistics}, packed(task, rows, predictions))
    # Before the last report: a stop may come with it, and a scored chain is never run again.
    if last is not None and last.recipe.kind == TARGET and not bench.runtime.keep_target_weights:
        bench.store.release(last.key)
    facts = sizes(task, "test", encoded) if settings["examples"] is None else {}
    yield bench.meter.event("score", chain.score, 1, 1, committed=True, facts=facts)


def _labels(bench: Bench, samples: Mapping[str, Sample], task: Task, examples: int | None) -> str:
    """Key of the label files of these samples; the first chain that is scored on them writes the files."""
    known = description(task.family, task.labels, task.normaliser)
    key = fingerprint([known, bench.plan.tests[task.name], examples])
    with bench.store.made_once("labels", key) as folder:
        if not folder.exists():
            write_labels(folder, task, {language: one.rows for language, one in samples.items()})
    return key


def _judged(one: Sample, statistics: NDArray[np.float64]) -> dict[str, float]:
    """The metric of a language, its number of examples, and the best constant answer."""
    return {"value": one.value(statistics), "examples": len(statistics), "majority": one.majority()}
