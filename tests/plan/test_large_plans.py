"""Facts about plans of the largest studies that a lab would write: they can be made, counted and ordered."""

from __future__ import annotations

from small_studies import plan_of, study_file

from sweep.plan.cost import Costs
from sweep.plan.order import coverage_order, summary
from sweep.plan.speed import Speed

AXES = {
    "intermediate": ["none", "world/nli", "world/pos", ["world/nli", "world/pos"]],
    "target": ["world/topic", "world/ner", "world/retrieval"],
}


def test_a_hundred_thousand_chains_can_be_planned(tmp_path):
    axes = {**AXES, "volume": list(range(100, 350)), "seed": list(range(45))}
    plan = plan_of(study_file(tmp_path, axes))
    assert summary(plan, Costs(plan), Speed())["chains"] == (1 + 3 * 250) * 3 * 45


def test_ten_thousand_cells_can_be_planned_and_ordered(tmp_path):
    axes = {**AXES, "volume": list(range(100, 1211)), "seed": [1]}
    plan = plan_of(study_file(tmp_path, axes, budget="1e12 flops"))
    assert summary(plan, Costs(plan), Speed())["chains"] == len(set(coverage_order(plan))) == 3 + 1111 * 9
