"""Facts about candidates: proposals repeat none and depend on finished ones alone, the best dev score wins."""

from __future__ import annotations

import numpy as np
from instant_workers import study

from sweep.search.suggestions import CandidateResult, suggest, winner


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
