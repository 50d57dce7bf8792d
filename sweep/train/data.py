"""Encoded data of a study: made once per (data, tokenizer, length), memory-mapped, cut to a volume.

A volume is nested: for one seed, the first thousand examples are among the first ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row, Size
from sweep.data.encoded import ENCODING_VERSION, Encoded, concatenate, encode, open_encoded
from sweep.data.units import Ids, Marks, marks, units
from sweep.heartbeat import UNHEARD, Heartbeat
from sweep.identity import fingerprint
from sweep.plan.facts import NO_FACTS, Facts
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.tasks.task import Outputs, Prediction, Task

SAMPLE_SEED = 0  # which dev or test examples are taken depends on no chain: all are compared on the same ones


@dataclass(frozen=True)
class Reader:
    """Encodes tasks with one tokenizer."""

    store: Store
    tokenizer: Any  # a fast Hugging Face tokenizer
    longest: int  # tokens that the encoder can take
    heartbeat: Heartbeat = UNHEARD

    def encoded(self, task: Task, digest: str, split: str, language: str, max_length: int | None = None) -> Encoded:
        """One split in one language, mapped from the store; whoever comes first encodes it. Raises DataError."""
        family = task.family
        length = min(max_length or family.default_max_length, self.longest)
        key = fingerprint([ENCODING_VERSION, digest, family.name, split, language, length, self._tokenizer_digest])
        with self.store.made_once(paths.DATA, f"{key}.arrow", self.heartbeat) as path:
            if not path.exists():
                self.heartbeat.beat(f"encoding {task.name} ({split}, {language})")
                encode(family, task.source.rows(split, language), self.tokenizer, length, path, self.heartbeat)
        self.heartbeat.beat(f"reading {task.name} ({split}, {language})")
        return open_encoded(path)

    @cached_property
    def _tokenizer_digest(self) -> str:
        return fingerprint(self.tokenizer.backend_tokenizer.to_str())


def training_data(by_language: Mapping[str, Encoded], examples: int | None, seed: int, nested: bool = False) -> Encoded:
    """The train splits of all languages in one, cut to `examples`.

    `nested` leaves them in the order in which they were drawn, so that a volume begins with each smaller one.
    """
    parts = list(by_language.values())
    whole = parts[0] if len(parts) == 1 else concatenate(parts)
    if nested:
        return subset(whole, _drawn(whole.examples, seed)[:examples])
    if examples is None or examples >= whole.examples:
        return whole
    return subset(whole, np.sort(_drawn(whole.examples, seed)[:examples]))


def divided(
    by_language: Mapping[str, Encoded], examples: int | None, apart: bool
) -> Iterator[tuple[Mapping[str, Encoded], int | None]]:
    """(train splits, examples to cut them to): all languages joined, or each `apart` with its share of the examples."""
    total = sum(part.examples for part in by_language.values())
    if not apart:
        yield by_language, examples
        return
    for language, part in by_language.items():
        yield {language: part}, None if examples is None else max(round(examples * part.examples / total), 1)


@dataclass(frozen=True)
class Sample:
    """Rows of one split in one language together with their encoding."""

    task: Task
    language: str
    rows: list[Row]
    encoded: Encoded
    whole: list[Row]  # of the split; `rows` are some of them, or all
    chosen: NDArray[np.int64] | None = None  # which of them; None: all

    @cached_property
    def marks(self) -> Marks:
        """Which examples of the whole split belong together: a unit is one whichever examples of it were drawn."""
        return marks(self.task.family, [row for row in self.whole if self.task.family.asks(row)])

    def asking(self, rows: Sequence[Row]) -> NDArray[np.bool_]:
        """[N] which rows ask something and are scored."""
        return np.array([self.task.family.asks(row) for row in rows], dtype=np.bool_)

    def among(self, numbers: Ids) -> Ids:
        """Those of the sample's examples, in their order, of one number per example of the whole split."""
        asks = self.asking(self.whole)
        taken = np.ones_like(asks)
        if self.chosen is not None:
            taken = np.isin(np.arange(len(asks)), self.chosen)
        return numbers[taken[asks]]

    def predictions(self, outputs: Outputs) -> list[Prediction]:
        """What a model's outputs say of each row."""
        return self.task.family.predict(outputs, self.encoded, self.rows, self.task.labels)

    def statistics(self, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
        """[N, K] per-example statistics of the task's metric."""
        return self.task.measure.judge(predictions, self.rows, self.task, self.language)

    def value(self, statistics: NDArray[np.float64]) -> float:
        """The task's metric, 0..1."""
        return float(self.task.measure.value(statistics.sum(axis=0)))

    def majority(self) -> float:
        """The metric of the best constant answer, 0..1."""
        return self.task.family.majority(self.rows, self.encoded, self.task, self.language)


def sample(encoded: Encoded, task: Task, split: str, language: str, limit: int | None) -> Sample:
    """At most `limit` examples of an encoded split with their rows, the same ones for every chain."""
    rows = whole = task.source.rows(split, language)
    chosen = _chosen(task, rows, limit)
    if chosen is not None:
        rows, encoded = [rows[index] for index in chosen], subset(encoded, chosen)
    return Sample(task, language, list(task.family.pool(rows)), encoded, whole, chosen)


def sampled_units(samples: Mapping[str, Sample]) -> dict[str, Ids]:
    """[N] units of the examples that are scored, per language: equal numbers belong together, across languages too."""
    found = units({language: one.marks for language, one in samples.items()})
    return {language: one.among(found[language]) for language, one in samples.items()}


def _chosen(task: Task, rows: Sequence[Row], limit: int | None) -> NDArray[np.int64] | None:
    """The rows of a sample, or None where it is all of them. What is searched is never left out."""
    if limit is None:
        return None
    searched = np.array([not task.family.may_be_left_out(row) for row in rows], dtype=np.bool_)
    others = np.flatnonzero(~searched)
    if limit >= len(others):
        return None
    return np.sort(np.concatenate([np.flatnonzero(searched), others[_drawn(len(others), SAMPLE_SEED)[:limit]]]))


def subset(encoded: Encoded, examples: NDArray[np.int64]) -> Encoded:
    """The given examples, in the order given, as arrays of their own."""
    bounds = encoded.example_bounds()
    counts = np.diff(bounds)[examples]
    sequences = _ranges(bounds[examples], counts)
    lengths = encoded.lengths()[sequences]
    flat = _ranges(encoded.bounds[sequences], lengths)
    target_lengths = np.diff(encoded.target_bounds)[sequences]
    return Encoded(
        tokens=encoded.tokens[flat],
        bounds=_bounds(lengths),
        example=np.repeat(np.arange(len(examples), dtype=np.int32), counts),
        targets=encoded.targets[_ranges(encoded.target_bounds[sequences], target_lengths)],
        target_bounds=_bounds(target_lengths),
        segments=None if encoded.segments is None else encoded.segments[flat],
        offsets=None if encoded.offsets is None else encoded.offsets[flat],
    )


def sizes(task: Task, split: str, parts: Mapping[str, Encoded]) -> Facts:
    """Facts for the ledger: what was really loaded, where a plan had estimates."""
    found = NO_FACTS
    for language, part in parts.items():
        tokens, sequences = (len(of) / max(part.examples, 1) for of in (part.tokens, part.example))
        found = found.with_size(task.name, split, language, Size(part.examples, tokens, sequences))
    return found


def _drawn(count: int, seed: int) -> NDArray[np.int64]:
    """A seeded order of 0..count-1."""
    return np.random.Generator(np.random.PCG64([seed, count])).permutation(count).astype(np.int64)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """starts[0], starts[0]+1, ... lengths[0] of them, then those of starts[1], and so on."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    ranges: NDArray[np.int64] = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return ranges


def _bounds(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
