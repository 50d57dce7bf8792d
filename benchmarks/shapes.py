"""Encoders of XLM-R's kind with random weights, which benchmarks of speed train and score; named sizes, or any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from sweep.models.model import MultiTaskModel

VOCABULARY = 250_002
SIZES = {  # layers, hidden, heads
    "tiny": (2, 64, 2),
    "small": (6, 384, 12),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


def xlm_r(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    """A configuration."""
    return {
        "model_type": "xlm-roberta", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "intermediate_size": 4 * hidden, "max_position_embeddings": 514, "type_vocab_size": 1,
    }  # fmt: skip


def random_model(config: Mapping[str, Any], vocabulary: int, device: torch.device | str, pad: int) -> MultiTaskModel:
    """A classifier of three classes whose task is `topic`; a GPU draws its own weights, which takes a CPU seconds."""
    import torch

    from sweep.models.encoders import random_encoder
    from sweep.models.model import MultiTaskModel
    from sweep.tasks.task import HeadSpec

    with torch.device(device):
        encoder = random_encoder(config, vocabulary, pad, seed=0)
    return MultiTaskModel(encoder, {"topic": HeadSpec("text", 3)}, seed=0, pad_id=pad).to(device)
