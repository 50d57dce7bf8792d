"""Sweeps of intermediate-task transfer chains: one study file, one command, one budget, one report.

In Python: `sweep.load` gives a study, `sweep.open` the results of one (sweep/api.py, docs/python.md). The names below
are imported at first use, so that `import sweep` loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api import Answer as Answer
    from sweep.api import Check as Check
    from sweep.api import Results as Results
    from sweep.api import Study as Study
    from sweep.api import StudyPlan as StudyPlan
    from sweep.api import load as load
    from sweep.api import open as open  # noqa: A004  read with its package: sweep.open
    from sweep.errors import SweepError as SweepError
    from sweep.run.progress import Progress as Progress

__version__ = "0.1.0"
__all__ = ["Answer", "Check", "Progress", "Results", "Study", "StudyPlan", "SweepError", "__version__", "load", "open"]

_ELSEWHERE = {"Progress": "sweep.run.progress", "SweepError": "sweep.errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}", name=name, obj=import_module("sweep"))
    return getattr(import_module(_ELSEWHERE.get(name, "sweep.api")), name)


def __dir__() -> list[str]:
    return __all__
