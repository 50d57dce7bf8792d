"""Facts about checkpoints that are written while training goes on."""

from __future__ import annotations

import shutil

import pytest
import torch

from sweep.chain.checkpoint import CHECKPOINT, CheckpointWriter, read_checkpoint
from sweep.training.train import State


def state(step: int) -> State:
    return State(tensors={"weight": torch.full((300, 300), float(step))}, values={"step": step})


def test_the_log_is_that_of_the_moment_it_was_handed_over(tmp_path):
    log = {"curve": [1]}
    with CheckpointWriter(tmp_path) as writer:
        writer.write(state(1), log)
        log["curve"].append(2)
    kept, kept_log = read_checkpoint(tmp_path)
    assert kept["values"] == {"step": 1}
    assert kept_log == {"curve": [1]}


def test_leaving_waits_for_the_last_checkpoint(tmp_path):
    with CheckpointWriter(tmp_path) as writer:
        for step in range(1, 6):
            writer.write(state(step), {})
    kept, _ = read_checkpoint(tmp_path)
    assert kept["values"] == {"step": 5}
    assert torch.equal(kept["tensors"]["weight"], state(5)["tensors"]["weight"])
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_stopped_run_keeps_the_checkpoint_that_was_begun(tmp_path):
    def steps():
        with CheckpointWriter(tmp_path) as writer:
            for step in (1, 2, 3):
                writer.write(state(step), {})
                yield step

    running = steps()
    assert [next(running), next(running)] == [1, 2]
    running.close()
    assert read_checkpoint(tmp_path)[0]["values"] == {"step": 2}


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = CheckpointWriter(folder)
    shutil.rmtree(folder)
    writer.write(state(1), {})
    with pytest.raises(Exception, match="No such file"), writer:
        pass
