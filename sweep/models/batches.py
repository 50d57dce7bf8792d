"""Batches by token budget: which examples share one, how it is assembled on the device, and micro batches of it.

Every order is a pure function of its arguments, so resuming means computing it again. There are no worker processes:
the flat token arrays live on the device and a batch is a gather. Which task a step trains on is decided by
train.data.Mixture.

Shapes: N examples of a data set, E examples and S sequences of a batch, L tokens of its longest sequence, U targets of
the sequence that has most.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.data import IGNORED
from sweep.data.encoded import Encoded
from sweep.data.units import Ids

Result = TypeVar("Result")

# Examples are sorted by length within pools of so many batches: padding stays below 5%, batches differ between epochs.
POOL_BATCHES = 64
FIRST_POOL_BATCHES = 16  # of nested data, whose pools grow
SMALLEST_SHARE = 16  # a scoring batch may be this many times smaller than the budget
SIMILAR_LENGTH = 1.1  # lengths up to so many times the shortest share a scoring batch in any case
CUDA_CONTEXT_BYTES = 2**29  # that CUDA takes for a process: 0.3 to 0.6 GB, by card and version


@dataclass(frozen=True)
class Batch:
    """Padded sequences of some examples, on the device; an example's sequences are consecutive rows."""

    input_ids: Tensor  # [S, L] int64
    attention_mask: Tensor | None  # [S, L] bool; None: all sequences are equally long
    segments: Tensor | None  # [S, L] int64
    targets: Tensor  # [S, U] int64, IGNORED where there is none
    lengths: Ids  # [S] on the host
    first: Ids  # [E+1] on the host: the row where each example begins
    # [S] on the host, of masked tasks: the most positions of each sequence that are to be predicted. Known without
    # asking the device, and per sequence, so that micro batches know theirs.
    masked: Ids | None = None

    @property
    def examples(self) -> int:
        return len(self.first) - 1

    @property
    def tokens(self) -> int:
        """Number of real tokens, padding left out."""
        return int(self.lengths.sum())

    @property
    def padded_tokens(self) -> int:
        """Number of tokens with padding, S x L."""
        return self.input_ids.numel()

    @property
    def example(self) -> Tensor:
        """[S] int64 on the device: number, within the batch, of the example that each sequence belongs to."""
        owner = np.repeat(np.arange(self.examples), np.diff(self.first))
        return to_device(owner, self.input_ids.device)

    @property
    def first_rows(self) -> Tensor:
        """[E] int64 on the device: the row where each example begins."""
        return to_device(self.first[:-1], self.input_ids.device)


class DeviceData:
    """An `Encoded` data set resident on a device; `batch` gathers examples there by index arithmetic."""

    def __init__(self, encoded: Encoded, device: torch.device | str, pad_id: int) -> None:
        self.device, self.pad_id = torch.device(device), pad_id
        self._bounds, self._target_bounds = np.asarray(encoded.bounds), np.asarray(encoded.target_bounds)
        self._examples = encoded.example_bounds()
        self._tokens = _resident(encoded.tokens, self.device)
        self._targets = _resident(encoded.targets, self.device)
        self._segments = None if encoded.segments is None else _resident(encoded.segments, self.device)

    def batch(self, example_ids: Ids) -> Batch:
        """Batch of the examples [E], in their order (not empty), padded to their longest sequence."""
        counts = self._examples[example_ids + 1] - self._examples[example_ids]
        first = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self._examples[example_ids] - first[:-1], counts) + np.arange(first[-1])
        starts = self._bounds[rows]
        lengths = self._bounds[rows + 1] - starts
        index, real = self._gather(starts, lengths)
        target_starts = self._target_bounds[rows]
        target_lengths = self._target_bounds[rows + 1] - target_starts
        if np.array_equal(target_starts, starts) and np.array_equal(target_lengths, lengths):
            target_index, target_real = index, real  # one target per token, as everywhere in token and masked tasks
        else:
            target_index, target_real = self._gather(target_starts, target_lengths)
        return Batch(
            input_ids=_take(self._tokens, index, real, self.pad_id),
            attention_mask=real,
            segments=None if self._segments is None else _take(self._segments, index, real, 0),
            targets=_take(self._targets, target_index, target_real, IGNORED),
            lengths=lengths,
            first=first,
        )

    def _gather(self, starts: Ids, lengths: Ids) -> tuple[Tensor, Tensor | None]:
        """Flat index [S, L] of each position, and a mask [S, L] of the real ones: None where all are."""
        longest = int(lengths.max())
        begin = to_device(starts, self.device)
        position = torch.arange(longest, device=self.device)
        index = begin[:, None] + position
        if int(lengths.min()) == longest:
            return index, None
        real = position < to_device(lengths, self.device)[:, None]
        return torch.where(real, index, 0), real


def to_device(values: Ids | Tensor, device: torch.device) -> Tensor:
    """Copy of host values on the device; from pinned memory, as other copies wait for all that a GPU has queued."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def micro_batches(batch: Batch, micro_tokens: int | None) -> list[Batch]:
    """Parts of a batch, cut between examples: at most `micro_tokens` padded tokens or one example; None: one part."""
    if micro_tokens is None:
        return [batch]
    width = batch.input_ids.shape[1]
    parts, begin = [], 0
    while begin < batch.examples:
        room = batch.first[begin] + max(micro_tokens // width, 1)
        end = max(int(np.searchsorted(batch.first, room, side="right")) - 1, begin + 1)
        rows = slice(int(batch.first[begin]), int(batch.first[end]))
        parts.append(
            replace(
                batch,
                input_ids=batch.input_ids[rows],
                attention_mask=None if batch.attention_mask is None else batch.attention_mask[rows],
                segments=None if batch.segments is None else batch.segments[rows],
                targets=batch.targets[rows],
                lengths=batch.lengths[rows],
                first=batch.first[begin : end + 1] - batch.first[begin],
                masked=None if batch.masked is None else batch.masked[rows],
            )
        )
        begin = end
    return parts


def smaller_parts(batch: Batch, micro_tokens: int | None) -> int | None:
    """Padded tokens of micro batches of half the size; None where each holds one example already."""
    parts = micro_batches(batch, micro_tokens)
    if all(part.examples == 1 for part in parts):
        return None
    return max(part.padded_tokens for part in parts) // 2


def epoch_batches(encoded: Encoded, batch_tokens: int, seed: int, epoch: int) -> list[Ids]:
    """Example ids [E] of each batch of one pass over the data, in training order.

    A batch's padded tokens (its sequences times its longest) are at most `batch_tokens`; an example that is larger is
    alone. Examples are shuffled, then sorted by length within pools of POOL_BATCHES batches, then batches are shuffled.
    Raises ValueError for data without examples.
    """
    random = np.random.default_rng([seed, epoch])
    sequences, longest = shapes(encoded)
    shuffled = random.permutation(encoded.examples)
    tokens = np.cumsum((sequences * longest)[shuffled])
    pools = np.searchsorted(tokens, np.arange(batch_tokens * POOL_BATCHES, tokens[-1], batch_tokens * POOL_BATCHES))
    batches: list[Ids] = []
    for pool in np.split(shuffled, pools):
        batches += _bucketed(pool, sequences, longest, batch_tokens)
    return [batches[index] for index in random.permutation(len(batches))]


def nested_pools(encoded: Encoded, batch_tokens: int, seed: int, epoch: int) -> list[list[Ids]]:
    """Example ids of the batches of one pass, pool after pool: a larger volume begins with the pools of a smaller one.

    The first epoch takes the examples in their own order, which is to be a random one; what is cut off their end
    changes the last pool alone. A pool is a fifth of the data that it reaches: volumes share less of a larger one, and
    a smaller one is more padding. Raises ValueError for data without examples.
    """
    random = np.random.default_rng([seed, epoch])
    sequences, longest = shapes(encoded)
    ids = random.permutation(encoded.examples) if epoch else np.arange(encoded.examples)
    tokens = np.cumsum((sequences * longest)[ids])
    edges, edge = [], FIRST_POOL_BATCHES
    while edge * batch_tokens < tokens[-1]:
        edges.append(edge * batch_tokens)
        edge += min(max(edge // 4, FIRST_POOL_BATCHES), POOL_BATCHES)
    pools = []
    for pool in np.split(ids, np.searchsorted(tokens, edges)):
        batches = _bucketed(pool, sequences, longest, batch_tokens)
        pools.append([batches[index] for index in random.permutation(len(batches))])
    return pools


def scoring_batches(encoded: Encoded, batch_tokens: int) -> list[Ids]:
    """Example ids of batches that hold every example once, longest first: what does not fit into memory is met at once.

    A batch is smaller than it could be where its examples would differ much in length: few examples in full batches are
    mostly padding. Raises ValueError for data without examples.
    """
    sequences, longest = shapes(encoded)
    ascending = np.argsort(longest, kind="stable")
    return _cut(ascending, sequences, longest, batch_tokens, least=batch_tokens // SMALLEST_SHARE)[::-1]


def shapes(encoded: Encoded) -> tuple[Ids, Ids]:
    """Number of sequences [N] of each example, and tokens [N] of its longest. Raises ValueError for no examples."""
    if not encoded.examples:
        raise ValueError("no examples to make batches of")
    bounds = encoded.example_bounds()
    return np.diff(bounds), np.maximum.reduceat(encoded.lengths(), bounds[:-1])


def _bucketed(pool: Ids, sequences: Ids, longest: Ids, batch_tokens: int) -> list[Ids]:
    """Example ids of the batches of one pool, short examples first."""
    ascending = pool[np.argsort(longest[pool], kind="stable")]
    return _even_end(_cut(ascending, sequences, longest, batch_tokens), sequences, longest, batch_tokens)


def _cut(ascending: Ids, sequences: Ids, longest: Ids, batch_tokens: int, least: int | None = None) -> list[Ids]:
    """Greedy cuts of examples sorted by length; a binary search per batch, no loop over examples.

    With `least`, a batch of so many padded tokens ends where lengths are beyond SIMILAR_LENGTH times its shortest.
    """
    lengths, before = longest[ascending], np.concatenate([[0], np.cumsum(sequences[ascending])])
    batches, begin = [], 0
    while begin < len(ascending):
        most = int(np.searchsorted(before, before[begin] + batch_tokens // lengths[begin], side="right")) - 1
        padded = (before[begin + 1 : most + 1] - before[begin]) * lengths[begin:most]
        end = begin + max(int(np.searchsorted(padded, batch_tokens, side="right")), 1)
        if least is not None:
            similar = int(np.searchsorted(lengths, SIMILAR_LENGTH * lengths[begin], side="right"))
            enough = begin + int(np.searchsorted(padded, least)) + 1
            end = min(end, max(similar, enough))
        batches.append(ascending[begin:end])
        begin = end
    return batches


def _even_end(batches: list[Ids], sequences: Ids, longest: Ids, batch_tokens: int) -> list[Ids]:
    """The batches, the last two of even size: a step on three leftover examples weighs as much as any other."""
    if len(batches) < 2 or len(batches[-1]) * 2 > len(batches[-2]):
        return batches
    both = np.concatenate(batches[-2:])
    halves = [both[: len(both) // 2], both[len(both) // 2 :]]
    fits = all(sequences[half].sum() * longest[half].max() <= batch_tokens for half in halves)
    return [*batches[:-2], *halves] if fits else batches


def _resident(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy on the device: the source is usually a read-only map of a file, which torch cannot wrap."""
    return torch.from_numpy(np.array(array)).to(device)


def _take(flat: Tensor, index: Tensor, real: Tensor | None, fill: int) -> Tensor:
    """[S, L] int64 values at the flat index [S, L], `fill` where a position is not real."""
    if not index.numel():
        return index
    values = flat[index].long()
    return values if real is None else torch.where(real, values, fill)


def retry_on_oom(
    batch: Batch, micro_tokens: int | None, work: Callable[[int | None], Result]
) -> tuple[Result, int | None]:
    """Result of `work` with micro batches of at most so many padded tokens, halved while the device runs out of memory.

    Returns the result, and the padded tokens that a micro batch may have from now on; None: a batch is one part. Raises
    torch.cuda.OutOfMemoryError where one example does not fit.
    """
    while True:
        try:
            return work(micro_tokens), micro_tokens
        except torch.cuda.OutOfMemoryError:
            smaller = smaller_parts(batch, micro_tokens)
            if smaller is None:
                raise
        # Only here the error is gone, and with it the frames that hold what the attempt has computed.
        micro_tokens = smaller
        free_memory()


def map_micro_batches(
    batch: Batch, micro_tokens: int | None, work: Callable[[Batch, slice], Result]
) -> tuple[list[Result], int | None]:
    """Results of `work` on each micro batch and the rows [S] that it has of the batch; otherwise as `retry_on_oom`."""
    return retry_on_oom(batch, micro_tokens, lambda tokens: _results(batch, tokens, work))


def _results(batch: Batch, micro_tokens: int | None, work: Callable[[Batch, slice], Result]) -> list[Result]:
    results, begin = list[Result](), 0
    for part in micro_batches(batch, micro_tokens):
        end = begin + len(part.lengths)
        results.append(work(part, slice(begin, end)))
        begin = end
    return results


def free_memory() -> None:
    """Frees cached GPU memory, for the next attempt and for neighbours on the device."""
    gc.collect()  # an error's frames may hold tensors in circles
    torch.cuda.empty_cache()


def limit_gpu_memory(share: float) -> None:
    """Limits this process to a share (0..1) of a GPU's memory: it runs out itself, never a neighbour.

    The bytes that CUDA takes for every process beside its tensors are left out of the share.
    """
    free_memory()  # of the chain that this process had before
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    limit = share - CUDA_CONTEXT_BYTES / total if share < 1 else 1.0
    torch.cuda.set_per_process_memory_fraction(max(limit, share / 2))


def reset_peak_memory() -> None:
    """Begins to measure the peak of GPU memory anew."""
    free_memory()
    torch.cuda.reset_peak_memory_stats()


def peak_memory() -> tuple[float, float]:
    """Peak bytes of a process alone on a GPU since `reset_peak_memory`, CUDA's own included; and the GPU's bytes."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved(), total
