"""Facts about gains: known statistics give known gains, and intervals mean what they say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from finished_study import BASE, GAINS, FinishedStudy, estimated, the_row, usual

from sweep.reporting.answers import first_sentence, leading_table
from sweep.reporting.bootstrap import HELPS, HURTS, MISSING, UNDECIDED, Bootstrap, metric_draws, verdict
from sweep.reporting.results import results, scores_frame


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


def test_seeds_that_disagree_widen_the_interval(tmp_path: Path) -> None:
    def noisy(_e: str, intermediate: str, _v: str, _t: str, language: str, seed: int) -> float:
        return BASE[language] + (0.08 + 0.1 * (seed - 1) if intermediate == "nli" else 0)

    agreeing = the_row(estimated(usual(tmp_path / "a")).cells, intermediate="nli", target="topic")
    differing = the_row(estimated(usual(tmp_path / "b", noisy)).cells, intermediate="nli", target="topic")
    assert differing["gain"] == pytest.approx(agreeing["gain"], abs=0.003)
    assert differing["high"] - differing["low"] > 2 * (agreeing["high"] - agreeing["low"])
    assert differing["verdict"] == UNDECIDED


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    examples, hits, trials = 300, 0, 200
    for _ in range(trials):
        base = random.random(examples) < 0.6
        better = base | (random.random(examples) < 0.15)  # a wrong answer becomes right 15 times in 100
        statistics = np.stack([np.stack([arm, np.ones(examples)], axis=1).astype(float) for arm in (base, better)])
        one, other = metric_draws(statistics, "sequence", Bootstrap(draws=500, seed=int(random.integers(2**31))))
        low, high = np.quantile((other - one)[1:], (0.025, 0.975))
        hits += bool(low <= 0.4 * 0.15 <= high)
    assert 0.9 <= hits / trials <= 0.99


def test_both_arms_see_the_same_resampled_examples() -> None:
    random = np.random.default_rng(1)
    right = (random.random(200) < 0.7).astype(float)
    statistics = np.stack([np.stack([right, np.ones(200)], axis=1)] * 2)
    one, other = metric_draws(statistics, "sequence", Bootstrap(draws=50))
    assert (one == other).all()
    assert one[1:].std() > 0


def test_the_first_entry_of_draws_is_the_score_itself(study: FinishedStudy) -> None:
    found = next(result for result in results(study.chains(), study.store) if result.chain.target == "topic")
    table = study.store.statistics(found.score.key)["de"]
    assert metric_draws(table[None], "sequence", Bootstrap(draws=3))[0, 0] == found.score.languages["de"]["value"]


def test_large_test_sets_are_drawn_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = np.random.default_rng(0).random((2, 300, 2))
    statistics[..., 1] = 1
    whole = metric_draws(statistics, "sequence", Bootstrap(draws=100))
    monkeypatch.setattr("sweep.reporting.bootstrap._CHUNK", 300 * 7)
    np.testing.assert_allclose(metric_draws(statistics, "sequence", Bootstrap(draws=100)), whole)


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
    assert len(scores_frame("a study", study.chains(), study.store)) == 9


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


def test_a_verdict_needs_an_interval_that_excludes_zero() -> None:
    assert verdict(0.01, 0.02) == HELPS
    assert verdict(-0.02, -0.01) == HURTS
    assert verdict(0.0, 0.02) == verdict(0.0, 0.0) == UNDECIDED
