"""A study's chains in this process, one after another, as a run with one worker admits them. No Ray."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sweep.plan.recipe import Chain
from sweep.run.chain import run
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.train.context import Event


def in_turn(admission: Admission, store: Store) -> Iterator[Chain]:
    """Yields every chain that has ended; none may fail."""
    while (chain := admission.next()) is not None:
        run(chain, admission.plan, store, partial(_hear, admission, chain), pause_at=admission.pause_at(chain.key))
        admission.ended(chain.key)
        yield chain
    assert not admission.outcomes.failed, admission.outcomes.failed


def _hear(admission: Admission, chain: Chain, event: Event) -> None:
    admission.heard(chain.key, {"started": 0.0, **vars(event)})
