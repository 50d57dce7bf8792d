"""Preview of a study (`sweep preview`): ranks its intermediate settings for each target before it is run.

Works in this process, without Ray: a preview is a short phase and a forward pass. What it spends is the study's: it is
charged to the budget, and to no chain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.config.axes import AMOUNTS, NONE, Arm
from sweep.errors import StudyError
from sweep.evaluate.transferability import measure_transferability
from sweep.plan.cost import Costs
from sweep.plan.facts import NO_FACTS
from sweep.plan.plan import Plan
from sweep.plan.preview import preview_parts, previews, ranked_targets, short_plan
from sweep.plan.recipe import Chain
from sweep.report.results import preview_frame
from sweep.run.inline import paid
from sweep.run.study import prepared
from sweep.search.budget import Spending
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger
from sweep.terminal import table
from sweep.train.context import Event, Listener

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Ranking of a call, and its cost."""

    ranking: pd.DataFrame  # a preview_frame
    missing: int  # previews without budget, or whose encoder collapsed in pretraining
    made: int  # previews of this call
    flops: float
    device_seconds: float
    unranked: tuple[str, ...]  # targets that have no preview


def preview(path: Path) -> Outcome:
    """Makes the missing previews of a study. Raises SweepError for a user error."""
    with prepared(path) as (plan, ledger, results):
        short, store = _rankable(plan, path), Store(results / paths.STORE)
        chains, before = list(previews(short)), ledger.spent()
        entries = [_entry(chain) for chain in chains]
        ledger.remember(NO_FACTS.with_previews(entries))
        made = _make(chains, short, ledger, store)
        missing = sum(store.preview(chain.score) is None for chain in chains)
        flops, seconds = (now - then for now, then in zip(ledger.spent(), before, strict=True))
        unranked = tuple(name for name in plan.study.axes.target if name not in ranked_targets(plan))
        return Outcome(preview_frame(entries, store), missing, made, flops, seconds, unranked)


def _rankable(plan: Plan, path: Path) -> Plan:
    if not any(plan.study.axes.intermediate):
        raise StudyError(f"{path}: axes.intermediate", "none alone", "a preview ranks intermediate tasks, one at least")
    short = short_plan(plan)
    if not short.cells:
        expected = "a target with labels to train on is expected: for others all settings have to be tried"
        raise StudyError(f"{path}: axes.target", "no target that a preview can rank for", expected)
    return short


def _entry(chain: Chain) -> dict[str, str]:
    named = {name: text for name, text in chain.cell.columns().items() if name not in AMOUNTS}
    return {**named, "key": chain.score}


def _make(chains: Sequence[Chain], short: Plan, ledger: Ledger, store: Store) -> int:
    """Makes the previews that the store lacks and the budget pays for; returns how many."""
    stored, costs = StoreIndex(store), Costs(short, ledger.facts().sizes)
    spending, made = Spending(short.study, ledger, costs, stored, time.time), 0
    for chain in chains:
        if store.preview(chain.score) is None and _price(chain, spending) <= spending.free and not spending.overdue:
            _pay(chain, short, store, spending)
            made += store.preview(chain.score) is not None
    return made


def _pay(chain: Chain, short: Plan, store: Store, spending: Spending) -> None:
    """Makes a preview, or stops where budget or time are exhausted; finished phases are kept."""

    def hear(event: Event) -> None:
        if event.message:
            LOG.warning(event.message)

    def measure(listen: Listener) -> None:
        measure_transferability(chain, short, store, listen)

    paid(chain, _price(chain, spending), short.study.runtime.devices, spending, measure, hear)


def _price(chain: Chain, spending: Spending) -> float:
    """Cost of what a preview still needs, in the budget's unit."""
    parts = preview_parts(spending.costs, chain)
    keys = [*(phase.key for phase in spending.stored.to_train(chain)), chain.score]
    works = spending.costs.works(chain, {key: parts[key] for key in keys}).values()
    return sum(spending.speed.amount(spending.budget, work) for work in works)


def text(outcome: Outcome, path: Path) -> str:
    """Text of the command: ranking, cost, and what is missing."""
    lines = list(_ranking(outcome.ranking))
    cost = f"{outcome.flops:.3g} FLOPs, {outcome.device_seconds:.0f} device-seconds, charged to the study's budget"
    lines.append(f"{outcome.made} previews made now: {cost}")
    if outcome.missing:
        lines.append(
            f"{outcome.missing} previews are missing: budget or deadline were exhausted, or pretraining collapsed;"
            f" 'sweep preview {path}' resumes"
        )
    if outcome.unranked:
        lines.append(f"not ranked, without labels to train on: {', '.join(outcome.unranked)}")
    return "\n".join(lines)


def _ranking(frame: pd.DataFrame) -> Iterator[str]:
    for (encoder, target), members in frame.groupby(["encoder", "target"], sort=False):
        yield f"{target} ({encoder}), log evidence per label:"
        yield table([_ranked(row) for row in members.to_dict("records")], numbers={0}, indent=2)


def _ranked(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    rank = "-" if row["intermediate"] == NONE else f"{row['rank']:.0f}"
    return rank, Arm.of(row, but=AMOUNTS).label, f"{row['evidence']:.4f}"
