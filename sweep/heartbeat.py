"""Heartbeat of long work: reports progress between two units of work, where a listener may end the work.

Work is plain functions that are given a `Heartbeat`. A listener raises what ends the work: Ray Tune raises SystemExit,
everybody else `Cancelled`. The `with` blocks on the way release locks and remove half-written files.

Work also says of which activity it is, so that whoever measures can say where time goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LOAD = "load"  # imports, weights, tokenizers, data from files: all that is of no other activity
ENCODE = "encode"  # text to tokens
TRAIN, DEV, SCORE = "train", "dev", "score"  # what the device computes: steps, forward passes, nearest neighbours
JUDGE = "judge"  # outputs to predictions and metrics, of dev and test data, by the host
STORE = "store"  # checkpoints, weights, scores, predictions: made, hashed and written
WAIT = "wait"  # for the lock of another worker, or for a listener to take a report
ACTIVITIES = (LOAD, ENCODE, TRAIN, DEV, SCORE, JUDGE, STORE, WAIT)
COMPUTING = (TRAIN, DEV, SCORE)


class Cancelled(BaseException):
    """Signal that ends work. It is no Exception, so that work which handles errors does not handle it."""


class Heartbeat:
    """Heartbeat that nobody listens to; subclasses listen, and may raise what ends the work."""

    def beat(self, doing: str = "") -> None:
        """Reports that a unit of work is done. `doing` names the next one if it may take long without another beat."""

    def wait(self, reason: str, seconds: float) -> None:
        """Reports `seconds` without work since the last such call, because another process holds a lock.

        `reason` names the lock and its holder; it is empty once the wait is over.
        """

    @contextmanager
    def during(self, activity: str) -> Iterator[None]:
        """Says that a block is of one of ACTIVITIES. Of a block in a block, the inner one says it."""
        yield

    @contextmanager
    def beside(self, activity: str) -> Iterator[None]:
        """Says so of a block in a thread of its own, which keeps the work waiting for no time."""
        yield


NO_LISTENER = Heartbeat()
