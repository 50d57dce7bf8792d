"""fit() against transformers.Trainer: real tokens per second, and what the same examples taught.

    python benchmarks/fit.py [--threads 2] [--pairs 3] [--layers 6] [--hidden 384] ...
    python benchmarks/fit.py --pad-to 128                    (Trainer pads as XTREME's scripts do; else dynamically)
    python benchmarks/fit.py --shape base --examples 20000   (XLM-R's shape; on a GPU in bf16, both sides)
    python benchmarks/fit.py --data train.tsv dev.tsv        (real text: columns sentence1, sentence2, gold_label)
    python benchmarks/fit.py --encoder FOLDER --data train.tsv dev.tsv   (a pretrained encoder, with its own words)

Both train the same model class from the same weights on the same examples, with as many examples per step on average,
the same optimizer, rate, schedule and clipping; they run in turns (ours, theirs, ours, ...) in one process, so that a
busy machine disturbs both, and processor seconds are printed beside the clock's (with --threads 1 they hardly depend on
what else runs). Trainer gets torch's own linear layers and dropout, as its users have them; with --same-kernels it
gets ours, which shows what batching and the loop alone do. A pretrained encoder, or one of XLM-R's shape, is trained by
fit() twice, with the embeddings that the text reads, as chains do it, and with its whole vocabulary. Without --data
text is synthetic, lengths as in sentence classification (lognormal, mean near 30 tokens, at most 128), and classes
differ in word frequencies. --flatten adds Trainer as its experts set it up on a GPU: DataCollatorWithFlattening and
flash attention, so no padding at all; it needs the package flash_attn. At the end stands the share of the device's rate
at multiplying large matrices, measured here, that fit() reaches, by the FLOPs that plans count. Needs accelerate, as
Trainer does.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from shapes import SIZES, VOCABULARY, random_model, xlm_r
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.batches import Batch
from sweep.models.cpu_kernels import BitDropout, OneDnnLinear, one_dnn_linear, one_dnn_works
from sweep.models.encoders import load_configuration, load_encoder
from sweep.models.model import MultiTaskModel
from sweep.models.registry import shape_of
from sweep.models.tokenizers import load_tokenizer, train_tokenizer
from sweep.models.vocabulary import Rows, hold, tokens_in, union
from sweep.plan.cost import TRAINING, forward_flops
from sweep.tasks import FAMILIES
from sweep.tasks.task import HeadSpec
from sweep.train.data import Mixture, Stream, subset
from sweep.train.loop import FitSettings, fit
from sweep.train.score import score_all

CLASSES, PAD, CLS, SEP, WORDS = 3, 0, 2, 3, 5
TASK = "topic"
GPU = torch.cuda.is_available()


@dataclass(frozen=True)
class Run:
    """One side's training of one turn."""

    tokens: int  # real ones, padding left out
    seconds: float
    processor_seconds: float
    loss: float  # on dev, cross-entropy
    accuracy: float
    flops: float = 0.0  # padding included; ours alone
    peak_bytes: int = 0  # of the GPU, allocated at once
    steps: int = 0


OURS, WHOLE, TRAINER, FLAT = "fit()", "fit(), whole vocabulary", "Trainer", "flat"
Turn = dict[str, Run]  # by side


def main() -> None:
    """Run the sides in turns and print the ratios."""
    arguments = parsed()
    turns = []
    for turn in measured(arguments):
        turns.append(turn)
        for name, run in turn.items():
            print(f"  {len(turns)} {name:24} {run.tokens / run.seconds:7.0f} real tokens/s, "
                  f"{run.tokens / run.processor_seconds:7.0f} per processor second, "
                  f"dev loss {run.loss:.3f}, accuracy {run.accuracy:.3f}", flush=True)  # fmt: skip
    for name, clock in itertools.product([*turns[0]][1:], ("seconds", "processor_seconds")):
        ratios = sorted(getattr(turn[name], clock) / getattr(turn[OURS], clock) for turn in turns)
        span = f"median of {len(ratios)} turns, {ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"{name} takes {np.median(ratios):.2f} times the {clock.replace('_', ' ')} of fit() ({span})")
    reached, possible = max(turn[OURS].flops / turn[OURS].seconds for turn in turns), matrix_rate(arguments.precision)
    print(f"fit() reaches {reached / 1e9:,.0f} GFLOP/s, {100 * reached / possible:.0f}% of {possible / 1e9:,.0f} that"
          f" large matrices are multiplied at")  # fmt: skip


def measured(arguments: argparse.Namespace) -> Iterator[Turn]:
    """Every turn, as soon as it is over. Raises RuntimeError where a side cannot run here."""
    if arguments.flatten and (reason := no_flash_attention()):
        raise RuntimeError(reason)
    torch.set_num_threads(arguments.threads)
    quiet: Any = transformers.utils.logging
    quiet.set_verbosity_error()
    train, dev = _read(arguments) if arguments.data else (_draw(n, arguments) for n in (arguments.examples, 1000))
    model = _model(arguments)
    where = torch.cuda.get_device_name() if GPU else platform.processor() or platform.machine()
    print(
        f"{where}, {arguments.threads} threads, {arguments.precision}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    print(f"Trainer pads to {arguments.pad_to or 'the longest of a batch'}")
    print(f"{arguments.layers} layers x {arguments.hidden}, {train.examples} examples x {arguments.epochs}, "
          f"{len(train.tokens) / train.examples:.1f} tokens each, {arguments.batch} examples per step")  # fmt: skip
    sides: dict[str, Callable[..., Run]] = {OURS: _ours, TRAINER: _theirs}
    if arguments.encoder or arguments.shape:
        sides = {OURS: _in_use, WHOLE: _ours, TRAINER: _theirs}
    if arguments.flatten:
        sides[FLAT] = partial(_theirs, flat=True)
    some = subset(train, np.arange(min(8 * arguments.batch, train.examples)))
    for side in sides.values():
        side(copy.deepcopy(model), some, dev, arguments)  # the first steps allocate
    for _ in range(arguments.pairs):
        yield {name: side(copy.deepcopy(model), train, dev, arguments) for name, side in sides.items()}


def no_flash_attention() -> str:
    """Reason why attention over flattened batches cannot run here; empty where it can."""
    if not GPU:
        return "no GPU"
    return "" if find_spec("flash_attn") else "the package flash_attn is not installed"


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of a command line, by default that of this process."""
    parser = argparse.ArgumentParser(description="fit() against transformers.Trainer")
    sizes = {"threads": 2, "pairs": 3, "layers": 6, "hidden": 384, "vocabulary": 8000}
    for name, default in (sizes | {"examples": 3200, "epochs": 1, "batch": 32}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--same-kernels", action="store_true", help="give Trainer our linear layers too")
    parser.add_argument("--data", nargs=2, type=Path, metavar=("TRAIN", "DEV"), help="TSV files with a header")
    parser.add_argument("--encoder", type=Path, help="folder of a pretrained encoder, in place of a random one")
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--pad-to", type=int, help="tokens of Trainer's sequences; the longest of a batch where absent")
    parser.add_argument("--shape", choices=SIZES, help="XLM-R's kind, instead of --layers, --hidden and --vocabulary")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16" if GPU else "fp32")
    parser.add_argument("--flatten", action="store_true", help="a third side: Trainer without padding, by flash_attn")
    arguments = parser.parse_args(words)
    if arguments.shape:
        arguments.layers, arguments.hidden, _ = SIZES[arguments.shape]
        arguments.vocabulary = VOCABULARY
    if arguments.encoder:
        if not arguments.data:
            parser.error("--encoder needs --data: it is pretrained on text")
        shape = shape_of(load_configuration(str(arguments.encoder)).to_dict(), "the encoder")
        arguments.layers, arguments.hidden, arguments.vocabulary = shape.layers, shape.hidden, shape.vocabulary
    return arguments


def _read(arguments: argparse.Namespace) -> tuple[Encoded, Encoded]:
    """Sentence pairs of two files, with the encoder's tokenizer or one of their own."""
    files = []
    for path in arguments.data:
        with path.open(encoding="utf-8") as lines:
            files.append(list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[: arguments.examples])
    if arguments.encoder:
        tokenizer = load_tokenizer(str(arguments.encoder))
    else:
        tokenizer = train_tokenizer((row["sentence1"] for row in files[0]), arguments.vocabulary, "wordpiece")
    names = sorted({row["gold_label"] for row in files[0]})
    assert len(names) <= CLASSES, f"at most {CLASSES} labels"
    rows = [
        [{"text": r["sentence1"], "pair": r["sentence2"], "label": names.index(r["gold_label"])} for r in file]
        for file in files
    ]
    train, dev = (from_sequences(FAMILIES["sequence"].encode(part, tokenizer, 128)) for part in rows)
    return train, dev


def _draw(count: int, arguments: argparse.Namespace) -> Encoded:
    """Sequences whose label shows in one word of eight; those of the classes overlap."""
    draw = np.random.default_rng([7, count])

    def sequences() -> Iterator[EncodedSequence]:
        for example in range(count):
            length = int(np.clip(draw.lognormal(3.2, 0.65), 4, 126))
            label = int(draw.integers(CLASSES))
            words = draw.zipf(1.3, length) % (arguments.vocabulary - WORDS)
            marked = draw.random(length) < 1 / 8
            words[marked] = (draw.integers(0, 60, marked.sum()) + 30 * label) * 7
            yield EncodedSequence([CLS, *(words + WORDS).tolist(), SEP], example, [label])

    return from_sequences(sequences())


def _model(arguments: argparse.Namespace) -> MultiTaskModel:
    if arguments.encoder:
        pad = load_tokenizer(str(arguments.encoder)).pad_token_id
        model = MultiTaskModel(
            load_encoder(str(arguments.encoder)), {TASK: HeadSpec("text", CLASSES)}, seed=0, pad_id=pad
        )
        return model.to("cuda" if GPU else "cpu")
    bert = {
        "model_type": "bert", "hidden_size": arguments.hidden, "num_hidden_layers": arguments.layers,
        "num_attention_heads": max(arguments.hidden // 32, 1), "intermediate_size": 4 * arguments.hidden,
        "max_position_embeddings": 128,
    }  # fmt: skip
    config = xlm_r(*SIZES[arguments.shape]) if arguments.shape else bert
    return random_model(config, arguments.vocabulary, "cuda" if GPU else "cpu", PAD)


def matrix_rate(precision: str) -> float:
    """FLOP/s of the best of ten products of two square matrices, by the kernel that fit() uses."""
    size, kind = (8192, "cuda") if GPU else (2048, "cpu")
    one, other = torch.randn(2, size, size, device=kind, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    product, best = one_dnn_linear if one_dnn_works() else nn.functional.linear, 0.0
    for _ in range(10):
        begin = time.perf_counter()
        product(one, other, None)
        _wait()
        best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best


def _wait() -> None:
    if GPU:
        torch.cuda.synchronize()


def _forget_peak() -> None:
    if GPU:
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if GPU else 0


def _in_use(model: MultiTaskModel, train: Encoded, dev: Encoded, arguments: argparse.Namespace) -> Run:
    """fit() of a model that holds the embeddings of its texts alone, as chains do it."""
    hold(model.encoder, Rows(union(tokens_in([train, dev]), np.array([model.pad_id]))))
    return _ours(model, train, dev, arguments)


def _ours(model: MultiTaskModel, train: Encoded, dev: Encoded, arguments: argparse.Namespace) -> Run:
    batch_tokens = round(arguments.batch * len(train.tokens) / train.examples)
    mixture = Mixture((Stream(TASK, train),), batch_tokens, seed=1)
    steps = mixture.steps_for(arguments.epochs)
    settings = FitSettings(arguments.rate, steps, seed=1, precision=arguments.precision)
    _forget_peak()
    begin = time.perf_counter(), time.process_time()
    for progress in fit(model, mixture, settings):
        last = progress
    _wait()
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    assert abs(last.examples / (train.examples * arguments.epochs) - 1) < 0.05, "the same number of examples"
    shape = shape_of(model.encoder.config.to_dict(), "the encoder")
    flops = TRAINING * forward_flops(shape, last.padded_tokens, last.attended_tokens, steps)
    peak = _peak()
    return Run(last.tokens, *seconds, *_judge(model, dev), flops=flops, peak_bytes=peak, steps=steps)


class _Trainable(nn.Module):
    """The same model as Trainer calls it."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        lengths = np.full(len(input_ids), input_ids.shape[1])
        batch = Batch(input_ids, attention_mask.bool(), None, labels[:, None], lengths, np.arange(len(input_ids) + 1))
        return {"loss": self.model.loss(batch, TASK) / len(labels)}


class _Flat(nn.Module):
    """The same model over one row that holds all sequences of a batch, which flash attention keeps apart."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model
        model.encoder.set_attn_implementation("flash_attention_2" if GPU else "sdpa")

    def forward(self, input_ids: Tensor, position_ids: Tensor, labels: Tensor, **bounds: Any) -> dict[str, Tensor]:
        states = self.model.encoder(input_ids=input_ids, position_ids=position_ids, **bounds)
        hidden, ends = states.last_hidden_state[0].float(), bounds["cu_seq_lens_q"]
        lengths = ends.diff()
        owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(lengths, output_size=len(hidden))
        pooled = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden) / lengths[:, None]
        head: Any = self.model.head(TASK)
        return {"loss": head.criterion(head(pooled), labels) / len(labels)}


def _flattened(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of all sequences, and their labels, which the collator would take for those of tokens."""
    collator: Any = transformers.DataCollatorWithFlattening
    flatten = collator(return_flash_attn_kwargs=True, position_ids_start=PAD + 1)
    batch: dict[str, Any] = flatten([{"input_ids": row["input_ids"]} for row in rows])
    return batch | {"labels": torch.tensor([row["labels"] for row in rows])}


def _theirs(
    model: MultiTaskModel, train: Encoded, dev: Encoded, arguments: argparse.Namespace, *, flat: bool = False
) -> Run:
    if arguments.encoder:
        tokenizer: Any = load_tokenizer(str(arguments.encoder))
    else:
        tokenizer = train_tokenizer(["a word"], 100, "wordlevel")  # for its padding
    padding = {"padding": "max_length", "max_length": arguments.pad_to} if arguments.pad_to else {}
    collator: Any = _flattened if flat else transformers.DataCollatorWithPadding(tokenizer, **padding)
    rows: Any = [
        {"input_ids": train.tokens[a:b].tolist(), "labels": int(label)}
        for a, b, label in zip(train.bounds[:-1], train.bounds[1:], train.targets, strict=True)
    ]
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, OneDnnLinear | BitDropout)]
    for layer in [] if arguments.same_kernels else layers:
        layer.__class__ = nn.Linear if isinstance(layer, OneDnnLinear) else nn.Dropout
    steps = -(-len(rows) // arguments.batch) * arguments.epochs
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder, use_cpu=not GPU, bf16=arguments.precision == "bf16",
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            seed=1, per_device_train_batch_size=arguments.batch, num_train_epochs=arguments.epochs,
            dataloader_pin_memory=GPU, learning_rate=arguments.rate, warmup_steps=round(0.1 * steps),
            weight_decay=0.01, max_grad_norm=1.0, remove_unused_columns=False,
        )  # fmt: skip
        whole = _Flat(model) if flat else _Trainable(model)
        trainer = transformers.Trainer(whole, settings, data_collator=collator, train_dataset=rows)
        trainer.remove_callback(transformers.PrinterCallback)
        _forget_peak()
        begin = time.perf_counter(), time.process_time()
        trainer.train()
        _wait()
        seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    peak = _peak()
    if flat:
        model.encoder.set_attn_implementation("sdpa")  # dev is padded, as all sides'
    tokens = len(train.tokens) * arguments.epochs
    return Run(tokens, *seconds, *_judge(model, dev), peak_bytes=peak, steps=steps)


def _judge(model: MultiTaskModel, dev: Encoded) -> tuple[float, float]:
    """Cross-entropy and accuracy on dev."""
    logits = torch.from_numpy(np.stack(score_all(model, {"dev": dev}, TASK, batch_tokens=4096)["dev"]))
    labels = torch.from_numpy(dev.targets).long()
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return float(functional.cross_entropy(logits, labels)), float(accuracy)


if __name__ == "__main__":
    main()
