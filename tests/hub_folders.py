"""Folders laid out like hub repositories, and tasks of the table that read them instead of the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features
from hub_rows import DATA_SETS, Shape

from sweep.data.columns import Part, fill
from sweep.tasks.describe import own_task
from sweep.tasks.table import HUB
from sweep.tasks.task import Task

Configs = dict[str, dict[str, list[dict[str, Any]]]]  # configuration -> split -> rows


def repository(folder: Path, features: dict[str, Any], configs: Configs) -> Path:
    """Writes Parquet files and the README.md that names them."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        (folder / config).mkdir(parents=True, exist_ok=True)
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            Dataset.from_list(rows, features=Features(features)).to_parquet(folder / config / f"{split}-0.parquet")
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return folder


def offline(name: str, folders: dict[str, Path], **changes: Any) -> Task:
    """The table's task with every hub id replaced by a local folder."""
    return own_task(name, offline_row(name, folders, **changes), Path(), f"tasks.{name}")


def offline_row(name: str, folders: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """The table's description of a task with every hub id replaced by a local folder."""
    text = json.dumps({**HUB[name], **changes})
    for identifier, folder in folders.items():
        text = text.replace(f'"{identifier}"', json.dumps(str(folder)))
    return dict(json.loads(text))


def shape_of(identifier: str, config: str) -> Shape:
    """What a configuration of a hub data set looks like."""
    shapes = DATA_SETS.get(identifier, {})
    found = [shape for prefix, shape in shapes.items() if config.startswith(prefix)]
    assert found, f"tests/hub_rows.py has no columns for {identifier}, configuration {config!r}: add them"
    return found[0]


def parts_of(task: Task) -> Iterable[Part]:
    """Every part of every split."""
    return (part for parts in task.source.splits.values() for part in parts)


def hub_folders(name: str, folder: Path, languages: Iterable[str]) -> dict[str, Path]:
    """Writes all that the table's task reads in these languages, and returns {hub id: folder}."""
    wanted: dict[tuple[str, int], Configs] = {}
    shapes: dict[tuple[str, int], Shape] = {}
    for part in parts_of(own_task(name, HUB[name], Path(), f"tasks.{name}")):
        for language in set(languages) & set(part.languages):
            config = fill(part.config or "default", part.names(language))
            shape = shape_of(part.id, config)
            shapes[part.id, id(shape)] = shape
            configs = wanted.setdefault((part.id, id(shape)), {})
            configs.setdefault(config, {})[part.split] = shape.rows(config, part.split)
    assert len({identifier for identifier, _ in wanted}) == len(wanted), "two shapes of one data set in one task"
    return {
        key[0]: repository(folder / key[0].replace("/", "__"), shapes[key].features, configs)
        for key, configs in wanted.items()
    }
