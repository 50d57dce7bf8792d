"""MLflow's own UI on a results folder, served on this machine by processes that end with the command.

However it ends: its signals end the server, and the server itself watches a pipe whose other end closes with the
command, be it killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

from sweep.errors import StudyError
from sweep.run.tracking import ENVIRONMENT
from sweep.store import paths

# The server and its workers are one process group. The pipe of the standard input ends when this process does.
WATCHED = """
import os, signal, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
"""
SERVER = """
from mlflow.cli import cli
cli(sys.argv[1:])
"""


def open_ui(results: Path, uri: str, port: int = 5000) -> int:
    """Serves MLflow's UI on this machine until Ctrl-C; returns its exit code. Raises StudyError where it cannot."""
    if uri.startswith("http"):
        raise StudyError("tracking", f"the server {uri}", "open this address in a browser")
    _check_installed()
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StudyError("--port", f"port {port} in use", f"a free port is expected, as {port + 1}")
    command = [sys.executable, "-c", WATCHED + SERVER, "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    artifacts = results.resolve() / paths.MLFLOW_ARTIFACTS
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(artifacts)]
    environment = {**ENVIRONMENT, **os.environ}
    with _unwinding():
        server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(server)


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """Makes SIGTERM and the hang-up of a terminal unwind the command, which otherwise would end at once."""

    def end(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_installed() -> None:
    """Raises StudyError where MLflow's server, a package of its own that a run does without, is not installed."""
    try:
        version("mlflow")
    except PackageNotFoundError:
        expected = f"pip install mlflow=={version('mlflow-skinny')} is expected"
        raise StudyError("sweep ui", "MLflow without its server", expected) from None


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server and its workers, which are one process group."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
            return
