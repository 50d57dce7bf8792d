"""Which chain may start next: coverage first, shared phases once, nothing that cannot be paid. Knows no Ray.

Order: the first candidate of every cell, then the second, ...; a cell's other seeds follow as soon as its candidates
are compared, and fill workers that would be idle. A chain that needs a phase which is being trained elsewhere waits
here, holding nothing. Rebuilt from plan and store at every start: a chain that the store has finished is done without a
trial, and so is one that needs a phase which has collapsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.planning.budget import Costs
from sweep.planning.ledger import COLLAPSED, DONE, FAILED, RUNNING, STOPPED, ChainRow, Ledger
from sweep.planning.plan import REPLICA, Cell, Chain, Phase, Plan, coverage_order
from sweep.planning.spec import Budget
from sweep.purse import Purse, Running
from sweep.stock import Stock
from sweep.tuning import Tried, rates_for, winner


@dataclass
class CellState:
    """How far a cell is."""

    cell: Cell
    count: int  # candidates
    tried: dict[int, Tried] = field(default_factory=dict)
    started: dict[int, Chain] = field(default_factory=dict)

    @property
    def tuned(self) -> bool:
        return len(self.tried) == self.count


@dataclass(frozen=True)
class Work:
    """A possible chain: a candidate of a cell, or its winner with another seed."""

    cell: int
    candidate: int
    seed: int
    role: str


class Admission:
    """The state of a running study. One instance, in the driver."""

    def __init__(
        self, plan: Plan, stock: Stock, ledger: Ledger, costs: Costs, clock: Callable[[], float] = time.time
    ) -> None:
        self.plan, self.stock, self.ledger, self.costs, self.clock = plan, stock, ledger, costs, clock
        self.purse = Purse(plan.study, ledger, costs, stock, clock)
        self.order = coverage_order(plan)
        self.cells = [CellState(cell, plan.candidates(cell)) for cell in plan.cells]
        self.running: dict[str, Running] = {}
        self.done: list[Chain] = []
        self.failed: list[tuple[Chain, str]] = []
        self.collapsed: list[tuple[Chain, str]] = []  # ended at a phase that learned nothing
        self.unpaid: list[Chain] = []  # could not be paid, or were stopped when the money was gone or at the deadline
        self.trained = 0  # phases trained by this run
        self.closing = False  # set by Ctrl-C: nothing starts any more
        self._claimed: dict[str, str] = {}  # key of a phase or score -> chain that makes it
        self._stuck = False  # nothing may start before something is finished: asked ten times a second, answered once
        first, *self._others = plan.study.axes.seed
        rounds = max((state.count for state in self.cells), default=0)
        self._waiting = [
            Work(index, number, first, "candidate")
            for number in range(rounds)
            for index in self.order
            if number < self.cells[index].count
        ]
        # Where there is nothing to choose between, the other seeds need not wait for the first.
        self._waiting += [
            Work(i, 0, seed, REPLICA) for i in self.order if self.cells[i].count == 1 for seed in self._others
        ]
        self._index = {cell: index for index, cell in enumerate(plan.cells)}
        self.total = sum(state.count + len(self._others) for state in self.cells)

    # -- what may start ------------------------------------------------------------------------------------------------

    def next(self) -> Chain | None:
        """A chain to start now, its phases claimed and its cost reserved; None where none may start at this moment."""
        if self._stuck or self.over:
            return None
        position = 0
        while position < len(self._waiting):
            work = self._waiting[position]
            chain = self._chain(work)
            if chain is None or self._blocked(chain):
                position += 1
            elif self._is_over(chain):
                self._waiting.pop(position)
                self._record(chain)
                position = 0  # its result may have opened what was passed over
            elif self.purse.price(chain) > self.purse.free:
                if self.running:
                    break  # what is held may be set free: never prefer a later chain because it is cheaper
                self._waiting.pop(position)
                self.unpaid.append(chain)
            else:
                self._waiting.pop(position)
                self._start(chain)
                return chain
        if not self.running:
            self._waiting.clear()  # what is left depends on candidates that were not paid for: nobody will try them
        self._stuck = bool(self.running)
        return None

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing will."""
        return not self.running and (self.over or not self._waiting)

    @property
    def over(self) -> bool:
        """The user wants to stop, or the deadline has come: nothing starts any more."""
        return self.closing or self.purse.overdue

    def position(self, chain: Chain) -> int:
        """Index of the chain's cell in the plan."""
        return self._index[chain.cell]

    def _chain(self, work: Work) -> Chain | None:
        """The chain, or None while it depends on candidates that are not finished."""
        state = self.cells[work.cell]
        if work.role == REPLICA:
            tried = state.started.get(work.candidate)
            rates = tried.rates if tried is not None else self.plan.planned_rates(state.cell, work.candidate)
            return self.plan.chain(state.cell, rates, work.seed, work.candidate, REPLICA)
        startup = work.candidate < self.plan.study.tuning.startup
        if not startup and any(number not in state.tried for number in range(work.candidate)):
            return None
        if work.candidate not in state.started:
            before = [] if startup else [state.tried[number] for number in range(work.candidate)]
            rates = rates_for(self.plan, state.cell, work.candidate, before)
            state.started[work.candidate] = self.plan.chain(state.cell, rates, work.seed, work.candidate)
        return state.started[work.candidate]

    def _blocked(self, chain: Chain) -> bool:
        if chain.score in self._claimed:
            return True
        return any(phase.key in self._claimed for phase in self.stock.to_train(chain))

    def _is_over(self, chain: Chain) -> bool:
        """Scored, or without a way to its scores: nothing is left to do for it."""
        return self.stock.has_score(chain.score) or self.stock.dead_end(chain) is not None

    def _start(self, chain: Chain) -> None:
        now = self.clock()
        for phase in self.stock.to_train(chain):
            self._claimed[phase.key] = chain.key
        self._claimed[chain.score] = chain.key
        price = self.purse.price(chain)
        self.ledger.open_chain(self._row(chain, RUNNING, now))
        attempt = self.ledger.reserve(chain.key, price, now)
        self.running[chain.key] = Running(chain, attempt, now, price)

    # -- what happened -------------------------------------------------------------------------------------------------

    def given(self, key: str) -> None:
        """A worker gets a chain that `next` has named."""
        self.purse.given(self.running[key])

    def heard(self, key: str, report: Mapping[str, Any]) -> None:
        """A worker's report: costs so far, progress, perhaps a phase that is in the store now."""
        running = self.running[key]
        if running.latest and report["started"] != running.latest["started"]:
            self.purse.restart(running, report)
        self.purse.charge(running, report)
        if report.get("facts"):
            self.ledger.remember(report["facts"])
        if report.get("committed"):
            self._stuck = False
            self.trained += report["phase"] != "score"
            self._claimed.pop(report["key"], None)
            self.stock.learn(report["key"])

    def may_go_on(self, key: str) -> bool:
        """Whether a chain that has reported may work until its next report; otherwise it stops, its work kept."""
        return not self.closing and self.purse.may_go_on(self.running[key])

    def ended(self, key: str, failure: str | None = None) -> None:
        """A worker is through with a chain: done, failed with a sentence, or stopped half-way (the store tells)."""
        running = self.running.pop(key)
        self._stuck = False
        chain, now = running.chain, self.clock()
        for claimed in [claimed for claimed, owner in self._claimed.items() if owner == key]:
            del self._claimed[claimed]
            self.stock.learn(claimed)
        self.purse.settle(running, now)
        if self._is_over(chain):
            self._record(chain)
        elif failure is not None:
            self.failed.append((chain, failure))
            self.ledger.close_chain(key, FAILED, None, now, failure)
            self._note(chain, Tried(chain.rates, None))
        else:
            self.unpaid.append(chain)
            self.ledger.close_chain(key, STOPPED, None, now, "stopped; its work is kept")

    def _record(self, chain: Chain) -> None:
        dead_end = self.stock.dead_end(chain)
        if self.stock.has_score(chain.score) or dead_end is None:
            self._record_done(chain)
        else:
            self._record_collapsed(chain, dead_end)

    def _record_collapsed(self, chain: Chain, dead_end: Phase) -> None:
        reason = self.stock.why_collapsed(dead_end)
        self.collapsed.append((chain, reason))
        now = self.clock()
        self.ledger.open_chain(self._row(chain, COLLAPSED, now))
        self.ledger.close_chain(chain.key, COLLAPSED, None, now, reason)
        if self.cells[self.position(chain)].count == 1:
            self.ledger.select(chain.cell.name, chain.candidate)  # nothing to choose: the cell's result, such as it is
        self._note(chain, Tried(chain.rates, None, collapsed=True))

    def _record_done(self, chain: Chain) -> None:
        self.done.append(chain)
        dev = self.stock.dev_score(chain)
        now = self.clock()
        self.ledger.open_chain(self._row(chain, DONE, now))
        self.ledger.close_chain(chain.key, DONE, dev, now)
        if chain.role == REPLICA:
            self.ledger.select(chain.cell.name, chain.candidate)
        else:
            # Where nothing is trained there is nothing to compare; any number will do.
            self._note(chain, Tried(chain.rates, dev if dev is not None else 0.0))

    def _note(self, chain: Chain, result: Tried) -> None:
        """A candidate's result; with the last one of a cell, its other seeds may run."""
        if chain.role == REPLICA:
            return
        index = self.position(chain)
        state = self.cells[index]
        state.tried[chain.candidate] = result
        best = winner(state.tried)
        if best is not None:
            self.ledger.select(chain.cell.name, best)
        if state.tuned and best is not None and state.count > 1:
            self._waiting.extend(Work(index, best, seed, REPLICA) for seed in self._others)

    def _row(self, chain: Chain, state: str, now: float) -> ChainRow:
        cell = chain.cell
        return ChainRow(
            key=chain.key, cell=cell.name, encoder=cell.encoder, intermediate=cell.intermediate_name,
            volume=cell.volume_name, source=cell.source_name, target=cell.target, chain_budget=cell.budget_name,
            seed=chain.seed, candidate=chain.candidate, role=chain.role, selected=chain.role == REPLICA,
            rates=dict(chain.rates),
            phases=tuple(phase.key for phase in chain.phases if not phase.trunk), score=chain.score, state=state,
            dev=None, flops=0.0, device_seconds=0.0, started=now, ended=None,
        )  # fmt: skip

    # -- what is left --------------------------------------------------------------------------------------------------

    def left(self) -> Iterator[Chain]:
        """Chains that have not started, as far as they are known."""
        for work in self._waiting:
            chain = self._chain(work)
            if chain is not None:
                yield chain

    def least_budget(self) -> Budget | None:
        """The budget with which the cheapest of the chains that were not paid for could run."""
        budget = self.plan.study.budget
        if budget is None or not self.unpaid:
            return None
        least = self.purse.spent + min(self.purse.price(chain) for chain in self.unpaid)
        return budget.model_copy(update={"amount": least})

    def device_seconds_left(self) -> float:
        """Forecast of the work that is left, shared phases once, replicas of cells that are not tuned yet left out."""
        left: dict[str, tuple[str, float]] = {}
        for chain in [*self.left(), *(running.chain for running in self.running.values())]:
            parts = self.costs.parts(chain)
            wanted = [phase.key for phase in self.stock.to_train(chain)]
            wanted += [] if self._is_over(chain) else [chain.score]
            left.update({key: (chain.cell.encoder, parts[key]) for key in wanted})
        speed = self.purse.speed
        return sum(speed.device_seconds(encoder, flops) for encoder, flops in left.values())
