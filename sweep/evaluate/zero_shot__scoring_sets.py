"""What a target is scored on: the rows of all its languages, and how outputs become predictions and statistics.

Most families are judged language by language. Two are not: in a ranking task the queries of every language search the
candidates of all of them, and a mining task calibrates its threshold on the dev data of each language first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sweep.data.encoded import concatenate
from sweep.data.encoded__base_encoded import Encoded
from sweep.data.source import Row
from sweep.data.units import Ids
from sweep.heartbeat import Heartbeat
from sweep.plan.plan import Rows
from sweep.tasks.task import Outputs, Prediction, Task
from sweep.train.data import Reader, Sample, sample, sampled_units

POOL = "pool"


@dataclass(frozen=True)
class Judged:
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

    def judged(self, outputs: Mapping[str, Outputs], heartbeat: Heartbeat) -> Judged:
        """From the outputs for `encoded`; a language is a unit of work: searching half a million vectors takes long."""
        predictions, thresholds = self._predictions(outputs, heartbeat)
        statistics = {}
        for language in self.task.languages:
            heartbeat.beat(f"judging {language}")
            statistics[language] = self._statistics(language, predictions[language])
        heartbeat.beat()
        return Judged({language: predictions[language] for language in self.task.languages}, statistics, thresholds)

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
            predictions[language] = self.task.family.above(predictions[language], thresholds[language])
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
