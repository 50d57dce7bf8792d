"""Text tables: columns aligned, cells wrapped where they are too wide for the terminal; nothing is cut off."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from rich.columns import Columns
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDTH = 120  # columns of what is written into a file or a pipe
GAP = 2  # spaces between columns
Cell = str | Sequence[str]  # a text, or short texts side by side in columns of equal width


def table(
    rows: Iterable[Sequence[Cell]],
    header: Sequence[str] = (),
    *,
    numbers: Collection[int] = (),
    indent: int = 0,
    width: int | None = None,
) -> str:
    """Table of rows as lines of at most `width` characters, by default the terminal's width.

    `numbers` are the indices of right-aligned columns; every line begins with `indent` spaces.
    """
    console = _console((width or _width()) - indent)
    console.print(_grid(rows, header, numbers))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # the StringIO of _console
    return "\n".join(f"{' ' * indent}{line}".rstrip() for line in lines)


def split_table(columns: Sequence[tuple[str, Sequence[str]]], width: int | None = None) -> str:
    """Table of (heading, texts) columns; one too wide is split into tables that repeat the first column.

    Two columns may have the same heading.
    """
    room, (first, *further) = width or _width(), columns
    parts: list[list[tuple[str, Sequence[str]]]] = [[first]]
    for column in further:
        if len(parts[-1]) > 1 and _natural_width([*parts[-1], column]) > room:
            parts.append([first])
        parts[-1].append(column)
    return "\n\n".join(table(*_by_row(part), width=room) for part in parts)


def _by_row(columns: Sequence[tuple[str, Sequence[str]]]) -> tuple[list[tuple[str, ...]], list[str]]:
    return list(zip(*(texts for _, texts in columns), strict=True)), [heading for heading, _ in columns]


def _natural_width(columns: Sequence[tuple[str, Sequence[str]]]) -> int:
    console = _console(10_000)
    return Measurement.get(console, console.options, _grid(*_by_row(columns), ())).maximum


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def _console(width: int) -> Console:
    """Console that writes plain text into memory, whatever the environment says of colours and terminals."""
    stream = io.StringIO()
    return Console(file=stream, width=width, color_system=None, force_terminal=False, markup=False, emoji=False)


def _grid(rows: Iterable[Sequence[Cell]], header: Sequence[str], numbers: Collection[int]) -> Table:
    rows = list(rows)
    grid = Table(box=None, show_header=bool(header), padding=(0, GAP, 0, 0), pad_edge=False)
    for index in range(max(map(len, [header, *rows]))):
        heading = Text(header[index]) if header else ""
        grid.add_column(heading, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) if isinstance(cell, str) else _side_by_side(cell) for cell in row))
    return grid


def _side_by_side(texts: Sequence[str]) -> Columns:
    return Columns([Text(text) for text in texts], padding=(0, GAP, 0, 0), equal=True)
