"""Rows in use against the whole vocabulary: one chain in both ways, and what chains of larger encoders take.

    python benchmarks/rows_in_use.py --encoder FOLDER --data FOLDER [--steps 40] [--examples 50]
    python benchmarks/rows_in_use.py --shapes [--rows 20000]

The chain: SIB-200's topics, 701 English sentences, from a multilingual encoder without an intermediate phase, scored in
18 languages; with all rows and with those in use, in turns. What is counted must be equal in both, and is compared.
Shapes: bytes of weights, gradients and AdamW's moments, of a checkpoint and of a finished phase, by torch's own tensors
on the meta device; with --allocate the smaller of them are really allocated, and the process is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from shapes import SIZES, VOCABULARY, xlm_r
from torch import nn

from sweep.config.load import load
from sweep.heartbeat import Cancelled
from sweep.models.encoders import random_encoder
from sweep.models.vocabulary import embedding_name
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.train.context import Event

GIGABYTE, CARD, CONTEXT = 1e9, 80e9, 0.5e9  # bytes; of a GPU, and what CUDA takes for every process
LANGUAGES = {
    "en": "eng_Latn", "de": "deu_Latn", "es": "spa_Latn", "ru": "rus_Cyrl", "tr": "tur_Latn", "vi": "vie_Latn",
    "ar": "arb_Arab", "zh": "zho_Hans", "hi": "hin_Deva", "sw": "swh_Latn", "eu": "eus_Latn", "kk": "kaz_Cyrl",
    "ta": "tam_Taml", "te": "tel_Telu", "yo": "yor_Latn", "ha": "hau_Latn", "ig": "ibo_Latn", "qu": "quy_Latn",
}  # fmt: skip
TOPICS = ["science/technology", "travel", "politics", "sports", "health", "entertainment", "geography"]


@dataclass
class Measured:
    """Cost of a chain in one of the ways."""

    steps: list[float] = field(default_factory=list)  # processor seconds of each optimizer step
    scoring: float = 0.0  # processor seconds
    seconds: float = 0.0  # of the chain, of processors
    clock: float = 0.0


def main() -> None:
    """Compares a chain in both ways, or prints what larger shapes take."""
    parser = argparse.ArgumentParser(description="rows in use against the whole vocabulary")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--data", type=Path, help="a folder that has sib200/")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--examples", type=int, default=50, help="of each language's test set")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--allocate", action="store_true")
    arguments = parser.parse_args()
    if arguments.shapes:
        _print_shapes(arguments.rows, arguments.allocate)
    else:
        _compare(arguments)


# ---- one chain -------------------------------------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        _write(Path(name), arguments)
        folder, took, found = Path(name), dict[str, list[Measured]](), dict[str, Any]()
        _run(folder, "in_use", 1, 1, Store(folder / "encoded"))  # one step and one text each: it encodes the data
        for turn in range(arguments.turns):
            for way in ("full", "in_use"):
                store = Store(folder / f"{way}-{turn}")
                store.root.mkdir()
                (store.root / paths.DATA).symlink_to(folder / "encoded" / paths.DATA)
                took.setdefault(way, []).append(_run(folder, way, arguments.steps, arguments.examples, store))
                found[way] = _facts(store)
        checkpoints = [_checkpoint(folder, way, Store(folder / f"{way}-0")) for way in ("full", "in_use")]
    full, used = found["full"], found["in_use"]
    print(f"equal curves, dev scores, scores and predictions: {full['equal'] == used['equal']}")
    print("mean over languages", round(float(np.mean(list(full["equal"]["scores"].values()))), 4))
    _line("rows of the embeddings held", full["rows"], used["rows"])
    _line("bytes of the phase", full["bytes"], used["bytes"])
    _line("bytes of a checkpoint", *checkpoints)
    taken: dict[str, Callable[[Measured], float]] = {
        "step, median, s": lambda one: statistics.median(one.steps),
        "scoring, s": lambda one: one.scoring,
        "chain, processor s": lambda one: one.seconds,
        "chain, clock s": lambda one: one.clock,
    }
    for what, value in taken.items():
        _line(what, *(statistics.median(map(value, took[way])) for way in ("full", "in_use")))


def _line(what: str, full: float, used: float) -> None:
    print(f"{what:34} {full:>16,.3f} {used:>16,.3f} {full / used:8.2f}")


def _write(folder: Path, arguments: argparse.Namespace) -> None:
    columns = {"text": "text", "label": "category"}
    sib200 = {
        "family": "sequence", "format": "tsv", "columns": columns, "labels": TOPICS, "languages": LANGUAGES,
        **{split: f"sib200/{{code}}/{split}.tsv" for split in ("train", "dev", "test")},
    }  # fmt: skip
    (folder / "study.json").write_text(
        json.dumps({
            "study": "rows", "data_root": str(arguments.data.resolve()),
            "axes": {"encoder": ["mine"], "intermediate": ["none"], "target": ["sib200"], "seed": [1]},
            "encoders": {"mine": {"path": str(arguments.encoder.resolve())}}, "tasks": {"sib200": sib200},
            "target": {"learning_rate": 1e-4, "batch_tokens": 1024, "evaluations": 1},
        })
    )  # fmt: skip


def _chain(folder: Path, way: str, steps: int, examples: int, seconds: float = 3600) -> tuple[Chain, Plan]:
    path, content = folder / "study.yaml", json.loads((folder / "study.json").read_text())
    content["target"]["steps"], content["scoring"] = steps, {"examples": examples}
    content["runtime"] = {"vocabulary": way, "keep_target_weights": True, "checkpoint_seconds": seconds}
    path.write_text(json.dumps(content))
    plan = resolve(load(path), path)
    (chain,) = plan.planned_chains()
    return chain, plan


def _checkpoint(folder: Path, way: str, store: Store) -> int:
    """Bytes of a checkpoint, of a chain that is ended in its second step."""
    chain, plan = _chain(folder, way, 2, 1, 1e-6)

    def listen(event: Event) -> None:
        if event.step == 2:
            raise Cancelled

    with suppress(Cancelled):
        run(chain, plan, store, listen)
    return (store.root / paths.SCRATCH / chain.phases[0].key / paths.CHECKPOINT).stat().st_size


def _run(folder: Path, way: str, steps: int, examples: int, store: Store) -> Measured:
    chain, plan = _chain(folder, way, steps, examples)
    took = Measured()
    step, at, phase = 0, 0.0, ""

    def listen(event: Event) -> None:
        nonlocal step, at, phase
        now = time.process_time()
        if event.phase == "target" and event.step == step + 1 and event.dev is None and event.step > 1:
            took.steps.append(now - at)
        if event.phase == "score" and phase != "score":
            took.scoring = -now
        step, at, phase = event.step, now, event.phase

    began = time.process_time(), time.time()
    run(chain, plan, store, listen)
    took.scoring += time.process_time()
    took.seconds, took.clock = time.process_time() - began[0], time.time() - began[1]
    return took


def _facts(store: Store) -> dict[str, Any]:
    (key,), (score,) = store.keys(paths.PHASES), store.keys(paths.SCORES)
    phase, scores = store.phase(key), store.score(score)
    assert phase is not None
    assert scores is not None
    losses = [point["loss"] for point in phase.curve]
    dev, values = phase.dev_score, {name: entry["value"] for name, entry in scores.languages.items()}
    equal = {"losses": losses, "dev": dev, "scores": values, "files": scores.files}
    return {"rows": phase.rows or _vocabulary(store, key), "bytes": store.bytes_held(phase), "equal": equal}


def _vocabulary(store: Store, key: str) -> int:
    from safetensors import safe_open

    with safe_open(store.weights(key) / paths.ENCODER_WEIGHTS, framework="pt") as opened:
        return max(int(opened.get_slice(name).get_shape()[0]) for name in opened.keys())  # noqa: SIM118


# ---- larger shapes ---------------------------------------------------------------------------------------------------


def _print_shapes(rows: int, allocate: bool) -> None:
    print("shape        rows   parameters  on the device   checkpoint      phase  80 GB")
    for shape in ("base", "large"):
        for held in (VOCABULARY, rows):
            encoder = _on_meta(shape, held)
            trained, moments = _bytes_of_training(encoder)
            weights = trained // 2
            checkpoint = 2 * weights + moments  # the best weights beside the last
            chains = int(CARD // (trained + moments + CONTEXT))
            sizes = [trained + moments, checkpoint, weights]
            print(
                f"{shape:8} {held:8,} {weights // 4 / 1e6:10.1f} M"
                + "".join(f" {size / GIGABYTE:{width}.2f} GB" for size, width in zip(sizes, (11, 9, 7), strict=True))
                + f" {chains:6}"
            )
    if allocate:
        encoder = _on_meta("base", rows).to_empty(device="cpu")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for parameter in encoder.parameters():
            nn.init.normal_(parameter)
        _bytes_of_training(encoder)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        print(f"base with {rows:,} rows, really allocated: {grown / GIGABYTE:.2f} GB")


def _on_meta(shape: str, held: int) -> Any:
    with torch.device("meta"):
        encoder: Any = random_encoder(xlm_r(*SIZES[shape]), VOCABULARY, 1, 0)
        if held < VOCABULARY:
            width = encoder.get_input_embeddings().weight.shape[1]
            encoder.set_submodule(embedding_name(encoder).removesuffix(".weight"), nn.Embedding(held, width))
    return encoder


def _bytes_of_training(encoder: Any) -> tuple[int, int]:
    """Bytes of weights with their gradients, and of AdamW's moments after a step."""
    parameters = list(encoder.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(parameters, foreach=False)
    optimizer.step()
    weights = sum(2 * parameter.nbytes for parameter in parameters)
    return weights, sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim)


if __name__ == "__main__":
    main()
