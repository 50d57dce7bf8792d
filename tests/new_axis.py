"""A study with one axis more, in a process of its own. No tests here.

Either an axis that the package does not have: one line more in `Arm` and one in `Axes`, which reads study files. Or a
settings axis. Everything that lists cells is then printed as JSON, name -> text. Called with a folder to work in and
the name of the axis.
"""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import CodeType
from typing import Any

MODULE = "sweep.config.axes"
NEW, SETTING = "adapter", "intermediate.clip"
TEXTS = {NEW: ("plain", "lora"), SETTING: ("0.5", "2")}
SAID = {NEW: ["lora"], SETTING: ["0.5", "2"]}  # values that labels name: the first of the new axis is its default
LINES = {  # what the new line stands before -> the line
    "    # Settings axes. NOTHING": f'    {NEW}: str = "{TEXTS[NEW][0]}"\n\n',
    "    seed: Annotated[tuple[": f'    {NEW}: tuple[Name, ...] = ("{TEXTS[NEW][0]}",)\n',
}


class Widened(SourceFileLoader):
    """Loads the module with the new lines."""

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text(encoding="utf-8")
        for place, line in LINES.items():
            assert text.count(place) == 1, place
            text = text.replace(place, line + place)
        return compile(text, self.path, "exec")


def widen() -> None:
    """Before anything else imports it."""
    spec = find_spec(MODULE)
    assert spec is not None
    assert spec.origin is not None
    spec.loader = Widened(MODULE, spec.origin)
    sys.modules[MODULE] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[MODULE])


def reported(folder: Path, axis: str) -> Iterator[tuple[str, object]]:
    import cell_tables

    from sweep.config.axes import AMOUNTS, Arm
    from sweep.report import figures, page
    from sweep.report.results import labels, tuning_frame
    from sweep.report.submissions import publish_submissions
    from sweep.report.tables import (
        cell_table,
        contrast_table,
        language_table,
        leading_table,
        preview_table,
        retention_table,
        tuning_table,
    )
    from sweep.run.tracking import chain_tags, parameters
    from sweep.store import paths

    cell_tables.VALUES[axis] = TEXTS[axis]
    study = cell_tables.made(folder, ("volume", "source", "target", axis))
    found = cell_tables.read(study)
    cell_tables.hold(found)
    baselines = 2 * (2 if axis == NEW else 1)  # a setting of the intermediate phase says nothing without one
    assert len(found.chains) == 2**4 + baselines, "both volumes, sources, targets and new values, and their baselines"
    page.save(found, folder)
    for name in ("scores", "groups", "retention"):
        yield f"{name}.csv", (folder / f"{name}.csv").read_text()
    for name in ("cells", "languages", "groups", "overall", "contrasts", "arms"):
        yield f"frame of {name}", getattr(found.estimates, name).to_csv()
    encoders = labels(["one/base"])
    yield "page", (folder / paths.PAGE).read_text()
    yield "table of cells", cell_table(found.estimates.cells, encoders).to_csv()
    yield "table of languages", language_table(found.estimates.languages, encoders).to_csv()
    yield "table of contrasts", contrast_table(found.estimates.contrasts, encoders).to_csv()
    yield "table of retention", retention_table(found.retention, encoders).to_csv()
    yield "tuning", tuning_frame(found.chains).to_csv()
    yield "table of tuning", tuning_table(tuning_frame(found.chains), encoders).to_csv()
    yield "table in the terminal", leading_table(found.estimates)
    yield "preview", found.previews.to_csv()
    yield "table of previews", preview_table(found.previews, encoders).to_csv()
    publish_submissions(folder, found.results, study.store)
    yield "folders of submissions", [path.name for path in (folder / "submissions").iterdir()]
    yield "flags of an export", flags_of_an_export(folder, axis)
    yield "parameters in MLflow", [list(parameters(chain).items()) for chain in found.chains]
    yield "names in MLflow", [chain_tags(chain, ())["mlflow.runName"] for chain in found.chains]
    yield "cells in MLflow", [chain_tags(chain, ())["sweep.cell"] for chain in found.chains]
    styles = figures.arm_styles(found.estimates.cells)
    drawn = {
        "gains": figures.gains_map(found.estimates),
        "languages": figures.profiles(found.estimates.languages, found.estimates.cells),
        "trade-off": figures.tradeoff(found.estimates.groups, styles),
        "curves": figures.curves(found.results, styles),
        "retention": figures.retention(found.retention),
    }
    for name, figure in drawn.items():
        assert figure is not None
        yield f"figure of {name}", figures.svg(figure)
    curves = {line.get_color() for axes in drawn["curves"].axes for line in axes.lines}
    assert curves >= {look["color"] for look in figures.styles_without(styles, *AMOUNTS).values()}
    value: dict[str, Any] = {axis: TEXTS[axis][1]} if axis == NEW else {"settings": ((axis, TEXTS[axis][1]),)}
    one = Arm("tiny", ("nli",), **value)
    assert one.reference == Arm("tiny", **(value if axis == NEW else {"settings": ((axis, "-"),)}))
    assert replace(one, intermediate=("qa",)).without(axis) == Arm("tiny", ("qa",))


def flags_of_an_export(folder: Path, axis: str) -> str:
    """What an export says of a folder with many chains; a flag of the new axis stands in its help."""
    from small_studies import study_file

    from sweep.cli import main
    from sweep.errors import StudyError
    from sweep.run.export import find_chain

    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        main(["export", "--help"])
    assert ("--set" if axis == SETTING else f"--{axis}") in printed.getvalue()
    study_file(folder)  # a results folder has its file
    try:
        find_chain(folder, {}, "target")
    except StudyError as several:
        return str(several)
    raise AssertionError("one of many chains was taken")


def planned(folder: Path, axis: str) -> Iterator[tuple[str, object]]:
    from small_studies import plan_of, study_file

    from sweep.cli import main
    from sweep.plan.order import coverage_order

    axes = {"intermediate": ["none", "world/nli", "world/qa"], "target": ["world/topic", "world/retrieval"]}
    path = study_file(folder, {**axes, axis: list(TEXTS[axis] if axis == NEW else map(float, TEXTS[axis]))})
    plan = plan_of(path)
    settings = 3 * 2 if axis == NEW else 2 * 2 + 1
    assert len(plan.cells) == len({cell.name for cell in plan.cells}) == 2 * settings
    chains = list(plan.planned_chains())
    assert len({chain.key for chain in chains}) == len(chains)
    cells = [plan.cells[index] for index in coverage_order(plan)]
    assert_even([cell.value(axis) for cell in cells if axis == NEW or cell.intermediate], axis)
    yield "names of chains", [chain.name for chain in chains]
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["plan", str(path)]) == 0
    yield "plan", printed.getvalue()


def assert_even(values: Sequence[str], axis: str) -> None:
    tried = Counter(dict.fromkeys(TEXTS[axis], 0))
    for value in values:
        tried[value] += 1
        assert max(tried.values()) - min(tried.values()) <= 1


if __name__ == "__main__":
    place, asked = Path(sys.argv[1]), sys.argv[2]
    if asked == NEW:
        widen()
    for name in ("report", "plan"):
        (place / name).mkdir()
    sys.stdout.write(json.dumps(dict([*reported(place / "report", asked), *planned(place / "plan", asked)])))
