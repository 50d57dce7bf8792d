"""The tokenizer of a published encoder, and whether it can do what a study asks of it.

Tokenizers that are trained here are in vocabulary.py. Passes through transformers' AutoTokenizer; no remote code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from sweep.errors import StudyError
from sweep.models.registry import Shape, model_type
from sweep.tasks.task import Family

LOADED = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer")  # what encoders are loaded through


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a hub id or a folder. Raises StudyError where there is none, or none without own code."""
    where = f"tokenizer {source!r}"
    try:
        refuse_own_code(f"{source}/tokenizer_config.json", get_tokenizer_config(source, revision=revision))
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except StudyError:
        raise
    except Exception as error:  # each of transformers' conversions fails in its own way, on files that are the user's
        wanted = "give a hub id, or a folder with tokenizer.json (a sentencepiece model alone needs its library: "
        raise StudyError(where, str(error), f"{wanted}pip install sentencepiece)") from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise StudyError(where, "no fast tokenizer", "character offsets need one: add its tokenizer.json")
    # Without any file of a vocabulary some classes make one of their special tokens alone: all text would be unknown.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise StudyError(where, "no vocabulary but special tokens", "add the files of its tokenizer to the folder")
    return tokenizer


def refuse_own_code(where: str, content: Mapping[str, Any]) -> None:
    """Raises StudyError where a configuration (config.json, tokenizer_config.json) names classes of its own.

    Transformers would ask on the terminal whether to run them; with its own classes of that type instead, the encoder
    could be another one than its publisher's. Code that has found its way into transformers has its name there.
    """
    auto_map = content.get("auto_map")
    roles = auto_map if isinstance(auto_map, Mapping) else {"AutoTokenizer": auto_map}
    named = [name for role in LOADED for name in _class_references(roles.get(role))]
    if own := [name for name in named if not hasattr(transformers, name.rpartition(".")[2])]:
        wanted = "code of a model's folder is never run: a model that transformers knows by itself is expected"
        raise StudyError(f"{where}: auto_map", f"classes of its own ({', '.join(own)})", wanted)
    if "/" in str(content.get("attn_implementation")):
        found = f"{content['attn_implementation']!r}, compiled code from the hub"
        raise StudyError(f"{where}: attn_implementation", found, "foreign code is never run: delete this key")


def _class_references(named: object) -> Iterator[str]:
    """`module.Class` in what stands in an auto_map: one, or a list that may have gaps."""
    yield from (str(name) for name in (named if isinstance(named, list) else [named]) if name)


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, kind: str, pad_id: int | None, shape: Shape, families: Collection[Family]
) -> None:
    """Whether text of these families, so tokenized, can be fed to an encoder of this model type, pad token and shape.

    Raises StudyError.
    """
    where = f"tokenizer {tokenizer.name_or_path!r}"
    if tokenizer.pad_token_id is None:
        raise StudyError(where, "no pad token", "name one as pad_token in its tokenizer_config.json")
    if model_type(kind).offset_positions and tokenizer.pad_token_id != pad_id:
        found = (
            f"the pad token {tokenizer.pad_token_id}, while the encoder counts positions from its pad token {pad_id}"
        )
        raise StudyError(where, found, "the same one in config.json and in the tokenizer is expected")
    if len(tokenizer) > shape.vocabulary:
        found = f"{len(tokenizer)} tokens for an encoder that has embeddings of {shape.vocabulary}"
        raise StudyError(where, found, "the tokenizer that belongs to the encoder is expected")
    for family in families:
        if (lacking := family.tokenizer_lacks(tokenizer)) is not None:
            raise StudyError(where, *lacking)
