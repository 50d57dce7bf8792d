"""Axes of a study, and Arm: the identity of what is compared.

An arm with a target is a cell, a cell with a seed is a run. Whatever groups, names or sorts results asks an arm or a
cell for its columns, its label, its folder and its order: a new axis is one field of `Arm`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, Self, get_type_hints

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sweep.config.values import ONCE, Model, Name, Volume, as_volume, no_item_twice, values_once
from sweep.keys import file_name

NONE = "none"  # the intermediate setting without an intermediate phase: every cell's baseline
BETWEEN = " | "  # between the parts of a cell's name
OWN = "own"  # source: the language that each task is usually trained in, English in the table
FULL, ALL = "full", "all"  # volume and source without a limit
NOTHING = "-"  # in tables: volume and source without an intermediate phase, budget of a chain without one


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
        if name == "volume":
            return tuple(None if volume == FULL else int(volume) for volume in self.volume)
        if name == "chain_budget":
            return (None,) if self.chain_budget is None else self.chain_budget.flops
        values: tuple[Any, ...] = getattr(self, name)
        return values

    def texts(self) -> dict[str, list[str]]:
        """Name of an axis -> its values as a user reads them; without axes that have no values."""
        texts_of = {name: list(map(axis.shown, self.values(name))) for name, axis in AXES.items()}
        texts_of |= {"target": list(self.target), "seed": list(map(str, self.seed))}
        return {name.replace("_", " "): texts for name, texts in texts_of.items() if texts != [NOTHING]}


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

    @property
    def baseline(self) -> bool:
        """Whether there is no intermediate phase."""
        return not self.intermediate

    @property
    def reference(self) -> Self:
        """Arm to compare with: no intermediate phase, the same amount of compute."""
        return replace(self.without(*(name for name, axis in AXES.items() if axis.of_intermediate)), intermediate=())

    def without(self, *names: str) -> Self:
        """Arm with these axes at their default values."""
        return replace(self, **{name: DEFAULTS[name] for name in names})

    def is_set(self, name: str) -> bool:
        """Whether an axis has another value than its default, and applies to this arm."""
        idle = AXES[name].of_intermediate and self.baseline
        return bool(getattr(self, name) != DEFAULTS[name]) and not idle

    def columns(self) -> dict[str, str]:
        """Name of an axis -> text, as in every table."""
        return {name: self.text(name) for name in AXES}

    def text(self, name: str) -> str:
        """Text of an axis' value, as in tables."""
        axis = AXES[name]
        return NOTHING if axis.of_intermediate and self.baseline else axis.text(getattr(self, name))

    def _written(self, form: str, *, always: bool) -> dict[str, str]:
        """Axis -> text in one of its forms, without those at their defaults (kept with `always` if the axis is)."""
        names = [name for name, axis in AXES.items() if self.is_set(name) or (always and axis.always)]
        return {
            name: getattr(AXES[name], form).format(name=name.replace("_", " "), text=self.text(name)) for name in names
        }

    @classmethod
    def of(cls, row: Mapping[Any, Any], but: Collection[str] = ()) -> Self:
        """Arm from the columns of a row; axes in `but` may be absent, and get their defaults."""
        texts = {column.name: row[column.name] for column in fields(cls) if column.name not in but}
        idle = {name for name, text in texts.items() if text == NOTHING and name in AXES and AXES[name].of_intermediate}
        return cls(
            **{
                name: AXES[name].value(text) if name in AXES else text
                for name, text in texts.items()
                if name not in idle
            }
        )

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
        return tuple(self._order(name) for name in (*(name for name in AXES if name not in AMOUNTS), *AMOUNTS))

    def _order(self, name: str) -> Any:
        value, by = getattr(self, name), AXES[name].order
        return by(value) if by else (self.is_set(name), self.text(name))


def _axes() -> dict[str, Axis]:
    hints = get_type_hints(Arm, include_extras=True)
    stated = {field.name: getattr(hints[field.name], "__metadata__", ()) for field in fields(Arm)}
    return {name: markers[0] if markers else Axis() for name, markers in stated.items()}


AXES: Mapping[str, Axis] = _axes()
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Arm)}
AMOUNTS = tuple(name for name, axis in AXES.items() if axis.amount)


@dataclass(frozen=True)
class Cell(Arm):
    """Cell of the grid: an arm and a target. With a seed it is a run."""

    target: str = field(kw_only=True)

    @cached_property
    def arm(self) -> Arm:
        """The arm alone."""
        return Arm(**{name: getattr(self, name) for name in AXES})

    def columns(self) -> dict[str, str]:
        """Name of an axis -> text, with the target."""
        return {**super().columns(), "target": self.target}

    @cached_property
    def name(self) -> str:
        """Name of the cell in one line; part of the keys of its chains."""
        parts = self._written("part", always=True)
        first = [name for name in parts if AXES[name].always or AXES[name].of_intermediate]
        return BETWEEN.join([*map(parts.pop, first), self.target, *parts.values()])


ARM_COLUMNS = tuple(AXES)
CELL_COLUMNS = (*AXES, "target")
PAIRED = ("intermediate", "source")  # not all of them go together
CROSSED = ("encoder", "volume", "target", *(name for name in AXES if name not in ("encoder", "volume", *PAIRED)))
