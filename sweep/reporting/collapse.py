"""Phases that learned nothing: which they were, what they cost, and which chains they ended.

A chain that ended at such a phase has no scores. It is a result all the same: it has a row in the tables, its curve is
drawn, its cost counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sweep.planning.ledger import ChainRow
from sweep.records import PhaseRecord
from sweep.reporting.results import Ended, Result, cell_text, labels

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 6  # names in a sentence


def phase_table(found: Sequence[Result], over: Sequence[Ended]) -> pd.DataFrame:
    """One row per phase that collapsed or was tried again, as texts; scores are in points."""
    import pandas as pd

    runs: list[Result | Ended] = [*found, *over]
    encoders = labels(run.chain.cell.encoder for run in runs)
    chains: dict[str, list[ChainRow]] = {}
    for run in runs:
        for key in {phase.key for phase in run.phases}:
            chains.setdefault(key, []).append(run.chain)
    phases = {phase.key: phase for run in runs for phase in run.phases if phase.collapsed or _collapsed_tasks(phase)}
    phases |= {phase.key: phase for run in runs for phase in run.phases if len(phase.attempts) > 1}
    rows = [
        {
            **({"encoder": encoders[chains[key][0].cell.encoder]} if len(encoders) > 1 else {}),
            **_described(phase),
            "cells": _names(chains[key], {}),
            "chains": len(chains[key]),
        }
        for key, phase in phases.items()
    ]
    return pd.DataFrame(rows)


def _described(phase: PhaseRecord) -> dict[str, object]:
    alone = ", ".join(_collapsed_tasks(phase))
    outcome = f"passed on, with {alone} collapsed" if alone else "passed on"
    if phase.collapsed:
        outcome = "not passed on" if phase.dead_end else "scored and marked"
    tried = [attempt["dev"] for attempt in phase.attempts] or [phase.dev_score]
    return {
        "phase": phase.kind,
        "tasks": "+".join(phase.recipe.get("tasks", ())),
        "seed": phase.recipe.get("seed", ""),
        "learning rate": f"{phase.recipe.get('learning_rate', float('nan')):.3g}",
        "dev score of each attempt": ", ".join("–" if dev is None else f"{100 * dev:.1f}" for dev in tried),
        "best constant answer": "–" if phase.majority is None else f"{100 * phase.majority:.1f}",
        "outcome": outcome,
    }


def _collapsed_tasks(phase: PhaseRecord) -> list[str]:
    """Tasks that collapsed beside others that did not."""
    return [name for name, entry in sorted(phase.tasks.items()) if entry["collapsed"] and not phase.collapsed]


def doubts(found: Sequence[Result], over: Sequence[Ended]) -> Iterator[str]:
    """What collapsed phases do to the study's answers, in sentences."""
    level = "dev score at the level of the best constant answer"
    scored = [result for result in found if result.collapsed]
    encoders = labels([*(run.chain.cell.encoder for run in found), *(run.chain.cell.encoder for run in over)])
    if scored:
        phases = {phase.key for result in scored for phase in result.phases if phase.collapsed}
        kept = "kept in means; the table of all cells has gains without them"
        names = _names((run.chain for run in scored), encoders)
        yield f"{len(phases)} collapsed target phases ({level}), {kept}: {names}."
    if over:
        yield (
            f"{len(over)} chains have no scores, because a phase before the target phase learned nothing ({level}): "
            f"{_names((run.chain for run in over), encoders)}. Means are over their other seeds, if any."
        )


def _names(chains: Iterable[ChainRow], encoders: Mapping[str, str]) -> str:
    names = sorted({cell_text(chain.cell.columns(), encoders) for chain in chains})
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
