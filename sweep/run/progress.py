"""Progress of a running study: a live view for people, with time left, or events for a listener in Python.

On a terminal the lines of the view are redrawn in place; elsewhere (a log file, CI) they are written every half minute,
and the study's line whenever a chain ends. `sweep status` shows the same from outside, at any time: it reads a copy of
the ledger, in which the driver notes what it does, and so disturbs nobody.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from sweep.config.study import Budget
from sweep.plan.cost import Work
from sweep.plan.recipe import Chain
from sweep.search.admission import Admission
from sweep.search.budget import Running
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import (
    COLLAPSED,
    DONE,
    DRIVER,
    ELIMINATED,
    FAILED,
    RUNNING,
    SUPERSEDED,
    ChainRow,
    opened_to_read,
    study_in,
)
from sweep.terminal import table

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 30.0
LOGGED_CHAINS = 8
FORECAST_SHARE = 0.002  # of the driver's time: with thousands of chains left a forecast takes half a second
WINDOW_SECONDS = 120.0  # of which the pace is measured
SHORTEST_WINDOW = 5.0
NOTE_SECONDS = 1.0  # so often the pace is noted, whatever is written
STARVED = 0.5  # of a core: below this a computing chain without a GPU waits for the processor most of the time


def device_seconds_left(admission: Admission) -> float:
    """Forecast of the device-seconds that are left, by what the study has measured so far."""
    speed, works = admission.spending.speed_so_far(admission.running.values()), works_left(admission)
    return speed.encoding(works, admission.spending.read) + sum(map(speed.device_seconds, works))


def works_left(admission: Admission) -> list[Work]:
    """Work that is left: shared phases once, without replicas of cells that are not tuned.

    Of candidates that have not started, as many go on from each stage as halving keeps. Of a running phase, the steps
    that it has not made are left.
    """
    left: dict[str, Work] = {}
    costs, stored = admission.costs, admission.stored
    for chain, entry in admission.left():
        parts = costs.planned(chain) if entry.stage == 0 else costs.parts(chain)
        keys = [phase.key for phase in stored.to_train(chain)]
        keys += [chain.score] if chain.score in parts and not stored.is_over(chain) else []
        left.update(costs.works(chain, {key: parts[key] for key in keys}))
    for running in admission.running.values():
        latest = running.latest
        if latest.get("steps") and (key := latest["key"]) in left:
            left[key] = replace(left[key], flops=left[key].flops * (1 - latest["step"] / latest["steps"]))
    return list(left.values())


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
    return name, *_doing(latest, taken, rate)


def _doing(latest: Mapping[str, Any], taken: str, rate: float | None = None) -> tuple[str, str, str]:
    """Work of a chain, by its last report: phase with step and rate, loss and dev score, time."""
    if latest.get("waiting_for"):
        return latest["waiting_for"], "", duration(latest.get("waited", 0.0))
    if not latest.get("phase"):
        return "starting", "", taken
    again = f" (collapsed, attempt {latest['attempt'] + 1})" if latest.get("attempt") else ""
    step = f" {latest.get('step', 0)}/{latest['steps']}" if latest.get("steps") else ""
    pace = f", {rate:.3g} steps/s" if rate else ""
    step = f" {latest.get('doing') or 'loading'}" if latest.get("preparing") else step + pace
    numbers = [f"{what} {latest[what]:.3f}" for what in ("loss", "dev") if latest.get(what) is not None]
    return f"{latest['phase']}{again}{step}", ", ".join(numbers), taken


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
        if now >= self._next_forecast:
            began = time.time()
            self._left = device_seconds_left(self._admission)
            self._next_forecast = time.time() + (time.time() - began) / FORECAST_SHARE
        _, driver = self._admission.ledger.latest().get(DRIVER, (now, {}))
        left = {"device_seconds_left": self._left, "seconds_left": self._left / self._pace.devices}
        self._admission.ledger.note(DRIVER, now, {**driver, **left})

    def _study_line(self, now: float) -> str:
        share = self._pace.share if not self._admission.spending.clocked else None
        return study_line(self._admission, self._left / self._pace.devices, share)

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


# ---- from outside ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChainStatus:
    """A chain that runs, or has failed."""

    cell: str
    seed: int
    candidate: int
    log: str  # path below the results folder; empty where there is none
    doing: str = ""  # phase, step and numbers as last reported, or why it failed
    seconds: float | None = None  # since its attempt began
    silent_seconds: float | None = None  # since its last report


@dataclass(frozen=True)
class Status:
    """Status of a study, by its ledger: what is done, running, failed and left, what was spent, and the time left."""

    study: str
    results: str
    at_work: bool | None  # whether a run is; None: it works on another machine, and nothing is known of its process
    driver: str  # process and host of the last run
    silent_seconds: float | None  # since the run last said something
    total: int  # chains; 0 where no run has got as far as to count them
    done: int
    eliminated: int
    collapsed: int
    left: int  # with those that have failed, which the next run tries again
    running: tuple[ChainStatus, ...]
    failed: tuple[ChainStatus, ...]
    flops: float
    device_seconds: float
    budget: float | None  # in its unit; None: no limit
    budget_unit: str
    seconds_left: float | None  # as the run last forecast it


def read_status(results: Path) -> Status:
    """Status of the study in a results folder, be a run at work there or not. Raises StudyError where there is none."""
    study, now, store = study_in(results), time.time(), Store(results / paths.STORE)
    with opened_to_read(results / paths.LEDGER) as ledger:
        rows, latest, facts, spent = ledger.chains(), ledger.latest(), ledger.facts(), ledger.spent()
    heard, driver = latest.get(DRIVER, (None, {}))
    at_work = _is_alive(driver) if driver else False
    if heard is not None and at_work is not False:
        heard = max(at for at, _ in latest.values())
    counts = Counter(row.state for row in rows)
    current = len(rows) - counts[SUPERSEDED]
    total = int(facts.plan.get("chains", current))
    running = [row for row in rows if row.state == RUNNING] if at_work is not False else []
    over = counts[DONE] + counts[ELIMINATED] + counts[COLLAPSED]
    budget = study.budget
    return Status(
        study=study.study, results=str(results), at_work=at_work,
        driver=f"process {driver['process']} on {driver['host']}" if driver else "",
        silent_seconds=now - heard if heard is not None else None, total=total, done=counts[DONE],
        eliminated=counts[ELIMINATED], collapsed=counts[COLLAPSED], left=max(total - over - len(running), 0),
        running=tuple(_running(row, store, now, *latest.get(row.key, (None, {}))) for row in running),
        failed=tuple(_chain(row, store, row.message) for row in rows if row.state == FAILED),
        flops=spent[0], device_seconds=spent[1], budget=budget.amount if budget is not None else None,
        budget_unit=budget.unit if budget is not None else "device_seconds",
        seconds_left=driver.get("seconds_left") if at_work is not False else None,
    )  # fmt: skip


def _is_alive(driver: Mapping[str, Any]) -> bool | None:
    """Whether the process of a driver is there; None where it is another machine's and has not said that it ended."""
    if "ended" in driver:
        return False
    if driver["host"] != socket.gethostname():
        return None
    try:
        os.kill(int(driver["process"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _chain(row: ChainRow, store: Store, doing: str, **times: float | None) -> ChainStatus:
    log = store.log(row.key)
    named = f"{paths.LOGS}/{log.name}" if log.exists() else ""
    return ChainStatus(row.cell.name, row.seed, row.candidate, named, doing, **times)


def _running(row: ChainRow, store: Store, now: float, heard: float | None, report: Mapping[str, Any]) -> ChainStatus:
    doing, numbers, _ = _doing(report, "")
    since = float(report.get("started", row.started))
    silent = now - heard if heard is not None else None
    return _chain(row, store, ", ".join(filter(None, [doing, numbers])), seconds=now - since, silent_seconds=silent)


def status_text(status: Status) -> str:
    """Text of `sweep status`."""
    return "\n".join(_status_lines(status))


def _status_lines(status: Status) -> Iterator[str]:
    ended = f"{status.done:,} of {status.total:,} chains done"
    ended += f", {status.collapsed:,} collapsed" if status.collapsed else ""
    ended += f", {status.eliminated:,} eliminated by halving" if status.eliminated else ""
    failed = f", {len(status.failed):,} of them failed" if status.failed else ""
    yield f"{status.study}: {ended}, {len(status.running):,} running, {status.left:,} left{failed}"
    yield f"  {_spending(status)}"
    yield f"  {_work(status)}"
    if status.running:
        yield "running:"
        yield table(map(_running_cells, status.running), indent=2)
    for chain in status.failed:
        log = "" if chain.log in chain.doing else f" ({chain.log})"
        yield f"failed: {chain.cell}, seed {chain.seed}: {chain.doing}{log}"


def _spending(status: Status) -> str:
    if status.budget_unit == "flops":
        return f"{status.flops:.3g} of {status.budget:.3g} FLOPs spent"
    limit = f" of {status.budget:,.0f}" if status.budget is not None else ""
    return f"{status.device_seconds:,.0f}{limit} device-seconds spent"


def _work(status: Status) -> str:
    heard = f", last heard of {duration(status.silent_seconds)} ago" if status.silent_seconds is not None else ""
    left = f"; about {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    if status.at_work is False:
        return "no run is at work" + (f" ({status.driver} was the last{heard})" if status.driver else "")
    known = "a run is at work" if status.at_work else "a run on another machine has not said that it ended"
    return f"{known} ({status.driver}{heard}){left}"


def _running_cells(chain: ChainStatus) -> tuple[str, ...]:
    silent = chain.silent_seconds
    heard = "not heard yet" if silent is None else f"heard {duration(silent)} ago"
    return f"{chain.cell} | seed {chain.seed}", chain.doing, f"for {duration(chain.seconds or 0.0)}", heard
