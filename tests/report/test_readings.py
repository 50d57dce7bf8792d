"""Facts about what the report says of how retrieval was read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from finished_study import FinishedStudy

from sweep.report import page
from sweep.report.results import Result, read_results
from sweep.report.tables import layer_table
from sweep.report.text import vector_sentences

ENCODERS = {"small": "small"}


def read_at(result: Result, layers: dict[str, float], **entries: float) -> Result:
    """The result as of a retrieval target that was read at these layers; every language scores the same."""
    languages = {name: entry | entries for name, entry in result.score.languages.items()}
    by_layer = {layer: dict.fromkeys(languages, value) for layer, value in layers.items()}
    settings = {"layers": [int(layer) for layer in layers], "pooling": "mean"}
    return replace(result, score=replace(result.score, settings=settings, layers=by_layer, languages=languages))


@pytest.fixture
def found(tmp_path: Path) -> list[Result]:
    study = FinishedStudy(tmp_path, retrieval=("bitext",))
    for setting in ("none", "nli"):
        for seed in range(2):
            study.chain(setting, "bitext", seed, encoder="small")
            study.chain(setting, "topic", seed, encoder="small")
    return read_results(study.chains(), study.store)


def test_the_layer_that_counts_is_said_once_per_target_and_encoder(found: list[Result]) -> None:
    read = [read_at(one, {"8": 0.5}) if one.chain.cell.target == "bitext" else one for one in found]
    wanted = "bitext: vectors of layer 8 of small (0: its embeddings), mean pooling."
    assert list(vector_sentences(read, ENCODERS)) == [wanted]


def test_thresholds_are_said_with_their_range(found: list[Result]) -> None:
    mined = [one for one in found if one.chain.cell.target == "bitext"]
    read = [read_at(one, {"8": 0.5}, threshold=1 + 0.01 * number) for number, one in enumerate(mined)]
    (sentence,) = vector_sentences(read, ENCODERS)
    assert "margins from 1.000 to 1.030 chosen on dev data" in sentence


def test_layers_stand_side_by_side_with_the_one_that_counts_marked(found: list[Result]) -> None:
    read = [read_at(one, {"8": 0.5, "0": 0.25}) for one in found if one.chain.cell.target == "bitext"]
    table = layer_table(read, ENCODERS)
    assert table.to_dict("records") == [
        {"target": "bitext", "intermediate": setting, "layer": layer, "score": score, "counts": counts}
        for setting in ("none", "nli")
        for layer, score, counts in ((8, "50.0", "yes"), (0, "25.0", ""))
    ]


def test_one_layer_alone_needs_no_table(found: list[Result]) -> None:
    assert layer_table([read_at(one, {"8": 0.5}) for one in found], ENCODERS).empty
    assert layer_table(found, ENCODERS).empty
    assert list(vector_sentences(found, ENCODERS)) == []


def test_the_page_shows_both(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path / "again", retrieval=("bitext",))
    study.chain("none", "bitext", 0)
    made = page.read("a study", study.chains(), study.store, {}, {})
    read = tuple(read_at(one, {"8": 0.5, "0": 0.25}) for one in made.results)
    html = page.save(replace(made, results=read), tmp_path).read_text(encoding="utf-8")
    assert "Retrieval by layer" in html
    assert "vectors of layer 8" in html
