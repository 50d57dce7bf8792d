"""Facts about what is kept: records last, checksums on reading, one winner among writers, spending that survives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest

from sweep.config.axes import Cell
from sweep.data.encoded import EncodedSequence, from_sequences
from sweep.data.rows import Split
from sweep.errors import StoreError
from sweep.heartbeat import Cancelled
from sweep.keys import file_digest
from sweep.store.artifacts import TURN_SECONDS, Store
from sweep.store.ledger import DONE, RUNNING, STOPPED, ChainRow, Ledger
from sweep.store.records import PhaseRecord, ScoreRecord
from sweep.tasks.table import TASKS
from sweep.train.context import Event, Meter, ignore_events
from sweep.train.data import sample, subset, training_data

KEY = "a" * 32
CELL = Cell("e", target="t")


def record(key: str = KEY) -> PhaseRecord:
    return PhaseRecord(
        key=key, kind="target", parent=None, recipe={}, curve=[], dev=[], dev_score=0.5, majority=0.2, collapsed=False,
        selected_step=1, steps=1, tokens=1, examples=1, flops=1.0, device_seconds=1.0, started=0.0, ended=1.0,
        versions={}, files={},
    )  # fmt: skip


def committed(store: Store, content: bytes = b"weights") -> PhaseRecord:
    path = store.scratch(KEY) / "model"
    path.write_bytes(content)
    return store.commit_phase(record(), {"model": path})


def test_a_committed_phase_is_found_with_its_files_and_leaves_no_scratch(tmp_path):
    store = Store(tmp_path)
    assert store.phase(KEY) is None
    assert committed(store) == store.phase(KEY)
    assert (store.weights(KEY) / "model").read_bytes() == b"weights"
    assert not list((tmp_path / "scratch").iterdir())


def test_files_without_a_record_do_not_exist(tmp_path):
    folder = tmp_path / "phases" / KEY
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(b"weights")
    assert Store(tmp_path).phase(KEY) is None
    assert not Store(tmp_path).has_weights(KEY)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"weightz"), Path.unlink])
def test_a_damaged_file_is_named_with_the_way_to_repair_it(damage, tmp_path):
    store = Store(tmp_path)
    committed(store)
    damage(tmp_path / "phases" / KEY / "model")
    with pytest.raises(StoreError, match=rf"{KEY}/model: found .* to repair, delete the folder .*{KEY}"):
        store.weights(KEY)


def test_a_file_is_hashed_once_per_process_and_again_when_it_has_changed(tmp_path, monkeypatch):
    store, hashed = Store(tmp_path), list[str]()
    committed(store)
    path = tmp_path / "phases" / KEY / "model"
    os.utime(path, (0, 0))  # as of a phase that was finished long ago
    monkeypatch.setattr("sweep.store.artifacts.file_digest", lambda path: hashed.append(path.name) or file_digest(path))
    for _ in range(3):
        store.weights(KEY)
    assert hashed == ["model"]
    path.write_bytes(b"weightz")
    with pytest.raises(StoreError, match="does not match its checksum"):
        store.weights(KEY)


def test_a_change_within_the_step_of_a_file_systems_clock_is_found(tmp_path):
    store = Store(tmp_path)
    committed(store)
    path = tmp_path / "phases" / KEY / "model"
    store.weights(KEY)
    before = path.stat()
    path.write_bytes(b"weightz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreError, match="does not match its checksum"):
        store.weights(KEY)


def test_a_damaged_record_is_an_error_and_not_a_miss(tmp_path):
    store = Store(tmp_path)
    committed(store)
    (tmp_path / "phases" / KEY / "record.json").write_text("{")
    with pytest.raises(StoreError, match="damaged record"):
        store.phase(KEY)


def test_released_weights_are_gone_and_the_record_says_so(tmp_path):
    store = Store(tmp_path)
    committed(store)
    store.release(KEY)
    assert store.phase(KEY).released
    assert not store.has_weights(KEY)
    assert [path.name for path in (tmp_path / "phases" / KEY).iterdir()] == ["record.json"]


def test_the_first_of_two_writers_of_one_key_wins_and_the_other_does_no_harm(tmp_path):
    store = Store(tmp_path)
    committed(store)
    committed(store, b"weights, made again")
    assert (store.weights(KEY) / "model").read_bytes() == b"weights"


def test_what_several_processes_want_is_made_once(tmp_path):
    code = f"""
from pathlib import Path
from sweep.store.artifacts import Store
with Store(Path({str(tmp_path)!r})).made_once("data", "thing") as path:
    if not path.exists():
        with Path({str(tmp_path / "made")!r}).open("a") as stream:
            stream.write("made\\n")
        path.write_text("thing")
"""
    workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert (tmp_path / "made").read_text() == "made\n"


def waiting(listener: Callable[[Event], None]) -> Meter:
    return Meter(devices=2, began=(time.time(), 0.0), clocked=True, listener=listener)


@pytest.mark.parametrize("name", ["phase key", "data/thing"])
def test_whoever_waits_for_another_says_so_and_may_stop_waiting(name, tmp_path):
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if len(events) == 3:
            raise Cancelled

    def held(meter: Meter) -> AbstractContextManager[Path]:
        store = Store(tmp_path)
        return store.training("key", meter) if name == "phase key" else store.made_once("data", "thing", meter)

    with held(waiting(ignore_events)) as path, pytest.raises(Cancelled), held(waiting(listen)):
        raise AssertionError("two hold one lock")
    (reason,) = {event.waiting_for for event in events}
    assert re.fullmatch(rf"waits for {name}, held by process {os.getpid()} on \S+ since \d\d:\d\d:\d\d", reason)
    with held(waiting(ignore_events)) as again:
        assert again == path


def test_a_chain_that_is_stopped_lets_go_of_its_lock(tmp_path):
    with pytest.raises(SystemExit), Store(tmp_path).training("key") as scratch:
        raise SystemExit
    with Store(tmp_path).training("key") as again:
        assert again == scratch
    assert [path.name for path in scratch.iterdir()] == [".lock"]


def test_a_chain_that_waits_for_the_lock_of_another_says_so_once_and_is_not_charged(tmp_path):
    events: list[Event] = []
    with ExitStack() as others:
        others.enter_context(Store(tmp_path).training("key"))

        def listen(event: Event) -> None:
            events.append(event)
            if len(events) == 4:
                others.close()

        meter = waiting(listen)
        with Store(tmp_path).training("key", meter):
            meter.beat()
    assert [bool(event.message) for event in events] == [True, False, False, False, False, False]
    assert [event.waiting_for for event in events] == [events[0].message] * 4 + [""] * 2
    assert events[-1].waited > 4 * TURN_SECONDS
    assert events[-1].device_seconds < TURN_SECONDS
    assert meter.activities["wait"]["seconds"] >= events[-1].waited
    assert sum(part["device_seconds"] for part in meter.activities.values()) < 2 * TURN_SECONDS


def test_what_is_made_leaves_no_lock_behind(tmp_path):
    with Store(tmp_path).made_once("data", "thing") as path:
        path.write_text("made")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thing"]


def row(key: str, role: str = "candidate", candidate: int = 0, seed: int = 1) -> ChainRow:
    return ChainRow(
        key=key, cell=CELL, seed=seed, candidate=candidate, role=role, selected=False,
        hyperparameters={"target": 1e-3}, phases=("p",), score="s", state=RUNNING, dev=None, flops=0.0,
        device_seconds=0.0, started=1.0, ended=None,
    )  # fmt: skip


def test_all_attempts_are_charged_and_the_file_says_the_same_when_opened_again(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open_chain(row("chain"))
    for spent in (3.0, 4.0):
        attempt = ledger.reserve("chain", 10.0, started=1.0)
        ledger.charge("chain", attempt, flops=spent, device_seconds=spent / 2)
        assert ledger.held("flops") == 10.0 - spent
        ledger.settle("chain", attempt, ended=2.0)
    ledger.close_chain("chain", DONE, 0.7, ended=2.0)
    again = Ledger(tmp_path / "ledger.sqlite")
    assert (again.spent(), again.held("flops")) == ((7.0, 3.5), 0.0)
    assert [(c.state, c.dev, c.flops, c.hyperparameters, c.phases) for c in again.chains()] == [
        (DONE, 0.7, 7.0, {"target": 1e-3}, ("p",))
    ]


def test_what_an_earlier_run_left_open_is_settled_at_the_next_start(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.open_chain(row("chain"))
    ledger.charge("chain", ledger.reserve("chain", 10.0, started=1.0), flops=3.0, device_seconds=1.0)
    ledger.settle_all(ended=9.0)
    assert ledger.held("flops") == 0.0
    assert [chain.state for chain in ledger.chains()] == [STOPPED]
    assert ledger.spent()[0] == 3.0


def test_the_winner_and_its_other_seeds_are_selected(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for one in (row("a"), row("b", candidate=1), row("c", "replica", candidate=1, seed=2)):
        ledger.open_chain(one)
    ledger.select(CELL.name, 1)
    assert {chain.key for chain in ledger.chains() if chain.selected} == {"b", "c"}


def test_the_ledger_says_which_chains_have_changed_since(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    changed = []
    for change in (
        lambda: [ledger.open_chain(row("a")), ledger.open_chain(row("b", candidate=1))],
        lambda: ledger.charge("b", ledger.reserve("b", 10.0, started=1.0), flops=3.0, device_seconds=1.0),
        lambda: ledger.settle("b", 0, ended=2.0),
        lambda: ledger.close_chain("a", DONE, 0.7, ended=2.0),
        lambda: ledger.select(CELL.name, 1),
        lambda: ledger.select(CELL.name, 1),
        lambda: ledger.settle_all(ended=9.0),
    ):
        before = ledger.change()
        change()
        changed.append([chain.key for chain in ledger.chains(after=before)])
    # What a running attempt spends is no change of its chain before it is settled; a second same choice is none.
    assert changed == [["a", "b"], [], ["b"], ["a"], ["b"], [], ["b"]]


def test_what_is_spent_is_the_same_however_often_it_is_asked(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(3):
        attempt = ledger.reserve("chain", 10.0, started=1.0)
        ledger.charge("chain", attempt, flops=2.0, device_seconds=1.0)
        ledger.charge("chain", attempt, flops=4.0, device_seconds=1.0)
        assert ledger.spent() == (4.0 * (number + 1), number + 1)
        for _ in range(2):
            ledger.settle("chain", attempt, ended=2.0)
            assert ledger.spent() == Ledger(tmp_path / "ledger.sqlite").spent() == (4.0 * (number + 1), number + 1)


def toy_encoded(examples: int):
    return from_sequences(
        EncodedSequence(tokens=[number, side, 7], example=number, targets=[number] * (2 - side), segments=[0, 0, side])
        for number in range(examples)
        for side in (0, 1)
    )


def test_a_subset_holds_the_chosen_examples_in_every_column():
    chosen = np.array([1, 4])
    part = subset(toy_encoded(6), chosen)
    assert part.tokens.tolist() == [1, 0, 7, 1, 1, 7, 4, 0, 7, 4, 1, 7]
    assert part.example.tolist() == [0, 0, 1, 1]
    assert part.targets.tolist() == [1, 1, 1, 4, 4, 4]
    assert part.segments.tolist() == [0, 0, 0, 0, 0, 1] * 2


def test_a_smaller_volume_of_a_seed_is_part_of_a_larger_one_and_seeds_differ():
    whole = {"en": toy_encoded(100)}
    firsts = [set(training_data(whole, size, seed=1).tokens[::6].tolist()) for size in (10, 30)]
    assert firsts[0] < firsts[1]
    assert firsts[0] != set(training_data(whole, 10, seed=2).tokens[::6].tolist())


def test_a_sample_of_a_split_is_the_same_for_everybody_and_keeps_rows_and_encoding_together():
    task = TASKS["world/topic"]
    rows = task.source.rows("test", task.languages[0])
    encoded = from_sequences(EncodedSequence([number], number, [row["label"]]) for number, row in enumerate(rows))
    whole = Split(rows, task.source.places("test", task.languages[0]))
    one, other = (sample(encoded, whole, task, task.languages[0], 20) for _ in range(2))
    assert one.rows == other.rows
    assert one.encoded.targets.tolist() == [row["label"] for row in one.rows]
    assert [rows[int(place.partition(":")[2])] for place in one.places] == one.rows
    assert task.family.name == "sequence"


def test_scores_of_a_time_before_units_have_none(tmp_path):
    store = Store(tmp_path)
    scored = ScoreRecord(KEY, None, "t", "sequence", "accuracy", None, {}, {}, 0.0, 0.0, 0.0, 0.0, {})
    store.commit_score(scored, {"en": np.ones((3, 2))})
    assert store.units(KEY) == {}
    assert len(store.statistics(KEY)["en"]) == 3


def test_units_are_as_many_as_examples(tmp_path):
    scored = ScoreRecord(KEY, None, "t", "sequence", "accuracy", None, {}, {}, 0.0, 0.0, 0.0, 0.0, {})
    with pytest.raises(ValueError, match="every example has a unit"):
        Store(tmp_path).commit_score(scored, {"en": np.ones((3, 2))}, units={"en": np.arange(2)})
