"""From a results folder to its report, at any time of a run. Reads the folder alone: the data may be gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from sweep.config.load import load
from sweep.config.study import Study
from sweep.plan.languages import groups_of
from sweep.report import page
from sweep.report.submissions import publish_submissions
from sweep.report.tables import leading_table
from sweep.report.text import first_sentence
from sweep.run.study import no_study, tracking_uri
from sweep.run.tracking import mend
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import opened_to_read
from sweep.tasks.plugins import add_folder


def publish(results: Path) -> str:
    """Writes report, score tables and submissions; returns the text for the terminal. Raises SweepError."""
    study = _study(results)
    with opened_to_read(results / paths.LEDGER) as ledger:
        facts, chains = ledger.facts(), ledger.chains()
    for folder in facts.plan.get("code", ()):
        add_folder(folder)
    store, groups, overlapping = Store(results / paths.STORE), groups_of(study), study.report.overlapping
    found = page.read(study.study, chains, store, groups, facts.plan, overlapping=overlapping, facts=facts)
    path = page.save(found, results)
    said = publish_submissions(results, found.results, store)
    answer = leading_table(found.estimates), first_sentence(found.estimates, found.progress)
    return "\n".join([*answer, *said, f"report: {path}"])


def mirror(results: Path, say: Callable[[str], None], seconds: float | None = None) -> str:
    """Sends MLflow what it lacks of a study, for so long at most; returns the tracking URI.

    A run that is at work does that itself. Raises StudyError where there is no study; what MLflow lacks for other
    reasons is said.
    """
    study = _study(results)
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


def _study(results: Path) -> Study:
    copy = results / paths.STUDY_FILE
    if not copy.exists() or not (results / paths.LEDGER).exists():
        raise no_study(results)
    return load(copy)
