"""Facts about the registry of encoders: one entry makes a quirk count everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_studies import TINY, plan_of, reported, study_file
from small_tokenizers import small_tokenizer
from tiny_models import PAD, tiny_model, toy

from sweep.config.load import parse
from sweep.errors import StudyError
from sweep.models.batches import DeviceData
from sweep.models.registry import CHECKPOINTS, MODEL_TYPES, Checkpoint, ModelType, Shape, hub_ids, shape_of
from sweep.models.tokenizers import check_tokenizer
from sweep.plan.cost import Costs
from sweep.plan.languages import CLASSES, groups_of
from sweep.plan.recipe import default_layer, scoring_settings
from sweep.plan.resolve import resolve
from sweep.report.page import save

CONFIG = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 60, "pad_token_id": 3}
MADE_UP = Checkpoint(
    Shape(6, 64, 256, 900, 77),
    licence="CC BY-NC 4.0",
    text="a shelf of cookbooks",
    languages=frozenset(CLASSES) - {"eu", "ka"},
    layer=5,
    pooling="cls",
)
STUDY = """
study: sample
axes: {encoder: [lab/cook], intermediate: [none], target: [tatoeba, xnli], seed: [1]}
encoders: {lab/cook: {path: lab/cook%s}}
target: {learning_rate: 1e-5, batch_tokens: 4096, epochs: 1}
report: {groups: [unseen]}
"""


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """The plan of a study with an encoder that has an entry of its own; its options are YAML."""

    def plan(options="", **changes):
        monkeypatch.setitem(CHECKPOINTS, "lab/cook", replace(MADE_UP, **changes))
        return resolve(parse(STUDY % options, "study.yaml"), tmp_path / "study.yaml")

    return plan


# ---- checkpoints


def test_an_entry_gives_a_plan_shape_and_longest_sequence_and_nothing_is_guessed(made_up):
    source = made_up().encoders["lab/cook"]
    assert source.shape == MADE_UP.shape
    assert not source.guessed
    assert "lab/cook" in hub_ids()
    cheap, dear = (Costs(plan) for plan in (made_up(), made_up(shape=replace(MADE_UP.shape, layers=12))))
    chains = [next(iter(costs.plan.planned_chains())) for costs in (cheap, dear)]
    assert sum(cheap.parts(chains[0]).values()) < sum(dear.parts(chains[1]).values())


def test_an_entrys_layer_and_pooling_are_those_that_retrieval_reads(made_up):
    for changes, expected in (({}, ([5], "cls")), ({"layer": None, "pooling": "mean"}, ([default_layer(6)], "mean"))):
        plan = made_up(**changes)
        settings = scoring_settings(plan.study, plan.tasks["tatoeba"], plan.encoders["lab/cook"])
        assert (settings["layers"], settings["pooling"]) == expected


def test_a_study_has_the_last_word_on_pooling(made_up):
    assert made_up().encoders["lab/cook"].pooling == "cls"
    assert made_up(", pooling: mean").encoders["lab/cook"].pooling == "mean"


def test_an_entrys_languages_decide_which_are_unseen(made_up):
    assert groups_of(made_up().study)["lab/cook"]["unseen"] == ("eu", "ka")
    assert "unseen" not in groups_of(made_up(languages=None).study)["lab/cook"]


def test_licence_and_text_of_an_entry_are_in_the_plans_listing_and_in_the_report(monkeypatch, tmp_path):
    monkeypatch.setitem(CHECKPOINTS, "world/tiny", replace(CHECKPOINTS["world/tiny"], licence="GPL", text="old maps"))
    path = study_file(tmp_path, {"encoder": ["world/tiny"], "seed": [0]})
    results, _ = reported(path, tmp_path)
    assert results.plan["encoders"] == {"world/tiny": {"licence": "GPL", "text": "old maps"}}
    assert "Encoder world/tiny: licence GPL, pretrained on old maps." in save(results, tmp_path).read_text()


def test_an_encoder_without_an_entry_has_its_configuration_and_nothing_else(tmp_path):
    plan = plan_of(study_file(tmp_path))
    assert plan.encoders["tiny"].entry == Checkpoint()
    assert plan.encoders["tiny"].shape.layers == TINY["random_init"]["num_hidden_layers"]


def test_the_published_layers_are_those_of_the_rule():
    """So an encoder that is read at the rule's depth is read as the published ones are."""
    stated = {entry.layer: entry.shape.layers for entry in CHECKPOINTS.values() if entry.layer is not None}
    assert stated == {14: 24, 8: 12}
    assert all(default_layer(layers) == layer for layer, layers in stated.items())


def test_every_entry_says_its_licence_and_text():
    assert all(entry.licence and entry.text for entry in CHECKPOINTS.values())


def test_languages_that_the_published_encoders_have_not_seen():
    missing = {name: set(CLASSES) - entry.languages for name, entry in CHECKPOINTS.items() if entry.languages}
    assert missing == {
        "FacebookAI/xlm-roberta-base": {"ht", "qu", "wo", "yo"},
        "FacebookAI/xlm-roberta-large": {"ht", "qu", "wo", "yo"},
        "facebook/xlm-roberta-xl": {"ht", "qu", "wo", "yo"},
        "google-bert/bert-base-multilingual-cased": {"qu", "wo"},
    }


# ---- model types


def test_an_entry_of_a_model_type_changes_the_shape_that_its_configuration_has(monkeypatch):
    config = {**CONFIG, "model_type": "lab", "max_position_embeddings": 100, "relative_attention": True}
    config["pos_att_type"] = ["c2p"]
    plain = shape_of(config, "here")
    assert (plain.max_length, plain.gated, plain.relative) == (100, False, 0)
    quirks = ModelType(offset_positions=True, gated=True, relative_positions=True)
    monkeypatch.setitem(MODEL_TYPES, "lab", quirks)
    shape = shape_of(config, "here")
    assert (shape.max_length, shape.gated, shape.relative) == (96, True, 200)


def test_a_tokenizer_must_have_the_pad_token_from_which_its_encoder_counts_positions(monkeypatch):
    tokenizer, shape = small_tokenizer("bert", ["a river"]), Shape(2, 16, 32, 10**6, 100)
    other = tokenizer.pad_token_id + 1
    check_tokenizer(tokenizer, "lab", other, shape, [])
    monkeypatch.setitem(MODEL_TYPES, "lab", ModelType(offset_positions=True))
    with pytest.raises(StudyError, match="counts positions from its pad token"):
        check_tokenizer(tokenizer, "lab", other, shape, [])


@pytest.mark.parametrize(("mask", "dimensions"), [("padding", 2), ("ready", 4)])
def test_an_encoder_gets_the_mask_that_its_model_type_takes(mask, dimensions, monkeypatch):
    monkeypatch.setitem(MODEL_TYPES, "bert", ModelType(mask=mask))
    model, fed = tiny_model("bert").eval(), []
    model.encoder.register_forward_pre_hook(lambda _, __, given: fed.append(given["attention_mask"]), with_kwargs=True)
    batch = DeviceData(toy("sequence"), "cpu", PAD).batch(np.arange(24))
    with torch.inference_mode():
        model.hidden(batch)
    assert [given.dim() for given in fed] == [dimensions]
