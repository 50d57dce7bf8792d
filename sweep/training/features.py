"""What a linear head reads of a frozen encoder: vectors of the last layer, and what is to be predicted from them.

Evaluation mode, in the order of the longest sequences first. What is predicted is what the family's head predicts: the
class of a text or word, the option of a choice, the first and last token of a span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.tasks.base import IGNORED, Encoded
from sweep.training.batching import Batch, DeviceData, scoring_batches
from sweep.training.heads import pool
from sweep.training.logme import one_hot
from sweep.training.memory import in_parts
from sweep.training.model import Chainable, Precision
from sweep.training.scoring import inference


@dataclass(frozen=True)
class Part:
    """Vectors of some examples and what is to be predicted from them."""

    vectors: Tensor  # [V, H] fp32
    targets: Tensor  # [V] classes; or [G, K] rows of `vectors`
    group: Tensor | None = None  # [V] the group of each vector; None: each vector is classified


def parts(model: Chainable, task: str, encoded: Encoded, batch_tokens: int, precision: Precision) -> Iterator[Part]:
    """One part per batch, or several; `group` and rows count from 0 in each.

    Raises KeyError for a family without a linear head.
    """
    read = _READERS[model.specs[task].family]
    data = DeviceData(encoded, model.device, model.pad_id)
    part_tokens = None
    for ids in scoring_batches(encoded, batch_tokens):
        with inference(model), model.autocast(precision):
            found, part_tokens = in_parts(
                data.batch(ids), part_tokens, lambda batch, _: read(model, model.hidden(batch), batch)
            )
        yield from found


def label_columns(part: Part, classes: int) -> NDArray[np.float64]:
    """[V, C] a column per class; or [V, K] whether each vector is the one to be chosen, in each of K choices."""
    targets = part.targets.cpu().numpy()
    if part.group is None:
        return one_hot(targets, classes)
    columns = np.zeros((len(part.vectors), targets.shape[1]))
    columns[targets, np.arange(targets.shape[1])] = 1.0
    return columns


def _text(model: Chainable, hidden: Tensor, batch: Batch) -> Part:
    return Part(pool(hidden, batch.attention_mask, model.pooling), batch.targets[:, 0])


def _words(_model: Chainable, hidden: Tensor, batch: Batch) -> Part:
    shown = batch.targets != IGNORED
    return Part(hidden[shown].float(), batch.targets[shown])


def _options(model: Chainable, hidden: Tensor, batch: Batch) -> Part:
    first = torch.from_numpy(batch.first[:-1]).to(hidden.device)
    right = first + batch.targets[first, 0]
    return Part(pool(hidden, batch.attention_mask, model.pooling), right[:, None], batch.example)


def _places(_model: Chainable, hidden: Tensor, batch: Batch) -> Part:
    lengths = torch.from_numpy(batch.lengths).to(hidden.device)
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    windows = torch.arange(len(lengths), device=hidden.device)
    first = lengths.cumsum(0) - lengths
    return Part(hidden[real].float(), first[:, None] + batch.targets, windows.repeat_interleave(lengths))


_READERS: dict[str, Callable[[Chainable, Tensor, Batch], Part]] = {
    "sequence": _text, "token": _words, "choice": _options, "span": _places,
}  # fmt: skip
