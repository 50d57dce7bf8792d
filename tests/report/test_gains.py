"""Facts about gains: known statistics give known gains, and intervals mean what they say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from finished_study import BASE, GAINS, FinishedStudy, estimated, scores, the_row, usual

from sweep.report.gains import estimate, verdict
from sweep.report.results import Result, read_results
from sweep.report.statistics import HELPS, HURTS, MISSING, ONE_SEED, UNDECIDED
from sweep.report.tables import leading_table
from sweep.report.text import first_sentence


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    return usual(tmp_path_factory.mktemp("study"), retrieval=("bitext",))


def test_gain_is_the_mean_difference_over_languages_that_were_not_trained_on(study: FinishedStudy) -> None:
    cells = estimated(study).cells
    for target, languages in (("topic", 2), ("bitext", 2)):
        for intermediate, wanted in (("nli", HELPS), ("qa", HURTS), ("same", UNDECIDED)):
            row = the_row(cells, intermediate=intermediate, target=target)
            assert row["gain"] == pytest.approx(GAINS[intermediate], abs=0.003)
            assert row["low"] <= row["gain"] <= row["high"]
            assert row["verdict"] == wanted
            assert (row["seeds"], row["paired"], row["languages"]) == (3, 3, languages)


def test_the_source_language_does_not_count(tmp_path: Path) -> None:
    def only_english(_e: str, intermediate: str, _v: str, _t: str, language: str, _s: int) -> float:
        return 0.9 if intermediate == "nli" and language == "en" else 0.6

    row = the_row(estimated(usual(tmp_path, only_english)).cells, intermediate="nli", target="topic")
    assert row["gain"] == 0
    assert row["verdict"] == UNDECIDED


def test_the_mean_over_targets_has_a_narrower_interval_than_each(study: FinishedStudy) -> None:
    estimates = estimated(study)
    mean = the_row(estimates.overall, intermediate="nli")
    each = estimates.cells[estimates.cells["intermediate"] == "nli"]
    assert mean["targets"] == 2
    assert mean["gain"] == pytest.approx(each["gain"].mean())
    assert mean["high"] - mean["low"] < (each["high"] - each["low"]).min()


def test_intervals_shrink_with_the_number_of_examples(tmp_path: Path) -> None:
    widths = []
    for examples in (100, 400, 1600):
        study = usual(tmp_path / str(examples), seeds=1, examples=examples)
        row = the_row(estimated(study).cells, intermediate="nli", target="topic")
        widths.append(row["high"] - row["low"])
    ratios = [wide / narrow for wide, narrow in pairwise(widths)]
    assert ratios == [pytest.approx(2, rel=0.35)] * 2  # four times the examples, half the width


def test_examples_that_belong_together_are_drawn_together(tmp_path: Path) -> None:
    """Four hundred answers in eighty passages, all of a passage right or wrong, are eighty."""
    widths = []
    for of_passage in (1, 5):
        row = the_row(estimated(usual(tmp_path / str(of_passage), seeds=1, of_passage=of_passage)).languages,
                      intermediate="nli", target="topic", language="de")  # fmt: skip
        widths.append(row["high"] - row["low"])
    assert widths[1] == pytest.approx(np.sqrt(5) * widths[0], rel=0.3)


def test_seeds_that_disagree_widen_the_interval(tmp_path: Path) -> None:
    def noisy(_e: str, intermediate: str, _v: str, _t: str, language: str, seed: int) -> float:
        return BASE[language] + (0.08 + 0.1 * (seed - 1) if intermediate == "nli" else 0)

    agreeing = the_row(estimated(usual(tmp_path / "a")).cells, intermediate="nli", target="topic")
    differing = the_row(estimated(usual(tmp_path / "b", noisy)).cells, intermediate="nli", target="topic")
    assert differing["gain"] == pytest.approx(agreeing["gain"], abs=0.003)
    assert differing["high"] - differing["low"] > 2 * (agreeing["high"] - agreeing["low"])
    assert differing["verdict"] == UNDECIDED


def test_one_seed_is_no_verdict(tmp_path: Path) -> None:
    estimates = estimated(usual(tmp_path, seeds=1))
    row = the_row(estimates.cells, intermediate="nli", target="topic")
    assert row["low"] > 0
    assert (row["verdict"], the_row(estimates.overall, intermediate="nli")["verdict"]) == (ONE_SEED, ONE_SEED)
    assert first_sentence(estimates).startswith(
        "One seed shows nothing about training noise: on average over 2 targets "
    )
    assert "*" not in leading_table(estimates).replace("* not zero", "")


def test_a_claim_is_corrected_for_the_number_of_comparisons_in_its_table(study: FinishedStudy) -> None:
    cells = estimated(study).cells
    compared = cells[cells["p"].notna()].sort_values("p")
    assert len(compared) == 6  # three settings on two targets
    smallest = compared.iloc[0]
    assert smallest["p_corrected"] == pytest.approx(6 * smallest["p"])
    assert (compared["p_corrected"] >= compared["p"]).all()
    claimed = compared[compared["verdict"].isin([HELPS, HURTS])]
    assert (claimed["p_corrected"] < 0.05).all()


def test_an_interval_alone_is_no_claim() -> None:
    assert verdict(0.01, 0.04) == HELPS
    assert verdict(-0.01, 0.04) == HURTS
    assert verdict(0.01, 0.05) == UNDECIDED
    assert verdict(0.01, np.nan) == ONE_SEED
    assert verdict(np.nan, np.nan) == MISSING


def test_the_value_is_the_score_itself(study: FinishedStudy) -> None:
    frame = scores(study)
    wanted = frame[(frame["intermediate"] == "nli") & (frame["target"] == "topic") & ~frame["is_source"]][
        "value"
    ].mean()
    assert the_row(estimated(study).cells, intermediate="nli", target="topic")["value"] == pytest.approx(wanted)


def test_a_missing_baseline_is_shown_as_missing(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("nli", "topic")
    estimates = estimated(study)
    row = the_row(estimates.cells, intermediate="nli")
    assert np.isnan(row["gain"])
    assert row["verdict"] == MISSING
    assert row["value"] == pytest.approx((0.83 + 0.68) / 2, abs=0.003)
    assert "–" in leading_table(estimates)
    assert "Nothing can be compared" in first_sentence(estimates)


def test_only_seeds_that_both_arms_have_are_paired(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for intermediate, seeds in (("none", (0, 1)), ("nli", (1, 2, 3))):
        for seed in seeds:
            study.chain(intermediate, "topic", seed)
    row = the_row(estimated(study).cells, intermediate="nli")
    assert (row["seeds"], row["paired"]) == (3, 1)


def test_candidates_that_were_not_selected_stay_out_of_the_tables(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic")
    study.chain("nli", "topic", candidate=0, selected=False)
    study.chain("nli", "topic", candidate=1)
    assert the_row(estimated(study).cells, intermediate="nli")["seeds"] == 1
    assert len(scores(study)) == 9


def test_overlapping_cells_are_marked_and_left_out_of_means(study: FinishedStudy) -> None:
    estimates = estimated(study, overlaps=frozenset({("nli", "topic")}))
    assert the_row(estimates.cells, intermediate="nli", target="topic")["overlap"]
    assert the_row(estimates.cells, intermediate="nli", target="topic")["verdict"] == HELPS
    assert the_row(estimates.overall, intermediate="nli")["targets"] == 1


def test_groups_of_languages_have_their_own_gains(study: FinishedStudy) -> None:
    groups = estimated(study, groups={"tiny": {"far": ("sw", "xx"), "none of these": ("yy",)}}).groups
    row = the_row(groups, intermediate="nli", target="topic", group="far")
    assert row["languages"] == 1
    assert row["gain"] == pytest.approx(GAINS["nli"], abs=0.003)
    assert set(groups["group"]) == {"zero_shot", "far"}


def test_a_run_that_is_the_same_under_several_values_of_an_axis_is_counted_once(study: FinishedStudy) -> None:
    """A target without a target phase: its settings change nothing."""
    results = [one for one in read_results(study.chains(), study.store) if one.chain.cell.target == "bitext"]

    def under(clip: str) -> list[Result]:
        cells = [replace(one.chain.cell, settings=(("target.clip", clip),)) for one in results]
        return [replace(one, chain=replace(one.chain, cell=cell)) for one, cell in zip(results, cells, strict=True)]

    once, twice = estimate(under("1"), study.store), estimate([*under("1"), *under("2")], study.store)
    numbers = ["value", "value_low", "value_high", "gain", "low", "high", "p"]
    assert len(twice.cells) == 2 * len(once.cells)
    for clip in ("1", "2"):
        part = twice.cells[twice.cells["target.clip"] == clip]
        assert part[numbers].reset_index(drop=True).equals(once.cells[numbers].reset_index(drop=True))
    assert twice.contrasts.empty
