"""Encoders of every kind at toy size, and token sequences of every family, for the tests of layer 4."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sweep.data import IGNORED
from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.encoders import random_encoder
from sweep.models.model import MultiTaskModel
from sweep.tasks.task import HeadSpec

VOCABULARY, PAD, MASK, FIRST_WORD, CLASSES = 60, 0, 4, 5, 3

BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 70,
}
SHAPES = {
    "bert": {"model_type": "bert", **BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", **BERT, "type_vocab_size": 1},
    "deberta-v2": {
        "model_type": "deberta-v2",
        **BERT,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
        "type_vocab_size": 0,
    },
    "modernbert": {"model_type": "modernbert", **BERT, "local_attention": 8, "global_attn_every_n_layers": 2},
    "distilbert": {
        "model_type": "distilbert",
        "dim": 16,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 32,
        "max_position_embeddings": 70,
    },
}
HEADS = {
    "sequence": HeadSpec("text", CLASSES),
    "choice": HeadSpec("choice", 1),
    "token": HeadSpec("token", CLASSES),
    "span": HeadSpec("span", 2),
    "embedding": HeadSpec("vector"),
    "masked": HeadSpec("masked", mask_id=MASK),
}


def tiny_model(
    kind: str = "bert", seed: int = 0, families: tuple[str, ...] = tuple(HEADS), **options: object
) -> MultiTaskModel:
    """Encoder and one head per family, tasks named as their families."""
    encoder = random_encoder({**SHAPES[kind], **options}, VOCABULARY, PAD, seed)
    return MultiTaskModel(encoder, {family: HEADS[family] for family in families}, seed=seed, pad_id=PAD)


def toy(family: str, examples: int = 24, seed: int = 0, lengths: tuple[int, int] = (4, 24)) -> Encoded:
    """Random sequences whose targets can be learned from their tokens; an example owns 1 to 5 sequences."""
    return from_sequences(_sequences(family, examples, np.random.default_rng([seed, examples]), lengths))


def _sequences(
    family: str, examples: int, draw: np.random.Generator, lengths: tuple[int, int]
) -> Iterator[EncodedSequence]:
    for example in range(examples):
        count = {"choice": int(draw.integers(2, 6)), "span": int(draw.integers(1, 4)), "embedding": 2}.get(family, 1)
        for option in range(count):
            tokens = draw.integers(FIRST_WORD, VOCABULARY, draw.integers(*lengths))
            yield EncodedSequence(
                tokens=tokens.tolist(),
                example=example,
                targets=_targets(family, tokens, option, draw) if family != "embedding" else [example] * option,
                segments=[0] * 2 + [1] * (len(tokens) - 2),
            )


def _targets(family: str, tokens: np.ndarray, option: int, draw: np.random.Generator) -> list[int]:
    if family == "sequence":
        return [int(tokens[0] % CLASSES)]
    if family == "choice":
        return [int(draw.integers(2))] if option == 0 else []
    if family == "token":
        return [IGNORED, *(tokens[1:] % CLASSES).tolist()]
    if family == "span":
        return [1, len(tokens) - 1]
    return [0] + [1] * (len(tokens) - 1) if family == "masked" else []
