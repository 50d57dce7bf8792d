"""Facts about candidates: proposals repeat none and depend on finished ones alone, the best dev score wins."""

from __future__ import annotations

from collections import Counter

import numpy as np
from instant_workers import Lab, study

from sweep.plan.recipe import Hyperparameters
from sweep.search.suggestions import CandidateResult, suggest, winner
from sweep.store.ledger import ChainRow


def test_a_proposal_depends_on_the_finished_candidates_alone_and_repeats_none(tmp_path):
    plan = study(tmp_path)
    cell = next(cell for cell in plan.cells if not cell.intermediate and cell.target == "world/topic")
    tried: list[CandidateResult] = []
    for number in range(5):
        rates = suggest(plan, cell, number, tried, {})
        assert rates == suggest(plan, cell, number, list(tried), {})
        assert rates not in [one.hyperparameters for one in tried]
        tried.append(CandidateResult(rates, 0.1 * number))
    assert len({one.hyperparameters["target"] for one in tried}) == 5


def test_start_up_candidates_of_a_cell_that_follows_nobody_are_those_of_the_plan(tmp_path):
    plan = study(tmp_path, tuning={"candidates": 4, "startup": 4})
    for cell in plan.cells:
        tried: list[CandidateResult] = []
        for number in range(plan.candidates(cell)):
            assert suggest(plan, cell, number, tried, {}) == plan.planned(cell, number)
            tried.append(CandidateResult(plan.planned(cell, number), None))


def test_a_collapsed_candidate_keeps_proposals_away_where_a_failed_one_says_nothing(tmp_path):
    """Three candidates, the last at the upper end: proposals differ by what became of it."""
    plan = study(tmp_path, target={"learning_rate": {"log": [1e-4, 1e-1], "points": 40}}, tuning={"candidates": 30})
    cell = next(cell for cell in plan.cells if not cell.intermediate and cell.target == "world/topic")
    rates = plan.grid(cell)["target"]

    def proposed(**fate: object) -> float:
        tried = [
            CandidateResult({"pretrain": 1e-3, "target": rate}, 0.5 + 0.01 * index)
            for index, rate in enumerate(rates[:12])
        ]
        upper = [CandidateResult({"pretrain": 1e-3, "target": rate}, None, **fate) for rate in rates[28:]]
        found = [suggest(plan, cell, number, [*tried, *upper], {})["target"] for number in range(24, 30)]
        return float(np.mean([rates.index(rate) for rate in found]))

    assert proposed(collapsed=True) < proposed()


def test_the_best_dev_score_wins_the_earlier_among_equals_and_nobody_where_all_failed():
    scores = {
        0: CandidateResult({}, 0.4),
        1: CandidateResult({}, 0.7),
        2: CandidateResult({}, None),
        3: CandidateResult({}, 0.7),
    }
    assert winner(scores) == 1
    assert winner({0: CandidateResult({}, None)}) is None
    assert winner({0: CandidateResult({}, None, collapsed=True)}) is None
    assert winner({0: CandidateResult({}, None, collapsed=True), 1: CandidateResult({}, 0.0)}) == 1


THREE = {
    "learning_rate": {"log": [1e-4, 1e-2], "points": 5},
    "weight_decay": {"linear": [0, 0.2], "points": 5},
    "dropout": {"choices": [None, 0.05, 0.1]},
}


def test_proposals_over_three_dimensions_lie_on_the_grid_repeat_none_and_depend_on_finished_ones_alone(tmp_path):
    plan = study(tmp_path, target=THREE, tuning={"candidates": 12, "startup": 4})
    cell = next(cell for cell in plan.cells if not cell.intermediate and cell.target == "world/topic")
    tried: list[CandidateResult] = []
    for number in range(12):
        point = suggest(plan, cell, number, tried, {})
        assert point == suggest(plan, cell, number, list(tried), {})
        assert plan.is_point(cell, point)
        assert point not in [one.hyperparameters for one in tried]
        tried.append(CandidateResult(point, 0.05 * number))
    assert {one.hyperparameters["target.dropout"] for one in tried} == {None, 0.05, 0.1}


def test_proposals_go_where_every_dimension_was_good(tmp_path):
    plan = study(tmp_path, target=THREE, tuning={"candidates": 40, "startup": 10})
    cell = next(cell for cell in plan.cells if not cell.intermediate and cell.target == "world/topic")
    rates, decays, _ = (plan.grid(cell)[name] for name in ("target", "target.weight_decay", "target.dropout"))

    def dev(point: Hyperparameters) -> float:
        """Best at the lowest rate, the highest weight decay and the encoder's own dropout."""
        far = rates.index(point["target"]) + 4 - decays.index(point["target.weight_decay"])
        return 0.9 - 0.08 * far - (0.2 if point["target.dropout"] is not None else 0.0)

    tried: list[CandidateResult] = []
    for number in range(40):
        point = suggest(plan, cell, number, tried, {})
        tried.append(CandidateResult(point, dev(point)))
    found = [one.dev for one in tried]
    assert np.mean(found[10:25]) > np.mean(found[:10]) + 0.05
    assert max(found) > 0.85


def test_the_last_start_up_point_takes_up_every_number_of_the_phases_that_were_best_elsewhere(tmp_path):
    plan = study(tmp_path, target=THREE, tuning={"candidates": 12, "startup": 4})
    cell = next(cell for cell in plan.cells if cell.intermediate and cell.target == "world/topic")
    tried = [CandidateResult(plan.planned(cell, number), None) for number in range(3)]
    known = {"target": 1e-2, "target.weight_decay": 0.2, "target.dropout": 0.1}
    assert suggest(plan, cell, 3, tried, known) == {"pretrain": 1e-3, "intermediate": 1e-3, **known}


def test_every_cell_tries_as_many_points_of_the_same_space_and_a_restart_the_same_ones(tmp_path):
    plan = study(tmp_path, target=THREE, tuning={"candidates": 5, "startup": 3})
    whole = Lab(plan, tmp_path / "whole", workers=3).run()
    points = {(row.cell.name, row.candidate): row.hyperparameters for row in candidates(whole)}
    tuned = [cell for cell in plan.cells if cell.target != "world/retrieval"]
    assert Counter(name for name, _ in points if "retrieval" not in name) == {cell.name: 5 for cell in tuned}
    assert len({tuple(plan.grid(cell)["target.dropout"]) for cell in tuned}) == 1
    Lab(plan, tmp_path / "again", workers=2).run(chains=9).ledger.close()
    again = Lab(plan, tmp_path / "again", workers=1).run()
    assert {(row.cell.name, row.candidate): row.hyperparameters for row in candidates(again)} == points
    replicas = [row for row in whole.ledger.chains() if row.role == "replica"]
    assert all((row.candidate, row.hyperparameters) == whole.winners()[row.cell.name] for row in replicas)


def candidates(lab: Lab) -> list[ChainRow]:
    return [row for row in lab.ledger.chains() if row.role == "candidate"]
