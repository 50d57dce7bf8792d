"""score(): a model's outputs in every language of a task, in one length-sorted stream. No metrics here.

All languages are merged before batches are cut, so every batch is full whatever a language's size, and the longest
batch comes first: a score that fits into memory at its start fits to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sweep.tasks.base import Encoded
from sweep.tasks.encoding import concatenate
from sweep.training.batching import DeviceData, scoring_batches
from sweep.training.heads import Outputs, Pooling, mask_tokens
from sweep.training.model import Chainable, Precision


@dataclass(frozen=True)
class ScoreProgress:
    """Real tokens scored so far; the last one carries outputs by language, per sequence, in the order of the data."""

    tokens: int
    total_tokens: int
    outputs: dict[str, Outputs] | None


def score(
    model: Chainable,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    layer: int = -1,
    pooling: Pooling | None = None,
    seed: int = 0,
) -> Iterator[ScoreProgress]:
    """Outputs of the task's head; `layer` and `pooling` are for embedding tasks, `seed` masks the text of masked ones.

    Outputs are what is kept: beside them memory holds the tokens and one batch of `batch_tokens` padded tokens.
    """
    whole = concatenate([_masked(model, data, task, seed) for data in encoded.values()])
    data, firsts = DeviceData(whole, model.device, model.pad_id), whole.example_bounds()
    outputs: Outputs = [np.empty(0)] * len(whole.lengths())
    done, total = 0, len(whole.tokens)
    for ids in scoring_batches(whole, batch_tokens):
        batch = data.batch(ids)
        with _inference(model), model.autocast(precision):
            arrays = model.outputs(batch, task, layer, pooling)
        rows = np.repeat(firsts[ids] - batch.first[:-1], np.diff(batch.first)) + np.arange(len(arrays))
        for row, array in zip(rows, arrays, strict=True):
            outputs[row] = array
        done += batch.tokens
        if done < total:
            yield ScoreProgress(done, total, None)
    ends = np.cumsum([len(part.lengths()) for part in encoded.values()])
    parts = zip(encoded, [0, *ends[:-1]], ends, strict=True)
    yield ScoreProgress(total, total, {language: outputs[begin:end] for language, begin, end in parts})


def score_all(
    model: Chainable,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    layer: int = -1,
    pooling: Pooling | None = None,
    seed: int = 0,
) -> dict[str, Outputs]:
    """The outputs alone, for a dev set that is scored in one go; arguments as `score`."""
    settings: dict[str, Any] = {"precision": precision, "layer": layer, "pooling": pooling, "seed": seed}
    *_, last = score(model, encoded, task, batch_tokens=batch_tokens, **settings)
    assert last.outputs is not None
    return last.outputs


@contextmanager
def _inference(model: Chainable) -> Iterator[None]:
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
    if spec.family != "masked":
        return encoded
    tokens, maskable = torch.from_numpy(encoded.tokens.copy()).long(), torch.from_numpy(encoded.targets == 1)
    inputs, targets = mask_tokens(tokens, maskable, spec, len(model.embeddings), seed)
    return replace(encoded, tokens=inputs.int().numpy(), targets=targets.int().numpy())
