"""Cost of work: FLOPs of phases and scores, computed from shapes and lengths.

FLOPs are deterministic and are what a plan compares. Device-seconds are what a study's budget is spent in; how many a
work takes is forecast from its FLOPs and its kind (sweep/plan/speed.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sweep.config.axes import Cell
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

TRAINED_PARTS, SCORED_PARTS = "train", "score"  # the most general kinds of work


@dataclass(frozen=True)
class Data:
    """Data of one split in one language, as an encoder reads it: encoded once, whatever reads it again."""

    encoder: str
    task: str
    split: str
    language: str
    length: int | None  # tokens of a sequence at most; None: what is usual for its family


@dataclass(frozen=True)
class Work:
    """Work on a part of a chain, a phase or its scores, or on several alike, as forecasts of time take it."""

    encoder: str
    kinds: tuple[str, ...]  # from the general to the particular: what is alike in all of them takes equal time per FLOP
    flops: float
    data: Mapping[Data, int] = field(default_factory=dict)  # that it reads -> examples
    parts: int = 1

    @cached_property
    def place(self) -> tuple[str, ...]:
        """Encoder and kinds."""
        return self.encoder, *self.kinds


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
    _works: dict[object, Work] = field(default_factory=dict, repr=False, compare=False)

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

    def attempt(
        self, chain: Chain, missing: Sequence[Phase], pause_at: float | None, resume_at: float = 0.0
    ) -> dict[str, float]:
        """key -> FLOPs of an attempt that trains the missing phases, the last from `resume_at` to `pause_at`.

        Scoring counts for every candidate: what is held for it is there when the winner is known.
        """
        parts = self.parts(chain)
        needed = {key: parts[key] for key in (*(phase.key for phase in missing), chain.score)}
        if missing:
            needed[missing[-1].key] *= (TRAINED if pause_at is None else pause_at) - resume_at
        return needed

    def planned(self, chain: Chain) -> dict[str, float]:
        """key -> FLOPs as far as a candidate is planned to come: a cell's first ones stand in for its better ones."""
        end, scored = planned_end(self.plan, chain)
        flops = self.parts(chain)
        if not scored:
            del flops[chain.score]
            flops[chain.phases[-1].key] *= end
        return flops

    def works(self, chain: Chain, flops: Mapping[str, float]) -> dict[str, Work]:
        """key -> work of those of a chain's phases and scores that `flops` has, of so many FLOPs each."""
        return {key: replace(self.kind(chain, key), flops=number) for key, number in flops.items()}

    def kind(self, chain: Chain, key: str) -> Work:
        """Work of no FLOPs on the phase of a chain that has this key, or on its scores."""
        cell, recipe = chain.cell, next((phase.recipe for phase in chain.phases if phase.key == key), None)
        memo = cell.encoder, recipe.digest if recipe is not None else (cell.target, self.plan.retained(cell))
        if memo not in self._works:
            kinds = self._kinds_of_training(recipe) if recipe is not None else self._kinds_of_scoring(cell)
            reads = self._train_data(cell, recipe) if recipe is not None else self._test_data(cell)
            self._works[memo] = Work(cell.encoder, kinds, 0.0, reads)
        return self._works[memo]

    def _kinds_of_training(self, recipe: Recipe) -> tuple[str, ...]:
        families = "+".join(sorted({self.plan.tasks[name].family.name for name in recipe.tasks}))
        batches = f"{families}, {max(recipe.settings.possible('batch_tokens'))} tokens"
        return TRAINED_PARTS, families, batches, recipe.digest

    def _kinds_of_scoring(self, cell: Cell) -> tuple[str, ...]:
        """Kinds that hold in other studies too: how many examples are scored, and of vectors at which layers."""
        scoring, again = self.plan.study.scoring, self.plan.retained(cell)
        families = "+".join(sorted({self.plan.tasks[name].family.name for name in again}))
        family = f"{self.plan.tasks[cell.target].family.name}, again {families}"
        return SCORED_PARTS, family, f"{cell.target}, again {'+'.join(again)}, {scoring.examples}, {scoring.layer}"

    def _train_data(self, cell: Cell, recipe: Recipe) -> dict[Data, int]:
        length, found = recipe.settings.max_length, dict[Data, int]()
        for name, languages in zip(recipe.tasks, recipe.languages, strict=True):
            task = self.plan.tasks[name]
            read = [("train", language) for language in languages] + [("dev", each) for each in task.trained_in[:1]]
            for split, language in read:
                size = self.size(task, split, language)
                found[Data(cell.encoder, name, split, language, length)] = int(size.examples)
        return found

    def _test_data(self, cell: Cell) -> dict[Data, int]:
        task, last = self.plan.tasks[cell.target], self.plan.recipes(cell)[-1:]
        length = last[0].settings.max_length if last and task.trained_in else None
        read = [("test", language) for language in (*task.languages, *task.pool)]
        read += [("dev", language) for language in task.calibrated_in]
        return {
            Data(cell.encoder, task.name, split, language, length): int(self.size(task, split, language).examples)
            for split, language in read
        }

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
