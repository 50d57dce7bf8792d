"""Costs in the report: what the study spent, what sharing saved, how cells were tuned, what to distrust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sweep.report.results import Ended, Result
from sweep.store.artifacts import Store

if TYPE_CHECKING:
    import pandas as pd

SCORING = "scoring"
STOPPED = "stopped at a rung"  # target phases of candidates that were beaten on their way
KINDS = ("pretrain", "trunk", "intermediate", "target", STOPPED, SCORING)


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


def weights_held(runs: Iterable[Result | Ended], store: Store) -> dict[str, int]:
    """Bytes of the weights that the store keeps of these chains' phases, by kind, in the order of `KINDS`."""
    phases = {phase.key: phase for run in runs for phase in run.phases}
    found: Counter[str] = Counter()
    for phase in phases.values():
        found[phase.kind] += store.bytes_held(phase)
    return {kind: found[kind] for kind in KINDS if found[kind]}


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
