"""MLflow's copy of a study: experiment > run of the study > one nested run per chain.

Everything that is compared lies on the chain's run, because the UI groups and plots what the shown runs have.

Nothing is ever read back, and nothing is logged that the ledger or the store does not hold, with its true time. So a
copy that was unreachable, left half-way or deleted is completed by sending again: runs are identified by their
`sweep.key` tag, and logging the same point twice is one point. What has arrived is noted in tracking.json, only to save
the second trip. Studies of one name on one server are one experiment; that of a study that gets another name is renamed
with it, unless there is one of the new name.

There is one writer at a time: the driver, or the command that completes the copy while no run is at work (MLflow does
not keep two writers from creating a run twice). mlflow costs seconds to import, so it is imported when first used. No
artifacts are uploaded: weights live in the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sweep.config.spaces import value_text
from sweep.config.study import Study
from sweep.errors import StudyError
from sweep.keys import fingerprint
from sweep.plan.languages import groups_of
from sweep.plan.recipe import in_columns
from sweep.store import paths
from sweep.store.artifacts import Store, write_atomically
from sweep.store.ledger import (
    COLLAPSED,
    DONE,
    ELIMINATED,
    FAILED,
    OVER,
    PAUSED,
    RUNNING,
    STOPPED,
    SUPERSEDED,
    ChainRow,
    Ledger,
    opened_to_read,
    study_in,
)
from sweep.store.records import PhaseRecord, ScoreRecord, time_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY, NAME = "study", "name"  # stand among the keys of chains in tracking.json, for state and name of the study
SQLITE = "sqlite:///"
PROXIED = "mlflow-artifacts:/"  # wherever the server of `sweep ui` has them: a results folder can be moved
DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
LATER = "what was not sent is sent by the next 'sweep run' or 'sweep report'"
METRICS_PER_CALL = 900  # MLflow takes 1000 of all kinds; a chain has far fewer than 100 parameters and tags
INTERVAL = 10.0  # seconds between two looks at the ledger
STATE = {ELIMINATED: "eliminated"}  # states with another name in the ledger
# A collapse is a result, not a fault.
STATUS = {
    DONE: "FINISHED",
    COLLAPSED: "FINISHED",
    ELIMINATED: "FINISHED",
    PAUSED: "SCHEDULED",
    FAILED: "FAILED",
    STOPPED: "KILLED",
    SUPERSEDED: "KILLED",
    RUNNING: "RUNNING",
}
ENVIRONMENT = {
    # By default a server that is away blocks each call for four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # a new database announces itself in the middle of the display
}
TAG_LENGTH = 8000  # MLflow's limit
Point = tuple[str, float, int, int]  # metric, value, milliseconds since the epoch, step


# ---- what is logged of a chain ---------------------------------------------------------------------------------------


def parameters(chain: ChainRow) -> dict[str, str]:
    """Parameters of a chain's run, which never change: its cell, seed, candidate, role and hyperparameters."""
    tuned = {name: value_text(value, ".6g") for name, value in in_columns(chain.hyperparameters).items()}
    run = {name: str(getattr(chain, name)) for name in ("seed", "candidate", "role")}
    return chain.cell.columns() | run | tuned


def metrics(
    chain: ChainRow, score: ScoreRecord | None, phases: Sequence[PhaseRecord], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[Point]:
    """Metrics of a chain's run: scores and means of language groups in the metric's unit, FLOPs and device-seconds,
    device-seconds of its phases and scores by activity, then learning curves per phase, with their steps and true
    times.
    """
    ended = milliseconds(chain.ended or chain.started)
    values = {"dev": chain.dev, "flops": chain.flops, "device_seconds": chain.device_seconds}
    records: list[PhaseRecord | ScoreRecord] = [*phases, *([score] if score is not None else [])]
    values |= {f"time/{activity}": part["device_seconds"] for activity, part in time_of(records).items()}
    if score is not None:
        scores = {language: entry["value"] for language, entry in sorted(score.languages.items())}
        values |= {f"score/{language}": value for language, value in scores.items()}
        zero_shot = tuple(language for language in scores if language != score.train_language)
        for name, members in {"zero_shot": zero_shot, **groups}.items():
            having = [scores[language] for language in members if language in scores]
            if having:
                values[f"group/{name}"] = sum(having) / len(having)
    yield from ((_metric_name(name), float(value), ended, 0) for name, value in values.items() if value is not None)
    for name, phase in _by_kind(phases):
        for point in phase.curve:
            yield f"{name}/loss", float(point["loss"]), milliseconds(point["time"]), int(point["step"])
        for point in phase.dev:
            yield f"{name}/dev", float(point["value"]), milliseconds(point["time"]), int(point["step"])


def _by_kind(phases: Sequence[PhaseRecord]) -> Iterator[tuple[str, PhaseRecord]]:
    """Phases by kind; the second of a kind is `intermediate.2`, because steps start anew."""
    seen: dict[str, int] = {}
    for phase in phases:
        seen[phase.kind] = seen.get(phase.kind, 0) + 1
        yield phase.kind if seen[phase.kind] == 1 else f"{phase.kind}.{seen[phase.kind]}", phase


def chain_tags(chain: ChainRow, phases: Sequence[PhaseRecord], score: ScoreRecord | None = None) -> dict[str, str]:
    """Tags of a chain's run: what may change about it, and its name in the UI."""
    records: list[PhaseRecord | ScoreRecord] = [*phases, *([score] if score is not None else [])]
    cell = f"{chain.cell.label} → {chain.cell.target}, {chain.cell.encoder}"
    return {
        "mlflow.runName": f"{cell}, seed {chain.seed}, candidate {chain.candidate}",
        "sweep.kind": "chain",
        "sweep.state": STATE.get(chain.state, chain.state),
        "sweep.selected": str(chain.selected).lower(),
        "sweep.cell": chain.cell.name,
        "sweep.phases": " ".join(chain.phases)[:TAG_LENGTH],
        "sweep.score": chain.score,
        "sweep.collapsed": " ".join(phase.kind for phase in phases if phase.collapsed),
        "sweep.retries": str(sum(max(len(phase.attempts) - 1, 0) for phase in phases)),
        # No parameters: what is missing may be made anew elsewhere, and a parameter never changes.
        "sweep.precision": _joined(record.precision for record in records),
        "sweep.device": _joined(record.device for record in records),
        "sweep.version": _joined(record.versions.get("sweep", "") for record in records),
        "sweep.message": chain.message[:TAG_LENGTH],
    }


def _joined(values: Iterable[str]) -> str:
    return " and ".join(sorted({value for value in values if value}))[:TAG_LENGTH]


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return round(1000 * seconds)


def _metric_name(metric: str) -> str:
    return re.sub(r"[^\w. /:-]", "_", metric)


# ---- what is sent, and when ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tracked:
    """A study as it is tracked: where its records are, and where they are sent."""

    uri: str  # MLflow's tracking URI
    name: str  # of the study, and of its experiment
    results: Path  # absolute
    groups: Mapping[str, Mapping[str, tuple[str, ...]]]  # encoder -> name of a group -> its languages

    @classmethod
    def of(cls, study: Study, results: Path) -> Tracked:
        """At the URI that the study names, or in a SQLite file in its results folder."""
        uri = study.tracking or f"{SQLITE}{results.absolute() / paths.MLFLOW}"
        return cls(uri, study.study, results.absolute(), groups_of(study))

    @cached_property
    def store(self) -> Store:
        return Store(self.results / paths.STORE)

    @property
    def address(self) -> str:
        """URI as it is noted: the database in the results folder by its name alone, so that the folder can be moved."""
        own = f"{SQLITE}{self.results / paths.MLFLOW}"
        return f"{SQLITE}{paths.MLFLOW}" if self.uri == own else self.uri

    def digest(self, chain: ChainRow) -> str:
        """Digest of all that is sent of a chain and may change."""
        return fingerprint([asdict(chain), dict(self.groups.get(chain.cell.encoder, {}))])


def sync(study: Tracked, chains: Sequence[ChainRow], *, state: str = RUNNING) -> int:
    """Sends every ended chain that has changed since it was last sent; returns how many were sent.

    `state` is the study's. Raises what MLflow raises where it cannot be reached; the next call sends the rest. Raises
    StudyError where MLflow refuses the URI, and always will.
    """
    client = _client(study.uri)
    memory = _Memory.read(study)
    earlier = memory.sent.get(NAME, study.name)
    if earlier != study.name and not _rename(client, earlier, study.name):
        memory.sent.clear()
    experiment = _experiment(client, study)
    begun = min((chain.started for chain in chains), default=0.0)
    parent, known = _run(client, experiment, "study", begun, {"sweep.kind": "study", "mlflow.runName": study.name})
    if not known:
        memory.sent.clear()  # the experiment was deleted, or is on another server
    elif earlier != study.name:
        client.set_tag(parent, "mlflow.runName", study.name)
    memory.sent[NAME] = study.name
    sent = 0
    try:
        for chain in chains:
            digest = study.digest(chain)
            if chain.state != RUNNING and memory.sent.get(chain.key) != digest:
                _send(client, experiment, parent, chain, study)
                memory.sent[chain.key] = digest
                sent += 1
        memory.sent.pop(STUDY, None)
        _mark_study(client, parent, chains, state)
        memory.sent[STUDY] = state
    finally:
        memory.write()
    return sent


def send_missing(results: Path, warn: Callable[[str], None], seconds: float | None = None) -> str:
    """Sends MLflow what it lacks of the study in a results folder; returns the tracking URI.

    For at most so many seconds, and not while a run is at work, which sends by itself. Costs next to nothing where
    nothing is lacking. Whatever fails is one line to `warn` and never raised, but for StudyError where there is no
    study.
    """
    study, lock = Tracked.of(study_in(results), results), FileLock(results / paths.LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # a run is at work, or the folder is another user's
        return study.uri
    try:
        with opened_to_read(results / paths.LEDGER) as ledger:
            chains = ledger.chains()
        state = final_state(chains)
        if chains and not _has_arrived(study, chains, state):
            _sync_within(seconds, study, chains, state, warn)
    finally:
        lock.release()
    return study.uri


def _has_arrived(study: Tracked, chains: Sequence[ChainRow], state: str) -> bool:
    """Whether everything was sent to an experiment that is still there."""
    sent = _Memory.read(study).sent
    if any(sent.get(chain.key) != study.digest(chain) for chain in chains if chain.state != RUNNING):
        return False
    return sent.get(STUDY) == state and sent.get(NAME, study.name) == study.name and _experiment_exists(study)


def _sync_within(
    seconds: float | None, study: Tracked, chains: Sequence[ChainRow], state: str, warn: Callable[[str], None]
) -> None:
    def work() -> None:
        try:
            sync(study, chains, state=state)
        except StudyError as refused:
            warn(str(refused))
        except Exception as failure:  # a report is a report without MLflow
            warn(f"{_in_one_line(failure)}; {LATER}")

    thread = threading.Thread(target=work, name="tracking", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        warn(f"MLflow takes too long; {LATER}")


def final_state(chains: Iterable[ChainRow]) -> str:
    """State of a study in MLflow when no run is at work on it."""
    return DONE if all(chain.state in (*OVER, SUPERSEDED) for chain in chains) else STOPPED


def check_uri(uri: str) -> None:
    """Raises StudyError where MLflow would refuse a tracking URI; asks no server and opens no database."""
    if not uri.startswith(DATABASES):
        _client(uri)


def _experiment_exists(study: Tracked) -> bool:
    """Whether MLflow has the study's experiment, as far as that can be seen without mlflow."""
    if study.uri.startswith(SQLITE):
        path = Path(study.uri.removeprefix(SQLITE))
        return path.is_file() and path.stat().st_size > 0
    try:
        query = urllib.parse.urlencode({"experiment_name": study.name})
        address = f"{study.uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(json.load(answer)["experiment"]["lifecycle_stage"] == "active")
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass
class _Memory:
    """Chain key -> digest of what was sent of it, at one tracking URI. Losing it costs time, never correctness."""

    path: Path
    uri: str
    sent: dict[str, str]

    @classmethod
    def read(cls, study: Tracked) -> _Memory:
        path, sent = study.results / paths.MLFLOW_SENT, {}
        with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):
            noted = json.loads(path.read_text(encoding="utf-8"))
            sent = noted.get(study.address, noted.get(study.uri, {}))  # earlier versions noted the URI as it was
        return cls(path, study.address, dict(sent))

    def write(self) -> None:
        """A study is tracked at one URI at a time: what was sent to another one is forgotten."""
        write_atomically(self.path, json.dumps({self.uri: self.sent}))


# ---- how it is sent --------------------------------------------------------------------------------------------------


def _client(uri: str) -> MlflowClient:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient(tracking_uri=uri)
    except (MlflowException, ImportError, ValueError) as failure:
        expected = "a tracking URI that MLflow takes is expected, as http://server:5000, or none"
        raise StudyError("tracking", f"{uri!r}, which MLflow refuses ({_first_line(failure)})", expected) from failure


def _rename(client: MlflowClient, earlier: str, name: str) -> bool:
    """Gives an experiment another name, where it is there and no other has that name; returns whether it has it now."""
    experiment = client.get_experiment_by_name(earlier)
    if experiment is None or experiment.lifecycle_stage != "active" or client.get_experiment_by_name(name) is not None:
        return False
    client.rename_experiment(experiment.experiment_id, name)
    return True


def _experiment(client: MlflowClient, study: Tracked) -> str:
    """Id of the study's experiment, which is made or restored where there is none."""
    experiment = client.get_experiment_by_name(study.name)
    if experiment is None:
        # A server keeps artifacts where it wants; the embedded store would put them into the working directory.
        location = PROXIED if study.uri.startswith("sqlite") else None
        return str(client.create_experiment(study.name, artifact_location=location))
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _run(client: MlflowClient, experiment: str, key: str, started: float, tags: Mapping[str, str]) -> tuple[str, bool]:
    """(run id, whether it was there already) of the run with this key."""
    runs = client.search_runs([experiment], f"tags.`sweep.key` = '{key}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id), True
    run = client.create_run(experiment, milliseconds(started), {**tags, "sweep.key": key})
    return str(run.info.run_id), False


def _send(client: MlflowClient, experiment: str, parent: str, chain: ChainRow, study: Tracked) -> None:
    from mlflow.entities import Metric, Param, RunTag

    phases = [record for key in chain.phases for record in study.store.history(key)]
    score = study.store.score(chain.score) if chain.state == DONE else None
    tags = {**chain_tags(chain, phases, score), "mlflow.parentRunId": parent}
    run, known = _run(client, experiment, f"chain:{chain.key}", chain.started, tags)
    params = [Param(name, value) for name, value in parameters(chain).items()]
    shown = [RunTag(name, value) for name, value in tags.items()] if known else []  # a new run has them
    points = metrics(chain, score, phases, study.groups.get(chain.cell.encoder, {}))
    for batch in _chunks(points):  # never without one: a chain has costs
        client.log_batch(run, metrics=[Metric(*point) for point in batch], params=params, tags=shown)
        params, shown = [], []  # a call takes 10 ms and more, so they go with the first
    client.set_terminated(run, STATUS[chain.state], milliseconds(chain.ended or chain.started))


def _chunks(points: Iterable[Point]) -> Iterator[list[Point]]:
    batch: list[Point] = []
    for point in points:
        batch.append(point)
        if len(batch) == METRICS_PER_CALL:
            yield batch
            batch = []
    if batch:
        yield batch


def _mark_study(client: MlflowClient, run: str, chains: Sequence[ChainRow], state: str) -> None:
    client.set_tag(run, "sweep.state", state)
    if state == RUNNING:
        client.update_run(run, status="RUNNING")
    else:
        ended = max((chain.ended or chain.started for chain in chains), default=0.0)
        client.set_terminated(run, STATUS[state], milliseconds(ended))


# ---- in the background of a run --------------------------------------------------------------------------------------


class Tracker:
    """Sends a running study to MLflow from a thread of the driver. A failure is warned of once and never raised."""

    def __init__(self, study: Tracked, warn: Callable[[str], None], *, interval: float = INTERVAL) -> None:
        self._study, self._warn, self._interval = study, warn, interval
        self._warned = False
        self._change = 0  # the ledger's latest change that was sent
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self) -> None:
        """Returns at once; mlflow is imported in the thread."""
        self._thread.start()

    def close(self, timeout: float = 30.0) -> bool:
        """Sends what is left, for at most `timeout` seconds; returns whether all has arrived."""
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn_once("MLflow takes too long")
        return not self._warned

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(self._interval)
            self._sync(closing)

    def _sync(self, closing: bool) -> None:
        try:
            # A connection of its own: SQLite transactions belong to a connection, not to a thread.
            ledger = Ledger(self._study.results / paths.LEDGER)
            try:
                change = ledger.change()
                chains = ledger.chains(after=0 if closing else self._change)
            finally:
                ledger.close()
            if not chains and not closing:
                return  # with thousands of ended chains, looking at all of them each time would cost a processor
            sync(self._study, chains, state=final_state(chains) if closing else RUNNING)
            self._change = change
            self._warned = False
        except StudyError as refused:
            self._warn_once(str(refused), "the study goes on without it")
        except Exception as failure:  # the study goes on whatever happens to its tracking
            self._warn_once(_in_one_line(failure))

    def _warn_once(self, line: str, consequence: str = f"the study goes on, {LATER}") -> None:
        if not self._warned:
            self._warn(f"{line}; {consequence}")
        self._warned = True


def _in_one_line(failure: Exception) -> str:
    return f"MLflow: {type(failure).__name__}: {_first_line(failure)}"


def _first_line(failure: Exception) -> str:
    return next(iter(str(failure).strip().splitlines()), "")[:200]
