"""What a plan is made of: recipe, phase, chain. Frozen values; plan.py makes them and gives them their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweep.config.axes import Cell
from sweep.config.phases import PhaseSettings
from sweep.data.encoded__base_encoded import ENCODING_VERSION
from sweep.identity import fingerprint

PHASE_VERSION = 7  # raised when the same recipe would give other weights

PRETRAIN, INTERMEDIATE, TARGET = "pretrain", "intermediate", "target"
TRUNK = "trunk"  # what runs of several lengths begin with
CANDIDATE, REPLICA = "candidate", "replica"

Rates = Mapping[str, float]  # learning rate per kind of phase


@dataclass(frozen=True)
class Recipe:
    """What a phase does to weights, learning rate and seed apart.

    What its tasks are called does nothing: targets that are trained on the same data share a phase.
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
        told = {name: value for name, value in self.record().items() if name != "tasks"}
        ratios = [self.settings.sampling.ratios.get(task) for task in self.tasks]
        versions = [PHASE_VERSION, ENCODING_VERSION]
        return fingerprint({"versions": versions, **told, "sampling": {**told["sampling"], "ratios": ratios}})

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
        """Which chain a line is about; the candidates of a cell share it."""
        return f"{self.cell.name}, seed {self.seed}"


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed with which a phase is tried: its own at first, then 32 bits of sha256 of (seed, attempt).

    Not seed + attempt: that may be another seed of the study, whose run would then count twice.
    """
    return seed if attempt == 0 else int(fingerprint([seed, attempt])[:8], 16)
