"""Search spaces: the values from which tuning chooses a number of a phase.

A field that is marked with TUNED takes a number or a mapping that is a space. Its model, a Tunable, then has the value
with which tuning begins in the field, so that whoever reads settings reads numbers, and keeps the space beside it.
Spaces are grids of a few values: candidates, also those of different cells, meet at their points and share phases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, GetCoreSchemaHandler, PrivateAttr, Strict, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from sweep.config.values import Model, no_item_twice

Value = float | None  # of a tuned number; None where a choice is null: the default of the key
Number = float | int  # whole numbers stay whole
Ends = tuple[Number, Number]

MOST_POINTS = 1000


def is_space(value: object) -> bool:
    """Whether a value of a study file is meant as a search space."""
    return isinstance(value, dict) and bool({"log", "linear", "choices"} & value.keys())


def value_text(value: Value, form: str = ".3g") -> str:
    """Text of a value: whole numbers in full, others in this form."""
    if value is None:
        return "default"
    return str(value) if isinstance(value, int) else format(value, form)


class Space(Model):
    """Search space of a number: an evenly spaced grid, one that is even in the logarithm, or a list of choices."""

    log: Ends | None = None
    """Lowest and highest value, both above 0, of a grid that is even in the logarithm."""
    linear: Ends | None = None
    """Lowest and highest value of an evenly spaced grid."""
    points: Annotated[int, Strict(), Field(gt=0, le=MOST_POINTS)] | None = None
    """Number of values of `log` or `linear`, both ends included."""
    choices: Annotated[tuple[Number | None, ...], Field(max_length=MOST_POINTS)] | None = None
    """Values themselves, at least two; null is the default of the key, where it has one."""
    first: Number | None = None
    """Value with which tuning begins, such as a published one. Left out, the middle; of choices with null the first."""

    @model_validator(mode="after")
    def _one_kind(self) -> Space:
        if [self.log, self.linear, self.choices].count(None) != 2:
            raise PydanticCustomError("space", "exactly one of 'log', 'linear' and 'choices' is expected")
        if self.choices is not None:
            self._check_choices(self.choices)
        elif self.points is None:
            raise PydanticCustomError("space", "the key 'points', the number of values, is expected beside the range")
        else:
            self._check_grid(*self._ends, self.points)
        return self

    def _check_choices(self, choices: tuple[Value, ...]) -> None:
        if self.points is not None:
            raise PydanticCustomError(
                "space", "'choices' without 'points' are expected: they are the values themselves"
            )
        if len(choices) < 2:
            raise PydanticCustomError("space", "at least 2 choices are expected, or the number alone")
        no_item_twice(choices)
        if self.first is not None and self.first not in choices:
            raise PydanticCustomError("space", "'first' is expected to be one of the choices")

    def _check_grid(self, low: float, high: float, points: int) -> None:
        kind, numbers = ("log", "two numbers above 0") if self.log is not None else ("linear", "two numbers")
        if low >= high or points < 2 or (kind == "log" and low <= 0):
            expected = "{numbers}, the lower first, and at least 2 points are expected"
            raise PydanticCustomError("space", expected, {"numbers": numbers})
        if len(set(self.values)) < points:
            expected = "no more points than there are different values are expected: {count}"
            raise PydanticCustomError("space", expected, {"count": len(set(self.values))})
        if self.first is not None and not low <= self.first <= high:
            expected = "'first' is expected to lie between the two numbers of '{kind}'"
            raise PydanticCustomError("space", expected, {"kind": kind})

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Values to choose from, rising where they are all numbers.

        Those of a grid are rounded, to whole numbers where both ends are whole, else to 4 digits, so that they read and
        hash alike everywhere.
        """
        if self.choices is not None:
            numbers = [choice for choice in self.choices if choice is not None]
            return tuple(sorted(numbers)) if len(numbers) == len(self.choices) else self.choices
        assert self.points is not None
        low, high = self._ends
        ratios = [index / (self.points - 1) for index in range(self.points)]
        exact = [low * (high / low) ** ratio if self.log else low + (high - low) * ratio for ratio in ratios]
        whole = isinstance(low, int) and isinstance(high, int)
        return tuple(round(value) if whole else float(f"{value:.4g}") for value in exact)

    @property
    def _ends(self) -> Ends:
        ends = self.log or self.linear
        assert ends is not None
        return ends

    @property
    def ordered(self) -> bool:
        """Whether values are numbers, of which neighbours are alike; null is like no other."""
        return None not in self.values

    @cached_property
    def beginning(self) -> int:
        """Index of the value with which tuning begins: the one nearest to `first`, or the middle."""
        if self.first is None:
            return (len(self.values) - 1) // 2 if self.ordered else 0
        if self.choices is not None:
            return self.values.index(self.first)
        scale: Callable[[float], float] = math.log if self.log else float
        away = [abs(scale(value) - scale(self.first)) for value in self.values if value is not None]
        return away.index(min(away))


class _Tuned:
    """Mark of a field whose number may be a space; the space's numbers obey the field's own type and bounds."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = handler(source)
        ends, count = (
            core_schema.tuple_schema([number, number]),
            core_schema.int_schema(strict=True, gt=0, le=MOST_POINTS),
        )
        keys = {
            "log": ends,
            "linear": ends,
            "points": count,
            "choices": core_schema.list_schema(number),
            "first": number,
        }
        fields = {name: core_schema.typed_dict_field(schema, required=False) for name, schema in keys.items()}
        written = SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="forbid"))

        def validated(value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if isinstance(value, dict):
                return Space.model_validate(written.validate_python(value))
            return value if isinstance(value, Space) else validate(value)

        written_as = core_schema.union_schema([number, handler.generate_schema(Space)])  # in the JSON schema
        return core_schema.no_info_wrap_validator_function(validated, number, json_schema_input_schema=written_as)


TUNED = _Tuned()


class Tunable(Model):
    """Model with fields that are marked with TUNED, its own or those of models in it.

    A number is named by its path in the YAML file, such as `weight_decay` or `sampling.temperature`.
    """

    _spaces: dict[str, Space] = PrivateAttr(default_factory=dict)  # of fields of this very model

    @model_validator(mode="after")
    def _keep_spaces(self) -> Self:
        for name, value in dict(self).items():
            if isinstance(value, Space):
                self._spaces[name] = value
                self.__dict__[name] = value.values[value.beginning]
        return self

    @property
    def spaces(self) -> dict[str, Space]:
        """Name of a tuned number -> its space, in the order of fields."""
        found = dict[str, Space]()
        for name, value in self:
            if name in self._spaces:
                found[name] = self._spaces[name]
            elif isinstance(value, Tunable):
                found |= {f"{name}.{inner}": space for inner, space in value.spaces.items()}
        return found

    def content(self) -> dict[str, Any]:
        """Plain data of which an equal model is made: a value for each field, its space where it is tuned."""
        plain = {name: value.content() if isinstance(value, Tunable) else value for name, value in self}
        return plain | self._spaces

    def at(self, values: Mapping[str, Any]) -> Self:
        """The model with these values, which are not tuned any more. They are taken as they are."""
        update, parts = dict[str, Any](), dict[str, dict[str, Any]]()
        for name, value in values.items():
            head, _, rest = name.partition(".")
            if rest:
                parts.setdefault(head, {})[rest] = value
            else:
                update[head] = value
        update |= {head: getattr(self, head).at(inner) for head, inner in parts.items()}
        made = self.model_copy(update=update)
        made._spaces = {name: space for name, space in self._spaces.items() if name not in update}
        return made

    def untuned(self, names: Collection[str]) -> Self:
        """The model in which these numbers are not tuned, but have the values with which tuning begins."""
        kept = {name: space.values[space.beginning] for name, space in self.spaces.items() if name in names}
        return self.at(kept) if kept else self

    def possible(self, name: str) -> tuple[Any, ...]:
        """Values that a number may have: its own alone, or those of its space."""
        if space := self.spaces.get(name):
            return space.values
        value: Any = self
        for part in name.split("."):
            value = getattr(value, part)
        return (value,)
