"""Facts about one chain, without Ray: every family, shared prefixes, resuming bit for bit, damage, real text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from safetensors.torch import load_file
from small_studies import (
    TINY,
    chains_of,
    events_of,
    finish,
    finish_in_pieces,
    plan_of,
    stopped_when,
    study_file,
    unmeasured,
    with_data_of,
    with_encoder_of,
)
from small_tokenizers import small_tokenizer
from tiny_models import SHAPES

from sweep.errors import StoreError
from sweep.models.encoders import random_encoder
from sweep.models.vocabulary import without_rows
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.paths import CHECKPOINT, ENCODER_WEIGHTS
from sweep.train.context import set_up
from sweep.train.data import training_data

TARGETS = ("world/rte", "world/paraphrase", "world/copa", "world/ner", "world/qa_small", "world/retrieval")
INTERMEDIATE = (
    *("none", "world/rte", "world/copa", "world/pos", "world/qa_small", "world/raw"),
    *(["world/rte", "world/pos"], ["world/copa", "world/qa_small"], ["world/rte", "world/raw"]),
)


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory):
    """One store for tests that do not mind what else is in it: they share tokenizer, encoded text and pretraining."""
    return with_encoder_of(small_store, tmp_path_factory.mktemp("shared") / "store")


@pytest.fixture
def fresh(store, tmp_path):
    """A store without phases and scores."""
    return with_data_of(store, tmp_path / "store")


def phases(chain, store):
    return [store.phase(phase.key) for phase in chain.phases]


# Every family


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_any_family_is_scored_in_all_its_languages(target, store, tmp_path):
    path = study_file(tmp_path, {"target": [target]})
    (chain,) = finish(path, store)
    task, score = plan_of(path).tasks[target], store.score(chain.score)
    statistics = store.statistics(chain.score)
    assert set(score.languages) == set(statistics) == set(task.languages)
    for language, entry in score.languages.items():
        assert len(statistics[language]) == entry["examples"] == 50
        assert entry["value"] == task.family.value(statistics[language].sum(axis=0))
        assert 0 <= entry["value"] <= 1
        assert 0 <= entry["majority"] <= 1
    trained = ["pretrain"] if target == "world/retrieval" else ["pretrain", "target"]
    assert [record.kind for record in phases(chain, store)] == trained


@pytest.mark.parametrize("intermediate", INTERMEDIATE, ids=str)
def test_an_intermediate_phase_on_any_family_pairs_and_mixed_in_text_reaches_the_scores(intermediate, store, tmp_path):
    path = study_file(tmp_path, {"intermediate": [intermediate], "target": ["world/topic"]})
    (chain,) = finish(path, store)
    records = phases(chain, store)
    names = [] if intermediate == "none" else [intermediate] if isinstance(intermediate, str) else intermediate
    middle = [record for record in records if record.kind == "intermediate"]
    assert [list(record.recipe["tasks"]) for record in middle] == ([names] if names else [])
    assert [record.parent for record in records] == [None, *(record.key for record in records[:-1])]
    assert all(record.flops > 0 and record.tokens > 0 and np.isfinite(record.curve[-1]["loss"]) for record in records)
    assert store.score(chain.score).phase == records[-1].key


def test_mixed_in_text_does_not_select_where_a_task_with_labels_is_trained(store, tmp_path):
    """The dev score of a phase on a task and raw text is the task's."""
    path = study_file(tmp_path, {"intermediate": [["world/rte", "world/raw"]]})
    (chain,) = finish(path, store)
    _, middle, _ = phases(chain, store)
    labels = [row["label"] for row in plan_of(path).tasks["world/rte"].source.rows("dev", "pivot")]
    assert middle.majority == max(map(labels.count, labels)) / len(labels)


# What is shared


def test_chains_with_the_same_prefix_train_it_once(fresh, tmp_path):
    """Counted in the store: one pretrain, one intermediate phase, one target phase; retrieval adds no phase."""
    axes = {"intermediate": ["world/rte"], "target": ["world/topic", "world/retrieval"]}
    one, other = chains_of(study_file(tmp_path, axes))
    run(*one, fresh)
    before = {key: fresh.phase(key).ended for key in fresh.keys("phases")}
    run(*other, fresh)
    kinds = [fresh.phase(key).kind for key in fresh.keys("phases")]
    assert sorted(kinds) == ["intermediate", "pretrain", "target"]
    assert {key: fresh.phase(key).ended for key in fresh.keys("phases")} == before
    assert len(fresh.keys("scores")) == 2


def test_a_finished_chain_reports_nothing(fresh, tmp_path):
    path = study_file(tmp_path)
    finish(path, fresh)
    ((chain, plan),) = chains_of(path)
    assert events_of(chain, plan, fresh) == []


def test_the_weights_of_a_scored_target_phase_are_released_and_their_record_stays(fresh, tmp_path):
    (chain,) = finish(study_file(tmp_path), fresh)
    pretrain, target = phases(chain, fresh)
    assert [path.name for path in (fresh.root / "phases" / target.key).iterdir()] == ["record.json"]
    assert (pretrain.released, target.released) == (False, True)
    with pytest.raises(StoreError, match="no weights"):
        fresh.weights(target.key)


def test_a_chain_that_is_stopped_at_its_last_report_has_released_its_weights(fresh, tmp_path):
    ((chain, plan),) = chains_of(study_file(tmp_path))
    *_, last = stopped_when(chain, plan, fresh, lambda event: event.committed and event.phase == "score")
    assert last.phase == "score"
    assert not fresh.has_weights(chain.phases[-1].key)


def test_weights_are_kept_where_the_study_says_so(fresh, tmp_path):
    (chain,) = finish(study_file(tmp_path, runtime={"keep_target_weights": True}), fresh)
    assert (fresh.weights(chain.phases[-1].key) / ENCODER_WEIGHTS).is_file()


def test_lost_scores_of_released_weights_are_made_again_and_equal_the_first_ones(fresh, tmp_path):
    path = study_file(tmp_path)
    (chain,) = finish(path, fresh)
    first, statistics = unmeasured(fresh.score(chain.score)), fresh.statistics(chain.score)
    shutil.rmtree(fresh.root / "scores" / chain.score)
    finish(path, fresh)
    assert unmeasured(fresh.score(chain.score)) == first
    again = fresh.statistics(chain.score)
    assert all(np.array_equal(again[language], statistics[language]) for language in statistics)


def test_how_retrieval_is_read_changes_scores_but_no_phase(store, tmp_path):
    axes = {"intermediate": ["world/rte"], "target": ["world/retrieval"]}
    readings = [{"layer": -1}, {"layer": 0}, {"layer": -1, "pooling": "cls"}]
    chains, counts = [], []
    for reading in readings:
        chains += finish(study_file(tmp_path, axes, scoring=reading), store)
        counts.append(len(store.keys("phases")))
    assert len({chain.score for chain in chains}) == len(readings)
    assert len({chain.phases[-1].key for chain in chains}) == len(set(counts)) == 1
    assert [store.score(chain.score).settings["layers"] for chain in chains] == [[2], [0], [2]]
    values = [store.score(chain.score).languages for chain in chains]
    assert values[0] != values[1] != values[2]


def test_volumes_of_one_seed_are_nested(store, tmp_path):
    """Twenty examples are among fifty; another seed draws others."""
    ((chain, plan),) = chains_of(study_file(tmp_path))
    task = plan.tasks["world/topic"]
    reader = set_up(chain, plan, store).reader
    encoded = {"pivot": reader.encoded(task, "train", "pivot")}

    def examples(volume, seed):
        cut = training_data(encoded, volume, seed)
        assert cut.examples == volume
        return {tuple(cut.tokens[begin:end]) for begin, end in zip(cut.bounds[:-1], cut.bounds[1:], strict=True)}

    assert examples(20, seed=1) < examples(50, seed=1)
    assert examples(20, seed=1) != examples(20, seed=2)


def test_a_volume_is_what_the_intermediate_phase_trains_on(store, tmp_path):
    settings = {"steps": None, "epochs": 2}
    path = study_file(tmp_path, {"intermediate": ["world/rte"], "volume": [10, 30]}, intermediate=settings)
    chains = finish(path, store)
    found = {record.recipe["examples"]: record.examples for chain in chains for record in phases(chain, store)}
    assert (found[10], found[30]) == (20, 60)


# Interruption


@pytest.mark.parametrize("checkpoint_seconds", [1e-6, 0.05], ids=["every step", "now and then"])
def test_an_interrupted_chain_equals_an_undisturbed_one_bit_for_bit(checkpoint_seconds, store, fresh, tmp_path):
    """Weights, dev curve, tokens, FLOPs and scores; stopped wherever it happens to be."""
    runtime = {"checkpoint_seconds": checkpoint_seconds, "keep_target_weights": True}
    axes = {"intermediate": [["world/rte", "world/raw"]], "target": ["world/ner"], "seed": [2]}
    path = study_file(tmp_path, axes, runtime=runtime)
    undisturbed, disturbed = store, fresh
    (chain,) = finish(path, undisturbed)
    stopped = finish_in_pieces(chain, plan_of(path), disturbed)
    assert len(stopped) > 2
    for phase in chain.phases:
        assert unmeasured(disturbed.phase(phase.key)) == unmeasured(undisturbed.phase(phase.key))
        one, other = (load_file(kept.weights(phase.key) / ENCODER_WEIGHTS) for kept in (undisturbed, disturbed))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert unmeasured(disturbed.score(chain.score)) == unmeasured(undisturbed.score(chain.score))
    first, second = (kept.statistics(chain.score) for kept in (undisturbed, disturbed))
    assert all(np.array_equal(first[language], second[language]) for language in first)


def test_dev_evaluations_and_scoring_say_batch_by_batch_what_they_have_cost(fresh, tmp_path):
    """No report is dearer than the dearest step: a chain can be stopped before it spends what is not there."""
    ((chain, plan),) = chains_of(study_file(tmp_path, runtime={"score_batch_tokens": 256}))
    events = events_of(chain, plan, fresh)
    spent = [after.flops - before.flops for before, after in pairwise(events)]
    assert min(spent) >= 0
    step = next(event.flops for event in events if event.flops)
    assert max(spent) <= 1.5 * step
    scored = fresh.score(chain.score).flops
    assert scored > 3 * step
    assert events[-1].flops == sum(fresh.phase(phase.key).flops for phase in chain.phases) + scored


def test_a_chain_speaks_between_its_start_and_every_first_step(fresh, tmp_path):
    """Tokenizer; then lock, data, dev data and model of a phase; model and test data of the scores."""
    shutil.rmtree(fresh.root / "data")
    ((chain, plan),) = chains_of(study_file(tmp_path, {"target": ["world/rte"]}))
    first, spoken = {}, Counter[str]()
    for event in events_of(chain, plan, fresh):
        spoken[event.phase] += event.preparing
        if not event.preparing:
            first.setdefault(event.phase, (event.step, spoken[event.phase]))
    assert spoken[""] == 1
    assert first["pretrain"][0] == first["target"][0] == 1
    assert min(before for _, before in first.values()) >= 4


def test_a_half_done_phase_goes_on_after_its_last_checkpoint(fresh, tmp_path):
    path = study_file(tmp_path, runtime={"checkpoint_seconds": 1e-6})
    ((chain, plan),) = chains_of(path)
    last = stopped_when(chain, plan, fresh, lambda event: event.step == 4)[-1].step
    # A stop comes while the last event is reported, after its checkpoint was written.
    again = [event.step for event in events_of(chain, plan, fresh) if not event.preparing]
    assert again[:2] == [last + 1, last + 2]


def test_an_interruption_between_training_and_scoring_trains_nothing_again(fresh, tmp_path):
    path = study_file(tmp_path)
    ((chain, plan),) = chains_of(path)
    stopped_when(chain, plan, fresh, lambda event: event.committed and event.phase == "target")
    ended = [record.ended for record in phases(chain, fresh)]
    assert events_of(chain, plan, fresh)[-1].phase == "score"
    assert [record.ended for record in phases(chain, fresh)] == ended


def test_what_an_attempt_spends_is_what_it_does_itself(fresh, tmp_path):
    """FLOPs of the reports: a chain that finds its prefix in the store is not charged for it."""
    axes = {"target": ["world/topic", "world/ner"]}
    (first, plan), (second, _) = chains_of(study_file(tmp_path, axes))
    spent = [events_of(chain, plan, fresh)[-1].flops for chain in (first, second)]
    pretrain = fresh.phase(first.phases[0].key).flops
    alone = [fresh.phase(chain.phases[-1].key).flops + fresh.score(chain.score).flops for chain in (first, second)]
    assert spent == [pretrain + alone[0], alone[1]]


# Damage


def test_damaged_weights_name_their_file_and_the_repair_and_the_repair_works(fresh, tmp_path):
    axes = {"target": ["world/topic", "world/ner"]}
    (first, plan), (second, _) = chains_of(study_file(tmp_path, axes, runtime={"weights_in_memory": 0}))
    run(first, plan, fresh)
    folder = fresh.root / "phases" / first.phases[0].key
    weights = folder / ENCODER_WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        run(second, plan, fresh)
    assert str(weights) in str(caught.value)
    assert f"delete the folder {folder}" in str(caught.value)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder)
    run(second, plan, fresh)
    assert fresh.score(second.score) is not None


def test_a_damaged_record_names_its_file_and_the_repair(fresh, tmp_path):
    path = study_file(tmp_path)
    (chain,) = finish(path, fresh)
    record = fresh.root / "scores" / chain.score / "record.json"
    record.write_text(record.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(StoreError, match=r"record\.json.*delete the folder"):
        run(chain, plan_of(path), fresh)


def test_a_phase_with_a_damaged_checkpoint_is_begun_anew_and_says_so(fresh, tmp_path):
    path = study_file(tmp_path, runtime={"checkpoint_seconds": 1e-6})
    ((chain, plan),) = chains_of(path)
    stored, file = StoreIndex(fresh), fresh.scratch(chain.phases[0].key) / CHECKPOINT
    assert stored.whence(chain) == "begins its pretrain phase anew"
    stopped_when(chain, plan, fresh, lambda event: event.step == 4)
    assert stored.whence(chain) == "resumes from step 4 of its pretrain phase"
    file.write_bytes(file.read_bytes()[:-1])
    events = events_of(chain, plan, fresh)
    (said,) = [event.message for event in events if event.message]
    assert said.startswith(f"begins its pretrain phase anew: {file}, a damaged checkpoint")
    assert next(event.step for event in events if event.step) == 1
    assert StoreIndex(fresh).is_over(chain)


# Two processes


TWICE = """
import sys
from pathlib import Path
from small_studies import chains_of, events_of
from sweep.store.artifacts import Store
((chain, plan),) = chains_of(Path("study.yaml"))
print("ready", flush=True)
sys.stdin.readline()
events = events_of(chain, plan, Store(Path("store")))
print([event.phase for event in events if event.committed])
"""


def test_two_processes_with_the_same_chain_train_each_phase_once(fresh, tmp_path):
    """A worker that outlives its killed driver meets the worker of the next run."""
    study_file(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", TWICE], cwd=tmp_path, env=environment, **pipes) for _ in range(2)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    printed = [process.communicate("go\n")[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(printed).count("pretrain") == "".join(printed).count("target") == 1
    assert not list((fresh.root / "scratch").iterdir())


# Other encoders and other data


def test_a_random_encoder_and_its_tokenizer_are_made_from_real_raw_text(shared_data, tmp_path):
    languages = ["en", "sw", "th"]
    for language in languages:
        with (shared_data / "raw" / f"{language}.txt").open(encoding="utf-8") as lines:
            (tmp_path / f"{language}.txt").write_text("".join(islice(lines, 200)), encoding="utf-8")
    raw = {"family": "masked", "format": "lines", "train_languages": languages, "train": "{language}.txt", "dev": 0.1}
    tiny = {**TINY, "tokenizer": {"text": "raw", "vocab_size": 900, "algorithm": "wordpiece"}}
    settings = {"task": "raw", "learning_rate": 1e-2}
    path = study_file(tmp_path, tasks={"raw": raw}, encoders={"tiny": tiny}, pretrain=settings)
    store = Store(tmp_path / "store")
    (chain,) = finish(path, store)
    pretrain, _ = phases(chain, store)
    assert pretrain.recipe["tasks"] == ["raw"]
    assert pretrain.curve[-1]["loss"] < pretrain.curve[0]["loss"]


@pytest.fixture
def local_encoder(tmp_path):
    """A folder as `save_pretrained` leaves it."""

    def save(model_type: str) -> Path:
        words = [
            row["text"] for row in plan_of(study_file(tmp_path)).tasks["world/topic"].source.rows("train", "pivot")
        ]
        tokenizer = small_tokenizer({"bert": "bert", "xlm-roberta": "xlmr"}[model_type], words)
        folder = tmp_path / model_type
        tokenizer.save_pretrained(folder)
        random_encoder(SHAPES[model_type], len(tokenizer), tokenizer.pad_token_id, 0).save_pretrained(folder)
        return folder

    return save


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_an_encoder_in_a_local_folder_needs_no_pretraining(model_type, local_encoder, tmp_path):
    """Its weights are where the chain begins: a retrieval target without any phase scores them as they are."""
    folder = local_encoder(model_type)
    axes = {"encoder": [str(folder)], "intermediate": ["none", "world/rte"], "target": ["world/ner", "world/retrieval"]}
    store = Store(tmp_path / "store")
    chains = finish(study_file(tmp_path, axes, pretrain=None, encoders={}), store)
    kinds = [[record.kind for record in phases(chain, store)] for chain in chains]
    assert kinds == [["target"], [], ["intermediate", "target"], ["intermediate"]]
    assert store.score(chains[1].score).phase is None
    published = load_file(folder / "model.safetensors")
    trained = load_file(store.weights(chains[3].phases[0].key) / ENCODER_WEIGHTS)
    assert without_rows(trained).keys() == {name.removeprefix(f"{model_type}.") for name in published}


def test_a_folder_laid_out_like_a_hub_data_set_is_a_target(store, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = Features({"premise": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = [{"premise": f"{'good' if number % 2 else 'bad'} {number}", "label": number % 2} for number in range(40)]
    folder = tmp_path / "hub"
    splits = ("train", "validation", "test")
    files = "".join(f"  - split: {split}\n    path: {split}-*\n" for split in splits)
    folder.mkdir()
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: en\n  data_files:\n{files}---\n", encoding="utf-8"
    )
    for split in splits:
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}-0.parquet")
    mine = {
        "family": "sequence", "hub": str(folder), "config": "en", "labels": ["no", "yes"], "languages": ["en"],
        "columns": {"text": "premise", "label": "label"}, "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 40, "dev": 40, "test": 40}, "tokens": 4,
    }  # fmt: skip
    path = study_file(tmp_path, {"target": ["mine"]}, tasks={"mine": mine}, scoring={"examples": None})
    (chain,) = finish(path, store)
    assert store.score(chain.score).languages["en"]["examples"] == 40
