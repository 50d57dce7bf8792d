"""Heartbeat of work that takes long: it says between two units of work that it gets on, and may be ended there.

Work is plain functions that are given a `Heartbeat`. Whoever listens raises what ends the work: Ray Tune raises
SystemExit, everybody else `Cancelled`. Locks and half-written files are let go of by the `with` blocks on its way.
"""

from __future__ import annotations


class Cancelled(BaseException):
    """Whoever listens to work wants no more of it. No Exception: work that handles errors must not handle this."""


class Heartbeat:
    """Heard by nobody, as it is; subclasses listen, and may raise what ends the work."""

    def beat(self, doing: str = "") -> None:
        """A unit of work is done. `doing` says what the next one does where it may take long without another beat."""

    def wait(self, reason: str, seconds: float) -> None:
        """Nothing was done for so many seconds, since the last such call if there was one: a lock is held by another.

        `reason` says whose lock it is; it is empty once the wait is over.
        """


NO_LISTENER = Heartbeat()
