"""Summary of a plan as `sweep plan` prints it: chains, shared phases, cost, what the budget covers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweep.plan.cost import Costs, Speed
from sweep.plan.order import Coverage
from sweep.plan.plan import Plan
from sweep.plan.recipe import TARGET
from sweep.terminal import table

SHOWN_CELLS = 100  # that a budget covers, in print


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
            name: {"licence": source.entry.licence, "text": source.entry.text} for name, source in plan.encoders.items()
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


def plan_text(planned: Plan, found: Mapping[str, Any], speed: Speed) -> str:
    """The same for a person. `found` is the summary, with "coverage" where that is to be shown."""
    axes = planned.study.axes.texts()
    lines = [f"study {found['study']}", table([(name, ", ".join(values)) for name, values in axes.items()], indent=2)]
    ratio, limit = (found["flops_unshared"] / max(found[part], 1) for part in ("flops_shared", "flops_last"))
    shared = f"{ratio:.1f} times; {limit:.1f} at most, were all phases before the target phase free"
    lines += [
        f"{found['cells']:,} cells, {found['chains']:,} chains",
        f"{found['phases_distinct']:,} distinct phases instead of {found['phases_unshared']:,}",
        f"{found['flops_shared']:.3g} FLOPs, {found['flops_unshared']:.3g} one chain at a time ({shared})",
    ]
    if found["flops_planned"] < found["flops_shared"]:
        ratio = found["flops_unshared"] / max(found["flops_planned"], 1)
        lines.append(
            f"{found['flops_planned']:.3g} FLOPs ({ratio:.1f} times) without what losing candidates are spared"
        )
    if by_scores := found["cells_tuned_by_scores"]:
        guessed = "planned as if none were known: they may share other phases than that"
        lines.append(f"{by_scores:,} cells choose learning rates by dev scores, {guessed}")
    budget = planned.study.budget
    whole = planned.study.scoring.chains == "winners" or planned.study.tuning.halving is not None
    what = "the tuning of" if whole else "the first candidate of"
    covered = f"covers {what} {found['covered_by_budget']:,} of {found['cells']:,} cells"
    if budget and not found["covered_by_budget"]:
        least = budget.model_copy(update={"amount": found["least_budget"]})
        covered = f"below the cheapest chain, which needs {least}"
    lines.append(f"budget {budget}: {covered}" if budget else "no budget: everything is run")
    if budget and budget.unit == "device_seconds":
        assumed = "an assumed speed; a run measures it with the first chain of each encoder"
        lines.append(f"  (forecast at {'the speed that this study has measured' if speed.measured else assumed})")
    lines += [f"note: {flag}" for flag in found["flags"]]
    return "\n".join([*lines, *_coverage_lines(found.get("coverage", []), budget)])


def _coverage_lines(cells: Sequence[dict[str, Any]], budget: Any) -> Iterator[str]:
    """The cells that a budget covers, in their order: what each adds, and what has been spent with it."""
    rows = []
    for number, one in enumerate(cells[:SHOWN_CELLS], start=1):
        amount, spent = (budget.model_copy(update={"amount": one[name]}) for name in ("amount", "spent"))
        rows.append((str(number), f"{one['cell']}: {amount}, with those before {spent}"))
    if rows:
        yield table(rows, numbers={0}, indent=2)
    if len(cells) > SHOWN_CELLS:
        yield f"      and {len(cells) - SHOWN_CELLS:,} more (--json has all)"
