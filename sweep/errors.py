"""Exception tree. Whatever a user can cause is a SweepError: one line on stderr, exit code 2, no traceback.

    SweepError
    ├── StudyError    the study file says something that cannot be done; `where` is the YAML path
    ├── DataError     a data file or hub data set is absent, unreadable or not what the study says; `where` is file:line
    ├── StoreError    a finished phase or score does not match its record, or the disk is full or not to be written
    └── DeviceError   a device has no room for what cannot be done in smaller parts

Anything else that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 10  # lines that differ only in where


class SweepError(Exception):
    """One line for the user: where, what was found, what is expected, and the nearest name if there is one.

    `where` is a YAML path, file:line or name. `further` errors were collected with this one; its line counts them.
    """

    def __init__(self, where: object, found: str, expected: str, nearest: str | None = None) -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.nearest = nearest
        self.further: tuple[SweepError, ...] = ()
        super().__init__(str(self))

    @property
    def line(self) -> str:
        """The message without the count of further errors."""
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return " ".join(f"{self.where}: found {self.found}; {self.expected}{hint}".split())

    def __str__(self) -> str:
        return f"{self.line} ({len(self.further)} more after this one: sweep check)" if self.further else self.line

    def __reduce__(self) -> tuple[type[SweepError], tuple[str, str, str, str | None], dict[str, Any]]:
        # Ray carries exceptions between processes by pickle, which would call __init__ with the message alone.
        return type(self), (self.where, self.found, self.expected, self.nearest), {"further": self.further}


class StudyError(SweepError):
    """The study file asks for something that does not exist or cannot be."""


class DataError(SweepError):
    """A data file or a hub data set is absent, unreadable, or not what the study says it is."""


class StoreError(SweepError):
    """A finished phase or score does not match the record that was written with it, or the disk takes nothing."""


class DeviceError(SweepError):
    """A device, or the share of one, is too small for what a chain cannot do in smaller parts."""


class Mistakes:
    """Errors of independent checks, collected so that a user sees all of them at once."""

    def __init__(self) -> None:
        self._errors: dict[str, SweepError] = {}

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Catches a SweepError and keeps it with its further ones; equal lines are kept once."""
        try:
            yield
        except SweepError as raised:
            for error in (raised, *raised.further):
                self._errors.setdefault(error.line, error)

    def __bool__(self) -> bool:
        return bool(self._errors)

    def __iter__(self) -> Iterator[str]:
        """Lines in the order of discovery; of messages that differ only in `where`, the first SHOWN and a count."""
        counts = Counter[tuple[str, str]]()
        for line, error in self._errors.items():
            message = (error.found, error.expected)
            counts[message] += 1
            if counts[message] <= SHOWN:
                yield line
        for (found, _), count in counts.items():
            if count > SHOWN:
                yield f"{count - SHOWN} more places: found {found}"

    def raise_first(self) -> None:
        """Raises the first error, which carries the further ones; does nothing if there is none."""
        if self._errors:
            first, *further = self._errors.values()
            first.further = tuple(further)
            raise first


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate closest to a mistyped name, whatever its case; None if none is close (difflib ratio below 0.6)."""
    lowered = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None
