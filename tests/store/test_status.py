"""Facts about the status of a study: what is done, runs, has failed and is left, and what a change does again."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from instant_workers import Lab
from small_studies import plan_of, study_file

from sweep.cli import main
from sweep.store import paths
from sweep.store.ledger import DRIVER

AXES = {"intermediate": ["none", "world/nli"], "target": ["world/topic", "world/ner"], "seed": [1, 2]}


def lab_of(folder: Path, **changes: Any) -> Lab:
    """Workers on a study of eight chains, whose results folder has its file as a run leaves it there."""
    lab = Lab(plan_of(study_file(folder, AXES, results="results", **changes)), folder / "results")
    shutil.copy(folder / "study.yaml", folder / "results" / paths.STUDY_FILE)
    return lab


def said(command: str, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([command, str(folder / "study.yaml"), *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": {"learning_rate": 1e-3, "steps": 12}}, "  target.steps 8 -> 12: 8 phases are trained again, "),
        ({"intermediate": {"steps": 12}}, "  intermediate.steps 8 -> 12: 6 phases are trained again, "),
        ({"target": {"learning_rate": 2e-3}}, "  target.learning_rate 0.001 -> 0.002: 8 phases are trained again, "),
        ({"runtime": {"precision": "fp32"}}, "  runtime.precision auto -> fp32: "),
        ({"pretrain": {"clip": 2.0}}, "  pretrain.clip 1.0 -> 2.0: 12 phases are trained again, "),
    ],
)
def test_a_plan_says_which_key_makes_how_many_phases_be_trained_again(change, expected, tmp_path, capsys):
    lab_of(tmp_path).run()
    assert said("plan", tmp_path, capsys).endswith(f"in {tmp_path}/results: 8 of 8 chains are done\n")
    study_file(tmp_path, AXES, results="results", **change)
    lines = said("plan", tmp_path, capsys).splitlines()
    assert any(line.startswith(expected) and "device-" in line for line in lines)
    assert " of 8 chains are done; what is left takes about " in "\n".join(lines)
    assert "first time" not in "\n".join(lines)


def test_another_candidate_is_no_change(tmp_path, capsys):
    tuned = {"target": {"weight_decay": {"choices": [0.0, 0.1, 0.2]}}}
    lab_of(tmp_path, **tuned, tuning={"candidates": 2}).run()
    study_file(tmp_path, AXES, results="results", **tuned, tuning={"candidates": 3})
    found = json.loads(said("plan", tmp_path, capsys, "--json"))["standing"]
    assert (found["changed"], found["first"]) == ({}, {"target": 4})


def test_what_was_never_asked_for_is_no_change(tmp_path, capsys):
    lab_of(tmp_path).run()
    study_file(tmp_path, {**AXES, "intermediate": ["none", "world/nli", "world/pos"]}, results="results")
    found = json.loads(said("plan", tmp_path, capsys, "--json"))["standing"]
    assert (found["done"], found["left"], found["changed"]) == (8, 4, {})
    assert found["first"] == {"intermediate": 2, "target": 4}
    assert found["device_seconds"] > 0


def test_status_says_what_runs_and_what_has_failed_and_changes_nothing(tmp_path, capsys):
    lab = lab_of(tmp_path, budget="1000 device-seconds").run(chains=2)
    lab.ledger.note(DRIVER, time.time(), {"process": os.getpid(), "host": socket.gethostname(), "seconds_left": 90.0})
    lab.workers = 2
    lab.fill()
    failing, running = lab.busy
    lab.admission.ended(failing.key, "it broke")
    lab.hear(running, 1e9, phase="target", key="key", step=3, steps=9, loss=0.5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    text = said("status", tmp_path, capsys)
    found = json.loads(said("status", tmp_path, capsys, "--json"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()} == before
    head, spent, work, _, chain, failed = text.splitlines()
    assert head == "small: 2 of 4 chains done, 1 running, 1 left, 1 of them failed"
    assert "of 1,000 device-seconds spent" in spent
    assert work.startswith(
        f"  a run is at work (process {os.getpid()} on {socket.gethostname()}, last heard of 0 s ago)"
    )
    assert work.endswith("about 1 min 30 s left")
    assert f"{running.cell.name} | seed {running.seed}" in chain
    assert "target 3/9, loss 0.500" in chain
    assert failed == f"failed: {failing.cell.name}, seed {failing.seed}: it broke (logs/{failing.key}.log)"
    assert (found["running"][0]["doing"], found["failed"][0]["seed"]) == ("target 3/9, loss 0.500", failing.seed)
    assert main(["status", str(tmp_path / "results")]) == 0
    assert capsys.readouterr().out.splitlines()[0] == head


def test_a_run_that_was_killed_is_not_at_work(tmp_path, capsys):
    lab = lab_of(tmp_path)
    lab.fill()
    lab.ledger.note(DRIVER, time.time(), {"process": 2**22 + 1, "host": socket.gethostname()})
    assert "no run is at work (process 4194305 on " in said("status", tmp_path, capsys)
    assert json.loads(said("status", tmp_path, capsys, "--json"))["running"] == []
    lab.ledger.note(DRIVER, time.time(), {"process": 1, "host": "elsewhere"})
    text = said("status", tmp_path, capsys)
    assert "a run on another machine has not said that it ended (process 1 on elsewhere, last heard of 0 s ago" in text
    assert "1 running" in text


def test_status_of_what_is_no_results_folder_is_one_line(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"sweep: {tmp_path}: found no study; the results folder of a 'sweep run' is expected\n"
    )
