"""Facts about encoders of every kind and heads of every shape: padding, seeds, storage, masking, tokenizers."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import CLASSES, HEADS, MASK, PAD, SHAPES, VOCABULARY, tiny_model, toy

from sweep.data import IGNORED
from sweep.data.encoded import concatenate
from sweep.errors import StoreError, StudyError
from sweep.models.batches import DeviceData
from sweep.models.encoders import Weights, cpu_weights, load_encoder, load_weights, random_encoder
from sweep.models.heads import mask_tokens
from sweep.models.model import MultiTaskModel
from sweep.models.tokenizers import load_tokenizer, train_tokenizer
from sweep.tasks.task import HeadSpec
from sweep.train.score import DeviceVectors, score, score_all

READ_AT_THE_END = [family for family in HEADS if family != "embedding"]
ALONE = [family for family in HEADS if family not in ("masked", "embedding")]  # losses that know only their example
TEXTS = [f"the river runs to town number {number} and back to the {number % 7} hills" for number in range(200)]


def arrays(outputs):
    """One array per sequence."""
    return list(outputs.array) if isinstance(outputs, DeviceVectors) else outputs


def layers_of(model, encoded, family, layers, pooling=None):
    """What `score` puts out per layer for one language."""
    *_, last = score(model, {"en": encoded}, family, batch_tokens=99, layers=layers, pooling=pooling)
    return [outputs["en"] for outputs in last.outputs]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("family", HEADS)
def test_padding_does_not_change_an_output(kind, family):
    """Scored with long neighbours or alone: the same numbers for every encoder and head."""
    model, encoded = tiny_model(kind), toy(family, 6)
    together = score_all(
        model, {"en": encoded, "de": toy(family, 6, seed=1, lengths=(40, 60))}, family, batch_tokens=9999
    )
    alone = score_all(model, {"en": encoded}, family, batch_tokens=1)["en"]
    for a, b in zip(arrays(together["en"]), arrays(alone), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


ELSEWHERE = ("roberta", "electra", "camembert", "xlm-roberta-xl", "deberta", "mpnet", "ernie")  # shaped as BERT


def shares_dropped(module: torch.nn.Module) -> dict[str, float]:
    """Share that every layer drops in training, whether a layer of dropout does it or the attention itself."""
    shares = {}
    for name, inner in module.named_modules():
        drops = {"": inner.p} if isinstance(inner, torch.nn.Dropout) else vars(inner)
        shares |= {
            f"{name}.{key}": p for key, p in drops.items() if isinstance(p, float) and (not key or "drop" in key)
        }
    return shares


@pytest.mark.parametrize("kind", [*SHAPES, *ELSEWHERE])
def test_dropout_is_that_of_all_layers_of_the_encoder_and_of_its_heads_or_the_encoders_own(kind):
    shape = SHAPES.get(kind) or {**SHAPES["bert"], "model_type": kind}
    own, dropped, still = (random_encoder(shape, VOCABULARY, PAD, 0, dropout) for dropout in (None, 0.25, 0.0))
    assert set(shares_dropped(dropped).values()) == {0.25}
    assert set(shares_dropped(still).values()) == {0.0}
    assert set(shares_dropped(own)) <= set(shares_dropped(dropped))
    assert len(shares_dropped(own)) > 2
    stated = {value for name, value in own.config.to_dict().items() if "dropout" in name and isinstance(value, float)}
    assert set(shares_dropped(own).values()) <= stated
    for asked, share in ((0.25, 0.25), (None, 0.0 if kind == "modernbert" else 0.1)):
        model = MultiTaskModel(own, {"sequence": HEADS["sequence"]}, seed=0, pad_id=PAD, dropout=asked)
        assert set(shares_dropped(model.heads).values()) == {share}


def test_dropout_of_a_published_encoder_is_replaced_too(tmp_path):
    random_encoder(SHAPES["bert"], VOCABULARY, PAD, 0).save_pretrained(tmp_path)
    assert set(shares_dropped(load_encoder(str(tmp_path), dropout=0.25)).values()) == {0.25}
    weights = Weights.read(tmp_path / "model.safetensors")
    assert set(shares_dropped(load_encoder(str(tmp_path), weights=weights, dropout=0.25)).values()) == {0.25}
    assert set(shares_dropped(load_encoder(str(tmp_path))).values()) == {0.1}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("family", HEADS)
def test_the_gradient_of_a_loss_reaches_the_encoder(kind, family):
    model = tiny_model(kind, families=(family,))
    batch = model.prepare(DeviceData(toy(family), "cpu", PAD).batch(np.arange(24)), family, seed=0)
    loss = model.loss(batch, family) / model.count(batch, family)
    loss.backward()
    assert torch.isfinite(loss)
    assert model.embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize("lengths", [(4, 24), (9, 10), (3, 5)], ids=["padded", "all alike", "within a window"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_ready_made_mask_is_the_one_that_the_encoder_would_make(kind, lengths):
    model = tiny_model(kind).eval()
    batch = DeviceData(toy("token", lengths=lengths), "cpu", PAD).batch(np.arange(12))
    given = torch.ones_like(batch.input_ids).bool() if batch.attention_mask is None else batch.attention_mask
    with torch.no_grad():
        expected = model.encoder(input_ids=batch.input_ids, attention_mask=given).last_hidden_state
        assert torch.equal(model.hidden(replace(batch, segments=None))[given], expected[given])


@pytest.mark.parametrize("family", ALONE)
def test_the_loss_of_parts_sums_to_the_loss_of_the_batch(family):
    model = tiny_model().eval()
    data = DeviceData(toy(family), "cpu", PAD)
    ids = np.arange(24)
    whole = model.loss(data.batch(ids), family)
    parts = sum(model.loss(data.batch(part), family) for part in np.split(ids, [5, 6, 20]))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-5)


def test_an_untrained_head_is_at_the_loss_of_chance():
    """Mean losses are in nats: log of the number of classes, options, positions, or words."""
    model = tiny_model().eval()
    for family, chance in {"sequence": np.log(CLASSES), "token": np.log(CLASSES), "masked": np.log(VOCABULARY)}.items():
        batch = model.prepare(DeviceData(toy(family), "cpu", PAD).batch(np.arange(24)), family, 0)
        mean = model.loss(batch, family).item() / int(model.count(batch, family))
        assert mean == pytest.approx(chance, abs=0.2)


def test_outputs_have_the_shapes_that_families_read():
    model = tiny_model()
    shapes = {
        "sequence": lambda length: (CLASSES,),
        "choice": lambda length: (1,),
        "token": lambda length: (length,),
        "span": lambda length: (length, 2),
        "embedding": lambda length: (16,),
        "masked": lambda length: (2,),
    }
    for family, shape in shapes.items():
        encoded = toy(family)
        outputs = score_all(model, {"en": encoded}, family, batch_tokens=64)["en"]
        assert [output.shape for output in arrays(outputs)] == [shape(length) for length in encoded.lengths()]


def test_options_compete_within_their_example_only():
    """Examples have 2 to 5 options, yet each one's loss is what it is alone."""
    model, data = tiny_model().eval(), DeviceData(toy("choice"), "cpu", PAD)
    alone = sum(model.loss(data.batch(np.array([n])), "choice") for n in range(24))
    assert model.loss(data.batch(np.arange(24)), "choice").item() == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_segments_go_only_to_encoders_that_know_them(kind):
    """Token types change a BERT's output, and nothing else's; nobody fails on them."""
    model, encoded = tiny_model(kind), toy("sequence")
    without = type(encoded)(**{**vars(encoded), "segments": None})
    with_, none = (score_all(model, {"en": data}, "sequence", batch_tokens=99)["en"] for data in (encoded, without))
    assert np.allclose(np.stack(with_), np.stack(none), atol=1e-6) == (kind != "bert")


@pytest.mark.parametrize("family", READ_AT_THE_END)
def test_a_trained_head_reads_the_last_layer_whatever_is_asked_for_retrieval(family):
    model, data = tiny_model(), {"en": toy(family)}
    asked = layers_of(model, data["en"], family, (1,), "cls")[0]
    for a, b in zip(asked, score_all(model, data, family, batch_tokens=99)["en"], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", SHAPES)
def test_layers_count_from_the_embedding_layer(kind):
    model = tiny_model(kind)
    data = toy("embedding")
    layers = [vectors.array for vectors in layers_of(model, data, "embedding", (0, 1, 2, -1))]
    assert np.allclose(layers[2], layers[3], atol=1e-6)
    assert not np.allclose(layers[0], layers[1], atol=1e-3)
    with pytest.raises(ValueError, match="layer 3 of an encoder with 2 layers"):
        layers_of(model, data, "embedding", (3,))


def test_one_forward_pass_gives_every_layer():
    model, data = tiny_model(), toy("embedding")
    together = layers_of(model, data, "embedding", (0, 1, 2))
    for layer, vectors in enumerate(together):
        np.testing.assert_array_equal(vectors.array, layers_of(model, data, "embedding", (layer,))[0].array)


def test_mean_pooling_includes_special_tokens_and_no_padding():
    model, encoded = tiny_model(), toy("embedding")
    states = [
        model.eval().hidden(DeviceData(encoded, "cpu", PAD).batch(np.array([n])), layer=0).detach() for n in range(24)
    ]
    lengths = encoded.lengths()
    pooled = layers_of(model, encoded, "embedding", (0,))[0].array
    first = layers_of(model, encoded, "embedding", (0,), "cls")[0].array
    for row, length in enumerate(lengths):
        tokens = states[row // 2][row % 2, :length].numpy()
        np.testing.assert_allclose(pooled[row], tokens.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(first[row], tokens[0], atol=1e-5)


def test_languages_are_scored_in_one_stream_and_come_back_apart():
    model = tiny_model()
    data = {name: toy("span", count, seed=count) for name, count in {"en": 9, "de": 3, "sw": 14}.items()}
    items = list(score(model, data, "span", batch_tokens=100))
    assert [item.outputs is None for item in items] == [True] * (len(items) - 1) + [False]
    assert items[-1].tokens == items[-1].total_tokens == sum(len(encoded.tokens) for encoded in data.values())
    (outputs,) = items[-1].outputs
    for name, encoded in data.items():
        assert [len(array) for array in outputs[name]] == encoded.lengths().tolist()
    joined = score_all(model, {"all": concatenate(list(data.values()))}, "span", batch_tokens=100)["all"]
    for a, b in zip([array for name in data for array in outputs[name]], joined, strict=True):
        np.testing.assert_array_equal(a, b)


def test_scoring_leaves_the_model_in_its_mode_and_draws_nothing():
    model = tiny_model().train()
    torch.manual_seed(1)
    score_all(model, {"en": toy("masked")}, "masked", batch_tokens=99)
    assert model.training
    assert model.encoder.training
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_masks_of_an_evaluation_are_the_same_for_every_model():
    data = {"en": toy("masked", 200)}
    counts = [
        np.stack(score_all(tiny_model(seed=seed), data, "masked", batch_tokens=tokens)["en"])[:, 1]
        for seed, tokens in ((0, 100), (1, 3000))
    ]
    assert counts[0].tolist() == counts[1].tolist()
    assert counts[0].sum() / len(data["en"].tokens) == pytest.approx(0.15 * 13 / 14, rel=0.1)


def test_masks_follow_bert():
    """Of maskable tokens 15% are chosen; 80% of those become the mask, 10% a random token, 10% stay."""
    tokens, maskable = torch.full((100_000,), 30), torch.arange(100_000) % 2 == 0
    inputs, targets = mask_tokens(tokens, maskable, HEADS["masked"], vocabulary=1000, seed=1)
    chosen = targets != IGNORED
    assert not chosen[~maskable].any()
    assert torch.equal(inputs[~chosen], tokens[~chosen])
    assert torch.equal(targets[chosen], tokens[chosen])
    assert float(chosen.sum() / maskable.sum()) == pytest.approx(0.15, rel=0.05)
    assert float((inputs[chosen] == MASK).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((inputs[chosen] == 30).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_a_masked_task_without_a_mask_token_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="mask_id"):
        mask_tokens(torch.ones(3), torch.ones(3).bool(), HeadSpec("masked"), 10, 0)


def test_the_masked_head_is_tied_and_stores_no_embedding():
    model = tiny_model(families=("masked",))
    assert not any(tensor.shape == model.embeddings.shape for tensor in cpu_weights(model.heads).values())
    clone = copy.deepcopy(model)
    with torch.no_grad():
        clone.embeddings.zero_()
    batch = model.prepare(DeviceData(toy("masked"), "cpu", PAD).batch(np.arange(24)), "masked", 0)
    mean = [m.eval().loss(batch, "masked").item() / int(m.count(batch, "masked")) for m in (model, clone)]
    assert mean[1] == pytest.approx(np.log(VOCABULARY), abs=1e-5)
    assert mean[0] != mean[1]


def test_a_head_starts_from_seed_and_place_whatever_its_task_is_called():
    encoder = random_encoder(SHAPES["bert"], VOCABULARY, PAD, 0)
    alone = MultiTaskModel(encoder, {"b.en": HEADS["sequence"]}, seed=3, pad_id=PAD)
    among = MultiTaskModel(
        encoder, {"c": HEADS["sequence"], "b.en": HEADS["span"], "a": HEADS["token"]}, seed=3, pad_id=PAD
    )
    other = MultiTaskModel(encoder, {"b.en": HEADS["sequence"]}, seed=4, pad_id=PAD)
    weights = [cpu_weights(model.heads) for model in (alone, among, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert any(not torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())


def test_task_names_may_be_anything():
    names = ("keys", "a.b", "world/nli", "train")
    model = MultiTaskModel(tiny_model().encoder, dict.fromkeys(names, HEADS["sequence"]), seed=0, pad_id=PAD)
    for name in names:
        assert len(score_all(model, {"en": toy("sequence")}, name, batch_tokens=999)["en"]) == 24


@pytest.mark.parametrize("kind", SHAPES)
def test_random_weights_depend_on_the_seed_alone(kind):
    torch.manual_seed(9)
    before = torch.get_rng_state()
    weights = [cpu_weights(random_encoder(SHAPES[kind], VOCABULARY, PAD, seed)) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert any(not torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("kind", SHAPES)
def test_weights_travel_in_safetensors(kind, tmp_path):
    """A phase's encoder goes into a fresh one, and into one built from the configuration of a folder."""
    source, fresh = tiny_model(kind, seed=1), tiny_model(kind, seed=2)
    fresh.encoder.save_pretrained(tmp_path / "base")
    save_file(cpu_weights(source.encoder), tmp_path / "encoder.safetensors")
    weights = Weights.read(tmp_path / "encoder.safetensors")
    load_weights(fresh.encoder, weights)
    loaded = load_encoder(str(tmp_path / "base"), weights=weights)
    drawn = random_encoder(SHAPES[kind], VOCABULARY, PAD, 3, weights=weights)
    whole = {**dict(source.encoder.named_parameters()), **dict(source.encoder.named_buffers())}
    for encoder in (fresh.encoder, loaded, drawn):
        own = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
        assert own.keys() == whole.keys()
        assert all(torch.equal(tensor, own[name]) for name, tensor in whole.items())
        assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", SHAPES)
def test_a_local_folder_is_an_encoder(kind, tmp_path):
    encoder = tiny_model(kind).encoder
    encoder.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path))
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in encoder.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())


def test_weights_of_another_shape_are_a_damaged_store(tmp_path):
    save_file(cpu_weights(tiny_model(hidden_size=32).encoder), tmp_path / "encoder.safetensors")
    with pytest.raises(StoreError, match=r"encoder\.safetensors.*run again"):
        load_weights(tiny_model().encoder, Weights.read(tmp_path / "encoder.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "encoder.safetensors").read_bytes()[:100])
    with pytest.raises(StoreError, match=r"cut\.safetensors"):
        Weights.read(tmp_path / "cut.safetensors")


def test_an_unknown_encoder_is_the_users_mistake(tmp_path):
    with pytest.raises(StudyError, match=r"no/such-model"):
        load_encoder("no/such-model")
    with pytest.raises(StudyError, match=r"did you mean 'bert'"):
        random_encoder({"model_type": "berd"}, 10, 0, 0)
    with pytest.raises(StudyError, match="of type 'bert'"):
        random_encoder({"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}, 10, 0, 0)
    with pytest.raises(StudyError, match="encoder-decoder"):
        random_encoder(
            {"model_type": "t5", "d_model": 16, "num_layers": 1, "d_ff": 16, "num_heads": 2, "d_kv": 8}, 10, 0, 0
        )
    with pytest.raises(StudyError, match="tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "wordlevel"])
def test_a_trained_tokenizer_is_a_standard_folder(algorithm, tmp_path):
    trained = train_tokenizer(TEXTS, 80, algorithm)
    trained.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert len(loaded) <= 80
    assert (loaded.pad_token_id, loaded.mask_token_id) == (trained.pad_token_id, trained.mask_token_id) == (PAD, MASK)
    pair = loaded("the river runs", "to town")
    assert pair == trained("the river runs", "to town")
    assert sum(token == loaded.sep_token_id for token in pair["input_ids"]) == 2
    assert pair["input_ids"][0] == loaded.cls_token_id
    assert loaded.unk_token_id not in pair["input_ids"]
    assert "river" in loaded.decode(pair["input_ids"], skip_special_tokens=True)


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe", "wordlevel"])
def test_training_a_tokenizer_twice_gives_the_same_one(algorithm):
    vocabularies = [train_tokenizer(iter(TEXTS), 70, algorithm).get_vocab() for _ in range(4)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
