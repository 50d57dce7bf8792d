"""Transferability of an intermediate setting to a target: LogME of the target's labels after a short phase.

The labels are those that the target's head would predict: classes of texts or words, the right option of a choice, the
start and the end of a span.

LogME is the log evidence of linear models on frozen vectors F (You et al. 2021, arXiv 2102.11005). Per label column y
(one class, say, as 0 and 1): w ~ N(0, 1/a), y ~ N(Fw, 1/b), and log p(y | F, a, b) at its maximum over a and b, divided
by N. The value is the mean over columns. Evidence falls with overfitting, so vectors that could fit anything have no
advantage.

The paper finds the maximum by fixed-point iteration on (a, b). Here b is maximised in closed form for every ratio
t = a / b, and the rest is a search in one variable, without a start or a number of iterations. With l the
eigenvalues of F'F, v its eigenvectors and z = v'F'y:

    Q(t) = |y|^2 - sum z^2 / l + sum (z^2 / l) t / (t + l)          b = N / Q(t)
    2 log p / N = mean over N of log(t / (t + l)) + log(N / Q(t)) - 1 - log 2 pi

So only F'F, F'y and |y|^2 are kept, which add up over batches.

Shapes: N vectors of D dimensions, K label columns, C classes, r eigenvalues that are not rounding.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.data.encoded import Encoded
from sweep.evaluate.linear_probe import linear_features
from sweep.models.heads import Features
from sweep.models.model import MultiTaskModel
from sweep.plan.plan import Plan
from sweep.plan.preview import EXAMPLES, target_settings
from sweep.plan.recipe import Chain
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.records import PreviewRecord
from sweep.tasks.task import Task
from sweep.train.context import ChainContext, Listener, encoded_flops, ignore_events, model_to_score, set_up
from sweep.train.data import SAMPLE_SEED, training_data
from sweep.train.phase import train_phase

Floats = NDArray[np.float64]

RANK = 1e-12  # eigenvalues below this share of the greatest are rounding
RANGE = (1e-10, 1e10)  # of t, in units of the greatest eigenvalue: a perfect fit has no finite maximum
POINTS, REFINEMENTS = 200, 60  # of the search: a grid, then golden sections around its best point
GOLDEN = (math.sqrt(5) - 1) / 2


def measure_transferability(chain: Chain, short: Plan, store: Store, listener: Listener = ignore_events) -> None:
    """Trains a chain of a short plan and commits its LogME to the store; without one where pretraining has collapsed.

    Raises SweepError where data, encoder or store are at fault.
    """
    stored = StoreIndex(store)
    if store.preview(chain.score) is not None or stored.dead_end(chain) is not None:
        return
    context = set_up(chain, short, store, listener)
    with context.commits:
        for phase in stored.to_train(chain):
            train_phase(context, phase)
            stored.learn(phase.key)
            if stored.dead_end(chain) is not None:
                return
        _score(context, chain)


def _score(context: ChainContext, chain: Chain) -> None:
    context.meter.enter("preview", chain.score)
    begun, spent = time.time(), context.meter.device_seconds
    task, last = context.plan.tasks[chain.cell.target], chain.phases[-1] if chain.phases else None
    encoded = _examples(context, task, chain)
    total = _moments(context, model_to_score(context, task, last, [encoded]), task, encoded)
    flops = encoded_flops(context.encoder.shape, [encoded], context.runtime.score_batch_tokens)
    context.meter.flops += flops
    record = PreviewRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, value=log_evidence(total),
        examples=encoded.examples, vectors=total.count, flops=float(flops),
        device_seconds=context.meter.device_seconds - spent, started=begun, ended=time.time(), **context.provenance,
    )  # fmt: skip
    context.commits.wait(context.meter)
    context.store.commit_preview(record)
    context.meter.report(1, 1, committed=True)


def _examples(context: ChainContext, task: Task, chain: Chain) -> Encoded:
    """Training examples of the target, the same for every setting."""
    language, length = task.trained_in[0], target_settings(context.plan, chain).max_length
    whole = context.reader.encoded(task, "train", language, length)
    return training_data({language: whole}, EXAMPLES, SAMPLE_SEED)


def _moments(context: ChainContext, model: MultiTaskModel, task: Task, encoded: Encoded) -> Moments:
    """Moments of all examples' vectors and labels."""
    total: Moments | None = None
    for part in linear_features(model, task.name, encoded, context.runtime.score_batch_tokens, context.precision):
        batch = moments(part.vectors.cpu().numpy(), label_columns(part, len(task.labels)))
        total = batch if total is None else total + batch
        context.meter.beat()
    assert total is not None
    return total


def label_columns(part: Features, classes: int) -> NDArray[np.float64]:
    """Label columns [N, C], one per class; or [N, K], 1 at the vectors to be chosen in each of K choices."""
    targets = part.targets.cpu().numpy()
    if part.group is None:
        return one_hot(targets, classes)
    columns = np.zeros((len(part.vectors), targets.shape[1]))
    columns[targets, np.arange(targets.shape[1])] = 1.0
    return columns


@dataclass(frozen=True)
class Moments:
    """Moments of vectors and labels, on which the evidence depends; those of batches add up."""

    count: int  # N
    gram: Floats  # [D, D]
    cross: Floats  # [D, K]
    squares: Floats  # [K]

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.gram + other.gram, self.cross + other.cross, self.squares + other.squares
        )


def moments(vectors: NDArray[np.float32] | Floats, columns: Floats) -> Moments:
    """Moments of vectors [N, D] and label columns [N, K]. NaN and infinities count as 0."""
    finite = np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return Moments(len(finite), finite.T @ finite, finite.T @ columns, (columns**2).sum(axis=0))


def one_hot(labels: NDArray[np.int64], classes: int) -> Floats:
    """Label columns [N, C], one per class, of labels [N]."""
    columns: Floats = np.eye(classes)[labels]
    return columns


def log_evidence(moments: Moments) -> float | None:
    """LogME: mean over columns of the greatest log evidence per vector, in nats; columns of zeros alone are left out.

    None where every column is constant: then there is nothing to explain.
    """
    used = moments.squares > 0
    cross, squares = moments.cross[:, used], moments.squares[used]
    if all(square == moments.count for square in squares):
        return None
    values, directions = np.linalg.eigh(moments.gram)
    kept = values > RANK * max(values[-1], 0.0)
    parts = (directions[:, kept].T @ cross) ** 2 / values[kept, None]  # [r, K] of |y|^2 along each direction
    columns = zip(parts.T, squares, strict=True)
    return float(np.mean([_greatest(values[kept], part, float(square), moments.count) for part, square in columns]))


def _greatest(values: Floats, parts: Floats, square: float, count: int) -> float:
    """Greatest evidence of one column over t: on a grid first, because there may be several maxima."""
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
    """Evidence of one column, log p / N, at a log t and the best b for it."""
    shrunk = 1 / (1 + values / math.exp(log_t))  # t / (t + l)
    residual = max(square - float(parts.sum()), 0.0) + float(parts @ shrunk)  # Q(t)
    return 0.5 * (float(np.log(shrunk).sum()) / count + math.log(count / residual) - 1 - math.log(2 * math.pi))
