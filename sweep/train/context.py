"""Context of a running chain: plan, store, data, device, the models of its phases, and the meter of its costs.

Work reports events between its units, and the listener may raise what ends it there (sweep/heartbeat.py).
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from sweep.config.study import Runtime
from sweep.data.encoded import Encoded
from sweep.heartbeat import ACTIVITIES, ENCODE, LOAD, SCORE, WAIT, Heartbeat
from sweep.models.batches import limit_gpu_memory
from sweep.models.cpu_kernels import kernels_in_use
from sweep.models.encoders import (
    Weights,
    cpu_weights,
    load_encoder,
    load_parents_head,
    load_published_head,
    load_weights,
    random_encoder,
)
from sweep.models.heads import MaskedHead, head_class
from sweep.models.model import MultiTaskModel, Precision, has_bf16
from sweep.models.registry import EncoderSource, Shape
from sweep.models.tokenizers import Algorithm, load_tokenizer, train_tokenizer
from sweep.models.vocabulary import Rows, TokenIds, tokens_in, union
from sweep.plan.cost import TRAINING, forward_flops, masked_head_flops
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import TARGET, Chain, Phase
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.tasks.task import Outputs, Task
from sweep.train.data import Reader
from sweep.train.loop import State
from sweep.train.score import ScoreProgress
from sweep.train.weights import KEPT, CommitsBehind, memory_for_weights

LOADING = "loading the encoder"  # an activity in events


@dataclass(frozen=True)
class Event:
    """Report of a unit of work. Costs are those of this attempt so far."""

    phase: str  # kind of phase, or "score"
    key: str
    step: int
    steps: int
    flops: float
    device_seconds: float
    seconds: float = 0.0  # by the clock, since the attempt began
    loss: float | None = None
    dev: float | None = None  # dev score, 0..1, where the step was evaluated
    attempt: int = 0  # of the phase: a collapsed one is tried again
    collapsed: bool = False  # the committed phase has learned nothing
    committed: bool = False  # the phase or the scores are in the store now
    preparing: bool = False  # it loads, encodes, or waits for another worker: nothing is computed yet
    doing: str = ""  # its activity until the next event, where that may take long
    message: str = ""  # a line for the user
    waiting_for: str = ""  # the lock that it waits for now, and its holder
    waited: float = 0.0  # seconds that this attempt has waited for locks so far, which cost nothing
    facts: Facts = NO_FACTS


Texts: TypeAlias = Iterable[Encoded] | None  # all that a model is going to read; None: any text
Listener: TypeAlias = Callable[[Event], None]  # is called with every event; an exception of it ends the attempt


def ignore_events(_event: Event) -> None:
    """Listener of an attempt that nobody watches."""


@dataclass
class Meter(Heartbeat):
    """Meter of an attempt's FLOPs and device-seconds, reported to its listener with every unit of work.

    A GPU is charged by the clock, because nobody else can have it meanwhile. Cores are charged by processor time: a
    core that other programs keep busy would make the same work cost several times as much. Waiting for another
    worker's lock costs nothing.

    All of an attempt's time is of one activity: that of the innermost `during` block, LOAD outside of any. A GPU is not
    waited for to tell its work apart: what is queued when an activity ends, a step at most, is the next one's.
    """

    devices: float  # that the chain occupies: GPUs, or cores where it uses no GPU
    began: tuple[float, float]  # (time.time(), time.process_time())
    clocked: bool  # whether it is charged by the clock
    listener: Listener = ignore_events
    flops: float = 0
    waited: float = 0.0  # seconds
    phase: str = ""  # kind of the phase that is trained now, or "score"
    key: str = ""  # of that phase, or of the scores
    waiting_for: str = ""  # a lock, where it waits for one
    _activity: str = field(default=LOAD, init=False)
    _noted: tuple[float, float] = field(default=(0.0, 0.0), init=False)  # device-seconds and seconds that have a part
    _parts: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)  # activity -> the same, unrecorded
    _moved: list[tuple[str, str, float]] = field(default_factory=list, init=False)  # activity to activity, by threads

    @property
    def seconds(self) -> float:
        """Seconds by the clock since the attempt began."""
        return time.time() - self.began[0]

    @property
    def device_seconds(self) -> float:
        """Device-seconds since the attempt began: GPUs times seconds, or processor time."""
        if self.clocked:
            return (self.seconds - self.waited) * self.devices
        return time.process_time() - self.began[1]

    def enter(self, phase: str, key: str) -> None:
        """Begins a phase, or the scores: later events are about it."""
        self.phase, self.key = phase, key

    def beat(self, doing: str = "") -> None:
        """Reports that something was loaded or encoded, and what is done next: nothing is computed yet."""
        self.report(0, 0, preparing=True, doing=doing)

    def wait(self, reason: str, seconds: float) -> None:
        """Reports the lock that the attempt waits for, the first time also as a line for the user."""
        message, self.waiting_for = "" if self.waiting_for else reason, reason
        self.waited += seconds
        self._add(WAIT, 0.0, seconds)
        self._noted = self._noted[0], self._noted[1] + seconds
        self.report(0, 0, preparing=True, message=message, waiting_for=reason)

    def report(self, step: int, steps: int, **rest: Any) -> None:
        """Reports a step, with the costs so far; `rest` are further fields of the event."""
        costs = float(self.flops), self.device_seconds, self.seconds
        with self.during(WAIT):
            self.listener(Event(self.phase, self.key, step, steps, *costs, waited=self.waited, **rest))

    @contextmanager
    def during(self, activity: str) -> Iterator[None]:
        before = self._activity
        self._turn_to(activity)
        try:
            yield
        finally:
            self._turn_to(before)

    @contextmanager
    def beside(self, activity: str) -> Iterator[None]:
        """Processor time of the thread, where that is charged, is this activity's and not that of the work beside."""
        beside, began = self._activity, time.thread_time()
        try:
            yield
        finally:
            if not self.clocked:
                self._moved.append((beside, activity, time.thread_time() - began))

    @property
    def activities(self) -> dict[str, dict[str, float]]:
        """Activity -> device_seconds and seconds by the clock, of all that is in no record yet."""
        self._turn_to(self._activity)
        while self._moved:
            beside, activity, seconds = self._moved.pop()
            if self._parts.get(beside, (0.0, 0.0))[0] < seconds:  # the work turned to something else meanwhile
                beside = max(self._parts, key=lambda name: self._parts[name][0])
            self._add(beside, -seconds, 0.0)
            self._add(activity, seconds, 0.0)
        parts = ((name, self._parts[name]) for name in ACTIVITIES if name in self._parts)
        return {name: {"device_seconds": device, "seconds": clock} for name, (device, clock) in parts}

    def resume(self, activities: Mapping[str, Mapping[str, float]]) -> None:
        """Adds what earlier attempts at a phase have taken until its checkpoint."""
        for name, part in activities.items():
            self._add(name, part["device_seconds"], part["seconds"])

    def recorded(self) -> dict[str, Any]:
        """Fields of a record on its time: all since the last record, so that an attempt's records share its time."""
        activities = self.activities
        self._parts.clear()
        return {"activities": activities, "device_seconds": sum(part["device_seconds"] for part in activities.values())}

    def _turn_to(self, activity: str) -> None:
        now = self.device_seconds, self.seconds
        self._add(self._activity, now[0] - self._noted[0], now[1] - self._noted[1])
        self._noted, self._activity = now, activity

    def _add(self, activity: str, device_seconds: float, seconds: float) -> None:
        device, clock = self._parts.get(activity, (0.0, 0.0))
        self._parts[activity] = device + device_seconds, clock + seconds

    def scored(
        self,
        flops: float,
        scoring: Iterable[ScoreProgress],
        on_batch: Callable[[ScoreProgress], None],
        activity: str = SCORE,
    ) -> list[dict[str, Outputs]]:
        """Outputs of scoring by layer and language; its `flops` are charged batch by batch, before `on_batch`."""
        before, outputs = self.flops, list[dict[str, Outputs]]()
        with self.during(activity):
            for progress in scoring:
                self.flops = before + flops * progress.tokens / max(progress.total_tokens, 1)
                on_batch(progress)
                outputs = progress.outputs or outputs
        self.flops = before + flops  # to the last digit, however many batches there were
        return outputs


def step_flops(shape: Shape, padded: int, attended: int, masked: bool) -> float:
    """FLOPs of one optimizer step on a batch of so many padded tokens and attended pairs of tokens.

    `masked` adds those of the masked-token head. The formula is plan.cost's, held against torch's FLOP counter.
    """
    forward = forward_flops(shape, padded, attended, 1)
    return TRAINING * (forward + (masked_head_flops(shape, padded) if masked else 0))


def encoded_flops(shape: Shape, parts: Iterable[Encoded], batch_tokens: int) -> float:
    """FLOPs of one forward pass over all sequences of all parts, in batches of `batch_tokens`, padding left out."""
    lengths = np.concatenate([part.lengths() for part in parts])
    tokens = int(lengths.sum())
    return forward_flops(shape, tokens, int((lengths**2).sum()), -(-tokens // batch_tokens))


@dataclass(frozen=True)
class ChainContext:
    """Context of a running chain: all that its phases and scores share."""

    plan: Plan
    store: Store
    encoder: EncoderSource
    reader: Reader
    device: torch.device
    meter: Meter
    commits: CommitsBehind

    @property
    def runtime(self) -> Runtime:
        return self.plan.study.runtime

    def weights(self, key: str, file: str) -> Weights:
        """Weights of a finished phase: paths.ENCODER_WEIGHTS or HEAD_WEIGHTS. Raises StoreError.

        Those that are read are verified. Where this process has them in memory, nothing is read.
        """
        path = self.store.root / paths.PHASES / key / file
        tensors = self.commits.tensors(key, file)
        if tensors is None:
            digest = self.store.weight_digests(key)[file]
            tensors = KEPT.get(digest, lambda: Weights.read(self.store.weights(key) / file).tensors)
        return Weights(path, tensors)

    def published(self) -> Weights | None:
        """Weights of the published encoder; None of random ones. Raises StudyError."""
        location, revision = self.encoder.location, self.encoder.revision
        if location is None:
            return None
        tensors = KEPT.get(f"encoder {self.encoder.digest}", lambda: cpu_weights(load_encoder(location, revision)))
        return Weights(Path(location), tensors)

    def release(self, key: str) -> None:
        """Deletes the weights of a phase that nothing begins from and nobody will score."""
        for digest in self.store.weight_digests(key).values():
            KEPT.drop(digest)
        self.store.release(key)

    @property
    def precision(self) -> Precision:
        """Precision in use: bf16 if the study asks for it, or for `auto` on a GPU, and the device has it; else fp32."""
        setting, kind = self.runtime.precision, self.device.type
        prefers_bf16 = setting == "bf16" or (setting == "auto" and kind == "cuda")
        return "bf16" if prefers_bf16 and has_bf16(kind) else "fp32"

    @property
    def provenance(self) -> dict[str, Any]:
        """Fields of records that name precision, device, kernels and versions of libraries."""
        kind = self.device.type
        kernels = kernels_in_use(self.runtime.cpu_kernels, kind)
        return {
            "precision": self.precision, "device": _device_name(kind), "kernels": kernels, "versions": _versions()
        }  # fmt: skip


def set_up(
    chain: Chain,
    plan: Plan,
    store: Store,
    listener: Listener = ignore_events,
    began: tuple[float, float] | None = None,
    devices: float | None = None,
) -> ChainContext:
    """Context of a chain that occupies so many devices, by default those of the study; loads its tokenizer.

    `began` is (time.time(), time.process_time()) at the start of the attempt, by default now. Raises SweepError where
    the tokenizer cannot be loaded or trained.
    """
    runtime = plan.study.runtime
    began = began or (time.time(), time.process_time())
    KEPT.resize(memory_for_weights(runtime))
    commits = CommitsBehind(store, listener, KEPT)
    meter = Meter(devices or runtime.devices, began, clocked=runtime.gpus > 0, listener=commits.listen)
    torch.set_num_threads(runtime.cores)
    encoder = plan.encoders[chain.cell.encoder].of(chain.seed)
    device = torch.device("cuda" if runtime.gpus and torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        limit_gpu_memory(meter.devices)
    tokenizer = _tokenizer(plan, store, encoder, meter)
    meter.beat()
    reader = Reader(store, plan.rows, tokenizer, encoder.shape.max_length, meter)
    return ChainContext(plan, store, encoder, reader, device, meter, commits)


def model_to_train(
    context: ChainContext,
    tasks: Sequence[Task],
    phase: Phase,
    seed: int,
    texts: Texts = None,
    state: State | None = None,
) -> MultiTaskModel:
    """Model at the start of a phase: the parent's encoder with a new head per task, drawn from the attempt's seed.

    Masked heads alone are not new: they are the parent's, or those of the published encoder. It can read `texts`, and
    go on from a `state`. Raises SweepError where weights cannot be loaded.
    """
    parent = context.weights(phase.parent, paths.ENCODER_WEIGHTS) if phase.parent is not None else None
    found = (parent.tensors if parent is not None else None, state["tensors"] if state is not None else None)
    before = [Rows.of(tensors) for tensors in found if tensors is not None]
    rows = _rows_read(context, tasks, texts)
    if rows is not None:
        partial = [held.ids for held in before if held is not None]
        rows = union(rows, *partial) if len(partial) == len(before) else None
    model = _model(context, tasks, parent, seed, rows, phase.recipe.settings.dropout)
    for head in model.masked_heads:
        if phase.parent is not None:
            load_parents_head(head, context.weights(phase.parent, paths.HEAD_WEIGHTS))
        elif context.encoder.location is not None:
            _load_published_head(head.cpu(), context.encoder)
    return model.to(context.device)


def model_to_score(context: ChainContext, task: Task, last: Phase | None, texts: Texts = None) -> MultiTaskModel:
    """Model of a chain's last phase (None: the encoder alone), with its head where that is a target phase.

    It can read `texts`. The name of the task may differ from that of the head's.
    """
    weights = context.weights(last.key, paths.ENCODER_WEIGHTS) if last is not None else None
    model = _model(context, [task], weights, 0, _rows_read(context, [task], texts), shared=True)
    if last is not None and last.recipe.kind == TARGET:
        load_weights(model.heads, context.weights(last.key, paths.HEAD_WEIGHTS))
    return model


def model_with_heads(
    context: ChainContext, tasks: Sequence[Task], encoder: Phase, heads: Phase, texts: Texts = None
) -> MultiTaskModel:
    """Model of the encoder that one phase has trained and the heads that another one has, or the same.

    `tasks` are all tasks of the phase that trained the heads, in its order. It can read `texts`.
    """
    weights = context.weights(encoder.key, paths.ENCODER_WEIGHTS)
    model = _model(context, tasks, weights, 0, _rows_read(context, tasks, texts), shared=True)
    load_weights(model.heads, context.weights(heads.key, paths.HEAD_WEIGHTS))
    return model


def _rows_read(context: ChainContext, tasks: Sequence[Task], texts: Texts) -> TokenIds | None:
    """Embeddings that reading these texts takes; None: all."""
    heads = [head_class(task.family.head(task.labels)) for task in tasks]
    full = context.runtime.vocabulary == "full" or context.encoder.random
    if texts is None or full or any(head.whole_vocabulary for head in heads):
        return None
    return union(tokens_in(texts), np.array([context.reader.tokenizer.pad_token_id]))


def _load_published_head(head: MaskedHead, source: EncoderSource) -> None:
    """Loads the masked-token head of a published encoder into `head`, if it has one alike; read once per process."""

    def read() -> dict[str, Tensor]:
        alike = load_published_head(head, source.location or "", source.revision)
        return {name: tensor.clone() for name, tensor in head.state_dict().items()} if alike else {}

    if tensors := KEPT.get(f"head of {source.digest}", read):
        head.load_state_dict(tensors)


def _model(
    context: ChainContext,
    tasks: Sequence[Task],
    weights: Weights | None,
    seed: int,
    rows: TokenIds | None,
    dropout: float | None = None,
    *,
    shared: bool = False,
) -> MultiTaskModel:
    """Model of the published encoder, or with the weights of a phase, that holds these rows of its embeddings.

    One that only reads its weights has those in memory themselves, `shared`.
    """
    source, tokenizer = context.encoder, context.reader.tokenizer
    weights = weights or context.published()
    if weights is not None:
        weights = replace(weights, shared=shared)
    if source.location is not None:
        encoder = load_encoder(source.location, source.revision, weights, dropout, rows, context.device)
    else:
        config = json.loads(source.config or "{}")
        encoder = random_encoder(config, len(tokenizer), tokenizer.pad_token_id, seed, dropout, weights)
    heads = {task.name: replace(task.family.head(task.labels), mask_id=tokenizer.mask_token_id) for task in tasks}
    pooling = cast(Literal["mean", "cls"], source.pooling)
    model = MultiTaskModel(
        encoder, heads, seed=seed, pad_id=tokenizer.pad_token_id, pooling=pooling, dropout=dropout,
        cpu_kernels=context.runtime.cpu_kernels,
    )  # fmt: skip
    return model.to(context.device)


@cache
def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    return {"sweep": version("xling-sweep"), **libraries}


@cache
def _device_name(kind: str) -> str:
    return f"cuda: {torch.cuda.get_device_name()}" if kind == "cuda" else f"{kind}: {_processor()}"


def _processor() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _tokenizer(plan: Plan, store: Store, encoder: EncoderSource, meter: Meter) -> Any:
    if encoder.location is not None:
        return _loaded_tokenizer(encoder.location, encoder.revision)
    with store.made_once(paths.ENCODERS, encoder.digest, meter) as folder:
        if not folder.exists():
            task = plan.tasks[encoder.text or ""]
            texts = (row["text"] for language in task.trained_in for row in task.source.rows("train", language))
            meter.beat("training a tokenizer")
            with meter.during(ENCODE):
                tokenizer = train_tokenizer(texts, encoder.vocab_size, cast(Algorithm, encoder.algorithm))
            unfinished = folder.with_name(f".{folder.name}.new")
            tokenizer.save_pretrained(unfinished)
            unfinished.replace(folder)
    return _loaded_tokenizer(str(folder), None)


@lru_cache(maxsize=4)
def _loaded_tokenizer(location: str, revision: str | None) -> Any:
    return load_tokenizer(location, revision)
