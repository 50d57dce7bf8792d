"""Facts about `gpu: auto`: what is measured, how many chains share a device then, what a chain without room does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from instant_workers import Lab
from small_studies import plan_of, study_file, with_data_of
from torch import nn

from sweep.errors import DeviceError
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.run.chain import pace, run
from sweep.search.devices import chains_per_device, with_larger_share, work_names
from sweep.train.context import Event

AXES = {"intermediate": ["none", "world/nli"], "target": ["world/topic", "world/ner"], "seed": [1, 2, 3]}
GB = 1e9
MACHINE = NO_FACTS.with_cores_per_device(16)


def study(folder: Path, gpu: object = "auto", **changes: object) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    return plan_of(study_file(folder, AXES, runtime={"gpu": gpu, **changes}))


def measured(**needed: float) -> Facts:
    """Facts about works that need so many GB of 80."""
    facts = MACHINE
    for work, gigabytes in needed.items():
        facts = facts.with_memory(work, gigabytes * GB, 80 * GB)
    return facts


def everything(plan: Plan, needed: float) -> Facts:
    """Facts as if all that a study does had been measured."""
    chains = list(plan.planned_chains())
    names = {name for chain in chains for name in work_names(plan, chain, chain.phases, scored=True)}
    return measured(**dict.fromkeys(names, needed))


# How many share a device


@pytest.mark.parametrize(("needed", "many"), [(60, 1), (37, 1), (36, 2), (19, 2), (18, 4), (10, 4), (9, 8), (0.1, 8)])
def test_as_many_chains_share_a_device_as_fit_with_a_margin(needed, many):
    assert chains_per_device(["train"], measured(train=needed), cores=1) == many


def test_the_work_that_needs_most_counts():
    assert chains_per_device(["train", "score"], measured(train=9, score=30), cores=1) == 2


@pytest.mark.parametrize(("cores", "many"), [(1, 8), (2, 8), (3, 4), (4, 4), (5, 2), (8, 2), (9, 1), (32, 1)])
def test_no_more_share_a_device_than_have_their_cores(cores, many):
    assert chains_per_device(["train"], measured(train=1), cores) == many


@pytest.mark.parametrize("facts", [NO_FACTS, MACHINE, measured(score=1), NO_FACTS.with_memory("train", GB, 80 * GB)])
def test_what_is_not_measured_has_a_device_to_itself(facts):
    assert chains_per_device(["train", "score"], facts, cores=1) == 1


@pytest.mark.parametrize(
    ("paces", "many"),
    [
        ({8: 0.9}, 8),
        ({8: 1.0}, 8),
        ({8: 1.1}, 4),
        ({8: 1.1, 4: 1.2}, 2),
        ({8: 1.1, 4: 1.2, 2: 1.3}, 1),
        ({4: 9.9}, 8),
    ],
)
def test_where_neighbours_cost_more_than_they_bring_half_as_many_share(paces, many):
    """Device-seconds per FLOP, alone 1."""
    facts = measured(train=1).with_pace("train", 1, 1.0)
    for number, seconds in paces.items():
        facts = facts.with_pace("train", number, seconds)
    assert chains_per_device(["train"], facts, cores=1) == many


@pytest.mark.parametrize(("many", "then"), [(8, 4), (4, 2), (2, 1)])
def test_a_work_that_found_no_room_has_half_the_neighbours_from_then_on(many, then):
    facts = measured(train=1)
    assert chains_per_device(["train"], facts | with_larger_share("train", facts, many), cores=1) == then


def test_chains_of_one_encoder_kind_and_batch_are_measured_once(tmp_path):
    def names(plan: Plan) -> set[str]:
        return {name for chain in plan.planned_chains() for name in work_names(plan, chain, chain.phases, scored=True)}

    plan = study(tmp_path)
    found = names(plan)
    # pretrain, one intermediate phase, two targets of two families, two scores of two families
    assert len(found) == 6
    assert names(study(tmp_path / "other", score_batch_tokens=99)).isdisjoint(found)


def test_a_pace_is_that_of_the_steps_alone():
    first = Event("target", "key", 1, 8, flops=5.0, device_seconds=10.0)
    last = Event("target", "key", 8, 8, flops=9.0, device_seconds=12.0)
    assert pace("work", 4, first, last) == NO_FACTS.with_pace("work", 4, 0.5)
    assert pace("work", 4, last, last) == NO_FACTS


# What admission makes of it


def test_the_first_chain_has_the_device_and_later_ones_share_it(tmp_path):
    plan = study(tmp_path)
    lab = Lab(plan, tmp_path / "lab", workers=9)
    lab.admission.shares.devices = 1.0
    lab.fill()
    (first,) = lab.busy
    assert lab.admission.devices(first.key) == 1.0
    lab.hear(first, 1.0, facts=everything(plan, 10))
    lab.fill()
    assert lab.busy == [first]
    lab.finish(lab.busy.pop())
    lab.fill()
    assert [lab.admission.devices(chain.key) for chain in lab.busy] == [0.25] * 4
    assert len(lab.run().started) == lab.admission.total == len(lab.admission.outcomes.done)


@pytest.mark.parametrize(("needed", "devices", "shares"), [(30, 1, [0.5] * 2), (30, 2, [0.5] * 3), (60, 2, [1.0] * 2)])
def test_shares_of_all_devices_are_given_out_and_no_more(needed, devices, shares, tmp_path):
    """Of the three chains that are left."""
    plan = study(tmp_path)
    lab = Lab(plan, tmp_path / "lab").run(chains=3)
    lab.admission.shares.devices = float(devices)
    lab.admission.shares.learn(everything(plan, needed))
    lab.workers = 99
    lab.fill()
    assert [lab.admission.devices(chain.key) for chain in lab.busy] == shares


def test_what_was_measured_survives_a_restart(tmp_path):
    plan = study(tmp_path)
    lab = Lab(plan, tmp_path / "lab")
    lab.fill()
    lab.hear(lab.busy[0], 1.0, facts=everything(plan, 10))
    lab.ledger.settle_all(2.0)
    lab.ledger.close()
    again = Lab(plan, tmp_path / "lab")
    again.fill()
    assert again.admission.devices(again.busy[0].key) == 0.25


def test_a_chain_is_charged_for_its_share_of_the_device(tmp_path):
    plan, now = study(tmp_path), [0.0]
    lab = Lab(plan, tmp_path / "lab", clock=lambda: now[0])
    lab.admission.shares.learn(everything(plan, 10))
    lab.fill()
    now[0] = 20.0
    lab.hear(lab.busy[0], 0.0)
    assert lab.ledger.spent()[1] == pytest.approx(0.25 * 20.0)


def test_a_chain_without_room_in_its_share_is_tried_with_a_larger_one(tmp_path):
    plan = study(tmp_path)
    lab = Lab(plan, tmp_path / "lab")
    lab.admission.shares.learn(everything(plan, 10))
    shares = []
    while not shares or shares[-1] < 1.0:
        lab.fill()
        chain = lab.busy.pop()
        shares.append(lab.admission.devices(chain.key))
        lab.admission.ended(chain.key, "no room", share_too_small=shares[-1] < 1.0)
    assert shares == [0.25, 0.5, 1.0]
    assert [failed for failed, _ in lab.admission.outcomes.failed] == [chain]


def test_shares_that_the_study_names_are_those_of_all_chains(tmp_path):
    plan = study(tmp_path, gpu=0.5)
    lab = Lab(plan, tmp_path / "lab")
    lab.admission.shares.learn(everything(plan, 10))
    lab.fill()
    assert lab.admission.devices(lab.busy[0].key) == 0.5


# What a chain does


def test_a_chain_without_room_for_one_example_says_so_in_one_line(small_store, tmp_path):
    """Torch's error comes out of the encoder at every size of a batch."""

    def full(module: nn.Module, *_: object) -> None:
        if type(module).__name__ == "BertLayer":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    plan = plan_of(study_file(tmp_path))
    (chain,) = plan.planned_chains()
    hook = nn.modules.module.register_module_forward_hook(full)
    try:
        with pytest.raises(DeviceError) as raised:
            run(chain, plan, with_data_of(small_store, tmp_path / "store"))
    finally:
        hook.remove()
    line = str(raised.value)
    assert line.startswith("runtime.gpu: found no room for tiny and one example")
    assert "a larger share, a smaller max_length" in line
    assert "batch_tokens" in line
    assert "\n" not in line


def test_the_benchmark_of_shares_refuses_a_machine_without_a_gpu_in_one_line():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "benchmarks/shares.py"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "found no GPU; a machine with one is expected" in done.stderr
    assert done.stderr.count("\n") == 1
