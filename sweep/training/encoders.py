"""Where encoders, tokenizers and weights come from: the hub, a local folder, or nothing but a configuration.

Everything passes through transformers' Auto classes, so every encoder that they know can be named. Offline a hub id is
read from the local cache. No remote code is trusted; weights of finished phases are safetensors, never pickle.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from sweep.errors import StoreError, StudyError, nearest

hub_logging: Any = logging  # these two carry no types
auto_model: Any = AutoModel


def load_encoder(source: str, revision: str | None = None, weights: Path | None = None) -> PreTrainedModel:
    """The encoder of a hub id or a local folder, without a pooling layer, in fp32.

    With `weights` (a safetensors file of a finished phase) only the configuration of `source` is read. Raises
    StudyError where there is no such model, StoreError where the weights do not fit it.
    """
    where = f"encoder {source!r}"
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        options = _without_pooler(config)
        if weights is None:
            hub_logging.disable_progress_bar()
            # A hub checkpoint may lie in .bin only: torch then reads it with weights_only, which runs no code.
            return _encoder(
                auto_model.from_pretrained(source, revision=revision, config=config, dtype="float32", **options)
            )
        encoder = _encoder(auto_model.from_config(config, dtype=torch.float32, **options))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise StudyError(where, str(error), "give a hub id, or a folder with config.json and weights") from error
    load_weights(encoder, weights)
    return encoder


def random_encoder(config: Mapping[str, Any], vocab_size: int, pad_id: int, seed: int) -> PreTrainedModel:
    """An untrained encoder from a configuration with `model_type`; its weights are a function of (config, seed).

    Raises StudyError for an unknown model type or a shape that its model refuses.
    """
    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        raise StudyError(
            "encoder model_type", repr(kind), "name a model type of transformers", nearest(kind, CONFIG_MAPPING)
        )
    try:
        # the defaults of other special ids lie outside a small vocabulary, and no encoder reads them
        unused = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
        shape = AutoConfig.for_model(**{**unused, **config, "vocab_size": vocab_size, "pad_token_id": pad_id})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _encoder(auto_model.from_config(shape, dtype=torch.float32, **_without_pooler(shape)))
    except (ValueError, TypeError, KeyError) as error:
        raise StudyError(f"encoder of type {kind!r}", str(error), "give a shape that the model accepts") from error


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a hub id or a folder. Raises StudyError where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(
            f"tokenizer {source!r}", str(error), "give a hub id, or a folder with tokenizer.json"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise StudyError(
            f"tokenizer {source!r}", "no fast tokenizer", "character offsets need one: add its tokenizer.json"
        )
    return tokenizer


def cpu_weights(module: nn.Module) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, as safetensors wants them."""
    return {name: cpu_copy(tensor) for name, tensor in module.state_dict().items()}


def cpu_copy(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that later steps do not change."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the tensors of a safetensors file into a module of their shape. Raises StoreError where they do not fit."""
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StoreError(path, str(error), "delete the folder of this phase and run again") from error


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """BERT and its kin would carry an untrained layer that nothing here uses."""
    if type(config) not in MODEL_MAPPING:
        raise ValueError(f"{config.model_type} has no encoder in AutoModel")
    kind: Any = MODEL_MAPPING[type(config)]
    accepted = inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _encoder(model: Any) -> PreTrainedModel:
    if not isinstance(model, PreTrainedModel) or model.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} is not an encoder")
    return model
