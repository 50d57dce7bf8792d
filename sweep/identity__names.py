"""File names of what a study names: tasks, encoders, settings, languages. A name is never a path.

A plain name, small letters and digits with single separators between them, is its own file name, with `--` for a slash:
`world/nli+world/pos` is `world--nli+world--pos`, which is how the hub's cache writes ids, too. Any other name keeps
what can be read of it and gets a digest: `FacebookAI/xlm-roberta-base` is `FacebookAI-xlm-roberta-base~0d2b...`.
So no name leaves its folder, hides in it, or means something to a file system, and two names never share a file name,
not even where large and small letters, or composed and decomposed accents, are the same.
"""

from __future__ import annotations

import hashlib
import json
import re

PLAIN = re.compile(r"[a-z0-9]+(?:[-+_.=,/][a-z0-9]+)*|-")  # a dash alone is how a cell says that it has none of these
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")  # devices, to Windows, whatever their suffix
LONGEST = 120  # bytes; file systems take 255, some encrypted ones 143, and suffixes come to it
DIGEST = 12  # hex digits


def file_name(*names: str) -> str:
    """The file name of a name, or of several in their order, with `__` between them."""
    joined = "__".join(_file_name(name) for name in names)
    return joined if len(joined.encode()) <= LONGEST else _marked(joined, names)


def _file_name(name: str) -> str:
    plain = PLAIN.fullmatch(name) and not RESERVED.fullmatch(name)
    return name.replace("/", "--") if plain else _marked(name, (name,))


def _marked(readable: str, names: tuple[str, ...]) -> str:
    # Nothing plain has a tilde, and what is marked has no dot that could make a reserved name of it.
    kept = re.sub(r"[^\w+=]|_(?=_)", "-", readable).strip("_-").encode()[: LONGEST - DIGEST - 1].decode(errors="ignore")
    return f"{kept or 'name'}~{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:DIGEST]}"
