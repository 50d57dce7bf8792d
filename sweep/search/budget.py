"""Budget and deadline of a study: prices, reservations, and how long a running chain may go on. Knows no Ray.

A chain works within what was reserved for it; beyond that as long as there is money that nobody else holds, a report's
worth at a time; then it stops at its next report. It goes on only where the most that it has spent between two reports
is there once more: so a budget is exceeded by no more than reports differ, and workers of small budgets report more
often. A chain that does not report (a library loads, a machine is starved) is watched by the clock:
where it has used up what nobody else holds, or the deadline is a report's time ago, it is to be ended from outside.
One that says nothing for much longer hangs, and would spend all there is: its worker is ended, and it is begun anew.

Device-seconds of a GPU are those for which a chain has its place, by the driver's clock: from the moment at which it
was given to a worker to the moment at which it was through, starting and stopping included, waiting for a lock of
another left out. Device-seconds of cores are the processor seconds that the worker reports: what a chain costs does not
depend on what else the machine does, and what it uses unheard is known at its next report, so that only the deadline
ends a chain of cores from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.config.study import Study
from sweep.heartbeat import ENCODE
from sweep.plan.cost import Costs, Data, Work
from sweep.plan.facts import NO_FACTS
from sweep.plan.hardware import device_of
from sweep.plan.recipe import Chain
from sweep.plan.speed import NOTHING, Speed, Taken
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger, taken_of

UNITS = ("flops", "device_seconds")
REPORT_SECONDS = 1.0  # a report costs the driver two milliseconds; milestones are reported at once
REPORT_SHARE = 0.001  # of the study's budget: a chain spends no more unheard, so that the driver can stop it in time
START_SECONDS = 300.0  # a worker starts and imports torch before it can say anything; on a busy machine that takes long
# Of a report, what others than the driver see.
SHOWN = ("phase", "step", "steps", "loss", "dev", "attempt", "preparing", "doing", "waiting_for", "waited")
PATIENCE = 0.002  # of the budget: so far beyond it a chain may be late with the report at which it would be stopped


@dataclass
class Running:
    """A chain that a worker has."""

    chain: Chain
    attempt: int
    started: float  # by the driver's clock
    reserved: float  # in the budget's unit
    devices: float  # that it occupies
    placed: bool = False  # a worker has it: its time counts
    latest: dict[str, Any] = field(default_factory=dict)  # its last report
    step: dict[str, float] = field(default_factory=dict)  # the most that it spent between two reports, by unit
    waited: float = 0.0  # seconds in which it waited for a lock of another, as last reported
    silence: float = 0.0  # seconds since its last report while the driver was looking
    heard: bool = False  # whether the worker that has it now has reported
    measured: tuple[float, float] = (0.0, 0.0)  # FLOPs and device-seconds of its start and of parts that are measured
    prepared: tuple[float, float] = (0.0, 0.0)  # the same when it began to compute, as far as is known


class Spending:
    """Spending of a study: prices, reservations and the rest of the budget. The ledger keeps what was spent.

    Amounts are in the budget's unit: FLOPs or device-seconds (device-seconds where there is no budget).
    """

    def __init__(
        self, study: Study, ledger: Ledger, costs: Costs, stored: StoreIndex, clock: Callable[[], float]
    ) -> None:
        self.budget, self.ledger, self.costs, self.stored, self.clock = study.budget, ledger, costs, stored, clock
        self.unit = study.budget.unit if study.budget is not None else "device_seconds"
        self._ends = clock() + study.deadline if study.deadline is not None else None
        self.clocked = study.runtime.gpus > 0  # device-seconds by the clock: GPUs
        self.queued = False  # chains wait for machines of a cluster that grows: they have no place yet when given
        self._patience = study.runtime.silence
        self._looked = clock()  # when workers were last asked for
        self._unheard: dict[str, float] = {}  # chain -> device-seconds by the clock that nothing is held for
        self._device = device_of(study.runtime.gpus, study.runtime.precision)
        # What earlier runs measured counts too: a restart must not fall back on an assumed speed.
        self._taken = taken_of(ledger)
        self._speed: Speed | None = None  # by all of that
        self.read = set[Data]()  # data that parts of chains have read in this run

    @property
    def overdue(self) -> bool:
        """Whether the deadline has come: nothing starts any more, and what runs stops at its next report."""
        return self._ends is not None and self.clock() >= self._ends

    @property
    def spent(self) -> float:
        """Amount spent so far, by this run and earlier ones."""
        flops, device_seconds = self.ledger.spent()
        return flops if self.unit == "flops" else device_seconds

    @property
    def free(self) -> float:
        """Amount that is neither spent nor reserved for a running chain; infinite without a budget."""
        if self.budget is None:
            return float("inf")
        return self.budget.amount - self.spent - self.ledger.held(self.unit) - sum(self._unheard.values())

    @property
    def speed(self) -> Speed:
        """Speed that finished parts of chains have measured."""
        if self._speed is None:
            self._speed = Speed(dict(self._taken), self._device)
        return self._speed

    def speed_so_far(self, chains: Iterable[Running]) -> Speed:
        """Speed that finished parts have measured, and running chains have reported of theirs."""
        taken = dict(self._taken)
        for running in chains:
            if (work := self._work(running)) is not None:
                begun = max(running.measured, running.prepared)
                taken[work.place] = taken.get(work.place, NOTHING) + _since(begun, running)
        return Speed(taken, self._device)

    def price(self, chain: Chain, pause_at: float | None = None, resume_at: float = 0.0) -> float:
        """Amount that an attempt at a chain costs between these shares of its target phase; None: to its scores."""
        flops = self.costs.attempt(chain, self.stored.to_train(chain), pause_at, resume_at)
        works = self.costs.works(chain, flops).values()
        return sum(flops.values()) if self.unit == "flops" else sum(map(self.speed.device_seconds, works))

    def may_go_on(self, running: Running) -> bool:
        """Whether a chain may work until its next report. Holds more for it where its reservation is spent."""
        if self.overdue:
            return False
        if self.budget is None:
            return True
        needed = running.latest[self.unit] + running.step[self.unit]
        if needed <= running.reserved:
            return True
        left = max(running.reserved - running.latest[self.unit], 0.0)
        if running.step[self.unit] - left > self.free:
            return False
        running.reserved = needed
        self.ledger.hold(running.chain.key, running.attempt, running.reserved)
        return True

    def stranded(self, chains: Iterable[Running]) -> list[Running]:
        """Running chains that are to be ended because they do not report. Asked many times a second."""
        now = self.clock()
        if self._ends is not None and now - self._ends > REPORT_SECONDS:
            return list(chains)
        if self.budget is None or self.unit == "flops" or not self.clocked:
            return []  # FLOPs and processor seconds are known at reports alone
        late, self._unheard = list[Running](), {}
        for running in chains:
            known = max(running.reserved, running.latest.get(self.unit, 0.0))
            unheard = self._used(running, now) - known
            if running.placed and unheard > 0:
                late.append(running)
                self._unheard[running.chain.key] = unheard
        return late if late and self.free < -PATIENCE * self.budget.amount else []

    def silent(self, chains: Iterable[Running]) -> list[Running]:
        """Running chains whose workers hang: they have said nothing for too long. Each is named once.

        Asked many times a second. A machine that sleeps, or a driver that is busy, says nothing about its workers.
        """
        now = self.clock()
        step, self._looked = min(now - self._looked, REPORT_SECONDS), now
        hanging = list[Running]()
        for running in chains:
            running.silence += step if running.placed else 0.0
            if running.silence > (self._patience if running.heard else max(self._patience, START_SECONDS)):
                running.silence, running.heard = 0.0, False
                hanging.append(running)
        return hanging

    def given(self, running: Running) -> None:
        """Starts a chain's clock: a worker is asked to take it, and has it from now on where no machine has to join."""
        running.started, running.placed = self.clock(), not self.queued

    def placed(self, running: Running) -> None:
        """Starts the clock of a chain that has waited for its worker until now."""
        if not running.placed:
            running.started, running.placed = self.clock(), True

    def charge(self, running: Running, report: Mapping[str, Any]) -> None:
        """Charges what a chain reports to have spent so far: FLOPs, and device-seconds by the report or the clock."""
        if not running.placed:
            running.started, running.placed = self._began(report), True
        running.waited = float(report.get("waited", 0.0))
        now = {unit: report[unit] for unit in UNITS}
        now["device_seconds"] = max(now["device_seconds"], self._used(running, self.clock()))
        self._unheard.pop(running.chain.key, None)
        # Loading says nothing about what follows.
        preparing = not running.latest or report.get("preparing") or running.latest.get("preparing")
        steps = {unit: 0.0 if preparing else now[unit] - running.latest[unit] for unit in UNITS}
        running.step = {unit: max(step, running.step.get(unit, 0.0)) for unit, step in steps.items()}
        if not running.latest and not now["flops"]:
            running.measured = 0.0, now["device_seconds"]  # of a worker's start, which is no part of the chain
        if report.get("preparing"):
            running.prepared = now["flops"], now["device_seconds"]
        running.latest, running.silence, running.heard = {**report, **now}, 0.0, True
        if report.get("committed"):
            self._learn(running)
        self.ledger.charge(running.chain.key, running.attempt, now["flops"], now["device_seconds"])
        shown = {name: report[name] for name in SHOWN if report.get(name)}
        self.ledger.note(running.chain.key, self.clock(), {"started": running.started, **shown})

    def restart(self, running: Running, report: Mapping[str, Any], price: float) -> None:
        """Opens a new attempt at its first report, after a worker's death; the dead one is charged until it began."""
        began = self._began(report)
        self.settle(running, began)
        running.attempt = self.ledger.reserve(running.chain.key, price, began)
        running.started, running.latest, running.step, running.waited = began, {}, {}, 0.0
        running.measured = running.prepared = 0.0, 0.0

    def settle(self, running: Running, ended: float) -> None:
        """Closes a chain's attempt: what it has not spent is free, and what it took is a measurement of speed."""
        flops, device_seconds = (running.latest.get(unit, 0.0) for unit in UNITS)
        self._unheard.pop(running.chain.key, None)
        if running.placed:
            device_seconds = max(device_seconds, self._used(running, ended))
        self.ledger.charge(running.chain.key, running.attempt, flops, device_seconds)
        self.ledger.settle(running.chain.key, running.attempt, ended)
        self._learn(running)

    def _used(self, running: Running, now: float) -> float:
        """Device-seconds of a chain: by the clock without waiting, or processor seconds as last reported."""
        if not self.clocked:
            return float(running.latest.get("device_seconds", 0.0))
        return (now - running.started - running.waited) * running.devices

    def _began(self, report: Mapping[str, Any]) -> float:
        """When the attempt of a report began, by the driver's clock."""
        return self.clock() - float(report["seconds"])

    def _learn(self, running: Running) -> None:
        """Keeps what the part of a chain that it worked on last has taken, as a measurement of speed."""
        work, begun = self._work(running), running.measured
        running.measured = running.latest.get("flops", 0.0), running.latest.get("device_seconds", 0.0)
        if work is None or running.measured[0] <= begun[0]:
            return  # it has loaded so far
        unread = {data: count for data, count in work.data.items() if data not in self.read}
        encoding = self._encoding(running.latest["key"]) if unread else 0.0
        self.read |= unread.keys()
        taken = _since(begun, running, sum(unread.values()) if encoding else 0, encoding)
        self._taken[work.place] = self._taken.get(work.place, NOTHING) + taken
        self._speed = None
        self.ledger.remember(NO_FACTS.with_taken(work.place, self._taken[work.place]))

    def _encoding(self, key: str) -> float:
        """Device-seconds in which the data of a finished part was encoded; 0 where it was there already."""
        record = self.stored.store.phase(key) or self.stored.store.score(key)
        return record.activities.get(ENCODE, {}).get("device_seconds", 0.0) if record is not None else 0.0

    def _work(self, running: Running) -> Work | None:
        """Part that a chain works on, of no FLOPs; None before its first one, and for a preview."""
        chain, key = running.chain, running.latest.get("key", "")
        scores = running.latest.get("phase") == "score" and key == chain.score
        if not scores and all(phase.key != key for phase in chain.phases):
            return None
        return self.costs.kind(chain, key)


def _since(begun: tuple[float, float], running: Running, examples: int = 0, encoding: float = 0.0) -> Taken:
    """Time and FLOPs of a chain since it had spent so much; so many examples were encoded in so many device-seconds."""
    flops, device_seconds = (running.latest.get(unit, 0.0) - before for unit, before in zip(UNITS, begun, strict=True))
    encoding = min(encoding, device_seconds)  # a record has the time of earlier attempts too
    return Taken.of(flops, device_seconds - encoding, examples, encoding)
