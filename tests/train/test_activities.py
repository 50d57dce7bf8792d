"""Facts about where an attempt's time goes: every second is of one activity, and the records of a chain share them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from small_studies import chains_of, events_of, stopped_when, study_file, with_data_of, with_encoder_of

from sweep.heartbeat import ACTIVITIES, DEV, ENCODE, JUDGE, LOAD, SCORE, STORE, TRAIN, WAIT
from sweep.store.artifacts import Store
from sweep.train.context import Meter

MOMENT = 0.02  # seconds


def meter(*, clocked: bool) -> Meter:
    return Meter(2.0, (time.time(), time.process_time()), clocked=clocked, listener=lambda _: time.sleep(MOMENT))


def work() -> None:
    until = time.process_time() + MOMENT
    while time.process_time() < until:
        pass


def total(activities: dict[str, dict[str, float]], unit: str) -> float:
    return sum(part[unit] for part in activities.values())


@pytest.fixture
def chain(small_store, tmp_path):
    """A chain, its plan, and a store without its phases."""
    ((chain, plan),) = chains_of(study_file(tmp_path, runtime={"checkpoint_seconds": 1e-6}))
    return chain, plan, with_data_of(with_encoder_of(small_store, tmp_path / "encoder"), tmp_path / "store")


def records(chain, store: Store):
    return [*(store.phase(phase.key) for phase in chain.phases), store.score(chain.score)]


# The meter


@pytest.mark.parametrize("clocked", [False, True])
def test_activities_add_up_to_the_time_of_the_attempt(clocked):
    """However they are nested, left by an error, or interrupted by waiting and reports."""
    found = meter(clocked=clocked)
    with found.during(TRAIN):
        work()
        with suppress(KeyError), found.during(DEV):
            work()
            raise KeyError
        found.beat()
        time.sleep(MOMENT)
        found.wait("waits for a lock", MOMENT)
        work()
    before = found.device_seconds, found.seconds
    activities = found.activities
    after = found.device_seconds, found.seconds
    for unit, least, most in zip(("device_seconds", "seconds"), before, after, strict=True):
        assert least <= total(activities, unit) + 1e-9
        assert total(activities, unit) <= most + 1e-9
    assert set(activities) == {LOAD, TRAIN, DEV, WAIT}


def test_a_block_in_a_block_is_of_the_inner_activity_alone():
    found = meter(clocked=False)
    with found.during(SCORE):
        work()
        with found.during(JUDGE):
            work()
            work()
        work()
    score, judge = (found.activities[name]["device_seconds"] for name in (SCORE, JUDGE))
    assert score >= 2 * MOMENT
    assert judge >= 2 * MOMENT
    assert score + judge <= found.device_seconds


def test_a_lock_of_another_is_waited_for_by_the_clock_and_costs_no_device():
    found = meter(clocked=True)
    time.sleep(MOMENT)
    found.wait("waits for a lock", MOMENT)
    waited = found.activities[WAIT]
    reports = waited["device_seconds"] / 2
    assert reports >= MOMENT
    assert waited["seconds"] == pytest.approx(MOMENT + reports, abs=MOMENT / 10)


def test_processor_time_of_a_thread_is_of_its_activity_and_takes_no_time_by_the_clock():
    found = meter(clocked=False)

    def store() -> None:
        with found.beside(STORE):
            work()

    with found.during(TRAIN), ThreadPoolExecutor(1) as thread:
        thread.submit(store).result()
    activities = found.activities
    assert activities[STORE]["device_seconds"] >= MOMENT / 2
    assert activities[STORE]["seconds"] == 0
    assert total(activities, "device_seconds") <= found.device_seconds


def test_a_thread_takes_its_time_from_what_was_done_beside_it():
    """Also where it began beside an activity that was over at once."""
    found = meter(clocked=False)

    def store() -> None:
        with found.beside(STORE):
            work()

    with ThreadPoolExecutor(1) as thread:
        with found.during(DEV):
            writing = thread.submit(store)
        with found.during(TRAIN):
            work()
            writing.result()
    assert min(part["device_seconds"] for part in found.activities.values()) >= 0


# The records


def test_the_records_of_a_chain_share_the_time_of_its_attempt(chain):
    """All of it, but for the writing of the last record."""
    *_, before, last = events_of(*chain)
    shared = [record.activities for record in records(chain[0], chain[2])]
    assert not last.device_seconds < sum(total(activities, "device_seconds") for activities in shared)
    assert not last.seconds < sum(total(activities, "seconds") for activities in shared)
    assert before.seconds < sum(total(activities, "seconds") for activities in shared)
    for record in records(chain[0], chain[2]):
        assert record.device_seconds == total(record.activities, "device_seconds") > 0
    trained, scored = set(shared[-2]), set(shared[-1])
    assert trained == {LOAD, TRAIN, DEV, JUDGE, STORE, WAIT}
    assert scored == {LOAD, SCORE, JUDGE, STORE, WAIT}


def test_a_phase_that_was_resumed_has_the_time_until_its_last_checkpoint_too(chain):
    begun = stopped_when(*chain, lambda event: event.phase == "target" and event.step == 4)
    resumed = events_of(*chain)
    first = next(event for event in begun if event.step == 4)
    target = chain[2].phase(chain[0].phases[-1].key)
    spent = total(target.activities, "seconds")
    assert target.activities[TRAIN]["seconds"] > 0
    alone = next(event.seconds for event in resumed if event.step == 8)
    assert spent > alone
    assert spent < first.seconds + resumed[-1].seconds


def test_encoding_is_told_apart_from_loading(small_store, tmp_path):
    ((chain, plan),) = chains_of(study_file(tmp_path, target={"max_length": 40}))
    store = with_encoder_of(small_store, tmp_path / "store")
    events_of(chain, plan, store)
    target = store.phase(chain.phases[-1].key)
    assert target.activities[ENCODE]["device_seconds"] > 0


def test_the_time_of_a_record_of_an_earlier_version_is_unknown(chain):
    events_of(*chain)
    key = chain[0].phases[-1].key
    path = chain[2].root / "phases" / key / "record.json"
    content = json.loads(path.read_text())
    assert set(content.pop("activities")) < set(ACTIVITIES)
    path.write_text(json.dumps({name: value for name, value in content.items() if name != "checksum"}))
    assert chain[2].phase(key).activities == {}
