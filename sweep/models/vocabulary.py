"""Rows in use: the rows of an encoder's embedding matrix whose tokens a phase reads, and what becomes of the others.

Two thirds to four fifths of a multilingual encoder are embeddings, most of them of words that no text of a study holds.
A phase therefore loads, trains, checkpoints and stores the rows that its texts, or those of the phases before it, hold.
Nothing else changes: a row that no text reads has no gradient, its moments stay zero, and all that AdamW does to it is
to multiply it at every step by 1 - rate x decay, rounded to float32. So whoever reads a new word, in a test language or
in a later phase, has its row from the published encoder by the same multiplications: to the last bit the row of an
encoder that held it all the time.

On a CPU all else is the same to the last bit, too. Both AdamW's kernel and the norm by which gradients are clipped go
through a matrix in vectors of at most VECTOR numbers; where the width of the embeddings is a multiple of that, leaving
out rows of zeros moves no number into another lane, and adds no term to a sum. Matrices of other widths are held whole.
On a GPU the norm's last digits depend on where its kernel cuts the matrix, as they do between two kinds of GPU; and its
AdamW takes rate x decay x row from the row in float64, so rows brought back differ from held ones in last digits.

Token ids stay those of the tokenizer: the embedding alone looks up where a row lies, so positions that a model derives
from padding, and every special token that it compares ids with, are what they were.

Shapes: V rows of the vocabulary, R rows in use, D width of the embeddings, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sweep.data.encoded import Encoded

TokenIds = NDArray[np.int32]

VECTOR = 16  # float32 numbers in the widest vectors of a CPU
BLOCK = {"cpu": 2**18, "cuda": 2**23}  # numbers that are multiplied at a time, so that they stay in the cache
IDS, DECAY = "rows/ids", "rows/decay"  # names beside those of an encoder's tensors


@dataclass(frozen=True)
class Rows:
    """Rows of the embeddings that some weights hold; every other one is the published row, times each of the factors.

    A product of rounded numbers depends on the order of rounding, so the factors are kept one by one.
    """

    ids: TokenIds  # [R] ascending
    decay: tuple[float, ...] = ()  # of all T steps since the encoder was published

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Rows | None:
        """Rows that stored tensors hold; None: all."""
        return cls(tensors[IDS].numpy(), tuple(tensors[DECAY].tolist())) if IDS in tensors else None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors that say it, to be stored beside the weights."""
        return {IDS: torch.from_numpy(self.ids), DECAY: torch.tensor(self.decay)}

    @property
    def factor(self) -> float:
        """Share that is left of the rows that are not held: the product of all factors."""
        return math.prod(self.decay)

    def after(self, steps: Iterable[float]) -> Rows:
        """The same rows after further steps with these factors."""
        return replace(self, decay=(*self.decay, *steps))


def without_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's own tensors out of stored ones."""
    return {name: tensor for name, tensor in tensors.items() if name not in (IDS, DECAY)}


def tokens_in(parts: Iterable[Encoded]) -> TokenIds:
    """Ids of the tokens that occur in some data, ascending."""
    return union(*(np.flatnonzero(np.bincount(part.tokens)) for part in parts))


def union(*ids: NDArray[Any]) -> TokenIds:
    """Ids that occur in one of several arrays, ascending."""
    joined: TokenIds = reduce(np.union1d, ids, np.zeros(0, dtype=np.int32)).astype(np.int32)
    return joined


def decay_factor(rate: float, weight_decay: float) -> float:
    """Factor by which a step of AdamW multiplies a row without a gradient; its fused kernel rounds it to float32."""
    return float(np.float32(1 - rate * weight_decay))


def decayed(rows: Tensor, factors: Iterable[float]) -> Tensor:
    """Rows [N, D] float32 after steps without a gradient; every device rounds products alike."""
    changed = rows.clone()
    effective = [factor for factor in factors if factor != 1.0]
    for block in torch.split(changed.view(-1), BLOCK[changed.device.type]):
        for factor in effective:
            block.mul_(factor)
    return changed


def placed(held: Tensor, ids: TokenIds, wanted: TokenIds, rest: Callable[[TokenIds], Tensor]) -> Tensor:
    """The rows `wanted` [N, D] out of the `held` ones [R, D] with these ids; `rest` gives those that are not held."""
    known = np.isin(wanted, ids, assume_unique=True)
    if known.all():
        return held if len(wanted) == len(ids) else held[torch.from_numpy(np.searchsorted(ids, wanted))]
    rows = held.new_empty(len(wanted), held.shape[1])
    rows[torch.from_numpy(known)] = held[torch.from_numpy(np.searchsorted(ids, wanted[known]))]
    rows[torch.from_numpy(~known)] = rest(wanted[~known]).to(held.device)
    return rows


class HeldEmbedding(nn.Module):
    """Embedding of which some rows are held: token ids [...] to vectors [..., D]; the same name in a state dict.

    An id whose row is not held is out of range, which torch refuses.
    """

    def __init__(self, weight: Tensor, rows: Rows, vocabulary: int, padding_idx: int | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.rows, self.num_embeddings, self.embedding_dim = rows, vocabulary, weight.shape[1]
        self.padding_idx = padding_idx
        positions = torch.full((vocabulary,), -1)
        positions[torch.from_numpy(rows.ids).long()] = torch.arange(len(rows.ids))
        self.register_buffer("positions", positions.to(weight.device), persistent=False)
        # Padding has no gradient; where its row is not held, nothing is padded.
        self._padding = None if padding_idx is None or positions[padding_idx] < 0 else int(positions[padding_idx])

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        assert isinstance(self.positions, Tensor)
        return functional.embedding(self.positions[input], self.weight, self._padding)


def embedding_name(encoder: Any) -> str:
    """Name of the parameter that an encoder's input embeddings are."""
    weight = encoder.get_input_embeddings().weight
    names = (str(name) for name, parameter in encoder.named_parameters() if parameter is weight)
    return next(names)


def can_hold_rows(encoder: Any) -> bool:
    """Whether an encoder may hold some rows alone: of a plain embedding in whole vectors."""
    embedding = encoder.get_input_embeddings()
    plain = type(embedding) is nn.Embedding and embedding.max_norm is None
    return plain and not (embedding.sparse or embedding.scale_grad_by_freq or embedding.embedding_dim % VECTOR)


def hold(encoder: Any, rows: Rows) -> None:
    """Leaves an encoder some rows of its embeddings alone, in place; the matrix that it had is read, not kept."""
    owner, _, child = embedding_name(encoder).removesuffix(".weight").rpartition(".")
    whole = encoder.get_input_embeddings()
    weight = whole.weight.detach()[torch.from_numpy(rows.ids)]
    setattr(encoder.get_submodule(owner), child, HeldEmbedding(weight, rows, len(whole.weight), whole.padding_idx))


def rows_of(encoder: Any) -> Rows | None:
    """Rows that an encoder holds; None: all."""
    embedding = encoder.get_input_embeddings()
    return embedding.rows if isinstance(embedding, HeldEmbedding) else None
