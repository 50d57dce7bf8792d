"""Outcomes of chains, as the ledger is told of each. Decides nothing; knows no Ray."""

from __future__ import annotations

from collections.abc import Callable

from sweep.plan.halving import TRAINED
from sweep.plan.recipe import REPLICA, Chain, Phase
from sweep.store import paths
from sweep.store.index import StoreIndex
from sweep.store.ledger import COLLAPSED, DONE, ELIMINATED, FAILED, PAUSED, STOPPED, Ledger, row_of


class Outcomes:
    """Chains by how they ended. One instance, in the driver."""

    def __init__(self, ledger: Ledger, stored: StoreIndex, clock: Callable[[], float]) -> None:
        self._ledger, self._stored, self._clock = ledger, stored, clock
        self.done: list[Chain] = []
        self.failed: list[tuple[Chain, str]] = []
        self.collapsed: list[tuple[Chain, str]] = []  # ended at a phase that learned nothing
        self.eliminated: list[Chain] = []  # beaten by another candidate of their cell, and without scores
        self.unpaid: list[Chain] = []  # could not be paid, or were stopped when the money was gone or at the deadline
        self.stopped: list[Chain] = []  # of those, the ones that a worker had
        self._scored: set[str] = set()  # keys of chains in `done`

    @property
    def count(self) -> int:
        """Chains with which this run is through; those that were not paid for wait for the next one."""
        return len(self.done) + len(self.failed) + len(self.collapsed) + len(self.eliminated)

    def finish(self, chain: Chain) -> None:
        """It has its scores."""
        if chain.key in self._scored:
            return  # at an earlier stage of its cell
        self._scored.add(chain.key)
        self.done.append(chain)
        self._record(chain, DONE, self._stored.dev_score(chain), "")
        if chain.role == REPLICA:
            self._ledger.select(chain.cell.name, chain.candidate)

    def collapse(self, chain: Chain, dead_end: Phase) -> None:
        """It ends, without scores, at a phase that learned nothing."""
        reason = self._stored.why_collapsed(dead_end)
        self.collapsed.append((chain, reason))
        self._record(chain, COLLAPSED, None, reason)

    def eliminate(self, chain: Chain, stage: int, pause_at: float, dev: float | None) -> None:
        """Another candidate was better at the end of a stage."""
        reason = "not scored: loser" if pause_at == TRAINED else f"stopped at rung {stage + 1} ({pause_at:.0%}): loser"
        self.eliminated.append(chain)
        self._record(chain, ELIMINATED, dev, reason)

    def pause(self, chain: Chain, dev: float | None) -> None:
        """It is as far as the other candidates of its cell have to come first."""
        self._record(chain, PAUSED, dev, "waits for the other candidates of its cell")

    def fail(self, chain: Chain, reason: str) -> None:
        """It cannot be done; a later run tries again. What it has said is in its log."""
        reason = f"{reason} ({paths.LOGS}/{self._stored.store.log(chain.key).name})"
        self.failed.append((chain, reason))
        self._ledger.close_chain(chain.key, FAILED, None, self._clock(), reason)

    def stop(self, chain: Chain) -> None:
        """A worker had it, and money, time or the user came first."""
        self.unpaid.append(chain)
        self.stopped.append(chain)
        self._note_stop(chain)

    def note_checkpoints(self) -> None:
        """Workers are gone now: one may have kept a checkpoint after the driver had let go of its chain."""
        for chain in self.stopped:
            self._note_stop(chain)

    def retry(self, chain: Chain) -> None:
        """It is tried again with a larger share of a device."""
        self._ledger.close_chain(chain.key, STOPPED, None, self._clock(), "its share of a device was too small")

    def _note_stop(self, chain: Chain) -> None:
        self._ledger.close_chain(chain.key, STOPPED, None, self._clock(), f"stopped; {self._stored.whence(chain)}")

    def _record(self, chain: Chain, state: str, dev: float | None, message: str) -> None:
        """Also of a chain that no worker had, because the store knows how it ends."""
        now = self._clock()
        self._ledger.open_chain(row_of(chain, state, now))
        self._ledger.close_chain(chain.key, state, dev, now, message)
