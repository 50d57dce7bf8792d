"""Heads that task families name: from hidden states to a summed loss, and to the outputs that `Family.predict` reads.

A head belongs to the phase that trained it, while the encoder goes on to the next one. Losses are *sums* in fp32, and
`count` is the divisor of their mean, so that a batch cut into micro batches has the same gradient as a whole one.

Shapes: S sequences, L tokens of the longest, U targets of the sequence that has most, H hidden size, E examples,
C classes, V vocabulary, D width of the input embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sweep.data import IGNORED
from sweep.errors import StudyError
from sweep.models.batches import Batch, to_device
from sweep.models.cpu_kernels import Projection
from sweep.tasks.plugins import imported
from sweep.tasks.task import HeadSpec

MASKED_SHARE = 0.15  # of maskable tokens; of these 80% become [MASK], 10% a random token, 10% stay (Devlin et al. 2019)

Pooling = Literal["mean", "cls"]
Outputs = list[NDArray[Any]]  # one array per sequence

# XTREME's dual encoders scale cosines by 100 (third_party/bert.py of google-research/xtreme; learned there, but at the
# rates of fine-tuning it stays where it starts).
TEMPERATURE = 0.01


@dataclass(frozen=True)
class Features:
    """Inputs and targets of a linear head for some examples: N vectors, in G groups of which K are chosen, or alone."""

    vectors: Tensor  # [N, H] fp32
    targets: Tensor  # [N] classes; or [G, K] rows of `vectors`
    group: Tensor | None = None  # [N] the group of each vector; None: each vector is classified


@dataclass(frozen=True)
class EncoderTraits:
    """Sizes and settings of the encoder under a head."""

    hidden: int
    embeddings: Tensor  # [V, D]
    pooling: Pooling
    dropout: float
    epsilon: float  # of the encoder's norms


class Head(nn.Module):
    """Base of all heads: hidden states [S, L, H] of a batch to its loss and outputs. A user's own is a subclass."""

    whole_vocabulary = True  # whether it computes with the embeddings of all words, not of those in its texts alone

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> Head:
        """Head of a task; its linear layers are initialised later."""
        raise NotImplementedError

    def prepare(self, batch: Batch, spec: HeadSpec, vocabulary: int, seed: int) -> Batch:
        """Batch as `loss` reads it; masked heads draw masks from `seed`, over ids below `vocabulary`."""
        return batch

    def count(self, batch: Batch) -> Tensor | int:
        """Number of terms that the loss of this batch sums: an int, or a 0-d tensor on the device."""
        return batch.examples

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Summed loss, 0-d fp32, of hidden states [S, L, H]."""
        raise NotImplementedError

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        """Outputs of hidden states [S, L, H]: one array per sequence, in the order of the batch."""
        raise NotImplementedError


class LinearHead(Head):
    """Base of heads with one linear layer, [..., H] to [..., outputs]; subclasses add loss and outputs."""

    whole_vocabulary = False

    def __init__(self, hidden: int, outputs: int, pooling: Pooling, dropout: float) -> None:
        super().__init__()
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, outputs)

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> LinearHead:
        return cls(traits.hidden, spec.outputs, traits.pooling, traits.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] to [..., outputs] logits, fp32."""
        logits: Tensor = self.linear(self.dropout(hidden))
        return logits.float()

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """Vectors and targets of a linear probe in place of this head. Raises ValueError where there can be none."""
        raise ValueError(f"a {type(self).__name__} is no linear head")


def summed_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Summed cross entropy, 0-d, of logits [E, C] and classes [E]; IGNORED ones add nothing."""
    return functional.cross_entropy(outputs, targets, ignore_index=IGNORED, reduction="sum")


class TextHead(LinearHead):
    """Text classification or regression: pooled vector [S, H] to outputs [S, C]; outputs are one row per sequence.

    The loss is cross entropy, or the family's own.
    """

    criterion: Callable[[Tensor, Tensor], Tensor] = staticmethod(summed_cross_entropy)

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> TextHead:
        head = cls(traits.hidden, spec.outputs, traits.pooling, traits.dropout)
        head.criterion = spec.loss or summed_cross_entropy
        return head

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        return self.criterion(self(pool(hidden, batch.attention_mask, self.pooling)), batch.targets[:, 0])

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return list(self(pool(hidden, batch.attention_mask, self.pooling)).cpu().numpy())

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """One vector per text, and its class."""
        return Features(pool(hidden, batch.attention_mask, self.pooling), batch.targets[:, 0])


class ChoiceHead(LinearHead):
    """Multiple choice: pooled vector of each option [S, H] to a score [S, 1]; softmax over the options of an example.

    Examples may differ in their number of options.
    """

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        scores = self(pool(hidden, batch.attention_mask, self.pooling))[:, 0]
        first = batch.first_rows
        example = batch.example
        option = torch.arange(len(scores), device=scores.device) - first[example]
        logits = scores.new_full((batch.examples, int(np.diff(batch.first).max())), -torch.inf)
        logits = logits.index_put((example, option), scores)
        return functional.cross_entropy(logits, batch.targets[first, 0], ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return list(self(pool(hidden, batch.attention_mask, self.pooling)).cpu().numpy())

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """One vector per option, and the row of each example's right one."""
        first = torch.from_numpy(batch.first[:-1]).to(hidden.device)
        right = first + batch.targets[first, 0]
        return Features(pool(hidden, batch.attention_mask, self.pooling), right[:, None], batch.example)


class TokenHead(LinearHead):
    """Sequence labelling: hidden states [S, L, H] to class logits [S, L, C]; a word counts at its first subword.

    Outputs are the argmax classes [length] of each sequence, int32.
    """

    def count(self, batch: Batch) -> Tensor | int:
        return (batch.targets != IGNORED).sum().clamp(min=1)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        logits = self(hidden).flatten(0, 1)
        return functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return _unpadded(self(hidden).argmax(dim=-1), batch)

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """One vector per word, and its class."""
        labelled = batch.targets != IGNORED
        return Features(hidden[labelled].float(), batch.targets[labelled])


class SpanHead(LinearHead):
    """Extractive question answering: hidden states [S, L, H] of windows to start and end logits [S, L, 2].

    Position 0 is "not in this window" (Devlin et al. 2019, section 4.3). Outputs are the logits [length, 2] per window.
    """

    def count(self, batch: Batch) -> Tensor | int:
        return 2 * len(batch.lengths)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        logits = self(hidden)
        if batch.attention_mask is not None:
            logits = logits.masked_fill(~batch.attention_mask[:, :, None], -torch.inf)
        return functional.cross_entropy(logits, batch.targets, ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return _unpadded(self(hidden), batch)

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """One vector per token of a window, and the rows of its span's first and last token."""
        lengths = torch.from_numpy(batch.lengths).to(hidden.device)
        real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        windows = torch.arange(len(lengths), device=hidden.device)
        first = lengths.cumsum(0) - lengths
        return Features(hidden[real].float(), first[:, None] + batch.targets, windows.repeat_interleave(lengths))


class VectorHead(Head):
    """Retrieval: the encoder's own pooled vector [S, H], without parameters of a head.

    Training is in-batch contrastive: an example is a pair of sequences, and the first is classified to its second among
    those of the batch, by a softmax over cosines divided by TEMPERATURE. Seconds of equal text (equal targets) are no
    negatives.
    """

    whole_vocabulary = False

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> VectorHead:  # noqa: ARG003  text heads read it
        return cls(traits.pooling)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        return self.contrastive_loss(self.vectors(hidden, batch), batch)

    def contrastive_loss(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Summed in-batch loss, 0-d, of a whole batch's vectors [S, H]."""
        vectors = functional.normalize(vectors, dim=1)
        first = batch.first_rows
        with torch.autocast(vectors.device.type, enabled=False):  # bf16 would round logits of up to 100 by up to 0.25
            logits = vectors[first] @ vectors[first + 1].T / TEMPERATURE
        text = batch.targets[first + 1, 0]
        right = torch.arange(len(first), device=first.device)
        duplicate = (text[:, None] == text) & (right[:, None] != right)
        return functional.cross_entropy(logits.masked_fill(duplicate, -torch.inf), right, reduction="sum")

    def vectors(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Pooled vectors [S, H], fp32."""
        return pool(hidden, batch.attention_mask, self.pooling)


class MaskedHead(Head):
    """Masked language modelling, as BERT: a transform, then the input embeddings as output matrix.

    Logits exist at masked positions only: [masked, V] instead of [S, L, V]. Outputs are, per sequence, its right
    predictions and its masked positions, [2].
    """

    def __init__(self, hidden: int, embeddings: Tensor, epsilon: float) -> None:
        super().__init__()
        vocabulary, width = embeddings.shape
        self.transform = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.project = Projection()
        self._tied = (embeddings,)  # a tuple: the matrix is the encoder's, and is neither stored nor trained twice

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> MaskedHead:  # noqa: ARG003  text heads read it
        return cls(traits.hidden, traits.embeddings, traits.epsilon)

    def prepare(self, batch: Batch, spec: HeadSpec, vocabulary: int, seed: int) -> Batch:
        """Batch with masks drawn from `seed`."""
        return mask_batch(batch, spec, vocabulary, seed)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [masked, H] to logits [masked, V], fp32."""
        return self.logits(hidden, self._tied[0])

    def logits(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Hidden states [..., H] to logits [..., V] over the given embeddings [V, D], fp32."""
        transformed = self.norm(functional.gelu(self.transform(hidden)))
        logits: Tensor = self.project(transformed, embeddings, self.bias)
        return logits.float()

    def count(self, batch: Batch) -> Tensor | int:
        return (batch.targets != IGNORED).sum().clamp(min=1)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        # As many positions as may be masked; those left over point to a target that is ignored. So a GPU need not be
        # asked how many there are.
        assert batch.masked is not None  # of `mask_batch`
        most = int(batch.masked.sum())
        targets = functional.pad(batch.targets.flatten(), (0, 1), value=IGNORED)
        positions = torch.nonzero_static(targets != IGNORED, size=most, fill_value=-1)[:, 0]
        logits = self(hidden.flatten(0, 1)[positions])
        return functional.cross_entropy(logits, targets[positions], ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        row, column = (batch.targets != IGNORED).nonzero(as_tuple=True)
        right = self(hidden[row, column]).argmax(dim=-1) == batch.targets[row, column]
        sequences = len(batch.lengths)
        counts = torch.stack(
            [torch.bincount(row[right], minlength=sequences), torch.bincount(row, minlength=sequences)], dim=1
        )
        return list(counts.cpu().numpy())


HEADS: dict[str, type[Head]] = {
    "text": TextHead, "choice": ChoiceHead, "token": TokenHead, "span": SpanHead, "vector": VectorHead,
    "masked": MaskedHead,
}  # fmt: skip


def head_class(spec: HeadSpec) -> type[Head]:
    """Class of a head in HEADS, or of a user's own. Raises StudyError where it is no subclass of Head."""
    if spec.head in HEADS:
        return HEADS[spec.head]
    named = imported(spec.head, f"head {spec.head}")
    if not isinstance(named, type) or not issubclass(named, Head):
        expected = f"one of {', '.join(HEADS)} is expected, or a subclass of sweep.models.heads.Head"
        raise StudyError(f"head {spec.head}", repr(named), expected)
    return named


def make_head(
    spec: HeadSpec,
    hidden: int,
    embeddings: Tensor,
    pooling: Pooling,
    dropout: float,
    seed: int,
    *,
    epsilon: float = 1e-12,
) -> Head:
    """Head of a spec, its weights drawn from `seed` alone: normal with deviation 0.02, biases 0 (Devlin et al. 2019).

    `embeddings` are the encoder's input embeddings [V, D]; `epsilon` is that of its norms, which the masked head
    shares. Raises StudyError where the spec names no head.
    """
    traits = EncoderTraits(hidden, embeddings, pooling, dropout, epsilon)
    if spec.head in HEADS:
        head = HEADS[spec.head].from_spec(spec, traits)
    else:
        with torch.random.fork_rng(devices=[]):  # layers that are not linear are drawn from this seed, too
            torch.manual_seed(seed)
            head = head_class(spec).from_spec(spec, traits)
    generator = torch.Generator().manual_seed(seed)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    return head


def pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Hidden states [S, L, H] to [S, H] fp32: the first token, or the mean over real tokens, special ones included.

    `mask` is [S, L], True at real tokens; None where all are.
    """
    if pooling == "cls":
        return hidden[:, 0].float()
    if mask is None:
        return hidden.float().mean(dim=1)
    return (hidden.float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def mask_batch(batch: Batch, spec: HeadSpec, vocabulary: int, seed: int) -> Batch:
    """Batch with masked inputs; its targets [S, L] become the original ids at masked positions, IGNORED elsewhere."""
    noise, words = _drawn(batch.input_ids.shape, vocabulary, seed)
    device = batch.input_ids.device
    inputs, targets = _masked(
        batch.input_ids, batch.targets == 1, spec, to_device(noise, device), to_device(words, device)
    )
    # On a CPU exactly as many as there are; elsewhere those drawn on special tokens and padding are counted too.
    most = targets != IGNORED if device.type == "cpu" else noise < MASKED_SHARE
    return replace(batch, input_ids=inputs, targets=targets, masked=most.sum(dim=1).numpy())


def mask_tokens(tokens: Tensor, maskable: Tensor, spec: HeadSpec, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of masked language modelling, of the shape of `tokens`, on the CPU.

    `maskable` is True where a token may be masked. Raises ValueError for a spec without a mask_id.
    """
    return _masked(tokens, maskable, spec, *_drawn(tokens.shape, vocabulary, seed))


def _drawn(shape: torch.Size, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform noise and random tokens of a shape, drawn on the CPU, so that every device masks the same."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.randint(vocabulary, shape, generator=generator)


def _masked(tokens: Tensor, maskable: Tensor, spec: HeadSpec, noise: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    if spec.mask_id is None:
        raise ValueError("a masked task needs the tokenizer's mask_id in its HeadSpec")
    chosen = maskable & (noise < MASKED_SHARE)
    inputs = torch.where(chosen & (noise < 0.9 * MASKED_SHARE), words, tokens)
    inputs = torch.where(chosen & (noise < 0.8 * MASKED_SHARE), spec.mask_id, inputs)
    return inputs, torch.where(chosen, tokens, IGNORED)


def _unpadded(values: Tensor, batch: Batch) -> Outputs:
    """Values [S, L, ...] to one array [length, ...] per sequence; copies, so that none keeps the batch alive."""
    array = values.cpu().numpy()
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    return [array[row, :length].copy() for row, length in enumerate(batch.lengths)]
