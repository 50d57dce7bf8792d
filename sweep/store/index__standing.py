"""How a results folder stands to the study file as it is now: what is done, what is trained, and what again and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sweep.plan.plan import Plan
from sweep.plan.recipe import CANDIDATE, REPLICA, Chain
from sweep.store.artifacts import Store
from sweep.store.index import Stock
from sweep.store.ledger import LOSER, ChainRow


@dataclass
class Standing:
    """Counts of a plan's chains and of the phases that they lack."""

    done: int = 0  # chains
    left: int = 0
    scored_alone: int = 0  # of those that are left: all their weights are there
    first: dict[str, int] = field(default_factory=dict)  # kind of phase -> to be trained for the first time
    again: dict[str, int] = field(default_factory=dict)  # kind of phase -> trained before, and their weights released
    wanted_by: list[str] = field(default_factory=list)  # targets whose scores need what is trained again

    def lines(self, folder: object) -> Iterator[str]:
        """What `sweep plan` prints of it."""
        yield f"in {folder}: {self.done:,} of {self.done + self.left:,} chains are done"
        if self.first:
            yield f"  to train for the first time: {_counted(self.first)}"
        if self.again:
            yield (
                f"  to train again: {_counted(self.again)}, whose weights were released after scoring: scores of"
                f" {', '.join(self.wanted_by)} are asked for that are not there (runtime.keep_winners: what is kept)"
            )
        if self.scored_alone:
            yield f"  to score without training: {self.scored_alone:,} chains, whose weights are kept"


def standing(plan: Plan, rows: Sequence[ChainRow], store: Store) -> Standing:
    """Chains with the rates that they had when they ran; where none has run, with those of the plan."""
    found, stock, seen = Standing(), Stock(store), set[str]()
    for chain in _chains(plan, rows):
        if chain is None or stock.is_over(chain):
            found.done += 1
            continue
        found.left += 1
        missing = stock.to_train(chain)
        found.scored_alone += not missing
        for phase in missing:
            record = None if phase.key in seen else store.phase(phase.key)
            counted = found.first if record is None else found.again
            if phase.key not in seen:
                counted[phase.recipe.kind] = counted.get(phase.recipe.kind, 0) + 1
            if record is not None and chain.cell.target not in found.wanted_by:
                found.wanted_by.append(chain.cell.target)
            seen.add(phase.key)
    return found


def _chains(plan: Plan, rows: Sequence[ChainRow]) -> Iterator[Chain | None]:
    """The plan's chains; None for one that was beaten in its cell, and will not run."""
    candidates = {(row.cell.name, row.candidate): row for row in rows if row.role == CANDIDATE}  # the latest of each
    winners = {row.cell.name: row for row in rows if row.selected and row.role == CANDIDATE}
    for chain in plan.planned_chains():
        row = candidates.get((chain.cell.name, chain.candidate))
        row = winners.get(chain.cell.name, row) if chain.role == REPLICA else row
        if row is None or row.rates.keys() != chain.rates.keys():
            yield chain
        elif row.state == LOSER:
            yield None
        else:
            yield plan.chain(chain.cell, row.rates, chain.seed, row.candidate, chain.role)


def _counted(phases: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind} phase{'s' if count > 1 else ''}" for kind, count in sorted(phases.items()))
