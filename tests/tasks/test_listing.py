"""Facts about `sweep tasks`: what it lists of every task, for people and for machines."""

from __future__ import annotations

import json

import pytest

from sweep.cli import main
from sweep.tasks.data_check import overlap
from sweep.tasks.table import TASKS
from sweep.terminal import WIDTH


def listed(capsys, *arguments):
    assert main(["tasks", *arguments]) == 0
    return capsys.readouterr().out


def test_all_tasks_are_listed_within_the_width_of_a_pipe(capsys):
    lines = listed(capsys).splitlines()
    assert {line.split()[0] for line in lines if line and not line.startswith((" ", "task", "sizes"))} == set(TASKS)
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_described_within_the_width_of_a_pipe(name, capsys):
    lines = listed(capsys, name).splitlines()
    assert lines[0].startswith(f"{name}: {TASKS[name].family}, {TASKS[name].family.metric}")
    assert max(map(len, lines)) <= WIDTH


def test_machines_get_family_languages_sizes_metric_licence_source_and_overlap(capsys):
    found = {task["task"]: task for task in json.loads(listed(capsys, "--json"))}
    assert set(found) == set(TASKS)
    xquad = found["xquad"]
    assert (xquad["family"], xquad["metric"], len(xquad["languages"])) == ("span", "f1", 12)
    assert xquad["sizes"]["test"]["ro"] == 1190
    assert next(iter(xquad["sizes"]["train"])) == "en"
    assert xquad["licence"] == "CC BY-SA 4.0"
    assert xquad["source"] == ["rajpurkar/squad", "facebook/mlqa", "google/xquad"]
    assert set(xquad["overlap"]) == {"squad", "squad2", "mlqa", "lareqa", "tatoeba"}
    assert len(xquad["benchmarks"]["xtreme"]) == 11


def test_sizes_of_a_language_stand_in_the_details(capsys):
    told = " ".join(listed(capsys, "udpos").split())
    assert "38 languages: en 5,440" in told
    assert "mr 47" in told


def test_a_task_whose_data_must_be_brought_says_what_is_needed(capsys):
    told = " ".join(listed(capsys, "ccg").split())
    assert "LDC2005T13" in told
    assert "format: conll" in told


def test_a_mistyped_task_is_answered_with_the_nearest(capsys):
    assert main(["tasks", "xnly"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.endswith("did you mean 'xnli'?\n")


@pytest.mark.parametrize(
    ("intermediate", "target", "reason"),
    [
        ("mnli", "xnli", "share training data (mnli)"),
        ("anli_plus", "xnli", "share training data (mnli)"),
        ("squad", "xquad", "share training data (squad)"),
        ("squad2", "mlqa", "share training data (squad)"),
        ("paws", "pawsx", "share training data (paws)"),
        ("xnli", "xnli", "are the same task"),
        ("siqa", "xcopa", "XTREME-R, whose own baseline is trained on siqa first"),
        ("squad", "tatoeba", "XTREME-R, whose own baseline is trained on squad first"),
    ],
)
def test_gains_that_would_flatter_have_a_reason(intermediate, target, reason):
    found = overlap(TASKS[intermediate], TASKS[target])
    assert found is not None
    assert reason in found


@pytest.mark.parametrize(
    ("intermediate", "target"), [("qqp", "pawsx"), ("hellaswag", "xcopa"), ("squad", "tydiqa"), ("mnli", "tatoeba")]
)
def test_other_gains_are_fair(intermediate, target):
    assert overlap(TASKS[intermediate], TASKS[target]) is None


@pytest.mark.parametrize(("name", "read"), [("panx", "of entities in IOB"), ("udpos", "of runs of equal tags")])
def test_a_tagging_task_says_how_its_tags_make_chunks(name, read, capsys):
    assert listed(capsys, name).splitlines()[0] == f"{name}: token, f1 {read}"
