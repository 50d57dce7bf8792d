"""Reads every row that a study will read and names the first bad one, with its place."""

from __future__ import annotations

from collections.abc import Iterable

from sweep.errors import DataError
from sweep.tasks.base import IGNORED, Family, Row, Task
from sweep.tasks.hub import HubSource
from sweep.tasks.local import LocalSource
from sweep.tasks.token import TOKEN


def check(task: Task, family: Family, sources: Iterable[str] = ()) -> int:
    """Reads all splits in all languages and returns the number of rows. Raises DataError with the place of a bad one.

    Train is read in `sources` too, the languages that a study trains it in beside the usual ones. Embedded tasks make
    their rows themselves and are not read.
    """
    source = task.source
    if not isinstance(source, (LocalSource, HubSource)):
        return 0
    wanted = [("test", language) for language in (*task.languages, *task.pool)]
    wanted += [("train", language) for language in dict.fromkeys([*task.trained_in, *sources])]
    wanted += [("dev", language) for language in task.trained_in]
    wanted += [("dev", language) for language in task.languages if task.family == "mining"]
    rows = 0
    for split, language in wanted:
        tagged = task.family != TOKEN.name
        for place, row in source.located(split, language):
            rows += 1
            tagged = tagged or any(tag != IGNORED for tag in row["tags"])
            if problem := family.check(row, task.labels) or _one_sided(split, row):
                raise DataError(place, problem, f"correct the file, or what {source.where} says of it")
        if not tagged:
            part = place.rpartition(":")[0]
            raise DataError(part, f"no word with a tag in the {split} data", "data whose tags are not hidden would do")
    return rows


def _one_sided(split: str, row: Row) -> str | None:
    if split != "train" or "query" not in row or None not in (row["query"], row["candidate"]):
        return None
    return "a training row with one side; a query and its candidate belong into one"
