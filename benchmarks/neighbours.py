"""Exact nearest neighbours against the matrix product alone, in blocks of the same size.

    python benchmarks/neighbours.py [--queries 40000] [--keys 40000] [--width 768] [--threads 2] [--turns 5]

Both compute every similarity; the plain side throws them away. They run in turns, so that a busy machine disturbs both;
processor seconds are printed beside the clock's. On a GPU (--device cuda) the clock waits for it. BUCC asks for 4
neighbours in both directions, LAReQA and Mewsli-X for 20 in one, Tatoeba for 1.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.train.score import BLOCK_BYTES, GPU_BLOCK_BYTES, block_shape, nearest_neighbours

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
CASES = {"1, one direction": (1, False), "20, one direction": (20, False), "4, both directions": (4, True)}


def main() -> None:
    """Run all cases in turns and print ratios."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    queries, keys = (
        _units(rows, arguments.width, seed) for seed, rows in enumerate((arguments.queries, arguments.keys))
    )
    queries, keys = queries.to(device), keys.to(device)
    size = (GPU_BLOCK_BYTES if device.type == "cuda" else BLOCK_BYTES) if arguments.mib is None else arguments.mib << 20
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    rows, columns = block_shape(len(queries), len(keys), size)
    print(f"{name}, {arguments.threads} threads, torch {torch.__version__}")
    print(f"{len(queries)} x {len(keys)} vectors of {arguments.width}, blocks of {rows} x {columns} ({size >> 20} MiB)")
    sides: dict[str, Callable[[], object]] = {"plain": lambda: _plain(queries, keys, size)}
    for case, (count, both) in CASES.items():
        sides[case] = partial(nearest_neighbours, queries, keys, count, both=both, block_bytes=size)
    for run in sides.values():
        run()  # the first products allocate
    turns = [{side: _timed(run, device) for side, run in sides.items()} for _ in range(arguments.turns)]
    flops = 2 * len(queries) * len(keys) * arguments.width
    best = min(turn["plain"][0] for turn in turns)
    print(f"plain product: {best:.2f} s, {flops / best / 1e9:.0f} GFLOP/s")
    for case in CASES:
        clock, cpu = (sorted(turn[case][kind] / turn["plain"][kind] for turn in turns) for kind in (0, 1))
        print(f"{case:20} {np.median(clock):.2f} times the plain product ({clock[0]:.2f} to {clock[-1]:.2f}), "
              f"{np.median(cpu):.2f} by processor seconds")  # fmt: skip
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**30:.2f} GiB "
          f"(the whole matrix: {4 * len(queries) * len(keys) / 2**30:.2f} GiB)")  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="exact nearest neighbours against the matrix product alone")
    sizes = {"queries": 40_000, "keys": 40_000, "width": 768, "threads": 2, "turns": 5}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mib", type=int, help="size of a block")
    return parser.parse_args()


def _units(rows: int, width: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def _plain(queries: Tensor, keys: Tensor, block_bytes: int) -> None:
    rows, columns = block_shape(len(queries), len(keys), block_bytes)
    for column in range(0, len(keys), columns):
        for row in range(0, len(queries), rows):
            torch.mm(queries[row : row + rows], keys[column : column + columns].T)


def _timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    started, spent = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, time.process_time() - spent


if __name__ == "__main__":
    main()
