"""A finished study as submissions: `submissions/<setting>/seed-<n>` in the official layout.

Each holds the targets of one setting, scored by its selected chains. What is there already is left alone, so publishing
again costs next to nothing; where a cell has another winner now, its files are replaced. A folder without
`submission.json` is not ours: nothing is changed in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sweep.errors import StoreError
from sweep.names import file_name
from sweep.official.archive import unpack
from sweep.official.layout import DESCRIPTION, LABELS, PREDICTIONS
from sweep.planning.axes import OWN
from sweep.planning.ledger import ChainRow
from sweep.planning.settings import NOTHING
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
    """The name of a chain's setting as a folder: its cell without the target; what says nothing is left out."""
    source = () if chain.source in (OWN, NOTHING) else (chain.source,)
    budget = () if chain.chain_budget == NOTHING else (f"{chain.chain_budget}-flops",)
    return file_name(chain.encoder, chain.intermediate, chain.volume, *source, *budget)


def _publish(place: Path, results: Iterable[Result], store: Store) -> None:
    path = place / DESCRIPTION
    if not path.exists():
        if place.exists():
            raise StoreError(place, f"no {DESCRIPTION} in it", "a folder that 'sweep' has made, or none, is expected")
        place.mkdir(parents=True)
        write_atomically(path, json.dumps({"tasks": {}}))
    tasks = _published(path)
    for result in results:
        score, name = result.score, file_name(result.score.task)
        if tasks.get(score.task, {}).get("score") != score.key:
            unpack(store.predictions(score.key), _emptied(place / PREDICTIONS / name))
            described = _link_labels(store.labels(score.key), _emptied(place / LABELS / name))
            tasks[score.task] = {**described, "languages": list(score.languages), "score": score.key}
            write_atomically(path, json.dumps({"tasks": tasks}, indent=1, ensure_ascii=False))


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _published(description: Path) -> dict[str, Any]:
    """What is there: task -> its description and the key of its scores."""
    try:
        tasks: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))["tasks"]
    except (FileNotFoundError, ValueError, KeyError):
        return {}
    return tasks


def _link_labels(labels: Path, folder: Path) -> dict[str, Any]:
    """Puts the label files there, as links where the file system has them; returns what the task is."""
    for file in labels.iterdir():
        if file.name != DESCRIPTION:
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copyfile(file, folder / file.name)
    described: dict[str, Any] = json.loads((labels / DESCRIPTION).read_text(encoding="utf-8"))
    return described
