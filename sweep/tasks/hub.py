"""Rows of data sets on the Hugging Face hub, through `datasets.load_dataset`; also of a local folder laid out like one.

A hub data set can change, so its commit is part of its identity. It is looked up once, by `resolve`, and recorded with
the study; no commit is written down here. Sizes are stated in advance, for a plan needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.errors import DataError
from sweep.fingerprint import file_digest, fingerprint
from sweep.tasks import parquet
from sweep.tasks.base import Size
from sweep.tasks.formats import Raw
from sweep.tasks.mapping import Located, fill
from sweep.tasks.parts import Part, PartedSource

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPart(Part):
    """One split of a data set, read one way. `config` and `split` may contain {language} and {code}."""

    id: str  # owner/name on the hub, or a local folder
    config: str | None
    split: str
    revision: str | None  # branch, tag or commit that the study file asks for; None: the main branch


@dataclass(frozen=True)
class HubSource(PartedSource[HubPart]):
    """base.Source over hub data sets."""

    revision: str | None = None  # commits of the data sets in their order, joined by "+"; None: not resolved yet

    @property
    def data_sets(self) -> tuple[HubPart, ...]:
        """The first part of each data set and revision asked for."""
        first: dict[tuple[str, str | None], HubPart] = {}
        for part in (part for parts in self.splits.values() for part in parts):
            first.setdefault((part.id, part.revision), part)
        return tuple(first.values())

    def identity(self) -> Mapping[str, object]:
        """Data sets, their commits (None: not resolved yet), and {split: {language: digests of how they are read}}."""
        return {
            "kind": "hub",
            "data_sets": [_name(part.id) for part in self.data_sets],
            "revision": self.revision,
            "dev_share": str(self.dev_share),
            **self.digests(),
        }

    def resolve(self) -> HubSource:
        """The same source with its commits: asked from the hub, or from the local cache when offline.

        Raises DataError where neither knows a data set.
        """
        return self if self.revision else replace(self, revision="+".join(_commit(part) for part in self.data_sets))

    def size(self, split: str, language: str) -> Size:
        """What the description states."""
        self.parts(split, language)
        return Size(self.portion(split, self.sizes[self.origin(split)]), self.tokens or 0.0)

    def part_rows(self, part: HubPart, language: str) -> Located:
        """(id config split:row, row) of a part. Raises DataError."""
        data_sets = [(one.id, one.revision) for one in self.data_sets]
        commit = self.revision.split("+")[data_sets.index((part.id, part.revision))] if self.revision else None
        raw = _raw(part, language, commit, self.part_place(part, language))
        return part.columns.rows(raw, part.names(language))

    def part_digest(self, part: HubPart, language: str) -> str:
        """Of how the data set is read; its contents are its commit's business."""
        how = replace(part, id=_name(part.id), revision=None, where="", languages={})
        return fingerprint({"how": how, "names": part.names(language)})

    def part_place(self, part: HubPart, language: str) -> str:
        """Data set, configuration and split."""
        return " ".join(fill(text, part.names(language)) for text in (part.id, part.config, part.split) if text)


def _name(identifier: str) -> str:
    """A hub id, or a local folder's last name: where a folder lies changes nothing."""
    return Path(identifier).name if Path(identifier).is_dir() else identifier


def _raw(part: HubPart, language: str, commit: str | None, place: str) -> Iterator[tuple[str, Raw]]:
    """Raw rows with class labels by name. Raises DataError where the data set cannot be had."""
    data = _load(part, language, commit, place)
    names = {column: known for column, feature in data.features.items() if (known := _label_names(feature))}
    for number, row in enumerate(data):
        yield f"{place}:{number}", parquet.named(dict(row), names)


def _label_names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None)


def _load(part: HubPart, language: str, commit: str | None, place: str) -> Any:
    import datasets

    names = part.names(language)
    local = Path(part.id).is_dir()
    if local and commit and _folder_digest(Path(part.id)) != commit:
        raise DataError(place, "a folder that has changed since the study began", "restore it or begin a new study")
    config = None if part.config is None else fill(part.config, names)
    revision = None if local else commit or part.revision
    try:
        data = datasets.load_dataset(part.id, config, split=fill(part.split, names), revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _unavailable(part, place, error) from error
    if commit and not local:
        _check_commit(data, commit, place)
    return data


def _unavailable(part: HubPart, place: str, error: Exception) -> DataError:
    found = f"a data set that cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]})"
    folder = f"a folder with its README.md and Parquet files, written for {part.id!r} in {part.where}, would do"
    wanted = f"check id, config and split, or go online once; without a network {folder}"
    return DataError(place, found, wanted)


def _check_commit(data: Any, commit: str, place: str) -> None:
    """Offline, `datasets` takes the newest cached version whatever the revision asked for; its folder tells which."""
    commits = {Path(file["filename"]).parent.name for file in data.cache_files}
    if commits and commits != {commit}:
        found = f"commit {', '.join(sorted(commits))} in the local cache"
        raise DataError(place, found, f"the study was begun with {commit}: go online to fetch it")


def _commit(part: HubPart) -> str:
    if Path(part.id).is_dir():
        return _folder_digest(Path(part.id))
    if part.revision and COMMIT.fullmatch(part.revision):
        return part.revision
    import huggingface_hub
    from httpx2 import HTTPError  # huggingface_hub lets the errors of its client through

    try:
        return str(huggingface_hub.HfApi().dataset_info(part.id, revision=part.revision, timeout=20.0).sha)
    except (OSError, HTTPError) as error:
        cached = _cached_commit(part)
        if cached is None:
            raise _unavailable(part, part.id, error) from error
        return cached


def _cached_commit(part: HubPart) -> str | None:
    """What the local caches know: the hub's reference, else the newest commit that `datasets` has prepared."""
    import datasets
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{part.id.replace('/', '--')}"
    reference = folder / "refs" / (part.revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    prepared = Path(datasets.config.HF_DATASETS_CACHE) / part.id.replace("/", "___")
    commits = [path for path in prepared.glob("*/*/*") if COMMIT.fullmatch(path.name)]
    return max(commits, key=lambda path: path.stat().st_mtime).name if commits and part.revision is None else None


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint({str(path.relative_to(folder)): file_digest(path) for path in files})
