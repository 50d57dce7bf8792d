"""Progress of a running study: a live view for people, with time left, or events for a listener in Python.

On a terminal the lines of the view are redrawn in place; elsewhere (a log file, CI) they are written every half minute,
and the study's line whenever a chain ends.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from sweep.config.study import Budget
from sweep.plan.recipe import Chain
from sweep.search.admission import Admission
from sweep.search.budget import Running
from sweep.store.ledger import RUNNING

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 30.0
LOGGED_CHAINS = 8
FORECAST_SHARE = 0.002  # of the driver's time: with thousands of chains left a forecast takes half a second
WINDOW_SECONDS = 120.0  # of which the pace is measured
SHORTEST_WINDOW = 5.0
NOTE_SECONDS = 1.0  # so often the pace is noted, whatever is written
STARVED = 0.5  # of a core: below this a computing chain without a GPU waits for the processor most of the time


def device_seconds_left(admission: Admission) -> float:
    """Forecast of the device-seconds that are left: shared phases once, without replicas of cells that are not tuned.

    Of candidates that have not started, as many go on from each stage as halving keeps. Of a running phase, the steps
    that it has not made are left.
    """
    left: dict[str, tuple[str, float]] = {}
    costs, stored = admission.costs, admission.stored
    for chain, entry in admission.left():
        parts = costs.planned(chain) if entry.stage == 0 else costs.parts(chain)
        keys = [phase.key for phase in stored.to_train(chain)]
        keys += [chain.score] if chain.score in parts and not stored.is_over(chain) else []
        left.update({key: (chain.cell.encoder, parts[key]) for key in keys})
    for running in admission.running.values():
        latest = running.latest
        if latest.get("steps") and (key := latest["key"]) in left:
            encoder, flops = left[key]
            left[key] = encoder, flops * (1 - latest["step"] / latest["steps"])
    speed = admission.spending.speed_so_far(admission.running.values())
    return sum(speed.device_seconds(encoder, flops) for encoder, flops in left.values())


def least_budget(admission: Admission) -> Budget | None:
    """Smallest budget with which one more chain could start; None where none was refused for want of budget."""
    budget = admission.plan.study.budget
    if budget is None or not admission.outcomes.unpaid:
        return None
    least = admission.spending.spent + min(admission.price(chain) for chain in admission.outcomes.unpaid)
    return budget.model_copy(update={"amount": least})


def study_line(admission: Admission, seconds_left: float, core_share: float | None = None) -> str:
    """Line of the study: chains done and running, budget spent, time left; a chain's share of a core where small."""
    budget, outcomes = admission.plan.study.budget, admission.outcomes
    spent = admission.spending.spent
    if budget is None:
        cost = f"{spent:,.0f} device-seconds spent"
    elif budget.unit == "flops":
        cost = f"{spent:.3g} of {budget.amount:.3g} FLOPs spent"
    else:
        cost = f"{spent:,.0f} of {budget.amount:,.0f} device-seconds spent"
    failed = f", {len(outcomes.failed)} failed" if outcomes.failed else ""
    collapsed = f", {len(outcomes.collapsed)} collapsed" if outcomes.collapsed else ""
    eliminated = f", {len(outcomes.eliminated)} eliminated by halving" if outcomes.eliminated else ""
    ended = f"{len(outcomes.done)} of {admission.total} chains done{failed}{collapsed}{eliminated}"
    starved = core_share is not None and core_share < STARVED
    busy = f"; machine overloaded: a chain gets {core_share:.0%} of a core" if starved else ""
    done = f"{ended}, {len(admission.running)} running"
    return f"{admission.plan.study.study}: {done}; {cost}; about {duration(seconds_left)} left{busy}"


def chain_cells(running: Running, now: float, rate: float | None = None) -> tuple[str, str, str, str]:
    """One running chain in cells: name, phase with step and rate (steps per second), loss and dev score, time."""
    chain, latest = running.chain, running.latest
    name, taken = f"{chain.cell.name} | seed {chain.seed}", duration(now - running.started)
    if latest.get("waiting_for"):
        return name, latest["waiting_for"], "", duration(latest["waited"])
    if not latest.get("phase"):
        return name, "starting", "", taken
    again = f" (collapsed, attempt {latest['attempt'] + 1})" if latest.get("attempt") else ""
    step = f" {latest['step']}/{latest['steps']}" if latest.get("steps") else ""
    pace = f", {rate:.3g} steps/s" if rate else ""
    step = f" {latest.get('doing') or 'loading'}" if latest.get("preparing") else step + pace
    numbers = [f"{what} {latest[what]:.3f}" for what in ("loss", "dev") if latest.get(what) is not None]
    return name, f"{latest['phase']}{again}{step}", ", ".join(numbers), taken


def duration(seconds: float) -> str:
    """Duration in words: 95 -> '1 min 35 s'."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Pace:
    """Device-seconds that a run spends in a second, and what a chain gets of a core, over the last two minutes."""

    def __init__(self, devices: float) -> None:
        self._devices = devices
        self._points = deque[tuple[float, float, float]]()  # time, device-seconds spent, seconds of computing chains

    def note(self, now: float, spent: float, computing: int) -> None:
        """Notes the device-seconds spent by `now`, and the number of chains that have computed since the last note."""
        before = self._points[-1] if self._points else (now, spent, 0.0)
        self._points.append((now, spent, before[2] + computing * (now - before[0])))
        while len(self._points) > 2 and now - self._points[1][0] > WINDOW_SECONDS:
            self._points.popleft()

    @property
    def devices(self) -> float:
        """Number of devices at work: as measured, before that those of the cluster."""
        seconds, spent, _ = self._window()
        return spent / seconds if seconds > SHORTEST_WINDOW and spent > 0 else self._devices

    @property
    def share(self) -> float | None:
        """Device-seconds that a computing chain gets in a second; None where none has computed for long enough."""
        _, spent, computing = self._window()
        return spent / computing if computing > SHORTEST_WINDOW else None

    def _window(self) -> tuple[float, float, float]:
        if not self._points:
            return 0.0, 0.0, 0.0
        (began, before, computed), (now, spent, computing) = self._points[0], self._points[-1]
        return now - began, spent - before, computing - computed


class Display:
    """Writes progress to a stream, as often as its reader can use it; none where only warnings are logged."""

    def __init__(self, admission: Admission, devices: float, stream: TextIO) -> None:
        self._admission = admission
        self._terminal = stream.isatty()
        self._wanted = logging.getLogger("sweep").level <= logging.INFO  # not set in a program that calls `run`
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=not self._terminal)
        self._live: Live | None = None  # lines on the terminal that are redrawn
        self._pace = Pace(devices)
        self._begun: dict[str, tuple[object, int, float]] = {}  # chain -> its phase and attempt, first step, when
        self._next = self._next_note = 0.0
        self._ended = admission.outcomes.count
        self._left = 0.0  # device-seconds, as last forecast
        self._next_forecast = 0.0

    def update(self) -> None:
        """Called at every report and suggestion; writes only when it is time."""
        now = time.time()
        if now >= self._next_note:
            self._note(now)
        if self._wanted and not self._terminal:
            self._log_ended(now)
        if now < self._next or not self._wanted:
            return
        self._next = now + (TERMINAL_SECONDS if self._terminal else LOG_SECONDS)
        if not self._terminal:
            chains = list(self._admission.running.values())[:LOGGED_CHAINS]
            lines = ["  " + ", ".join(filter(None, self._cells(running, now))) for running in chains]
            self._console.print("\n".join([self._study_line(now), *lines]))
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._view(now), refresh=True)

    def say(self, line: str) -> None:
        """Prints one line that stays, above those that are redrawn."""
        self._console.print(line)

    def clear(self) -> None:
        """Takes the redrawn lines off the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self, now: float) -> Group:
        """Lines of the live view, the study's first: where there are more chains than lines, the last ones are cut."""
        rows = [self._cells(running, now) for running in self._admission.running.values()]
        name, *rest = [max(map(len, column)) for column in zip(*rows, strict=True)] or [0]
        table = Table.grid(padding=(0, 2, 0, 0))
        # Names give way: of a narrow line the end says more.
        table.add_column(no_wrap=True, width=max(8, min(name, self._console.width - sum(rest) - 2 * len(rest) - 2)))
        for width in rest:
            table.add_column(no_wrap=True, width=width)
        for row in rows:
            table.add_row(*row)
        return Group(self._study_line(now), table)

    def _cells(self, running: Running, now: float) -> tuple[str, str, str, str]:
        latest, key = running.latest, running.chain.key
        phase = latest.get("key"), latest.get("attempt")
        if not latest.get("steps") or latest.get("preparing"):
            return chain_cells(running, now)
        if key not in self._begun or self._begun[key][0] != phase:
            self._begun[key] = phase, latest["step"], now
        _, first, since = self._begun[key]
        return chain_cells(running, now, (latest["step"] - first) / (now - since) if now > since else None)

    def _note(self, now: float) -> None:
        chains = [running.latest for running in self._admission.running.values()]
        computing = sum(bool(latest.get("phase")) and not latest.get("preparing") for latest in chains)
        self._pace.note(now, self._admission.ledger.spent()[1], computing)
        self._next_note = now + NOTE_SECONDS

    def _study_line(self, now: float) -> str:
        admission = self._admission
        if now >= self._next_forecast:
            began = time.time()
            self._left = device_seconds_left(admission)
            self._next_forecast = time.time() + (time.time() - began) / FORECAST_SHARE
        share = self._pace.share if not admission.spending.clocked else None
        return study_line(admission, self._left / self._pace.devices, share)

    def _log_ended(self, now: float) -> None:
        ended = self._admission.outcomes.count
        if ended > self._ended:
            self._ended = ended
            self._console.print(self._study_line(now))
            self._next = now + LOG_SECONDS


@dataclass(frozen=True)
class Progress:
    """Progress of a chain, or a line about the study: a plain value, made when something has changed."""

    chain: str  # name: cell and seed; "" where the event is a line about the study
    candidate: int  # number among the candidates of the cell
    state: str  # running | done | failed | collapsed | stopped | loser (eliminated by halving); "" of the study
    phase: str = ""  # kind of the phase that is worked on, or "score"; "" before the first
    step: int = 0  # of the phase; while it is scored, tokens
    steps: int = 0  # that the phase has; 0 while it loads
    loss: float | None = None  # mean training loss since the last event, where it was taken
    dev: float | None = None  # dev score, 0..1, where the step was evaluated
    message: str = ""  # a line for the user, or why the chain ended as it did
    flops: float = 0.0  # that this attempt at the chain has spent
    device_seconds: float = 0.0
    seconds: float = 0.0  # by the clock, of this attempt
    done: int = 0  # chains that are done now, by this run or an earlier one
    chains: int = 0  # that this call asks for


SPENT = ("flops", "device_seconds", "seconds")
Listener: TypeAlias = Callable[[Progress], None]  # what it raises ends the work


def progress_of(chain: Chain, report: Mapping[str, Any], done: int, chains: int) -> Progress:
    """Progress of a running chain; `report` has the fields of an event of its work, or nothing yet."""
    names = ("phase", "step", "steps", "loss", "dev", "message", *SPENT)
    known = {name: report[name] for name in names if name in report}
    return Progress(chain.name, chain.candidate, RUNNING, **known, done=done, chains=chains)


class Feed:
    """Tells a listener what has changed in a running study, in the place of the display.

    What the listener raises closes the study: its chains stop at their next report, and `close` raises it again.
    """

    def __init__(self, admission: Admission, listener: Listener) -> None:
        self._admission, self._listener = admission, listener
        self._reports: dict[str, Mapping[str, Any]] = {}  # chain -> its last report, as told
        self._ends = 0  # told
        self._fault: BaseException | None = None

    def update(self) -> None:
        """Called at every report and suggestion."""
        for event in self._news():
            self._tell(event)

    def say(self, line: str) -> None:
        """Tells a line about the study."""
        self._tell(Progress("", 0, "", message=line, **self._counts))

    def clear(self) -> None:
        """Nothing is drawn."""

    def close(self) -> None:
        """Tells the last news. Raises what the listener has raised."""
        self.update()
        if self._fault is not None:
            raise self._fault

    def _tell(self, event: Progress) -> None:
        if self._fault is not None:
            return
        try:
            self._listener(event)
        except BaseException as fault:
            self._fault, self._admission.closing = fault, True

    @property
    def _counts(self) -> dict[str, Any]:
        return {"done": len(self._admission.outcomes.done), "chains": self._admission.total}

    def _news(self) -> Iterator[Progress]:
        for key, running in self._admission.running.items():
            if running.latest and running.latest is not self._reports.get(key):
                self._reports[key] = running.latest
                yield progress_of(running.chain, running.latest, **self._counts)
        ends = self._admission.outcomes.ends
        for chain, state, reason in ends[self._ends :]:
            last = self._reports.pop(chain.key, {})  # empty where the store had all of it
            spent = {name: last[name] for name in SPENT if name in last}
            yield Progress(chain.name, chain.candidate, state, message=reason, **spent, **self._counts)
        self._ends = len(ends)
