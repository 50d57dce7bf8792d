"""Cost of work: FLOPs computed from shapes and lengths, device-seconds learned from measurements.

FLOPs are deterministic and are what a plan compares. Device-seconds are what a study's budget is spent in; the rate
between the two is learned per encoder from finished phases, and assumed only until the first one is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sweep.config.axes import Cell
from sweep.config.study import Budget
from sweep.data import Size
from sweep.models.registry import Shape
from sweep.plan.halving import TRAINED, planned_end
from sweep.plan.plan import Plan
from sweep.plan.recipe import TRUNK, Chain, Phase, Recipe
from sweep.tasks.task import Task

# A backward pass costs two forward passes: one for the gradient of the inputs, one for that of the weights
# (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
TRAINING = 3
PADDING = 1.04  # padded over real tokens with length buckets; what was really fed is counted when it runs

PROBE_EXAMPLES = 2000  # enough for a linear head; its features are kept in memory while it is fitted
PROBE_VECTORS = 200_000

# Assumed until something was measured. Small encoders on a core reach far less than its peak.
ASSUMED_FLOPS_PER_SECOND = {"core": 1e10, "gpu": 5e13}
CHAIN_OVERHEAD_SECONDS = 2.0  # loading, encoding and writing around the computation


def forward_flops(shape: Shape, tokens: float, attended: float, batches: float) -> float:
    """FLOPs of the encoder; a multiply-add counts two. Exact for integers, so no sum depends on its order.

    `tokens` are fed in so many `batches`, `attended` is the sum of squared sequence lengths. Per token and layer: the
    projections of queries, keys, values and outputs, the feed-forward's two (gated: three) matrices, and the products
    with relative positions; per attended pair and layer: hidden for each of attention's two products; per batch and
    layer: the projections of the relative positions (He et al. 2021, arXiv 2006.03654, section 3). A window of local
    attention saves nothing: torch's kernels compute the masked pairs too. Norms, look-ups and heads on single vectors
    are left out (below 1%).
    """
    hidden, relative = shape.hidden, shape.relative
    projections = 2 * hidden**2 + 2 * hidden * (shape.key_value or hidden)
    feed_forward = (3 if shape.gated else 2) * hidden * shape.feed_forward
    per_token = projections + feed_forward + relative * hidden
    layer = 2 * tokens * per_token + 4 * attended * hidden + 2 * batches * relative * hidden**2
    return shape.layers * layer + 2 * tokens * hidden * shape.embedding


def probe_examples(task: Task, train: Size) -> int:
    """Train examples that a fresh head is fitted on: PROBE_EXAMPLES, or as many as have PROBE_VECTORS vectors.

    A text and an option are one vector, words and spans one per token; the same number for encoders of all sizes.
    """
    vectors = train.tokens if task.family.probe == "tokens" else 1.0
    return max(min(PROBE_EXAMPLES, int(PROBE_VECTORS / max(vectors, 1.0)), train.examples), 1)


def masked_head_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of predicting 15% of `tokens`: a transform to the embeddings' width and the vocabulary's matrix."""
    width = shape.embedding or shape.hidden
    return 3 * tokens * width * (shape.hidden + shape.vocabulary) // 10


@dataclass(frozen=True)
class Costs:
    """Planned FLOPs of phases and scores. `measured` holds what was really loaded, by (task, split, language)."""

    plan: Plan
    measured: Mapping[tuple[str, str, str], Size] = field(default_factory=dict)
    _memo: dict[object, float] = field(default_factory=dict, repr=False, compare=False)

    def phase(self, cell: Cell, recipe: Recipe) -> float:
        """FLOPs of training one phase alone, its dev evaluations included."""
        memo = (cell.encoder, recipe.digest)
        if memo not in self._memo:
            self._memo[memo] = self._training(cell, recipe) + self._evaluating(cell, recipe)
        return self._memo[memo]

    def _trunk(self, cell: Cell, phase: Phase) -> float:
        """FLOPs of what longer runs begin with: what lies before the decay, of larger volumes in its first pass."""
        memo = (cell.encoder, phase.recipe.digest, TRUNK)
        if memo not in self._memo:
            passes = 0.0 if phase.same_data else self._passes(phase.recipe)
            common = min(1 - phase.recipe.settings.decay, 1 / passes if passes else 1.0)
            self._memo[memo] = self._training(cell, phase.recipe) * common
        return self._memo[memo]

    def score(self, cell: Cell) -> float:
        """FLOPs of scoring the target in every language, and the intermediate tasks again where that is asked for."""
        return self._score_target(cell) + sum(self._score_again(cell, name) for name in self.plan.retained(cell))

    def reading(self, cell: Cell, examples: int) -> float:
        """FLOPs of one forward pass over so many of the target's training examples."""
        task = self.plan.tasks[cell.target]
        size = self.size(task, "train", task.trained_in[0])
        return self._forward(cell, task, min(size.examples, examples), size)

    def _score_target(self, cell: Cell) -> float:
        memo = (cell.encoder, cell.target)
        if memo not in self._memo:
            task = self.plan.tasks[cell.target]
            sizes = [self.size(task, "test", language) for language in (*task.languages, *task.pool)]
            sizes += [self.size(task, "dev", language) for language in task.calibrated_in]
            limit = self.plan.study.scoring.examples or math.inf
            self._memo[memo] = sum(self._forward(cell, task, min(size.examples, limit), size) for size in sizes)
        return self._memo[memo]

    def _score_again(self, cell: Cell, name: str) -> float:
        """Before and after the target phase, the latter with two heads, one of them fitted on train examples."""
        memo = (cell.encoder, "again", name)
        if memo not in self._memo:
            task, limit = self.plan.tasks[name], self.plan.study.scoring.examples or math.inf
            split, language = task.held_out
            held_out, train = self.size(task, split, language), self.size(task, "train", language)
            linear = task.family.probe is not None
            passes = (3 if linear else 2) * self._forward(cell, task, min(held_out.examples, limit), held_out)
            fitted = probe_examples(task, train) if linear else 0
            self._memo[memo] = passes + self._forward(cell, task, fitted, train)
        return self._memo[memo]

    def parts(self, chain: Chain) -> dict[str, float]:
        """key -> FLOPs of everything a chain needs: its phases and its scores."""
        flops, before = {}, 0.0
        for phase in chain.phases:
            reached = self._trunk(chain.cell, phase) if phase.trunk else self.phase(chain.cell, phase.recipe)
            flops[phase.key] = max(reached - before, 0.0) if phase.resumes else reached
            before = reached
        flops[chain.score] = self.score(chain.cell)
        return flops

    def attempt(self, chain: Chain, missing: Sequence[Phase], pause_at: float | None, resume_at: float = 0.0) -> float:
        """FLOPs of an attempt that trains the missing phases, the last from `resume_at` to `pause_at`, and of scoring.

        Scoring counts for every candidate: what is held for it is there when the winner is known.
        """
        parts = self.parts(chain)
        total = sum(parts[phase.key] for phase in missing) + parts[chain.score]
        rest = 1.0 - (TRAINED if pause_at is None else pause_at) + resume_at
        return total - (rest * parts[missing[-1].key] if missing else 0.0)

    def planned(self, chain: Chain) -> dict[str, float]:
        """key -> FLOPs as far as a candidate is planned to come: a cell's first ones stand in for its better ones."""
        end, scored = planned_end(self.plan, chain)
        flops = self.parts(chain)
        if not scored:
            del flops[chain.score]
            flops[chain.phases[-1].key] *= end
        return flops

    def size(self, task: Task, split: str, language: str) -> Size:
        return self.measured.get((task.name, split, language)) or task.source.size(split, language)

    def _passes(self, recipe: Recipe) -> float:
        """Passes of the phase over its data."""
        settings = recipe.settings
        sizes = self._train_sizes(recipe)
        tokens = settings.sampling.one_pass({name: size.examples * size.tokens for name, size in sizes.items()})
        if settings.steps:
            return settings.steps * settings.batch_tokens / (tokens * PADDING) if tokens else 0.0
        return settings.epochs or 0.0

    def _training(self, cell: Cell, recipe: Recipe) -> float:
        return recipe.flops if recipe.flops is not None else self._of_length(cell, recipe)

    def step(self, cell: Cell, recipe: Recipe) -> float:
        """FLOPs of one optimizer step of a phase, with the largest batch where that is tuned."""
        largest = max(recipe.settings.possible("batch_tokens"))
        return self._of_length(
            cell, replace(recipe, settings=recipe.settings.at({"steps": 1, "batch_tokens": largest}))
        )

    def _of_length(self, cell: Cell, recipe: Recipe) -> float:
        shape, settings = self.plan.encoders[cell.encoder].shape, recipe.settings
        sizes = self._train_sizes(recipe)
        tokens = {name: size.examples * size.tokens for name, size in sizes.items()}
        fed = PADDING * self._passes(recipe) * settings.sampling.one_pass(tokens)
        total = 0.0
        for name, share in settings.sampling.shares(tokens).items():
            part = fed * share
            attended = part * _length(self.plan.tasks[name], sizes[name])
            total += forward_flops(shape, part, attended, part / settings.batch_tokens)
            if self.plan.tasks[name].family.raw_text:
                total += masked_head_flops(shape, part)
        return TRAINING * total

    def _train_sizes(self, recipe: Recipe) -> dict[str, Size]:
        named = zip(recipe.tasks, recipe.languages, strict=True)
        return {name: self._train_size(self.plan.tasks[name], languages, recipe) for name, languages in named}

    def _train_size(self, task: Task, languages: Sequence[str], recipe: Recipe) -> Size:
        sizes = [self.size(task, "train", language) for language in languages]
        examples = sum(size.examples for size in sizes)
        tokens = sum(size.examples * size.tokens for size in sizes) / max(examples, 1)
        limits = [limit for limit in (recipe.examples, recipe.settings.sampling.cap) if limit is not None]
        return Size(min([examples, *limits]), tokens, sizes[0].sequences)

    def _evaluating(self, cell: Cell, recipe: Recipe) -> float:
        total = 0.0
        for name in recipe.tasks:
            task = self.plan.tasks[name]
            for language in task.trained_in[:1]:
                size = self.size(task, "dev", language)
                examples = min(size.examples, recipe.settings.dev_examples)
                total += self._forward(cell, task, examples, size)
        return total * recipe.settings.evaluations

    def _forward(self, cell: Cell, task: Task, examples: float, size: Size) -> float:
        """FLOPs of one pass over so many examples of a size."""
        shape = self.plan.encoders[cell.encoder].shape
        fed = examples * size.tokens * PADDING
        batches = fed / self.plan.study.runtime.score_batch_tokens
        return forward_flops(shape, fed, fed * _length(task, size), batches)


def _length(task: Task, size: Size) -> float:
    return size.tokens / (size.sequences or task.family.sequences)


@dataclass(frozen=True)
class Speed:
    """Device-seconds per FLOP by encoder, learned from (encoder, FLOPs, device-seconds) of finished work."""

    finished: Sequence[tuple[str, float, float]] = ()
    gpu: bool = False

    @cached_property
    def _seconds_per_flop(self) -> dict[str, float]:
        flops: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for encoder, work, time in self.finished:
            if work <= 0:
                continue  # it has loaded so far
            flops[encoder] = flops.get(encoder, 0.0) + work
            seconds[encoder] = seconds.get(encoder, 0.0) + time
        return {encoder: seconds[encoder] / flops[encoder] for encoder in flops}

    @property
    def measured(self) -> bool:
        return bool(self._seconds_per_flop)

    def device_seconds(self, encoder: str, flops: float) -> float:
        """Forecast in device-seconds for `flops` of an encoder; measured rates hold what chains do beside computing."""
        if known := self._seconds_per_flop:
            return flops * (known.get(encoder) or sum(known.values()) / len(known))
        assumed = flops / ASSUMED_FLOPS_PER_SECOND["gpu" if self.gpu else "core"]
        return assumed + (CHAIN_OVERHEAD_SECONDS if flops > 0 else 0.0)

    def amount(self, budget: Budget, encoder: str, flops: float) -> float:
        """Forecast for `flops` of work with an encoder, in the budget's unit."""
        return flops if budget.unit == "flops" else self.device_seconds(encoder, flops)
