"""A whole study, ours against the baseline: `sweep run` and stock Ray Tune whose trials are chains of HF Trainers.

    python benchmarks/whole.py --small                     (a quick look: 8 chains)
    python benchmarks/whole.py [--cores 2] [--trials 32]   (128 chains; a random sample of the baseline's trials)
    python benchmarks/whole.py --gpu                       (ours with gpu: auto, the baseline with a GPU per trial)

2 encoders x (no intermediate, and 5 tasks x 3 volumes) x 4 targets on the embedded benchmark, one seed. Both sides
start from the same two tiny encoders, pretrained here beforehand and not timed, and train the same recipes on as many
cores, one chain per core. They run in turns: ours, the baseline, ours again with another seed, whose scores say what
seeds alone change. Processor seconds, of all processes of a side, hardly depend on what else the machine does. With
--trials the baseline runs a random sample, and its whole is extrapolated, as the output says. Needs accelerate, as
Trainer does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from sweep.config.load import load
from sweep.models.encoders import Weights, load_weights, random_encoder
from sweep.models.tokenizers import load_tokenizer
from sweep.plan.cost import Costs, Speed
from sweep.plan.order import summary
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.store.ledger import Ledger
from sweep.store.paths import ENCODER_WEIGHTS
from sweep.tasks.table import TASKS

REPOSITORY = Path(__file__).parents[1]
MARK = "SWEEP_BENCHMARK_SIDE"
SAMPLED = 0.2  # seconds between two looks at the processes of a side
SHAPE = {
    "model_type": "xlm-roberta", "max_position_embeddings": 72, "type_vocab_size": 1, "hidden_size": 96,
    "num_attention_heads": 4, "intermediate_size": 384, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
LAYERS = {"shallow": 2, "deep": 4}
AXES: dict[str, list[Any]] = {
    "intermediate": ["none", "world/nli", "world/qa", "world/pos", "world/paraphrase", "world/raw"],
    "volume": [500, 2000, 8000],
    "target": ["world/rte", "world/qa_small", "world/ner", "world/topic"],
}
SMALL: dict[str, list[Any]] = {
    "intermediate": ["none", "world/nli", "world/qa", "world/pos"],
    "volume": [500],
    "target": ["world/rte", "world/qa_small"],
}
SETTINGS = {
    "intermediate": {"learning_rate": 1e-3, "batch_tokens": 512, "epochs": 3},
    "target": {"learning_rate": 1e-3, "batch_tokens": 512, "epochs": 10},
}
OURS_ALONE = {"dropout": 0.0, "select": "last", "evaluations": 1, "dev_examples": 10000}  # as the baseline


@dataclass(frozen=True)
class Side:
    """What one side took."""

    wall: float
    processor_seconds: float
    device_seconds: float
    flops: float
    scores: dict[tuple[str, str, str, str], float]  # (encoder, intermediate, volume, target) -> zero-shot mean


def main() -> None:
    """Prepare, run the sides in turns, print the tables."""
    arguments = _arguments()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="sweep-benchmark-"))
    axes = {"encoder": list(LAYERS)[:1] if arguments.small else list(LAYERS), **(SMALL if arguments.small else AXES)}
    if not all((folder / name / "tokenizer.json").exists() for name in axes["encoder"]):
        _pretrain(folder, axes["encoder"], arguments.cores)
    study = _study(folder, axes, 1, gpu=arguments.gpu)
    plan = resolve(load(study), study)
    planned = summary(plan, Costs(plan), Speed())
    first = _ours(study, arguments.cores)
    baseline, trials, chains = _baseline(folder, axes, arguments)
    second = _ours(_study(folder, axes, 2, gpu=arguments.gpu), arguments.cores)
    sampled = " of them at random: its figures are EXTRAPOLATED to all" if trials < chains else ""
    print(f"{platform.processor() or platform.machine()}, {arguments.cores} cores, {chains} chains; "
          f"the baseline ran {trials}{sampled}")  # fmt: skip
    _print_costs(first, second, baseline)
    _print_plan(planned, first)
    for name, side in {"ours": first, "ours again": second}.items():
        lacking = {" | ".join(cell[:3]) for chain in _grid(folder, axes) if (cell := _cell(chain)) not in side.scores}
        print(f"{name}: {chains - len(side.scores)} chains have no scores, {', '.join(sorted(lacking)) or '-'}")
    _print_scores(first, second, baseline)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a whole study, ours against stock Ray Tune and Trainer")
    parser.add_argument("--small", action="store_true", help="8 chains")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--trials", type=int, help="of the baseline, drawn at random; all of them where absent")
    parser.add_argument("--folder", help="where to work; encoders that are there already are taken")
    return parser.parse_args()


# ---- before the clock starts -----------------------------------------------------------------------------------------


def _pretrain(folder: Path, encoders: list[str], cores: int) -> None:
    """Two tiny encoders as Hugging Face folders, pretrained on the raw text of all languages."""
    random_init = {name: {**SHAPE, "num_hidden_layers": LAYERS[name]} for name in encoders}
    tokenizer = {"text": "world/raw", "vocab_size": 1000, "algorithm": "wordlevel"}
    pretrain = {"task": "world/raw", "learning_rate": 3e-3, "batch_tokens": 2048, "steps": 700, "evaluations": 1}
    study = _written(folder / "pretrain.yaml", {
        "study": "pretrain", "axes": {"encoder": encoders, "intermediate": ["none"], "target": ["world/retrieval"],
        "seed": [0]}, "encoders": {n: {"random_init": s, "tokenizer": tokenizer} for n, s in random_init.items()},
        "pretrain": {**pretrain, "dropout": 0.0}, "runtime": {"cores": cores},
    })  # fmt: skip
    plan, store = resolve(load(study), study), Store(folder / "pretrain")
    for chain in plan.planned_chains():
        name = chain.cell.encoder
        run(chain, plan, store)
        tokens = load_tokenizer(str(store.root / "encoders" / plan.encoders[name].digest), None)
        model = random_encoder(random_init[name], len(tokens), tokens.pad_token_id, 0)
        load_weights(model, Weights.read(store.weights(chain.phases[-1].key) / ENCODER_WEIGHTS))
        model.save_pretrained(folder / name)
        tokens.model_max_length = 64
        tokens.save_pretrained(folder / name)


def _study(folder: Path, axes: dict[str, list[Any]], seed: int, *, gpu: bool) -> Path:
    return _written(folder / f"seed{seed}.yaml", {
        "study": f"seed{seed}", "results": str(folder / f"runs/seed{seed}-{uuid.uuid4().hex[:6]}"),
        "axes": {**axes, "encoder": [f"./{name}" for name in axes["encoder"]], "seed": [seed]},
        "encoders": {f"./{name}": {"path": f"./{name}", "pooling": "cls"} for name in axes["encoder"]},
        **{phase: {**settings, **OURS_ALONE} for phase, settings in SETTINGS.items()},
        "runtime": {"gpu": "auto" if gpu else 0},
    })  # fmt: skip


def _written(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


# ---- the sides -------------------------------------------------------------------------------------------------------


def _ours(study: Path, cores: int) -> Side:
    wall, processor = _timed([sys.executable, "-m", "sweep", "run", str(study)], cores)
    results = load(study).results_folder
    ledger = Ledger(results / "ledger.sqlite")
    flops, device_seconds = ledger.spent()
    ledger.close()
    table = pd.read_csv(results / "scores.csv").dropna(subset="value")  # a chain that collapsed has no scores
    keys = ["encoder", "intermediate", "volume", "target"]
    means = table[~table.is_source].groupby(keys, as_index=False).value.mean()
    rows = means[[*keys, "value"]].itertuples(index=False, name=None)
    scores = {(str(e).removeprefix("./"), str(i), str(v), str(t)): float(s) for e, i, v, t, s in rows}
    return Side(wall, processor, device_seconds, flops, scores)


def _baseline(folder: Path, axes: dict[str, list[Any]], arguments: argparse.Namespace) -> tuple[Side, int, int]:
    """The baseline's figures for all chains, how many trials it ran, and how many chains there are."""
    chains = list(_grid(folder, axes))
    chosen = random.Random(0).sample(chains, min(arguments.trials or len(chains), len(chains)))
    spec, out = folder / "baseline.json", folder / "baseline-results.json"
    _written(spec, {"cores": arguments.cores, "gpus": int(arguments.gpu), "chains": chosen})
    wall, processor = _timed([sys.executable, str(REPOSITORY / "benchmarks/trainer_baseline.py"), str(spec), str(out)],
                             arguments.cores)  # fmt: skip
    found = json.loads(out.read_text(encoding="utf-8"))
    trials, factor = found["trials"], len(chains) / len(chosen)
    scores = {_cell(trial["chain"]): _zero_shot(trial) for trial in trials}
    side = Side(
        wall=wall + (factor - 1) * found["seconds"],
        processor_seconds=factor * processor,
        device_seconds=factor * sum(trial["seconds"] for trial in trials),
        flops=factor * sum(trial["flops"] for trial in trials),
        scores=scores,
    )
    return side, len(trials), len(chains)


def _grid(folder: Path, axes: dict[str, list[Any]]) -> list[dict[str, Any]]:
    common = {"settings": SETTINGS, "seed": 1}
    volumes = [(task, volume) for task in axes["intermediate"] if task != "none" for volume in axes["volume"]]
    return [
        {"encoder": str(folder / encoder), "intermediate": task, "volume": volume, "target": target, **common}
        for encoder, (task, volume), target in itertools.product(
            axes["encoder"], [(None, None), *volumes], axes["target"]
        )
    ]


def _cell(chain: dict[str, Any]) -> tuple[str, str, str, str]:
    return Path(chain["encoder"]).name, chain["intermediate"] or "none", str(chain["volume"] or "-"), chain["target"]


def _zero_shot(trial: dict[str, Any]) -> float:
    trained = TASKS[trial["chain"]["target"]].train_language
    return float(np.mean([score for language, score in trial["scores"].items() if language != trained]))


def _timed(command: list[str], cores: int) -> tuple[float, float]:
    """(wall, processor) seconds of a command and of all processes that come of it, on so many cores."""
    mark = uuid.uuid4().hex
    environment = {
        **os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    allowed, spent, over = sorted(os.sched_getaffinity(0))[:cores], dict[int, float](), threading.Event()

    def look() -> None:
        while not over.wait(SAMPLED):
            spent.update(_processor_seconds(mark))

    looking = threading.Thread(target=look)
    looking.start()
    begun = time.perf_counter()
    limit = f"import os, sys; os.sched_setaffinity(0, {allowed}); os.execvp(sys.argv[1], sys.argv[1:])"
    limited = [sys.executable, "-c", limit, *command]
    done = subprocess.run(limited, check=False, env=environment, capture_output=True, text=True)
    wall = time.perf_counter() - begun
    over.set()
    looking.join()
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return wall, sum(spent.values())


def _processor_seconds(mark: str) -> dict[int, float]:
    """Processor seconds so far of every process with the mark in its environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


# ---- the tables ------------------------------------------------------------------------------------------------------


def _print_costs(first: Side, second: Side, baseline: Side) -> None:
    print(f"{'':18}{'ours':>12}{'ours again':>12}{'baseline':>12}{'ratio':>14}")
    for name in ("wall", "processor_seconds", "device_seconds", "flops"):
        ours, repeated, other = (getattr(side, name) for side in (first, second, baseline))
        shown = "{:12.3g}" if name == "flops" else "{:12.1f}"
        print(f"{name:18}" + "".join(shown.format(value) for value in (ours, repeated, other))
              + f"{2 * other / (ours + repeated):14.2f}")  # fmt: skip


def _print_plan(planned: dict[str, Any], first: Side) -> None:
    shared, unshared = planned["flops_shared"], planned["flops_unshared"]
    print(f"planned: {shared:.4g} FLOPs of distinct work, {unshared:.4g} one chain at a time ({unshared / shared:.2f} "
          f"times); really spent / planned distinct: {first.flops / shared:.4f}")  # fmt: skip


def _print_scores(first: Side, second: Side, baseline: Side) -> None:
    """Differences over cells in points, with 95% intervals of the bootstrap over cells."""
    for name, left, right in (("ours - baseline", first, baseline), ("ours - ours, other seed", first, second)):
        cells = sorted(left.scores.keys() & right.scores.keys())
        by_target = {target: [c for c in cells if c[3] == target] for target in dict.fromkeys(c[3] for c in cells)}
        for target, members in {"all": cells, **by_target}.items():
            gaps = 100 * np.array([left.scores[cell] - right.scores[cell] for cell in members])
            draws = np.random.default_rng(0).integers(len(gaps), size=(2000, len(gaps)))
            low, high = np.quantile(gaps[draws].mean(axis=1), [0.025, 0.975])
            print(f"{name}, {target}: {gaps.mean():+.2f} [{low:+.2f}, {high:+.2f}] points over {len(gaps)} cells, "
                  f"standard deviation {gaps.std():.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
