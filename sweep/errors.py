"""The exception tree. Whatever a user can cause is a SweepError: one line on stderr, exit code 2, no traceback.

    SweepError
    ├── StudyError    the study file says something that cannot be done; `where` is the YAML path
    ├── DataError     a data file or hub data set is absent, unreadable or not what the study says; `where` is file:line
    ├── StoreError    a finished phase or score does not match its record, or the disk is full or not to be written
    ├── DeviceError   a device has no room for what cannot be done in smaller parts
    └── BudgetError   what is asked for cannot be paid

Anything else that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SHOWN = 10  # lines that differ in their place alone


class SweepError(Exception):
    """One line: where, what was found, what would do, and the nearest name where there is one.

    `others` were found with it; its line counts them.
    """

    def __init__(self, where: object, found: str, wanted: str, nearest: str | None = None) -> None:
        self.where = str(where)
        self.found = found
        self.wanted = wanted
        self.nearest = nearest
        self.others: tuple[SweepError, ...] = ()
        super().__init__(str(self))

    @property
    def line(self) -> str:
        """The mistake alone."""
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return " ".join(f"{self.where}: found {self.found}; {self.wanted}{hint}".split())

    def __str__(self) -> str:
        return f"{self.line} ({len(self.others)} more after this one: sweep check)" if self.others else self.line

    def __reduce__(self) -> tuple[type[SweepError], tuple[str, str, str, str | None], dict[str, Any]]:
        # Ray carries exceptions between processes by pickle, which would call __init__ with the message alone.
        return type(self), (self.where, self.found, self.wanted, self.nearest), {"others": self.others}


class StudyError(SweepError):
    """The study file asks for something that does not exist or cannot be."""


class DataError(SweepError):
    """A data file or a hub data set is absent, unreadable, or not what the study says it is."""


class StoreError(SweepError):
    """A finished phase or score does not match the record that was written with it, or the disk takes nothing."""


class DeviceError(SweepError):
    """A device, or the share of one, is too small for what a chain cannot do in smaller parts."""


class BudgetError(SweepError):
    """The study's budget cannot pay for what it would have to pay."""


class Mistakes:
    """Those of parts that do not depend on one another: all are looked for before the first is raised."""

    def __init__(self) -> None:
        self._found: dict[str, SweepError] = {}

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keeps a SweepError, and those found with it; once, where parts meet the same one."""
        try:
            yield
        except SweepError as mistake:
            for one in (mistake, *mistake.others):
                self._found.setdefault(one.line, one)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[str]:
        """Their lines, in the order in which they were found; of equal ones in many places the first few."""
        places = Counter[tuple[str, str]]()
        for line, mistake in self._found.items():
            said = (mistake.found, mistake.wanted)
            places[said] += 1
            if places[said] <= SHOWN:
                yield line
        for (found, _), count in places.items():
            if count > SHOWN:
                yield f"{count - SHOWN} more places: found {found}"

    def raise_first(self) -> None:
        """Raises the first with the others, where there is one."""
        if self._found:
            first, *others = self._found.values()
            first.others = tuple(others)
            raise first


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None where nothing is close."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None
