"""Facts about what may start, held without Ray: finished work is committed to a real store by the test itself."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from instant_workers import GPU, Lab, phase_record, study

from sweep.plan.cost import Costs, Speed
from sweep.plan.order import summary
from sweep.run.progress import STARVED, Display, Pace, chain_cells, device_seconds_left, duration, study_line
from sweep.search.candidates import CandidateResult, rates_for, winner


def test_every_chain_runs_and_every_phase_is_trained_once(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, workers=3).run()
    assert len(lab.admission.outcomes.done) == lab.admission.total == 3 * 4 + 3 * 4 + 3 + 3 * 2 + 3
    assert set(lab.trained.values()) == {1}
    assert lab.admission.finished


def test_one_worker_and_four_run_the_same_chains_and_choose_the_same_winners(tmp_path):
    one = Lab(study(tmp_path), tmp_path / "one", workers=1).run()
    four = Lab(study(tmp_path), tmp_path / "four", workers=4).run()
    assert {chain.key for chain in one.started} == {chain.key for chain in four.started}
    assert one.winners() == four.winners()


def test_a_restart_in_the_middle_ends_with_the_same_chains_and_trains_nothing_twice(tmp_path):
    whole = Lab(study(tmp_path), tmp_path / "whole", workers=2).run()
    first = Lab(study(tmp_path), tmp_path / "part", workers=2).run(chains=9)
    second = Lab(study(tmp_path), tmp_path / "part", workers=2).run()
    assert {row.key for row in second.ledger.chains()} == {row.key for row in whole.ledger.chains()}
    assert second.winners() == whole.winners()
    assert not set(first.trained) & set(second.trained)


def test_a_finished_study_starts_nothing(tmp_path):
    Lab(study(tmp_path), tmp_path).run()
    again = Lab(study(tmp_path), tmp_path)
    assert again.admission.next() is None
    assert again.admission.finished
    assert len(again.admission.outcomes.done) == again.admission.total


def test_a_restart_changes_nothing_about_chains_that_are_done(tmp_path):
    before = Lab(study(tmp_path), tmp_path).run().ledger.chains()
    again = Lab(study(tmp_path), tmp_path)
    again.admission.next()
    assert again.ledger.chains() == before


def test_a_phase_in_flight_holds_back_the_chains_that_need_it(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, workers=9)
    lab.fill()
    claimed = [phase.key for chain in lab.busy for phase in lab.admission.stored.to_train(chain)]
    assert len(claimed) == len(set(claimed))
    assert len(lab.busy) == 2  # two seeds of the baseline of retrieval; all else needs one of their encoders
    pretrain = lab.busy[0].phases[0]
    lab.store.commit_phase(phase_record(pretrain), {})
    lab.hear(lab.busy[0], 1.0, phase="pretrain", key=pretrain.key, committed=True)
    lab.fill()
    assert len(lab.busy) > 2


def test_baselines_start_before_any_intermediate(tmp_path):
    started = Lab(study(tmp_path), tmp_path).run().started
    first = [chain for chain in started if chain.candidate == 0 and chain.role == "candidate"]
    assert [bool(chain.cell.intermediate) for chain in first] == sorted(bool(c.cell.intermediate) for c in first)


def test_other_seeds_carry_the_winners_rates(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, workers=2).run()
    for row in lab.ledger.chains():
        if row.role == "replica":
            assert row.selected
            assert (row.candidate, row.rates) == lab.winners()[row.cell.name]


def test_what_cannot_be_paid_is_not_started_and_more_money_continues(tmp_path):
    plan = study(tmp_path)
    cost = float(summary(plan, Costs(plan), Speed())["flops_shared"])
    poor = Lab(study(tmp_path, budget=f"{cost * 0.6:.0f} flops"), tmp_path / "lab").run()
    assert 0 < len(poor.admission.outcomes.done) < poor.admission.total
    assert poor.admission.outcomes.unpaid
    assert poor.admission.spending.spent <= cost * 0.6
    rich = Lab(study(tmp_path, budget=f"{cost * 3:.0f} flops"), tmp_path / "lab").run()
    assert len(rich.admission.outcomes.done) == rich.admission.total
    assert not set(poor.trained) & set(rich.trained)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4, 0.7])
def test_a_study_whose_money_is_gone_is_finished_whatever_still_waits_for_unpaid_candidates(share, tmp_path):
    plan = study(tmp_path)
    cost = float(summary(plan, Costs(plan), Speed())["flops_shared"])
    lab = Lab(study(tmp_path, budget=f"{cost * share:.0f} flops"), tmp_path, workers=2).run()
    assert lab.admission.outcomes.unpaid
    assert lab.admission.finished


def test_a_study_is_finished_though_later_candidates_wait_for_one_that_was_stopped(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.admission.ended(lab.busy.pop(0).key)
    lab.run()
    assert lab.admission.finished
    assert len(lab.admission.outcomes.done) < lab.admission.total


def test_spending_exceeds_the_budget_by_no_more_than_the_last_reservation_falls_short(tmp_path):
    """Chains cost 1.5 times what was planned; what runs when the money is gone is stopped at its next report."""
    plan = study(tmp_path)
    amount = float(summary(plan, Costs(plan), Speed())["flops_shared"]) * 0.5
    lab = Lab(study(tmp_path, budget=f"{amount:.0f} flops"), tmp_path)
    dearest = 0.0
    while (chain := lab.admission.next()) is not None:
        reserved = lab.admission.running[chain.key].reserved
        assert lab.admission.spending.spent + reserved <= amount
        dearest = max(dearest, reserved)
        lab.finish(chain, factor=1.5)
    assert amount < lab.admission.spending.spent + dearest
    assert lab.admission.spending.spent <= amount + 0.5 * dearest


def test_a_chain_goes_on_beyond_its_reservation_with_money_that_nobody_holds_and_no_further(tmp_path):
    cost = float(summary(study(tmp_path), Costs(study(tmp_path)), Speed())["flops_shared"])
    plan = study(tmp_path, budget=f"{cost:.0f} flops")
    lab = Lab(plan, tmp_path, workers=2)
    lab.fill()
    (one, other), step = lab.busy, cost / 1000
    held = lab.admission.running[other.key].reserved
    spent = 0.0
    while lab.admission.may_go_on(one.key) if spent else True:
        spent += step
        lab.hear(one, spent)
        assert lab.admission.spending.spent + held <= plan.study.budget.amount
    assert plan.study.budget.amount - spent - held < step
    lab.hear(other, step)
    assert lab.admission.may_go_on(other.key)  # what is held for it is its own


def test_a_chain_is_charged_for_all_the_time_that_it_has_a_place_whatever_its_worker_counts(tmp_path):
    """Given to a worker at 10 s, first heard of at 15, through at 20; before that it waited for Ray to start."""
    now = [0.0]
    lab = Lab(study(tmp_path, runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.fill()
    now[0] = 10.0
    lab.admission.given(lab.busy[0].key)
    now[0] = 15.0
    lab.hear(lab.busy[0], 1e9)  # a second, says the worker
    assert lab.admission.spending.spent == 5.0
    now[0] = 20.0
    lab.admission.ended(lab.busy[0].key)
    assert lab.admission.spending.spent == 10.0


def test_a_chain_is_not_charged_for_the_time_in_which_it_waits_for_the_lock_of_another_worker(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    lab.admission.given(chain.key)
    now[0] = 100.0
    lab.hear(chain, 2e9, waited=98.0, waiting_for="waits for phase x")
    assert lab.admission.spending.spent == 2.0
    now[0] = 103.0
    lab.admission.ended(chain.key)
    assert lab.admission.spending.spent == 5.0


def test_a_chain_that_waits_for_a_machine_of_a_growing_cluster_is_charged_from_its_start_there(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.admission.spending.queued = True
    lab.fill()
    now[0] = 600.0
    lab.hear(lab.busy[0], 2e9)  # its worker has been at work for two seconds
    now[0] = 603.0
    lab.admission.ended(lab.busy[0].key)
    assert lab.admission.spending.spent == 5.0


def test_cores_are_charged_the_processor_seconds_that_workers_report_whatever_the_clock_says(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, budget="20 device-seconds"), tmp_path, clock=lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    now[0] = 3600.0  # of a machine that others keep busy
    assert lab.admission.stranded() == set()
    lab.hear(chain, 2e9)
    assert lab.admission.may_go_on(chain.key)
    lab.admission.ended(chain.key)
    assert lab.admission.spending.spent == 2.0


def test_a_dead_attempt_on_cores_is_charged_what_it_had_reported(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.hear(lab.busy[0], 1e9, started=1.0)
    lab.hear(lab.busy[0], 2e9, started=8.0)
    lab.admission.ended(lab.busy[0].key)
    (row,) = lab.ledger.chains()
    assert (row.flops, row.device_seconds) == (3e9, 3.0)


def test_a_dead_attempt_is_charged_until_the_next_one_begins(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    now[0] = 4.0
    lab.hear(chain, 1e9, started=1.0)
    now[0] = 10.0
    lab.hear(chain, 2e9, started=8.0)
    now[0] = 11.0
    lab.admission.ended(chain.key)
    (row,) = lab.ledger.chains()
    assert (row.flops, row.device_seconds) == (3e9, 11.0)


def silent(tmp_path: Path, now: list[float], **changes: object) -> Lab:
    """Two chains that workers have since 0 s and that never report; 5 device-seconds are held for each."""
    runtime = GPU | changes.pop("runtime", {})
    lab = Lab(study(tmp_path, runtime=runtime, **changes), tmp_path, workers=2, clock=lambda: now[0])
    lab.fill()
    for running in lab.admission.running.values():
        running.reserved = 5.0
        lab.ledger.hold(running.chain.key, running.attempt, 5.0)
    return lab


def test_a_chain_that_does_not_report_is_ended_a_fifth_of_a_percent_beyond_what_nobody_else_holds(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, budget="20 device-seconds")
    for seconds in (4.0, 6.0, 10.0, 10.01):
        now[0] = seconds
        assert lab.admission.stranded() == set()
    now[0] = 10.03
    assert lab.admission.stranded() == {chain.key for chain in lab.busy}
    assert lab.admission.stranded() == set()  # it takes a moment until they are gone
    for chain in lab.busy:
        lab.admission.ended(chain.key, "its worker died")
    assert lab.admission.outcomes.stopped == lab.busy
    assert lab.admission.outcomes.failed == []
    assert lab.admission.spending.spent == pytest.approx(20.06)


def test_a_chain_that_reports_goes_on_within_its_reservation_while_one_that_does_not_is_ended(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, budget="10 device-seconds")
    heard, unheard = lab.busy
    now[0] = 4.0
    lab.hear(heard, 0.0)
    now[0] = 4.5
    lab.hear(heard, 0.0)
    lab.ledger.hold(heard.key, 0, 6.0)
    lab.admission.running[heard.key].reserved = 6.0
    now[0] = 5.06
    assert lab.admission.stranded() == {unheard.key}
    assert lab.admission.may_go_on(heard.key)


def test_what_a_chain_uses_unheard_is_nobody_elses(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, budget="20 device-seconds")
    now[0] = 7.0
    assert lab.admission.stranded() == set()
    assert lab.admission.spending.free == pytest.approx(6.0)
    for chain in lab.busy:
        lab.hear(chain, 0.0)
    assert lab.admission.spending.free == pytest.approx(6.0)


def test_a_chain_that_does_not_report_is_ended_a_second_after_the_deadline(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, deadline="30 s")
    now[0] = 30.9
    assert lab.admission.stranded() == set()
    now[0] = 31.1
    assert lab.admission.stranded() == {chain.key for chain in lab.busy}


def seconds_pass(lab: Lab, now: list[float], seconds: int) -> set[str]:
    """Chains that hang, asked every half second."""
    found = set()
    for _ in range(2 * seconds):
        now[0] += 0.5
        found |= lab.admission.silent()
    return found


def test_a_chain_that_says_nothing_for_too_long_hangs_and_one_that_reports_does_not(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, runtime={"silence": "30 s"})
    heard, unheard = lab.busy
    for chain in lab.busy:
        lab.hear(chain, 0.0)
    assert seconds_pass(lab, now, 20) == set()
    lab.hear(heard, 0.0)
    assert seconds_pass(lab, now, 20) == {unheard.key}
    lab.hear(heard, 0.0)
    assert seconds_pass(lab, now, 31) == {heard.key}  # the other one's next worker starts meanwhile


def test_a_worker_that_starts_has_five_minutes_for_its_first_report(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, runtime={"silence": "30 s"})
    assert seconds_pass(lab, now, 299) == set()
    assert seconds_pass(lab, now, 2) == {chain.key for chain in lab.busy}


def test_time_for_which_the_driver_itself_stood_still_is_no_silence(tmp_path):
    now = [0.0]
    lab = silent(tmp_path, now, runtime={"silence": "30 s"})
    for _ in range(5):
        now[0] += 3600.0
        assert lab.admission.silent() == set()


def test_a_chain_that_waits_for_a_machine_does_not_hang(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, runtime={"silence": "30 s"}), tmp_path, clock=lambda: now[0])
    lab.admission.spending.queued = True
    lab.fill()
    assert seconds_pass(lab, now, 100) == set()


def test_a_chain_that_waits_for_a_machine_uses_nothing_until_it_has_one(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, budget="20 device-seconds", runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.admission.spending.queued = True
    lab.fill()
    now[0] = 600.0
    assert lab.admission.stranded() == set()
    lab.admission.placed(lab.busy[0].key)
    now[0] = 619.0
    lab.admission.placed(lab.busy[0].key)
    assert lab.admission.stranded() == set()
    now[0] = 621.0
    assert lab.admission.stranded() == {lab.busy[0].key}


def test_a_measured_speed_contains_what_chains_do_beside_computing():
    """Work of the same size is priced at what it has cost."""
    speed = Speed((("tiny", 1e12, 50.0), ("tiny", 1e12, 70.0)))
    assert speed.device_seconds("tiny", 1e12) == pytest.approx(60.0)
    assert speed.device_seconds("another", 1e12) == pytest.approx(60.0)


def test_a_chain_goes_on_only_where_the_most_it_spent_between_two_reports_is_there_again(tmp_path):
    """Loading, before the first report, is no measure of that; a dev evaluation is."""
    cost = float(summary(study(tmp_path), Costs(study(tmp_path)), Speed())["flops_shared"])
    lab = Lab(study(tmp_path, budget=f"{cost:.0f} flops"), tmp_path)
    lab.fill()
    (chain,) = lab.busy
    lab.hear(chain, 0.6 * cost)
    assert lab.admission.may_go_on(chain.key)
    lab.hear(chain, 0.8 * cost)
    lab.hear(chain, 0.81 * cost)
    assert not lab.admission.may_go_on(chain.key)


def test_the_time_that_a_chain_takes_to_load_says_nothing_about_what_it_needs_until_its_next_report(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, budget="100 device-seconds", runtime=GPU), tmp_path, clock=lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    for seconds, preparing in ((1.0, True), (50.0, True), (60.0, False), (60.5, False)):
        now[0] = seconds
        lab.hear(chain, 0.0, preparing=preparing)
    assert lab.admission.running[chain.key].step["device_seconds"] == 0.5


def test_what_a_chain_spends_until_it_stops_is_charged(tmp_path):
    lab = Lab(study(tmp_path, budget="1e6 flops"), tmp_path)
    lab.admission.spending.budget = lab.admission.plan.study.budget.model_copy(update={"amount": 1e30})
    lab.fill()
    lab.admission.spending.budget = lab.admission.plan.study.budget
    lab.hear(lab.busy[0], 1e15)
    assert not lab.admission.may_go_on(lab.busy[0].key)
    assert lab.ledger.spent()[0] == 1e15


def test_at_the_deadline_nothing_starts_what_runs_stops_and_a_later_run_continues(tmp_path):
    now = [0.0]
    lab = Lab(study(tmp_path, deadline="2 min"), tmp_path, clock=lambda: now[0])
    lab.fill()
    started = lab.busy[0]
    lab.hear(started, 1.0)
    assert lab.admission.may_go_on(started.key)
    now[0] = 120.0
    assert not lab.admission.may_go_on(started.key)
    lab.admission.ended(started.key)
    assert lab.admission.next() is None
    assert lab.admission.finished
    assert lab.admission.outcomes.unpaid == [started]
    later = Lab(study(tmp_path, deadline="2 min"), tmp_path, clock=lambda: now[0])
    later.fill()
    assert later.busy == [started]


def test_a_restart_forecasts_with_the_speed_that_was_measured_before(tmp_path):
    first = Lab(study(tmp_path), tmp_path).run(chains=3)
    again = Lab(study(tmp_path), tmp_path)
    assert first.admission.spending.speed.measured
    assert again.admission.spending.speed.device_seconds("tiny", 1e12) == first.admission.spending.speed.device_seconds(
        "tiny", 1e12
    )


def test_a_failed_candidate_is_charged_and_lets_its_cell_go_on(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.finish(lab.busy.pop(0))
    lab.fill()
    failed = lab.busy.pop(0)
    lab.hear(failed, 5.0)
    lab.admission.ended(failed.key, "out of luck")
    before = lab.admission.spending.spent
    lab.run()
    assert before > 0
    assert [reason for _, reason in lab.admission.outcomes.failed] == [f"out of luck (logs/{failed.key}.log)"]
    assert len(lab.admission.outcomes.done) == lab.admission.total - 1


def collapsing(lab: Lab, kind: str, tasks: tuple[str, ...]) -> Lab:
    """All phases of a kind on these tasks will learn nothing."""
    chains = lab.admission.plan.planned_chains()
    phases = [phase for chain in chains for phase in chain.phases]
    lab.collapsing |= {phase.key for phase in phases if (phase.kind, phase.recipe.tasks) == (kind, tasks)}
    return lab


def test_all_chains_of_a_collapsed_phase_end_collapsed_and_one_of_them_had_a_worker(tmp_path):
    lab = collapsing(Lab(study(tmp_path), tmp_path, workers=3), "intermediate", ("world/nli",)).run()
    ended = [chain for chain, _ in lab.admission.outcomes.collapsed]
    assert {chain.cell.intermediate for chain in ended} == {("world/nli",)}
    assert len({chain.cell.target for chain in ended}) == 3
    started = [chain for chain in lab.started if chain.cell.intermediate == ("world/nli",)]
    assert len(started) == len({chain.phases[1].key for chain in started}) == 2  # one per seed
    assert all(lab.trained[phase.key] <= 1 for chain in ended for phase in chain.phases)
    assert not lab.admission.outcomes.failed
    assert lab.admission.finished
    states = Counter(row.state for row in lab.ledger.chains())
    assert states == {"done": len(lab.admission.outcomes.done), "collapsed": len(ended)}


def test_a_restart_tries_no_collapsed_chain_again(tmp_path):
    lab = collapsing(Lab(study(tmp_path), tmp_path, workers=3), "intermediate", ("world/nli",)).run()
    again = Lab(study(tmp_path), tmp_path)
    assert again.admission.next() is None
    assert again.admission.finished
    assert {chain.key for chain, _ in again.admission.outcomes.collapsed} == {
        chain.key for chain, _ in lab.admission.outcomes.collapsed
    }


def test_a_collapsed_only_candidate_is_its_cells_result_whichever_chain_ends_first(tmp_path):
    """Its other seeds are run: they may learn something."""
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        lab = Lab(study(folder, tuning={"candidates": 1}, target={"learning_rate": 1e-3}), folder, workers)
        first = next(c for c in lab.admission.plan.planned_chains() if c.cell.intermediate == ("world/nli",))
        lab.collapsing.add(first.phases[1].key)
        lab.run()
        rows = [
            row
            for row in lab.ledger.chains()
            if row.cell.intermediate == ("world/nli",) and row.cell.target == "world/ner"
        ]
        assert {(row.seed, row.state, row.selected) for row in rows} == {(1, "collapsed", True), (2, "done", True)}


def test_a_collapsed_candidate_never_wins_and_the_others_are_compared_without_it(tmp_path):
    middle = {"learning_rate": {"log": [1e-4, 1e-2], "points": 4}}
    fixed = {"learning_rate": 1e-3}
    plan = study(tmp_path, intermediate=middle, target=fixed)
    lab = Lab(plan, tmp_path)
    chains = [chain for chain in plan.planned_chains() if chain.role == "candidate" and chain.cell.intermediate]
    lab.collapsing |= {chain.phases[1].key for chain in chains if chain.candidate == 0}
    lab.run()
    won = {row.cell.name: row.candidate for row in lab.ledger.chains() if row.selected and row.role == "candidate"}
    cells = {chain.cell.name for chain in chains}
    assert cells <= won.keys()
    assert all(won[cell] != 0 for cell in cells)


def test_a_cell_whose_every_candidate_collapsed_has_no_winner_and_no_other_seeds(tmp_path):
    lab = collapsing(Lab(study(tmp_path), tmp_path), "intermediate", ("world/nli",)).run()
    rows = [
        row for row in lab.ledger.chains() if row.cell.intermediate == ("world/nli",) and row.cell.target == "world/ner"
    ]
    assert {(row.role, row.state, row.selected) for row in rows} == {("candidate", "collapsed", False)}
    assert "learned nothing in" in rows[0].message


def test_the_studys_line_counts_collapsed_chains_apart_from_failed_ones(tmp_path):
    lab = collapsing(Lab(study(tmp_path), tmp_path), "intermediate", ("world/nli",)).run()
    line = study_line(lab.admission, seconds_left=0.0)
    assert f"{len(lab.admission.outcomes.collapsed)} collapsed, 0 running" in line
    assert "failed" not in line


def test_a_worker_that_begins_a_chain_anew_leaves_its_first_attempt_charged(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.hear(lab.busy[0], 7.0, started=1.0)
    lab.hear(lab.busy[0], 2.0, started=2.0)
    lab.hear(lab.busy[0], 3.0, started=2.0)
    assert lab.ledger.spent()[0] == 10.0


def test_nothing_starts_once_the_user_wants_to_stop(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.admission.closing = True
    assert lab.admission.next() is None
    assert lab.admission.finished


def test_the_studys_line_says_how_far_it_is(tmp_path):
    lab = Lab(study(tmp_path, budget="1000 device-seconds"), tmp_path).run(chains=2)
    line = study_line(lab.admission, seconds_left=30.0)
    assert line.startswith(f"small: 2 of {lab.admission.total} chains done, 0 running; ")
    assert "of 1,000 device-seconds spent; about 30 s left" in line


def test_a_chains_line_says_what_it_is_doing(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, clock=lambda: 0.0)
    lab.fill()
    (chain,) = lab.busy
    running = lab.admission.running[chain.key]
    said = [chain_cells(running, 5.0)]
    for report in ({}, {"phase": "target", "preparing": True}, {"phase": "target", "step": 3, "steps": 9, "loss": 0.5}):
        lab.hear(chain, 0.0, **report)
        said.append(chain_cells(running, 5.0, rate=2.5))
    assert {name for name, *_ in said} == {f"{chain.cell.name} | seed 1"}
    assert [cells[1:] for cells in said] == [
        ("starting", "", "5 s"),
        ("starting", "", "5 s"),
        ("target loading", "", "5 s"),
        ("target 3/9, 2.5 steps/s", "loss 0.500", "5 s"),
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_line_of_the_live_view_is_wider_than_the_terminal(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lab = Lab(study(tmp_path), tmp_path, workers=2)
    lab.fill()
    lab.hear(lab.busy[0], 1e9, phase="target", key="key", step=3, steps=9, loss=0.5)
    stream = Terminal()
    shown = Display(lab.admission, 2.0, stream)
    shown.update()
    shown.say("a line that stays")
    shown.clear()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", stream.getvalue())]
    assert any("target 3/9" in line for line in lines)
    assert "a line that stays" in lines
    assert max(map(len, lines)) <= width


def test_elsewhere_the_studys_line_is_followed_by_what_its_chains_do(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.hear(lab.busy[0], 1e9, phase="target", key="key", step=3, steps=9, loss=0.5)
    stream = io.StringIO()
    Display(lab.admission, 2.0, stream).update()
    first, second, end = stream.getvalue().split("\n")
    assert first.startswith("small: 0 of ")
    assert second.startswith(f"  {lab.busy[0].cell.name} | seed 1, target 3/9, loss 0.500, ")
    assert end == ""


def test_the_forecast_learns_from_chains_that_run_and_leaves_out_the_steps_that_they_have_made(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    (chain,) = lab.busy
    first, work = chain.phases[0], lab.admission.costs.parts(chain)[chain.phases[0].key]
    begun = device_seconds_left(lab.admission)
    lab.hear(chain, 1e9, device_seconds=100.0, phase=first.kind, key=first.key, step=0, steps=10)
    slow = device_seconds_left(lab.admission)
    lab.hear(chain, 2e9, device_seconds=200.0, phase=first.kind, key=first.key, step=5, steps=10)
    assert slow > 10 * begun  # 100 s for 1e9 FLOPs
    assert slow - device_seconds_left(lab.admission) == pytest.approx(work / 2 * 100 / 1e9)


def test_time_left_is_what_is_left_at_the_pace_of_the_last_two_minutes():
    pace = Pace(devices=2.0)
    pace.note(0.0, 0.0, 2)
    assert pace.devices == 2.0  # nothing is measured yet
    pace.note(10.0, 20.0, 2)
    assert (pace.devices, pace.share) == (2.0, 1.0)
    for second in range(20, 200, 10):  # others come
        pace.note(float(second), 20.0 + 0.4 * (second - 10), 2)
    assert (pace.devices, pace.share) == (pytest.approx(0.4), pytest.approx(0.2))


def test_the_pace_is_noted_every_second_whatever_is_written(tmp_path, monkeypatch):
    """Lines are written where chains end, when others than those that have computed are at work."""
    lab, now = Lab(study(tmp_path), tmp_path), [1000.0]
    monkeypatch.setattr("sweep.run.progress.time.time", lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    stream = io.StringIO()
    shown = Display(lab.admission, 1.0, stream)
    for second in range(20):
        now[0] += 1.0
        lab.hear(chain, 1e9, device_seconds=0.2 * second, phase="pretrain", key="key", step=second, steps=50)
        shown.update()
    shown.update()
    lab.admission.ended(chain.key, "enough")
    lab.admission.outcomes.collapsed.append((chain, ""))
    now[0] += 1.0
    shown.update()
    assert "a chain gets 20% of a core" in stream.getvalue().splitlines()[-1]


def test_a_machine_that_others_keep_busy_is_named(tmp_path):
    admission = Lab(study(tmp_path), tmp_path).admission
    assert study_line(admission, 0.0, 0.2).endswith("; machine overloaded: a chain gets 20% of a core")
    assert "busy" not in study_line(admission, 0.0, STARVED)


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (95, "1 min 35 s"), (7260, "2 h 01 min"), (-1, "0 s")])
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_proposal_depends_on_the_finished_candidates_alone_and_repeats_none(tmp_path):
    plan = study(tmp_path)
    cell = next(cell for cell in plan.cells if not cell.intermediate and cell.target == "world/topic")
    tried: list[CandidateResult] = []
    for number in range(5):
        rates = rates_for(plan, cell, number, tried, {})
        assert rates == rates_for(plan, cell, number, list(tried), {})
        assert rates not in [one.rates for one in tried]
        tried.append(CandidateResult(rates, 0.1 * number))
    assert len({one.rates["target"] for one in tried}) == 5


def test_start_up_candidates_of_a_cell_that_follows_nobody_are_those_of_the_plan(tmp_path):
    plan = study(tmp_path, tuning={"candidates": 4, "startup": 4})
    for cell in plan.cells:
        tried: list[CandidateResult] = []
        for number in range(plan.candidates(cell)):
            assert rates_for(plan, cell, number, tried, {}) == plan.planned_rates(cell, number)
            tried.append(CandidateResult(plan.planned_rates(cell, number), None))


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
        found = [rates_for(plan, cell, number, [*tried, *upper], {})["target"] for number in range(24, 30)]
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
