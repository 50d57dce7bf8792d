"""The heads that families name: from hidden states to a summed loss, and to what `Family.predict` reads.

A head belongs to the phase that trained it; the encoder that travels is not in here. Losses are *sums* in fp32, and
`count` says what to divide by, so that a batch cut into parts has the same gradient as a whole one.

Shapes: S sequences, L longest, H hidden size, E examples, C classes, V vocabulary.
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
    """What a linear head reads of some examples: vectors, and what is to be predicted from them."""

    vectors: Tensor  # [V, H] fp32
    targets: Tensor  # [V] classes; or [G, K] rows of `vectors`
    group: Tensor | None = None  # [V] the group of each vector; None: each vector is classified


@dataclass(frozen=True)
class EncoderTraits:
    """What a head may use of the encoder that it is put on."""

    hidden: int
    embeddings: Tensor  # [V, D]
    pooling: Pooling
    dropout: float
    epsilon: float  # of the encoder's norms


class Head(nn.Module):
    """A head, whatever it reads. A user's own is a subclass of Head."""

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> Head:
        """The head of a task, its weights not drawn yet."""
        raise NotImplementedError

    def prepare(self, batch: Batch, spec: HeadSpec, vocabulary: int, seed: int) -> Batch:
        """The batch as the loss reads it."""
        return batch

    def count(self, batch: Batch) -> Tensor | int:
        """How many terms the loss of this batch sums."""
        return batch.examples

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Summed loss of hidden states [S, L, H]."""
        raise NotImplementedError

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        """One array per sequence, as base.Outputs says."""
        raise NotImplementedError


class LinearHead(Head):
    """A head with one matrix; a subclass says what is lost and what is put out."""

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
        """What a linear head reads and predicts where this one does. Raises ValueError where none can."""
        raise ValueError(f"a {type(self).__name__} is no linear head")


def summed_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Summed cross entropy of [E, C] logits."""
    return functional.cross_entropy(outputs, targets, ignore_index=IGNORED, reduction="sum")


class TextHead(LinearHead):
    """Pooled vector to class logits, or to what the family's own loss compares with a target."""

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
        """The class of a text."""
        return Features(pool(hidden, batch.attention_mask, self.pooling), batch.targets[:, 0])


class ChoiceHead(LinearHead):
    """Pooled vector of each option to a score; softmax over the options of an example, however many it has."""

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        scores = self(pool(hidden, batch.attention_mask, self.pooling))[:, 0]
        first = batch.first_rows
        owner = batch.example
        option = torch.arange(len(scores), device=scores.device) - first[owner]
        table = scores.new_full((batch.examples, int(np.diff(batch.first).max())), -torch.inf)
        table = table.index_put((owner, option), scores)
        return functional.cross_entropy(table, batch.targets[first, 0], ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return list(self(pool(hidden, batch.attention_mask, self.pooling)).cpu().numpy())

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """Which option of an example is right."""
        first = torch.from_numpy(batch.first[:-1]).to(hidden.device)
        right = first + batch.targets[first, 0]
        return Features(pool(hidden, batch.attention_mask, self.pooling), right[:, None], batch.example)


class TokenHead(LinearHead):
    """Every token's class; words are scored at their first subword."""

    def count(self, batch: Batch) -> Tensor | int:
        return (batch.targets != IGNORED).sum().clamp(min=1)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        logits = self(hidden).flatten(0, 1)
        return functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")

    def outputs(self, hidden: Tensor, batch: Batch) -> Outputs:
        return _unpadded(self(hidden).argmax(dim=-1), batch)

    def features(self, hidden: Tensor, batch: Batch) -> Features:
        """The class of a word."""
        shown = batch.targets != IGNORED
        return Features(hidden[shown].float(), batch.targets[shown])


class SpanHead(LinearHead):
    """Start and end logits over a window; position 0 is "not in this window"."""

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
        """The first and last token of a span, in each window."""
        lengths = torch.from_numpy(batch.lengths).to(hidden.device)
        real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        windows = torch.arange(len(lengths), device=hidden.device)
        first = lengths.cumsum(0) - lengths
        return Features(hidden[real].float(), first[:, None] + batch.targets, windows.repeat_interleave(lengths))


class VectorHead(Head):
    """No parameters: what is scored and trained is the encoder's own pooled vector.

    An example to train on is a pair of sequences. Each first one is to find its second one among those of the batch, by
    a softmax over cosines divided by TEMPERATURE. Seconds of equal text (equal targets) are no wrong answers.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    @classmethod
    def from_spec(cls, spec: HeadSpec, traits: EncoderTraits) -> VectorHead:  # noqa: ARG003  text heads read it
        return cls(traits.pooling)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        return self.contrastive_loss(self.vectors(hidden, batch), batch)

    def contrastive_loss(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Summed loss of a whole batch's vectors [S, H]."""
        vectors = functional.normalize(vectors, dim=1)
        first = batch.first_rows
        with torch.autocast(vectors.device.type, enabled=False):  # bf16 would round logits of up to 100 by up to 0.25
            logits = vectors[first] @ vectors[first + 1].T / TEMPERATURE
        names = batch.targets[first + 1, 0]
        right = torch.arange(len(first), device=first.device)
        same = (names[:, None] == names) & (right[:, None] != right)
        return functional.cross_entropy(logits.masked_fill(same, -torch.inf), right, reduction="sum")

    def vectors(self, hidden: Tensor, batch: Batch) -> Tensor:
        """[S, H] fp32."""
        return pool(hidden, batch.attention_mask, self.pooling)


class MaskedHead(Head):
    """BERT's masked token head: a transform, then the input embeddings as output matrix. Reads a batch of `mask_batch`.

    Logits exist at masked positions only: [masked, V] instead of [S, L, V].
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
        """The batch with masks drawn from `seed`."""
        return mask_batch(batch, spec, vocabulary, seed)

    def forward(self, hidden: Tensor) -> Tensor:
        """[masked, H] to [masked, V] logits, fp32."""
        return self.logits(hidden, self._tied[0])

    def logits(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """[..., H] to [..., V] logits over the given embeddings, fp32."""
        transformed = self.norm(functional.gelu(self.transform(hidden)))
        logits: Tensor = self.project(transformed, embeddings, self.bias)
        return logits.float()

    def count(self, batch: Batch) -> Tensor | int:
        return (batch.targets != IGNORED).sum().clamp(min=1)

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        # As many places as may be masked; those left over point to a target that is ignored. So a GPU need not be asked
        # how many there are.
        assert batch.masked is not None  # of `mask_batch`
        most = int(batch.masked.sum())
        targets = functional.pad(batch.targets.flatten(), (0, 1), value=IGNORED)
        places = torch.nonzero_static(targets != IGNORED, size=most, fill_value=-1)[:, 0]
        logits = self(hidden.flatten(0, 1)[places])
        return functional.cross_entropy(logits, targets[places], ignore_index=IGNORED, reduction="sum")

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
    """The class of a head of the table, or of a user's own. Raises StudyError."""
    if spec.head in HEADS:
        return HEADS[spec.head]
    kind = imported(spec.head, f"head {spec.head}")
    if not isinstance(kind, type) or not issubclass(kind, Head):
        wanted = f"one of {', '.join(HEADS)} is expected, or a subclass of sweep.models.heads.Head"
        raise StudyError(f"head {spec.head}", repr(kind), wanted)
    return kind


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
    """The head that a spec names, its weights drawn from `seed` alone (normal, 0.02; biases 0).

    `epsilon` is that of the encoder's norms, which its own masked head shares.
    """
    traits = EncoderTraits(hidden, embeddings, pooling, dropout, epsilon)
    if spec.head in HEADS:
        head = HEADS[spec.head].from_spec(spec, traits)
    else:
        with torch.random.fork_rng(devices=[]):  # what is no linear layer is drawn from this seed, too
            torch.manual_seed(seed)
            head = head_class(spec).from_spec(spec, traits)
    generator = torch.Generator().manual_seed(seed)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
    return head


def pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """[S, L, H] to [S, H] fp32: the first token, or the mean over real tokens, special ones included."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if mask is None:
        return hidden.float().mean(dim=1)
    return (hidden.float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def mask_batch(batch: Batch, spec: HeadSpec, vocabulary: int, seed: int) -> Batch:
    """The batch with masked inputs; its targets become the original ids at masked positions, IGNORED elsewhere."""
    noise, words = _drawn(batch.input_ids.shape, vocabulary, seed)
    device = batch.input_ids.device
    inputs, targets = _masked(
        batch.input_ids, batch.targets == 1, spec, to_device(noise, device), to_device(words, device)
    )
    # On a CPU exactly as many as there are; elsewhere those drawn on special tokens and padding are counted too.
    most = targets != IGNORED if device.type == "cpu" else noise < MASKED_SHARE
    return replace(batch, input_ids=inputs, targets=targets, masked=most.sum(dim=1).numpy())


def mask_tokens(tokens: Tensor, maskable: Tensor, spec: HeadSpec, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of masked token prediction, of any shape on the CPU; a function of the arguments."""
    return _masked(tokens, maskable, spec, *_drawn(tokens.shape, vocabulary, seed))


def _drawn(shape: torch.Size, vocabulary: int, seed: int) -> tuple[Tensor, Tensor]:
    """Uniform noise and random tokens, on the CPU, so that every device masks the same."""
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
    """[S, L, ...] to one array [length, ...] per sequence; copies, that a small one does not keep the batch alive."""
    array = values.cpu().numpy()
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    return [array[row, :length].copy() for row, length in enumerate(batch.lengths)]
