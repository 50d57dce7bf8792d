"""Where the time of a chain on real files goes, by activity: device-seconds (here processor time), and by the clock.

    OMP_NUM_THREADS=1 python benchmarks/activities.py --data ../shared/data --encoder encoders/multilingual-e5-small
        [--intermediate 200] [--examples 200] [--sentences 25] [--chains 2]

A chain is NLI, then news topics from English (SIB-200), scored in 18 languages, on one core, in this process. The first
chain also imports, encodes and writes label files, which a study does once; the others, of further seeds, are what its
chains cost. The figure to look at is the share in which the device computes: steps, dev and test forward passes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.config.load import load
from sweep.heartbeat import ACTIVITIES, COMPUTING
from sweep.plan.resolve import resolve
from sweep.store.artifacts import Store
from sweep.store.records import Activities, PhaseRecord, ScoreRecord, time_of
from sweep.terminal import table

REAL = Path(__file__).parents[1] / "search_spaces/real_small.yaml"
PHASE = {"learning_rate": 1e-4, "batch_tokens": 1024, "max_length": 128, "dev_examples": 100, "collapse_margin": -1}


def parsed() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the files that real_small.yaml names")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of an encoder")
    parser.add_argument("--intermediate", type=int, default=200, help="examples of NLI")
    parser.add_argument("--examples", type=int, default=200, help="English examples of the target, for 2 epochs")
    parser.add_argument("--sentences", type=int, default=25, help="test rows per language")
    parser.add_argument("--chains", type=int, default=2)
    return parser.parse_args()


def study(arguments: argparse.Namespace, folder: Path) -> Path:
    """Path of the study file, written into a folder."""
    described = load(REAL).tasks
    content = {
        "study": "activities", "results": str(folder / "results"), "data_root": str(arguments.data.resolve()),
        "axes": {"encoder": ["real"], "intermediate": ["snli_nli"], "volume": [arguments.intermediate],
                 "target": ["sib200"], "seed": list(range(1, arguments.chains + 1))},
        "encoders": {"real": {"path": str(arguments.encoder.resolve()), "pooling": "mean"}},
        "intermediate": {**PHASE, "epochs": 1},
        "target": {**PHASE, "epochs": 2, "examples": arguments.examples},
        "scoring": {"examples": arguments.sentences},
        "runtime": {"cores": 1},
        "tasks": {name: described[name] for name in ("snli_nli", "sib200")},
    }  # fmt: skip
    path = folder / "activities.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def split(named: dict[str, Activities], unit: str) -> str:
    """Table of the activities of each part and of all, and the share in which the device computes."""
    rows = []
    for name, activities in named.items():
        by_activity = [activities.get(activity, {}).get(unit, 0.0) for activity in ACTIVITIES]
        total = sum(by_activity)
        computed = sum(activities.get(activity, {}).get(unit, 0.0) for activity in COMPUTING)
        rows.append([name, *(f"{value:.2f}" for value in by_activity), f"{total:.1f}", f"{computed / total:.1%}"])
    return table(rows, [unit, *ACTIVITIES, "all", "computing"], numbers=range(1, len(ACTIVITIES) + 3))


def main() -> None:
    """Runs the chains and prints where their time went."""
    arguments = parsed()
    began = time.time(), time.process_time()
    from sweep.run.chain import run  # loads torch, as a worker does in its first chain

    with tempfile.TemporaryDirectory() as name:
        path = study(arguments, Path(name))
        plan, store = resolve(load(path), path), Store(Path(name) / "store")
        for number, chain in enumerate(plan.planned_chains(), start=1):
            run(chain, plan, store, began=began)
            took = time.time() - began[0], time.process_time() - began[1]
            phases, score = [store.phase(phase.key) for phase in chain.phases], store.score(chain.score)
            records: dict[str, PhaseRecord | ScoreRecord] = {phase.kind: phase for phase in phases if phase is not None}
            records |= {"scoring": score} if score is not None else {}
            parts = {name: record.activities for name, record in records.items()} | {"chain": time_of(records.values())}
            print(f"chain {number}: {took[0]:.1f} s by the clock, {took[1]:.1f} processor seconds")
            print(split(parts, "device_seconds"), split(parts, "seconds"), "", sep="\n\n", flush=True)
            began = time.time(), time.process_time()


if __name__ == "__main__":
    main()
