"""From a results folder to its report, at any time of a run. Reads the folder alone: the data may be gone."""

from __future__ import annotations

import json
from pathlib import Path

from sweep.planning import ledger as books
from sweep.planning.groups import groups_of
from sweep.planning.ledger import opened_to_read
from sweep.planning.spec import Study
from sweep.planning.study_file import load
from sweep.reporting import report
from sweep.reporting.answers import first_sentence, leading_table
from sweep.reporting.submissions import publish_submissions
from sweep.store import Store
from sweep.study import STORE, STUDY_COPY, no_study, tracking_uri
from sweep.tracking import sync


def publish(results: Path) -> str:
    """Writes report, score tables and submissions; returns the text for the terminal. Raises SweepError."""
    study = _study(results)
    with opened_to_read(results / books.FILE) as ledger:
        facts, chains = ledger.facts(), ledger.chains()
    plan = json.loads(facts.get("plan", "{}"))
    store, groups, overlapping = Store(results / STORE), groups_of(study), study.report.overlapping
    found = report.read(study.study, chains, store, groups, plan, overlapping=overlapping, facts=facts)
    page = report.save(found, results)
    said = publish_submissions(results, found.results, store)
    answer = leading_table(found.estimates), first_sentence(found.estimates, found.progress)
    return "\n".join([*answer, *said, f"report: {page}"])


def mirror(results: Path) -> str:
    """Sends MLflow what it lacks of a study; returns the tracking URI. Raises StudyError where there is no study."""
    study = _study(results)
    uri = tracking_uri(study, results.absolute())
    with opened_to_read(results / books.FILE) as ledger:
        chains = ledger.chains()
    over = all(chain.state != books.RUNNING for chain in chains)
    state = books.DONE if over else books.RUNNING
    sync(uri, study.study, results.absolute(), chains, Store(results / STORE), groups_of(study), state=state)
    return uri


def _study(results: Path) -> Study:
    copy = results / STUDY_COPY
    if not copy.exists() or not (results / books.FILE).exists():
        raise no_study(results)
    return load(copy)
