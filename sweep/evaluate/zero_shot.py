"""Zero-shot scores of a chain: its target in every language, as one stream, with the statistics that intervals need."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.evaluate.retention import measure
from sweep.evaluate.zero_shot__scoring_sets import Judged, ScoringSets
from sweep.identity import fingerprint
from sweep.plan.facts import NO_FACTS
from sweep.plan.plan import SCORE_VERSION
from sweep.plan.recipe import TARGET, Chain
from sweep.plan.recipe__reading import read_layers, scoring_settings
from sweep.store import paths
from sweep.store.records import ScoreRecord
from sweep.train.context import LOADING, Bench, model_to_score
from sweep.train.context__meter import encoded_flops
from sweep.train.data import sizes
from sweep.train.score import score
from sweep.xtreme.layout import description
from sweep.xtreme.layout__archive import packed, write_labels


def score_chain(bench: Bench, chain: Chain, keep: bool) -> None:
    """Scores the target in every language that it has, commits the scores, and releases weights without further use.

    Those of the target phase are without, unless they are to be kept.
    """
    started, spent, meter = time.time(), bench.meter.device_seconds, bench.meter
    task = bench.plan.tasks[chain.cell.target]
    last = chain.phases[-1] if chain.phases else None
    meter.enter("score", chain.score)
    meter.beat(LOADING)
    model = model_to_score(bench, task, last)
    meter.beat()
    length = last.recipe.settings.max_length if last is not None and last.recipe.kind == TARGET else None
    settings = scoring_settings(bench.plan.study, task, bench.encoder)
    sets = ScoringSets.read(bench.reader, task, bench.plan.rows, length, settings["examples"])
    meter.beat()
    flops = encoded_flops(bench.encoder.shape, sets.encoded.values(), bench.runtime.score_batch_tokens)
    run = score(
        model, sets.encoded, task.name, batch_tokens=bench.runtime.score_batch_tokens, precision=bench.precision,
        layers=read_layers(settings, bench.encoder), pooling=settings.get("pooling"),
    )  # fmt: skip
    outputs = meter.scored(flops, run, lambda batch: meter.report(batch.tokens, batch.total_tokens))
    judged = list[Judged]()
    while outputs:
        judged.append(sets.judged(outputs.pop(0), meter))  # the vectors of a layer go when they are judged
    first, *others = judged
    del model
    again = measure(bench, chain)
    record = ScoreRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, family=task.family.name,
        metric=task.metric_name, train_language=task.train_language, settings=settings,
        languages=_entries(sets, first), layers=_by_layer(sets, settings, [first, *others]),
        flops=float(flops + again.flops), device_seconds=bench.meter.device_seconds - spent, started=started,
        ended=time.time(), files={}, retention=again.tasks, **bench.made,
        labels=_labels(bench, sets, settings["examples"]),
    )  # fmt: skip
    statistics = {**first.statistics, **again.statistics}
    together = {**sets.units(), **again.units}
    bench.store.commit_score(record, statistics, packed(task, sets.rows, first.predictions), together)
    # Before the last report: a stop may come with it, and a scored chain is never run again.
    keep = keep or bench.runtime.keep_target_weights
    if last is not None and last.recipe.kind == TARGET and not keep:
        _release(bench, chain, last.key)
    facts = sizes(task, "test", sets.by_language) if settings["examples"] is None else NO_FACTS
    meter.report(1, 1, committed=True, facts=facts)


def _release(bench: Bench, chain: Chain, key: str) -> None:
    """Deletes the weights of a target phase, where no other target that is trained alike has to be scored on them."""
    if all(bench.store.score(score) is not None for score in bench.plan.readers(chain)):
        bench.store.release(key)


def _labels(bench: Bench, sets: ScoringSets, examples: int | None) -> str:
    """Key of the label files of these rows; the first chain that is scored on them writes the files."""
    task = sets.task
    known = description(task)
    key = fingerprint([SCORE_VERSION, known, bench.plan.tests[task.name], examples])
    with bench.store.made_once(paths.LABELS, key, bench.meter) as folder:
        if not folder.exists():
            write_labels(folder, task, sets.rows)
    return key


def _entries(sets: ScoringSets, judged: Judged) -> dict[str, dict[str, float]]:
    """Per language its metric, its number of examples, the best constant answer, and the threshold if it has one."""
    return {
        language: {
            "value": sets.tests[language].value(statistics),
            "examples": len(statistics),
            "majority": sets.tests[language].majority(),
            **({"threshold": judged.thresholds[language]} if language in judged.thresholds else {}),
        }
        for language, statistics in judged.statistics.items()
    }


def _by_layer(sets: ScoringSets, settings: Mapping[str, Any], judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    """Layer -> language -> metric, of what was read at layers; the first is the one that counts."""
    return {
        str(layer): {language: sets.tests[language].value(found) for language, found in one.statistics.items()}
        for layer, one in zip(settings.get("layers", ()), judged, strict=False)
    }
