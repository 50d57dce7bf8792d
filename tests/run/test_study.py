"""Facts about `sweep run` in real processes: killed, stopped, starved, repeated, the scores stay the same."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY
from real_runs import WORKER, ended, finished, running
from small_studies import plan_of, study_file, unmeasured

from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.speed import Speed
from sweep.store.artifacts import Store
from sweep.store.ledger import Ledger
from sweep.xtreme.score import score

AXES = {
    "intermediate": ["none", ["world/rte", "world/pos"]],
    "target": ["world/topic", "world/retrieval", "world/ner"],
    "seed": [1, 2],
}
SETTINGS = {
    "results": "results",
    "tuning": {"candidates": 2},
    "pretrain": {"steps": 80},
    "intermediate": {"steps": 40},
    "target": {"steps": 30, "learning_rate": {"log": [1e-3, 4e-3], "points": 2}},
    "runtime": {"checkpoint_seconds": 0.05},
}


def scores(folder: Path) -> pd.DataFrame:
    """scores.csv without its one measured column."""
    return pd.read_csv(folder / "results" / "scores.csv").drop(columns="device_seconds")


def spent_flops(folder: Path) -> float:
    """What all attempts have really spent."""
    with closing(Ledger(folder / "results" / "ledger.sqlite")) as ledger:
        return ledger.spent()[0]


def records(folder: Path) -> dict[str, object]:
    """Everything that the store holds, but for what clocks measured."""
    store = Store(folder / "results" / "store")
    return {
        **{key: unmeasured(store.phase(key)) for key in store.keys("phases")},
        **{key: unmeasured(store.score(key)) for key in store.keys("scores")},
    }


def spans(folder: Path) -> dict[str, tuple[float, float]]:
    """When each finished phase was trained."""
    store = Store(folder / "results" / "store")
    found = {key: store.phase(key) for key in store.keys("phases")}
    return {key: (record.started, record.ended) for key, record in found.items()}


def planned(path: Path) -> str:
    """What `sweep plan` prints."""
    command = [sys.executable, "-m", "sweep", "plan", path.name]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


# One undisturbed run, two workers


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder, what it printed, process -> command line of those that had torch, addresses on which any listened).

    The driver had no torch.
    """
    folder, heavy, addresses = tmp_path_factory.mktemp("undisturbed"), {}, set[str]()
    study_file(folder, AXES, **SETTINGS)
    with running(folder) as run:
        while run.process.poll() is None:
            heavy.update({pid: command for pid, command in run.processes() if has_torch(pid)})
            addresses |= run.listening()
            time.sleep(0.5)  # a process that has torch once has it for seconds
        assert run.process.returncode == 0, run.text
        assert run.process.pid not in heavy
        return folder, run.text, heavy, addresses


def has_torch(pid: int) -> bool:
    try:
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False


def test_a_study_runs_all_its_chains_and_leaves_scores_of_every_chain_and_language(undisturbed):
    folder, text, *_ = undisturbed
    plan, found = plan_of(folder / "study.yaml"), scores(folder)
    chains = sum(plan.candidates(cell) + 1 for cell in plan.cells)
    assert f"{chains} of {chains} chains done" in text
    languages = {name: len(plan.tasks[name].languages) for name in AXES["target"]}
    assert found.groupby("chain").size().sum() == sum(found.groupby("chain").target.first().map(languages))
    assert found.chain.nunique() == chains
    assert (folder / "results" / "report.html").is_file()


def test_phases_that_chains_share_are_trained_once(undisturbed):
    folder, text, *_ = undisturbed
    store = Store(folder / "results" / "store")
    kinds = [store.phase(key).kind for key in store.keys("phases")]
    # Per seed one pretraining and one intermediate phase; per cell with a target phase 2 candidates and a replica.
    assert [kinds.count(kind) for kind in ("pretrain", "intermediate", "target")] == [2, 2, 12]
    assert f"{len(kinds)} phases trained now" in text


def test_chains_share_warm_workers_that_import_torch_once_each(undisturbed):
    """Sixteen chains and more, two workers: two of Ray's processes had torch."""
    folder, _, heavy, _ = undisturbed
    assert scores(folder).chain.nunique() >= 16
    assert len([command for command in heavy.values() if command.startswith(WORKER)]) == 2


def test_nothing_of_a_run_on_one_machine_listens_for_others(undisturbed):
    assert undisturbed[3]
    assert {address for address in undisturbed[3] if not address.endswith("0100007F")} == set()  # of IPv4, IPv6 alike


def test_a_second_run_trains_nothing_and_starts_no_ray(undisturbed):
    folder, *_ = undisturbed
    before, was = spans(folder), (folder / "results" / "scores.csv").read_bytes()
    program = (
        "import sys; from sweep.cli import main; code = main(['run', 'study.yaml']);"
        " print('imported:', [name for name in ('ray', 'torch') if name in sys.modules]); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    again = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert "0 phases trained now" in again.stdout
    assert "imported: []" in again.stdout
    assert spans(folder) == before
    assert (folder / "results" / "scores.csv").read_bytes() == was


def test_a_study_that_was_moved_and_renamed_trains_nothing_and_has_the_same_scores(undisturbed, tmp_path):
    folder, *_ = undisturbed
    shutil.copytree(folder, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "study.yaml"
    moved.write_text(moved.read_text().replace('"study": "small"', '"study": "renamed"'))
    text = finished(moved.parent)
    assert "the study 'small' goes on under the name 'renamed'" in text
    assert "0 phases trained now" in text
    assert "renamed" in (moved.parent / "results" / "report.html").read_text()
    before, after = scores(folder), scores(moved.parent)
    assert set(after.study) == {"renamed"}
    assert after.drop(columns="study").equals(before.drop(columns="study"))
    for name in ("ledger.sqlite", "tracking.json", "store/study.json"):
        assert str(folder).encode() not in (folder / "results" / name).read_bytes(), name


def test_another_study_does_not_get_the_folder(undisturbed, tmp_path):
    folder, *_ = undisturbed
    study_file(tmp_path, study="another", results=str(folder / "results"))
    text = finished(tmp_path, code=2)
    assert "which holds the study 'small'" in text
    assert text.count("\n") == 1


def test_an_undisturbed_run_spends_what_its_distinct_work_was_planned_to_cost(undisturbed):
    plan = plan_of(undisturbed[0] / "study.yaml")
    planned = float(summary(plan, Costs(plan), Speed())["flops_shared"])
    assert 0.9 * planned < spent_flops(undisturbed[0]) <= 1.02 * planned


def test_submissions_of_a_run_are_scored_with_the_numbers_of_its_scores(undisturbed):
    """Every setting and seed has a folder in the official layout, which `sweep score` reads."""
    folder, *_ = undisturbed
    table = pd.read_csv(folder / "results" / "scores.csv")
    selected = table[table.selected]
    places = sorted(folder.glob("results/submissions/*/seed-*"))
    assert len(places) == 4
    found = {}
    for place in places:
        for task, languages in score(place).by_language().items():
            for language, metrics in languages.items():
                found[place.parent.name, int(place.name.removeprefix("seed-")), task, language] = metrics
    for row in selected.itertuples():
        name = "tiny__none__-" if row.intermediate == "none" else "tiny__world--rte+world--pos__full"
        metrics = found.pop((name, row.seed, row.target, row.language))
        assert 100 * row.value == pytest.approx(metrics["f1" if row.target == "world/ner" else "accuracy"])
    assert found == {}


def test_a_plan_of_a_study_that_has_begun_forecasts_with_what_it_has_measured(undisturbed, tmp_path):
    """With a budget in device-seconds: a study without results assumes a speed."""
    folder, *_ = undisturbed
    begun = planned(
        study_file(tmp_path, AXES, **{**SETTINGS, "results": str(folder / "results")}, budget="1 device-hours")
    )
    fresh = planned(study_file(tmp_path, AXES, **SETTINGS, budget="1 device-hours"))
    assert "forecast at the speed that this study has measured" in begun
    assert "forecast at an assumed speed" in fresh


def test_what_workers_have_loaded_is_remembered_for_the_next_forecast(undisturbed):
    with closing(Ledger(undisturbed[0] / "results" / "ledger.sqlite")) as ledger:
        size = ledger.facts().sizes["world/rte", "train", "pivot"]
    assert size.examples == 200
    assert size.tokens > 10


# Out of money, then driver and workers killed, then stopped by Ctrl-C, then run to the end by one worker that is killed
# once, while somebody tries to start the study a second time


@dataclass(frozen=True)
class Disturbed:
    folder: Path
    poor: str  # what the run printed whose budget was spent
    overrun: float  # what it spent, as a share of its budget
    stopped: str  # what Ctrl-C printed
    finished: tuple[
        dict[str, tuple[float, float]], ...
    ]  # phases, after each of the three runs that did not reach the end
    niceness: int  # of the last run's worker
    second: str  # what a second start during the last run printed
    flops: tuple[float, ...]  # of the attempts of the chain whose worker was killed, its latest two
    log: str  # of that chain


@pytest.fixture(scope="module")
def disturbed(ready, tmp_path_factory):
    folder, phases = tmp_path_factory.mktemp("disturbed"), []
    plan = plan_of(study_file(folder, AXES, **SETTINGS))
    cheapest = min(sum(Costs(plan).parts(chain).values()) for chain in plan.planned_chains())
    study_file(folder, AXES, **SETTINGS, budget=f"{1.5 * cheapest:.0f} flops")
    ready(folder)
    poor = finished(folder, cores=1)
    overrun = spent_flops(folder) / (1.5 * cheapest)
    phases.append(spans(folder))
    study_file(folder, AXES, **SETTINGS)
    with running(folder) as run:
        run.until(lambda: run.half_done() and len(run.store.keys("phases")) > len(phases[0]))
        run.kill()
    phases.append(spans(folder))
    with running(folder) as run:
        run.until(lambda: run.half_done() and len(run.store.keys("phases")) > len(phases[1]) + 1)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.text
        stopped = run.text
    phases.append(spans(folder))
    with running(folder, cores=1) as run:
        worker = run.freeze(lambda: run.half_done() and run.at_work())
        ((chain, attempt),) = run.under_way()
        niceness = os.getpriority(os.PRIO_PROCESS, worker)
        os.kill(worker, signal.SIGKILL)
        second = finished(folder, cores=1, code=2)
        assert run.wait() == 0, run.text
        flops = tuple(spent for one, number, spent in run.attempts() if one == chain and number >= attempt)
    log = (folder / "results" / "logs" / f"{chain}.log").read_text(encoding="utf-8")
    return Disturbed(folder, poor, overrun, stopped, tuple(phases), niceness, second, flops, log)


def test_scores_after_all_that_equal_those_of_an_undisturbed_run(disturbed, undisturbed):
    """Of two workers, and here of one at the end."""
    pd.testing.assert_frame_equal(scores(disturbed.folder), scores(undisturbed[0]))
    assert records(disturbed.folder) == records(undisturbed[0])


def test_finished_phases_are_never_trained_again(disturbed):
    end = spans(disturbed.folder)
    assert len(disturbed.finished[0]) > 0
    for before, after in pairwise((*disturbed.finished, end)):
        assert len(before) < len(after)
        assert {key: after[key] for key in before} == before


def test_a_run_says_that_its_budget_is_spent_and_how_to_go_on(disturbed):
    done, chains = ended(disturbed.poor)
    assert 1 <= done < chains == 16
    assert f"exhausted with {chains - done} chains left" in disturbed.poor
    assert "to resume, set a larger one in the study file, at least " in disturbed.poor


def test_a_budget_is_exceeded_by_one_percent_at_most(disturbed):
    assert 0.5 < disturbed.overrun <= 1.01


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(disturbed):
    assert "interrupted; 'sweep run study.yaml' resumes" in disturbed.stopped
    assert "Traceback" not in disturbed.stopped


def test_workers_have_the_niceness_of_the_user(disturbed):
    """Ray would give them 15: whatever else the machine does would come first."""
    assert disturbed.niceness == os.getpriority(os.PRIO_PROCESS, 0)


def test_a_chain_whose_worker_dies_is_finished_and_the_dead_attempt_stays_charged(disturbed):
    assert len(disturbed.flops) == 2
    assert all(flops > 0 for flops in disturbed.flops)
    assert re.search(r"on node.*the worker has died \(1\)\n.*died.*on node", disturbed.log, re.DOTALL)


def test_two_runs_at_once_in_one_folder_are_refused(disturbed):
    assert "another 'sweep run' at work" in disturbed.second
    assert disturbed.second.count("\n") == 1
