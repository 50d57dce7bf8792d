"""What the driver costs: thousands of chains of no work, a few that run, the gap between two, a plan of 87,528.

    python benchmarks/driver.py chains [--chains 10000]    Ray, warm workers, chains that only report and commit
    python benchmarks/driver.py running [--chains 10000]   8 chains that report every second while the others wait
    python benchmarks/driver.py bare [--chains 10000]      the same two of Tune alone: no study, ledger, store, MLflow
    python benchmarks/driver.py gap                        a real study on one core: from one chain to the next
    python benchmarks/driver.py plan                       `sweep plan` of 87,528 chains

Driver, ledger, store, searcher, scheduler, display and MLflow's mirror are those of `sweep run`; in the first two only
the worker's function is another one, which trains nothing. Processor seconds are the driver process's, all threads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Phase
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger
from sweep.store.records import PhaseRecord, ScoreRecord

REPOSITORY = Path(__file__).parents[1]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
WORKERS = 8
TASKS = ("world/rte", "world/ner", "world/topic", "world/pos", "world/nli", "world/qa", "world/qa_small", "world/raw")
TINY = {
    "random_init": {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "intermediate_size": 64, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0},
    "tokenizer": {"text": "world/raw", "vocab_size": 1000, "algorithm": "wordlevel"},
}  # fmt: skip


def main() -> None:
    """Runs the named measurement in a folder of its own."""
    parser = argparse.ArgumentParser(description="what the driver costs")
    parser.add_argument("what", choices=["chains", "running", "bare", "gap", "plan"])
    parser.add_argument("--chains", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `running` looks on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-driver-") as folder:
        measures = {"chains": _chains, "running": _running, "bare": _bare, "gap": _gap, "plan": _plan}
        measures[arguments.what](Path(folder), arguments)


def _study(folder: Path, axes: dict[str, Any], **changes: Any) -> Path:
    phase = {"learning_rate": 1e-3, "batch_tokens": 512, "steps": 8, "evaluations": 1, "collapse_margin": -1}
    path = folder / "study.yaml"
    path.write_text(json.dumps({
        "study": "driver", "results": str(folder / "results"), "axes": {"encoder": ["tiny"], "seed": [1], **axes},
        "encoders": {"tiny": TINY}, "pretrain": {"task": "world/raw", **phase}, "intermediate": phase, "target": phase,
        "budget": "1e30 flops", **changes,
    }))  # fmt: skip
    return path


def _many(folder: Path, chains: int) -> Path:
    """10 cells, as many seeds as it takes."""
    axes = {"intermediate": ["none", *TASKS[3:6], [*TASKS[3:5]]], "target": list(TASKS[:2])}
    return _study(folder, {**axes, "seed": list(range(chains // 10))})


# ---- chains of no work -----------------------------------------------------------------------------------------------


def _chains(folder: Path, arguments: argparse.Namespace) -> None:
    _with_workers(0.0)
    from sweep.run.study import run

    begun, before = time.time(), time.process_time()
    outcome = run(_many(folder, arguments.chains))
    wall = time.time() - begun
    for thread in threading.enumerate():
        if thread.name == "tracking":  # the run does not wait for long
            thread.join()
    mirrored, spent = time.time() - begun, time.process_time() - before
    done = len(outcome.admission.outcomes.done)
    assert done == outcome.admission.total, f"{done} of {outcome.admission.total} chains"
    print(f"{done:,} chains of no work on {WORKERS} workers: {wall:.0f} s, {done / wall:.1f} chains/s, in MLflow after "
          f"{mirrored:.0f} s; driver: {spent:.0f} processor seconds, {1000 * spent / done:.1f} ms a chain, "
          f"{_peak():.0f} MB")  # fmt: skip


def _running(folder: Path, arguments: argparse.Namespace) -> None:
    _with_workers(10.0)
    from sweep.run import study

    used = _watched(arguments.seconds, lambda: os.kill(os.getpid(), 2))  # the same end as Ctrl-C
    outcome = study.run(_many(folder, arguments.chains))
    done = len(outcome.admission.outcomes.done)
    print(f"{WORKERS} running chains of 10 s, {done} of {outcome.admission.total:,} done: "
          f"driver {100 * used[0]:.1f}% of one core, {_peak():.0f} MB at most")  # fmt: skip


def _watched(seconds: float, end: Callable[[], object] | None = None) -> list[float]:
    """Gets this process's share of a core over so many seconds, a minute from now, when the workers are there."""
    used: list[float] = []

    def look() -> None:
        time.sleep(60.0)
        begun, before = time.time(), time.process_time()
        time.sleep(seconds)
        used.append((time.process_time() - before) / (time.time() - begun))
        if end is not None:
            end()

    threading.Thread(target=look, daemon=True).start()
    return used


def _bare(folder: Path, arguments: argparse.Namespace) -> None:
    """Ray's own floor: trials of 10 s that report as often as `running`'s, then as many of no work as `chains`."""
    from sweep.run.cluster import DRIVER_ENVIRONMENT

    os.environ.update(DRIVER_ENVIRONMENT)
    import ray

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    used = _watched(arguments.seconds)
    _trials(folder, "running", 10, arguments.chains, 60.0 + arguments.seconds)
    print(f"Tune alone, {WORKERS} running trials of 10 s: driver {100 * used[0]:.1f}% of one core, {_peak():.0f} MB")
    begun, before, size = time.time(), time.process_time(), _peak()
    _trials(folder, "chains", 0, arguments.chains, None)
    wall, spent = time.time() - begun, time.process_time() - before
    print(f"Tune alone, {arguments.chains:,} trials of no work: {wall:.0f} s, {1000 * spent / arguments.chains:.1f} ms"
          f" and {1000 * (_peak() - size) / arguments.chains:.0f} kB a trial, {_peak():.0f} MB")  # fmt: skip


def _trials(folder: Path, name: str, seconds: int, count: int, limit: float | None) -> None:
    from ray import tune

    from sweep.run.tune import METRIC, report_to_tune

    def trial(_config: dict[str, Any]) -> None:
        for _ in range(seconds):
            tune.report(report_to_tune({"device_seconds": 0.0, "step": 1, "steps": 2, "loss": 0.5}))
            time.sleep(1.0)
        for _ in range(4):  # two phases, scores, the end
            tune.report(report_to_tune({"committed": True}))

    tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"CPU": 1.0}])),
        param_space={"chain": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", num_samples=count, reuse_actors=True, max_concurrent_trials=WORKERS,
            time_budget_s=limit,
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(folder), verbose=0),
    ).fit()  # fmt: skip


def _with_workers(seconds: float) -> None:
    """Gives Ray so many workers whatever the machine has, whose chains take `seconds` and do nothing."""
    os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it when it is imported, which here is before the study does
    import sweep.run.tune

    everywhere = set(range(WORKERS))
    os.sched_getaffinity = lambda _pid: everywhere  # what the driver asks for Ray's number of cores

    def trial(config: dict[str, Any], plan: Plan, store_root: str, mark: str) -> None:
        _idle(config, plan, Store(Path(store_root)), mark, seconds)

    sweep.run.tune.chain_trial = trial


def _idle(config: dict[str, Any], plan: Plan, store: Store, mark: str, seconds: float) -> None:
    """What sweep.run.tune.chain_trial does, but for the work: reports, records, the last report."""
    from ray import tune

    from sweep.run.tune import report_to_tune
    from sweep.search.budget import REPORT_SECONDS

    started = time.time()
    cell = plan.cells[config["cell"]]
    chain = plan.chain(cell, config["hyperparameters"], config["seed"], config["candidate"], config["role"])
    store.check(mark)
    report: dict[str, Any] = {"started": started, "flops": 1.0, "phase": "target", "key": ""}
    report |= {"device_seconds": 0.0, "step": 1, "steps": 2, "loss": 0.5}
    for _ in range(round(seconds / REPORT_SECONDS)):
        tune.report(report_to_tune({**report, "device_seconds": time.time() - started}))
        time.sleep(REPORT_SECONDS)
    for phase in StoreIndex(store).to_train(chain):
        store.commit_phase(_phase_record(phase), {})
        tune.report(report_to_tune({**report, "phase": phase.recipe.kind, "key": phase.key, "committed": True}))
    store.commit_score(_score_record(chain), {"pivot": np.ones((3, 2))})
    tune.report(report_to_tune({**report, "phase": "score", "key": chain.score, "committed": True}))
    tune.report(report_to_tune({**report, "finished": True}))


def _phase_record(phase: Phase) -> PhaseRecord:
    curve = [{"step": n, "loss": 0.5, "tokens": n, "time": time.time()} for n in range(50)]
    return PhaseRecord(
        key=phase.key, kind=phase.recipe.kind, parent=phase.parent, recipe=phase.record(), curve=curve, dev=[],
        dev_score=0.5, majority=0.0, collapsed=False, selected_step=1, steps=1, tokens=1, examples=1, flops=1.0,
        device_seconds=1.0, started=time.time(), ended=time.time(), versions={}, files={},
    )  # fmt: skip


def _score_record(chain: Chain) -> ScoreRecord:
    return ScoreRecord(
        key=chain.score, phase=chain.phases[-1].key, task=chain.cell.target, family="sequence", metric="accuracy",
        train_language="pivot", settings={}, languages={"pivot": {"value": 0.5, "examples": 3, "majority": 0.3}},
        flops=1.0, device_seconds=1.0, started=time.time(), ended=time.time(), files={},
    )  # fmt: skip


def _peak() -> float:
    """Largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**20


# ---- between two chains ----------------------------------------------------------------------------------------------


def _gap(folder: Path, _arguments: argparse.Namespace) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    path = _study(folder, {"intermediate": ["none"], "target": list(TASKS[:3]), "seed": [1, 2, 3, 4]})
    subprocess.run([sys.executable, "-m", "sweep", "run", str(path)], check=True, cwd=REPOSITORY, capture_output=True)
    store, ledger = Store(folder / "results/store"), Ledger(folder / "results/ledger.sqlite")
    spans = []
    for row in ledger.chains():
        score = store.score(row.score)
        steps = [record.curve[0]["time"] for key in row.phases if (record := store.phase(key))]
        first = min((step for step in steps if step > row.started), default=None)
        if score is not None and first is not None:
            spans.append((first, score.ended))
    ledger.close()
    spans.sort()
    gaps = sorted(first - ended for (_, ended), (first, _) in itertools.pairwise(spans))
    print(f"end of a chain to the end of the next one's first step, one warm worker: median {np.median(gaps):.2f} s, "
          f"{gaps[0]:.2f} to {gaps[-1]:.2f} s over {len(gaps)} pairs")  # fmt: skip


# ---- planning --------------------------------------------------------------------------------------------------------


def _plan(folder: Path, _arguments: argparse.Namespace) -> None:
    axes = {"intermediate": ["none", *TASKS[3:7], [*TASKS[3:5]]], "target": list(TASKS[:3]), "volume": [100, 200, 300]}
    path = _study(folder, {**axes, "seed": list(range(2084))})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "sweep", "plan", "--json", str(path)], check=True, cwd=REPOSITORY,
                           capture_output=True, text=True)  # fmt: skip
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"sweep plan of {json.loads(shown.stdout)['chains']:,} chains: {wall:.1f} s, "
          f"{after.ru_utime - before.ru_utime:.1f} processor seconds, "
          f"{after.ru_maxrss * RSS_UNIT / 2**20:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
