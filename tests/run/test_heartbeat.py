"""Facts about workers at work that takes long: what they say, for how long, and how they are stopped there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_studies import plan_of, study_file

from sweep.run.tune import Reports, report_of
from sweep.train.context import Meter

TURN = 0.05  # seconds


class Driver:
    """What Tune does with reports, but for the process: hears them, and stops whoever reports what it does not want."""

    def __init__(self) -> None:
        self.heard: list[dict] = []
        self.unwanted: Callable[[dict], bool] = lambda _: False

    def report(self, result: dict) -> None:
        self.heard.append(report_of(result))
        if self.unwanted(self.heard[-1]):
            raise SystemExit


@pytest.fixture
def driver(monkeypatch) -> Iterator[Driver]:
    found = Driver()
    monkeypatch.setattr("sweep.run.tune.tune.report", found.report)
    monkeypatch.setattr("sweep.run.tune.REPORT_SECONDS", TURN)
    return found


def attempt(folder: Path, silence: str = "60 s") -> tuple[Reports, Meter]:
    began = time.time(), time.process_time()
    reports = Reports(plan_of(study_file(folder, runtime={"silence": silence})), began)
    return reports, Meter(1.0, began, clocked=False, listener=reports.take)


def test_a_worker_is_vouched_for_as_long_as_it_is_at_what_may_take_long(driver, tmp_path):
    reports, meter = attempt(tmp_path)
    with reports.repeated():
        meter.beat("loading the encoder")
        time.sleep(10 * TURN)
        meter.beat()
        before = len(driver.heard)
        time.sleep(10 * TURN)
    assert {report["doing"] for report in driver.heard[: before - 1]} == {"loading the encoder"}
    assert before > 4
    assert len(driver.heard) == before
    seconds = [report["seconds"] for report in driver.heard]
    assert seconds == sorted(seconds)
    assert seconds[before - 2] > 5 * TURN


def test_what_is_repeated_says_what_was_spent_meanwhile_and_nothing_else_again(driver, tmp_path):
    reports, meter = attempt(tmp_path)
    with reports.repeated():
        meter.report(0, 0, preparing=True, message="a line", doing="loading the encoder")
        until = time.process_time() + 5 * TURN
        while time.process_time() < until:
            pass
        time.sleep(3 * TURN)
    assert [report["message"] for report in driver.heard if report["message"]] == ["a line"]
    assert driver.heard[-1]["device_seconds"] > driver.heard[0]["device_seconds"] + 4 * TURN
    assert driver.heard[-1]["flops"] == driver.heard[0]["flops"]


def test_a_worker_that_hangs_in_what_may_take_long_falls_silent(driver, tmp_path):
    reports, meter = attempt(tmp_path, silence=f"{5 * TURN} s")
    with reports.repeated():
        meter.beat("loading the encoder")
        time.sleep(15 * TURN)
    assert driver.heard[-1]["seconds"] < 7 * TURN


def test_a_stop_that_comes_while_the_thread_speaks_ends_the_work_at_its_next_event(driver, tmp_path):
    reports, meter = attempt(tmp_path)
    driver.unwanted = lambda report: report["seconds"] > 2 * TURN
    with reports.repeated():
        meter.beat("loading the encoder")
        time.sleep(6 * TURN)
        told = len(driver.heard)
        with pytest.raises(SystemExit):
            meter.beat()
    with pytest.raises(SystemExit):
        reports.end(finished=True)
    assert len(driver.heard) == told


def test_a_stop_at_an_event_silences_the_thread(driver, tmp_path):
    reports, meter = attempt(tmp_path)
    driver.unwanted = lambda _: True
    with reports.repeated():
        with pytest.raises(SystemExit):
            meter.beat("loading the encoder")
        time.sleep(5 * TURN)
    assert len(driver.heard) == 1
