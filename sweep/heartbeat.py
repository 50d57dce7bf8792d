"""Heartbeat of long work: reports progress between two units of work, where a listener may end the work.

Work is plain functions that are given a `Heartbeat`. A listener raises what ends the work: Ray Tune raises SystemExit,
everybody else `Cancelled`. The `with` blocks on the way release locks and remove half-written files.
"""

from __future__ import annotations


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


NO_LISTENER = Heartbeat()
