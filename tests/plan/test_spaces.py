"""Facts about plans of studies that tune any number of a phase: points, shared phases, costs, and what is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_studies import plan_of, study_file

from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.order import plan_text, summary
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Phase, Point, nearest, quasi_random
from sweep.plan.speed import Speed

RATES = {"log": [1e-4, 1e-2], "points": 3}
DECAYS = {"choices": [0, 0.01, 0.1]}
THREE = {"learning_rate": RATES, "weight_decay": DECAYS, "clip": {"linear": [0.5, 2.5], "points": 5, "first": 1}}
WSD = {"schedule": "wsd", "warmup": {"steps": 2}, "decay": 0.2}
BOTH = {"intermediate": ["none", "world/nli"]}


def study(folder: Path, axes: dict[str, object] | None = None, **changes: object) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    return plan_of(study_file(folder, axes, **{"target": THREE, "tuning": {"candidates": 8}, **changes}))


def refusal(folder: Path, axes: dict[str, object] | None = None, **changes: object) -> str:
    with pytest.raises(StudyError) as failure:
        study(folder, axes, **changes)
    assert "\n" not in str(failure.value)
    return str(failure.value).replace(str(folder), "")


def candidates(plan: Plan, index: int = -1) -> list[Chain]:
    cell = plan.cells[index]
    return [plan.chain(cell, plan.planned(cell, number), 1, number) for number in range(plan.candidates(cell))]


def of_kind(chain: Chain, kind: str) -> list[Phase]:
    return [phase for phase in chain.phases if phase.kind == kind]


# Points


def test_a_learning_rate_has_the_name_of_its_phase_and_other_numbers_are_named_by_phase_and_key(tmp_path):
    (cell,) = study(tmp_path).cells
    assert study(tmp_path).grid(cell) == {
        "pretrain": (1e-3,),
        "target": (1e-4, 1e-3, 1e-2),
        "target.weight_decay": (0.0, 0.01, 0.1),
        "target.clip": (0.5, 1.0, 1.5, 2.0, 2.5),
    }


def test_start_up_points_begin_where_every_dimension_does_and_fill_the_space(tmp_path):
    plan = study(tmp_path)
    points = [chain.hyperparameters for chain in candidates(plan)]
    assert points[0] == {"pretrain": 1e-3, "target": 1e-3, "target.weight_decay": 0.01, "target.clip": 1.0}
    assert len({tuple(point.items()) for point in points}) == 8
    for name, values in plan.grid(plan.cells[0]).items():
        assert {point[name] for point in points} >= {values[0], values[-1]}
    few = study(tmp_path / "few", tuning={"candidates": 5})
    assert [chain.key for chain in candidates(few)] == [chain.key for chain in candidates(plan)[:5]]


def test_quasi_random_points_come_to_every_point_of_a_grid_once():
    points = quasi_random((3, 2, 1, 5), 100, (1, 0, 0, 2))
    assert points[0] == (1, 0, 0, 2)
    assert sorted(points) == list(itertools.product(range(3), range(2), range(1), range(5)))


def test_the_nearest_point_is_that_of_the_whole_grid():
    drawn = random.Random(0)
    for _ in range(200):
        sizes = [drawn.randint(1, 4) for _ in range(drawn.randint(1, 4))]
        grid = list(itertools.product(*map(range, sizes)))
        goal, tried = drawn.choice(grid), drawn.sample(grid, drawn.randrange(len(grid)))
        last = drawn.randint(0, len(sizes))
        assert nearest(sizes, goal, tried, last) == min(
            (point for point in grid if point not in tried), key=lambda point: distance(point, goal, last)
        )


def distance(point: Point, goal: Point, last: int) -> tuple[int, int]:
    def square(pairs: Sequence[tuple[int, int]]) -> int:
        return sum((one - other) ** 2 for one, other in pairs)

    pairs = list(zip(point, goal, strict=True))
    return square(pairs[: len(pairs) - last]), square(pairs[len(pairs) - last :])


def test_a_space_of_ten_to_the_thirtieth_points_is_planned_at_once():
    points = quasi_random((1000,) * 10, 16, (499,) * 10)
    assert len(set(points)) == 16


def test_a_number_that_says_nothing_in_a_phase_is_no_dimension_of_its_cell(tmp_path):
    sampling = {"by": "temperature", "temperature": {"choices": [1, 2, 5]}}
    axes = {"intermediate": ["none", "world/nli", ["world/nli", "world/pos"]]}
    plan = study(tmp_path, axes, intermediate={"sampling": sampling})
    tuned = {cell.label: "intermediate.sampling.temperature" in plan.grid(cell) for cell in plan.cells}
    assert tuned == {"none": False, "world/nli": False, "world/nli+world/pos": True}
    (flag,) = (flag for flag in plan.flags if flag.startswith("unequal tuning"))
    assert flag.endswith("intermediate phases have different search spaces, as those on world/nli and on"
                         " world/nli+world/pos")  # fmt: skip


# Shared phases


def test_candidates_that_differ_in_their_target_phase_alone_share_the_phases_before_it(tmp_path):
    plan = study(tmp_path, BOTH)
    chains = candidates(plan)
    assert len({chain.phases[-1].key for chain in chains}) == len(chains) == 8
    assert {len(of_kind(chain, "intermediate")) for chain in chains} == {1}
    assert len({phase.key for chain in chains for phase in of_kind(chain, "intermediate")}) == 1


def test_a_point_is_the_phase_of_a_study_with_these_numbers(tmp_path):
    plan = study(tmp_path)
    chain = candidates(plan)[-1]
    point = chain.hyperparameters
    fixed = {"learning_rate": point["target"], "weight_decay": point["target.weight_decay"]}
    alone = study(tmp_path / "alone", target={**fixed, "clip": point["target.clip"]}, tuning={"candidates": 1})
    (same,) = candidates(alone)
    assert [phase.key for phase in chain.phases] == [phase.key for phase in same.phases]
    assert chain.score == same.score


@pytest.mark.parametrize("kind", ["intermediate", "target", "pretrain"])
def test_a_tuned_length_is_a_branch_of_one_trunk(kind, tmp_path):
    settings = {**WSD, "steps": {"choices": [10, 20, 40]}, "learning_rate": 1e-3, "dev_examples": 1, "evaluations": 1}
    plan = study(tmp_path, BOTH, **{"target": {}, kind: settings})
    short, middle, long = sorted(candidates(plan), key=lambda chain: chain.hyperparameters[f"{kind}.steps"])
    assert [len(of_kind(chain, "trunk")) for chain in (short, middle, long)] == [1, 2, 2]
    assert of_kind(short, "trunk") == of_kind(long, "trunk")[:1]
    assert of_kind(middle, "trunk") == of_kind(long, "trunk")
    assert all(phase.same_data for phase in of_kind(long, "trunk"))
    costs, paid, whole = Costs(plan), dict[str, float](), list[float]()
    for chain in (short, middle, long):
        parts, (branch,) = costs.parts(chain), of_kind(chain, kind)
        own = {phase.key: parts[phase.key] for phase in (*of_kind(chain, "trunk"), branch)}
        whole.append(costs.phase(chain.cell, branch.recipe))
        assert sum(own.values()) == pytest.approx(whole[-1])
        paid |= own
    assert sum(paid.values()) == pytest.approx(whole[2] + 0.2 * (whole[0] + whole[1]), rel=0.01)


# Costs


def test_a_candidate_costs_what_its_own_numbers_cost(tmp_path):
    target = {"steps": None, "epochs": {"choices": [1, 4]}, "dev_examples": 1, "evaluations": 1}
    one, four = prices(study(tmp_path / "epochs", target=target))
    assert four == pytest.approx(4 * one, rel=0.01)
    batches = {"batch_tokens": {"choices": [256, 1024]}, "dev_examples": 1, "evaluations": 1}
    small, large = prices(study(tmp_path / "batches", target={**batches, "steps": 8}))
    assert large > 3.5 * small
    small, large = prices(study(tmp_path / "passes", target={**batches, "steps": None, "epochs": 1}))
    assert large == pytest.approx(small, rel=0.01)


def prices(plan: Plan) -> list[float]:
    """FLOPs of the target phases of the only cell's candidates, in the order of their points."""
    costs, chains = Costs(plan), sorted(candidates(plan), key=lambda chain: tuple(chain.hyperparameters.items()))
    return [costs.parts(chain)[chain.phases[-1].key] for chain in chains]


def test_candidates_that_dev_scores_will_choose_are_planned_as_points_that_fill_the_space(tmp_path):
    """In the mean they cost what a point of the grid costs."""
    lengths = {"linear": [1, 9], "points": 9}
    target = {**THREE, "steps": None, "epochs": lengths, "dev_examples": 1, "evaluations": 1}
    plan = study(tmp_path, target=target, tuning={"candidates": 64, "startup": 4})
    cell = plan.cells[0]
    planned = [plan.planned(cell, number)["target.epochs"] for number in range(64)]
    assert sum(planned) / len(planned) == pytest.approx(5, abs=0.3)


def test_a_plan_says_what_is_tuned_in_which_values(tmp_path):
    plan = study(tmp_path)
    numbers, speed = summary(plan, Costs(plan), Speed()), Speed()
    assert numbers["tuned"] == {
        "target": [1e-4, 1e-3, 1e-2],
        "target.weight_decay": [0.0, 0.01, 0.1],
        "target.clip": [0.5, 1.0, 1.5, 2.0, 2.5],
    }
    assert "tuned: target.weight_decay in 0, 0.01, 0.1" in plan_text(plan, numbers, speed).splitlines()


# What is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": {"choices": [8, 16]}}, "target.steps with a search space"),
        ({"steps": None, "epochs": {"choices": [1, 2]}}, "target.epochs with a search space"),
        ({"batch_tokens": {"choices": [256, 512]}}, "target.batch_tokens with a search space"),
    ],
)
def test_halving_compares_no_candidates_that_have_not_trained_equally_much(settings, said, tmp_path):
    tuning = {"candidates": 2, "halving": {"rungs": [0.5]}}
    line = refusal(tmp_path, target=settings, tuning=tuning)
    assert line.startswith(f"/study.yaml: tuning.halving: found {said}: at a rung its candidates have not trained")


def test_halving_compares_candidates_of_unequal_batches_that_see_the_same_data(tmp_path):
    target = {"steps": None, "epochs": 1, "batch_tokens": {"choices": [256, 512]}}
    plan = study(tmp_path, target=target, tuning={"candidates": 2, "halving": {"rungs": [0.5]}})
    assert plan.candidates(plan.cells[0]) == 2


def test_a_chain_budget_leaves_no_length_to_tune(tmp_path):
    budget = {"chain_budget": {"flops": [1e12]}}
    line = refusal(tmp_path, budget, target={"steps": {"choices": [8, 16]}}, intermediate={"steps": None})
    assert "target.steps: found a length; axes.chain_budget says how long this phase is" in line


def test_a_chain_budget_pays_a_step_of_the_largest_batch(tmp_path):
    batches = {"steps": None, "batch_tokens": {"choices": [256, 65536]}}
    budget = {"chain_budget": {"flops": [3e9]}}
    assert "axes.chain_budget.flops[0]" in refusal(tmp_path, budget, target=batches, intermediate={"steps": None})
    study(tmp_path, budget, target={"steps": None, "batch_tokens": 256}, intermediate={"steps": None})


@pytest.mark.parametrize(
    ("phase", "settings"),
    [
        ("target", {"decay": {"choices": [0.1, 0.2]}}),
        ("target", {"sampling": {"temperature": {"choices": [1, 2]}}}),
        ("intermediate", {"weight_decay": DECAYS}),
    ],
    ids=["decay without wsd", "sampling of one task", "a phase that is not trained"],
)
def test_a_space_that_no_phase_depends_on_is_refused(phase, settings, tmp_path):
    key, inner = next(iter(settings.items()))
    place = f"{phase}.{key}" if "choices" in inner else f"{phase}.{key}.temperature"
    line = refusal(tmp_path, **{phase: settings})
    assert line.startswith(f"/study.yaml: {place}: found a search space, though no {phase} phase")


def test_a_grid_of_learning_rates_may_wait_for_an_axis_that_needs_it(tmp_path):
    assert study(tmp_path, intermediate={"learning_rate": RATES}).cells


def test_an_axis_and_a_space_of_the_same_number_are_one_too_many(tmp_path):
    line = refusal(tmp_path, {"target.weight_decay": [0, 0.1]})
    assert "axes.target.weight_decay: found an axis of what target.weight_decay tunes" in line


def test_an_axis_of_one_number_leaves_the_spaces_of_others(tmp_path):
    plan = study(tmp_path, {"target.dropout": [0, 0.1]})
    assert [list(plan.grid(cell)) for cell in plan.cells] == [
        ["pretrain", "target", "target.weight_decay", "target.clip"]
    ] * 2
    assert not [flag for flag in plan.flags if flag.startswith("unequal")]
