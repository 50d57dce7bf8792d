"""One chain, from the encoder to its zero-shot scores. Knows no Ray.

A phase that the store has is taken from it; the others are trained and committed. The listener is told of every unit of
work and may end the chain there by raising something: a stopped chain loses no more than the time since its last
checkpoint.
"""

from __future__ import annotations

from sweep.evaluate.zero_shot import score_chain
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.plan.sharing import phase_work, score_work
from sweep.run.chain__sharing import measured
from sweep.store.artifacts import Store
from sweep.store.index import Stock
from sweep.train.context import set_up
from sweep.train.context__meter import Listener, ignore
from sweep.train.phase import train_phase


def run(
    chain: Chain,
    plan: Plan,
    store: Store,
    listener: Listener = ignore,
    *,
    began: tuple[float, float] | None = None,
    until: float | None = None,
    devices: float | None = None,
    keep: bool = False,
) -> None:
    """Trains what is missing of a chain and scores it. Raises SweepError where data, encoder or store are at fault.

    It began at (time.time(), time.process_time()), by default now, and occupies so many `devices`, by default what the
    study says. `until` is the share of the target phase after which it pauses, without scores. A chain ends, without
    scores, at a phase before the target phase that has collapsed. `keep` leaves the target phase its weights.
    """
    stock = Stock(store)
    if stock.is_over(chain):
        return
    bench = set_up(chain, plan, store, listener, began, devices)
    for phase in stock.to_train(chain):
        with measured(bench, phase_work(plan, chain.cell.encoder, phase)):
            train_phase(bench, phase, until)
        stock.learn(phase.key)
        if stock.dead_end(chain) is not None:
            return
    if until is None:
        with measured(bench, score_work(plan, chain)):
            score_chain(bench, chain, keep)
