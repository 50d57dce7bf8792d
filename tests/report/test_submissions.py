"""Facts about submissions: what a study publishes is scored by `sweep score` as the study scored it itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from zipfile import ZipFile

import pytest
from small_studies import finish, study_file, with_data_of, with_encoder_of

from sweep.config.axes import Arm
from sweep.errors import StoreError
from sweep.keys import file_name
from sweep.plan.recipe import Chain
from sweep.report.results import Result, read_results
from sweep.report.submissions import publish_submissions
from sweep.store.artifacts import Store
from sweep.store.ledger import DONE, ChainRow, row_of
from sweep.store.paths import PREDICTIONS
from sweep.xtreme.score import score

TARGETS = ("world/rte", "world/copa", "world/pos", "world/ner", "world/qa", "world/retrieval")
FOLDER = "submissions/tiny__none__-/seed-1"


def row(chain: Chain, selected: bool = True) -> ChainRow:
    """The chain as the ledger has it when it is done."""
    return replace(row_of(chain, DONE, 0.0), selected=selected, ended=1.0)


@pytest.fixture(scope="module")
def finished(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Result]]:
    """A chain on every family that a target can be of."""
    store = with_encoder_of(small_store, tmp_path_factory.mktemp("finished") / "store")
    chains = finish(study_file(tmp_path_factory.mktemp("study"), {"target": TARGETS}), store)
    return store, read_results([row(chain) for chain in chains], store)


def test_a_submission_scores_as_its_chains_did_in_every_family_and_language(finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    scored = score(tmp_path / FOLDER)
    assert scored.notes == []
    assert set(scored.tasks) == set(TARGETS)
    for result in found:
        languages = scored.by_language()[result.score.task]
        assert set(languages) == set(result.score.languages)
        for language, entry in result.score.languages.items():
            assert languages[language][result.score.metric] == pytest.approx(100 * entry["value"], abs=1e-9)


def test_the_command_line_scores_a_submission(finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    command = [sys.executable, "-m", "sweep", "score", FOLDER, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == set(TARGETS)


def test_what_is_published_is_left_alone(finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    before = {path: path.stat() for path in (tmp_path / FOLDER).rglob("*")}
    publish_submissions(tmp_path, found, store)
    after = {path: path.stat() for path in (tmp_path / FOLDER).rglob("*")}
    assert {path: (one.st_ino, one.st_mtime_ns) for path, one in before.items()} == {
        path: (one.st_ino, one.st_mtime_ns) for path, one in after.items()
    }


def test_another_winner_replaces_the_files_of_its_target_alone(finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    description = tmp_path / FOLDER / "submission.json"
    known = json.loads(description.read_text())
    known["tasks"]["world/copa"]["score"] = "another"
    description.write_text(json.dumps(known))
    for target in ("world/copa", "world/rte"):
        for file in (tmp_path / FOLDER / "predictions" / file_name(target)).iterdir():
            file.write_text("spoiled")
    publish_submissions(tmp_path, found, store)
    texts = {
        target: {file.read_text() for file in (tmp_path / FOLDER / "predictions" / file_name(target)).iterdir()}
        for target in ("world/copa", "world/rte")
    }
    assert "spoiled" not in texts["world/copa"]
    assert texts["world/rte"] == {"spoiled"}


@pytest.mark.parametrize("text", ["{", '{"tasks": {}}', '{"made by": "sweep", "tasks": {"x": {"family": "span"}}}'])
def test_a_folder_without_the_mark_of_the_program_is_left_as_it_is_and_said(text, finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    (tmp_path / FOLDER / "submission.json").write_text(text)
    before = contents(tmp_path)
    (line,) = publish_submissions(tmp_path, found[:1], store)
    assert contents(tmp_path) == before
    assert f"{len(before)} files there are not this study's and were left alone" in line
    assert "delete it to have it made anew" in line


def contents(folder):
    """Path -> bytes of every file."""
    return {path: path.read_bytes() for path in (folder / "submissions").rglob("*") if path.is_file()}


def test_a_task_named_by_a_path_stays_in_its_submission(finished, tmp_path):
    store, (result, *_) = finished
    precious = tmp_path / "precious" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    names = {"../../../../precious", str(precious.parent), "../precious", ".."}
    found = [replace(result, score=replace(result.score, task=name)) for name in names]
    for _ in range(2):
        publish_submissions(tmp_path / "results", found, store)
        assert precious.read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "results"}
    assert [path.name for path in precious.parent.iterdir()] == ["thesis.txt"]
    assert set(score(tmp_path / "results" / FOLDER).tasks) == names


def test_only_selected_chains_are_published(finished, tmp_path):
    store, found = finished
    first, *others = found
    publish_submissions(
        tmp_path, [first, *(replace(one, chain=replace(one.chain, selected=False)) for one in others)], store
    )
    assert list(score(tmp_path / FOLDER).tasks) == [first.score.task]


def test_all_chains_on_a_test_set_share_its_label_files(finished, tmp_path):
    store, _ = finished
    made = with_data_of(store, tmp_path / "store")
    shutil.copytree(store.root / "labels", made.root / "labels")
    before = {path: path.stat().st_ino for path in (made.root / "labels").rglob("*")}
    finish(study_file(tmp_path, {"target": ["world/copa"], "seed": [1, 2]}), made)
    assert len(made.keys("scores")) == 2
    assert {made.score(key).labels for key in made.keys("scores")} < {path.name for path in before}
    assert {path: path.stat().st_ino for path in (made.root / "labels").rglob("*")} == before


def test_published_labels_take_no_room_of_their_own(finished, tmp_path):
    store, found = finished
    publish_submissions(tmp_path, found, store)
    files = list((tmp_path / FOLDER / "labels").rglob("test-*"))
    assert files
    assert all(path.stat().st_nlink > 1 for path in files)  # pytest keeps its folders on one file system


def test_damaged_predictions_and_missing_labels_are_said_with_their_place(finished, tmp_path):
    store, found = finished
    copy = Store(tmp_path / "store")
    shutil.copytree(store.root / "scores", copy.root / "scores")
    with pytest.raises(StoreError, match=r"labels.*found no labels; to repair, delete the folder"):
        publish_submissions(tmp_path, found, copy)
    archive = copy.root / "scores" / found[0].score.key / PREDICTIONS
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"predictions\.zip: found content that does not match its checksum"):
        publish_submissions(tmp_path, found, copy)


def test_kept_predictions_are_compressed_and_the_same_in_every_run(finished):
    store, found = finished
    for result in found:
        with ZipFile(store.predictions(result.score.key)) as archive:
            assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
            sizes = [(entry.compress_size, entry.file_size) for entry in archive.infolist()]
        assert sum(small for small, _ in sizes) < 0.8 * sum(large for _, large in sizes)


def test_an_arm_names_its_folder():
    assert Arm("tiny", ("world/nli", "a"), 1000, "de", 1e17).folder == "tiny__world--nli+a__1000__de__1e+17-flops"
    assert Arm("tiny").folder == "tiny__none__-"
