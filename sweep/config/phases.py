"""Training runs (phases) in a study file: schedule, sampling, length. Everything here is part of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, Strict, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sweep.config.spaces import TUNED, Space, Tunable
from sweep.config.values import (
    MOST,
    Count,
    Name,
    Positive,
    Share,
    Temperature,
    as_warmup,
    no_item_twice,
)

PHASES = ("pretrain", "intermediate", "target")  # sections of a study file, in the order of training
LENGTHS = ("epochs", "steps")  # a phase has one of them


class Sampling(Tunable):
    """Sampling of tasks in a multi-task phase: p proportional to n, to 1, or to n^(1/temperature).

    n is the size of one pass over a task, of `cap` examples at most; the temperature is that of Raffel et al. 2020
    (arXiv 1910.10683). A task with a ratio has that share of the steps; the other tasks divide the rest by `by`. A step
    is one task's batch of `batch_tokens`, so a share of steps is a share of tokens.
    """

    by: Literal["proportional", "uniform", "temperature"] = "proportional"
    """Rule by which tasks without a ratio divide the steps: in proportion to their size, alike (`uniform`), or by
    `temperature`, which lies between the two."""
    temperature: Annotated[Temperature, TUNED] = 2.0
    """Temperature of the rule `temperature`: 1 is in proportion to size, large values are nearly uniform."""
    cap: Annotated[Positive | None, TUNED] = None
    """Largest size, in training examples, that a task counts with, so that a huge one does not fill the phase. Left
    out, sizes count as they are."""
    ratios: dict[Name, Annotated[float, Strict(), Field(gt=0, lt=1)]] = {}
    """Share of the steps of single tasks, such as {wikipedia: 0.2}; the other tasks divide the rest by the rule."""

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Sampling:
        if sum(self.ratios.values()) > 1 + 1e-9:
            raise PydanticCustomError("ratios", "ratios that add up to at most 1 are expected")
        return self

    def shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Share of the steps per task, from the size of one pass over each."""
        power = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / self.temperature}[self.by]
        free = {task: size**power for task, size in sizes.items() if task not in self.ratios}
        left, total = 1 - sum(self.ratios[task] for task in sizes if task in self.ratios), sum(free.values())
        return {task: left * free[task] / total if task in free else self.ratios[task] for task in sizes}

    def one_pass(self, sizes: Mapping[str, float]) -> float:
        """Size of one epoch: one pass over every task; tasks with a ratio are added in their share of it.

        So a ratio of raw text takes nothing from the other tasks: they are seen as often as without it.
        """
        free = sum(size for task, size in sizes.items() if task not in self.ratios)
        left = 1 - sum(self.ratios[task] for task in sizes if task in self.ratios)
        return free / left if free else sum(sizes.values())


class Text(Tunable):
    """Raw text in a phase, in many languages of very different size."""

    languages: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """Languages of raw text. Left out, all in which the masked task has text."""
    temperature: Annotated[Temperature, TUNED] = 1.0
    """Temperature of languages: a language's share of the text is proportional to its size^(1/temperature). Larger
    values give small languages more."""

    @field_validator("languages", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        no_item_twice(value or ())
        return value


class Warmup(Tunable):
    """Warm-up steps of the learning rate. A plain number is a share of the phase's steps."""

    share: Annotated[Share, TUNED] | None = None
    """Share of the phase's steps, from 0 to 1."""
    steps: Annotated[Count, TUNED] | None = None
    """Number of steps; the unit that `schedule: wsd` needs."""

    @model_validator(mode="after")
    def _one_unit(self) -> Warmup:
        if (self.share is None) == (self.steps is None):
            raise PydanticCustomError("warmup", "exactly one of 'share' and 'steps' is expected")
        return self


class PhaseSettings(Tunable):
    """Settings of one training run. Each of them changes weights and is part of the key.

    Numbers of the training itself may be search spaces; those of its evaluation, and the amount of data, are the same
    for all candidates of a cell.
    """

    learning_rate: Annotated[float, Strict(), Field(gt=0, lt=10), TUNED]
    """Peak learning rate of AdamW. A number is used as it is; a grid {log: [5e-6, 5e-5], points: 4} is tuned over.
    Published rates lie about 2e-5 for encoders of base size and below that for large ones."""
    batch_tokens: Annotated[Positive, TUNED]
    """Largest batch in subword tokens, padding included, which cost is counted in: 4096 is about 32 sentences of 128
    tokens. Batches that do not fit a device are computed in parts, to the same gradient."""
    epochs: Annotated[float, Strict(), Field(gt=0, le=1e6), TUNED] | None = None
    """Length of the phase in passes over its training data; fractions are allowed. Exactly one of `epochs` and
    `steps`, none under `axes.chain_budget`."""
    steps: Annotated[Positive, TUNED] | None = None
    """Length of the phase in optimizer steps."""
    warmup: Annotated[Warmup, BeforeValidator(as_warmup, Warmup | Share | Space)] = Warmup(share=0.1)
    """Steps in which the learning rate rises linearly: a share of the steps, or {steps: 100}. Longer ones help where
    training is unstable, as with large encoders."""
    schedule: Literal["linear", "wsd", "constant"] = "linear"
    """Learning rate after the warm-up: linear decay to 0, constant, or `wsd` (warm-up, stable, decay), whose longer
    runs contain the shorter ones, so that several volumes or chain budgets cost little more than the largest."""
    decay: Annotated[Share, TUNED] = 0.2
    """Share of the steps in which `wsd` decays to 0; other schedules do not read it."""
    weight_decay: Annotated[float, Strict(), Field(ge=0), TUNED] = 0.01
    """Weight decay of AdamW."""
    clip: Annotated[float, Strict(), Field(gt=0), TUNED] = 1.0
    """Largest norm of the gradient; larger ones are scaled down to it."""
    dropout: Annotated[Share | None, TUNED] = None
    """Probability of dropout in hidden states, attention and heads. Left out, the encoder's own, 0.1 for most; 0 for
    tiny encoders that underfit."""
    max_length: Annotated[Annotated[int, Strict(), Field(ge=8, le=MOST)] | None, TUNED] = None
    """Largest length of a sequence in subword tokens; what is longer is cut, or divided into windows where a
    question has a long context. Left out, the family's: 128 for sentences and words, 384 for span, 256 for ranking,
    512 for embedding and mining."""
    select: Literal["best", "last"] = "best"
    """Weights that are kept: those of the best evaluation on dev data in the language of training, or the last ones."""
    evaluations: Positive = 4
    """Number of evenly spaced evaluations on dev, the last step included. More of them find a better checkpoint and
    cost more time."""
    collapse_margin: Annotated[float, Strict(), Field(ge=-1, le=1)] = 0.01
    """Margin above chance level, in units of the metric (0 to 1), below which a dev score means that nothing was
    learned; narrower where chance level is above 0.9, in proportion to what is left to learn. With -1 no phase
    counts as collapsed."""
    retries: Annotated[int, Strict(), Field(ge=0, le=100)] = 2
    """Number of further attempts, with other seeds, of a phase that collapsed; each is charged to the budget."""
    dev_examples: Positive = 500
    """Largest number of dev examples per evaluation, the same ones each time."""
    examples: Positive | None = None
    """Largest number of training examples per task. Left out, all; `axes.volume` compares several values for
    intermediate tasks."""
    sampling: Sampling = Sampling()
    """How a phase of several tasks mixes them."""
    text: Text = Text()
    """Raw text in the phase, where one of its tasks is of the family `masked`."""

    @model_validator(mode="after")
    def _one_length(self) -> PhaseSettings:
        # Neither is given where a chain's budget sets the length of a phase: sweep.plan.checks looks at that.
        if self.epochs is not None and self.steps is not None:
            raise PydanticCustomError("length", "exactly one of 'epochs' and 'steps' is expected")
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> PhaseSettings:
        # A short branch of wsd may end before its trunk has warmed up; without one it is a mistake.
        steps, warmup = self.possible("steps"), self.possible("warmup.steps")
        if self.schedule != "wsd" and None not in (*steps, *warmup) and max(warmup) > min(steps):
            raise PydanticCustomError("warmup", "a warm-up no longer than the phase's steps is expected")
        return self

    @model_validator(mode="after")
    def _warmup_of_wsd(self) -> PhaseSettings:
        # A share would make the first steps depend on the last one, and runs of several lengths share nothing.
        if self.schedule == "wsd" and self.warmup.steps is None:
            raise PydanticCustomError("warmup", "with 'wsd' a warm-up in steps is expected, as in warmup: {steps: 100}")
        return self

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Settings with these values by key, such as `sampling.by`; steps replace epochs. Raises ValidationError."""
        changed = self.content()
        for key, value in values.items():
            put(changed, key, value)
            if key in LENGTHS:
                changed |= {length: None for length in LENGTHS if length != key}
        return self.model_validate(changed)


def put(section: dict[str, Any], key: str, value: object) -> None:
    """Puts a value at a key such as `sampling.by` into the plain data of a phase's settings."""
    outer, _, inner = key.partition(".")
    if inner:
        # The keys of a warm-up exclude each other.
        beside = section.get(outer) if outer != "warmup" else None
        value = {**(beside if isinstance(beside, dict) else {}), inner: value}
    section[outer] = value


class Phases(PhaseSettings):
    """Settings of a phase, with overrides for single tasks."""

    overrides: dict[Name, dict[str, Any]] = {}
    """Changes of these settings for phases on single tasks, such as {topics: {epochs: 10}} for a small data set.
    They hold for a phase on that task alone."""

    @model_validator(mode="after")
    def _overrides_hold(self) -> Phases:
        for task in self.overrides:
            self.of((task,))
        return self

    def of(self, tasks: tuple[str, ...]) -> PhaseSettings:
        """Settings of a phase on these tasks; overrides hold for a phase on one task. Raises PydanticCustomError."""
        base = {name: value for name, value in self.content().items() if name != "overrides"}
        ratios = self.sampling.ratios
        own = {task: ratios[task] for task in tasks if task in ratios and len(tasks) > 1}
        base["sampling"] |= {"ratios": own}
        changes = self.overrides.get(tasks[0], {}) if len(tasks) == 1 else {}
        if any(length in changes for length in LENGTHS):
            base |= dict.fromkeys(LENGTHS)
        try:
            return PhaseSettings.model_validate({**base, **changes})
        except ValidationError as failure:
            inner = {"task": tasks[0], "error": failure.errors()[0]}
            raise PydanticCustomError("override", "settings of a phase are expected", inner) from None


class Pretrain(PhaseSettings):
    """Pretraining from scratch by masked language modelling, for encoders with random weights."""

    task: Name
    """Name of the task of the family `masked` on whose text the encoders are trained."""
