"""Every row of the table of hub data sets, offline: Parquet with exactly the hub's columns, read by `load_dataset`."""

from __future__ import annotations

import datasets
import pytest
from hub_folders import hub_folders, offline, parts_of
from hub_rows import EXPECTED

from sweep.data.columns import PartedSource
from sweep.tasks.catalog import BENCHMARKS
from sweep.tasks.table import HUB, TASKS


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """`datasets` prepares what it loads; keep that out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def read(name, tmp_path, asked):
    """{(split, language): rows} of the table's task."""
    folders = hub_folders(name, tmp_path, {language for _, language in asked})
    task = offline(name, folders)
    return {(split, language): task.source.rows(split, language) for split, language in asked}


def outer_languages(name):
    """(split, language) for the first and the last language of every part of a task."""
    for split, parts in TASKS[name].source.splits.items():
        for part in parts:
            first, *others = part.languages
            yield from ((split, language) for language in {first, *others[-1:]})


@pytest.mark.parametrize("name", HUB)
def test_every_part_of_a_task_is_read_from_the_hubs_columns(name, tmp_path):
    family = TASKS[name].family
    for (split, language), rows in read(name, tmp_path, set(outer_languages(name))).items():
        for row in rows:
            assert family.check(row, TASKS[name].labels) is None, (split, language, row)


@pytest.mark.parametrize("name", HUB)
def test_rows_are_what_the_hubs_mean_and_oddities_are_gone(name, tmp_path):
    expected = {key[1:]: value for key, value in EXPECTED.items() if key[0] == name}
    assert expected, f"tests/hub_rows.py says nothing of what {name} gives: add it"
    for place, rows in read(name, tmp_path, set(expected)).items():
        count, last = expected[place]
        said = {column: value for column, value in rows[-1].items() if column != "unit"}
        assert (len(rows), said) == (count, last), place


@pytest.mark.parametrize("name", HUB)
def test_sizes_are_stated_for_every_split_and_language(name):
    source = TASKS[name].source
    assert isinstance(source, PartedSource)
    for split, parts in source.splits.items():
        for part in parts:
            for language in part.languages:
                assert source.size(split, language).examples > 0


@pytest.mark.parametrize("name", HUB)
def test_a_task_says_what_its_licence_is(name):
    assert TASKS[name].licence


@pytest.mark.parametrize("version", BENCHMARKS)
def test_a_row_has_the_languages_of_the_benchmark(version):
    for name in set(BENCHMARKS[version]) & set(HUB):
        lacking = set(BENCHMARKS[version][name]) - set(TASKS[name].languages)
        assert lacking == ({"az", "lt", "pl", "ro", "uk"} if (name, version) == ("tatoeba", "xtreme-r") else set())


@pytest.mark.parametrize(
    ("name", "count"), [("xnli", 15), ("mnli", 15), ("pawsx", 7), ("squad", 7), ("tydiqa", 9), ("panx", 48)]
)
def test_training_data_is_there_in_other_languages(name, count):
    task = TASKS[name]
    assert (len(task.sources), task.trained_in) == (count, ("en",))
    for language in task.sources:
        assert task.source.size("train", language).examples > 0


def test_languages_without_dev_data_are_no_source():
    assert set(TASKS["udpos"].languages) - set(TASKS["udpos"].sources) == {"kk", "th", "tl", "yo"}


def test_ud_treebanks_of_one_language_are_read_together():
    assert [part.config for part in parts_of(TASKS["udpos"]) if list(part.languages) == ["lt"]] == 3 * [
        "lt_alksnis",
        "lt_hse",
    ]
