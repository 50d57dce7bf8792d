"""Ray Tune's searcher, scheduler and trainable: hand admission's chains to workers and their reports back.

Searcher and scheduler are the driver's. The trainable runs in a thread of a warm worker process, which keeps torch and
transformers imported between chains.

A chain has a log, a text file with what its worker printed, warned of and failed with. It begins with when and where an
attempt runs. Everything that reaches the standard streams of the worker's process goes there, whoever writes it:
Python's warnings, a library's log, an assertion of a CUDA kernel, the stack of a process that crashes or hangs. The
driver adds what only it knows: that a worker died, or could not write there.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pickle
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle, tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweep.errors import DeviceError, SweepError
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.search.admission import Admission
from sweep.search.budget import REPORT_SECONDS, REPORT_SHARE
from sweep.store.artifacts import Store, disk_error

if TYPE_CHECKING:
    from sweep.train.context import Event

WORKER_DEATHS = 2  # a chain whose worker dies more often has failed
METRIC = "objective"  # Tune wants one in every report; what is compared is compared by admission, inside cells
REPORT = "report"


def report_to_tune(report: Mapping[str, Any]) -> dict[str, Any]:
    """Tune's form of a report: one text. Tune flattens mappings and keeps statistics of every number for ever."""
    facts: Facts = report.get("facts", NO_FACTS)
    return {METRIC: 0.0, REPORT: json.dumps({**report, "facts": dict(facts.texts)})}


def report_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Report in a result of Tune; empty where a chain has not reported."""
    if REPORT not in result:
        return {}
    report: dict[str, Any] = json.loads(result[REPORT])
    return {**report, "facts": Facts(report["facts"])}


class SentOnce:
    """A value on its way to workers, where it arrives as itself: a process unpickles it at its first chain alone.

    Tune's own parameters are unpickled at every trial, which for a plan of 10,000 cells takes as long as a short phase.
    """

    def __init__(self, value: object) -> None:
        self._content: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return _unpickled, (self._content,)


@lru_cache(maxsize=1)
def _unpickled(content: bytes) -> Any:
    return pickle.loads(content)  # noqa: S301  our own driver wrote it


# ---- in the driver ---------------------------------------------------------------------------------------------------


class ChainSearcher(Searcher):
    """Searcher whose suggestions are chains; the trial's configuration is what rebuilds one from the plan."""

    def __init__(
        self, admission: Admission, first: Chain, refresh: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._admission = admission
        self._first: Chain | None = first  # admitted before Ray was started: without it there was nothing to start for
        self._refresh = refresh  # of the display, called whenever something may have changed
        self._say = say
        self._chains: dict[str, Chain] = {}  # Tune's trial id -> chain
        self._broken: dict[str, str] = {}  # Tune's trial id -> what left a device unusable in its latest attempt

    def suggest(self, trial_id: str) -> Any:
        chain = self._first or self._admission.next()
        self._first = None
        self._refresh()
        if chain is None:
            return Searcher.FINISHED if self._admission.finished else None
        self._chains[trial_id] = chain
        self._admission.given(chain.key)
        return {
            "chain": chain.key,
            "cell": self._admission.position(chain),
            "hyperparameters": dict(chain.hyperparameters),
            "seed": chain.seed,
            "candidate": chain.candidate,
            "role": chain.role,
            "pause_at": self._admission.pause_at(chain.key),
            "devices": self._admission.devices(chain.key),
            "keep": self._admission.kept_weights.room,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        report = report_of(result)
        if broken := report.get("broken"):
            self._broken[trial_id] = broken
            self._log_trace(self._chains[trial_id], report)
        self._refresh()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        report, chain, broken = report_of(result or {}), self._chains.pop(trial_id), self._broken.pop(trial_id, None)
        failure = report.get("failed")
        self._log_trace(chain, report)
        if error:
            deaths = f"its worker died {WORKER_DEATHS + 1} times: out of memory, hanging, or killed from outside"
            failure = deaths if broken is None else f"{broken}; tried in {WORKER_DEATHS + 1} processes"
        finished, share_too_small = report.get("finished", False), report.get("share_too_small", False)
        failed = len(self._admission.outcomes.failed)
        self._admission.ended(chain.key, failure, share_too_small=share_too_small, finished=finished)
        for _, reason in self._admission.outcomes.failed[failed:]:
            self._say(f"{chain.name} failed: {reason}")
        self._refresh()

    def _log_trace(self, chain: Chain, report: Mapping[str, Any]) -> None:
        """Writes a traceback into the chain's log where its worker could not."""
        if trace := report.get("trace"):
            append_to_log(self._admission.stored.store.log(chain.key), trace)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a new start rebuilds everything from plan, store and ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: Tuner.restore is not used."""


class BudgetScheduler(FIFOScheduler):
    """Scheduler that sees every report, also the one at which a chain is stopped, which Tune's searchers never see."""

    def __init__(self, admission: Admission, say: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._admission, self._say = admission, say
        self._deaths: dict[str, int] = {}  # trial -> how often its worker has died

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        key, report = trial.config["chain"], report_of(result)
        if "failed" in report or "broken" in report:
            return str(TrialScheduler.CONTINUE)
        self._admission.heard(key, report)
        if message := report.get("message"):
            self._say(f"{self._admission.running[key].chain.name}: {message}")
        goes_on = report.get("finished") or self._admission.may_go_on(key)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Looks after chains that do not report: Tune calls this ten times a second, and chooses by itself."""
        live = {trial.config["chain"]: trial for trial in tune_controller.get_live_trials()}
        for key, trial in live.items():
            self._note_deaths(key, trial)
        at_work = {key: trial for key, trial in live.items() if trial.status == Trial.RUNNING}
        for key in at_work.keys() & self._admission.running.keys():
            self._admission.placed(key)
        for key in self._admission.stranded() & live.keys():
            _end(tune_controller, live[key])
        for key in self._admission.silent() & at_work.keys():
            ray.kill(at_work[key].temporary_state.ray_actor)  # Tune begins the chain anew, as often as a worker may die

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._note_deaths(trial.config["chain"], trial)
        super().on_trial_error(tune_controller, trial)

    def _note_deaths(self, key: str, trial: Any) -> None:
        """Logs what Ray knows of the end of a worker, which itself may have written nothing."""
        deaths = trial.run_metadata.num_failures
        if deaths > self._deaths.get(trial.trial_id, 0):
            self._deaths[trial.trial_id] = deaths
            error = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
            append_to_log(self._admission.stored.store.log(key), f"the worker has died ({deaths})\n{error}")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}


def _end(tune_controller: Any, trial: Any) -> None:
    """Ends a chain that does not report, with its process; it resumes from its last checkpoint."""
    if trial.status == Trial.RUNNING:
        trial.max_failures = 0  # else Tune would begin it anew
        ray.kill(trial.temporary_state.ray_actor)
    else:
        trial.init_local_path()  # else Tune stumbles over it at the end
        with redirect_stdout(StringIO()):  # what Tune prints of it, however silent it is to be
            tune_controller.stop_trial(trial)  # its process is not there yet


# ---- in a worker -----------------------------------------------------------------------------------------------------


UNCHANGED = {"message": "", "committed": False, "facts": NO_FACTS}  # of a report that is made once more
HANGS = 0.9  # of the silence after which a worker is ended: then its stacks go to the log
# Of an accelerator or its libraries. From then on a process may get the same error from whatever it asks of the device:
# CUDA's documentation says so of cudaErrorAssert, cudaErrorIllegalAddress, cudaErrorECCUncorrectable and others.
BROKEN = re.compile(
    r"(CUDA|HIP)( driver)? error|CU(BLAS|SPARSE|SOLVER|FFT)_STATUS_|CUDNN_STATUS_|cuDNN error|NCCL error"
)
# Refused before anything ran: the device goes on, and another process would be refused too.
REFUSED = re.compile(
    r"out of memory|ALLOC_FAILED|NOT_SUPPORTED|not supported|INVALID_VALUE|BAD_PARAM|invalid argument"
    r"|no kernel image|invalid device (function|ordinal)|invalid configuration argument"
)


def chain_trial(config: dict[str, Any], plan: Plan, store_root: str, mark: str) -> None:
    """Runs the chain that `config` names and reports to the driver, which has left `mark` in the store."""
    began = time.time(), time.process_time()  # before torch is imported: the chain has its place from now on
    reports = Reports(plan, began)
    store, logged = Store(Path(store_root)), False
    try:
        store.check(mark)
        with streams_to_log(store.log(config["chain"])) as note:
            logged = True
            _work(config, store, reports, note)
    except Exception as fault:
        line, trace = _line(fault, store), "" if logged else traceback.format_exc()
        if leaves_device_unusable(fault):
            reports.end(broken=line, trace=trace)
            raise  # a new process tries again
        # Raising would make Tune try again what cannot succeed, and pay for it each time.
        shared = plan.study.runtime.shares and config["devices"] < 1
        reports.end(finished=True, failed=line, share_too_small=isinstance(fault, DeviceError) and shared, trace=trace)
    else:
        reports.end(finished=True)


@dataclass
class Reports:
    """Reports of an attempt to the driver: milestones at once, else one a second, or per share of the budget.

    Tune stops an attempt by raising SystemExit in whatever thread reports to it.
    """

    plan: Plan
    began: tuple[float, float]  # (time.time(), time.process_time())

    def __post_init__(self) -> None:
        unspent = {"flops": 0.0, "device_seconds": 0.0, "seconds": 0.0, "phase": "", "key": ""}
        self.latest: dict[str, Any] = {"started": self.began[0], **unspent}
        self._sent, self._last = 0.0, dict[str, Any]()  # time and content of the last report
        self._taken, self._stopped, self._lock = time.time(), False, threading.Lock()

    def take(self, event: Event) -> None:
        """Reports an event, or keeps it for later. Raises SystemExit where the driver wants the attempt to end."""
        with self._lock:
            if self._stopped:
                raise SystemExit
            self.latest, self._taken = {"started": self.began[0], **vars(event)}, time.time()
            if self.plan.study.runtime.shares and event.facts:
                self.latest["facts"] = event.facts.with_cores_per_device(_cores_per_device())
            milestone = event.committed or event.facts or event.message or event.dev is not None
            if milestone or time.time() - self._sent > REPORT_SECONDS or self._is_costly():
                self._send(self.latest)

    def end(self, **rest: Any) -> None:
        """Sends the last report of an attempt, or the one before its process ends."""
        with self._lock:
            self._send({**self.latest, **UNCHANGED, **rest})

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Repeats the last report from a thread while the work does something of which it said that it may take long.

        For no longer than the study's `silence`: work that hangs there is noticed after that time once more.
        """
        over = threading.Event()

        def repeat() -> None:
            while not over.wait(REPORT_SECONDS) and not self._stopped:
                self._repeat()

        thread = threading.Thread(target=repeat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _repeat(self) -> None:
        with self._lock, suppress(SystemExit):  # the work is ended at its next event
            now, runtime = time.time(), self.plan.study.runtime
            if self.latest.get("doing") and REPORT_SECONDS < now - self._taken < runtime.silence:
                spent = {"seconds": now - self.began[0]}
                if not runtime.gpus:
                    spent["device_seconds"] = time.process_time() - self.began[1]
                self._send({**self.latest, **UNCHANGED, **spent})

    def _send(self, report: dict[str, Any]) -> None:
        """Sends a report and waits until the driver has it."""
        if self._stopped:
            raise SystemExit
        try:
            tune.report(report_to_tune(report))
        except SystemExit:
            self._stopped = True
            raise
        self._sent, self._last = time.time(), report

    def _is_costly(self) -> bool:
        """Whether what was spent since the last report is a noticeable share of the budget."""
        budget = self.plan.study.budget
        if budget is None:
            return False
        return bool(self.latest[budget.unit] - self._last.get(budget.unit, 0.0) > REPORT_SHARE * budget.amount)


def _work(config: Mapping[str, Any], store: Store, reports: Reports, note: Callable[[str], None]) -> None:
    plan = reports.plan
    cell, hyperparameters = plan.cells[config["cell"]], config["hyperparameters"]
    chain = plan.chain(cell, hyperparameters, config["seed"], config["candidate"], config["role"])
    note(f"{chain.name}, candidate {chain.candidate}: on {worker_place()}")
    from sweep.run.chain import run  # loads torch, which may take long: the log has begun by now

    phase = ""

    def listen(event: Event) -> None:
        nonlocal phase
        alive()
        if event.key != phase and not event.committed:  # what is in the store by now may be the phase before
            phase = event.key
            note(f"{event.phase} {event.key}")
        if event.message or event.committed:
            note(event.message or f"{event.phase} {event.key} is in the store")
        reports.take(event)

    with reports.repeated(), stacks_when_silent(HANGS * plan.study.runtime.silence) as alive:
        occupied = {"began": reports.began, "devices": config["devices"]}
        run(chain, plan, store, listen, pause_at=config["pause_at"], keep=config["keep"], **occupied)
    note("finished")


def _line(fault: Exception, store: Store) -> str:
    """Line of an error for the user; its traceback is in the log."""
    mistake = fault if isinstance(fault, SweepError) else disk_error(fault, store.root)
    return str(mistake) if mistake is not None else " ".join(f"{type(fault).__name__}: {fault}".split())


def leaves_device_unusable(fault: BaseException) -> bool:
    """Whether a process has to end after this error, for it may get the same one from whatever it asks of its device.

    Not where a device was full: torch.OutOfMemoryError has texts of its own.
    """
    cause = fault.__cause__ or fault.__context__
    if cause is not None and leaves_device_unusable(cause):
        return True
    accelerator = any(kind.__name__ == "AcceleratorError" for kind in type(fault).__mro__)
    is_of_device = accelerator or (isinstance(fault, RuntimeError) and BROKEN.search(str(fault)) is not None)
    return is_of_device and REFUSED.search(str(fault)) is None


def _cores_per_device() -> float:
    """Cores per GPU of the node that this worker runs on."""
    own = ray.get_runtime_context().get_node_id()
    node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == own)  # type: ignore[no-untyped-call]
    return float(node.get("CPU", 1) / node.get("GPU", 1))


# ---- the log of a chain ----------------------------------------------------------------------------------------------


STREAMS = (1, 2)  # file descriptors of standard output and standard error


def append_to_log(log: Path, text: str) -> None:
    """Appends a text with the time to a log. Raises OSError."""
    log.parent.mkdir(exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(_dated(text))


def worker_place() -> str:
    """Node, process and GPUs of this process, in words."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"node {socket.gethostname()}, process {os.getpid()}, {f'GPU {gpus}' if gpus else 'CPU'}"


@contextmanager
def streams_to_log(log: Path) -> Iterator[Callable[[str], None]]:
    """Sends the standard streams of this process to the log; yields what adds a line with the time.

    Leaves the traceback of an error there. Raises OSError where the log cannot be written.
    """
    log.parent.mkdir(exist_ok=True)
    before = [os.dup(stream) for stream in STREAMS]
    try:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for stream in STREAMS:
            os.dup2(file, stream)
        os.close(file)
        yield lambda text: _write(_dated(text))
    except Exception:
        with suppress(OSError):  # of a full disk, which may be the error itself
            _write(_dated("failed") + traceback.format_exc())
        raise
    except BaseException:
        _write(_dated("stopped by the driver"))
        raise
    finally:
        for stream, kept in zip(STREAMS, before, strict=True):
            os.dup2(kept, stream)
            os.close(kept)


@contextmanager
def stacks_when_silent(seconds: float) -> Iterator[Callable[[], None]]:
    """Yields a function to be called as a sign of life; after `seconds` without, the stacks go to standard error.

    A worker that hangs is ended from outside, and could not log where.
    """

    armed = float("-inf")

    def alive() -> None:
        nonlocal armed
        # Each call starts a thread, which a phase of short steps would pay for at every step.
        if time.monotonic() - armed > min(1.0, seconds / 100):
            faulthandler.dump_traceback_later(seconds, file=STREAMS[1])
            armed = time.monotonic()

    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()


def _dated(text: str) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S%z')} {text.rstrip()}\n"


def _write(text: str) -> None:
    """Writes past Python's buffers, which are lost with a killed process, but after what they hold."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.write(STREAMS[1], text.encode(errors="backslashreplace"))
