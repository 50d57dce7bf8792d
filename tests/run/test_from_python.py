"""Facts about studies that a program runs by itself, as a script without a guard, a notebook or a server does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_studies import TINY, study_file

# What a notebook is to a study: Ray was imported long before, an event loop runs, and cells may run in threads. There
# is no `if __name__ == "__main__"`: a process that begins by running this script again would run the study again.
NOTEBOOK = """
import ray
import asyncio, json, os, threading
from pathlib import Path
from sweep.errors import SweepError
from sweep.run.study import run

print("begins")
before, found = dict(os.environ), {}

def cell():
    outcome = run(Path("study.yaml"))
    found.update(done=len(outcome.admission.outcomes.done), failed=len(outcome.admission.outcomes.failed))

async def notebook():
    thread = threading.Thread(target=cell)
    thread.start()
    thread.join()

asyncio.run(notebook())
found["environment"] = sorted(name for name, _ in {*os.environ.items()} ^ {*before.items()})
found["connected"] = ray.is_initialized()
print(json.dumps(found))
"""


def ran(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)


def test_a_script_that_imports_ray_first_and_has_no_guard_runs_a_study_in_a_thread(tmp_path):
    study_file(tmp_path, pretrain={"steps": 2}, target={"steps": 2})
    done = ran(tmp_path, NOTEBOOK)
    assert done.returncode == 0, done.stderr
    begun, *_, last = done.stdout.splitlines()
    assert begun == "begins"
    assert done.stdout.count("begins") == 1
    assert json.loads(last) == {"done": 1, "failed": 0, "environment": [], "connected": False}


def test_a_mistake_in_an_encoder_reaches_the_caller_as_one(tmp_path):
    """Encoders are looked at in a process of their own."""
    study_file(tmp_path, encoders={"tiny": {**TINY, "random_init": {**TINY["random_init"], "hidden_size": 33}}})
    done = ran(tmp_path, "from pathlib import Path\nfrom sweep.run.study import run\nrun(Path('study.yaml'))\n")
    assert "StudyError: encoders.tiny.random_init: found" in done.stderr.splitlines()[-1]


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
