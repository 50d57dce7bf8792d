"""Which target phases keep their weights once they are scored: those of winners, as far as the study has disk for them.

A target that gets another language tomorrow is then scored on them; without weights its phase is trained again. The
winner of a cell is known when its candidates are compared, so the best so far is kept, one per cell and seed.
"""

from __future__ import annotations

from sweep.plan.plan import Plan
from sweep.plan.recipe import TARGET, Chain
from sweep.store.index import Stock


class Winners:
    """Bytes of the weights that are kept. One instance, in the driver; a restart counts anew what the store has."""

    def __init__(self, plan: Plan, stock: Stock) -> None:
        self._plan, self._stock = plan, stock
        self._room = plan.study.runtime.keep_winners
        self._bytes: dict[str, int] = {}  # key of a phase -> what its weights take
        self._holders: dict[str, set[str]] = {}  # key of a phase -> chains that keep it: targets may share one

    @property
    def room(self) -> bool:
        """Whether the weights of another chain may be kept."""
        return sum(self._bytes.values()) < self._room

    def won(self, chain: Chain) -> None:
        """A scored chain is the best of its cell so far, or a replica of the winner."""
        key = _target_phase(chain)
        if key is None or not self._stock.has_weights(key):
            return
        if key not in self._bytes:
            size = self._stock.bytes_held(key)
            if sum(self._bytes.values()) + size > self._room:
                self.lost(chain)
                return
            self._bytes[key] = size
        self._holders.setdefault(key, set()).add(chain.key)

    def lost(self, chain: Chain) -> None:
        """Another chain of the cell is better, or there is no room; nobody keeps what other targets do not need."""
        key = _target_phase(chain)
        if key is None or self._plan.study.runtime.keep_target_weights or not self._stock.has_weights(key):
            return
        self._holders.get(key, set()).discard(chain.key)
        if not self._holders.get(key) and all(map(self._stock.has_score, self._plan.readers(chain))):
            self._bytes.pop(key, None)
            self._stock.release(key)


def _target_phase(chain: Chain) -> str | None:
    last = chain.phases[-1] if chain.phases else None
    return last.key if last is not None and last.recipe.kind == TARGET else None
