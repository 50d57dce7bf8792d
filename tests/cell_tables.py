"""Everything that lists cells, with how many it should list: made studies, their tables and pictures. No tests here."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd
from finished_study import FinishedStudy

from sweep.config.axes import AMOUNTS, AXES, cell_columns, phase_of
from sweep.plan.facts import NO_FACTS
from sweep.report import figures, page
from sweep.report.results import labels, retention_frame, tuning_frame
from sweep.report.tables import (
    cell_table,
    contrast_table,
    language_table,
    layer_table,
    leading_table,
    phase_table,
    preview_table,
    retention_table,
    tuning_table,
)
from sweep.run.tracking import chain_tags, parameters
from sweep.store.ledger import ChainRow
from sweep.store.records import PreviewRecord

# Names that are hard to keep apart: equal basenames, and targets that are called as columns are.
VALUES = {
    "encoder": ("one/base", "other/base"),
    "intermediate": ("nli", "nli+qa"),
    "volume": ("1000", "full"),
    "source": ("own", "de"),
    "chain_budget": ("1e+15", "1e+16"),
    "target": ("mean", "intermediate"),
}
USUAL = {name: values[:1] for name, values in VALUES.items()} | {"volume": ("full",), "chain_budget": ("-",)}
Names = Counter[tuple[object, ...]]


def made(folder: Path, axes: Collection[str]) -> FinishedStudy:
    """Every combination of both values of these axes and the usual value of the others, each with its baseline."""
    study = FinishedStudy(
        folder, lambda *_: 0.7, ("en", "de"), 20, retrieval=("mean",), collapsed=[("nli", "intermediate")],
        retention=True, layers=(0, 1), published=True,
    )  # fmt: skip
    values = USUAL | {name: VALUES[name] for name in axes}
    columns = cell_columns(values)
    of_phase = {
        name for name in columns if phase_of(name) == "intermediate" or (name in AXES and AXES[name].of_intermediate)
    }
    first = {name: values[name][0] for name in of_phase}
    for point in itertools.product(*(values[name] for name in columns)):
        names = dict(zip(columns, point, strict=True))
        if first.items() <= names.items():
            study.chain(**names | {"intermediate": "none"})
        study.chain(**names)
    return study


def read(study: FinishedStudy) -> page.Report:
    chains = study.chains()
    entries = [previewed(study, chain) for chain in chains]
    facts = NO_FACTS.with_previews([dict(entry) for entry in dict.fromkeys(tuple(one.items()) for one in entries)])
    return page.read("study", chains, study.store, {}, {}, facts=facts)


def previewed(study: FinishedStudy, chain: ChainRow) -> dict[str, str]:
    """The entry of a cell's preview, which its volumes and budgets share."""
    names = {name: text for name, text in chain.cell.columns().items() if name not in AMOUNTS}
    key = "-".join(names.values()).replace("/", "-")
    if study.store.preview(key) is None:
        study.store.commit_preview(PreviewRecord(key, None, chain.cell.target, 0.5, 20, 20, 1.0, 1.0, 0.0, 1.0))
    return {**names, "key": key}


def named(frame: pd.DataFrame, *columns: str) -> Names:
    return Counter(map(tuple, frame[[name for name in columns if name in frame]].to_numpy().tolist()))


def tables(found: page.Report) -> Iterator[tuple[str, Names, int]]:
    """Name of an output, what each of its rows is called, how many cells it should show."""
    cells = {tuple(chain.cell.columns().values()) for chain in found.chains}
    compared = {cell for cell in cells if cell[1] != "none"}
    encoders, estimates = labels(cell[0] for cell in cells), found.estimates
    shown, columns = ("encoder", "target", "intermediate"), tuple(found.chains[0].cell.columns())
    scored = sum(2 if cell[-1] != "mean" else 1 for cell in cells)
    yield "scores", named(found.scores, *columns, "language"), scored
    yield "cells", named(estimates.cells, *columns), len(cells)
    yield "groups", named(estimates.groups, *columns), len(cells)
    yield "overall", named(estimates.overall, *columns[:-1]), len({cell[:-1] for cell in compared})
    yield "page", named(cell_table(estimates.cells, encoders), *shown), len(cells)
    languages = language_table(estimates.languages, encoders)
    yield "languages", named(languages, *shown, "language"), len(found.scores)
    yield "contrasts", named(contrast_table(estimates.contrasts, encoders), *shown, "against"), len(estimates.contrasts)
    yield "tuning", named(tuning_table(tuning_frame(found.chains), encoders), *shown), len(cells)
    tasks = sum(1 + cell[1].count("+") for cell in compared)
    kept = retention_table(found.retention, encoders)
    yield "retention.csv", named(retention_frame("study", found.results), *columns, "task"), tasks
    yield "retention", named(kept, "encoder", "trained", "target", "task"), tasks
    layers = layer_table(found.results, encoders)
    yield "layers", named(layers, *shown, "layer"), 2 * sum(cell[-1] == "mean" for cell in cells)
    places = [place for place, name in enumerate(columns) if name not in AMOUNTS]
    guessed = {tuple(cell[place] for place in places) for cell in cells}
    yield "preview", named(preview_table(found.previews, encoders), *shown), len(guessed)
    fell = [cell for cell in compared if cell[1] == "nli" and cell[-1] == "intermediate"]
    yield "collapsed", named(phase_table(found.results, ()), "encoder", "phase", "cells"), len(fell)
    yield "mlflow", Counter((chain_tags(chain, ())["mlflow.runName"],) for chain in found.chains), len(cells)
    yield "parameters", Counter(tuple(parameters(chain).items()) for chain in found.chains), len(cells)


def hold(found: page.Report) -> None:
    for name, rows, wanted in tables(found):
        assert (name, len(rows), rows.total()) == (name, wanted, wanted)
    for figure in (tradeoff(found), retained(found)):
        for panel in figure:
            assert len(panel) == len(set(panel))
    cells = found.estimates.cells
    means = len(found.estimates.overall) if cells["target"].nunique() > 1 else 0
    assert leading_table(found.estimates).count(" [") == sum(cells["intermediate"] != "none") + means


def tradeoff(found: page.Report) -> Iterator[list[object]]:
    """The places of the points of each line: two at one place would be two cells on one line."""
    styles = figures.arm_styles(found.estimates.cells)
    figure = figures.tradeoff(found.estimates.groups, styles)
    for axes in figure.axes if figure is not None else ():
        for line in axes.containers:
            yield list(line.lines[0].get_xdata())


def retained(found: page.Report) -> Iterator[list[object]]:
    figure = figures.retention(found.retention)
    assert figure is not None
    yield [axes.get_title() for axes in figure.axes if axes.get_title()]
    yield from ([tick.get_text() for tick in axes.get_yticklabels()] for axes in figure.axes)
