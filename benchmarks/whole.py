"""A whole study, ours against two peers: `sweep run`, stock Ray Tune with HF Trainers, and an expert's own scripts.

    python benchmarks/whole.py --small                     (the embedded benchmark, a quick look: 8 chains)
    python benchmarks/whole.py [--cores 2] [--trials 32]   (128 chains; a random sample of the peers' chains)
    python benchmarks/whole.py --gpu                       (ours with gpu: auto, the peers with a GPU per chain)
    python benchmarks/whole.py --study real --data FOLDER --encoder FOLDER --trials 8
                                                           (a multilingual encoder on real files: 36 chains)

Ours and the peers start from the same encoders, not timed, and train the same recipes, those of the study file, on as
many cores, one chain per core. They run in turns: ours, stock, the expert (trainer_baseline.py and trainer_expert.py
say how they work), then ours with another seed, whose scores say what seeds alone change: of the real study the sampled
chains alone, untimed. Processor seconds, of all processes of a side, hardly depend on what else the machine does. With
--trials the peers run a random sample, the same share of every target, and their whole is extrapolated, as the output
says. Bytes written are what processes handed to the file system; most and left are the size of the side's folder, with
its temporary files. Needs accelerate, as Trainer does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from sides import REPOSITORY, Cost, timed

from sweep.config.load import load
from sweep.models.encoders import Weights, load_weights, random_encoder
from sweep.models.tokenizers import load_tokenizer
from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.resolve import resolve
from sweep.plan.speed import Speed
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.store.ledger import Ledger
from sweep.store.paths import ENCODER_WEIGHTS, PHASES, SCORES, STORE
from sweep.store.records import time_of
from sweep.tasks.task import Task

Cell = tuple[str, str, str, str]  # encoder, intermediate, volume, target

SHAPE = {
    "model_type": "xlm-roberta", "max_position_embeddings": 72, "type_vocab_size": 1, "hidden_size": 96,
    "num_attention_heads": 4, "intermediate_size": 384, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
LAYERS = {"shallow": 2, "deep": 4}
WORLD: dict[str, list[Any]] = {
    "intermediate": ["none", "world/nli", "world/qa", "world/pos", "world/paraphrase", "world/raw"],
    "volume": [500, 2000, 8000],
    "target": ["world/rte", "world/qa_small", "world/ner", "world/topic"],
}
SMALL: dict[str, list[Any]] = {
    "intermediate": ["none", "world/nli", "world/qa", "world/pos"],
    "volume": [500],
    "target": ["world/rte", "world/qa_small"],
}
AS_THE_PEERS = {"select": "last", "evaluations": 1}
WORLD_PHASE = {"learning_rate": 1e-3, "batch_tokens": 512, "dropout": 0.0, "dev_examples": 10000, **AS_THE_PEERS}

REAL_INTERMEDIATE = ["none", "snli_nli", "msrp", "squad", "ewt_pos"]
REAL_TARGETS = ["sib200", "ud_pos", "americas_nli", "xquad"]
MULTILINGUAL = "multilingual"  # name of the encoder in the study
MSRP = {
    "family": "sequence", "format": "tsv", "columns": {"text": "#1 String", "pair": "#2 String", "label": "Quality"},
    "labels": {"different": ["0"], "paraphrase": ["1"]}, "train": "msrp/msr-para-train.tsv",
    "dev": "msrp/msr-para-val.tsv",
}  # fmt: skip
# No phase counts as collapsed: a peer goes on with whatever it has, and all cells are to be compared.
REAL_PHASE = {"batch_tokens": 1024, "dev_examples": 100, "max_length": 128, "collapse_margin": -1, **AS_THE_PEERS}


@dataclass(frozen=True)
class Grid:
    """A study as all sides run it: its file for a seed, and its chains as peers read them."""

    name: str
    folder: Path
    encoders: dict[str, Path]
    axes: dict[str, list[Any]]  # intermediate, volume, target
    sections: dict[str, Any]  # of the study file
    gpu: bool
    runtime: Mapping[str, Any] = field(default_factory=dict)  # further keys of the section

    def file(self, seed: int) -> Path:
        """Writes the study file of a seed, with a results folder of its own."""
        side = self.folder / f"ours-{seed}-{uuid.uuid4().hex[:6]}"
        return _written(side / "study.yaml", {
            "study": f"{self.name}-seed{seed}", "results": str(side / "results"), **self.sections,
            "axes": {**self.axes, "encoder": list(self.encoders), "seed": [seed]},
            # The peers keep no weights of target phases either.
            "runtime": {"gpu": "auto" if self.gpu else 0, "keep_winners": "0 GB", **self.runtime},
        })  # fmt: skip

    def chains(self, study: Path) -> list[dict[str, Any]]:
        """Chains as peers read them."""
        volumes = [(task, volume) for task in self.axes["intermediate"] if task != "none" for volume in self._volumes]
        common = {"study": str(study), "seed": 1}
        return [
            {"name": name, "encoder": str(path), "intermediate": task, "volume": volume, "target": target, **common}
            for (name, path), (task, volume), target in itertools.product(
                self.encoders.items(), [(None, None), *volumes], self.axes["target"]
            )
        ]

    @property
    def _volumes(self) -> list[int]:
        return self.axes["volume"]

    def sample(self, chains: list[dict[str, Any]], trials: int | None) -> list[dict[str, Any]]:
        """So many chains at random, of every target the same share, give or take one."""
        shuffled = random.Random(0).sample(chains, len(chains))
        places = {target: itertools.count() for target in self.axes["target"]}
        shuffled.sort(key=lambda chain: next(places[chain["target"]]))
        return shuffled[:trials]


@dataclass(frozen=True)
class Side:
    """Cost of one side, as far as it is known, and its scores."""

    cost: Cost
    device_seconds: float
    flops: float
    scores: dict[Cell, float]  # mean zero-shot score
    parts: dict[str, float]  # seconds of all its processes, by what they went to
    ran: int  # chains


def main() -> None:
    """Prepare, run the sides in turns, print the tables."""
    arguments = _arguments()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="sweep-benchmark-"))
    grid = real_grid(arguments, folder) if arguments.study == "real" else _world(arguments, folder)
    study = grid.file(1)
    plan = resolve(load(study), study)
    planned = summary(plan, Costs(plan), Speed())
    chains = grid.chains(study)
    chosen = grid.sample(chains, arguments.trials)
    sides = {"ours": _ours(study, arguments.cores)}
    for name in arguments.peers:
        sides[name] = _peer(name, grid, plan.tasks, (chosen, chains), arguments)
    other, noise = grid.file(2), dict[Cell, float]()
    if arguments.study == "world":
        sides["other seed"] = _ours(other, arguments.cores)
        noise = sides["other seed"].scores
    elif arguments.noise:
        noise = _scores_of(other, {_cell(chain) for chain in chosen}, arguments.cores)
    part = f"{len(chosen)} of them at random, the rest is EXTRAPOLATED" if len(chosen) < len(chains) else "all of them"
    print(f"{_machine()}, {arguments.cores} cores, {len(chains)} chains; the peers ran {part}")
    _print_costs(sides)
    _print_plan(planned, sides["ours"])
    lacking = sorted(" | ".join(cell) for chain in chains if (cell := _cell(chain)) not in sides["ours"].scores)
    print(f"ours: {len(lacking)} chains have no scores, {', '.join(lacking) or '-'}")
    pairs = {f"ours - {name}": (sides["ours"].scores, sides[name].scores) for name in arguments.peers}
    if len(arguments.peers) == 2:
        one, two = arguments.peers
        pairs[f"{one} - {two}"] = sides[one].scores, sides[two].scores
    if noise:
        pairs["ours - ours, other seed"] = sides["ours"].scores, noise
    gaps = {name: list(_gaps(*pair)) for name, pair in pairs.items()}
    for name, rows in gaps.items():
        for row in rows:
            print(f"{name}, {row['of']}: {row['mean']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] points over "
                  f"{row['cells']} cells, standard deviation {row['deviation']:.2f}")  # fmt: skip
    if arguments.json:
        told = {name: {**asdict(side), "scores": _told(side.scores)} for name, side in sides.items()}
        _written(arguments.json, {
            "machine": _machine(), "commit": _commit(), "arguments": {k: str(v) for k, v in vars(arguments).items()},
            "chains": len(chains), "sides": told, "noise": _told(noise), "gaps": gaps,
            "planned": {key: planned[key] for key in ("flops_shared", "flops_unshared")},
        })  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a whole study, ours against stock Ray Tune and an expert's scripts")
    parser.add_argument("--study", choices=("world", "real"), default="world")
    parser.add_argument("--small", action="store_true", help="8 chains of the embedded benchmark")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--trials", type=int, help="chains of the peers, drawn at random; all of them where absent")
    parser.add_argument("--peers", nargs="*", choices=("stock", "expert"), default=["stock", "expert"])
    parser.add_argument("--same-kernels", action="store_true", help="give the expert our linear layers and dropout")
    parser.add_argument("--folder", help="where to work; encoders that are there already are taken")
    parser.add_argument("--no-noise", dest="noise", action="store_false", help="no other seed in the real study")
    parser.add_argument("--json", type=Path, help="file for all figures")
    add_real(parser)
    arguments = parser.parse_args()
    if arguments.study == "real" and not (arguments.data and arguments.encoder):
        parser.error("--study real needs --data and --encoder")
    return arguments


def add_real(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the real study."""
    real = parser.add_argument_group("the real study")
    real.add_argument("--data", type=Path, help="folder of the public files that search_spaces/real_small.yaml names")
    real.add_argument("--encoder", type=Path, help="folder of a multilingual encoder, such as make real's")
    real.add_argument("--volumes", type=int, nargs="+", default=[200, 400], help="intermediate examples")
    real.add_argument("--examples", type=int, default=100, help="target examples")
    real.add_argument("--sentences", type=int, default=10, help="test rows per language")
    real.add_argument("--vocabulary", choices=("auto", "full", "in_use"), default="auto", help="of ours: which rows")
    real.add_argument("--intermediate", nargs="+", default=REAL_INTERMEDIATE, metavar="TASK")
    real.add_argument("--targets", nargs="+", default=REAL_TARGETS, metavar="TASK")


# ---- the studies -----------------------------------------------------------------------------------------------------


def _world(arguments: argparse.Namespace, folder: Path) -> Grid:
    """2 encoders x (none, and 5 tasks x 3 volumes) x 4 targets of the embedded benchmark."""
    encoders = list(LAYERS)[:1] if arguments.small else list(LAYERS)
    if not all((folder / name / "tokenizer.json").exists() for name in encoders):
        _pretrain(folder, encoders, arguments.cores)
    sections = {
        "encoders": {name: {"path": str(folder / name), "pooling": "cls"} for name in encoders},
        "intermediate": {**WORLD_PHASE, "epochs": 3}, "target": {**WORLD_PHASE, "epochs": 10},
    }  # fmt: skip
    paths, axes = {name: folder / name for name in encoders}, SMALL if arguments.small else WORLD
    return Grid("world", folder, paths, axes, sections, arguments.gpu)


def real_grid(arguments: argparse.Namespace, folder: Path) -> Grid:
    """A multilingual encoder x (none, and 4 tasks x 2 volumes) x 4 targets on real files."""
    described = load(REPOSITORY / "search_spaces/real_small.yaml").tasks | {"msrp": MSRP}
    # A question with its context is as much text as five sentences.
    long, fewer = {"max_length": 192, "dev_examples": 25}, {"examples": max(arguments.examples // 4, 1), "epochs": 2}
    sections = {
        "data_root": str(arguments.data.resolve()),
        "encoders": {MULTILINGUAL: {"path": str(arguments.encoder.resolve()), "pooling": "mean"}},
        "intermediate": {**REAL_PHASE, "learning_rate": 1e-4, "epochs": 1, "overrides": {"squad": long}},
        "target": {**REAL_PHASE, "learning_rate": 3e-4, "epochs": 3, "examples": arguments.examples,
                   "overrides": {"xquad": {**long, **fewer}}},
        "scoring": {"examples": arguments.sentences},
        "tasks": {name: described[name] for name in (*arguments.intermediate, *arguments.targets) if name != "none"},
    }  # fmt: skip
    axes = {"intermediate": arguments.intermediate, "volume": arguments.volumes, "target": arguments.targets}
    encoders = {MULTILINGUAL: arguments.encoder.resolve()}
    return Grid("real", folder, encoders, axes, sections, arguments.gpu, {"vocabulary": arguments.vocabulary})


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


def _written(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


# ---- the sides -------------------------------------------------------------------------------------------------------


def _ours(study: Path, cores: int) -> Side:
    cost = timed([sys.executable, "-m", "sweep", "run", str(study)], cores, study.parent)
    results = load(study).results_folder
    ledger = Ledger(results / "ledger.sqlite")
    flops, device_seconds = ledger.spent()
    ledger.close()
    table = pd.read_csv(results / "scores.csv").dropna(subset="value")  # a chain that collapsed has no scores
    keys = ["encoder", "intermediate", "volume", "target"]
    means = table[~table.is_source].groupby(keys, as_index=False).value.mean()
    rows = means[[*keys, "value"]].itertuples(index=False, name=None)
    scores = {(str(e), str(i), str(v), str(t)): float(s) for e, i, v, t, s in rows}
    return Side(cost, device_seconds, flops, scores, _parts(Store(results / STORE)), len(scores))


def _parts(store: Store) -> dict[str, float]:
    """Seconds by the clock of all records, by activity."""
    records = (
        record
        for kind, read in ((PHASES, store.phase), (SCORES, store.score))
        for key in store.keys(kind)
        if (record := read(key)) is not None
    )
    return {activity: part["seconds"] for activity, part in time_of(records).items()}


def _peer(
    name: str, grid: Grid, tasks: Mapping[str, Task], of: tuple[Sequence[Any], Sequence[Any]], arguments: Any
) -> Side:  # fmt: skip
    """A peer's figures for all chains, from those that it ran; `of` are these and all."""
    (chosen, chains), folder = of, grid.folder / f"{name}-{uuid.uuid4().hex[:6]}"
    spec, out = folder / "spec.json", folder / "found.json"
    _written(spec, {
        "cores": arguments.cores, "gpus": int(grid.gpu), "chains": chosen, "folder": str(folder),
        "kernels": arguments.same_kernels,
    })  # fmt: skip
    script = {"stock": "trainer_baseline.py", "expert": "trainer_expert.py"}[name]
    cost = timed(
        [sys.executable, str(REPOSITORY / "benchmarks" / script), str(spec), str(out)], arguments.cores, folder
    )
    blocks = json.loads(out.read_text(encoding="utf-8"))["blocks"]
    all_of = {"chains": len(chains), "checkpoints": len({_cell(one)[:3] for one in chains if one["intermediate"]})}
    factors = [all_of[block["of"]] / len(block["trials"]) if block["trials"] else 1.0 for block in blocks]
    extra = sum((factor - 1) * _busy(block, arguments.cores) for factor, block in zip(factors, blocks, strict=True))
    trials = [(factor, one) for factor, block in zip(factors, blocks, strict=True) for one in block["trials"]]
    parts: dict[str, float] = {}
    for factor, one in trials:
        for part, seconds in one["parts"].items():
            parts[part] = parts.get(part, 0.0) + factor * seconds
    longer, writes = (cost.wall + extra) / cost.wall, factors[0]  # what writes is the first block of either peer
    scored = [one for _, one in trials if "scores" in one]
    return Side(
        cost=Cost(cost.wall + extra, longer * cost.processor_seconds, writes * cost.written, cost.most, cost.left),
        device_seconds=sum(factor * (one["ended"] - one["begun"]) for factor, one in trials),
        flops=sum(factor * one["flops"] for factor, one in trials),
        scores={_cell(one["chain"]): _zero_shot(one, tasks) for one in scored},
        parts=parts,
        ran=len(scored),
    )


def _busy(block: dict[str, Any], cores: int) -> float:
    """Seconds of a block by the clock, without the time in which some cores had no more to do."""
    ends = sorted(one["ended"] for one in block["trials"])[-cores:]
    return float(np.mean(ends)) - block["begun"] if ends else 0.0


def _cell(chain: dict[str, Any]) -> Cell:
    return chain["name"], chain["intermediate"] or "none", str(chain["volume"] or "-"), chain["target"]


def _zero_shot(trial: dict[str, Any], tasks: Mapping[str, Task]) -> float:
    trained = tasks[trial["chain"]["target"]].train_language
    return float(np.mean([score for language, score in trial["scores"].items() if language != trained]))


def _scores_of(study: Path, cells: set[Cell], cores: int) -> dict[Cell, float]:
    """Scores of some cells of a study, untimed."""
    work = [(study, cell) for cell in sorted(cells)]
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        return dict(pool.map(_score_of, work, chunksize=1))


def _score_of(work: tuple[Path, Cell]) -> tuple[Cell, float]:
    study, cell = work
    plan = resolve(load(study), study)
    store = Store(load(study).results_folder / STORE)
    for chain in plan.planned_chains():
        columns = chain.cell.columns()
        if tuple(columns[name] for name in ("encoder", "intermediate", "volume", "target")) == cell:
            run(chain, plan, store)
            record, trained = store.score(chain.score), plan.tasks[cell[3]].train_language
            assert record is not None
            return cell, float(np.mean([one["value"] for name, one in record.languages.items() if name != trained]))
    raise AssertionError(cell)


# ---- the tables ------------------------------------------------------------------------------------------------------


def _print_costs(sides: dict[str, Side]) -> None:
    """A row per cost, a column per side, and how many times ours the others took."""
    print(
        f"{'':18}"
        + "".join(f"{name:>12}" for name in sides)
        + "".join(f"{name + '/ours':>16}" for name in [*sides][1:])
    )
    rows = {
        "wall, s": [side.cost.wall for side in sides.values()],
        "processor s": [side.cost.processor_seconds for side in sides.values()],
        "TFLOPs": [side.flops / 1e12 for side in sides.values()],
        "written, GB": [side.cost.written / 1e9 for side in sides.values()],
        "most on disk, GB": [side.cost.most / 1e9 for side in sides.values()],
        "left on disk, GB": [side.cost.left / 1e9 for side in sides.values()],
    }
    for name, (own, *theirs) in rows.items():
        ratios = "".join(f"{value / own:16.2f}" if own else f"{'-':>16}" for value in theirs)
        print(f"{name:18}" + "".join(f"{value:12.2f}" for value in (own, *theirs)) + ratios)
    for name, side in sides.items():
        parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in side.parts.items())
        print(f"{name}, seconds of its chains by the clock: {parts or '-'}")


def _print_plan(planned: dict[str, Any], first: Side) -> None:
    shared, unshared = planned["flops_shared"], planned["flops_unshared"]
    print(f"planned: {shared:.4g} FLOPs of distinct work, {unshared:.4g} one chain at a time ({unshared / shared:.2f} "
          f"times); really spent / planned distinct: {first.flops / shared:.4f}")  # fmt: skip


def _gaps(left: dict[Cell, float], right: dict[Cell, float]) -> list[dict[str, Any]]:
    """Differences over cells in points, of all and by target, with 95% intervals of the bootstrap over cells."""
    cells = sorted(left.keys() & right.keys())
    by_target = {target: [cell for cell in cells if cell[3] == target] for target in dict.fromkeys(c[3] for c in cells)}
    rows = []
    for of, members in {"all": cells, **by_target}.items():
        gaps = 100 * np.array([left[cell] - right[cell] for cell in members])
        draws = np.random.default_rng(0).integers(len(gaps), size=(2000, len(gaps)))
        low, high = np.quantile(gaps[draws].mean(axis=1), [0.025, 0.975])
        rows.append({
            "of": of, "mean": float(gaps.mean()), "low": float(low), "high": float(high), "cells": len(members),
            "deviation": float(gaps.std()),
        })  # fmt: skip
    return rows


def _told(scores: dict[Cell, float]) -> dict[str, float]:
    return {" | ".join(cell): score for cell, score in sorted(scores.items())}


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True,
                           check=False)  # fmt: skip
    return found.stdout.strip()


if __name__ == "__main__":
    main()
