"""1, 2, 4 chains on one GPU: what they train together per second, and what `gpu: auto` would choose.

    python benchmarks/shares.py [--chains 1 2 4] [--shape base] [--batch-tokens 4096] [--seconds 30]

Each chain is a process of its own that trains the same shape with fit(), as a worker does: its share of the memory is
its limit, and a batch that does not fit is accumulated from parts. All begin together once each has made a few steps;
real tokens are counted for so many seconds. Lengths are as in sentence classification (lognormal, mean near 30 tokens).
Without a GPU there is nothing to share; --device cpu tries the program out, and says nothing about GPUs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from shapes import SIZES, VOCABULARY, random_model, xlm_r

from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.batches import limit_gpu_memory, peak_memory, reset_peak_memory
from sweep.plan.facts import NO_FACTS, Facts
from sweep.search.devices import chains_per_device
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, Progress, fit

TASK, CLASSES, PAD, WARM_STEPS = "topic", 3, 1, 10


@dataclass(frozen=True)
class Chain:
    """What one process measured."""

    tokens: int  # real ones
    seconds: float
    taken: float  # bytes of the device, CUDA's own included; only where it was alone
    total: float
    part_tokens: int | None  # of a batch that did not fit


def main() -> None:
    """Measures every number of chains and prints one line for each."""
    measure(parsed())


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of a command line, by default that of this process."""
    parser = argparse.ArgumentParser(description="chains that share one GPU")
    parser.add_argument("--chains", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--shape", choices=SIZES, default="base")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace) -> dict[int, float]:
    """Measures and prints; returns the real tokens per second of so many chains together."""
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmarks/shares.py: found no GPU; a machine with one is expected, chains share nothing else")
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu, which says nothing about GPUs"
    print(f"{where}, torch {torch.__version__}, {arguments.shape}, batches of {arguments.batch_tokens} tokens")
    facts, alone, speeds = NO_FACTS.with_cores_per_device(64), 0.0, dict[int, float]()
    for count in arguments.chains:
        chains = _together(count, arguments)
        speed = sum(chain.tokens / chain.seconds for chain in chains)
        alone, speeds[count] = alone or speed / count, speed
        facts |= _facts(count, chains, speed)
        parts = [chain.part_tokens for chain in chains if chain.part_tokens is not None]
        print(f"{count} chains: {speed:,.0f} real tokens/s together, {speed / alone:.2f} times those of the first row's"
              f" chain{f', batches in parts of {min(parts)} tokens' if parts else ''}", flush=True)  # fmt: skip
    print(f"gpu: auto would put {chains_per_device([TASK], facts, cores=1)} chains on this device")
    return speeds


def _facts(count: int, chains: list[Chain], speed: float) -> Facts:
    """As a study keeps them, with tokens in place of FLOPs."""
    pace = NO_FACTS.with_pace(TASK, count, 1 / speed)
    alone = count == 1 and chains[0].total
    return pace.with_memory(TASK, chains[0].taken, chains[0].total) if alone else pace


def _together(count: int, arguments: argparse.Namespace) -> list[Chain]:
    spawn = get_context("spawn")
    barrier, results = spawn.Barrier(count), spawn.SimpleQueue()
    processes = [spawn.Process(target=_chain, args=(count, arguments, barrier, results)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def _chain(count: int, arguments: argparse.Namespace, barrier: Barrier, results: object) -> None:
    """One process: warm up, wait for the others, train for so many seconds."""
    gpu = arguments.device == "cuda"
    torch.set_num_threads(1)
    if gpu:
        limit_gpu_memory(1 / count)
        reset_peak_memory()
    steps = _training(arguments)
    for _ in range(WARM_STEPS):
        first = next(steps)
    first.loss_value()  # waits for the device
    barrier.wait()
    begun = time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:
        last = next(steps)
    last.loss_value()  # what was handed over is done
    seconds = time.perf_counter() - begun
    taken, total = peak_memory() if gpu else (0.0, 0.0)
    part_tokens = last.snapshot()["values"]["micro_batch_tokens"]
    results.put(Chain(last.tokens - first.tokens, seconds, taken, total, part_tokens))  # type: ignore[attr-defined]


def _training(arguments: argparse.Namespace) -> Iterator[Progress]:
    model = random_model(xlm_r(*SIZES[arguments.shape]), arguments.vocabulary, arguments.device, PAD)
    mixture = Mixture((Stream(TASK, _texts(arguments)),), arguments.batch_tokens, seed=1)
    # Where a GPU has no bf16 this slows all alike.
    return fit(model, mixture, FitSettings(1e-5, steps=200_000, seed=1, precision="bf16"))


def _texts(arguments: argparse.Namespace) -> Encoded:
    draw = np.random.default_rng(7)
    lengths = np.clip(draw.lognormal(3.2, 0.65, 20_000), 4, 128).astype(int)
    words = (draw.integers(5, arguments.vocabulary, length).tolist() for length in lengths)
    return from_sequences(EncodedSequence(text, number, [number % CLASSES]) for number, text in enumerate(words))


if __name__ == "__main__":
    main()
