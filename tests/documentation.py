"""Pages of the documentation as their blocks, and the folders of files that pages show. No tests here.

A block is a file where the paragraph before it ends in a colon and names one: "`topics.yaml`:". A block of `console` is
a dialogue: commands behind `$`, then what they print; a mapping shown just before it, without a name, changes the study
that its commands name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from ruamel.yaml import YAML

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(REPOSITORY)): path
    for path in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/**/*.md")))
}
FILE = re.compile(r"`([\w./-]+\.\w+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    name: str | None  # of the file that it is

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Blocks of a page, in their order."""
    return tuple(_blocks(page))


def _blocks(page: str) -> Iterator[Block]:
    before = ""
    for token in MarkdownIt("commonmark").enable("table").parse(PAGES[page].read_text(encoding="utf-8")):
        if token.type == "inline":
            before = token.content
        elif token.type == "fence":
            assert token.map is not None
            names = FILE.findall(before) if before.endswith(":") else []
            yield Block(page, token.map[0] + 1, token.info.strip(), token.content, names[-1] if names else None)
            before = ""


def blocks_in(*languages: str) -> list[Block]:
    """Blocks of all pages in these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def write_files(page: str, folder: Path, before: Block | None = None) -> None:
    """Writes the files that a page shows, or those before a block."""
    for block in itertools.takewhile(lambda block: block is not before, blocks(page)):
        if block.name is not None and block.language not in ("sh", "console"):
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


def mapping(block: Block) -> dict[str, Any]:
    """A block of YAML as data."""
    content = YAML(typ="safe", pure=True).load(block.text)
    assert isinstance(content, dict), block
    return content


def is_study(block: Block) -> bool:
    """Whether a block of YAML is a whole study."""
    return {"study", "axes"} <= set(mapping(block))


def merged(base: Any, changes: Any) -> Any:
    """A mapping with another's values in place of its own, at any depth; a key whose new value is empty is left out."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    joined = {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}
    return {key: value for key, value in joined.items() if value is not None}
