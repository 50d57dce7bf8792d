"""Linear probe: a fresh linear head fitted by L-BFGS on the vectors of a frozen encoder.

The recipe is the same for every encoder and study: last layer, evaluation mode, vectors standardised; logistic
regression, its penalty half the squared weights divided by the number of predictions (scikit-learn's C = 1); zero at
first, then at most ITERATIONS of L-BFGS. The problem is convex and nothing is drawn, so there is no seed. What is
predicted is what the family's head predicts: the class of a text or word, the option of a choice (softmax over its
options), start and end of a span (softmax over each window).

Shapes: V vectors, H hidden size, C classes, G groups (examples of a choice, windows of a span), K softmaxes per group.
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

ITERATIONS = 200


def linear_features(
    model: MultiTaskModel, task: str, encoded: Encoded, batch_tokens: int, precision: Precision
) -> Iterator[Features]:
    """One part per batch, or several; `group` and rows count from 0 in each.

    Raises ValueError for a head that is not linear.
    """
    head = model.head(task)
    if not isinstance(head, LinearHead):
        raise ValueError(f"a {model.specs[task].head} task has no linear head")
    data = DeviceData(encoded, model.device, model.pad_id)
    micro_tokens = None
    for ids in scoring_batches(encoded, batch_tokens):
        with inference(model), model.autocast(precision):
            found, micro_tokens = map_micro_batches(
                data.batch(ids), micro_tokens, lambda batch, _: head.features(model.hidden(batch), batch)
            )
        yield from found


def fit_head(model: MultiTaskModel, task: str, encoded: Encoded, *, batch_tokens: int, precision: Precision) -> None:
    """Replaces the weights of the task's head. Raises ValueError for a family without a linear head."""
    head = model.head(task)
    if not isinstance(head, LinearHead):
        raise ValueError(f"a {model.specs[task].head} task has no linear head")
    part = _joined(list(linear_features(model, task, encoded, batch_tokens, precision)))
    part.vectors.nan_to_num_(0.0, 0.0, 0.0)  # a run that blew up leaves vectors without numbers, which say nothing
    mean, scale = part.vectors.mean(dim=0), part.vectors.std(dim=0, unbiased=False).clamp(min=1e-6)
    part.vectors.sub_(mean).div_(scale)
    weight, bias = _solved(part, head.linear.out_features)
    with torch.no_grad():
        head.linear.weight.copy_(weight.T / scale)
        head.linear.bias.copy_(bias - head.linear.weight @ mean)


def _solved(part: Features, outputs: int) -> tuple[Tensor, Tensor]:
    """[H, outputs] weights and [outputs] biases of the penalised regression."""
    weight = part.vectors.new_zeros(part.vectors.shape[1], outputs, requires_grad=True)
    bias = part.vectors.new_zeros(outputs, requires_grad=True)
    loss = _classified if part.group is None else _chosen
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(part, part.vectors @ weight + bias) + weight.square().sum() / (2 * len(part.targets))
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _classified(part: Features, logits: Tensor) -> Tensor:
    """Mean loss of [V, C] logits."""
    return functional.cross_entropy(logits, part.targets)


def _chosen(part: Features, logits: Tensor) -> Tensor:
    """Mean over groups and softmaxes of the loss of [V, K] logits, each softmax over the vectors of a group."""
    assert part.group is not None
    group = part.group[:, None].expand_as(logits)
    top = logits.new_full(part.targets.shape, -torch.inf)
    top = top.scatter_reduce(0, group, logits.detach(), "amax")
    total = torch.zeros_like(top).scatter_add(0, group, (logits - top.gather(0, group)).exp())
    return (total.log() + top - logits.gather(0, part.targets)).mean()


def _joined(found: list[Features]) -> Features:
    """One after another, rows and groups counted on."""
    vectors = torch.cat([part.vectors for part in found])
    if found[0].group is None:
        return Features(vectors, torch.cat([part.targets for part in found]))
    targets, groups, rows, count = [], [], 0, 0
    for part in found:
        assert part.group is not None
        targets.append(part.targets + rows)
        groups.append(part.group + count)
        rows, count = rows + len(part.vectors), count + len(part.targets)
    return Features(vectors, torch.cat(targets), torch.cat(groups))
