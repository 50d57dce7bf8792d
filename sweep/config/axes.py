"""Axes of a study, and Arm: the identity of what is compared.

An arm with a target is a cell, a cell with a seed is a run. Whatever groups, names or sorts results asks an arm or a
cell for its columns, its label, its folder and its order: a new axis is one field of `Arm`.

Beside these axes a study may have settings axes: keys of phases by their paths, such as `target.weight_decay`. An arm
has them in `settings`, with the texts of their values. A value says nothing where its phase is not trained, as those of
`intermediate` without an intermediate phase.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, Self, get_type_hints

from pydantic import BeforeValidator, Field, Strict, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from sweep.config.phases import PHASES, PhaseSettings, put
from sweep.config.spaces import is_space
from sweep.config.values import ONCE, Model, Name, Place, Volume, as_volume, mistake, no_item_twice, values_once
from sweep.errors import nearest
from sweep.keys import file_name

NONE = "none"  # the intermediate setting without an intermediate phase: every cell's baseline
BETWEEN = " | "  # between the parts of a cell's name
OWN = "own"  # source: the language that each task is usually trained in, English in the table
FULL, ALL = "full", "all"  # volume and source without a limit
NOTHING = "-"  # in tables: volume and source without an intermediate phase, budget of a chain without one
ABSENT = "absent"  # in tables: a setting that is left to its default, written as null
Settings = tuple[tuple[str, str], ...]  # (path of a key, text of its value), by phase and path


class Shares(Model):
    """Division of a chain's budget among the phases that it trains; a single phase gets all of it."""

    intermediate: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    """Share of the chain's FLOPs that the intermediate phase gets. A smaller one tests a short intermediate phase."""
    target: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    """Share of the chain's FLOPs that the target phase gets; both shares add up to 1."""

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        if abs(self.intermediate + self.target - 1) > 1e-9:
            raise PydanticCustomError("shares", "two shares that add up to 1 are expected")
        return self


class ChainBudget(Model):
    """Training FLOPs that each chain may spend on its intermediate and target phase together."""

    flops: tuple[Annotated[float, Strict(), Field(gt=0)], ...]
    """Training FLOPs of a chain, one value of the axis each, such as [1e17, 3e17]; `sweep plan` says what a phase
    costs."""
    shares: Shares = Shares()
    """How a chain with both phases divides its FLOPs between them."""

    @field_validator("flops", mode="after")
    @classmethod
    def _filled(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        values_once(tuple(f"{flops:g}" for flops in value))  # as tables have them, and lengths of phases depend on them
        return value


class Axes(Model):
    """Axes of the grid that a study compares."""

    encoder: Annotated[tuple[Name, ...], ONCE]
    """Encoders to compare: hub ids, the shipped `world/tiny`, or names from `encoders`."""
    intermediate: Annotated[tuple[tuple[Name, ...], ...], ONCE]
    """Intermediate settings to compare: `none` (the baseline, which gains are differences to), a task, or a list of
    tasks that are trained together in one phase."""
    target: Annotated[tuple[Name, ...], ONCE]
    """Target tasks, each trained in its language and scored in all of its languages."""
    volume: Annotated[tuple[Annotated[int | str, BeforeValidator(as_volume, Volume)], ...], ONCE] = ("full",)
    """Training examples of each intermediate task, as numbers and `full`; a task with fewer gives all that it has.
    Several values ask how much intermediate data is enough."""
    source: Annotated[tuple[Name, ...], ONCE] = (OWN,)
    """Language of the intermediate tasks' training data: `own` (each task's usual one, English for most), a
    language, or `all` (every language that the task has training data in). For tasks whose training data is
    translated."""
    chain_budget: ChainBudget | None = None
    """Training FLOPs of a chain, which set the length of its phases in place of their `epochs` or `steps`, so that
    settings are compared at equal compute. Left out, phases are as long as their settings say."""
    seed: Annotated[tuple[Annotated[int, Strict(), Field(ge=0, lt=2**32)], ...], ONCE]
    """Seeds of random weights, data order and dropout. The report flags fewer than three; with one
    seed nothing is claimed."""
    settings: dict[str, tuple[Any, ...]] = Field({}, alias="<phase>.<key>")
    """Values to compare of any key of a phase, by its path, such as `target.weight_decay` or
    `intermediate.sampling.by`; any number of such axes."""

    @model_validator(mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        paths = {name: item for name, item in value.items() if isinstance(name, str) and "." in name}
        return {**{name: item for name, item in value.items() if name not in paths}, "<phase>.<key>": paths}

    @field_validator("settings", mode="before")
    @classmethod
    def _known(cls, value: dict[str, object]) -> dict[str, object]:
        if mistakes := [mistake for path, values in value.items() for mistake in setting_mistakes(path, values)]:
            raise ValidationError.from_exception_data("axes", mistakes)
        return {path: value[path] for path in sorted(value, key=lambda path: (PHASES.index(phase_of(path)), path))}

    @field_validator("intermediate", mode="before", json_schema_input_type=list[Name | list[Name]])
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
            if joined := [task for task in tasks if "+" in task]:
                expected = "names without '+' are expected (it joins the tasks of a phase), not {item}"
                raise PydanticCustomError("plus", expected, {"item": joined[0]})
            no_item_twice(tasks)
        no_item_twice(["+".join(sorted(tasks)) or NONE for tasks in value])
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _apart(cls, value: Any) -> Any:
        items = value if isinstance(value, tuple) else ()
        for name in (name for item in items for name in (item if isinstance(item, tuple) else [item])):
            if isinstance(name, str) and BETWEEN in name:
                expected = "names without '{between}' are expected (it separates the names of a cell), not {item}"
                raise PydanticCustomError("bar", expected, {"between": BETWEEN, "item": name})
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return values_once(value) if isinstance(value, tuple) else value

    def values(self, name: str) -> tuple[Any, ...]:
        """Values of an axis as arms have them."""
        if name in self.settings:
            return tuple(map(setting_text, self.settings[name]))
        if name == "volume":
            return tuple(None if volume == FULL else int(volume) for volume in self.volume)
        if name == "chain_budget":
            return (None,) if self.chain_budget is None else self.chain_budget.flops
        values: tuple[Any, ...] = getattr(self, name)
        return values

    def points(self, *phases: str) -> Iterator[Settings]:
        """Every combination of values of the settings axes of these phases, by default of all."""
        paths = [path for path in self.settings if phase_of(path) in (phases or PHASES)]
        points = itertools.product(*map(self.values, paths))
        return (tuple(zip(paths, point, strict=True)) for point in points)

    def changes(self, settings: Settings, phase: str) -> dict[str, Any]:
        """Values that settings axes give to the keys of a phase, as the study file has them."""
        known = {path: dict(zip(self.values(path), self.settings[path], strict=True)) for path, _ in settings}
        texts = {path: text for path, text in settings if phase_of(path) == phase and text != NOTHING}
        return {path.partition(".")[2]: known[path][text] for path, text in texts.items()}

    def texts(self) -> dict[str, list[str]]:
        """Name of an axis -> its values as a user reads them; without axes that have no values."""
        texts_of = {name: list(map(axis.shown, self.values(name))) for name, axis in AXES.items()}
        texts_of |= {"target": list(self.target), "seed": list(map(str, self.seed))}
        named = {name.replace("_", " "): texts for name, texts in texts_of.items() if texts != [NOTHING]}
        return named | {path: list(self.values(path)) for path in self.settings}


# -- settings axes -----------------------------------------------------------------------------------------------------


def _keys() -> Iterator[str]:
    """Keys of phases that may be axes, inner ones as `sampling.by`."""
    for name, key in PhaseSettings.model_fields.items():
        yield name
        inner = key.annotation
        if isinstance(inner, type) and issubclass(inner, Model):
            yield from (f"{name}.{inside}" for inside in inner.model_fields)


KEYS = tuple(_keys())


def phase_of(path: str) -> str:
    """Phase of a settings axis."""
    return path.partition(".")[0]


def setting_text(value: object) -> str:
    """Text of a setting's value in one word, as tables have it: 0.01, linear, steps=100, absent."""
    if value is None:
        return ABSENT
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={setting_text(item)}" for name, item in value.items())
    return ",".join(map(setting_text, value)) if isinstance(value, (list, tuple)) else str(value)


def setting_mistakes(path: str, values: object) -> Iterator[InitErrorDetails]:
    """Mistakes in a settings axis: an unknown path, no list, values that its key does not take or that occur twice."""
    phase, _, key = path.partition(".")
    if phase not in PHASES:
        hint = nearest(path, (f"{name}.{key}" for name in PHASES))
        yield mistake((path,), f"one of {', '.join(PHASES)} is expected", f"the unknown phase {phase!r}", hint)
    elif key not in KEYS:
        hint = nearest(key, KEYS)
        expected = f"one of {', '.join(KEYS)} is expected"
        yield mistake((path,), expected, f"the unknown key {key!r} of a phase", hint and f"{phase}.{hint}")
    elif isinstance(values, (list, tuple)):
        yield from _value_mistakes(path, key, values)
    else:
        yield InitErrorDetails(type="tuple_type", loc=(path,), input=values)


def _value_mistakes(path: str, key: str, values: Sequence[object]) -> Iterator[InitErrorDetails]:
    place, read, texts = tuple(key.split(".")), list[str](), tuple(map(setting_text, values))
    for index, value in enumerate(values):
        section: dict[str, Any] = {"learning_rate": 1.0, "batch_tokens": 1}
        put(section, key, value)
        try:
            section = PhaseSettings.model_validate(section).model_dump()
        except ValidationError as failure:
            # What a value needs of other keys is asked where these are known.
            wrong = [error for error in failure.errors() if error["loc"][: len(place)] == place]
            yield from (_moved(error, key, (path, index, *error["loc"][len(place) :])) for error in wrong)
        read.append(repr(section[place[0]]))
        if is_space(value):
            yield mistake((path, index), "one value is expected: what is tuned is said in the phase's own section")
        if BETWEEN in texts[index]:
            yield mistake((path, index), f"a value without '{BETWEEN}' is expected (it separates the names of a cell)")
    try:
        values_once(texts)
    except PydanticCustomError as twice:
        yield InitErrorDetails(type=twice, loc=(path,), input=values)
    else:
        again = [text for index, text in enumerate(texts) if read[index] in read[:index]]
        if again:
            yield mistake((path,), f"distinct values are expected, {again[0]} occurs twice")


def _moved(error: ErrorDetails, key: str, place: Place) -> InitErrorDetails:
    """Mistake in a value of a key, at its place among the values of an axis."""
    if error["type"] != "extra_forbidden":
        kind = PydanticCustomError(error["type"], error["msg"], error.get("ctx"))
        return InitErrorDetails(type=kind, loc=place, input=error["input"])
    known = [inner.removeprefix(f"{key}.") for inner in KEYS if inner.startswith(f"{key}.")]
    name = str(place[-1])
    return mistake(place, f"one of {', '.join(known)} is expected", f"the unknown key {name!r}", nearest(name, known))


# -- the identity of what is compared ----------------------------------------------------------------------------------


def _joined(tasks: tuple[str, ...]) -> str:
    return "+".join(tasks) or NONE  # no task of an axis has a plus in its name


def _tasks(text: str) -> tuple[str, ...]:
    return () if text == NONE else tuple(text.split("+"))


def _none_first(tasks: tuple[str, ...]) -> tuple[int, str]:
    return len(tasks), _joined(tasks)


def _volume_text(examples: int | None) -> str:
    return FULL if examples is None else str(examples)


def _volume(text: str) -> int | None:
    return None if text == FULL else int(text)


def _full_last(examples: int | None) -> float:
    return float("inf") if examples is None else examples


def _budget_text(flops: float | None) -> str:
    return NOTHING if flops is None else f"{flops:g}"


def _budget(text: str) -> float | None:
    return None if text == NOTHING else float(text)


def _unlimited_first(flops: float | None) -> float:
    return flops or 0.0


@dataclass(frozen=True)
class Axis:
    """Text, label and order of an axis' values; its default value is left out of labels.

    `label`, `part` and `folder` are formats of {name} and {text}, the axis and its value's text in tables.
    """

    text: Callable[[Any], str] = str
    value: Callable[[str], Any] = str  # the inverse of `text`
    order: Callable[[Any], Any] | None = None  # sorting key; by default the default value first, others by their text
    label: str = "{name} {text}"  # in labels of arms; "" where the tasks or the surroundings say it
    part: str = "{name} {text}"  # in names of cells, which are in the keys of chains
    folder: str = "{name}-{text}"
    always: bool = False  # whether names of cells and folders have it even where it says nothing
    of_intermediate: bool = False  # whether it says nothing where there is no intermediate phase
    amount: str = ""  # caption of a quantity that costs the more, the more there is of it; "" of any other axis

    def shown(self, value: Any) -> str:
        """Text of a value with its unit, beside the name of its axis."""
        text = self.text(value)
        return text if text == NOTHING else self.label.format(name="", text=text).strip() or text


_PLAIN: Mapping[str, Any] = {"label": "", "part": "{text}", "folder": "{text}", "always": True}


@dataclass(frozen=True)
class Arm:
    """Identity of what is compared: an encoder, its intermediate phase, and the amounts of data and compute."""

    encoder: Annotated[str, Axis(**_PLAIN)] = ""
    # () is no intermediate phase. Sorts as a reader expects: none, single tasks, combinations.
    intermediate: Annotated[tuple[str, ...], Axis(_joined, _tasks, _none_first, **_PLAIN)] = ()
    # Examples of each intermediate task; None is all.
    volume: Annotated[
        int | None,
        Axis(
            _volume_text, _volume, _full_last, label="{text}", part="{text}", folder="{text}", always=True,
            of_intermediate=True, amount="examples of each intermediate task",
        ),
    ] = None  # fmt: skip
    # OWN, ALL, or the language that the intermediate tasks are trained in.
    source: Annotated[str, Axis(label="", part="{text}", folder="{text}", of_intermediate=True)] = OWN
    # FLOPs of training; None: the phases say how long they are. Read back to the six digits that tables have.
    chain_budget: Annotated[
        float | None,
        Axis(
            _budget_text, _budget, _unlimited_first, label="{text} FLOPs", part="{text}", folder="{text}-flops",
            amount="FLOPs that a chain trains with",
        ),
    ] = None  # fmt: skip
    # Settings axes. NOTHING is the value of those whose phase is not trained.
    settings: Settings = ()

    @property
    def baseline(self) -> bool:
        """Whether there is no intermediate phase."""
        return not self.intermediate

    @property
    def reference(self) -> Self:
        """Arm to compare with: no intermediate phase, the same amount of compute, the same settings otherwise."""
        without = self.without(*(name for name, axis in AXES.items() if axis.of_intermediate))
        return replace(without.idle("intermediate"), intermediate=())

    def idle(self, phase: str) -> Self:
        """Arm whose settings of a phase say nothing."""
        settings = ((path, NOTHING if phase_of(path) == phase else text) for path, text in self.settings)
        return replace(self, settings=tuple(settings))

    def with_setting(self, path: str, text: str) -> Self:
        """Arm with another value of a settings axis."""
        return replace(self, settings=tuple((name, text if name == path else own) for name, own in self.settings))

    def without(self, *names: str) -> Self:
        """Arm with these axes at their default values, and without these settings axes."""
        settings = tuple(pair for pair in self.settings if pair[0] not in names)
        return replace(self, settings=settings, **{name: DEFAULTS[name] for name in names if name in AXES})

    def value(self, name: str) -> Any:
        """Value of an axis."""
        return self.text(name) if "." in name else getattr(self, name)

    def is_set(self, name: str) -> bool:
        """Whether an axis has another value than its default, and applies to this arm."""
        idle = AXES[name].of_intermediate and self.baseline
        return bool(getattr(self, name) != DEFAULTS[name]) and not idle

    def columns(self) -> dict[str, str]:
        """Name of an axis -> text, as in every table."""
        return {**{name: self.text(name) for name in AXES}, **dict(self.settings)}

    def text(self, name: str) -> str:
        """Text of an axis' value, as in tables."""
        if "." in name:
            return dict(self.settings).get(name, NOTHING)
        axis = AXES[name]
        return NOTHING if axis.of_intermediate and self.baseline else axis.text(getattr(self, name))

    def _written(self, form: str, *, always: bool) -> dict[str, str]:
        """Axis -> text in one of its forms, without those at their defaults (kept with `always` if the axis is)."""
        names = [name for name, axis in AXES.items() if self.is_set(name) or (always and axis.always)]
        written = {
            name: getattr(AXES[name], form).format(name=name.replace("_", " "), text=self.text(name)) for name in names
        }
        applied = {path: text for path, text in self.settings if text != NOTHING}
        return written | {path: getattr(SETTING, form).format(name=path, text=text) for path, text in applied.items()}

    @classmethod
    def of(cls, row: Mapping[Any, Any], but: Collection[str] = ()) -> Self:
        """Arm from the columns of a row; axes in `but` may be absent, and get their defaults."""
        texts = {column.name: row[column.name] for column in fields(cls) if column.name not in (*but, "settings")}
        idle = {name for name, text in texts.items() if text == NOTHING and name in AXES and AXES[name].of_intermediate}
        stated = {name: text for name, text in texts.items() if name not in idle}
        values = {name: AXES[name].value(text) if name in AXES else text for name, text in stated.items()}
        return cls(settings=tuple((path, row[path]) for path in settings_axes(row)), **values)

    @property
    def label(self) -> str:
        """Label in tables and figures, without the encoder and without default values."""
        tasks = self.text("intermediate")
        if self.is_set("source"):
            tasks += f" in {'all languages' if self.source == ALL else self.source}"
        details = ", ".join(filter(None, self._written("label", always=False).values()))
        return f"{tasks} ({details})" if details else tasks

    @property
    def folder(self) -> str:
        """Name of the folder of published results, without default values."""
        return file_name(*self._written("folder", always=True).values())

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorting key: own source first, small amounts before large ones."""
        stated = tuple(self._order(name) for name in (*(name for name in AXES if name not in AMOUNTS), *AMOUNTS))
        return (*stated, *(_by_size(text) for _, text in self.settings))

    def _order(self, name: str) -> Any:
        value, by = getattr(self, name), AXES[name].order
        return by(value) if by else (self.is_set(name), self.text(name))


def _axes() -> dict[str, Axis]:
    hints = get_type_hints(Arm, include_extras=True)
    named = [field.name for field in fields(Arm) if field.name != "settings"]
    stated = {name: getattr(hints[name], "__metadata__", ()) for name in named}
    return {name: markers[0] if markers else Axis() for name, markers in stated.items()}


def _by_size(text: str) -> tuple[bool, float, str]:
    """Sorting key of a setting's text: numbers first, by size."""
    try:
        return False, float(text), ""
    except ValueError:
        return True, 0.0, text


AXES: Mapping[str, Axis] = _axes()
SETTING = Axis()  # texts of any settings axis, whose path is its name
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Arm)}
AMOUNTS = tuple(name for name, axis in AXES.items() if axis.amount)


@dataclass(frozen=True)
class Cell(Arm):
    """Cell of the grid: an arm and a target. With a seed it is a run."""

    target: str = field(kw_only=True)

    @cached_property
    def arm(self) -> Arm:
        """The arm alone."""
        return Arm(**{name: getattr(self, name) for name in AXES}, settings=self.settings)

    def columns(self) -> dict[str, str]:
        """Name of an axis -> text, with the target."""
        return {**super().columns(), "target": self.target}

    @cached_property
    def name(self) -> str:
        """Name of the cell in one line; part of the keys of its chains."""
        parts = self._written("part", always=True)
        first = [name for name in parts if name in AXES and (AXES[name].always or AXES[name].of_intermediate)]
        return BETWEEN.join([*map(parts.pop, first), self.target, *parts.values()])


def settings_axes(names: Iterable[Any]) -> tuple[str, ...]:
    """Names of settings axes among the columns of a table, those before the columns of single runs."""
    of_arms = itertools.takewhile(lambda name: name not in ("seed", "candidate"), map(str, names))
    return tuple(name for name in of_arms if phase_of(name) in PHASES and name != phase_of(name))


def arm_columns(names: Iterable[Any] = ()) -> tuple[str, ...]:
    """Columns of an arm, of which settings axes are those among `names`."""
    return (*AXES, *settings_axes(names))


def cell_columns(names: Iterable[Any] = ()) -> tuple[str, ...]:
    """Columns of a cell, of which settings axes are those among `names`."""
    return (*arm_columns(names), "target")


PAIRED = ("intermediate", "source")  # not all of them go together
CROSSED = ("encoder", "volume", "target", *(name for name in AXES if name not in ("encoder", "volume", *PAIRED)))
