"""Report of a study, at any time of its run: score tables as files, two pictures, submissions, and one page.

Reads the results folder alone, whose study file, ledger and store it leaves as they are: the data may be gone. The text
around numbers, tables and pictures, their order and their looks are in the template page.html.j2. Whatever is put into
it is escaped, but for pictures, whose texts matplotlib has escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep.config.axes import cell_columns
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.languages import groups_of
from sweep.report import figures
from sweep.report.gains import Asked, Estimates, Groups, estimate, estimate_regrets, estimate_retention
from sweep.report.results import (
    Result,
    Unscored,
    labels,
    preview_frame,
    read_collapsed,
    read_eliminated,
    read_results,
    retention_frame,
    savings_frame,
    scores_frame,
    time_frame,
    tuning_frame,
    weights_held,
    write_groups,
    write_retention,
    write_scores,
)
from sweep.report.statistics import CONFIDENCE, HELPS, HURTS, LEVEL, ONE_SEED, UNDECIDED
from sweep.report.submissions import publish_submissions
from sweep.report.tables import (
    cell_table,
    contrast_table,
    group_table,
    language_table,
    layer_table,
    leading_table,
    phase_table,
    preview_table,
    regret_table,
    retention_table,
    time_table,
    tuning_table,
)
from sweep.report.text import (
    amount,
    contrast_sentences,
    cost_sentences,
    distrust,
    first_sentence,
    made_sentences,
    time_sentence,
    vector_sentences,
)
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import DONE, ChainRow, opened_to_read, study_in
from sweep.tasks.plugins import add_folder

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Report:
    """A study's results and all that is estimated from them."""

    study: str
    chains: tuple[ChainRow, ...]
    results: tuple[Result, ...]
    collapsed: tuple[Unscored, ...]  # before their target phase
    eliminated: tuple[Unscored, ...]  # candidates, by halving
    scores: pd.DataFrame
    estimates: Estimates
    retention: pd.DataFrame  # per cell and intermediate task, empty where the study does not ask
    previews: pd.DataFrame  # of intermediate settings, empty where none was asked for
    held: Mapping[str, int]  # bytes of weights in the store, by kind of phase
    plan: Mapping[str, Any]
    overlapping: bool = False

    @property
    def progress(self) -> str:
        """Number of chains that are done, in words."""
        done, eliminated = sum(chain.state == DONE for chain in self.chains), len(self.eliminated)
        noted = f" ({eliminated} of them eliminated by halving)" if eliminated else ""
        return f"{done + eliminated} of {self.plan.get('chains', len(self.chains))} chains are done{noted}"

    @property
    def savings(self) -> pd.DataFrame:
        """Savings of all chains that have ended."""
        return savings_frame(self.results, (*self.collapsed, *self.eliminated))

    @property
    def times(self) -> pd.DataFrame:
        """Where the device time of all chains that have ended went."""
        return time_frame(self.results, (*self.collapsed, *self.eliminated))

    @property
    def doubts(self) -> list[str]:
        """Sentences on what weakens the study's answers."""
        return distrust(
            self.chains, self.results, self.collapsed, self.estimates, self.plan, overlapping=self.overlapping
        )


def publish(folder: Path) -> str:
    """Writes report, score tables and submissions into a results folder; returns the text for the terminal.

    Raises StudyError where no study has begun there, StoreError where the store is damaged.
    """
    report = read_folder(folder)
    page = save(report, folder)
    notes = publish_submissions(folder, report.results, Store(folder / paths.STORE))
    answer = leading_table(report.estimates), first_sentence(report.estimates, report.progress)
    return "\n".join(filter(None, [*answer, time_sentence(report.times), *notes, f"report: {page}"]))


def read_folder(folder: Path) -> Report:
    """Reads a results folder. Raises StudyError where no study has begun there, StoreError for a damaged store."""
    study = study_in(folder)
    with opened_to_read(folder / paths.LEDGER) as ledger:
        facts, chains = ledger.facts(), ledger.chains()
    for code in facts.plan.get("code", ()):
        add_folder((study.path.parent / code).resolve())
    store, overlapping = Store(folder / paths.STORE), study.report.overlapping
    return read(study.study, chains, store, groups_of(study), facts.plan, overlapping=overlapping, facts=facts)


def read(
    study_name: str,
    chains: Sequence[ChainRow],
    store: Store,
    groups: Groups,
    plan: Mapping[str, Any],
    *,
    overlapping: bool = False,
    facts: Facts = NO_FACTS,
) -> Report:
    """Reads results and estimates gains, retention and regrets with intervals. Raises StoreError.

    `groups` are the named groups of languages per encoder. `plan` is what `sweep plan --json` prints: "chains",
    "cells", "encoders" and "flags", and where known "languages" in the order to show them, "text", the masked tasks,
    "gpu", whether the study asks for one, and "overlaps", pairs (intermediate task, target) whose cells are marked
    and, unless `overlapping`, left out of means. `facts` are the ledger's: which previews `sweep preview` has asked
    for, and which rungs target phases have reached.
    """
    results, collapsed = read_results(chains, store), read_collapsed(chains, store)
    eliminated = read_eliminated(chains, store, facts.furthest)
    overlaps = frozenset((task, target) for task, target in plan.get("overlaps", ()))
    asked = Asked(groups, overlaps, overlapping, frozenset(plan.get("text", ())))
    estimates = estimate(results, store, asked, collapsed)
    return Report(
        study=study_name, chains=tuple(chains), results=tuple(results),
        collapsed=tuple(collapsed), eliminated=tuple(eliminated),
        scores=scores_frame(study_name, results, [*collapsed, *eliminated]), estimates=estimates,
        retention=estimate_retention(results, store), previews=preview_frame(facts.previews, store, estimates.cells),
        held=weights_held([*results, *collapsed, *eliminated], store), plan=plan, overlapping=overlapping,
    )  # fmt: skip


def save(report: Report, folder: Path) -> Path:
    """Writes score tables, two pictures and report.html into a results folder; returns the page's path."""
    write_scores(report.scores, folder)
    write_groups(report.estimates.groups, folder)
    write_retention(retention_frame(report.study, report.results), folder)
    pictures = _pictures(report)
    for name, file in paths.PICTURES.items():
        if pictures[name]:
            (folder / file).write_text(pictures[name], encoding="utf-8")
    tuned = tuning_frame(report.chains)
    html = _fill(
        study=report.study,
        answer=first_sentence(report.estimates, report.progress),
        state=_state(report),
        pictures=pictures,
        tables=_tables(report, tuned),
        sentences=_sentences(report),
        overlapping=report.overlapping,
        languages_in_order=bool(report.plan.get("languages")),
        tradeoff_group=figures.shown_group(report.estimates.groups),
        candidates_per_cell=_candidates(tuned),
    )
    (folder / paths.PAGE).write_text(html, encoding="utf-8")
    return folder / paths.PAGE


def _state(report: Report) -> str:
    verdicts = Counter(report.estimates.cells["verdict"] if len(report.estimates.cells) else [])
    compared = sum(verdicts[name] for name in (HELPS, HURTS, UNDECIDED, ONE_SEED))
    counts = f"{verdicts[HELPS]} show a gain, {verdicts[HURTS]} a loss, {verdicts[UNDECIDED]} no difference"
    counts += f", {verdicts[ONE_SEED]} have one seed" if verdicts[ONE_SEED] else ""
    spent = amount(sum(chain.device_seconds for chain in report.chains), "device_seconds")
    verdict = f" Of {compared} comparisons with no intermediate phase {counts}." if compared else ""
    return f"{report.progress}; {spent} of device time spent.{verdict}"


def _pictures(report: Report) -> dict[str, str]:
    """SVG documents by their names in the template; "" where there is nothing to draw."""
    estimates, cells = report.estimates, report.estimates.cells
    styles = figures.arm_styles(cells) if len(cells) else {}
    # A chain that ended early is drawn though nothing selected it: all candidates of its cell may have ended so.
    selected: list[Result | Unscored] = [result for result in report.results if result.chain.selected]
    selected += report.collapsed
    drawn = {
        "gains": figures.gains_map(estimates),
        "profiles": figures.profiles(estimates.languages, cells, report.plan.get("languages", ())),
        "retention": figures.retention(report.retention),
        "tradeoff": figures.tradeoff(estimates.groups, styles),
        "curves": figures.curves(selected, styles),
        "spending": figures.spending(report.savings),
    }
    return {name: figures.svg(figure) for name, figure in drawn.items()}


def _tables(report: Report, tuned: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Frames of texts by their names in the template."""
    estimates, encoders = report.estimates, labels([*report.scores["encoder"], *report.previews["encoder"]])
    return {
        "groups": group_table(estimates.groups, encoders),
        "cells": cell_table(estimates.cells, encoders),
        "contrasts": contrast_table(estimates.contrasts, encoders),
        "languages": language_table(estimates.languages, encoders),
        "layers": layer_table(report.results, encoders),
        "retention": retention_table(report.retention, encoders),
        "regrets": regret_table(estimate_regrets(report.previews, estimates.models), encoders),
        "previews": preview_table(report.previews, encoders),
        "collapsed": phase_table(report.results, report.collapsed),
        "times": time_table(report.times, encoders),
        "tuning": tuning_table(tuned, labels(chain.cell.encoder for chain in report.chains)),
    }


def _sentences(report: Report) -> dict[str, list[str]]:
    """Sentences by their names in the template."""
    encoders = labels([*report.scores["encoder"], *report.previews["encoder"]])
    return {
        "contrasts": list(contrast_sentences(report.estimates)),
        "cost": [*cost_sentences(report.savings, report.held), *filter(None, [time_sentence(report.times)])],
        "doubts": report.doubts,
        "made": [
            *made_sentences(report.results, report.plan.get("encoders", {})),
            *vector_sentences(report.results, encoders),
        ],
    }


def _candidates(tuned: pd.DataFrame) -> str:
    """Number of candidates per cell, or its range."""
    if tuned.empty:
        return ""
    cells = tuned.groupby(list(cell_columns(tuned)))["candidate"].count()
    low, high = cells.min(), cells.max()
    return str(low) if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Column:
    """Heading of a table's column, and whether its texts are numbers, which are aligned right."""

    name: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """Rows of texts, as the template shows them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def _fill(
    *,
    pictures: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    sentences: Mapping[str, Sequence[str]],
    **values: str | bool,
) -> str:
    """Document of the template filled with these.

    `pictures` are SVG documents or "", `tables` frames whose cells are texts. `values` are the other names in the
    template; one that is missing raises jinja2.UndefinedError.
    """
    return filled(
        TEMPLATE,
        autoescape=True,
        pictures={name: _inline(svg) for name, svg in pictures.items()},
        tables={name: _table(frame) for name, frame in tables.items()},
        sentences=sentences,
        confidence=f"{CONFIDENCE:.0%}",
        level=f"{LEVEL:.0%}",
        **values,
    )


def filled(template: str, *, autoescape: bool, **values: Any) -> str:
    """Text of a template of this package filled with values; one that is missing raises jinja2.UndefinedError."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _inline(svg: str) -> str:
    # Namespace addresses are for standalone files; inside HTML the parser knows them.
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)


def _table(frame: pd.DataFrame) -> Table | None:
    """Table of a frame of texts; None where it is empty."""
    if frame.empty:
        return None
    columns = tuple(Column(str(name), all(map(_is_number, frame[name]))) for name in frame)
    return Table(columns, tuple(tuple(map(str, row)) for row in frame.itertuples(index=False, name=None)))


def _is_number(text: object) -> bool:
    return bool(re.fullmatch(r"[+−-]?[\d.,e+-]*( \[.*\])?|–|", str(text)))
