"""Facts about the two versions of the benchmark: how many tasks and languages each averages over."""

from __future__ import annotations

import pytest

from sweep.tasks.catalog import BENCHMARKS, GROUPS, NAMES, THREE_LETTERS, languages_of

# as many as the official scorer lists
COUNTS = [
    ("xtreme", "pawsx 7, xnli 15, panx 40, udpos 33, bucc2018 4, tatoeba 36, xquad 11, mlqa 7, tydiqa 9"),
    (
        "xtreme-r",
        "xnli 15, panx 48, udpos 38, tatoeba 41, xcopa 11, lareqa 0, mewslix 11, xquad 12, mlqa 7, tydiqa 9",
    ),
]


@pytest.mark.parametrize(("version", "counts"), COUNTS)
def test_a_version_has_the_languages_of_the_official_scorer(version, counts):
    assert ", ".join(f"{task} {len(found)}" for task, found in BENCHMARKS[version].items()) == counts
    for found in BENCHMARKS[version].values():
        assert len(set(found)) == len(found)
        assert set(found) <= set(NAMES)


def test_xtreme_has_40_languages_and_xtreme_r_50():
    spoken = {
        version: {language for found in tasks.values() for language in found} for version, tasks in BENCHMARKS.items()
    }
    assert len(spoken["xtreme"]) == 40
    assert len(spoken["xtreme"] | spoken["xtreme-r"]) == 50
    assert spoken["xtreme-r"] - spoken["xtreme"] == {"az", "gu", "ht", "lt", "pa", "pl", "qu", "ro", "uk", "wo"}


@pytest.mark.parametrize("version", BENCHMARKS)
def test_groups_hold_tasks_of_their_version(version):
    grouped = {task for tasks in GROUPS[version].values() for task in tasks}
    assert grouped == set(BENCHMARKS[version]) - {"lareqa"}


def test_xtreme_r_only_adds_languages_to_a_task():
    for task in set(BENCHMARKS["xtreme"]) & set(BENCHMARKS["xtreme-r"]):
        assert set(BENCHMARKS["xtreme"][task]) <= set(BENCHMARKS["xtreme-r"][task])
        assert languages_of(task) == BENCHMARKS["xtreme-r"][task]


def test_every_language_of_tatoeba_has_a_code_of_its_own():
    assert set(languages_of("tatoeba")) == set(THREE_LETTERS)
    assert len(set(THREE_LETTERS.values())) == len(THREE_LETTERS)
