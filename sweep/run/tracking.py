"""MLflow as a mirror of ledger and store: experiment > run of the study > one nested run per chain.

Everything that is compared lies on the chain's run, because the UI groups and plots what the shown runs have.

Nothing is ever read back, and nothing is logged that the ledger or the store does not hold, with its true time. So a
mirror that was away, killed half-way or deleted is made whole by mirroring again: runs are found by their `sweep.key`
tag, and logging the same point twice is one point. What has arrived is kept in tracking.json, only to save the second
trip. Studies of one name on one server are one experiment.

There is one writer at a time, the driver or who mends the mirror while no run is at work (MLflow does not keep two
writers from creating a run twice). mlflow costs seconds to import, so it is imported when first used. No artifacts are
uploaded: weights live in the store.
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
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from sweep.config.study import Study
from sweep.errors import StudyError
from sweep.identity import fingerprint
from sweep.plan.languages import groups_of
from sweep.store import paths
from sweep.store.artifacts import Store, write_atomically
from sweep.store.ledger import (
    COLLAPSED,
    DONE,
    FAILED,
    LOSER,
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
from sweep.store.records import PhaseRecord, ScoreRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

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


STUDY = "study"  # stands among the keys of chains in the memory, for the state of the study
SQLITE = "sqlite:///"
DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")
LATER = "what was not sent is sent by the next 'sweep run' or 'sweep report'"
METRICS_PER_CALL = 900  # MLflow takes 1000 of all kinds; a chain has far fewer than 100 parameters and tags
INTERVAL = 10.0  # seconds between two looks at the ledger
# A collapse is a result, not a fault.
STATUS = {
    DONE: "FINISHED",
    COLLAPSED: "FINISHED",
    LOSER: "FINISHED",
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


def sync(
    uri: str,
    study_name: str,
    results: Path,
    chains: Sequence[ChainRow],
    store: Store,
    groups: Mapping[str, Mapping[str, tuple[str, ...]]],
    *,
    state: str = RUNNING,
) -> int:
    """Sends every ended chain that has changed since it was last sent; returns how many were sent.

    `groups` are the named groups of languages per encoder.

    `state` is the study's. Raises what MLflow raises where it cannot be reached; the next call sends the rest. Raises
    StudyError where MLflow refuses the URI, and always will.
    """
    client = _client(uri)
    memory = _Memory.read(results, uri)
    experiment = _experiment(client, study_name, results if uri.startswith("sqlite") else None)
    begun = min((chain.started for chain in chains), default=0.0)
    parent, known = _run(client, experiment, "study", begun, {"sweep.kind": "study", "mlflow.runName": study_name})
    if not known:
        memory.sent.clear()  # the other side was deleted, or is another one
    sent = 0
    try:
        for chain in chains:
            digest = _digest(chain, groups)
            if chain.state != RUNNING and memory.sent.get(chain.key) != digest:
                _send(client, experiment, parent, chain, store, groups.get(chain.cell.encoder, {}))
                memory.sent[chain.key] = digest
                sent += 1
        memory.sent.pop(STUDY, None)
        _mark_study(client, parent, chains, state)
        memory.sent[STUDY] = state
    finally:
        memory.write()
    return sent


def mend(
    uri: str,
    study_name: str,
    results: Path,
    chains: Sequence[ChainRow],
    store: Store,
    groups: Mapping[str, Mapping[str, tuple[str, ...]]],
    *,
    say: Callable[[str], None],
    seconds: float | None = None,
) -> None:
    """Sends what a mirror lacks of a study that no run is at work on, for at most so many seconds.

    Costs next to nothing where it lacks nothing. Whatever fails is said in one line and never raised.
    """
    state = final_state(chains)
    memory = _Memory.read(results, uri)
    known = all(memory.sent.get(chain.key) == _digest(chain, groups) for chain in chains if chain.state != RUNNING)
    if not chains or (known and memory.sent.get(STUDY) == state and _still_there(uri, study_name)):
        return

    def work() -> None:
        try:
            sync(uri, study_name, results, chains, store, groups, state=state)
        except StudyError as refused:
            say(str(refused))
        except Exception as failure:  # a report is a report without its mirror
            say(f"{_in_one_line(failure)}; {LATER}")

    thread = threading.Thread(target=work, name="tracking", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        say(f"MLflow takes too long; {LATER}")


def mirror(results: Path, say: Callable[[str], None], seconds: float | None = None) -> str:
    """Sends MLflow what it lacks of a study, for so long at most; returns the tracking URI.

    A run that is at work does that itself. Raises StudyError where there is no study; what MLflow lacks for other
    reasons is said.
    """
    study = study_in(results)
    uri, lock = tracking_uri(study, results.absolute()), FileLock(results / paths.LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):  # somebody's run, or somebody's folder
        return uri
    try:
        with opened_to_read(results / paths.LEDGER) as ledger:
            chains = ledger.chains()
        store = Store(results / paths.STORE)
        mend(uri, study.study, results.absolute(), chains, store, groups_of(study), say=say, seconds=seconds)
    finally:
        lock.release()
    return uri


def tracking_uri(study: Study, results: Path) -> str:
    """Where MLflow's records go: the study's own choice, or a SQLite file in the results folder."""
    return study.tracking or f"sqlite:///{results / paths.MLFLOW}"


def final_state(chains: Iterable[ChainRow]) -> str:
    """What a study is in MLflow when no run is at work on it."""
    return DONE if all(chain.state in (*OVER, SUPERSEDED) for chain in chains) else STOPPED


def check_uri(uri: str) -> None:
    """Raises StudyError where MLflow would refuse a tracking URI; asks no server and opens no database."""
    if not uri.startswith(DATABASES):
        _client(uri)


def _digest(chain: ChainRow, groups: Mapping[str, Mapping[str, tuple[str, ...]]]) -> str:
    return fingerprint([asdict(chain), dict(groups.get(chain.cell.encoder, {}))])


def _still_there(uri: str, study_name: str) -> bool:
    """Whether the other side has the study's experiment yet, as far as that can be seen without mlflow."""
    if uri.startswith(SQLITE):
        path = Path(uri.removeprefix(SQLITE))
        return path.is_file() and path.stat().st_size > 0
    try:
        query = urllib.parse.urlencode({"experiment_name": study_name})
        address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(json.load(answer)["experiment"]["lifecycle_stage"] == "active")
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass
class _Memory:
    """Chain key -> digest of what MLflow has of it, per tracking URI. Losing it costs time, never correctness."""

    path: Path
    uri: str
    sent: dict[str, str]

    @classmethod
    def read(cls, results: Path, uri: str) -> _Memory:
        path, sent = results / paths.MLFLOW_SENT, {}
        with contextlib.suppress(FileNotFoundError, ValueError, AttributeError):
            sent = json.loads(path.read_text(encoding="utf-8")).get(uri, {})
        return cls(path, uri, dict(sent))

    def write(self) -> None:
        """A study has one mirror at a time: another URI's memory is dropped."""
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
        wanted = "a tracking URI that MLflow takes is expected, as http://server:5000, or none"
        raise StudyError("tracking", f"{uri!r}, which MLflow refuses ({_first_line(failure)})", wanted) from failure


def _experiment(client: MlflowClient, name: str, results: Path | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server keeps artifacts where it wants; the embedded store would put them into the working directory.
        location = (results.resolve() / paths.MLFLOW_ARTIFACTS).as_uri() if results else None
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _run(client: MlflowClient, experiment: str, key: str, started: float, tags: Mapping[str, str]) -> tuple[str, bool]:
    """(run id, whether it was there already) of the run with this key."""
    found = client.search_runs([experiment], f"tags.`sweep.key` = '{key}'", max_results=1)
    if found:
        return str(found[0].info.run_id), True
    run = client.create_run(experiment, milliseconds(started), {**tags, "sweep.key": key})
    return str(run.info.run_id), False


def _send(
    client: MlflowClient,
    experiment: str,
    parent: str,
    chain: ChainRow,
    store: Store,
    groups: Mapping[str, tuple[str, ...]],
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    phases = [record for key in chain.phases for record in store.history(key)]
    score = store.score(chain.score) if chain.state == DONE else None
    tags = {**chain_tags(chain, phases, score), "mlflow.parentRunId": parent}
    run, known = _run(client, experiment, f"chain:{chain.key}", chain.started, tags)
    params = [Param(name, value) for name, value in parameters(chain).items()]
    shown = [RunTag(name, value) for name, value in tags.items()] if known else []  # a new run has them
    for batch in _chunks(metrics(chain, score, phases, groups)):  # never without one: a chain has costs
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
    """Mirrors a running study from a thread of the driver. Whatever fails here is told once and never raised."""

    def __init__(
        self,
        uri: str,
        study_name: str,
        results: Path,
        store: Store,
        groups: Mapping[str, Mapping[str, tuple[str, ...]]],
        warn: Callable[[str], None],
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._study = (uri, study_name, results)
        self._store, self._groups, self._warn, self._interval = store, groups, warn, interval
        self._told = False
        self._seen = 0  # the ledger's change up to which everything was sent
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
            self._tell("MLflow takes too long")
        return not self._told

    def _work(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(self._interval)
            self._sync(closing)

    def _sync(self, closing: bool) -> None:
        _, _, results = self._study
        try:
            # A connection of its own: SQLite transactions belong to a connection, not to a thread.
            ledger = Ledger(results / paths.LEDGER)
            try:
                change = ledger.change()
                chains = ledger.chains(after=0 if closing else self._seen)
            finally:
                ledger.close()
            if not chains and not closing:
                return  # with thousands of ended chains, looking at all of them each time would cost a processor
            state = final_state(chains) if closing else RUNNING
            sync(*self._study, chains, self._store, self._groups, state=state)
            self._seen = change
            self._told = False
        except StudyError as refused:
            self._tell(str(refused), "the study goes on without it")
        except Exception as failure:  # the study goes on whatever happens to its mirror
            self._tell(_in_one_line(failure))

    def _tell(self, what: str, then: str = f"the study goes on, {LATER}") -> None:
        if not self._told:
            self._warn(f"{what}; {then}")
        self._told = True


def _in_one_line(failure: Exception) -> str:
    return f"MLflow: {type(failure).__name__}: {_first_line(failure)}"


def _first_line(failure: Exception) -> str:
    return next(iter(str(failure).strip().splitlines()), "")[:200]
