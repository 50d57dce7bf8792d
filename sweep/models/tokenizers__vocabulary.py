"""Tokenizers trained on given text. The same text gives the same one, which the library's trainers do not promise.

There is no unigram: its trainer (tokenizers 0.23) sums in random order, and three processes gave three vocabularies.
A tokenizer that exists already, of whatever kind, is loaded in encoders.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Algorithm = Literal["wordpiece", "bpe", "wordlevel"]
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
UNKNOWN = SPECIAL["unk_token"]
PRIVATE_USE = 0xF0000  # code points that no text has, room for 131,068 characters

fast_tokenizer: Any = PreTrainedTokenizerFast  # carries no types


def train_tokenizer(texts: Iterable[str], vocab_size: int, algorithm: Algorithm) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` entries, or of all characters where they are more, and special tokens.

    [PAD] is 0, a pair is [CLS] a [SEP] b [SEP], text is normalised by NFKC, case is kept; `save_pretrained` writes a
    standard folder.
    """
    build = {"wordpiece": _wordpiece, "bpe": _bpe, "wordlevel": _wordlevel}[algorithm]
    tokenizer = build(
        texts, {"vocab_size": vocab_size, "special_tokens": list(SPECIAL.values()), "show_progress": False}
    )
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in (SPECIAL["cls_token"], SPECIAL["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    trained: PreTrainedTokenizerFast = fast_tokenizer(tokenizer_object=tokenizer, **SPECIAL)
    return trained


def _wordlevel(texts: Iterable[str], settings: dict[str, Any]) -> Tokenizer:
    tokenizer = _split_by_words(Tokenizer(models.WordLevel(unk_token=UNKNOWN)))
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(**settings))
    return tokenizer


def _bpe(texts: Iterable[str], settings: dict[str, Any]) -> Tokenizer:
    tokenizer = _split_by_spaces(Tokenizer(models.BPE(unk_token=UNKNOWN)))
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(**settings))
    return tokenizer


def _wordpiece(texts: Iterable[str], settings: dict[str, Any]) -> Tokenizer:
    """As WordPieceTrainer, which is BPE over characters and ##characters, but numbers the latter in random order.

    Here characters inside a word become private ones, so that plain BPE, which is deterministic, does the same.
    """
    tokenizer, inside = _split_by_words(Tokenizer(models.WordPiece(unk_token=UNKNOWN))), dict[str, str]()

    def words() -> Iterator[str]:
        for text in texts:
            parts = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
            for character in sorted({character for word, _ in parts for character in word[1:]}):
                inside.setdefault(character, chr(PRIVATE_USE + len(inside)))
            yield " ".join(word[0] + "".join(inside[character] for character in word[1:]) for word, _ in parts)

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.train_from_iterator(words(), trainers.BpeTrainer(**settings))
    outside = {private: character for character, private in inside.items()}
    vocabulary = {_restored(token, outside): number for token, number in plain.get_vocab().items()}
    tokenizer.model = models.WordPiece(vocabulary, unk_token=UNKNOWN)
    tokenizer.add_special_tokens(settings["special_tokens"])
    return tokenizer


def _restored(token: str, outside: dict[str, str]) -> str:
    prefix = "##" if token[0] in outside else ""
    return prefix + "".join(outside.get(character, character) for character in token)


def _split_by_words(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return tokenizer


def _split_by_spaces(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return tokenizer
