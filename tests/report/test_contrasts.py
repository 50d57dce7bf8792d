"""Facts about comparisons between arms: another source language, mixed-in text, and overlapping data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finished_study import GAINS, FinishedStudy, estimated, the_row

from sweep.config.axes import Arm
from sweep.report import page
from sweep.report.gains import SOURCE, TEXT, references
from sweep.report.statistics import HELPS, UNDECIDED
from sweep.report.tables import leading_table
from sweep.report.text import contrast_sentences, first_sentence

BASE = {"en": 0.9, "de": 0.75, "sw": 0.6}
SHIFTS = {**GAINS, "nli in de": 0.14, "nli in all languages": 0.08, "nli+raw": 0.02, "nli+raw in de": 0.2}
TEXTS = frozenset({"raw"})


def shifted(_e: str, arm: str, _v: str, _t: str, language: str, _s: int) -> float:
    return BASE[language] + SHIFTS[arm] - 0.1


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    made = FinishedStudy(tmp_path_factory.mktemp("arms"), shifted)
    for target in ("topic", "pos"):
        for seed in range(3):
            made.chain("none", target, seed)
            for source in ("own", "de", "all"):
                made.chain("nli", target, seed, source=source)
            made.chain("nli+raw", target, seed)
            made.chain("nli+raw", target, seed, source="de")
    return made


# ---- what is compared with what --------------------------------------------------------------------------------------


def test_another_source_is_compared_with_the_own_one_and_text_with_the_tasks_alone():
    own, german, mixed = (
        Arm("tiny", ("nli",)),
        Arm("tiny", ("nli",), source="de"),
        Arm("tiny", ("nli", "raw"), source="de"),
    )
    known = [Arm("tiny"), own, german, mixed, Arm("tiny", ("nli", "raw")), Arm("tiny", ("nli",), 100)]
    assert list(references(german, known, TEXTS)) == [(SOURCE, own)]
    assert list(references(mixed, known, TEXTS)) == [(SOURCE, Arm("tiny", ("nli", "raw"))), (TEXT, german)]
    assert list(references(own, known, TEXTS)) == []
    assert list(references(Arm("tiny"), known, TEXTS)) == []


def test_the_order_in_which_a_study_names_tasks_does_not_matter():
    known = [Arm("tiny", ("qa", "nli"))]
    assert list(references(Arm("tiny", ("nli", "raw", "qa")), known, TEXTS)) == [(TEXT, known[0])]


def test_values_of_a_settings_axis_are_compared_with_its_first_one_whatever_the_others_are():
    def arm(clip: str, decay: str, *tasks: str) -> Arm:
        return Arm("tiny", tasks, settings=(("intermediate.clip", clip), ("target.weight_decay", decay)))

    known = [arm(clip, decay, "nli") for clip in ("10", "2") for decay in ("0.1", "0")]
    known += [arm("-", decay) for decay in ("0.1", "0")]
    assert list(references(known[0], known, TEXTS)) == [
        ("intermediate.clip", arm("2", "0.1", "nli")),
        ("target.weight_decay", arm("10", "0", "nli")),
    ]
    assert list(references(arm("-", "0.1"), known, TEXTS)) == [("target.weight_decay", arm("-", "0"))]
    assert list(references(arm("2", "0", "nli"), known, TEXTS)) == []


def test_text_alone_is_compared_with_nothing_but_no_phase():
    assert list(references(Arm("tiny", ("raw",)), [Arm("tiny")], TEXTS)) == []


def test_volumes_are_compared_with_their_like():
    known = [Arm("tiny", ("nli",)), Arm("tiny", ("nli",), 100)]
    assert list(references(Arm("tiny", ("nli",), 100, source="de"), known, TEXTS)) == [(SOURCE, known[1])]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_a_contrast_is_the_paired_difference_with_its_seeds_and_interval(study: FinishedStudy) -> None:
    estimates = estimated(study, text=TEXTS)
    for source, gain in (("de", 0.06), ("all", 0.0)):
        row = the_row(estimates.contrasts, intermediate="nli", source=source, target="topic", differs=SOURCE)
        assert row["gain"] == pytest.approx(gain, abs=0.004)
        assert row["low"] <= row["gain"] <= row["high"]
        assert (row["paired"], row["against"], row["verdict"]) == (3, "nli", HELPS if gain else UNDECIDED)
    text = the_row(estimates.arms, intermediate="nli+raw", source="own", differs=TEXT)
    assert text["gain"] == pytest.approx(-0.06, abs=0.004)
    assert (text["targets"], text["against"]) == (2, "nli")


def test_cells_of_another_source_have_gains_of_their_own(study: FinishedStudy) -> None:
    cells = estimated(study, text=TEXTS).cells
    gains = {row["source"]: row["gain"] for row in cells[cells["intermediate"] == "nli"].to_dict("records")}
    assert gains == pytest.approx({"own": 0.08, "de": 0.14, "all": 0.08}, abs=0.004)
    assert "nli in de" in leading_table(estimated(study))


def test_a_contrast_without_its_other_side_is_not_there_and_without_seeds_is_missing(tmp_path: Path) -> None:
    made = FinishedStudy(tmp_path, shifted)
    made.chain("none", "topic", 0)
    made.chain("nli", "topic", 0, source="de")
    assert estimated(made, text=TEXTS).contrasts.empty
    made.chain("nli", "topic", 1)  # another seed: nothing to pair
    row = the_row(estimated(made, text=TEXTS).contrasts)
    assert np.isnan(row["gain"])
    assert list(contrast_sentences(estimated(made, text=TEXTS))) == ["nli in de cannot be compared with nli yet."]


def test_a_gain_per_group_may_differ_between_encoders(study: FinishedStudy) -> None:
    rows = estimated(study, groups={"tiny": {"far": ("sw",)}, "other": {"near": ("de",)}}).groups
    assert set(rows["group"]) == {"zero_shot", "far"}


# ---- words and page --------------------------------------------------------------------------------------------------


def test_a_sentence_says_what_differs_by_how_much_and_from_how_many_seeds(study: FinishedStudy) -> None:
    sentences = list(contrast_sentences(estimated(study, text=TEXTS)))
    german = next(sentence for sentence in sentences if sentence.startswith("nli in de instead of nli:"))
    assert "+6.0 [" in german
    assert german.endswith("points on average over 2 targets (3 seeds; helps).")
    assert any(sentence.startswith("nli+raw instead of nli alone: −6.") for sentence in sentences)
    assert any(sentence.startswith("nli in all languages instead of nli: ") for sentence in sentences)
    assert len(sentences) == 5


def html(study: FinishedStudy, overlapping: bool = False, **plan: object) -> str:
    read = page.read("a study", study.chains(), study.store, {}, plan, overlapping=overlapping)
    return page.save(read, study.folder).read_text()


def test_the_page_has_a_section_on_arms_where_there_are_any(study: FinishedStudy, tmp_path: Path) -> None:
    text = html(study, text=["raw"])
    assert "<h2>Source language, mixed-in text and settings" in text
    assert "nli in de instead of nli" in text
    plain = FinishedStudy(tmp_path)
    for intermediate in ("none", "nli"):
        plain.chain(intermediate, "topic")
    assert "mixed-in text" not in html(plain)


def test_scores_name_the_source(study: FinishedStudy) -> None:
    html(study)
    head, *lines = (study.folder / "scores.csv").read_text().splitlines()
    place = head.split(",").index("source")
    assert {line.split(",")[place] for line in lines} == {"-", "own", "de", "all"}


# ---- overlaps --------------------------------------------------------------------------------------------------------


def test_overlapping_cells_count_only_where_the_study_asks_for_them(study: FinishedStudy) -> None:
    overlaps = frozenset({("nli", "topic")})
    out, in_ = (estimated(study, overlaps=overlaps, overlapping=asked, text=TEXTS) for asked in (False, True))
    named = {"intermediate": "nli", "source": "de"}
    assert [the_row(found.overall, **named)["targets"] for found in (out, in_)] == [1, 2]
    assert [the_row(found.arms, **named)["targets"] for found in (out, in_)] == [1, 2]
    assert [the_row(found.cells, **named, target="topic")["counted"] for found in (out, in_)] == [False, True]
    assert all(the_row(found.cells, **named, target="topic")["overlap"] for found in (out, in_))
    assert "on average over 2 targets" in first_sentence(in_)


@pytest.mark.parametrize(("asked", "said"), [(False, "left out of"), (True, "counted in")])
def test_the_page_says_what_became_of_overlapping_cells(study: FinishedStudy, asked: bool, said: str) -> None:
    text = html(study, asked, overlaps=[["nli", "topic"]])
    assert f"overlaps with the target's: {said} the mean" in " ".join(text.split())
    assert f"overlaps with the target&#39;s, {said} mean gains" in text
    assert "nli in de → topic" in text
