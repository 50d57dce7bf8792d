"""What a person sees while a study runs: one line per running chain and one for the study. Text, then where it goes.

On a terminal the lines are redrawn in place; elsewhere (a log file, CI) the study's line is written every half minute
and one line whenever a chain ends.
"""

from __future__ import annotations

import time
from typing import TextIO

from sweep.admission import Admission
from sweep.forecast import device_seconds_left
from sweep.purse import Running

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 30.0
FORECAST_SHARE = 0.002  # of the driver's time: with thousands of chains left a forecast takes half a second


def study_line(admission: Admission, devices: float, device_seconds_left: float) -> str:
    """Chains done and running, budget spent, time left with so many devices at work."""
    budget, endings = admission.plan.study.budget, admission.endings
    spent = admission.purse.spent
    if budget is None:
        money = f"{spent:,.0f} device-seconds spent"
    elif budget.unit == "flops":
        money = f"{spent:.3g} of {budget.amount:.3g} FLOPs spent"
    else:
        money = f"{spent:,.0f} of {budget.amount:,.0f} device-seconds spent"
    left = device_seconds_left / devices
    failed = f", {len(endings.failed)} failed" if endings.failed else ""
    collapsed = f", {len(endings.collapsed)} collapsed" if endings.collapsed else ""
    lost = f", {len(endings.lost)} beaten" if endings.lost else ""
    ended = f"{len(endings.done)} of {admission.total} chains done{failed}{collapsed}{lost}"
    done = f"{ended}, {len(admission.running)} running"
    return f"{admission.plan.study.study}: {done}; {money}; about {duration(left)} left"


def chain_line(running: Running, now: float) -> str:
    """What one worker is doing."""
    chain, latest = running.chain, running.latest
    where = f"{chain.cell.name} | seed {chain.seed}"
    if latest.get("waits"):
        return f"  {where}: {latest['waits']}, {duration(latest['waited'])}"
    if not latest.get("phase"):
        return f"  {where}: starting"
    loss = f", loss {latest['loss']:.3f}" if latest.get("loss") is not None else ""
    dev = f", dev {latest['dev']:.3f}" if latest.get("dev") is not None else ""
    step = f" {latest['step']}/{latest['steps']}" if latest.get("steps") else ""
    step = " loading" if latest.get("preparing") else step
    again = f" (collapsed, attempt {latest['attempt'] + 1})" if latest.get("attempt") else ""
    return f"  {where}: {latest['phase']}{again}{step}{loss}{dev}, {duration(now - running.started)}"


def duration(seconds: float) -> str:
    """95 -> '1 min 35 s'."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Display:
    """Writes progress to a stream, as often as its reader can use it."""

    def __init__(self, admission: Admission, devices: float, stream: TextIO) -> None:
        self._admission, self._devices, self._stream = admission, devices, stream
        self._terminal = stream.isatty()
        self._drawn = 0  # lines on the terminal that are redrawn
        self._next = 0.0
        self._ended = admission.endings.count
        self._left = 0.0  # device-seconds, as last forecast
        self._next_forecast = 0.0

    def update(self) -> None:
        """Called at every report and suggestion; writes only when it is time."""
        now = time.time()
        if not self._terminal:
            self._log_ended()
        if now < self._next:
            return
        self._next = now + (TERMINAL_SECONDS if self._terminal else LOG_SECONDS)
        if self._terminal:
            self._redraw(now)
        else:
            self._write(self._study_line())

    def say(self, line: str) -> None:
        """One line that stays."""
        self.clear()
        self._write(line)

    def clear(self) -> None:
        """Takes the redrawn lines off the terminal."""
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _redraw(self, now: float) -> None:
        lines = [chain_line(running, now) for running in self._admission.running.values()]
        lines.append(self._study_line())
        self.clear()
        self._write("\n".join(line[:160] for line in lines))
        self._drawn = len(lines)

    def _study_line(self) -> str:
        if time.time() >= self._next_forecast:
            began = time.time()
            self._left = device_seconds_left(self._admission)
            self._next_forecast = time.time() + (time.time() - began) / FORECAST_SHARE
        return study_line(self._admission, self._devices, self._left)

    def _log_ended(self) -> None:
        ended = self._admission.endings.count
        if ended > self._ended:
            self._ended = ended
            self._write(self._study_line())
            self._next = time.time() + LOG_SECONDS

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
