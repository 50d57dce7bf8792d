"""Queue of a study's chains: coverage first, shared phases once.

Order: the first candidate of every cell, then the second, ...; where a cell's winner is known only at the end of its
tuning, one cell after another. A cell's other seeds follow as soon as its candidates are compared, and fill workers
that would be idle. A chain that needs a phase which is being trained elsewhere waits here, holding nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from sweep.plan.halving import cell_by_cell, stages
from sweep.plan.order import coverage_order, warm_starts
from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE, REPLICA, Chain
from sweep.search.tournament import Entry, Tournament, proposal
from sweep.store.index import StoreIndex


class Queue:
    """Entries that wait, and what chains at work have claimed. Knows neither money nor devices."""

    def __init__(self, plan: Plan, stored: StoreIndex) -> None:
        self._plan, self._stored = plan, stored
        self.cells = [
            Tournament(cell, plan.candidates(cell), plan.startup(cell), stages(plan, cell)) for cell in plan.cells
        ]
        order = coverage_order(plan)
        self.warm_starts = warm_starts(plan, order)
        self._claims: dict[str, str] = {}  # key of a phase or score -> key of the chain that makes it
        first, *self._replica_seeds = plan.study.axes.seed
        pairs = [(index, number) for index in order for number in range(self.cells[index].count)]
        if not cell_by_cell(plan.study):
            pairs.sort(key=lambda pair: pair[1])
        self._entries = [Entry(index, number, first, CANDIDATE, stage=0) for index, number in pairs]
        # Where there is nothing to choose between, the other seeds need not wait for the first.
        alone = [index for index in order if self.cells[index].count == 1]
        self._entries += [Entry(index, 0, seed, REPLICA) for index in alone for seed in self._replica_seeds]
        self.total = sum(cell.count + len(self._replica_seeds) for cell in self.cells)  # chains, replicas of all cells

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[Chain, Entry]]:
        """Chains that wait, in order; where their hyperparameters are not known yet, with the planned ones."""
        for entry in self._entries:
            yield self._chain(entry) or self._planned_chain(entry), entry

    def ready(self, position: int) -> tuple[int, Entry, Chain] | None:
        """The first entry from a position on whose chain is known and whose phases nobody is training; None: none."""
        for index in range(position, len(self._entries)):
            chain = self._chain(self._entries[index])
            if chain is not None and not self._is_claimed(chain):
                return index, self._entries[index], chain
        return None

    def remove(self, position: int) -> None:
        """Takes an entry out."""
        self._entries.pop(position)

    def clear(self) -> None:
        """Takes all entries out."""
        self._entries.clear()

    def put_first(self, entry: Entry) -> None:
        """Puts an entry before all others."""
        self._entries.insert(0, entry)

    def put_next(self, entry: Entry) -> None:
        """Puts in what a complete stage opens: promoted candidates before other cells begin, replicas at the end."""
        cell, stage = self.cells[entry.cell], entry.stage
        if stage is None or not cell.is_complete(stage):
            return
        if stage + 1 < len(cell.stages):
            promoted = cell.entrants(stage + 1)
            self._entries[:0] = [Entry(entry.cell, number, entry.seed, CANDIDATE, stage + 1) for number in promoted]
        elif cell.winner is not None and cell.count > 1:
            if cell.scores_winner_after:
                self.put_first(Entry(entry.cell, cell.winner, entry.seed, CANDIDATE))
            self._entries += [Entry(entry.cell, cell.winner, seed, REPLICA) for seed in self._replica_seeds]

    def claim(self, chain: Chain) -> None:
        """Reserves the phases that a chain is going to train, and its scores: no other chain makes them meanwhile."""
        for phase in self._stored.to_train(chain):
            self._claims[phase.key] = chain.key
        self._claims[chain.score] = chain.key

    def release(self, key: str) -> None:
        """Frees a phase or scores that are in the store now."""
        self._claims.pop(key, None)

    def release_all(self, chain: Chain) -> list[str]:
        """Frees all that a chain has claimed; returns the keys."""
        keys = [key for key, owner in self._claims.items() if owner == chain.key]
        for key in keys:
            del self._claims[key]
        return keys

    def _is_claimed(self, chain: Chain) -> bool:
        if chain.score in self._claims:
            return True
        return any(phase.key in self._claims for phase in self._stored.to_train(chain))

    def _chain(self, entry: Entry) -> Chain | None:
        """The chain, or None while its hyperparameters depend on candidates that are not finished."""
        cell = self.cells[entry.cell]
        if entry.role == REPLICA:
            candidate = cell.started.get(entry.candidate)
            planned = self._plan.planned(cell.cell, entry.candidate)
            chosen = planned if candidate is None else candidate.hyperparameters
            return self._plan.chain(cell.cell, chosen, entry.seed, entry.candidate, REPLICA)
        if entry.candidate not in cell.started:
            proposed = proposal(self._plan, self.cells, self.warm_starts[entry.cell], cell, entry.candidate)
            if proposed is None:
                return None
            cell.started[entry.candidate] = self._plan.chain(cell.cell, proposed, entry.seed, entry.candidate)
        return cell.started[entry.candidate]

    def _planned_chain(self, entry: Entry) -> Chain:
        cell = self.cells[entry.cell].cell
        return self._plan.chain(cell, self._plan.planned(cell, entry.candidate), entry.seed, entry.candidate)
