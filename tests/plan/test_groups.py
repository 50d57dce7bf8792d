"""Facts about named groups of languages: who is in them, and what a study is told about them."""

from __future__ import annotations

import pytest
from small_studies import plan_of, study_file

from sweep.config.load import parse
from sweep.errors import StudyError
from sweep.plan.languages import CC100_GB, CLASSES, FIXED, NAMES, groups_of
from sweep.plan.resolve import resolve
from sweep.tasks.catalog import BENCHMARKS
from sweep.tasks.table import TASKS

BOTH = sorted({language for tasks in BENCHMARKS.values() for names in tasks.values() for language in names})

HUB = """
study: sample
axes: {encoder: [%s], intermediate: [none], target: [%s], seed: [1, 2, 3]}
target: {learning_rate: 1e-5, batch_tokens: 4096, epochs: 1}
report: {groups: [%s]}
"""


def flags(tmp_path, groups, targets="xnli", encoders="FacebookAI/xlm-roberta-base"):
    study = parse(HUB % (encoders, targets, groups), "study.yaml")
    return [flag for flag in resolve(study, tmp_path / "study.yaml").flags if flag.startswith("group")]


def groups(name, encoders="FacebookAI/xlm-roberta-base"):
    return groups_of(parse(HUB % (encoders, "xnli", name), "study.yaml"))


def test_every_language_of_the_benchmarks_has_its_facts():
    assert set(BOTH) <= set(CLASSES)
    assert set(CLASSES) == set(CC100_GB)
    assert len(CLASSES) == 50


def test_classes_divide_the_languages_and_the_low_ones_are_those_up_to_two():
    members = [language for number in range(6) for language in FIXED[f"joshi_{number}"]]
    assert sorted(members) == sorted(CLASSES)
    assert set(FIXED["joshi_low"]) == {*FIXED["joshi_0"], *FIXED["joshi_1"], *FIXED["joshi_2"]}


@pytest.mark.parametrize(
    ("target", "low", "small"),
    [
        ("xnli", {"sw"}, {"sw", "ur"}),
        ("pawsx", set(), set()),
        ("xcopa", {"ht", "qu", "sw"}, {"ht", "qu", "sw"}),
    ],
)
def test_low_resource_languages_of_a_target_are_those_that_were_counted(target, low, small):
    """Counts of the benchmarks' languages by class and by size of CC-100."""
    languages = set(TASKS[target].languages)
    assert languages & set(FIXED["joshi_low"]) == low
    assert languages & set(FIXED["cc100_small"]) == small


def test_unseen_languages_depend_on_the_encoder():
    found = groups("unseen", "FacebookAI/xlm-roberta-base, google-bert/bert-base-multilingual-cased")
    assert [set(named["unseen"]) for named in found.values()] == [{"ht", "qu", "wo", "yo"}, {"qu", "wo"}]


def test_a_described_encoder_has_seen_what_its_path_has(tmp_path):
    encoders = {"mine": {"path": "FacebookAI/xlm-roberta-large", "pooling": "cls"}}
    path = study_file(tmp_path, {"encoder": ["mine"]}, encoders=encoders, report={"groups": ["unseen"]})
    assert groups_of(plan_of(path).study)["mine"]["unseen"] == ("ht", "qu", "wo", "yo")


def test_own_groups_are_reported_without_being_asked_for(tmp_path):
    path = study_file(tmp_path, language_groups={"near": ["svo85"]}, report={"groups": ["joshi_low"]})
    assert set(groups_of(plan_of(path).study)["tiny"]) == {"near", "joshi_low"}


def test_a_target_without_a_language_of_the_group_is_flagged(tmp_path):
    assert flags(tmp_path, "joshi_low", "xnli, pawsx") == ["group joshi_low: pawsx has none of its languages"]
    said = flags(tmp_path, "unseen", encoders="FacebookAI/xlm-roberta-base, google-bert/bert-base-multilingual-cased")
    both = "FacebookAI/xlm-roberta-base, google-bert/bert-base-multilingual-cased"
    assert said == [f"group unseen: xnli has none of its languages for {both}"]


def test_an_encoder_whose_pretraining_is_not_known_has_no_unseen_languages_and_the_plan_says_so(tmp_path):
    assert "unseen" not in groups("unseen", "jhu-clsp/mmBERT-base")["jhu-clsp/mmBERT-base"]
    said = flags(tmp_path, "unseen", encoders="jhu-clsp/mmBERT-base")
    assert said == ["group unseen: the pretraining languages of jhu-clsp/mmBERT-base are not known"]


@pytest.mark.parametrize("group", ["joshi_low", "cc100_small"])
def test_languages_of_which_nothing_is_known_are_in_no_group_and_the_plan_says_so(group, tmp_path):
    path = study_file(tmp_path, report={"groups": [group]})
    wanted = (
        f"group {group}: nothing is known of pivot, sov25, sov55, svo70, svo85, vso10, vso40, so they are not in it"
    )
    assert wanted in plan_of(path).flags
    assert f"group {group}: world/topic has none of its languages" in plan_of(path).flags


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"report": {"groups": ["joshi_lo"]}}, ["report.groups[0]", "'joshi_lo'", "did you mean 'joshi_low'"]),
        ({"report": {"groups": ["joshi_6"]}}, ["report.groups[0]", "unknown group"]),
        ({"report": {"groups": "unseen"}}, ["report.groups: found 'unseen'", "a list"]),
        ({"report": {"groups": ["unseen", "unseen"]}}, ["report.groups", "unseen occurs twice"]),
        ({"report": {"group": []}}, ["report.group", "did you mean 'groups'"]),
        ({"report": {"overlapping": "yes"}}, ["report.overlapping: found 'yes'", "true or false"]),
        ({"language_groups": {"unseen": ["svo85"]}}, ["language_groups.unseen", "every study knows", "another name"]),
        ({"language_groups": {"low": ["svo86"]}}, ["language_groups.low[0]", "did you mean 'svo85'"]),
    ],
)
def test_a_mistake_about_groups_is_one_line_with_its_place(sections, said, tmp_path):
    with pytest.raises(StudyError) as raised:
        plan_of(study_file(tmp_path, **sections))
    assert "\n" not in str(raised.value)
    for fragment in said:
        assert fragment in str(raised.value)


def test_every_group_can_be_asked_for():
    study = parse(HUB % ("FacebookAI/xlm-roberta-base", "panx", ", ".join(NAMES)), "study.yaml")
    assert set(groups_of(study)["FacebookAI/xlm-roberta-base"]) == set(NAMES)
