"""The encoder that benchmarks pretrain on the embedded benchmark: it learns something in a minute on a core."""

from __future__ import annotations

TINY = {
    "random_init": {"model_type": "bert", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                    "intermediate_size": 384, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0},
    "tokenizer": {"text": "world/raw", "vocab_size": 1000, "algorithm": "wordlevel"},
}  # fmt: skip
