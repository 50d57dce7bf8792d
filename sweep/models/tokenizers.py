"""Tokenizers: loaded through transformers' AutoTokenizer and checked against an encoder, or trained on given text.

No remote code is run. A tokenizer of any kind can be loaded, but no unigram one is trained: its trainer (tokenizers
0.23) sums in random order, and three processes gave three vocabularies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from sweep.errors import StudyError
from sweep.models.registry import Shape, model_type
from sweep.tasks.task import Family

AUTO_CLASSES = ("AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoTokenizer")  # that encoders are loaded through

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

fast_tokenizer: Any = PreTrainedTokenizerFast  # has no type annotations


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Fast tokenizer of a hub id or a folder.

    Raises StudyError where there is none, where it needs code of its own, and where it has no vocabulary.
    """
    where = f"tokenizer {source!r}"
    try:
        refuse_own_code(f"{source}/tokenizer_config.json", get_tokenizer_config(source, revision=revision))
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except StudyError:
        raise
    except Exception as error:  # each of transformers' conversions fails in its own way, on files that are the user's
        expected = "give a hub id, or a folder with tokenizer.json (a sentencepiece model alone needs its library: "
        raise StudyError(where, str(error), f"{expected}pip install sentencepiece)") from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise StudyError(where, "no fast tokenizer", "character offsets need one: add its tokenizer.json")
    # Without any file of a vocabulary some classes make one of their special tokens alone: all text would be unknown.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise StudyError(where, "no vocabulary but special tokens", "add the files of its tokenizer to the folder")
    return tokenizer


def refuse_own_code(where: str, content: Mapping[str, Any]) -> None:
    """Check that a configuration (config.json, tokenizer_config.json) names no classes of its own; else StudyError.

    Transformers would ask on the terminal whether to run them; with its own classes of that type instead, the encoder
    could be another one than its publisher's. Code that has found its way into transformers has its name there.
    """
    auto_map = content.get("auto_map")
    by_auto_class = auto_map if isinstance(auto_map, Mapping) else {"AutoTokenizer": auto_map}
    references = [name for auto_class in AUTO_CLASSES for name in _class_references(by_auto_class.get(auto_class))]
    if own := [name for name in references if not hasattr(transformers, name.rpartition(".")[2])]:
        expected = "code of a model's folder is never run: a model that transformers knows by itself is expected"
        raise StudyError(f"{where}: auto_map", f"classes of its own ({', '.join(own)})", expected)
    if "/" in str(content.get("attn_implementation")):
        kernel = f"{content['attn_implementation']!r}, compiled code from the hub"
        raise StudyError(f"{where}: attn_implementation", kernel, "foreign code is never run: delete this key")


def _class_references(value: object) -> Iterator[str]:
    """Every `module.Class` of a value in an auto_map: a name, or a list of names that may have gaps."""
    yield from (str(name) for name in (value if isinstance(value, list) else [value]) if name)


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, kind: str, pad_id: int | None, shape: Shape, families: Collection[Family]
) -> None:
    """Check that text of the families, so tokenized, can be fed to an encoder; else StudyError.

    `kind` is the encoder's model type, `pad_id` its pad token.
    """
    where = f"tokenizer {tokenizer.name_or_path!r}"
    if tokenizer.pad_token_id is None:
        raise StudyError(where, "no pad token", "name one as pad_token in its tokenizer_config.json")
    if model_type(kind).offset_positions and tokenizer.pad_token_id != pad_id:
        pads = f"the pad token {tokenizer.pad_token_id}, while the encoder counts positions from its pad token {pad_id}"
        raise StudyError(where, pads, "the same one in config.json and in the tokenizer is expected")
    if len(tokenizer) > shape.vocabulary:
        size = f"{len(tokenizer)} tokens for an encoder that has embeddings of {shape.vocabulary}"
        raise StudyError(where, size, "the tokenizer that belongs to the encoder is expected")
    for family in families:
        if (lacking := family.tokenizer_lacks(tokenizer)) is not None:
            raise StudyError(where, *lacking)


def train_tokenizer(texts: Iterable[str], vocab_size: int, algorithm: Algorithm) -> PreTrainedTokenizerFast:
    """Tokenizer trained on texts, of at most `vocab_size` entries, or all characters where they are more.

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
    """WordPiece as WordPieceTrainer trains it: BPE over characters and ##characters.

    That trainer numbers the latter in random order. Here characters inside a word become private ones, so that plain
    BPE, which is deterministic, does the same.
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
