"""Facts about the ledger's facts: their names and texts never change, each is read as written, the newer one counts."""

from __future__ import annotations

from pathlib import Path

from sweep.data import Size
from sweep.keys import fingerprint
from sweep.models.registry import Shape
from sweep.plan.facts import NO_FACTS, Reached, RowsRead, TaskData
from sweep.store.ledger import Ledger, opened_to_read
from sweep.store.paths import LEDGER
from sweep.tasks.data_check import SharedRows

SHAPE = Shape(12, 768, 3072, 250_002, 512)
DATA = TaskData("a:b", "0f0f", ("de", "en"))
ROWS = RowsRead(30, {"en": 10, "de": 5}, ("tasks.a.dev: 5 rows in en can hardly tell",))
SHARED = SharedRows({"sw": (1, 100)}, {}, {"en": (3, 9)}, (3, 15))
REACHED = Reached(0.1 + 0.2, 1e12, 1.5)

# What ledgers of this and of earlier versions hold.
STORED = {
    "study": "nine_tasks",
    "study:file": "../nine_tasks.yaml",
    "plan": '{"cells": 3}',
    "previews": '[{"target": "xnli", "key": "abc"}]',
    "data:facebook/xnli@main or refs/convert/parquet": "c0ffee",
    "encoder:FacebookAI/xlm-roberta-base": "e70d",
    "shape:FacebookAI/xlm-roberta-base:e70d": (
        '{"layers": 12, "hidden": 768, "feed_forward": 3072, "vocabulary": 250002, "max_length": 512, "gated": false,'
        ' "embedding": 0, "key_value": 0, "relative": 0}'
    ),
    "checked:encoder:d1:sequence+token": "yes",
    "read:a:b:0f0f:de:en": (
        '{"rows": 30, "train": {"en": 10, "de": 5}, "doubts": ["tasks.a.dev: 5 rows in en can hardly tell"]}'
    ),
    f"shared:{fingerprint([['t1', 't2'], 'read:a:b:0f0f:de:en'])}": (
        '{"dev": {}, "test": {"sw": [1, 100]}, "train": {"en": [3, 9]}, "trained": [3, 15]}'
    ),
    "size:world/rte:train:pivot": "200 23.457 1.000",
    "rung:k1:0.25": "0.30000000000000004 1000000000000.0 1.5",
    "rung:k1:0.5": "0.30000000000000004 2000000000000.0 1.5",
    "memory:tiny, target sequence, 512 of usual, 8192, auto": "10000000000 80000000000",
    "pace:tiny, target sequence, 512 of usual, 8192, auto:4": "2.5e-12",
    "device:cores": "12.5",
}
WORK = "tiny, target sequence, 512 of usual, 8192, auto"
ALL = (
    NO_FACTS.with_study("nine_tasks")
    .with_study_file("../nine_tasks.yaml")
    .with_plan({"cells": 3})
    .with_previews([{"target": "xnli", "key": "abc"}])
    .with_data_commit("facebook/xnli@main or refs/convert/parquet", "c0ffee")
    .with_encoder_commit("FacebookAI/xlm-roberta-base", "e70d")
    .with_shape("FacebookAI/xlm-roberta-base", "e70d", SHAPE)
    .with_encoder_checked("d1", ["sequence", "token"])
    .with_rows_read(DATA, ROWS)
    .with_shared_rows(["t1", "t2"], DATA, SHARED)
    .with_size("world/rte", "train", "pivot", Size(200, 23.4567, 1.0))
    .with_reached("k1", 0.25, REACHED)
    .with_reached("k1", 0.5, Reached(REACHED.dev, 2e12, 1.5))
    .with_memory(WORK, 1e10, 8e10)
    .with_pace(WORK, 4, 2.5e-12)
    .with_cores_per_device(12.5)
)


def test_facts_have_the_names_and_texts_that_results_folders_hold():
    assert dict(ALL.texts) == STORED


def test_every_fact_is_read_from_a_ledger_as_it_was_written(tmp_path: Path):
    ledger = Ledger(tmp_path / LEDGER)
    ledger.remember(ALL)
    ledger.close()
    with opened_to_read(tmp_path / LEDGER) as read:
        facts = read.facts()
    assert (facts.study, facts.plan, facts.previews) == ("nine_tasks", {"cells": 3}, [{"target": "xnli", "key": "abc"}])
    assert facts.study_file == "../nine_tasks.yaml"
    assert facts.data_commit("facebook/xnli@main or refs/convert/parquet") == "c0ffee"
    assert facts.encoder_commit("FacebookAI/xlm-roberta-base") == "e70d"
    assert facts.shape("FacebookAI/xlm-roberta-base", "e70d") == SHAPE
    assert facts.is_encoder_checked("d1", ["sequence", "token"])
    assert facts.rows_read(DATA) == ROWS
    assert facts.shared_rows(["t1", "t2"], DATA) == SHARED
    assert facts.sizes == {("world/rte", "train", "pivot"): Size(200, 23.457, 1.0)}
    assert facts.reached("k1", 0.25) == REACHED
    assert facts.furthest["k1"].flops == 2e12
    assert facts.memory(WORK) == (1e10, 8e10)
    assert facts.pace(WORK, 4) == 2.5e-12
    assert facts.cores_per_device == 12.5


def test_what_is_about_other_data_another_commit_or_other_families_is_not_known():
    assert ALL.shape("FacebookAI/xlm-roberta-base", None) is None
    assert not ALL.is_encoder_checked("d1", ["sequence"])
    assert ALL.rows_read(TaskData("a:b", "0f0f", ("de",))) is None
    assert ALL.shared_rows(["t1"], DATA) is None
    assert ALL.reached("k1", 0.75) is None
    assert ALL.pace(WORK, 2) is None


def test_nothing_is_known_without_facts():
    assert not NO_FACTS
    assert (NO_FACTS.study, NO_FACTS.plan, NO_FACTS.previews) == (None, {}, [])
    assert (NO_FACTS.sizes, NO_FACTS.furthest, NO_FACTS.cores_per_device) == ({}, {}, None)


def test_of_two_sets_of_facts_the_newer_one_counts_and_neither_changes():
    older, newer = NO_FACTS.with_cores_per_device(4).with_study("a"), NO_FACTS.with_cores_per_device(8)
    both = older | newer
    assert (both.cores_per_device, both.study) == (8, "a")
    assert (older.cores_per_device, newer.study) == (4, None)
