"""Facts about studies that a program runs by itself, as a script without a guard, a notebook or a server does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import nbformat
import pytest
from conftest import REPOSITORY
from documentation import blocks
from nbclient import NotebookClient
from small_studies import TINY, study_file

# What a study must leave as it was, of the process that runs it. Libraries may be imported, and bring their loggers.
STATE = """
import logging, os, signal, sys, threading, warnings
import ray, pandas, scipy.special  # reading results imports the last two, which add filters of their own

def state():
    named = logging.root.manager.loggerDict.items()
    return {
        "environment": dict(os.environ), "folder": os.getcwd(), "filters": [repr(entry) for entry in warnings.filters],
        "hooks": (sys.excepthook, threading.excepthook),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "levels": {name: logger.level for name, logger in named if isinstance(logger, logging.Logger)},
    }

def changed(before):
    now = state()
    now["levels"] = {name: now["levels"][name] for name in before["levels"]}
    return {name: repr(now[name]) for name in before if before[name] != now[name]}
"""
# There is no `if __name__ == "__main__"`: a process that begins by running this script again would run the study again.
# Ray was imported long before, an event loop runs, and the page's code runs in a thread.
SCRIPT = f"""{STATE}
import asyncio, json, pathlib

print("begins")
import sweep

mistaken = sweep.load("mistaken.json")
before, found = state(), {{}}
try:
    mistaken.run()
except sweep.SweepError as mistake:
    print(mistake)

def page():
    exec(compile(pathlib.Path("page.py").read_text(), "page.py", "exec"), found)

async def server():
    thread = threading.Thread(target=page)
    thread.start()
    thread.join()

asyncio.run(server())
print(json.dumps({{
    "changed": changed(before), "connected": ray.is_initialized(), "states": [*found["results"].chains()["state"]],
    "shape": [*found["states"].shape],
}}))
"""


def test_the_page_on_python_runs_in_a_thread_of_a_script_that_imports_ray_first_and_has_no_guard(tmp_path):
    shown = [block.text for block in blocks("docs/python.md") if block.language == "python"]
    study_file(tmp_path, encoders={"tiny": {**TINY, "random_init": {**TINY["random_init"], "hidden_size": 33}}})
    (tmp_path / "study.yaml").rename(tmp_path / "mistaken.json")
    (tmp_path / "page.py").write_text("\n".join(shown), encoding="utf-8")
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begins") == 1
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"changed": {}, "connected": False, "states": ["done", "done"], "shape": [1, 4, 96]}
    assert "\nencoders.tiny.random_init: found" in done.stdout  # by a process of its own, that looks at encoders
    assert "did you mean 'world/topic'?" in done.stdout
    assert re.search(r"world/nli .* seed 0, target: step 8 of 8, dev 0\.\d+\n", done.stdout)
    assert "seed 0: done (2 of 2)\n" in done.stdout


def test_the_notebook_runs_and_leaves_its_kernel_as_it_was(tmp_path, monkeypatch):
    """Ray is imported before; a kernel has an event loop, and its cells run in the main thread."""
    notebook = nbformat.read(REPOSITORY / "docs" / "first-study.ipynb", as_version=4)
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    code = nbformat.v4.new_code_cell
    notebook.cells.insert(0, code(f"{STATE}\nimport sweep\nbefore = state()"))
    notebook.cells.append(code("changed(before), ray.is_initialized()"))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert printed(notebook, -1) == "({}, False)"
    assert printed(notebook, "study.check()").startswith("2 cells, 2 data sets, no errors")
    assert printed(notebook, "results.answer()").startswith(
        "One seed shows nothing about training noise: on world/topic"
    )
    assert "to train for the first time: 2 target phases" in printed(notebook, "study.plan()")
    assert printed(notebook, "last_hidden_state.shape") == "torch.Size([1, 4, 96])"


def printed(notebook: Any, cell: int | str) -> str:
    """The value that a cell shows: one by its number, or the last one with a text in it."""
    cells = [one for one in notebook.cells if one.cell_type == "code"]
    chosen = cells[cell] if isinstance(cell, int) else [one for one in cells if cell in one.source][-1]
    return str(next(shown.data["text/plain"] for shown in chosen.outputs if shown.output_type == "execute_result"))


def test_a_cluster_that_the_process_has_already_is_refused_and_left_alone(monkeypatch):
    ray = pytest.importorskip("ray")
    from sweep.config.study import Runtime
    from sweep.errors import StudyError
    from sweep.run.cluster import cluster

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("the caller's Ray was ended"))
    before = dict(os.environ)
    with pytest.raises(StudyError, match=r"call ray\.shutdown\(\) before"), cluster(Runtime()):
        pass
    assert dict(os.environ) == before
