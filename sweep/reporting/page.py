"""Report page: fills the template page.html.j2. Pictures come as SVG, numbers as frames of texts; nothing is computed.

What the page says and how it looks is in the template alone. Whatever is put into it is escaped, but for pictures,
whose texts matplotlib has escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweep.reporting.statistics import CONFIDENCE, LEVEL

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Column:
    """Heading of a table's column, and whether its texts are numbers, which stand at the right."""

    name: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """Texts in rows, as the template shows them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def fill(
    *,
    pictures: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    sentences: Mapping[str, Sequence[str]],
    **values: str | bool,
) -> str:
    """The whole document.

    `pictures` are SVG documents or "", `tables` frames whose cells are texts. `values` are the other names in the
    template; one that is missing raises jinja2.UndefinedError.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        pictures={name: _inline(svg) for name, svg in pictures.items()},
        tables={name: _table(frame) for name, frame in tables.items()},
        sentences=sentences,
        confidence=f"{CONFIDENCE:.0%}",
        level=f"{LEVEL:.0%}",
        **values,
    )


def _inline(svg: str) -> str:
    # Namespace addresses are for standalone files; inside HTML the parser knows them.
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)


def _table(frame: pd.DataFrame) -> Table | None:
    """A frame whose cells are texts already; None where it is empty."""
    if frame.empty:
        return None
    columns = tuple(Column(str(name), all(map(_is_number, frame[name]))) for name in frame)
    return Table(columns, tuple(tuple(map(str, row)) for row in frame.itertuples(index=False, name=None)))


def _is_number(text: object) -> bool:
    return bool(re.fullmatch(r"[+−-]?[\d.,e+-]*( \[.*\])?|–|", str(text)))
