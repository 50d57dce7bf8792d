"""What a linear head reads of a frozen encoder: vectors of the last layer, and what is to be predicted from them.

Evaluation mode, in the order of the longest sequences first. What is predicted is what the family's head predicts: the
class of a text or word, the option of a choice, the first and last token of a span.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sweep.data.encoded__base_encoded import Encoded
from sweep.evaluate.linear_probe__logme import one_hot
from sweep.models.batches import DeviceData, scoring_batches
from sweep.models.batches__memory import in_parts
from sweep.models.heads import Head, Part
from sweep.models.model import Chainable, Precision
from sweep.train.score import inference


def parts(model: Chainable, task: str, encoded: Encoded, batch_tokens: int, precision: Precision) -> Iterator[Part]:
    """One part per batch, or several; `group` and rows count from 0 in each.

    Raises ValueError for a head that is not linear.
    """
    head = model.head(task)
    if not isinstance(head, Head):
        raise ValueError(f"a {model.specs[task].head} task has no linear head")
    data = DeviceData(encoded, model.device, model.pad_id)
    part_tokens = None
    for ids in scoring_batches(encoded, batch_tokens):
        with inference(model), model.autocast(precision):
            found, part_tokens = in_parts(
                data.batch(ids), part_tokens, lambda batch, _: head.features(model.hidden(batch), batch)
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
