"""Facts about rows in use: embeddings that no text reads may be left out, and nothing but their number changes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from published_encoders import PUBLISHED, save_masked_model, save_published
from safetensors.torch import load_file, save_file
from small_studies import chains_of, finish, stopped_when, study_file, unmeasured, with_data_of
from tiny_models import HEADS, PAD, SHAPES, toy
from torch import nn

from sweep.models.encoders import Weights, cpu_weights, load_encoder, published_rows, random_encoder
from sweep.models.model import MultiTaskModel
from sweep.models.vocabulary import Rows, embedding_name, tokens_in
from sweep.store.artifacts import Store
from sweep.store.paths import ENCODER_WEIGHTS, HEAD_WEIGHTS
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.train.context import model_to_score, set_up
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, evaluated_steps, fit, rate
from sweep.train.score import score_all

SPREAD, VOCABULARY = 7, 500  # every seventh word is read
KINDS = {
    **SHAPES,
    "electra": {**SHAPES["bert"], "model_type": "electra", "embedding_size": 16, "hidden_size": 32},
    "albert": {**SHAPES["bert"], "model_type": "albert", "embedding_size": 16, "hidden_size": 32},
    "mpnet": {**SHAPES["bert"], "model_type": "mpnet"},
}
FAMILIES = [family for family in HEADS if family != "masked"]
SETTINGS = FitSettings(
    learning_rate=3e-3, steps=9, seed=1, warmup=0.2, weight_decay=0.1, clip=0.5, evaluations=4, select="best"
)


def words_of(family, seed=0):
    """Sequences whose words lie apart in a larger vocabulary."""
    encoded = toy(family, seed=seed)
    return replace(encoded, tokens=encoded.tokens * SPREAD)


MIXTURE = Mixture(tuple(Stream(family, words_of(family)) for family in FAMILIES), batch_tokens=160, seed=2)
DEV = words_of("sequence", seed=9)
READ = tokens_in([*(stream.encoded for stream in MIXTURE.streams), DEV, replace(DEV, tokens=DEV.tokens[:1] * 0 + PAD)])


@pytest.fixture(params=KINDS)
def published(request, tmp_path):
    encoder = random_encoder(KINDS[request.param], VOCABULARY, PAD, 0)
    encoder.save_pretrained(tmp_path / "published")
    return str(tmp_path / "published")


def model_of(published, rows=None, weights=None):
    encoder = load_encoder(published, weights=weights, rows=rows)
    return MultiTaskModel(encoder, {family: HEADS[family] for family in FAMILIES}, seed=0, pad_id=PAD)


def dev_score(model):
    """Accuracy with a part that no two sets of weights share."""
    logits = np.stack(score_all(model, {"en": DEV}, "sequence", batch_tokens=999)["en"])
    return float((logits.argmax(axis=1) == DEV.targets).mean() + 1e-6 * logits.std())


def trained(model, settings=SETTINGS, resume=None, stop=None):
    """(losses, dev scores, last state) of a run."""
    run = fit(model, MIXTURE, settings, lambda _: dev_score(model), resume, stop)
    items = [(item.loss_value(), item.dev, item.snapshot()) for item in run]
    return [item[0] for item in items], [item[1] for item in items], items[-1][2]


def stored(model, path):
    """The weights as a phase stores them."""
    save_file(cpu_weights(model.encoder) | (model.rows.tensors if model.rows else {}), path)
    return Weights.read(path)


def same(left, right):
    return all(torch.equal(tensor, cpu_weights(right)[name]) for name, tensor in cpu_weights(left).items())


def test_training_with_the_rows_in_use_is_training_with_all_to_the_last_bit(published, tmp_path):
    """Losses, dev scores, and after the rows that were left out are put back every weight, for every architecture."""
    full, some = model_of(published), model_of(published, READ)
    assert len(some.embeddings) == len(READ) < VOCABULARY / 2
    with_all, with_some = trained(full), trained(some)
    assert with_all[:2] == with_some[:2]
    assert 0 < some.rows.factor < 1
    assert same(full.heads, some.heads)
    assert same(full.encoder, load_encoder(published, weights=stored(some, tmp_path / "w.safetensors")))


def plain_loop(encoder_folder):
    """Weights after a plain torch loop over the whole model: AdamW, norms clipped, the schedule of the settings."""
    model = model_of(encoder_folder).train()
    parameters = list(model.parameters())
    groups = [[p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim == 1]]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": SETTINGS.weight_decay}, {"params": groups[1], "weight_decay": 0.0}],
        fused=True,
    )
    from sweep.models.batches import DeviceData

    seeds = np.random.default_rng(SETTINGS.seed).integers(2**62, size=SETTINGS.steps)
    data = [DeviceData(stream.encoded, "cpu", PAD) for stream in MIXTURE.streams]
    batches = [MIXTURE.batches(index) for index in range(len(data))]
    for step, index in enumerate(MIXTURE.schedule(SETTINGS.steps)):
        batch, task = data[index].batch(next(batches[index])), MIXTURE.streams[index].task
        torch.manual_seed(int(seeds[step]))
        (model.loss(batch, task) / model.count(batch, task)).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate(step + 1, SETTINGS)
        nn.utils.clip_grad_norm_(parameters, SETTINGS.clip)
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("published", ["xlm-roberta", "electra"], indirect=True)
def test_a_plain_loop_over_the_whole_model_ends_with_the_same_weights(published, tmp_path):
    some, last = model_of(published, READ), replace(SETTINGS, select="last")
    trained(some, last)
    plain = plain_loop(published)
    assert same(plain.heads, some.heads)
    assert same(plain.encoder, load_encoder(published, weights=stored(some, tmp_path / "w.safetensors")))


@pytest.mark.parametrize(("before", "after"), [("some", "some"), ("some", "more"), ("some", "all"), ("all", "all")])
@pytest.mark.parametrize("published", ["xlm-roberta"], indirect=True)
def test_a_run_may_go_on_with_other_rows_than_it_began_with(before, after, published, tmp_path):
    """From a checkpoint after its first evaluation, whose weights may be the best: moments and best weights, too."""
    more = np.union1d(READ, np.arange(100, 200, dtype=np.int32))
    whole = model_of(published)
    expected = trained(whole)
    begun = model_of(published, READ if before == "some" else None)
    cut = min(evaluated_steps(SETTINGS)) + 1
    *_, state = trained(begun, stop=cut)
    rows = {"some": READ, "more": more, "all": None}[after] if before == "some" else None
    resumed = model_of(published, rows)
    losses, devs, _ = trained(resumed, resume=state)
    assert (losses, devs) == (expected[0][cut:], expected[1][cut:])
    assert same(whole.heads, resumed.heads)
    assert same(whole.encoder, load_encoder(published, weights=stored(resumed, tmp_path / "w.safetensors")))


# Chains


TARGETS = {
    "mbert": ["world/qa_small", "world/retrieval"], "xlm-r": ["world/ner"], "mdeberta": ["world/copa"],
    "mmbert": ["world/topic"],
}  # fmt: skip
SHORT = {"steps": 6, "evaluations": 3, "dev_examples": 20, "weight_decay": 0.1, "clip": 0.5}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of published encoders whose vocabulary is larger than what any text holds."""
    folder = tmp_path_factory.mktemp("encoders")
    raw = next(task for task in EMBEDDED if task.name == "world/raw")
    texts = [row["text"] for language in raw.trained_in for row in raw.source.rows("train", language)[:200]]
    for name in TARGETS:
        save_published(name, folder / name, texts, vocab_size=600)
    return folder


def study(folder, encoders, name, runtime=MappingProxyType({}), axes=MappingProxyType({}), **changes):
    folder.mkdir(exist_ok=True)
    usual = {"encoder": [str(encoders / name)], "intermediate": [["world/rte", "world/pos"]], "target": TARGETS[name]}
    settings = {"intermediate": SHORT, "target": SHORT, "scoring": {"examples": 6, "layer": [0, -1], "retention": True}}
    runtime = {"keep_target_weights": True, **runtime}
    return study_file(folder, usual | axes, encoders={}, pretrain=None, runtime=runtime, **settings | changes)


def in_both_ways(path_of, tmp_path):
    """Stores of a study, all rows in the first one, the rows in use in the second."""
    full = Store(tmp_path / "full")
    finish(path_of(FULL), full)
    in_use = with_data_of(full, tmp_path / "in_use")
    finish(path_of(IN_USE), in_use)
    return full, in_use


FULL, IN_USE = {"vocabulary": "full"}, {"vocabulary": "in_use"}  # without raw text what `auto` does


def whole(chain, plan, store, phase):
    """All weights of a phase's encoder, whatever it holds."""
    return model_to_score(set_up(chain, plan, store), plan.tasks[chain.cell.target], phase).encoder


def told(record):
    return {name: value for name, value in unmeasured(record).items() if name not in ("rows", "decay", "files")}


def assert_alike(path, one, other):
    """Two stores have the same study: records, scores, statistics, predictions, heads, and weights of all words."""
    for chain, plan in chains_of(path):
        for phase in (phase for phase in chain.phases if not phase.trunk):
            assert told(one.phase(phase.key)) == told(other.phase(phase.key))
            heads = [load_file(store.weights(phase.key) / HEAD_WEIGHTS) for store in (one, other)]
            assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())
            assert same(*(whole(chain, plan, store, phase) for store in (one, other)))
        assert unmeasured(one.score(chain.score)) == unmeasured(other.score(chain.score))


@pytest.mark.parametrize("name", TARGETS)
def test_a_chain_with_the_rows_in_use_is_the_chain_with_all(name, encoders, tmp_path):
    """Several tasks, a target, retention, every layer that retrieval reads: records, files of scores, and weights."""
    stores = in_both_ways(lambda runtime: study(tmp_path / "study", encoders, name, runtime), tmp_path)
    path = study(tmp_path / "study", encoders, name)
    assert_alike(path, *stores)
    full, some = ([store.phase(key) for key in store.keys("phases")] for store in stores)
    assert all(record.rows is None and record.decay == 1.0 for record in full)
    assert all(record.rows < 300 and 0.9 < record.decay < 1.0 for record in some)
    assert all(
        stores[1].bytes_held(one) < 0.8 * stores[0].bytes_held(other) for one, other in zip(some, full, strict=True)
    )


def test_a_target_that_is_added_later_begins_with_words_as_if_they_had_always_been_there(encoders, tmp_path):
    """The store of a first target has the intermediate phase with fewer rows than the second target reads."""
    stores = in_both_ways(lambda runtime: study(tmp_path / "study", encoders, "xlm-r", runtime), tmp_path)
    path = study(tmp_path / "study", encoders, "xlm-r", axes={"target": ["world/qa_small"]})
    for store in stores:
        finish(path, store)  # the full one's later phases hold all that their parent holds
    assert_alike(path, *stores)
    ((chain, _),) = chains_of(path)
    rows = [set(Rows.of(load_file(stores[1].weights(phase.key) / ENCODER_WEIGHTS)).ids) for phase in chain.phases]
    assert rows[0] < rows[1]
    assert all(stores[0].phase(phase.key).rows is None for phase in chain.phases)


def test_volumes_that_share_a_trunk_are_those_with_all_rows(encoders, tmp_path):
    wsd = {**SHORT, "schedule": "wsd", "warmup": {"steps": 2}, "batch_tokens": 128, "steps": None, "epochs": 1}
    axes = {"intermediate": ["world/nli"], "volume": [60, 120]}

    def path_of(runtime):
        return study(tmp_path / "study", encoders, "xlm-r", runtime, axes, intermediate=wsd)

    stores = in_both_ways(path_of, tmp_path)
    assert_alike(path_of({}), *stores)
    records = [stores[1].phase(key) for key in stores[1].keys("phases")]
    assert any(record.resumes for record in records)
    assert len({record.rows for record in records}) > 2


@pytest.mark.parametrize(("first", "then"), [(FULL, IN_USE), (IN_USE, FULL)])
def test_a_chain_that_is_interrupted_may_go_on_with_other_rows(first, then, encoders, tmp_path):
    often = {"checkpoint_seconds": 1e-6}
    undisturbed = Store(tmp_path / "undisturbed")
    finish(study(tmp_path / "study", encoders, "xlm-r"), undisturbed)
    disturbed = with_data_of(undisturbed, tmp_path / "disturbed")
    ((chain, plan),) = chains_of(study(tmp_path / "study", encoders, "xlm-r", runtime={**often, **first}))
    stopped_when(chain, plan, disturbed, lambda event: event.phase == "intermediate" and event.step == 4)
    assert disturbed.keys("scratch") == [chain.phases[0].key]
    path = study(tmp_path / "study", encoders, "xlm-r", runtime=then)
    finish(path, disturbed)
    assert_alike(path, undisturbed, disturbed)


def test_phases_that_guess_words_hold_all_and_so_do_those_after_them(encoders, tmp_path):
    store = Store(tmp_path / "store")
    finish(study(tmp_path / "study", encoders, "xlm-r", axes={"intermediate": [["world/rte", "world/raw"]]}), store)
    assert [store.phase(key).rows for key in store.keys("phases")] == [None, None]


def test_embeddings_that_are_no_whole_vectors_of_a_processor_are_held_whole(tmp_path):
    random_encoder({**SHAPES["bert"], "hidden_size": 24}, VOCABULARY, PAD, 0).save_pretrained(tmp_path)
    assert load_encoder(str(tmp_path), rows=READ).get_input_embeddings().weight.shape == (VOCABULARY, 24)


def half_precision(folder):
    save_masked_model(PUBLISHED["xlm-r"], folder, VOCABULARY).half().save_pretrained(folder)


def pickled(folder):
    model = save_masked_model(PUBLISHED["xlm-r"], folder, VOCABULARY)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def in_shards(folder):
    model = save_masked_model(PUBLISHED["xlm-r"], folder, VOCABULARY)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


@pytest.mark.parametrize("publish", [half_precision, pickled, in_shards])
def test_new_words_are_read_from_published_files_of_every_kind(publish, tmp_path):
    publish(tmp_path)
    whole = load_encoder(str(tmp_path))
    name = embedding_name(whole)
    rows = published_rows(str(tmp_path), None, name, READ)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, whole.get_parameter(name)[torch.from_numpy(READ)])


def test_a_word_that_is_not_held_is_refused(tmp_path):
    random_encoder(SHAPES["bert"], VOCABULARY, PAD, 0).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), rows=READ)
    with pytest.raises(IndexError):
        encoder(input_ids=torch.tensor([[PAD, 1]]))
