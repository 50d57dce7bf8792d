"""Logs of chains: a text file each with what its worker printed, warned of and failed with.

It begins with when and where an attempt runs. Everything that reaches the standard streams of the worker's process goes
there, whoever writes it: Python's warnings, a library's log, an assertion of a CUDA kernel, the stack of a process that
crashes or hangs. The driver adds what only it knows: that a worker died, or could not write here.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STREAMS = (1, 2)  # file descriptors of standard output and standard error


def add(log: Path, text: str) -> None:
    """Appends a text with the time. Raises OSError."""
    log.parent.mkdir(exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(_dated(text))


def place() -> str:
    """Where this process runs: node, process and GPUs."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"node {socket.gethostname()}, process {os.getpid()}, {f'GPU {gpus}' if gpus else 'CPU'}"


@contextmanager
def spoken_into(log: Path) -> Iterator[Callable[[str], None]]:
    """Sends the standard streams of this process to the log; yields what adds a line with the time.

    Leaves the traceback of an error there. Raises OSError where the log cannot be written.
    """
    log.parent.mkdir(exist_ok=True)
    before = [os.dup(stream) for stream in STREAMS]
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for stream in STREAMS:
            os.dup2(file, stream)
        os.close(file)
        yield lambda text: _write(_dated(text))
    except Exception:
        with suppress(OSError):  # of a full disk, which may be the error itself
            _write(_dated("failed") + traceback.format_exc())
        raise
    except BaseException:
        _write(_dated("stopped by the driver"))
        raise
    finally:
        for stream, kept in zip(STREAMS, before, strict=True):
            os.dup2(kept, stream)
            os.close(kept)


@contextmanager
def stack_of_silence(seconds: float) -> Iterator[Callable[[], None]]:
    """Yields a sign of life: where none comes for so long, the stacks of all threads go to standard error.

    Whoever hangs is ended from outside, and could not say where.
    """

    def alive() -> None:
        faulthandler.dump_traceback_later(seconds, file=STREAMS[1])

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()


def _dated(text: str) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S%z')} {text.rstrip()}\n"


def _write(text: str) -> None:
    """Past Python's buffers, which a process that is killed takes along; after what they hold."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.write(STREAMS[1], text.encode(errors="backslashreplace"))
