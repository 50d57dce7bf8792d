"""Hub data sets: rows through `datasets.load_dataset`, also from a local folder laid out like a hub data set.

A hub data set can change, so its commit is part of its identity. `resolve` looks it up once and the study records it;
no commit is written down here. Sizes are stated in advance, so that a plan needs no network.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sweep.data import Size
from sweep.data.columns import Part, PartedSource, fill
from sweep.data.files import named, parquet_rows
from sweep.data.formats import Raw
from sweep.errors import DataError
from sweep.keys import file_digest, fingerprint

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPart(Part):
    """Part of a split on the hub. `config` and `split` may contain {language} and {code}."""

    id: str  # owner/name on the hub, or a local folder
    config: str | None
    split: str
    revision: str | None  # branch, tag or commit that the study file asks for; None: the main branch
    fallback: str | None = None  # revision whose Parquet files are read where that one cannot be loaded
    first: int | None = None  # so many rows, streamed, of what is too large to fetch; None: all
    instead: str = ""  # what else would do without a network, for messages

    @property
    def data_set(self) -> str:
        """Data set and requested version; parts with the same one have the same commit."""
        version = f"{self.id}@{self.revision}" if self.revision else self.id
        return f"{version} or {self.fallback}" if self.fallback else version


@dataclass(frozen=True)
class HubSource(PartedSource[HubPart]):
    """Source over hub data sets."""

    # Data set -> commit, or `commit@fallback` where only the fallback could be loaded; those that are resolved.
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_sets(self) -> tuple[HubPart, ...]:
        """First part of each data set and requested version."""
        first: dict[str, HubPart] = {}
        for part in (part for parts in self.splits.values() for part in parts):
            first.setdefault(part.data_set, part)
        return tuple(first.values())

    def resolve(self) -> HubSource:
        """Copy with the commits of its data sets, from the hub or, offline, from the local cache.

        Raises DataError where neither has a data set.
        """
        return self.at({part.data_set: self.versions.get(part.data_set) or version_of(part) for part in self.data_sets})

    def at(self, versions: Mapping[str, str]) -> HubSource:
        """Copy with those of these versions that are of its data sets."""
        own = {part.data_set for part in self.data_sets}
        return replace(self, versions={name: version for name, version in versions.items() if name in own})

    def size(self, split: str, language: str) -> Size:
        """Size as the description states it."""
        options = self.parts(split, language)[0].columns.columns.get("options")
        sequences = float(len(options)) if isinstance(options, list) else None
        return Size(self.portion(split, self.stated(split, language) or 0), self.tokens or 0.0, sequences)

    def part_raw(self, part: HubPart, language: str) -> Iterator[tuple[str, Raw]]:
        """(id config split:row, raw row) of a part. Raises DataError."""
        return _raw(part, language, self.versions.get(part.data_set), self.part_place(part, language))

    def part_origin(self, part: HubPart, language: str) -> object:
        """Data set, configuration and split."""
        return self.part_place(part, language)

    def part_digest(self, part: HubPart, language: str) -> str:
        """Digest of the data set's commit (None: not resolved yet) and of how it is read."""
        how = part.reading(id=_name(part.id), revision=None, fallback=None, instead="")
        return fingerprint({"commit": self.versions.get(part.data_set), "how": how, "names": part.names(language)})

    def part_place(self, part: HubPart, language: str) -> str:
        """Data set, configuration and split."""
        return " ".join(fill(text, part.names(language)) for text in (part.id, part.config, part.split) if text)


def _name(identifier: str) -> str:
    """Hub id, or the last name of a local folder: where a folder lies changes no key."""
    return Path(identifier).name if Path(identifier).is_dir() else identifier


def _raw(part: HubPart, language: str, version: str | None, place: str) -> Iterator[tuple[str, Raw]]:
    """Raw rows with class labels by name. Raises DataError where the data set cannot be loaded."""
    rows = _at(part, language, version, place) if version or not part.fallback else _either(part, language, place)
    with _explained(part, place):
        for number, row in enumerate(islice(rows, part.first)):
            yield f"{place}:{number}", row


def _either(part: HubPart, language: str, place: str) -> Iterable[Raw]:
    """Rows at the main revision, or at the fallback where that cannot be loaded."""
    try:
        return _at(part, language, None, place)
    except DataError as first:
        try:
            return _at(part, language, f"{part.fallback}@{part.fallback}", place)
        except DataError:
            raise first from None


def _at(part: HubPart, language: str, version: str | None, place: str) -> Iterable[Raw]:
    """Rows at a resolved version, or (None) at the revision that the study file names."""
    revision, _, fallback = (version or part.revision or "").partition("@")
    config = None if part.config is None else fill(part.config, part.names(language))
    split = fill(part.split, part.names(language))
    if fallback:
        return _converted(part, revision, f"{config or 'default'}/{split}", place)
    local = Path(part.id).is_dir()
    if local and version and _folder_digest(Path(part.id)) != version:
        raise DataError(
            place, "a folder that has changed since the study started", "restore the folder or start a new study"
        )
    return _loaded(part, config, split, None if local else revision or None, place)


def _loaded(part: HubPart, config: str | None, split: str, revision: str | None, place: str) -> Iterable[Raw]:
    """Rows of a split as `datasets` loads it."""
    import datasets

    streaming = part.first is not None
    with _explained(part, place):
        try:
            data = datasets.load_dataset(part.id, config, split=split, revision=revision, streaming=streaming)
        except datasets.exceptions.DatasetGenerationError as error:
            raise _unlike(part, place, error, _odd_file(part.id, config, split, revision)) from error
    if revision and COMMIT.fullmatch(revision) and not streaming:
        _check_commit(data, revision, place)
    names = {column: labels for column, feature in (data.features or {}).items() if (labels := _label_names(feature))}
    rows = (named(dict(row), names) for row in data)
    return _streamed(rows, part, config, split, place) if streaming and Path(part.id).is_dir() else rows


def _streamed(rows: Iterable[Raw], part: HubPart, config: str | None, split: str, place: str) -> Iterator[Raw]:
    """Rows of a streamed folder, whose files are cast as they are read. Raises DataError."""
    try:
        yield from rows
    except (ValueError, TypeError) as error:
        raise _unlike(part, place, error, _odd_file(part.id, config, split, None)) from error


def _converted(part: HubPart, revision: str, folder: str, place: str) -> Iterable[Raw]:
    """Rows of the Parquet files that the hub converts a data set to, stored by configuration and split."""
    import huggingface_hub

    pattern = f"{folder}/*.parquet"
    with _explained(part, place):
        snapshot = huggingface_hub.snapshot_download(
            part.id, repo_type="dataset", revision=revision, allow_patterns=pattern
        )
        if not (files := sorted(Path(snapshot).glob(pattern))):
            raise FileNotFoundError(f"no {pattern} at {revision}")
    return (row for file in files for _, row in parquet_rows(file))


def _label_names(feature: Any) -> list[str] | None:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "names", None)


def _odd_file(identifier: str, config: str | None, split: str, revision: str | None) -> tuple[str, str, str] | None:
    """(file, column, difference) of the first file whose columns differ from the rest of its split.

    Each file is read by itself and compared with the features that the data set states, or with the first file.
    None where no difference is found, or where the files cannot be loaded.
    """
    import datasets

    try:
        builder = datasets.load_dataset_builder(identifier, config, revision=revision)
        files = [str(file) for file in (builder.config.data_files or {}).get(split.partition("[")[0], ())]
        features, origin = builder.info.features, "the data set's README.md"
        for file in files:
            data = datasets.load_dataset(builder.name, data_files=[file], split="train")
            if features is None:
                features, origin = data.features, files[0]
            if odd := _odd_column(data, features):
                return file, odd[0], f"{odd[1]}, where {origin} has {_kind(features.get(odd[0]))}"
    except (OSError, ValueError, TypeError, RuntimeError, datasets.exceptions.DatasetsError):
        return None
    return None


def _odd_column(data: Any, features: Mapping[str, Any]) -> tuple[str, str] | None:
    """(column, its type in the data) of the first column that cannot be cast to the features."""
    for column in dict.fromkeys([*features, *data.features]):
        if column not in data.features or column not in features:
            return column, _kind(data.features.get(column))
        try:
            data.select_columns([column]).cast_column(column, features[column])
            for value in data.unique(column) if hasattr(features[column], "names") else ():
                features[column].encode_example(value)  # which looks at the number of classes
        except (ValueError, TypeError) as error:
            return column, f"{_kind(data.features[column])} ({_first_line(error)})"
    return None


def _kind(feature: Any) -> str:
    """Type of a column in a word or two."""
    if feature is None:
        return "no such column"
    names = _label_names(feature)
    return f"class labels ({len(names)})" if names else str(getattr(feature, "dtype", feature))


def _unlike(part: HubPart, place: str, error: Exception, odd: tuple[str, str, str] | None) -> DataError:
    """DataError for a split whose files differ in their columns or types."""
    cause = _first_line(error.__cause__ or error)
    if odd is None:
        return DataError(place, f"data of several kinds in one split ({cause})", _alike(part))
    file, column, difference = odd
    return DataError(file, f"column {column!r}: {difference}", _alike(part))


def _alike(part: HubPart) -> str:
    return (
        "every file of a split must have the same columns and types: correct the file or the features in the data"
        f" set's README.md, or describe the files themselves in {part.where} with `format` and `path`"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


@contextmanager
def _explained(part: HubPart, place: str) -> Iterator[None]:
    """Turns what `datasets` raises where it cannot load into a DataError, and silences its log."""
    import datasets
    from httpx2 import HTTPError  # huggingface_hub lets the errors of its client through

    logger = logging.getLogger(datasets.__name__)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise _unavailable(part, place, error) from error
    finally:
        logger.setLevel(level)


def _unavailable(part: HubPart, place: str, error: Exception) -> DataError:
    problem = f"a data set that cannot be loaded ({_first_line(error)})"
    folder = f"a folder with its README.md and Parquet files, written for {part.id!r} in {part.where}, would do"
    instead = f", and so would {part.instead}" if part.instead else ""
    expected = f"check id, config and split, or go online once; without a network {folder}{instead}"
    return DataError(place, problem, expected)


def _check_commit(data: Any, commit: str, place: str) -> None:
    """Raises DataError where `datasets`, offline, took another cached commit; its cache folder tells which."""
    commits = {Path(file["filename"]).parent.name for file in data.cache_files}
    if commits and commits != {commit}:
        problem = f"commit {', '.join(sorted(commits))} in the local cache"
        raise DataError(place, problem, f"the study uses {commit}: go online to fetch it")


def version_of(part: HubPart) -> str:
    """Current commit of the part's revision; `commit@fallback` where only the fallback can be loaded.

    Raises DataError where neither the hub nor the local cache has it.
    """
    if Path(part.id).is_dir():
        return _folder_digest(Path(part.id))
    if part.revision and COMMIT.fullmatch(part.revision):
        return part.revision
    from httpx2 import HTTPError

    try:
        commit = _commit(part, part.revision)
    except (OSError, HTTPError) as error:
        cached = _cached_version(part)
        if cached is None:
            raise _unavailable(part, part.id, error) from error
        return cached
    if part.fallback is None or _loads(part, commit):
        return commit
    with _explained(part, part.id):
        return f"{_commit(part, part.fallback)}@{part.fallback}"


def _commit(part: HubPart, revision: str | None) -> str:
    import huggingface_hub

    return str(huggingface_hub.HfApi().dataset_info(part.id, revision=revision, timeout=20.0).sha)


def _loads(part: HubPart, commit: str) -> bool:
    """Whether `datasets` can load this commit: it refuses those with a loading script."""
    import datasets

    language = next(iter(part.languages))
    config = None if part.config is None else fill(part.config, part.names(language))
    try:
        with _explained(part, part.id):
            datasets.load_dataset_builder(part.id, config, revision=commit)
    except DataError:
        return False
    return True


def _cached_version(part: HubPart) -> str | None:
    """Commit in the local caches: a reference of the hub's, else the newest that `datasets` has prepared.

    A fallback is in the cache only where the main revision could not be loaded.
    """
    import datasets
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{part.id.replace('/', '--')}" / "refs"
    if part.fallback and (folder / part.fallback).is_file():
        return f"{_read(folder / part.fallback)}@{part.fallback}"
    if (folder / (part.revision or "main")).is_file():
        return _read(folder / (part.revision or "main"))
    prepared = Path(datasets.config.HF_DATASETS_CACHE) / part.id.replace("/", "___")
    commits = [path for path in prepared.glob("*/*/*") if COMMIT.fullmatch(path.name)]
    return max(commits, key=lambda path: path.stat().st_mtime).name if commits and part.revision is None else None


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint({str(path.relative_to(folder)): file_digest(path) for path in files})
