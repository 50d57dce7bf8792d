"""Facts about benchmarks/gpu.sh, tried without a GPU so that it works on the day when one is at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "benchmarks/gpu.sh"
PATIENT = ("--patience", "100", "--minutes", "100")


def gpu_script(wheels: str | Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        ["bash", str(SCRIPT), str(wheels), str(out), *options],
        cwd=out.parent, env=environment | {"PYTHON": sys.executable}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    """Findings of the script in a part that needs no GPU and in one that trains, and its output."""
    out, wheels = tmp_path_factory.mktemp("gpu") / "out", tmp_path_factory.mktemp("wheels")
    (wheels / "numpy-0.1-py3-none-any.whl").write_text("not to be unpacked where numpy is there", encoding="utf-8")
    done = gpu_script(wheels, out, "--parts", "machine", "memory", *PATIENT)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "gpu.json").read_text(encoding="utf-8")), done.stdout


def test_the_script_leaves_alone_what_the_machine_has_and_notes_each_part(measured):
    found, _ = measured
    assert {name: part["state"] for name, part in found.items()} == {"machine": "done", "memory": "done"}
    assert found["machine"]["versions"]["torch"]
    (chain,) = (value for name, value in found["memory"].items() if "rows" in name)
    assert chain["bytes of a checkpoint"] > 2.9 * chain["bytes of the weights"] > 0


def test_its_last_lines_compare_with_the_goals(measured):
    _, printed = measured
    assert "large: share of the matrix rate, 256 texts: goal 0.5, not measured" in printed.splitlines()


def test_a_part_for_which_no_time_is_left_is_named_and_costs_nothing(tmp_path):
    done = gpu_script("", tmp_path / "out", "--parts", "base", "--minutes", "0.01")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/gpu.json").read_text()) == {
        "base": {"state": "left out: no time was left", "seconds": 0.0}
    }


def test_a_part_that_fails_leaves_its_traceback_and_the_next_one_runs(tmp_path):
    """Here a wheel shadows a library that the first part needs."""
    out, broken = tmp_path / "out", tmp_path / "broken"
    broken.mkdir()
    (broken / "pytest.py").write_text("raise RuntimeError('a broken library')\n", encoding="utf-8")
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(broken)}
    command = ["bash", str(SCRIPT), "", str(out), "--parts", "tests", "flat", *PATIENT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    assert found["tests"]["state"] == "failed with code 1"
    assert "AssertionError: pytest ended with 1" in found["tests"]["traceback"]
    assert "a broken library" in (out / "gpu.log").read_text(encoding="utf-8")
    assert found["flat"] == {"skipped": "no GPU", "state": "done", "seconds": found["flat"]["seconds"]}
    assert "tests: failed with code 1" in done.stdout
