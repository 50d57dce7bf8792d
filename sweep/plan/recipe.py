"""Values that a plan is made of: recipes, phases, chains, points of learning-rate grids, scoring settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from sweep.config.axes import Cell
from sweep.config.phases import PhaseSettings
from sweep.config.study import Study
from sweep.data.encoded import ENCODING_VERSION
from sweep.keys import fingerprint
from sweep.models.registry import EncoderSource
from sweep.tasks.task import Task

PHASE_VERSION = 7  # raised when the same recipe would give other weights

PRETRAIN, INTERMEDIATE, TARGET = "pretrain", "intermediate", "target"
TRUNK = "trunk"  # what runs of several lengths begin with
CANDIDATE, REPLICA = "candidate", "replica"

Rates = Mapping[str, float]  # learning rate per kind of phase


@dataclass(frozen=True)
class Recipe:
    """Recipe of a phase: all that changes its weights, learning rate and seed apart.

    What its tasks are called changes nothing: targets that are trained on the same data share a phase.
    """

    kind: str
    tasks: tuple[str, ...]
    data: tuple[str, ...]  # digest per task of the rows that it reads, train and dev
    languages: tuple[tuple[str, ...], ...]  # of the training data, per task
    examples: int | None  # at most so many training examples per task
    settings: PhaseSettings
    flops: float | None = None  # what its steps may cost, where a chain's budget says how long it is
    precision: str = "auto"  # as the study asks for it; what a device makes of `auto`, the record of a phase says

    @cached_property
    def digest(self) -> str:
        hashed = {name: value for name, value in self.record().items() if name != "tasks"}
        ratios = [self.settings.sampling.ratios.get(task) for task in self.tasks]
        versions = [PHASE_VERSION, ENCODING_VERSION]
        return fingerprint({"versions": versions, **hashed, "sampling": {**hashed["sampling"], "ratios": ratios}})

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to choose from."""
        return self.settings.learning_rate.values()

    @property
    def beginning(self) -> int:
        """Index of the one that tuning begins with."""
        return self.settings.learning_rate.beginning()

    def record(self) -> dict[str, Any]:
        """Plain data for records."""
        settings = self.settings.model_dump(exclude={"learning_rate", "task", "overrides", "examples"})
        names = ("kind", "tasks", "data", "languages", "examples", "precision")
        flops = {"flops": self.flops} if self.flops is not None else {}
        return {**settings, **{name: getattr(self, name) for name in names}, **flops}


@dataclass(frozen=True, slots=True)
class Phase:
    """One training run: a recipe, its rate and seed, and what it starts from."""

    key: str
    recipe: Recipe
    learning_rate: float
    seed: int
    parent: str | None  # key of the parent phase; None: the encoder as published
    trunk: bool = False  # stops before the decay, for longer runs to go on from
    resumes: str | None = None  # key of the trunk segment whose weights and optimizer state it goes on from

    @property
    def kind(self) -> str:
        return TRUNK if self.trunk else self.recipe.kind

    def record(self) -> dict[str, Any]:
        return {**self.recipe.record(), "learning_rate": self.learning_rate, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Chain:
    """A cell with rates and a seed: what one trial runs."""

    key: str
    cell: Cell
    rates: Rates
    seed: int
    candidate: int
    role: str
    phases: tuple[Phase, ...]
    score: str  # key of its scores

    @property
    def name(self) -> str:
        """Cell and seed, in lines about a chain; the candidates of a cell share it."""
        return f"{self.cell.name}, seed {self.seed}"


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed with which a phase is tried: its own at first, then 32 bits of sha256 of (seed, attempt).

    Not seed + attempt: that may be another seed of the study, whose run would then count twice.
    """
    return seed if attempt == 0 else int(fingerprint([seed, attempt])[:8], 16)


Point = tuple[int, ...]  # an index per kind of phase, into its learning rates


@cache
def spread(sizes: tuple[int, ...], count: int, first: Point) -> tuple[Point, ...]:
    """`count` points of a grid: a given one, then always the point farthest from those before it.

    Deterministic, and a longer list begins with a shorter one. From the middle of three rates: middle, lowest, highest.
    """
    chosen = [first]
    while len(chosen) < min(count, math.prod(sizes)):
        left = untried(sizes, chosen)
        chosen.append(max(left, key=lambda point: min(_apart(sizes, point, earlier) for earlier in chosen)))
    return tuple(chosen)


def nearest(sizes: Sequence[int], goal: Point, tried: Sequence[Point]) -> Point:
    """The wanted point, or the untried one nearest to it, by its last axis if possible: twice would be a waste.

    The last axis is the last phase's. Another rate for one before it may be a phase that nobody has trained.
    """
    return min(
        untried(sizes, tried), key=lambda point: (_square(point[:-1], goal[:-1]), _square(point[-1:], goal[-1:]))
    )


def untried(sizes: Sequence[int], tried: Sequence[Point]) -> Iterator[Point]:
    """The other points, in the order of the grid."""
    return (point for point in itertools.product(*map(range, sizes)) if point not in tried)


def rates_at(grid: Mapping[str, Sequence[float]], point: Point) -> dict[str, float]:
    """The rates of a point, by kind of phase."""
    return {kind: rates[index] for (kind, rates), index in zip(grid.items(), point, strict=True)}


def _square(left: Point, right: Point) -> int:
    return sum((a - b) ** 2 for a, b in zip(left, right, strict=True))


def _apart(sizes: Sequence[int], left: Point, right: Point) -> float:
    steps = zip(left, right, sizes, strict=True)
    return float(sum(((a - b) / max(size - 1, 1)) ** 2 for a, b, size in steps))


def default_layer(layers: int) -> int:
    """The layer whose vectors find translations, where the registry has none for an encoder of so many layers.

    Two thirds up in an encoder of at most 12 layers, 7/12 in a deeper one: the rule that gives mBERT's 8 of 12 and the
    14 of 24 of XLM-R large, and the same relative depth elsewhere.
    """
    return round(layers * (2 / 3 if layers <= 12 else 7 / 12))


def scoring_settings(study: Study, task: Task, encoder: EncoderSource) -> dict[str, Any]:
    """Scoring settings of the study that count for a task; layers count from the embedding layer, 0.

    The first layer is the one that counts; the others are shown beside it. A task that a target phase trained is read
    where it was trained: at the last layer.
    """
    settings: dict[str, Any] = {"examples": study.scoring.examples, **task.family.scoring_settings(task)}
    if not task.family.vectors:
        return settings
    last = encoder.shape.layers
    if task.trained_in:
        return settings | {"layers": [last], "pooling": encoder.pooling}
    asked, pooling = study.scoring.reading(task.name)
    own = default_layer(last) if encoder.entry.layer is None else encoder.entry.layer
    layers = [own] if asked is None else [layer % (last + 1) for layer in asked]
    return settings | {"layers": list(dict.fromkeys(layers)), "pooling": pooling or encoder.entry.pooling}


def read_layers(settings: Mapping[str, Any], encoder: EncoderSource) -> list[int]:
    """Layers to read as a model takes them: -1 is the last one, its final norm included."""
    return [-1 if layer == encoder.shape.layers else layer for layer in settings.get("layers", [-1])]
