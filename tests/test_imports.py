"""Facts about imports that a contract between packages cannot say; the contracts stand in pyproject.toml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "ray", "mlflow", "datasets", "pandas", "transformers", "pyarrow", "optuna", "matplotlib"}


def test_the_package_itself_imports_no_other():
    code = "import json, sys; import sweep; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(process.stdout)}
    assert loaded & (HEAVY | {"numpy", "pydantic", "rich", "ruamel", "filelock"}) == set()


def test_planning_loads_no_heavy_library():
    code = "import json, sys; from sweep.plan import cost, plan, resolve; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {name.split(".")[0] for name in json.loads(process.stdout)} & HEAVY == set()


@pytest.mark.parametrize(
    "command",
    [["--version"], ["schema"], ["completion", "bash"], ["tasks", "--help"], ["new", "--target", "world/topic"]],
)
def test_a_command_that_runs_no_study_loads_no_heavy_library(command, tmp_path):
    code = "import atexit, json, sys; from sweep.cli import main; "
    code += "atexit.register(lambda: print(json.dumps(sorted(sys.modules)))); main(sys.argv[1:])"
    start = [sys.executable, "-c", code, *command]
    process = subprocess.run(start, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert {name.split(".")[0] for name in json.loads(process.stdout.splitlines()[-1])} & HEAVY == set()


def test_a_printed_plan_has_loaded_no_heavy_library():
    code = "import json, sys; from sweep.cli import main; main(['plan', 'search_spaces/quickstart.yaml']); "
    code += "print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "cells" in process.stdout
    assert {name.split(".")[0] for name in json.loads(process.stdout.splitlines()[-1])} & HEAVY == set()
