"""How well a budget is kept that ends in the middle of running chains: what was spent, as a share of what was allowed.

    python benchmarks/budget.py [--cores 2] [--device-seconds 90] [--share 0.35] [--steps 60] [--busy 4]

Two real studies of the same chains on cores: one may spend so many device-seconds, which are processor seconds there,
one that share of its planned FLOPs. Beside what the ledger was charged stands an upper bound that does not ask it:
cores times the time from the first chain's start to the last one's end. `--busy` starves the workers: so many
processes without end share their cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

REPOSITORY = Path(__file__).parents[1]
PHASE = {"learning_rate": 1e-3, "batch_tokens": 1024, "evaluations": 4, "collapse_margin": -1}
STUDY = {
    "study": "budget",
    "results": "results",
    "axes": {
        "encoder": ["tiny"], "intermediate": ["none", "world/rte", "world/pos", "world/nli"],
        "target": ["world/topic", "world/ner", "world/rte", "world/qa_small"], "seed": [1, 2],
    },
    "encoders": {"tiny": {
        "random_init": {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "intermediate_size": 128, "max_position_embeddings": 128},
        "tokenizer": {"text": "world/raw", "vocab_size": 1500, "algorithm": "wordpiece"},
    }},
    "pretrain": {**PHASE, "task": "world/raw", "steps": 60},
}  # fmt: skip


def main() -> None:
    """Runs both studies."""
    parser = argparse.ArgumentParser(description="how well a budget is kept")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--device-seconds", type=float, default=90.0)
    parser.add_argument("--share", type=float, default=0.35, help="of the planned FLOPs")
    parser.add_argument("--steps", type=int, default=60, help="of a phase")
    parser.add_argument("--busy", type=int, default=0, help="processes that take the same cores")
    arguments = parser.parse_args()
    with _busy(arguments.busy, arguments.cores):
        _measure(arguments)


def _measure(arguments: argparse.Namespace) -> None:
    for unit in ("device_seconds", "flops"):
        with tempfile.TemporaryDirectory(prefix="sweep-budget-") as name:
            folder = Path(name)
            amount = arguments.device_seconds if unit == "device_seconds" else _planned(folder, arguments)
            _study(folder, arguments.steps, budget=f"{amount:.0f} {unit.replace('_', '-')}")
            print(_sweep(folder, arguments.cores, "run").strip().splitlines()[0])
            _print_spent(folder, unit, amount, arguments.cores)


@contextmanager
def _busy(count: int, cores: int) -> Iterator[None]:
    limit = f"import os; os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[:cores]})\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", limit]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()


def _study(folder: Path, steps: int, **changes: str) -> None:
    phase = {**PHASE, "steps": steps}
    (folder / "study.yaml").write_text(json.dumps({**STUDY, "intermediate": phase, "target": phase, **changes}))


def _planned(folder: Path, arguments: argparse.Namespace) -> float:
    _study(folder, arguments.steps)
    planned = json.loads(_sweep(folder, 1, "plan", "--json"))
    return float(arguments.share * planned["flops_shared"])


def _sweep(folder: Path, cores: int, *words: str) -> str:
    """Runs a command on so many cores; returns what it printed."""
    cpus = sorted(os.sched_getaffinity(0))[:cores]
    limit = f"import os, sys; os.sched_setaffinity(0, {cpus}); from sweep.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", limit, *words[:1], "study.yaml", *words[1:]], cwd=folder, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return printed


def _print_spent(folder: Path, unit: str, amount: float, cores: int) -> None:
    with closing(sqlite3.connect(folder / "results" / "ledger.sqlite")) as ledger:
        query = f"select sum({unit}), count(*), min(started), max(ended) from attempts"
        spent, attempts, began, ended = ledger.execute(query).fetchone()
        (stopped,) = ledger.execute("select count(*) from chains where state = 'stopped'").fetchone()
    print(f"  {unit}: {spent:.4g} of {amount:.4g} spent, {100 * (spent / amount - 1):+.2f}%;"
          f" {attempts} attempts, {stopped} stopped on their way")  # fmt: skip
    if unit == "device_seconds":
        bound = (ended - began) * cores
        share = 100 * (bound / amount - 1)
        print(f"  first start to last end, on {cores} cores: {bound:.4g} device-seconds, {share:+.2f}%")


if __name__ == "__main__":
    main()
