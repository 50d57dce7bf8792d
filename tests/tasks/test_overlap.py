"""Facts about rows in common: seen by what they say, counted, said, and marked where a gain would flatter."""

from __future__ import annotations

import json

import pytest
from small_studies import study_file

from sweep.cli import main
from sweep.config.load import load
from sweep.errors import StudyError
from sweep.plan import data_facts
from sweep.plan.cost import Costs
from sweep.plan.data_facts import check_data, check_small_data
from sweep.plan.facts import NO_FACTS
from sweep.plan.resolve import informed, resolve
from sweep.run.study import plan_facts
from sweep.tasks.data_check import SharedRows


def texts(kind: str, count: int):
    """Labels go round, so that all are everywhere."""
    return [(f"{kind} text {number}", "ab"[number % 2]) for number in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))


def described(name: str, **changes):
    files = {split: f"{name}-{split}.jsonl" for split in ("train", "dev", "test")}
    return {"family": "sequence", "format": "jsonl", "labels": ["a", "b"], "languages": ["en"], **files, **changes}


def study(folder, **rows):
    """A study of `other` before `t`; `rows` replaces files, such as other_train, by its rows."""
    for name in ("t", "other"):
        for split, count in (("train", 60), ("dev", 40), ("test", 40)):
            write(folder / f"{name}-{split}.jsonl", rows.get(f"{name}_{split}", texts(f"{name} {split}", count)))
    axes = {"intermediate": ["none", "other"], "target": ["t"], "seed": [1, 2]}
    return study_file(folder, axes, tasks={"t": described("t"), "other": described("other")})


def checked(path):
    plan = resolve(load(path), path)
    return informed(plan, check_data(plan, NO_FACTS).facts)


def notes(plan):
    return [flag for flag in plan.flags if "rows" in flag or "label" in flag]


def test_tasks_without_a_row_in_common_are_not_flagged(tmp_path):
    plan = checked(study(tmp_path))
    assert (plan.overlaps, notes(plan)) == ({}, [])


def test_tasks_that_read_the_same_rows_overlap_whatever_they_are_called_and_however_they_are_written(tmp_path):
    shouted = [(f"  {text.upper()} ", {"a": "b", "b": "a"}[label]) for text, label in texts("t train", 60)]
    plan = checked(study(tmp_path, other_train=shouted))
    said = "share rows: of t 60 of 60 train rows (100.0% in en) stand in the training data of other"
    assert plan.overlaps == {("other", "t"): said}
    assert notes(plan) == [f"overlap: other and t {said}; left out of means"]
    told = plan_facts(plan, Costs(plan))  # to the report
    assert told["overlaps"] == [("other", "t")]
    assert f"overlap: other and t {said}; left out of means" in told["flags"]


@pytest.mark.parametrize("shared", [1, 40])
def test_test_rows_that_the_intermediate_phase_has_seen_mark_the_cell(shared, tmp_path):
    plan = checked(study(tmp_path, other_train=[*texts("t test", shared), *texts("more", 60)]))
    assert ("other", "t") in plan.overlaps
    assert f"of t {shared} of 40 test rows ({shared / 40:.1%} in en) stand in" in notes(plan)[0]


def test_a_few_training_rows_in_common_are_said_and_mark_nothing(tmp_path):
    plan = checked(study(tmp_path, other_train=[*texts("t train", 3), *texts("more", 60)]))
    assert plan.overlaps == {}
    said = "of t 3 of 60 train rows (5.0% in en) stand in the training data of other: too few to mark its cells"
    assert notes(plan) == [said]


def test_a_small_task_that_is_part_of_a_targets_training_data_overlaps(tmp_path):
    plan = checked(study(tmp_path, other_train=texts("t train", 5)))
    assert ("other", "t") in plan.overlaps


def test_one_test_row_in_a_hundred_counts_and_one_in_two_hundred_does_not():
    few, enough = (SharedRows({"sw": (1, rows)}, {}, {}) for rows in (200, 100))
    assert (few.contaminates, enough.contaminates) == (False, True)


def test_test_rows_in_a_targets_own_training_data_are_said(tmp_path):
    plan = checked(study(tmp_path, t_train=[*texts("t test", 4), *texts("t train", 60)], t_dev=texts("t test", 40)))
    assert notes(plan) == [
        "t: 4 of 40 test rows (10.0% in en) also stand in its own train data",
        "t: 40 of 40 test rows (100.0% in en) also stand in its own dev data",
        "t: 4 of 40 dev rows (10.0% in en) also stand in its own train data",
    ]


def test_one_file_named_as_train_and_test_is_refused_with_file_and_keys(tmp_path):
    path = study(tmp_path)
    content = json.loads(path.read_text())
    content["tasks"]["t"]["test"] = "t-train.jsonl"
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match=r"tasks\.t\.test: found .*t-train\.jsonl, which .*tasks\.t\.train names too"):
        resolve(load(path), path)


def test_a_file_that_holds_all_splits_apart_by_a_column_is_no_mistake(tmp_path):
    path = study(tmp_path)
    content = json.loads(path.read_text())
    rows = [{"text": f"{n}", "label": "ab"[n % 2], "split": ("train", "dev", "test")[n % 3]} for n in range(120)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split in ("train", "dev", "test"):
        content["tasks"]["t"][split] = {"path": "all.jsonl", "keep": {"split": [split]}}
    path.write_text(json.dumps(content))
    assert notes(checked(path)) == []


def test_check_and_plan_say_it(tmp_path, capsys):
    path = study(tmp_path, other_train=texts("t train", 60))
    assert main(["plan", str(path)]) == 0
    assert "note: overlap: other and t share rows: of t 60 of 60 train rows" in capsys.readouterr().out
    assert main(["check", str(path)]) == 0
    assert "note: overlap: other and t share rows: of t 60 of 60 train rows" in capsys.readouterr().out


def test_a_plan_reads_no_large_files_and_knows_what_a_run_has_found(tmp_path, monkeypatch):
    path = study(tmp_path, other_train=texts("t train", 60))
    plan = resolve(load(path), path)
    facts = check_data(plan, NO_FACTS).facts
    monkeypatch.setattr(data_facts, "SMALL", 10)
    assert check_small_data(plan, NO_FACTS) == NO_FACTS
    assert ("other", "t") in resolve(load(path), path, facts).overlaps
    assert check_data(plan, facts).facts == NO_FACTS


def test_changed_data_is_read_again(tmp_path):
    path = study(tmp_path)
    facts = check_data(resolve(load(path), path), NO_FACTS).facts
    write(tmp_path / "other-train.jsonl", texts("t train", 61))
    found = check_data(resolve(load(path), path), facts).facts
    assert len(found.texts) == 2
    assert ("other", "t") in resolve(load(path), path, found).overlaps


def test_a_dev_set_that_cannot_tell_is_said(tmp_path):
    few, one = texts("other dev", 8), [(text, "a") for text, _ in texts("t dev", 40)]
    plan = checked(study(tmp_path, t_dev=one, other_dev=few))
    hardly, never = (
        "8 rows in en can hardly show whether a phase has learned anything",
        "one answer is right for all 40 rows",
    )
    assert any(f"tasks.other.dev: {hardly}" in note for note in notes(plan))
    assert any(f"tasks.t.dev: {never} in en: it cannot show" in note for note in notes(plan))
