"""Encoders, their weights and their masked-token heads: from the hub, a local folder, or a configuration alone.

Encoders are loaded through transformers' Auto classes, so every one that they know can be named; a model type without
AutoModelForMaskedLM, or one that does not read in both directions, is refused. Offline a hub id is read from the local
cache. No remote code is trusted; weights of finished phases are safetensors, never pickle.

Architectures name the parts of a published masked-token head differently, but most have the same parts as
heads.MaskedHead: one linear layer, a norm, and a bias over the vocabulary on top of the input embeddings. They are
identified by their shapes, and kept only where MaskedHead then gives the published model's own logits.
"""

from __future__ import annotations

import errno
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging

from sweep.errors import StoreError, StudyError, nearest
from sweep.models.heads import MaskedHead
from sweep.models.registry import DROPOUTS
from sweep.models.tokenizers import refuse_own_code
from sweep.models.vocabulary import (
    Rows,
    TokenIds,
    can_hold_rows,
    decayed,
    embedding_name,
    hold,
    placed,
    without_rows,
)

# Files of weights, in the order in which transformers looks for them.
WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
LFS_POINTER = b"version https://git-lfs"
TRAIN_AGAIN = "delete the folder of this phase and run again"
MISTYPED = 0.85  # likeness (difflib) from which an unknown name counts as a known one mistyped
hub_logging: Any = logging  # these three have no type annotations
auto_model: Any = AutoModel
auto_masked_model: Any = AutoModelForMaskedLM


def load_encoder(
    source: str,
    revision: str | None = None,
    weights: Weights | None = None,
    dropout: float | None = None,
    rows: TokenIds | None = None,
    device: torch.device | str = "cpu",
) -> PreTrainedModel:
    """Encoder of a hub id or a local folder, without a pooling layer, in fp32.

    With the `weights` of a finished phase it has those, and of `source` the configuration and what embeddings they lack
    are read; these are computed on a `device`. `dropout` replaces its own; with `rows` it holds these embeddings alone
    where it can. Raises StudyError where there is no such encoder, StoreError where the weights do not fit it.
    """
    config, where = load_configuration(source, revision), f"encoder {source!r}"
    _set_dropout(config, dropout, where)
    if weights is not None:
        return _with_weights(
            config, where, weights, rows, lambda name, ids: published_rows(source, revision, name, ids).to(device)
        )
    encoder = _published(source, revision, config, where)
    if rows is not None and can_hold_rows(encoder):
        hold(encoder, Rows(rows))
    return encoder


def _published(source: str, revision: str | None, config: PreTrainedConfig, where: str) -> PreTrainedModel:
    """Encoder as it was published, all of it."""
    try:
        hub_logging.disable_progress_bar()
        # A hub checkpoint may lie in .bin only: torch then reads it with weights_only, which runs no code.
        encoder, report = auto_model.from_pretrained(
            source, revision=revision, config=config, dtype="float32", output_loading_info=True,
            trust_remote_code=False, **without_pooler(config),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        check_weights(source, revision)
        raise _mistake(where, _first_words(error)) from error
    if missing := sorted(report["missing_keys"]):
        raise _mistake(where, f"no weights for {len(missing)} tensors, among them {missing[0]}")
    return _checked(encoder)


def published_rows(source: str, revision: str | None, name: str, ids: TokenIds) -> Tensor:
    """Rows [N, D] fp32 of the parameter `name` of a published encoder; other parts of its files stay unread."""
    for path in _weight_files(source, revision):
        found = _stored_rows(path, name, torch.from_numpy(ids))
        if found is not None:
            return found.float()
    whole = _published(source, revision, load_configuration(source, revision), f"encoder {source!r}")
    return whole.get_parameter(name).detach()[torch.from_numpy(ids)]


def _stored_rows(path: Path, name: str, ids: Tensor) -> Tensor | None:
    """Rows of the tensor in a file that ends in a name; None where it has none, or several. Files are mapped."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            names = [stored for stored in opened.keys() if f".{stored}".endswith(f".{name}")]  # noqa: SIM118
            return opened.get_tensor(names[0])[ids] if len(names) == 1 else None
    stored = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    names = [key for key in stored if f".{key}".endswith(f".{name}")]
    return stored[names[0]][ids] if len(names) == 1 else None


def load_configuration(source: str, revision: str | None = None) -> PreTrainedConfig:
    """Configuration of a hub id or a local folder. Raises StudyError where it is not an encoder's."""
    where = f"encoder {source!r}"
    try:
        content, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
        refuse_own_code(f"{source}/config.json", content)
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise _mistake(where, _first_words(error)) from error
    _refuse_others(config, where)
    return config


def check_shape(config: PreTrainedConfig, where: str) -> None:
    """Check that a configuration makes an encoder, without memory for weights; else StudyError."""
    with torch.device("meta"):
        _from_configuration(config, where)


def check_weights(source: str, revision: str | None = None) -> None:
    """Check the weights of a local folder, or of a hub id in the local cache, without reading them all.

    Raises StudyError where they are absent, cut off, or a pickle of more than tensors.
    """
    try:
        for path in _weight_files(source, revision):
            _check_file(path)
    except FileNotFoundError as absent:
        raise StudyError(f"encoder {source!r}", f"no {absent.filename}", "fetch the encoder again, whole") from absent


def _weight_files(source: str, revision: str | None) -> list[Path]:
    """Files of weights that transformers would load; none of a hub id that is not in the local cache.

    Raises FileNotFoundError for a local folder without weights.
    """
    folder = Path(source)
    local = folder.is_dir()
    for name in WEIGHTS:
        path = folder / name if local else try_to_load_from_cache(source, name, revision=revision)
        if not isinstance(path, (str, Path)) or not Path(path).is_file():
            continue
        if not name.endswith(".json"):
            return [Path(path)]
        shards = json.loads(Path(path).read_text(encoding="utf-8"))["weight_map"].values()
        return [Path(path).parent / shard for shard in sorted(set(shards))]
    if local:
        raise FileNotFoundError(errno.ENOENT, "no weights", str(folder / WEIGHTS[0]))
    return []


def _check_file(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise StudyError(path, "a Git LFS pointer in the place of weights", "'git lfs pull' there fetches them")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # its header says how long the file has to be
                return
        torch.load(path, map_location="meta", weights_only=True, mmap=is_zipfile(path))
    except UnpicklingError as refused:
        expected = (
            "it is not loaded: a revision of the encoder with safetensors is expected, or a conversion of your own if"
            " you trust whoever made the file"
        )
        raise StudyError(path, "a pickle that is more than tensors and may run any code", expected) from refused
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as damage:
        raise StudyError(path, f"cut off or damaged ({_first_words(damage)})", "fetch the file again") from damage


def random_encoder(
    config: Mapping[str, Any],
    vocab_size: int,
    pad_id: int,
    seed: int,
    dropout: float | None = None,
    weights: Weights | None = None,
) -> PreTrainedModel:
    """Encoder with random weights from a configuration with `model_type`; a function of (config, seed).

    With the `weights` of a finished phase it has those. Raises StudyError for an unknown model type or a shape that its
    model refuses, StoreError where the weights do not fit it.
    """
    complete = configuration(config, vocab_size, pad_id)
    where = f"encoder of type {complete.model_type!r}"
    _set_dropout(complete, dropout, where)
    if weights is not None:
        return _with_weights(complete, where, weights)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _from_configuration(complete, where)


def configuration(
    config: Mapping[str, Any], vocab_size: int, pad_id: int, where: str = "random_init"
) -> PreTrainedConfig:
    """Complete configuration of an encoder with random weights; `where` is its place in messages.

    Raises StudyError where it is not an encoder's.
    """
    kind = str(config.get("model_type"))
    if kind not in CONFIG_MAPPING:
        expected = "name a model type of transformers"
        raise StudyError(f"{where}.model_type", repr(kind), expected, nearest(kind, CONFIG_MAPPING))
    try:
        # the defaults of other special ids lie outside a small vocabulary, and no encoder reads them
        unused = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
        complete: PreTrainedConfig = AutoConfig.for_model(
            **{**unused, **config, "vocab_size": vocab_size, "pad_token_id": pad_id}
        )
    except (ValueError, TypeError, KeyError, StrictDataclassError) as error:
        raise StudyError(where, _first_words(error), f"a configuration of {kind} is expected") from error
    _refuse_others(complete, where)
    _check_names(config, CONFIG_MAPPING[kind], where)
    return complete


def _set_dropout(config: PreTrainedConfig, dropout: float | None, where: str) -> None:
    """Sets the share of dropout in an encoder's hidden states and attention; None leaves it as it is."""
    if dropout is None:
        return
    names = [name for name in DROPOUTS if hasattr(config, name)]
    if not names:
        setting = f"dropout: {dropout} for {config.model_type}, whose configuration has no dropout"
        raise StudyError(where, setting, "leave `dropout` out")
    for name in names:
        setattr(config, name, dropout)


def _check_names(config: Mapping[str, Any], kind: Any, where: str) -> None:
    """Refuses a mistyped name: transformers would keep it unread, and use the default of the one that was meant.

    Quite unknown names pass, for models read some that their configuration does not list (position_buckets of
    deberta-v2).
    """
    known = sorted({*inspect.signature(kind).parameters, *kind().to_dict(), *kind.attribute_map})
    for name in (name for name in config if name not in known):
        if close := get_close_matches(name, known, n=1, cutoff=MISTYPED):
            raise StudyError(f"{where}.{name}", "an unknown name", f"a name of {kind.model_type}'s", close[0])


def cpu_weights(module: nn.Module) -> dict[str, Tensor]:
    """Contiguous copies of a module's weights on the CPU, by name, as safetensors needs them."""
    return {name: cpu_copy(tensor) for name, tensor in module.state_dict().items()}


def cpu_copy(tensor: Tensor) -> Tensor:
    """Contiguous copy on the CPU, which later steps do not change."""
    return tensor.detach().to("cpu", copy=True).contiguous()


@dataclass(frozen=True)
class Weights:
    """Weights of an encoder or of heads: tensors by name, and the file that they are from.

    A module gets copies of them; of `shared` ones it gets the tensors themselves, which it must not change.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    shared: bool = False

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Weights of a safetensors file. Raises StoreError where it is damaged.

        Copies, which stay when the file is changed: safetensors maps it.
        """
        try:
            return cls(path, {name: tensor.clone() for name, tensor in load_file(path).items()})
        except (OSError, SafetensorError) as damage:
            raise StoreError(path, str(damage), TRAIN_AGAIN) from damage


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Puts weights into a module. Raises StoreError where they do not fit."""
    try:
        module.load_state_dict(weights.tensors, assign=weights.shared)
    except RuntimeError as misfit:
        raise StoreError(weights.path, str(misfit), TRAIN_AGAIN) from misfit


def _refuse_others(config: PreTrainedConfig, where: str) -> None:
    """Raises StudyError for a configuration of anything but a bidirectional masked language model."""
    kind = config.model_type
    expected = "an encoder such as xlm-roberta, bert, deberta-v2 or modernbert is expected"
    if config.is_encoder_decoder:
        raise StudyError(where, f"{kind}, an encoder-decoder", expected)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or type(config) not in MODEL_MAPPING:
        raise StudyError(where, f"{kind}, which is no masked language model", expected)
    if getattr(config, "is_decoder", False):
        raise StudyError(where, f"{kind} with is_decoder, which reads from left to right", expected)


def _from_configuration(config: PreTrainedConfig, where: str) -> PreTrainedModel:
    """Encoder with random weights, drawn from torch's generator."""
    try:
        options = {"dtype": torch.float32, "trust_remote_code": False, **without_pooler(config)}
        return _checked(auto_model.from_config(config, **options))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError, ImportError) as error:
        raise _mistake(where, _first_words(error)) from error


def _with_weights(
    config: PreTrainedConfig,
    where: str,
    weights: Weights,
    rows: TokenIds | None = None,
    published: Callable[[str, TokenIds], Tensor] | None = None,
) -> PreTrainedModel:
    """Encoder with the weights of a finished phase; none are drawn before, which for XLM-R base takes seconds.

    It holds the embeddings `rows`, by default all. Those that the phase does not hold are the `published` ones,
    decayed; a phase from random weights holds all.
    """
    with no_init_weights():
        encoder = _from_configuration(config, where)
    stored, name, tensors = Rows.of(weights.tensors), embedding_name(encoder), without_rows(weights.tensors)
    vocabulary = np.arange(encoder.get_parameter(name).shape[0], dtype=np.int32)
    if rows is not None and can_hold_rows(encoder):
        hold(encoder, Rows(rows, stored.decay if stored is not None else ()))
    else:
        rows = None
    if name in tensors and (rows is not None or stored is not None):
        kept = stored or Rows(vocabulary)

        def rest(ids: TokenIds) -> Tensor:
            assert published is not None
            return decayed(published(name, ids), kept.decay)

        tensors[name] = placed(tensors[name], kept.ids, vocabulary if rows is None else rows, rest)
    load_weights(encoder, replace(weights, tensors=tensors))
    return encoder


def _first_words(error: Exception) -> str:
    """Beginning of a library's error, at most 200 characters in one line."""
    return " ".join(str(error).split())[:200]


def without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """Argument that leaves out the pooling layer of BERT and its kin, which nothing here uses."""
    kind: Any = MODEL_MAPPING[type(config)]
    accepted = inspect.signature(kind).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _checked(model: Any) -> PreTrainedModel:
    assert isinstance(model, PreTrainedModel)
    if model.main_input_name != "input_ids":
        raise ValueError(f"{type(model).__name__} reads {model.main_input_name}, not tokens")
    return model


def _mistake(where: str, problem: str) -> StudyError:
    expected = "give a hub id, or a folder with the config.json and the weights of an encoder"
    return StudyError(where, problem, expected)


def load_published_head(head: MaskedHead, source: str, revision: str | None = None) -> bool:
    """Loads the published masked-token head of a hub id or local folder into `head`; returns whether it has one alike.

    Where it has none, nothing is changed. `source` must be one that `load_encoder` loads, which reports its errors.
    """
    model, report = auto_masked_model.from_pretrained(
        source, revision=revision, dtype="float32", output_loading_info=True, trust_remote_code=False
    )
    parts = masked_parts(model.eval(), missing=set(report["missing_keys"]))
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    if parts is None or any(parts[name].shape != tensor.shape for name, tensor in fresh.items()):
        return False
    head.load_state_dict(parts)
    if _same_logits(model, head):
        return True
    head.load_state_dict(fresh)
    return False


def load_parents_head(head: MaskedHead, heads: Weights) -> None:
    """Loads the masked-token head of a finished phase's `heads` into `head`, if it has one."""
    tensors = heads.tensors
    names = sorted(name.removesuffix("transform.weight") for name in tensors if name.endswith(".transform.weight"))
    if names:
        head.load_state_dict({part: tensors[names[0] + part] for part in head.state_dict()})


def masked_parts(model: PreTrainedModel, missing: set[str]) -> dict[str, Tensor] | None:
    """State of a MaskedHead from a published model; None where its head has other parts or its checkpoint none."""
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
    """Whether `head` on a published model's hidden states gives that model's own logits."""
    tokens = torch.arange(min(8, model.config.vocab_size))[None]
    with torch.inference_mode():
        embeddings = model.get_input_embeddings().weight
        assert isinstance(embeddings, Tensor)
        theirs = model(input_ids=tokens, output_hidden_states=True)
        ours = head.logits(theirs.hidden_states[-1], embeddings)
    return torch.allclose(ours, theirs.logits, rtol=1e-3, atol=1e-3 * float(theirs.logits.std()))
