"""Facts about `sweep run` that ends before its time: no money, no time, a worker that hangs, chains that fail."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from real_runs import ended, finished, running
from safetensors.torch import save_file
from small_studies import finish, plan_of, reported, study_file, unmeasured, with_data_of
from small_tokenizers import small_tokenizer
from tiny_models import SHAPES

from sweep.cli import main
from sweep.models.encoders import random_encoder
from sweep.plan.facts import NO_FACTS
from sweep.search.devices import work_names
from sweep.store.artifacts import Store
from sweep.store.ledger import FAILED, Ledger


def test_a_budget_too_small_for_any_chain_starts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study_file(tmp_path, results="results", budget="1e6 flops")
    assert main(["run", "study.yaml"]) == 0
    text = capsys.readouterr().out
    assert "0 of 1 chains done, 0 phases trained now" in text
    assert "exhausted with 1 chains left" in text
    (least,) = re.findall(r"at least ([0-9.e+]+ FLOPs), and", text)
    assert main(["plan", "study.yaml"]) == 0
    assert f"below the cheapest chain, which needs {least}" in capsys.readouterr().out


def test_a_share_of_a_gpu_that_no_device_has_is_a_mistake_of_one_line(ready, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    study_file(tmp_path, results="results", runtime={"gpu": 0.5})
    ready(tmp_path)
    text = finished(tmp_path, code=2)
    assert "runtime.gpu: found 0.5; this machine has 0 GPUs" in text
    assert "Traceback" not in text


def test_chains_with_different_shares_of_a_device_run_on_one(ready, tmp_path, monkeypatch):
    """A GPU that only Ray believes in: scores have been measured, intermediate phases have not."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    axes = {"intermediate": ["none", "world/rte"]}
    plan = plan_of(study_file(tmp_path, axes, results="results", runtime={"gpu": "auto"}))
    names = {name for chain in plan.planned_chains() for name in work_names(plan, chain, chain.phases, scored=True)}
    known = NO_FACTS.with_cores_per_device(64)
    for name in names:
        known = known.with_memory(name, 1e10, 8e10) if "intermediate" not in name else known
    ready(tmp_path)
    with closing(Ledger(tmp_path / "results" / "ledger.sqlite")) as ledger:
        ledger.remember(known)
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))
    begun = time.time()
    assert ended(finished(tmp_path)) == (2, 2)
    with closing(Ledger(tmp_path / "results" / "ledger.sqlite")) as ledger:
        shares = [row.device_seconds / (row.ended - row.started) for row in ledger.chains()]
        spent = ledger.spent()[1]
    # A process that takes long to begin is charged from its beginning, and makes both shares of the clock smaller.
    assert min(shares) < 0.3
    assert max(shares) > 2 * min(shares)
    assert spent < time.time() - begun  # of one device


# Stopped while a chain loads, by its budget and by the deadline, then run to the end


@dataclass(frozen=True)
class Late:
    folder: Path
    poor: str  # what the run printed whose budget was spent before its first report
    spent: float  # what that was, in device-seconds
    overdue: str  # what the run printed whose deadline came as early
    rich: str  # what the run to the end printed


@pytest.fixture(scope="module")
def late(ready, tmp_path_factory):
    """To import torch takes more processor time than the cheapest chain costs, and no report comes before that."""
    folder, axes = tmp_path_factory.mktemp("late"), {"target": ["world/topic", "world/ner"]}
    study_file(folder, axes, results="results", budget="2.5 device-seconds")
    ready(folder)
    poor = finished(folder, cores=1)
    with closing(Ledger(folder / "results" / "ledger.sqlite")) as ledger:
        spent = ledger.spent()[1]
    study_file(folder, axes, results="results", deadline="1 s")
    overdue = finished(folder, cores=1)
    study_file(folder, axes, results="results", budget="1 device-hours", deadline="1 h")
    return Late(folder, poor, spent, overdue, finished(folder, cores=1))


STOPPED = r"stopped: tiny \| none .* seed 1 begins its pretrain phase anew"


def test_a_chain_whose_loading_takes_the_whole_budget_stops_at_its_first_report(late):
    assert len(re.findall(STOPPED, late.poor)) == 1
    assert "budget of 2 device-seconds exhausted with 2 chains left" in late.poor
    assert "0 phases trained now" in late.poor
    assert late.spent > 2.5


def test_a_chain_that_has_not_begun_at_the_deadline_is_stopped_and_no_failure(late):
    assert len(re.findall(STOPPED, late.overdue)) == 1
    assert "deadline reached with 2 chains left" in late.overdue
    assert "'sweep run study.yaml' resumes" in late.overdue
    assert "Trial" not in late.overdue  # of Tune


def test_more_money_and_more_time_go_on_to_the_scores_of_chains_that_nobody_stopped(late, tmp_path):
    assert ended(late.rich) == (2, 2)
    store, undisturbed = Store(late.folder / "results" / "store"), Store(tmp_path / "undisturbed")
    with_data_of(store, undisturbed.root)
    finish(late.folder / "study.yaml", undisturbed)
    assert store.keys("scores") == undisturbed.keys("scores")
    for key in store.keys("scores"):
        assert unmeasured(store.score(key)) == unmeasured(undisturbed.score(key))


def test_a_worker_that_hangs_is_ended_and_its_chain_is_begun_anew(ready, tmp_path):
    study_file(tmp_path, results="results", pretrain={"steps": 200}, runtime={"silence": "10 s"})
    ready(tmp_path)
    with running(tmp_path, cores=1) as run:
        run.freeze(run.at_work)
        assert run.wait() == 0, run.text
        assert ended(run.text) == (1, 1)
        assert [attempt for _, attempt, _ in run.attempts()] == [0, 1]


# Faults


def test_chains_that_fail_are_said_with_their_reason_and_the_others_are_done(tmp_path, monkeypatch):
    """An encoder with the weights of another, and a file where phases are to be trained: no chain with a phase can run.

    On a GPU that only Ray believes in: what is wrong with data or program is no reason for a new process there either.
    """
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"GPU": 1}))
    words = [row["text"] for row in plan_of(study_file(tmp_path)).tasks["world/topic"].source.rows("train", "pivot")]
    tokenizer = small_tokenizer("bert", words)
    for name in ("sound", "damaged"):
        tokenizer.save_pretrained(tmp_path / name)
        random_encoder(SHAPES["bert"], len(tokenizer), tokenizer.pad_token_id, 0).save_pretrained(tmp_path / name)
    save_file({"other": torch.zeros(3)}, tmp_path / "damaged" / "model.safetensors")
    (tmp_path / "results" / "store").mkdir(parents=True)
    (tmp_path / "results" / "store" / "scratch").write_text("a file", encoding="utf-8")
    axes = {"encoder": ["./damaged", "./sound"], "target": ["world/topic", "world/retrieval"]}
    study_file(tmp_path, axes, results="results", pretrain=None, encoders={}, runtime={"gpu": 1})
    text = finished(tmp_path, code=1)
    assert "1 of 4 chains done" in text
    assert "failed: ./damaged | none | - | world/retrieval, seed 1: encoder" in text
    assert "failed: ./sound | none | - | world/topic, seed 1: NotADirectoryError" in text
    assert "Traceback" not in text
    with closing(Ledger(tmp_path / "results" / "ledger.sqlite")) as ledger:
        failed = [row for row in ledger.chains() if row.state == FAILED]
    for row in failed:  # line, ledger and so report and MLflow name the log, which has where it ran and the traceback
        assert row.message in text
        (log,) = re.findall(r"\((logs/\w+\.log)\)$", row.message)
        said = (tmp_path / "results" / log).read_text(encoding="utf-8")
        assert re.match(
            rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S+ .*{row.cell.target}, seed 1, .*on node \S+, process \d+", said
        )
        assert said.count("Traceback (most recent call last)") >= 1
        assert said.count("on node") == 1  # one attempt, paid once
    assert len(failed) == 3


def test_chains_of_a_phase_that_learns_nothing_are_a_result_and_no_failure(ready, tmp_path, monkeypatch, capsys):
    """Three chains need it: it is tried as often as its recipe says, once, and the others end without a worker."""
    axes = {"intermediate": ["none", "world/rte"], "target": ["world/topic", "world/ner", "world/retrieval"]}
    hopeless = {"learning_rate": 5.0, "collapse_margin": 0.01, "retries": 1}
    study_file(tmp_path, axes, results="results", intermediate=hopeless)
    ready(tmp_path)
    text = finished(tmp_path, cores=1)
    assert "3 of 6 chains done" in text
    assert text.count("\ncollapsed: tiny | world/rte") == 3
    assert "the intermediate phase learned nothing in 2 attempts" in text
    found = pd.read_csv(tmp_path / "results" / "scores.csv")
    assert (found.chain.nunique(), found[found.collapsed].chain.nunique()) == (6, 3)
    assert set(found[found.collapsed].retries) == {1}
    store = Store(tmp_path / "results" / "store")
    assert [store.phase(key).kind for key in store.keys("phases")].count("intermediate") == 1
    monkeypatch.chdir(tmp_path)
    assert main(["run", "study.yaml"]) == 0
    assert "0 phases trained now" in capsys.readouterr().out


# Candidates compared inside their cell


def test_a_killed_run_stops_losers_at_their_rung_and_scores_winners_alone_as_one_worker_without_ray_does(
    ready, tmp_path, monkeypatch, capsys
):
    """3 candidates in each of 2 cells: 2 of them pass the rung, 1 is scored, and run with the other seed."""
    changes = {
        "tuning": {"candidates": 3, "halving": {"rungs": [0.5]}},
        "scoring": {"chains": "winners"},
        "results": "results",
        "pretrain": {"steps": 80},
        "runtime": {"checkpoint_seconds": 0.05},
        "target": {"steps": 40, "learning_rate": {"log": [1e-4, 4e-3], "points": 3}},
    }
    axes = {"intermediate": ["none"], "target": ["world/topic", "world/ner"], "seed": [1, 2]}
    study_file(tmp_path, axes, **changes)
    ready(tmp_path)
    with running(tmp_path) as run:
        run.until(lambda: len(run.attempts()) > 3 and run.half_done())
        run.kill()
    text = finished(tmp_path, cores=1)
    assert "4 of 8 chains done" in text
    assert "4 eliminated by halving" in text
    with closing(Ledger(tmp_path / "results" / "ledger.sqlite")) as ledger:
        rows = ledger.chains()
    states = {"done": 4, "loser": 4}
    assert Counter(row.state for row in rows) == states
    assert sum(row.message == "eliminated at rung 1 (50%)" for row in rows) == 2
    assert sum(row.message == "eliminated after its target phase, not scored" for row in rows) == 2
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    assert "eliminated at rung 1 (50%)" in page
    with_data_of(Store(tmp_path / "results" / "store"), tmp_path / "alone" / "store")
    report, _ = reported(tmp_path / "study.yaml", tmp_path / "alone")
    told = [
        sorted((row.key, row.state, row.dev, row.selected, row.message) for row in found)
        for found in (rows, report.chains)
    ]
    assert told[0] == told[1]
    monkeypatch.chdir(tmp_path)
    assert main(["run", "study.yaml"]) == 0
    assert "0 phases trained now" in capsys.readouterr().out
