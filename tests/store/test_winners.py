"""Facts about weights of winners: kept within a disk budget, no garbage, and what a plan says of those released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from instant_workers import Lab
from small_studies import plan_of, study_file

from sweep.cli import main
from sweep.run.cleanup import collect
from sweep.store.artifacts import Store
from sweep.store.ledger import ChainRow

AXES = {"intermediate": ["none", "world/rte"], "target": ["world/topic", "world/retrieval"], "seed": [1, 2]}
TUNED = {"target": {"learning_rate": {"log": [1e-4, 1e-2], "points": 5}}, "tuning": {"candidates": 3, "startup": 3}}
SIZE = 1_000_000  # bytes of what a phase of these tests leaves


@pytest.fixture(autouse=True)
def _heavy(monkeypatch):
    """Every phase that a lab commits has weights."""
    plain = Store.commit_phase

    def commit(self, record, _files):
        weights = self.scratch(record.key) / "weights"
        weights.write_bytes(b"w" * SIZE)
        return plain(self, record, {weights.name: weights})

    monkeypatch.setattr(Store, "commit_phase", commit)


def study(folder: Path, **changes: object) -> Path:
    return study_file(folder, AXES, results=str(folder / "results"), **TUNED, **changes)


def finished(path: Path) -> Lab:
    return Lab(plan_of(path), path.parent / "results").run()


def kept(lab: Lab) -> set[str]:
    """Keys of target phases that have weights."""
    keys = lab.store.keys("phases")
    return {key for key in keys if lab.store.phase(key).kind == "target" and lab.store.has_weights(key)}


def won(lab: Lab) -> set[str]:
    """Keys of the target phases of winners, and of their replicas."""
    rows: list[ChainRow] = [row for row in lab.ledger.chains() if row.selected and row.cell.target == "world/topic"]
    return {row.phases[-1] for row in rows}


def test_of_a_cells_target_phases_the_winners_alone_keep_their_weights(tmp_path):
    lab = finished(study(tmp_path))
    assert len(lab.trained) == 2 + 2 + 2 * 3 + 2  # per seed: pretraining, intermediate phase; candidates; replicas
    assert len(won(lab)) == 2 * 2
    assert kept(lab) == won(lab)


def test_no_more_weights_are_kept_than_the_study_has_disk_for(tmp_path):
    lab = finished(study(tmp_path, runtime={"keep_winners": "2.5 MB"}))
    two = kept(lab)
    assert len(two) == 2
    assert two < won(lab)
    assert kept(finished(study(tmp_path, runtime={"keep_winners": "1 MB"}))) < two
    assert kept(finished(study(tmp_path, runtime={"keep_winners": 0}))) == set()


def test_weights_of_winners_are_no_garbage(tmp_path, monkeypatch):
    lab = finished(study(tmp_path))
    monkeypatch.setattr("sweep.run.study._check_encoders", lambda _plan, _facts: {})
    garbage = collect(tmp_path / "study.yaml")
    assert won(lab) & garbage.finished.keys() == set()
    assert len(garbage.finished) == 2 + 2  # pretraining, intermediate phases


def test_new_scores_of_winners_need_no_training_and_a_plan_says_what_does_and_why(tmp_path, capsys):
    lab = finished(study(tmp_path))
    path = study(tmp_path, scoring={"examples": 40})  # as a language that is added: all scores are asked for anew
    losers = 2 * 2
    assert main(["plan", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"in {tmp_path}/results: 0 of 12 chains are done" in said
    assert (
        f"to train again: {losers} target phases, whose weights were released after scoring: scores of world/topic"
        in said
    )
    assert f"to score without training: {12 - losers} chains" in said
    assert "for the first time" not in said
    again = finished(path)
    assert sum(again.trained.values()) == losers
    assert not again.trained.keys() & won(lab)
    assert main(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["standing"]["done"] == 12


def test_a_plan_of_a_study_without_results_says_nothing_of_them(tmp_path, capsys):
    assert main(["plan", str(study(tmp_path)), "--json"]) == 0
    assert "standing" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("value", ["20", "20 KB", -1, "much", True])
def test_a_size_on_disk_has_a_unit(value, tmp_path, capsys):
    assert main(["plan", str(study(tmp_path, runtime={"keep_winners": value}))]) == 2
    assert "runtime.keep_winners" in capsys.readouterr().err
