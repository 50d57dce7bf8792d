"""The shape of a transformer encoder, read from its configuration: what its FLOPs and its longest sequence depend on.

Shapes of well-known encoders stand in a table, so that a plan needs no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweep.errors import StudyError

LONGEST = 8192  # what a configuration promises beyond that is not believed
SHORTEST = 8  # sequences that an encoder must be able to read
LARGEST, DEEPEST = 2**31 - 1, 1000  # of sizes, of layers

# Position ids of these begin at pad_token_id + 1, so a table of 514 positions holds sequences of 512 tokens.
OFFSET_POSITIONS = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "roberta-prelayernorm"),
    *("data2vec-text", "mpnet", "longformer"),
}
GATED = {"modernbert", "eurobert", "gte", "nomic_bert"}


@dataclass(frozen=True)
class Shape:
    """What the FLOPs of a transformer encoder depend on."""

    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    max_length: int  # tokens of a sequence, special tokens included
    gated: bool = False  # feed-forward with a gate (GeGLU), three matrices instead of two
    embedding: int = 0  # width of the token embeddings where it is not the hidden size
    key_value: int = 0  # width of keys, and of values, where heads share them
    relative: int = 0  # relative positions that a layer compares with every token (DeBERTa): both ways, both directions


_BASE, _LARGE = (12, 768, 3072), (24, 1024, 4096)
KNOWN: Mapping[str, Shape] = {
    "FacebookAI/xlm-roberta-base": Shape(*_BASE, 250_002, 512),
    "FacebookAI/xlm-roberta-large": Shape(*_LARGE, 250_002, 512),
    "facebook/xlm-roberta-xl": Shape(36, 2560, 10240, 250_880, 512),
    "google-bert/bert-base-multilingual-cased": Shape(*_BASE, 119_547, 512),
    "microsoft/mdeberta-v3-base": Shape(*_BASE, 251_000, 512, relative=2 * 512),
    "jhu-clsp/mmBERT-base": Shape(22, 768, 1152, 256_000, 8192, gated=True),
    "jhu-clsp/mmBERT-small": Shape(22, 384, 1152, 256_000, 8192, gated=True),
}


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """The shape that a configuration describes. Raises StudyError where it is not a transformer's."""
    wanted = "a transformer's configuration is expected"

    def read(*names: str, default: int | None = None, most: int = LARGEST) -> int:
        name, value = next(
            ((name, config[name]) for name in names if config.get(name) is not None), (names[0], default)
        )
        if value is None:
            raise StudyError(where, f"the configuration without {name!r}", wanted)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise StudyError(where, f"{name} {value!r}", f"a whole number from 1 to {most} is expected there")
        return value

    hidden = read("hidden_size", "dim", "d_model", "emb_dim", "n_embd")
    heads = read("num_attention_heads", "n_heads", default=1)
    embedding = read("embedding_size", default=hidden)
    key_value = hidden // heads * read("num_key_value_heads", default=heads)
    try:
        longest, relative = _longest(config, read("max_position_embeddings", default=512)), _relative(config)
    except TypeError as error:
        raise StudyError(where, f"the configuration of its positions ({error})", wanted) from None
    if longest < SHORTEST:
        raise StudyError(where, f"a configuration with room for {longest} tokens", f"at least {SHORTEST} are expected")
    return Shape(
        layers=read("num_hidden_layers", "n_layers", "num_layers", "n_layer", "encoder_layers", most=DEEPEST),
        hidden=hidden,
        feed_forward=read("intermediate_size", "hidden_dim", "d_ff", default=4 * hidden),
        vocabulary=read("vocab_size"),
        max_length=longest,
        gated=config.get("model_type") in GATED,
        embedding=embedding if embedding != hidden else 0,
        key_value=key_value if key_value != hidden else 0,
        relative=relative,
    )


def _longest(config: Mapping[str, Any], positions: int) -> int:
    offset = config.get("model_type") in OFFSET_POSITIONS
    pad = config.get("pad_token_id")
    return min(positions - (1 if pad is None else pad) - 1 if offset else positions, LONGEST)


def _relative(config: Mapping[str, Any]) -> int:
    """Compared relative positions: 2 x span for content-to-position, as many for position-to-content."""
    if config.get("model_type") not in ("deberta", "deberta-v2") or not config.get("relative_attention"):
        return 0
    named = config.get("pos_att_type") or ()
    kinds = set(named.split("|") if isinstance(named, str) else named) & {"c2p", "p2c"}
    spans = (config.get(name, -1) for name in ("position_buckets", "max_relative_positions", "max_position_embeddings"))
    return 2 * next((span for span in spans if span > 0), 512) * len(kinds)
