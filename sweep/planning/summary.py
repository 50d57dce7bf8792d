"""What `sweep plan` says: how much there is to do, how much of it is shared, what the budget covers."""

from __future__ import annotations

from sweep.planning.budget import Costs, Speed
from sweep.planning.chains import TARGET
from sweep.planning.coverage import Coverage
from sweep.planning.plan import Plan


def summary(plan: Plan, costs: Costs, speed: Speed) -> dict[str, object]:
    """What `sweep plan --json` prints.

    `flops_last` is the part of `flops_shared` that would be left if all phases before the target phase were free.
    """
    chains = phases = 0
    unshared = 0.0
    distinct: dict[str, float] = {}
    needed: dict[str, float] = {}
    kinds: set[str] = set()
    last: set[str] = set()
    first = Coverage(plan, costs)
    for chain in plan.planned_chains():
        parts = costs.parts(chain)
        chains += 1
        phases += len(chain.phases)
        unshared += sum(parts.values())
        distinct.update(parts)
        needed.update(costs.planned(chain))
        kinds.update(phase.key for phase in chain.phases)
        last.update(phase.key for phase in chain.phases if phase.recipe.kind == TARGET)
        last.add(chain.score)
    return {
        "study": plan.study.study,
        "encoders": {
            name: {"licence": source.known.licence, "text": source.known.text} for name, source in plan.encoders.items()
        },
        "cells": len(plan.cells),
        "chains": chains,
        "phases_unshared": phases,
        "phases_distinct": len(kinds),
        "flops_unshared": unshared,
        "flops_shared": sum(distinct.values()),
        "flops_last": sum(flops for key, flops in distinct.items() if key in last),
        "flops_planned": sum(needed.values()),  # what losers are spared left out
        "covered_by_budget": sum(1 for _ in first.covered(speed)),
        "least_budget": first.least(speed),
        # Their candidates are planned as if no dev score were known: what they share of earlier phases may differ.
        "cells_tuned_by_scores": sum(map(plan.has_choice, plan.cells)),
        "flags": list(plan.flags),
    }


def coverage(plan: Plan, costs: Costs, speed: Speed) -> list[dict[str, object]]:
    """The cells that the budget covers, in the order in which they are tried; amounts in the budget's unit."""
    found = Coverage(plan, costs).covered(speed)
    return [{"cell": one.cell.name, "amount": one.amount, "spent": one.spent} for one in found]
