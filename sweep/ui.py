"""Serves MLflow's own UI on a results folder, on this machine, in processes that end with the command."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sweep.errors import StudyError
from sweep.tracking import ENVIRONMENT


def open_ui(results: Path, uri: str, port: int = 5000) -> int:
    """Serves MLflow's UI on this machine until Ctrl-C; returns its exit code. Raises StudyError where it cannot."""
    if uri.startswith("http"):
        raise StudyError("tracking", f"the server {uri}", "open this address in a browser")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StudyError("--port", f"port {port} in use", f"a free port is expected, as {port + 1}")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", str(results.resolve() / "artifacts")]
    server = subprocess.Popen(command, env={**ENVIRONMENT, **os.environ}, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """The server and its workers, which are one process group."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
            return
