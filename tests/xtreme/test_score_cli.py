"""Facts about `sweep score`: what it prints, and that a folder with a fault is one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
from official_files import EXPECTED, GOLDEN, official_folder, squad

from sweep.cli import main

XNLI, XNLI_GOLD = "predictions__xnli__test-de.tsv", "labels__xnli__test-de.tsv"
XQUAD, XQUAD_GOLD = "predictions__xquad__test-de.json", "labels__xquad__test-de.json"
UDPOS = "predictions__udpos__test-de.tsv"
BUCC, MEWSLI = "predictions__bucc2018__test-de.tsv", "predictions__mewslix__test-de.json"
TATOEBA, XCOPA = "predictions__tatoeba__test-de.tsv", "predictions__xcopa__test-et.jsonl"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def sweep(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `sweep score` with these arguments in a folder."""

    def score(*arguments: str, folder: Path) -> Done:
        with chdir(folder):
            return Done(main(["score", *arguments]), *capsys.readouterr())

    return score


def test_it_is_a_command_of_the_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "score", str(official_folder(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "xquad: " in done.stdout


def test_json_has_task_language_metric_and_value(sweep: Callable[..., Done], tmp_path: Path) -> None:
    done = sweep(".", "--json", folder=official_folder(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        task: {language: pytest.approx(metrics) for language, metrics in languages.items()}
        for task, languages in EXPECTED.items()
    }


def test_every_value_of_the_official_test_is_met(sweep: Callable[..., Done], shared_data: Path) -> None:
    done = sweep(str(shared_data / "xtreme_golden"), "--json", folder=shared_data)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    for task, metrics in GOLDEN.items():
        for metric, mean in metrics.items():
            values = [one[metric] for one in found[task].values()]
            assert sum(values) / len(values) == pytest.approx(mean, abs=1e-9, rel=0)


def test_the_averages_of_the_official_test_are_those_of_its_values(
    sweep: Callable[..., Done], shared_data: Path
) -> None:
    done = sweep("xtreme_golden", "--version", "xtreme", folder=shared_data)
    assert done.returncode == 0
    assert "xtreme: classification 41.05, tagging 63.86, qa 80.38, retrieval 54.31, overall 62.17" in done.stdout


def test_notes_stand_apart_from_the_table(sweep: Callable[..., Done], tmp_path: Path) -> None:
    done = sweep(".", folder=official_folder(tmp_path, **{XQUAD: "{}"}))
    assert done.returncode == 0
    assert "xquad: 0.00 over 1 languages" in done.stdout
    assert done.stderr == "sweep: predictions/xquad/test-de.json: 2 of 2 questions have no prediction and score 0\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        # wrong length
        ({XNLI: "neutral\n" * 3}, "xnli/test-de.tsv:4: found the end of the file after 3 lines; one prediction for"),
        ({XNLI: "neutral\n" * 6}, "xnli/test-de.tsv:5: found 6 lines; one prediction for each of the 4 lines of"),
        ({UDPOS: "NOUN\nNOUN\n\nVERB\n"}, "test-de.tsv:3: found a blank line; a tag is expected, as at labels/udpos"),
        ({UDPOS: "NOUN\nNOUN\nVERB\nX\nX\n"}, "udpos/test-de.tsv:4: found a tag; a blank line is expected"),
        ({UDPOS: "NOUN\nNOUN\nVERB\n"}, "udpos/test-de.tsv:4: found the end of the file after 3 lines"),
        # unknown labels, and what is none at all
        ({XNLI: "neutral\nnetural\n" * 2}, "xnli/test-de.tsv:2: found the unknown label 'netural'; one of entailment"),
        ({XNLI: "neutral\n\nneutral\nneutral"}, "xnli/test-de.tsv:2: found the unknown label ''"),
        ({XNLI_GOLD: "0\n" * 4}, "labels/xnli/test-de.tsv:1: found the unknown label '0'"),
        ({UDPOS: "NOUN\nNOUN\nVERB\n\nX\nSCNOJ\n"}, "test-de.tsv:6: found the unknown label 'SCNOJ'"),
        ({TATOEBA: "1\n-2\n0\n"}, "tatoeba/test-de.tsv:2: found '-2'; the number of a sentence"),
        ({XCOPA: '{"label": 1}\n1\n'}, "xcopa/test-et.jsonl:2: found '1'; {\"label\": option}"),
        ({XCOPA: '{"label": -1}\n{"label": 1}\n'}, "xcopa/test-et.jsonl:1: found -1"),
        ({XQUAD: '{"q1": 5}'}, "xquad/test-de.json: found 5 for 'q1'; the text of an answer"),
        ({BUCC: "de-1 en-1\n"}, "bucc2018/test-de.tsv:1: found 'de-1 en-1'; two ids with a tab between them"),
        ({MEWSLI: '{"m1": "Q1"}'}, "mewslix/test-de.json: found 'Q1' for 'm1'; a list of ids"),
        # duplicate ids
        ({MEWSLI: '{"m1": [], "m1": []}'}, "predictions/mewslix/test-de.json: found the id 'm1' twice"),
        ({XQUAD: '{"q1": "a", "q1": "b"}'}, "predictions/xquad/test-de.json: found the id 'q1' twice"),
        ({XQUAD_GOLD: squad(("q", "a"), ("q", "b"))}, "labels/xquad/test-de.json: found the id 'q' twice"),
        # what is not there
        ({XNLI: None}, "predictions/xnli/test-de.tsv: found no such file; xnli is scored in de"),
        ({"labels__xnli__test-sw.tsv": None}, "labels/xnli/test-sw.tsv: found no such file; xnli is scored in sw"),
        ({"predictions__xnil__test-de.tsv": "x\n"}, "xnil: found the unknown task 'xnil'; a task of the table"),
        ({XNLI_GOLD: "", XNLI: ""}, "labels/xnli/test-de.tsv: found nothing to score"),
        # what cannot be read
        ({XQUAD: '{"q1": \n "a",,}'}, "xquad/test-de.json:2: found broken JSON"),
        ({XQUAD: "[]"}, "xquad/test-de.json: found a JSON list; a JSON object by id"),
        ({XQUAD_GOLD: '{"dat": []}'}, "labels/xquad/test-de.json: data: found no 'data'; SQuAD is"),
        ({"submission.json": "{}"}, "submission.json: found something unreadable ('tasks')"),
        ({"submission.json": '{"tasks": null}'}, "submission.json: found something unreadable ('NoneType'"),
        ({"submission.json": '{"tasks": {"xnli": {"family": [], "labels": [], "normaliser": 1}}}'}, "the family '[]'"),
        ({XQUAD: "[" * 100_000}, "xquad/test-de.json: found broken JSON (nested too deeply)"),
        ({"submission.json": '{"tasks": {"xnli": {}}}'}, "submission.json: found an incomplete description ('family')"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(
    sweep: Callable[..., Done], changed: dict[str, str | None], said: str, tmp_path: Path
) -> None:
    done = sweep(".", folder=official_folder(tmp_path, **changed))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_bytes_that_are_no_text_are_named_with_their_line(sweep: Callable[..., Done], tmp_path: Path) -> None:
    official_folder(tmp_path)
    (tmp_path / "predictions/xnli/test-de.tsv").write_bytes(b"neutral\n\xff\n")
    done = sweep(".", folder=tmp_path)
    assert done.returncode == 2
    assert "predictions/xnli/test-de.tsv:2: found bytes that are not UTF-8" in done.stderr


def test_a_folder_that_is_empty_absent_or_a_file_is_refused(sweep: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, said in ((".", "found no prediction files"), ("none", "found nothing"), ("file", "found a file")):
        done = sweep(name, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"sweep: {name}: {said}")


def test_a_version_wants_all_languages_of_its_tasks(sweep: Callable[..., Done], tmp_path: Path) -> None:
    done = sweep(".", "--version", "xtreme", folder=official_folder(tmp_path))
    assert done.returncode == 2
    assert "predictions/xnli/test-ar.tsv: found no such file; xnli is scored in ar" in done.stderr


def test_a_version_of_which_the_folder_has_no_task_is_refused(sweep: Callable[..., Done], tmp_path: Path) -> None:
    for side in ("labels", "predictions"):
        (tmp_path / side / "pawsx").mkdir(parents=True)
        (tmp_path / side / "pawsx" / "test-de.tsv").write_text("0\n")
    done = sweep(".", "--version", "xtreme-r", folder=tmp_path)
    assert done.returncode == 2
    assert "predictions: found pawsx; a task of xtreme-r is expected: xnli, panx" in done.stderr
