"""Encoder of transformers with one linear layer on top: classes of texts, options or tokens, or an answer's span.

Beside the weights of a model whose architecture has no such head of its own, this file is what loads them:
`from_pretrained(folder, trust_remote_code=True)`, of the tokenizer too. It needs nothing but torch and transformers.

Shapes: E examples, N options, L tokens, H hidden size, C labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)


class LinearHeadConfig(PreTrainedConfig):
    """Configuration of the encoder, and what its vectors go through."""

    model_type = "linear-head"
    _auto_class = "AutoConfig"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        encoder_options: dict[str, Any] | None = None,
        pooling: str = "mean",
        head_dropout: float = 0.0,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.encoder = encoder or {}  # its config.json
        self.encoder_options = encoder_options or {}  # further arguments of its class
        self.pooling = pooling  # "mean" over the real tokens, or "cls", the first one
        self.head_dropout = head_dropout
        self.hidden_size = self.encoder.get("hidden_size", self.encoder.get("dim"))


class LinearHeadModel(PreTrainedModel):
    """Base of all four: an encoder, dropout, a linear layer."""

    config_class = LinearHeadConfig
    base_model_prefix = "encoder"
    outputs_per_vector: int | None = None  # None: as many as there are labels

    def __init__(self, config: LinearHeadConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder), **config.encoder_options)
        self.dropout = nn.Dropout(config.head_dropout)
        outputs = self.outputs_per_vector or int(config.num_labels or 0)
        self.classifier = nn.Linear(self.encoder.config.hidden_size, outputs)
        self.post_init()

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Tensor:
        """Hidden states [E, L, H] of the last layer."""
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states: Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state
        return states

    def logits(self, vectors: Tensor) -> Tensor:
        """[..., H] to [..., C]."""
        logits: Tensor = self.classifier(self.dropout(vectors))
        return logits

    def pooled(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        """[E, L, H] to one vector per sequence [E, H]."""
        if self.config.pooling == "cls":
            return hidden[:, 0]
        if attention_mask is None:
            return hidden.mean(dim=1)
        return (hidden * attention_mask[:, :, None]).sum(dim=1) / attention_mask.sum(dim=1, keepdim=True)


class LinearHeadForSequenceClassification(LinearHeadModel):
    """Class of a text or pair, or a number where problem_type is "regression": logits [E, C]."""

    _auto_class = "AutoModelForSequenceClassification"

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_rest: Any,
    ) -> SequenceClassifierOutput:
        hidden = self.hidden(input_ids, attention_mask, token_type_ids)
        logits = self.logits(self.pooled(hidden, attention_mask))
        loss = None
        if labels is not None and logits.shape[-1] == 1:  # a number, as in transformers' own classes
            loss = functional.mse_loss(logits[:, 0], labels.to(logits.dtype))
        elif labels is not None:
            loss = functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class LinearHeadForMultipleChoice(LinearHeadModel):
    """One of several options: inputs [E, N, L] to logits [E, N]."""

    _auto_class = "AutoModelForMultipleChoice"
    outputs_per_vector = 1

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_rest: Any,
    ) -> MultipleChoiceModelOutput:
        inputs = (input_ids, attention_mask, token_type_ids)
        ids, mask, segments = (None if each is None else each.flatten(0, 1) for each in inputs)
        assert ids is not None
        logits = self.logits(self.pooled(self.hidden(ids, mask, segments), mask)).view(input_ids.shape[:2])
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits)


class LinearHeadForTokenClassification(LinearHeadModel):
    """Class of every token: logits [E, L, C]."""

    _auto_class = "AutoModelForTokenClassification"

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_rest: Any,
    ) -> TokenClassifierOutput:
        logits = self.logits(self.hidden(input_ids, attention_mask, token_type_ids))
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits)


class LinearHeadForQuestionAnswering(LinearHeadModel):
    """First and last token of an answer: two logits [E, L] each."""

    _auto_class = "AutoModelForQuestionAnswering"
    outputs_per_vector = 2

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **_rest: Any,
    ) -> QuestionAnsweringModelOutput:
        start, end = self.logits(self.hidden(input_ids, attention_mask, token_type_ids)).unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            losses = functional.cross_entropy(start, start_positions), functional.cross_entropy(end, end_positions)
            loss = torch.stack(losses).mean()
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)
