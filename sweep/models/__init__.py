"""Encoders and their registry, tokenizers, heads, batches and CPU kernels: torch without stores, plans or Ray."""
