"""Facts about a study in MLflow: complete, true to the records, never doubled, never in the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from finished_study import EPOCH, FinishedStudy
from small_studies import study_file

from sweep.run.tracking import Tracked, Tracker, send_missing, sync
from sweep.store.ledger import DONE, FAILED, RUNNING, STOPPED


def accuracy(_encoder: str, intermediate: str, _volume: str, _target: str, language: str, _seed: int) -> float:
    return {"en": 0.9, "de": 0.8, "sw": 0.6}[language] + (0.05 if intermediate == "nli" else 0.0)


def default_uri(results: Path) -> str:
    return f"sqlite:///{results / 'mlflow.sqlite'}"


@pytest.fixture
def study(empty_mlflow: Path, tmp_path: Path) -> FinishedStudy:
    made = FinishedStudy(tmp_path / "results", accuracy, activities={"load": 0.25, "train": 0.75})
    shutil.copy(empty_mlflow, made.folder)
    for intermediate in ("none", "nli"):
        for seed in (0, 1):
            made.chain(intermediate, "topic", seed)
    return made


GROUPS = {"tiny": {"far": ("sw",)}}


def tracked(study: FinishedStudy, uri: str = "", name: str = "a study") -> Tracked:
    return Tracked(uri or default_uri(study.folder), name, study.folder, GROUPS)


def sent(study: FinishedStudy, state: str = DONE) -> int:
    """How many chains had to be sent."""
    return sync(tracked(study), study.chains(), state=state)


def client(study: FinishedStudy) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(default_uri(study.folder))


def runs(study: FinishedStudy, kind: str, name: str = "a study") -> list[Any]:
    found = client(study)
    experiment = found.get_experiment_by_name(name).experiment_id
    return list(found.search_runs([experiment], f"tags.`sweep.kind` = '{kind}'", max_results=1000))


def points(study: FinishedStudy) -> int:
    """All points of all curves, counted in the database."""
    import sqlite3

    with sqlite3.connect(study.folder / "mlflow.sqlite") as database:
        count = int(database.execute("select count(*) from metrics").fetchone()[0])
    database.close()
    return count


def test_a_study_is_a_run_and_each_chain_a_run_below_it(study: FinishedStudy) -> None:
    assert sent(study) == 4
    (parent,) = runs(study, "study")
    chains = runs(study, "chain")
    assert len(chains) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in chains} == {parent.info.run_id}
    assert {run.data.tags["sweep.key"] for run in chains} == {f"chain:{chain.key}" for chain in study.chains()}
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["sweep.state"] == DONE


def test_a_chain_has_its_parameters_scores_groups_and_costs(study: FinishedStudy) -> None:
    sent(study)
    run = next(run for run in runs(study, "chain") if run.data.params["intermediate"] == "nli")
    assert run.data.params == {
        "encoder": "tiny",
        "intermediate": "nli",
        "volume": "full",
        "source": "own",
        "chain_budget": "-",
        "target": "topic",
        "seed": run.data.params["seed"],
        "candidate": "0",
        "role": run.data.params["role"],
        "lr.intermediate": "0.0001",
        "lr.target": "0.0001",
    }
    values = run.data.metrics
    assert values["score/de"] == pytest.approx(0.85)
    assert values["group/zero_shot"] == pytest.approx((0.85 + 0.65) / 2)
    assert values["group/far"] == pytest.approx(0.65)
    assert values["flops"] == pytest.approx(1e12 * values["device_seconds"])
    assert values["time/train"] == pytest.approx(0.75 * values["device_seconds"])
    assert values["dev"] == pytest.approx(0.95)


def test_a_collapsed_chain_says_which_phase_collapsed_and_how_often_it_was_tried(study: FinishedStudy) -> None:
    study.lost("qa", "topic")
    sent(study)
    (run,) = (run for run in runs(study, "chain") if run.data.params["intermediate"] == "qa")
    assert run.info.status == "FINISHED"
    assert {name: run.data.tags[f"sweep.{name}"] for name in ("state", "collapsed", "retries")} == {
        "state": "collapsed", "collapsed": "intermediate", "retries": "2",
    }  # fmt: skip
    assert client(study).get_metric_history(run.info.run_id, "intermediate/dev")
    others = [run for run in runs(study, "chain") if run.data.params["intermediate"] != "qa"]
    assert {run.data.tags["sweep.collapsed"] for run in others} == {""}


def test_curves_have_the_steps_and_times_of_the_record(study: FinishedStudy) -> None:
    sent(study)
    chain = next(chain for chain in study.chains() if chain.cell.intermediate == ("nli",))
    run = next(run for run in runs(study, "chain") if run.data.tags["sweep.key"] == f"chain:{chain.key}")
    phase = study.store.phase(chain.phases[0])
    assert phase is not None
    for name, recorded, value in (("loss", phase.curve, "loss"), ("dev", phase.dev, "value")):
        history = client(study).get_metric_history(run.info.run_id, f"intermediate/{name}")
        expected = [(point["step"], point[value], round(1000 * point["time"])) for point in recorded]
        assert sorted((point.step, point.value, point.timestamp) for point in history) == expected
    assert run.info.start_time == round(1000 * chain.started)
    assert run.info.end_time == round(1000 * (chain.ended or 0))
    assert run.info.start_time >= 1000 * EPOCH


def test_sending_twice_sends_nothing_and_changes_nothing(study: FinishedStudy) -> None:
    sent(study)
    before = len(runs(study, "chain")), points(study)
    assert sent(study) == 0
    assert (len(runs(study, "chain")), points(study)) == before


def test_without_its_memory_nothing_is_doubled(study: FinishedStudy) -> None:
    sent(study)
    before = len(runs(study, "chain")), points(study)
    (study.folder / "tracking.json").write_text("{ torn")
    assert sent(study) == 4
    assert (len(runs(study, "chain")), points(study)) == before
    assert len(runs(study, "study")) == 1


def test_a_study_with_another_name_keeps_its_experiment_under_that_name(study: FinishedStudy) -> None:
    sent(study)
    before = points(study)
    assert sync(tracked(study, name="renamed"), study.chains()) == 0
    assert (len(runs(study, "chain", "renamed")), points(study)) == (4, before)
    assert client(study).get_experiment_by_name("a study") is None
    assert runs(study, "study", "renamed")[0].data.tags["mlflow.runName"] == "renamed"


def test_a_new_name_that_another_study_has_gets_everything_beside_it(study: FinishedStudy, tmp_path: Path) -> None:
    other = FinishedStudy(tmp_path / "other", accuracy)
    other.chain("none", "another")
    sync(tracked(other, default_uri(study.folder), "renamed"), other.chains())
    sent(study)
    assert sync(tracked(study, name="renamed"), study.chains()) == 4
    assert (len(runs(study, "chain", "renamed")), len(runs(study, "chain"))) == (5, 4)


def test_a_results_folder_that_is_moved_sends_nothing_again(study: FinishedStudy, tmp_path: Path) -> None:
    sent(study)
    assert str(tmp_path) not in (study.folder / "tracking.json").read_text()
    assert str(tmp_path) not in client(study).get_experiment_by_name("a study").artifact_location
    moved = replace(study, folder=tmp_path / "moved")
    shutil.copytree(study.folder, moved.folder, dirs_exist_ok=True)
    assert sent(moved) == 0
    assert len(runs(moved, "chain")) == 4


def test_another_address_gets_everything(study: FinishedStudy) -> None:
    sent(study)
    before = points(study)
    other = f"sqlite:///{study.folder / 'other.sqlite'}"
    assert sync(tracked(study, other), study.chains()) == 4
    (study.folder / "other.sqlite").replace(study.folder / "mlflow.sqlite")
    assert points(study) == before


def test_a_chain_that_goes_on_after_a_stop_changes_its_run(study: FinishedStudy) -> None:
    row = study.chain("nli", "pos", state=STOPPED)
    failed = study.chain("none", "pos", state=FAILED)
    sent(study, RUNNING)
    status = {run.data.tags["sweep.key"]: run.info.status for run in runs(study, "chain")}
    assert (status[f"chain:{row.key}"], status[f"chain:{failed.key}"]) == ("KILLED", "FAILED")
    assert runs(study, "study")[0].info.status == "RUNNING"
    study.ledger.close_chain(row.key, DONE, 0.9, study.clock + 60)
    assert sent(study) == 1
    (run,) = [run for run in runs(study, "chain") if run.data.tags["sweep.key"] == f"chain:{row.key}"]
    assert (run.info.status, run.data.tags["sweep.state"]) == ("FINISHED", DONE)
    assert "score/de" in run.data.metrics


# What a run or a report completes


def test_what_was_left_half_way_or_deleted_is_completed_and_what_is_complete_is_left_alone(
    study: FinishedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    (study.folder / "study.yaml").write_bytes(study_file(study.folder.parent).read_bytes())
    # As a driver leaves it that was killed, or whose server was.
    sync(replace(tracked(study, name="small"), groups={}), study.chains()[:3])
    send_missing(study.folder, warned.append)
    assert len(runs(study, "chain", "small")) == 4
    assert runs(study, "study", "small")[0].info.status == "FINISHED"
    study.ledger.close()
    deleted = tmp_path / "deleted"  # all but the database: MLflow never lets go of a database that it has opened
    shutil.copytree(study.folder, deleted, ignore=shutil.ignore_patterns("mlflow.sqlite"))
    send_missing(deleted, warned.append)
    assert len(runs(replace(study, folder=deleted), "chain", "small")) == 4
    monkeypatch.setattr("sweep.run.tracking._client", lambda uri: pytest.fail(f"asked {uri}"))
    send_missing(study.folder, warned.append)
    assert warned == []


def test_a_server_that_cannot_be_reached_is_one_line_and_no_error(
    study: FinishedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hung = f"http://127.0.0.1:{silent.getsockname()[1]}"
        lines = {}
        for uri, seconds in ((_nobody(), 60.0), (hung, 0.2), ("fro://m", 60.0)):
            (study.folder / "study.yaml").write_bytes(study_file(study.folder.parent, tracking=uri).read_bytes())
            warned: list[str] = []
            send_missing(study.folder, warned.append, seconds)
            (lines[uri],) = warned
    assert lines.pop("fro://m").startswith("tracking: found 'fro://m', which MLflow refuses (")
    assert all("what was not sent is sent by the next 'sweep run' or 'sweep report'" in line for line in lines.values())


def test_a_run_at_work_sends_by_itself(study: FinishedStudy) -> None:
    (study.folder / "study.yaml").write_bytes(study_file(study.folder.parent).read_bytes())
    (study.folder / "mlflow.sqlite").unlink()
    with FileLock(study.folder / ".lock"):
        send_missing(study.folder, pytest.fail)
    assert not (study.folder / "mlflow.sqlite").exists()


def test_a_uri_that_mlflow_refuses_is_warned_of_once_and_nothing_is_promised(study: FinishedStudy) -> None:
    warned: list[str] = []
    tracker = Tracker(tracked(study, "fro://m"), warned.append, interval=0.01)
    tracker.start()
    _wait_for(lambda: warned)
    assert not tracker.close()
    (line,) = warned
    assert "which MLflow refuses" in line
    assert line.endswith("the study goes on without it")


def test_a_running_chain_is_not_sent(study: FinishedStudy) -> None:
    row = study.chain("nli", "pos")
    study.ledger.open_chain(row)  # taken up again: it has ended before and runs now
    assert sent(study) == 4


def test_many_points_go_in_several_batches(study: FinishedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    sent(study)
    expected = points(study)
    (study.folder / "mlflow.sqlite").rename(study.folder / "first.sqlite")
    monkeypatch.setattr("sweep.run.tracking.METRICS_PER_CALL", 7)
    other = f"sqlite:///{study.folder / 'small.sqlite'}"
    sync(tracked(study, other), study.chains())
    (study.folder / "small.sqlite").rename(study.folder / "mlflow.sqlite")
    assert points(study) == expected


def test_sending_that_was_killed_half_way_is_completed_without_doubles(study: FinishedStudy) -> None:
    for target in ("pos", "ner"):
        for seed in range(4):
            study.chain("nli", target, seed)
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from sweep.store.ledger import Ledger
        from sweep.store.paths import LEDGER
        from sweep.run.tracking import Tracked, sync
        folder = Path({str(study.folder)!r})
        chains = Ledger(folder / LEDGER).chains()
        print("begin", flush=True)
        sync(Tracked({default_uri(study.folder)!r}, "a study", folder, {GROUPS!r}), chains)
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert writer.stdout is not None
    writer.stdout.readline()
    _wait_for(lambda: _some_chains(study, 3))
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    half = len(runs(study, "chain"))
    assert half >= 3
    sent(study)
    whole = len(runs(study, "chain")), points(study)
    assert whole[0] == len(study.chains())
    (study.folder / "tracking.json").unlink()
    sent(study)
    assert (len(runs(study, "chain")), points(study)) == whole


def _some_chains(study: FinishedStudy, count: int) -> bool:
    import sqlite3

    if not (study.folder / "mlflow.sqlite").exists():
        return False
    database = sqlite3.connect(study.folder / "mlflow.sqlite")
    try:
        query = "select count(*) from tags where key = 'sweep.kind' and value = 'chain'"
        return int(database.execute(query).fetchone()[0]) >= count
    except sqlite3.OperationalError:  # the tables are being made
        return False
    finally:
        database.close()


def _wait_for(condition: Any) -> None:
    while not condition():
        time.sleep(0.02)


def test_a_dead_server_is_warned_of_once_delays_little_and_loses_nothing(
    study: FinishedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warned: list[str] = []
    tracker = Tracker(tracked(study, _nobody()), warned.append, interval=0.1)
    tracker.start()
    _wait_for(lambda: warned)
    begun = time.monotonic()
    assert not tracker.close()
    assert time.monotonic() - begun < 30
    assert len(warned) == 1
    assert "\n" not in warned[0]
    assert sent(study) == 4


def test_a_server_that_does_not_answer_does_not_hold_up_the_end(study: FinishedStudy) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        warned: list[str] = []
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(tracked(study, address), warned.append, interval=0.01)
        tracker.start()
        begun = time.monotonic()
        assert not tracker.close(timeout=0.5)
        assert time.monotonic() - begun < 5
        assert len(warned) == 1


def _nobody() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_the_tracker_sends_chains_while_the_study_runs_and_the_rest_at_its_end(study: FinishedStudy) -> None:
    warned: list[str] = []
    uri = default_uri(study.folder)
    tracker = Tracker(tracked(study, uri), warned.append, interval=0.05)
    tracker.start()
    _wait_for(lambda: _some_chains(study, 4))
    study.chain("nli", "pos")
    assert tracker.close(timeout=120)
    assert warned == []
    assert len(runs(study, "chain")) == 5
    assert runs(study, "study")[0].data.tags["sweep.state"] == DONE


def test_importing_tracking_does_not_import_mlflow() -> None:
    code = "import sys, sweep.run.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tracking_leaves_no_thread_behind(study: FinishedStudy) -> None:
    tracker = Tracker(tracked(study), lambda _: None)
    tracker.start()
    assert tracker.close(timeout=120)
    assert "tracking" not in {thread.name for thread in threading.enumerate()}
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
