"""score(): a model's outputs in every language of a task, in one length-sorted stream. No metrics here.

All languages are merged before batches are cut, so every batch is full whatever a language's size, and the longest
batch comes first: a score that fits into memory at its start fits to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from sweep.data.encoded import concatenate
from sweep.data.encoded__base_encoded import Encoded
from sweep.models.batches import Batch, DeviceData, Ids, scoring_batches
from sweep.models.batches__memory import in_parts
from sweep.models.heads import MaskedHead, Pooling, VectorHead, mask_tokens
from sweep.models.model import Chainable, Precision
from sweep.tasks.task import Outputs
from sweep.train.score__neighbours import DeviceVectors


@dataclass(frozen=True)
class ScoreProgress:
    """Real tokens scored so far; the last one carries outputs, as base.Outputs says, by language.

    There is one mapping per layer asked for.
    """

    tokens: int
    total_tokens: int
    outputs: list[dict[str, Outputs]] | None


def score(
    model: Chainable,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    layers: Sequence[int] = (-1,),
    pooling: Pooling | None = None,
    seed: int = 0,
) -> Iterator[ScoreProgress]:
    """Outputs of the task's head for every language.

    `layers` and `pooling` are for tasks whose outputs are vectors: trained heads read the layer that they were trained
    on. `seed` masks the text of masked tasks. Outputs are what is kept: beside them memory holds the tokens and one
    batch of `batch_tokens` padded tokens.
    """
    whole = concatenate([_masked(model, data, task, seed) for data in encoded.values()])
    data, firsts = DeviceData(whole, model.device, model.pad_id), whole.example_bounds()
    ends = np.cumsum([len(part.lengths()) for part in encoded.values()])
    vectors = isinstance(model.head(task), VectorHead)
    kept = _Vectors(model, task, ends, layers, pooling) if vectors else _Arrays(model, task, ends)
    done, total, part_tokens = 0, len(whole.tokens), None
    for ids in scoring_batches(whole, batch_tokens):
        batch = data.batch(ids)
        rows = np.repeat(firsts[ids] - batch.first[:-1], np.diff(batch.first)) + np.arange(len(batch.lengths))
        with inference(model), model.autocast(precision):
            _, part_tokens = in_parts(batch, part_tokens, partial(kept.take, rows))
        done += batch.tokens
        if done < total:
            yield ScoreProgress(done, total, None)
    yield ScoreProgress(total, total, [dict(zip(encoded, parts, strict=True)) for parts in kept.parts()])


def score_all(
    model: Chainable,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    seed: int = 0,
) -> dict[str, Outputs]:
    """The outputs of the last layer alone, for a dev set that is scored in one go; arguments as `score`."""
    *_, last = score(model, encoded, task, batch_tokens=batch_tokens, precision=precision, seed=seed)
    assert last.outputs is not None
    return last.outputs[0]


class _Arrays:
    """What heads with an array per sequence put out, in the order of the data."""

    def __init__(self, model: Chainable, task: str, ends: Ids) -> None:
        self.model, self.task, self.ends = model, task, ends
        self.arrays = [np.empty(0)] * int(ends[-1])

    def take(self, rows: Ids, batch: Batch, part: slice) -> None:
        for row, array in zip(rows[part].tolist(), self.model.outputs(batch, self.task), strict=True):
            self.arrays[row] = array

    def parts(self) -> list[list[Outputs]]:
        return [[self.arrays[begin:end] for begin, end in _ranges(self.ends)]]


class _Vectors:
    """One float32 array [S, H] per layer: half a million vectors are no half a million objects."""

    def __init__(self, model: Chainable, task: str, ends: Ids, layers: Sequence[int], pooling: Pooling | None) -> None:
        self.model, self.task, self.ends, self.layers, self.pooling = model, task, ends, layers, pooling
        shape = (int(ends[-1]), model.encoder.config.hidden_size)
        self.arrays = [np.empty(shape, dtype=np.float32) for _ in layers]

    def take(self, rows: Ids, batch: Batch, part: slice) -> None:
        found = self.model.vectors(batch, self.task, self.layers, self.pooling)
        for array, vectors in zip(self.arrays, found, strict=True):
            array[rows[part]] = vectors.cpu().numpy()

    def parts(self) -> list[list[Outputs]]:
        device = self.model.device
        return [[DeviceVectors(array[begin:end], device) for begin, end in _ranges(self.ends)] for array in self.arrays]


def _ranges(ends: Ids) -> list[tuple[int, int]]:
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


@contextmanager
def inference(model: Chainable) -> Iterator[None]:
    """Evaluation mode without gradients, for one batch: between batches the caller may train."""
    training = model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()


def _masked(model: Chainable, encoded: Encoded, task: str, seed: int) -> Encoded:
    """Masked text, by (text, seed) alone: all models are asked the same."""
    spec = model.specs[task]
    if not isinstance(model.head(task), MaskedHead):
        return encoded
    tokens, maskable = torch.from_numpy(encoded.tokens.copy()).long(), torch.from_numpy(encoded.targets == 1)
    inputs, targets = mask_tokens(tokens, maskable, spec, len(model.embeddings), seed)
    return replace(encoded, tokens=inputs.int().numpy(), targets=targets.int().numpy())
