"""The report of a study, at any time of its run: scores as files, two pictures, and one page.

Reads the ledger's rows and the store; trains nothing and changes nothing in them. Here is what is said and in which
order; numbers come from gains and spending, words from answers, pictures from figures and process_figures, the form
from html.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.facts import NO_FACTS, Facts
from sweep.planning.ledger import DONE, ChainRow
from sweep.planning.settings import CELL
from sweep.records import PhaseRecord, ScoreRecord
from sweep.reporting import collapse, figures, html, preview, process_figures, readings, spending, tradeoffs
from sweep.reporting.answers import contrast_sentences, first_sentence
from sweep.reporting.gains import Asked, Estimates, Groups, estimate
from sweep.reporting.results import Ended, Result, ended, frame_of, labels, losers, results, write_groups, write_scores
from sweep.reporting.retention import estimate_retention, retention_frame, retention_table, write_retention
from sweep.reporting.statistics import CONFIDENCE, HELPS, HURTS, LEVEL, ONE_SEED, UNDECIDED
from sweep.store import Store

if TYPE_CHECKING:
    import pandas as pd

PAGE, PICTURES = "report.html", ("report-gains.svg", "report-languages.svg")

GAINS = (
    "Mean over the languages that the target phase has not seen, minus the same without an intermediate phase, paired "
    "by seed. Hatched: no result or no baseline yet. † training data overlaps with the target's: {overlapping} the "
    "mean. ‡ a run collapsed, in its target phase or before it."
)
ARMS = (
    "Each setting against the same one without what is special about it, in the same languages, those that the target "
    "phase has not seen. Paired by seed."
)
LANGUAGES = (
    "Mean over seeds with its interval; no intermediate phase against the settings with the best mean there, three at "
    "most. The source language (*) is first, the others {order}."
)
TRADEOFF = (
    "Mean score of the languages in the group {group} by what it takes, with its interval; places on the axis are even."
    " Grey: no intermediate phase."
)
CURVES = (
    "Selected chains, all seeds, volumes and budgets. Grey: no intermediate phase, or a phase that several settings "
    "share. × collapsed."
)
RETENTION = (
    "Intermediate tasks on their held-out data in their own language: right after their phase, then after the target "
    "phase with the same head, and with a linear head fitted anew on the frozen encoder."
)
COLLAPSED = (
    "A phase whose dev score is at the level of the best constant answer is tried again with another seed. Where no "
    "attempt learns anything, a target phase is scored and marked; another is not passed on, and its chains end there."
)
TUNING = "{count} candidates per cell, tried with the first seed and chosen by the dev score in the source language."
INTERVALS = (
    f"Intervals: {CONFIDENCE:.0%}, each by itself, from a model in which seeds and test examples are both drawn. All "
    "runs see the same examples, and what belongs together (questions of a passage, translations of an example) is "
    "drawn together. How much a seed changes a setting is learned from all settings of its target, so that a few seeds "
    "say something; with one seed an interval is over test examples alone, and nothing is claimed."
)
CLAIMS = (
    "What is claimed (helps, hurts, bold, a star, the first sentence) is corrected for the number of comparisons in "
    f"its table, after Holm: without any effect {LEVEL:.0%} of tables claim one. An interval that excludes "
    "zero is no claim by itself."
)


@dataclass(frozen=True)
class Report:
    """What is known of a study now."""

    study: str
    chains: tuple[ChainRow, ...]
    results: tuple[Result, ...]
    ended: tuple[Ended, ...]  # chains that collapsed before their target phase
    losers: tuple[Ended, ...]  # chains beaten by another candidate of their cell
    scores: pd.DataFrame
    estimates: Estimates
    retention: pd.DataFrame  # per cell and intermediate task, empty where the study does not ask
    previews: pd.DataFrame  # of intermediate settings, empty where none was asked for
    held: Mapping[str, int]  # bytes of weights in the store, by kind of phase
    plan: Mapping[str, Any]
    overlapping: bool = False

    @property
    def progress(self) -> str:
        """How far the study is, in words."""
        done = sum(chain.state == DONE for chain in self.chains)
        beaten = f" ({len(self.losers)} candidates were beaten and not scored)" if self.losers else ""
        return f"{done + len(self.losers)} of {self.plan.get('chains', len(self.chains))} chains are done{beaten}"


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
    """Scores, gains and intervals. Raises StoreError.

    `groups` are the named groups of languages per encoder. `plan` is what `sweep plan --json` prints: "chains",
    "cells", "encoders" and "flags", and where known "languages" in the order to show them, "text", the masked tasks,
    "gpu", whether the study asks for one, and "overlaps", pairs (intermediate task, target) whose cells are marked
    and, unless `overlapping`, left out of means. `facts` are
    the ledger's: which previews `sweep preview` has asked for, and at which rungs target phases have paused.
    """
    found, over = results(chains, store), ended(chains, store)
    overlaps = frozenset((task, target) for task, target in plan.get("overlaps", ()))
    asked = Asked(groups, overlaps, overlapping, frozenset(plan.get("text", ())))
    estimates = estimate(found, store, asked, over)
    beaten = losers(chains, store, facts.furthest)
    scores, kept = frame_of(study_name, found, [*over, *beaten]), estimate_retention(found, store)
    known = tuple(chains), tuple(found), tuple(over), tuple(beaten)
    guesses = preview.preview_frame(facts.previews, store, estimates.cells)
    held = spending.held([*found, *over, *beaten], store)
    return Report(study_name, *known, scores, estimates, kept, guesses, held, plan, overlapping)


def save(report: Report, results_dir: Path) -> Path:
    """Writes scores.parquet, scores.csv, groups.csv, two pictures and report.html; returns the page's path."""
    write_scores(report.scores, results_dir)
    write_groups(report.estimates.groups, results_dir)
    write_retention(retention_frame(report.study, report.results), results_dir)
    pictures = (
        figures.svg(figures.gains_map(report.estimates)),
        figures.svg(
            figures.profiles(report.estimates.languages, report.estimates.cells, report.plan.get("languages", ()))
        ),
    )
    for name, picture in zip(PICTURES, pictures, strict=True):
        if picture:
            (results_dir / name).write_text(picture, encoding="utf-8")
    answer = first_sentence(report.estimates, report.progress)
    text = html.page(report.study, answer, _state(report), _sections(report, *pictures))
    (results_dir / PAGE).write_text(text, encoding="utf-8")
    return results_dir / PAGE


def _state(report: Report) -> str:
    verdicts = Counter(report.estimates.cells["verdict"] if len(report.estimates.cells) else [])
    compared = sum(verdicts[name] for name in (HELPS, HURTS, UNDECIDED, ONE_SEED))
    counts = f"{verdicts[HELPS]} show a gain, {verdicts[HURTS]} a loss, {verdicts[UNDECIDED]} no difference"
    counts += f", {verdicts[ONE_SEED]} have one seed" if verdicts[ONE_SEED] else ""
    spent = process_figures.amount(sum(chain.device_seconds for chain in report.chains), "device_seconds")
    told = f" Of {compared} comparisons with no intermediate phase {counts}." if compared else ""
    return f"{report.progress}; {spent} of device time spent.{told}"


def _sections(report: Report, gains: str, profiles: str) -> Iterator[html.Section]:
    estimates, encoders = report.estimates, labels([*report.scores["encoder"], *report.previews["encoder"]])
    tables = html.group_table(estimates.groups, encoders), html.cell_table(estimates.cells, encoders)
    shown = html.table(tables[0], "By group of languages"), html.table(tables[1], "All cells")
    told = GAINS.format(overlapping="counted in" if report.overlapping else "left out of")
    yield html.Section("Gain by intermediate and target", told, gains, shown)
    if len(estimates.contrasts):
        every = html.table(html.contrast_table(estimates.contrasts, encoders), "Every target")
        sentences = tuple(contrast_sentences(estimates))
        yield html.Section("Source language and mixed-in text", ARMS, tables=(every,), points=sentences)
    order = (
        "in the study's order" if report.plan.get("languages") else "fall with the score without an intermediate phase"
    )
    all_languages = html.table(html.language_table(estimates.languages, encoders), "All languages")
    by_layer = html.table(readings.layer_table(report.results, encoders), "Retrieval by layer")
    yield html.Section("Score by language", LANGUAGES.format(order=order), profiles, (all_languages, by_layer))
    again = html.table(retention_table(report.retention, encoders), "All intermediate tasks")
    kept = figures.svg(process_figures.retention(report.retention))
    yield html.Section("What is left of the intermediate tasks", RETENTION, kept, (again,))
    yield preview.section(report.previews, estimates.models, encoders)
    yield from _process(report)
    doubts = spending.distrust(
        report.chains, report.results, report.ended, estimates, report.plan, overlapping=report.overlapping
    )
    yield html.Section("What to distrust", points=tuple(doubts or ["Nothing was found that weakens these numbers."]))
    read_at = readings.sentences(report.results, encoders)
    yield html.Section("How it was made", points=(*_made(report), *read_at))


def _process(report: Report) -> Iterator[html.Section]:
    cells = report.estimates.cells
    styles = figures.setting_styles(cells) if len(cells) else {}
    # A chain that ended early is drawn though nothing selected it: all candidates of its cell may have ended so.
    selected: list[Result | Ended] = [result for result in report.results if result.chain.selected]
    selected += report.ended
    saved, tuned = spending.savings(report.results, (*report.ended, *report.losers)), spending.tuning(report.chains)
    groups = report.estimates.groups
    drawn, told = figures.svg(tradeoffs.tradeoff(groups, styles)), TRADEOFF.format(group=tradeoffs.shown_group(groups))
    yield html.Section("What more data or compute buys", told, drawn)
    yield html.Section("Learning curves", CURVES, figures.svg(process_figures.curves(selected, styles)))
    collapsed = html.table(collapse.phase_table(report.results, report.ended))
    yield html.Section("Phases that learned nothing", COLLAPSED, tables=(collapsed,))
    yield html.Section("What it cost", _cost(saved, report.held), figures.svg(process_figures.spending(saved)))
    encoders = labels(chain.encoder for chain in report.chains)
    candidates = html.table(html.tuning_table(tuned, encoders), f"All {len(tuned)} candidates")
    yield html.Section("Tuning", _tuning(tuned), tables=(candidates,))


def _cost(saved: pd.DataFrame, held: Mapping[str, int]) -> str:
    phases = saved[~saved["kind"].isin([spending.SCORING, spending.STOPPED])]
    alone, once = int(phases["count_unshared"].sum()), int(phases["count_shared"].sum())
    stopped = int(saved.loc[saved["kind"] == spending.STOPPED, "count_shared"].sum())
    sentences = [f"The chains that have ended need {alone} phases one chain at a time; {once} were trained, each once."]
    if stopped:
        sentences.append(f"Beside them {stopped} target phases were stopped at a rung.")
    if held:
        parts = ", ".join(f"{kind} {size / 1e9:.2g}" for kind, size in held.items())
        taken = f"take {sum(held.values()) / 1e9:.2g} GB ({parts})"
        sentences.append(f"Weights that later chains may begin from {taken}; sweep gc says which nobody needs.")
    return " ".join(sentences)


def _tuning(tuned: pd.DataFrame) -> str:
    if tuned.empty:
        return ""
    cells = tuned.groupby(list(CELL))["candidate"].count()
    low, high = cells.min(), cells.max()
    return TUNING.format(count=low if low == high else f"{low} to {high}")


def _encoders(known: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What is known of the published encoders: licence, and what they were pretrained on."""
    for name, entry in known.items():
        parts = ("licence", entry["licence"]), ("pretrained on", entry["text"])
        if stated := [f"{what} {value}" for what, value in parts if value]:
            yield f"Encoder {name}: {', '.join(stated)}."


def _made(report: Report) -> Iterator[str]:
    yield INTERVALS
    yield CLAIMS
    seeds = sorted({result.chain.seed for result in report.results})
    if seeds:
        yield f"Seeds: {', '.join(map(str, seeds))}."
    yield from _encoders(report.plan.get("encoders", {}))
    versions: dict[str, set[str]] = {}
    parts: list[PhaseRecord | ScoreRecord] = [result.score for result in report.results]
    parts += [phase for result in report.results for phase in result.phases]
    for name, version in (pair for part in parts for pair in part.versions.items()):
        versions.setdefault(name, set()).add(version)
    if places := sorted({f"{part.precision} on {part.device}" for part in parts if part.device}):
        yield f"Computed in {', '.join(places)}."
    if versions:
        yield "Versions: " + ", ".join(
            f"{name} {' and '.join(sorted(found))}" for name, found in sorted(versions.items())
        )
