"""Facts about the cost model: its FLOPs are those that torch counts, for every architecture, with heads as they run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import HEADS
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sweep.data.encoded import EncodedSequence, from_sequences
from sweep.models.batches import DeviceData
from sweep.models.encoders import random_encoder
from sweep.models.model import MultiTaskModel
from sweep.models.registry import CHECKPOINTS, Shape, shape_of
from sweep.plan.cost import TRAINING, forward_flops, masked_head_flops

VOCABULARY = 700
BERT = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 130,
}
DEBERTA = {"model_type": "deberta-v2", **BERT, "relative_attention": True, "type_vocab_size": 0}
CONFIGURATIONS = {
    "bert": {"model_type": "bert", **BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", **BERT, "type_vocab_size": 1},
    "xlm-roberta-xl": {"model_type": "xlm-roberta-xl", **BERT},
    "distilbert": {"model_type": "distilbert", "dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 160},
    "modernbert": {"model_type": "modernbert", **BERT, "local_attention": 16, "global_attn_every_n_layers": 3},
    "electra, narrow embeddings": {"model_type": "electra", **BERT, "embedding_size": 32},
    "eurobert, shared keys": {"model_type": "eurobert", **BERT, "num_key_value_heads": 2, "mask_token_id": 4},
    "mdeberta-v3": {
        **DEBERTA,
        "pos_att_type": "p2c|c2p",
        "position_buckets": 24,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "deberta-v2, one direction, no buckets": {**DEBERTA, "pos_att_type": ["c2p"], "max_relative_positions": 20},
}
KERNELS = {  # of CPUs, which torch's counter does not know; what a kernel computes twice to save memory counts once
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: sdpa_flop_count(
        query, key, value
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda _, query, key, value, *__, **___: (
        2 * sdpa_flop_count(query, key, value)
    ),
}


def batch(family: str, sequences: int, length: int):
    draw = np.random.default_rng(0)
    targets = [1] * length if family == "masked" else [0] * length if family == "token" else [1]
    rows = (
        EncodedSequence(draw.integers(5, VOCABULARY, length).tolist(), number, targets) for number in range(sequences)
    )
    return DeviceData(from_sequences(rows), "cpu", 0).batch(np.arange(sequences))


def counted(model: MultiTaskModel, family: str, fed, training: bool) -> int:
    fed = model.prepare(fed, family, seed=0)
    with FlopCounterMode(display=False, custom_mapping=KERNELS) as counter:
        loss = model.loss(fed, family)
        if training:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["sequence", "token", "masked"])
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_computed_flops_are_those_that_torch_counts(kind, family):
    """Within 3%, forward alone and a training step, from the configuration alone."""
    config = CONFIGURATIONS[kind]
    shape = shape_of({**config, "vocab_size": VOCABULARY}, "here")
    encoder = random_encoder(config, VOCABULARY, 0, 0)  # without oneDNN, whose products the counter does not know
    model = MultiTaskModel(encoder, {family: HEADS[family]}, seed=0, pad_id=0, cpu_kernels="torch")
    for sequences, length in ((40, 48), (12, 120)):
        fed = batch(family, sequences, length)
        computed = forward_flops(shape, sequences * length, sequences * length**2, 1)
        computed += masked_head_flops(shape, sequences * length) if family == "masked" else 0
        assert computed == pytest.approx(counted(model.eval(), family, fed, training=False), rel=0.03)
        assert TRAINING * computed == pytest.approx(counted(model.train(), family, fed, training=True), rel=0.03)


def test_the_counter_sees_a_product():
    """Else the test above could pass on nothing."""
    with FlopCounterMode(display=False) as counter:
        torch.ones(3, 5) @ torch.ones(5, 7)
    assert counter.get_total_flops() == 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    ("model_type", "pad", "expected"),
    [("xlm-roberta", 1, 512), ("xlm-roberta", 0, 513), ("xlm-roberta", None, 512), ("bert", 0, 514), ("mpnet", 1, 512)],
)
def test_positions_that_begin_after_the_pad_token_shorten_the_longest_sequence(model_type, pad, expected):
    config = {**BERT, "model_type": model_type, "vocab_size": 9, "pad_token_id": pad, "max_position_embeddings": 514}
    assert shape_of(config, "here").max_length == expected


@pytest.mark.parametrize("kind", ["xlm-roberta", "xlm-roberta-xl", "roberta", "camembert", "xmod", "mpnet", "bert"])
def test_the_longest_sequence_fits_and_a_longer_one_does_not(kind):
    config = {**BERT, "model_type": kind, "max_position_embeddings": 20, "num_hidden_layers": 1, "languages": ["en_XX"]}
    config |= {"default_language": "en_XX"} if kind == "xmod" else {}
    if kind != "xmod":
        del config["languages"]
    encoder = random_encoder(config, 50, 1, 0).eval()
    longest = shape_of({**config, "vocab_size": 50, "pad_token_id": 1}, "here").max_length
    encoder(torch.full((2, longest), 7))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(torch.full((2, longest + 1), 7))


def test_larger_known_encoders_cost_more():
    def cost(shape: Shape) -> float:
        return forward_flops(shape, 4096, 4096 * 128, 1)

    names = [
        "mmBERT-small",
        "xlm-roberta-base",
        "mdeberta-v3-base",
        "mmBERT-base",
        "xlm-roberta-large",
        "xlm-roberta-xl",
    ]
    shapes = {name.partition("/")[2]: entry.shape for name, entry in CHECKPOINTS.items() if entry.shape is not None}
    assert all(cost(shapes[one]) < cost(shapes[other]) for one, other in pairwise(names))
