"""A study file that was changed between two runs: its results are those of a fresh study of the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pandas.testing import assert_frame_equal
from small_studies import finish, plan_of, reported, study_file, with_data_of

from sweep.store.artifacts import Store
from sweep.store.index import superseded
from sweep.store.ledger import DONE, SUPERSEDED

GRID = {"learning_rate": {"log": [1e-4, 1e-2], "points": 3}}
NLI = {"intermediate": ["none", "world/nli"]}
THREE = {"intermediate": ["none", "world/nli", "world/pos"]}
OWN = {
    "family": "sequence", "format": "tsv", "columns": {"text": "text", "label": "label"}, "labels": ["x", "y"],
    "languages": ["en", "sw"], "train": "train.tsv", "dev": "dev.tsv", "test": "{language}.tsv",
}  # fmt: skip
MEASURED = ["device_seconds"]


@pytest.fixture(scope="module")
def prepared(small_store, tmp_path_factory) -> Store:
    """A store with the tokenizer and the data of all that is read below."""
    folder = tmp_path_factory.mktemp("prepared")
    store = with_data_of(small_store, folder / "store")
    finish(study_file(folder, THREE), store)
    return store


def results_of(path: Path, results: Path, prepared: Store):
    if not results.exists():
        with_data_of(prepared, results / "store")
    report, _ = reported(path, results)
    frame = report.scores.drop(columns=MEASURED)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True), report


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"axes": NLI}, {"axes": THREE}),
        ({"axes": THREE}, {"axes": NLI}),
        ({"axes": {"seed": [1, 2]}}, {"axes": {"seed": [2]}}),
        ({"axes": {"seed": [1, 2]}, "target": GRID, "tuning": {"candidates": 2}}, {"axes": {"seed": [2, 1]}}),
        ({"axes": NLI}, {"axes": NLI, "intermediate": {"steps": 10}}),
        ({"axes": NLI}, {"axes": NLI, "scoring": {"examples": 30}}),
        ({"target": GRID, "tuning": {"candidates": 3}}, {"target": GRID, "tuning": {"candidates": 2}}),
        ({"target": GRID, "tuning": {"candidates": 2}}, {"target": GRID, "tuning": {"candidates": 3}}),
        ({"target": GRID, "tuning": {"candidates": 2}}, {"tuning": {"candidates": 2}}),
        ({"axes": {**NLI, "seed": [1, 2]}, "budget": "6e9 flops"}, {"axes": {**NLI, "seed": [1, 2]}}),
    ],
    ids=["value added", "value gone", "seed gone", "seeds turned round", "steps", "examples", "fewer candidates",
         "more candidates", "other rates", "more money"],
)  # fmt: skip
def test_a_study_that_was_changed_has_the_results_of_a_fresh_one(before, after, prepared, tmp_path):
    path = study_file(tmp_path, **before)
    results_of(path, tmp_path / "changed", prepared)
    path = study_file(tmp_path, **after)
    changed, _ = results_of(path, tmp_path / "changed", prepared)
    fresh, _ = results_of(path, tmp_path / "fresh", prepared)
    assert_frame_equal(changed, fresh)


def write_rows(folder: Path, first: int) -> None:
    for name in ("train", "dev", "en", "sw"):
        lines = [f"word{(number + first) % 7} here\t{'xy'[number % 2]}" for number in range(20)]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]))


def test_a_data_file_that_was_changed_leaves_no_result_behind(prepared, tmp_path):
    study: dict[str, Any] = {"axes": {"target": ["own"]}, "tasks": {"own": OWN}}
    write_rows(tmp_path, 0)
    results_of(study_file(tmp_path, **study), tmp_path / "changed", prepared)
    write_rows(tmp_path, 1)
    changed, report = results_of(study_file(tmp_path, **study), tmp_path / "changed", prepared)
    fresh, _ = results_of(study_file(tmp_path, **study), tmp_path / "fresh", prepared)
    assert_frame_equal(changed, fresh)
    assert sorted(chain.state for chain in report.chains) == [DONE, SUPERSEDED]


def test_nothing_of_a_study_that_was_not_changed_is_outdated(prepared, tmp_path):
    tuned = {"intermediate": GRID, "target": GRID, "tuning": {"candidates": 3, "startup": 2}}
    path = study_file(tmp_path, {**NLI, "target": ["world/topic", "world/pos"], "seed": [1, 2]}, **tuned)
    _, report = results_of(path, tmp_path / "results", prepared)
    assert {chain.candidate for chain in report.chains} == {0, 1, 2}
    assert list(superseded(plan_of(path), report.chains)) == []


def test_a_change_that_is_taken_back_brings_its_results_back(prepared, tmp_path):
    path = study_file(tmp_path, NLI)
    first, _ = results_of(path, tmp_path / "results", prepared)
    _, between = results_of(study_file(tmp_path, NLI, target={"steps": 4}), tmp_path / "results", prepared)
    assert sum(chain.state == SUPERSEDED for chain in between.chains) == 2
    again, report = results_of(study_file(tmp_path, NLI), tmp_path / "results", prepared)
    assert_frame_equal(again, first)
    assert sum(chain.state == SUPERSEDED for chain in report.chains) == 2
