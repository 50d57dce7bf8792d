"""A fresh linear head on a frozen encoder: how much of a task its vectors hold, whatever became of the task's own head.

The recipe is the same for every encoder and study: last layer, evaluation mode, vectors standardised; logistic
regression, its penalty half the squared weights divided by the number of predictions (scikit-learn's C = 1); zero at
first, then at most ITERATIONS of L-BFGS. The problem is convex and nothing is drawn, so there is no seed. What is
predicted is what the family's head predicts: the class of a text or word, the option of a choice (softmax over its
options), start and end of a span (softmax over each window).

Shapes: V vectors, H hidden size, C classes, G groups (examples of a choice, windows of a span), K softmaxes per group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sweep.tasks.base import IGNORED, Encoded
from sweep.training.batching import Batch, DeviceData, scoring_batches
from sweep.training.heads import Head, pool
from sweep.training.model import Chainable, Precision
from sweep.training.scoring import inference

ITERATIONS = 200


@dataclass(frozen=True)
class _Part:
    """Vectors of some examples and what is to be predicted from them."""

    vectors: Tensor  # [V, H] fp32
    targets: Tensor  # [V] classes; or [G, K] rows of `vectors`
    group: Tensor | None = None  # [V] the group of each vector; None: each vector is classified


def fit_head(model: Chainable, task: str, encoded: Encoded, *, batch_tokens: int, precision: Precision) -> None:
    """Replaces the weights of the task's head. Raises ValueError for a family without a linear head."""
    head = model.head(task)
    if not isinstance(head, Head):
        raise ValueError(f"a {model.specs[task].family} task has no linear head")
    part = _joined(list(_parts(model, task, encoded, batch_tokens, precision)))
    part.vectors.nan_to_num_(0.0, 0.0, 0.0)  # a run that blew up leaves vectors without numbers, which say nothing
    mean, scale = part.vectors.mean(dim=0), part.vectors.std(dim=0, unbiased=False).clamp(min=1e-6)
    part.vectors.sub_(mean).div_(scale)
    weight, bias = _solved(part, head.linear.out_features)
    with torch.no_grad():
        head.linear.weight.copy_(weight.T / scale)
        head.linear.bias.copy_(bias - head.linear.weight @ mean)


def _solved(part: _Part, outputs: int) -> tuple[Tensor, Tensor]:
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


def _classified(part: _Part, logits: Tensor) -> Tensor:
    """Mean loss of [V, C] logits."""
    return functional.cross_entropy(logits, part.targets)


def _chosen(part: _Part, logits: Tensor) -> Tensor:
    """Mean over groups and softmaxes of the loss of [V, K] logits, each softmax over the vectors of a group."""
    assert part.group is not None
    group = part.group[:, None].expand_as(logits)
    top = logits.new_full(part.targets.shape, -torch.inf)
    top = top.scatter_reduce(0, group, logits.detach(), "amax")
    total = torch.zeros_like(top).scatter_add(0, group, (logits - top.gather(0, group)).exp())
    return (total.log() + top - logits.gather(0, part.targets)).mean()


def _parts(model: Chainable, task: str, encoded: Encoded, batch_tokens: int, precision: Precision) -> Iterator[_Part]:
    read = _READERS[model.specs[task].family]
    data = DeviceData(encoded, model.device, model.pad_id)
    for ids in scoring_batches(encoded, batch_tokens):
        batch = data.batch(ids)
        with inference(model), model.autocast(precision):
            part = read(model, model.hidden(batch), batch)
        yield part


def _text(model: Chainable, hidden: Tensor, batch: Batch) -> _Part:
    return _Part(pool(hidden, batch.attention_mask, model.pooling), batch.targets[:, 0])


def _words(_model: Chainable, hidden: Tensor, batch: Batch) -> _Part:
    shown = batch.targets != IGNORED
    return _Part(hidden[shown].float(), batch.targets[shown])


def _options(model: Chainable, hidden: Tensor, batch: Batch) -> _Part:
    first = torch.from_numpy(batch.first[:-1]).to(hidden.device)
    right = first + batch.targets[first, 0]
    return _Part(pool(hidden, batch.attention_mask, model.pooling), right[:, None], batch.example)


def _places(_model: Chainable, hidden: Tensor, batch: Batch) -> _Part:
    lengths = torch.from_numpy(batch.lengths).to(hidden.device)
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    windows = torch.arange(len(lengths), device=hidden.device)
    first = lengths.cumsum(0) - lengths
    return _Part(hidden[real].float(), first[:, None] + batch.targets, windows.repeat_interleave(lengths))


_READERS: dict[str, Callable[[Chainable, Tensor, Batch], _Part]] = {
    "sequence": _text, "token": _words, "choice": _options, "span": _places,
}  # fmt: skip


def _joined(parts: list[_Part]) -> _Part:
    """One after another, rows and groups counted on."""
    vectors = torch.cat([part.vectors for part in parts])
    if parts[0].group is None:
        return _Part(vectors, torch.cat([part.targets for part in parts]))
    targets, groups, rows, count = [], [], 0, 0
    for part in parts:
        assert part.group is not None
        targets.append(part.targets + rows)
        groups.append(part.group + count)
        rows, count = rows + len(part.vectors), count + len(part.targets)
    return _Part(vectors, torch.cat(targets), torch.cat(groups))
