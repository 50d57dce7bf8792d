"""Branches of a trunk (wsd) against runs of the same length with a linear decay, and what sharing saves.

    python benchmarks/trunk.py [--seeds 5] [--workers 2] [--rate 1e-3]
    python benchmarks/trunk.py --plan                     (only FLOPs of the study files, as planned)

On the embedded benchmark: a tiny encoder, pretrained per seed, then one pass over 1,000, 3,000 and all examples of
world/qa, then world/qa_small. Both sides have the same batches' budget, rate, warm-up in steps and dev evaluations.
Differences are paired by seed; the interval is Student's t over seeds, so it holds pretraining noise too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.config.load import load
from sweep.config.study import Study
from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.plan.resolve import resolve
from sweep.plan.speed import Speed
from sweep.run.chain import run
from sweep.store.artifacts import Store

STUDIES = Path(__file__).parents[1] / "search_spaces"
PLANNED = ("volume_vs_size", "count_vs_budget", "miniature/volume_vs_size", "miniature/count_vs_budget")
VOLUMES = [1000, 3000, "full"]
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}  # Student, two-sided

Scores = dict[tuple[str, str], tuple[float, float]]  # (schedule, volume) -> dev of the phase, zero-shot of the chain


def plan_of(folder: Path, schedule: str, seed: int, rate: float) -> Plan:
    """One seed of the comparison with one schedule."""
    plain: dict[str, Any] = {"dropout": 0.0, "evaluations": 1, "collapse_margin": -1, "learning_rate": rate}
    shape = {
        "model_type": "bert", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 384, "max_position_embeddings": 64,
    }  # fmt: skip
    tokenizer = {"text": "world/raw", "vocab_size": 1000, "algorithm": "wordlevel"}
    content = {
        "study": "trunk",
        "axes": {
            "encoder": ["tiny"], "intermediate": ["world/qa"], "volume": VOLUMES, "target": ["world/qa_small"],
            "seed": [seed],
        },
        "encoders": {"tiny": {"random_init": shape, "tokenizer": tokenizer}},
        "pretrain": {**plain, "task": "world/raw", "learning_rate": 3e-3, "batch_tokens": 2048, "steps": 400},
        "intermediate": {**plain, "batch_tokens": 512, "epochs": 1, "schedule": schedule, "warmup": {"steps": 10}},
        "target": {**plain, "learning_rate": 1e-3, "batch_tokens": 512, "epochs": 10},
    }  # fmt: skip
    path = folder / f"{schedule}.yaml"
    path.write_text(json.dumps(content))
    return resolve(load(path), path)


def one_seed(seed: int, rate: float) -> Scores:
    """Both schedules from the same pretrained encoder."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "store")
        for schedule in ("linear", "wsd"):
            plan = plan_of(Path(name), schedule, seed, rate)
            for chain in plan.planned_chains():
                run(chain, plan, store)
                found[schedule, chain.cell.text("volume")] = _scores(chain, store)
    return found


def _scores(chain: Chain, store: Store) -> tuple[float, float]:
    score, phase = store.score(chain.score), store.phase(chain.phases[-2].key)
    assert score is not None
    assert phase is not None
    unseen = [entry["value"] for language, entry in score.languages.items() if language != score.train_language]
    return phase.dev_score or 0.0, statistics.mean(unseen)


def compare(seeds: int, workers: int, rate: float) -> None:
    """Trains both sides and prints their differences."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(one_seed, rate=rate), range(seeds)))
    print(f"{seeds} seeds, rate {rate:g}; points, wsd branch minus linear, 95% interval (t over seeds)")
    for volume in map(str, VOLUMES):
        for index, what in enumerate(("dev of the phase", "zero-shot after the target phase")):
            linear = [100 * one["linear", volume][index] for one in found]
            branch = [100 * one["wsd", volume][index] for one in found]
            gaps = [b - a for a, b in zip(linear, branch, strict=True)]
            half = T95[seeds] * statistics.stdev(gaps) / math.sqrt(seeds)
            level = f"linear {statistics.mean(linear):.1f}, branch {statistics.mean(branch):.1f}"
            print(f"  {volume:>5} {what:<33} {level}: {statistics.mean(gaps):+.1f} +- {half:.1f}")


def planned() -> None:
    """Prints what sharing saves of the study files' FLOPs."""
    print("FLOPs one chain at a time / ours, as planned; the same without trunks; share of ours that is target phases")
    for name in PLANNED:
        path = STUDIES / f"{name}.yaml"
        study = load(path)
        trunked, plain = resolve(study, path), resolve(_without_trunks(study), path)
        costs = Costs(trunked)
        whole: Any = summary(trunked, costs, Speed())
        other: Any = summary(plain, Costs(plain), Speed())
        targets: dict[str, float] = {}
        for chain in trunked.planned_chains():
            parts = costs.parts(chain)
            targets.update({phase.key: parts[phase.key] for phase in chain.phases if phase.recipe.kind == "target"})
        ratio, without = (one["flops_unshared"] / one["flops_shared"] for one in (whole, other))
        print(f"  {name:<26} {ratio:5.1f} {without:5.1f}   {sum(targets.values()) / whole['flops_shared']:4.0%}")


def _without_trunks(study: Study) -> Study:
    changed = {
        kind: settings.model_copy(update={"schedule": "linear"})
        for kind in ("intermediate", "target")
        if (settings := getattr(study, kind)) is not None
    }
    return study.model_copy(update=changed)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 11))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--plan", action="store_true")
    options = parser.parse_args()
    planned()
    if not options.plan:
        compare(options.seeds, options.workers, options.rate)


if __name__ == "__main__":
    main()
