"""Facts about `sweep gc`: what it finds, what it deletes, and that a study loses nothing but time by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from pandas.testing import assert_frame_equal
from small_studies import chains_of, finish, reported, stopped_after, study_file, unmeasured, with_data_of

from sweep.cli import main
from sweep.run.cleanup import Garbage, collect
from sweep.run.preview import preview
from sweep.store.artifacts import Store

TWO = {"intermediate": ["none", "world/pos"]}
WSD = {"schedule": "wsd", "warmup": {"steps": 1}, "epochs": 1.0, "steps": None, "evaluations": 1}
NOW_AND_THEN = {"checkpoint_seconds": 1e-6}


@pytest.fixture(scope="module")
def prepared(small_store, tmp_path_factory) -> Store:
    """A store with the tokenizer and the data of all that is read below."""
    folder = tmp_path_factory.mktemp("prepared")
    store = with_data_of(small_store, folder / "store")
    finish(study_file(folder, {**TWO, "target": ["world/topic", "world/ner"]}), store)
    return store


@pytest.fixture
def results(prepared, tmp_path) -> Path:
    """The results folder of studies in `tmp_path`; nothing has run in it."""
    with_data_of(prepared, tmp_path / "results" / "store")
    return tmp_path / "results"


def study(folder: Path, axes=TWO, **changes) -> Path:
    return study_file(folder, axes, results=str(folder / "results"), **changes)


def store_of(results: Path) -> Store:
    return Store(results / "store")


def kinds(results: Path, found) -> list[str]:
    return sorted(store_of(results).phase(key).kind for key in found)


def held(results: Path) -> set[str]:
    store = store_of(results)
    return {key for key in store.keys("phases") if store.bytes_held(store.phase(key))}


def test_weights_of_a_finished_study_are_needed_by_nobody_and_stay_until_that_is_asked_for(results, tmp_path):
    path = study(tmp_path)
    reported(path, results)
    before = held(results)
    garbage = collect(path, delete=True)
    assert kinds(results, garbage.finished) == ["intermediate", "pretrain"]
    assert all(size > 10_000 for size in garbage.finished.values())
    assert (garbage.outdated, garbage.half_done) == ({}, {})
    assert held(results) == before
    collect(path, delete=True, finished=True)
    assert held(results) == set()
    assert collect(path) == Garbage({}, {}, {})


def test_a_report_is_the_same_when_the_weights_are_gone_and_nothing_is_trained_again(results, tmp_path):
    path = study(tmp_path)
    before, _ = reported(path, results)
    collect(path, delete=True, finished=True)
    after, done = reported(path, results)
    assert_frame_equal(before.scores, after.scores)
    assert done == 2
    assert held(results) == set()


def test_a_target_that_is_added_later_scores_as_in_a_fresh_study(results, prepared, tmp_path):
    path = study(tmp_path)
    reported(path, results)
    collect(path, delete=True, finished=True)
    path = study(tmp_path, {**TWO, "target": ["world/topic", "world/ner"]})
    added, _ = reported(path, results)
    with_data_of(prepared, tmp_path / "fresh" / "store")
    fresh, _ = reported(path, tmp_path / "fresh")
    one, other = (report.scores.drop(columns="device_seconds") for report in (added, fresh))
    assert_frame_equal(*(frame.sort_values(["chain", "language"], ignore_index=True) for frame in (one, other)))


def test_weights_that_the_file_does_not_ask_for_any_more_are_deleted_and_its_own_are_not(results, tmp_path):
    reported(study(tmp_path), results)
    path = study(tmp_path, intermediate={"steps": 9})
    reported(path, results)
    garbage = collect(path, delete=True)
    (old,) = garbage.outdated
    assert store_of(results).phase(old).steps == 8
    assert store_of(results).phase(old).released
    assert kinds(results, held(results)) == ["intermediate", "pretrain"]


def test_what_a_chain_may_still_start_from_is_kept_whatever_is_asked_for(results, tmp_path):
    reported(study(tmp_path), results)
    path = study(tmp_path, {**TWO, "target": ["world/topic", "world/ner"]})
    assert collect(path, delete=True, finished=True) == Garbage({}, {}, {})
    assert kinds(results, held(results)) == ["intermediate", "pretrain"]


def test_a_seed_that_has_not_run_keeps_the_weights_of_its_cell(results, tmp_path):
    reported(study(tmp_path), results)
    assert collect(study(tmp_path, {**TWO, "seed": [1, 2]})).finished == {}


def test_of_a_cell_whose_rates_are_still_to_be_chosen_weights_of_all_rates_are_kept(results, tmp_path):
    grid = {"learning_rate": {"log": [1e-4, 1e-2], "points": 3}}
    axes = {"intermediate": ["world/pos"]}
    reported(study(tmp_path, axes, intermediate=grid, tuning={"candidates": 2}), results)
    path = study(tmp_path, axes, intermediate=grid, tuning={"candidates": 3})
    assert collect(path) == Garbage({}, {}, {})
    assert kinds(results, held(results)) == ["intermediate", "intermediate", "pretrain"]


def test_a_trunk_is_kept_as_long_as_a_longer_run_is_left(results, tmp_path):
    axes = {"intermediate": ["world/pos"]}
    few, many = ({**axes, "volume": volumes} for volumes in ([50, 100], [50, 100, 200]))
    path = study(tmp_path, few, intermediate=WSD)
    reported(path, results)
    assert kinds(results, collect(path).finished) == ["intermediate", "intermediate", "pretrain", "trunk"]
    longer = collect(study(tmp_path, many, intermediate=WSD))
    assert kinds(results, longer.finished) == ["intermediate", "intermediate"]


def begun(path: Path, results: Path) -> None:
    """Stops the last chain in the middle of a phase."""
    *_, (chain, plan) = chains_of(path)
    stopped_after(chain, plan, store_of(results), 60)


def test_a_phase_that_was_begun_is_kept_until_no_chain_will_go_on_with_it(results, tmp_path):
    reported(study(tmp_path, {"intermediate": ["none"]}), results)
    path = study(tmp_path, runtime=NOW_AND_THEN, intermediate={"steps": 500})
    begun(path, results)
    (key,) = store_of(results).keys("scratch")
    assert collect(path, delete=True).half_done == {}
    assert store_of(results).keys("scratch") == [key]
    (size,) = collect(study(tmp_path, {"intermediate": ["none"]}), delete=True).half_done.values()
    assert size > 10_000
    assert store_of(results).keys("scratch") == []


def test_target_weights_that_the_file_wants_kept_are_kept(results, tmp_path):
    path = study(tmp_path, runtime={"keep_target_weights": True})
    reported(path, results)
    collect(path, delete=True, finished=True)
    assert kinds(results, held(results)) == ["target", "target"]


def test_short_phases_of_a_preview_are_finished_and_not_of_another_study(results, tmp_path):
    path = study(tmp_path)
    preview(path)
    reported(path, results)
    garbage = collect(path)
    assert garbage.outdated == {}
    assert kinds(results, garbage.finished) == ["intermediate", "intermediate", "pretrain"]


def test_scores_and_records_are_left_alone(results, tmp_path):
    path = study(tmp_path)
    reported(path, results)
    store = store_of(results)
    before = {key: unmeasured(store.score(key)) for key in store.keys("scores")}
    curves = {key: store.phase(key).curve for key in store.keys("phases")}
    collect(path, delete=True, finished=True)
    assert {key: unmeasured(store.score(key)) for key in store.keys("scores")} == before
    assert {key: store.phase(key).curve for key in store.keys("phases")} == curves
    assert all(store.statistics(key) for key in store.keys("scores"))


# The command


def test_the_command_says_what_it_would_delete_and_deletes_when_told_to(results, tmp_path, capsys):
    path = study(tmp_path)
    reported(path, results)
    assert main(["gc", str(path)]) == 0
    text = capsys.readouterr().out
    assert "2  weights of finished phases that no chain is left to warm-start from" in text
    assert f"nothing deleted: 'sweep gc {path} --delete'" in text
    assert main(["gc", str(path), "--delete", "--finished"]) == 0
    assert capsys.readouterr().out.endswith("deleted\n")
    assert held(results) == set()


def test_a_study_that_never_ran_is_one_line_and_makes_no_folder(tmp_path, capsys):
    path = study(tmp_path)
    assert main(["gc", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'results'}: found no study" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_nothing_is_deleted_under_a_run_that_is_at_work(results, tmp_path, capsys):
    path = study(tmp_path)
    reported(path, results)
    with FileLock(results / ".lock"):
        assert main(["gc", str(path), "--delete", "--finished"]) == 2
    assert "another 'sweep run' at work" in capsys.readouterr().err
    assert len(held(results)) == 2
