"""Facts about imports that a contract between packages cannot say; the contracts stand in pyproject.toml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "ray", "mlflow", "datasets", "pandas", "transformers", "pyarrow", "optuna", "matplotlib"}


def test_planning_loads_no_heavy_library():
    code = "import json, sys; from sweep.plan import cost, plan, resolve; print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {name.split(".")[0] for name in json.loads(process.stdout)} & HEAVY == set()


def test_a_printed_plan_has_loaded_no_heavy_library():
    code = "import json, sys; from sweep.cli import main; main(['plan', 'search_spaces/quickstart.yaml']); "
    code += "print(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "cells" in process.stdout
    assert {name.split(".")[0] for name in json.loads(process.stdout.splitlines()[-1])} & HEAVY == set()
