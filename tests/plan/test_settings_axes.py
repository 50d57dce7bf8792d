"""Facts about settings axes: any key of a phase may be compared, and what its values share is trained once."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from instant_workers import Lab
from small_studies import plan_of, study_file

from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.halving import stages
from sweep.plan.order import coverage_order, plan_text, summary
from sweep.plan.preview import previews, short_plan
from sweep.plan.speed import Speed
from sweep.store.ledger import Ledger, row_of

TASKS = {"intermediate": ["none", "world/nli", "world/qa"], "target": ["world/topic", "world/retrieval"]}
DECAY, CLIP = "target.weight_decay", "intermediate.clip"
GRID = {"learning_rate": {"log": [1e-4, 1e-2], "points": 5}}


def plan(folder, axes, **sections):
    folder.mkdir(exist_ok=True)
    return plan_of(study_file(folder, {**TASKS, **axes}, **sections))


def phases(planned, kind):
    """Keys of the phases of a kind, each with the cells that have it."""
    found = {}
    for chain in planned.planned_chains():
        for phase in chain.phases:
            if phase.kind == kind:
                found.setdefault(phase.key, []).append(chain.cell)
    return found


# ---- cells and phases ------------------------------------------------------------------------------------------------


def test_an_axis_of_the_target_phase_multiplies_every_cell_and_shares_what_comes_before(tmp_path):
    plain, planned = plan(tmp_path / "a", {}), plan(tmp_path / "b", {DECAY: [0, 0.01]})
    assert len(planned.cells) == 2 * len(plain.cells) == 2 * 3 * 2
    for kind in ("pretrain", "intermediate"):
        assert phases(planned, kind).keys() == phases(plain, kind).keys()
    assert len(phases(planned, "target")) == 2 * len(phases(plain, "target"))


def test_an_axis_of_the_intermediate_phase_leaves_the_baseline_alone(tmp_path):
    planned = plan(tmp_path, {CLIP: [0.5, 1, 2]})
    counts = Counter(cell.baseline for cell in planned.cells)
    assert counts == {True: 1 * 2, False: 2 * 2 * 3}
    assert {cell.text(CLIP) for cell in planned.cells if cell.baseline} == {"-"}
    assert len(phases(planned, "intermediate")) == 2 * 3


def test_an_axis_of_pretraining_says_nothing_of_a_published_encoder(tmp_path):
    axes = {"encoder": ["tiny", "world/tiny"], "pretrain.steps": [10, 20]}
    planned = plan(tmp_path, axes)
    texts = Counter((cell.encoder, cell.text("pretrain.steps")) for cell in planned.cells)
    assert texts == {("tiny", "10"): 6, ("tiny", "20"): 6, ("world/tiny", "-"): 6}


def test_the_baseline_of_a_cell_has_the_same_values_where_it_has_the_phase(tmp_path):
    planned = plan(tmp_path, {DECAY: [0, 0.01], CLIP: [0.5, 2]})
    for cell in planned.cells:
        assert cell.reference in planned.cells
        assert cell.reference.text(DECAY) == cell.text(DECAY)
        assert cell.reference.text(CLIP) == "-"


def test_a_value_of_an_axis_is_the_very_phase_that_the_section_alone_would_give(tmp_path):
    values = {
        DECAY: 0.1, "target.warmup.steps": 3, "target.schedule": "constant", "target.batch_tokens": 256,
        "target.learning_rate": 3e-3, "intermediate.epochs": 1, "intermediate.max_length": 32,
    }  # fmt: skip
    sections = {
        "target": {"weight_decay": 0.1, "warmup": {"steps": 3}, "schedule": "constant", "batch_tokens": 256,
                   "learning_rate": 3e-3},
        "intermediate": {"steps": None, "epochs": 1, "max_length": 32},
    }  # fmt: skip
    alone = plan(tmp_path / "a", {}, **sections)
    planned = plan(tmp_path / "b", {path: [value] for path, value in values.items()})
    for one, other in zip(alone.planned_chains(), planned.planned_chains(), strict=True):
        assert [phase.key for phase in one.phases] == [phase.key for phase in other.phases]
        assert one.score == other.score
        assert one.key != other.key


def test_a_further_value_changes_no_chain_of_the_others_and_the_order_of_the_file_none(tmp_path):
    few, many = plan(tmp_path / "a", {DECAY: [0], CLIP: [1]}), plan(tmp_path / "b", {CLIP: [2, 1.0], DECAY: [0.1, 0]})
    keys = {chain.key for chain in many.planned_chains()}
    assert {chain.key for chain in few.planned_chains()} < keys
    assert len(keys) == len({cell.name for cell in many.cells}) == len(many.cells)


def test_sampling_temperatures_are_compared_in_one_study(tmp_path):
    axes = {
        "intermediate": ["none", ["world/nli", "world/qa"]],
        "intermediate.sampling.temperature": [1, 5],
        "intermediate.sampling.by": ["temperature"],
    }
    planned = plan(tmp_path, axes)
    read = {cell.text("intermediate.sampling.temperature"): planned.recipes(cell)[1] for cell in planned.cells[4:]}
    assert {text: recipe.settings.sampling.temperature for text, recipe in read.items()} == {"1": 1, "5": 5}
    assert len({recipe.digest for recipe in read.values()}) == 2


# ---- tuning, costs, order --------------------------------------------------------------------------------------------


def test_every_value_is_tuned_alike_and_halved_alike(tmp_path):
    tuning = {"candidates": 4, "halving": {"rungs": [0.5]}}
    planned = plan(tmp_path, {DECAY: [0, 0.01], "target.evaluations": [2, 4]}, target=GRID, tuning=tuning)
    for target, counts in (("world/topic", {4}), ("world/retrieval", {1})):
        cells = [cell for cell in planned.cells if cell.target == target]
        assert {planned.candidates(cell) for cell in cells} == counts
        assert len({stages(planned, cell) for cell in cells}) == 1


def test_lengths_that_are_compared_cost_what_they_are(tmp_path):
    planned = plan(tmp_path, {"target.steps": [8, 16]})
    costs = Costs(planned)
    (short, *_), (long, *_) = (
        [cell for cell in planned.cells if cell.text("target.steps") == steps and cell.target == "world/topic"]
        for steps in ("8", "16")
    )
    assert costs._training(long, planned.recipes(long)[-1]) == 2 * costs._training(short, planned.recipes(short)[-1])


WSD = {"schedule": "wsd", "warmup": {"steps": 2}}


def test_lengths_of_a_phase_are_branches_of_one_trunk_and_those_of_volumes_are_others(tmp_path):
    axes = {"intermediate": ["none"], "target": ["world/topic"], "target.steps": [160, 40, 80]}
    planned = plan(tmp_path / "a", axes, target={**WSD, "decay": 0.2, "dev_examples": 1})
    costs, whole, parts = Costs(planned), {}, {}
    for chain in planned.planned_chains():
        steps = int(chain.cell.text("target.steps"))
        lengths = [phase.recipe.settings.steps for phase in chain.phases if phase.trunk]
        assert lengths == [length for length in (40, 80) if length <= steps]
        whole[steps] = costs.phase(chain.cell, chain.phases[-1].recipe)
        parts |= {key: cost for key, cost in costs.parts(chain).items() if key != chain.score}
    parts.pop(chain.phases[0].key)  # pretraining
    assert sum(parts.values()) == pytest.approx(whole[160] + 0.2 * (whole[40] + whole[80]), rel=0.01)
    volumes = {"volume": [100, 200], "intermediate": ["world/nli"]}
    by_volume = plan(tmp_path / "b", volumes, intermediate={**WSD, "steps": 8})
    by_length = plan(tmp_path / "c", {**volumes, "intermediate.steps": [8, 16]}, intermediate=WSD)
    assert not phases(by_volume, "trunk").keys() & phases(by_length, "trunk").keys()
    assert phases(by_volume, "intermediate").keys() <= phases(by_length, "intermediate").keys()


def test_every_value_is_tried_about_equally_often_whatever_the_budget_pays(tmp_path):
    axes = {DECAY: [0, 0.01, 0.1], CLIP: [0.5, 2], "target.schedule": ["linear", "constant"]}
    planned = plan(tmp_path, axes)
    cells = [planned.cells[index] for index in coverage_order(planned)]
    assert Counter(cells) == Counter(planned.cells)
    for part in ([cell for cell in cells if cell.baseline], [cell for cell in cells if not cell.baseline]):
        for path in axes:
            tried = Counter({cell.value(path): 0 for cell in part})
            for cell in part:
                tried[cell.value(path)] += 1
                assert max(tried.values()) - min(tried.values()) <= 1


def test_the_plan_names_the_axes(tmp_path):
    planned = plan(tmp_path, {DECAY: [0, 0.01]}, budget="1e18 flops")
    numbers = summary(planned, Costs(planned), Speed())
    assert numbers["cells"] == numbers["covered_by_budget"] == 12
    assert re.search(rf"{DECAY} +0, 0.01", plan_text(planned, numbers, Speed()))


def test_workers_train_every_phase_of_every_value_once(tmp_path):
    planned = plan(tmp_path, {DECAY: [0, 0.01], CLIP: [0.5, 2]}, target=GRID, tuning={"candidates": 3})
    lab = Lab(planned, tmp_path / "lab", 3).run()
    assert len(lab.admission.outcomes.done) == lab.admission.total
    assert set(lab.trained.values()) == {1}


# ---- previews --------------------------------------------------------------------------------------------------------


def test_values_that_a_short_phase_does_not_see_share_a_preview(tmp_path):
    axes = {DECAY: [0, 0.01], CLIP: [0.5, 2], "intermediate.steps": [4, 8], "intermediate.warmup": [0, 0.1]}
    short = short_plan(plan(tmp_path, axes))
    assert {path for cell in short.cells for path, _ in cell.settings} == {CLIP}
    assert len(short.cells) == len({chain.key for chain in previews(short)}) == 1 + 2 * 2


# ---- the ledger ------------------------------------------------------------------------------------------------------


def test_a_ledger_keeps_the_values_of_a_chain_and_takes_one_of_an_earlier_version(tmp_path):
    first = plan(tmp_path / "a", {})
    ledger = Ledger(tmp_path / "ledger.sqlite")
    chains = list(first.planned_chains())
    ledger.open_chain(row_of(chains[0], "running", 0.0))
    ledger._rows("alter table chains drop column settings")
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite")
    later = list(plan(tmp_path / "b", {DECAY: [0, 0.01], CLIP: [2]}).planned_chains())
    for chain in later:
        ledger.open_chain(row_of(chain, "running", 0.0))
    assert [row.cell for row in ledger.chains()] == [chain.cell for chain in (chains[0], *later)]


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "sections", "said"),
    [
        (
            {"target": ["world/retrieval"], DECAY: [0]}, {},
            [f"axes.{DECAY}: found an axis of the target phase, which no target", "a target with training data"],
        ),
        (
            {"target.evaluations": [2, 3]}, {"target": GRID, "tuning": {"candidates": 3, "halving": {"rungs": [0.5]}}},
            ["tuning.halving.rungs[0]: found 0.5", "no dev score"],
        ),
        (
            {"intermediate.sampling.ratios": [{"world/nli": 0.5}]}, {},
            ["axes.intermediate.sampling.ratios: found 'world/nli', which no phase mixes"],
        ),
        (
            {"intermediate.text.temperature": [1, 2]}, {},
            ["axes.intermediate.text.temperature: found settings of raw text", "a masked task"],
        ),
    ],
)  # fmt: skip
def test_what_a_value_needs_of_tasks_is_asked_for_each_of_them(axes, sections, said, tmp_path):
    with pytest.raises(StudyError) as raised:
        plan(tmp_path, axes, **sections)
    for fragment in said:
        assert fragment in str(raised.value)


def test_a_length_that_an_encoder_does_not_take_is_noted_with_its_axis(tmp_path):
    planned = plan(tmp_path, {"target.max_length": [64, 512]})
    assert any(flag.startswith("axes.target.max_length: 512 tokens, of which tiny takes 128") for flag in planned.flags)


def test_an_axis_may_stand_for_what_a_section_must_have(tmp_path):
    content = {
        "study": "small",
        "axes": {
            "encoder": ["world/tiny"], "intermediate": ["none"], "target": ["world/topic"], "seed": [1],
            "target.learning_rate": [1e-3, 1e-2], "target.batch_tokens": [256], "target.epochs": [1],
        },
        "target": {"clip": 1.0},
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    chains = list(plan_of(path).planned_chains())
    assert [chain.phases[-1].learning_rate for chain in chains] == [1e-3, 1e-2]
