"""What MLflow shows of a chain: parameters, metrics with their true times, tags. Plain values; knows no mlflow.

Everything that is compared lies on the chain's run, because the UI groups and plots what the shown runs have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sweep.store.ledger import ChainRow
from sweep.store.records import PhaseRecord, ScoreRecord

TAG_LENGTH = 8000  # MLflow's limit
Point = tuple[str, float, int, int]  # metric, value, milliseconds since the epoch, step


def parameters(chain: ChainRow) -> dict[str, str]:
    """What a chain is; never changes."""
    rates = {f"lr.{phase}": f"{rate:.6g}" for phase, rate in sorted(chain.rates.items())}
    run = {name: str(getattr(chain, name)) for name in ("seed", "candidate", "role")}
    return chain.cell.columns() | run | rates


def metrics(
    chain: ChainRow, score: ScoreRecord | None, phases: Sequence[PhaseRecord], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[Point]:
    """Scores, means of language groups, costs, then learning curves per phase with their steps and true times."""
    ended = milliseconds(chain.ended or chain.started)
    values = {"dev": chain.dev, "flops": chain.flops, "device_seconds": chain.device_seconds}
    if score is not None:
        scores = {language: entry["value"] for language, entry in sorted(score.languages.items())}
        values |= {f"score/{language}": value for language, value in scores.items()}
        zero_shot = tuple(language for language in scores if language != score.train_language)
        for name, members in {"zero_shot": zero_shot, **groups}.items():
            found = [scores[language] for language in members if language in scores]
            if found:
                values[f"group/{name}"] = sum(found) / len(found)
    yield from ((_name(name), float(value), ended, 0) for name, value in values.items() if value is not None)
    for name, phase in _named(phases):
        for point in phase.curve:
            yield f"{name}/loss", float(point["loss"]), milliseconds(point["time"]), int(point["step"])
        for point in phase.dev:
            yield f"{name}/dev", float(point["value"]), milliseconds(point["time"]), int(point["step"])


def _named(phases: Sequence[PhaseRecord]) -> Iterator[tuple[str, PhaseRecord]]:
    """Phases by kind; the second of a kind is `intermediate.2`, because steps start anew."""
    seen: dict[str, int] = {}
    for phase in phases:
        seen[phase.kind] = seen.get(phase.kind, 0) + 1
        yield phase.kind if seen[phase.kind] == 1 else f"{phase.kind}.{seen[phase.kind]}", phase


def chain_tags(chain: ChainRow, phases: Sequence[PhaseRecord], score: ScoreRecord | None = None) -> dict[str, str]:
    """What may change about a chain, and how the UI calls its run."""
    records: list[PhaseRecord | ScoreRecord] = [*phases, *([score] if score is not None else [])]
    cell = f"{chain.cell.label} → {chain.cell.target}, {chain.cell.encoder}"
    return {
        "mlflow.runName": f"{cell}, seed {chain.seed}, candidate {chain.candidate}",
        "sweep.kind": "chain",
        "sweep.state": chain.state,
        "sweep.selected": str(chain.selected).lower(),
        "sweep.cell": chain.cell.name,
        "sweep.phases": " ".join(chain.phases)[:TAG_LENGTH],
        "sweep.score": chain.score,
        "sweep.collapsed": " ".join(phase.kind for phase in phases if phase.collapsed),
        "sweep.retries": str(sum(max(len(phase.attempts) - 1, 0) for phase in phases)),
        # No parameters: what is missing may be made anew elsewhere, and a parameter never changes.
        "sweep.precision": _all(record.precision for record in records),
        "sweep.device": _all(record.device for record in records),
        "sweep.version": _all(record.versions.get("sweep", "") for record in records),
        "sweep.message": chain.message[:TAG_LENGTH],
    }


def _all(values: Iterable[str]) -> str:
    return " and ".join(sorted({value for value in values if value}))[:TAG_LENGTH]


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return round(1000 * seconds)


def _name(metric: str) -> str:
    return re.sub(r"[^\w. /:-]", "_", metric)
