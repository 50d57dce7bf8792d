"""Facts about what candidates of a cell begin from: published rates, and what was best in cells before it. No Ray."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from instant_workers import Lab
from small_studies import plan_of, reported, study_file, with_data_of

from sweep.config.axes import Cell
from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.halving import stages
from sweep.plan.order import coverage_order, summary, warm_starts
from sweep.plan.plan import Plan
from sweep.plan.speed import Speed
from sweep.report.results import tuning_frame, write_scores
from sweep.report.tables import tuning_table
from sweep.run.cleanup import collect
from sweep.run.tracking import parameters
from sweep.search.suggestions import CandidateResult, suggest
from sweep.search.tournament import Tournament, proposal
from sweep.store.artifacts import Store

GRID = {"learning_rate": {"log": [1e-4, 1e-2], "points": 4}}
AXES = {
    "intermediate": ["none", "world/nli", "world/pos"],
    "target": ["world/topic", "world/ner", "world/rte"],
    "seed": [1],
}
BOTH_TUNED = {"intermediate": GRID, "target": GRID, "tuning": {"candidates": 6, "startup": 4}}
HALVED = {
    "target": {**GRID, "evaluations": 4},
    "tuning": {"candidates": 6, "startup": 4, "halving": {"rungs": [0.5]}},
    "scoring": {"chains": "winners"},
}


def tuned(folder: Path, axes: Mapping[str, object] | None = None, **changes: object) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    return plan_of(study_file(folder, {**AXES, **(axes or {})}, **{**BOTH_TUNED, **changes}))


def names(plan: Plan) -> dict[tuple[str, str], dict[str, tuple[str, str]]]:
    """(intermediate, target) of a cell -> of its warm starts."""
    found = warm_starts(plan, coverage_order(plan))

    def name(index: int) -> tuple[str, str]:
        return plan.cells[index].label, plan.cells[index].target

    return {name(index): {kind: name(other) for kind, other in known.items()} for index, known in found.items()}


def proposed(lab: Lab) -> dict[tuple[str, int], tuple[tuple[str, float], ...]]:
    """Hyperparameters of all candidates that were made, by cell and number."""
    return {
        (state.cell.name, number): tuple(chain.hyperparameters.items())
        for state in lab.admission.cells
        for number, chain in state.started.items()
    }


class Disorder(Lab):
    """Workers that are through in any order."""

    def __init__(self, plan: Plan, folder: Path, workers: int, seed: int) -> None:
        super().__init__(plan, folder, workers)
        self.random = random.Random(seed)

    def run(self, chains: int = 10**6) -> Lab:
        while chains:
            self.fill()
            if not self.busy:
                break
            self.finish(self.busy.pop(self.random.randrange(len(self.busy))))
            chains -= 1
        return self


# Who follows whom


def test_a_cell_takes_the_targets_rate_from_the_baseline_and_the_intermediates_from_the_first_target(tmp_path):
    plan = tuned(tmp_path)
    found = names(plan)
    first: dict[str, str] = {}
    for index in coverage_order(plan):
        first.setdefault(plan.cells[index].label, plan.cells[index].target)
    for (intermediate, target), known in found.items():
        if intermediate == "none":
            assert known == {}
        elif target == first[intermediate]:
            assert known == {"target": ("none", target)}
        else:
            assert known == {"target": ("none", target), "intermediate": (intermediate, first[intermediate])}


def test_warm_starts_come_earlier_in_the_order_and_train_the_same_phase_whatever_the_axes(tmp_path):
    encoder = plan_of(study_file(tmp_path)).study.encoders["tiny"].model_dump(exclude_unset=True)
    axes = {"encoder": ["tiny", "other"], "volume": [100, 200, "full"], "source": ["own"]}
    plan = tuned(tmp_path, axes, encoders={"tiny": encoder, "other": {**encoder, "pooling": "cls"}})
    order = coverage_order(plan)
    found = warm_starts(plan, order)
    assert sum(map(len, found.values())) > len(order)
    for place, index in enumerate(order):
        for kind, other in found[index].items():
            assert other in order[:place]
            phases = [
                {recipe.kind: recipe.digest for recipe in plan.recipes(plan.cells[one])} for one in (index, other)
            ]
            assert phases[0][kind] == phases[1][kind]
            assert plan.cells[index].encoder == plan.cells[other].encoder


@pytest.mark.parametrize("candidates", [1, 16])
def test_a_cell_without_a_choice_follows_nobody(candidates, tmp_path):
    plan = tuned(tmp_path, tuning={"candidates": candidates, "startup": 4})
    assert not any(names(plan).values())


def test_a_cell_that_is_judged_by_its_intermediate_phase_says_nothing_to_those_judged_by_a_target(tmp_path):
    found = names(tuned(tmp_path, {"target": ["world/retrieval", "world/topic", "world/ner"]}))
    followed = {other for known in found.values() for other in known.values()}
    assert followed
    assert not any("world/retrieval" in other for other in followed)


def test_cells_that_share_their_phases_follow_the_same_cells_and_try_the_same_rates(tmp_path):
    target = {**GRID, "steps": 8}
    plan = tuned(tmp_path, {"target": ["world/topic", "xquad", "mlqa"]}, target=target)
    lab = Lab(plan, tmp_path, workers=3).run()
    rates = proposed(lab)
    pairs = [(cell, number) for cell, number in rates if "xquad" in cell]
    assert len(pairs) == 4 + 2 * 6
    assert all(rates[cell, number] == rates[cell.replace("xquad", "mlqa"), number] for cell, number in pairs)


def test_grids_that_differ_have_nothing_to_say_to_each_other(tmp_path):
    other = {"learning_rate": {"log": [1e-4, 1e-2], "points": 5}}
    plan = tuned(tmp_path, {"target": ["xquad", "mlqa"]}, target={**GRID, "overrides": {"mlqa": other}})
    for (_, target), known in names(plan).items():
        assert all(found[1] == target for kind, found in known.items() if kind == "target")


# What is proposed


def full_cell(plan: Plan) -> Cell:
    return next(cell for cell in plan.cells if cell.intermediate)


def start_up(plan: Plan, cell: Cell, known: Mapping[str, float]) -> list[tuple[int, int]]:
    """Indices of the rates, intermediate and target, of a cell's start-up points."""
    rates, tried = plan.grid(cell)["target"], list[CandidateResult]()
    for number in range(plan.startup(cell)):
        tried.append(CandidateResult(suggest(plan, cell, number, tried, known), None))
    return [
        (rates.index(one.hyperparameters["intermediate"]), rates.index(one.hyperparameters["target"])) for one in tried
    ]


def test_the_last_start_up_point_is_what_was_best_for_the_warm_starts_and_the_others_are_fixed(tmp_path):
    plan = tuned(tmp_path)
    cell = full_cell(plan)
    rates = plan.grid(cell)["target"]
    assert start_up(plan, cell, {}) == [(1, 1), (3, 3), (0, 3), (3, 0)]
    assert start_up(plan, cell, {"intermediate": rates[2], "target": rates[1]}) == [(1, 1), (3, 3), (0, 3), (2, 1)]
    assert start_up(plan, cell, {"target": rates[2]}) == [(1, 1), (3, 3), (0, 3), (3, 2)]


def test_where_that_was_tried_another_rate_of_the_last_phase_is_taken_first(tmp_path):
    plan = tuned(tmp_path, tuning={"candidates": 15, "startup": 9})
    cell = full_cell(plan)
    rates = plan.grid(cell)["target"]
    known = {"intermediate": rates[1], "target": rates[1]}
    *fixed, last = start_up(plan, cell, known)
    assert (1, 1) in fixed
    assert last[0] == 1
    assert last not in fixed


def test_start_up_points_train_no_intermediate_phase_that_was_not_planned(tmp_path):
    plan = tuned(tmp_path, tuning={"candidates": 4, "startup": 4})
    planned = {phase.key for chain in plan.planned_chains() for phase in chain.phases if phase.kind == "intermediate"}
    lab = Lab(plan, tmp_path, workers=2).run()
    trained = [phase for chain in lab.started for phase in chain.phases if phase.kind == "intermediate"]
    assert {phase.key for phase in trained} <= planned
    assert lab.ledger.spent()[0] <= float(summary(plan, Costs(plan), Speed())["flops_shared"]) * 1.000001


def test_every_cell_tries_as_many_points_as_every_other_and_none_twice(tmp_path):
    plan = tuned(tmp_path)
    rates = proposed(Lab(plan, tmp_path, workers=4).run())
    for cell in plan.cells:
        own = [found for (name, _), found in rates.items() if name == cell.name]
        assert len(own) == len(set(own)) == plan.candidates(cell) == (6 if cell.intermediate else 4)


def test_a_candidate_takes_up_the_best_of_its_warm_starts_candidates_up_to_its_own_number(tmp_path):
    """What is finished beyond that depends on the clock."""
    plan = tuned(tmp_path, tuning={"candidates": 6, "startup": 2})
    index, known = next((i, known) for i, known in warm_starts(plan, coverage_order(plan)).items() if known)
    cells = [Tournament(cell, plan.candidates(cell), plan.startup(cell), stages(plan, cell)) for cell in plan.cells]
    state, other = cells[index], cells[known["target"]]
    low, *_, high = plan.grid(other.cell)["target"]
    first = proposal(plan, cells, known, state, 0)
    assert first is not None
    state.started[0] = plan.chain(state.cell, first, 1)
    for number, (rate, dev) in enumerate([(low, 0.2), (high, 0.1), (high, 0.9)]):
        assert (proposal(plan, cells, known, state, 1) is None) == (number < 2)
        list(other.record(0, number, CandidateResult({"pretrain": 1e-3, "target": rate}, dev)))
    second = proposal(plan, cells, known, state, 1)
    assert second is not None
    assert second["target"] == low


SOME = {"tuning": {"candidates": 4, "startup": 4}}


@pytest.mark.parametrize("changes", [{}, SOME, HALVED], ids=["with Optuna", "start-up alone", "halved"])
def test_one_worker_and_forty_that_end_in_any_order_propose_the_same(changes, tmp_path):
    plan = tuned(tmp_path, **changes)
    one = Lab(plan, tmp_path / "one").run()
    for seed in range(3):
        many = Disorder(plan, tmp_path / str(seed), workers=40, seed=seed).run()
        assert proposed(many) == proposed(one)
        assert many.winners() == one.winners()
        assert {chain.key for chain in many.admission.outcomes.done} == {
            chain.key for chain in one.admission.outcomes.done
        }


@pytest.mark.parametrize("chains", [1, 11, 23, 35])
def test_a_killed_and_resumed_study_proposes_what_an_undisturbed_one_does(chains, tmp_path):
    plan = tuned(tmp_path)
    whole = Lab(plan, tmp_path / "whole").run()
    Disorder(plan, tmp_path / "part", workers=3, seed=chains).run(chains)
    again = Lab(plan, tmp_path / "part", workers=2).run()
    assert proposed(again) == proposed(whole)
    assert again.winners() == whole.winners()


def test_with_one_worker_no_cell_is_two_candidates_ahead_of_another(tmp_path):
    plan = tuned(tmp_path)
    numbers = [chain.candidate for chain in Lab(plan, tmp_path).run().started]
    assert numbers == sorted(numbers)


def test_a_whole_grid_is_known_beforehand_and_runs_side_by_side(tmp_path):
    axes = {"intermediate": ["none"], "target": ["world/topic"]}
    lab = Lab(tuned(tmp_path, axes, tuning={"candidates": 4, "startup": 1}), tmp_path, workers=9)
    lab.fill()
    (first,) = lab.busy
    pretrain = first.phases[0]
    lab.finish(lab.busy.pop())
    assert pretrain.key in lab.trained
    lab.fill()
    assert len(lab.busy) == 3


# When warm starts have nothing to say


def test_where_all_candidates_of_a_warm_start_fail_its_followers_spread_theirs_over_the_grid(tmp_path):
    plan = tuned(tmp_path, {"intermediate": ["none", "world/nli"], "target": ["world/topic"]})
    lab = Lab(plan, tmp_path, workers=2)
    lab.fill()
    while lab.busy:
        chain = lab.busy.pop(0)
        if chain.cell.intermediate:
            lab.finish(chain)
        else:
            lab.hear(chain, 1.0)
            lab.admission.ended(chain.key, "out of luck")
        lab.fill()
    assert lab.admission.finished
    assert len(lab.admission.outcomes.failed) == 4
    follower = full_cell(plan)
    made = proposed(lab)
    for number in range(4):
        assert dict(made[follower.name, number]) == plan.planned(follower, number)
    assert len(lab.admission.outcomes.done) == 6


def test_where_a_warm_start_collapses_its_followers_go_on_without_it(tmp_path):
    plan = tuned(tmp_path)
    lab = Lab(plan, tmp_path, workers=3)
    rates = plan.grid(full_cell(plan))["intermediate"]
    cells = [cell for cell in plan.cells if cell.intermediate == ("world/nli",)]
    chains = [plan.chain(cells[0], {"pretrain": 1e-3, "intermediate": rate, "target": rates[0]}, 1) for rate in rates]
    lab.collapsing |= {chain.phases[1].key for chain in chains}
    lab.run()
    assert lab.admission.finished
    assert {chain.cell for chain, _ in lab.admission.outcomes.collapsed} == set(cells)
    assert len(lab.admission.outcomes.done) + len(lab.admission.outcomes.collapsed) == lab.admission.total


@pytest.mark.parametrize("changes", [{}, HALVED], ids=["everything", "halved"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_a_budget_that_ends_inside_a_warm_start_ends_the_study_and_more_money_goes_on_as_if_it_had_been_there(
    share, changes, tmp_path
):
    plan = tuned(tmp_path, **changes)
    cost = float(summary(plan, Costs(plan), Speed())["flops_planned"])
    poor = Lab(tuned(tmp_path, **changes, budget=f"{cost * share:.0f} flops"), tmp_path / "lab", workers=3).run()
    assert poor.admission.outcomes.unpaid
    assert poor.admission.finished
    rich = Lab(tuned(tmp_path, **changes, budget=f"{cost * 9:.0f} flops"), tmp_path / "lab", workers=3).run()
    assert proposed(rich) == proposed(Lab(plan, tmp_path / "whole").run())


# The rate that tuning begins with


@pytest.mark.parametrize(
    ("first", "begun"), [(None, 4.642e-4), (1e-4, 1e-4), (9e-3, 1e-2), (2.2e-3, 2.154e-3), (9e-4, 4.642e-4)]
)
def test_tuning_begins_at_the_point_nearest_to_the_published_rate_or_in_the_middle(first, begun, tmp_path):
    rates = {**GRID["learning_rate"], **({"first": first} if first else {})}
    plan = tuned(tmp_path, target={"learning_rate": rates})
    for cell in plan.cells:
        assert plan.planned(cell, 0)["target"] == begun
        points = [tuple(plan.planned(cell, number).values()) for number in range(plan.candidates(cell))]
        assert len(set(points)) == len(points)


def test_where_tuning_begins_changes_no_key(tmp_path):
    first = {"target": {"learning_rate": {**GRID["learning_rate"], "first": 9e-3}}}
    one, other = tuned(tmp_path / "one"), tuned(tmp_path / "other", **first)
    for cell in one.cells:
        rates = one.planned(cell, 0)
        assert one.chain(cell, rates, 1).key == other.chain(cell, rates, 1).key


@pytest.mark.parametrize(
    ("rates", "place", "wanted"),
    [
        ({"first": 2e-2}, "target.learning_rate", "'first' is expected to lie between the two numbers of 'log'"),
        ({"first": 9e-5}, "target.learning_rate", "'first' is expected to lie between the two numbers of 'log'"),
        ({"first": "high"}, "target.learning_rate.first", "a number is expected"),
        ({"frist": 1e-3}, "target.learning_rate.frist", "one of log, linear, points, choices, first is expected"),
    ],
)
def test_a_rate_to_begin_with_that_will_not_do_is_said_in_one_line(rates, place, wanted, tmp_path):
    with pytest.raises(StudyError) as failure:
        tuned(tmp_path, target={"learning_rate": {**GRID["learning_rate"], **rates}})
    assert f"{place}: " in str(failure.value)
    assert wanted in str(failure.value)
    assert "\n" not in str(failure.value)


def test_the_plan_says_how_many_cells_are_planned_without_the_scores_that_choose_their_rates(tmp_path):
    plan = tuned(tmp_path)
    assert summary(plan, Costs(plan), Speed())["cells_tuned_by_scores"] == 6
    plan = tuned(tmp_path, tuning={"candidates": 16})
    assert summary(plan, Costs(plan), Speed())["cells_tuned_by_scores"] == 0


# A real study


def test_a_study_trains_its_candidates_with_their_own_numbers_and_shows_them_wherever_it_shows_a_chain(
    small_store, tmp_path
):
    target = {
        "steps": None,
        "examples": 60,
        "epochs": {"choices": [1, 2]},
        "weight_decay": {"log": [0.01, 1], "points": 3},
    }
    kept = {"results": "results", "runtime": {"keep_target_weights": True}}
    path = study_file(tmp_path, target=target, tuning={"candidates": 4, "startup": 3}, **kept)
    with_data_of(small_store, tmp_path / "results" / "store")
    report, done = reported(path, tmp_path / "results")
    store = Store(tmp_path / "results" / "store")
    assert done == 4
    steps: dict[float, set[int]] = {}
    for chain in report.chains:
        record = store.phase(chain.phases[-1])
        assert record is not None
        point = {name: chain.hyperparameters[f"target.{name}"] for name in ("epochs", "weight_decay")}
        assert {name: record.recipe[name] for name in point} == point
        steps.setdefault(record.recipe["epochs"], set()).add(record.steps)
        assert parameters(chain)["target.weight_decay"] == f"{point['weight_decay']:g}"
        assert parameters(chain)["lr.target"] == "0.001"
    ((one,), (two,)) = (steps[epochs] for epochs in (1, 2))
    assert two == 2 * one
    columns = ["lr.pretrain", "lr.target", "target.epochs", "target.weight_decay"]
    assert list(report.scores.columns[-4:]) == columns
    write_scores(report.scores, tmp_path)
    shown = tuning_table(tuning_frame(report.chains), {"tiny": "tiny"}).set_index("candidate")
    assert shown.loc[0, columns].tolist() == ["0.001", "0.001", "1", "0.1"]
    (winner,) = report.scores[report.scores["selected"]].groupby("candidate")["target.weight_decay"].first().items()
    best = max(report.chains, key=lambda chain: (chain.dev, -chain.candidate))
    assert winner == (best.candidate, best.hyperparameters["target.weight_decay"])
    assert not collect(path).outdated
    path = study_file(tmp_path, target={**target, "weight_decay": {"choices": [7, 8]}}, **kept)
    assert set(collect(path).outdated) == {chain.phases[-1] for chain in report.chains}
