"""Where the time of scoring a UDPOS-like target in many languages goes, and what a plain evaluation loop takes.

    python benchmarks/score.py [--languages 30] [--layers 12] [--hidden 768] [--threads 2] [--examples 1000] ...

Sentences have UDPOS's shape (lognormal, mean near 25 tokens) and languages its uneven sizes: the smallest has 47
sentences, as Marathi. The encoder is that of XLM-R base with a vocabulary of 8,000; on a slow machine take a smaller
one, its shape is printed. Four measurements:

    merged      score() as a chain runs it: one length-sorted stream over all languages
    one by one  the same batches budget, language after language, in the order of the data, padded to the longest of a
                batch: what merging and sorting save
    Trainer     transformers.Trainer.evaluate() per language with dynamic padding, a tag per word as the metric asks for
                it, torch's own layers. Batches of --batch and of 8, which is Trainer's default
    judging     predict and judge, which turn outputs into chunk counts

With --encoder FOLDER that encoder is scored, on the same ids: merged with the embeddings that the sentences read, as
chains do it, and with its whole vocabulary. --pad-to pads Trainer's batches to a fixed length, as XTREME's scripts do
(128). Turns go round --pairs times. Medians of the ratios are by the clock and in processor seconds, which depend less
on what else runs. The share of the forward pass is the time inside the model's outputs; the rest is batches, copies and
Python. Needs accelerate, as Trainer does.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from shapes import xlm_r
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.data import IGNORED, Row
from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.batches import Batch, DeviceData
from sweep.models.cpu_kernels import BitDropout, OneDnnLinear
from sweep.models.encoders import load_encoder, random_encoder
from sweep.models.heads import LinearHead
from sweep.models.model import MultiTaskModel, Precision
from sweep.models.vocabulary import Rows, hold, tokens_in, union
from sweep.tasks import FAMILIES
from sweep.tasks.catalog.hub import UPOS
from sweep.tasks.synthetic import EmbeddedSource
from sweep.tasks.task import HeadSpec, Outputs, Task
from sweep.train.score import score

TASK, PAD, CLS, SEP, WORDS, VOCABULARY = "udpos", 0, 2, 3, 5, 8000
SMALLEST = 47


class Timed(MultiTaskModel):
    """A model that knows how long its forward passes took."""

    forward_seconds = 0.0

    def outputs(self, batch: Batch, task: str) -> Outputs:
        begin = time.perf_counter()
        found = super().outputs(batch, task)  # ends on the host: the device has finished
        self.forward_seconds += time.perf_counter() - begin
        return found


def main() -> None:
    """Run and print."""
    measure(parsed())


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Runs and prints; returns sentences per second by side, and the shares of the model and of judging in merged."""
    torch.set_num_threads(arguments.threads)
    data = dict(_languages(arguments))
    encoded = {language: one for language, (one, _) in data.items()}
    whole = _model(arguments)
    model = _in_use(whole, encoded) if arguments.encoder else whole
    sentences, tokens = (
        sum(found) for found in zip(*((e.examples, len(e.tokens)) for e in encoded.values()), strict=True)
    )
    where = torch.cuda.get_device_name() if model.device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"{where}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{whole.encoder.config.num_hidden_layers} layers x {whole.encoder.config.hidden_size}, {arguments.precision}"
    )
    print(f"{len(data)} languages, {sentences} sentences, {tokens / sentences:.1f} tokens each")
    _score(model, {"warm": next(iter(encoded.values()))}, arguments)
    model.forward_seconds = 0.0
    begin = time.perf_counter()
    outputs = _score(model, encoded, arguments)
    merged, forward = time.perf_counter() - begin, model.forward_seconds
    print(f"merged:     {sentences / merged:7.1f} sentences/s, {100 * forward / merged:.1f}% of the time in the model")
    rates = _compare(model, whole, encoded, sentences, arguments)
    begin = time.perf_counter()
    task = Task(TASK, FAMILIES["token"], EmbeddedSource("pos"), tuple(data), labels=tuple(UPOS))
    for language, (one, rows) in data.items():
        predictions = FAMILIES["token"].predict(outputs[language], one, rows, task.labels)
        FAMILIES["token"].judge(predictions, rows, task, language)
    judging = time.perf_counter() - begin
    print(f"judging:    {sentences / judging:7.0f} sentences/s, {100 * judging / (merged + judging):.2f}% of all")
    return rates | {"share in the model": forward / merged, "share of judging": judging / (merged + judging)}


def _compare(
    model: Timed, whole: Timed, encoded: dict[str, Encoded], sentences: int, arguments: argparse.Namespace
) -> dict[str, float]:
    """Sentences per second of all sides, in turns, so that a busy machine disturbs all of them."""
    trainer = _with_torchs_layers(whole, arguments.precision)
    sides: dict[str, Callable[[], object]] = {
        "merged": lambda: _score(model, encoded, arguments),
        **({"all words": lambda: _score(whole, encoded, arguments)} if whole is not model else {}),
        "one by one": partial(_plainly, model, encoded, arguments.batch, arguments.precision),
        f"Trainer {arguments.batch}": partial(_evaluate, trainer, encoded, arguments.batch, arguments.pad_to),
        "Trainer 8": partial(_evaluate, trainer, encoded, 8, arguments.pad_to),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(arguments.pairs):
        for name, side in sides.items():
            begin = time.perf_counter(), time.process_time()
            side()
            taken[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    clocks = ("second", "processor second")
    own = dict(zip(clocks, zip(*taken["merged"], strict=True), strict=True))
    for name, found in taken.items():
        for clock, spent in zip(clocks, zip(*found, strict=True), strict=True):
            ratios = sorted(theirs / ours for ours, theirs in zip(own[clock], spent, strict=True))
            print(f"{name:11} {sentences / np.median(spent):7.1f} sentences per {clock}; "
                  f"merged is {np.median(ratios):.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip
    return {name: sentences / float(np.median([wall for wall, _ in found])) for name, found in taken.items()}


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of a command line, by default that of this process."""
    parser = argparse.ArgumentParser(description="where the time of scoring many languages goes")
    sizes = {"languages": 30, "examples": 1000, "layers": 12, "hidden": 768, "threads": 2, "batch": 32, "pairs": 3}
    for name, default in (sizes | {"batch-tokens": 16384}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    usual = "bf16" if torch.cuda.is_available() else "fp32"  # as chains run
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=usual)
    parser.add_argument("--encoder", type=Path, help="folder of a pretrained encoder, in place of a random one")
    parser.add_argument("--pad-to", type=int, default=0, help="tokens; 0: the longest of a batch")
    return parser.parse_args(words)


def _model(arguments: argparse.Namespace) -> Timed:
    if arguments.encoder:
        encoder = load_encoder(str(arguments.encoder))
    else:
        shape = xlm_r(arguments.layers, arguments.hidden, arguments.hidden // 64)
        encoder = random_encoder(shape, VOCABULARY, PAD, seed=0)
    model = Timed(encoder, {TASK: HeadSpec("token", len(UPOS))}, seed=0, pad_id=PAD)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _in_use(whole: Timed, encoded: dict[str, Encoded]) -> Timed:
    """A copy that holds the embeddings of its texts alone."""
    model = copy.deepcopy(whole)
    hold(model.encoder, Rows(union(tokens_in(encoded.values()), np.array([PAD]))))
    return model


def _languages(arguments: argparse.Namespace) -> Iterator[tuple[str, tuple[Encoded, list[Row]]]]:
    """Encoded sentences and their rows; a quarter of the languages is far smaller than the others."""
    draw = np.random.default_rng(0)
    for number in range(arguments.languages):
        count = SMALLEST if number % 4 == 3 else arguments.examples
        rows, sequences = [], []
        for example in range(count):
            words = int(np.clip(draw.lognormal(2.6, 0.6), 1, 60))
            pieces = draw.integers(1, 3, size=words)
            tags = draw.integers(len(UPOS), size=words)
            targets = np.full(int(pieces.sum()), IGNORED)
            targets[np.cumsum(pieces) - pieces] = tags
            ids = draw.integers(WORDS, VOCABULARY, size=len(targets))
            sequences.append(EncodedSequence([CLS, *ids.tolist(), SEP], example, [IGNORED, *targets.tolist(), IGNORED]))
            rows.append({"words": ["w"] * words, "tags": tags.tolist()})
        yield f"l{number}", (from_sequences(sequences), rows)


def _score(model: Timed, encoded: dict[str, Encoded], arguments: argparse.Namespace) -> dict[str, Outputs]:
    *_, last = score(model, encoded, TASK, batch_tokens=arguments.batch_tokens, precision=arguments.precision)
    assert last.outputs is not None
    return last.outputs[0]


def _plainly(model: Timed, encoded: dict[str, Encoded], batch: int, precision: Precision) -> None:
    """Language after language, batches in the order of the data."""
    model.eval()
    for one in encoded.values():
        data = DeviceData(one, model.device, PAD)
        with torch.inference_mode(), model.autocast(precision):
            for first in range(0, one.examples, batch):
                model.outputs(data.batch(np.arange(first, min(first + batch, one.examples))), TASK)


class _Evaluable(nn.Module):
    """The same model as Trainer calls it."""

    def __init__(self, model: MultiTaskModel, precision: Precision) -> None:
        super().__init__()
        self.model, self.precision = model, precision

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        lengths = np.full(len(input_ids), input_ids.shape[1])
        batch = Batch(input_ids, attention_mask.bool(), None, labels, lengths, np.arange(len(input_ids) + 1))
        with self.model.autocast(self.precision):
            hidden = self.model.hidden(batch)
            head = self.model.head(TASK)
            assert isinstance(head, LinearHead)
            return {"loss": head.loss(hidden, batch) / len(labels), "logits": head(hidden)}


def _with_torchs_layers(model: MultiTaskModel, precision: Precision) -> _Evaluable:
    """A copy of the model as Trainer's users have it."""
    plain = copy.deepcopy(model)
    layers: list[Any] = [layer for layer in plain.modules() if isinstance(layer, OneDnnLinear | BitDropout)]
    for layer in layers:
        layer.__class__ = nn.Linear if isinstance(layer, OneDnnLinear) else nn.Dropout
    return _Evaluable(plain, precision)


def _evaluate(model: _Evaluable, encoded: dict[str, Encoded], batch: int, pad_to: int) -> None:
    """Trainer.evaluate() language by language."""
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder, use_cpu=not torch.cuda.is_available(), report_to="none", disable_tqdm=True,
            per_device_eval_batch_size=batch, dataloader_pin_memory=False, remove_unused_columns=False,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model, settings, data_collator=partial(_padded, pad_to=pad_to), compute_metrics=_accuracy,
            preprocess_logits_for_metrics=_tags,
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        for one in encoded.values():
            trainer.evaluate(_rows(one))


def _rows(encoded: Encoded) -> Any:
    """Examples as Trainer takes them: a mapping per sequence."""
    tokens = np.split(encoded.tokens, encoded.bounds[1:-1])
    targets = np.split(encoded.targets, encoded.target_bounds[1:-1])
    return [{"input_ids": a, "labels": b} for a, b in zip(tokens, targets, strict=True)]


def _padded(rows: list[dict[str, Any]], pad_to: int) -> dict[str, Tensor]:
    shape = len(rows), pad_to or max(len(row["input_ids"]) for row in rows)
    ids, labels, mask = torch.full(shape, PAD), torch.full(shape, IGNORED), torch.zeros(shape, dtype=torch.long)
    for place, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[place, :length], labels[place, :length] = (
            torch.from_numpy(row["input_ids"]),
            torch.from_numpy(row["labels"]),
        )
        mask[place, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _tags(logits: Tensor, _labels: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def _accuracy(found: Any) -> dict[str, float]:
    shown = found.label_ids != IGNORED
    return {"accuracy": float((found.predictions == found.label_ids)[shown].mean())}


if __name__ == "__main__":
    main()
