"""What the study cost, what sharing saved, how each cell was tuned, and what a reader should distrust.

Frames and sentences; no pictures, no statistics of scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.planning.axes import CELL_COLUMNS
from sweep.planning.ledger import DONE, FAILED, LOSER, SUPERSEDED, ChainRow
from sweep.records import PhaseRecord, ScoreRecord
from sweep.reporting.collapse import doubts
from sweep.reporting.gains import Estimates
from sweep.reporting.results import Ended, Result, cell_text, chain_order, labels
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

SCORING = "scoring"
STOPPED = "stopped at a rung"  # target phases of candidates that were beaten on their way
KINDS = ("pretrain", "trunk", "intermediate", "target", STOPPED, SCORING)
FEW_EXAMPLES = 500
FEW_SEEDS = 3


def savings(found: Sequence[Result], over: Sequence[Ended] = ()) -> pd.DataFrame:
    """Per kind of phase: number, FLOPs and device-seconds of the chains one at a time, and each phase only once.

    Of the chains that are done, and of those that are `over` without scores; what the latter have of a target phase
    that was stopped is a kind of its own.

    Columns kind, then count, flops, device_seconds with the suffixes _unshared and _shared; one row per kind, in the
    order of `KINDS`.
    """
    import pandas as pd

    runs: list[Result | Ended] = [*found, *over]
    parts = [(phase.kind, phase.key, phase.flops, phase.device_seconds) for r in runs for phase in r.phases]
    parts += [(SCORING, r.score.key, r.score.flops, r.score.device_seconds) for r in found]
    stopped = [(run.chain.phases[-1], run.stopped) for run in over if run.stopped is not None]
    parts += [(STOPPED, key, part.flops, part.device_seconds) for key, part in stopped]
    frame = pd.DataFrame(parts, columns=["kind", "count", "flops", "device_seconds"])
    how = {"count": "count", "flops": "sum", "device_seconds": "sum"}
    unshared = frame.groupby("kind").agg(how)
    shared = frame.drop_duplicates("count").groupby("kind").agg(how)
    joined = unshared.add_suffix("_unshared").join(shared.add_suffix("_shared"))
    return joined.reindex([kind for kind in KINDS if kind in joined.index]).reset_index()


def held(runs: Iterable[Result | Ended], store: Store) -> dict[str, int]:
    """Bytes of the weights that the store keeps of these chains' phases, by kind, in the order of `KINDS`."""
    phases = {phase.key: phase for run in runs for phase in run.phases}
    found: Counter[str] = Counter()
    for phase in phases.values():
        found[phase.kind] += store.bytes_held(phase)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def tuning(chains: Sequence[ChainRow]) -> pd.DataFrame:
    """One row per tuning candidate: its cell's names, number, learning rate per phase, dev score, state, selected."""
    import pandas as pd

    asked = (chain for chain in chains if chain.role == "candidate" and chain.state != SUPERSEDED)
    candidates = sorted(asked, key=chain_order)
    rows = [
        {
            **chain.cell.columns(),
            "candidate": chain.candidate,
            **{f"lr.{phase}": rate for phase, rate in sorted(chain.rates.items())},
            "dev": chain.dev,
            "state": chain.message if chain.state == LOSER else chain.state,
            "selected": chain.selected,
        }
        for chain in candidates
    ]
    frame = pd.DataFrame(rows)
    rates = sorted(str(name) for name in frame if str(name).startswith("lr."))
    return frame[[*CELL_COLUMNS, "candidate", *rates, "dev", "state", "selected"]] if rows else frame


def missing(chains: Sequence[ChainRow], found: Sequence[Result], plan: Mapping[str, Any]) -> list[str]:
    """What a finished study would have and this one has not (yet), in sentences."""
    states = Counter(chain.state for chain in chains)
    sentences = []
    if earlier := states.pop(SUPERSEDED, 0):
        sentences.append(f"{earlier} chains that the study file no longer asks for are not shown; they were paid for.")
    planned, done = plan.get("chains"), states[DONE] + states[LOSER]
    if isinstance(planned, int) and done < planned:
        others = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state not in (DONE, LOSER))
        sentences.append(f"{done} of {planned} planned chains are done{f' ({others})' if others else ''}.")
    cells, having = plan.get("cells"), len({result.chain.cell for result in found if result.chain.selected})
    if isinstance(cells, int) and having < cells:
        sentences.append(f"{having} of {cells} cells have a result; the others are shown as missing.")
    if states[DONE] > len(found):
        sentences.append(f"{states[DONE] - len(found)} done chains have lost their records in the store.")
    return sentences


def distrust(
    chains: Sequence[ChainRow],
    found: Sequence[Result],
    over: Sequence[Ended],
    estimates: Estimates,
    plan: Mapping[str, Any],
    *,
    overlapping: bool = False,
) -> list[str]:
    """What weakens the study's answers, in sentences; empty where nothing was found."""
    sentences = [*missing(chains, found, plan), *_few_seeds(estimates), *_few_examples(estimates)]
    encoders = labels(chain.cell.encoder for chain in chains)
    sentences += [*doubts(found, over), *_unequal_tuning(chains), *_failed(chains, encoders)]
    sentences += [*_uncompared(estimates, encoders, overlapping), *_mixed(found, over, gpu=plan.get("gpu", False))]
    return [*sentences, *plan.get("flags", ())]


def _mixed(found: Sequence[Result], over: Sequence[Ended], *, gpu: bool) -> list[str]:
    """Whether all was computed alike, and as the study asks: else what differs may be the machines' or the libraries'.

    `gpu` is whether the study asks for one.
    """
    parts: dict[str, PhaseRecord | ScoreRecord] = {r.score.key: r.score for r in found}
    parts |= {phase.key: phase for run in found for phase in run.phases}
    parts |= {phase.key: phase for run in over for phase in run.phases}
    used = {
        "precision": [part.precision for part in parts.values()],
        "device": [part.device for part in parts.values()],
        "kernels": [part.kernels for part in parts.values()],
    }
    for name in sorted({name for part in parts.values() for name in part.versions}):
        used[f"version of {name}"] = [part.versions.get(name, "") for part in parts.values()]
    sentences = []
    for what, values in used.items():
        counts = Counter(value for value in values if value)
        if len(counts) > 1:
            shown = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            sentences.append(f"Phases and scores differ in {what}: {shown}; so may what is compared, beyond its seeds.")
    phases = [part for part in parts.values() if isinstance(part, PhaseRecord)]
    unheard = sum(p.recipe.get("precision") == "bf16" and p.precision == "fp32" for p in phases)
    if unheard:
        sentences.append(f"{unheard} of {len(phases)} phases were asked for in bf16, which their devices do not have.")
    slow = sum(part.device.startswith("cpu") for part in parts.values())
    if gpu and slow:
        told = f"{slow} phases and scores were computed on a CPU, though the study asks for a GPU"
        sentences.append(f"{told}: torch saw none.")
    return sentences


def _failed(chains: Sequence[ChainRow], encoders: Mapping[str, str]) -> list[str]:
    failed = sorted((chain for chain in chains if chain.state == FAILED), key=chain_order)
    if not failed:
        return []
    first = failed[0]
    name = f"{cell_text(first.cell.columns(), encoders)}, seed {first.seed}"
    return [f"{len(failed)} of {len(chains)} chains failed; the first, {name}: {first.message or 'no message'}."]


def _few_seeds(estimates: Estimates) -> list[str]:
    cells = estimates.cells
    if cells.empty:
        return []
    single, few = int((cells["seeds"] == 1).sum()), int(((cells["seeds"] > 1) & (cells["seeds"] < FEW_SEEDS)).sum())
    sentences = []
    if single:
        sentences.append(
            f"{single} of {len(cells)} cells have one seed: their intervals are over test examples only"
            " and say nothing about training noise."
        )
    if few:
        sentences.append(
            f"{few} of {len(cells)} cells have fewer than {FEW_SEEDS} seeds: their intervals rest on "
            "what a seed does to other settings."
        )
    return sentences


def _few_examples(estimates: Estimates) -> list[str]:
    if estimates.languages.empty:
        return []
    sizes = estimates.languages.groupby(["target", "language"])["examples"].min()
    small = sizes[sizes < FEW_EXAMPLES]
    by_target = [
        f"{target} ({group.min()} to {group.max()} in {len(group)} languages)"
        for target, group in small.groupby("target")
    ]
    return [f"Test sets below {FEW_EXAMPLES} examples: {', '.join(by_target)}."] if by_target else []


def _unequal_tuning(chains: Sequence[ChainRow]) -> list[str]:
    """Cells of one target are compared; those of another may have more to choose from."""
    # A chain without phases (retrieval with the published encoder) has nothing to tune.
    tuned = [chain for chain in chains if chain.role == "candidate" and chain.phases]
    counts = Counter(chain.cell for chain in tuned if chain.state in (DONE, LOSER))
    most: dict[str, int] = {}
    for cell, count in counts.items():
        most[cell.target] = max(count, most.get(cell.target, 0))
    fewer = {cell: most[cell.target] for cell, count in counts.items() if count < most[cell.target]}
    if not fewer:
        return []
    worst = max(fewer, key=lambda cell: fewer[cell] - counts[cell])
    found = f"{len(fewer)} of {len(counts)} cells have fewer finished candidates than others of their target"
    return [f"Unequal tuning: {found} (at worst {counts[worst]} against {fewer[worst]})."]


def _uncompared(estimates: Estimates, encoders: Mapping[str, str], overlapping: bool) -> list[str]:
    sentences = []
    cells, overall = estimates.cells, estimates.overall
    if not overall.empty and overall["targets"].nunique() > 1:
        low, high = overall["targets"].min(), overall["targets"].max()
        sentences.append(f"Mean gains are over different targets ({low} to {high} of them): compare them with care.")
    if not cells.empty and cells["overlap"].any():
        shared = cells[cells["overlap"]].to_dict("records")
        names = dict.fromkeys(cell_text(row, encoders) for row in shared)
        done = "counted in mean gains, as the study asks" if overlapping else "left out of mean gains"
        sentences.append(f"Training data overlaps with the target's, {done}: {', '.join(names)}.")
    return sentences


def amount(value: float, unit: str) -> str:
    """FLOPs or device-seconds in words."""
    if unit == "flops":
        for size, name in ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} FLOP"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if value >= 1.5 * size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} seconds"
