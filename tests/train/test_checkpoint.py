"""Facts about checkpoints that are written while training goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sweep.errors import StoreError
from sweep.store.paths import CHECKPOINT
from sweep.train.checkpoint import CheckpointWriter, read_checkpoint
from sweep.train.loop import State


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


def test_a_flipped_bit_anywhere_and_a_cut_file_are_found(tmp_path):
    with CheckpointWriter(tmp_path) as writer:
        writer.write(state(1), {"curve": [1.25]})
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    places = [4, 20, whole.index(b"1.25"), whole.index(b"step") + 7, len(whole) // 2, len(whole) - 1]
    for damaged in [whole[:-1], whole[:100], b"", *(flipped(whole, place) for place in places)]:
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="a damaged checkpoint"):
            read_checkpoint(tmp_path)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_last_one(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("os.fsync", lambda opened: done.append(Path(f"/proc/self/fd/{opened}").readlink().name))
    with CheckpointWriter(tmp_path) as writer:
        writer.write(state(1), {})
    assert done == [f".{CHECKPOINT}", tmp_path.name]


def test_the_users_umask_says_who_may_read_a_checkpoint(tmp_path):
    with CheckpointWriter(tmp_path) as writer:
        writer.write(state(1), {})
    beside = tmp_path / "beside"
    beside.touch()
    assert (tmp_path / CHECKPOINT).stat().st_mode == beside.stat().st_mode


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = CheckpointWriter(folder)
    shutil.rmtree(folder)
    writer.write(state(1), {})
    with pytest.raises(Exception, match="No such file"), writer:
        pass
