"""Facts about the study of English, translated and multilingual intermediate data, and its miniature twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_studies import cut, plan_of, reported

from sweep.plan.plan import Plan
from sweep.report import page
from sweep.report.gains import SOURCE, TEXT
from sweep.report.text import contrast_sentences

STUDIES = Path(__file__).parents[2] / "search_spaces"
REAL, TWIN = STUDIES / "english_vs_multilingual.yaml", STUDIES / "miniature" / "english_vs_multilingual.yaml"


def settings_of(plan: Plan) -> set[tuple[str, str]]:
    return {(cell.text("intermediate"), cell.text("source")) for cell in plan.cells}


def test_the_real_study_has_every_arm_and_names_its_gaps():
    plan = plan_of(REAL)
    everywhere = {(name, source) for name in ("mnli", "mnli+wikipedia") for source in ("own", "de", "zh", "sw", "all")}
    some = {(name, source) for name in ("squad", "squad+wikipedia") for source in ("own", "de", "zh", "all")}
    assert settings_of(plan) == {("none", "-"), *everywhere, *some}
    assert "source sw: squad has no training data in it; cells with it are left out" in plan.flags
    assert "overlap: squad and xquad share training data (squad); left out of means" in plan.flags
    assert "group joshi_low: xquad has none of its languages" in plan.flags


def test_arms_of_the_real_study_differ_in_nothing_but_their_data():
    """Same volume, same settings, and as many steps on the labelled task with text beside it as without."""
    plan = plan_of(REAL)
    phases = [plan.recipes(cell)[0] for cell in plan.cells if cell.intermediate]
    assert {recipe.examples for recipe in phases} == {80000}
    plain = [recipe.settings.model_dump(exclude={"sampling", "text"}) for recipe in phases]
    assert all(settings == plain[0] for settings in plain)
    alone, mixed = ({"mnli": 60.0}, {"mnli": 60.0, "wikipedia": 900.0})
    for recipe in phases:
        if "mnli" in recipe.tasks:
            sizes = mixed if len(recipe.tasks) > 1 else alone
            sampling = recipe.settings.sampling
            assert sampling.one_pass(sizes) * sampling.shares(sizes)["mnli"] == pytest.approx(60)


def test_the_twin_has_the_arms_of_the_real_study():
    assert settings_of(plan_of(TWIN)) == {
        ("none", "-"),
        *(
            (name, source)
            for name in ("world/nli", "world/nli+world/raw")
            for source in ("own", "svo85", "vso10", "all")
        ),
        *((name, source) for name in ("world/qa", "world/qa+world/raw") for source in ("own", "svo85", "all")),
    }


def test_the_twin_runs_from_the_file_to_the_sentences_about_its_arms(tmp_path):
    axes = {"encoder": ["narrow"], "target": ["world/retrieval"], "seed": [0, 1], "volume": [200]}
    found, done = reported(cut(TWIN, tmp_path, axes), tmp_path)
    assert done == 15 * 2
    assert set(found.scores["source"]) == {"-", "own", "svo85", "vso10", "all"}
    assert len(found.estimates.cells) == 15
    compared = found.estimates.arms
    assert (compared["differs"] == SOURCE).sum() == 3 + 2 + 3 + 2
    assert (compared["differs"] == TEXT).sum() == 4 + 3
    assert set(compared["paired"]) == {2}
    assert len(list(contrast_sentences(found.estimates))) == 17
    assert set(found.estimates.groups["group"]) == {"zero_shot", "near", "far"}
    html = page.save(found, tmp_path).read_text(encoding="utf-8")
    assert "world/qa+world/raw in svo85 (200) instead of world/qa in svo85 (200) alone" in html
    assert "source vso10: world/qa has no training data in it" in html
