"""Savings of single parts of the program in a study: a few chains of whole.py's real study, with one part switched off.

    python benchmarks/switches.py --data FOLDER --encoder FOLDER [--turns 3]

(none, and NLI) x (SIB-200, AmericasNLI), four chains one after another in one process, without Ray: as they are, and
with each part off, in turns. Data is encoded beforehand. A switch is a key of `runtime`, so that both sides are the
same program; scores must not depend on it, but for torch's linear layers, whose rounding is another. Gold rows, which
no key switches off, are measured by gold_rows.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sides import Cost, timed
from whole import Grid, add_real, real_grid

from sweep.config.load import load
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.store import paths
from sweep.store.artifacts import Store

OFF: dict[str, dict[str, Any]] = {
    "as it is": {},
    "whole vocabulary": {"vocabulary": "full"},
    "no weights in memory": {"weights_in_memory": 0},
    "torch's linear layers": {"cpu_kernels": "torch"},
}


def main() -> None:
    """Runs the chains in every way, in turns, and prints a row for each."""
    parser = argparse.ArgumentParser(description="single parts of the program, on and off")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--run", type=Path, help="a study whose chains are run; for this script's own use")
    parser.add_argument("--without", nargs="*", choices=[*OFF][1:], default=[*OFF][1:], help="parts to switch off")
    add_real(parser)
    parser.set_defaults(
        gpu=False, volumes=[100], intermediate=["none", "snli_nli"], targets=["sib200", "americas_nli"], examples=60
    )
    arguments = parser.parse_args()
    if arguments.run:
        _run(arguments.run)
        return
    for name in ("data", "encoder"):
        if getattr(arguments, name) is None:
            parser.error(f"--{name} is missing")
    _compare(arguments)


def _run(study: Path) -> None:
    plan = resolve(load(study), study)
    store = Store(plan.study.results_folder / paths.STORE)
    for chain in plan.planned_chains():
        run(chain, plan, store)


def _compare(arguments: argparse.Namespace) -> None:
    ways = {name: runtime for name, runtime in OFF.items() if name in ("as it is", *arguments.without)}
    with tempfile.TemporaryDirectory() as name:
        grid = real_grid(arguments, Path(name))
        first = grid.file(1)
        _run(first)  # encodes
        encoded = load(first).results_folder / paths.STORE / paths.DATA
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        scores: dict[str, Any] = {}
        for _ in range(arguments.turns):
            for way, runtime in ways.items():
                cost, scores[way] = _measured(replace(grid, runtime=runtime), encoded)
                costs[way].append(cost)
    print(f"{'':22}{'clock s':>10}{'processor s':>13}{'times as it is':>26}{'written MB':>12}{'left MB':>9}  scores")
    for way, taken in costs.items():
        ratios = sorted(
            other.processor_seconds / own.processor_seconds for own, other in zip(costs["as it is"], taken, strict=True)
        )
        middle = {name: statistics.median(getattr(cost, name) for cost in taken) for name in Cost.__dataclass_fields__}
        print(f"{way:22}{middle['wall']:10.1f}{middle['processor_seconds']:13.1f}"
              f"{f'{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})':>26}"
              f"{middle['written'] / 1e6:12.0f}{middle['left'] / 1e6:9.0f}"
              f"  {'equal' if scores[way] == scores['as it is'] else 'other'}")  # fmt: skip


def _measured(grid: Grid, encoded: Path) -> tuple[Cost, dict[str, Any]]:
    """Cost and scores of all chains, by a process of their own, with data that is encoded already."""
    study = grid.file(1)
    store = Store(load(study).results_folder / paths.STORE)
    store.root.mkdir(parents=True)
    (store.root / paths.DATA).symlink_to(encoded)
    cost = timed([sys.executable, __file__, "--run", str(study)], 1, study.parent)
    records = [store.score(key) for key in store.keys(paths.SCORES)]
    return cost, {record.key: record.languages for record in records if record is not None}


if __name__ == "__main__":
    main()
