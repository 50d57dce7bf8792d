"""Facts about what may start, held without Ray: finished work is committed to a real store by the test itself."""

from __future__ import annotations

from collections import Counter

from instant_workers import Lab, collapsing, phase_record, study


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
            assert (row.candidate, row.hyperparameters) == lab.winners()[row.cell.name]


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


def test_nothing_starts_once_the_user_wants_to_stop(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.admission.closing = True
    assert lab.admission.next() is None
    assert lab.admission.finished
