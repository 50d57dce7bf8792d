"""Facts about chain budgets: every chain of one trains with as many FLOPs, whatever its phases are, and no more."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from small_studies import chains_of, finish, plan_of, study_file, with_encoder_of
from tiny_models import toy

from sweep.errors import StudyError
from sweep.models.batches import DeviceData
from sweep.plan.cost import Costs
from sweep.plan.order import coverage_order, summary
from sweep.plan.speed import Speed
from sweep.store.paths import ENCODER_WEIGHTS
from sweep.train.data import Mixture, Stream

FREE = {"steps": None, "epochs": None, "batch_tokens": 128, "evaluations": 1, "collapse_margin": -1}
WSD = {**FREE, "schedule": "wsd", "warmup": {"steps": 2}}
AXES = {
    "intermediate": ["none", "world/nli", ["world/nli", "world/pos"]],
    "target": ["world/topic", "world/retrieval"],
    "chain_budget": {"flops": [4e8, 1e9], "shares": {"intermediate": 0.75, "target": 0.25}},
}


def study(folder, axes=None, intermediate=FREE, target=FREE, **changes):
    folder.mkdir(exist_ok=True)
    return study_file(folder, {**AXES, **(axes or {})}, intermediate=intermediate, target=target, **changes)


def trained(store, chain):
    """FLOPs of the steps of each kind of phase, dev evaluations left out, and those of a step."""
    found = {}
    for phase in chain.phases:
        if phase.kind in ("intermediate", "target"):
            records = store.history(phase.key)
            found[phase.kind] = sum(record.flops for record in records), records[-1].steps
    return found


@pytest.fixture(scope="module")
def finished(small_store, tmp_path_factory):
    """All chains of a study, without dev evaluations that cost anything, and their store."""
    store, folder = with_encoder_of(small_store, tmp_path_factory.mktemp("budget")), tmp_path_factory.mktemp("study")
    settings = {**FREE, "dev_examples": 5}
    return finish(study(folder, intermediate=settings, target=settings), store), store


def test_every_chain_of_a_budget_trains_with_as_many_flops(finished):
    """Within one step per phase: a step is below 3% of the smaller budget here."""
    chains, store = finished
    for chain in chains:
        spent = sum(flops for flops, _ in trained(store, chain).values())
        if len(chain.phases) > 1:
            assert 0.93 * chain.cell.chain_budget < spent < 1.01 * chain.cell.chain_budget  # 1%: dev


def test_a_budget_is_divided_by_its_shares(finished):
    chains, store = finished
    for chain in chains:
        spent = trained(store, chain)
        if len(spent) == 2:
            share = spent["intermediate"][0] / (spent["intermediate"][0] + spent["target"][0])
            assert share == pytest.approx(0.75, abs=0.04)


def test_a_chain_without_any_phase_has_the_same_scores_at_all_budgets(finished):
    chains, _ = finished
    scores = {chain.score for chain in chains if not chain.cell.intermediate and chain.cell.target == "world/retrieval"}
    assert len(scores) == 1


def test_one_step_more_would_cost_more_than_the_budget_has(finished):
    chains, store = finished
    for chain in chains:
        for kind, (flops, steps) in trained(store, chain).items():
            recipe = next(phase.recipe for phase in chain.phases if phase.kind == kind)
            assert flops * (steps + 1) / steps > 0.97 * recipe.flops


@pytest.mark.parametrize("nested", [False, True])
def test_what_steps_are_fed_is_known_without_making_their_batches(nested):
    streams = tuple(Stream(family, toy(family, 40)) for family in ("sequence", "choice", "span"))
    mixture = Mixture(streams, 128, 3, nested=nested)
    fed, data = mixture.step_shapes(), [DeviceData(stream.encoded, "cpu", 0) for stream in streams]
    batches = [mixture.batches(index) for index in range(3)]
    for index in mixture.schedule(1500):
        batch = data[index].batch(next(batches[index]))
        width = batch.input_ids.shape[1]
        assert next(fed) == (streams[index].task, batch.padded_tokens, batch.padded_tokens * width)


def test_budgets_share_a_trunk_and_each_is_the_budget_alone(finished, tmp_path):
    """Also where a phase goes over its data several times, and mixes tasks; weights bit for bit."""
    runtime = {"keep_target_weights": True}
    axes = {"intermediate": ["none", ["world/rte", "world/pos"]], "target": ["world/topic"]}
    many = {**axes, "chain_budget": {"flops": [3e8, 6e8, 9e8]}}
    together = study(tmp_path / "a", many, WSD, WSD, runtime=runtime)
    store = with_encoder_of(finished[1], tmp_path / "store")
    chains = finish(together, store)
    for budget in many["chain_budget"]["flops"]:
        one = {**axes, "chain_budget": {"flops": [budget]}}
        alone = with_encoder_of(store, tmp_path / f"{budget:g}")
        for chain in finish(study(tmp_path / "b", one, WSD, WSD, runtime=runtime), alone):
            last = chain.phases[-1]
            assert any(last.key == other.phases[-1].key for other in chains)
            first, second = (load_file(kept.weights(last.key) / ENCODER_WEIGHTS) for kept in (store, alone))
            assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    resumed = [store.phase(p.key).resumes for c in chains for p in c.phases if p.kind == "target"]
    assert sum(key is not None for key in resumed) == 3  # those of the baseline; the others start from other weights


# What is planned


def test_shares_are_those_of_the_phases_that_a_chain_trains(tmp_path):
    planned = {}
    for chain, _ in chains_of(study(tmp_path)):
        flops = {phase.kind: phase.recipe.flops for phase in chain.phases if phase.kind != "pretrain"}
        planned[chain.cell.text("intermediate"), chain.cell.target, chain.cell.chain_budget] = flops
    assert planned["world/nli", "world/topic", 4e8] == {"intermediate": 3e8, "target": 1e8}
    assert planned["world/nli", "world/retrieval", 4e8] == {"intermediate": 4e8}
    assert planned["none", "world/topic", 4e8] == {"target": 4e8}
    assert planned["none", "world/retrieval", 4e8] == {}


def test_a_planned_phase_costs_its_share_and_its_dev_evaluations(tmp_path):
    plan = plan_of(study(tmp_path, intermediate={**FREE, "dev_examples": 1}))
    costs = Costs(plan)
    for chain in plan.planned_chains():
        parts = costs.parts(chain)
        for phase in chain.phases:
            if phase.kind == "intermediate":
                assert phase.recipe.flops < parts[phase.key] < 1.02 * phase.recipe.flops


def test_a_phase_that_two_kinds_of_target_need_at_one_length_is_one_phase(tmp_path):
    """A target without training gives its intermediate phase all: half of the next budget, where that is divided."""
    axes = {"intermediate": ["world/nli"], "chain_budget": {"flops": [4e8, 8e8]}}
    chains = [chain for chain, _ in chains_of(study(tmp_path, axes, WSD, WSD))]
    found = {chain.cell.name: next(phase for phase in chain.phases if phase.kind == "intermediate") for chain in chains}
    assert len(found) == 4
    assert len({phase.key for phase in found.values()}) == 3
    plan = plan_of(study(tmp_path, axes, WSD, WSD))
    for chain in chains:
        trunks = [phase.recipe.flops for phase in chain.phases if phase.trunk and phase.recipe.kind == "intermediate"]
        length = found[chain.cell.name].recipe.flops
        assert trunks == [flops for flops in (2e8, 4e8) if flops <= length]
    flops = summary(plan, Costs(plan), Speed())
    assert flops["flops_shared"] < flops["flops_unshared"]


def test_budgets_are_tried_evenly(tmp_path):
    plan = plan_of(study(tmp_path))
    assert sorted(coverage_order(plan)) == list(range(len(plan.cells))) == list(range(12))
    others = [plan.cells[index].chain_budget for index in coverage_order(plan) if plan.cells[index].intermediate]
    for count in range(1, len(others)):
        assert abs(others[:count].count(4e8) - others[:count].count(1e9)) <= 1


def test_the_plan_says_how_budgets_are_divided_and_what_they_leave_out(tmp_path):
    (said,) = (flag for flag in plan_of(study(tmp_path)).flags if flag.startswith("chain budgets"))
    assert "0.75 to the intermediate, 0.25 to the target phase" in said
    assert "pretraining" in said


def test_without_chain_budgets_no_key_knows_of_them(tmp_path):
    (chain, _), *_ = chains_of(study_file(tmp_path))
    assert "flops" not in chain.phases[-1].record()


def test_another_budget_keeps_the_keys_of_all_others(tmp_path):
    few, many = (
        {
            chain.cell.name: chain
            for chain, _ in chains_of(study(tmp_path / name, {"chain_budget": {"flops": flops}}, WSD, WSD))
        }
        for name, flops in (("a", [4e8, 1e9]), ("b", [4e8, 6e8, 1e9, 2e9]))
    )
    for name, chain in few.items():
        assert {phase.key for phase in chain.phases} <= {phase.key for phase in many[name].phases}
        assert chain.score == many[name].score


# What is refused

BUDGET = "axes.chain_budget"
MISTAKES = [
    ({"chain_budget": {"flops": []}}, {}, [f"{BUDGET}.flops: found an empty list"]),
    ({"chain_budget": {"flops": [1e9, 1e9]}}, {}, [f"{BUDGET}.flops", "occurs twice"]),
    ({"chain_budget": {"flops": [-1]}}, {}, [f"{BUDGET}.flops[0]: found -1", "above 0"]),
    ({"chain_budget": {"flops": ["much"]}}, {}, [f"{BUDGET}.flops[0]: found 'much'", "a number"]),
    ({"chain_budget": [1e9]}, {}, [BUDGET, "a mapping"]),
    ({"chain_budget": {"flop": [1e9]}}, {}, [f"{BUDGET}.flop", "did you mean 'flops'"]),
    ({"chain_budget": {"flops": [1e9], "shares": {"target": 0.4}}}, {}, [f"{BUDGET}.shares", "add up to 1"]),
    ({"chain_budget": {"flops": [1e9], "shares": {"target": 0, "intermediate": 1}}}, {}, [f"{BUDGET}.shares"]),
    ({"chain_budget": {"flops": [1e9, 7e4]}}, {}, [f"{BUDGET}.flops[1]: found 70000", "at least", "one step of each"]),
    ({}, {"target": {**FREE, "epochs": 2}}, ["target.epochs: found a length", "axes.chain_budget says"]),
    ({}, {"intermediate": {**FREE, "steps": 2}}, ["intermediate.steps: found a length"]),
    (
        {},
        {"target": {**FREE, "overrides": {"world/topic": {"epochs": 2}}}},
        ["target.overrides.world/topic.epochs: found a length"],
    ),
    ({}, {"pretrain": {"steps": None}}, ["pretrain: found no length", "exactly one of 'epochs' and 'steps'"]),
    ({"chain_budget": None}, {}, ["intermediate: found no length", "exactly one of 'epochs' and 'steps'"]),
]


@pytest.mark.parametrize(("axes", "changes", "said"), MISTAKES, ids=[said[0] for *_, said in MISTAKES])
def test_a_mistake_is_one_line_with_its_place_what_was_found_and_what_would_do(axes, changes, said, tmp_path):
    with pytest.raises(StudyError) as raised:
        plan_of(study(tmp_path, axes, **changes))
    line = str(raised.value)
    assert "\n" not in line
    assert all(fragment in line for fragment in said), line


def test_the_least_budget_that_is_named_does(tmp_path):
    with pytest.raises(StudyError) as raised:
        plan_of(study(tmp_path, {"chain_budget": {"flops": [1.0]}}))
    least = float(str(raised.value).split("at least ")[1].split()[0])
    assert plan_of(study(tmp_path, {"chain_budget": {"flops": [1.01 * least]}})).cells
