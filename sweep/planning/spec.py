"""What a study file may say: frozen models, unknown keys refused. Knows no keys of phases and looks no name up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sweep.planning.notation import as_budget, as_duration, as_grid, as_list, as_volume, as_warmup

NONE = "none"  # the intermediate setting that is no intermediate phase: every cell's baseline
OWN = "own"  # the source language that is each task's own: what it is usually trained in, English in the table

Int = Annotated[int, Strict()]
Positive = Annotated[int, Strict(), Field(gt=0)]
Number = Annotated[float, Strict()]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Name = Annotated[str, Strict(), Field(min_length=1)]
Temperature = Annotated[float, Strict(), Field(ge=1)]


class Model(BaseModel):
    """Frozen, and a mistyped key is an error rather than a setting that silently does nothing.

    Infinite numbers are refused: they have no place in a key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RateGrid(Model):
    """Learning rates on a log grid, so that two chains of one prefix can meet. A plain number is a grid of one."""

    log: tuple[Number, Number]  # lowest and highest rate
    points: Positive

    @model_validator(mode="after")
    def _ordered(self) -> RateGrid:
        low, high = self.log
        if not (0 < low <= high < 10) or (low == high) != (self.points == 1):
            raise PydanticCustomError("grid", "two rates, the lower first, and at least 2 points are expected")
        return self

    def values(self) -> tuple[float, ...]:
        """The rates, lowest first, rounded to 4 digits so that they read and hash the same everywhere."""
        low, high = self.log
        ratios = (index / max(self.points - 1, 1) for index in range(self.points))
        return tuple(float(f"{low * (high / low) ** ratio:.4g}") for ratio in ratios)


class Sampling(Model):
    """How a phase of several tasks mixes them: p proportional to n, to 1, or to min(n, cap)^(1/temperature).

    A task with a ratio has that share of the steps; the others divide the rest among them by `by`. A step is one task's
    batch of `batch_tokens`, so a share of steps is a share of tokens.
    """

    by: Literal["proportional", "uniform", "temperature"] = "proportional"
    temperature: Temperature = 2.0
    cap: Positive | None = None
    ratios: dict[Name, Annotated[float, Strict(), Field(gt=0, lt=1)]] = {}

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Sampling:
        if sum(self.ratios.values()) > 1 + 1e-9:
            raise PydanticCustomError("ratios", "ratios of at most 1 together are expected")
        return self

    def shares(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Share of the steps per task, from the size of one pass over each."""
        power = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / self.temperature}[self.by]
        free = {task: size**power for task, size in sizes.items() if task not in self.ratios}
        left, total = 1 - sum(self.ratios[task] for task in sizes if task in self.ratios), sum(free.values())
        return {task: left * free[task] / total if task in free else self.ratios[task] for task in sizes}

    def one_pass(self, sizes: Mapping[str, float]) -> float:
        """Size of one epoch: a pass over every task, those with a ratio apart, which are given their share of it.

        So a ratio of raw text takes nothing from the others: they are seen as often as without it.
        """
        free = sum(size for task, size in sizes.items() if task not in self.ratios)
        left = 1 - sum(self.ratios[task] for task in sizes if task in self.ratios)
        return free / left if free else sum(sizes.values())


class Text(Model):
    """Raw text in a phase, which may be in many languages of very different size."""

    languages: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None  # None: those of the task's description
    temperature: Temperature = 1.0  # a language's share of the text is proportional to its size^(1/temperature)

    @field_validator("languages", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        _no_item_twice(value or ())
        return value


class Warmup(Model):
    """Steps in which the learning rate rises. A plain number is a share of the phase's steps."""

    share: Share | None = None
    steps: Annotated[int, Strict(), Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> Warmup:
        if (self.share is None) == (self.steps is None):
            raise PydanticCustomError("warmup", "exactly one of 'share' and 'steps' is expected")
        return self


class PhaseSettings(Model):
    """One training run. Everything here changes weights and is part of the key."""

    learning_rate: Annotated[RateGrid, BeforeValidator(as_grid)]
    batch_tokens: Positive
    epochs: Annotated[float, Strict(), Field(gt=0)] | None = None
    steps: Positive | None = None
    warmup: Annotated[Warmup, BeforeValidator(as_warmup)] = Warmup(share=0.1)
    schedule: Literal["linear", "wsd", "constant"] = "linear"
    decay: Share = 0.2  # share of the steps in which `wsd` decays
    weight_decay: Annotated[float, Strict(), Field(ge=0)] = 0.01
    clip: Annotated[float, Strict(), Field(gt=0)] = 1.0
    dropout: Share = 0.1
    max_length: Annotated[int, Strict(), Field(ge=8)] | None = None  # tokens; None: what the family usually takes
    select: Literal["best", "last"] = "best"  # checkpoint: best on English dev, or last
    evaluations: Positive = 4  # evenly spaced dev evaluations, the last step included
    # A dev score this near to the best constant answer has learned nothing; -1: whatever is learned is passed on.
    collapse_margin: Annotated[float, Strict(), Field(ge=-1, le=1)] = 0.01
    retries: Annotated[int, Strict(), Field(ge=0)] = 2  # further attempts, with other seeds, of a phase that collapsed
    dev_examples: Positive = 500  # at most so many dev examples per evaluation
    examples: Positive | None = None  # at most so many training examples per task
    sampling: Sampling = Sampling()
    text: Text = Text()

    @model_validator(mode="after")
    def _one_length(self) -> PhaseSettings:
        # Neither is right where a chain's budget says how long a phase is: planning.chain_budget looks at that.
        if self.epochs is not None and self.steps is not None:
            raise PydanticCustomError("length", "exactly one of 'epochs' and 'steps' is expected")
        return self

    @model_validator(mode="after")
    def _warmup_of_wsd(self) -> PhaseSettings:
        # A share would make the first steps depend on the last one, and runs of several lengths share nothing.
        if self.schedule == "wsd" and self.warmup.steps is None:
            raise PydanticCustomError("warmup", "with 'wsd' a warm-up in steps is expected, as in warmup: {steps: 100}")
        return self


class Phases(PhaseSettings):
    """A phase's settings and what single tasks change in them."""

    overrides: dict[Name, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _overrides_hold(self) -> Phases:
        for task in self.overrides:
            self.of((task,))
        return self

    def of(self, tasks: tuple[str, ...]) -> PhaseSettings:
        """The settings for a phase on these tasks; overrides count for a phase on exactly one task."""
        base = self.model_dump(exclude={"overrides"})
        ratios = self.sampling.ratios
        base["sampling"]["ratios"] = {task: ratios[task] for task in tasks if task in ratios and len(tasks) > 1}
        changes = self.overrides.get(tasks[0], {}) if len(tasks) == 1 else {}
        for one, other in (("epochs", "steps"), ("steps", "epochs")):
            if one in changes and other not in changes:
                base[other] = None
        try:
            return PhaseSettings.model_validate({**base, **changes})
        except ValidationError as failure:
            inner = {"task": tasks[0], "error": failure.errors()[0]}
            raise PydanticCustomError("override", "settings of a phase are expected", inner) from None


class Pretrain(PhaseSettings):
    """Masked language modelling from scratch, for encoders that are random at first."""

    task: Name


class Shares(Model):
    """How a chain's budget is divided among the phases that it trains; where it trains one, that one gets all."""

    intermediate: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    target: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        if abs(self.intermediate + self.target - 1) > 1e-9:
            raise PydanticCustomError("shares", "two shares that are 1 together are expected")
        return self


class ChainBudget(Model):
    """FLOPs of training that each chain may spend on its intermediate and its target phase together."""

    flops: tuple[Annotated[float, Strict(), Field(gt=0)], ...]
    shares: Shares = Shares()

    @field_validator("flops", mode="after")
    @classmethod
    def _filled(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return _values(value)


class Axes(Model):
    """What the study compares."""

    encoder: tuple[Name, ...]
    intermediate: tuple[tuple[Name, ...], ...]  # () is `none`
    target: tuple[Name, ...]
    volume: tuple[Annotated[int | str, BeforeValidator(as_volume)], ...] = ("full",)
    source: tuple[Name, ...] = (OWN,)  # language of the intermediate tasks' training data: own, all, or a language
    chain_budget: ChainBudget | None = None  # says how long phases are, in place of their epochs or steps
    seed: tuple[Annotated[int, Strict(), Field(ge=0)], ...]

    @field_validator("intermediate", mode="before")
    @classmethod
    def _settings(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [[] if item == NONE else [item] if isinstance(item, str) else item for item in value]

    @field_validator("intermediate", mode="after")
    @classmethod
    def _phases(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for tasks in value:
            if NONE in tasks:
                raise PydanticCustomError("none", "'none' alone, or tasks without it, are expected")
            _no_item_twice(tasks)
        _no_item_twice(["+".join(sorted(tasks)) or NONE for tasks in value])
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return _values(value) if isinstance(value, tuple) else value


def _values(axis: tuple[Any, ...]) -> tuple[Any, ...]:
    if not axis:
        raise PydanticCustomError("empty_axis", "at least one value is expected")
    _no_item_twice(axis)
    return axis


def _no_item_twice(items: Sequence[object]) -> None:
    for item, count in Counter(items).items():
        if count > 1:
            raise PydanticCustomError("twice", "every value once is expected, {item} stands twice", {"item": str(item)})


class Tokenizer(Model):
    """Trained on the text of a masked-token task."""

    text: Name
    vocab_size: Annotated[int, Strict(), Field(ge=64)]
    algorithm: Literal["wordpiece", "bpe", "wordlevel"] = "wordpiece"  # vocabulary.py says why there is no unigram


class Encoder(Model):
    """An encoder under a name of its own: a hub id or folder with options, or random weights of a given shape."""

    path: Name | None = None  # hub id or folder
    revision: Name | None = None
    random_init: dict[str, Any] | None = None  # arguments of the model's configuration, with `model_type`
    tokenizer: Tokenizer | None = None
    pooling: Literal["mean", "cls"] = "mean"

    @model_validator(mode="after")
    def _one_origin(self) -> Encoder:
        if (self.path is None) == (self.random_init is None):
            raise PydanticCustomError("origin", "exactly one of 'path' and 'random_init' is expected")
        if (self.random_init is None) != (self.tokenizer is None):
            raise PydanticCustomError("origin", "'random_init' and 'tokenizer' are expected together")
        if self.random_init is not None and "model_type" not in self.random_init:
            raise PydanticCustomError("origin", "'random_init' needs 'model_type', such as bert or xlm-roberta")
        return self


class Reading(Model):
    """Which vectors of an encoder stand for a sentence. A list of layers is read in one pass; its first counts."""

    layer: Annotated[tuple[Int, ...] | None, BeforeValidator(as_list), Field(min_length=1)] = None
    pooling: Literal["mean", "cls"] | None = None


class Scoring(Reading):
    """How weights are scored; nothing here is part of a phase.

    `layer` and `pooling` are for retrieval targets that are not trained: 0 is the embedding layer, -1 the last one;
    without `layer` sweep.planning.reading chooses by the encoder's depth, and pooling is the mean.
    """

    examples: Positive | None = None  # at most so many test examples per language, the same ones for every chain
    retention: Annotated[bool, Strict()] = False  # score intermediate tasks again after the target phase
    # Winners: of a cell's candidates only the one with the best dev score looks at the target's languages.
    chains: Literal["all", "winners"] = "all"
    overrides: dict[Name, Reading] = {}  # by target

    def reading(self, task: str) -> tuple[tuple[int, ...] | None, str]:
        """Layers (None: by the encoder's depth) and pooling for a target."""
        own = self.overrides.get(task, Reading())
        return self.layer if own.layer is None else own.layer, own.pooling or self.pooling or "mean"


class Halving(Model):
    """Where the candidates of a cell are compared on dev, and the share of them that goes on each time."""

    rungs: Annotated[tuple[Annotated[float, Strict(), Field(gt=0, lt=1)], ...], Field(min_length=1)]
    keep: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5

    @field_validator("rungs", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise PydanticCustomError(
                "rungs", "shares of the target phase, each larger than the one before, are expected"
            )
        return value


class Tuning(Model):
    """Candidates of learning rates, the same number for every cell; the winner alone is run with the other seeds."""

    candidates: Positive = 1
    startup: Positive = 4  # candidates that are fixed in advance and may run side by side; Optuna asks for later ones
    halving: Halving | None = None  # None: every candidate is trained to its end

    @model_validator(mode="after")
    def _rivals(self) -> Tuning:
        if self.halving is not None and self.candidates == 1:
            raise PydanticCustomError("halving", "with 'halving' at least 2 candidates are expected")
        return self


class Reporting(Model):
    """What the report shows beyond scores and gains; nothing here is part of a key."""

    groups: tuple[Name, ...] = ()  # of languages, as planning.groups knows them; the study's own are always shown
    overlapping: Annotated[bool, Strict()] = False  # whether cells that share data with their target count in means

    @field_validator("groups", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _no_item_twice(value)
        return value


class Budget(Model):
    """What the study may spend. A device is one GPU, or one core where a chain uses no GPU."""

    amount: Number
    unit: Literal["device_seconds", "flops"]

    def __str__(self) -> str:
        return f"{self.amount:,.0f} device-seconds" if self.unit == "device_seconds" else f"{self.amount:.3g} FLOPs"


class Runtime(Model):
    """Where and how it runs; nothing here is part of a key."""

    cores: Positive = 1  # CPU cores of one chain
    gpu: Annotated[float, Strict(), Field(ge=0)] = 0.0  # GPUs of one chain: 0, 1, or a share such as 0.5
    precision: Literal["auto", "fp32", "bf16"] = (
        "auto"  # auto: bf16 on a GPU that has it, else fp32; bf16 on a CPU without it is fp32
    )
    micro_batch_tokens: Positive | None = None  # a batch larger than this is accumulated from parts
    score_batch_tokens: Positive = 16384
    checkpoint_seconds: Annotated[float, Strict(), Field(gt=0)] = 60.0
    keep_target_weights: Annotated[bool, Strict()] = (
        False  # a scored target phase has no children; its weights are large
    )

    @field_validator("gpu")
    @classmethod
    def _whole_or_unit_fraction(cls, value: float) -> float:
        # Ray packs other fractions so that devices idle (ray issue 52133).
        if (value > 1 and value != int(value)) or (0 < value < 1 and abs(1 / value - round(1 / value)) > 1e-6):
            raise PydanticCustomError("gpu", "0, a whole number, or 1/k of a GPU is expected")
        return value


class Study(Model):
    """One study file."""

    study: Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = ""
    results: Name | None = None  # folder, relative to where `sweep run` is called; runs/<study> where absent
    data_root: Name | None = None  # folder that local data files are relative to; itself relative to this file
    axes: Axes
    encoders: dict[Name, Encoder] = {}
    tasks: dict[Name, dict[str, Any]] = {}  # the user's own data sets; sweep.tasks.sources checks what is in them
    pretrain: Pretrain | None = None
    intermediate: Phases | None = None
    target: Phases | None = None
    scoring: Scoring = Scoring()
    tuning: Tuning = Tuning()
    report: Reporting = Reporting()
    language_groups: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] = {}
    budget: Annotated[Budget | None, BeforeValidator(as_budget)] = None
    deadline: Annotated[float | None, BeforeValidator(as_duration)] = None  # seconds on the clock, of each run
    runtime: Runtime = Runtime()
    tracking: Name | None = None  # MLflow tracking URI; a SQLite file in the results folder where absent

    @property
    def results_folder(self) -> Path:
        return Path(self.results or f"runs/{self.study}")
