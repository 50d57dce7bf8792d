"""What a study can name: output shapes, the embedded benchmark's tasks, and well-known hub data sets.

The tables are in english.py and targets.py. A hub row says which columns mean what, how large the splits are and how
long the examples, so that a plan needs no network. No commit is pinned: a study records the one it resolved.
"""

from __future__ import annotations

from sweep.tasks.catalog.intermediate import ENGLISH
from sweep.tasks.catalog.targets import TARGETS
from sweep.tasks.catalog__provided import PROVIDED
from sweep.tasks.describe import hub_task
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.tasks.task import Task

HUB = {**{name: {"languages": ["en"], **row} for name, row in ENGLISH.items()}, **TARGETS}

TASKS: dict[str, Task] = {task.name: task for task in (*EMBEDDED, *PROVIDED)}
TASKS |= {name: hub_task(name, row, f"tasks.{name}") for name, row in HUB.items()}
