"""What a study can name: output shapes, the embedded benchmark's tasks, and well-known hub data sets.

The tables are in english.py and targets.py. A hub row says which columns mean what, how large the splits are and how
long the examples, so that a plan needs no network. No commit is pinned: a study records the one it resolved.
"""

from __future__ import annotations

from sweep.tasks.base import Family, Task
from sweep.tasks.classify import CHOICE, SEQUENCE
from sweep.tasks.english import ENGLISH
from sweep.tasks.masked import MASKED
from sweep.tasks.mining import MINING
from sweep.tasks.provided import PROVIDED
from sweep.tasks.qa import SPAN
from sweep.tasks.ranking import RANKING
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.sources import hub_task
from sweep.tasks.synthetic import TASKS as EMBEDDED
from sweep.tasks.targets import TARGETS
from sweep.tasks.token import TOKEN

_FAMILIES: tuple[Family, ...] = (SEQUENCE, CHOICE, TOKEN, SPAN, EMBEDDING, MINING, RANKING, MASKED)
FAMILIES = {family.name: family for family in _FAMILIES}
VECTORS = (EMBEDDING.name, MINING.name, RANKING.name)  # families whose outputs are sweep.tasks.vectors.Vectors

HUB = {**{name: {"languages": ["en"], **row} for name, row in ENGLISH.items()}, **TARGETS}

TASKS: dict[str, Task] = {task.name: task for task in (*EMBEDDED, *PROVIDED)}
TASKS |= {name: hub_task(name, row, f"tasks.{name}") for name, row in HUB.items()}
