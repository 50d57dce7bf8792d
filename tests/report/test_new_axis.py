"""Facts about axes: everything that lists cells shows them, a new field of `Arm` as well as a key of a phase."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import new_axis
import pytest

COLUMNS = (
    "scores.csv", "groups.csv", "retention.csv", "frame of cells", "frame of languages", "frame of groups",
    "frame of overall", "frame of contrasts", "frame of arms", "tuning", "preview", "parameters in MLflow", "plan",
    "flags of an export",
)  # fmt: skip
LABELS = (
    "page", "table of cells", "table of contrasts", "table of previews", "table of languages",
    "table of retention", "table of tuning", "table in the terminal",
    "names in MLflow", "cells in MLflow", "names of chains", "folders of submissions", "figure of gains",
    "figure of languages", "figure of trade-off", "figure of curves", "figure of retention",
)  # fmt: skip


@pytest.fixture(scope="module", params=new_axis.TEXTS)
def axis(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def shown(axis: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a study shows whose axes are those of the package and one more."""
    script, folder = Path(new_axis.__file__), tmp_path_factory.mktemp("axis")
    paths = os.pathsep.join([str(script.parent), str(script.parent.parent)])
    process = subprocess.run(
        [sys.executable, script, folder, axis], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    found: dict[str, object] = json.loads(process.stdout)
    return found


@pytest.mark.parametrize("name", COLUMNS)
def test_an_axis_has_its_column_with_its_values_in(name, axis, shown):
    text = str(shown[name])
    assert axis in text
    assert all(value in text for value in new_axis.TEXTS[axis])


@pytest.mark.parametrize("name", LABELS)
def test_an_axis_is_said_where_it_says_something_in(name, axis, shown):
    text = str(shown[name])
    for value in new_axis.SAID[axis]:
        assert f"{axis} {value}" in text or f"{axis}-{value}" in text
    assert "plain" not in text


def test_nothing_that_a_study_shows_is_left_out_here(shown):
    assert set(shown) == {*COLUMNS, *LABELS}
