"""Run of a study on Ray Tune, tracked in MLflow. Start and resume are the same call.

The driver checks everything before it starts anything, writes alone to ledger and MLflow, and can be killed at any
moment: the next call plans the same chains and finds in the store what was finished.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from sweep.config.load import load, read
from sweep.config.study import Budget, Runtime, Study
from sweep.errors import Mistakes, StudyError, SweepError
from sweep.plan.cost import Costs
from sweep.plan.data_facts import check_data
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.hardware import device_of
from sweep.plan.order import summary
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.plan.resolve import informed, look_up, make_plan, resolve_revisions, shaped, unchecked_encoders
from sweep.plan.speed import Speed
from sweep.run.progress import Display, Feed, Listener, duration, least_budget
from sweep.run.tracking import Tracked, Tracker
from sweep.search.admission import Admission
from sweep.store import paths
from sweep.store.artifacts import Store, disk_error
from sweep.store.index import StoreIndex
from sweep.store.ledger import DRIVER, Ledger, measured, results_of, study_path
from sweep.tasks.plugins import code_folders

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

    from sweep.run.cluster import Capacity

LOG = logging.getLogger(__name__)
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run."""

    results: Path
    admission: Admission
    interrupted: bool
    overdue: bool  # the deadline came before the end
    least_budget: Budget | None  # with which one more chain could start
    seconds: float


def run(path: Path, text: str | None = None, listener: Listener | None = None) -> Outcome:
    """Runs what is missing of a study. Raises SweepError for what its user can mend.

    `text` is the study where there is no file of it: relative paths in it start in the folder of `path`, which also
    names it in errors. A `listener` hears of all progress, which is then not written to standard error; what it raises
    stops the run as Ctrl-C does, and is raised again when the chains have stopped.
    """
    started = time.time()
    with prepared(path, text) as (plan, ledger, results):
        costs = Costs(plan, ledger.facts().sizes)
        ledger.remember(NO_FACTS.with_plan(plan_facts(plan, costs)))
        admission = Admission(plan, StoreIndex(Store(results / paths.STORE)), ledger, costs)
        feed = Feed(admission, listener) if listener is not None else None
        interrupted = _execute(admission, results, feed)
        admission.outcomes.note_checkpoints()
        if feed is not None:
            feed.close()
        overdue, least = admission.spending.overdue, least_budget(admission)
    return Outcome(results, admission, interrupted, overdue, least, time.time() - started)


def outcome_text(outcome: Outcome, file: Path) -> str:
    """Closing text of a run: how its chains ended, and how to resume; `file` is the study file."""
    admission, outcomes = outcome.admission, outcome.admission.outcomes
    done = f"{len(outcomes.done)} of {admission.total} chains done, {admission.trained} phases trained now"
    eliminated = f", {len(outcomes.eliminated)} eliminated by halving" if outcomes.eliminated else ""
    lines = [f"{done}{eliminated}, in {duration(outcome.seconds)}"]
    lines += [f"failed: {chain.name}: {reason}" for chain, reason in outcomes.failed]
    lines += [f"collapsed: {chain.name}: {reason}" for chain, reason in outcomes.collapsed]
    lines += [f"stopped: {chain.name} {admission.stored.whence(chain)}" for chain in outcomes.stopped]
    left = admission.total - outcomes.count  # with those that depend on unpaid ones
    if outcome.interrupted:
        lines.append(f"interrupted; 'sweep run {file}' resumes")
    elif left and outcome.overdue:
        lines.append(f"deadline reached with {left} chains left; 'sweep run {file}' resumes")
    elif outcomes.unpaid:
        lines.append(
            f"budget of {admission.plan.study.budget} exhausted with {left} chains left; to resume, set a larger one in"
            f" the study file, at least {outcome.least_budget}, and run the same command"
        )
    return "\n".join(lines)


@contextmanager
def prepared(path: Path, text: str | None = None) -> Iterator[tuple[Plan, Ledger, Path]]:
    """Plan, ledger and results folder of a study whose data and encoders were found sound. Raises SweepError.

    `text` is the study where there is no file of it.
    """
    text = read(path) if text is None else text
    study, mistakes = load(path, text), Mistakes()
    results = results_of(study).absolute()
    named = look_up(study, path, mistakes)
    mistakes.raise_first()  # before the hub is asked
    known = measured(results).facts
    commits = resolve_revisions(named, known)
    plan = make_plan(named, known | commits, mistakes)
    mistakes.raise_first()  # before a folder is made
    with _owned(results, study, path) as ledger:
        ledger.settle_all(time.time())
        driver = {"process": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        ledger.note(DRIVER, time.time(), driver)
        (results / paths.STUDY_FILE).write_text(text, encoding="utf-8")
        ledger.remember(commits)
        ledger.remember(_check_encoders(plan, ledger.facts()))
        plan = shaped(plan, ledger.facts(), path)
        ledger.remember(check_data(plan, ledger.facts()).facts)
        plan = informed(plan, ledger.facts())
        try:
            yield plan, ledger, results
            ledger.note(DRIVER, time.time(), {**driver, "ended": time.time()})
        except Exception as fault:
            mistake = disk_error(fault, results)
            if mistake is None:
                raise
            raise mistake from fault


def _check_encoders(plan: Plan, facts: Facts) -> Facts:
    """Checks encoders in a process of its own: torch stays out of the driver, which lives as long as the study.

    A program of its own, for one of multiprocessing begins by running the caller's script again. Where torch is loaded
    already there is nothing to keep out.
    """
    if not unchecked_encoders(plan, facts):
        return NO_FACTS
    if "torch" in sys.modules:
        from sweep.run.inspection import check_encoders

        return check_encoders(plan, facts)
    command = [sys.executable, "-P", "-m", "sweep.run.inspection"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    question = pickle.dumps((plan, facts))
    done = subprocess.run(command, input=question, stdout=subprocess.PIPE, env=environment, check=True)
    answer: Facts | SweepError = pickle.loads(done.stdout)  # noqa: S301  our own process wrote it
    if isinstance(answer, SweepError):
        raise answer
    return answer


def plan_facts(plan: Plan, costs: Costs) -> dict[str, Any]:
    """Facts of the plan that the report needs, as plain data; kept with the results, which may outlive the data."""
    targets = (plan.tasks[name] for name in plan.study.axes.target)
    languages = dict.fromkeys(language for task in targets for language in task.languages)
    runtime = plan.study.runtime
    text = sorted(name for name, task in plan.tasks.items() if task.family.raw_text)
    return {
        **summary(plan, costs, Speed(device=device_of(runtime.gpus, runtime.precision))),
        "languages": list(languages),
        "overlaps": sorted(plan.overlaps),
        "text": text,
        "gpu": runtime.gpus > 0,
        **({"code": code} if (code := _code(plan.study)) else {}),
    }


def _code(study: Study) -> list[str]:
    """Folders of the study's own Python, relative to that of its file, so that both can be moved."""
    beside = study.path.absolute().parent
    return [Path(os.path.relpath(folder, beside)).as_posix() for folder in code_folders()]


@contextmanager
def _owned(results: Path, study: Study, path: Path) -> Iterator[Ledger]:
    """Ledger of a results folder that is locked for this process and claimed for this study."""
    lock = FileLock(results / paths.LOCK)
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(results, "another 'sweep run' at work", "one run per results folder is expected") from None
    except OSError as failure:
        unusable = f"{results}, no folder that can be written ({failure.strerror})"
        raise StudyError(f"{path}: results", unusable, "one that can be is expected") from failure
    try:
        ledger = Ledger(results / paths.LEDGER)
        try:
            _claim(ledger, results, study, path)
            yield ledger
        finally:
            ledger.close()
    finally:
        lock.release()


def _claim(ledger: Ledger, results: Path, study: Study, path: Path) -> None:
    known = ledger.facts()
    if known.study is None and ledger.spent() == (0, 0):
        _charge_lost(ledger, Store(results / paths.STORE))
    if known.study not in (None, study.study):
        other = study_path(results, known)
        if not path.is_file() or _holds(other, known.study):  # a rename is known by the place of the file
            expected = f"a folder of the study {study.study!r}, or an empty one, is expected"
            problem = f"{results}, which holds the study {known.study!r} of {other}"
            raise StudyError(f"{path}: results", problem, expected)
        LOG.warning("%s: the study %r goes on under the name %r", results, known.study, study.study)
    file = os.path.relpath(path.absolute(), results)
    ledger.remember(NO_FACTS.with_study(study.study).with_study_file(Path(file).as_posix()))


def _holds(file: Path, study: str | None) -> bool:
    """Whether a file is there and is the study of this name."""
    try:
        return load(file).study == study
    except SweepError:
        return False


def _charge_lost(ledger: Ledger, store: Store) -> None:
    """Charges a new ledger beside a store with results, whose own ledger is lost, with what they have cost."""
    flops, seconds = store.spent()
    if flops or seconds:
        ledger.charge_lost(flops, seconds, time.time())
        charged = f"{flops:.3g} FLOPs and {seconds:,.0f} device-seconds are charged to the study, as its records say"
        LOG.warning("%s: the ledger is missing; %s", ledger.path, charged)


def _execute(admission: Admission, results: Path, feed: Feed | None) -> bool:
    """Runs the chains that are missing; returns whether the user interrupted. A `feed` takes the display's place."""
    first = admission.next()
    if first is None:
        return False
    from sweep.run.cluster import cluster

    study = admission.plan.study
    with cluster(study.runtime) as capacity:
        display = feed or Display(admission, capacity.devices or study.runtime.devices, sys.stderr)
        if capacity.warning:
            display.say(capacity.warning)
        tracker = Tracker(Tracked.of(study, results), display.say)
        tracker.start()
        try:
            return _tune(admission, first, results, capacity, display)
        finally:
            tracker.close()


def _tune(admission: Admission, first: Chain, results: Path, capacity: Capacity, display: Display | Feed) -> bool:
    from ray import tune

    from sweep.run.tune import METRIC, WORKER_DEATHS, BudgetScheduler, ChainSearcher, SentOnce, chain_trial

    runtime = admission.plan.study.runtime
    store = Store(results / paths.STORE)
    store.tidy()
    mark = store.claim(admission.plan.study.study)
    admission.spending.queued = capacity.chains is None or runtime.shares
    admission.shares.devices = capacity.devices
    plan = SentOnce(admission.plan)
    trainable = tune.with_parameters(chain_trial, plan=plan, store_root=str(results / paths.STORE), mark=mark)
    # Tune's own files are of no use after the run: the store, the ledger and MLflow have everything.
    with _interruptible(admission, display):
        tuner = tune.Tuner(
            tune.with_resources(trainable, lambda config: _resources(runtime, config["devices"])),
            tune_config=tune.TuneConfig(
                search_alg=ChainSearcher(admission, first, display.update, display.say),
                scheduler=BudgetScheduler(admission, display.say),
                metric=METRIC, mode="max", num_samples=-1, reuse_actors=True, max_concurrent_trials=capacity.chains,
            ),
            run_config=tune.RunConfig(
                name="chains", storage_path=str(capacity.folder / "tune"), verbose=0,
                progress_reporter=tune.CLIReporter(),  # in a notebook Tune would draw its own, however silent
                failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS),
            ),
        )  # fmt: skip
        try:
            tuner.fit()
        finally:
            display.clear()
            for key in list(admission.running):
                admission.ended(key)
    return admission.closing


def _resources(runtime: Runtime, devices: float) -> PlacementGroupFactory:
    """Resources that Ray reserves for a chain; workers are reused by chains of equal resources."""
    from ray.tune import PlacementGroupFactory

    return PlacementGroupFactory([{"CPU": float(runtime.cores), **({"GPU": devices} if runtime.gpus else {})}])


@contextmanager
def _interruptible(admission: Admission, display: Display | Feed) -> Iterator[None]:
    """Ctrl-C lets nothing new start and stops chains at their next report; a second one ends at once.

    So do SIGTERM, as of a batch system, and the hang-up of a terminal.

    In a thread, as a notebook's or a server's, signals are not ours: they reach the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        if admission.closing:
            raise KeyboardInterrupt
        admission.closing = True
        with suppress(OSError):  # the terminal may be what has gone
            display.say(
                "interrupted; running chains stop, to resume from their last checkpoints (Ctrl-C again stops at once)"
            )

    # Ended in another way, Ray's processes would have to notice by themselves. Under nohup a hang-up means nothing; a
    # shell without job control starts background jobs with SIGINT ignored, and whoever sends it means it.
    ours = [number for number in END_SIGNALS if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
