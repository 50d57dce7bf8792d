"""What halving and winners-only scoring save, and how often they choose the same winner as training everything.

    python benchmarks/halving.py [--seeds 3] [--candidates 8]

Cells of the embedded benchmark (none and nli; rte and qa_small), as many studies of one seed as asked for. Each is
tuned twice, from the same pretrained and intermediate phases: every candidate to its end and scored, then with rungs at
1/4 and 1/2 of the target phase and the winner alone scored. Both really run here, admitted as `sweep run` does;
FLOPs are what the ledger was charged, shared phases apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from inline import in_turn
from tiny import TINY

from sweep.config.load import load
from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.recipe import TARGET
from sweep.plan.resolve import resolve
from sweep.plan.speed import Speed
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import ChainRow, Ledger
from sweep.store.paths import LEDGER

AXES = {"encoder": ["tiny"], "intermediate": ["none", "world/nli"], "target": ["world/rte", "world/qa_small"]}
SPARING = {"scoring": {"chains": "winners"}, "halving": {"rungs": [0.25, 0.5], "keep": 0.5}}


def main() -> None:
    """Tunes all cells both ways and prints what it cost and who won."""
    parser = argparse.ArgumentParser(description="halving and winners-only scoring against everything")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--steps", type=int, default=700, help="of pretraining")
    arguments = parser.parse_args()
    everything, spared, pairs = 0.0, 0.0, list[tuple[ChainRow, ChainRow, float]]()
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory(prefix="sweep-halving-") as folder:
            whole = _tune(_study(Path(folder), arguments, seed), Path(folder) / "all", None)
            halved = _tune(_study(Path(folder), arguments, seed, **SPARING), Path(folder) / "halved", whole.store)
            everything, spared = everything + whole.flops, spared + halved.flops
            for cell, one in sorted(whole.winners.items()):
                other = halved.winners[cell]
                lost = whole.zero_shot(one) - whole.zero_shot(whole.candidates[cell, other.candidate])
                pairs.append((one, other, lost))
                print(f"seed {seed} | {cell}: candidate {one.candidate} (dev {one.dev:.3f}), with halving "
                      f"{other.candidate} (dev {other.dev:.3f}), zero-shot {100 * lost:+.1f}", flush=True)  # fmt: skip
            print(f"seed {seed}: {whole.flops:.3g} and {halved.flops:.3g} FLOPs; of whole studies as planned "
                  f"{whole.planned:.3g} and {halved.planned:.3g}", flush=True)  # fmt: skip
    dev = _mean([(one.dev or 0) - (other.dev or 0) for one, other, _ in pairs])
    same = sum(one.candidate == other.candidate for one, other, _ in pairs)
    print(f"{len(pairs)} cells of {arguments.candidates} candidates: {everything:.3g} FLOPs of target phases and "
          f"scoring, {spared:.3g} with halving and winners-only ({everything / spared:.2f} times fewer); the same "
          f"winner in {same} of {len(pairs)}; dev {100 * dev:+.2f} "
          f"points, zero-shot {100 * _mean([lost for *_, lost in pairs]):+.2f} points for everything")  # fmt: skip


class Tuned:
    """A study that has run: winners by cell, what was charged for target phases and scoring, and its store."""

    def __init__(self, chains: list[ChainRow], store: Store, flops: float, planned: float) -> None:
        self.store, self.flops, self.planned = store, flops, planned
        self.candidates = {(row.cell.name, row.candidate): row for row in chains}
        self.winners = {row.cell.name: row for row in chains if row.selected}

    def zero_shot(self, row: ChainRow) -> float:
        """Mean over the languages that the target phase has not seen."""
        record = self.store.score(row.score)
        assert record is not None
        values = [entry["value"] for name, entry in record.languages.items() if name != record.train_language]
        return _mean(values)


def _tune(path: Path, results: Path, prepared: Store | None) -> Tuned:
    """Runs a study in this process; what `prepared` has of phases before the target phase is there already."""
    results.mkdir()
    store = Store(results / "store")
    if prepared is not None:
        _copy(prepared, store)
    plan = resolve(load(path), path)
    ledger, costs = Ledger(results / LEDGER), Costs(plan)
    admission = Admission(plan, StoreIndex(store), ledger, costs)
    for _ in in_turn(admission, store):
        pass
    before = {phase.key for chain in plan.planned_chains() for phase in chain.phases if phase.kind != TARGET}
    records = [] if prepared is not None else [store.phase(key) for key in before]
    shared = sum(record.flops for record in records if record is not None)
    found = (
        ledger.chains(),
        store,
        ledger.spent()[0] - shared,
        float(str(summary(plan, costs, Speed())["flops_planned"])),
    )
    ledger.close()
    return Tuned(*found)


def _copy(prepared: Store, store: Store) -> None:
    for kind in ("data", "encoders"):
        shutil.copytree(prepared.root / kind, store.root / kind)
    for key in prepared.keys("phases"):
        record = prepared.phase(key)
        if record is not None and record.kind != TARGET:
            shutil.copytree(prepared.root / "phases" / key, store.root / "phases" / key)


def _study(folder: Path, arguments: argparse.Namespace, seed: int, **changes: Any) -> Path:
    phase = {"batch_tokens": 1024, "dropout": 0.0, "collapse_margin": -1}
    rates = {"log": [1e-4, 1e-2], "points": arguments.candidates}
    path = folder / "study.yaml"
    path.write_text(json.dumps({
        "study": "halving", "axes": {**AXES, "seed": [seed]}, "encoders": {"tiny": TINY},
        "pretrain": {**phase, "task": "world/raw", "learning_rate": 3e-3, "steps": arguments.steps, "evaluations": 1},
        "intermediate": {**phase, "learning_rate": 1e-3, "epochs": 3, "evaluations": 1},
        "target": {**phase, "batch_tokens": 512, "learning_rate": rates, "epochs": 12, "evaluations": 4},
        "scoring": changes.get("scoring", {}),
        "tuning": {"candidates": arguments.candidates, "startup": arguments.candidates,
                   **({"halving": changes["halving"]} if "halving" in changes else {})},
    }))  # fmt: skip
    return path


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
