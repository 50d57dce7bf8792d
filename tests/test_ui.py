"""Facts about `open_ui`: it serves a study on this machine, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_study import FinishedStudy

from sweep.errors import StudyError
from sweep.tracking import sync
from sweep.ui import open_ui


def test_the_ui_serves_the_study_and_ends_on_interrupt(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic")
    uri = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    sync(uri, "a study", tmp_path, study.chains(), study.store, {})
    port = _free_port()
    # A test run in the background of a shell has its interrupts ignored, and hands that down.
    code = f"""
import signal
from pathlib import Path
from sweep.ui import open_ui
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path({str(tmp_path)!r})
raise SystemExit(open_ui(folder, {uri!r}, {port}))
"""
    ui = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health") or ui.poll() is not None)
        with pytest.raises(StudyError, match="in use"):
            open_ui(tmp_path, uri, port)
    finally:
        ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=60) == 0
    assert not _answers(f"http://127.0.0.1:{port}/health")


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
