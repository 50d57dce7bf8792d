"""Baseline: stock Ray Tune, each trial a chain of Hugging Face Trainers, scored language by language.

    python benchmarks/trainer_baseline.py SPEC RESULTS    (benchmarks/whole.py writes SPEC and reads RESULTS, both JSON)

What people write who want this grid: `grid_search` over chains, `AutoModelFor...` from the folder that the phase before
has saved, dynamic padding, `predict` per language. Rows, tokens, settings and metrics are those of the study file, read
by sweep's own readers, so both sides read the same data and mean the same scores. Each trial reports the FLOPs that its
forward passes were fed, by the same formula as ours.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from sweep.config.load import load
from sweep.config.phases import PhaseSettings
from sweep.config.study import Study
from sweep.data import Row
from sweep.data.encoded import Encoded, from_sequences
from sweep.models.cpu_kernels import use_cpu_kernels
from sweep.models.registry import shape_of
from sweep.plan.cost import TRAINING, forward_flops, masked_head_flops
from sweep.tasks.describe import own_task
from sweep.tasks.table import TASKS
from sweep.tasks.task import Task
from sweep.train.data import SAMPLE_SEED, Mixture, Stream
from sweep.train.loop import FitSettings, rate

MASKED_SHARE = 0.15
SCORED_AT_ONCE = 64  # sequences


@dataclass(frozen=True)
class Data:
    """Rows of one split in one language, some of them, with their encoding."""

    task: Task
    language: str
    rows: list[Row]
    encoded: Encoded

    def examples(self) -> list[dict[str, Any]]:
        """Examples as Trainer takes them: a mapping per sequence."""
        tokens = np.split(self.encoded.tokens, self.encoded.bounds[1:-1])
        targets = np.split(self.encoded.targets, self.encoded.target_bounds[1:-1])
        return [
            {"input_ids": ids.tolist(), "attention_mask": [1] * len(ids), **labels(self.task, target.tolist())}
            for ids, target in zip(tokens, targets, strict=True)
        ]

    def value(self, outputs: list[Any]) -> float:
        """The task's metric, of one array per sequence."""
        family = self.task.family
        predictions = family.predict(outputs, self.encoded, self.rows, self.task.labels)
        return float(family.value(family.judge(predictions, self.rows, self.task, self.language).sum(axis=0)))


@dataclass(frozen=True, eq=False)
class Recipe:
    """The study file as a chain reads it, and the tokenizer of its encoder."""

    study: Study
    tokenizer: Any

    def settings(self, phase: str, task: str) -> PhaseSettings:
        """Settings of a phase on one task."""
        section: Any = getattr(self.study, phase)
        settings: PhaseSettings = section.of((task,))
        return settings

    def task(self, name: str) -> Task:
        """The task of a name: described in the study, or embedded."""
        if name not in self.study.tasks:
            return TASKS[name]
        return own_task(name, self.study.tasks[name], self.study.data_folder, f"tasks.{name}")

    def dev_data(self, phase: str, task: Task) -> Data:
        """Dev rows of a task in its training language, those that ours takes."""
        language, settings = task.trained_in[0], self.settings(phase, task.name)
        rows = drawn(task.source.rows("dev", language), settings.dev_examples, SAMPLE_SEED)
        return self.encode(task, language, rows, settings.max_length)

    def test_data(self, task: Task, language: str) -> Data:
        """Test rows of a target in a language, those that ours takes."""
        rows = drawn(task.source.rows("test", language), self.study.scoring.examples, SAMPLE_SEED)
        return self.encode(task, language, rows, self.settings("target", task.name).max_length)

    def training_data(self, phase: str, task: Task, examples: int | None, seed: int) -> Data:
        """All training rows of a task, or so many of them, those that ours draws from the seed."""
        rows = [row for language in task.trained_in for row in task.source.rows("train", language)]
        length = self.settings(phase, task.name).max_length
        return self.encode(task, task.trained_in[0], drawn(rows, examples, seed), length)

    def encode(self, task: Task, language: str, rows: list[Row], length: int | None) -> Data:
        """Rows with their token sequences and targets."""
        family = task.family
        longest = min(length or family.default_max_length, self.tokenizer.model_max_length)
        return Data(task, language, rows, from_sequences(family.encode(rows, self.tokenizer, longest)))


def drawn(rows: list[Row], count: int | None, seed: int) -> list[Row]:
    """So many rows, drawn as sweep.train.data draws them, in their order."""
    if count is None or count >= len(rows):
        return list(rows)
    order = np.random.Generator(np.random.PCG64([seed, len(rows)])).permutation(len(rows))
    return [rows[index] for index in np.sort(order[:count])]


def trial(config: dict[str, Any]) -> None:
    """One chain: load, train on the intermediate task, train on the target, score every language."""
    import torch
    import transformers
    from ray import tune

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    config, begun, clock = config["chain"], time.time(), Clock()
    weights = config["encoder"]
    recipe = Recipe(load(Path(config["study"])), transformers.AutoTokenizer.from_pretrained(weights))
    with tempfile.TemporaryDirectory() as folder:
        if config["intermediate"]:
            task = recipe.task(config["intermediate"])
            data = clock.timed("data", recipe.training_data, "intermediate", task, config["volume"], config["seed"])
            dev = clock.timed("data", recipe.dev_data, "intermediate", task)
            trainer = trained(weights, data, dev, recipe, "intermediate", config["seed"], clock)
            trainer.model.base_model.save_pretrained(folder)
            weights = folder
        task = recipe.task(config["target"])
        settings = recipe.settings("target", task.name)
        data = clock.timed("data", recipe.training_data, "target", task, settings.examples, config["seed"])
        dev = clock.timed("data", recipe.dev_data, "target", task)
        trainer = trained(weights, data, dev, recipe, "target", config["seed"], clock)
    scores = {}
    for language in task.languages:
        test = clock.timed("data", recipe.test_data, task, language)
        scores[language] = clock.timed("score", score, trainer, test)
    tune.report({"scores": scores, "begun": begun, "ended": time.time(), **clock.told()})


class Clock:
    """FLOPs and seconds of a process, by what they went to."""

    def __init__(self) -> None:
        self.flops, self.parts = 0.0, dict[str, float]()

    def timed(self, part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Result of `work`, whose seconds go to a part."""
        begun = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - begun

    def told(self) -> dict[str, Any]:
        """All of it, for a result."""
        return {"flops": self.flops, "parts": self.parts}


def trained(  # noqa: PLR0917
    weights: str, data: Data, dev: Data, recipe: Recipe, phase: str, seed: int, clock: Clock, *, kernels: bool = False,
    **options: Any,
) -> Any:  # fmt: skip
    """A Trainer that has trained a fresh head on an encoder and looked at dev once.

    With `kernels` it has our linear layers and dropout; `options` are further arguments of a Trainer.

    It makes as many steps as our batches of `batch_tokens` would be, at our learning rates: Trainer's own schedule
    begins with a step at rate zero, which counts where a phase has twenty.
    """
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import set_seed

    task, settings = data.task, recipe.settings(phase, data.task.name)
    set_seed(seed)
    pooling = recipe.study.encoders[recipe.study.axes.encoder[0]].pooling
    model = clock.timed("load", load_model, weights, task, pooling, settings.dropout)
    if kernels:
        use_cpu_kernels(model)
    count_flops(model, task, clock)
    batch_tokens, epochs = int(float(settings.batch_tokens)), float(settings.epochs or 1)
    steps = Mixture((Stream(task.name, data.encoded),), batch_tokens, seed).steps_for(1)
    trainer = _trainer(model, data, recipe, settings, seed, math.ceil(len(data.encoded.example) / steps), options)
    optimizer = trainer.create_optimizer()
    whole = FitSettings(learning_rate=1.0, steps=round(steps * epochs), seed=seed, warmup=0.1)
    trainer.lr_scheduler = LambdaLR(optimizer, lambda done: rate(done + 1, whole))
    clock.timed("train", trainer.train)
    if task.family.name == "masked":
        clock.timed("dev", trainer.evaluate, dev.examples())
    else:
        clock.timed("dev", score, trainer, dev)
    return trainer


def _trainer(  # noqa: PLR0917
    model: Any, data: Data, recipe: Recipe, settings: PhaseSettings, seed: int, batch: int, options: Mapping[str, Any]
) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    gpu = torch.cuda.is_available()  # Ray shows a trial the GPUs that it has
    arguments = TrainingArguments(
        tempfile.gettempdir(), use_cpu=not gpu, bf16=gpu, report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=seed, learning_rate=float(settings.learning_rate), weight_decay=0.01,
        num_train_epochs=float(settings.epochs or 1), max_grad_norm=1.0, dataloader_pin_memory=gpu,
        per_device_train_batch_size=batch, per_device_eval_batch_size=SCORED_AT_ONCE, **options,
    )  # fmt: skip
    collate = collator(data.task, recipe.tokenizer)
    return Trainer(model, arguments, train_dataset=data.examples(), data_collator=collate)


def load_model(weights: str, task: Task, pooling: str | None, dropout: float | None) -> Any:
    """The usual class of the task's family, or a linear layer on the mean of the tokens; its head is new."""
    import transformers

    changes: dict[str, Any] = {}
    if dropout is not None:
        changes = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if task.family.name == "masked":
        return transformers.AutoModelForMaskedLM.from_pretrained(weights, **changes)
    if task.family.name == "span":
        return transformers.AutoModelForQuestionAnswering.from_pretrained(weights, num_labels=2, **changes)
    changes["num_labels"] = len(task.labels)
    if task.family.name == "token":
        return transformers.AutoModelForTokenClassification.from_pretrained(weights, **changes)
    if pooling == "mean":
        return mean_classifier(weights, changes)
    return transformers.AutoModelForSequenceClassification.from_pretrained(weights, **changes)


def mean_classifier(weights: str, changes: dict[str, Any]) -> Any:
    """A classifier on the mean of an encoder's last hidden states, as sentence encoders are read."""
    import torch
    import transformers
    from torch import nn

    class MeanClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_model = transformers.AutoModel.from_pretrained(weights, **changes, add_pooling_layer=False)
            self.config = self.base_model.config
            self.dropout = nn.Dropout(self.config.hidden_dropout_prob)
            self.classifier = nn.Linear(self.config.hidden_size, self.config.num_labels)
            nn.init.normal_(self.classifier.weight, std=self.config.initializer_range)
            nn.init.zeros_(self.classifier.bias)

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> dict[str, Any]:
            hidden = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            real = attention_mask[:, :, None].to(hidden.dtype)
            logits = self.classifier(self.dropout((hidden * real).sum(dim=1) / real.sum(dim=1)))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    return MeanClassifier()


def collator(task: Task, tokenizer: Any) -> Any:
    """Pads to the longest of a batch."""
    import transformers

    if task.family.name == "masked":
        return transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE)
    if task.family.name == "token":
        return transformers.DataCollatorForTokenClassification(tokenizer)
    return transformers.DataCollatorWithPadding(tokenizer)


def labels(task: Task, target: list[int]) -> dict[str, Any]:
    """What the task's model calls its targets; a masked model's come from the collator."""
    if task.family.name == "masked":
        return {}
    if task.family.name == "span":
        return {"start_positions": target[0], "end_positions": target[1]}
    return {"labels": target if task.family.name == "token" else target[0]}


def score(trainer: Any, data: Data) -> float:
    """The task's metric on one language's rows."""
    return data.value(outputs(trainer.predict(data.examples()).predictions, data.task, data.encoded.lengths()))


def outputs(found: Any, task: Task, lengths: Any) -> list[Any]:
    """One array per sequence, of so many tokens, from what `predict` gives."""
    if task.family.name == "span":
        found = np.stack(found, axis=-1)
    elif task.family.name == "token" and np.ndim(found) == 3:
        found = found.argmax(axis=-1)
    return list(found) if task.family.name == "sequence" else [one[:n] for one, n in zip(found, lengths, strict=True)]


def count_flops(model: Any, task: Task, clock: Clock) -> None:
    """Adds what every forward pass (and its backward pass) costs to a clock."""
    shape = shape_of(model.config.to_dict(), "the baseline's encoder")

    def before(module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        tokens, length = named["input_ids"].numel(), named["input_ids"].shape[1]
        flops = forward_flops(shape, tokens, tokens * length, 1)
        if task.family.name == "masked":  # its head reads every token, not the masked ones alone
            flops += masked_head_flops(shape, tokens / MASKED_SHARE)
        clock.flops += (TRAINING if module.training else 1) * flops

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
    results = [grid[index] for index in range(len(grid))]
    told = [(result.config or {}, result.metrics or {}) for result in results]
    kept = ("scores", "flops", "begun", "ended", "parts")
    trials = [{"chain": config["chain"], **{name: metrics[name] for name in kept}} for config, metrics in told]
    found = {"blocks": [{"begun": begun, "trials": trials, "of": "chains"}]}
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
