"""Identity of values and names: canonical JSON to a key, file digests, file names.

A key must be the same on every machine and in every process, so sets, floats that are not finite, and objects that are
neither plain data nor frozen dataclasses are refused with a sentence that says what to write instead.

A plain name, small letters and digits with single separators between them, is its own file name, with `--` for a slash:
`world/nli+world/pos` is `world--nli+world--pos`, which is how the hub's cache writes ids, too. Any other name keeps its
readable characters and gets a digest: `FacebookAI/xlm-roberta-base` is `FacebookAI-xlm-roberta-base~0d2b...`. So no
name leaves its folder, is hidden in it, or has a meaning to a file system, and two names never share a file name, not
even where large and small letters, or composed and decomposed accents, are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY_LENGTH = 32  # hex digits: 128 bits, far beyond an accidental collision and short enough for a folder's name


def fingerprint(value: object) -> str:
    """Key of a value: KEY_LENGTH hex digits of the sha256 of its canonical JSON.

    Raises TypeError where a part of the value has no stable identity.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:KEY_LENGTH]


def canonical(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, tuples as lists, frozen dataclasses as objects. Raises TypeError."""
    plain = _plain(value, "value")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def file_digest(path: Path) -> str:
    """KEY_LENGTH hex digits of the sha256 of a file's bytes. Raises OSError."""
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


PLAIN = re.compile(r"[a-z0-9]+(?:[-+_.=,/][a-z0-9]+)*|-")  # a dash alone is how a cell says that it has none of these
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")  # devices, to Windows, whatever their suffix
LONGEST = 120  # bytes; file systems take 255, some encrypted ones 143, and suffixes come to it
DIGEST = 12  # hex digits


def file_name(*names: str) -> str:
    """File name of a name, or of several in their order, joined by `__`; at most LONGEST bytes."""
    joined = "__".join(_file_name(name) for name in names)
    return joined if len(joined.encode()) <= LONGEST else _marked(joined, names)


def _file_name(name: str) -> str:
    plain = PLAIN.fullmatch(name) and not RESERVED.fullmatch(name)
    return name.replace("/", "--") if plain else _marked(name, (name,))


def _marked(readable: str, names: tuple[str, ...]) -> str:
    # Nothing plain has a tilde, and what is marked has no dot that could make a reserved name of it.
    kept = re.sub(r"[^\w+=]|_(?=_)", "-", readable).strip("_-").encode()[: LONGEST - DIGEST - 1].decode(errors="ignore")
    return f"{kept or 'name'}~{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:DIGEST]}"
