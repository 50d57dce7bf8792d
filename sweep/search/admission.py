"""Admission of chains: coverage first, shared phases once, nothing that cannot be paid. Knows no Ray.

Order: the first candidate of every cell, then the second, ...; where a cell's winner is known only at the end of its
tuning, one cell after another. A cell's other seeds follow as soon as its candidates are compared, and fill workers
that would be idle. A chain that needs a phase which is being trained elsewhere waits
here, holding nothing. Rebuilt from plan and store at every start: a chain that the store has finished is done without a
trial, and so is one that needs a phase which has collapsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sweep.plan.cost import Costs
from sweep.plan.halving import TRAINED, cell_by_cell, stages
from sweep.plan.order import coverage_order, warm_starts
from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE, REPLICA, Chain
from sweep.search.budget import Running, Spending
from sweep.search.candidates import CandidateResult
from sweep.search.devices import DeviceShares
from sweep.search.outcomes import Outcomes
from sweep.search.tournament import CellState, KeptWeights, Work, proposal
from sweep.store.index import StoreIndex, superseded
from sweep.store.ledger import RUNNING, Ledger, row_of


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
        self.order = coverage_order(plan)
        self.warm_starts = warm_starts(plan, self.order)
        self.cells = [
            CellState(cell, plan.candidates(cell), plan.startup(cell), stages(plan, cell)) for cell in plan.cells
        ]
        self.running: dict[str, Running] = {}
        self.outcomes = Outcomes(ledger, stored, clock)
        self.kept_weights = KeptWeights(plan, stored)
        self._cut: set[str] = set()  # keys of chains that were ended from outside, because they did not report
        self.trained = 0  # phases trained by this run
        self.closing = False  # set by Ctrl-C: nothing starts any more
        self._claimed: dict[str, str] = {}  # key of a phase or score -> chain that makes it
        self._works: dict[str, Work] = {}  # of chains that run, or were not paid for: their last one
        self._stuck = False  # nothing may start before something is finished: asked ten times a second, answered once
        first, *self._others = plan.study.axes.seed
        pairs = [(index, number) for index in self.order for number in range(self.cells[index].count)]
        if not cell_by_cell(plan.study):
            pairs.sort(key=lambda pair: pair[1])
        self._waiting = [Work(index, number, first, CANDIDATE, stage=0) for index, number in pairs]
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
            elif self._is_over(chain, self._pause_at(work)):
                self._waiting.pop(position)
                self._record(chain, work)
                position = 0  # its result may have opened what was passed over
            elif self._price(chain, work) > self.spending.free:
                if self.running:
                    break  # what is held may be set free: never prefer a later chain because it is cheaper
                self._waiting.pop(position)
                self._works[chain.key] = work
                self.outcomes.unpaid.append(chain)
            elif not self.shares.are_free(self._devices(chain, work), (one.devices for one in self.running.values())):
                break  # a smaller chain that is taken first would keep the device from it
            else:
                self._waiting.pop(position)
                self._start(chain, work)
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
        return self.closing or self.spending.overdue

    def position(self, chain: Chain) -> int:
        """Index of the chain's cell in the plan."""
        return self._index[chain.cell]

    def pause_at(self, key: str) -> float | None:
        """The share of its target phase after which a running chain pauses; None where it goes on to its scores."""
        return self._pause_at(self._works[key])

    def _pause_at(self, work: Work) -> float | None:
        return self.cells[work.cell].pause_at(work)

    def left(self) -> Iterator[tuple[Chain, Work]]:
        """Chains that run, and those that wait; where rates are not known yet, those that the plan has for them."""
        yield from ((running.chain, self._works[key]) for key, running in self.running.items())
        for work in self._waiting:
            yield self._chain(work) or self._planned(work), work

    def price(self, chain: Chain) -> float:
        """What is left of the attempt at a chain that runs or was not paid for."""
        return self._price(chain, self._works[chain.key])

    def devices(self, key: str) -> float:
        """Cores or GPUs that a running chain has."""
        return self.running[key].devices

    def _devices(self, chain: Chain, work: Work) -> float:
        return self.shares.needed(chain, self.stored.to_train(chain), self._pause_at(work) is None)

    def _price(self, chain: Chain, work: Work) -> float:
        return self.spending.price(chain, self._pause_at(work), self.cells[work.cell].resume_at(work))

    def _chain(self, work: Work) -> Chain | None:
        """The chain, or None while it depends on candidates that are not finished."""
        state = self.cells[work.cell]
        if work.role == REPLICA:
            tried = state.started.get(work.candidate)
            rates = tried.rates if tried is not None else self.plan.planned_rates(state.cell, work.candidate)
            return self.plan.chain(state.cell, rates, work.seed, work.candidate, REPLICA)
        if work.candidate not in state.started:
            proposed = proposal(self.plan, self.cells, self.warm_starts[work.cell], state, work.candidate)
            if proposed is None:
                return None
            state.started[work.candidate] = self.plan.chain(state.cell, proposed, work.seed, work.candidate)
        return state.started[work.candidate]

    def _planned(self, work: Work) -> Chain:
        cell = self.cells[work.cell].cell
        return self.plan.chain(cell, self.plan.planned_rates(cell, work.candidate), work.seed, work.candidate)

    def _blocked(self, chain: Chain) -> bool:
        if chain.score in self._claimed:
            return True
        return any(phase.key in self._claimed for phase in self.stored.to_train(chain))

    def _is_over(self, chain: Chain, pause_at: float | None) -> bool:
        """Scored, or without a way to its scores, or as far as it is wanted: nothing is left to do for it."""
        return self.stored.is_over(chain) or (pause_at is not None and self._dev(chain, pause_at) is not None)

    def _dev(self, chain: Chain, pause_at: float | None) -> float | None:
        """The dev score that a chain has reached there; None where it is not there yet, or has none."""
        if pause_at is None or pause_at == TRAINED:
            return self.stored.dev_score(chain)
        known = self._facts.reached(chain.phases[-1].key, pause_at)
        return self.stored.dev_at(chain, pause_at) if known is None else known.dev

    def _start(self, chain: Chain, work: Work) -> None:
        now = self.clock()
        for phase in self.stored.to_train(chain):
            self._claimed[phase.key] = chain.key
        self._claimed[chain.score] = chain.key
        self._works[chain.key] = work
        price, devices = self._price(chain, work), self._devices(chain, work)
        self.ledger.open_chain(row_of(chain, RUNNING, now))
        attempt = self.ledger.reserve(chain.key, price, now)
        self.running[chain.key] = Running(chain, attempt, now, price, devices, placed=not self.spending.queued)

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
            self._stuck = False
            self.trained += report["phase"] != "score"
            self._claimed.pop(report["key"], None)
            self.stored.learn(report["key"])

    def may_go_on(self, key: str) -> bool:
        """Whether a chain that has reported may work until its next report; otherwise it stops."""
        return not self.closing and self.spending.may_go_on(self.running[key])

    def stranded(self) -> set[str]:
        """Keys of chains whose workers are to be ended now: they do not report, and their money or time is over."""
        found = {running.chain.key for running in self.spending.stranded(self.running.values())} - self._cut
        self._cut |= found
        return found

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
        running, work = self.running.pop(key), self._works[key]
        cut = key in self._cut
        self._cut.discard(key)
        self._stuck = False
        chain = running.chain
        for claimed in [claimed for claimed, owner in self._claimed.items() if owner == key]:
            del self._claimed[claimed]
            self.stored.learn(claimed)
        self.spending.settle(running, self.clock())
        if finished and not cut and failure is None and not self._is_over(chain, self._pause_at(work)):
            self.stored.look_again(chain)
            failure = f"its worker says that it has finished, and {self.stored.store.root} has no record of that"
        if self._is_over(chain, self._pause_at(work)):
            self._record(chain, work)
        elif share_too_small:
            self.ledger.remember(self.shares.enlarge(chain, self.stored.to_train(chain), running.devices))
            self.outcomes.retry(chain)
            self._waiting.insert(0, work)
        elif failure is not None and not cut:
            self.outcomes.fail(chain, failure)
            self._note(chain, work, CandidateResult(chain.rates, None))
        else:
            self.outcomes.stop(chain)

    def _record(self, chain: Chain, work: Work) -> None:
        dead_end, dev = self.stored.dead_end(chain), self._dev(chain, self._pause_at(work))
        if self.stored.has_score(chain.score):
            self.outcomes.finish(chain)
        elif dead_end is not None:
            self.outcomes.collapse(chain, dead_end)
            if self.cells[work.cell].count == 1:  # nothing to choose: the cell's result, such as it is
                self.ledger.select(chain.cell.name, chain.candidate)
            self._note(chain, work, CandidateResult(chain.rates, None, collapsed=True))
            return
        else:
            self.outcomes.pause(chain, dev)
        best = self._best(work)
        # Where nothing is trained there is nothing to compare; any number will do.
        self._note(chain, work, CandidateResult(chain.rates, dev if dev is not None else 0.0))
        if self.stored.has_score(chain.score):
            self._keep_the_best(chain, work, best)

    def _best(self, work: Work) -> Chain | None:
        """The candidate that is its cell's winner as far as is known."""
        state = self.cells[work.cell]
        return None if state.winner is None else state.started.get(state.winner)

    def _keep_the_best(self, chain: Chain, work: Work, before: Chain | None) -> None:
        """A chain is scored: weights of another candidate that was the best `before` may be of no use any more."""
        now = self._best(work)
        if chain.role == REPLICA or now is None or now == chain:
            self.kept_weights.keep(chain)
        else:
            self.kept_weights.drop(chain)
        if before is not None and before != now and self.stored.has_score(before.score):
            self.kept_weights.drop(before)

    def _eliminate(self, chain: Chain, stage: int) -> None:
        """Another candidate is better: nobody will train it further, or score it."""
        if self.stored.has_score(chain.score):
            return
        pause_at = self.cells[self.position(chain)].stages[stage].pause_at
        assert pause_at is not None
        self.outcomes.eliminate(chain, stage, pause_at, self._dev(chain, pause_at))
        if not self.plan.study.runtime.keep_target_weights:
            self.stored.drop(chain)

    def _note(self, chain: Chain, work: Work, result: CandidateResult) -> None:
        """A candidate's result at a stage; with the last one, those that are left go on, at the end the other seeds."""
        if work.stage is None:
            return
        state, stage = self.cells[work.cell], work.stage
        for number in state.note(stage, chain.candidate, result):
            self._eliminate(state.started[number], stage)
        if state.winner is not None:
            self.ledger.select(chain.cell.name, state.winner)
        if not state.complete(stage):
            return
        if stage + 1 < len(state.stages):
            on = [Work(work.cell, number, work.seed, CANDIDATE, stage + 1) for number in state.entrants(stage + 1)]
            self._waiting[:0] = on  # before other cells begin
        elif state.winner is not None and state.count > 1:
            if state.unscored_winner:
                self._waiting.insert(0, Work(work.cell, state.winner, work.seed, CANDIDATE))
            self._waiting.extend(Work(work.cell, state.winner, seed, REPLICA) for seed in self._others)
