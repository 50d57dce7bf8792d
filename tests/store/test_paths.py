"""Facts about names in a results folder: each is spelled in one file, and a finished study has no others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from finished_study import usual
from small_studies import study_file

from sweep.report.page import publish
from sweep.store import paths

SWEEP = Path(paths.__file__).parents[1]
NAMES = {
    text
    for value in vars(paths).values()
    for text in (value.values() if isinstance(value, dict) else [value])
    if isinstance(text, str) and "." in text and "\n" not in text and "/" not in text
} - {paths.__name__}
MODULES = [path for path in sorted(SWEEP.rglob("*.py")) if path != SWEEP / "store" / "paths.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SWEEP)))
def test_no_other_module_spells_a_file_of_a_results_folder(path: Path) -> None:
    spelled = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    # `sweep new` calls a user's study as the copy of one is called in its results.
    assert not spelled & (NAMES - {paths.STUDY_FILE} if path.name == "cli.py" else NAMES)


def test_a_finished_study_has_no_file_that_is_not_listed(tmp_path: Path) -> None:
    usual(tmp_path).ledger.close()
    assert study_file(tmp_path) == tmp_path / paths.STUDY_FILE
    publish(tmp_path)
    listed = {value for value in vars(paths).values() if isinstance(value, str)} | set(paths.PICTURES.values())
    assert {path.name for path in tmp_path.iterdir()} <= listed
    assert {paths.LEDGER, paths.STORE, paths.PAGE, paths.SCORES_CSV} <= {path.name for path in tmp_path.iterdir()}
