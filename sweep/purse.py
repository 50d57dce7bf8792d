"""What a study may spend: its budget and its deadline, what chains cost, how long a running one may go on. No Ray.

A chain works within what was reserved for it; beyond that as long as there is money that nobody else holds, a report's
worth at a time; then it stops at its next report, its work kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.planning.budget import Costs, Speed
from sweep.planning.ledger import Ledger
from sweep.planning.plan import Chain
from sweep.planning.spec import Study
from sweep.stock import Stock


@dataclass
class Running:
    """A chain that a worker has."""

    chain: Chain
    attempt: int
    started: float
    reserved: float  # in the budget's unit
    latest: dict[str, Any] = field(default_factory=dict)  # its last report
    step: dict[str, float] = field(default_factory=dict)  # what it spent between its last two reports, by unit


class Purse:
    """Prices, reservations and what is left. The ledger keeps what was spent."""

    def __init__(self, study: Study, ledger: Ledger, costs: Costs, stock: Stock, clock: Callable[[], float]) -> None:
        self.budget, self.ledger, self.costs, self.stock, self.clock = study.budget, ledger, costs, stock, clock
        self.unit = study.budget.unit if study.budget is not None else "device_seconds"
        self._ends = clock() + study.deadline if study.deadline is not None else None
        self._gpu = study.runtime.gpu > 0
        self._finished: dict[str, tuple[float, float]] = {}  # encoder -> FLOPs, device-seconds
        # What earlier runs measured counts too: a restart must not fall back on an assumed speed.
        for row in ledger.chains():
            self._learn(row.encoder, row.flops, row.device_seconds)

    @property
    def overdue(self) -> bool:
        """The deadline has come: nothing starts any more, and what runs stops at its next report."""
        return self._ends is not None and self.clock() >= self._ends

    @property
    def spent(self) -> float:
        """Spent so far, in the budget's unit (device-seconds where there is no budget)."""
        flops, device_seconds = self.ledger.spent()
        return flops if self.unit == "flops" else device_seconds

    @property
    def free(self) -> float:
        """What is neither spent nor held for a running chain; without a budget there is no end to it."""
        return self.budget.amount - self.spent - self.ledger.held(self.unit) if self.budget else float("inf")

    @property
    def speed(self) -> Speed:
        return Speed(tuple((encoder, *work) for encoder, work in self._finished.items()), self._gpu)

    def price(self, chain: Chain) -> float:
        """What a chain still costs, in the budget's unit."""
        parts = self.costs.parts(chain)
        flops = parts[chain.score] + sum(parts[phase.key] for phase in self.stock.to_train(chain))
        return flops if self.unit == "flops" else self.speed.device_seconds(chain.cell.encoder, flops)

    def may_go_on(self, running: Running) -> bool:
        """Whether a chain may work until its next report. Holds more for it where its reservation is spent."""
        if self.overdue:
            return False
        if self.budget is None or running.latest[self.unit] < running.reserved:
            return True
        more = running.step[self.unit]
        if more > self.free:
            return False
        running.reserved = running.latest[self.unit] + more
        self.ledger.hold(running.chain.key, running.attempt, running.reserved)
        return True

    def charge(self, running: Running, report: Mapping[str, Any]) -> None:
        """Takes down what a chain reports to have spent so far."""
        units = ("flops", "device_seconds")
        running.step = {unit: report[unit] - running.latest.get(unit, 0.0) for unit in units}
        running.latest = dict(report)
        self.ledger.charge(running.chain.key, running.attempt, report["flops"], report["device_seconds"])

    def settle(self, running: Running) -> None:
        """The chain's attempt is over: what it has not spent is free, and what it took is a measurement."""
        self.ledger.settle(running.chain.key, running.attempt, self.clock())
        latest = running.latest
        self._learn(running.chain.cell.encoder, latest.get("flops", 0.0), latest.get("device_seconds", 0.0))

    def _learn(self, encoder: str, flops: float, device_seconds: float) -> None:
        if flops > 0:
            before = self._finished.get(encoder, (0.0, 0.0))
            self._finished[encoder] = (before[0] + flops, before[1] + device_seconds)
