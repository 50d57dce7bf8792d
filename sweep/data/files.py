"""A data file as lines of text, or as one JSON value; decompressed where its name ends in .gz or .bz2.

What is damaged or no UTF-8 raises DataError with `file:line`, what was found and what would do.
"""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from sweep.errors import DataError

BOM = "\ufeff"
DAMAGED = (OSError, EOFError, zlib.error)  # what reading gives where compressed data is not whole
Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]
COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open}


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where its name says so. Raises DataError."""
    opener = COMPRESSED.get(path.suffix)
    try:
        return cast(IO[bytes], opener(path)) if opener else path.open("rb")
    except IsADirectoryError as error:
        raise DataError(path, "a folder", "name a file in it") from error
    except FileNotFoundError as error:
        raise DataError(path, "no such file", "correct the path or data_root") from error
    except OSError as error:
        raise DataError(path, f"a file that cannot be opened ({error.strerror})", "make it readable") from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line without its end). Only \\n and \\r\\n end a line: U+2028 and the like occur inside sentences."""
    number = 0
    with open_bytes(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                text = line.decode("utf-8").rstrip("\r\n")
                if number == 1 and "\r" in text and not line.endswith(b"\n"):
                    raise DataError(path, "lines that end with a carriage return alone", "end them with a line feed")
                yield number, text.removeprefix(BOM) if number == 1 else text
        except UnicodeDecodeError as error:
            found = f"bytes that are not UTF-8 (0x{error.object[error.start]:02x} at byte {error.start} of the line)"
            raise DataError(f"{path}:{number}", found, "save the file as UTF-8") from error
        except DAMAGED as error:
            raise DataError(f"{path}:{number + 1}", f"damaged data ({error})", "fetch the file again") from error


def parsed(text: str, pairs: Pairs | None = None) -> Any:
    """JSON, whose objects `pairs` makes of their items.

    Raises ValueError where it is none, and where a text has half a character (a lone surrogate), which no UTF-8 holds.
    """
    try:
        value = json.loads(text, object_pairs_hook=pairs)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def document(path: Path, pairs: Pairs | None = None) -> Any:
    """A file that is one JSON value. Raises DataError."""
    try:
        return parsed("\n".join(line for _, line in text_lines(path)), pairs)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", f"broken JSON ({error.msg})", "repair or fetch the file") from error
    except ValueError as error:
        raise DataError(path, f"broken JSON ({error})", "repair or fetch the file") from error
