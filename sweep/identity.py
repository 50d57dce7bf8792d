"""Identity of a value: canonical JSON, then sha256. Refuses what has no stable identity.

A key must be the same on every machine and in every process, so sets, floats that are not finite, and objects that are
neither plain data nor frozen dataclasses are refused with a sentence that says what to write instead.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_LENGTH = 32  # hex digits: 128 bits, far beyond an accidental collision and short enough for a folder's name


def fingerprint(value: object) -> str:
    """`KEY_LENGTH` hex digits of the sha256 of the canonical JSON of `value`.

    Raises TypeError where a part of the value has no stable identity.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:KEY_LENGTH]


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces, tuples as lists, frozen dataclasses as objects."""
    plain = _plain(value, "value")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, shortened like a key. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:KEY_LENGTH]


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}: write a finite number or None")
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_name(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not vars(type(value))["__dataclass_params__"].frozen:
            raise TypeError(f"{where} is a mutable {type(value).__name__}: freeze the dataclass")
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name), f"{where}.{field.name}") for field in fields}
    raise TypeError(f"{where} is a {type(value).__name__}: write str, number, bool, None, tuple or frozen dataclass")


def _name(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where} has the key {key!r}: keys must be strings")
    return key
