"""Facts about volumes that are all of the data under another name: one phase, one cell, and a line that says so."""

from __future__ import annotations

import json

import pytest
from small_studies import plan_of, study_file

from sweep.cli import main
from sweep.plan import data_facts
from sweep.plan.data_facts import check_data
from sweep.plan.facts import NO_FACTS
from sweep.plan.order import coverage_order
from sweep.plan.resolve import informed

RTE = 200  # training examples of world/rte
SAID = "volume 1000 of world/rte: no less than the 200 training examples that there are; run once, as full"


def volumes(plan):
    return [cell.text("volume") for cell in plan.cells if cell.intermediate]


def asked(folder, volume, intermediate="world/rte", **changes):
    return study_file(folder, {"intermediate": ["none", intermediate], "volume": volume}, **changes)


@pytest.mark.parametrize(
    ("volume", "shown"),
    [
        (["full", 1000], ["full"]),
        ([1000, 5000], ["5000"]),  # a volume that was asked for: settings are compared at equal ones
        ([RTE], ["200"]),
        ([RTE - 1, RTE, 1000], ["199", "1000"]),
    ],
)
def test_volumes_that_leave_out_nothing_are_one_cell(volume, shown, tmp_path):
    plan = plan_of(asked(tmp_path, volume))
    assert volumes(plan) == shown
    trained = {chain.phases[1].key for chain in plan.planned_chains() if chain.cell.intermediate}
    assert len(trained) == len(shown)


def test_they_train_the_very_phase_of_all_the_data(tmp_path):
    keys = set()
    for volume in ("full", 1000):
        *_, chain = plan_of(asked(tmp_path, [volume])).planned_chains()
        keys.add(chain.phases[1].key)
    assert len(keys) == 1


@pytest.mark.parametrize("schedule", [{"schedule": "linear"}, {"schedule": "wsd", "warmup": {"steps": 2}}])
def test_a_limit_above_the_size_of_the_data_is_none(schedule, tmp_path):
    keys = []
    for examples in (None, RTE, 1000, RTE - 1):
        settings = {**schedule, "epochs": 1, "steps": None, "examples": examples}
        path = study_file(tmp_path, {"intermediate": ["world/rte"], "volume": [100, "full"]}, intermediate=settings)
        keys.append({chain.phases[-2].key for chain in plan_of(path).planned_chains()})
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_of_several_tasks_the_largest_counts(tmp_path):
    together = ["world/rte", "world/copa"]  # 200 and 400
    assert volumes(plan_of(asked(tmp_path, ["full", 300], together))) == ["full", "300"]
    assert volumes(plan_of(asked(tmp_path, ["full", 400], together))) == ["full"]


def test_a_study_in_which_a_volume_is_all_of_one_task_alone_has_every_cell_in_its_order(tmp_path):
    tasks, volumes = ["none", "world/rte", "world/copa"], [100, 200, 300]  # of 200 and 400 examples
    plan = plan_of(study_file(tmp_path, {"intermediate": tasks, "volume": volumes}))
    assert len(plan.cells) == 1 + 2 + 3
    assert sorted(coverage_order(plan)) == list(range(len(plan.cells)))


def test_plan_and_check_say_it(tmp_path, capsys):
    path = asked(tmp_path, ["full", 1000])
    for command in ("plan", "check"):
        assert main([command, str(path)]) == 0
        assert f"note: {SAID}" in capsys.readouterr().out


def test_a_single_volume_above_the_size_of_the_data_keeps_its_name_and_is_said(tmp_path):
    plan = plan_of(asked(tmp_path, [1000]))
    assert volumes(plan) == ["1000"]
    said = "volume 1000 of world/rte: more than the 200 training examples that there are; it is all of them"
    assert said in plan.flags


def own(folder, lines):
    for split, count in (("train", lines), ("dev", 30), ("test", 30)):
        rows = [json.dumps({"text": f"{split} {n}", "label": "ab"[n % 2]}) for n in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    own = {"family": "sequence", "format": "jsonl", "labels": ["a", "b"], "languages": ["en"], **files}
    return asked(folder, [50, 500, 1000], "own", tasks={"own": own})


def test_rows_that_nobody_has_counted_decide_nothing(tmp_path, monkeypatch, capsys):
    """What a plan guesses from a file's bytes is no reason to train something else than was asked for."""
    plan = plan_of(own(tmp_path, 60))
    assert volumes(plan) == ["50", "500", "1000"]
    said = "volume 1000 of own: there are about 60 training examples; where no more, it is all of them"
    assert said in plan.flags
    assert volumes(informed(plan, check_data(plan, NO_FACTS).facts)) == ["50", "1000"]
    monkeypatch.setattr(data_facts, "SMALL", 0)
    assert main(["plan", str(tmp_path / "study.yaml")]) == 0
    assert f"note: {said}" in capsys.readouterr().out


def test_counts_of_data_that_has_changed_decide_nothing(tmp_path):
    plan = plan_of(own(tmp_path, 60))
    facts = check_data(plan, NO_FACTS).facts
    grown = plan_of(own(tmp_path, 2000))
    assert volumes(informed(grown, facts)) == ["50", "500", "1000"]
    assert volumes(informed(grown, facts | check_data(grown, facts).facts)) == ["50", "500", "1000"]
