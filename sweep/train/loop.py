"""fit(): the training loop of one phase, as a generator. Forward, backward, clip, step, at scheduled learning rates.

Every step is seeded by (seed, step), data order is a function of the settings, and the state is one flat structure: a
run that is interrupted after any step and resumed ends with the same weights, bit for bit, on a CPU with as many
threads. Metrics, stores and files are the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from sweep.data.units import Ids
from sweep.models.batches import Batch, DeviceData, micro_batches, retry_on_oom
from sweep.models.encoders import cpu_copy
from sweep.models.heads import VectorHead
from sweep.models.model import MultiTaskModel, Precision
from sweep.models.vocabulary import Rows, TokenIds, decay_factor, decayed, placed
from sweep.train.data import Mixture


@dataclass(frozen=True)
class FitSettings:
    """Settings of the optimizer and its schedule; data and their order are in the Mixture."""

    learning_rate: float
    steps: int
    seed: int  # dropout and masking
    warmup: float = 0.1  # share of steps
    warmup_steps: int | None = None  # instead of a share
    schedule: Literal["linear", "wsd", "constant"] = "linear"
    decay: float = 0.2  # share of steps, wsd only
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    evaluations: int = 1  # on dev, evenly spaced (wsd: within the decay), the last step included
    select: Literal["best", "last"] = "best"
    precision: Precision = "fp32"  # bf16 where the device has it: see autocast()
    micro_batch_tokens: int | None = None  # padded tokens that fit into memory at once

    @property
    def decay_start(self) -> int:
        """Number of steps before wsd's decay."""
        return self.steps - round(self.decay * self.steps)


def rate(step: int, settings: FitSettings) -> float:
    """Learning rate of 1-based `step`.

    All schedules rise linearly over the warm-up, whose last step has the full rate. With N steps, W of them warm-up and
    D decay, and n = step - 1 done before: linear is (N - n) / (N - W); constant is 1; wsd is 1, then over the decay
    1 - sqrt((n - (N - D)) / D) (Hägele et al. 2024, arXiv 2405.18392, section 3). Where the warm-up reaches into the
    decay, the lower of the two counts.
    """
    total, done = settings.steps, step - 1
    warmup = round(settings.warmup * total) if settings.warmup_steps is None else settings.warmup_steps
    rising = step / warmup if done < warmup else 1.0
    if settings.schedule == "wsd":
        factor = min(rising, _decayed(done, settings))
    elif settings.schedule == "linear" and done >= warmup:
        factor = (total - done) / (total - warmup)
    else:
        factor = rising
    return settings.learning_rate * factor


def _decayed(done: int, settings: FitSettings) -> float:
    start = settings.decay_start
    return 1 - math.sqrt((done - start) / (settings.steps - start)) if done > start else 1.0


def evaluated_steps(settings: FitSettings) -> frozenset[int]:
    """1-based steps after which dev is scored, evenly spaced.

    With wsd they lie in the decay: before it, runs of several lengths are one, and the rate is still high.
    """
    before = settings.decay_start if settings.schedule == "wsd" else 0
    before = min(before, settings.steps - 1)
    count, span = settings.evaluations, settings.steps - before
    return frozenset(before + round(span * (n + 1) / count) for n in range(count)) - {before}


class State(TypedDict):
    """State of a run between steps: tensors for safetensors, values for JSON."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """Progress of a run after an optimizer step; counters are from the first step of the run on."""

    step: int  # 1 is the first
    steps: int
    task: str
    loss: Tensor  # 0-d, mean over the batch
    learning_rate: float
    tokens: int  # real tokens so far
    padded_tokens: int
    attended_tokens: int  # pairs of tokens that attention compared: padded length squared, over sequences
    examples: int
    dev: float | None  # where this step was evaluated
    best: float | None
    best_step: int | None
    snapshot: Callable[[], State]  # to be called before the generator goes on

    def loss_value(self) -> float:
        """The loss as a number; waits for the device."""
        return float(self.loss)

    def loss_later(self) -> Callable[[], float]:
        """Function that gives the loss; called after later steps, it does not wait for what they gave the device."""
        copy = self.loss.to("cpu", non_blocking=True)
        if not self.loss.is_cuda:
            return copy.item
        copied = torch.cuda.current_stream().record_event()
        return partial(_read, copy, copied)


def _read(copy: Tensor, copied: torch.cuda.Event) -> float:
    copied.synchronize()
    return float(copy)


def fit(
    model: MultiTaskModel,
    mixture: Mixture,
    settings: FitSettings,
    evaluate: Callable[[Progress], float] | None = None,
    resume: State | None = None,
    stop: int | None = None,
) -> Iterator[Progress]:
    """Trains a model in place and yields after every step; at the end it holds the selected weights, in eval mode.

    `evaluate` scores the model on dev after a step, higher is better; of equals the earliest counts. Without it the
    last weights stay. `resume` is the state that the run goes on from; `stop` ends it early, after that step. Raises
    torch.cuda.OutOfMemoryError where one example does not fit.
    """
    run = _TrainingRun(model, mixture, settings)
    if resume is not None:
        run.restore(resume)
    evaluated = evaluated_steps(settings) if evaluate is not None else frozenset()
    model.train()  # all of it: transformers loads an encoder in eval mode, without dropout
    for task, batch in run.batches(stop):
        loss = run.advance(task, batch)
        dev = None
        if evaluate is not None and run.step in evaluated:
            model.eval()
            dev = evaluate(run.progress(task, loss, None))
            model.train()
            run.record_dev(dev)
        yield run.progress(task, loss, dev)
    run.select()
    model.eval()


def start(model: MultiTaskModel, mixture: Mixture, settings: FitSettings, resume: State | None = None) -> State:
    """State before the first step: `resume`, or that of a run that has not begun."""
    return resume or _TrainingRun(model, mixture, settings).snapshot()


_COUNTERS = ("step", "tokens", "padded_tokens", "attended_tokens", "examples", "micro_batch_tokens")


class _TrainingRun:
    """Model, optimizer, counters and best weights of one `fit`."""

    def __init__(self, model: MultiTaskModel, mixture: Mixture, settings: FitSettings) -> None:
        self.model, self.mixture, self.settings = model, mixture, settings
        self.names, self.parameters = zip(
            *((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True
        )
        self.optimizer = _adamw(self.parameters, settings)
        self.seeds = np.random.default_rng(settings.seed).integers(2**62, size=settings.steps)
        self.step, self.tokens, self.padded_tokens, self.attended_tokens, self.examples = 0, 0, 0, 0, 0
        self.dev: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        self.micro_batch_tokens = settings.micro_batch_tokens
        self.decay: list[float] = []  # factors of each step for rows without a gradient

    def batches(self, stop: int | None) -> Iterator[tuple[str, Batch]]:
        """Task and batch of every step to come, up to the step `stop`."""
        order = self.mixture.schedule(self.settings.steps)
        done = np.bincount(order[: self.step], minlength=len(self.mixture.streams))
        streams = self.mixture.streams
        data = [DeviceData(stream.encoded, self.model.device, self.model.pad_id) for stream in streams]
        ids: list[Iterator[Ids]] = [self.mixture.batches(index, int(done[index])) for index in range(len(streams))]
        for index in order[self.step : stop]:
            yield streams[index].task, data[index].batch(next(ids[index]))

    def advance(self, task: str, batch: Batch) -> Tensor:
        """Takes one optimizer step; returns the batch's mean loss, 0-d, detached.

        Raises torch.cuda.OutOfMemoryError where one example does not fit.
        """
        seed = int(self.seeds[self.step])
        batch = self.model.prepare(batch, task, seed)
        gradients = partial(self._gradients, task, batch, seed)
        # Later steps begin with micro batches of the size that fitted.
        loss, self.micro_batch_tokens = retry_on_oom(batch, self.micro_batch_tokens, gradients)
        self.step += 1
        learning_rate = rate(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.decay.append(decay_factor(learning_rate, self.settings.weight_decay))
        nn.utils.clip_grad_norm_(self.parameters, self.settings.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += batch.tokens
        self.padded_tokens += batch.padded_tokens
        self.attended_tokens += batch.padded_tokens * batch.input_ids.shape[1]
        self.examples += batch.examples
        return loss

    def _gradients(self, task: str, batch: Batch, seed: int, micro_tokens: int | None) -> Tensor:
        """Computes the gradients of the batch's mean loss over its micro batches; returns that loss, 0-d, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(seed)
        count, head = self.model.count(batch, task), self.model.head(task)
        parts = micro_batches(batch, micro_tokens)
        if isinstance(head, VectorHead) and len(parts) > 1:
            return self._cached_gradients(head, batch, parts, seed)
        losses = []
        for part in parts:
            with self.model.autocast(self.settings.precision):
                loss = self.model.loss(part, task) / count
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _cached_gradients(self, head: VectorHead, batch: Batch, parts: list[Batch], seed: int) -> Tensor:
        """Computes the gradients of an in-batch contrastive loss over micro batches; returns the loss, 0-d, detached.

        Gradient cache (Gao et al. 2021, arXiv 2101.06983): vectors of all parts are computed without a graph, then once
        more part by part, for the gradient that the loss has at them.
        """
        with torch.no_grad():
            vectors = torch.cat([self._vectors(head, part, seed + number) for number, part in enumerate(parts)])
        vectors.requires_grad_()
        loss = head.contrastive_loss(vectors, batch) / head.count(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        gradients = torch.split(vectors.grad, [len(part.lengths) for part in parts])
        for number, (part, gradient) in enumerate(zip(parts, gradients, strict=True)):
            self._vectors(head, part, seed + number).backward(gradient)  # type: ignore[no-untyped-call]
        return loss.detach()

    def _vectors(self, head: VectorHead, part: Batch, seed: int) -> Tensor:
        """Pooled vectors [S, H] of a part, the same at every call: dropout is drawn from `seed`."""
        torch.manual_seed(seed)
        with self.model.autocast(self.settings.precision):
            return head.vectors(self.model.hidden(part), part)

    def record_dev(self, dev: float) -> None:
        """Records a dev score; keeps the weights where it is the best so far."""
        best = max((score for _, score in self.dev), default=-math.inf)
        self.dev.append((self.step, dev))
        if self.settings.select == "best" and (dev > best or not self.best):
            self.best = {name: cpu_copy(parameter) for name, parameter in zip(self.names, self.parameters, strict=True)}

    def best_point(self) -> tuple[int, float] | None:
        """Step and score of the best evaluation, the earliest of equals; None before the first."""
        return max(self.dev, key=lambda point: (point[1], -point[0]), default=None)

    def select(self) -> None:
        """Puts the best weights into the model."""
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                if name in self.best:
                    parameter.copy_(self.best[name])
        self.model.decay_rest(self.decay[: self._best_step() if self.best else self.step])

    def _best_step(self) -> int:
        point = self.best_point()
        return point[0] if point is not None else 0

    def progress(self, task: str, loss: Tensor, dev: float | None) -> Progress:
        step, score = self.best_point() or (None, None)
        return Progress(
            step=self.step,
            steps=self.settings.steps,
            task=task,
            loss=loss,
            learning_rate=rate(self.step, self.settings),
            tokens=self.tokens,
            padded_tokens=self.padded_tokens,
            attended_tokens=self.attended_tokens,
            examples=self.examples,
            dev=dev,
            best=score,
            best_step=step,
            snapshot=self.snapshot,
        )

    def snapshot(self) -> State:
        """State of weights, best weights, AdamW's moments, and counters; copies on the CPU."""
        tensors = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            tensors[f"weights/{name}"] = cpu_copy(parameter)
            for moment, value in self.optimizer.state[parameter].items():
                tensors[f"adamw/{moment}/{name}"] = cpu_copy(value)
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        if (rows := self.model.rows) is not None:
            tensors |= Rows(rows.ids, tuple(self.decay)).tensors
        values = {counter: getattr(self, counter) for counter in _COUNTERS} | {
            "dev": [list(point) for point in self.dev]
        }
        return State(tensors=tensors, values=values)

    def restore(self, state: State) -> None:
        """Goes on from a state; the model holds the embeddings that the state holds, and may hold others."""
        for counter in _COUNTERS:
            setattr(self, counter, state["values"][counter])
        self.dev = [(int(step), float(score)) for step, score in state["values"]["dev"]]
        held = Rows.of(state["tensors"])
        self.decay = list(held.decay) if held is not None else []
        tensors = state["tensors"] if held is None else self._in_own_rows(state["tensors"], held.ids)
        self.best = {key.removeprefix("best/"): tensor for key, tensor in tensors.items() if key.startswith("best/")}
        with torch.no_grad():
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(tensors[f"weights/{name}"])
                moments = {
                    moment: tensors.get(f"adamw/{moment}/{name}") for moment in ("step", "exp_avg", "exp_avg_sq")
                }
                self.optimizer.state[parameter] = {
                    moment: value.to(parameter.device, copy=True)
                    for moment, value in moments.items()
                    if value is not None
                }

    def _in_own_rows(self, tensors: Mapping[str, Tensor], held: TokenIds) -> dict[str, Tensor]:
        """Tensors of a state that holds these rows of the embeddings, in the rows of the model.

        What the state does not hold has had no gradient: it is as the phase began with it, decayed.
        """
        begun, rows = self.model.embeddings.detach().clone(), self.model.rows
        wanted = np.arange(len(begun), dtype=np.int32) if rows is None else rows.ids
        name = next(name for name, own in zip(self.names, self.parameters, strict=True) if own is self.model.embeddings)

        def rest(factors: Sequence[float]) -> Callable[[TokenIds], Tensor]:
            return lambda ids: decayed(begun[torch.from_numpy(np.searchsorted(wanted, ids))], factors)

        def zeros(ids: TokenIds) -> Tensor:
            return begun.new_zeros(len(ids), begun.shape[1])

        others = {
            f"weights/{name}": rest(self.decay),
            f"best/{name}": rest(self.decay[: self._best_step()]),
            f"adamw/exp_avg/{name}": zeros,
            f"adamw/exp_avg_sq/{name}": zeros,
        }
        placed_ones = {key: placed(tensors[key], held, wanted, others[key]) for key in others if key in tensors}
        return {**tensors, **placed_ones}


def _adamw(parameters: tuple[nn.Parameter, ...], settings: FitSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) in one kernel per step, without decay on biases and norms (vectors)."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)
