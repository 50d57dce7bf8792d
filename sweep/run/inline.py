"""Work in this process, without Ray, that is paid for by the study: one chain for a debugger, or a preview.

A chain that is run so uses the store and the ledger of its study, as any other: a later run finds its phases and
scores. Nothing stands between it and its caller. What it prints is printed, a breakpoint opens, and an exception of a
user's own task arrives as it was raised.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import StudyError, nearest
from sweep.heartbeat import Cancelled
from sweep.plan.cost import Costs
from sweep.plan.facts import NO_FACTS
from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE, REPLICA, Chain
from sweep.run.chain import run as run_work
from sweep.run.progress import SPENT, Listener, Progress, progress_of
from sweep.run.study import plan_facts, prepared
from sweep.search.budget import Running, Spending
from sweep.search.outcomes import Outcomes
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex, latest_chains, superseded
from sweep.store.ledger import FAILED, RUNNING, STOPPED, SUPERSEDED, ChainRow, row_of
from sweep.terminal import table
from sweep.train.context import Event
from sweep.train.context import Listener as EventListener

SHOWN = 10  # names in an error


@dataclass(frozen=True)
class Done:
    """A chain that is over, and the results folder of its study."""

    chain: Chain
    results: Path


def run_chain(
    path: Path, asked: str | Mapping[str, object], text: str | None = None, listener: Listener | None = None
) -> Done:
    """Trains and scores what is missing of one chain. Raises SweepError, and whatever the chain's own code raises.

    `asked` is the chain's name, a part of it that no other has, or texts of columns (of its cell, seed, candidate,
    role) that only it has. `text` is the study where there is no file of it.
    """
    with prepared(path, text) as (plan, ledger, results):
        stored = StoreIndex(Store(results / paths.STORE))
        ledger.supersede(superseded(plan, ledger.chains()))
        rows = [row for row in ledger.chains() if row.state != SUPERSEDED]
        chain = _found(plan, rows, asked)
        _check_known(plan, rows, chain)
        costs = Costs(plan, ledger.facts().sizes)
        ledger.remember(NO_FACTS.with_plan(plan_facts(plan, costs)))
        spending = Spending(plan.study, ledger, costs, stored, time.time)
        _run(chain, plan, spending, listener or _ignored)
    return Done(chain, results)


def _ignored(_progress: Progress) -> None:
    """Nobody listens."""


def lines_to(say: Callable[[str], None]) -> Listener:
    """Listener that says, in a line each, where a chain has come to: its phases, dev scores, messages."""
    phase = ""

    def listen(event: Progress) -> None:
        nonlocal phase
        if event.phase != phase and event.phase:
            phase = event.phase
            say(f"{event.chain}: {phase}")
        if event.dev is not None:
            say(f"step {event.step} of {event.steps}: dev {event.dev:.3f}")
        if event.message:
            say(event.message)

    return listen


def inline_text(done: Done) -> str:
    """Text of the command: the chain's scores by language, or why it has none."""
    store = Store(done.results / paths.STORE)
    score = store.score(done.chain.score)
    if score is None:
        dead_end = StoreIndex(store).dead_end(done.chain)
        return (
            f"{done.chain.name}: collapsed, without scores"
            if dead_end is None
            else StoreIndex(store).why_collapsed(dead_end)
        )
    rows = [(language, f"{entry['value']:.4f}") for language, entry in sorted(score.languages.items())]
    return "\n".join([f"{done.chain.name}, {score.metric}:", table(rows, numbers={1}, indent=2)])


# ---- which chain -----------------------------------------------------------------------------------------------------


def _found(plan: Plan, rows: Sequence[ChainRow], asked: str | Mapping[str, object]) -> Chain:
    """The one chain that is asked for. Raises StudyError with those that are meant where it is none or several."""
    chains = {plan.chain_name(chain): chain for chain in latest_chains(plan, rows) if chain is not None}
    if isinstance(asked, str):
        fitting = [asked] if asked in chains else [name for name in chains if asked in name]
    else:
        fitting = [name for name, chain in chains.items() if _fits(chain, asked)]
    if len(fitting) == 1:
        return chains[fitting[0]]
    close = difflib.get_close_matches(asked, chains, n=SHOWN, cutoff=0.0) if isinstance(asked, str) else [*chains]
    shown = (fitting or close)[:SHOWN]
    more = f" and {len(fitting) - SHOWN} more" if len(fitting) > SHOWN else ""
    found = f"the chain {asked!r}, which {f'{len(fitting)} fit' if fitting else 'the study does not have'}"
    raise StudyError("chain", found, f"one of these is expected: {'; '.join(shown)}{more}")


def _fits(chain: Chain, asked: Mapping[str, object]) -> bool:
    texts = chain.cell.columns() | {name: str(getattr(chain, name)) for name in ("seed", "candidate", "role")}
    for name in asked.keys() - texts.keys():
        raise StudyError("chain", f"the unknown column {name!r}", f"{', '.join(texts)} are known", nearest(name, texts))
    return all(texts[name] == _text(value) for name, value in asked.items())


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _check_known(plan: Plan, rows: Sequence[ChainRow], chain: Chain) -> None:
    """Raises StudyError for a chain whose hyperparameters depend on dev scores that are not there yet."""
    mine = [row for row in rows if row.cell.name == chain.cell.name and row.role == CANDIDATE]
    if chain.role == REPLICA:
        known = plan.candidates(chain.cell) == 1 or any(row.selected for row in mine)
    else:
        fixed = plan.is_fixed(chain.cell, chain.candidate) or not plan.has_choice(chain.cell)
        known = fixed or any(row.candidate == chain.candidate for row in mine)
    if not known:
        expected = "the first candidate of the cell, or this one after 'sweep run' has come to it, is expected"
        problem = f"{plan.chain_name(chain)}, whose hyperparameters are chosen by dev scores that are not known yet"
        raise StudyError("chain", problem, expected)


# ---- its work --------------------------------------------------------------------------------------------------------


def _run(chain: Chain, plan: Plan, spending: Spending, listener: Listener) -> None:
    """Runs a chain, and records in the ledger how it ended."""
    ledger, stored = spending.ledger, spending.stored
    outcomes, spent = Outcomes(ledger, stored, time.time), dict[str, Any]()
    if not stored.is_over(chain):
        spent = _attempt(chain, plan, spending, listener)
        stored.look_again(chain)
    dead_end = stored.dead_end(chain)
    if stored.has_score(chain.score):
        outcomes.finish(chain)
    elif dead_end is not None:
        outcomes.collapse(chain, dead_end)
    else:
        outcomes.stop(chain)
        raise _unpaid(spending)
    if plan.candidates(chain.cell) == 1:  # nothing to choose
        ledger.select(chain.cell.name, chain.candidate)
    ((_, state, reason),) = outcomes.ends
    done = int(dead_end is None)
    listener(Progress(chain.name, chain.candidate, state, message=reason, done=done, chains=1, **spent))


def _attempt(chain: Chain, plan: Plan, spending: Spending, listener: Listener) -> dict[str, Any]:
    """Trains and scores what is missing, as far as it is paid for; returns what was SPENT."""
    last = dict[str, Any]()

    def hear(event: Event) -> None:
        last.update(vars(event))
        listener(progress_of(chain, last, 0, 1))

    def train_and_score(listen: EventListener) -> None:
        run_work(chain, plan, spending.stored.store, listen, keep=plan.study.runtime.keep_winners > 0)

    price = spending.price(chain)
    if price > spending.free or spending.overdue:
        raise _unpaid(spending)
    spending.ledger.open_chain(row_of(chain, RUNNING, time.time()))
    try:
        paid(chain, price, plan.study.runtime.devices, spending, train_and_score, hear)
    except BaseException as fault:
        state, reason = FAILED if isinstance(fault, Exception) else STOPPED, f"{type(fault).__name__}: {fault}"
        spending.ledger.close_chain(chain.key, state, None, time.time(), " ".join(reason.split()))
        raise
    return {name: last[name] for name in SPENT if name in last}


def _unpaid(spending: Spending) -> StudyError:
    budget, limit = spending.budget, "deadline" if spending.overdue else "budget"
    found = f"{budget}, of which too little is left for this chain" if budget and limit == "budget" else "its end"
    return StudyError(limit, found, f"a larger {limit} in the study is expected; what is finished is kept")


def paid(
    chain: Chain,
    price: float,
    devices: float,
    spending: Spending,
    work: Callable[[EventListener], None],
    hear: Callable[[Event], None],
) -> None:
    """Does work on a chain here and charges it to the study; stops it where budget or time are exhausted.

    `work` is given a listener for its events; `hear` gets every one when it is charged. `price` is what is held for it,
    in the budget's unit, and `devices` are those that it occupies.
    """
    started = time.time()
    attempt = spending.ledger.reserve(chain.key, price, started)
    running = Running(chain, attempt, started, price, devices, placed=True)

    def listen(event: Event) -> None:
        spending.charge(running, {"started": started, **vars(event)})
        spending.ledger.remember(event.facts)
        spending.stored.learn(event.key)
        hear(event)
        if not spending.may_go_on(running):
            raise Cancelled

    try:
        with suppress(Cancelled):
            work(listen)
    finally:
        spending.settle(running, time.time())
