"""Encoders of XLM-R's kind with random weights, which benchmarks of speed train and score; named sizes, or any."""

from __future__ import annotations

from typing import Any

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
