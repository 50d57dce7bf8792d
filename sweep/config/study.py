"""Study file as a whole, from axes to tracking. Names of tasks and encoders are looked up elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sweep.config.axes import Axes
from sweep.config.phases import Phases, Pretrain
from sweep.config.values import (
    Int,
    Model,
    Name,
    Number,
    Positive,
    as_budget,
    as_bytes,
    as_duration,
    as_list,
    as_share,
    no_item_twice,
    values_once,
)
from sweep.identity import fingerprint


class Tokenizer(Model):
    """Tokenizer trained on the text of a masked language modelling task."""

    text: Name
    vocab_size: Annotated[int, Strict(), Field(ge=64, le=10**7)]
    algorithm: Literal["wordpiece", "bpe", "wordlevel"] = "wordpiece"  # vocabulary.py says why there is no unigram


class Encoder(Model):
    """Encoder under a name of its own: a hub id or folder with options, or random weights of a given shape."""

    path: Name | None = None  # hub id or folder
    revision: Name | None = None
    random_init: dict[str, Any] | None = None  # arguments of the model's configuration, with `model_type`
    tokenizer: Tokenizer | None = None
    pooling: Literal["mean", "cls"] | None = None  # None: as the registry knows the encoder, by default the mean

    @field_validator("random_init", mode="after")
    @classmethod
    def _plain(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and not isinstance(value.get("model_type"), str):
            raise PydanticCustomError("origin", "'model_type', such as bert or xlm-roberta, is expected in it")
        try:
            fingerprint(value)
        except (TypeError, ValueError) as failure:
            raise PydanticCustomError("plain", "plain values are expected: {it}", {"it": str(failure)}) from None
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Encoder:
        if (self.path is None) == (self.random_init is None):
            raise PydanticCustomError("origin", "exactly one of 'path' and 'random_init' is expected")
        if (self.random_init is None) != (self.tokenizer is None):
            raise PydanticCustomError("origin", "'random_init' and 'tokenizer' are expected together")
        return self


class Reading(Model):
    """Vectors that stand for a sentence. A list of layers is read in one pass; the first one counts in scores."""

    layer: Annotated[Annotated[tuple[Int, ...], Field(min_length=1)] | None, BeforeValidator(as_list)] = None
    pooling: Literal["mean", "cls"] | None = None


class Scoring(Reading):
    """Scoring of weights; no part of the keys of phases."""

    examples: Positive | None = None  # at most so many test examples per language, the same ones for every chain
    retention: Annotated[bool, Strict()] = False  # score intermediate tasks again after the target phase
    # Winners: of a cell's candidates only the one with the best dev score looks at the target's languages.
    chains: Literal["all", "winners"] = "all"
    overrides: dict[Name, Reading] = {}  # by target

    def reading(self, task: str) -> tuple[tuple[int, ...] | None, str | None]:
        """Layers and pooling for a target; None: the encoder's own."""
        own = self.overrides.get(task, Reading())
        return self.layer if own.layer is None else own.layer, own.pooling or self.pooling


class Halving(Model):
    """Successive halving inside one cell: rungs at which candidates are compared on dev, and the share that goes on."""

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
    """Tuning of learning rates: candidates of every cell; the best one alone is run with the other seeds."""

    candidates: Positive = 1
    startup: Positive = 4  # candidates that ask for no score of their cell, and may run side by side; then Optuna
    halving: Halving | None = None  # None: every candidate is trained to its end

    @model_validator(mode="after")
    def _rivals(self) -> Tuning:
        if self.halving is not None and self.candidates == 1:
            raise PydanticCustomError("halving", "with 'halving' at least 2 candidates are expected")
        return self


class Reporting(Model):
    """Contents of the report beyond scores and gains; no part of keys."""

    groups: tuple[Name, ...] = ()  # of languages, as planning.groups knows them; the study's own are always shown
    overlapping: Annotated[bool, Strict()] = False  # whether cells that share data with their target count in means

    @field_validator("groups", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        no_item_twice(value)
        return value


class Budget(Model):
    """Budget of a study. A device is one GPU, or one core where a chain uses no GPU."""

    amount: Number
    unit: Literal["device_seconds", "flops"]

    def __str__(self) -> str:
        return f"{self.amount:,.0f} device-seconds" if self.unit == "device_seconds" else f"{self.amount:.3g} FLOPs"


class Runtime(Model):
    """Where and how a study runs; `precision` alone is part of keys.

    Keys hold the precision that is asked for, not the one that a device provides: a plan does not know where a phase
    will run. `auto` uses the best of each device; records hold which one that was, and the report says where it is
    mixed.
    """

    cores: Positive = 1  # CPU cores of one chain
    # GPUs of one chain: 0, 1, or a share such as 0.5; auto: the smallest share that fits and pays
    gpu: Annotated[float | Literal["auto"], BeforeValidator(as_share)] = 0.0
    precision: Literal["auto", "fp32", "bf16"] = (
        "auto"  # auto: bf16 on a GPU that has it, else fp32; bf16 on a CPU without it is fp32
    )
    # auto: linear layers and dropout on a CPU by the faster kernels of training/cpu_kernels.py, where they work; torch:
    # by torch alone. Weights then differ as they do between two machines, in last digits and in the noise of dropout.
    # As the machine, this is in no key but in the records, and the report says where a study mixes them.
    cpu_kernels: Literal["auto", "torch"] = "auto"
    # A batch larger than this is accumulated from parts, as one is that does not fit a device: the same gradient, with
    # other noise of dropout.
    micro_batch_tokens: Positive | None = None
    score_batch_tokens: Positive = 16384
    checkpoint_seconds: Annotated[float, Strict(), Field(gt=0)] = 60.0
    silence: Annotated[float, BeforeValidator(as_duration)] = 7200.0  # a worker that says nothing for so long hangs
    keep_target_weights: Annotated[bool, Strict()] = (
        False  # a scored target phase has no children; its weights are large
    )
    # Bytes for those of winners, which another language of a target is scored on.
    keep_winners: Annotated[float, BeforeValidator(as_bytes)] = 20e9

    @property
    def shares(self) -> bool:
        """Whether a chain's share of a device is measured."""
        return self.gpu == "auto"

    @property
    def gpus(self) -> float:
        """GPUs of a chain; 1 where shares are measured, until they have been."""
        return 1.0 if self.gpu == "auto" else self.gpu

    @property
    def devices(self) -> float:
        """Devices of a chain: GPUs, or cores where it uses no GPU."""
        return self.gpus or float(self.cores)


class Study(Model):
    """Study file: one question, its axes, data, training, tuning, budget and runtime."""

    study: Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]  # a folder's name
    question: str = ""
    results: Name | None = None  # folder, relative to where `sweep run` is called; runs/<study> where absent
    data_root: Name | None = None  # folder that local data files are relative to; itself relative to this file
    axes: Axes
    encoders: dict[Name, Encoder] = {}
    tasks: dict[Name, dict[str, Any]] = {}  # the user's own data sets; sweep.tasks.describe checks what is in them
    pretrain: Pretrain | None = None
    intermediate: Phases | None = None
    target: Phases | None = None
    scoring: Scoring = Scoring()
    tuning: Tuning = Tuning()
    report: Reporting = Reporting()
    language_groups: dict[Name, Annotated[tuple[Name, ...], AfterValidator(values_once)]] = {}
    budget: Annotated[Budget | None, BeforeValidator(as_budget)] = None
    deadline: Annotated[float | None, BeforeValidator(as_duration)] = None  # seconds on the clock, of each run
    runtime: Runtime = Runtime()
    tracking: Name | None = None  # MLflow tracking URI; a SQLite file in the results folder where absent

    @property
    def results_folder(self) -> Path:
        """Folder of results, relative to the working directory."""
        return Path(self.results or f"runs/{self.study}")
