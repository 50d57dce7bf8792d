"""A finished study as submissions: `submissions/<setting>/seed-<n>` in the official layout.

Each holds the targets of one setting, scored by its selected chains. What is there already is left alone, so publishing
again costs next to nothing; where a cell has another winner now, its files are replaced.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweep.official.archive import unpack
from sweep.official.layout import DESCRIPTION, LABELS, PREDICTIONS
from sweep.planning.ledger import ChainRow
from sweep.reporting.results import Result
from sweep.store import PREDICTIONS as ARCHIVE
from sweep.store import Store, write_atomically

FOLDER = "submissions"


def publish_submissions(folder: Path, found: Iterable[Result], store: Store) -> None:
    """Writes below `folder` what it lacks. Raises StoreError where kept predictions are damaged."""
    submissions: defaultdict[Path, list[Result]] = defaultdict(list)
    for result in found:
        if result.chain.selected and ARCHIVE in result.score.files:
            submissions[folder / FOLDER / setting(result.chain) / f"seed-{result.chain.seed}"].append(result)
    for place, results in submissions.items():
        _publish(place, results, store)


def setting(chain: ChainRow) -> str:
    """The name of a chain's setting as a folder: its cell without the target."""
    parts = chain.cell.removesuffix(chain.target).strip(" |").split(" | ")
    return "__".join(part.replace("/", "--") for part in parts)


def _publish(place: Path, results: Iterable[Result], store: Store) -> None:
    path = place / DESCRIPTION
    tasks = _published(path)
    for result in results:
        score = result.score
        if tasks.get(score.task, {}).get("score") != score.key:
            unpack(store.predictions(score.key), place / PREDICTIONS / score.task)
            described = _link_labels(store.labels(score.key), place / LABELS / score.task)
            tasks[score.task] = {**described, "score": score.key}
            write_atomically(path, json.dumps({"tasks": tasks}, indent=1, ensure_ascii=False))


def _published(description: Path) -> dict[str, Any]:
    """What is there: task -> its description and the key of its scores."""
    try:
        tasks: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))["tasks"]
    except (FileNotFoundError, ValueError, KeyError):
        return {}
    return tasks


def _link_labels(labels: Path, folder: Path) -> dict[str, Any]:
    """Puts the label files there, as links where the file system has them; returns what the task is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in labels.iterdir():
        if file.name != DESCRIPTION:
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copyfile(file, folder / file.name)
    described: dict[str, Any] = json.loads((labels / DESCRIPTION).read_text(encoding="utf-8"))
    return described
