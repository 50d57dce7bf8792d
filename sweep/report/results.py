"""Results of a study: chains with what the store has of them, and the frames that are made of them.

A frame is a pandas table, one row per what its name says: scores per chain and language, retention per chain and task,
tuning per candidate, savings and time per kind of phase, previews per setting. The cost in a row of scores is that of a
chain *alone*, so it is the same however many chains shared its phases; what was really spent is in `savings_frame`.
Averages, intervals and comparisons are not here but in gains.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.config.axes import AMOUNTS, NONE, NOTHING, Arm, arm_columns, cell_columns
from sweep.heartbeat import ACTIVITIES, WAIT
from sweep.plan.facts import Reached
from sweep.plan.recipe import in_columns
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import COLLAPSED, DONE, ELIMINATED, SUPERSEDED, ChainRow
from sweep.store.records import PhaseRecord, ScoreRecord, time_of

if TYPE_CHECKING:
    import pandas as pd

# Meanings of columns by file, in the order of the files.
_CELL = {
    name: f"Value of the axis `{name}`" + ("." if name in ("encoder", "intermediate") else ", `-` without one.")
    for name in arm_columns()
}
_CELL |= {
    "<phase>.<key>": "Value of the settings axis of this name, `-` where its phase is not trained; a column per axis.",
    "target": "Value of the axis `target`.",
}
_RUN = {
    "seed": "Seed of the run.",
    "candidate": "Number of the tuning candidate, from 0; its hyperparameters stand in the report.",
    "role": "`candidate`: tried to be compared on dev; `replica`: the winner with another seed.",
    "selected": "Whether the run is one of the cell's winner. Means, gains and groups.csv are made of these.",
}
_CHAIN = {"chain": "Key of the chain, which names its log in `logs/`."}
_INTERVAL = "of the 95% interval over seeds and test examples"
COLUMN_MEANINGS: dict[str, dict[str, str]] = {
    paths.SCORES_CSV: {
        "study": "Name of the study.",
        **_CELL,
        "language": "Language of the test data; empty where the chain has no scores.",
        "seed": _RUN["seed"],
        "metric": "Metric of `value`, such as accuracy or f1.",
        "value": "Score in the language, from 0 to 1, correlations from -1; 1 is the best.",
        "is_source": "Whether the target phase was trained in this language: such rows are no zero-shot scores.",
        "flops": "FLOPs of the whole chain done alone, its scoring included; the same in all rows of a chain.",
        "device_seconds": "Device-seconds of the whole chain done alone, as measured; the same in all rows of a chain.",
        **_CHAIN,
        **{name: _RUN[name] for name in ("candidate", "role", "selected")},
        "collapsed": "Whether some phase of the chain stayed at chance level.",
        "majority": "Chance level of the language: the score of the best answer that is the same for every row.",
        "retries": "Attempts that were repeated with another seed because a phase had collapsed.",
        "retention_before": "Mean score of the chain's intermediate tasks before the target phase, each in its own"
        " language; empty without `scoring: {retention: true}`.",
        "retention_saved_head": "The same after the target phase, with the head of the intermediate phase.",
        "retention_fresh_head": "The same after the target phase, with a linear head fitted anew.",
        "state": "`done`; `collapsed` or `eliminated` (by halving) where the chain has no scores.",
    },
    paths.GROUPS_CSV: {
        **_CELL,
        "group": "Group of languages; `zero_shot` is all that the target phase has not seen.",
        "languages": "Number of languages of the group in which the target is tested, without that of training.",
        "value": "Mean score over these languages and all seeds.",
        "value_low": f"Lower end {_INTERVAL}.",
        "value_high": f"Upper end {_INTERVAL}.",
        "gain": "Mean difference to the cell without an intermediate phase, paired by seed; empty for the baseline.",
        "low": f"Lower end {_INTERVAL} of the gain.",
        "high": f"Upper end {_INTERVAL} of the gain.",
        "p": "p-value of the gain for itself; empty with one seed.",
        "p_corrected": "p-value corrected for all rows of the file (Holm).",
        "verdict": "`helps` or `hurts` where p_corrected is below 0.05, else `no difference shown`; `one seed`;"
        " `missing` where there is nothing to compare with.",
    },
    paths.RETENTION_CSV: {
        "study": "Name of the study.",
        **_CELL,
        **_RUN,
        "task": "Intermediate task that is scored.",
        "split": "Split of its data that is scored: test, or dev where there is no test data in its language.",
        "language": "Language in which it is scored, that of its training.",
        "metric": "Metric of the scores.",
        "examples": "Number of examples that are scored.",
        "majority": "Chance level on these examples.",
        "retention_before": "Score before the target phase.",
        "retention_saved_head": "Score after the target phase, with the head of the intermediate phase.",
        "retention_fresh_head": "Score after the target phase, with a linear head fitted anew; empty where the family"
        " has none.",
        "retention": "retention_saved_head divided by retention_before; empty where that is 0.",
        **_CHAIN,
    },
    paths.PREDICTIONS_PARQUET: {
        **_CELL,
        "language": "Language of the test data.",
        "seed": _RUN["seed"],
        **_CHAIN,
        "number": "Number of the example in its language, from 0, as in the files of `submissions/`.",
        "id": "Its id in the data, or `file name:line` where it has none.",
        "<text>": "A column for every text of the targets' examples, as it is written: `text` and `pair`, `prompt` and"
        " `options` (a JSON list), `words`, `context` and `question`, `query`; empty in targets without it.",
        "gold": "Right answer: the name of the label, the number of the option (from 0), tags of words or ids with"
        " spaces between them, answers with ` | ` between them, the number of the translation's row.",
        "prediction": "Prediction, written alike.",
        "probabilities": "Label or option -> probability, in half precision; empty for families without labels.",
    },
}
_OWN = [name for name in COLUMN_MEANINGS[paths.SCORES_CSV] if name not in ("study", *_CELL)]  # after the cell's
SCORING = "scoring"
STOPPED = "stopped at a rung"  # target phases of candidates that halving eliminated before their end
KINDS = ("pretrain", "trunk", "intermediate", "target", STOPPED, SCORING)
BEFORE_TARGET = "before"
RETENTION_SCORES = (
    BEFORE_TARGET,
    "saved_head",
    "fresh_head",
)  # of an intermediate task, the latter after the target phase
RANKED_FOR = ["encoder", "target"]  # columns of what they rank it for
SHOWN_CELLS = 6  # names in a sentence


@dataclass(frozen=True)
class Result:
    """A chain that has its scores."""

    chain: ChainRow
    phases: tuple[PhaseRecord, ...]
    score: ScoreRecord

    @property
    def arm(self) -> Arm:
        """The arm that was compared on the target."""
        return self.chain.cell.arm

    @property
    def flops(self) -> float:
        """FLOPs of all phases and the scoring, shared or not."""
        return self.score.flops + sum(phase.flops for phase in self.phases)

    @property
    def device_seconds(self) -> float:
        """Device-seconds of all phases and the scoring, shared or not."""
        return self.score.device_seconds + sum(phase.device_seconds for phase in self.phases)

    @property
    def collapsed(self) -> bool:
        """Whether some phase of the chain stayed at chance level."""
        return any(phase.collapsed for phase in self.phases)

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """The languages the target phase has not seen."""
        return tuple(sorted(set(self.score.languages) - {self.score.train_language}))


@dataclass(frozen=True)
class Unscored:
    """A chain that ended without scores: collapsed before its target phase, or eliminated by halving."""

    chain: ChainRow
    phases: tuple[PhaseRecord, ...]  # that it finished
    stopped: Reached | None = None  # how far its target phase came, where it was stopped in that


def read_results(chains: Sequence[ChainRow], store: Store) -> list[Result]:
    """Done chains whose scores are in the store, ordered by what they are, not by when they ran. Raises StoreError."""
    phases: dict[str, tuple[PhaseRecord, ...]] = {}
    scores: dict[str, ScoreRecord | None] = {}
    results = []
    for chain in _in_state(chains, DONE):
        if chain.score not in scores:
            scores[chain.score] = store.score(chain.score)
        score = scores[chain.score]
        phases.update({key: store.history(key) for key in chain.phases if key not in phases})
        records = [phases[key] for key in chain.phases]
        if score is not None and all(records):
            results.append(Result(chain, tuple(itertools.chain.from_iterable(records)), score))
    return results


def read_collapsed(chains: Sequence[ChainRow], store: Store) -> list[Unscored]:
    """Chains that collapsed before their target phase, in the order of read_results. Raises StoreError."""
    return [Unscored(chain, _finished(chain, store)) for chain in _in_state(chains, COLLAPSED)]


def read_eliminated(chains: Sequence[ChainRow], store: Store, paused: Mapping[str, Reached]) -> list[Unscored]:
    """Candidates that halving stopped at a rung, or left without scores, in the order of read_results.

    `paused` has the last rung that target phases have reached, by key. Raises StoreError.
    """
    eliminated = []
    for chain in _in_state(chains, ELIMINATED):
        phases, target = _finished(chain, store), chain.phases[-1]
        is_finished = target in {phase.key for phase in phases}
        eliminated.append(Unscored(chain, phases, None if is_finished else paused.get(target)))
    return eliminated


def _in_state(chains: Sequence[ChainRow], state: str) -> list[ChainRow]:
    return sorted((chain for chain in chains if chain.state == state), key=chain_order)


def _finished(chain: ChainRow, store: Store) -> tuple[PhaseRecord, ...]:
    return tuple(record for key in chain.phases if (record := store.phase(key)) is not None)


def chain_order(chain: ChainRow) -> tuple[object, ...]:
    """Sort key of chains by what they are, whenever they ran."""
    return (*chain.cell.order, chain.cell.target, chain.seed, chain.candidate, chain.role, chain.key)


def retries(phases: Iterable[PhaseRecord]) -> int:
    """Number of attempts that were repeated because a phase had collapsed."""
    return sum(max(len(phase.attempts) - 1, 0) for phase in phases)


# ---- scores ----------------------------------------------------------------------------------------------------------


def scores_frame(study: str, results: Iterable[Result], unscored: Iterable[Unscored] = ()) -> pd.DataFrame:
    """Frame with one row per result and language; value and majority in the metric's unit, 1 the best.

    A chain without scores has one row, without language and value. A study that tunes more than learning rates has a
    further column per hyperparameter.
    """
    import pandas as pd

    rows = [(result.chain, row) for result in results for row in _rows(result)]
    rows += [(run.chain, _row_without_scores(run)) for run in unscored]
    columns = cell_columns(dict.fromkeys(name for chain, _ in rows for name in chain.cell.columns()))
    named = ((dict.fromkeys(columns, NOTHING) | chain.cell.columns(), row) for chain, row in rows)
    frame = pd.DataFrame([(study, *cell.values(), *row) for cell, row in named], columns=("study", *columns, *_OWN))
    names = tuned_columns(chain for chain, _ in rows)
    if all(name.startswith("lr.") for name in names):
        return frame
    tuned = pd.DataFrame([in_columns(chain.hyperparameters) for chain, _ in rows], columns=names, dtype=float)
    return pd.concat([frame, tuned], axis=1)


def _rows(result: Result) -> Iterable[tuple[object, ...]]:
    chain, score = result.chain, result.score
    for language, entry in sorted(score.languages.items()):
        is_source = language == score.train_language
        yield (
            *(language, chain.seed, score.metric),
            *(float(entry["value"]), is_source, result.flops, result.device_seconds, chain.key, chain.candidate),
            *(chain.role, chain.selected, result.collapsed, float(entry["majority"]), retries(result.phases)),
            *(*mean_retention(score), chain.state),
        )


def _row_without_scores(run: Unscored) -> tuple[object, ...]:
    chain, missing = run.chain, float("nan")
    parts: list[PhaseRecord | Reached] = [*run.phases, *([run.stopped] if run.stopped is not None else [])]
    cost = sum(part.flops for part in parts), sum(part.device_seconds for part in parts)
    return (
        *("", chain.seed, "", missing, False),
        *(*cost, chain.key, chain.candidate, chain.role, chain.selected, chain.state == COLLAPSED, missing),
        *(retries(run.phases), missing, missing, missing, chain.state),
    )


def mean_retention(score: ScoreRecord) -> tuple[float, float, float]:
    """Means of RETENTION_SCORES over those of the chain's intermediate tasks that have all three; NaN without one."""
    names = RETENTION_SCORES
    whole = [entry for entry in score.retention.values() if all(entry[name] is not None for name in names)]
    means = [sum(entry[name] for entry in whole) / len(whole) if whole else float("nan") for name in names]
    return means[0], means[1], means[2]


def write_scores(frame: pd.DataFrame, folder: Path) -> None:
    """Writes scores.csv and scores.parquet; equal frames give equal bytes in the CSV file."""
    frame.to_csv(folder / paths.SCORES_CSV, index=False, float_format="%.10g", lineterminator="\n")
    frame.to_parquet(folder / paths.SCORES_PARQUET, index=False)


def write_groups(frame: pd.DataFrame, folder: Path) -> None:
    """Writes groups.csv: means over groups of languages and their gains, with intervals (Estimates.groups)."""
    frame.to_csv(folder / paths.GROUPS_CSV, index=False, float_format="%.10g", lineterminator="\n")


# ---- retention, tuning, savings, previews ----------------------------------------------------------------------------


def retention_frame(study: str, results: Sequence[Result]) -> pd.DataFrame:
    """Frame with one row per result and intermediate task; empty where the study does not ask for retention.

    Columns: study, those of the cell, of the run and of the task's test set; retention_ and each of RETENTION_SCORES,
    in the metric's unit; `retention`, which is saved_head / before; chain.
    """
    import pandas as pd

    rows = []
    for result in results:
        chain = result.chain
        for task, entry in sorted(result.score.retention.items()):
            run = {name: getattr(chain, name) for name in ("seed", "candidate", "role", "selected")}
            values = {f"retention_{head}": entry[head] for head in RETENTION_SCORES}
            about = {name: entry[name] for name in ("split", "language", "metric", "examples", "majority")}
            ratio = entry["saved_head"] / entry["before"] if (entry["before"] or 0) > 0 else None
            first = {"study": study, **chain.cell.columns(), **run, "task": task}
            rows.append({**first, **about, **values, "retention": ratio, "chain": chain.key})
    return pd.DataFrame(rows)


def write_retention(frame: pd.DataFrame, folder: Path) -> None:
    """Writes retention.csv; no file of an empty frame."""
    if not frame.empty:
        frame.to_csv(folder / paths.RETENTION_CSV, index=False, float_format="%.10g", lineterminator="\n")


def tuning_frame(chains: Sequence[ChainRow]) -> pd.DataFrame:
    """Frame with one row per tuning candidate.

    Columns: those of the cell, candidate (its number), one per hyperparameter, dev (score), state, selected.
    """
    import pandas as pd

    current = (chain for chain in chains if chain.role == "candidate" and chain.state != SUPERSEDED)
    candidates = sorted(current, key=chain_order)
    rows = [
        {
            **chain.cell.columns(),
            "candidate": chain.candidate,
            **in_columns(chain.hyperparameters),
            "dev": chain.dev,
            "state": chain.message if chain.state == ELIMINATED else chain.state,
            "selected": chain.selected,
        }
        for chain in candidates
    ]
    frame = pd.DataFrame(rows)
    tuned = tuned_columns(candidates)
    return frame[[*cell_columns(frame), "candidate", *tuned, "dev", "state", "selected"]] if rows else frame


def tuned_columns(chains: Iterable[ChainRow]) -> list[str]:
    """Columns of hyperparameters that these chains have."""
    return list(in_columns({name: value for chain in chains for name, value in chain.hyperparameters.items()}))


def chains_frame(chains: Sequence[ChainRow]) -> pd.DataFrame:
    """Frame with one row per chain that has begun and that the study file asks for.

    Columns: those of the cell, seed, candidate, role, selected, state, dev (score, 0..1), flops and device_seconds
    (really spent: a phase that another chain trained costs nothing), message, chain (key).
    """
    import pandas as pd

    names = ("seed", "candidate", "role", "selected", "state", "dev", "flops", "device_seconds", "message")
    current = sorted((chain for chain in chains if chain.state != SUPERSEDED), key=chain_order)
    rows = [
        {**chain.cell.columns(), **{name: getattr(chain, name) for name in names}, "chain": chain.key}
        for chain in current
    ]
    columns = cell_columns(name for row in rows[:1] for name in row)
    return pd.DataFrame(rows, columns=[*columns, *names, "chain"])


def curves_frame(runs: Iterable[Result | Unscored]) -> pd.DataFrame:
    """Frame with one row per point of a learning curve, of each phase once.

    Columns: phase (key), kind, tasks (joined by +), learning_rate, seed, measure ("loss" of training, or "dev", the
    score on dev data, 0..1), step, value, seconds (since the phase began), chains (keys of those that have the phase,
    a tuple; `explode` makes a row of each). Of a phase that collapsed and was tried again it has the last attempt.
    """
    import pandas as pd

    phases: dict[str, PhaseRecord] = {}
    chains: dict[str, list[str]] = {}
    for run in runs:
        for phase in run.phases:
            phases[phase.key] = phase
            chains.setdefault(phase.key, []).append(run.chain.key)
    rows = [
        {
            "phase": phase.key,
            "kind": phase.kind,
            "tasks": "+".join(phase.recipe["tasks"]),
            **{name: phase.recipe[name] for name in ("learning_rate", "seed")},
            "measure": measure,
            "step": point["step"],
            "value": point[value],
            "seconds": point["time"] - phase.started,
            "chains": tuple(chains[phase.key]),
        }
        for phase in phases.values()
        for measure, value, points in (("loss", "loss", phase.curve), ("dev", "value", phase.dev))
        for point in points
    ]
    names = ("phase", "kind", "tasks", "learning_rate", "seed", "measure", "step", "value", "seconds", "chains")
    return pd.DataFrame(rows, columns=list(names))


def savings_frame(results: Sequence[Result], unscored: Sequence[Unscored] = ()) -> pd.DataFrame:
    """Frame with one row per kind of phase, in the order of KINDS: what sharing phases between chains saves.

    Columns: kind; count, flops and device_seconds, each with _unshared, of the chains one at a time, and with _shared,
    of each phase once. A target phase that was stopped at a rung is a kind of its own.
    """
    import pandas as pd

    runs: list[Result | Unscored] = [*results, *unscored]
    parts = [(phase.kind, phase.key, phase.flops, phase.device_seconds) for run in runs for phase in run.phases]
    parts += [(SCORING, r.score.key, r.score.flops, r.score.device_seconds) for r in results]
    stopped = [(run.chain.phases[-1], run.stopped) for run in unscored if run.stopped is not None]
    parts += [(STOPPED, key, part.flops, part.device_seconds) for key, part in stopped]
    frame = pd.DataFrame(parts, columns=["kind", "count", "flops", "device_seconds"])
    how = {"count": "count", "flops": "sum", "device_seconds": "sum"}
    unshared = frame.groupby("kind").agg(how)
    shared = frame.drop_duplicates("count").groupby("kind").agg(how)
    joined = unshared.add_suffix("_unshared").join(shared.add_suffix("_shared"))
    return joined.reindex([kind for kind in KINDS if kind in joined.index]).reset_index()


def time_frame(results: Sequence[Result], unscored: Sequence[Unscored] = ()) -> pd.DataFrame:
    """Frame with one row per encoder and kind of phase, in the order of KINDS: where device time went, each phase once.

    Columns: encoder; kind; count; one of device-seconds per activity; `seconds` by the clock, and `waited` of them.
    Phases and scores of earlier versions, of which it is unknown, are left out.
    """
    import pandas as pd

    runs: list[Result | Unscored] = [*results, *unscored]
    known: dict[tuple[str, str], dict[str, PhaseRecord | ScoreRecord]] = {}
    records: list[tuple[str, str, PhaseRecord | ScoreRecord]] = []
    records += [(run.chain.cell.encoder, phase.kind, phase) for run in runs for phase in run.phases]
    records += [(result.chain.cell.encoder, SCORING, result.score) for result in results]
    for encoder, kind, record in records:
        if record.activities:
            known.setdefault((encoder, kind), {})[record.key] = record
    rows = []
    for encoder, kind in sorted(known, key=lambda place: (place[0], KINDS.index(place[1]))):
        parts = time_of(known[encoder, kind].values())
        device = {name: parts[name]["device_seconds"] if name in parts else 0.0 for name in ACTIVITIES}
        clock = {"seconds": sum(part["seconds"] for part in parts.values())}
        clock["waited"] = parts[WAIT]["seconds"] if WAIT in parts else 0.0
        rows.append({"encoder": encoder, "kind": kind, "count": len(known[encoder, kind]), **device, **clock})
    return pd.DataFrame(rows, columns=["encoder", "kind", "count", *ACTIVITIES, "seconds", "waited"])


def weights_held(runs: Iterable[Result | Unscored], store: Store) -> dict[str, int]:
    """Bytes of the weights that the store keeps of these chains' phases, by kind, in the order of KINDS."""
    phases = {phase.key: phase for run in runs for phase in run.phases}
    held: Counter[str] = Counter()
    for phase in phases.values():
        held[phase.kind] += store.bytes_held(phase)
    return {kind: held[kind] for kind in KINDS if held[kind]}


def preview_frame(
    entries: Sequence[Mapping[str, str]], store: Store, cells: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Frame with one row per encoder, target and setting whose preview the store has. Raises StoreError.

    Columns: RANKED_FOR, those of the arm that a preview sees, evidence (nats per label), gain (where the setting was
    run), flops, rank (1 is the best, NaN of the baseline). `entries` name a preview each: columns of its cell without
    amounts, and its key. `cells` are those of the estimates.
    """
    import pandas as pd

    records = [(entry, store.preview(entry["key"])) for entry in entries]
    seen = dict.fromkeys(name for entry in entries for name in entry)
    columns = [*RANKED_FOR, *(name for name in arm_columns(seen) if name not in ("encoder", *AMOUNTS))]
    gains = _best_gains(cells, columns) if cells is not None else {}
    rows = [
        {**entry, "evidence": record.value, "gain": gains.get(_texts(entry, columns)), "flops": record.flops}
        for entry, record in records
        if record is not None and record.value is not None
    ]
    frame = pd.DataFrame(rows, columns=[*columns, "evidence", "gain", "flops"])
    frame["gain"] = frame["gain"].astype(float)
    with_intermediate = frame["intermediate"] != NONE
    frame["rank"] = frame[with_intermediate].groupby(RANKED_FOR)["evidence"].rank(method="first", ascending=False)
    return frame.sort_values([*RANKED_FOR, "rank"], na_position="last", kind="stable").reset_index(drop=True)


def _texts(row: Mapping[Any, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] for name in columns)


def _best_gains(cells: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[str, ...], float]:
    """Best gain of each setting, told by these columns, over its volumes, budgets and what else is not among them."""
    best: dict[tuple[str, ...], float] = {}
    for row in cells.to_dict("records"):
        if row["gain"] == row["gain"]:
            setting = _texts(row, columns)
            best[setting] = max(best.get(setting, row["gain"]), row["gain"])
    return best


# ---- names in tables and sentences -----------------------------------------------------------------------------------


def arms_in(frame: pd.DataFrame) -> list[Arm]:
    """Arm of each row of a frame that has the columns of arms."""
    return [Arm.of(row) for row in frame[list(arm_columns(frame))].to_dict("records")]


def labels(names: Iterable[str]) -> dict[str, str]:
    """Encoder names without their folders, where that leaves them different; sorted."""
    short = {name: name.rstrip("/").rsplit("/", 1)[-1] for name in sorted(set(names))}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}


def cell_text(names: Mapping[Any, Any], encoders: Mapping[str, str]) -> str:
    """Name of a cell in a sentence, from its columns; with its encoder's label where there are several."""
    beside = f" ({encoders[names['encoder']]})" if len(encoders) > 1 else ""
    return f"{Arm.of(names).label} → {names['target']}{beside}"


def cells_text(chains: Iterable[ChainRow], encoders: Mapping[str, str]) -> str:
    """Names of the cells of these chains in a sentence, a few at most."""
    names = sorted({cell_text(chain.cell.columns(), encoders) for chain in chains})
    return ", ".join(names[:SHOWN_CELLS]) + (
        f" and {len(names) - SHOWN_CELLS} more" if len(names) > SHOWN_CELLS else ""
    )
