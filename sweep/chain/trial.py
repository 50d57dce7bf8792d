"""One chain, from the encoder to its zero-shot scores. Knows no Ray.

A phase that the store has is taken from it; the others are trained and committed. `run` is a generator: whoever
iterates decides about reporting and stopping, and a stopped chain loses no more than the time since its last
checkpoint.
"""

from __future__ import annotations

from collections.abc import Generator

from sweep.chain.bench import set_up
from sweep.chain.meter import Event
from sweep.chain.phase import train_phase
from sweep.chain.zero_shot import score_chain
from sweep.planning.plan import Chain, Plan
from sweep.stock import Stock
from sweep.store import Store


def run(
    chain: Chain, plan: Plan, store: Store, started: float | None = None, until: float | None = None
) -> Generator[Event]:
    """Trains what is missing of a chain and scores it. Raises SweepError where data, encoder or store are at fault.

    `until` is the share of the target phase after which it pauses, without scores. A chain ends, without scores, at a
    phase before the target phase that has collapsed.
    """
    stock = Stock(store)
    if stock.is_over(chain):
        return
    bench = yield from set_up(chain, plan, store, started)
    for phase in stock.to_train(chain):
        yield from train_phase(bench, phase, until)
        stock.learn(phase.key)
        if stock.dead_end(chain) is not None:
            return
    if until is None:
        yield from score_chain(bench, chain)
