"""Zero-shot scores of a chain: its target in every language, with per-example statistics for intervals.

Most families are scored language by language. Two are not: in a ranking task the queries of every language search the
candidates of all of them, and a mining task calibrates its threshold on the dev data of each language first.

Shapes: N examples of a language that are scored, K statistics of an example, which depend on the metric.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.encoded import Encoded, concatenate
from sweep.data.units import Ids
from sweep.evaluate.retention import measure_retention
from sweep.heartbeat import JUDGE, SCORE, STORE, Heartbeat
from sweep.keys import fingerprint
from sweep.plan.facts import NO_FACTS
from sweep.plan.plan import SCORE_VERSION
from sweep.plan.recipe import TARGET, Chain, read_layers, scoring_settings
from sweep.store import paths
from sweep.store.records import ScoreRecord
from sweep.tasks.task import Outputs, Prediction, Task
from sweep.train.context import LOADING, ChainContext, encoded_flops, model_to_score
from sweep.train.data import Reader, Sample, sampled_units, size_facts
from sweep.train.score import score
from sweep.xtreme import EXAMPLES, description, packed, write_labels

POOL = "pool"  # name of the data of all languages together


@dataclass(frozen=True)
class Judgements:
    """Predictions and per-example statistics by language; thresholds where they were calibrated."""

    predictions: dict[str, list[Prediction]]
    statistics: dict[str, NDArray[np.float64]]  # [N, K]
    thresholds: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, NDArray[np.float16]] = field(default_factory=dict)  # [N, C], of families that have them


@dataclass(frozen=True)
class ScoringSets:
    """Data that a target is scored on: test samples by language; also dev samples for a mining task."""

    task: Task
    tests: Mapping[str, Sample]  # of a ranking task also the languages that are only searched
    devs: Mapping[str, Sample]

    @classmethod
    def read(cls, reader: Reader, task: Task, length: int | None, examples: int | None) -> ScoringSets:
        """Samples of at most `examples` per language, of sequences of at most `length` tokens; encoded if need be.

        Raises DataError.
        """
        languages = *task.languages, *task.pool
        tests = {language: reader.sample(task, "test", language, examples, length) for language in languages}
        devs = {language: reader.sample(task, "dev", language, None, length) for language in task.calibrated_in}
        return cls(task, _linked(task, tests) if task.family.pools else tests, devs)

    @cached_property
    def encoded(self) -> dict[str, Encoded]:
        """Data that a model scores, by name: languages, dev data, or the pool."""
        if self.task.family.pools:
            return {POOL: concatenate([test.encoded for test in self.tests.values()])}
        return self.by_language | {f"dev {language}": dev.encoded for language, dev in self.devs.items()}

    @property
    def rows(self) -> dict[str, Sequence[Row]]:
        """Rows of each language that is scored."""
        return {language: self.tests[language].rows for language in self.task.languages}

    @property
    def by_language(self) -> dict[str, Encoded]:
        """Test data of each language, also of those that are only searched."""
        return {language: test.encoded for language, test in self.tests.items()}

    def units(self) -> dict[str, Ids]:
        """Units [N] of the examples that statistics are of, by language that is scored."""
        return sampled_units({language: self.tests[language] for language in self.task.languages})

    def judgements(self, outputs: Mapping[str, Outputs], heartbeat: Heartbeat) -> Judgements:
        """Predictions and statistics of the outputs for `encoded`; beats for every language: a search takes long."""
        with heartbeat.during(SCORE if self.task.family.vectors else JUDGE):  # the device searches among vectors
            predictions, thresholds = self._predictions(outputs, heartbeat)
        with heartbeat.during(JUDGE):
            statistics = {}
            for language in self.task.languages:
                heartbeat.beat(f"judging {language}")
                statistics[language] = self._statistics(language, predictions[language])
            heartbeat.beat()
            shown = {language: predictions[language] for language in self.task.languages}
            return Judgements(shown, statistics, thresholds, dict(self._probabilities(outputs)))

    @property
    def places(self) -> dict[str, Sequence[str]]:
        """Places of `rows`, by which a person finds them."""
        return {language: self.tests[language].places for language in self.task.languages}

    def _probabilities(self, outputs: Mapping[str, Outputs]) -> Iterator[tuple[str, NDArray[np.float16]]]:
        for language in self.task.languages if not self.task.family.vectors else ():
            test = self.tests[language]
            found = self.task.family.probabilities(outputs[language], test.encoded, test.rows, self.task.labels)
            if found is not None:
                yield language, found[test.scored].astype(np.float16)

    def _statistics(self, language: str, predictions: list[Prediction]) -> NDArray[np.float64]:
        """Statistics [N, K] of the rows that are scored: candidates of a search are no examples."""
        test = self.tests[language]
        return test.statistics(predictions)[test.scored]

    def _predictions(
        self, outputs: Mapping[str, Outputs], heartbeat: Heartbeat
    ) -> tuple[dict[str, list[Prediction]], dict[str, float]]:
        if self.task.family.pools:
            heartbeat.beat("ranking all languages")
            return self._ranked(outputs[POOL]), {}
        predictions, thresholds = dict[str, list[Prediction]](), dict[str, float]()
        for language, test in self.tests.items():
            heartbeat.beat(f"predicting {language}")
            predictions[language] = test.predictions(outputs[language])
        for language, dev in self.devs.items():
            heartbeat.beat(f"calibrating {language}")
            thresholds[language] = self.task.family.calibrate(dev.predictions(outputs[f"dev {language}"]), dev.rows)
            predictions[language] = self.task.family.apply_threshold(predictions[language], thresholds[language])
        return predictions, thresholds

    def _ranked(self, outputs: Outputs) -> dict[str, list[Prediction]]:
        """Predictions by language, of outputs for the pool."""
        rows = [row for test in self.tests.values() for row in test.rows]
        predictions = self.task.family.predict(outputs, self.encoded[POOL], rows, self.task.labels)
        ends = np.cumsum([len(test.rows) for test in self.tests.values()]).tolist()
        return {
            language: predictions[end - len(test.rows) : end]
            for (language, test), end in zip(self.tests.items(), ends, strict=True)
        }


def _linked(task: Task, tests: Mapping[str, Sample]) -> dict[str, Sample]:
    """Samples whose queries name their right candidates in all languages."""
    rows = iter(task.family.pool([row for test in tests.values() for row in test.rows]))
    return {language: replace(test, rows=[next(rows) for _ in test.rows]) for language, test in tests.items()}


def score_chain(context: ChainContext, chain: Chain, keep: bool) -> None:
    """Scores a chain's target in all its languages and commits the scores; releases weights without further use.

    The weights of the target phase are such, unless `keep` or the study's runtime keeps them. Raises SweepError where
    data, encoder or store are at fault.
    """
    started, meter = time.time(), context.meter
    task = context.plan.tasks[chain.cell.target]
    last = chain.phases[-1] if chain.phases else None
    meter.enter("score", chain.score)
    length = last.recipe.settings.max_length if last is not None and last.recipe.kind == TARGET else None
    settings = scoring_settings(context.plan.study, task, context.encoder)
    sets = ScoringSets.read(context.reader, task, length, settings["examples"])
    meter.beat(LOADING)
    model = model_to_score(context, task, last, sets.encoded.values())
    meter.beat()
    flops = encoded_flops(context.encoder.shape, sets.encoded.values(), context.runtime.score_batch_tokens)
    run = score(
        model, sets.encoded, task.name, batch_tokens=context.runtime.score_batch_tokens, precision=context.precision,
        layers=read_layers(settings, context.encoder), pooling=settings.get("pooling"),
    )  # fmt: skip
    outputs = meter.scored(flops, run, lambda batch: meter.report(batch.tokens, batch.total_tokens))
    by_layer = list[Judgements]()
    while outputs:
        by_layer.append(sets.judgements(outputs.pop(0), meter))  # frees a layer's vectors before the next one's search
    scored = by_layer[0]
    del model
    retention = measure_retention(context, chain)
    with meter.during(JUDGE):
        languages, layers = _entries(sets, scored), _by_layer(sets, settings, by_layer)
        units = {**sets.units(), **retention.units}
    record = ScoreRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, family=task.family.name,
        metric=task.metric_name, train_language=task.train_language, settings=settings,
        languages=languages, layers=layers,
        flops=float(flops + retention.flops), device_seconds=0.0, started=started,
        ended=time.time(), files={}, retention=retention.tasks, **context.provenance,
        labels=_labels(context, sets, settings["examples"]),
    )  # fmt: skip
    statistics = {**scored.statistics, **retention.statistics}
    with meter.during(STORE):
        context.commits.wait(meter)
        predictions = packed(task, sets.rows, scored.predictions)
        context.store.commit_score(record, statistics, predictions, units, scored.probabilities, meter.recorded)
    # Before the last report: a stop may come with it, and a scored chain is never run again.
    keep = keep or context.runtime.keep_target_weights
    if last is not None and last.recipe.kind == TARGET and not keep:
        _release(context, chain, last.key)
    facts = size_facts(task, "test", sets.by_language) if settings["examples"] is None else NO_FACTS
    meter.report(1, 1, committed=True, facts=facts)


def _release(context: ChainContext, chain: Chain, key: str) -> None:
    """Deletes the weights of a target phase, once every target that shares them is scored."""
    if all(context.store.score(score) is not None for score in context.plan.readers(chain)):
        context.release(key)


def _labels(context: ChainContext, sets: ScoringSets, examples: int | None) -> str:
    """Key of the label files of these rows; the first chain that is scored on them writes the files."""
    task = sets.task
    key = fingerprint([SCORE_VERSION, description(task), context.plan.tests[task.name], examples, EXAMPLES])
    with context.store.made_once(paths.LABELS, key, context.meter) as folder:
        if not folder.exists():
            with context.meter.during(STORE):
                write_labels(folder, task, sets.rows, sets.places)
    return key


def _entries(sets: ScoringSets, judged: Judgements) -> dict[str, dict[str, float]]:
    """By language its metric, number of examples, chance level (`majority`), and threshold if it has one."""
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
    """Metric by layer and language, of tasks that are read at layers; the first layer is the one that counts."""
    return {
        str(layer): {language: sets.tests[language].value(rows) for language, rows in judgements.statistics.items()}
        for layer, judgements in zip(settings.get("layers", ()), judged, strict=False)
    }
