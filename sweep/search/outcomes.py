"""Outcomes of chains: what the ledger records of each, and whose weights the store keeps.

A target that gets another language tomorrow is scored on the weights that are kept; without them its phase is trained
again. The winner of a cell is known when its candidates are compared, so the best so far is kept, one per cell and
seed.
"""

from __future__ import annotations

from collections.abc import Callable

from sweep.plan.halving import TRAINED
from sweep.plan.plan import Plan
from sweep.plan.recipe import REPLICA, TARGET, Chain, Phase
from sweep.store import paths
from sweep.store.index import StoreIndex
from sweep.store.ledger import COLLAPSED, DONE, ELIMINATED, FAILED, PAUSED, STOPPED, Ledger, row_of


class Outcomes:
    """Chains by how they ended. One instance, in the driver. Decides nothing."""

    def __init__(self, ledger: Ledger, stored: StoreIndex, clock: Callable[[], float]) -> None:
        self._ledger, self._stored, self._clock = ledger, stored, clock
        self.done: list[Chain] = []
        self.failed: list[tuple[Chain, str]] = []
        self.collapsed: list[tuple[Chain, str]] = []  # ended at a phase that learned nothing
        self.eliminated: list[Chain] = []  # another candidate of their cell was better; without scores
        self.unpaid: list[Chain] = []  # could not be paid, or were stopped when the money was gone or at the deadline
        self.stopped: list[Chain] = []  # of those, the ones that a worker had
        self.ends: list[tuple[Chain, str, str]] = []  # chain, state in the ledger, reason: all of these as they came
        self._scored: set[str] = set()  # keys of chains in `done`

    @property
    def count(self) -> int:
        """Chains with which this run is through; those that were not paid for wait for the next one."""
        return len(self.done) + len(self.failed) + len(self.collapsed) + len(self.eliminated)

    def finish(self, chain: Chain) -> None:
        """Records a chain that has its scores."""
        if chain.key in self._scored:
            return  # at an earlier stage of its cell
        self._scored.add(chain.key)
        self.done.append(chain)
        self.ends.append((chain, DONE, ""))
        self._record(chain, DONE, self._stored.dev_score(chain), "")
        if chain.role == REPLICA:
            self._ledger.select(chain.cell.name, chain.candidate)

    def collapse(self, chain: Chain, dead_end: Phase) -> None:
        """Records a chain that ends, without scores, at a phase that learned nothing."""
        reason = self._stored.why_collapsed(dead_end)
        self.collapsed.append((chain, reason))
        self.ends.append((chain, COLLAPSED, reason))
        self._record(chain, COLLAPSED, None, reason)

    def eliminate(self, chain: Chain, stage: int, pause_at: float, dev: float | None) -> None:
        """Records a candidate that enough others of its cell have beaten at a stage."""
        rung = f"eliminated at rung {stage + 1} ({pause_at:.0%})"
        reason = "eliminated after its target phase, not scored" if pause_at == TRAINED else rung
        self.eliminated.append(chain)
        self.ends.append((chain, ELIMINATED, reason))
        self._record(chain, ELIMINATED, dev, reason)

    def pause(self, chain: Chain, dev: float | None) -> None:
        """Records a candidate that waits until the others of its cell have come as far."""
        self._record(chain, PAUSED, dev, "waits for the other candidates of its cell")

    def fail(self, chain: Chain, reason: str) -> None:
        """Records a chain that cannot be done, with where its log is; a later run tries again."""
        reason = f"{reason} ({paths.LOGS}/{self._stored.store.log(chain.key).name})"
        self.failed.append((chain, reason))
        self.ends.append((chain, FAILED, reason))
        self._ledger.close_chain(chain.key, FAILED, None, self._clock(), reason)

    def stop(self, chain: Chain) -> None:
        """Records a chain that a worker had when money or time ran out, or the user stopped the study."""
        self.unpaid.append(chain)
        self.stopped.append(chain)
        self.ends.append((chain, STOPPED, ""))
        self._note_stop(chain)

    def note_checkpoints(self) -> None:
        """Records again from where stopped chains go on: a worker may have kept a checkpoint on its way out."""
        for chain in self.stopped:
            self._note_stop(chain)

    def retry(self, chain: Chain) -> None:
        """Records a chain that is tried again with a larger share of a device."""
        self._ledger.close_chain(chain.key, STOPPED, None, self._clock(), "its share of a device was too small")

    def _note_stop(self, chain: Chain) -> None:
        self._ledger.close_chain(chain.key, STOPPED, None, self._clock(), f"stopped; {self._stored.whence(chain)}")

    def _record(self, chain: Chain, state: str, dev: float | None, message: str) -> None:
        """Opens and closes a chain, so also one that no worker had, because the store knows how it ends."""
        now = self._clock()
        self._ledger.open_chain(row_of(chain, state, now))
        self._ledger.close_chain(chain.key, state, dev, now, message)


class KeptWeights:
    """Bytes of the weights that are kept. One instance, in the driver; a restart counts anew what the store has."""

    def __init__(self, plan: Plan, stored: StoreIndex) -> None:
        self._plan, self._stored = plan, stored
        self._room = plan.study.runtime.keep_winners
        self._bytes: dict[str, int] = {}  # key of a phase -> what its weights take
        self._holders: dict[str, set[str]] = {}  # key of a phase -> chains that keep it: targets may share one

    @property
    def room(self) -> bool:
        """Whether the weights of another chain may be kept."""
        return sum(self._bytes.values()) < self._room

    def keep(self, chain: Chain) -> None:
        """A scored chain is the best of its cell so far, or a replica of the winner."""
        key = _target_phase(chain)
        if key is None or not self._stored.has_weights(key):
            return
        if key not in self._bytes:
            size = self._stored.bytes_held(key)
            if sum(self._bytes.values()) + size > self._room:
                self.drop(chain)
                return
            self._bytes[key] = size
        self._holders.setdefault(key, set()).add(chain.key)

    def drop(self, chain: Chain) -> None:
        """Another chain of the cell is better, or there is no room; nobody keeps what other targets do not need."""
        key = _target_phase(chain)
        if key is None or self._plan.study.runtime.keep_target_weights or not self._stored.has_weights(key):
            return
        self._holders.get(key, set()).discard(chain.key)
        if not self._holders.get(key) and all(map(self._stored.has_score, self._plan.readers(chain))):
            self._bytes.pop(key, None)
            self._stored.release(key)


def _target_phase(chain: Chain) -> str | None:
    last = chain.phases[-1] if chain.phases else None
    return last.key if last is not None and last.recipe.kind == TARGET else None
