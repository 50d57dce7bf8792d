"""A trained model as a model folder of Hugging Face: configuration, weights, tokenizer.

The head becomes that of the architecture's own AutoModelFor class wherever it can be put into that exactly, which the
logits of both decide. A class with one linear layer on the hidden states takes ours as it is. Where a dense layer H x H
and an activation come before the last one, and f(x) - f(-x) = x as for relu and gelu, the dense layer takes the rows of
ours and their negatives, and the last one their differences. Behind tanh (BERT, RoBERTa), behind a norm (ModernBERT),
and for the mean over tokens there is no such way: then modeling_linear_head.py comes with the weights.

Shapes: E examples, L tokens, H hidden size, C labels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from sweep.data.encoded import frame
from sweep.models import modeling_linear_head as shipped
from sweep.models.batches import Batch
from sweep.models.encoders import hub_logging, masked_parts, without_pooler
from sweep.models.heads import ChoiceHead, Head, MaskedHead, SpanHead, TextHead, TokenHead, pool
from sweep.models.model import MultiTaskModel
from sweep.models.registry import model_type
from sweep.tasks.task import Task

CLASSES: Mapping[type[Head], str] = {
    TextHead: "SequenceClassification",
    ChoiceHead: "MultipleChoice",
    TokenHead: "TokenClassification",
    SpanHead: "QuestionAnswering",
    MaskedHead: "MaskedLM",
}
# Of an encoder's configuration: what says something about the file that it came from, not about the encoder.
OF_A_FILE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "problem_type", "transformers_version")
CHECKED = (7, 12)  # tokens of the two sequences whose logits are compared


@dataclass(frozen=True)
class Saved:
    """Contents of an exported folder: the class that loads it, and whether that is code of the folder's own."""

    auto_class: str
    own_code: bool


def save_model(model: MultiTaskModel, task: Task | None, folder: Path) -> Saved:
    """Writes the encoder with the head of a task, or alone, as config.json, model.safetensors and what code it needs.

    Alone where there is no task, where it has no head, or a head of a user's own.
    """
    hub_logging.disable_progress_bar()
    model = model.to("cpu").eval()
    head = None if task is None else model.head(task.name)
    name = CLASSES.get(type(head)) if head is not None else None
    if task is None or head is None or name is None:
        model.encoder.save_pretrained(folder)
        return Saved("AutoModel", own_code=False)
    own = _own_class(model, head, task, f"AutoModelFor{name}")
    if own is not None:
        own.save_pretrained(folder)
    elif isinstance(head, MaskedHead):
        model.encoder.save_pretrained(folder)
        return Saved("AutoModel", own_code=False)
    else:
        _with_linear_head(model, head, task, name).save_pretrained(folder)
    return Saved(f"AutoModelFor{name}", own_code=own is None)


def save_tokenizer(model: MultiTaskModel, tokenizer: Any, max_length: int, folder: Path) -> None:
    """Writes a tokenizer that cuts at `max_length` tokens and gives what the model is fed with, and no more."""
    saved = copy.deepcopy(tokenizer)
    names = ["input_ids", "attention_mask"]
    if model.reads_segments and frame(tokenizer, pair=True).has_segments:
        names.insert(1, "token_type_ids")
    saved.model_input_names, saved.model_max_length, saved.padding_side = names, max_length, "right"
    for name in ("is_local", "local_files_only", "name_or_path"):  # they say where it came from
        saved.init_kwargs.pop(name, None)
    saved.init_kwargs["model_input_names"] = names  # a class' own are else not written
    saved.save_pretrained(folder)


def _labels(head: Head, task: Task) -> dict[str, Any]:
    """Settings of a configuration that say what the head's outputs mean."""
    if isinstance(head, TextHead) and not task.labels:
        outputs = head.linear.out_features
        return {"num_labels": outputs, **({"problem_type": "regression"} if outputs == 1 else {})}
    if isinstance(head, (TextHead, TokenHead)):
        names = dict(enumerate(task.labels))
        kind = {"problem_type": "single_label_classification"} if isinstance(head, TextHead) else {}
        return {"id2label": names, "label2id": {name: number for number, name in names.items()}, **kind}
    return {}


def _own_class(model: MultiTaskModel, head: Head, task: Task, auto_class: str) -> PreTrainedModel | None:
    """Model of the architecture's own class with the same logits; None where it cannot have them."""
    config = copy.deepcopy(model.encoder.config)
    for name, value in _labels(head, task).items():
        setattr(config, name, value)
    if hasattr(config, "classifier_pooling"):
        first = model_type(config.model_type).first_token
        config.classifier_pooling = first if model.pooling == "cls" else model.pooling
    auto: Any = getattr(transformers, auto_class)
    if type(config) not in auto._model_mapping:
        return None
    own: PreTrainedModel = auto.from_config(config, dtype=torch.float32).eval()
    encoder = model.encoder.state_dict()
    loaded = own.base_model.load_state_dict(encoder, strict=False)
    if loaded.unexpected_keys:
        return None
    fits = _fill_masked(own, head) if isinstance(head, MaskedHead) else _fill_linear(own, head, encoder)
    return own if fits and _same_logits(model, head, own) else None


def _fill_masked(own: PreTrainedModel, head: MaskedHead) -> bool:
    """Copies a masked-token head into a model; returns whether it has such parts."""
    parts, state = masked_parts(own, set()), head.state_dict()
    if parts is None or any(parts[name].shape != tensor.shape for name, tensor in state.items()):
        return False
    for name, tensor in parts.items():  # a part that the model lacks is a tensor of its own: the logits will differ
        tensor.copy_(state[name])
    theirs: Any = own  # has no type annotations
    output, embeddings = theirs.get_output_embeddings(), theirs.get_input_embeddings()
    if output is not None and output.weight.shape == embeddings.weight.shape:
        output.weight.data.copy_(embeddings.weight.data)  # where the published ones are not tied
    return True


def _fill_linear(own: PreTrainedModel, head: Any, encoder: Mapping[str, Tensor]) -> bool:
    """Puts a linear head into a model's fresh linear layers; returns whether there are one or two that take it."""
    prefix = f"{own.base_model_prefix}."
    known = {f"{prefix}{name}" for name in encoder}
    fresh = [
        module
        for name, module in own.named_modules()
        if isinstance(module, nn.Linear) and f"{name}.weight" not in known and module.bias is not None
    ]
    weight, bias = head.linear.weight.data, head.linear.bias.data
    outputs, hidden = weight.shape
    shapes = [tuple(layer.weight.shape) for layer in fresh]
    if shapes == [(outputs, hidden)]:
        fresh[0].weight.data.copy_(weight)
        fresh[0].bias.data.copy_(bias)
        return True
    if sorted(shapes) != sorted([(hidden, hidden), (outputs, hidden)]) or 2 * outputs > hidden:
        return False
    dense, last = sorted(fresh, key=lambda layer: layer.out_features == outputs)
    for layer in fresh:
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    dense.weight.data[: 2 * outputs] = torch.cat([weight, -weight])
    dense.bias.data[: 2 * outputs] = torch.cat([bias, -bias])
    last.weight.data[:, : 2 * outputs] = torch.cat([torch.eye(outputs), -torch.eye(outputs)], dim=1)
    return True


def _same_logits(model: MultiTaskModel, head: Head, own: PreTrainedModel) -> bool:
    """Whether both give two sequences of different length the same logits."""
    short, long = CHECKED
    ids = torch.arange(2 * long).view(2, long) % len(model.embeddings)
    lengths = torch.tensor([long, short])
    mask = torch.arange(long) < lengths[:, None]
    batch = Batch(ids, mask, None, ids, lengths.numpy(), torch.arange(3).numpy())
    with torch.inference_mode():
        hidden = model.hidden(batch)
        ours = _logits(head, hidden, mask, model)
        options = isinstance(head, ChoiceHead)
        inputs = (ids[None], mask[None].long()) if options else (ids, mask.long())
        output = own(input_ids=inputs[0], attention_mask=inputs[1])
        if isinstance(head, SpanHead):
            theirs = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            theirs = output.logits[0][:, None] if options else output.logits
    if theirs.shape != ours.shape:
        return False
    if ours.dim() == 3:
        ours, theirs = ours[mask], theirs[mask]
    return torch.allclose(theirs, ours, rtol=1e-4, atol=1e-4 * float(ours.std()))


def _logits(head: Any, hidden: Tensor, mask: Tensor, model: MultiTaskModel) -> Tensor:
    """Logits of one of our heads."""
    if isinstance(head, MaskedHead):
        return head.logits(hidden, model.embeddings)
    vectors = pool(hidden, mask, head.pooling) if isinstance(head, (TextHead, ChoiceHead)) else hidden
    logits: Tensor = head(vectors)
    return logits


def _with_linear_head(model: MultiTaskModel, head: Any, task: Task, name: str) -> PreTrainedModel:
    """Model of modeling_linear_head.py with the same encoder and head."""
    encoder = {name: value for name, value in model.encoder.config.to_dict().items() if name not in OF_A_FILE}
    config = shipped.LinearHeadConfig(
        encoder=encoder, encoder_options=without_pooler(model.encoder.config), pooling=model.pooling,
        head_dropout=head.dropout.p, **_labels(head, task),
    )  # fmt: skip
    own: Any = getattr(shipped, f"LinearHeadFor{name}")(config)
    own.encoder.load_state_dict(model.encoder.state_dict())
    own.classifier.load_state_dict(head.linear.state_dict())
    made: PreTrainedModel = own
    return made
