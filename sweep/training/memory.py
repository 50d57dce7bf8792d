"""When a device's memory does not suffice: the same work in smaller parts, what is held for nobody given back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from sweep.training.batching import Batch, smaller_parts, split

Result = TypeVar("Result")


def in_parts(
    batch: Batch, part_tokens: int | None, work: Callable[[Batch, slice], Result]
) -> tuple[list[Result], int | None]:
    """`work` on a batch and the rows that it has of it; again on smaller parts where the device runs out of memory.

    Returns results and how many padded tokens a part may have from now on. Raises torch.cuda.OutOfMemoryError where one
    example does not fit.
    """
    while True:
        try:
            return _results(batch, part_tokens, work), part_tokens
        except torch.cuda.OutOfMemoryError:
            smaller = smaller_parts(batch, part_tokens)
            if smaller is None:
                raise
        # Only here the error is gone, and with it the frames that hold what the attempt has computed.
        part_tokens = smaller
        free_memory()


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
