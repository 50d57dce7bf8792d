"""Facts about the studies of volume against size and of number of tasks against compute, and their miniature twins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_studies import cut, plan_of, reported

from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.speed import Speed
from sweep.report import page
from sweep.report.figures import arm_styles, tradeoff

STUDIES = Path(__file__).parents[2] / "search_spaces"
TWINS = STUDIES / "miniature"


def planned(path):
    plan = plan_of(path)
    return plan, summary(plan, Costs(plan), Speed())


def test_volumes_of_the_real_study_share_their_trunks_and_save_two_thirds_of_the_work():
    plan, whole = planned(STUDIES / "volume_vs_size.yaml")
    assert whole["flops_unshared"] > 3 * whole["flops_shared"]
    for chain in plan.planned_chains():
        longer = sum(phase.trunk for phase in chain.phases)
        assert longer == {"-": 0, "10000": 1, "30000": 2, "100000": 3, "full": 3}[chain.cell.text("volume")]
    assert not any("volumes of" in flag for flag in plan.flags)


def test_chains_of_the_real_study_of_counts_train_with_the_same_flops_whatever_their_tasks():
    plan, whole = planned(STUDIES / "count_vs_budget.yaml")
    assert whole["flops_unshared"] > 2 * whole["flops_shared"]
    for chain in plan.planned_chains():
        spent = sum(p.recipe.flops for p in chain.phases if not p.trunk)
        assert spent == pytest.approx(chain.cell.chain_budget) or not chain.phases
    assert {len(cell.intermediate) for cell in plan.cells} == {0, 1, 2, 3, 5, 9}


@pytest.mark.parametrize("name", ["volume_vs_size", "count_vs_budget"])
def test_low_resource_languages_are_a_group_of_the_study_and_its_twin(name):
    for path in (STUDIES / f"{name}.yaml", TWINS / f"{name}.yaml"):
        assert plan_of(path).study.language_groups["low_resource"]


def drawn(found):
    figure = tradeoff(found.estimates.groups, arm_styles(found.estimates.cells))
    assert figure is not None
    return [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes]


def test_the_twin_of_volumes_runs_from_the_file_to_its_curves(tmp_path):
    axes = {"target": ["world/rte"], "seed": [0], "volume": [300, 600, "full"], "intermediate": ["none", "world/nli"]}
    found, done = reported(cut(TWINS / "volume_vs_size.yaml", tmp_path, axes), tmp_path)
    assert done == 2 * 4
    assert drawn(found) == [["300", "600", "full"]]
    assert {phase.kind for result in found.results for phase in result.phases} == {
        *("pretrain", "trunk", "intermediate", "target")
    }
    html = page.save(found, tmp_path).read_text(encoding="utf-8")
    assert "Mean score of the languages in the group low_resource" in html


def test_the_twin_of_budgets_runs_from_the_file_to_its_curves(tmp_path):
    axes = {
        "target": ["world/qa_small", "world/retrieval"],
        "seed": [0],
        "intermediate": ["none", ["world/nli", "world/qa"]],
    }
    path = cut(TWINS / "count_vs_budget.yaml", tmp_path, {**axes, "chain_budget": {"flops": [5e9, 1e10]}})
    content = json.loads(path.read_text())
    for kind in ("intermediate", "target"):
        del content[kind]["steps"]
    path.write_text(json.dumps(content))
    found, done = reported(path, tmp_path)
    assert done == 2 * 2 * 2
    assert drawn(found) == [["5e+09", "1e+10"]] * 2
    for result in found.results:
        training = sum(phase.flops for phase in result.phases if phase.kind != "pretrain")
        phases = [phase for phase in result.phases if phase.kind != "pretrain"]
        assert not phases or 0.7 * result.chain.cell.chain_budget < training < 1.3 * result.chain.cell.chain_budget
    assert "by volume or budget" in page.save(found, tmp_path).read_text(encoding="utf-8")
