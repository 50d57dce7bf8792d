"""Facts about weights in memory and their way to the store: nothing is read twice, and nothing is lost."""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from published_encoders import save_published
from safetensors.torch import save_file
from small_studies import chains_of, events_of, finish, stopped_when, study_file, unmeasured, with_data_of

from sweep.errors import StoreError
from sweep.run.chain import run
from sweep.store.artifacts import Store, disk_error
from sweep.store.paths import ENCODER_WEIGHTS, HEAD_WEIGHTS, LOCK
from sweep.tasks.table import TASKS
from sweep.train.weights import KEPT, WeightsInMemory, handed_over

TWO = {"intermediate": ["world/copa"], "target": ["world/topic", "world/ner"]}


@pytest.fixture(autouse=True)
def nothing_kept():
    KEPT.resize(0)


@pytest.fixture
def fresh(small_store, tmp_path):
    """A store without phases and scores."""
    return with_data_of(small_store, tmp_path / "store")


def spoil(store: Store, key: str) -> None:
    for name in (ENCODER_WEIGHTS, HEAD_WEIGHTS):
        (store.root / "phases" / key / name).write_bytes(b"")


# Nothing is read that the process has had


def test_a_chain_reads_no_weights_that_its_process_has_written(fresh, tmp_path):
    (first, plan), (second, _) = chains_of(study_file(tmp_path, TWO, scoring={"retention": True}))
    run(first, plan, fresh)
    for phase in first.phases[:-1]:
        spoil(fresh, phase.key)
    run(second, plan, fresh)
    assert set(fresh.score(second.score).retention) == {"world/copa"}
    KEPT.resize(0)
    with pytest.raises(StoreError, match="does not match its checksum"):
        fresh.weights(first.phases[0].key)


def test_a_second_chain_of_a_published_encoder_reads_nothing_of_its_folder(fresh, tmp_path):
    texts = (row["text"] for row in TASKS["world/raw"].source.rows("train", "pivot"))
    save_published("xlm-r", tmp_path / "encoder", texts)
    axes = {"encoder": ["xlm-r"], "intermediate": [["world/copa", "world/raw"]], "seed": [1, 2]}
    encoders = {"xlm-r": {"path": "encoder"}}
    path = study_file(tmp_path, axes, encoders=encoders, intermediate={"steps": 2}, target={"steps": 2})
    (first, plan), (second, _) = chains_of(path)
    run(first, plan, fresh)
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"")
    run(second, plan, fresh)
    assert fresh.score(second.score) is not None


def test_scores_are_those_of_a_process_that_keeps_nothing(small_store, tmp_path):
    """Training changes no weights that are kept: six chains go on from the same ones."""
    axes = {"intermediate": ["none", "world/copa", ["world/rte", "world/raw"]], "target": ["world/ner", "world/copa"]}
    scores = []
    for size in (0, "1 GB"):
        folder = tmp_path / str(size)
        folder.mkdir()
        store = with_data_of(small_store, folder / "store")
        path = study_file(folder, axes, runtime={"weights_in_memory": size}, scoring={"retention": True})
        chains = finish(path, store)
        scores.append([unmeasured(store.score(chain.score)) for chain in chains])
    assert scores[0] == scores[1]


def test_no_more_is_kept_than_is_allowed_and_the_least_recently_used_goes_first():
    draw = random.Random(0)
    for _ in range(200):
        kept, order, limit = WeightsInMemory(100), list[int](), 100
        for _ in range(50):
            name, count = draw.randrange(10), draw.randrange(1, 13)
            tensors = {"weight": torch.zeros(count)}
            if draw.random() < 0.5:
                kept.keep(str(name), tensors)
            else:
                kept.get(str(name), lambda tensors=tensors: tensors)
            order = [other for other in order if other != name] + [name]
            if draw.random() < 0.1:
                limit = draw.randrange(50, 150)
                kept.resize(limit)
            assert kept.bytes <= limit
            held = [other for other in order if str(other) in kept]
            assert held == order[len(order) - len(held) :]


def test_weights_that_nobody_needs_after_their_chain_give_way_to_all_others():
    kept, part = WeightsInMemory(100), {"weight": torch.zeros(12)}
    kept.keep("parent", part)
    kept.keep("target", part, spare=True)
    kept.keep("encoder", part)
    kept.keep("another target", part, spare=True)
    assert [name in kept for name in ("parent", "target", "encoder", "another target")] == [True, False, True, False]


def test_what_a_module_hands_over_can_be_stored_and_is_its_own_where_it_can_be(tmp_path):
    module = torch.nn.ModuleDict({"first": torch.nn.Linear(3, 4), "tied": torch.nn.Linear(3, 4)})
    module["tied"].weight = module["first"].weight
    weights = handed_over(module)
    save_file(weights, tmp_path / "weights.safetensors")
    assert weights["first.weight"].data_ptr() == module["first"].weight.data_ptr()
    assert torch.equal(weights["tied.weight"], weights["first.weight"])


# Nothing is lost, and nobody hears of a phase too early


class Disk:
    """A disk on which the weights of one phase wait until they may be written, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key: str, fault: OSError | None = None) -> None:
        self.may_write, self._key, self._fault = threading.Event(), key, fault
        monkeypatch.setattr("sweep.train.weights.save_file", self._save)

    def _save(self, tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.parent.name == self._key:
            assert self.may_write.wait(timeout=60)
            if self._fault is not None:
                raise self._fault
        save_file(tensors, path)


def test_a_phase_is_scored_while_it_is_written_and_told_of_when_it_is_in_the_store(fresh, tmp_path, monkeypatch):
    ((chain, plan),) = chains_of(study_file(tmp_path))
    target, told = chain.phases[-1].key, list[tuple[str, bool]]()
    disk = Disk(monkeypatch, target)

    def listen(event):
        told.append((event.phase, event.committed))
        if event.committed and event.phase != "score":
            assert fresh.phase(event.key) is not None
        if event.phase == "score" and event.step and not disk.may_write.is_set():
            assert fresh.phase(target) is None
            with pytest.raises(Timeout):  # nobody else may train it
                FileLock(fresh.root / "scratch" / target / LOCK).acquire(timeout=0)
            disk.may_write.set()

    run(chain, plan, fresh, listen)
    assert told[-1] == ("score", True)
    assert told.index(("target", True)) > told.index(("score", False))


def test_a_stop_while_a_phase_is_written_loses_nothing_of_it(fresh, tmp_path, monkeypatch):
    ((chain, plan),) = chains_of(study_file(tmp_path))
    disk = Disk(monkeypatch, chain.phases[-1].key)
    threading.Timer(2.0, disk.may_write.set).start()
    assert stopped_when(chain, plan, fresh, lambda event: event.phase == "score")[-1].phase == "score"
    ended = fresh.phase(chain.phases[-1].key).ended
    assert {event.phase for event in events_of(chain, plan, fresh)} == {"", "score"}
    assert fresh.phase(chain.phases[-1].key).ended == ended


def test_a_process_that_is_killed_once_a_phase_is_told_of_has_left_it_in_the_store(fresh, tmp_path):
    path = study_file(tmp_path)
    code = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from small_studies import chains_of
from sweep.run.chain import run
from sweep.store.artifacts import Store
((chain, plan),) = chains_of(Path({str(path)!r}))
def listen(event):
    if event.committed and event.phase == "target":
        os._exit(9)
run(chain, plan, Store(Path({str(fresh.root)!r})), listen)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    ((chain, plan),) = chains_of(path)
    assert {event.phase for event in events_of(chain, plan, fresh)} == {"", "score"}


def test_a_disk_that_is_full_in_the_thread_fails_the_chain_in_the_words_of_every_full_disk(
    fresh, tmp_path, monkeypatch
):
    ((chain, plan),) = chains_of(study_file(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device")
    Disk(monkeypatch, chain.phases[0].key, full).may_write.set()
    with pytest.raises(OSError, match="No space left") as caught:
        run(chain, plan, fresh)
    assert "found a full disk (" in str(disk_error(caught.value, fresh.root))
    assert fresh.keys("phases") == []
    monkeypatch.undo()
    run(chain, plan, fresh)
    assert fresh.score(chain.score) is not None
