"""Facts about where results are: beside the study file, whatever the working directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from finished_study import FinishedStudy
from small_studies import study_file

from sweep.cli import main
from sweep.config.load import load, parse
from sweep.plan.facts import NO_FACTS
from sweep.store.ledger import results_of


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "spaces/runs/one"),
        ("results: ../runs/one", "runs/one"),
        ("results: here", "spaces/here"),
        ("results: /tmp/there", "/tmp/there"),
    ],
)
def test_a_results_folder_is_relative_to_the_study_file(asked: str, found: str) -> None:
    axes = "axes: {encoder: [world/tiny], intermediate: [none], target: [world/retrieval], seed: [1]}"
    assert parse(f"study: one\n{axes}\n{asked}", "spaces/one.yaml").results_folder == Path(found)


def begun(folder: Path, study: str = "small", file: str | None = None) -> Path:
    """A results folder in which a study has begun."""
    made = FinishedStudy(folder)
    facts = NO_FACTS.with_study(study)
    made.ledger.remember(facts if file is None else facts.with_study_file(file))
    made.ledger.close()
    return folder


def test_results_of_the_study_below_the_working_directory_are_said_and_neither_used_nor_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spaces").mkdir()
    path = study_file(tmp_path / "spaces")
    monkeypatch.chdir(tmp_path)
    earlier = begun(tmp_path / "runs/small")
    for command in (["plan", "spaces/study.yaml"], ["run", "spaces/study.yaml"], ["gc", "spaces/study.yaml"]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "sweep: spaces/study.yaml: results: found no results in spaces/runs/small, which is relative"
        )
        assert f"`results: {earlier}`" in line
    assert not (tmp_path / "spaces/runs").exists()
    shutil.move(earlier, tmp_path / "spaces/runs/small")
    assert results_of(load(path)) == tmp_path / "spaces/runs/small"
    assert main(["plan", "spaces/study.yaml"]) == 0


def test_another_study_with_results_below_the_working_directory_is_no_concern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spaces").mkdir()
    path = study_file(tmp_path / "spaces")
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "runs/small", "another")
    assert results_of(load(path)) == tmp_path / "spaces/runs/small"
    shutil.rmtree(tmp_path / "runs")
    begun(tmp_path / "runs/small", file="../../other.yaml")
    assert results_of(load(path)) == tmp_path / "spaces/runs/small"
