"""Baseline: stock Ray Tune, each trial a chain of Hugging Face Trainers, scored language by language.

    python benchmarks/trainer_baseline.py SPEC RESULTS    (benchmarks/whole.py writes SPEC and reads RESULTS, both JSON)

What people write who want this grid: `grid_search` over chains, `AutoModelFor...` from the folder that the phase before
has saved, dynamic padding, `predict` per language. Rows, tokens and metrics come from sweep.tasks.table, so both sides
read the same data and mean the same scores. Each trial reports the FLOPs that its forward passes were fed, by the same
formula as ours.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from sweep.data import Row
from sweep.data.encoded import Encoded, from_sequences
from sweep.models.registry import shape_of
from sweep.plan.cost import TRAINING, forward_flops, masked_head_flops
from sweep.tasks.table import TASKS
from sweep.tasks.task import Task
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, rate

MASKED_SHARE = 0.15


def trial(config: dict[str, Any]) -> None:
    """One chain: load, train on the intermediate task, train on the target, score every language."""
    import torch
    import transformers
    from ray import tune

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    config, begun, spent = config["chain"], time.time(), [0.0]
    settings, seed = config["settings"], config["seed"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(config["encoder"])
    weights = config["encoder"]
    with tempfile.TemporaryDirectory() as folder:
        if config["intermediate"]:
            task = TASKS[config["intermediate"]]
            trainer = trained(weights, task, config["volume"], tokenizer, settings["intermediate"], seed, spent)
            trainer.model.base_model.save_pretrained(folder)
            weights = folder
        task = TASKS[config["target"]]
        trainer = trained(weights, task, None, tokenizer, settings["target"], seed, spent)
    scores = {
        language: score(trainer, task, language, task.source.rows("test", language), tokenizer)
        for language in task.languages
    }
    tune.report({"scores": scores, "flops": spent[0], "seconds": time.time() - begun})


def training_rows(task: Task, volume: int | None, seed: int) -> list[Row]:
    """The training rows of all the task's training languages, or so many of them drawn at random."""
    rows = [row for language in task.trained_in for row in task.source.rows("train", language)]
    order = np.random.default_rng(seed).permutation(len(rows))[:volume]
    return [rows[index] for index in order]


def trained(  # noqa: PLR0917
    weights: str, task: Task, volume: int | None, tokenizer: Any, settings: dict[str, Any], seed: int,
    spent: list[float],
) -> Any:  # fmt: skip
    """A Trainer that has trained a fresh head on an encoder and looked at dev once.

    It makes as many steps as our batches of `batch_tokens` would be, at our learning rates: Trainer's own schedule
    begins with a step at rate zero, which counts where a phase has twenty.
    """
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer, TrainingArguments, set_seed

    gpu = torch.cuda.is_available()  # Ray shows a trial the GPUs that it has
    set_seed(seed)
    model = load_model(weights, task)
    count_flops(model, task, spent)
    rows = training_rows(task, volume, seed)
    data, stream = examples(task, rows, tokenizer), Stream(task.name, encode(task, rows, tokenizer))
    steps = Mixture((stream,), settings["batch_tokens"], seed).steps_for(1)
    arguments = TrainingArguments(
        tempfile.gettempdir(), use_cpu=not gpu, bf16=gpu, report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=seed, learning_rate=settings["learning_rate"], num_train_epochs=settings["epochs"],
        weight_decay=0.01, max_grad_norm=1.0, per_device_eval_batch_size=64, dataloader_pin_memory=gpu,
        per_device_train_batch_size=math.ceil(len(data) / steps),
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=collator(task, tokenizer))
    optimizer = trainer.create_optimizer()
    whole = FitSettings(learning_rate=1.0, steps=steps * settings["epochs"], seed=seed, warmup=0.1)
    trainer.lr_scheduler = LambdaLR(optimizer, lambda done: rate(done + 1, whole))
    trainer.train()
    language = task.trained_in[0]
    dev = task.source.rows("dev", language)
    if task.family.name == "masked":
        trainer.evaluate(examples(task, dev, tokenizer))  # type: ignore[arg-type]
    else:
        score(trainer, task, language, dev, tokenizer)
    return trainer


def load_model(weights: str, task: Task) -> Any:
    """The usual class of the task's family; its head is new."""
    import transformers

    if task.family.name == "masked":
        return transformers.AutoModelForMaskedLM.from_pretrained(weights)
    if task.family.name == "span":
        return transformers.AutoModelForQuestionAnswering.from_pretrained(weights, num_labels=2)
    if task.family.name == "token":
        return transformers.AutoModelForTokenClassification.from_pretrained(weights, num_labels=len(task.labels))
    return transformers.AutoModelForSequenceClassification.from_pretrained(weights, num_labels=len(task.labels))


def collator(task: Task, tokenizer: Any) -> Any:
    """Pads to the longest of a batch."""
    import transformers

    if task.family.name == "masked":
        return transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE)
    if task.family.name == "token":
        return transformers.DataCollatorForTokenClassification(tokenizer)
    return transformers.DataCollatorWithPadding(tokenizer)


def encode(task: Task, rows: list[Row], tokenizer: Any) -> Encoded:
    """Token sequences and targets."""
    family = task.family
    return from_sequences(family.encode(rows, tokenizer, min(family.default_max_length, tokenizer.model_max_length)))


def examples(task: Task, rows: list[Row], tokenizer: Any) -> list[dict[str, Any]]:
    """What a Trainer takes: a mapping per sequence."""
    encoded = encode(task, rows, tokenizer)
    tokens = np.split(encoded.tokens, encoded.bounds[1:-1])
    targets = np.split(encoded.targets, encoded.target_bounds[1:-1])
    return [
        {"input_ids": ids.tolist(), "attention_mask": [1] * len(ids), **labels(task, target.tolist())}
        for ids, target in zip(tokens, targets, strict=True)
    ]


def labels(task: Task, target: list[int]) -> dict[str, Any]:
    """What the task's model calls its targets; a masked model's come from the collator."""
    if task.family.name == "masked":
        return {}
    if task.family.name == "span":
        return {"start_positions": target[0], "end_positions": target[1]}
    return {"labels": target if task.family.name == "token" else target[0]}


def score(trainer: Any, task: Task, language: str, rows: list[Row], tokenizer: Any) -> float:
    """The task's metric on one language's rows."""
    family, encoded = task.family, encode(task, rows, tokenizer)
    found = trainer.predict(examples(task, rows, tokenizer)).predictions
    lengths = encoded.lengths()
    if task.family.name == "span":
        found = np.stack(found, axis=-1)
    elif task.family.name == "token":
        found = found.argmax(axis=-1)
    outputs = (
        list(found) if task.family.name == "sequence" else [one[:n] for one, n in zip(found, lengths, strict=True)]
    )
    predictions = family.predict(outputs, encoded, rows, task.labels)
    return float(family.value(family.judge(predictions, rows, task, language).sum(axis=0)))


def count_flops(model: Any, task: Task, spent: list[float]) -> None:
    """Adds what every forward pass (and its backward pass) costs to `spent`."""
    shape = shape_of(model.config.to_dict(), "the baseline's encoder")

    def before(module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        tokens, length = named["input_ids"].numel(), named["input_ids"].shape[1]
        flops = forward_flops(shape, tokens, tokens * length, 1)
        if task.family.name == "masked":  # its head reads every token, not the masked ones alone
            flops += masked_head_flops(shape, tokens / MASKED_SHARE)
        spent[0] += (TRAINING if module.training else 1) * flops

    model.register_forward_pre_hook(before, with_kwargs=True)


def main() -> None:
    """Runs the chains of SPEC as one grid on so many cores and writes what they reported."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import tune

    folder = tempfile.mkdtemp(prefix="baseline-", dir="/tmp")
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ray.init(
        address="local", num_cpus=spec["cores"], include_dashboard=False, _temp_dir=folder, log_to_driver=False,
        object_store_memory=100 * 2**20, runtime_env={"env_vars": here},
    )  # fmt: skip
    begun = time.time()
    grid = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1, "gpu": spec["gpus"]}),
        param_space={"chain": tune.grid_search(spec["chains"])},
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    ).fit()
    seconds = time.time() - begun
    results = [grid[index] for index in range(len(grid))]
    told = [(result.config or {}, result.metrics or {}) for result in results]
    found = [
        {"chain": config["chain"], **{name: metrics[name] for name in ("scores", "flops", "seconds")}}
        for config, metrics in told
    ]
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "trials": found}), encoding="utf-8")
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
