"""Study file as a whole, from axes to tracking. Names of tasks and encoders are looked up elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sweep.config.axes import Axes, Settings, phase_of, setting_mistakes
from sweep.config.phases import LENGTHS, PHASES, Phases, Pretrain, put
from sweep.config.values import (
    ONCE,
    Amount,
    Duration,
    Gpus,
    Int,
    Model,
    Name,
    Number,
    Positive,
    Size,
    as_budget,
    as_bytes,
    as_duration,
    as_list,
    as_share,
    mistake,
    no_item_twice,
    values_once,
)
from sweep.keys import fingerprint


class Tokenizer(Model):
    """Tokenizer trained on the text of a masked language modelling task."""

    text: Name
    """Name of the task of the family `masked` whose training text the tokenizer is trained on."""
    vocab_size: Annotated[int, Strict(), Field(ge=64, le=10**7)]
    """Number of entries of the vocabulary, special tokens included; for miniatures some thousands."""
    algorithm: Literal["wordpiece", "bpe", "wordlevel"] = "wordpiece"
    """Algorithm of the `tokenizers` library. There is no unigram, whose trainer draws at random."""


class Encoder(Model):
    """Encoder under a name of its own: a hub id or folder with options, or random weights of a given shape."""

    path: Name | None = None
    """Hub id or local folder of a pretrained encoder; {seed} in it stands for the study's seed, for checkpoints that
    differ by seed. Relative folders begin at the
    study file's."""
    revision: Name | None = None
    """Branch, tag or commit of a hub id. Left out, the main branch; a name is resolved to a commit once, which is
    recorded with the study."""
    random_init: dict[str, Any] | None = None
    """Arguments of the configuration of a model with random weights, `model_type` among them; the section `pretrain`
    trains it."""
    tokenizer: Tokenizer | None = None
    """Tokenizer that is trained for an encoder with random weights; required beside `random_init`."""
    pooling: Literal["mean", "cls"] | None = None
    """How the vectors of tokens become that of a text. Left out, what is known to suit the encoder, else the mean."""

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

    layer: Annotated[
        Annotated[tuple[Int, ...], Field(min_length=1)] | None, BeforeValidator(as_list, int | list[int] | None)
    ] = None
    """Layer whose vectors are read, by retrieval that is not trained: 0 is the embedding layer, -1 the last one. Of
    a list the first counts in scores. Left out, by encoder and depth: 8 of 12, 14 of 24."""
    pooling: Literal["mean", "cls"] | None = None
    """How a layer's token vectors become that of a sentence. Left out, the encoder's own."""


class Scoring(Reading):
    """Scoring of weights; no part of the keys of phases."""

    examples: Positive | None = None
    """Largest number of test examples per language, the same ones for every chain. Left out, all; a smaller number
    saves time and widens intervals."""
    retention: Annotated[bool, Strict()] = False
    """Whether intermediate tasks are scored before and after the target phase: what of them is forgotten."""
    chains: Literal["all", "winners"] = "all"
    """Chains that are scored in the target's languages: all, or of each cell's candidates only the one with the best
    dev score (`winners`), which is enough for means and gains."""
    overrides: dict[Name, Reading] = {}
    """Layer and pooling of single retrieval targets that are not trained."""

    def reading(self, task: str) -> tuple[tuple[int, ...] | None, str | None]:
        """Layers and pooling for a target; None: the encoder's own."""
        own = self.overrides.get(task, Reading())
        return self.layer if own.layer is None else own.layer, own.pooling or self.pooling


class Halving(Model):
    """Successive halving inside one cell: rungs at which candidates are compared on dev, and the share that goes on."""

    rungs: Annotated[tuple[Annotated[float, Strict(), Field(gt=0, lt=1)], ...], Field(min_length=1)]
    """Shares of the target phase, rising, at which candidates are compared on dev, such as [0.25, 0.5]."""
    keep: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    """Share of the candidates that goes on at each rung, rounded up."""

    @field_validator("rungs", mode="after")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise PydanticCustomError(
                "rungs", "shares of the target phase, each larger than the one before, are expected"
            )
        return value


class Tuning(Model):
    """Tuning of the numbers of phases: candidates of every cell; the best one alone is run with the other seeds."""

    candidates: Positive = 1
    """Number of points of the search spaces that are tried in every cell, with the first seed. 1 means no tuning: the
    first point of each space is taken."""
    startup: Positive = 4
    """Number of fixed candidates, which may run side by side; later ones come from Optuna, one after another."""
    halving: Halving | None = None
    """Successive halving of the candidates. Left out, every candidate is trained to its end."""

    @model_validator(mode="after")
    def _rivals(self) -> Tuning:
        if self.halving is not None and self.candidates == 1:
            raise PydanticCustomError("halving", "with 'halving' at least 2 candidates are expected")
        return self


class Reporting(Model):
    """Contents of the report beyond scores and gains; no part of keys."""

    groups: tuple[Name, ...] = ()
    """Groups of languages with means of their own in the report: `joshi_0` to `joshi_5`, `joshi_low` (classes of
    Joshi et al. 2020), `cc100_small` (less than 1 GB in CC-100), `unseen` (not in the encoder's pretraining). Those
    of `language_groups` are always shown."""
    overlapping: Annotated[bool, Strict()] = False
    """Whether cells whose intermediate data overlaps with their target count in means; they are marked either way."""

    @field_validator("groups", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        no_item_twice(value)
        return value


class Budget(Model):
    """Budget of a study. A device is one GPU, or one core where a chain uses no GPU."""

    amount: Number
    """Amount in the unit."""
    unit: Literal["device_seconds", "flops"]
    """Unit: seconds of a device, measured, or training FLOPs, computed."""

    def __str__(self) -> str:
        return f"{self.amount:,.0f} device-seconds" if self.unit == "device_seconds" else f"{self.amount:.3g} FLOPs"


class Runtime(Model):
    """Where and how a study runs; `precision` alone is part of keys.

    Keys hold the precision that is asked for, not the one that a device provides: a plan does not know where a phase
    will run. `auto` uses the best of each device; records hold which one that was, and the report says where it is
    mixed.
    """

    cores: Positive = 1
    """CPU cores of one chain. Without a GPU a chain trains on them, and as many chains run side by side as the
    machine has room for."""
    gpu: Annotated[float | Literal["auto"], BeforeValidator(as_share, Gpus)] = 0.0
    """GPUs of one chain: 0 trains on the CPU, 1 takes a whole GPU, 0.5 puts two chains on one, `auto` finds the
    smallest share that fits and pays."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of training. `auto` is bf16 on a GPU that has it, else fp32; on a CPU without bf16, bf16 is fp32,
    too."""
    cpu_kernels: Literal["auto", "torch"] = "auto"
    """Linear layers and dropout on a CPU: `auto` takes faster kernels where they work, `torch` torch's own. Weights
    then differ as they do between two machines, in last digits and in the noise of dropout; like the machine, this
    is in no key but in the records, and the report says where a study mixes them."""
    vocabulary: Literal["auto", "in_use", "full"] = "auto"
    """Embeddings that a phase holds. `auto`: those of the words in its texts and in those of the phases before it,
    all where it or one of these guesses words of raw text. `in_use` refuses a study with such a phase, `full` holds all
    everywhere. Scores and weights are the same."""
    micro_batch_tokens: Positive | None = None
    """Largest batch in subword tokens, padding included, that is computed at once; larger ones are accumulated to
    the same gradient, with other noise of dropout. Left out, as much as fits."""
    score_batch_tokens: Positive = 16384
    """Batch in subword tokens for scoring; smaller ones need less memory."""
    checkpoint_seconds: Annotated[float, Strict(), Field(gt=0)] = 60.0
    """Seconds between checkpoints of a running phase: what a kill costs at most."""
    silence: Annotated[float, BeforeValidator(as_duration, Duration)] = 7200.0
    """Duration without a sign of life after which a worker is taken to hang and is ended, such as '2h'."""
    keep_target_weights: Annotated[bool, Strict()] = False
    """Whether weights of all scored target phases are kept; they are large, and no other phase begins from them."""
    keep_winners: Annotated[float, BeforeValidator(as_bytes, Size)] = 20e9
    """Size kept for weights of winners' target phases, such as '20 GB', on which further languages of a target can
    be scored later."""

    weights_in_memory: Annotated[float | None, BeforeValidator(as_bytes, Size | None)] = None
    """Size of a worker's memory that weights of encoders and phases may take, such as '8 GB', so that its next chains
    need not read them; 0 keeps none. Left out, a quarter of what a chain may use of the machine's memory."""

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

    study: Annotated[str, Strict(), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """Name of the study and of its results folder: letters, digits, '.', '_' and '-'."""
    question: str = ""
    """Question that the study answers, printed at the head of the report."""
    results: Name | None = None
    """Folder of results, relative to the folder of the study file. Left out, `runs/<study>`; on a cluster, a folder
    that all nodes see."""
    data_root: Name | None = None
    """Folder that paths of data files begin at; itself relative to the folder of the study file, which it is if left
    out."""
    axes: Axes
    """Axes of the comparison: every combination of their values is a cell."""
    encoders: dict[Name, Encoder] = {}
    """Encoders with options of their own, by the names that `axes.encoder` uses; hub ids need no entry."""
    tasks: dict[Name, dict[str, Any]] = {}
    """Data sets of your own, by the names that the axes use. Their keys are those of a data set."""
    pretrain: Pretrain | None = None
    """Pretraining from scratch of encoders with `random_init`; required where an axis names one."""
    intermediate: Phases | None = None
    """Settings of intermediate phases; required where the axis has another value than `none`."""
    target: Phases | None = None
    """Settings of target phases; required where a target has training data."""
    scoring: Scoring = Scoring()
    """How targets are scored."""
    tuning: Tuning = Tuning()
    """How the numbers that have search spaces are tuned."""
    report: Reporting = Reporting()
    """Contents of the report beyond scores and gains."""
    language_groups: dict[Name, Annotated[tuple[Name, ...], AfterValidator(values_once), ONCE]] = {}
    """Groups of languages of your own, by name, such as {andean: [quy, aym]}; the report has means for each."""
    budget: Annotated[Budget | None, BeforeValidator(as_budget, Amount | None)] = None
    """Budget of the whole study, such as '2 device-hours' or '3e18 FLOPs'. Left out, no limit."""
    deadline: Annotated[float | None, BeforeValidator(as_duration, Duration | None)] = None
    """Duration of each run of the study on the clock, such as '8h'. Left out, no limit."""
    runtime: Runtime = Runtime()
    """Where and how the study runs."""
    tracking: Name | None = None
    """MLflow tracking URI, such as http://host:5000. Left out, a SQLite file in the folder of results."""
    _path: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any) -> None:
        """Takes the path of the study file from the context of the validation."""
        if isinstance(context, Path):
            self._path = context

    @property
    def path(self) -> Path:
        """Path of the study file, to whose folder relative paths in it are relative."""
        return self._path

    @property
    def data_folder(self) -> Path:
        """Folder that local data files are relative to, absolute."""
        return (self.path.parent / (self.data_root or ".")).resolve()

    @property
    def results_named(self) -> Path:
        """Folder of results as the file names it, or by default."""
        return Path(self.results or f"runs/{self.study}")

    @model_validator(mode="before")
    @classmethod
    def _begin_with_axes(cls, content: Any) -> Any:
        """A section may leave out what an axis sets: the axis's first value stands there."""
        axes = content.get("axes") if isinstance(content, dict) else None
        if not isinstance(axes, dict):
            return content
        for path, values in axes.items():
            phase, _, key = str(path).partition(".")
            section = content.get(phase)
            if not isinstance(section, dict) or any(setting_mistakes(str(path), values)):
                continue
            by_budget = key in LENGTHS and "chain_budget" in axes
            if key != "schedule" and not by_budget and not any(_same_setting(str(name), key) for name in section):
                content = {**content, phase: dict(section)}
                put(content[phase], key, values[0])
        return content

    @model_validator(mode="after")
    def _axes_fit(self) -> Study:
        by_phase = {phase: [path for path in self.axes.settings if phase_of(path) == phase] for phase in PHASES}
        if mistakes := [one for phase, paths in by_phase.items() if paths for one in _misfits(self, phase, paths)]:
            raise ValidationError.from_exception_data("study", mistakes)
        return self

    def phase(self, name: str, settings: Settings = ()) -> Phases | Pretrain | None:
        """Settings of a phase with these values of settings axes; None where the study has no such phase.

        Raises ValidationError where values do not go together, which no study that was read has.
        """
        section: Phases | Pretrain | None = getattr(self, name)
        changes = self.axes.changes(settings, name)
        return section.with_values(changes) if section is not None and changes else section

    def variants(self, name: str) -> Iterator[Phases | Pretrain]:
        """Settings of a phase with every combination of values of its settings axes; none without such a phase."""
        variants = (self.phase(name, point) for point in self.axes.points(name))
        return (settings for settings in variants if settings is not None)

    def is_random(self, encoder: str) -> bool:
        """Whether an encoder begins with random weights, so that it is pretrained."""
        described = self.encoders.get(encoder)
        return described is not None and described.random_init is not None

    @property
    def results_folder(self) -> Path:
        """Folder of results: absolute, or relative to the working directory where the path of the study file is."""
        return Path(os.path.normpath(self.path.parent / self.results_named))


# -- settings axes beside the other parts of the file ------------------------------------------------------------------


def _same_setting(one: str, other: str) -> bool:
    """Whether two keys of a phase set the same thing: one inside the other, two lengths, two warm-ups."""
    inside = f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
    return inside or {one, other} == set(LENGTHS) or one.partition(".")[0] == other.partition(".")[0] == "warmup"


def _misfits(study: Study, phase: str, paths: Sequence[str]) -> Iterator[InitErrorDetails]:
    """Mistakes in how the settings axes of a phase go with each other and with the rest of the study."""
    wanted = {
        "pretrain": "an encoder of the axis with 'random_init', and a section 'pretrain',",
        "intermediate": "an intermediate task, and a section 'intermediate',",
        "target": "a section 'target'",
    }
    section, random = getattr(study, phase), any(map(study.is_random, study.axes.encoder))
    trained = {"pretrain": random, "intermediate": any(study.axes.intermediate), "target": True}
    if section is None or not trained[phase]:
        for path in paths:
            found = f"an axis of the {phase} phase, which this study does not have"
            yield mistake(("axes", path), f"{wanted[phase]} is expected", found)
        return
    clashes = [clash for path in paths for clash in _clashes(study, phase, path, paths)]
    yield from clashes
    for point in study.axes.points(phase) if not clashes else ():
        try:
            study.phase(phase, point)
        except ValidationError as failure:
            (error, *_) = failure.errors()
            place, found = ("axes", paths[-1]), " with ".join(f"{path} {text}" for path, text in point)
            context = error.get("ctx", {})
            message = f"{context['error']['msg']} (for {context['task']})" if "task" in context else error["msg"]
            yield mistake(place, message, found)
            return


def _clashes(study: Study, phase: str, path: str, paths: Sequence[str]) -> Iterator[InitErrorDetails]:
    """Places beside a settings axis that say the same thing."""
    key, section = path.partition(".")[2], getattr(study, phase)
    for other in paths[: paths.index(path)]:
        if _same_setting(other.partition(".")[2], key):
            yield mistake(("axes", path), "one of them is expected", f"an axis beside {other}, which sets the same")
    for task, changes in section.overrides.items() if isinstance(section, Phases) else ():
        for name in (name for name in changes if _same_setting(name, key)):
            found = f"a value beside axes.{path}, which sets it for every task"
            yield mistake((phase, "overrides", task, name), "one of them is expected", found)
    for name in (name for name in section.spaces if _same_setting(name, key)):
        yield mistake(("axes", path), "one of them is expected", f"an axis of what {phase}.{name} tunes")
    if key in LENGTHS and study.axes.chain_budget is not None and phase != "pretrain":
        yield mistake(
            ("axes", path), "another axis is expected: axes.chain_budget says how long this phase is", "a length"
        )
