"""Schemes of entity tags: which one a set of labels follows, how it writes them, and what chunks its tags make.

    IOB            of B- and I-, IOB2 and IOB1 alike: conlleval's reading, which is seqeval's default. B- starts a
                   chunk, and so does an I- that nothing of its type precedes
    IOE            of I- and E-, read by the same rule: E- ends a chunk
    IOBES, BILOU   strictly, as seqeval's mode "strict" with the scheme named: a chunk is S- (U-) alone, or B-, any
                   number of I- and E- (L-) of one type, and nothing else. BMES and BMEWO are IOBES with other letters
    none           a run of equal tags is one chunk, except that tags that begin with S are chunks of one word. That is
                   what seqeval 0.0.12 makes of raw tags (UPOS: SCONJ, SYM), hence XTREME's "F1" of UDPOS. seqeval 1.x
                   gives other numbers

O is outside in all of them. Labels may be spelled `B-PER`, `B_PER`, `b-per`, `PER-B`, or `B` where there is one type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

OUTSIDE = -1
RAW = "none"
STRICT = {"IOBES": "B- I- E- or S- alone", "BILOU": "B- I- L- or U- alone"}

_SCHEMES: tuple[tuple[str, str, dict[str, str]], ...] = (  # name, letters, and those that it writes otherwise
    ("IOB", "BI", {}),
    ("IOE", "IE", {}),
    ("IOBES", "BIES", {}),
    ("BILOU", "BILU", {}),
    ("IOBES", "BMES", {"M": "I"}),
    ("IOBES", "BMEW", {"M": "I", "W": "S"}),
    ("IOBES", "BIEW", {"W": "S"}),
)
_LETTERS = "BIELSUMW"
_PLAIN = re.compile("([BIES])-(.+)")
_SPELLINGS = (
    _PLAIN,
    *(re.compile(f"(?P<tag>[{_LETTERS}]){between}(?P<type>.+)", re.IGNORECASE) for between in "-_"),
    *(re.compile(f"(?P<type>.+){between}(?P<tag>[{_LETTERS}])", re.IGNORECASE) for between in "-_"),
    re.compile(f"(?P<tag>[{_LETTERS}])(?P<type>)", re.IGNORECASE),
)
_ENTITY = re.compile("[BI][-_].+|.+[-_][BI]", re.IGNORECASE)


@dataclass(frozen=True)
class Notation:
    """What scheme labels follow, and the labels as it writes them."""

    scheme: str  # IOB, IOE, IOBES, BILOU, or RAW
    labels: tuple[str, ...]


@lru_cache(maxsize=64)
def notation(labels: tuple[str, ...]) -> Notation:
    """The scheme of a set of labels. Raises ValueError where some are entity tags and others are not."""
    outside = [label for label in labels if label in ("O", "o")]
    others = [label for label in labels if label not in outside]
    for spelled in _SPELLINGS:
        found = [spelled.fullmatch(label) for label in others]
        # Without an O only what is written plainly is believed to be entity tags: parts of speech have prefixes too.
        if others and all(found) and (outside or spelled is _PLAIN or _segments(others)):
            return _written(labels, [_parts(match, spelled) for match in found if match])
    if any(_ENTITY.fullmatch(label) for label in others if outside or _goes_on(label, others)):
        odd = next((label for label in others if not _ENTITY.fullmatch(label)), None)
        raise ValueError(f"entity tags, and {odd!r}, which is none" if odd else "entity tags in several spellings")
    return Notation(RAW, labels)


def _goes_on(label: str, others: Sequence[str]) -> bool:
    """Whether the tag of an entity's first word has one of its next words beside it: B-PER and I-PER."""
    swapped = (re.sub(place, letter, label) for place in ("^[Bb]", "[Bb]$") for letter in "Ii")
    return any(other != label and other in others for other in swapped)


def _segments(labels: Iterable[str]) -> bool:
    """Whether these are the tags of words cut into characters, where nothing is outside."""
    return {"B", "E"} <= set(labels)


def _parts(match: re.Match[str], spelled: re.Pattern[str]) -> tuple[str, str]:
    letter, kind = match.groups() if spelled is _PLAIN else (match["tag"], match["type"])
    return str(letter).upper(), str(kind)


def _written(labels: Sequence[str], parts: Sequence[tuple[str, str]]) -> Notation:
    used = {letter for letter, _ in parts}
    for scheme, letters, other in _SCHEMES:
        if used <= set(letters):
            rest = iter(f"{other.get(letter, letter)}-{kind}".removesuffix("-") for letter, kind in parts)
            names = tuple("O" if label in ("O", "o") else next(rest) for label in labels)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"the tag {twice} in two spellings")
            return Notation(scheme, names)
    raise ValueError(f"tags of no scheme: {', '.join(sorted(used))} together")


@dataclass(frozen=True)
class Scheme:
    """How tags make chunks; every array has one entry per tag."""

    types: NDArray[np.int64]  # [C] type of chunk that the tag belongs to, or OUTSIDE
    opens: NDArray[np.bool_]  # [C] the tag always starts a chunk
    closes: NDArray[np.bool_]  # [C] the chunk never goes on after the tag
    strict: bool  # a chunk that does not open or does not close is none

    @classmethod
    def of(cls, labels: Sequence[str]) -> Scheme:
        """The scheme of the labels; that of raw tags where they follow none."""
        try:
            known = notation(tuple(labels))
        except ValueError:
            known = Notation(RAW, tuple(labels))
        raw = known.scheme == RAW
        names = [label if raw else label[2:] for label in known.labels]
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        kinds = [OUTSIDE if label == "O" else order[name] for label, name in zip(known.labels, names, strict=True)]
        starts, ends = (("S",), ("S",)) if raw else (("B", "S", "U"), ("E", "S", "L", "U"))
        return cls(
            types=np.array(kinds, dtype=np.int64),
            opens=np.array([label.startswith(starts) for label in known.labels], dtype=np.bool_),
            closes=np.array([label.startswith(ends) for label in known.labels], dtype=np.bool_),
            strict=known.scheme in STRICT,
        )

    def chunks(self, tags: NDArray[np.int64], sentence: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """[W] type of the chunk that starts at each word (OUTSIDE: none does) and [W] the word after its end."""
        starts, firsts, ends = self._runs(tags, sentence)
        if self.strict:
            starts[firsts[~self._whole(tags, firsts, ends)]] = OUTSIDE
        return starts, np.repeat(ends, ends - firsts)

    def misfit(self, tags: Sequence[int]) -> int | None:
        """The first word of a sentence whose tag belongs to no chunk though it is not outside, or None."""
        found = np.array(tags, dtype=np.int64)
        starts, firsts, ends = self._runs(found, np.zeros_like(found))
        broken = firsts[(starts[firsts] != OUTSIDE) & ~self._whole(found, firsts, ends)]
        return int(broken[0]) if self.strict and len(broken) else None

    def _runs(self, tags: NDArray[np.int64], sentence: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """[W] as of `chunks`, were all of them whole; [R] first words, and the words after the last."""
        types = self.types[tags]
        fresh = np.diff(sentence, prepend=-1) != 0
        turns = np.diff(types, prepend=OUTSIDE) != 0
        closed = np.concatenate([[False], self.closes[tags[:-1]]]) if len(tags) else np.zeros(0, dtype=np.bool_)
        cuts = fresh | turns | self.opens[tags] | closed
        firsts = np.flatnonzero(cuts)
        return np.where(cuts, types, OUTSIDE), firsts, np.append(firsts, len(tags))[1:]

    def _whole(self, tags: NDArray[np.int64], firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.opens[tags[firsts]] & self.closes[tags[ends - 1]]
