"""Cost of a command and all processes that come of it: seconds, processor seconds, bytes written and left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
MARK = "SWEEP_BENCHMARK_SIDE"
SAMPLED = 0.2  # seconds between two looks at the processes of a side
FOLDER_SAMPLED = 2.0  # and at its folder


@dataclass(frozen=True)
class Cost:
    """Cost of one run of a command."""

    wall: float  # seconds
    processor_seconds: float
    written: float  # bytes that its processes handed to the file system
    most: float  # bytes of its folder when it was largest
    left: float  # bytes of its folder at the end


def timed(command: list[str], cores: int, folder: Path) -> Cost:
    """Cost of a command on so many cores, whose results and temporary files lie in `folder`; ends where it fails."""
    mark, temporary = uuid.uuid4().hex, folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "TOKENIZERS_PARALLELISM": "false", "TMPDIR": str(temporary),
    }  # fmt: skip
    allowed, over = sorted(os.sched_getaffinity(0))[:cores], threading.Event()
    spent, sizes = dict[int, tuple[float, float]](), [0]

    def look() -> None:
        looked = 0.0
        while not over.wait(SAMPLED):
            spent.update(_processes(mark))
            if time.perf_counter() - looked > FOLDER_SAMPLED:
                sizes.append(_size(folder))
                looked = time.perf_counter()

    looking = threading.Thread(target=look)
    looking.start()
    begun = time.perf_counter()
    limit = f"import os, sys; os.sched_setaffinity(0, {allowed}); os.execvp(sys.argv[1], sys.argv[1:])"
    limited = [sys.executable, "-c", limit, *command]
    done = subprocess.run(limited, check=False, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - begun
    over.set()
    looking.join()
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    left = _size(folder)
    processor, written = (sum(each) for each in zip(*spent.values(), strict=True))
    return Cost(wall, processor, written, max(*sizes, left), left)


def _processes(mark: str) -> dict[int, tuple[float, float]]:
    """Processor seconds and written bytes so far of every process with the mark in its environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                written = (folder / "io").read_text().partition("\nwrite_bytes: ")[2].split()[0]
                seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                found[int(folder.name)] = seconds, float(written)
        except (OSError, IndexError):
            continue  # it has ended, or is somebody else's
    return found


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except OSError:
                continue  # deleted meanwhile
    return total
