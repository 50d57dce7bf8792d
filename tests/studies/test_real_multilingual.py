"""Facts about the study of a multilingual encoder on real data, and about its cut of twenty minutes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, script
from real_runs import ended, finished
from ruamel.yaml import YAML

import sweep
from sweep.tasks.describe import own_task

STUDY = REPOSITORY / "search_spaces/real_multilingual.yaml"
CUT = STUDY.parent / "miniature" / STUDY.name
SOURCES = STUDY.with_name("real_data.tsv")


def content(path):
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def texts(value):
    """All texts inside of a description."""
    if isinstance(value, (dict, list)):
        return [text for item in (value.values() if isinstance(value, dict) else value) for text in texts(item)]
    return [str(value)]


def sources():
    with SOURCES.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_cut_is_a_part_of_the_study_on_the_same_data():
    whole, part = content(STUDY), content(CUT)
    for axis in ("encoder", "target", "intermediate"):
        assert all(value in whole["axes"][axis] for value in part["axes"][axis])
    assert part["axes"]["seed"] == whole["axes"]["seed"]
    assert {name: whole["tasks"][name] for name in part["tasks"]} == part["tasks"]


def test_each_public_file_that_the_study_reads_has_a_source():
    used = [text for text in texts(content(STUDY)["tasks"]) if "/" in text and "." in text]
    paths = {row["path"] for row in sources()}
    treebanks = {path for path in paths if path.startswith("ud/")}
    assert [text for text in used if text.startswith("ud/UD_{") or not text.startswith(tuple(paths))] == [
        "ud/UD_{code}-ud-test.conllu",
        "uner/UNER_{code}-ud-test.iob2",
    ]
    codes = content(STUDY)["tasks"]["ud_pos"]["test"][0]["languages"].values()
    assert {f"ud/UD_{code.partition('/')[0]}" for code in codes} <= treebanks
    assert all(row["source"] and row["licence"] and row["files"] for row in sources())


def test_without_data_each_missing_file_is_named_with_its_source(tmp_path, capsys, monkeypatch):
    (tmp_path / SOURCES.name).write_bytes(SOURCES.read_bytes())
    study = tmp_path / STUDY.name
    study.write_text(json.dumps({**content(STUDY), "data_root": "data"}), encoding="utf-8")
    (tmp_path / "data/xquad").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["real_data.py", str(study)])
    with pytest.raises(SystemExit) as left:
        script("real_data").main()
    said = capsys.readouterr().err
    assert left.value.code == 2
    for row in sources():
        assert (f"{row['path']}: " in said, row["source"] in said) == (row["path"] != "xquad",) * 2


@pytest.fixture
def task(shared_data):
    return lambda name: own_task(name, content(STUDY)["tasks"][name], shared_data, f"tasks.{name}")


def test_questions_without_an_answer_in_the_passage_are_left_out(task):
    source = task("afriqa").source
    rows = {language: source.rows("test", language) for language in ("ha", "ig", "sw", "yo")}
    assert {language: len(found) for language, found in rows.items()} == {"ha": 271, "ig": 406, "sw": 256, "yo": 208}
    for row in (row for found in rows.values() for row in found):
        assert row["context"]
        assert row["answers"]
        for answer in row["answers"]:
            assert row["context"][answer["start"] :].startswith(answer["text"])


@pytest.mark.parametrize("name", ["comve", "msrp", "sick_similarity", "wnut_ner"])
def test_a_plan_counts_the_english_rows_as_they_are(task, name):
    source = task(name).source
    for split in ("train", "dev"):
        assert source.size(split, "en").examples == len(source.rows(split, "en"))


def test_names_are_persons_places_and_organisations_in_every_language(task):
    made = task("ner")
    assert set(made.labels) == {"O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in ("PER", "ORG", "LOC"))}
    for language in made.languages:
        found = {tag for row in made.source.rows("test", language) for tag in row["tags"]}
        assert {made.labels[tag] for tag in found} == set(made.labels)


@pytest.fixture
def encoder() -> Path:
    folder = REPOSITORY / "encoders/multilingual-e5-small"
    if not (folder / "config.json").is_file():
        pytest.skip("its encoder is made by `make real`")
    return folder


@pytest.mark.long  # twenty minutes of two cores
def test_the_cut_runs_within_its_budget_and_its_encoder_is_multilingual(shared_data, encoder, tmp_path):
    study = content(CUT) | {"data_root": str(shared_data), "results": "results"}
    study["encoders"] = {name: {"path": str(encoder)} for name in study["encoders"]}
    (tmp_path / "study.yaml").write_text(json.dumps(study), encoding="utf-8")
    _, chains = ended(finished(tmp_path))
    assert chains == 5 * 3 * 3
    scores = sweep.open(tmp_path / "results").scores()
    plain = scores[(scores["intermediate"] == "none") & (scores["seed"] == 1)].set_index(["target", "language"])[
        "value"
    ]
    assert plain["tatoeba"].min() > 0.4  # untrained; 1 in 40 by chance
    assert plain["sib200"].drop(["yo", "qu"]).min() > 0.4  # 0.25 by the commonest topic
