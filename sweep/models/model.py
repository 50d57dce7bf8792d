"""Multi-task model of one phase: a shared encoder with one head per task. The encoder goes on to the next phase.

Encoders are loaded in encoders.py, heads are in heads.py, and the training loop is in train/loop.py.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from sweep.models.batches import Batch
from sweep.models.cpu_kernels import Kernels, use_cpu_kernels
from sweep.models.heads import Head, MaskedHead, Outputs, Pooling, VectorHead, make_head
from sweep.models.registry import DEFAULT_EPSILON, HEAD_DROPOUT, NORM_EPSILON, model_type
from sweep.models.vocabulary import HeldEmbedding, Rows, rows_of
from sweep.tasks.task import HeadSpec

Precision = Literal["fp32", "bf16"]

cpu: Any = torch.cpu  # has no type annotations
NATIVE_BF16 = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()


class MultiTaskModel(nn.Module):
    """Shared `encoder` and one of `heads` per task, numbered in their order; the weights of both are stored apart.

    The name of a task changes nothing: a head's initial weights depend on (seed, number) alone. `dropout` replaces the
    share that the encoder's configuration has for heads.

    Shapes: S sequences and E examples of a batch, L tokens of the longest, H hidden size, V vocabulary, D width of
    embeddings.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        heads: Mapping[str, HeadSpec],
        *,
        seed: int,
        pad_id: int,
        pooling: Pooling = "mean",
        dropout: float | None = None,
        cpu_kernels: Kernels = "auto",
    ) -> None:
        super().__init__()
        self.encoder, self.specs, self.pad_id, self.pooling = encoder, dict(heads), pad_id, pooling
        self.heads = nn.ModuleDict()
        self._numbers = {task: str(number) for number, task in enumerate(heads)}
        width, epsilon = encoder.config.hidden_size, _epsilon(encoder.config)
        head_dropout = _head_dropout(encoder.config) if dropout is None else dropout
        for task, spec in heads.items():
            number = self._numbers[task]
            self.heads[number] = make_head(
                spec, width, self.embeddings, pooling, head_dropout, derived_seed(seed, number), epsilon=epsilon
            )
        if cpu_kernels == "auto":
            use_cpu_kernels(self)
        accepted = inspect.signature(encoder.forward).parameters
        self.reads_segments = "token_type_ids" in accepted and getattr(encoder.config, "type_vocab_size", 0) > 1

    @property
    def masked_heads(self) -> list[MaskedHead]:
        """Heads of masked tasks, whose weights come from an earlier phase or the published checkpoint."""
        return [head for head in self.heads.values() if isinstance(head, MaskedHead)]

    @property
    def device(self) -> torch.device:
        return self.embeddings.device

    @property
    def rows(self) -> Rows | None:
        """Rows of the embeddings that it holds, and what has become of the others; None: all."""
        return rows_of(self.encoder)

    def decay_rest(self, factors: Iterable[float]) -> None:
        """Notes that the rows which it does not hold have been multiplied by these factors."""
        embedding = self.encoder.get_input_embeddings()
        if isinstance(embedding, HeldEmbedding):
            embedding.rows = embedding.rows.after(factors)

    @property
    def embeddings(self) -> Tensor:
        """Input embeddings [V, D]; of a model that holds some rows alone [R, D]."""
        weight = self.encoder.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def prepare(self, batch: Batch, task: str, seed: int) -> Batch:
        """Batch as the loss reads it: a masked task draws its masks here, from `seed`."""
        return self.head(task).prepare(batch, self.specs[task], len(self.embeddings), seed)

    def count(self, batch: Batch, task: str) -> Tensor | int:
        """Number of terms that `loss` sums over a prepared batch: an int, or a 0-d tensor on the device."""
        return self.head(task).count(batch)

    def loss(self, batch: Batch, task: str) -> Tensor:
        """Summed loss of a prepared batch, 0-d fp32."""
        return self.head(task).loss(self.hidden(batch), batch)

    def outputs(self, batch: Batch, task: str) -> Outputs:
        """Outputs of a task's head, one array per sequence; not of retrieval tasks, which have `vectors`."""
        head = self.head(task)
        assert not isinstance(head, VectorHead)
        return head.outputs(self.hidden(batch), batch)

    def vectors(
        self, batch: Batch, task: str, layers: Sequence[int] = (-1,), pooling: Pooling | None = None
    ) -> list[Tensor]:
        """Pooled vectors [S, H] fp32 per layer, numbered as in `layers`; `pooling` is by default that of training."""
        head = self.head(task) if pooling is None else VectorHead(pooling)
        assert isinstance(head, VectorHead)
        return [head.vectors(hidden, batch) for hidden in self.layers(batch, layers)]

    def hidden(self, batch: Batch, layer: int = -1) -> Tensor:
        """Hidden states [S, L, H] of one layer, numbered as in `layers`."""
        return self.layers(batch, (layer,))[0]

    def layers(self, batch: Batch, layers: Sequence[int]) -> list[Tensor]:
        """Hidden states [S, L, H] of each of `layers`, of one forward pass.

        Layer 0 is the embedding layer, n the output of block n; -1 is the last one, final norm included where there is
        one. Raises ValueError for a layer that the encoder does not have.
        """
        segments = {"token_type_ids": batch.segments} if self.reads_segments and batch.segments is not None else {}
        inner = any(layer != -1 for layer in layers)
        mask = _attention_mask(batch, self.encoder.config)
        states = self.encoder(input_ids=batch.input_ids, attention_mask=mask, output_hidden_states=inner, **segments)
        return [states.last_hidden_state if layer == -1 else _layer(states.hidden_states, layer) for layer in layers]

    def autocast(self, precision: Precision) -> torch.autocast:
        """Autocast to bf16 where that is the precision and the device multiplies it, else none."""
        kind = self.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16" and has_bf16(kind))

    def head(self, task: str) -> Head:
        """Head of a task. Raises KeyError for a task that the model does not have."""
        head = self.heads[self._numbers[task]]
        assert isinstance(head, Head)
        return head


@cache
def has_bf16(kind: str) -> bool:
    """Whether this machine's devices of a kind multiply bf16 natively: emulated, it was 27 times slower than fp32."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and bool(NATIVE_BF16)


def _attention_mask(batch: Batch, config: PreTrainedConfig) -> Tensor | dict[str, Tensor | None] | None:
    """Attention mask in the form that the registry has for the encoder: [S, L], or ready made [S, 1, 1 or L, L]."""
    mask, form = batch.attention_mask, model_type(config.model_type).mask
    if form == "padding":
        return mask
    full = mask[:, None, None, :] if mask is not None else None
    if form == "ready":
        return full
    window, length = config.sliding_window, batch.input_ids.shape[1]
    position = torch.arange(length, device=batch.input_ids.device)
    near = ((position[:, None] - position).abs() <= window)[None, None]
    sliding = full if length <= window + 1 else near if full is None else full & near
    return {"full_attention": full, "sliding_attention": sliding}


def _layer(states: Sequence[Tensor], layer: int) -> Tensor:
    if not -len(states) <= layer < len(states):
        raise ValueError(f"layer {layer} of an encoder with {len(states) - 1} layers")
    return states[layer]


def derived_seed(*parts: object) -> int:
    """Seed from printable values, the same in every process: 63 bits of their blake2b digest."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _head_dropout(config: PreTrainedConfig) -> float:
    """Share that an encoder's configuration has for heads, else for hidden states, else 0."""
    shares = (getattr(config, name, None) for name in HEAD_DROPOUT)
    return float(next((share for share in shares if share is not None), 0.0))


def _epsilon(config: PreTrainedConfig) -> float:
    """Epsilon of an encoder's layer norms."""
    return float(next((getattr(config, name) for name in NORM_EPSILON if hasattr(config, name)), DEFAULT_EPSILON))
