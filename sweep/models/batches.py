"""Batches: which examples share one, how it is assembled, and smaller parts where a device is full.

Every order is a pure function of its arguments, so resuming means computing it again. There are no worker processes:
the flat token arrays live on the device and a batch is a gather. What a batch means to a model is in model.py; which
task comes next is in mixture.py.

Shapes: S sequences, L longest sequence of a batch, U most targets of one of its sequences, E examples, T all tokens.
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

POOL_BATCHES = (
    64  # length buckets are cut within so many batches: padding stays below 5%, and batches differ between epochs
)
FIRST_POOL_BATCHES = 16  # of nested data, whose pools grow

SMALL_PARTS = 16  # a scoring batch may be this much smaller than the budget
ALIKE = 1.1

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Padded sequences on the device; an example's sequences are consecutive rows."""

    input_ids: Tensor  # [S, L] int64
    attention_mask: Tensor | None  # [S, L] bool; None: all sequences are equally long
    segments: Tensor | None  # [S, L] int64
    targets: Tensor  # [S, U] int64, IGNORED where there is none
    lengths: Ids  # [S] on the host
    first: Ids  # [E+1] on the host: the row where each example begins
    # [S] on the host: at most so many positions of a sequence of a masked task are to be guessed. Known without asking
    # the device, and per sequence, so that parts of a batch have so much fewer.
    masked: Ids | None = None

    @property
    def examples(self) -> int:
        return len(self.first) - 1

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out."""
        return int(self.lengths.sum())

    @property
    def padded_tokens(self) -> int:
        return self.input_ids.numel()

    @property
    def example(self) -> Tensor:
        """[S] int64: which of the batch's examples owns the row."""
        owner = np.repeat(np.arange(self.examples), np.diff(self.first))
        return to_device(owner, self.input_ids.device)

    @property
    def first_rows(self) -> Tensor:
        """[E] int64: the row where each example begins, on the device."""
        return to_device(self.first[:-1], self.input_ids.device)


class DeviceData:
    """One `Encoded` resident on a device; `batch` gathers examples there by index arithmetic."""

    def __init__(self, encoded: Encoded, device: torch.device | str, pad_id: int) -> None:
        self.device, self.pad_id = torch.device(device), pad_id
        self._bounds, self._target_bounds = np.asarray(encoded.bounds), np.asarray(encoded.target_bounds)
        self._examples = encoded.example_bounds()
        self._tokens = _resident(encoded.tokens, self.device)
        self._targets = _resident(encoded.targets, self.device)
        self._segments = None if encoded.segments is None else _resident(encoded.segments, self.device)

    def batch(self, example_ids: Ids) -> Batch:
        """The named examples, padded to their longest sequence, in the order of `example_ids` (not empty)."""
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
        """Flat index [S, L] of each position, and which positions are real: None where all are."""
        longest = int(lengths.max())
        begin = to_device(starts, self.device)
        position = torch.arange(longest, device=self.device)
        index = begin[:, None] + position
        if int(lengths.min()) == longest:
            return index, None
        real = position < to_device(lengths, self.device)[:, None]
        return torch.where(real, index, 0), real


def to_device(values: Ids | Tensor, device: torch.device) -> Tensor:
    """Host values on the device; from pinned memory, as other copies wait for all that the GPU still has to do."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def micro_batches(batch: Batch, micro_tokens: int) -> list[Batch]:
    """Cut a batch between examples into parts of at most `micro_tokens` padded tokens, or of one example."""
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
    """Padded tokens of parts half as large as those that `split` makes; None where each is one example already."""
    parts = [batch] if micro_tokens is None else micro_batches(batch, micro_tokens)
    if all(part.examples == 1 for part in parts):
        return None
    return max(part.padded_tokens for part in parts) // 2


def epoch_batches(encoded: Encoded, batch_tokens: int, seed: int, epoch: int) -> list[Ids]:
    """Example ids of each batch of one pass over the data, in training order.

    A batch's padded tokens (its sequences times its longest) are at most `batch_tokens`; an example that is larger is
    alone. Examples are shuffled, then sorted by length within pools of POOL_BATCHES batches, then batches are shuffled.
    """
    order = np.random.default_rng([seed, epoch])
    sequences, longest = shapes(encoded)
    shuffled = order.permutation(encoded.examples)
    spent = np.cumsum((sequences * longest)[shuffled])
    pools = np.searchsorted(spent, np.arange(batch_tokens * POOL_BATCHES, spent[-1], batch_tokens * POOL_BATCHES))
    batches: list[Ids] = []
    for pool in np.split(shuffled, pools):
        batches += _bucketed(pool, sequences, longest, batch_tokens)
    return [batches[index] for index in order.permutation(len(batches))]


def nested_pools(encoded: Encoded, batch_tokens: int, seed: int, epoch: int) -> list[list[Ids]]:
    """Batches of one pass, pool after pool, such that a larger volume begins with the whole pools of a smaller one.

    The first epoch takes the examples in their own order, which is to be a random one; what is cut off their end
    changes the last pool alone. A pool is a fifth of the data that it reaches: volumes share less of a larger one, and
    a smaller one is more padding.
    """
    order = np.random.default_rng([seed, epoch])
    sequences, longest = shapes(encoded)
    ids = order.permutation(encoded.examples) if epoch else np.arange(encoded.examples)
    spent = np.cumsum((sequences * longest)[ids])
    edges, edge = [], FIRST_POOL_BATCHES
    while edge * batch_tokens < spent[-1]:
        edges.append(edge * batch_tokens)
        edge += min(max(edge // 4, FIRST_POOL_BATCHES), POOL_BATCHES)
    pools = []
    for pool in np.split(ids, np.searchsorted(spent, edges)):
        batches = _bucketed(pool, sequences, longest, batch_tokens)
        pools.append([batches[index] for index in order.permutation(len(batches))])
    return pools


def scoring_batches(encoded: Encoded, batch_tokens: int) -> list[Ids]:
    """Every example once, longest first, so that a batch that does not fit into memory is met at once.

    A batch is smaller than it could be where its examples would differ much in length: few examples in full batches are
    mostly padding.
    """
    sequences, longest = shapes(encoded)
    ascending = np.argsort(longest, kind="stable")
    return _cut(ascending, sequences, longest, batch_tokens, least=batch_tokens // SMALL_PARTS)[::-1]


def shapes(encoded: Encoded) -> tuple[Ids, Ids]:
    """Per example, its sequences and the length of its longest one: [N], [N]."""
    if not encoded.examples:
        raise ValueError("no examples to make batches of")
    bounds = encoded.example_bounds()
    return np.diff(bounds), np.maximum.reduceat(encoded.lengths(), bounds[:-1])


def _bucketed(pool: Ids, sequences: Ids, longest: Ids, batch_tokens: int) -> list[Ids]:
    """Batches of one pool of examples, short ones first."""
    ascending = pool[np.argsort(longest[pool], kind="stable")]
    return _even_end(_cut(ascending, sequences, longest, batch_tokens), sequences, longest, batch_tokens)


def _cut(ascending: Ids, sequences: Ids, longest: Ids, batch_tokens: int, least: int | None = None) -> list[Ids]:
    """Greedy cuts of examples sorted by length; a binary search per batch, no loop over examples.

    With `least`, a batch of so many padded tokens ends where lengths are beyond ALIKE times its shortest.
    """
    lengths, before = longest[ascending], np.concatenate([[0], np.cumsum(sequences[ascending])])
    batches, begin = [], 0
    while begin < len(ascending):
        most = int(np.searchsorted(before, before[begin] + batch_tokens // lengths[begin], side="right")) - 1
        padded = (before[begin + 1 : most + 1] - before[begin]) * lengths[begin:most]
        end = begin + max(int(np.searchsorted(padded, batch_tokens, side="right")), 1)
        if least is not None:
            alike = int(np.searchsorted(lengths, ALIKE * lengths[begin], side="right"))
            enough = begin + int(np.searchsorted(padded, least)) + 1
            end = min(end, max(alike, enough))
        batches.append(ascending[begin:end])
        begin = end
    return batches


def _even_end(batches: list[Ids], sequences: Ids, longest: Ids, batch_tokens: int) -> list[Ids]:
    """Share the last two batches evenly: a step on three leftover examples weighs as much as any other."""
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
    if not index.numel():
        return index
    values = flat[index].long()
    return values if real is None else torch.where(real, values, fill)


Result = TypeVar("Result")

CONTEXT_BYTES = 2**29  # what CUDA takes for a process: 0.3 to 0.6 GB, by card and version


def retry_on_oom(
    batch: Batch, part_tokens: int | None, work: Callable[[int | None], Result]
) -> tuple[Result, int | None]:
    """`work` on a batch in parts of at most so many padded tokens, smaller ones where the device runs out of memory.

    Returns its result and how many tokens a part may have from now on; None: a batch is one part. Raises
    torch.cuda.OutOfMemoryError where one example does not fit.
    """
    while True:
        try:
            return work(part_tokens), part_tokens
        except torch.cuda.OutOfMemoryError:
            smaller = smaller_parts(batch, part_tokens)
            if smaller is None:
                raise
        # Only here the error is gone, and with it the frames that hold what the attempt has computed.
        part_tokens = smaller
        free_memory()


def map_micro_batches(
    batch: Batch, part_tokens: int | None, work: Callable[[Batch, slice], Result]
) -> tuple[list[Result], int | None]:
    """Results of `work` on the parts of a batch and the rows that each has of it; otherwise as `until_it_fits`."""
    return retry_on_oom(batch, part_tokens, lambda tokens: _results(batch, tokens, work))


def _results(batch: Batch, part_tokens: int | None, work: Callable[[Batch, slice], Result]) -> list[Result]:
    results, begin = list[Result](), 0
    for part in [batch] if part_tokens is None else micro_batches(batch, part_tokens):
        end = begin + len(part.lengths)
        results.append(work(part, slice(begin, end)))
        begin = end
    return results


def free_memory() -> None:
    """Gives back what is held for nobody, so that the next attempt, and neighbours on the device, find it free."""
    gc.collect()  # an error's frames may hold tensors in circles
    torch.cuda.empty_cache()


def limit_gpu_memory(share: float) -> None:
    """A process that has a share of a GPU takes no more of its memory: it runs short itself, never a neighbour.

    What CUDA keeps for every process beside its tensors is left out of the share.
    """
    free_memory()  # of the chain that this process had before
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    limit = share - CONTEXT_BYTES / total if share < 1 else 1.0
    torch.cuda.set_per_process_memory_fraction(max(limit, share / 2))


def reset_peak_memory() -> None:
    """From now on the most that is taken is noted."""
    free_memory()
    torch.cuda.reset_peak_memory_stats()


def peak_memory() -> tuple[float, float]:
    """Bytes that a process alone on a GPU took at most since `watch_memory`, CUDA's own included; and all there are."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved(), total
