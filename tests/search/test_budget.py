"""Facts about money and time: what is reserved, charged and left, and which silent workers are ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from instant_workers import GPU, Lab, study

from sweep.plan.cost import Costs, Work
from sweep.plan.order import summary
from sweep.plan.speed import Speed


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
    assert again.admission.spending.speed == first.admission.spending.speed


def test_what_a_worker_takes_to_start_is_no_measure_of_what_it_computes(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    (chain,) = lab.busy
    lab.hear(chain, 0.0, device_seconds=30.0)
    lab.hear(chain, 1e9, device_seconds=31.0, phase=chain.phases[0].kind, key=chain.phases[0].key, committed=True)
    speed = lab.admission.spending.speed
    assert speed.device_seconds(Work("tiny", ("train",), 1e9)) == pytest.approx(1.0)


def test_results_of_a_version_that_measured_whole_chains_alone_still_give_a_speed(tmp_path):
    lab = Lab(study(tmp_path), tmp_path).run(chains=3)
    lab.ledger._rows("delete from facts where name like 'taken:%'")
    speed = Lab(study(tmp_path), tmp_path).admission.spending.speed
    assert speed.device_seconds(Work("tiny", ("train",), 1e12)) == pytest.approx(1000.0)


def test_a_worker_that_begins_a_chain_anew_leaves_its_first_attempt_charged(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.hear(lab.busy[0], 7.0, started=1.0)
    lab.hear(lab.busy[0], 2.0, started=2.0)
    lab.hear(lab.busy[0], 3.0, started=2.0)
    assert lab.ledger.spent()[0] == 10.0
