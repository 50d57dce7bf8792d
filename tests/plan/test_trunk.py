"""Facts about trunk and branch: a run that goes on from another one's trunk is the run done alone, and costs less."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from instant_workers import Lab
from safetensors.torch import load_file
from small_studies import (
    chains_of,
    events_of,
    finish,
    finish_in_pieces,
    plan_of,
    stopped_when,
    study_file,
    unmeasured,
    with_encoder_of,
)

from sweep.errors import StoreError
from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.speed import Speed
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.store.paths import CHECKPOINT, ENCODER_WEIGHTS, HEAD_WEIGHTS

WSD = {
    "schedule": "wsd",
    "warmup": {"steps": 4},
    "batch_tokens": 128,
    "steps": None,
    "epochs": 1,
    "collapse_margin": -1,  # what is learned in a hundred steps is not the point here
}
VOLUMES = [200, 300, 400]  # of 16 to 25 examples a batch, so of about 12, 18 and 25 steps


def study(folder, volumes=VOLUMES, intermediate="world/nli", settings=WSD, **changes):
    folder.mkdir(exist_ok=True)
    return study_file(folder, {"intermediate": [intermediate], "volume": volumes}, intermediate=settings, **changes)


def chain_of(volume, path):
    return next((chain, plan) for chain, plan in chains_of(path) if chain.cell.volume == volume)


def branch(chain):
    return next(phase for phase in chain.phases if phase.kind == "intermediate")


def trunks(chain):
    return [phase for phase in chain.phases if phase.trunk]


def reached(record):
    """What a phase has come to, apart from how it got there and what that cost."""
    found = {name: value for name, value in unmeasured(record).items() if name not in ("curve", "flops", "resumes")}
    attempts = [{name: value for name, value in one.items() if name != "flops"} for one in found["attempts"]]
    return {**found, "attempts": attempts}


@pytest.fixture(scope="module")
def prepared(small_store, tmp_path_factory):
    """Tokenizer, encoded data and the pretrained encoder."""
    made = with_encoder_of(small_store, tmp_path_factory.mktemp("prepared") / "store")
    finish(study(tmp_path_factory.mktemp("study"), volumes=[50], settings={**WSD, "steps": 1, "epochs": None}), made)
    return made


@pytest.fixture
def fresh(prepared, tmp_path):
    return with_encoder_of(prepared, tmp_path / "store")


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory):
    """A store in which each volume was trained by a study of its own: nothing is shared."""
    store = Store(tmp_path_factory.mktemp("alone") / "store")
    shutil.copytree(prepared.root, store.root, dirs_exist_ok=True)
    for volume in VOLUMES:
        finish(study(tmp_path_factory.mktemp("one"), [volume], runtime={"keep_target_weights": True}), store)
    return store


@pytest.fixture(scope="module")
def together(prepared, tmp_path_factory):
    """(the chains of all volumes as one study, in which the shorter ones lend their trunks, its store)"""
    store = with_encoder_of(prepared, tmp_path_factory.mktemp("together") / "store")
    return finish(study(tmp_path_factory.mktemp("all"), runtime={"keep_target_weights": True}), store), store


def assert_equal_in_all_but_cost(chain, one, other):
    for phase in chain.phases:
        if phase.trunk:
            continue
        assert reached(one.phase(phase.key)) == reached(other.phase(phase.key))
        for name in (ENCODER_WEIGHTS, HEAD_WEIGHTS):
            first, second = (load_file(store.weights(phase.key) / name) for store in (one, other))
            assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    assert unmeasured(one.score(chain.score)) == unmeasured(other.score(chain.score))
    first, second = (store.statistics(chain.score) for store in (one, other))
    assert all(np.array_equal(first[language], second[language]) for language in first)


# What is trained


def test_a_volume_that_goes_on_from_a_trunk_is_the_volume_trained_alone(alone, together):
    """Weights, heads, dev scores, tokens, zero-shot statistics: bit for bit."""
    chains, store = together
    for chain in chains:
        assert store.phase(branch(chain).key).resumes == trunks(chain)[-1].key
        assert alone.phase(branch(chain).key).resumes is None
        assert_equal_in_all_but_cost(chain, store, alone)


@pytest.mark.parametrize("checkpoint_seconds", [1e-6, 0.05], ids=["every step", "now and then"])
def test_a_chain_that_is_interrupted_in_trunk_and_branch_is_the_undisturbed_one(
    checkpoint_seconds, alone, fresh, tmp_path
):
    runtime = {"keep_target_weights": True, "checkpoint_seconds": checkpoint_seconds}
    chain, plan = chain_of(VOLUMES[-1], study(tmp_path, runtime=runtime))
    stopped = {event.phase for event in finish_in_pieces(chain, plan, fresh)}
    assert stopped >= {"trunk", "intermediate"}
    assert_equal_in_all_but_cost(chain, fresh, alone)


def test_a_segment_is_trained_once_whoever_needs_it(together):
    done, store = together
    records = [store.phase(key) for key in store.keys("phases")]
    assert Counter(record.kind for record in records) == {"pretrain": 1, "trunk": 2, "intermediate": 3, "target": 3}
    first, second = (store.phase(phase.key) for phase in trunks(done[-1]))
    assert second.resumes == first.key
    assert len(second.curve) <= second.steps - first.steps  # its own steps alone


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_the_order_of_volumes_changes_nothing(order, alone, fresh, tmp_path):
    path = study(tmp_path, runtime={"keep_target_weights": True})
    chains = list(chains_of(path))
    for index in order:
        run(*chains[index], fresh)
    for chain, _ in chains:
        assert_equal_in_all_but_cost(chain, fresh, alone)


def test_the_costs_of_trunk_and_branch_add_up_to_those_of_the_run_alone(alone, together):
    chains, store = together
    for chain in chains:
        key = branch(chain).key
        assert sum(record.flops for record in store.history(key)) == alone.phase(key).flops
        assert store.phase(key).flops < alone.phase(key).flops


def test_a_trunk_is_not_scored_and_has_no_weights_but_its_state(together):
    (*_, chain), store = together
    for phase in trunks(chain):
        record = store.phase(phase.key)
        assert (record.kind, record.dev_score, record.dev, record.collapsed) == ("trunk", None, [], False)
        assert list(record.files) == [CHECKPOINT]


def test_a_volume_below_one_pool_has_a_trunk_without_steps_and_is_the_volume_alone(fresh, prepared, tmp_path):
    one = Store(tmp_path / "one")
    shutil.copytree(prepared.root, one.root)
    runtime = {"keep_target_weights": True}
    chains = finish(study(tmp_path / "a", [20, 40], runtime=runtime), fresh)
    for volume in (20, 40):
        finish(study(tmp_path / "b", [volume], runtime=runtime), one)
    assert fresh.phase(trunks(chains[0])[0].key).steps == 0
    for chain in chains:
        assert_equal_in_all_but_cost(chain, fresh, one)


def test_volumes_of_several_epochs_share_their_first_pass(fresh, prepared, tmp_path):
    one = Store(tmp_path / "one")
    shutil.copytree(prepared.root, one.root)
    settings, runtime = {**WSD, "epochs": 2}, {"keep_target_weights": True}
    small, large = finish(study(tmp_path / "a", [200, 400], settings=settings, runtime=runtime), fresh)
    finish(study(tmp_path / "b", [400], settings=settings, runtime=runtime), one)
    trunk, whole = fresh.phase(trunks(small)[0].key), fresh.phase(branch(small).key)
    assert 0 < trunk.steps < whole.steps / 2
    assert_equal_in_all_but_cost(large, fresh, one)


def test_tuned_lengths_share_all_that_lies_before_their_decays(fresh, prepared, tmp_path):
    """More than one pass over 200 examples, and each length is the study that has no other."""
    one = Store(tmp_path / "one")
    shutil.copytree(prepared.root, one.root)
    settings, runtime = {**WSD, "epochs": {"choices": [1, 3]}}, {"keep_target_weights": True}
    tuning = {"tuning": {"candidates": 2}, "runtime": runtime}
    long, short = sorted(finish(study(tmp_path / "a", [200], settings=settings, **tuning), fresh), key=epochs)[::-1]
    for number in (1, 3):
        finish(study(tmp_path / f"b{number}", [200], settings={**WSD, "epochs": number}, runtime=runtime), one)
    trunk, whole = fresh.phase(trunks(long)[0].key), fresh.phase(branch(short).key)
    assert trunks(short) == trunks(long)
    assert (trunk.steps, fresh.phase(branch(long).key).resumes) == (round(0.8 * whole.steps), trunk.key)
    for chain in (short, long):
        assert_equal_in_all_but_cost(chain, fresh, one)


def epochs(chain):
    return chain.hyperparameters["intermediate.epochs"]


def test_lengths_on_an_axis_go_on_from_one_trunk_however_often_they_see_the_data(fresh, prepared, tmp_path):
    one = Store(tmp_path / "one")
    shutil.copytree(prepared.root, one.root)
    runtime = {"keep_target_weights": True}
    axes = {"intermediate": ["world/nli"], "volume": [200], "intermediate.epochs": [3, 1, 2]}
    chains = finish(study_file(tmp_path, axes, intermediate=WSD, runtime=runtime), fresh)
    finish(study(tmp_path / "b", [200], settings={**WSD, "epochs": 3}, runtime=runtime), one)
    long = next(chain for chain in chains if chain.cell.text("intermediate.epochs") == "3")
    first, second = (fresh.phase(phase.key) for phase in trunks(long))
    whole = fresh.phase(branch(long).key)
    assert (second.resumes, whole.resumes) == (first.key, second.key)
    assert first.steps < whole.steps / 3 < second.steps
    assert_equal_in_all_but_cost(long, fresh, one)


def test_a_trunk_that_lies_beyond_the_decay_of_a_run_is_not_taken(fresh, tmp_path):
    """One example more may make a batch fewer. Here the trunk of a longer run lies where a short one's is expected."""
    path = study(tmp_path, [200, 400], runtime={"keep_target_weights": True})
    (short, plan), _ = chains_of(path)
    (*_, long) = finish(study(tmp_path / "other", [400, 401]), fresh)
    other = trunks(long)[0].key
    shutil.copytree(fresh.root / "phases" / other, fresh.root / "phases" / trunks(short)[0].key)
    run(short, plan, fresh)
    assert fresh.phase(branch(short).key).resumes is None


def test_a_branch_that_collapsed_is_tried_again_without_the_trunk_of_another_seed(fresh, prepared, tmp_path):
    one = Store(tmp_path / "one")
    shutil.copytree(prepared.root, one.root)
    settings = {**WSD, "collapse_margin": 1, "retries": 1}
    short, _ = finish(study(tmp_path / "a", [200, 400], settings=settings), fresh)
    finish(study(tmp_path / "b", [200], settings=settings), one)
    key = branch(short).key
    assert [attempt["collapsed"] for attempt in fresh.phase(key).attempts] == [True, True]
    assert reached(fresh.phase(key)) == reached(one.phase(key))
    assert sum(record.flops for record in fresh.history(key)) == one.phase(key).flops


def test_a_half_done_trunk_goes_on_after_its_last_checkpoint(fresh, tmp_path):
    chain, plan = chain_of(VOLUMES[-1], study(tmp_path, runtime={"checkpoint_seconds": 1e-6}))
    last = stopped_when(chain, plan, fresh, lambda event: event.step == 4)[-1].step
    again = [event.step for event in events_of(chain, plan, fresh) if not event.preparing]
    assert again[:2] == [last + 1, last + 2]


def test_a_damaged_trunk_names_its_file_and_the_repair(fresh, tmp_path):
    path = study(tmp_path)
    (first, plan), (second, _), _ = chains_of(path)
    run(first, plan, fresh)
    state = fresh.root / "phases" / trunks(first)[0].key / CHECKPOINT
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"checkpoint.safetensors.*does not match its checksum"):
        run(second, plan, fresh)
    shutil.rmtree(state.parent)
    run(second, plan, fresh)
    assert fresh.score(second.score) is not None


def test_a_finished_volume_is_read_whatever_was_planned_after_it(fresh, tmp_path):
    """A study that gets a smaller volume later keeps what it has: the run that was done alone has its own cost."""
    (long,) = finish(study(tmp_path / "a", [400]), fresh)
    key = branch(long).key
    before = fresh.history(key)
    finish(study(tmp_path / "b", [200, 400]), fresh)
    assert fresh.history(key) == before


# What is planned


def test_a_new_volume_keeps_the_keys_of_all_others(tmp_path):
    few, many = (
        {chain.cell.volume: chain for chain, _ in chains_of(study(tmp_path / name, volumes))}
        for name, volumes in (("a", [200, 800]), ("b", [100, 200, 400, 800, "full"]))
    )
    for volume, chain in few.items():
        assert {phase.key for phase in chain.phases} <= {phase.key for phase in many[volume].phases}
        assert chain.score == many[volume].score


def test_trunks_stand_before_their_branch_shortest_first_and_the_longest_volume_has_none(tmp_path):
    found = {chain.cell.volume: chain for chain, _ in chains_of(study(tmp_path, [800, "full", 200]))}
    assert [phase.recipe.examples for phase in trunks(found[200])] == [200]
    assert [phase.recipe.examples for phase in trunks(found[800])] == [200, 800]
    assert [phase.recipe.examples for phase in trunks(found[None])] == [200, 800]
    assert [phase.kind for phase in found[None].phases] == ["pretrain", "trunk", "trunk", "intermediate", "target"]
    assert {phase.parent for phase in (*trunks(found[None]), branch(found[None]))} == {found[None].phases[0].key}


@pytest.mark.parametrize(
    ("volumes", "intermediate", "settings"),
    [
        ([800], "world/nli", WSD),
        (VOLUMES, "world/nli", {**WSD, "schedule": "linear"}),
        (VOLUMES, ["world/nli", "world/pos"], WSD),
    ],
    ids=["one volume", "another schedule", "several tasks"],
)
def test_where_nothing_can_be_shared_there_is_no_trunk(volumes, intermediate, settings, tmp_path):
    for chain, _ in chains_of(study(tmp_path, volumes, intermediate, settings)):
        assert not trunks(chain)


def test_volumes_that_share_a_trunk_are_planned_at_the_cost_of_the_longest_and_the_decays(tmp_path):
    plan = plan_of(study(tmp_path, [1000, 2000, 4000], settings={**WSD, "decay": 0.2, "dev_examples": 1}))
    costs = Costs(plan)
    planned = {chain.cell.volume: costs.parts(chain) for chain in plan.planned_chains()}
    whole = {v: costs.phase(next(c for c in plan.cells if c.volume == v), r) for v, r in recipes(plan).items()}
    for chain in plan.planned_chains():
        parts = planned[chain.cell.volume]
        middle = [parts[phase.key] for phase in (*trunks(chain), branch(chain))]
        assert sum(middle) == pytest.approx(whole[chain.cell.volume])
    distinct = {key: flops for parts in planned.values() for key, flops in parts.items()}
    shared = {key for chain in plan.planned_chains() for key in (*map(key_of, trunks(chain)), branch(chain).key)}
    assert sum(distinct[key] for key in shared) == pytest.approx(
        whole[4000] + 0.2 * (whole[1000] + whole[2000]), rel=0.05
    )


def recipes(plan):
    return {chain.cell.volume: branch(chain).recipe for chain in plan.planned_chains()}


def key_of(phase):
    return phase.key


@pytest.mark.parametrize(
    ("intermediate", "changes", "flag"),
    [
        ("world/nli", {}, None),
        ("world/nli", {"epochs": 2}, "volumes of world/nli share their first pass alone: epochs is 2"),
        (["world/nli", "world/pos"], {}, "volumes of world/nli+world/pos share no steps"),
        ("world/nli", {"schedule": "linear", "epochs": 2}, None),
    ],
)
def test_the_plan_says_which_volumes_share_less_than_they_could(intermediate, changes, flag, tmp_path):
    flags = plan_of(study(tmp_path, VOLUMES, intermediate, {**WSD, **changes})).flags
    found = [line for line in flags if "volumes" in line]
    assert len(found) == (flag is not None)
    assert all(line.startswith(flag) for line in found)


def test_one_worker_and_four_train_every_segment_once(tmp_path):
    for workers in (1, 4):
        plan = plan_of(study(tmp_path, [100, 200, 400, "full"]))
        lab = Lab(plan, tmp_path / str(workers), workers).run()
        assert len(lab.admission.outcomes.done) == lab.admission.total == 4
        assert set(lab.trained.values()) == {1}
        assert len(lab.trained) == 1 + 3 + 4 + 4
        assert lab.admission.spending.spent == pytest.approx(summary(plan, Costs(plan), Speed())["flops_shared"] / 1e9)
