"""Hub data sets, offline: small Parquet folders with the columns of the real ones, read by the real `load_dataset`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import Value
from hub_folders import offline
from hub_folders import repository as write_repository
from hub_rows import ANSWERS, NLI

from sweep.data import Size
from sweep.errors import DataError, StudyError
from sweep.tasks.data_check import check
from sweep.tasks.describe import own_task
from sweep.tasks.table import HUB, TASKS

TEXT = Value("string")
COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of a repository that is made up here


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """`datasets` prepares what it loads; keep that out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


@pytest.fixture
def repository(tmp_path):
    """Writes a folder laid out like a hub repository: {config: {split: rows}}."""

    def write(name, features, configs):
        return write_repository(tmp_path / name.replace("/", "__"), features, configs)

    return write


def pair(label):
    return {"premise": "p", "hypothesis": "h", "label": label}


@pytest.fixture
def xnli(repository):
    """XNLI in two languages; the English test split has a row without label."""
    features = {"premise": TEXT, "hypothesis": TEXT, "label": NLI}
    english = {"train": [pair(0), pair(1), pair(2)], "validation": [pair(1)], "test": [pair(2)]}
    return repository("facebook/xnli", features, {"en": english, "de": {"test": [pair(0), pair(2)]}})


def test_class_labels_are_read_by_name(xnli):
    """Hub and XTREME number the same labels differently, so integers are never trusted."""
    task = offline("xnli", {"facebook/xnli": xnli}, labels=["contradiction", "entailment", "neutral"])
    assert task.source.rows("test", "de") == [
        {"text": "p", "pair": "h", "label": 1, "unit": "p"},
        {"text": "p", "pair": "h", "label": 0, "unit": "p"},
    ]


def test_a_check_reads_the_splits_of_all_languages(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, languages=["en", "de"])
    assert check(task).rows == 3 + 1 + 1 + 2


def test_xquad_is_trained_on_squad_and_tested_in_its_own_languages(repository):
    features = {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    answers = {"text": ["c"], "answer_start": [0]}

    def rows(context, count):
        return [{"id": str(i), "context": context, "question": "q", "answers": answers} for i in range(count)]

    train = [row for i in range(40) for row in rows(f"c{i}", 2)]
    folders = {
        "rajpurkar/squad": repository("squad", features, {"plain_text": {"train": train}}),
        "google/xquad": repository("xquad", features, {"xquad.ro": {"validation": rows("c", 3)}}),
    }
    task = offline("xquad", folders)
    assert len(task.source.rows("test", "ro")) == 3
    dev = {row["context"] for row in task.source.rows("dev", "en")}
    assert len(dev) == 2
    assert not dev & {row["context"] for row in task.source.rows("train", "en")}


def test_languages_that_are_stacked_in_one_split_are_told_apart_by_a_column(repository):
    features = {"language": TEXT, "sentence1": TEXT, "sentence2": TEXT, "gold_label": TEXT}
    rows = [{"language": code, "sentence1": code, "sentence2": "h", "gold_label": "neutral"} for code in ("de", "sw")]
    description = {
        "family": "sequence",
        "hub": str(repository("xtreme", features, {"XNLI": {"test": rows}})),
        "config": "XNLI",
        "columns": {"text": "sentence1", "pair": "sentence2", "label": "gold_label"},
        "labels": ["entailment", "neutral", "contradiction"],
        "languages": ["de", "sw"],
        "keep": {"language": "{language}"},
        "test": "test",
        "sizes": {"test": 1},
        "tokens": 40,
    }
    task = own_task("t", description, Path(), "tasks.t")
    assert [row["text"] for row in task.source.rows("test", "sw")] == ["sw"]


# What a plan knows without a network


def test_a_share_of_train_is_taken_from_its_size():
    assert TASKS["squad"].source.size("dev", "en") == Size(4380, 175.0)
    assert TASKS["squad"].source.size("train", "en") == Size(87_599 - 4380, 175.0)


def test_a_commit_changes_the_identity_of_what_lies_in_its_data_set_alone():
    before = TASKS["xcopa"].source
    after = before.at({"cambridgeltl/xcopa": COMMIT})
    assert before.identity("train", "en") == after.identity("train", "en")
    assert before.identity("test", "en") == after.identity("test", "en")
    assert before.identity("test", "qu") != after.identity("test", "qu")


@pytest.mark.parametrize(
    ("sizes", "lacking"),
    [({"train": 3}, "dev, test"), ({"train": {"en": 3}, "dev": 3, "test": {"other": 3}}, "train")],
)
def test_sizes_are_asked_for(sizes, lacking):
    description = {**HUB["xnli"], "sizes": sizes}
    with pytest.raises(StudyError, match=rf"tasks\.xnli\.sizes: found nothing; the rows per language of {lacking}"):
        own_task("xnli", description, Path(), "tasks.xnli")


def test_sizes_may_differ_by_language():
    assert TASKS["tatoeba"].source.size("test", "te").examples == 234
    assert TASKS["tatoeba"].source.size("test", "fi").examples == 1000


def test_only_the_first_rows_of_a_large_data_set_are_read(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, first=2)
    assert [row["label"] for row in task.source.rows("train", "en")] == [0, 1]
    with pytest.raises(StudyError, match=r"tasks\.xnli\.first: found 0; a number above 0"):
        offline("xnli", {}, first=0)


# Revisions


def test_a_commit_in_the_study_file_needs_no_look_up():
    task = own_task("xnli", {**HUB["xnli"], "revision": COMMIT}, Path(), "tasks.xnli")
    assert list(task.source.resolve().versions.values()) == [COMMIT]


def test_a_local_folder_is_resolved_to_the_digest_of_its_files(xnli):
    source = offline("xnli", {"facebook/xnli": xnli}).source.resolve()
    assert source.versions
    assert source == source.resolve()
    assert len(source.rows("train", "en")) == 3
    (xnli / "README.md").write_text((xnli / "README.md").read_text() + "\nchanged\n")
    with pytest.raises(DataError, match="a folder that has changed since the study started"):
        source.rows("train", "en")


def test_data_sets_of_one_task_have_a_commit_each(repository):
    folders = {
        "aps/super_glue": repository("super_glue", {"a": TEXT}, {"copa": {"train": [{"a": "x"}]}}),
        "cambridgeltl/xcopa": repository("xcopa", {"a": TEXT}, {"qu": {"test": [{"a": "x"}]}}),
    }
    source = offline("xcopa", folders).source.resolve()
    assert [Path(data_set).name for data_set in source.versions] == ["super_glue", "xcopa"]
    assert len(set(source.versions.values())) == 2


def test_offline_the_commit_is_the_one_that_the_local_cache_refers_to(tmp_path):
    reference = tmp_path / "hub/datasets--facebook--xnli/refs/main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    assert TASKS["xnli"].source.resolve().versions == {"facebook/xnli": COMMIT}


def prepared(folder: Path, tmp_path: Path, config: str, split: str, commit: str) -> None:
    """Puts a data set into the cache of `datasets` as a download of that commit would have left it."""
    datasets.load_dataset(str(folder), config, split=split)
    [done] = (tmp_path / "cache" / folder.name).glob(f"{config}/*/*/dataset_info.json")
    target = tmp_path / "cache/facebook___xnli" / config / "0.0.0" / commit
    target.parent.mkdir(parents=True)
    done.parent.rename(target)
    for arrow in target.glob("*.arrow"):
        arrow.rename(target / arrow.name.replace("facebook__xnli", "xnli"))


def test_offline_a_prepared_data_set_is_found_with_its_commit(xnli, tmp_path):
    prepared(xnli, tmp_path, "de", "test", COMMIT)
    source = TASKS["xnli"].source.resolve()
    assert source.versions == {"facebook/xnli": COMMIT}
    assert len(source.rows("test", "de")) == 2


def test_another_commit_in_the_cache_is_never_taken_for_the_one_asked_for(xnli, tmp_path):
    prepared(xnli, tmp_path, "de", "test", COMMIT)
    task = own_task("xnli", {**HUB["xnli"], "revision": COMMIT[::-1]}, Path(), "tasks.xnli")
    with pytest.raises(DataError, match=f"found commit {COMMIT} in the local cache") as caught:
        task.source.resolve().rows("test", "de")
    assert COMMIT[::-1] in str(caught.value)


# What is said where a data set cannot be had


def test_offline_an_absent_data_set_is_named_with_what_would_do():
    for call in (TASKS["xnli"].source.resolve, lambda: TASKS["xnli"].source.rows("test", "de")):
        with pytest.raises(DataError) as caught:
            call()
        message = str(caught.value)
        assert "facebook/xnli" in message
        assert "a folder with its README.md and Parquet files, written for 'facebook/xnli' in tasks.xnli" in message
        assert "the benchmark's own files, read by `format: xtreme` in tasks.xnli" in message
        assert "\n" not in message


def test_an_unknown_configuration_is_answered_with_those_there_are(xnli):
    task = offline("xnli", {"facebook/xnli": xnli})
    with pytest.raises(DataError, match=r"BuilderConfig 'sw' not found\. Available: \['en', 'de'\]"):
        task.source.rows("test", "sw")


def test_a_script_in_a_data_sets_folder_is_never_run_nor_asked_about(xnli, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    for file in (xnli / f"{xnli.name}.py", xnli / "xnli.py"):
        file.write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(DataError, match="Dataset scripts are no longer supported"):
        offline("xnli", {"facebook/xnli": xnli}).source.rows("test", "de")
    assert sys.stdin.tell() == 0
    assert not canary.exists()


def test_columns_that_changed_are_named_with_those_expected(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, columns={"text": "sentence1", "pair": "hypothesis"})
    with pytest.raises(DataError, match="no column 'sentence1'; the columns are premise, hypothesis, label"):
        task.source.rows("test", "de")


CLASSES = """dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype: {class_label: {names: {'0': bad, '1': good}}}
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # `datasets` leaves a CSV file open
@pytest.mark.parametrize("first", [None, 5])
@pytest.mark.parametrize(
    ("suffix", "files", "features", "said"),
    [
        ("jsonl", ('{"text": "a", "label": 1}', '{"text": "b", "label": {"x": 1}}'), "", "found column 'label': {'x'"),
        ("csv", ("text,label\na,1\n", "text,label\nb,7\n"), CLASSES, "found column 'label': int64 (ValueError: Class"),
        ("csv", ("text,label\na,good\n", "text,label\nb,fair\n"), CLASSES, "found column 'label': large_string (Val"),
        (
            "parquet",
            ({"text": "a", "label": 1}, {"text": "b", "label": "x"}),
            "",
            "found column 'label': string (Arrow",
        ),
        ("parquet", ({"text": "a", "label": 1}, {"body": "b", "label": 1}), "", "found column 'text': no such column"),
    ],
)
def test_files_of_a_split_that_are_not_alike_are_named_with_the_column(
    tmp_path, capfd, first, suffix, files, features, said
):
    for name, content in zip("ab", files, strict=True):
        path = tmp_path / "set" / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            datasets.Dataset.from_list([content]).to_parquet(path)
    configs = f"configs:\n- config_name: default\n  data_files: [{{split: test, path: '*.{suffix}'}}]\n"
    (tmp_path / "set/README.md").write_text(f"---\n{configs}{features}---\n")
    described = {"family": "sequence", "hub": str(tmp_path / "set"), "labels": {"bad": [0], "good": [1]}}
    described |= {"test": "test", "languages": ["en"], "sizes": {"test": 2}, "tokens": 5, "first": first}
    with pytest.raises(DataError) as caught:
        own_task("t", described, Path(), "tasks.t").source.rows("test", "en")
    assert f"set/b.{suffix}: {said}" in str(caught.value)
    assert "describe the files themselves in tasks.t.test with `format` and `path`" in str(caught.value)
    assert "Failed to read" not in capfd.readouterr().err


def test_a_split_that_is_filtered_to_nothing_is_refused(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, skip={"premise": ["p"]})
    with pytest.raises(DataError, match="found no test rows"):
        task.source.rows("test", "de")


def test_the_table_is_there_without_heavy_libraries():
    heavy = ("datasets", "pyarrow", "torch", "pandas")
    code = f"import sys, sweep.tasks.table; print([m for m in {heavy!r} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert output.stdout.strip() == "[]"
