"""Reads every row that a study will read: names the first bad one with its place, says what is odd about the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sweep.errors import DataError
from sweep.tasks.base import Family, Row, Task
from sweep.tasks.classify import SEQUENCE
from sweep.tasks.hub import HubSource
from sweep.tasks.local import LocalSource
from sweep.tasks.schemes import RAW, notation
from sweep.tasks.token import TOKEN, tagged


@dataclass(frozen=True)
class Checked:
    """What was read of a task, and what its user should know of it."""

    rows: int = 0
    notes: tuple[str, ...] = ()


def check(task: Task, family: Family, sources: Iterable[str] = ()) -> Checked:
    """Reads all splits in all languages. Raises DataError with the place of a bad row.

    Train is read in `sources` too, the languages that a study trains it in beside the usual ones. Embedded tasks make
    their rows themselves and are not read.
    """
    source = task.source
    if not isinstance(source, (LocalSource, HubSource)):
        return Checked()
    wanted = [("test", language) for language in (*task.languages, *task.pool)]
    wanted += [("train", language) for language in dict.fromkeys([*task.trained_in, *sources])]
    wanted += [("dev", language) for language in task.trained_in]
    wanted += [("dev", language) for language in task.languages if task.family == "mining"]
    rows, labels = 0, dict[tuple[str, str], Counter[int]]()
    for split, language in wanted:
        counts = labels.setdefault((split, language), Counter())
        for place, row in source.located(split, language):
            rows += 1
            if problem := family.check(row, task.labels) or _one_sided(split, row):
                raise DataError(place, problem, f"correct the file, or what {source.where} says of it")
            counts.update(_labels(task, row))
        if task.family == TOKEN.name and not counts:
            part = place.rpartition(":")[0]
            raise DataError(part, f"no word with a tag in the {split} data", "data whose tags are not hidden would do")
    return Checked(rows, tuple(_notes(task, source.where, labels)))


def _labels(task: Task, row: Row) -> list[int]:
    """The classes that a row or its words are of; a choice has none."""
    if task.family == TOKEN.name:
        return tagged(row)
    return [row["label"]] if task.family == SEQUENCE.name else []


def _notes(task: Task, where: str, labels: Mapping[tuple[str, str], Counter[int]]) -> Iterator[str]:
    if task.family == TOKEN.name:
        scheme = notation(task.labels).scheme
        read = f"entities in {scheme}" if scheme != RAW else "no entity tags; a run of equal ones is one chunk"
        yield f"{where}.labels: {read}"
    trained = set[int]().union(*(counts for (split, _), counts in labels.items() if split == "train"))
    for split in ("dev", "test") if task.trained_in else ():
        seen = {language: counts for (part, language), counts in labels.items() if part == split}
        unknown = sum(seen.values(), Counter[int]())
        for label in trained:
            del unknown[label]
        if unknown:
            named = ", ".join(f"{task.labels[label]} ({count})" for label, count in unknown.most_common())
            languages = ", ".join(language for language, counts in seen.items() if set(counts) & set(unknown))
            what = "words" if task.family == TOKEN.name else "rows"
            yield (
                f"{where}.{split}: {what} of labels that no training row has, in {languages}: {named}; no model"
                " learns these: correct the data, or leave such rows out with `skip`"
            )


def _one_sided(split: str, row: Row) -> str | None:
    if split != "train" or "query" not in row or None not in (row["query"], row["candidate"]):
        return None
    return "a training row with one side; a query and its candidate belong into one"
