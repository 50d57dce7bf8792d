"""Data of a phase: encoded once per (data, tokenizer, length), cut to a volume, sampled, and mixed step by step.

A volume is nested: for one seed, the first thousand examples are among the first ten thousand. Which task a step trains
is sampled by size, evenly, by temperature, or by a given ratio; the order is a pure function of (streams, settings,
seed), and that of a short run is the beginning of a longer one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.config.phases import Sampling
from sweep.data import Row, Size
from sweep.data.columns import PartedSource
from sweep.data.encoded import ENCODING_VERSION, Encoded, concatenate, encode, open_encoded
from sweep.data.rows import Split, located, open_rows, together, write_rows
from sweep.data.units import Ids, Marks, marks_of, units
from sweep.errors import DataError
from sweep.heartbeat import ENCODE, NO_LISTENER, Heartbeat
from sweep.keys import fingerprint
from sweep.models.batches import epoch_batches, nested_pools, shapes
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Rows
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.tasks.task import Outputs, Prediction, Task

SAMPLE_SEED = 0  # which dev or test examples are taken depends on no chain: all are compared on the same ones


@dataclass(frozen=True)
class Reader:
    """Data of tasks in a study's store: rows, and their encoding for one tokenizer.

    What is missing is made by the first worker that needs it; whoever comes later opens no file of the data.
    """

    store: Store
    digests: Rows  # of a plan
    tokenizer: Any  # a fast Hugging Face tokenizer
    longest: int  # tokens that the encoder can take
    heartbeat: Heartbeat = NO_LISTENER

    def encoded(self, task: Task, split: str, language: str, max_length: int | None = None) -> Encoded:
        """Encoding of one split in one language, memory-mapped; sequences have at most `max_length` tokens.

        Raises DataError.
        """
        family, digest = task.family, self.digests[task.name, split, language]
        length = min(max_length or family.default_max_length, self.longest)
        key = fingerprint([ENCODING_VERSION, digest, family.name, split, language, length, self._tokenizer_digest])
        with self.store.made_once(paths.DATA, f"{key}.arrow", self.heartbeat) as path:
            if not path.exists():
                rows = self._rows_to_encode(task, split, language)
                self.heartbeat.beat(f"encoding {task.name} ({split}, {language})")
                with self.heartbeat.during(ENCODE):
                    encode(family, rows, self.tokenizer, length, path, self.heartbeat)
        self.heartbeat.beat(f"reading {task.name} ({split}, {language})")
        return open_encoded(path)

    def rows(self, task: Task, split: str, language: str) -> Split:
        """Rows of one split in one language, memory-mapped. Raises DataError."""
        beside = together(task.source, split, language)
        digests = {name: self.digests[at] for name in beside if (at := (task.name, split, name)) in self.digests}
        units = task.source.units(split, language) if isinstance(task.source, PartedSource) else None
        key = fingerprint([ENCODING_VERSION, split, *digests.items(), units])
        with self.store.made_once(paths.DATA, f"rows-{key}.arrow", self.heartbeat) as path:
            if not path.exists():
                self.heartbeat.beat(f"parsing {task.name} ({split}, {', '.join(digests)})")
                write_rows(self._unchanged(task, split, [*digests]), [*digests], path, self.heartbeat)
        return open_rows(path, language)

    def sample(self, task: Task, split: str, language: str, limit: int | None, max_length: int | None = None) -> Sample:
        """Sample of at most `limit` examples of a split, the same ones for every chain. Raises DataError."""
        return sample(
            self.encoded(task, split, language, max_length), self.rows(task, split, language), task, language, limit
        )

    def _rows_to_encode(self, task: Task, split: str, language: str) -> Sequence[Row]:
        """Rows of a split; those of train, which nothing but an encoding needs, are not kept."""
        if split != "train":
            return self.rows(task, split, language).rows
        return [row for _, _, row in self._unchanged(task, split, [language])]

    def _unchanged(self, task: Task, split: str, languages: Sequence[str]) -> Iterator[tuple[str, str, Row]]:
        """Rows as `located` has them. Raises DataError where they are none that the study was planned with."""
        yield from located(task.source, split, languages)
        for language in languages:
            if task.digest(split, language) != self.digests[task.name, split, language]:
                found, expected = "data that has changed since the study started", "restore it or run the study anew"
                raise DataError(f"{task.name} ({split}, {language})", found, expected)

    @cached_property
    def _tokenizer_digest(self) -> str:
        return fingerprint(self.tokenizer.backend_tokenizer.to_str())


def training_data(by_language: Mapping[str, Encoded], examples: int | None, seed: int, nested: bool = False) -> Encoded:
    """Train splits of all languages in one, cut to `examples` drawn from `seed`.

    `nested` leaves them in the order in which they were drawn, so that a volume begins with each smaller one.
    """
    parts = list(by_language.values())
    whole = parts[0] if len(parts) == 1 else concatenate(parts)
    if nested:
        return subset(whole, _drawn(whole.examples, seed)[:examples])
    if examples is None or examples >= whole.examples:
        return whole
    return subset(whole, np.sort(_drawn(whole.examples, seed)[:examples]))


def language_groups(
    by_language: Mapping[str, Encoded], examples: int | None, apart: bool
) -> Iterator[tuple[Mapping[str, Encoded], int | None]]:
    """Train splits with the number of examples to cut them to: all languages, or each `apart` with its share."""
    total = sum(part.examples for part in by_language.values())
    if not apart:
        yield by_language, examples
        return
    for language, part in by_language.items():
        yield {language: part}, None if examples is None else max(round(examples * part.examples / total), 1)


BLOCK = 32  # steps within which every stream gets its share, give or take one step
PROPORTIONAL = Sampling()


@dataclass(frozen=True)
class Stream:
    """Training data of one task, or of one language of a task."""

    task: str
    encoded: Encoded


@dataclass(frozen=True)
class Mixture:
    """Streams of a phase and how a step samples among them; a single task is a mixture of one.

    Sizes are in steps, not examples, because a step is a batch of tokens: proportional sampling passes over every task
    equally often.
    """

    streams: tuple[Stream, ...]
    batch_tokens: int  # padded tokens per batch at most
    seed: int
    sampling: Sampling = PROPORTIONAL
    smoothing: float = 1.0  # temperature among the streams of one task
    nested: bool = False  # streams are in random order, and a smaller volume of one is the beginning of a larger one

    def epoch_steps(self) -> NDArray[np.float64]:
        """Steps [streams] of one pass over each stream: its batches, times min(cap, examples of the task) / examples.

        Beyond the cap a task gets no more steps; its data is not cut.
        """
        steps = []
        for index, stream in enumerate(self.streams):
            batches = len(self._epoch(index, 0))
            examples = sum(each.encoded.examples for each in self.streams if each.task == stream.task)
            share = 1.0 if self.sampling.cap is None else min(self.sampling.cap / examples, 1.0)
            steps.append(max(batches * share, 1.0))
        return np.array(steps)

    def steps_for(self, epochs: float) -> int:
        """Number of optimizer steps of so many epochs, as `sampling` counts them; at least 1."""
        return max(round(epochs * self.sampling.one_pass(self._task_steps(self.epoch_steps()))), 1)

    def shared_steps(self) -> int:
        """Number of first steps that the run over any larger volume of the same data shares; 0 where none surely is.

        With several streams, how often each is drawn depends on the sizes of all.
        """
        if not self.nested or len(self.streams) > 1:
            return 0
        pools = nested_pools(self.streams[0].encoded, self.batch_tokens, self._stream_seed(0), 0)
        return sum(len(pool) for pool in pools[:-1])

    def weights(self) -> NDArray[np.float64]:
        """Probability [streams] that a step trains each stream: its task's share, divided among the task's streams.

        Tasks: a fixed ratio, or p ~ steps ** (1 / temperature); proportional is temperature 1, uniform is temperature
        infinity (Raffel et al. 2020, section 3.5.2). Streams of a task: the same with `smoothing`.
        """
        steps = self.epoch_steps()
        shares = self.sampling.shares(self._task_steps(steps))
        smoothed = steps ** (1 / self.smoothing)
        totals = self._task_steps(smoothed)
        return np.array(
            [
                shares[stream.task] * size / totals[stream.task]
                for stream, size in zip(self.streams, smoothed, strict=True)
            ]
        )

    def schedule(self, steps: int) -> Ids:
        """Stream [steps] of each step; schedule(n) is the beginning of schedule(m) for n < m.

        Draws are stratified in blocks of BLOCK steps, so that also a short run keeps the shares.
        """
        if len(self.streams) == 1:
            return np.zeros(steps, dtype=np.int64)
        random = np.random.default_rng([self.seed, len(self.streams)])
        blocks = [(random.permutation(BLOCK) + random.random(BLOCK)) / BLOCK for _ in range(-(-steps // BLOCK))]
        points = np.concatenate(blocks)[:steps] if blocks else np.empty(0)
        edges = np.cumsum(self.weights())[:-1]
        return np.searchsorted(edges, points, side="right").astype(np.int64)

    def batches(self, index: int, start: int = 0) -> Iterator[Ids]:
        """Example ids [E] of a stream's batches from its batch number `start` on, epoch after epoch, without end."""
        epoch = 0
        while True:
            batches = self._epoch(index, epoch)
            yield from batches[start:]
            start = max(start - len(batches), 0)
            epoch += 1

    def step_shapes(self) -> Iterator[tuple[str, int, int]]:
        """Task, padded tokens, and pairs of tokens that attention compares, of every step, without end.

        The same numbers as of the batches, without making them: a budget of FLOPs is counted out in steps.
        """
        shaped = [shapes(stream.encoded) for stream in self.streams]
        batches = [self.batches(index) for index in range(len(self.streams))]
        done, steps = 0, 1024
        while True:
            for index in self.schedule(steps)[done:]:
                ids = next(batches[index])
                sequences, longest = shaped[index]
                width = int(longest[ids].max())
                padded = int(sequences[ids].sum()) * width
                yield self.streams[index].task, padded, padded * width
            done, steps = steps, 2 * steps

    def _task_steps(self, steps: NDArray[np.float64]) -> dict[str, float]:
        """Sum of [streams] steps by task."""
        sums: dict[str, float] = {}
        for stream, count in zip(self.streams, steps, strict=True):
            sums[stream.task] = sums.get(stream.task, 0.0) + float(count)
        return sums

    def _epoch(self, index: int, epoch: int) -> list[Ids]:
        """Example ids of the batches of one epoch of a stream."""
        encoded, seed = self.streams[index].encoded, self._stream_seed(index)
        if self.nested:
            return [batch for pool in nested_pools(encoded, self.batch_tokens, seed, epoch) for batch in pool]
        return epoch_batches(encoded, self.batch_tokens, seed, epoch)

    def _stream_seed(self, index: int) -> int:
        return int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])


@dataclass(frozen=True)
class Sample:
    """Examples of one split in one language, all or some: rows and their encoding, to be scored."""

    task: Task
    language: str
    rows: Sequence[Row]
    encoded: Encoded
    whole: Split  # `rows` are some of its rows, or all
    chosen: Ids | None = None  # [N] numbers of `rows` in `whole`; None: all

    @cached_property
    def marks(self) -> Marks:
        """Marks of the examples of the whole split that belong together: drawing some of them changes no unit."""
        return marks_of(self.task.family, [row for row in self.whole.rows if self.task.family.is_scored(row)])

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """Mask [N] of the rows that are scored."""
        return _scored(self.task, self.rows)

    def among(self, numbers: Ids) -> Ids:
        """Numbers of the sample's examples, in their order, out of one number per example of the whole split."""
        if self.chosen is None:
            return numbers
        scored = _scored(self.task, self.whole.rows)
        return numbers[np.isin(np.arange(len(scored)), self.chosen)[scored]]

    @property
    def places(self) -> Sequence[str]:
        """Places of the rows, by which a person finds them."""
        places = self.whole.places
        return places if self.chosen is None else [places[number] for number in self.chosen.tolist()]

    def predictions(self, outputs: Outputs) -> list[Prediction]:
        """Prediction of each row, from a model's outputs for `encoded`."""
        return self.task.family.predict(outputs, self.encoded, list(self.rows), self.task.labels)

    def statistics(self, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
        """Per-example statistics [N, K] of the task's metric."""
        return self.task.measure.judge(predictions, list(self.rows), self.task, self.language)

    def value(self, statistics: NDArray[np.float64]) -> float:
        """Task's metric, 0..1 (correlations: -1..1), of per-example statistics [N, K]."""
        return float(self.task.measure.value(statistics.sum(axis=0)))

    def chance_level(self) -> float:
        """Chance level: the metric of the best constant answer, 0..1."""
        return self.task.family.chance_level(list(self.rows), self.encoded, self.task, self.language)


def sample(encoded: Encoded, whole: Split, task: Task, language: str, limit: int | None) -> Sample:
    """Sample of at most `limit` examples of an encoded split, the same ones for every chain."""
    rows, chosen = whole.rows, _chosen(task, whole.rows, limit)
    if chosen is not None:
        rows, encoded = [rows[number] for number in chosen.tolist()], subset(encoded, chosen)
    return Sample(task, language, task.family.pool(rows), encoded, whole, chosen)


def sampled_units(samples: Mapping[str, Sample]) -> dict[str, Ids]:
    """Units [N] of the examples that are scored, by language: equal numbers belong together, across languages too."""
    numbers = units({language: part.marks for language, part in samples.items()})
    return {language: part.among(numbers[language]) for language, part in samples.items()}


def _scored(task: Task, rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Mask [N] of the rows that are scored."""
    return np.array([task.family.is_scored(row) for row in rows], dtype=np.bool_)


def _chosen(task: Task, rows: Sequence[Row], limit: int | None) -> Ids | None:
    """Numbers [N] of a sample's rows, or None where it is all of them. Candidates of a search are never left out."""
    if limit is None:
        return None
    kept = np.array([not task.family.may_be_left_out(row) for row in rows], dtype=np.bool_)
    optional = np.flatnonzero(~kept)
    if limit >= len(optional):
        return None
    return np.sort(np.concatenate([np.flatnonzero(kept), optional[_drawn(len(optional), SAMPLE_SEED)[:limit]]]))


def subset(encoded: Encoded, examples: Ids) -> Encoded:
    """Encoding of the examples [N], in the order given, as arrays of their own."""
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


def size_facts(task: Task, split: str, parts: Mapping[str, Encoded]) -> Facts:
    """Facts for the ledger: measured sizes of the data by language, where a plan had estimates."""
    facts = NO_FACTS
    for language, part in parts.items():
        tokens, sequences = (len(array) / max(part.examples, 1) for array in (part.tokens, part.example))
        facts = facts.with_size(task.name, split, language, Size(part.examples, tokens, sequences))
    return facts


def _drawn(count: int, seed: int) -> Ids:
    """Seeded permutation of 0..count-1."""
    return np.random.Generator(np.random.PCG64([seed, count])).permutation(count).astype(np.int64)


def _ranges(starts: Ids, lengths: Ids) -> Ids:
    """Concatenated ranges: starts[0], starts[0]+1, ... lengths[0] of them, then those of starts[1], and so on."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    ranges: Ids = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return ranges


def _bounds(lengths: Ids) -> Ids:
    """Bounds [N + 1] of consecutive ranges of the given lengths [N]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
