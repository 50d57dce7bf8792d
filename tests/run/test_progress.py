"""Facts about the live view: the line of a study, those of its chains, the pace and the forecast."""

from __future__ import annotations

import io
import logging
import re

import pytest
from instant_workers import Lab, collapsing, study

from sweep.run.progress import STARVED, Display, Pace, chain_cells, device_seconds_left, duration, study_line


def test_the_studys_line_counts_collapsed_chains_apart_from_failed_ones(tmp_path):
    lab = collapsing(Lab(study(tmp_path), tmp_path), "intermediate", ("world/nli",)).run()
    line = study_line(lab.admission, seconds_left=0.0)
    assert f"{len(lab.admission.outcomes.collapsed)} collapsed, 0 running" in line
    assert "failed" not in line


def test_the_studys_line_says_how_far_it_is(tmp_path):
    lab = Lab(study(tmp_path, budget="1000 device-seconds"), tmp_path).run(chains=2)
    line = study_line(lab.admission, seconds_left=30.0)
    assert line.startswith(f"small: 2 of {lab.admission.total} chains done, 0 running; ")
    assert "of 1,000 device-seconds spent; about 30 s left" in line


def test_a_chains_line_says_what_it_is_doing(tmp_path):
    lab = Lab(study(tmp_path), tmp_path, clock=lambda: 0.0)
    lab.fill()
    (chain,) = lab.busy
    running = lab.admission.running[chain.key]
    said = [chain_cells(running, 5.0)]
    for report in ({}, {"phase": "target", "preparing": True}, {"phase": "target", "step": 3, "steps": 9, "loss": 0.5}):
        lab.hear(chain, 0.0, **report)
        said.append(chain_cells(running, 5.0, rate=2.5))
    assert {name for name, *_ in said} == {f"{chain.cell.name} | seed 1"}
    assert [cells[1:] for cells in said] == [
        ("starting", "", "5 s"),
        ("starting", "", "5 s"),
        ("target loading", "", "5 s"),
        ("target 3/9, 2.5 steps/s", "loss 0.500", "5 s"),
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_line_of_the_live_view_is_wider_than_the_terminal(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lab = Lab(study(tmp_path), tmp_path, workers=2)
    lab.fill()
    lab.hear(lab.busy[0], 1e9, phase="target", key="key", step=3, steps=9, loss=0.5)
    stream = Terminal()
    shown = Display(lab.admission, 2.0, stream)
    shown.update()
    shown.say("a line that stays")
    shown.clear()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", stream.getvalue())]
    assert any("target 3/9" in line for line in lines)
    assert "a line that stays" in lines
    assert max(map(len, lines)) <= width


def test_elsewhere_the_studys_line_is_followed_by_what_its_chains_do(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    lab.hear(lab.busy[0], 1e9, phase="target", key="key", step=3, steps=9, loss=0.5)
    stream = io.StringIO()
    Display(lab.admission, 2.0, stream).update()
    first, second, end = stream.getvalue().split("\n")
    assert first.startswith("small: 0 of ")
    assert second.startswith(f"  {lab.busy[0].cell.name} | seed 1, target 3/9, loss 0.500, ")
    assert end == ""


def test_where_only_warnings_are_logged_lines_that_stay_are_all_that_is_written(tmp_path, caplog):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    stream = io.StringIO()
    with caplog.at_level(logging.WARNING, "sweep"):
        shown = Display(lab.admission, 2.0, stream)
    shown.update()
    shown.say("a chain failed")
    assert stream.getvalue() == "a chain failed\n"


def test_the_log_of_decisions_says_of_each_chain_what_it_takes_from_the_store_and_what_it_trains(tmp_path, caplog):
    with caplog.at_level(logging.DEBUG, "sweep"):
        lab = Lab(study(tmp_path), tmp_path).run()
    starts = [record.getMessage() for record in caplog.records if " starts: reserves " in record.getMessage()]
    assert len(starts) == lab.admission.outcomes.count
    shared = [line.partition("from the store: ")[2].split("; ")[0] != "nothing" for line in starts]
    assert shared.count(False) == len(
        {chain.seed for chain in lab.admission.outcomes.done}
    )  # its first chain pretrains the encoder


def test_the_forecast_learns_from_chains_that_run_and_leaves_out_the_steps_that_they_have_made(tmp_path):
    lab = Lab(study(tmp_path), tmp_path)
    lab.fill()
    (chain,) = lab.busy
    first, work = chain.phases[0], lab.admission.costs.parts(chain)[chain.phases[0].key]
    begun = device_seconds_left(lab.admission)
    lab.hear(chain, 1e9, device_seconds=100.0, phase=first.kind, key=first.key, step=0, steps=10)
    slow = device_seconds_left(lab.admission)
    lab.hear(chain, 2e9, device_seconds=200.0, phase=first.kind, key=first.key, step=5, steps=10)
    assert slow > 10 * begun  # 100 s for 1e9 FLOPs
    assert slow - device_seconds_left(lab.admission) == pytest.approx(work / 2 * 100 / 1e9)


def test_time_left_is_what_is_left_at_the_pace_of_the_last_two_minutes():
    pace = Pace(devices=2.0)
    pace.note(0.0, 0.0, 2)
    assert pace.devices == 2.0  # nothing is measured yet
    pace.note(10.0, 20.0, 2)
    assert (pace.devices, pace.share) == (2.0, 1.0)
    for second in range(20, 200, 10):  # others come
        pace.note(float(second), 20.0 + 0.4 * (second - 10), 2)
    assert (pace.devices, pace.share) == (pytest.approx(0.4), pytest.approx(0.2))


def test_the_pace_is_noted_every_second_whatever_is_written(tmp_path, monkeypatch):
    """Lines are written where chains end, when others than those that have computed are at work."""
    lab, now = Lab(study(tmp_path), tmp_path), [1000.0]
    monkeypatch.setattr("sweep.run.progress.time.time", lambda: now[0])
    lab.fill()
    (chain,) = lab.busy
    stream = io.StringIO()
    shown = Display(lab.admission, 1.0, stream)
    for second in range(20):
        now[0] += 1.0
        lab.hear(chain, 1e9, device_seconds=0.2 * second, phase="pretrain", key="key", step=second, steps=50)
        shown.update()
    shown.update()
    lab.admission.ended(chain.key, "enough")
    lab.admission.outcomes.collapsed.append((chain, ""))
    now[0] += 1.0
    shown.update()
    assert "a chain gets 20% of a core" in stream.getvalue().splitlines()[-1]


def test_a_machine_that_others_keep_busy_is_named(tmp_path):
    admission = Lab(study(tmp_path), tmp_path).admission
    assert study_line(admission, 0.0, 0.2).endswith("; machine overloaded: a chain gets 20% of a core")
    assert "busy" not in study_line(admission, 0.0, STARVED)


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (95, "1 min 35 s"), (7260, "2 h 01 min"), (-1, "0 s")])
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text
