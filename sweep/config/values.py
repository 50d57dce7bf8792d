"""What every part of a study file is made of: frozen models that refuse unknown keys, and strict numbers and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

MOST = 10**12  # no count in a study is larger: sums with it stay exact, and files and arrays can hold it


def _visible(name: str) -> str:
    """Refuses what no file system or page would show as it is."""
    if not all(character.isprintable() for character in name):
        raise PydanticCustomError("name", "a name of printable characters is expected")
    return name


Int = Annotated[int, Strict()]
Positive = Annotated[int, Strict(), Field(gt=0, le=MOST)]
Count = Annotated[int, Strict(), Field(ge=0, le=MOST)]
Number = Annotated[float, Strict()]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Name = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_visible)]
Temperature = Annotated[float, Strict(), Field(ge=1)]


class Model(BaseModel):
    """Frozen, and a mistyped key is an error rather than a setting that silently does nothing.

    Infinite numbers are refused: they have no place in a key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def values_once(axis: tuple[Any, ...]) -> tuple[Any, ...]:
    """At least one value and none twice: an axis, or the members of a group."""
    if not axis:
        raise PydanticCustomError("empty_axis", "at least one value is expected")
    no_item_twice(axis)
    return axis


def no_item_twice(items: Sequence[object]) -> None:
    """Raises a validation error that names the item."""
    for item, count in Counter(items).items():
        if count > 1:
            raise PydanticCustomError("twice", "every value once is expected, {item} stands twice", {"item": str(item)})
