"""From a results folder to its report, at any time of a run. Reads the folder alone: the study's data may be gone by then."""

from __future__ import annotations

import json
from pathlib import Path

from sweep import ledger as books
from sweep import report
from sweep.errors import StudyError
from sweep.ledger import Ledger
from sweep.spec import Study, load
from sweep.store import Store
from sweep.study import STORE, STUDY_COPY, tracking_uri


def publish(results: Path) -> str:
    """Writes report.html, scores.csv and scores.parquet; returns the text for the terminal. Raises SweepError."""
    study = _study(results)
    ledger = Ledger(results / books.FILE)
    try:
        facts, chains = ledger.facts(), ledger.chains()
    finally:
        ledger.close()
    plan = json.loads(facts.get("plan", "{}"))
    overlaps = frozenset((intermediate, target) for intermediate, target in plan.get("overlaps", []))
    found = report.read(
        study.study, chains, Store(results / STORE), study.language_groups, plan, plan.get("flags", []),
        plan.get("languages", []), overlaps,
    )  # fmt: skip
    page = report.save(found, results)
    return "\n".join([report.leading_table(found), report.first_sentence(found), f"report: {page}"])


def open_results(results: Path) -> tuple[Path, str]:
    """The folder and the tracking URI of its study. Raises StudyError where it holds none."""
    return results, tracking_uri(_study(results), results.absolute())


def _study(results: Path) -> Study:
    copy = results / STUDY_COPY
    if not copy.exists() or not (results / books.FILE).exists():
        raise StudyError(results, "no study", "the results folder of a 'sweep run' is expected")
    return load(copy)
