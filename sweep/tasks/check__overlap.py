"""Rows and corpora in common: pairs of tasks whose comparison would flatter, and test rows that were trained on.

Two tasks that read the same rows overlap, whatever they are called: digests of what rows say decide, their labels,
case, blanks and Unicode forms apart. The table of corpora adds what digests cannot see: translations, and other rows of
the same passages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.tasks.task import Task

# Target -> corpora that XTREME-R's own baseline is trained on before it, so that its "no intermediate phase" has one.
XTREME_R_BASELINES = {"tatoeba": ("squad",), "xcopa": ("siqa",)}

# From these shares on a gain is none that can be reported: rows learned by heart may be worth a point of the score, the
# size of the gains that are looked for; training rows in common are more of the same training, not another task.
TEST_SHARE = 0.01
TRAIN_SHARE = 0.1

Digests = NDArray[np.int64]
Places = Mapping[tuple[str, str], Digests]  # (split, language) -> [N] digests of its rows


@dataclass(frozen=True)
class Shared:
    """Rows of a target, by split and language, that also stand in training data; those that do in none are left out."""

    test: dict[str, tuple[int, int]]  # language -> (rows in common, rows)
    dev: dict[str, tuple[int, int]]
    train: dict[str, tuple[int, int]]
    trained: tuple[int, int] = (0, 0)  # rows of the training data that stand in the target's, rows

    @classmethod
    def of(cls, training: Sequence[Digests], target: Places) -> Shared:
        """`training` of an intermediate task against all data of a target."""
        known = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *training]))
        found: dict[str, dict[str, tuple[int, int]]] = {"test": {}, "dev": {}, "train": {}}
        for (split, language), rows in target.items():
            if common := int(np.isin(rows, known).sum()):
                found[split][language] = common, len(rows)
        theirs = [rows for (split, _), rows in target.items() if split == "train"]
        common = sum(int(np.isin(rows, np.concatenate(theirs)).sum()) for rows in training) if theirs else 0
        return cls(**found, trained=(common, sum(map(len, training))))

    @property
    def flatters(self) -> bool:
        """Whether a gain from this training data would be no fair one."""
        tested = max((common / rows for common, rows in self.test.values()), default=0.0)
        trained = [common / rows for common, rows in (*self.train.values(), self.trained) if rows]
        return tested >= TEST_SHARE or max(trained, default=0.0) >= TRAIN_SHARE

    def said(self) -> Iterator[str]:
        """How many rows of each split are in common, and in which language most."""
        for split in ("test", "dev", "train"):
            by_language: dict[str, tuple[int, int]] = getattr(self, split)
            if by_language:
                worst = max(by_language, key=lambda language: by_language[language][0] / by_language[language][1])
                common, rows = (sum(pair[index] for pair in by_language.values()) for index in (0, 1))
                own, of = by_language[worst]
                others = f" and {len(by_language) - 1} other languages" if len(by_language) > 1 else ""
                yield f"{common:,} of {rows:,} {split} rows ({own / of:.1%} in {worst}{others})"


def overlap(intermediate: Task, target: Task, shared: Shared | None = None) -> str | None:
    """Why an intermediate task's gain on a target is no fair gain, or None."""
    if intermediate.name == target.name:
        return "are the same task"
    if shared is not None and shared.flatters:
        return (
            f"share rows: of {target.name} {', '.join(shared.said())} stand in the training data of {intermediate.name}"
        )
    if corpora := set(intermediate.corpora) & set(target.corpora):
        return f"share training data ({', '.join(sorted(corpora))})"
    if seen := set(intermediate.corpora) & set(XTREME_R_BASELINES.get(target.name, ())):
        return f"are one chain in XTREME-R, whose own baseline is trained on {', '.join(sorted(seen))} first"
    return None


def own_overlap(places: Places, name: str) -> Iterator[str]:
    """What of a task's test and dev data also stands in its other data, in sentences."""
    for split, other in (("test", "train"), ("test", "dev"), ("dev", "train")):
        known = [rows for (one, _), rows in places.items() if one == other]
        shared = Shared.of(known, {place: rows for place, rows in places.items() if place[0] == split})
        yield from (f"{name}: {said} also stand in its own {other} data" for said in shared.said())
