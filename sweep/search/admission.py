"""Admission of chains: the first of the queue that the budget pays and a device has room for. Knows no Ray.

One object that the driver asks what may start and tells what happened. Each policy is a module of its own: the order
and shared phases (queue), who goes on inside a cell (tournament), money and time (budget), shares of GPUs (devices),
what becomes of a chain that has ended (outcomes). Rebuilt from plan, store and ledger at every start: a chain that the
store has finished is done without a trial, and so is one that needs a phase which has collapsed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sweep.plan.cost import Costs
from sweep.plan.halving import TRAINED
from sweep.plan.plan import Plan
from sweep.plan.recipe import REPLICA, Chain
from sweep.search.budget import Running, Spending
from sweep.search.devices import DeviceShares
from sweep.search.outcomes import KeptWeights, Outcomes
from sweep.search.queue import Queue
from sweep.search.suggestions import CandidateResult
from sweep.search.tournament import Entry
from sweep.store.index import StoreIndex, superseded
from sweep.store.ledger import RUNNING, Ledger, row_of

LOG = logging.getLogger(__name__)


class Admission:
    """The state of a running study. One instance, in the driver."""

    def __init__(
        self, plan: Plan, stored: StoreIndex, ledger: Ledger, costs: Costs, clock: Callable[[], float] = time.time
    ) -> None:
        self.plan, self.stored, self.ledger, self.costs, self.clock = plan, stored, ledger, costs, clock
        ledger.supersede(superseded(plan, ledger.chains()))
        self.spending = Spending(plan.study, ledger, costs, stored, clock)
        self._facts = ledger.facts()
        self.shares = DeviceShares(plan, self._facts)
        self.queue = Queue(plan, stored)
        self.cells = self.queue.cells
        self.outcomes = Outcomes(ledger, stored, clock)
        self.kept_weights = KeptWeights(plan, stored)
        self.running: dict[str, Running] = {}  # by key of the chain
        self.trained = 0  # phases trained by this run
        self.closing = False  # set by Ctrl-C: nothing starts any more
        self._entries: dict[str, Entry] = {}  # of chains that run, or were not paid for: their last one
        self._cut: set[str] = set()  # keys of chains that were ended from outside, because they did not report
        self._stuck = False  # nothing may start before something is finished: asked ten times a second, answered once
        self._positions = {cell: index for index, cell in enumerate(plan.cells)}

    @property
    def total(self) -> int:
        """Chains of the study, replicas of all cells included."""
        return self.queue.total

    # -- what may start ------------------------------------------------------------------------------------------------

    def next(self) -> Chain | None:
        """A chain to start now, its phases claimed and its cost reserved; None where none may start at this moment."""
        if self._stuck or self.over:
            return None
        position = 0
        while (ready := self.queue.ready(position)) is not None:
            position, entry, chain = ready
            if self._is_over(chain, self._pause_at(entry)):
                LOG.debug("%s: nothing to do, its phases and scores are in the store", chain.name)
                self.queue.remove(position)
                self._record(chain, entry)
                position = 0  # its result may have opened what was passed over
            elif self._price(chain, entry) > self.spending.free:
                self._log_unpaid(chain, entry)
                if self.running:
                    break  # what is held may be set free: never prefer a later chain because it is cheaper
                self.queue.remove(position)
                self._entries[chain.key] = entry
                self.outcomes.unpaid.append(chain)
            elif not self.shares.are_free(self._devices(chain, entry), map(self.devices, self.running)):
                LOG.debug("%s waits for a device", chain.name)
                break  # a smaller chain that is taken first would keep the device from it
            else:
                self.queue.remove(position)
                self._start(chain, entry)
                return chain
        if not self.running:
            self.queue.clear()  # what is left depends on candidates that were not paid for: nobody will try them
        self._stuck = bool(self.running)
        return None

    @property
    def finished(self) -> bool:
        """Nothing runs and nothing will."""
        return not self.running and (self.over or not len(self.queue))

    @property
    def over(self) -> bool:
        """The user wants to stop, or the deadline has come: nothing starts any more."""
        return self.closing or self.spending.overdue

    def position(self, chain: Chain) -> int:
        """Index of the chain's cell in the plan."""
        return self._positions[chain.cell]

    def pause_at(self, key: str) -> float | None:
        """The share of its target phase after which a running chain pauses; None where it goes on to its scores."""
        return self._pause_at(self._entries[key])

    def left(self) -> Iterator[tuple[Chain, Entry]]:
        """Chains that run, and those that wait; where those are not known yet, as the plan has them."""
        yield from ((running.chain, self._entries[key]) for key, running in self.running.items())
        yield from self.queue

    def price(self, chain: Chain) -> float:
        """Cost of what is left of the attempt at a chain that runs or was not paid for, in the budget's unit."""
        return self._price(chain, self._entries[chain.key])

    def devices(self, key: str) -> float:
        """Cores or GPUs that a running chain has."""
        return self.running[key].devices

    def _pause_at(self, entry: Entry) -> float | None:
        return self.cells[entry.cell].pause_at(entry)

    def _devices(self, chain: Chain, entry: Entry) -> float:
        return self.shares.needed(chain, self.stored.to_train(chain), self._pause_at(entry) is None)

    def _price(self, chain: Chain, entry: Entry) -> float:
        return self.spending.price(chain, self._pause_at(entry), self.cells[entry.cell].resume_at(entry))

    def _is_over(self, chain: Chain, pause_at: float | None) -> bool:
        """Scored, or without a way to its scores, or as far as its stage goes: nothing is left to do for it."""
        return self.stored.is_over(chain) or (pause_at is not None and self._dev(chain, pause_at) is not None)

    def _dev(self, chain: Chain, pause_at: float | None) -> float | None:
        """The dev score that a chain has reached there; None where it is not there yet, or has none."""
        if pause_at is None or pause_at == TRAINED:
            return self.stored.dev_score(chain)
        reached = self._facts.reached(chain.phases[-1].key, pause_at)
        return self.stored.dev_at(chain, pause_at) if reached is None else reached.dev

    def _start(self, chain: Chain, entry: Entry) -> None:
        now = self.clock()
        self.queue.claim(chain)
        self._entries[chain.key] = entry
        price, devices = self._price(chain, entry), self._devices(chain, entry)
        if LOG.isEnabledFor(logging.DEBUG):
            missing = [phase.key for phase in self.stored.to_train(chain)]
            stored = [phase.key for phase in chain.phases if phase.key not in missing]
            phases = f"from the store: {', '.join(stored) or 'nothing'}; to train: {', '.join(missing) or 'nothing'}"
            LOG.debug(
                "%s starts: reserves %.3g %s; %s", chain.name, price, self.spending.unit.replace("_", "-"), phases
            )
        self.ledger.open_chain(row_of(chain, RUNNING, now))
        attempt = self.ledger.reserve(chain.key, price, now)
        self.running[chain.key] = Running(chain, attempt, now, price, devices, placed=not self.spending.queued)

    def _log_unpaid(self, chain: Chain, entry: Entry) -> None:
        price, free, unit = self._price(chain, entry), self.spending.free, self.spending.unit.replace("_", "-")
        LOG.debug("%s is not started: it needs %.3g of the %.3g %s that are free", chain.name, price, free, unit)

    # -- what happened -------------------------------------------------------------------------------------------------

    def given(self, key: str) -> None:
        """A worker gets a chain that `next` has named."""
        self.spending.given(self.running[key])

    def placed(self, key: str) -> None:
        """A worker has the chain, which may have waited for it in a queue."""
        self.spending.placed(self.running[key])

    def heard(self, key: str, report: Mapping[str, Any]) -> None:
        """A worker's report: costs so far, progress, perhaps a phase that is in the store now."""
        running = self.running[key]
        if running.latest and report["started"] != running.latest["started"]:
            self.spending.restart(running, report, self.price(running.chain))
        self.spending.charge(running, report)
        if report.get("facts"):
            self.ledger.remember(report["facts"])
            self.shares.learn(report["facts"])
            self._facts |= report["facts"]
            self._stuck = False  # a share that was measured now may fit beside others
        if report.get("committed"):
            LOG.debug("%s: %s %s is in the store", running.chain.name, report["phase"], report["key"])
            self._stuck = False
            self.trained += report["phase"] != "score"
            self.queue.release(report["key"])
            self.stored.learn(report["key"])

    def may_go_on(self, key: str) -> bool:
        """Whether a chain that has reported may work until its next report; otherwise it stops."""
        return not self.closing and self.spending.may_go_on(self.running[key])

    def stranded(self) -> set[str]:
        """Keys of chains whose workers are to be ended now: they do not report, and their money or time is over."""
        stranded = {running.chain.key for running in self.spending.stranded(self.running.values())} - self._cut
        self._cut |= stranded
        return stranded

    def silent(self) -> set[str]:
        """Keys of chains whose workers hang and are to be ended now; Tune begins such a chain anew."""
        return {running.chain.key for running in self.spending.silent(self.running.values())}

    def ended(
        self, key: str, failure: str | None = None, *, share_too_small: bool = False, finished: bool = False
    ) -> None:
        """A worker is through with a chain: done, failed with a sentence, or stopped half-way (the store tells).

        Where it failed because its share of a device is too small, it is tried again with a larger one. A chain that
        says it has `finished` and has left nothing in the store has failed.
        """
        running, entry = self.running.pop(key), self._entries[key]
        chain, cut = running.chain, key in self._cut
        self._cut.discard(key)
        self._stuck = False
        for claimed in self.queue.release_all(chain):
            self.stored.learn(claimed)
        self.spending.settle(running, self.clock())
        if finished and not cut and failure is None and not self._is_over(chain, self._pause_at(entry)):
            self.stored.look_again(chain)
            failure = f"its worker says that it has finished, and {self.stored.store.root} has no record of that"
        if self._is_over(chain, self._pause_at(entry)):
            self._record(chain, entry)
        elif share_too_small:
            self.ledger.remember(self.shares.enlarge(chain, self.stored.to_train(chain), running.devices))
            self.outcomes.retry(chain)
            self.queue.put_first(entry)
        elif failure is not None and not cut:
            self.outcomes.fail(chain, failure)
            self._compare(chain, entry, CandidateResult(chain.hyperparameters, None))
        else:
            self.outcomes.stop(chain)

    def _record(self, chain: Chain, entry: Entry) -> None:
        """A chain is over, or as far as its stage goes."""
        cell, dead_end = self.cells[entry.cell], self.stored.dead_end(chain)
        dev = self._dev(chain, self._pause_at(entry))
        if self.stored.has_score(chain.score):
            self.outcomes.finish(chain)
        elif dead_end is not None:
            self.outcomes.collapse(chain, dead_end)
            if cell.count == 1:  # nothing to choose: the cell's result, such as it is
                self.ledger.select(chain.cell.name, chain.candidate)
            self._compare(chain, entry, CandidateResult(chain.hyperparameters, None, collapsed=True))
            return
        else:
            self.outcomes.pause(chain, dev)
        before = cell.winning_chain
        # Where nothing is trained there is nothing to compare; any number will do.
        self._compare(chain, entry, CandidateResult(chain.hyperparameters, dev if dev is not None else 0.0))
        if self.stored.has_score(chain.score):
            self._keep_best(chain, before, cell.winning_chain)

    def _compare(self, chain: Chain, entry: Entry, result: CandidateResult) -> None:
        """A candidate's result at a stage: some are eliminated; with the last result, the others are promoted."""
        if entry.stage is None:
            return
        cell = self.cells[entry.cell]
        for number in cell.record(entry.stage, chain.candidate, result):
            self._eliminate(cell.started[number], entry.stage)
        if cell.winner is not None:
            self.ledger.select(chain.cell.name, cell.winner)
        self.queue.put_next(entry)

    def _eliminate(self, chain: Chain, stage: int) -> None:
        """Another candidate is better: nobody will train it further, or score it."""
        if self.stored.has_score(chain.score):
            return
        pause_at = self.cells[self.position(chain)].stages[stage].pause_at
        assert pause_at is not None
        dev = self._dev(chain, pause_at)
        LOG.debug("%s is eliminated: others have better dev scores than its %s", chain.name, dev)
        self.outcomes.eliminate(chain, stage, pause_at, dev)
        if not self.plan.study.runtime.keep_target_weights:
            self.stored.drop(chain)

    def _keep_best(self, chain: Chain, before: Chain | None, now: Chain | None) -> None:
        """A chain is scored: weights of the candidate that was the best before may be of no use any more."""
        if chain.role == REPLICA or now is None or now == chain:
            self.kept_weights.keep(chain)
        else:
            self.kept_weights.drop(chain)
        if before is not None and before != now and self.stored.has_score(before.score):
            self.kept_weights.drop(before)
