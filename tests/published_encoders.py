"""Encoders as their publishers leave them, at toy size: the folder of a masked language model with its own tokenizer.

Configurations have the traits that make each architecture different, tokenizers are of the kind and class that the
real ones have. Not tests themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from small_tokenizers import small_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    DebertaV2Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)

SIZE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,  # of XLM-R and its kin 64 tokens: two positions are never used
    "initializer_range": 0.2,
}
NARROW = {"embedding_size": 8, "max_position_embeddings": 64}
MDEBERTA = {
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_buckets": 16,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "mbert": {"model_type": "bert", **SIZE},
    "xlm-r": {"model_type": "xlm-roberta", **SIZE, "type_vocab_size": 1},
    "xlm-r-xl": {"model_type": "xlm-roberta-xl", **SIZE, "type_vocab_size": 1},
    "mdeberta": {"model_type": "deberta-v2", **SIZE, **MDEBERTA},
    "modernbert": {"model_type": "modernbert", **SIZE, "local_attention": 8, "global_attn_every_n_layers": 2},
    "mmbert": {"model_type": "modernbert", **SIZE, "local_attention": 8, "global_attn_every_n_layers": 2},
    "electra": {"model_type": "electra", **SIZE, **NARROW},
    "distilbert": {
        "model_type": "distilbert", "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
        "max_position_embeddings": 64, "initializer_range": 0.2,
    },
}  # fmt: skip
TOKENIZERS = {"mbert": "bert", "electra": "bert", "distilbert": "bert", "modernbert": "roberta"}


def published_tokenizer(name: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the class that the real encoder has, trained on the texts."""
    if name in TOKENIZERS:
        return small_tokenizer(TOKENIZERS[name], texts)
    return {"xlm-r": _xlmr, "xlm-r-xl": _xlmr, "mdeberta": _mdeberta, "mmbert": _gemma}[name](list(texts))


def save_published(name: str, folder: Path, texts: Iterable[str], **changes: Any) -> PreTrainedModel:
    """Writes the encoder's folder: configuration, weights of a masked language model, tokenizer."""
    tokenizer = published_tokenizer(name, texts)
    tokenizer.save_pretrained(folder)
    return save_masked_model({**PUBLISHED[name], **changes}, folder, len(tokenizer), tokenizer.pad_token_id)


def save_masked_model(
    config: dict[str, Any], folder: Path, vocabulary: int = 60, pad: int | None = 1
) -> PreTrainedModel:
    """The folder without a tokenizer."""
    torch.manual_seed(0)
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    model = AutoModelForMaskedLM.from_config(
        AutoConfig.for_model(**{**special, "vocab_size": vocabulary, "pad_token_id": pad, **config})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return model.eval()


def _unigrams(texts: list[str]) -> list[tuple[str, float]]:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    )
    return sorted(
        ((piece, backend.get_vocab()[piece] * -0.1) for piece in backend.get_vocab() if piece != "<unk>"),
        key=lambda piece: -piece[1],
    )


def _xlmr(texts: list[str]) -> PreTrainedTokenizerFast:
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(vocab=[*special, *_unigrams(texts), ("<mask>", 0.0)])


def _mdeberta(texts: list[str]) -> PreTrainedTokenizerFast:
    special = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    return DebertaV2Tokenizer(vocab=[*special, *_unigrams(texts), ("[MASK]", 0.0)])


def _gemma(texts: list[str]) -> PreTrainedTokenizerFast:
    """Gemma 2's, which mmBERT has: BPE over text whose spaces are ▁, bytes for what is unknown."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", pair="<bos> $A <eos> $B:1 <eos>:1", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    names = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="<bos>", sep_token="<eos>", **names)
