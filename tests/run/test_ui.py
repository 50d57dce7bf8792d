"""Facts about ends: the UI serves a study on this machine and leaves nothing behind, a run is stopped cleanly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from finished_study import FinishedStudy

from sweep.errors import StudyError
from sweep.run.study import END_SIGNALS, _interruptible
from sweep.run.tracking import Tracked, sync
from sweep.run.ui import open_ui

# A test run in the background of a shell has its interrupts ignored, and hands that down.
PROGRAM = """
import signal, sys
from pathlib import Path
from sweep.run import ui
signal.signal(signal.SIGINT, signal.default_int_handler)
ui.SERVER = sys.argv[4] or ui.SERVER
raise SystemExit(ui.open_ui(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""
# Stands for MLflow's, which takes seconds to start: a process with one of its own.
STAND_IN = """
import subprocess, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', *sys.argv])
time.sleep(600)
"""


def _started(folder: Path, uri: str, port: int, server: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, str(folder), uri, str(port), server]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_ui_serves_the_study_and_leaves_no_process_when_it_is_killed(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic")
    uri = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    sync(Tracked(uri, "a study", tmp_path, {}), study.chains())
    port = _free_port()
    ui = _started(tmp_path, uri, port)
    try:
        _wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health") or ui.poll() is not None)
        assert ui.poll() is None
        with pytest.raises(StudyError, match="in use"):
            open_ui(tmp_path, uri, port)
    finally:
        ui.kill()
        ui.wait()
    _wait_for(lambda: not list(_with_argument(uri)))


def test_the_ui_leaves_no_process_when_it_is_interrupted_ended_or_loses_its_terminal(tmp_path: Path) -> None:
    codes = {signal.SIGINT: 0, signal.SIGTERM: 128 + 15, signal.SIGHUP: 128 + 1}
    uris = {sent: f"sqlite:///{tmp_path / sent.name}" for sent in codes}
    started = {sent: _started(tmp_path, uri, _free_port(), STAND_IN) for sent, uri in uris.items()}
    for sent, ui in started.items():
        _wait_for(lambda uri=uris[sent], ui=ui: len(list(_with_argument(uri))) == 3 or ui.poll() is not None)  # type: ignore[misc]
        ui.send_signal(sent)
    assert {sent: ui.wait(timeout=60) for sent, ui in started.items()} == codes
    for uri in uris.values():
        _wait_for(lambda uri=uri: not list(_with_argument(uri)))  # type: ignore[misc]


def _with_argument(uri: str) -> Iterator[Path]:
    """Processes on this database, by their command lines or, where one has none of that, environments."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if uri.encode() in said and process.name != str(os.getpid()):
                yield process


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_study_on_a_server_is_not_served_here(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="open this address"):
        open_ui(tmp_path, "https://mlflow.example", 5000)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def test_without_mlflows_server_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "mlflow":
            raise PackageNotFoundError(name)
        return "3.17.2"

    monkeypatch.setattr("sweep.run.ui.version", installed)
    with pytest.raises(StudyError, match=r"without its server; pip install mlflow==3\.17\.2 is expected"):
        open_ui(tmp_path, f"sqlite:///{tmp_path / 'mlflow.sqlite'}", _free_port())


def test_a_run_is_stopped_cleanly_by_a_batch_system_and_by_a_lost_terminal_unless_it_is_to_ignore_that() -> None:
    said: list[str] = []
    display = SimpleNamespace(say=said.append)
    for sent in END_SIGNALS:
        before, admission = signal.signal(sent, signal.default_int_handler), SimpleNamespace(closing=False)
        try:
            with _interruptible(admission, display):  # type: ignore[arg-type]
                signal.raise_signal(sent)
                assert admission.closing
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(sent)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            with _interruptible(SimpleNamespace(closing=False), display):  # type: ignore[arg-type]
                signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.signal(sent, before)
    assert len(said) == len(END_SIGNALS)
