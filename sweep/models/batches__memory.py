"""A device's memory: the same work in smaller parts where it is full, what a share may take, what was taken."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from sweep.models.batches import Batch, smaller_parts, split

Result = TypeVar("Result")

CONTEXT_BYTES = 2**29  # what CUDA takes for a process: 0.3 to 0.6 GB, by card and version


def until_it_fits(
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


def in_parts(
    batch: Batch, part_tokens: int | None, work: Callable[[Batch, slice], Result]
) -> tuple[list[Result], int | None]:
    """Results of `work` on the parts of a batch and the rows that each has of it; otherwise as `until_it_fits`."""
    return until_it_fits(batch, part_tokens, lambda tokens: _results(batch, tokens, work))


def _results(batch: Batch, part_tokens: int | None, work: Callable[[Batch, slice], Result]) -> list[Result]:
    results, begin = list[Result](), 0
    for part in [batch] if part_tokens is None else split(batch, part_tokens):
        end = begin + len(part.lengths)
        results.append(work(part, slice(begin, end)))
        begin = end
    return results


def free_memory() -> None:
    """Gives back what is held for nobody, so that the next attempt, and neighbours on the device, find it free."""
    gc.collect()  # an error's frames may hold tensors in circles
    torch.cuda.empty_cache()


def keep_to_share(share: float) -> None:
    """A process that has a share of a GPU takes no more of its memory: it runs short itself, never a neighbour.

    What CUDA keeps for every process beside its tensors is left out of the share.
    """
    free_memory()  # of the chain that this process had before
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    limit = share - CONTEXT_BYTES / total if share < 1 else 1.0
    torch.cuda.set_per_process_memory_fraction(max(limit, share / 2))


def watch_memory() -> None:
    """From now on the most that is taken is noted."""
    free_memory()
    torch.cuda.reset_peak_memory_stats()


def taken_memory() -> tuple[float, float]:
    """Bytes that a process alone on a GPU took at most since `watch_memory`, CUDA's own included; and all there are."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved(), total
