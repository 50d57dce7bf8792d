"""Facts about published encoders: every architecture through whole chains, its own masked head, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from published_encoders import PUBLISHED, SIZE, published_tokenizer, save_masked_model, save_published
from safetensors.torch import load_file, save_file
from small_studies import (
    chains_of,
    finish,
    finish_in_pieces,
    plan_of,
    study_file,
    unmeasured,
    with_data_of,
    with_encoder_of,
)
from small_tokenizers import small_tokenizer
from transformers import AutoConfig, AutoModel, AutoTokenizer

from sweep.cli import main
from sweep.data import IGNORED
from sweep.data.encoded import EncodedSequence, from_sequences
from sweep.errors import StudyError
from sweep.models.batches import DeviceData
from sweep.models.encoders import load_encoder, load_published_head
from sweep.models.heads import MaskedHead
from sweep.models.model import MultiTaskModel
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.store.paths import HEAD_WEIGHTS
from sweep.tasks.task import HeadSpec
from sweep.train.context import model_to_train, set_up

CHAINED = ["mbert", "xlm-r", "xlm-r-xl", "mdeberta", "mmbert", "electra"]
TEXTS = [f"the river runs to town number {number} and back to the {number % 7} hills" for number in range(200)]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Text of the embedded benchmark, for tokenizers."""
    task = plan_of(study_file(tmp_path_factory.mktemp("words"))).tasks["world/raw"]
    return [row["text"] for language in task.trained_in for row in task.source.rows("train", language)[:300]]


def study(folder: Path, encoder: Path, **changes) -> Path:
    axes = {"encoder": [str(encoder)], **changes.pop("axes", {})}
    return study_file(folder, axes, **{"pretrain": None, "encoders": {}, **changes})


# Whole chains

RAW = {"family": "masked", "format": "lines", "train_languages": ["en"], "train": "raw.txt", "dev": 0.1}


def with_text(folder: Path, words: list[str]) -> dict[str, object]:
    """A task of raw text that is encoded in no time, for a study in the folder."""
    (folder / "raw.txt").write_text("\n".join(words[:300]), encoding="utf-8")
    return {"raw": RAW}


@pytest.mark.parametrize("name", CHAINED)
def test_a_published_encoder_goes_through_every_family_and_is_scored(name, words, tmp_path):
    """Two phases with mixed-in text, five families as targets, retrieval from an inner layer by its first token."""
    save_published(name, tmp_path / "encoder", words)
    targets = ["world/rte", "world/copa", "world/ner", "world/qa_small", "world/retrieval"]
    axes = {"intermediate": [["world/topic", "raw"]], "target": targets}
    scoring = {"examples": 10, "layer": 1, "pooling": "cls"}
    path = study(tmp_path, tmp_path / "encoder", axes=axes, tasks=with_text(tmp_path, words), scoring=scoring)
    store = Store(tmp_path / "store")
    for chain in finish(path, store):
        score, task = store.score(chain.score), plan_of(path).tasks[chain.cell.target]
        assert set(score.languages) == set(task.languages)
        assert all(0 <= entry["value"] <= 1 for entry in score.languages.values())
        assert all(np.isfinite(point["loss"]) for phase in chain.phases for point in store.phase(phase.key).curve)


@pytest.mark.parametrize("name", ["mbert", "mdeberta", "mmbert"])
def test_a_chain_from_a_published_encoder_is_resumed_bit_for_bit(name, words, tmp_path):
    save_published(name, tmp_path / "encoder", words)
    axes, tasks = {"intermediate": [["world/ner", "raw"]], "target": ["world/rte"]}, with_text(tmp_path, words)
    path = study(tmp_path, tmp_path / "encoder", axes=axes, tasks=tasks, runtime={"checkpoint_seconds": 1e-6})
    ((chain, plan),) = chains_of(path)
    undisturbed, disturbed = Store(tmp_path / "undisturbed"), Store(tmp_path / "disturbed")
    run(chain, plan, undisturbed)
    with_data_of(undisturbed, disturbed.root)
    assert finish_in_pieces(chain, plan, disturbed)
    for phase in chain.phases:
        assert unmeasured(undisturbed.phase(phase.key)) == unmeasured(disturbed.phase(phase.key))
    assert unmeasured(undisturbed.score(chain.score)) == unmeasured(disturbed.score(chain.score))


@pytest.mark.parametrize("name", ["xlm-r", "mbert", "mdeberta", "mmbert"])
def test_text_longer_than_the_encoder_is_cut_to_what_it_can_take(name, words, tmp_path):
    """XLM-R's table of 66 positions holds 64 tokens: the first two are never used."""
    save_published(name, tmp_path / "encoder", words)
    path = study(tmp_path, tmp_path / "encoder", axes={"target": ["world/qa_small"]}, target={"max_length": 4096})
    ((chain, plan),) = chains_of(path)
    assert next(iter(plan.encoders.values())).shape.max_length == (64 if name == "xlm-r" else 66)
    store = Store(tmp_path / "store")
    run(chain, plan, store)
    assert store.score(chain.score) is not None


@pytest.mark.parametrize("name", PUBLISHED)
def test_padding_beside_a_longer_sequence_changes_no_output_of_a_published_encoder(name, tmp_path):
    save_published(name, tmp_path, TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = MultiTaskModel(load_encoder(str(tmp_path)), {}, seed=0, pad_id=tokenizer.pad_token_id).eval()
    rows = [tokenizer(text)["input_ids"] for text in ("the river", TEXTS[0])]
    data = DeviceData(from_sequences(EncodedSequence(row, n) for n, row in enumerate(rows)), "cpu", model.pad_id)
    with torch.inference_mode():
        together, alone = (model.hidden(data.batch(np.arange(n))) for n in (2, 1))
    torch.testing.assert_close(together[0, : len(rows[0])], alone[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_our_hidden_states_are_those_of_the_library_on_its_tokenizers_own_input(name, tmp_path):
    """Token types, pad tokens and positions as the tokenizer and the model of the library have them, on a pair."""
    save_published(name, tmp_path, TEXTS)
    tokenizer, theirs = AutoTokenizer.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    inputs = tokenizer([["the river", "to town"], [TEXTS[0], "hills"]], padding=True, return_tensors="pt")
    model = MultiTaskModel(load_encoder(str(tmp_path)), {}, seed=0, pad_id=tokenizer.pad_token_id).eval()
    types = inputs.get("token_type_ids")
    rows = (
        EncodedSequence(
            inputs["input_ids"][n][mask].tolist(), n, segments=None if types is None else types[n][mask].tolist()
        )
        for n, mask in enumerate(inputs["attention_mask"].bool())
    )
    batch = DeviceData(from_sequences(rows), "cpu", model.pad_id).batch(np.arange(2))
    with torch.inference_mode():
        expected = theirs(**inputs, output_hidden_states=True).hidden_states
        for layer in (0, 1, 2):
            ours, real = model.hidden(batch, layer), batch.attention_mask
            torch.testing.assert_close(ours[real], expected[layer][real], atol=1e-5, rtol=1e-4)


# The masked head


HEADS = {
    **{name: config for name, config in PUBLISHED.items() if name != "mmbert"},
    "deberta-v2, new head": {**PUBLISHED["mdeberta"], "legacy": False},
    "modernbert, biases": {**PUBLISHED["modernbert"], "classifier_bias": True, "norm_bias": True},
    "camembert": {"model_type": "camembert", **SIZE},
    "albert": {"model_type": "albert", **SIZE, "embedding_size": 8, "hidden_act": "gelu"},
}


def masked_model(folder: Path) -> MultiTaskModel:
    return MultiTaskModel(load_encoder(str(folder)), {"text": HeadSpec("masked", mask_id=4)}, seed=0, pad_id=1).eval()


@pytest.mark.parametrize("name", HEADS)
def test_the_first_loss_on_text_is_the_published_models_own(name, tmp_path):
    theirs, model = save_masked_model(HEADS[name], tmp_path), masked_model(tmp_path)
    assert load_published_head(model.masked_heads[0], str(tmp_path))
    draw = np.random.default_rng(0)
    rows = (EncodedSequence(draw.integers(5, 60, n).tolist(), k, [1] * n) for k, n in enumerate((20, 31, 9, 40)))
    batch = model.prepare(DeviceData(from_sequences(rows), "cpu", 1).batch(np.arange(4)), "text", seed=1)
    with torch.inference_mode():
        ours = model.loss(batch, "text") / model.count(batch, "text")
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        own = theirs(**inputs, labels=batch.targets).loss
    assert (batch.targets != IGNORED).sum() > 5
    assert abs(float(own) - np.log(60)) > 0.1  # an untrained head's is the logarithm of the vocabulary
    assert float(ours) == pytest.approx(float(own), rel=1e-4)


OTHERS = {
    "no transform, not tied": {"model_type": "eurobert", **SIZE},
    "not tied": {**PUBLISHED["mbert"], "tie_word_embeddings": False},
    "another activation": {**PUBLISHED["mbert"], "hidden_act": "relu"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_published_head_unlike_ours_is_left_and_ours_stays_fresh(name, tmp_path):
    save_masked_model(OTHERS[name], tmp_path)
    head = masked_model(tmp_path).masked_heads[0]
    fresh = {part: tensor.clone() for part, tensor in head.state_dict().items()}
    assert not load_published_head(head, str(tmp_path))
    assert all(torch.equal(tensor, fresh[part]) for part, tensor in head.state_dict().items())


@pytest.mark.parametrize("name", ["mbert", "xlm-r", "mdeberta", "modernbert"])
def test_a_checkpoint_without_a_masked_head_gives_a_fresh_one(name, tmp_path):
    save_masked_model(PUBLISHED[name], tmp_path).base_model.save_pretrained(tmp_path)
    head = masked_model(tmp_path).masked_heads[0]
    fresh = {part: tensor.clone() for part, tensor in head.state_dict().items()}
    assert not load_published_head(head, str(tmp_path))
    assert all(torch.equal(tensor, fresh[part]) for part, tensor in head.state_dict().items())


def heads_at_the_start(path: Path, store: Store, kind: str) -> tuple[MaskedHead, dict[str, torch.Tensor] | None]:
    """The masked head with which a phase of a finished study began, and the heads that its parent left."""
    ((chain, plan),) = chains_of(path)
    phase = next(phase for phase in chain.phases if phase.recipe.kind == kind)
    context = set_up(chain, plan, store)
    model = model_to_train(context, [plan.tasks[name] for name in phase.recipe.tasks], phase, phase.seed)
    left = load_file(store.weights(phase.parent) / HEAD_WEIGHTS) if phase.parent else None
    return model.masked_heads[0], left


def test_mixed_in_text_begins_with_the_published_head(words, tmp_path):
    published = save_published("xlm-r", tmp_path / "encoder", words)
    axes = {"intermediate": [["world/rte", "world/raw"]]}
    head, _ = heads_at_the_start(
        study(tmp_path, tmp_path / "encoder", axes=axes), Store(tmp_path / "s"), "intermediate"
    )
    assert torch.equal(head.transform.weight, published.lm_head.dense.weight)
    assert torch.equal(head.bias, published.lm_head.bias)


def test_mixed_in_text_goes_on_with_the_head_of_pretraining(small_store, tmp_path):
    path = study_file(tmp_path, {"intermediate": [["world/rte", "world/raw"]]})
    store = with_encoder_of(small_store, tmp_path / "store")
    finish(path, store)
    head, left = heads_at_the_start(path, store, "intermediate")
    for part, tensor in head.state_dict().items():
        assert torch.equal(tensor, left[f"0.{part}"])


# What is refused, before anything is trained


def said(path: Path, capsys) -> str:
    """What `sweep check` says of a study that it refuses."""
    assert main(["check", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def save_configuration(folder: Path, kind: str, **shape) -> None:
    AutoConfig.for_model(kind, **shape).save_pretrained(folder)
    small_tokenizer("bert", TEXTS).save_pretrained(folder)


OWN_CODE = {
    "a type of its own": (
        "config.json",
        {"model_type": "x", "auto_map": {"AutoConfig": "own.X", "AutoModel": "own.Y"}},
    ),
    "another model": ("config.json", {"auto_map": {"AutoModel": "own.Y"}}),
    "another head": ("config.json", {"auto_map": {"AutoModelForMaskedLM": "someone/else--own.Y"}}),
    "another tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Y", None]}}),
    "an old tokenizer": ("tokenizer_config.json", {"auto_map": ["own.Y", None]}),
    "a compiled kernel": ("config.json", {"attn_implementation": "someone/kernel"}),
}


@pytest.mark.parametrize("name", OWN_CODE)
def test_code_of_a_models_folder_is_never_run_nor_asked_about(name, tmp_path, capsys, monkeypatch):
    file, changes = OWN_CODE[name]
    save_configuration(tmp_path / "model", "bert", **SIZE, vocab_size=300, pad_token_id=0)
    path = tmp_path / "model" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    (tmp_path / "model" / "own.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nX = Y = None\n")
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr("sys.stdin", answers)
    line = said(study(tmp_path, tmp_path / "model"), capsys)
    assert f"model/{file}: {[*changes][-1]}: found " in line
    assert answers.tell() == 0
    assert not (tmp_path / "canary").exists()


def test_code_that_has_found_its_way_into_transformers_is_no_code_of_a_folder(tmp_path):
    save_masked_model(PUBLISHED["mbert"], tmp_path)
    path = tmp_path / "config.json"
    named = {"AutoConfig": "configuration_bert.BertConfig", "AutoModelForCausalLM": "own.Other"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": named}))
    assert type(load_encoder(str(tmp_path))).__name__ == "BertModel"


NO_ENCODERS = {
    "gpt2": ({"n_embd": 16, "n_layer": 1, "n_head": 2}, "no masked language model"),
    "llama": (SIZE, "no masked language model"),
    "vit": (SIZE, "no masked language model"),
    "t5": ({"d_model": 16, "num_layers": 1}, "an encoder-decoder"),
    "mbart": ({"d_model": 16, "encoder_layers": 1}, "an encoder-decoder"),
    "bert": ({**SIZE, "is_decoder": True}, "reads from left to right"),
}


@pytest.mark.parametrize("kind", NO_ENCODERS)
def test_what_is_no_encoder_is_refused(kind, tmp_path, capsys):
    shape, reason = NO_ENCODERS[kind]
    save_configuration(tmp_path / "model", kind, **{"vocab_size": 300, "pad_token_id": 0, **shape})
    line = said(study(tmp_path, tmp_path / "model"), capsys)
    assert reason in line
    assert kind in line
    assert "xlm-roberta" in line


def test_a_shape_that_its_model_refuses_is_said_before_anything_is_built(tmp_path, capsys):
    save_configuration(tmp_path / "model", "bert", **{**SIZE, "num_attention_heads": 3})
    assert "multiple of the number of attention heads" in said(study(tmp_path, tmp_path / "model"), capsys)
    shape = {"model_type": "bert", **SIZE, "num_attention_heads": 3}
    encoder = {"tiny": {"random_init": shape, "tokenizer": {"text": "world/raw", "vocab_size": 500}}}
    assert "multiple of the number of attention heads" in said(study_file(tmp_path, encoders=encoder), capsys)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path, capsys):
    """Not read with a tokenizer of five special tokens, to which all text would be unknown."""
    save_masked_model(PUBLISHED["xlm-r"], tmp_path / "model")
    assert "no vocabulary but special tokens" in said(study(tmp_path, tmp_path / "model"), capsys)


def changed_tokenizer(folder: Path, name: str = "xlm-r", **settings) -> Path:
    save_published(name, folder / "model", TEXTS)
    tokenizer = published_tokenizer(name, TEXTS)
    if settings:
        PreTrained = type(small_tokenizer("bert", TEXTS))  # noqa: N806  the plain class, which adds no tokens
        tokenizer = PreTrained(tokenizer_object=tokenizer.backend_tokenizer, **settings)
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


def test_a_tokenizer_without_a_pad_token_is_refused(tmp_path, capsys):
    model = changed_tokenizer(tmp_path, mask_token="<mask>")
    assert "no pad token" in said(study(tmp_path, model), capsys)


def test_a_tokenizer_without_a_mask_token_is_refused_where_text_is_mixed_in_and_nowhere_else(tmp_path, capsys):
    model = changed_tokenizer(tmp_path, pad_token="<pad>")
    axes = {"intermediate": [["world/rte", "world/raw"]]}
    assert "no mask token" in said(study(tmp_path, model, axes=axes), capsys)
    assert main(["check", str(study(tmp_path, model, axes={"intermediate": ["world/rte"]}))]) == 0


def test_a_tokenizer_that_begins_no_text_is_refused_for_spans(tmp_path, capsys):
    model = changed_tokenizer(tmp_path)
    backend = published_tokenizer("mmbert", TEXTS)
    backend.backend_tokenizer.post_processor = None
    save_masked_model(PUBLISHED["mmbert"], model, len(backend), backend.pad_token_id)
    backend.save_pretrained(model)
    assert "at the beginning of a text" in said(study(tmp_path, model, axes={"target": ["world/qa_small"]}), capsys)


def test_a_tokenizer_of_another_encoder_is_refused(tmp_path, capsys):
    save_masked_model(PUBLISHED["mbert"], tmp_path / "model", vocabulary=20, pad=0)
    small_tokenizer("bert", TEXTS).save_pretrained(tmp_path / "model")
    assert "for an encoder that has embeddings of 20" in said(study(tmp_path, tmp_path / "model"), capsys)


def test_an_encoder_that_counts_positions_from_another_pad_token_is_refused(tmp_path, capsys):
    save_masked_model(PUBLISHED["xlm-r"], tmp_path / "model", vocabulary=300, pad=1)
    small_tokenizer("bert", TEXTS).save_pretrained(tmp_path / "model")
    assert "counts positions from its pad token 1" in said(study(tmp_path, tmp_path / "model"), capsys)


def test_a_tokenizer_without_a_fast_version_is_refused(tmp_path, capsys):
    """FlauBERT's has none."""
    save_configuration(tmp_path / "model", "flaubert", emb_dim=16, n_layers=1, n_heads=2, n_words=50)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / file).unlink()
    (tmp_path / "model" / "vocab.json").write_text(
        json.dumps({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "a</w>": 4})
    )
    (tmp_path / "model" / "merges.txt").write_text("a b 1\n")
    line = said(study(tmp_path, tmp_path / "model"), capsys)
    assert "tokenizer" in line


def test_weights_that_lack_a_tensor_are_refused(tmp_path):
    """Transformers would go on with random ones and a warning."""
    save_masked_model(PUBLISHED["mbert"], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in tensors if "layer.1" in name)
    save_file({k: v for k, v in tensors.items() if k != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match="no weights for 1 tensors"):
        load_encoder(str(tmp_path))


def test_a_study_says_it_before_it_trains_another_encoder(tmp_path, capsys):
    """`sweep run` refuses the study as `sweep check` does, and keeps no phase."""
    save_configuration(tmp_path / "model", "t5", d_model=16, num_layers=1, vocab_size=300)
    axes = {"encoder": ["tiny", str(tmp_path / "model")]}
    path = study_file(tmp_path, axes, results=str(tmp_path / "results"))
    assert main(["run", str(path)]) == 2
    assert "an encoder-decoder" in capsys.readouterr().err
    assert not (tmp_path / "results" / "store" / "phases").exists()


SENTENCEPIECE = """
import sys
from transformers.utils import sentencepiece_model_pb2_new as protobuf
model = protobuf.ModelProto()
for number, piece in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "▁the", "▁river", "▁", "s"]):
    model.pieces.add(piece=piece, score=-float(number), type=1 if number > 3 else 2 if piece == "[UNK]" else 3)
model.trainer_spec.unk_id = 3
open(sys.argv[1], "wb").write(model.SerializeToString())
"""
READ = "import sys; from sweep.models.tokenizers import load_tokenizer as load; print(load(sys.argv[1])('the rivers'))"


def test_a_sentencepiece_model_alone_is_read_or_its_library_is_asked_for(tmp_path):
    """mDeBERTa-v3 on the hub has no tokenizer.json. Two processes: protobuf takes one description of a file."""
    save_masked_model(PUBLISHED["mdeberta"], tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    subprocess.run([sys.executable, "-c", SENTENCEPIECE, str(tmp_path / "spm.model")], check=True)
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, check=False)
    if find_spec("sentencepiece"):
        assert "'input_ids': [1, 4, 5, 7, 2]" in done.stdout
    else:
        assert "pip install sentencepiece" in done.stderr
