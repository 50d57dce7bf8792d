"""Units of dependent examples, and shares of train that are drawn as dev by whole units.

Questions on one passage are a unit, as are sentences of one document, rows that a study says belong together (the
column `unit`), and the translations of one item in all languages. A unit has one number in all languages of a test set.

Examples of a language share a unit where they share a *group*: its `unit`, else its context. Groups of different
languages are translations of each other where they have the same name, where their examples have the same ids (XQuAD,
MLQA), or else by position, if both languages have as many examples, or as many groups. Where languages are no
translations, a join by position costs nothing: their examples do not vary together. A join that would glue the groups
of one language to each other is none of translations, and is not made.

Where dev is a share of train, train is all other rows, exactly. Files are often ordered, by label, source or
difficulty, so that no rule on positions is fair. A passage, document or text that was trained on is no dev data: rows
of a unit and rows with the same content stay on one side. Each label gets its part of the share, rounded so that the
parts add up to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row

if TYPE_CHECKING:
    from sweep.tasks.task import Family

Ids = NDArray[np.int64]

GLUED = 2  # a join that leaves less than 1/GLUED of a language's groups was no join of translations


@dataclass(frozen=True)
class Marks:
    """Digests by which rows of a test set in one language are joined to units: 64 bits each."""

    groups: Ids  # [N] of the name of a row's unit; of its position where it has none
    items: Ids | None  # [N] of ids that translations may share; None: rows have no ids
    own: bool  # units are named in this language's words: their translations have other names


def marks_of(family: Family, rows: Sequence[Row]) -> Marks:
    """Marks of all rows of a test set in one language, in their order."""
    named = [group(family, row) for row in rows]
    groups = [digest(str(position) if name is None else name) for position, name in enumerate(named)]
    ids = [digest(row["id"]) for row in rows if "id" in row]
    items = np.array(ids, dtype=np.int64) if len(ids) == len(rows) else None
    own = any(family.own_words or row.get("unit") is not None for row in rows)
    return Marks(np.array(groups, dtype=np.int64), items, own)


def group(family: Family, row: Row) -> str | None:
    """Name that a row shares with the other rows of its unit, or None."""
    if (unit := row.get("unit")) is not None:
        return f"unit {unit}"
    return family.unit(row)


def content(family: Family, row: Row) -> str:
    """Texts of a row without its label: in any order, and whatever their case, white space and Unicode form."""
    return "\n".join(sorted(" ".join(normalize("NFKC", text).casefold().split()) for text in family.contents(row)))


def digest(text: str) -> int:
    """Signed 64-bit digest (blake2b) of a text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True)


def units(by_language: Mapping[str, Marks]) -> dict[str, Ids]:
    """Unit numbers [N] per language, counted from 0 over all languages of the test set."""
    if not by_language:
        return {}
    names = np.concatenate([marks_of.groups for marks_of in by_language.values()])
    _, group = np.unique(names, return_inverse=True)  # groups of one name are one
    ends = np.cumsum([len(marks_of.groups) for marks_of in by_language.values()])
    groups = dict(zip(by_language, np.split(group.astype(np.int64), ends[:-1]), strict=True))
    joined = _Merger(groups)
    joined.join(_by_id(by_language, groups))
    for language in by_language:
        if by_language[language].own and joined.alone(language):
            any(joined.join(pairs) for pairs in _by_position(by_language, groups, language))
    _, first, number = np.unique(joined.roots(group), return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(first))  # counted in the order of their first examples
    return dict(zip(by_language, np.split(ranks[number].astype(np.int64), ends[:-1]), strict=True))


class _Merger:
    """Union-find over groups of examples: those that are merged make one unit."""

    def __init__(self, groups_of: Mapping[str, Ids]) -> None:
        self._groups = {language: np.unique(groups) for language, groups in groups_of.items()}
        self._parent = np.arange(
            max((int(numbers[-1]) + 1 for numbers in self._groups.values() if len(numbers)), default=0)
        )

    def join(self, pairs: Ids) -> bool:
        """Merges the groups of each pair [P, 2]; False: none, because it would glue a language's groups together."""
        before = self._parent.copy()
        parent = self._parent.tolist()
        for left, right in np.unique(pairs, axis=0).tolist():
            first, second = _root(parent, left), _root(parent, right)
            parent[max(first, second)] = min(first, second)
        self._parent = np.array([_root(parent, group) for group in range(len(parent))], dtype=np.int64)
        if any(GLUED * len(np.unique(self.roots(groups))) < len(groups) for groups in self._groups.values()):
            self._parent = before
            return False
        return True

    def roots(self, groups: Ids) -> Ids:
        """Unit of each group."""
        return self._parent[groups]

    def alone(self, language: str) -> bool:
        """Whether most groups of a language are merged with none of another one."""
        elsewhere = [self.roots(groups) for name, groups in self._groups.items() if name != language]
        own = self.roots(self._groups[language])
        return bool(elsewhere) and 2 * int(np.isin(own, np.concatenate(elsewhere)).sum()) < len(own)


def _root(parent: list[int], group: int) -> int:
    while parent[group] != group:
        parent[group] = parent[parent[group]]
        group = parent[group]
    return group


def _by_id(by_language: Mapping[str, Marks], groups_of: Mapping[str, Ids]) -> Ids:
    """Pairs [P, 2] of groups of different languages that have an example of the same id."""
    items = {language: marks_of.items for language, marks_of in by_language.items() if marks_of.items is not None}
    if len(items) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    _, first, item = np.unique(np.concatenate(list(items.values())), return_index=True, return_inverse=True)
    groups = np.concatenate([groups_of[language] for language in items])
    return np.stack([groups, groups[first[item]]], axis=1)


def _by_position(by_language: Mapping[str, Marks], groups_of: Mapping[str, Ids], language: str) -> Iterator[Ids]:
    """Pairs [P, 2] of a language's groups and those of the first one with as many examples, then as many groups."""
    candidates = [candidate for candidate in by_language if candidate != language and by_language[candidate].own]
    for listed in (groups_of, {name: _in_order(groups) for name, groups in groups_of.items()}):
        for candidate in candidates:
            if len(listed[candidate]) == len(listed[language]):
                yield np.stack([listed[language], listed[candidate]], axis=1)
                break


def _in_order(groups: Ids) -> Ids:
    """Groups in the order of their first examples."""
    distinct, first = np.unique(groups, return_index=True)
    return distinct[np.argsort(first)]


DRAW_VERSION = 1  # part of what train and dev rows depend on; raised when other rows would be drawn
SEED = 0


def dev_size(examples: int, share: Fraction) -> int:
    """Rows of dev that a share of so many rows aims at, rounded up."""
    return ceil(examples * share)


def drawn_as_dev(family: Family, rows: Sequence[Row], share: Fraction) -> NDArray[np.bool_]:
    """Mask [N] of the rows that are dev: not all, and at least one. Raises ValueError where all rows are one unit."""
    numbers: dict[str, int] = {}
    unit = [numbers.setdefault(group(family, row) or f"row {content(family, row)}", len(numbers)) for row in rows]
    if (
        len(numbers) < 2 <= len(rows) and group(family, rows[0]) is None
    ):  # all say the same: it does not matter which is where
        unit, numbers = list(range(len(rows))), {str(number): number for number in range(len(rows))}
    if len(numbers) < 2:
        raise ValueError("a unit is not divided")
    strata = family.strata(rows)
    quotas = _quotas(Counter(strata), dev_size(len(rows), share))
    within: list[Counter[int]] = [Counter() for _ in numbers]
    for number, stratum in zip(unit, strata, strict=True):
        within[number][stratum] += 1
    chosen, taken = set[int](), Counter[int]()
    order = np.random.Generator(np.random.PCG64([SEED, len(numbers)])).permutation(len(numbers)).tolist()
    for number in order:
        # Whether it brings the counts nearer to the quotas, in squares.
        if sum(n * (n + 2 * (taken[stratum] - quotas[stratum])) for stratum, n in within[number].items()) < 0:
            chosen.add(number)
            taken += within[number]
    if len(chosen) in (0, len(numbers)):  # a few large units: one of the smallest is on the side that has none
        chosen ^= {min(order, key=lambda number: within[number].total())}
    return np.isin(unit, list(chosen))


def _quotas(counts: Counter[int], total: int) -> dict[int, int]:
    """Rows of each stratum, `total` in all: shares rounded down, the rest by the largest remainders."""
    examples = sum(counts.values())
    parts = {stratum: Fraction(count * total, examples) for stratum, count in counts.items()}
    quotas = {stratum: int(part) for stratum, part in parts.items()}
    for stratum in sorted(parts, key=lambda label: (quotas[label] - parts[label], label))[
        : total - sum(quotas.values())
    ]:
        quotas[stratum] += 1
    return quotas
