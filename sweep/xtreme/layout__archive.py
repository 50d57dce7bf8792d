"""What a chain keeps of its predictions: their official files in one archive, and the labels' files, which are shared.

The archive has the same bytes for the same predictions, so that a resumed chain leaves what an undisturbed one does.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from sweep.data.source import Row
from sweep.errors import StoreError
from sweep.tasks.task import Prediction, Task
from sweep.xtreme.layout import DESCRIPTION, description, test_file

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can say


def packed(task: Task, rows: Mapping[str, Sequence[Row]], predictions: Mapping[str, Sequence[Prediction]]) -> bytes:
    """A zip file with the prediction file of every language."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for language, found in predictions.items():
            entry = zipfile.ZipInfo(test_file(task.family, language), EPOCH)
            archive.writestr(entry, task.family.predictions_text(found, rows[language], task), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def write_labels(folder: Path, task: Task, rows: Mapping[str, Sequence[Row]]) -> None:
    """Makes `folder` with the label file of every language and what the task is; a kill leaves all of it or nothing."""
    unfinished = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for language, gold in rows.items():
        text = task.family.labels_text(gold, task)
        (unfinished / test_file(task.family, language)).write_text(text, encoding="utf-8")
    known = description(task)
    (unfinished / DESCRIPTION).write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Puts the prediction files into `folder`, which is there. Raises StoreError where the archive has others."""
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            if not re.fullmatch(r"test-[^/\\\0]+", name):
                raise StoreError(archive, f"the entry {name!r}", "prediction files, test-<language>, are expected")
        opened.extractall(folder)
