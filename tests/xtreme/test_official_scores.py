"""Facts about official files: what chains write is read back, scores are the official ones, and so are averages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from family_cases import CASES, predicted, task_of
from official_files import EXPECTED, GOLDEN, official_folder
from small_tokenizers import KINDS, small_tokenizer

from sweep.data.encoded import from_sequences
from sweep.tasks.catalog import BENCHMARKS, GROUPS
from sweep.xtreme.score import Scores, TaskScores, averages, headline, read_pair, score, scores_text


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.family.suffix])
def test_predictions_of_any_family_are_judged_alike_before_and_after_they_were_files(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    tokenizer = small_tokenizer(KINDS[0], [" ".join(map(str, case.rows))])
    data = from_sequences(case.family.encode(case.rows, tokenizer, 60))
    task = task_of(case.family, case.labels)
    for model in (case.perfect, case.guess):
        predictions, rows = predicted(case.family, model(data, case.rows), data, case.rows, case.labels)
        files = (tmp_path / "predictions", tmp_path / "labels")
        files[0].write_text(case.family.predictions_text(predictions, rows, task), encoding="utf-8")
        files[1].write_text(case.family.labels_text(rows, task), encoding="utf-8")
        pair = read_pair(*files, task)
        before = case.family.judge(predictions, rows, task, "en").sum(axis=0)
        after = case.family.judge(pair.predictions, pair.rows, pair.task, "en").sum(axis=0)
        assert after.tolist() == pytest.approx(before.tolist())
        assert pair.notes == ()


def test_questions_that_share_an_id_are_kept_apart(tmp_path: Path) -> None:
    rows = [{"id": "1", "answers": [{"text": text, "start": 0}]} for text in ("a b", "c", "d")]
    task = task_of(CASES["span"].family)
    files = (tmp_path / "predictions", tmp_path / "labels")
    files[0].write_text(task.family.predictions_text(["a b", "c", "x"], rows, task))
    files[1].write_text(task.family.labels_text(rows, task))
    pair = read_pair(*files, task)
    assert pair.predictions == ["a b", "c", "x"]


def test_scores_of_a_small_folder_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    found = score(official_folder(tmp_path))
    assert found.notes == []
    assert found.by_language() == {
        task: {language: pytest.approx(metrics) for language, metrics in languages.items()}
        for task, languages in EXPECTED.items()
    }


@pytest.mark.parametrize("task", GOLDEN)
def test_means_over_languages_are_those_of_the_official_scorer(task: str, shared_data: Path, tmp_path: Path) -> None:
    for side in ("predictions", "labels"):
        (tmp_path / side).mkdir()
        (tmp_path / side / task).symlink_to(shared_data / "xtreme_golden" / side / task)
    version = "xtreme" if task in BENCHMARKS["xtreme"] else "xtreme-r"
    found = score(tmp_path, version).tasks[task]
    means = found.means(BENCHMARKS[version][task])
    assert means == pytest.approx(GOLDEN[task], abs=1e-9, rel=0)


def test_tags_that_a_label_file_has_and_the_table_lacks_are_scored(tmp_path: Path) -> None:
    files = {"labels__udpos__test-de.tsv": "_\nNOUN\n", "predictions__udpos__test-de.tsv": "O\nNOUN\n"}
    assert score(official_folder(tmp_path, **files)).by_language()["udpos"]["de"]["recall"] == 50.0


def test_sentences_end_at_blank_lines_and_no_chunk_goes_across(tmp_path: Path) -> None:
    files = {"labels__udpos__test-de.tsv": "NOUN\n\nNOUN\n\n\n", "predictions__udpos__test-de.tsv": "NOUN\n\nNOUN"}
    found = score(official_folder(tmp_path, **files)).tasks["udpos"]
    assert found.sums["de"].tolist() == [2, 2, 2]


def test_a_question_without_prediction_scores_0_and_is_noted(tmp_path: Path) -> None:
    found = score(official_folder(tmp_path, **{"predictions__xquad__test-de.json": '{"q1": "cat", "q9": "x"}'}))
    assert found.by_language()["xquad"]["de"] == {"f1": 50.0, "exact_match": 50.0}
    assert [note.partition("test-de.json: ")[2] for note in found.notes] == [
        "1 of 2 questions have no prediction and score 0",
        "1 predictions have an id that no question has and are left out",
    ]


def test_a_task_of_ones_own_is_scored_as_the_folder_describes_it(tmp_path: Path) -> None:
    own = {
        "labels__own__topics__test-de.tsv": "sport\ntravel\n",
        "predictions__own__topics__test-de.tsv": "sport\nsport\n",
        "submission.json": '{"tasks": {"own/topics": {"family": "sequence", "labels": ["sport", "travel"],'
        ' "normaliser": "squad"}}}',
    }
    assert score(official_folder(tmp_path, **own)).by_language()["own/topics"] == {"de": {"accuracy": 50.0}}


# Averages


def scored(version: str, *without: str) -> Scores:
    """Every task and language of a version, all of 100 examples, n% right in the nth language; `without` are left out.

    Answers to questions have an exact match twice as rarely. `without` names a task, or task/language.
    """
    tasks = {}
    for name, languages in BENCHMARKS[version].items():
        family = CASES["span" if name in GROUPS[version]["qa"] else "sequence"].family
        sums = {
            language: np.array([number, number / 2, 100.0] if family.name == "span" else [number, 100.0])
            for number, language in enumerate(languages or ("de", "sw"), start=1)
            if f"{name}/{language}" not in without
        }
        if name not in without:
            tasks[name] = TaskScores(task_of(family), sums)
    return Scores(tasks)


@pytest.mark.parametrize("version", BENCHMARKS)
def test_tasks_count_alike_in_their_group_and_in_the_overall_value(version: str) -> None:
    found = averages(scored(version), version)
    means = {name: (len(languages) + 1) / 2 for name, languages in BENCHMARKS[version].items()}
    wanted = {name: 0.75 * mean if name in GROUPS[version]["qa"] else mean for name, mean in means.items()}
    if "lareqa" in wanted:
        wanted["lareqa"] = 1.5  # one pool of all languages
    assert found.tasks == pytest.approx(wanted)
    assert found.overall == pytest.approx(sum(wanted.values()) / len(wanted))
    for group, members in GROUPS[version].items():
        assert found.groups[group] == pytest.approx(sum(wanted[name] for name in members) / len(members))
    assert found.missing == {}


def test_a_benchmark_that_lacks_a_language_or_a_task_has_no_overall_value_and_says_what_is_missing() -> None:
    found = averages(scored("xtreme", "xnli/sw", "bucc2018"), "xtreme")
    assert found.overall is None
    assert found.missing == {"xnli": ("sw",), "bucc2018": ("de", "fr", "ru", "zh")}
    assert sorted(found.groups) == ["qa", "tagging"]
    assert "pawsx" in found.tasks


def test_languages_beyond_those_of_a_version_are_no_part_of_its_averages() -> None:
    wide = scored("xtreme-r")
    narrow = averages(Scores({"panx": wide.tasks["panx"]}), "xtreme").tasks["panx"]
    assert narrow == pytest.approx((len(BENCHMARKS["xtreme"]["panx"]) + 1) / 2)
    assert averages(wide, "xtreme-r").tasks["panx"] > narrow


def test_the_text_says_every_language_and_what_the_benchmark_lacks(tmp_path: Path) -> None:
    text = scores_text(score(official_folder(tmp_path)))
    assert "xnli: 62.50 over 2 languages" in text
    assert "accuracy  62.50  de 75.0  sw 50.0" in text
    assert "xtreme: no average" in text
    assert "pawsx (de en es fr ja ko zh)" in text
    whole = scores_text(scored("xtreme"), "xtreme")
    assert "overall" in whole
    assert "without" not in whole


def test_a_task_counts_with_the_mean_of_exact_match_and_f1_or_with_its_only_metric_or_f1() -> None:
    assert headline({"f1": 80.0, "exact_match": 60.0}) == 70.0
    assert headline({"f1": 80.0, "precision": 60.0, "recall": 90.0}) == 80.0
    assert headline({"accuracy": 10.0}) == 10.0
    assert headline({"map@20": 30.0}) == 30.0
