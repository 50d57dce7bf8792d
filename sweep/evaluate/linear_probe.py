"""Linear models on frozen vectors: a fresh head fitted by L-BFGS, and LogME, which fits none.

You et al. 2021, arXiv 2102.11005.

Per label column y (one class, say, as 0 and 1): w ~ N(0, 1/a), y ~ N(Fw, 1/b), and log p(y | F, a, b) at its maximum
over a and b, divided by N. The value is the mean over columns. Overfitting costs evidence, so vectors that could fit
anything score no better than they deserve.

The paper finds the maximum by fixed-point iteration on (a, b). Here b is maximised in closed form for every ratio
t = a / b, and the rest is a search in one variable: no start, no number of iterations, the same maximum. With l the
eigenvalues of F'F, v its eigenvectors and z = v'F'y:

    Q(t) = |y|^2 - sum z^2 / l + sum (z^2 / l) t / (t + l)          b = N / Q(t)
    2 log p / N = mean over N of log(t / (t + l)) + log(N / Q(t)) - 1 - log 2 pi

So no more than F'F, F'y and |y|^2 are kept, which add up over batches.

Evaluation mode, in the order of the longest sequences first. What is predicted is what the family's head predicts: the
class of a text or word, the option of a choice, the first and last token of a span.

The recipe is the same for every encoder and study: last layer, evaluation mode, vectors standardised; logistic
regression, its penalty half the squared weights divided by the number of predictions (scikit-learn's C = 1); zero at
first, then at most ITERATIONS of L-BFGS. The problem is convex and nothing is drawn, so there is no seed. What is
predicted is what the family's head predicts: the class of a text or word, the option of a choice (softmax over its
options), start and end of a span (softmax over each window).

Shapes: V vectors, H hidden size, C classes, G groups (examples of a choice, windows of a span), K softmaxes per group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sweep.data.encoded import Encoded
from sweep.models.batches import DeviceData, in_parts, scoring_batches
from sweep.models.heads import Head, Part
from sweep.models.model import Chainable, Precision
from sweep.train.score import inference

Floats = NDArray[np.float64]

RANK = 1e-12  # eigenvalues below this share of the greatest are rounding
RANGE = (1e-10, 1e10)  # of t, in greatest eigenvalues: a perfect fit has no finite maximum
POINTS, REFINEMENTS = 200, 60  # of the search: a grid, then golden sections around its best point
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Moments:
    """All that the evidence depends on, of N vectors with D dimensions and K label columns."""

    count: int  # N
    gram: Floats  # [D, D]
    cross: Floats  # [D, K]
    squares: Floats  # [K]

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.gram + other.gram, self.cross + other.cross, self.squares + other.squares
        )


def moments(vectors: NDArray[np.float32] | Floats, columns: Floats) -> Moments:
    """Of vectors [N, D] and labels [N, K]. A value that is no number counts as 0: it says nothing."""
    found = np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return Moments(len(found), found.T @ found, found.T @ columns, (columns**2).sum(axis=0))


def one_hot(labels: NDArray[np.int64], classes: int) -> Floats:
    """[N, C] a column per class."""
    columns: Floats = np.eye(classes)[labels]
    return columns


def log_evidence(found: Moments) -> float | None:
    """Mean over columns of the greatest log evidence per vector, in nats; columns of zeros alone are left out.

    None where every column is one and the same value: then there is nothing to explain.
    """
    known = found.cross[:, found.squares > 0], found.squares[found.squares > 0]
    if all(square == found.count for square in known[1]):
        return None
    values, directions = np.linalg.eigh(found.gram)
    kept = values > RANK * max(values[-1], 0.0)
    parts = (directions[:, kept].T @ known[0]) ** 2 / values[kept, None]  # [r, K] of |y|^2 along each direction
    columns = zip(parts.T, known[1], strict=True)
    return float(np.mean([_greatest(values[kept], part, float(square), found.count) for part, square in columns]))


def _greatest(values: Floats, parts: Floats, square: float, count: int) -> float:
    """The maximum over t of one column: of a grid first, because there may be more than one."""
    if not len(values):
        return _evidence(0.0, values, parts, square, count)
    low, high = (math.log(values[-1] * end) for end in RANGE)
    grid = np.linspace(low, high, POINTS)
    best = int(np.argmax([_evidence(float(point), values, parts, square, count) for point in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, POINTS - 1)])
    for _ in range(REFINEMENTS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if _evidence(left, values, parts, square, count) < _evidence(right, values, parts, square, count):
            low = left
        else:
            high = right
    return _evidence((low + high) / 2, values, parts, square, count)


def _evidence(log_t: float, values: Floats, parts: Floats, square: float, count: int) -> float:
    """log p / N at the best b for this t."""
    shrunk = 1 / (1 + values / math.exp(log_t))  # t / (t + l)
    left = max(square - float(parts.sum()), 0.0) + float(parts @ shrunk)
    return 0.5 * (float(np.log(shrunk).sum()) / count + math.log(count / left) - 1 - math.log(2 * math.pi))


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


ITERATIONS = 200


def fit_head(model: Chainable, task: str, encoded: Encoded, *, batch_tokens: int, precision: Precision) -> None:
    """Replaces the weights of the task's head. Raises ValueError for a family without a linear head."""
    head = model.head(task)
    if not isinstance(head, Head):
        raise ValueError(f"a {model.specs[task].head} task has no linear head")
    part = _joined(list(parts(model, task, encoded, batch_tokens, precision)))
    part.vectors.nan_to_num_(0.0, 0.0, 0.0)  # a run that blew up leaves vectors without numbers, which say nothing
    mean, scale = part.vectors.mean(dim=0), part.vectors.std(dim=0, unbiased=False).clamp(min=1e-6)
    part.vectors.sub_(mean).div_(scale)
    weight, bias = _solved(part, head.linear.out_features)
    with torch.no_grad():
        head.linear.weight.copy_(weight.T / scale)
        head.linear.bias.copy_(bias - head.linear.weight @ mean)


def _solved(part: Part, outputs: int) -> tuple[Tensor, Tensor]:
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


def _classified(part: Part, logits: Tensor) -> Tensor:
    """Mean loss of [V, C] logits."""
    return functional.cross_entropy(logits, part.targets)


def _chosen(part: Part, logits: Tensor) -> Tensor:
    """Mean over groups and softmaxes of the loss of [V, K] logits, each softmax over the vectors of a group."""
    assert part.group is not None
    group = part.group[:, None].expand_as(logits)
    top = logits.new_full(part.targets.shape, -torch.inf)
    top = top.scatter_reduce(0, group, logits.detach(), "amax")
    total = torch.zeros_like(top).scatter_add(0, group, (logits - top.gather(0, group)).exp())
    return (total.log() + top - logits.gather(0, part.targets)).mean()


def _joined(found: list[Part]) -> Part:
    """One after another, rows and groups counted on."""
    vectors = torch.cat([part.vectors for part in found])
    if found[0].group is None:
        return Part(vectors, torch.cat([part.targets for part in found]))
    targets, groups, rows, count = [], [], 0, 0
    for part in found:
        assert part.group is not None
        targets.append(part.targets + rows)
        groups.append(part.group + count)
        rows, count = rows + len(part.vectors), count + len(part.targets)
    return Part(vectors, torch.cat(targets), torch.cat(groups))
