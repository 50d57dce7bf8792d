"""Facts about chain budgets and volumes in the report: what is compared with what, and what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from finished_study import FinishedStudy, estimated, the_row

from sweep.config.axes import Arm
from sweep.report.figures import arm_styles, profiles, shown_group, svg, tradeoff
from sweep.report.gains import Estimates

BUDGETS = {"1e+15": 0.0, "1e+16": 0.2}  # what more compute brings, with and without an intermediate phase
GROUPS = {"tiny": {"low_resource": ("sw",)}, "large": {"low_resource": ("sw",)}}


@pytest.fixture(scope="module")
def budgets(tmp_path_factory) -> Estimates:
    """Two budgets; the intermediate task gains 8 points at either, and ten times the compute 20."""

    def accuracy(_encoder, arm, volume, _target, language, seed):
        del volume
        base = {"en": 0.7, "de": 0.6, "sw": 0.5}[language] + (0.08 if arm == "nli" else 0.0)
        return base + 0.2 * (seed >= 10)

    study = FinishedStudy(tmp_path_factory.mktemp("budgets"), accuracy)
    for budget, seeds in (("1e+15", (0, 1)), ("1e+16", (10, 11))):
        for intermediate in ("none", "nli"):
            for seed in seeds:
                study.chain(intermediate, "topic", seed, chain_budget=budget)
    return estimated(study, groups=GROUPS)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Estimates:
    study = FinishedStudy(tmp_path_factory.mktemp("volumes"))
    for encoder in ("tiny", "large"):
        for seed in range(2):
            study.chain("none", "topic", seed, encoder=encoder)
            for volume in ("1000", "10000", "full"):
                study.chain("nli", "topic", seed, encoder=encoder, volume=volume)
    return estimated(study, groups=GROUPS)


def drawn(estimates: Estimates):
    figure = tradeoff(estimates.groups, arm_styles(estimates.cells))
    assert figure is not None
    return figure


def test_a_gain_is_over_no_intermediate_phase_with_as_much_compute(budgets):
    """Not over the poorer baseline: there the larger budget would gain 28 points."""
    for budget in BUDGETS:
        row = the_row(budgets.cells, intermediate="nli", chain_budget=budget)
        assert row["gain"] == pytest.approx(0.08, abs=0.02)
        assert np.isnan(the_row(budgets.cells, intermediate="none", chain_budget=budget)["gain"])


def test_budgets_are_arms_of_their_own_with_their_labels():
    small, large, largest = (Arm("tiny", ("nli",), chain_budget=flops) for flops in (1e15, 3e15, 1e16))
    assert (small.label, replace(small, volume=1000).label) == ("nli (1e+15 FLOPs)", "nli (1000, 1e+15 FLOPs)")
    assert small.order < large.order < largest.order
    assert small.reference == Arm("tiny", chain_budget=1e15)


def test_groups_have_the_level_of_their_languages(budgets):
    row = the_row(budgets.groups, intermediate="nli", chain_budget="1e+16", group="low_resource")
    assert row["value"] == pytest.approx(0.78, abs=0.01)
    assert row["value_low"] <= row["value"] <= row["value_high"]


def test_scores_are_drawn_by_budget_with_the_baselines_own_curve(budgets):
    (axes,) = drawn(budgets).axes
    assert axes.get_xlabel() == "FLOPs that a chain trains with"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1e+15", "1e+16"]
    lines = [c.lines[0].get_ydata().astype(float) for c in axes.containers]
    assert sorted(np.round(line).tolist() for line in lines) == [[50, 70], [58, 78]]


def test_scores_are_drawn_by_volume_and_encoder_beside_no_intermediate_phase(volumes):
    (axes,) = drawn(volumes).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1000", "10000", "full"]
    assert len(axes.containers) == 2  # one curve per encoder
    assert len(axes.lines) == 2 + 2  # and their baselines, level
    assert {"tiny", "large", "nli", "none"} <= {text.get_text() for text in drawn(volumes).legends[0].get_texts()}


def test_low_resource_languages_are_drawn_where_the_study_names_them(volumes, tmp_path):
    assert shown_group(volumes.groups) == "low_resource"
    study = FinishedStudy(tmp_path)
    study.chain("nli", "topic")
    assert shown_group(estimated(study).groups) == "zero_shot"


def test_a_study_of_one_volume_and_no_budget_has_no_such_picture(tmp_path):
    study = FinishedStudy(tmp_path)
    for intermediate in ("none", "nli"):
        study.chain(intermediate, "topic")
    found = estimated(study)
    assert tradeoff(found.groups, arm_styles(found.cells)) is None


def test_pictures_of_budgets_are_the_same_bytes_every_time(budgets):
    assert svg(drawn(budgets)) == svg(drawn(budgets))
    assert "1e+16" in svg(profiles(budgets.languages, budgets.cells))


def test_baselines_of_budgets_are_drawn_before_there_is_anything_to_compare_with_them(tmp_path):
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic", chain_budget="1e+15")
    found = estimated(study)
    assert "none (1e+15 FLOPs)" in svg(profiles(found.languages, found.cells))
