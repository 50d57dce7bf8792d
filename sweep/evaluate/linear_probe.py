"""Linear probe: a fresh linear head fitted by L-BFGS on the vectors of a frozen encoder.

The recipe is the same for every encoder and study: last layer, evaluation mode, vectors standardised; logistic
regression, its penalty half the squared weights divided by the number of predictions (scikit-learn's C = 1); zero at
first, then at most ITERATIONS of L-BFGS. The problem is convex and nothing is drawn, so there is no seed. What is
predicted is what the family's head predicts: the class of a text or word, the option of a choice (softmax over its
options), start and end of a span (softmax over each window).

Shapes: N vectors, H hidden size, C classes, G groups (examples of a choice, windows of a span), K softmaxes per group.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from sweep.data.encoded import Encoded
from sweep.models.batches import DeviceData, map_micro_batches, scoring_batches
from sweep.models.heads import Features, LinearHead
from sweep.models.model import MultiTaskModel, Precision
from sweep.train.score import inference

ITERATIONS = 200  # of L-BFGS at most


def linear_features(
    model: MultiTaskModel, task: str, encoded: Encoded, batch_tokens: int, precision: Precision
) -> Iterator[Features]:
    """Features of all examples, micro batch by micro batch, longest first; `group` and rows count from 0 in each.

    Raises ValueError for a task without a linear head.
    """
    head = _linear_head(model, task)
    data = DeviceData(encoded, model.device, model.pad_id)
    micro_tokens = None
    for ids in scoring_batches(encoded, batch_tokens):
        with inference(model), model.autocast(precision):
            features, micro_tokens = map_micro_batches(
                data.batch(ids), micro_tokens, lambda batch, _: head.features(model.hidden(batch), batch)
            )
        yield from features


def fit_head(model: MultiTaskModel, task: str, encoded: Encoded, *, batch_tokens: int, precision: Precision) -> None:
    """Fits the weights of the task's head anew on a frozen encoder, in place.

    Raises ValueError for a task without a linear head.
    """
    head = _linear_head(model, task)
    part = _joined(list(linear_features(model, task, encoded, batch_tokens, precision)))
    part.vectors.nan_to_num_(0.0, 0.0, 0.0)  # a run that diverged leaves NaN, which then tells nothing apart
    mean, scale = part.vectors.mean(dim=0), part.vectors.std(dim=0, unbiased=False).clamp(min=1e-6)
    part.vectors.sub_(mean).div_(scale)
    weight, bias = _regression(part, head.linear.out_features)
    with torch.no_grad():
        head.linear.weight.copy_(weight.T / scale)
        head.linear.bias.copy_(bias - head.linear.weight @ mean)


def _linear_head(model: MultiTaskModel, task: str) -> LinearHead:
    head = model.head(task)
    if not isinstance(head, LinearHead):
        raise ValueError(f"a {model.specs[task].head} task has no linear head")
    return head


def _regression(part: Features, outputs: int) -> tuple[Tensor, Tensor]:
    """Weights [H, outputs] and biases [outputs] of the penalised regression."""
    weight = part.vectors.new_zeros(part.vectors.shape[1], outputs, requires_grad=True)
    bias = part.vectors.new_zeros(outputs, requires_grad=True)
    loss = _class_loss if part.group is None else _choice_loss
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(part, part.vectors @ weight + bias) + weight.square().sum() / (2 * len(part.targets))
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _class_loss(part: Features, logits: Tensor) -> Tensor:
    """Mean cross entropy of logits [N, C]."""
    return functional.cross_entropy(logits, part.targets)


def _choice_loss(part: Features, logits: Tensor) -> Tensor:
    """Mean cross entropy of logits [N, K] over groups and softmaxes, each softmax over the vectors of a group."""
    assert part.group is not None
    group = part.group[:, None].expand_as(logits)
    top = logits.new_full(part.targets.shape, -torch.inf)
    top = top.scatter_reduce(0, group, logits.detach(), "amax")
    total = torch.zeros_like(top).scatter_add(0, group, (logits - top.gather(0, group)).exp())
    return (total.log() + top - logits.gather(0, part.targets)).mean()


def _joined(parts: list[Features]) -> Features:
    """Features of all parts in one, rows and groups counted on."""
    vectors = torch.cat([part.vectors for part in parts])
    if parts[0].group is None:
        return Features(vectors, torch.cat([part.targets for part in parts]))
    targets, groups, rows, count = [], [], 0, 0
    for part in parts:
        assert part.group is not None
        targets.append(part.targets + rows)
        groups.append(part.group + count)
        rows, count = rows + len(part.vectors), count + len(part.targets)
    return Features(vectors, torch.cat(targets), torch.cat(groups))
