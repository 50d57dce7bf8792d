"""How many candidates a cell needs when it starts cold, and when it begins from the rates of its warm starts.

    python benchmarks/tuning.py [--seeds 4] [--first 0] [--cores 2] [--results folder]

Cells of the embedded benchmark (none, nli, qa, pos; rte, qa_small, ner), both rates on grids of four. Every point of
every grid is really trained, once per seed. Both ways are then replayed on these stores by the admission that `sweep
run` has, which finds every candidate trained and takes its dev score. Cold: fixed start-up points, then Optuna.
Cells with an intermediate phase are compared; baselines try their whole grid either way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from inline import in_turn
from tiny import TINY

from sweep.config.axes import Cell
from sweep.config.load import load
from sweep.plan.cost import Costs
from sweep.plan.plan import Plan
from sweep.plan.recipe import INTERMEDIATE, PRETRAIN, Chain
from sweep.plan.resolve import resolve
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger

AXES = {
    "encoder": ["tiny"],
    "intermediate": ["none", "world/nli", "world/qa", "world/pos"],
    "target": ["world/rte", "world/qa_small", "world/ner"],
}
RATES = {"log": [2e-4, 5e-3], "points": 4}
WHOLE = 16  # candidates that are all of a grid
STARTUP = 4
SHOWN = (1, 2, 3, 4, 6, 8, 12)
WITHIN = (1.0, 3.0)  # points of dev; one standard error of 200 to 300 examples is about 3


def main() -> None:
    """Trains what is missing of the grids, replays, prints."""
    parser = argparse.ArgumentParser(description="tuning with and without neighbours")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--results", type=Path, help="where the trained grids are kept, for another replay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-tuning-") as scratch:
        folder = arguments.results or Path(scratch)
        with ProcessPoolExecutor(arguments.cores, mp_context=get_context("spawn")) as workers:
            seeds = range(arguments.first, arguments.first + arguments.seeds)
            list(workers.map(_train, [folder] * len(seeds), seeds))
        both = [[_ways(folder, seed, follow) for seed in seeds] for follow in (False, True)]
    cold, followed = ([way for ways in by_seed for way in ways] for by_seed in both)
    for target in (None, *AXES["target"]):  # None: all of them
        pairs = [pair for pair in zip(cold, followed, strict=True) if target in (None, pair[0].target)]
        print(
            f"\n{target or 'all targets'}, {len(pairs)} cells (seeds apart): points of dev below the best of the grid"
        )
        for number in SHOWN:
            short = np.array([[way.below(number) for way in pair] for pair in pairs])
            print(f"{number:>3} candidates: cold {short[:, 0].mean():6.2f}, followed {short[:, 1].mean():6.2f}, "
                  f"difference {_interval(short[:, 1] - short[:, 0])}")  # fmt: skip
        for within in WITHIN:
            needed = np.array([[way.needed(within) for way in pair] for pair in pairs], dtype=float)
            quartiles = [np.quantile(needed[:, way], (0.25, 0.5, 0.75)) for way in (0, 1)]
            print(f"candidates until {within:g} points below: cold {_shown(quartiles[0])}, followed "
                  f"{_shown(quartiles[1])}; mean difference {_interval(needed[:, 1] - needed[:, 0])}")  # fmt: skip
    print("\nFLOPs of all phases but pretraining, followed / cold, and intermediate phases of both, all seeds")
    for number in SHOWN:
        flops, phases = zip(*(_trained(by_seed, number) for by_seed in both), strict=True)
        print(f"{number:>3} candidates: {flops[1] / flops[0]:.3f}, {phases[1]} and {phases[0]}")


@dataclass(frozen=True)
class Candidate:
    """What a candidate reached, in points of dev, and what was trained for it: key -> kind of phase, FLOPs."""

    dev: float
    phases: dict[str, tuple[str, float]]


@dataclass(frozen=True)
class Way:
    """A cell tuned in one way: its candidates in studies of so many, and the best of its grid."""

    target: str
    studies: dict[int, list[Candidate]]
    best: float

    def tried(self, number: int) -> list[Candidate]:
        """The candidates of a study of so many; from STARTUP on, smaller studies begin larger ones."""
        return self.studies.get(number) or self.studies[WHOLE - 1][:number]

    def below(self, number: int) -> float:
        """Points below the best of the grid with so many candidates."""
        return self.best - max(candidate.dev for candidate in self.tried(number))

    def needed(self, within: float) -> int:
        """The least number of candidates with which the cell is so near to the best of its grid."""
        return next((number for number in range(1, WHOLE) if self.below(number) <= within), WHOLE)


def _interval(values: NDArray[np.float64]) -> str:
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{values.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def _shown(quartiles: NDArray[np.float64]) -> str:
    low, median, high = quartiles
    return f"median {median:g} (quartiles {low:g}, {high:g})"


def _trained(by_seed: list[list[Way]], number: int) -> tuple[float, int]:
    """FLOPs, and number of intermediate phases, of what is trained with so many candidates per cell."""
    flops, intermediate = 0.0, 0
    for ways in by_seed:
        parts = {key: part for way in ways for one in way.tried(number) for key, part in one.phases.items()}
        flops += sum(cost for _, cost in parts.values())
        intermediate += sum(kind == INTERMEDIATE for kind, _ in parts.values())
    return flops, intermediate


def _ways(folder: Path, seed: int, follow: bool) -> list[Way]:
    """How cells with an intermediate phase are tuned, in the order of the plan."""
    whole, best = Ledger(folder / str(seed) / "ledger.sqlite"), dict[str, float]()
    for row in whole.chains():
        best[row.cell.name] = max(best.get(row.cell.name, 0.0), 100 * (row.dev or 0.0))
    whole.close()
    studies = {number: _replay(folder, seed, follow, number) for number in (*range(2, STARTUP), WHOLE - 1)}
    return [
        Way(cell.target, {number: found[cell] for number, found in studies.items()}, best[cell.name])
        for cell in studies[WHOLE - 1]
    ]


def _replay(folder: Path, seed: int, follow: bool, number: int) -> dict[Cell, list[Candidate]]:
    """A study of so many candidates, all of which are trained."""
    plan, store = _plan(folder, seed, number, STARTUP), Store(folder / str(seed) / "store")
    costs = Costs(plan)
    with tempfile.TemporaryDirectory(prefix="sweep-replay-") as scratch:
        ledger = Ledger(Path(scratch) / "ledger.sqlite")
        admission = Admission(plan, StoreIndex(store), ledger, costs)
        if not follow:
            admission.queue.warm_starts = {index: {} for index in admission.queue.warm_starts}
        assert admission.next() is None, "a point of the grid is not trained"
        ledger.close()
    return {
        state.cell: [
            _candidate(state.first_results[index].dev, costs, state.started[index]) for index in range(state.count)
        ]
        for state in admission.cells
        if state.cell.intermediate
    }


def _candidate(dev: float | None, costs: Costs, chain: Chain) -> Candidate:
    parts = costs.parts(chain)
    phases = {phase.key: (phase.kind, parts[phase.key]) for phase in chain.phases if phase.kind != PRETRAIN}
    return Candidate(100 * (dev or 0.0), phases)


def _train(folder: Path, seed: int) -> None:
    """Trains every point of every cell's grid that the folder does not have."""
    import torch

    torch.set_num_threads(1)
    plan, began = _plan(folder, seed, WHOLE, WHOLE), time.time()
    store = Store(folder / str(seed) / "store")
    ledger = Ledger(folder / str(seed) / "ledger.sqlite")
    admission = Admission(plan, StoreIndex(store), ledger, Costs(plan))
    for _ in in_turn(admission, store):
        print(
            f"seed {seed}: {len(admission.outcomes.done)} of {admission.total} points, {time.time() - began:.0f} s",
            flush=True,
        )
    ledger.close()


def _plan(folder: Path, seed: int, candidates: int, startup: int) -> Plan:
    phase = {"dropout": 0.0, "collapse_margin": -1, "evaluations": 3}
    (folder / str(seed)).mkdir(parents=True, exist_ok=True)
    path = folder / str(seed) / f"{candidates}.yaml"
    path.write_text(json.dumps({
        "study": "tuning", "axes": {**AXES, "seed": [seed]}, "encoders": {"tiny": TINY},
        "pretrain": {**phase, "task": "world/raw", "learning_rate": 3e-3, "batch_tokens": 2048, "steps": 700,
                     "evaluations": 1},
        "intermediate": {**phase, "learning_rate": RATES, "batch_tokens": 1024, "epochs": 3, "dev_examples": 300},
        "target": {**phase, "learning_rate": RATES, "batch_tokens": 512, "epochs": 12},
        "scoring": {"examples": 20},
        "tuning": {"candidates": candidates, "startup": startup},
    }))  # fmt: skip
    return resolve(load(path), path)


if __name__ == "__main__":
    main()
