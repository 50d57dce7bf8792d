"""The second peer: the grid as an expert writes it with Trainer, without Ray.

    python benchmarks/trainer_expert.py SPEC RESULTS    (benchmarks/whole.py writes SPEC and reads RESULTS, both JSON)

One process per core goes through the work: first every intermediate checkpoint, once, then every chain from its
checkpoint. A process loads its libraries and its tokenizer once and keeps what it has read and tokenised. Batches are
grouped by length, all languages are scored in one call, sorted by length, and of token tasks classes are kept in place
of logits. Processes keep freed memory, as our workers do; with `kernels` in SPEC they have our linear layers too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from trainer_baseline import Clock, Data, Recipe, outputs, trained

from sweep.config.load import load
from sweep.run.cluster import ALLOCATOR


@cache
def _recipe(study: str, encoder: str) -> Recipe:
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return Recipe(load(Path(study)), transformers.AutoTokenizer.from_pretrained(encoder))


@cache
def _data(recipe: Recipe, phase: str, name: str, examples: int | None, seed: int) -> tuple[Data, Data]:
    """Training and dev data."""
    task = recipe.task(name)
    return recipe.training_data(phase, task, examples, seed), recipe.dev_data(phase, task)


@cache
def _tests(recipe: Recipe, name: str) -> list[Data]:
    task = recipe.task(name)
    return [recipe.test_data(task, language) for language in task.languages]


def intermediate(work: tuple[dict[str, Any], str, bool]) -> dict[str, Any]:
    """Trains one intermediate checkpoint and saves it."""
    chain, folder, kernels = work
    begun, clock = time.time(), Clock()
    recipe = _recipe(chain["study"], chain["encoder"])
    data = clock.timed("data", _data, recipe, "intermediate", chain["intermediate"], chain["volume"], chain["seed"])
    trainer = _trained(chain["encoder"], data, recipe, "intermediate", chain["seed"], clock, kernels)
    clock.timed("save", trainer.model.base_model.save_pretrained, _checkpoint(chain, folder))
    return {"begun": begun, "ended": time.time(), **clock.told()}


def target(work: tuple[dict[str, Any], str, bool]) -> dict[str, Any]:
    """Trains a target phase on a checkpoint and scores all languages at once."""
    chain, folder, kernels = work
    begun, clock = time.time(), Clock()
    recipe = _recipe(chain["study"], chain["encoder"])
    examples = recipe.settings("target", chain["target"]).examples
    data = clock.timed("data", _data, recipe, "target", chain["target"], examples, chain["seed"])
    weights = _checkpoint(chain, folder) if chain["intermediate"] else chain["encoder"]
    trainer = _trained(weights, data, recipe, "target", chain["seed"], clock, kernels)
    tests = clock.timed("data", _tests, recipe, chain["target"])
    scores = clock.timed("score", _scores, trainer, tests)
    return {"chain": chain, "scores": scores, "begun": begun, "ended": time.time(), **clock.told()}


def _checkpoint(chain: dict[str, Any], folder: str) -> str:
    return str(Path(folder) / f"{chain['intermediate']}-{chain['volume']}")


def _trained(  # noqa: PLR0917
    weights: str, data: tuple[Data, Data], recipe: Recipe, phase: str, seed: int, clock: Clock, kernels: bool
) -> Any:
    rows, dev = data
    grouped = "group_by_length"
    return trained(
        weights, rows, dev, recipe, phase, seed, clock, kernels=kernels, train_sampling_strategy=grouped
    )  # fmt: skip


def _scores(trainer: Any, tests: list[Data]) -> dict[str, float]:
    """The metric by language, of one call of `predict` on sequences sorted by length."""
    task, rows = tests[0].task, [row for test in tests for row in test.examples()]
    lengths = np.concatenate([test.encoded.lengths() for test in tests])
    longest_first = np.argsort(-lengths, kind="stable")
    if task.family.name == "token":
        trainer.preprocess_logits_for_metrics = lambda logits, _labels: logits.argmax(dim=-1)
    trainer.args.train_sampling_strategy = "sequential"  # grouping holds for `predict` too, and shuffles what it gives
    found = outputs(trainer.predict([rows[place] for place in longest_first]).predictions, task, lengths[longest_first])
    in_order = [found[place] for place in np.argsort(longest_first)]
    ends = np.cumsum([len(test.encoded.lengths()) for test in tests])[:-1]
    parts = [in_order[begin:end] for begin, end in zip([0, *ends], [*ends, len(in_order)], strict=True)]
    return {test.language: test.value(part) for test, part in zip(tests, parts, strict=True)}


def main() -> None:
    """Does the work of SPEC in two blocks, checkpoints and chains, on so many cores, and writes what it gave."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ |= {"OMP_NUM_THREADS": "1", **ALLOCATOR}
    folder = tempfile.mkdtemp(prefix="checkpoints-", dir=spec["folder"])
    chains = [(chain, folder, spec["kernels"]) for chain in spec["chains"]]
    checkpoints = {_checkpoint(chain, folder): work for work in chains if (chain := work[0])["intermediate"]}
    with multiprocessing.get_context("spawn").Pool(spec["cores"]) as pool:
        begun = time.time()
        made = pool.map(intermediate, checkpoints.values(), chunksize=1)
        between = time.time()
        scored = pool.map(target, chains, chunksize=1)
    blocks = [
        {"begun": begun, "trials": made, "of": "checkpoints"}, {"begun": between, "trials": scored, "of": "chains"}
    ]  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps({"blocks": blocks}), encoding="utf-8")


if __name__ == "__main__":
    main()
