"""Values that a plan is made of: recipes, phases, chains, points of search spaces, scoring settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, reduce
from heapq import heappop, heappush
from typing import Any

from sweep.config.axes import Cell
from sweep.config.phases import LENGTHS, PhaseSettings
from sweep.config.spaces import Space, Value
from sweep.config.study import Study
from sweep.data.encoded import ENCODING_VERSION
from sweep.keys import fingerprint
from sweep.models.registry import EncoderSource
from sweep.tasks.task import Task

PHASE_VERSION = 7  # raised when the same recipe would give other weights

PRETRAIN, INTERMEDIATE, TARGET = "pretrain", "intermediate", "target"
TRUNK = "trunk"  # what runs of several lengths begin with
CANDIDATE, REPLICA = "candidate", "replica"

LEARNING_RATE = "learning_rate"

# Values of what may be tuned, by name. A learning rate has the name of its kind of phase, tuned or not; other numbers
# are there where they are tuned, as `target.weight_decay`. Ledgers keep these names.
Hyperparameters = Mapping[str, Value]


def in_columns(hyperparameters: Hyperparameters) -> dict[str, Value]:
    """Hyperparameters by the names of their columns, such as `lr.target` and `target.weight_decay`; rates first."""
    named = {name if "." in name else f"lr.{name}": value for name, value in hyperparameters.items()}
    return dict(sorted(named.items(), key=lambda pair: (not pair[0].startswith("lr."), pair[0])))


@dataclass(frozen=True)
class Recipe:
    """Recipe of a phase: all that changes its weights, learning rate and seed apart.

    What its tasks are called changes nothing: targets that are trained on the same data share a phase. The recipe of a
    cell has the spaces of what is tuned in it, that of a phase has their values (`at`).
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
        record = self.at({name: values[0] for name, values in self.grid.items()}).record()
        hashed = {name: value for name, value in record.items() if name != "tasks"}
        ratios = [self.settings.sampling.ratios.get(task) for task in self.tasks]
        versions = [PHASE_VERSION, ENCODING_VERSION]
        spaces = {name: space.values for name, space in self._spaces.items() if name != LEARNING_RATE}
        tuned = {"spaces": spaces} if spaces else {}
        sampling = {**hashed["sampling"], "ratios": ratios}
        return fingerprint({"versions": versions, **hashed, "sampling": sampling, **tuned})

    @cached_property
    def _spaces(self) -> dict[str, Space]:
        return self.settings.spaces

    def name(self, key: str) -> str:
        """Name of a hyperparameter from its key in the phase's settings."""
        return self.kind if key == LEARNING_RATE else f"{self.kind}.{key}"

    @cached_property
    def grid(self) -> dict[str, tuple[Value, ...]]:
        """Name of a hyperparameter -> values to choose from, the learning rate's first."""
        spaces = {self.name(key): space.values for key, space in self._spaces.items()}
        return {self.kind: self.rates, **spaces}

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to choose from, which are no part of the digest."""
        return self.settings.possible(LEARNING_RATE)

    @property
    def points(self) -> int:
        """Number of points of the grid."""
        return math.prod(map(len, self.grid.values()))

    @cached_property
    def beginning(self) -> Point:
        """Indices of the values that tuning begins with."""
        first = {self.name(key): space.beginning for key, space in self._spaces.items()}
        return tuple(first.get(name, 0) for name in self.grid)

    @property
    def unordered(self) -> set[str]:
        """Names of hyperparameters whose neighbouring values are not alike."""
        return {self.name(key) for key, space in self._spaces.items() if not space.ordered}

    @property
    def length(self) -> str | None:
        """Name of the hyperparameter that is the phase's length; None where that is not tuned."""
        return next((self.name(key) for key in LENGTHS if key in self._spaces), None)

    def read(self, record: Mapping[str, Any]) -> Hyperparameters:
        """Those of this recipe's that the record of a phase of its kind has."""
        keys = (LEARNING_RATE, *self._spaces)
        values: dict[str, Any] = {key: reduce(lambda part, name: part[name], key.split("."), record) for key in keys}
        return {self.name(key): value for key, value in values.items()}

    @property
    def is_tuned(self) -> bool:
        """Whether more than its learning rate is tuned."""
        return bool(self._spaces.keys() - {LEARNING_RATE})

    def at(self, hyperparameters: Hyperparameters) -> Recipe:
        """The recipe with these values in place of spaces, the learning rate's apart."""
        values = {key: hyperparameters[self.name(key)] for key in self._spaces if key != LEARNING_RATE}
        return replace(self, settings=self.settings.at(values)) if values else self

    def record(self) -> dict[str, Any]:
        """Plain data for records."""
        settings = self.settings.model_dump(exclude={LEARNING_RATE, "task", "overrides", "examples"})
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
    # Whether those longer runs read what it reads; else they read more, and no step after its first pass is theirs.
    same_data: bool = False
    resumes: str | None = None  # key of the trunk segment whose weights and optimizer state it goes on from

    @property
    def kind(self) -> str:
        return TRUNK if self.trunk else self.recipe.kind

    def record(self) -> dict[str, Any]:
        return {**self.recipe.record(), LEARNING_RATE: self.learning_rate, "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Chain:
    """A cell with hyperparameters and a seed: what one trial runs."""

    key: str
    cell: Cell
    hyperparameters: Hyperparameters
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


Point = tuple[int, ...]  # an index per hyperparameter, into its values


@cache
def spread(sizes: tuple[int, ...], count: int, first: Point) -> tuple[Point, ...]:
    """`count` points of a grid: a given one, then always the point farthest from those before it.

    Deterministic, and a longer list begins with a shorter one. From the middle of three rates: middle, lowest, highest.
    """
    chosen = [first]
    while len(chosen) < min(count, math.prod(sizes)):
        left = _untried(sizes, chosen)
        chosen.append(max(left, key=lambda point: min(_apart(sizes, point, earlier) for earlier in chosen)))
    return tuple(chosen)


@cache
def quasi_random(sizes: tuple[int, ...], count: int, first: Point) -> tuple[Point, ...]:
    """`count` points of a grid: a given one, then those of Sobol's sequence, each at the nearest point that is new.

    In several dimensions the farthest points are all corners; these fill the inside too. Deterministic, and a longer
    list begins with a shorter one.
    """
    from scipy.stats import qmc

    drawn = qmc.Sobol(len(sizes), scramble=False).random_base2((count + 1).bit_length())
    chosen = [first]
    for point in drawn[2:]:  # the first two are the origin and the middle
        if len(chosen) == min(count, math.prod(sizes)):
            break
        goal = tuple(int(size * share) for size, share in zip(sizes, point, strict=True))
        chosen.append(nearest(sizes, goal, chosen))
    return tuple(chosen)


def nearest(sizes: Sequence[int], goal: Point, tried: Collection[Point], last: int = 0) -> Point:
    """The wanted point, or the untried one nearest to it, by its `last` axes if possible: twice would be a waste.

    The last axes are the last phase's. Another value for one before it may be a phase that nobody has trained. Of
    points that are equally near it is the first in the order of the grid.
    """
    border = len(sizes) - last
    heap = [(0, 0, goal)]
    seen = {goal}
    while heap:
        *_, point = heappop(heap)
        if point not in tried:
            return point
        for axis, index in itertools.product(range(len(sizes)), (-1, 1)):
            moved = (*point[:axis], point[axis] + index, *point[axis + 1 :])
            if 0 <= moved[axis] < sizes[axis] and moved not in seen:
                seen.add(moved)
                far = _square(moved[:border], goal[:border]), _square(moved[border:], goal[border:])
                heappush(heap, (*far, moved))
    raise ValueError("every point of the grid has been tried")


def _untried(sizes: Sequence[int], tried: Sequence[Point]) -> Iterator[Point]:
    """The other points, in the order of the grid."""
    return (point for point in itertools.product(*map(range, sizes)) if point not in tried)


def values_at(grid: Mapping[str, Sequence[Value]], point: Point) -> dict[str, Value]:
    """The values of a point, by name."""
    return {name: values[index] for (name, values), index in zip(grid.items(), point, strict=True)}


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
