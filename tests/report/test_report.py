"""Facts about the report: its files, its words and its doubts; and any state of a run can be reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from finished_study import FinishedStudy, estimated, scores, the_row, usual

from sweep.config.axes import Arm
from sweep.report import page
from sweep.report.results import COLUMN_MEANINGS, read_results, savings_frame
from sweep.report.tables import leading_table, time_table
from sweep.report.text import distrust, first_sentence, points, time_sentence
from sweep.store import paths

COLUMNS = (
    "study encoder intermediate volume source chain_budget target language seed metric value is_source flops"
    " device_seconds chain candidate role selected collapsed majority retries"
    " retention_before retention_saved_head retention_fresh_head state"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    return usual(tmp_path_factory.mktemp("study"), retrieval=("bitext",))


def read(study: FinishedStudy, **plan: Any) -> page.Report:
    return page.read("a study", study.chains(), study.store, {"tiny": {"far": ("sw",)}}, plan)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_scores_have_one_row_per_chain_and_language(study: FinishedStudy) -> None:
    frame = scores(study)
    assert list(frame.columns) == COLUMNS.split()
    assert len(frame) == 4 * 3 * 3 + 4 * 3 * 2  # bitext has no source language
    row = the_row(frame, intermediate="nli", target="topic", language="de", seed=1)
    assert row["value"] == pytest.approx(0.83, abs=0.002)
    assert not row["is_source"]
    assert set(frame.loc[frame["is_source"], "language"]) == {"en"}
    assert set(frame.loc[frame["target"] == "bitext", "language"]) == {"de", "sw"}


def test_cost_of_a_chain_is_its_own_whether_phases_are_shared_or_not(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("nli", "topic")
    study.chain("nli", "pos")  # the same intermediate phase
    frame = scores(study)
    assert set(frame["flops"]) == {(30 + 10) * 1e12 + 5e11}
    spent = {chain.cell.target: chain.device_seconds for chain in study.chains()}
    assert spent == {"topic": 41.0, "pos": 11.0}


def test_scores_do_not_depend_on_the_order_in_which_chains_ran(tmp_path: Path) -> None:
    forth, back = (FinishedStudy(tmp_path / name) for name in ("forth", "back"))
    wanted = [(intermediate, seed) for intermediate in ("none", "nli", "nli+pos") for seed in (0, 1)]
    for study, order in ((forth, wanted), (back, wanted[::-1])):
        for intermediate, seed in order:
            study.chain(intermediate, "topic", seed)
        page.save(read(study), study.folder)
    assert (forth.folder / "scores.csv").read_bytes() == (back.folder / "scores.csv").read_bytes()


def test_means_over_groups_of_languages_are_a_file_too(study: FinishedStudy) -> None:
    found = read(study)
    page.save(found, study.folder)
    written = pd.read_csv(study.folder / "groups.csv", keep_default_na=False)
    assert list(written["group"]) == list(found.estimates.groups["group"])
    assert "zero_shot" in set(written["group"])
    assert list(written["value"].astype(float)) == pytest.approx(list(found.estimates.groups["value"]))
    assert list(written) == [name for name in COLUMN_MEANINGS["groups.csv"] if name != "<phase>.<key>"]


def test_writing_twice_gives_equal_bytes(study: FinishedStudy) -> None:
    names = ("scores.csv", "report.html", "report-gains.svg", "report-languages.svg")
    page.save(read(study), study.folder)
    first = {name: (study.folder / name).read_bytes() for name in names}
    page.save(read(study), study.folder)
    assert {name: (study.folder / name).read_bytes() for name in names} == first


def test_both_score_files_say_the_same(study: FinishedStudy) -> None:
    page.save(read(study), study.folder)
    from_csv = pd.read_csv(study.folder / "scores.csv")
    pd.testing.assert_frame_equal(from_csv, pd.read_parquet(study.folder / "scores.parquet"), check_dtype=False)


def test_chains_that_are_not_done_have_no_scores(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic", state="failed")
    assert scores(study).empty


def test_arms_are_sorted_as_a_reader_expects() -> None:
    expected = ["none", "nli (500)", "nli (1000)", "nli", "nli in all languages", "nli in de", "qa", "nli+pos"]
    arms = [Arm("tiny", tasks) for tasks in (("nli", "pos"), ("qa",), ())]
    arms += [Arm("tiny", ("nli",), volume) for volume in (None, 1000, 500)]
    arms += [Arm("tiny", ("nli",), source=source) for source in ("de", "all")]
    assert [arm.label for arm in sorted(arms, key=lambda arm: arm.order)] == expected


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_first_sentence_names_the_best_setting_and_its_interval(study: FinishedStudy) -> None:
    sentence = first_sentence(estimated(study))
    assert sentence.startswith("Training on nli, the best of 3 settings, before the target phase helps")
    assert re.search(r"\+8\.0 points \[\+\d\.\d, \+\d\.\d\]", sentence)
    assert "2 targets" in sentence
    assert sentence.count(". ") == 0


def test_the_first_sentence_admits_that_nothing_helps(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    worse = FinishedStudy(tmp_path / "worse")
    for seed in range(3):
        for intermediate in ("none", "same"):
            study.chain(intermediate, "topic", seed)
        for intermediate in ("none", "qa"):
            worse.chain(intermediate, "topic", seed)
    sentence = first_sentence(estimated(study))
    assert sentence.startswith("No intermediate phase is shown to help on topic: same changes")
    assert first_sentence(estimated(worse)).startswith("No intermediate phase helps")


def test_one_easy_target_does_not_make_a_setting_the_best(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for target in ("topic", "pos", "para"):
        for intermediate in ("none", "nli+pos"):
            for seed in range(3):
                study.chain(intermediate, target, seed)
    study.chain("nli", "topic")  # a larger gain, on one of three targets
    assert first_sentence(estimated(study)).startswith("Training on nli+pos before")


def test_the_leading_table_fits_its_width_and_marks_what_is_claimed(study: FinishedStudy) -> None:
    for width in (50, 110):
        lines = leading_table(estimated(study), width).splitlines()
        assert max(map(len, lines[:-1])) <= width
    row = next(line for line in lines if line.startswith("nli"))
    assert "+8.0* [" in row
    assert "*" not in next(line for line in lines if line.startswith("same"))


def test_points_have_a_sign_unless_they_are_nothing() -> None:
    assert [points(value) for value in (0.0512, -0.0512, 0.0, -0.0001)] == ["+5.1", "−5.1", "0.0", "0.0"]


# ---- where time went -------------------------------------------------------------------------------------------------


SPLIT = {"load": 0.05, "train": 0.8, "dev": 0.1, "store": 0.05}


def test_the_report_says_in_which_share_of_its_time_the_device_computed(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path, activities=SPLIT)
    for target in ("topic", "pos"):
        study.chain("nli", target)
    times = read(study).times
    assert list(times["kind"]) == ["intermediate", "target", "scoring"]
    assert list(times["count"]) == [1, 2, 2]  # the intermediate phase is shared
    assert list(times["train"]) == pytest.approx([0.8 * 30, 0.8 * 20, 0.8 * 2])
    assert time_sentence(times) == "The device computed in 90.0% of 52 seconds of device time; load 5.0%, store 5.0%."
    shown = time_table(times, {"tiny": "tiny"}).set_index("")
    assert list(shown.columns) == ["all", "intermediate", "target", "scoring"]
    assert list(shown.loc["phases or scores"]) == ["5", "1", "2", "2"]
    assert list(shown.loc["device-seconds"]) == ["52.0", "30.0", "20.0", "2.0"]
    assert set(shown.loc["computing, %"]) == {"90.0"}
    assert [name for name in shown.index if name.endswith("%")] == [f"{name}, %" for name in ("computing", *SPLIT)]
    assert "The device computed in 90.0% of 52 seconds" in page.save(read(study), tmp_path).read_text()


def test_of_records_of_earlier_versions_nothing_is_said_about_time(study: FinishedStudy) -> None:
    assert read(study).times.empty
    assert time_sentence(read(study).times) == ""


# ---- spending and doubts ---------------------------------------------------------------------------------------------


def test_savings_count_every_phase_once_against_once_per_chain(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for target in ("topic", "pos", "para"):
        study.chain("nli", target)
    saved = savings_frame(read_results(study.chains(), study.store))
    row = the_row(saved, kind="intermediate")
    assert (row["count_unshared"], row["count_shared"]) == (3, 1)
    assert (row["device_seconds_unshared"], row["device_seconds_shared"]) == (90.0, 30.0)
    assert the_row(saved, kind="target")["count_shared"] == 3
    trained = sum(chain.device_seconds for chain in study.chains())
    assert saved["device_seconds_shared"].sum() == pytest.approx(trained)


def test_the_page_says_how_much_the_store_keeps_for_later_chains(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    shared, *_ = [study.chain("nli", target).phases[0] for target in ("topic", "pos")]
    record = study.store.phase(shared)
    assert record is not None
    study.store.release(shared)
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(3_000_000))
    study.store.commit_phase(record, {"encoder.safetensors": weights})
    found = read(study)
    assert found.held["intermediate"] == 3_000_000
    assert list(found.held) == ["intermediate", "target"]
    html = page.save(found, tmp_path).read_text(encoding="utf-8")
    assert "Weights kept for warm starts: 0.003 GB (intermediate 0.003, " in html


def test_doubts_name_what_weakens_the_numbers(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path, collapsed=(("qa", "topic"),))
    for intermediate in ("none", "nli", "qa"):
        study.chain(intermediate, "topic", candidate=0)
    study.chain("nli", "topic", candidate=1, selected=False)
    study.chain("nli", "pos", state="failed")
    text = " ".join(_doubts(read(study, chains=9, cells=4, flags=["overlap: nli and topic share mnli"])))
    for part in (
        "4 of 9 planned chains are done (1 failed)",
        "3 of 4 cells have a result",
        "3 of 3 cells have one seed",
        "Test sets below 500 examples: topic (400 to 400 in 3 languages)",
        "1 collapsed target phases (dev score at chance level), kept in means; the table of all cells",
        "has gains without them: qa → topic.",
        "Unequal tuning: 2 of 3 cells have fewer finished candidates than others of their target (at worst 1 against 2",
        "1 of 5 chains failed; the first, nli → pos, seed 0: it broke",
        "overlap: nli and topic share mnli",
    ):
        assert part in text


def test_targets_that_offer_no_choice_are_not_unequally_tuned(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for intermediate in ("none", "nli"):
        study.chain(intermediate, "pos")
        for candidate in (0, 1):
            study.chain(intermediate, "topic", candidate=candidate, selected=candidate == 0)
    assert "Unequal tuning" not in " ".join(_doubts(read(study, chains=6, cells=4)))


def _doubts(found: page.Report) -> list[str]:
    return distrust(found.chains, found.results, found.collapsed, found.estimates, found.plan)


def lossy(folder: Path, seeds: int = 3) -> FinishedStudy:
    """The last seed of nli on topic ended before its target phase, and the last seed of qa collapsed in it."""
    study = FinishedStudy(folder, collapsed=(("qa", "topic", seeds - 1),))
    for intermediate in ("none", "nli", "qa"):
        for seed in range(seeds):
            gone = (intermediate, seed) == ("nli", seeds - 1)
            _ = study.lost(intermediate, "topic", seed) if gone else study.chain(intermediate, "topic", seed)
    return study


def test_a_chain_without_scores_has_a_row_that_says_so(tmp_path: Path) -> None:
    study = lossy(tmp_path)
    frame = scores(study)
    row = the_row(frame, intermediate="nli", seed=2)
    assert (row["collapsed"], row["language"], row["retries"]) == (True, "", 2)
    assert pd.isna(row["value"])
    assert (row["flops"], row["device_seconds"]) == (30e12, 30.0)
    assert set(frame.loc[frame["intermediate"] == "none", "retries"]) == {0}


def test_seeds_that_collapsed_are_counted_and_means_without_them_stand_beside_the_others(tmp_path: Path) -> None:
    found = read(lossy(tmp_path))
    cells = found.estimates.cells
    nli, qa, none = (the_row(cells, intermediate=name) for name in ("nli", "qa", "none"))
    assert [(row["seeds"], row["collapsed"], row["lost"]) for row in (nli, qa, none)] == [
        (2, 0, 1),
        (3, 1, 0),
        (3, 0, 0),
    ]
    assert pd.isna(nli["gain_without"])
    assert pd.isna(none["value_without"])
    sound = FinishedStudy(tmp_path / "sound")
    for intermediate in ("none", "qa"):
        for seed in range(2):
            sound.chain(intermediate, "topic", seed)
    alone = the_row(read(sound).estimates.cells, intermediate="qa")
    assert (qa["gain_without"], qa["value_without"]) == (alone["gain"], alone["value"])
    # Another setting beside them tells more about what a seed does.
    assert alone["low"] < qa["gain_without_low"] < qa["gain_without_high"] < alone["high"]


def test_a_collapsed_baseline_run_is_left_out_of_the_gain_without(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path, collapsed=(("none", "topic", 1),))
    for intermediate in ("none", "nli"):
        for seed in range(3):
            study.chain(intermediate, "topic", seed)
    row = the_row(read(study).estimates.cells, intermediate="nli")
    assert row["collapsed"] == 0
    assert not pd.isna(row["gain_without"])


def test_the_page_shows_collapsed_phases_their_attempts_and_what_became_of_their_chains(tmp_path: Path) -> None:
    study = lossy(tmp_path)
    study.lost("nli", "pos", 2)
    html = page.save(read(study), tmp_path).read_text()
    section = html.split("Collapsed phases")[1].split("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section)
    assert len(rows) == 3
    (ended,) = (row for row in rows if "not passed on" in row)
    assert "50.0, 50.0, 50.0" in ended
    assert re.findall(r"<td[^>]*>(.*?)</td>", ended)[-1] == "2"  # chains that it ended
    assert sum("scored and marked" in row for row in rows) == 1
    assert "2 chains have no scores" in html
    assert "1 of 3, 1 without scores" in html


def test_a_study_where_every_chain_collapsed_has_a_page(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for seed in range(2):
        study.lost("nli", "topic", seed)
    found = read(study)
    html = page.save(found, tmp_path).read_text()
    assert "Collapsed phases" in html
    assert len(found.scores) == 2
    assert (tmp_path / "scores.csv").is_file()


def test_costs_count_phases_that_ended_their_chains(tmp_path: Path) -> None:
    found = read(lossy(tmp_path))
    saved = savings_frame(found.results, found.collapsed)
    assert the_row(saved, kind="intermediate")["count_shared"] == 6


def test_a_sound_study_raises_no_doubts(tmp_path: Path) -> None:
    assert _doubts(read(usual(tmp_path, examples=500))) == []


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(study: FinishedStudy) -> None:
    html = page.save(read(study, chains=30, cells=8), study.folder).read_text()
    assert "http" not in html
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", html)
    assert not re.findall(r'href="(?!#)', html)


def test_the_page_has_its_parts_and_closes_what_it_opens(study: FinishedStudy) -> None:
    html = page.save(read(study, chains=30, cells=8), study.folder).read_text()
    for title in ("Gain by intermediate", "Score by language", "Learning curves", "Cost", "Caveats"):
        assert f"<h2>{title}" in html
    for tag in ("section", "figure", "table", "details", "svg", "ul"):
        assert len(re.findall(rf"<{tag}[ >]", html)) == html.count(f"</{tag}>")
    assert first_sentence(estimated(study)) in html.replace("&#39;", "'")


def test_pictures_are_standalone_documents(study: FinishedStudy) -> None:
    page.save(read(study), study.folder)
    for name in paths.PICTURES.values():
        assert ElementTree.parse(study.folder / name).getroot().tag.endswith("svg")


def test_names_of_users_are_text_in_the_page(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path, lambda *_: 0.7)
    for intermediate in ("none", "<b>&nli"):
        study.chain(intermediate, "topic")
    assert "<b>" not in page.save(page.read("<b>", study.chains(), study.store, {}, {}), tmp_path).read_text()


@pytest.mark.parametrize("chains", [(), ("none",), ("nli",), ("none", "nli")])
def test_any_state_of_a_run_can_be_reported(tmp_path: Path, chains: tuple[str, ...]) -> None:
    study = FinishedStudy(tmp_path)
    for intermediate in chains:
        study.chain(intermediate, "topic", selected=intermediate == "none" or len(chains) > 1)
    found = read(study, chains=8, cells=4)
    html = page.save(found, tmp_path).read_text()
    assert f"{len(chains)} of 8 planned chains are done" in html
    assert (tmp_path / "scores.csv").read_text().startswith(",".join(COLUMNS.split()))
    assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 3 * len(chains)
    assert leading_table(found.estimates)


def test_several_encoders_and_volumes_have_their_pictures(tmp_path: Path) -> None:
    study = FinishedStudy(tmp_path)
    for encoder in ("hub/small", "hub/big"):
        study.chain("none", "topic", encoder=encoder)
        for volume in ("1000", "full"):
            study.chain("nli", "topic", encoder=encoder, volume=volume)
    found = read(study)
    html = page.save(found, tmp_path).read_text()
    assert "<h2>Score against data or compute" in html
    assert "nli (1000)" in html
    assert leading_table(found.estimates).count("encoder hub/") == 2
    assert "with small" in first_sentence(found.estimates) or "with big" in first_sentence(found.estimates)
