"""Building blocks of a study file: frozen models, strict numbers and names, short notations.

The functions `as_...` turn a short notation in YAML into the value of a model's field. They raise PydanticCustomError,
whose message says what is expected. The type after such a function is that of the notation, for the JSON schema.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict
from pydantic_core import InitErrorDetails, PydanticCustomError

from sweep.errors import nearest

Place = tuple[str | int, ...]  # in a study file
MOST = 10**12  # no count in a study is larger: sums with it stay exact, and files and arrays can hold it


def _visible(name: str) -> str:
    """Name of printable characters. Raises PydanticCustomError."""
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
ONCE = Field(json_schema_extra={"minItems": 1, "uniqueItems": True})  # in the schema, what values_once checks


class Model(BaseModel):
    """Frozen model that refuses unknown keys and infinite numbers. A text below a field is its description.

    A mistyped key must not be a setting that silently does nothing, and infinite numbers have no place in a key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def amount_in(units: Iterable[str], most_signs: str = "-+0-9.eE_") -> Any:
    """Type of the texts of an amount and a unit, for a JSON schema."""
    return Annotated[str, Field(pattern=rf"^\s*[{most_signs}]+\s*({'|'.join(units)})\s*$")]


def values_once(axis: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values of an axis or members of a group: at least one, none twice. Raises PydanticCustomError."""
    if not axis:
        raise PydanticCustomError("empty_axis", "at least one value is expected")
    no_item_twice(axis)
    return axis


def no_item_twice(items: Sequence[object]) -> None:
    """Raises PydanticCustomError with the first item that occurs twice."""
    for item, count in Counter(items).items():
        if count > 1:
            raise PydanticCustomError("twice", "distinct values are expected, {item} occurs twice", {"item": str(item)})


def mistake(place: Place, expected: str, found: str | None = None, nearest: str | None = None) -> InitErrorDetails:
    """Mistake at a place inside of what a validator checks; `found` is said instead of the value there."""
    context = {"expected": expected, "found": found, "nearest": nearest}
    return InitErrorDetails(type=PydanticCustomError("mistake", "{expected}", context), loc=place, input=None)


UNITS = {
    "device-seconds": ("device_seconds", 1.0),
    "device-minutes": ("device_seconds", 60.0),
    "device-hours": ("device_seconds", 3600.0),
    "flops": ("flops", 1.0),
}
# Units in letters of either case.
Amount = amount_in("".join(f"[{sign.upper()}{sign}]" if sign.isalpha() else sign for sign in unit) for unit in UNITS)


SAME = 1e-6  # 0.333333 is a third
LEAST_SHARE = 1e-3  # of a GPU; Ray counts in 1e-4


def as_warmup(value: object) -> object:
    """Warm-up as a share of the steps: 0.1 -> {share: 0.1}; a search space is one of shares."""
    if isinstance(value, dict):
        return {"share": value} if {"log", "linear", "choices"} & value.keys() else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise PydanticCustomError("warmup", "a share of the steps such as 0.1, or {steps: 100}, is expected")
    return {"share": value}


def as_list(value: object) -> object:
    """List of one layer: 14 -> [14]."""
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


def as_volume(value: object) -> object:
    """Number of examples, or 'full'."""
    if value == "full" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    hint = {"nearest": nearest(str(value), ["full"])}
    raise PydanticCustomError("volume", "a number of examples above 0, or 'full', is expected", hint)


Volume = Annotated[int, Field(gt=0)] | Literal["full"]


def as_share(value: Any) -> object:
    """GPUs of one chain: 0, 1, 1/k of one, or 'auto'. More than one is refused: a phase trains on a single device."""
    if value == "auto":
        return value
    # Ray packs other fractions so that devices idle (ray issue 52133).
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and (value == 0 or (LEAST_SHARE <= value <= 1 and abs(1 / value - round(1 / value)) < SAME)):
        return float(value)
    expected = "0, 1, 1/k of a GPU such as 0.5 or 0.25, or 'auto' is expected"
    if number and value > 1:
        expected += ": a chain trains on one GPU, more chains use more of them"
    raise PydanticCustomError("gpu", expected, {"nearest": nearest(str(value), ["auto"])})


Gpus = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]
DURATIONS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
Duration = amount_in(DURATIONS, "0-9.")


def as_duration(value: object) -> object:
    """Seconds of a duration: '8h' or '90 min'."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    expected = f"a time on the clock in {', '.join(DURATIONS)} is expected, as in '8h' or '90 min'"
    if match is None or match[2] not in DURATIONS:
        hint = {"nearest": nearest(match[2], DURATIONS) if match else None}
        raise PydanticCustomError("duration", "{expected}", {"expected": expected, **hint})
    try:
        seconds = float(match[1]) * DURATIONS[match[2]]
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise PydanticCustomError("duration", "a time above zero is expected")
    return seconds


SIZES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
Size = amount_in(SIZES, "0-9.") | Literal[0]


def as_bytes(value: object) -> object:
    """Bytes of a size such as '20 GB'; 0 is none."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    match = re.fullmatch(r"\s*(\d+\.?\d*)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in SIZES:
        hint = {"nearest": nearest(match[2], SIZES) if match else None}
        expected = f"0, or a size in {', '.join(SIZES)} is expected, as in '20 GB'"
        raise PydanticCustomError("size", "{expected}", {"expected": expected, **hint})
    return float(match[1]) * SIZES[match[2]]


def as_budget(value: object) -> object:
    """Budget of an amount and a unit: '2 device-hours' -> 7200 device-seconds."""
    if value is None:
        return None
    match = re.fullmatch(r"\s*([-+0-9.eE_]+)\s*([A-Za-z-]+)\s*", value) if isinstance(value, str) else None
    expected = "an amount and one of " + ", ".join(UNITS)
    if match is None:
        raise PydanticCustomError("budget", "{expected} is expected, as in '2 device-hours'", {"expected": expected})
    if (unit := match[2].lower()) not in UNITS:
        hint = nearest(match[2], UNITS) or nearest(f"device-{match[2]}", UNITS)
        raise PydanticCustomError("budget", "{expected} is expected", {"expected": expected, "nearest": hint})
    name, factor = UNITS[unit]
    try:
        number = float(match[1]) * factor
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise PydanticCustomError("budget", "an amount above zero is expected")
    return {"amount": number, "unit": name}
