"""`sweep run` in processes of its own, which tests watch and kill. No tests here.

A run's processes (driver, Ray's helpers, workers) are known by a variable in their environment, wherever Ray puts them,
and at its end all of them are killed: a driver that dies by SIGKILL leaves helpers of Ray behind for most of a minute.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from conftest import REPOSITORY

from sweep.store.artifacts import Store

MARK = "SWEEP_TEST_RUN"
WORKER = "ray::ImplicitFunc"  # how Ray calls a process that runs Tune's functions
WAIT = 0.02


@dataclass
class Run:
    """One `sweep run` of a study in `folder`, on so many cores; results lie in folder/results."""

    folder: Path
    cores: int
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self._out = (self.folder / f"{self.mark}.out").open("w+", encoding="utf-8")
        allowed = sorted(os.sched_getaffinity(0))[: self.cores]
        # A test run in the background of a shell has its interrupts ignored, and hands that down.
        heard = "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL)"
        limit = f"import os, signal, sys; {heard}; os.sched_setaffinity(0, {allowed})"
        limit += "; from sweep.cli import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", limit, "run", "study.yaml"],
            cwd=self.folder, stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, MARK: self.mark, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self.folder)},
        )  # fmt: skip

    @property
    def text(self) -> str:
        """What it has printed."""
        self._out.seek(0)
        return self._out.read()

    @property
    def store(self) -> Store:
        return Store(self.folder / "results" / "store")

    def wait(self) -> int:
        return self.process.wait()

    def until(self, fact: Callable[[], object]) -> None:
        """Waits for a fact of the running study; one that never comes ends with the run."""
        while not fact():
            assert self.process.poll() is None, f"the run ended too early: {self.text}"
            time.sleep(WAIT)

    def processes(self) -> Iterator[tuple[int, str]]:
        """(pid, command line) of all processes of the run."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                        yield int(folder.name), (folder / "cmdline").read_text(errors="replace")
                except OSError:
                    continue  # it has ended, or is somebody else's

    def listening(self) -> set[str]:
        """Addresses, in hexadecimal as the kernel writes them, on which a process of the run waits for connections."""
        own = set[str]()
        for pid, _ in self.processes():
            for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
                with suppress(OSError):  # closed meanwhile
                    own.add(str(descriptor.readlink()))
        rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
        return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}

    def workers(self) -> list[int]:
        return [pid for pid, command in self.processes() if command.startswith(WORKER)]

    def freeze(self, fact: Callable[[], object]) -> int:
        """Stops the only worker while a fact holds, which also holds when all that it has said has arrived; its pid."""
        while True:
            self.until(lambda: fact() and self.workers())
            (worker,) = self.workers()
            os.kill(worker, signal.SIGSTOP)
            time.sleep(25 * WAIT)
            if fact():
                return worker
            os.kill(worker, signal.SIGCONT)

    def half_done(self) -> list[str]:
        """Keys of phases that have a checkpoint."""
        return [path.parent.name for path in self.store.root.glob("scratch/*/checkpoint.safetensors")]

    def at_work(self) -> bool:
        """Whether an attempt that has computed something is under way."""
        return bool(self.under_way())

    def under_way(self) -> list[tuple[str, int]]:
        """(chain, attempt) of those that have computed something and go on."""
        return [(chain, attempt) for chain, attempt, flops, settled in self._attempts() if flops and not settled]

    def attempts(self) -> list[tuple[str, int, float]]:
        """(chain, attempt, FLOPs) of the ledger."""
        return [(chain, attempt, flops) for chain, attempt, flops, _ in self._attempts()]

    def _attempts(self) -> list[tuple[str, int, float, bool]]:
        path = self.folder / "results" / "ledger.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path, timeout=30)) as ledger:
            # The run makes the file first and its tables a moment later.
            if not ledger.execute("select 1 from sqlite_master where name = 'attempts'").fetchone():
                return []
            query = "select chain, attempt, flops, settled from attempts order by chain, attempt"
            return [(str(chain), int(n), float(flops), bool(over)) for chain, n, flops, over in ledger.execute(query)]

    def kill(self) -> None:
        """SIGKILL for the driver first, then for all that is left of it; nobody but us removes Ray's folder then."""
        folders = {name for _, command in self.processes() for name in re.findall(r"/tmp/sweep-\w+", command)}
        self.process.kill()
        self.process.wait()
        while left := list(self.processes()):
            for pid, _ in left:
                _kill(pid)
            time.sleep(WAIT)
        for name in folders:
            shutil.rmtree(name, ignore_errors=True)
        self._out.close()


@contextmanager
def running(folder: Path, cores: int = 2) -> Iterator[Run]:
    """A run that leaves no process behind."""
    run = Run(folder, cores)
    try:
        yield run
    finally:
        run.kill()


def finished(folder: Path, cores: int = 2, code: int = 0) -> str:
    """Runs a study to its end; returns what it printed."""
    with running(folder, cores) as run:
        assert run.wait() == code, run.text
        return run.text


def ended(text: str) -> tuple[int, int]:
    """(chains done, chains) by the last lines of a run, which progress lines resemble."""
    ((done, chains),) = re.findall(r"^(\d+) of (\d+) chains done, \d+ phases trained now", text, re.MULTILINE)
    return int(done), int(chains)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
