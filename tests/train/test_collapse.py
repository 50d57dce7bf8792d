"""Facts about phases that learn nothing: tried again, charged, marked, never passed on, and no end of a study."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_studies import chains_of, events_of, finish, plan_of, stopped_when, study_file, unmeasured, with_data_of

from sweep.errors import StoreError, StudyError
from sweep.plan.recipe import attempt_seed
from sweep.run.chain import run
from sweep.store.index import StoreIndex
from sweep.store.paths import ENCODER_WEIGHTS
from sweep.train.phase import is_collapsed

HOPELESS = {"learning_rate": 5.0, "collapse_margin": 0.01}  # a rate that ends in one answer for everything
MIDDLE = {"intermediate": ["world/rte"]}


@pytest.fixture(scope="module")
def prepared(small_store, tmp_path_factory):
    made = with_data_of(small_store, tmp_path_factory.mktemp("prepared") / "store")
    finish(study_file(tmp_path_factory.mktemp("study"), MIDDLE), made)
    return made


@pytest.fixture
def store(prepared, tmp_path):
    """A store without phases and scores."""
    return with_data_of(prepared, tmp_path / "store")


@pytest.fixture(scope="module")
def retried(prepared, tmp_path_factory):
    """(seed, margin) of an intermediate phase whose first attempt collapses and whose second or third does not.

    Measured here, because what few steps reach is not the same on every machine.
    """
    folder = tmp_path_factory.mktemp("retried")
    for seed in range(1, 30):
        path = study_file(folder, {**MIDDLE, "seed": [seed]}, intermediate={"collapse_margin": 1.0})
        (chain,) = finish(path, prepared)
        record = prepared.phase(chain.phases[1].key)
        first, *later = (attempt["dev"] for attempt in record.attempts)
        if first + 0.02 < max(later):
            return seed, (first + max(later)) / 2 - record.majority
    raise AssertionError("no seed does better at its second or third attempt")


@pytest.mark.parametrize(
    ("constant", "dev", "collapsed"),
    [
        (0.5, 0.505, True),  # within the margin
        (0.5, 0.511, False),
        (0.9, 0.905, True),
        (0.99, 0.99, True),
        (0.99, 1.0, False),  # nobody exceeds 0.99 + 0.01
        (0.995, 0.997, False),  # two more answers of a thousand are right
        (0.0, 0.0, True),  # F1 where the most frequent tag is O
        (1.0, 1.0, False),  # one answer is always right: nothing can be told
    ],
)
def test_a_phase_can_exceed_the_best_constant_answer_on_every_dev_set(constant, dev, collapsed):
    assert is_collapsed(dev, constant, 0.01) == collapsed


def intermediate(chain, store):
    (phase,) = (phase for phase in chain.phases if phase.recipe.kind == "intermediate")
    return store.phase(phase.key)


# Attempts


def test_a_collapsed_phase_is_tried_again_with_other_seeds_and_all_attempts_are_recorded(store, tmp_path):
    (chain,) = finish(study_file(tmp_path, MIDDLE, intermediate=HOPELESS), store)
    record = intermediate(chain, store)
    assert [attempt["seed"] for attempt in record.attempts] == [attempt_seed(1, number) for number in range(3)]
    assert all(attempt["collapsed"] and attempt["steps"] == 8 for attempt in record.attempts)
    assert all(attempt["dev"] <= record.majority + 0.01 for attempt in record.attempts)


def test_all_attempts_are_charged(store, tmp_path):
    """In the record, and in the chain's reports, which the ledger is fed with."""
    ((chain, plan),) = chains_of(study_file(tmp_path, MIDDLE, intermediate=HOPELESS))
    *_, last = events_of(chain, plan, store)
    record = intermediate(chain, store)
    assert record.flops == sum(attempt["flops"] for attempt in record.attempts)
    assert record.flops > 2.5 * record.attempts[0]["flops"] > 0
    assert record.device_seconds > sum(attempt["device_seconds"] for attempt in record.attempts)  # and loading
    assert last.flops == store.phase(chain.phases[0].key).flops + record.flops


def test_the_first_attempt_that_learns_something_is_passed_on(retried, store, tmp_path):
    seed, margin = retried
    path = study_file(tmp_path, {**MIDDLE, "seed": [seed]}, intermediate={"collapse_margin": margin})
    (chain,) = finish(path, store)
    record = intermediate(chain, store)
    assert [attempt["collapsed"] for attempt in record.attempts] == [True] * (len(record.attempts) - 1) + [False]
    assert len(record.attempts) > 1
    assert (record.collapsed, record.dev_score) == (False, record.attempts[-1]["dev"])
    assert store.score(chain.score) is not None


def test_the_number_of_retries_is_the_studys_and_part_of_the_phase(store, tmp_path):
    chains = [
        finish(study_file(tmp_path, MIDDLE, intermediate={**HOPELESS, "retries": retries}), store)[0]
        for retries in (0, 1)
    ]
    assert [len(intermediate(chain, store).attempts) for chain in chains] == [1, 2]


@pytest.mark.parametrize(
    ("setting", "field"),
    [({"retries": -1}, "retries"), ({"retries": 1.5}, "retries"), ({"collapse_margin": 2}, "collapse_margin")],
)
def test_a_number_of_retries_or_a_margin_that_cannot_be_is_a_mistake_at_its_place(setting, field, tmp_path):
    with pytest.raises(StudyError, match=rf"intermediate\.{field}"):
        plan_of(study_file(tmp_path, MIDDLE, intermediate=setting))


def test_the_seeds_of_attempts_are_no_other_seeds_of_a_study():
    seeds = [attempt_seed(seed, attempt) for seed in range(50) for attempt in range(5)]
    assert len(set(seeds)) == len(seeds)
    assert [attempt_seed(seed, 0) for seed in range(50)] == list(range(50))
    assert attempt_seed(1, 1) == 3860569944  # pinned: another value would make other weights under the same key


def test_an_interrupted_retried_phase_equals_an_undisturbed_one_bit_for_bit(retried, store, prepared, tmp_path):
    """Stopped wherever it happens to be, in the first attempt, between attempts, in the next."""
    seed, margin = retried
    settings = {"collapse_margin": margin, "steps": 8}
    axes, runtime = {**MIDDLE, "seed": [seed]}, {"checkpoint_seconds": 1e-6}
    path = study_file(tmp_path, axes, intermediate=settings, runtime=runtime)
    (chain,) = finish(path, store)
    disturbed = with_data_of(prepared, tmp_path / "disturbed")
    attempts = []
    while disturbed.phase(chain.phases[1].key) is None:
        moments = set()  # a dev evaluation is one, in however many batches

        def over(event, moments=moments):
            moments.add((event.phase, event.attempt, event.step))
            return len(moments) == 4

        *_, last = stopped_when(chain, plan_of(path), disturbed, over)
        attempts += [last.attempt] if last.phase == "intermediate" else []
    assert attempts.count(0) > 1
    assert attempts.count(1) > 1
    finish(path, disturbed)
    for phase in chain.phases:
        assert unmeasured(disturbed.phase(phase.key)) == unmeasured(store.phase(phase.key))
    middle = chain.phases[1].key
    committed, repeated = (load_file(kept.weights(middle) / ENCODER_WEIGHTS) for kept in (store, disturbed))
    assert all(torch.equal(committed[name], repeated[name]) for name in committed)
    assert unmeasured(disturbed.score(chain.score)) == unmeasured(store.score(chain.score))


def test_a_kill_right_after_a_collapsed_attempt_goes_on_with_the_next(store, tmp_path):
    ((chain, plan),) = chains_of(study_file(tmp_path, MIDDLE, intermediate=HOPELESS))
    stopped_when(chain, plan, store, lambda event: event.attempt == 1)
    again = [event for event in events_of(chain, plan, store) if event.phase == "intermediate" and event.steps]
    assert [(event.attempt, event.step) for event in again[:2]] == [(1, 1), (1, 2)]


# What does not go on


def test_a_collapsed_intermediate_phase_has_no_weights_and_no_children(store, tmp_path):
    (chain,) = finish(study_file(tmp_path, MIDDLE, intermediate=HOPELESS), store)
    record = intermediate(chain, store)
    assert (record.collapsed, record.dead_end, record.files) == (True, True, {})
    assert record.dev
    assert record.curve
    with pytest.raises(StoreError, match="no weights"):
        store.weights(record.key)
    assert [store.phase(key).kind for key in store.keys("phases")].count("target") == 0
    assert store.score(chain.score) is None
    assert not list((store.root / "scratch").iterdir())


def test_other_chains_that_need_a_collapsed_phase_neither_train_nor_load_anything(store, tmp_path):
    axes = {**MIDDLE, "target": ["world/topic", "world/ner", "world/retrieval"]}
    path = study_file(tmp_path, axes, intermediate=HOPELESS)
    (first, plan), *later = chains_of(path)
    run(first, plan, store)
    before = store.keys("phases")
    assert [events_of(chain, plan, store) for chain, plan in later] == [[], []]
    assert store.keys("phases") == before
    assert all(StoreIndex(store).to_train(chain) == () for chain, _ in later)


def test_a_collapsed_pretraining_ends_its_chains(store, tmp_path):
    (chain,) = finish(study_file(tmp_path, MIDDLE, pretrain={"collapse_margin": 1.0, "retries": 1}), store)
    (key,) = store.keys("phases")
    assert (store.phase(key).kind, store.phase(key).dead_end) == ("pretrain", True)
    assert store.score(chain.score) is None


def test_a_collapsed_target_phase_is_scored_and_marked(store, tmp_path):
    (chain,) = finish(study_file(tmp_path, target=HOPELESS), store)
    record = store.phase(chain.phases[-1].key)
    assert (record.collapsed, record.dead_end, len(record.attempts)) == (True, False, 3)
    assert store.score(chain.score) is not None
    assert record.released


# Several tasks


def test_one_collapsed_task_of_several_is_marked_and_the_phase_is_passed_on(store, tmp_path):
    """Topics are learned in a few steps, entailment is not."""
    path = study_file(
        tmp_path, {"intermediate": [["world/topic", "world/rte"]], "target": ["world/ner"]},
        intermediate={"steps": 40, "collapse_margin": 0.1},
    )  # fmt: skip
    (chain,) = finish(path, store)
    record = intermediate(chain, store)
    marked = {task: entry["collapsed"] for task, entry in record.tasks.items()}
    assert marked == {"world/topic": False, "world/rte": True}
    assert record.dev_score == pytest.approx(np.mean([entry["dev"] for entry in record.tasks.values()]))
    assert record.majority == pytest.approx(np.mean([entry["majority"] for entry in record.tasks.values()]))
    assert not record.collapsed
    assert store.score(chain.score) is not None


def test_a_phase_whose_every_task_with_labels_collapsed_has_collapsed_whatever_its_text_learned(store, tmp_path):
    path = study_file(
        tmp_path, {"intermediate": [["world/rte", "world/copa", "world/raw"]]},
        intermediate={"collapse_margin": 0.3, "retries": 0},
    )  # fmt: skip
    (chain,) = finish(path, store)
    record = intermediate(chain, store)
    assert set(record.tasks) == {"world/rte", "world/copa"}
    assert record.dead_end
