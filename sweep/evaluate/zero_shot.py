"""Zero-shot scores of a chain: its target in every language, with per-example statistics for intervals.

Most families are judged language by language. Two are not: in a ranking task the queries of every language search the
candidates of all of them, and a mining task calibrates its threshold on the dev data of each language first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.encoded import Encoded, concatenate
from sweep.data.units import Ids
from sweep.evaluate.retention import measure_retention
from sweep.heartbeat import Heartbeat
from sweep.identity import fingerprint
from sweep.plan.facts import NO_FACTS
from sweep.plan.plan import SCORE_VERSION, Rows
from sweep.plan.recipe import TARGET, Chain, read_layers, scoring_settings
from sweep.store import paths
from sweep.store.records import ScoreRecord
from sweep.tasks.task import Outputs, Prediction, Task
from sweep.train.context import LOADING, ChainContext, encoded_flops, model_to_score
from sweep.train.data import Reader, Sample, sample, sampled_units, size_facts
from sweep.train.score import score
from sweep.xtreme import description, packed, write_labels

POOL = "pool"


@dataclass(frozen=True)
class Judgements:
    """Predictions and per-example statistics by language; thresholds where they were calibrated."""

    predictions: dict[str, list[Prediction]]
    statistics: dict[str, NDArray[np.float64]]
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoringSets:
    """Test rows by language; dev rows of the same languages for a mining task."""

    task: Task
    tests: Mapping[str, Sample]  # of a ranking task also the languages that are only searched
    devs: Mapping[str, Sample]

    @classmethod
    def read(cls, reader: Reader, task: Task, rows: Rows, length: int | None, examples: int | None) -> ScoringSets:
        """Encodes what is not encoded yet. Raises DataError."""

        def read(split: str, language: str, limit: int | None) -> Sample:
            encoded = reader.encoded(task, rows[task.name, split, language], split, language, length)
            return sample(encoded, task, split, language, limit)

        tests = {language: read("test", language, examples) for language in (*task.languages, *task.pool)}
        devs = {language: read("dev", language, None) for language in task.calibrated_in}
        return cls(task, _linked(task, tests) if task.family.pools else tests, devs)

    @cached_property
    def encoded(self) -> dict[str, Encoded]:
        """What is to be scored, by name."""
        if self.task.family.pools:
            return {POOL: concatenate([one.encoded for one in self.tests.values()])}
        return self.by_language | {f"dev {language}": one.encoded for language, one in self.devs.items()}

    @property
    def rows(self) -> dict[str, list[Row]]:
        """The rows of each language that is scored."""
        return {language: self.tests[language].rows for language in self.task.languages}

    @property
    def by_language(self) -> dict[str, Encoded]:
        """The test data of each language."""
        return {language: one.encoded for language, one in self.tests.items()}

    def units(self) -> dict[str, Ids]:
        """[N] units of the examples that statistics are of, per language that is scored."""
        return sampled_units({language: self.tests[language] for language in self.task.languages})

    def judged(self, outputs: Mapping[str, Outputs], heartbeat: Heartbeat) -> Judgements:
        """From the outputs for `encoded`; a language is a unit of work: searching half a million vectors takes long."""
        predictions, thresholds = self._predictions(outputs, heartbeat)
        statistics = {}
        for language in self.task.languages:
            heartbeat.beat(f"judging {language}")
            statistics[language] = self._statistics(language, predictions[language])
        heartbeat.beat()
        return Judgements({language: predictions[language] for language in self.task.languages}, statistics, thresholds)

    def _statistics(self, language: str, predictions: list[Prediction]) -> NDArray[np.float64]:
        """[N, K] of the rows that ask something: what is only searched is no example."""
        one = self.tests[language]
        return one.statistics(predictions)[one.asking(one.rows)]

    def _predictions(
        self, outputs: Mapping[str, Outputs], heartbeat: Heartbeat
    ) -> tuple[dict[str, list[Prediction]], dict[str, float]]:
        if self.task.family.pools:
            heartbeat.beat("ranking all languages")
            return self._ranked(outputs[POOL]), {}
        predictions, thresholds = dict[str, list[Prediction]](), dict[str, float]()
        for language, one in self.tests.items():
            heartbeat.beat(f"predicting {language}")
            predictions[language] = one.predictions(outputs[language])
        for language, one in self.devs.items():
            heartbeat.beat(f"calibrating {language}")
            thresholds[language] = self.task.family.calibrate(one.predictions(outputs[f"dev {language}"]), one.rows)
            predictions[language] = self.task.family.apply_threshold(predictions[language], thresholds[language])
        return predictions, thresholds

    def _ranked(self, outputs: Outputs) -> dict[str, list[Prediction]]:
        rows = [row for one in self.tests.values() for row in one.rows]
        found = self.task.family.predict(outputs, self.encoded[POOL], rows, self.task.labels)
        ends = np.cumsum([len(one.rows) for one in self.tests.values()]).tolist()
        return {
            language: found[end - len(one.rows) : end]
            for (language, one), end in zip(self.tests.items(), ends, strict=True)
        }


def _linked(task: Task, tests: Mapping[str, Sample]) -> dict[str, Sample]:
    """The same samples, every query with its right candidates in all languages."""
    rows = iter(task.family.pool([row for one in tests.values() for row in one.rows]))
    return {language: replace(one, rows=[next(rows) for _ in one.rows]) for language, one in tests.items()}


def score_chain(context: ChainContext, chain: Chain, keep: bool) -> None:
    """Scores the target in every language that it has, commits the scores, and releases weights without further use.

    Those of the target phase are without, unless they are to be kept.
    """
    started, spent, meter = time.time(), context.meter.device_seconds, context.meter
    task = context.plan.tasks[chain.cell.target]
    last = chain.phases[-1] if chain.phases else None
    meter.enter("score", chain.score)
    meter.beat(LOADING)
    model = model_to_score(context, task, last)
    meter.beat()
    length = last.recipe.settings.max_length if last is not None and last.recipe.kind == TARGET else None
    settings = scoring_settings(context.plan.study, task, context.encoder)
    sets = ScoringSets.read(context.reader, task, context.plan.rows, length, settings["examples"])
    meter.beat()
    flops = encoded_flops(context.encoder.shape, sets.encoded.values(), context.runtime.score_batch_tokens)
    run = score(
        model, sets.encoded, task.name, batch_tokens=context.runtime.score_batch_tokens, precision=context.precision,
        layers=read_layers(settings, context.encoder), pooling=settings.get("pooling"),
    )  # fmt: skip
    outputs = meter.scored(flops, run, lambda batch: meter.report(batch.tokens, batch.total_tokens))
    judged = list[Judgements]()
    while outputs:
        judged.append(sets.judged(outputs.pop(0), meter))  # the vectors of a layer go when they are judged
    first, *others = judged
    del model
    again = measure_retention(context, chain)
    record = ScoreRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, family=task.family.name,
        metric=task.metric_name, train_language=task.train_language, settings=settings,
        languages=_entries(sets, first), layers=_by_layer(sets, settings, [first, *others]),
        flops=float(flops + again.flops), device_seconds=context.meter.device_seconds - spent, started=started,
        ended=time.time(), files={}, retention=again.tasks, **context.provenance,
        labels=_labels(context, sets, settings["examples"]),
    )  # fmt: skip
    statistics = {**first.statistics, **again.statistics}
    together = {**sets.units(), **again.units}
    context.store.commit_score(record, statistics, packed(task, sets.rows, first.predictions), together)
    # Before the last report: a stop may come with it, and a scored chain is never run again.
    keep = keep or context.runtime.keep_target_weights
    if last is not None and last.recipe.kind == TARGET and not keep:
        _release(context, chain, last.key)
    facts = size_facts(task, "test", sets.by_language) if settings["examples"] is None else NO_FACTS
    meter.report(1, 1, committed=True, facts=facts)


def _release(context: ChainContext, chain: Chain, key: str) -> None:
    """Deletes the weights of a target phase, where no other target that is trained alike has to be scored on them."""
    if all(context.store.score(score) is not None for score in context.plan.readers(chain)):
        context.store.release(key)


def _labels(context: ChainContext, sets: ScoringSets, examples: int | None) -> str:
    """Key of the label files of these rows; the first chain that is scored on them writes the files."""
    task = sets.task
    known = description(task)
    key = fingerprint([SCORE_VERSION, known, context.plan.tests[task.name], examples])
    with context.store.made_once(paths.LABELS, key, context.meter) as folder:
        if not folder.exists():
            write_labels(folder, task, sets.rows)
    return key


def _entries(sets: ScoringSets, judged: Judgements) -> dict[str, dict[str, float]]:
    """Per language its metric, its number of examples, the best constant answer, and the threshold if it has one."""
    return {
        language: {
            "value": sets.tests[language].value(statistics),
            "examples": len(statistics),
            "majority": sets.tests[language].chance_level(),
            **({"threshold": judged.thresholds[language]} if language in judged.thresholds else {}),
        }
        for language, statistics in judged.statistics.items()
    }


def _by_layer(
    sets: ScoringSets, settings: Mapping[str, Any], judged: Sequence[Judgements]
) -> dict[str, dict[str, float]]:
    """Layer -> language -> metric, of what was read at layers; the first is the one that counts."""
    return {
        str(layer): {language: sets.tests[language].value(found) for language, found in one.statistics.items()}
        for layer, one in zip(settings.get("layers", ()), judged, strict=False)
    }
