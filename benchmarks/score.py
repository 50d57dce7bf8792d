"""Where the time of scoring a UDPOS-like target in many languages goes, and what merging the languages saves.

    python benchmarks/score.py [--languages 30] [--layers 12] [--hidden 768] [--threads 2] [--examples 1000] ...

Sentences have UDPOS's shape (lognormal, mean near 25 tokens) and languages its uneven sizes: the smallest has 47
sentences, as Marathi. The encoder is that of XLM-R base with a vocabulary of 8,000; on a slow machine take a smaller
one, its shape is printed. Three measurements:

    merged      score() as a chain runs it: one length-sorted stream over all languages
    one by one  the same batches budget, language after language, in the order of the data, padded to the longest of a
                batch: what an evaluation loop does
    judging     predict and judge, which turn outputs into chunk counts

The share of the forward pass is the time inside the model's outputs; the rest is batches, copies and Python.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.tasks import FAMILIES
from sweep.tasks.base import IGNORED, Encoded, EncodedSequence, Outputs, Row, Task
from sweep.tasks.encoding import from_sequences
from sweep.tasks.synthetic import EmbeddedSource
from sweep.tasks.targets import UPOS
from sweep.training.batching import Batch, DeviceData
from sweep.training.encoders import random_encoder
from sweep.training.heads import HeadSpec
from sweep.training.model import Chainable
from sweep.training.scoring import score

TASK, PAD, CLS, SEP, WORDS, VOCABULARY = "udpos", 0, 2, 3, 5, 8000
SMALLEST = 47


class Timed(Chainable):
    """A model that knows how long its forward passes took."""

    forward_seconds = 0.0

    def outputs(self, batch: Batch, task: str) -> Outputs:
        begin = time.perf_counter()
        found = super().outputs(batch, task)  # ends on the host: the device has finished
        self.forward_seconds += time.perf_counter() - begin
        return found


def main() -> None:
    """Run and print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    model = _model(arguments)
    data = dict(_languages(arguments))
    encoded = {language: one for language, (one, _) in data.items()}
    sentences, tokens = (
        sum(found) for found in zip(*((e.examples, len(e.tokens)) for e in encoded.values()), strict=True)
    )
    where = torch.cuda.get_device_name() if model.device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"{where}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{arguments.layers} layers x {arguments.hidden}"
    )
    print(f"{len(data)} languages, {sentences} sentences, {tokens / sentences:.1f} tokens each")
    _score(model, {"warm": next(iter(encoded.values()))}, arguments)
    model.forward_seconds = 0.0
    begin = time.perf_counter()
    outputs = _score(model, encoded, arguments)
    merged, forward = time.perf_counter() - begin, model.forward_seconds
    print(f"merged:     {sentences / merged:7.1f} sentences/s, {100 * forward / merged:.1f}% of the time in the model")
    begin = time.perf_counter()
    for one in encoded.values():
        _plainly(model, one, arguments.batch)
    apart = time.perf_counter() - begin
    print(f"one by one: {sentences / apart:7.1f} sentences/s, batches of {arguments.batch}: "
          f"merged is {apart / merged:.2f} times as fast")  # fmt: skip
    begin = time.perf_counter()
    task = Task(TASK, "token", EmbeddedSource("pos"), tuple(data), labels=tuple(UPOS))
    for language, (one, rows) in data.items():
        predictions = FAMILIES["token"].predict(outputs[language], one, rows, task.labels)
        FAMILIES["token"].judge(predictions, rows, task, language)
    judging = time.perf_counter() - begin
    print(f"judging:    {sentences / judging:7.0f} sentences/s, {100 * judging / (merged + judging):.2f}% of all")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="where the time of scoring many languages goes")
    sizes = {"languages": 30, "examples": 1000, "layers": 12, "hidden": 768, "threads": 2, "batch": 32}
    for name, default in (sizes | {"batch-tokens": 16384}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def _model(arguments: argparse.Namespace) -> Timed:
    shape = {
        "model_type": "xlm-roberta",
        "hidden_size": arguments.hidden,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": arguments.hidden // 64,
        "intermediate_size": 4 * arguments.hidden,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
    }
    encoder = random_encoder(shape, VOCABULARY, PAD, seed=0)
    model = Timed(encoder, {TASK: HeadSpec("token", len(UPOS))}, seed=0, pad_id=PAD)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


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
    *_, last = score(model, encoded, TASK, batch_tokens=arguments.batch_tokens, precision="bf16")
    assert last.outputs is not None
    return last.outputs[0]


def _plainly(model: Timed, encoded: Encoded, batch: int) -> None:
    """Batches in the order of the data."""
    model.eval()
    data = DeviceData(encoded, model.device, PAD)
    with torch.inference_mode(), model.autocast("bf16"):
        for first in range(0, encoded.examples, batch):
            model.outputs(data.batch(np.arange(first, min(first + batch, encoded.examples))), TASK)


if __name__ == "__main__":
    main()
