"""Reads every row that a study will read: the first bad one with its place, and rows that two tasks share.

Two tasks that read the same rows overlap, whatever they are called: digests of what rows say decide, their labels,
case, blanks and Unicode forms apart. The table of corpora adds what digests cannot see: translations, and other rows of
the same passages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.hub import HubSource
from sweep.data.local import LocalSource
from sweep.data.units import content, digest
from sweep.errors import DataError, Mistakes
from sweep.tasks.tagging import RAW
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


FEW_DEV = 20  # rows of which a handful of lucky answers is a score


@dataclass(frozen=True)
class Checked:
    """What was read of a task, and what its user should know of it."""

    rows: int = 0
    notes: tuple[str, ...] = ()  # how it is read
    doubts: tuple[str, ...] = ()  # what weakens scores on it
    places: Places = field(default_factory=dict)
    train: Mapping[str, int] = field(default_factory=dict)  # language -> training rows


@dataclass
class _Seen:
    """What was seen in one split of one language."""

    rows: int = 0
    labels: Counter[int] = field(default_factory=Counter)  # classes of rows or of their words
    answers: set[str | None] = field(default_factory=set)  # those that could be right for all rows; None: another
    digests: list[int] = field(default_factory=list)  # of what rows say that ask something

    def add(self, task: Task, row: Row) -> None:
        self.rows += 1
        self.labels.update(task.family.classes(row))
        self.answers.add(task.family.answer(row))
        if task.family.asks(row):
            self.digests.append(digest(content(task.family, row)))


def check(task: Task, sources: Iterable[str] = ()) -> Checked:
    """Reads all splits in all languages. Raises DataError with the place of a bad row, and the first of every file.

    Train is read in `sources` too, the languages that a study trains it in beside the usual ones. Embedded tasks make
    their rows themselves and are not read.
    """
    source = task.source
    if not isinstance(source, (LocalSource, HubSource)):
        return Checked()
    wanted = [("test", language) for language in (*task.languages, *task.pool)]
    wanted += [("train", language) for language in dict.fromkeys([*task.trained_in, *sources])]
    wanted += [("dev", language) for language in task.trained_in]
    wanted += [("dev", language) for language in task.calibrated_in]
    seen, mistakes = dict[tuple[str, str], _Seen](), Mistakes()
    for split, language in wanted:
        with mistakes.collect():
            seen[split, language] = _read(task, source, split, language)
    mistakes.raise_first()
    places = {where: np.array(found.digests, dtype=np.int64) for where, found in seen.items()}
    rows, notes = sum(found.rows for found in seen.values()), tuple(_notes(task, source.where))
    doubts = *_unlearned(task, source.where, seen), *_blind(task, source.where, seen), *own_overlap(places, task.name)
    train = {language: found.rows for (split, language), found in seen.items() if split == "train"}
    return Checked(rows, notes, doubts, places, train)


def _read(task: Task, source: LocalSource | HubSource, split: str, language: str) -> _Seen:
    found, place, family = _Seen(), source.where, task.family
    for place, row in source.located(split, language):
        if problem := family.check(row, task.labels) or (split == "train" and family.check_to_train(row)):
            raise DataError(place, problem, f"correct the file, or what {source.where} says of it")
        found.add(task, row)
    if family.scheme(task.labels) is not None and not found.labels:
        part = place.rpartition(":")[0]
        found_none = f"no {family.classed} with a tag in the {split} data"
        raise DataError(part, found_none, "data whose tags are not hidden would do")
    return found


def _notes(task: Task, where: str) -> Iterator[str]:
    if (scheme := task.family.scheme(task.labels)) is not None:
        read = f"entities in {scheme}" if scheme != RAW else "no entity tags; a run of equal ones is one chunk"
        yield f"{where}.labels: {read}"


def _unlearned(task: Task, where: str, seen: Mapping[tuple[str, str], _Seen]) -> Iterator[str]:
    """Classes of dev and test data that no training row has."""
    trained = set[int]().union(*(found.labels for (split, _), found in seen.items() if split == "train"))
    for split in ("dev", "test") if task.trained_in else ():
        labels = {language: found.labels for (part, language), found in seen.items() if part == split}
        unknown = sum(labels.values(), Counter[int]())
        for label in trained:
            del unknown[label]
        if unknown:
            named = ", ".join(f"{task.labels[label]} ({count})" for label, count in unknown.most_common())
            languages = ", ".join(language for language, counts in labels.items() if set(counts) & set(unknown))
            yield (
                f"{where}.{split}: {task.family.classed}s of labels that no training row has, in {languages}: {named};"
                " no model learns these: correct the data, or leave such rows out with `skip`"
            )


def _blind(task: Task, where: str, seen: Mapping[tuple[str, str], _Seen]) -> Iterator[str]:
    """Dev sets that cannot tell a phase that learned something from one that did not."""
    for (split, language), found in seen.items():
        if split != "dev" or task.family.raw_text:
            continue
        if len(found.answers) == 1 and None not in found.answers:
            told = f"one answer is right for all {found.rows} rows"
            yield f"{where}.dev: {told} in {language}: it cannot tell a phase that learned nothing, and selects nothing"
        elif found.rows < FEW_DEV:
            yield f"{where}.dev: {found.rows} rows in {language} can hardly tell a phase that learned nothing"
