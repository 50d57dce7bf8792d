"""score(): a model's outputs in every language of a task, in one length-sorted stream; and nearest neighbours.

All languages are merged before batches are cut, so every batch is full whatever a language's size, and the longest
batch comes first: a score that fits into memory at its start fits to its end.

Outputs of retrieval tasks are vectors, which are searched exhaustively in blocks of the similarity matrix: one product
of [R, D] and [D, C] each, so that 500,000 x 500,000 similarities never exist at once. Both directions read the same
block. To find out whether a block holds anything new for a row, the greatest value of every GROUP columns is enough: an
element among a row's best k lies in one of its best k groups. Only rows that a block improves are looked at closer, and
these are few after the first blocks. Of equal similarities the lower index is kept and comes first, whatever the block
size.

Shapes: S sequences, H hidden size, N queries and M keys of D dimensions, R rows and C columns of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sweep.data.encoded import Encoded, concatenate
from sweep.data.units import Ids
from sweep.models.batches import Batch, DeviceData, map_micro_batches, scoring_batches
from sweep.models.heads import MaskedHead, Pooling, VectorHead, mask_tokens
from sweep.models.model import MultiTaskModel, Precision
from sweep.tasks.retrieval import Neighbours, RowIds
from sweep.tasks.task import Outputs

GROUP = 32  # columns whose maximum is taken together
BLOCK_BYTES = 64 << 20  # of similarities held at a time
GPU_BLOCK_BYTES = 1 << 30  # a GPU needs larger products


@dataclass(frozen=True)
class ScoreProgress:
    """Progress of a score after a batch."""

    tokens: int  # real tokens scored so far
    total_tokens: int
    outputs: list[dict[str, Outputs]] | None  # of the last one: by language, for each layer


def score(
    model: MultiTaskModel,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    layers: Sequence[int] = (-1,),
    pooling: Pooling | None = None,
    seed: int = 0,
) -> Iterator[ScoreProgress]:
    """Scores `encoded` data by language with a task's head; yields after every batch, outputs at the end.

    Outputs are one array per sequence, or DeviceVectors [S, H] of retrieval tasks, for each of `layers`. `layers` and
    `pooling` are for those tasks alone: other heads read the layer that they were trained on. `seed` masks the text of
    masked tasks. Beside the outputs memory holds the tokens and one batch of `batch_tokens` padded tokens. Raises
    ValueError for a layer that the encoder does not have.
    """
    whole = concatenate([_masked(model, data, task, seed) for data in encoded.values()])
    data, firsts = DeviceData(whole, model.device, model.pad_id), whole.example_bounds()
    ends = np.cumsum([len(part.lengths()) for part in encoded.values()])
    vectors = isinstance(model.head(task), VectorHead)
    kept = _Vectors(model, task, ends, layers, pooling) if vectors else _Arrays(model, task, ends)
    done, total, micro_tokens = 0, len(whole.tokens), None
    for ids in scoring_batches(whole, batch_tokens):
        batch = data.batch(ids)
        rows = np.repeat(firsts[ids] - batch.first[:-1], np.diff(batch.first)) + np.arange(len(batch.lengths))
        with inference(model), model.autocast(precision):
            _, micro_tokens = map_micro_batches(batch, micro_tokens, partial(kept.take, rows))
        done += batch.tokens
        if done < total:
            yield ScoreProgress(done, total, None)
    yield ScoreProgress(total, total, [dict(zip(encoded, parts, strict=True)) for parts in kept.parts()])


def score_all(
    model: MultiTaskModel,
    encoded: Mapping[str, Encoded],
    task: str,
    *,
    batch_tokens: int,
    precision: Precision = "fp32",
    seed: int = 0,
) -> dict[str, Outputs]:
    """Outputs by language of the last layer, for data that is scored in one go; arguments as `score`."""
    *_, last = score(model, encoded, task, batch_tokens=batch_tokens, precision=precision, seed=seed)
    assert last.outputs is not None
    return last.outputs[0]


@contextmanager
def inference(model: MultiTaskModel) -> Iterator[None]:
    """Evaluation mode without gradients, for one batch; afterwards the model is in the mode that it was in."""
    training = model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()


class _Arrays:
    """Outputs of heads that give one array per sequence, in the order of the data."""

    def __init__(self, model: MultiTaskModel, task: str, ends: Ids) -> None:
        self.model, self.task, self.ends = model, task, ends
        self.arrays = [np.empty(0)] * int(ends[-1])

    def take(self, rows: Ids, batch: Batch, part: slice) -> None:
        for row, array in zip(rows[part].tolist(), self.model.outputs(batch, self.task), strict=True):
            self.arrays[row] = array

    def parts(self) -> list[list[Outputs]]:
        return [[self.arrays[begin:end] for begin, end in _spans(self.ends)]]


class _Vectors:
    """Outputs of retrieval tasks: one float32 array [S, H] per layer, not half a million objects."""

    def __init__(
        self, model: MultiTaskModel, task: str, ends: Ids, layers: Sequence[int], pooling: Pooling | None
    ) -> None:
        self.model, self.task, self.ends, self.layers, self.pooling = model, task, ends, layers, pooling
        shape = (int(ends[-1]), model.encoder.config.hidden_size)
        self.arrays = [np.empty(shape, dtype=np.float32) for _ in layers]

    def take(self, rows: Ids, batch: Batch, part: slice) -> None:
        by_layer = self.model.vectors(batch, self.task, self.layers, self.pooling)
        for array, vectors in zip(self.arrays, by_layer, strict=True):
            array[rows[part]] = vectors.cpu().numpy()

    def parts(self) -> list[list[Outputs]]:
        device = self.model.device
        return [[DeviceVectors(array[begin:end], device) for begin, end in _spans(self.ends)] for array in self.arrays]


def _spans(ends: Ids) -> list[tuple[int, int]]:
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))


def _masked(model: MultiTaskModel, encoded: Encoded, task: str, seed: int) -> Encoded:
    """Data with masked text, where the task is a masked one; a function of (text, seed), the same for all models."""
    spec = model.specs[task]
    if not isinstance(model.head(task), MaskedHead):
        return encoded
    tokens, maskable = torch.from_numpy(encoded.tokens.copy()).long(), torch.from_numpy(encoded.targets == 1)
    inputs, targets = mask_tokens(tokens, maskable, spec, len(model.embeddings), seed)
    return replace(encoded, tokens=inputs.int().numpy(), targets=targets.int().numpy())


@dataclass(frozen=True)
class DeviceVectors:
    """Vectors [S, H] float32 on the host, searched by cosine on a device (the protocol tasks.retrieval.Vectors)."""

    array: NDArray[np.float32]
    device: torch.device

    def __len__(self) -> int:
        return len(self.array)

    def nearest(self, queries: RowIds, keys: RowIds, count: int) -> Neighbours:
        """Neighbours [N, count] of the rows `queries` [N] among the rows `keys` [M]."""
        return nearest_neighbours(self._units(queries), self._units(keys), count)[0]

    def mutual(self, left: RowIds, right: RowIds, count: int) -> tuple[Neighbours, Neighbours]:
        """Neighbours [N, count] of rows `left` [N] among rows `right` [M], and [M, count] the other way round."""
        forward, backward = nearest_neighbours(self._units(left), self._units(right), count, both=True)
        assert backward is not None
        return forward, backward

    def _units(self, rows: RowIds) -> Tensor:
        """Vectors [N, H] of length 1, on the device; a zero vector stays one, and NaN counts as 0."""
        vectors = torch.from_numpy(self.array[rows]).to(self.device)
        return functional.normalize(vectors.nan_to_num_(), dim=1)


def nearest_neighbours(
    queries: Tensor, keys: Tensor, count: int, *, both: bool = False, block_bytes: int | None = None
) -> tuple[Neighbours, Neighbours | None]:
    """Nearest keys [M, D] of each query [N, D] by inner product; with `both`, also nearest queries of each key.

    Both tensors lie on the device that computes. Results are [N, count] and [M, count] on the host, narrower where
    there are fewer than `count`. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"{count} neighbours")
    device = queries.device
    forward = TopK(len(queries), min(count, len(keys)), device)
    backward = TopK(len(keys), min(count, len(queries)), device) if both else None
    for row, column, block in _blocks(queries, keys, block_bytes or _block_bytes(device)):
        by_column = block.view(len(block), -1, GROUP)
        forward.add(by_column, by_column.amax(dim=2), row, column)
        if backward is not None:
            by_row = block.view(-1, GROUP, block.shape[1])
            backward.add(by_row.permute(2, 0, 1), by_row.amax(dim=1).T.contiguous(), column, row)
    return forward.neighbours(), backward.neighbours() if backward is not None else None


def block_shape(queries: int, keys: int, block_bytes: int) -> tuple[int, int]:
    """Rows and columns of a block of float32 similarities, as square as the matrix allows; multiples of GROUP."""
    elements = max(block_bytes // 4, GROUP * GROUP)
    side = math.isqrt(elements)
    columns = min(_down(side), _up(keys))
    rows = min(_down(elements // columns), _up(queries))
    return rows, min(_down(elements // rows), _up(keys))


def _blocks(queries: Tensor, keys: Tensor, block_bytes: int) -> Iterator[tuple[int, int, Tensor]]:
    """First row, first column and similarities [R, C] of every block; both ascend.

    Sides are multiples of GROUP, padded with -inf. A block is valid until the next one.
    """
    rows, columns = block_shape(len(queries), len(keys), block_bytes)
    buffer = torch.empty((rows, columns), device=queries.device)
    for column in range(0, len(keys), columns):
        part = keys[column : column + columns].T
        for row in range(0, len(queries), rows):
            query = queries[row : row + rows]
            if (len(query), part.shape[1]) == buffer.shape:
                yield row, column, torch.mm(query, part, out=buffer)
            else:
                yield row, column, _padded(query @ part)


def _padded(block: Tensor) -> Tensor:
    below, right = -len(block) % GROUP, -block.shape[1] % GROUP
    return functional.pad(block, (0, right, 0, below), value=-torch.inf)


def _down(size: int) -> int:
    return max(size // GROUP, 1) * GROUP


def _up(size: int) -> int:
    return max(-(-size // GROUP), 1) * GROUP


def _block_bytes(device: torch.device) -> int:
    return GPU_BLOCK_BYTES if device.type == "cuda" else BLOCK_BYTES


class TopK:
    """Running top k: the `count` greatest values of each row so far, greatest first, and their columns."""

    def __init__(self, rows: int, count: int, device: torch.device) -> None:
        self.values = torch.full((rows, count), -torch.inf, device=device)
        self.columns = torch.zeros((rows, count), dtype=torch.long, device=device)

    def add(self, block: Tensor, groups: Tensor, first_row: int, first_column: int) -> None:
        """Adds a block [R, B, GROUP] of values, whose maxima over its last axis are `groups` [R, B].

        It begins at a row and a column of the whole matrix; columns must come in ascending order.
        """
        worst = self.values[first_row : first_row + len(block), -1]  # fewer than the block's rows where it is padded
        improved = (groups[: len(worst)].amax(dim=1) > worst).nonzero()[:, 0]
        if not len(improved):
            return
        count = self.values.shape[1]
        chosen = _best(groups[improved], min(count, groups.shape[1])).sort(dim=1).values
        candidates = block[improved[:, None], chosen]
        width = candidates.shape[2]
        columns = first_column + chosen[:, :, None] * width + torch.arange(width, device=block.device)
        rows = first_row + improved
        values = torch.cat([self.values[rows], candidates.flatten(1)], dim=1)
        columns = torch.cat([self.columns[rows], columns.flatten(1)], dim=1)
        order = _best(values, count)  # of equals the one with the lower column stands further left
        self.values[rows], self.columns[rows] = values.gather(1, order), columns.gather(1, order)

    def neighbours(self) -> Neighbours:
        """Columns and values [rows, count] on the host."""
        return Neighbours(self.columns.cpu().numpy(), self.values.cpu().numpy())


def _best(values: Tensor, count: int) -> Tensor:
    """Positions [R, count] of the greatest values of each row [R, C], greatest first; of equals the first.

    Value and position make one integer, for `topk` promises nothing about ties and a stable sort takes far longer.
    """
    bits = (values + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    last = values.shape[1] - 1
    keys = (ordered << 32) + (last - torch.arange(last + 1, device=values.device))
    return last - (keys.topk(count, dim=1).values & 0xFFFFFFFF)
