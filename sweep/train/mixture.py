"""Which task a step trains: streams of batches, sampled per step by size, evenly, by temperature, or by a given ratio.

The order is a pure function of (streams, settings, seed); that of a short run is the beginning of a longer one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.config.phases import Sampling
from sweep.data.encoded import Encoded
from sweep.models.batches import Ids, epoch_batches, nested_pools, shapes

BLOCK = 32  # steps within which every stream gets its share, give or take one step
PROPORTIONAL = Sampling()


@dataclass(frozen=True)
class Stream:
    """Training data of one task, or of one language of a task that comes in several."""

    task: str
    encoded: Encoded


@dataclass(frozen=True)
class Mixture:
    """The streams of a phase and how a step chooses among them; a single task is a mixture of one.

    Sizes are in steps, not examples, because a step is a batch of tokens: proportional passes over every task equally
    often.
    """

    streams: tuple[Stream, ...]
    batch_tokens: int  # padded tokens per batch at most
    seed: int
    sampling: Sampling = PROPORTIONAL
    smoothing: float = 1.0  # temperature among the streams of one task
    nested: bool = False  # streams are in random order, and a smaller volume of one is the beginning of a larger one

    def epoch_steps(self) -> NDArray[np.float64]:
        """[streams] steps of one pass over each stream: its batches, times min(cap, examples of the task) / examples.

        Beyond the cap a task gets no more steps; its data is not cut.
        """
        steps = []
        for index, stream in enumerate(self.streams):
            whole = len(self._epoch(index, 0))
            examples = sum(other.encoded.examples for other in self.streams if other.task == stream.task)
            share = 1.0 if self.sampling.cap is None else min(self.sampling.cap / examples, 1.0)
            steps.append(max(whole * share, 1.0))
        return np.array(steps)

    def steps_for(self, epochs: float) -> int:
        """Optimizer steps of so many epochs, as `sampling` counts them; at least 1."""
        return max(round(epochs * self.sampling.one_pass(self._task_steps(self.epoch_steps()))), 1)

    def shared_steps(self) -> int:
        """Steps that the run over any larger volume of the same data begins with; 0 where it is not known to.

        With several streams, how often each is drawn depends on the sizes of all.
        """
        if not self.nested or len(self.streams) > 1:
            return 0
        pools = nested_pools(self.streams[0].encoded, self.batch_tokens, self._stream_seed(0), 0)
        return sum(len(pool) for pool in pools[:-1])

    def weights(self) -> NDArray[np.float64]:
        """[streams] probability that a step trains the stream: its task's share, divided among the task's streams.

        Tasks: a fixed ratio, or p ~ steps ** (1 / temperature); proportional is temperature 1, uniform is temperature
        infinity (Raffel et al. 2020, section 3.5.2). Streams of a task: the same with `smoothing`.
        """
        steps = self.epoch_steps()
        shares = self.sampling.shares(self._task_steps(steps))
        raised = steps ** (1 / self.smoothing)
        within = self._task_steps(raised)
        return np.array([shares[s.task] * one / within[s.task] for s, one in zip(self.streams, raised, strict=True)])

    def _task_steps(self, steps: NDArray[np.float64]) -> dict[str, float]:
        """The sum over the streams of each task."""
        sums: dict[str, float] = {}
        for stream, one in zip(self.streams, steps, strict=True):
            sums[stream.task] = sums.get(stream.task, 0.0) + float(one)
        return sums

    def schedule(self, steps: int) -> NDArray[np.int64]:
        """[steps] stream of each step; schedule(n) is the beginning of schedule(m) for n < m.

        Draws are stratified in blocks of BLOCK steps, so that also a short run keeps the shares.
        """
        if len(self.streams) == 1:
            return np.zeros(steps, dtype=np.int64)
        order = np.random.default_rng([self.seed, len(self.streams)])
        blocks = [(order.permutation(BLOCK) + order.random(BLOCK)) / BLOCK for _ in range(-(-steps // BLOCK))]
        points = np.concatenate(blocks)[:steps] if blocks else np.empty(0)
        edges = np.cumsum(self.weights())[:-1]
        return np.searchsorted(edges, points, side="right").astype(np.int64)

    def batches(self, index: int, start: int = 0) -> Iterator[Ids]:
        """Example ids of the stream's batches from its batch number `start` on, epoch after epoch, without end."""
        epoch = 0
        while True:
            batches = self._epoch(index, epoch)
            yield from batches[start:]
            start = max(start - len(batches), 0)
            epoch += 1

    def fed(self) -> Iterator[tuple[str, int, int]]:
        """Task, padded tokens, and pairs of tokens that attention compares, of every step, without end."""
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

    def _epoch(self, index: int, epoch: int) -> list[Ids]:
        told = self.streams[index].encoded, self.batch_tokens, self._stream_seed(index), epoch
        return [batch for pool in nested_pools(*told) for batch in pool] if self.nested else epoch_batches(*told)

    def _stream_seed(self, index: int) -> int:
        return int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
