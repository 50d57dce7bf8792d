"""Time spent on weights beside computing: chains of a large encoder whose phases are a step long, on and off.

    python benchmarks/weights.py [--shape base] [--turns 2]      (XLM-R's shapes: shapes.py)

Two chains of one intermediate phase, one after another in one process without Ray, whole vocabulary, one core. Off is
the program before weights stayed in memory: a phase is committed before the chain goes on, read back, and hashed at
each use. Both sides in turns; scores must be equal. The encoder has random weights, written once as a model folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from shapes import SIZES, VOCABULARY, xlm_r
from transformers import AutoConfig, AutoModelForMaskedLM

from sweep.config.load import load
from sweep.models.tokenizers import train_tokenizer
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.tasks.table import TASKS
from sweep.train.weights import KEPT, CommitsBehind

PHASE = {"steps": 1, "batch_tokens": 128, "evaluations": 1, "dev_examples": 4, "learning_rate": 1e-5}
PHASE |= {"collapse_margin": -1}


def main() -> None:
    """Runs both sides in turns and prints a row per chain."""
    parser = argparse.ArgumentParser(description="weights in memory, on and off")
    parser.add_argument("--shape", choices=SIZES, default="base")
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _encoder(Path(folder) / "encoder", arguments.shape)
        scores = [_side(Path(folder), turn, on) for turn in range(arguments.turns) for on in (True, False)]
    assert all(score == scores[0] for score in scores), "scores differ"


def _encoder(folder: Path, shape: str) -> None:
    texts = [row["text"] for row in TASKS["world/raw"].source.rows("train", "pivot")]
    tokenizer = train_tokenizer(texts[:3000], 1500, "wordpiece")
    tokenizer.save_pretrained(folder)
    config = {**xlm_r(*SIZES[shape]), "vocab_size": VOCABULARY, "pad_token_id": tokenizer.pad_token_id}
    masked_model: Any = AutoModelForMaskedLM  # has no type annotations
    masked_model.from_config(AutoConfig.for_model(**config)).save_pretrained(folder)


def _side(folder: Path, turn: int, on: bool) -> list[Any]:
    """Scores of the two chains; prints what each has spent."""
    runtime = {"vocabulary": "full", "checkpoint_seconds": 1e6, **({} if on else {"weights_in_memory": 0})}
    study = {
        "study": "weights", "intermediate": PHASE, "target": PHASE, "scoring": {"examples": 4}, "runtime": runtime,
        "encoders": {"encoder": {"path": str(folder / "encoder")}},
        "axes": {
            "encoder": ["encoder"], "intermediate": ["world/copa"], "target": ["world/topic", "world/ner"], "seed": [1],
        },
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(json.dumps(study), encoding="utf-8")
    plan, store, found = resolve(load(path), path), Store(folder / f"store {turn} {on}"), list[Any]()
    chains, warm = list(plan.planned_chains()), Store(folder / "warm")
    for chain in chains:
        run(chain, plan, warm)  # at first: encodes data, and imports what is imported late
    shutil.copytree(warm.root / paths.DATA, store.root / paths.DATA)
    KEPT.resize(0)
    with _as_it_is() if on else _before():
        for name, chain in zip(("first", "second"), chains, strict=True):
            clock, processor = time.time(), time.process_time()
            with _peak() as peak:
                run(chain, plan, store)
            processor, clock = time.process_time() - processor, time.time() - clock
            print(f"{'on ' if on else 'off'} {name:6} chain: {processor:5.1f} processor seconds, {clock:5.1f} s, "
                  f"{peak():.2f} GB at most", flush=True)  # fmt: skip
            score = store.score(chain.score)
            assert score is not None
            found.append(score.languages)
    return found


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _before() -> Iterator[None]:
    """Nothing is written behind, read from memory, or remembered as hashed."""
    begin: Callable[..., None] = CommitsBehind.begin

    def commit(self: CommitsBehind, *arguments: Any) -> None:
        begin(self, *arguments)
        self.wait(arguments[-1])

    never = patch("sweep.store.artifacts.SETTLED_SECONDS", float("inf"))
    with patch.object(CommitsBehind, "begin", commit), patch.object(CommitsBehind, "tensors", lambda *_: None), never:
        yield


@contextmanager
def _peak() -> Iterator[Callable[[], float]]:
    """Largest resident size of this process meanwhile, in GB."""
    largest, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            largest[0] = max(largest[0], pages * os.sysconf("SC_PAGE_SIZE") / 1e9)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: largest[0]
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
