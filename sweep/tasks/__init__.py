"""The table of data sets and of output shapes: what a study can name. Rows and loading are elsewhere (sources, families)."""

from __future__ import annotations

import importlib
import importlib.util

from sweep.tasks.base import Family, Task

# Interim, while the modules are being written side by side: take what is there.
FAMILIES: dict[str, Family] = {}
for _module in ("classify", "token", "qa", "retrieval", "masked"):
    if importlib.util.find_spec(f"sweep.tasks.{_module}"):
        for _object in vars(importlib.import_module(f"sweep.tasks.{_module}")).values():
            if hasattr(_object, "default_max_length") and not isinstance(_object, type):
                FAMILIES[_object.name] = _object

TASKS: dict[str, Task] = {}
if importlib.util.find_spec("sweep.tasks.synthetic"):
    TASKS = {task.name: task for task in importlib.import_module("sweep.tasks.synthetic").TASKS}
