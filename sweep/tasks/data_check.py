"""Data check: reads every row of a study, reports the first bad one of each file, and finds overlaps of tasks.

Two tasks that read the same rows overlap, whatever they are called: digests of contents decide, without labels, case,
white space and Unicode forms. The table of corpora adds what digests cannot see: translations, and other rows of the
same passages.
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
RowDigests = Mapping[tuple[str, str], Digests]  # (split, language) -> [N] digests of its rows


@dataclass(frozen=True)
class SharedRows:
    """Rows of a target, by split and language, that are also in training data; languages without any are left out."""

    test: dict[str, tuple[int, int]]  # language -> (rows in common, rows)
    dev: dict[str, tuple[int, int]]
    train: dict[str, tuple[int, int]]
    trained: tuple[int, int] = (0, 0)  # rows of the training data that stand in the target's, rows

    @classmethod
    def of(cls, training: Sequence[Digests], target: RowDigests) -> SharedRows:
        """Rows that all data of a target shares with the `training` rows of an intermediate task."""
        training_rows = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *training]))
        in_common: dict[str, dict[str, tuple[int, int]]] = {"test": {}, "dev": {}, "train": {}}
        for (split, language), rows in target.items():
            if common := int(np.isin(rows, training_rows).sum()):
                in_common[split][language] = common, len(rows)
        target_training = [rows for (split, _), rows in target.items() if split == "train"]
        common = (
            sum(int(np.isin(rows, np.concatenate(target_training)).sum()) for rows in training)
            if target_training
            else 0
        )
        return cls(**in_common, trained=(common, sum(map(len, training))))

    @property
    def contaminates(self) -> bool:
        """Whether so many rows are shared that a gain from this training data is not reported."""
        tested = max((common / rows for common, rows in self.test.values()), default=0.0)
        trained = [common / rows for common, rows in (*self.train.values(), self.trained) if rows]
        return tested >= TEST_SHARE or max(trained, default=0.0) >= TRAIN_SHARE

    def sentences(self) -> Iterator[str]:
        """Number of shared rows of each split, and the language with the largest share."""
        for split in ("test", "dev", "train"):
            by_language: dict[str, tuple[int, int]] = getattr(self, split)
            if by_language:
                worst = max(by_language, key=lambda language: by_language[language][0] / by_language[language][1])
                common, rows = (sum(pair[index] for pair in by_language.values()) for index in (0, 1))
                own, total = by_language[worst]
                further = f" and {len(by_language) - 1} other languages" if len(by_language) > 1 else ""
                yield f"{common:,} of {rows:,} {split} rows ({own / total:.1%} in {worst}{further})"


def overlap(intermediate: Task, target: Task, shared: SharedRows | None = None) -> str | None:
    """Reason why an intermediate task's gain on a target is no fair gain, or None."""
    if intermediate.name == target.name:
        return "are the same task"
    if shared is not None and shared.contaminates:
        shares = ", ".join(shared.sentences())
        return f"share rows: of {target.name} {shares} stand in the training data of {intermediate.name}"
    if corpora := set(intermediate.corpora) & set(target.corpora):
        return f"share training data ({', '.join(sorted(corpora))})"
    if baseline := set(intermediate.corpora) & set(XTREME_R_BASELINES.get(target.name, ())):
        return f"are one chain in XTREME-R, whose own baseline is trained on {', '.join(sorted(baseline))} first"
    return None


def own_overlap(digests: RowDigests, name: str) -> Iterator[str]:
    """Sentences on rows of a task's test and dev data that are also in its other data."""
    for split, reference in (("test", "train"), ("test", "dev"), ("dev", "train")):
        references = [rows for (role, _), rows in digests.items() if role == reference]
        shared = SharedRows.of(references, {place: rows for place, rows in digests.items() if place[0] == split})
        yield from (
            f"{name}: {description} also stand in its own {reference} data" for description in shared.sentences()
        )


MIN_DEV_ROWS = 20  # rows of which a handful of lucky answers is a score


@dataclass(frozen=True)
class Checked:
    """Result of checking a task's data."""

    rows: int = 0
    notes: tuple[str, ...] = ()  # on how it is read
    doubts: tuple[str, ...] = ()  # sentences on data that makes scores less credible
    digests: RowDigests = field(default_factory=dict)
    train: Mapping[str, int] = field(default_factory=dict)  # language -> training rows


@dataclass
class _SplitContents:
    """Counts, classes and digests of one split in one language."""

    rows: int = 0
    labels: Counter[int] = field(default_factory=Counter)  # classes of rows or of their words
    answers: set[str | None] = field(default_factory=set)  # constant answers that are right; None: a row has its own
    digests: list[int] = field(default_factory=list)  # of contents of rows that are scored

    def add(self, task: Task, row: Row) -> None:
        self.rows += 1
        self.labels.update(task.family.classes(row))
        self.answers.add(task.family.answer(row))
        if task.family.is_scored(row):
            self.digests.append(digest(content(task.family, row)))


def check(task: Task, sources: Iterable[str] = ()) -> Checked:
    """Reads all splits in all languages. Raises DataError with the first bad row of every file.

    Train is also read in `sources`, the languages that a study trains the task in beside the usual ones. Embedded tasks
    generate their rows and are not read.
    """
    source = task.source
    if not isinstance(source, (LocalSource, HubSource)):
        return Checked()
    splits = [("test", language) for language in (*task.languages, *task.pool)]
    splits += [("train", language) for language in dict.fromkeys([*task.trained_in, *sources])]
    splits += [("dev", language) for language in task.trained_in]
    splits += [("dev", language) for language in task.calibrated_in]
    parts, mistakes = dict[tuple[str, str], _SplitContents](), Mistakes()
    for split, language in splits:
        with mistakes.collect():
            parts[split, language] = _read(task, source, split, language)
    mistakes.raise_first()
    digests = {place: np.array(part.digests, dtype=np.int64) for place, part in parts.items()}
    rows, notes = sum(part.rows for part in parts.values()), tuple(_notes(task, source.where))
    doubts = *_unseen_labels(task, source.where, parts), *_weak_dev_sets(task, source.where, parts)
    train = {language: part.rows for (split, language), part in parts.items() if split == "train"}
    return Checked(rows, notes, (*doubts, *own_overlap(digests, task.name)), digests, train)


def _read(task: Task, source: LocalSource | HubSource, split: str, language: str) -> _SplitContents:
    contents, place, family = _SplitContents(), source.where, task.family
    for place, row in source.located(split, language):
        if problem := family.check(row, task.labels) or (split == "train" and family.check_to_train(row)):
            raise DataError(place, problem, f"correct the file, or its description in {source.where}")
        contents.add(task, row)
    if family.scheme(task.labels) is not None and not contents.labels:
        part = place.rpartition(":")[0]
        found_none = f"no {family.classed} with a tag in the {split} data"
        raise DataError(part, found_none, "test data with its tags is needed")
    return contents


def _notes(task: Task, where: str) -> Iterator[str]:
    if (scheme := task.family.scheme(task.labels)) is not None:
        scheme_text = f"entities in {scheme}" if scheme != RAW else "no entity tags; a run of equal ones is one chunk"
        yield f"{where}.labels: {scheme_text}"


def _unseen_labels(task: Task, where: str, parts: Mapping[tuple[str, str], _SplitContents]) -> Iterator[str]:
    """Sentences on classes of dev and test data that no training row has."""
    trained = set[int]().union(*(part.labels for (split, _), part in parts.items() if split == "train"))
    for split in ("dev", "test") if task.trained_in else ():
        labels = {language: part.labels for (role, language), part in parts.items() if role == split}
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


def _weak_dev_sets(task: Task, where: str, parts: Mapping[tuple[str, str], _SplitContents]) -> Iterator[str]:
    """Sentences on dev sets that cannot tell a phase that learned something from one that did not."""
    for (split, language), dev in parts.items():
        if split != "dev" or task.family.raw_text:
            continue
        if len(dev.answers) == 1 and None not in dev.answers:
            yield (
                f"{where}.dev: one answer is right for all {dev.rows} rows in {language}: it cannot show whether a"
                " phase has learned anything, nor select checkpoints"
            )
        elif dev.rows < MIN_DEV_ROWS:
            yield f"{where}.dev: {dev.rows} rows in {language} can hardly show whether a phase has learned anything"
