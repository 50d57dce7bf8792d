"""The hub as a server: what is fetched, which commit is recorded, what is said where a data set is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, Features
from fake_hub import commit_of, hub
from hub_rows import DATA_SETS

PARQUET = "refs/convert/parquet"
CARD = "---\nlicense: mit\n---\n"
QUESTION = """
import json, sys
from sweep.errors import DataError
from sweep.tasks.table import TASKS
source = TASKS[sys.argv[1]].source
try:
    found = source.resolve()
    print(json.dumps(["+".join(found.versions.values()), found.rows("test", "en"), source.rows("test", "en")]))
except DataError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture
def repositories(tmp_path):
    """A folder for repositories; `publish` puts a revision of one into it."""
    datasets.disable_progress_bars()
    return tmp_path / "hub"


def publish(repositories: Path, name: str, revision: str, files: dict[str, str | Dataset]) -> None:
    folder = repositories / name / revision
    folder.mkdir(parents=True)
    (folder / ".revision").touch()
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (folder / path).write_text(content)
        else:
            content.to_parquet(folder / path)


def data(name: str, config: str, split: str) -> Dataset:
    shape = DATA_SETS[name][config]
    return Dataset.from_list(shape.rows(config, split), features=Features(shape.features))


def ask(repositories: Path, task: str, offline: bool = False, gated: frozenset[str] = frozenset()):
    """[commit, rows at it, rows where it is not known], or the message of the DataError."""
    with hub(repositories, gated) as address:
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(repositories / "home"), "HF_HUB_DISABLE_XET": "1"}
        switches = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1" if offline else "0")
        command = [sys.executable, "-c", QUESTION, task]
        environment = {**os.environ, **settings, **switches}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def script(repositories):
    """A data set whose main revision is a loading script."""
    name = "allenai/cosmos_qa"
    publish(repositories, name, "main", {"README.md": CARD, "cosmos_qa.py": "raise SystemExit"})
    parquet = {
        f"default/{split}/0000.parquet": data(name, "default", split) for split in ("train", "validation", "test")
    }
    publish(repositories, name, PARQUET, parquet)
    return repositories


def test_a_loading_script_is_read_from_its_parquet_and_the_commit_says_so(script):
    revision, resolved, unresolved = ask(script, "cosmos_qa")
    assert revision == f"{commit_of('allenai/cosmos_qa' + PARQUET)}@{PARQUET}"
    assert len(resolved) == 3
    assert resolved == unresolved


def test_what_was_fetched_from_the_fallback_is_found_offline_with_its_commit(script):
    assert ask(script, "cosmos_qa") == ask(script, "cosmos_qa", offline=True)


def test_the_fallback_is_left_alone_where_the_main_revision_can_be_loaded(repositories):
    name = "Rowan/hellaswag"
    files = {f"data/{split}-00000-of-00001.parquet": data(name, "default", split) for split in ("train", "validation")}
    publish(repositories, name, "main", {"README.md": CARD, **files})
    publish(repositories, name, PARQUET, {"default/validation/0000.parquet": data("lighteval/siqa", "", "x")})
    revision, resolved, _ = ask(repositories, "hellaswag")
    assert revision == commit_of(f"{name}main")
    assert resolved[0]["options"] == ["he a.", "he b.", "he c.", "he d."]


def test_a_fallback_without_the_configuration_is_refused_with_the_first_reason(script):
    (script / "allenai/cosmos_qa" / PARQUET / "default/validation/0000.parquet").unlink()
    message = ask(script, "cosmos_qa")
    assert "allenai/cosmos_qa default validation: found a data set that cannot be loaded" in message
    assert "no default/validation/*.parquet" in message


@pytest.mark.parametrize(("gated", "said"), [(True, "GatedRepoError"), (False, "RepositoryNotFoundError")])
def test_a_gated_or_absent_data_set_is_answered_with_what_else_would_do(repositories, gated, said):
    (repositories / "facebook").mkdir(parents=True)
    message = ask(repositories, "xnli", gated=frozenset(["facebook/xnli"] if gated else []))
    assert f"facebook/xnli: found a data set that cannot be loaded ({said}" in message
    assert "a folder with its README.md and Parquet files, written for 'facebook/xnli' in tasks.xnli" in message
    assert "the benchmark's own files, read by `format: xtreme` in tasks.xnli" in message
    assert "\n" not in message
