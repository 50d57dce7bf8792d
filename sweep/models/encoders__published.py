"""The masked-token head that an encoder comes with: that of its publisher, or of the phase before.

Architectures name the parts of that head differently, but most have the same parts as ours: one linear layer, a norm,
and a bias over the vocabulary on top of the input embeddings. They are found by their shapes, and kept only where our
head then gives the published model's own logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel

from sweep.models.heads import MaskedHead

masked_model_class: Any = AutoModelForMaskedLM  # carries no types


def load_published_head(head: MaskedHead, source: str, revision: str | None = None) -> bool:
    """Put the head of a hub id or local folder into ours; False, and nothing is changed, where there is none like it.

    The encoder of `source` must be loadable: its errors are said by encoders.load_encoder.
    """
    model, report = masked_model_class.from_pretrained(
        source, revision=revision, dtype="float32", output_loading_info=True, trust_remote_code=False
    )
    parts = _parts(model.eval(), missing=set(report["missing_keys"]))
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    if parts is None or any(parts[name].shape != tensor.shape for name, tensor in fresh.items()):
        return False
    head.load_state_dict(parts)
    if _same_logits(model, head):
        return True
    head.load_state_dict(fresh)
    return False


def load_parents_head(head: MaskedHead, heads: Path) -> None:
    """Put the masked head among a finished phase's `heads` (a safetensors file) into ours, where there is one."""
    tensors = load_file(heads)
    names = sorted(name.removesuffix("transform.weight") for name in tensors if name.endswith(".transform.weight"))
    if names:
        head.load_state_dict({part: tensors[names[0] + part] for part in head.state_dict()})


def _parts(model: PreTrainedModel, missing: set[str]) -> dict[str, Tensor] | None:
    """The state of our head, or None where the model's head has other parts or its checkpoint had none."""
    base = f"{model.base_model_prefix}."
    outside = {name: module for name, module in model.named_modules() if not f"{name}.".startswith(base)}
    vocabulary = model.config.vocab_size
    linears = {n: m for n, m in outside.items() if isinstance(m, nn.Linear) and m.out_features != vocabulary}
    norms = {n: m for n, m in outside.items() if isinstance(m, nn.LayerNorm)}
    if len(linears) != 1 or len(norms) != 1:
        return None
    ((linear_name, linear),), ((norm_name, norm),) = linears.items(), norms.items()
    if {f"{linear_name}.weight", f"{norm_name}.weight"} & missing:
        return None
    biases = [p for n, p in model.named_parameters() if not n.startswith(base) and p.shape == (vocabulary,)]
    return {
        "transform.weight": linear.weight.data,
        "transform.bias": _or_zeros(linear.bias, linear.out_features),
        "norm.weight": norm.weight.data,
        "norm.bias": _or_zeros(norm.bias, linear.out_features),
        "bias": _or_zeros(biases[0] if biases else None, vocabulary),
    }


def _or_zeros(bias: Tensor | None, size: int) -> Tensor:
    return torch.zeros(size) if bias is None else bias.data


def _same_logits(model: PreTrainedModel, head: MaskedHead) -> bool:
    tokens = torch.arange(min(8, model.config.vocab_size))[None]
    with torch.inference_mode():
        embeddings = model.get_input_embeddings().weight
        assert isinstance(embeddings, Tensor)
        theirs = model(input_ids=tokens, output_hidden_states=True)
        ours = head.logits(theirs.hidden_states[-1], embeddings)
    return torch.allclose(ours, theirs.logits, rtol=1e-3, atol=1e-3 * float(theirs.logits.std()))
