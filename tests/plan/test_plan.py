"""Facts about the plan: keys, shared phases, candidates, order, cost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from small_studies import TINY, plan_of, study_file

from sweep.data import Size
from sweep.plan.cost import Costs
from sweep.plan.order import Coverage, coverage_order, summary
from sweep.plan.recipe import spread
from sweep.plan.speed import Speed

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
WIDE = {
    "intermediate": ["none", "world/nli", "world/pos", ["world/nli", "world/pos"]],
    "target": ["world/topic", "world/ner", "world/retrieval"],
    "seed": [1, 2, 3],
}
TUNED = {"learning_rate": {"log": [1e-4, 1e-2], "points": 3}}


def only_chain(folder: Path, axes: dict[str, object] | None = None, **changes: object):
    folder.mkdir(exist_ok=True)
    one = {"intermediate": ["world/nli"], **(axes or {})}
    return next(iter(plan_of(study_file(folder, one, **changes)).planned_chains()))


def keys(chain) -> tuple[str, ...]:
    return tuple(phase.key for phase in chain.phases)


def test_a_phase_names_its_parent(tmp_path):
    pretrain, intermediate, target = only_chain(tmp_path).phases
    assert (pretrain.parent, intermediate.parent, target.parent) == (None, pretrain.key, intermediate.key)


@pytest.mark.parametrize(
    ("axes", "changes", "first_changed"),
    [
        ({"seed": [7]}, {}, 0),
        ({}, {"pretrain": {"steps": 21}}, 0),
        ({"volume": [100]}, {}, 1),
        ({}, {"intermediate": {"learning_rate": 2e-3}}, 1),
        ({}, {"intermediate": {"warmup": 0.2}}, 1),
        ({}, {"target": {"dropout": 0.3}}, 2),
        ({"target": ["world/rte"]}, {}, 2),
    ],
)
def test_what_changes_weights_changes_the_keys_from_that_phase_on(axes, changes, first_changed, tmp_path):
    before, after = keys(only_chain(tmp_path / "a")), keys(only_chain(tmp_path / "b", axes, **changes))
    assert before[:first_changed] == after[:first_changed]
    assert all(one != other for one, other in zip(before[first_changed:], after[first_changed:], strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": {"cores": 2, "checkpoint_seconds": 5.0}},
        {"budget": "9 device-hours"},
        {"results": "elsewhere"},
        {"tracking": "http://localhost:1"},
        {"study": "other"},
    ],
)
def test_where_and_how_it_runs_changes_no_key(changes, tmp_path):
    before, after = only_chain(tmp_path / "a"), only_chain(tmp_path / "b", **changes)
    assert (keys(before), before.score) == (keys(after), after.score)


def test_how_scores_are_taken_changes_scores_and_no_phase(tmp_path):
    before, after = only_chain(tmp_path / "a"), only_chain(tmp_path / "b", scoring={"examples": 7})
    assert keys(before) == keys(after)
    assert before.score != after.score


def test_how_answers_are_compared_changes_scores_and_no_phase(tmp_path):
    question = '{"id": "1", "context": "a", "question": "b?", "answers": {"text": ["a"], "answer_start": [0]}}\n'
    for name in ("qa", "test"):
        (tmp_path / f"{name}.jsonl").write_text(question * 9)
    task = {"family": "span", "format": "jsonl", "languages": ["en"]}
    files = {"train": "qa.jsonl", "dev": 0.5, "test": "test.jsonl"}
    made = [
        plan_of(study_file(tmp_path, {"target": ["qa"]}, tasks={"qa": task | files | {"normaliser": name}}))
        for name in ("squad", "mlqa")
    ]
    before, after = (next(plan.planned_chains()) for plan in made)
    assert keys(before) == keys(after)
    assert before.score != after.score


OWN = {
    "text": {"family": "masked", "format": "lines", "languages": ["en"], "train": "text.txt", "dev": 0.5},
    "topics": {
        "family": "sequence",
        "format": "tsv",
        "columns": {"text": "text", "label": "topic"},
        "labels": ["sport", "travel"],
        "languages": ["en", "sw"],
        "train": "en.tsv",
        "dev": 0.5,
        "test": "{language}.tsv",
    },
}


GOLDEN = (
    "b1a743d7bd8b5f5b45827b9f10e4c3c5",  # pretrain
    "0771e5a8984839c837cfa3e26d495121",  # intermediate
    "95df8f794bd083157a934dc1a08718e2",  # target
    "2878c526302ee07df6cd88e8bff2112f",  # score
)


def chain_on_own_data(folder: Path, **files: str):
    """A chain on files of its own, so that its keys depend on nothing but what stands here."""
    folder.mkdir(exist_ok=True)
    rows = "text\ttopic\na game\tsport\na ship\ttravel\n"
    for name, content in {"text.txt": "a game\na ship\n", "en.tsv": rows, "sw.tsv": rows, **files}.items():
        (folder / name).write_text(content)
    tiny = {**TINY, "tokenizer": {**TINY["tokenizer"], "text": "text"}}
    axes = {"intermediate": [["topics", "text"]], "target": ["topics"]}
    path = study_file(folder, axes, tasks=OWN, encoders={"tiny": tiny}, pretrain={"task": "text"})
    return next(iter(plan_of(path).planned_chains()))


def test_keys_are_those_of_all_earlier_stores(tmp_path):
    """Where this fails, finished work of users would be done anew: is that meant? Then pin what it says now."""
    chain = chain_on_own_data(tmp_path)
    assert (*keys(chain), chain.score) == GOLDEN


@pytest.mark.parametrize(
    ("files", "first_changed"),
    [
        ({"text.txt": "a game\na shop\n"}, 0),
        ({"en.tsv": "text\ttopic\na game\tsport\na shop\ttravel\n"}, 1),
        ({"sw.tsv": "text\ttopic\nmeli\ttravel\n"}, 3),
    ],
)
def test_other_data_changes_the_keys_from_the_phase_on_that_reads_it(files, first_changed, tmp_path):
    before, after = chain_on_own_data(tmp_path / "a"), chain_on_own_data(tmp_path / "b", **files)
    same = [one == other for one, other in zip((*keys(before), before.score), (*keys(after), after.score), strict=True)]
    assert same == [index < first_changed for index in range(4)]


def test_volumes_have_phases_of_their_own(tmp_path):
    plan = plan_of(study_file(tmp_path, {"intermediate": ["world/nli"], "volume": [100, 200, "full"]}))
    assert len({chain.phases[1].key for chain in plan.planned_chains()}) == 3


def test_chains_of_one_prefix_share_it(tmp_path):
    found = summary(plan := plan_of(study_file(tmp_path, WIDE)), Costs(plan), Speed())
    # 3 pretrain, 3 x 3 intermediate, and 4 x 2 x 3 target phases: retrieval has none
    assert (found["cells"], found["chains"], found["phases_distinct"]) == (12, 36, 3 + 9 + 24)
    assert found["phases_unshared"] == 36 + 27 + 24
    assert found["flops_shared"] < found["flops_unshared"]


def test_a_cell_has_its_candidates_once_and_its_winner_with_the_other_seeds(tmp_path):
    axes = {"intermediate": ["world/nli"], "seed": [1, 2, 3]}
    plan = plan_of(study_file(tmp_path, axes, target=TUNED, tuning={"candidates": 2}))
    roles = Counter((chain.role, chain.seed) for chain in plan.planned_chains())
    assert roles == {("candidate", 1): 2, ("replica", 2): 1, ("replica", 3): 1}


def test_a_cell_without_a_choice_has_one_candidate(tmp_path):
    plan = plan_of(study_file(tmp_path, {"target": ["world/retrieval"]}, target=TUNED, tuning={"candidates": 9}))
    assert [plan.candidates(cell) for cell in plan.cells] == [1]


@pytest.mark.parametrize("sizes", [(3,), (5, 5), (1, 4, 2)])
def test_points_of_which_nothing_is_known_begin_where_they_are_told_and_repeat_none(sizes):
    middle = tuple((size - 1) // 2 for size in sizes)
    points = spread(sizes, 100, middle)
    assert points[0] == middle
    assert len(set(points)) == len(points) == math.prod(sizes)
    assert all(spread(sizes, count, middle) == points[:count] for count in range(1, len(points)))


MANY = {"a": TINY, "b": {**TINY, "pooling": "cls"}}


@pytest.mark.parametrize("volume", [["full"], [100, 200], [100, 200, 300, 400]])
def test_baselines_come_first_and_every_axis_is_tried_evenly_at_any_time(volume, tmp_path):
    plan = plan_of(study_file(tmp_path, {**WIDE, "encoder": ["a", "b"], "volume": volume}, encoders=MANY))
    order = coverage_order(plan)
    assert sorted(order) == list(range(len(plan.cells)))
    cells = [plan.cells[index] for index in order]
    baselines = sum(not cell.intermediate for cell in cells)
    assert all(not cell.intermediate for cell in cells[:baselines])
    for part in (cells[:baselines], cells[baselines:]):
        for axis in ("encoder", "intermediate", "target", "volume"):
            tried = dict.fromkeys((getattr(cell, axis) for cell in part), 0)
            for cell in part:
                tried[getattr(cell, axis)] += 1
                assert max(tried.values()) - min(tried.values()) <= 1


def firsts(plan):
    """Cells in the order in which they are tried, and what each one's first chain needs."""
    found = Coverage(plan, Costs(plan))
    return [plan.cells[index] for index in found.order], [found.firsts[index] for index in found.order]


def test_equally_covered_cells_are_tried_by_what_they_add(tmp_path):
    plan = plan_of(study_file(tmp_path, {**WIDE, "intermediate": ["none"], "seed": [1]}))
    done, added = set(), []
    for parts in firsts(plan)[1]:
        added.append(sum(flops for key, flops in parts.items() if key not in done))
        done.update(parts)
    # The first pays for pretraining too.
    assert added[1:] == sorted(added[1:])
    assert sum(firsts(plan)[1][0].values()) == min(sum(parts.values()) for parts in firsts(plan)[1])


def test_a_cell_whose_phases_are_paid_comes_before_cheaper_ones(tmp_path):
    """Two targets on the same data: the second one costs no more than its scores."""
    for name in ("qa", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": "1", "context": "a", "question": "b?", "answers": []}\n' * 2000)
    files = {"train": "qa.jsonl", "dev": 0.5, "test": "test.jsonl"}
    qa = {"family": "span", "format": "jsonl", "languages": ["en"], **files}
    axes = {"target": ["one", "world/topic", "two"]}
    told = {"tasks": {"one": qa, "two": qa}, "target": {"overrides": {"world/topic": {"steps": 9}}}}
    assert [cell.target for cell in firsts(plan_of(study_file(tmp_path, axes, **told)))[0]] in (
        ["one", "two", "world/topic"],
        ["world/topic", "one", "two"],
    )


def test_the_order_is_that_of_the_plan_whatever_was_measured(tmp_path):
    plan = plan_of(study_file(tmp_path, WIDE))
    measured = {(name, "train", "pivot"): Size(10 ** (9 - index), 50.0) for index, name in enumerate(plan.tasks)}
    assert Coverage(plan, Costs(plan, measured)).order == Coverage(plan, Costs(plan)).order == coverage_order(plan)


def test_what_is_free_before_the_target_phase_limits_what_sharing_saves(tmp_path):
    found = summary(plan := plan_of(study_file(tmp_path, WIDE)), Costs(plan), Speed())
    costs, last = Costs(plan), {}
    for chain in plan.planned_chains():
        parts = costs.parts(chain)
        own = [phase.key for phase in chain.phases if phase.kind == "target"]
        last.update({key: parts[key] for key in [*own, chain.score]})
    assert found["flops_last"] == pytest.approx(sum(last.values()))
    assert found["flops_last"] < found["flops_shared"]


def test_a_budget_covers_the_cheapest_part_that_it_can_pay(tmp_path):
    everything = plan_of(study_file(tmp_path, WIDE))
    cost = summary(everything, Costs(everything), Speed())["flops_shared"]
    part = plan_of(study_file(tmp_path, WIDE, budget=f"{cost / 10:.0f} flops"))
    assert 0 < summary(part, Costs(part), Speed())["covered_by_budget"] < len(part.cells)
    assert summary(everything, Costs(everything), Speed())["covered_by_budget"] == len(everything.cells)


def test_scoring_fewer_examples_costs_less(tmp_path):
    costs = []
    for examples in (10, 100):
        plan = plan_of(study_file(tmp_path, scoring={"examples": examples}))
        costs.append(Costs(plan).score(plan.cells[0]))
    assert costs[0] == pytest.approx(costs[1] / 10)


def test_plan_as_json_has_the_promised_keys_and_needs_nothing_heavy(tmp_path):
    path = study_file(tmp_path, WIDE)
    code = (
        "import sys; from sweep.cli import main; status = main(['plan', sys.argv[1], '--json']);"
        "heavy = {'torch', 'ray', 'mlflow', 'transformers', 'datasets', 'pandas', 'optuna'} & set(sys.modules);"
        "sys.exit(status or (3 if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == {
        *("study", "encoders", "cells", "chains", "phases_unshared", "phases_distinct", "flops_unshared"),
        "flops_shared",
        *("covered_by_budget", "flops_last", "flops_planned", "least_budget", "cells_tuned_by_scores", "flags"),
        *("tuned", "device_time"),
    }  # fmt: skip


def test_the_demos_budget_is_the_same_on_every_machine_and_pays_for_all_of_it():
    found = summary(plan := plan_of(QUICKSTART), Costs(plan), Speed())
    assert plan.study.budget is not None
    assert plan.study.budget.unit == "flops"
    assert found["covered_by_budget"] == found["cells"]
    assert plan.study.budget.amount > 2 * found["flops_shared"]  # phases that collapse are tried again
