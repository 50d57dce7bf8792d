"""Finished chains with what the store knows of them, and the table of scores: one row per chain and language.

Cost here is the cost of a chain *alone*, so it is the same however many chains shared its phases. Averages, intervals
and comparisons are not here (gains), nor is what was really spent (cost).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config.axes import AMOUNTS, ARM_COLUMNS, CELL_COLUMNS, NONE, Arm
from sweep.plan.facts import Reached
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import COLLAPSED, DONE, ELIMINATED, SUPERSEDED, ChainRow
from sweep.store.records import PhaseRecord, ScoreRecord

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("study", *CELL_COLUMNS, "language", "seed"),
    *("metric", "value", "is_source", "flops", "device_seconds", "chain", "candidate", "role", "selected"),
    *("collapsed", "majority", "retries", "retention_before", "retention_saved_head", "retention_fresh_head"),
    "state",
)
SHOWN_CELLS = 6  # names in a sentence


@dataclass(frozen=True)
class Result:
    """A chain that is done."""

    chain: ChainRow
    phases: tuple[PhaseRecord, ...]
    score: ScoreRecord

    @property
    def arm(self) -> Arm:
        """What was compared on the target."""
        return self.chain.cell.arm

    @property
    def flops(self) -> float:
        """Of all phases and the scoring, shared or not."""
        return self.score.flops + sum(phase.flops for phase in self.phases)

    @property
    def device_seconds(self) -> float:
        """Of all phases and the scoring, shared or not."""
        return self.score.device_seconds + sum(phase.device_seconds for phase in self.phases)

    @property
    def collapsed(self) -> bool:
        """Whether some phase of the chain learned nothing."""
        return any(phase.collapsed for phase in self.phases)

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """The languages the target phase has not seen."""
        return tuple(sorted(set(self.score.languages) - {self.score.train_language}))


@dataclass(frozen=True)
class Ended:
    """A chain that ended without scores: at a phase that learned nothing, or beaten by another one of its cell.

    It has the phases that it finished.
    """

    chain: ChainRow
    phases: tuple[PhaseRecord, ...]
    stopped: Reached | None = None  # how far its target phase came, where that is what was not finished


def results(chains: Sequence[ChainRow], store: Store) -> list[Result]:
    """Done chains whose scores are in the store, in an order that does not depend on when they ran."""
    phases: dict[str, tuple[PhaseRecord, ...]] = {}
    scores: dict[str, ScoreRecord | None] = {}
    found = []
    for chain in sorted((chain for chain in chains if chain.state == DONE), key=chain_order):
        if chain.score not in scores:
            scores[chain.score] = store.score(chain.score)
        score = scores[chain.score]
        phases.update({key: store.history(key) for key in chain.phases if key not in phases})
        records = [phases[key] for key in chain.phases]
        if score is not None and all(records):
            found.append(Result(chain, tuple(itertools.chain.from_iterable(records)), score))
    return found


def ended(chains: Sequence[ChainRow], store: Store) -> list[Ended]:
    """Chains that collapsed before their target phase, in an order that does not depend on when they ran."""
    return _without_scores(chains, store, COLLAPSED)


def losers(chains: Sequence[ChainRow], store: Store, paused: Mapping[str, Reached]) -> list[Ended]:
    """Candidates that were stopped at a rung, or not scored, because another one of their cell is better.

    `paused` says of target phases at which rung they were last.
    """
    found = _without_scores(chains, store, ELIMINATED)
    return [
        replace(one, stopped=paused.get(one.chain.phases[-1]))
        if one.chain.phases[-1] not in {record.key for record in one.phases}
        else one
        for one in found
    ]


def _without_scores(chains: Sequence[ChainRow], store: Store, state: str) -> list[Ended]:
    found = sorted((chain for chain in chains if chain.state == state), key=chain_order)
    records = {key: store.phase(key) for chain in found for key in chain.phases}
    return [
        Ended(chain, tuple(record for key in chain.phases if (record := records[key]) is not None)) for chain in found
    ]


def frame_of(study: str, found: Iterable[Result], over: Iterable[Ended] = ()) -> pd.DataFrame:
    """One row per done chain and language, with `COLUMNS`; value and majority are in 0..1.

    A chain that ended without scores, as in `over`, has one row, without language and value.
    """
    import pandas as pd

    rows = [row for result in found for row in _rows(study, result)]
    rows += [_row_without_scores(study, run) for run in over]
    return pd.DataFrame(rows, columns=COLUMNS)


def write_scores(frame: pd.DataFrame, folder: Path) -> None:
    """scores.csv and scores.parquet; equal frames give equal bytes in the CSV file."""
    frame.to_csv(folder / paths.SCORES_CSV, index=False, float_format="%.10g", lineterminator="\n")
    frame.to_parquet(folder / paths.SCORES_PARQUET, index=False)


def write_groups(frame: pd.DataFrame, folder: Path) -> None:
    """groups.csv: means over groups of languages and their gains, with intervals, as the report's table has them."""
    frame.to_csv(folder / paths.GROUPS_CSV, index=False, float_format="%.10g", lineterminator="\n")


def chain_order(chain: ChainRow) -> tuple[object, ...]:
    """Sorts chains by what they are."""
    return (*chain.cell.order, chain.cell.target, chain.seed, chain.candidate, chain.role, chain.key)


def arms_in(frame: pd.DataFrame) -> list[Arm]:
    """The arm of each row of a frame."""
    return [Arm.of(row) for row in frame[list(ARM_COLUMNS)].to_dict("records")]


def labels(names: Iterable[str]) -> dict[str, str]:
    """Encoder names without their folders, where that leaves them different; sorted."""
    short = {name: name.rstrip("/").rsplit("/", 1)[-1] for name in sorted(set(names))}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}


def cell_text(names: Mapping[Any, Any], encoders: Mapping[str, str]) -> str:
    """A cell in a sentence, from its columns; its encoder's label where there are several."""
    beside = f" ({encoders[names['encoder']]})" if len(encoders) > 1 else ""
    return f"{Arm.of(names).label} → {names['target']}{beside}"


def _rows(study: str, result: Result) -> Iterable[tuple[object, ...]]:
    chain, score = result.chain, result.score
    for language, entry in sorted(score.languages.items()):
        is_source = language == score.train_language
        yield (
            *(study, *chain.cell.columns().values(), language, chain.seed, score.metric),
            *(float(entry["value"]), is_source, result.flops, result.device_seconds, chain.key, chain.candidate),
            *(chain.role, chain.selected, result.collapsed, float(entry["majority"]), retries(result.phases)),
            *(*mean_retention(score), chain.state),
        )


def _row_without_scores(study: str, run: Ended) -> tuple[object, ...]:
    chain, nothing = run.chain, float("nan")
    parts: list[PhaseRecord | Reached] = [*run.phases, *([run.stopped] if run.stopped is not None else [])]
    cost = sum(part.flops for part in parts), sum(part.device_seconds for part in parts)
    return (
        *(study, *chain.cell.columns().values(), "", chain.seed, "", nothing, False),
        *(*cost, chain.key, chain.candidate, chain.role, chain.selected, chain.state == COLLAPSED, nothing),
        *(retries(run.phases), nothing, nothing, nothing, chain.state),
    )


def retries(phases: Iterable[PhaseRecord]) -> int:
    """How often phases were tried again because they had learned nothing."""
    return sum(max(len(phase.attempts) - 1, 0) for phase in phases)


def mean_retention(score: ScoreRecord) -> tuple[float, float, float]:
    """Mean over the chain's intermediate tasks of (before, saved head, fresh head), of tasks that have all three."""
    heads = ("before", "saved_head", "fresh_head")
    whole = [entry for entry in score.retention.values() if all(entry[head] is not None for head in heads)]
    means = [sum(entry[head] for entry in whole) / len(whole) if whole else float("nan") for head in heads]
    return means[0], means[1], means[2]


def cells_text(chains: Iterable[ChainRow], encoders: Mapping[str, str]) -> str:
    """Cells of these chains in a sentence, a few at most."""
    names = sorted({cell_text(chain.cell.columns(), encoders) for chain in chains})
    return ", ".join(names[:SHOWN_CELLS]) + (
        f" and {len(names) - SHOWN_CELLS} more" if len(names) > SHOWN_CELLS else ""
    )


def tuning_frame(chains: Sequence[ChainRow]) -> pd.DataFrame:
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
            "state": chain.message if chain.state == ELIMINATED else chain.state,
            "selected": chain.selected,
        }
        for chain in candidates
    ]
    frame = pd.DataFrame(rows)
    rates = sorted(str(name) for name in frame if str(name).startswith("lr."))
    return frame[[*CELL_COLUMNS, "candidate", *rates, "dev", "state", "selected"]] if rows else frame


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


BEFORE = "before"
HEADS = (BEFORE, "saved_head", "fresh_head")


def retention_frame(study: str, found: Sequence[Result]) -> pd.DataFrame:
    """Scores in 0..1 of every done chain and intermediate task; `retention` is saved_head / before. Empty without."""
    import pandas as pd

    rows = []
    for result in found:
        chain = result.chain
        for task, entry in sorted(result.score.retention.items()):
            run = {name: getattr(chain, name) for name in ("seed", "candidate", "role", "selected")}
            values = {f"retention_{head}": entry[head] for head in HEADS}
            about = {name: entry[name] for name in ("split", "language", "metric", "examples", "majority")}
            ratio = entry["saved_head"] / entry["before"] if (entry["before"] or 0) > 0 else None
            first = {"study": study, **chain.cell.columns(), **run, "task": task}
            rows.append({**first, **about, **values, "retention": ratio, "chain": chain.key})
    return pd.DataFrame(rows)


def write_retention(frame: pd.DataFrame, folder: Path) -> None:
    """retention.csv; nothing where no chain was asked."""
    if not frame.empty:
        frame.to_csv(folder / paths.RETENTION_CSV, index=False, float_format="%.10g", lineterminator="\n")


PREVIEWED = [name for name in ARM_COLUMNS if name not in ("encoder", *AMOUNTS)]  # columns of what is ranked
GROUP = ["encoder", "target"]  # for whom it is ranked


def preview_frame(
    entries: Sequence[Mapping[str, str]], store: Store, cells: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Per encoder, target and setting: `evidence`, `rank` (1 is best; none of the baseline) and, where run, `gain`.

    `entries` name a preview each: columns of its cell without amounts, and its key. `cells` are those of the
    estimates. A setting whose preview is missing, or has no value, has no row. Raises StoreError.
    """
    import pandas as pd

    found = [(entry, store.preview(entry["key"])) for entry in entries]
    gains = _gains(cells) if cells is not None else {}
    rows = [
        {**entry, "evidence": record.value, "gain": gains.get(_name(entry)), "flops": record.flops}
        for entry, record in found
        if record is not None and record.value is not None
    ]
    frame = pd.DataFrame(rows, columns=[*GROUP, *PREVIEWED, "evidence", "gain", "flops"])
    frame["gain"] = frame["gain"].astype(float)
    others = frame["intermediate"] != NONE
    frame["rank"] = frame[others].groupby(GROUP)["evidence"].rank(method="first", ascending=False)
    return frame.sort_values([*GROUP, "rank"], na_position="last", kind="stable").reset_index(drop=True)


def _name(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in (*GROUP, *PREVIEWED))


def _gains(cells: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """The best gain of each setting over its volumes and budgets."""
    best: dict[tuple[str, ...], float] = {}
    for row in cells.to_dict("records"):
        if row["gain"] == row["gain"]:
            best[_name(row)] = max(best.get(_name(row), row["gain"]), row["gain"])
    return best
