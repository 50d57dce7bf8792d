"""Facts about candidates that are compared inside their cell: who is stopped, who is scored, what it costs. No Ray."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import reduce
from operator import or_

import pytest
from instant_workers import TUNED, Lab, study
from small_studies import chains_of, plan_of, reported, study_file, unmeasured, with_data_of, with_encoder_of

from sweep.config.study import Scoring, Tuning
from sweep.errors import StudyError
from sweep.plan.cost import Costs
from sweep.plan.facts import Facts
from sweep.plan.halving import Stage, planned_end, rung_step, stages
from sweep.plan.order import summary
from sweep.plan.speed import Speed
from sweep.report.results import savings_frame, tuning_frame
from sweep.run.chain import run
from sweep.run.progress import device_seconds_left
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex

WINNERS = {"scoring": {"chains": "winners"}}
HALVING = {"tuning": {"candidates": 4, "startup": 2, "halving": {"rungs": [0.25, 0.5]}}}
EVALUATED = {"target": {**TUNED, "evaluations": 4}}
BOTH = {**WINNERS, **HALVING, **EVALUATED}
SAVING = pytest.mark.parametrize(
    "saving", [WINNERS, {**HALVING, **EVALUATED}, BOTH], ids=["winners", "halving", "both"]
)


def trained(plan, cell) -> bool:
    return bool(plan.tasks[cell.target].trained_in)


def candidates(lab: Lab, target: str = "world/topic") -> Counter[str]:
    """How often candidates of cells of a target are in which state."""
    return Counter(row.state for row in lab.ledger.chains() if row.cell.target == target and row.role == "candidate")


def rows(lab: Lab) -> list[object]:
    """What the ledger says, but for times and order."""
    return sorted(repr(replace(row, started=0.0, ended=None)) for row in lab.ledger.chains())


# Winners only


def test_only_the_best_candidate_of_a_cell_is_scored_and_its_weights_are_kept_until_then(tmp_path):
    lab = Lab(study(tmp_path, **WINNERS), tmp_path, workers=3).run()
    assert candidates(lab) == {"done": 3, "loser": 9}
    for row in lab.ledger.chains():
        scored = lab.store.score(row.score) is not None
        assert scored == (row.state == "done")
        if row.cell.target == "world/topic" and row.role == "candidate":
            assert row.selected == scored
            assert row.message == ("" if scored else "eliminated after its target phase, not scored")
            assert lab.store.phase(row.phases[-1]).released == (not scored)  # who scores releases it afterwards
    assert len(lab.admission.outcomes.done) + len(lab.admission.outcomes.eliminated) == lab.admission.total


def test_the_candidate_that_is_scored_is_the_one_with_the_best_dev_score(tmp_path):
    lab = Lab(study(tmp_path, **WINNERS), tmp_path, workers=2).run()
    found = [row for row in lab.ledger.chains() if row.role == "candidate" and row.cell.target != "world/retrieval"]
    for cell in {row.cell for row in found}:
        best = max((row for row in found if row.cell == cell), key=lambda row: row.dev)
        assert best.state == "done"


def test_a_target_without_a_target_phase_has_all_its_candidates_scored(tmp_path):
    """Their last phases are shared: nothing waits for the others, nothing is released."""
    middle = {"intermediate": {"learning_rate": {"log": [1e-4, 1e-2], "points": 4}}}
    lab = Lab(study(tmp_path, **WINNERS, **middle), tmp_path).run()
    assert candidates(lab, "world/retrieval").keys() == {"done"}


def test_a_cell_of_one_candidate_is_scored_at_once(tmp_path):
    fixed = {"target": {"learning_rate": 1e-3}, "tuning": {"candidates": 1}}
    one = Lab(study(tmp_path, **WINNERS, **fixed), tmp_path / "winners").run()
    other = Lab(study(tmp_path, **fixed), tmp_path / "all").run()
    assert Counter(chain.key for chain in one.started) == Counter(chain.key for chain in other.started)
    assert rows(one) == rows(other)


def test_a_beaten_candidate_gives_its_weights_back_before_the_others_of_its_cell_have_ended(tmp_path):
    lab = Lab(study(tmp_path, **WINNERS), tmp_path)
    while sum(chain.cell.target == "world/topic" for chain in lab.started) < 2:
        lab.run(chains=1)
    topic = [chain for chain in lab.started if chain.cell.target == "world/topic"]
    lab.run(chains=1) if lab.busy else None
    assert sorted(lab.store.phase(chain.phases[-1].key).released for chain in topic[:2]) == [False, True]


def test_weights_of_losers_stay_where_the_study_wants_to_keep_them(tmp_path):
    lab = Lab(study(tmp_path, **WINNERS, runtime={"keep_target_weights": True}), tmp_path).run()
    losers = [row for row in lab.ledger.chains() if row.state == "loser"]
    assert losers
    assert not any(lab.store.phase(row.phases[-1]).released for row in losers)


def test_other_seeds_of_the_winner_run_to_their_scores(tmp_path):
    lab = Lab(study(tmp_path, **BOTH), tmp_path, workers=2).run()
    replicas = [row for row in lab.ledger.chains() if row.role == "replica"]
    assert {row.state for row in replicas} == {"done"}
    assert all((row.candidate, row.hyperparameters) == lab.winners()[row.cell.name] for row in replicas)
    assert len(replicas) == len(lab.admission.plan.cells)


def test_cells_are_tuned_one_after_another_so_that_money_which_ends_has_bought_scores(tmp_path):
    plan = study(tmp_path, **WINNERS)
    cost = float(summary(plan, Costs(plan), Speed())["flops_planned"])
    poor = study(tmp_path, **WINNERS, budget=f"{cost * 0.6:.0f} flops")
    covered = summary(poor, Costs(poor), Speed())["covered_by_budget"]
    lab = Lab(poor, tmp_path).run()
    assert lab.admission.outcomes.unpaid
    assert lab.admission.spending.spent <= cost * 0.6
    having = {row.cell for row in lab.ledger.chains() if row.state == "done" and row.role == "candidate"}
    # The last cell may be half tuned: what was spent on it is not there for another seed, or a cheaper cell.
    assert 1 < covered - 1 <= len(having) < len(poor.cells)


# Switched on and off


def test_a_study_that_scored_everything_before_has_nothing_left_to_do_with_winners_only(tmp_path):
    Lab(study(tmp_path), tmp_path).run()
    again = Lab(study(tmp_path, **WINNERS), tmp_path)
    assert again.admission.next() is None
    assert again.admission.finished
    assert len(again.admission.outcomes.done) == again.admission.total


def test_scoring_everything_afterwards_scores_the_losers(tmp_path):
    Lab(study(tmp_path, **WINNERS), tmp_path).run()
    again = Lab(study(tmp_path), tmp_path).run()
    assert len(again.admission.outcomes.done) == again.admission.total
    assert {row.state for row in again.ledger.chains()} == {"done"}


# Halving


def test_at_each_rung_the_better_half_goes_on_and_the_others_are_stopped_there(tmp_path):
    lab = Lab(study(tmp_path, **BOTH), tmp_path, workers=3).run()
    messages = Counter(row.message for row in lab.ledger.chains() if row.state == "loser")
    cells = sum(trained(lab.admission.plan, cell) for cell in lab.admission.plan.cells)
    assert messages == {"eliminated at rung 1 (25%)": 2 * cells, "eliminated at rung 2 (50%)": cells}
    for row in lab.ledger.chains():
        if row.state == "loser":
            rung = 0.25 if "rung 1" in row.message else 0.5
            assert row.dev == lab.dev_of(row.phases[-1], rung)
            assert row.phases[-1] not in lab.trained


def test_who_goes_on_has_the_better_dev_score_at_that_rung(tmp_path):
    lab = Lab(study(tmp_path, **BOTH), tmp_path, workers=2).run()
    found = [row for row in lab.ledger.chains() if row.role == "candidate" and row.cell.target == "world/topic"]
    for cell in {row.cell for row in found}:
        rivals = sorted((lab.dev_of(row.phases[-1], 0.25), row) for row in found if row.cell == cell)
        assert ["rung 1" in row.message for _, row in rivals] == [True, True, False, False]


def test_cells_are_never_compared_with_each_other(tmp_path):
    """All of one cell are worse at every rung than all of the others: as many of it go on."""
    lab = Lab(study(tmp_path, **BOTH), tmp_path, workers=2)
    poor = lab.admission.plan.cells[0]
    chains = [c for c in lab.admission.plan.planned_chains() if c.cell == poor]
    worst = {chain.phases[-1].key for chain in chains}
    usual = lab.dev_of
    lab.dev_of = lambda key, rung: usual(key, rung) / (1000 if key in worst else 1)
    lab.run()
    states = Counter((row.cell.name, row.state) for row in lab.ledger.chains() if row.cell.target == poor.target)
    assert states[poor.name, "done"] == 2  # the winner and its other seed
    assert states[poor.name, "loser"] == 3


def test_without_winners_only_those_that_come_through_all_rungs_are_all_scored(tmp_path):
    tuning = {"candidates": 4, "startup": 4, "halving": {"rungs": [0.5]}}
    lab = Lab(study(tmp_path, tuning=tuning, **EVALUATED), tmp_path, workers=3).run()
    assert candidates(lab) == {"done": 6, "loser": 6}


def test_a_candidate_that_fails_or_collapses_leaves_its_place_to_another(tmp_path):
    middle = {"intermediate": {"learning_rate": {"log": [1e-4, 1e-2], "points": 4}}, "target": {"evaluations": 4}}
    lab = Lab(study(tmp_path, **{**BOTH, **middle, "target": {"learning_rate": 1e-3, "evaluations": 4}}), tmp_path)
    chains = [chain for chain in lab.admission.plan.planned_chains() if chain.cell.intermediate]
    lab.collapsing |= {chain.phases[1].key for chain in chains if chain.candidate == 0}
    lab.run()
    collapsed = [row for row in lab.ledger.chains() if row.state == "collapsed"]
    assert collapsed
    assert not any(row.selected for row in collapsed)
    for cell in {row.cell for row in collapsed if row.cell.target == "world/topic"}:
        states = Counter(r.state for r in lab.ledger.chains() if r.cell == cell and r.role == "candidate")
        assert states == {"collapsed": 1, "done": 1, "loser": 2}


def test_a_failed_candidate_at_a_rung_lets_its_cell_go_on(tmp_path):
    lab = Lab(study(tmp_path, **BOTH), tmp_path)
    while not lab.busy or lab.busy[0].cell.target != "world/topic":
        lab.run(chains=1)
        lab.fill()
    failed = lab.busy.pop(0)
    lab.admission.ended(failed.key, "out of luck")
    lab.run()
    states = Counter(row.state for row in lab.ledger.chains() if row.cell == failed.cell and row.role == "candidate")
    assert states == {"failed": 1, "done": 1, "loser": 2}


@pytest.mark.parametrize("stage", ["rung", "score"])
def test_a_stopped_attempt_goes_on_where_it_stood(stage, tmp_path):
    whole = Lab(study(tmp_path, **BOTH), tmp_path / "whole").run()
    lab = Lab(study(tmp_path, **BOTH), tmp_path / "lab")
    while not lab.busy or (lab.admission.pause_at(lab.busy[0].key) != (0.5 if stage == "rung" else None)):
        lab.run(chains=1)
        lab.fill()
    lab.admission.ended(lab.busy.pop(0).key)
    lab.run()
    assert lab.admission.finished
    again = Lab(study(tmp_path, **BOTH), tmp_path / "lab")
    again.reached = lab.reached
    again.run()
    assert {row.key: row.state for row in again.ledger.chains()} == {
        row.key: row.state for row in whole.ledger.chains()
    }
    assert again.winners() == whole.winners()


# Real chains


def test_a_phase_that_pauses_at_rungs_equals_itself_done_at_once_bit_for_bit(small_store, tmp_path):
    ((chain, plan),) = chains_of(study_file(tmp_path, target={"evaluations": 4}))
    whole, paused = (with_encoder_of(small_store, tmp_path / name) for name in ("whole", "paused"))
    said = list[Facts]()
    run(chain, plan, whole)
    for pause_at in (0.25, 0.25, 0.5, 1.0, None):
        assert paused.phase(chain.phases[-1].key) is None or pause_at in (1.0, None)
        run(chain, plan, paused, lambda event: said.append(event.facts), pause_at=pause_at)
        assert (paused.score(chain.score) is None) == (pause_at is not None)
    assert [unmeasured(paused.phase(phase.key)) for phase in chain.phases] == [
        unmeasured(whole.phase(phase.key)) for phase in chain.phases
    ]
    assert unmeasured(paused.score(chain.score)) == unmeasured(whole.score(chain.score))
    key, record = chain.phases[-1].key, whole.phase(chain.phases[-1].key)
    first, second = record.dev[0]["value"], max(point["value"] for point in record.dev[:2])
    facts = reduce(or_, said)
    at_quarter, at_half = (facts.reached(key, rung) for rung in (0.25, 0.5))
    assert (at_quarter.dev, at_half.dev) == (first, second)
    assert facts.furthest == {key: at_half}
    assert 0 < at_quarter.flops < at_half.flops < record.flops
    # Where a phase was trained before anybody asked for rungs, its record says the same.
    assert [StoreIndex(whole).dev_at(chain, rung) for rung in (0.25, 0.5)] == [first, second]


def test_winners_only_and_halving_choose_among_real_chains_and_the_report_shows_who_was_beaten(small_store, tmp_path):
    rates = {"learning_rate": {"log": [1e-5, 4e-3], "points": 4}, "evaluations": 4, "steps": 16}
    tuning = {"candidates": 4, "halving": {"rungs": [0.5]}}
    path = study_file(tmp_path, target=rates, tuning=tuning, scoring={"chains": "winners"})
    with_data_of(small_store, tmp_path / "results" / "store")
    report, done = reported(path, tmp_path / "results")
    assert done == 1
    (scored,) = report.results
    shown = tuning_frame(report.chains).set_index("candidate")
    assert Counter(shown["state"]) == {
        "done": 1,
        "eliminated after its target phase, not scored": 1,
        "eliminated at rung 1 (50%)": 2,
    }
    assert shown["dev"].notna().all()
    assert shown.loc[shown["selected"], "state"].tolist() == ["done"]
    by_chain = report.scores.groupby("chain")["state"].first()
    assert Counter(by_chain) == {"done": 1, "loser": 3}
    assert report.scores[report.scores["state"] == "loser"]["value"].isna().all()
    assert "4 of 4 chains are done (3 of them eliminated by halving)" in report.progress
    store = Store(tmp_path / "results" / "store")
    targets = [store.phase(key) for key in store.keys("phases") if store.phase(key).kind == "target"]
    assert len(targets) == 2
    assert all(record.released for record in targets)
    assert not list((store.root / "scratch").iterdir())
    assert scored.chain.dev == max(record.dev_score for record in targets)
    saved = savings_frame(report.results, report.eliminated).set_index("kind")
    assert saved.loc["target", "count_shared"] == saved.loc["stopped at a rung", "count_shared"] == 2
    spent = sum(chain.flops for chain in report.chains)
    assert saved["flops_shared"].sum() == pytest.approx(spent)
    assert report.scores.groupby("chain")["flops"].first().min() > saved.loc["pretrain", "flops_shared"]


# The same study, whoever does it


@SAVING
def test_one_worker_and_four_give_the_same_study(saving, tmp_path):
    one = Lab(study(tmp_path, **saving), tmp_path / "one", workers=1).run()
    four = Lab(study(tmp_path, **saving), tmp_path / "four", workers=4).run()
    facts = [sorted((r.key, r.state, r.message, r.dev, r.selected) for r in lab.ledger.chains()) for lab in (one, four)]
    assert facts[0] == facts[1]


@SAVING
@pytest.mark.parametrize("chains", [3, 9, 20])
def test_a_killed_run_goes_on_and_trains_nothing_twice(saving, chains, tmp_path):
    whole = Lab(study(tmp_path, **saving), tmp_path / "whole", workers=2).run()
    first = Lab(study(tmp_path, **saving), tmp_path / "part", workers=2).run(chains)
    second = Lab(study(tmp_path, **saving), tmp_path / "part", workers=2)
    second.reached = first.reached
    second.run()
    facts = [
        sorted((r.key, r.state, r.message, r.dev, r.selected) for r in lab.ledger.chains()) for lab in (whole, second)
    ]
    assert facts[0] == facts[1]
    assert not set(first.trained) & set(second.trained)


@SAVING
def test_a_finished_study_starts_nothing_and_changes_nothing(saving, tmp_path):
    before = Lab(study(tmp_path, **saving), tmp_path).run().ledger.chains()
    again = Lab(study(tmp_path, **saving), tmp_path)
    assert again.admission.next() is None
    assert again.admission.finished
    assert again.ledger.chains() == before
    assert device_seconds_left(again.admission) == 0


# What it costs


@SAVING
def test_a_run_spends_what_the_plan_says(saving, tmp_path):
    plan = study(tmp_path, **saving)
    found = summary(plan, Costs(plan), Speed())
    lab = Lab(plan, tmp_path, workers=2).run()
    assert lab.ledger.spent()[0] == pytest.approx(found["flops_planned"])
    assert found["flops_planned"] < found["flops_shared"] < found["flops_unshared"]


@SAVING
def test_a_budget_of_just_that_does_and_is_never_exceeded(saving, tmp_path):
    cost = float(summary(study(tmp_path, **saving), Costs(study(tmp_path, **saving)), Speed())["flops_planned"])
    lab = Lab(study(tmp_path, **saving, budget=f"{cost * 1.001:.0f} flops"), tmp_path).run()
    assert not lab.admission.outcomes.unpaid
    assert lab.admission.spending.spent <= cost * 1.001


def test_without_winners_only_and_halving_nothing_is_spared(tmp_path):
    plan = study(tmp_path)
    found = summary(plan, Costs(plan), Speed())
    assert found["flops_planned"] == found["flops_shared"]


def test_the_money_for_a_winners_scores_is_held_while_its_last_rival_is_trained(tmp_path):
    """Whatever the budget: where all candidates of a cell were paid for, one of them is scored."""
    plan = study(tmp_path, **WINNERS)
    cost = float(summary(plan, Costs(plan), Speed())["flops_planned"])
    for share in (0.2, 0.35, 0.5, 0.8):
        folder = tmp_path / str(share)
        lab = Lab(study(folder, **WINNERS, budget=f"{cost * share:.0f} flops"), folder, workers=2).run()
        by_cell = Counter(row.cell for row in lab.ledger.chains() if row.role == "candidate")
        for state in lab.admission.cells:
            if state.count > 1 and by_cell[state.cell] == state.count and state.is_complete(len(state.stages) - 1):
                assert any(r.state == "done" for r in lab.ledger.chains() if r.cell == state.cell)


def test_the_forecast_counts_what_losers_are_spared(tmp_path):
    usual, spared = (
        Lab(study(tmp_path, **how, **EVALUATED), tmp_path / name) for how, name in (({}, "all"), (WINNERS, "winners"))
    )
    assert 0 < device_seconds_left(spared.admission) < device_seconds_left(usual.admission)


# What is said of it


@pytest.mark.parametrize(
    ("count", "halving", "chains", "expected"),
    [
        (1, [0.5], "winners", [Stage(None, 1)]),
        (3, None, "all", [Stage(None, 1)]),
        (3, None, "winners", [Stage(1.0, 1)]),
        (5, [0.25, 0.5], "all", [Stage(0.25, 3), Stage(0.5, 2), Stage(None, 1)]),
        (5, [0.25, 0.5], "winners", [Stage(0.25, 3), Stage(0.5, 2), Stage(1.0, 1)]),
    ],
)
def test_stages_of_a_cell(count, halving, chains, expected, tmp_path):
    plan = study(tmp_path, **EVALUATED, tuning={"candidates": 5})
    tuning = Tuning(candidates=max(count, 2), halving={"rungs": halving} if halving else None)
    tuning = tuning.model_copy(update={"candidates": count})
    changed = plan.study.model_copy(update={"tuning": tuning, "scoring": Scoring(chains=chains)})
    cell = next(cell for cell in plan.cells if cell.target == "world/topic")
    assert list(stages(replace(plan, study=changed), cell)) == expected


def test_the_first_candidates_stand_in_for_those_that_will_go_on(tmp_path):
    plan = study(tmp_path, **BOTH)
    chains = [c for c in plan.planned_chains() if c.cell.target == "world/topic" and not c.cell.intermediate]
    ends = [planned_end(plan, chain) for chain in chains]
    assert ends == [(1.0, True), (0.5, False), (0.25, False), (0.25, False), (1.0, True)]  # the last is another seed


@pytest.mark.parametrize(("steps", "rung", "step"), [(8, 0.25, 2), (9, 0.25, 2), (10, 0.75, 8), (1, 0.25, 1)])
def test_a_rung_is_a_step_at_which_dev_is_scored(steps, rung, step):
    assert rung_step(steps, 4, rung) == step


@pytest.mark.parametrize(
    ("halving", "said"),
    [
        (
            {"rungs": [0.3]},
            "found 0.3, where the target phase of world/topic has no dev score; one of 0.25, 0.5, 0.75 is expected",
        ),
        ({"rungs": [0.5, 0.25]}, "each larger than the one before"),
        ({"rungs": []}, "tuning.halving.rungs"),
        ({"rungs": [1.0]}, "tuning.halving.rungs"),
        ({"rungs": [0.5], "keep": 1.0}, "tuning.halving.keep"),
        ({"keep": 0.5}, "tuning.halving.rungs"),
    ],
)
def test_rungs_that_cannot_be_are_refused(halving, said, tmp_path):
    tuning = {"candidates": 4, "halving": halving}
    with pytest.raises(StudyError) as mistake:
        plan_of(study_file(tmp_path, tuning=tuning, target={**TUNED, "evaluations": 4}))
    assert said in str(mistake.value)


def test_halving_of_one_candidate_is_refused(tmp_path):
    with pytest.raises(StudyError, match="at least 2 candidates are expected"):
        plan_of(study_file(tmp_path, tuning={"candidates": 1, "halving": {"rungs": [0.5]}}))


def test_halving_is_refused_where_dev_is_scored_in_the_decay_alone_or_once(tmp_path):
    tuning = {"candidates": 2, "halving": {"rungs": [0.5]}}
    wsd = {**TUNED, "schedule": "wsd", "warmup": {"steps": 2}, "evaluations": 4}
    with pytest.raises(StudyError, match="the schedule wsd, whose decay alone is scored on dev"):
        plan_of(study_file(tmp_path, tuning=tuning, target=wsd))
    with pytest.raises(StudyError, match=r"target.evaluations of at least 2"):
        plan_of(study_file(tmp_path, tuning=tuning, target={**TUNED, "evaluations": 1}))


def test_chains_that_are_scored_are_all_or_winners(tmp_path):
    with pytest.raises(StudyError, match=r"scoring\.chains"):
        plan_of(study_file(tmp_path, scoring={"chains": "best"}))
