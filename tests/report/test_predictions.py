"""Facts about predictions.parquet: every family's predictions stand beside what was asked and what is right."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from family_cases import CASES, WORDS, Case, predicted, task_of
from small_studies import finish, plan_of, study_file, with_encoder_of
from small_tokenizers import small_tokenizer

from sweep.data.encoded import from_sequences
from sweep.plan.recipe import Chain
from sweep.report.predictions import predictions_frame, write_predictions
from sweep.report.results import COLUMN_MEANINGS, Result, read_results
from sweep.report.submissions import publish_submissions
from sweep.store.artifacts import Store
from sweep.store.ledger import DONE, ChainRow, row_of
from sweep.xtreme import EXAMPLES

TARGETS = ("world/rte", "world/copa", "world/pos", "world/ner", "world/qa", "world/retrieval", "own")
OWN = {
    "family": "sequence", "format": "tsv", "columns": {"text": "text", "label": "label"}, "labels": ["x", "y"],
    "languages": ["en", "sw"], "train": "train.tsv", "dev": "train.tsv", "test": "{language}.tsv",
}  # fmt: skip


def row(chain: Chain) -> ChainRow:
    from dataclasses import replace

    return replace(row_of(chain, DONE, 0.0), selected=True, ended=1.0)


@pytest.fixture(scope="module")
def finished(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, list[Result]]:
    """A chain on every family that a target can be of, and on local files."""
    folder = tmp_path_factory.mktemp("study")
    for name in ("train", "en", "sw"):
        lines = [f"{name}{number} word\t{'xy'[number % 2]}" for number in range(30)]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]))
    path = study_file(folder, {"target": TARGETS}, tasks={"own": OWN}, scoring={"examples": 20})
    store = with_encoder_of(small_store, folder / "store")
    return path, store, read_results([row(chain) for chain in finish(path, store)], store)


def test_every_prediction_stands_beside_its_texts_and_the_right_answer(finished, tmp_path):
    path, store, results = finished
    frame = pd.read_parquet(write_predictions(tmp_path, results, store))
    meant = [name for name in COLUMN_MEANINGS["predictions.parquet"] if not name.startswith("<")]
    assert [name for name in frame if name in meant] == meant
    plan = plan_of(path)
    for result in results:
        task = plan.tasks[result.score.task]
        for language, entry in result.score.languages.items():
            part = frame[(frame.target == task.name) & (frame.language == language)]
            assert len(part) == entry["examples"] == 20
            assert part.number.tolist() == list(range(20))
            rows = task.source.rows("test", language)
            texts = [task.family.readable(row) for row in rows]
            for shown in part[list(texts[0])].to_dict("records"):
                assert {name: text for name, text in shown.items() if text is not None} in texts
            right = (part.gold == part.prediction).mean()
            if result.score.metric == "accuracy":
                assert right == pytest.approx(entry["value"])
    assert set(frame.columns) >= {"text", "pair", "prompt", "options", "words", "context", "question"}
    assert frame[frame.target == "own"].text.str.match("(en|sw)\\d+ word").all()


def test_an_example_without_an_id_is_named_by_file_and_line_without_folders(finished):
    _, store, results = finished
    frame = predictions_frame(results, store, "own", "sw")
    lines = frame.id.str.removeprefix("sw.tsv:").astype(int)
    assert (frame.text == [f"sw{line - 2} word" for line in lines]).all()
    assert not predictions_frame(results, store).id.str.contains("/").any()
    assert predictions_frame(results, store, "world/qa", "en").id.str.match("qa-test-").all()


def test_probabilities_of_labels_sum_to_1_and_the_likeliest_is_the_prediction(finished):
    _, store, results = finished
    frame = predictions_frame(results, store)
    with_labels = frame.target.isin(["world/rte", "world/copa", "own"])
    assert frame[~with_labels].probabilities.isna().all()
    for row in frame[with_labels].to_dict("records"):
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=2e-3)
        assert row["probabilities"][row["prediction"]] == max(row["probabilities"].values())


def test_texts_stand_once_in_the_file_and_languages_apart(finished, tmp_path):
    _, store, results = finished
    once = write_predictions(tmp_path, results, store).stat().st_size
    file = pq.ParquetFile(write_predictions(tmp_path, results * 20, store))
    assert file.metadata.num_rows == 20 * 20 * sum(len(result.score.languages) for result in results)
    assert (tmp_path / "predictions.parquet").stat().st_size < 3 * once
    assert file.num_row_groups == len({(r.score.task, name) for r in results for name in r.score.languages})
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]


def test_scores_from_before_examples_and_probabilities_were_kept_have_answers_alone(finished, tmp_path):
    import shutil

    _, store, results = finished
    old = Store(tmp_path / "store")
    shutil.copytree(store.root, old.root)
    for examples in (old.root / "labels").glob(f"*/{EXAMPLES}"):
        examples.unlink()
    for folder in (old.root / "scores").iterdir():
        record = json.loads((folder / "record.json").read_text())
        record["files"].pop("probabilities.npz", None)
        del record["checksum"]
        (folder / "record.json").write_text(json.dumps(record))
    new, frame = predictions_frame(results, store), predictions_frame(results, old)
    assert not {"text", "words", "context"} & set(frame)
    assert (frame.gold == new.gold).all()
    assert (frame.prediction == new.prediction).all()
    assert frame.probabilities.isna().all()


def test_submissions_have_no_examples(finished, tmp_path):
    _, store, results = finished
    publish_submissions(tmp_path, results, store)
    assert not list(tmp_path.rglob(EXAMPLES))
    with zipfile.ZipFile(next((store.root / "labels").glob(f"*/{EXAMPLES}"))) as archive:
        assert all(name.startswith("test-") for name in archive.namelist())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.family.suffix])
def test_right_answers_are_shown_alike_as_gold_and_as_predictions_from_files(name, tmp_path):
    case: Case = CASES[name]
    data = from_sequences(case.family.encode(case.rows, small_tokenizer("bert", [" ".join(WORDS)] * 20), 128))
    predictions, rows = predicted(case.family, case.perfect(data, case.rows), data, case.rows, case.labels)
    task = task_of(case.family, case.labels)
    (tmp_path / "predictions").write_text(case.family.predictions_text(predictions, rows, task))
    (tmp_path / "labels").write_text(case.family.labels_text(rows, task))
    pair = case.family.read_files(tmp_path / "predictions", tmp_path / "labels", task)
    shown = [
        case.family.shown(row, number, prediction, pair.task)
        for number, (row, prediction) in enumerate(zip(pair.rows, pair.predictions, strict=True))
    ]
    if name != "ranking":  # which has twenty candidates to a query
        assert all(gold == prediction for gold, prediction in shown)
    assert all(gold.split() and prediction.startswith(gold) for gold, prediction in shown if gold)
    for row in filter(case.family.is_scored, rows):
        texts = case.family.readable(row)
        assert texts
        assert all(isinstance(text, str) for text in texts.values())
        assert not {"id", "label", "answers", "links", "tags", "score"} & texts.keys()
    probabilities = case.family.probabilities(case.perfect(data, case.rows), data, rows, case.labels)
    if probabilities is not None:
        assert np.nansum(probabilities, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.nanargmax(probabilities, axis=1).tolist() == predictions
