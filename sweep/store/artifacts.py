"""Finished phases and scores, by key. Anything without a record does not exist; a mismatch is an error.

Its folders are listed in sweep/store/paths.py. One is filled under another name, its record written last, and the whole
renamed: a kill leaves either all of it or nothing. The store knows neither torch nor what the files mean.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sweep.errors import StoreError
from sweep.heartbeat import NO_LISTENER, Heartbeat
from sweep.keys import KEY_LENGTH, file_digest
from sweep.store import paths
from sweep.store.records import PhaseRecord, PreviewRecord, ScoreRecord

CHECKSUM = "checksum"  # in a record
OWNER_ALONE = 0o600
TURN_SECONDS = 0.2  # so often whoever waits for a lock says so
FULL, REFUSED = (errno.ENOSPC, errno.EDQUOT), (errno.EROFS, errno.EACCES, errno.EPERM)
FULL_WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")
UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.(\d+)@(.+)$")
DAY = 86400.0  # seconds
SETTLED_SECONDS = 2.0  # after which a change of a file has another time: file systems count in steps of up to that


Record = TypeVar("Record", PhaseRecord, ScoreRecord, PreviewRecord)


class Store:
    """Content-addressed folders below one root, which every worker must see under the same path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def log(self, chain: str) -> Path:
        """Path of the log of a chain's worker."""
        return self.root.parent / paths.LOGS / f"{chain}.log"

    def claim(self, study: str) -> str:
        """Marks the root as this study's, where it has no mark yet; returns what its workers have to find there."""
        path = self.root / paths.OWNER
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"study": study, "store": uuid.uuid4().hex}))
        return path.read_text(encoding="utf-8")

    def tidy(self) -> None:
        """Removes what processes that were killed have begun here, and the results folder of the driver, to write."""
        made = (self.root / kind for kind in (paths.PHASES, paths.SCORES, paths.PREVIEWS))
        for folder in (self.root.parent, self.root, *made):
            for path in folder.glob(".*@*") if folder.is_dir() else ():
                if _is_abandoned(path):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def check(self, mark: str) -> None:
        """Checks that this process sees the store that the driver has claimed, by its owner mark. Raises StoreError."""
        path, node = self.root / paths.OWNER, f"node {socket.gethostname()}"
        expected = "a results folder that all nodes see under the same path is expected (`results:`)"
        try:
            content = path.read_text(encoding="utf-8")
        except OSError as failure:
            raise StoreError(f"{node}: {path}", f"no store of this study ({failure.strerror})", expected) from failure
        if content != mark:
            raise StoreError(f"{node}: {path}", f"the store of another study or folder ({content[:100]})", expected)

    def phase(self, key: str) -> PhaseRecord | None:
        """The record of a finished phase, or None. Raises StoreError where the record cannot be read."""
        return _read(self.root / paths.PHASES / key, PhaseRecord)

    def history(self, key: str) -> tuple[PhaseRecord, ...]:
        """Records of a finished phase and, before it, of the trunk segments that it went on from; () where it is not.

        Their costs add up to those of the phase done alone.
        """
        records: list[PhaseRecord] = []
        next_key: str | None = key
        while next_key is not None and (record := self.phase(next_key)) is not None:
            records.insert(0, record)
            next_key = record.resumes
        return tuple(records)

    def score(self, key: str) -> ScoreRecord | None:
        """The record of finished scores, or None. Raises StoreError where the record cannot be read."""
        return _read(self.root / paths.SCORES / key, ScoreRecord)

    def preview(self, key: str) -> PreviewRecord | None:
        """The record of a finished preview, or None. Raises StoreError where the record cannot be read."""
        return _read(self.root / paths.PREVIEWS / key, PreviewRecord)

    def has_weights(self, key: str) -> bool:
        """Whether a child can start from this phase."""
        record = self.phase(key)
        return record is not None and not record.released and not record.dead_end

    def is_trained(self, key: str) -> bool:
        """Whether training this phase again would bring nothing: its weights are there, or it has collapsed."""
        record = self.phase(key)
        return record is not None and not record.released

    def weights(self, key: str) -> Path:
        """Folder of a finished phase, every file verified against its checksum. Raises StoreError."""
        folder = self.root / paths.PHASES / key
        _verify(folder, self.weight_digests(key))
        return folder

    def weight_digests(self, key: str) -> Mapping[str, str]:
        """Digests by name of the files of a finished phase, as its record has them. Raises StoreError without any."""
        record = self.phase(key)
        if record is None or record.released or record.dead_end:
            folder = self.root / paths.PHASES / key
            raise StoreError(folder, "no weights", f"run the study again: it trains what is missing ({key})")
        return record.files

    def spent(self) -> tuple[float, float]:
        """(FLOPs, device-seconds) of all that has a record; what was begun and not finished is in none."""
        records = [
            record
            for kind, of in ((paths.PHASES, self.phase), (paths.SCORES, self.score), (paths.PREVIEWS, self.preview))
            for key in self.keys(kind)
            if (record := of(key)) is not None
        ]
        return sum(record.flops for record in records), sum(record.device_seconds for record in records)

    def keys(self, kind: str) -> list[str]:
        """Keys below <root>/<kind>, such as the finished `phases` and `scores`, or phases begun in `scratch`."""
        folder = self.root / kind
        return sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []

    def bytes_begun(self, key: str) -> int:
        """Bytes on disk of a half-done phase."""
        return sum(path.stat().st_size for path in (self.root / paths.SCRATCH / key).iterdir())

    def bytes_held(self, record: PhaseRecord) -> int:
        """Bytes on disk of the weights of a finished phase."""
        files = (self.root / paths.PHASES / record.key / name for name in record.files)
        return sum(path.stat().st_size for path in files if path.exists())

    def statistics(self, score_key: str) -> dict[str, NDArray[np.float64]]:
        """language -> [examples, K] per-example statistics, verified. Raises StoreError."""
        return self._arrays(score_key, paths.STATISTICS)

    def units(self, score_key: str) -> dict[str, NDArray[np.int64]]:
        """language -> [examples] units, in the order of the statistics, verified. Raises StoreError.

        Examples with equal numbers belong together, in all languages of the target (sweep/data/units.py).
        "retention/<task>" names those of an intermediate task's held-out set. {} of scores from before there were any.
        """
        record = self.score(score_key)
        return self._arrays(score_key, paths.UNITS) if record is None or paths.UNITS in record.files else {}

    def probabilities(self, score_key: str) -> dict[str, NDArray[np.float16]]:
        """language -> [examples, C] probabilities of labels, NaN of those an example has not. Raises StoreError.

        {} of families without any, and of scores from before they were kept.
        """
        record = self.score(score_key)
        kept = record is None or paths.PROBABILITIES in record.files
        return self._arrays(score_key, paths.PROBABILITIES) if kept else {}

    def _arrays(self, score_key: str, name: str) -> dict[str, NDArray[Any]]:
        folder = self.root / paths.SCORES / score_key
        record = self.score(score_key)
        if record is None:
            raise StoreError(folder, "no scores", "run the study again: it scores what is missing")
        _verify(folder, record.files)
        with np.load(folder / name, allow_pickle=False) as archive:
            return {language: archive[language] for language in archive.files}

    def predictions(self, score_key: str) -> Path:
        """The archive with the prediction files of finished scores, verified. Raises StoreError."""
        folder, record = self.root / paths.SCORES / score_key, self.score(score_key)
        _verify(folder, {paths.PREDICTIONS: record.files.get(paths.PREDICTIONS, "") if record is not None else ""})
        return folder / paths.PREDICTIONS

    def labels(self, score_key: str) -> Path:
        """The folder with the label files of finished scores. Raises StoreError."""
        record = self.score(score_key)
        folder = self.root / paths.LABELS / (record.labels if record is not None else "")
        if record is None or not record.labels or not folder.is_dir():
            raise StoreError(folder, "no labels", _repair(self.root / paths.SCORES / score_key))
        return folder

    def scratch(self, key: str) -> Path:
        """Folder where a phase is trained; what an interrupted run left in it is still there."""
        folder = self.root / paths.SCRATCH / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def training(self, key: str, heartbeat: Heartbeat = NO_LISTENER) -> Iterator[Path]:
        """The scratch folder of a phase, for one process at a time; others wait, and then may find the phase finished.

        The driver never lets two chains train one phase, but a worker outlives a killed driver by seconds.
        """
        with _locked(self.scratch(key) / paths.LOCK, f"phase {key}", heartbeat):
            scratch = self.scratch(key)  # whoever held the lock before may have removed it
            for path in scratch.glob(".*"):  # what a kill has left of a checkpoint that was being written
                if not path.name.startswith(paths.LOCK):
                    path.unlink()
            yield scratch
        if self.is_trained(key):
            shutil.rmtree(self.root / paths.SCRATCH / key, ignore_errors=True)

    def commit_phase(self, record: PhaseRecord, files: Mapping[str, Path]) -> PhaseRecord:
        """Moves `files` (name -> path, usually in scratch) and the record into place; drops the scratch folder."""
        complete = replace(record, files={name: file_digest(path) for name, path in sorted(files.items())})
        with self._new_folder(self.root / paths.PHASES / record.key) as folder:
            for name, path in files.items():
                put(path, folder / name)
            _write_record(folder, complete)
        shutil.rmtree(self.root / paths.SCRATCH / record.key, ignore_errors=True)
        return complete

    def commit_score(
        self,
        record: ScoreRecord,
        statistics: Mapping[str, NDArray[np.float64]],
        predictions: bytes | None = None,
        units: Mapping[str, NDArray[np.int64]] = MappingProxyType({}),
        probabilities: Mapping[str, NDArray[np.float16]] = MappingProxyType({}),
        last: Callable[[], Mapping[str, Any]] = dict,
    ) -> ScoreRecord:
        """Writes per-example statistics and units, by language and what else was scored, predictions, probabilities of
        labels by language, and the record.

        `last` gives fields of the record that are known when all else is written, such as the time that it took.
        Raises ValueError where a language has units of other examples than its statistics.
        """
        if any(name in statistics and len(statistics[name]) != len(values) for name, values in units.items()):
            raise ValueError("every example has a unit")
        with self._new_folder(self.root / paths.SCORES / record.key) as folder:
            kept: dict[str, Mapping[str, NDArray[Any]]] = {paths.STATISTICS: statistics, paths.UNITS: units}
            for name, arrays in {**kept, paths.PROBABILITIES: probabilities}.items():
                if arrays:
                    with (folder / name).open("wb") as stream:
                        np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]
            if predictions is not None:
                (folder / paths.PREDICTIONS).write_bytes(predictions)
            written = sorted(folder.iterdir())
            for path in written:
                _sync(path)
            complete = replace(record, files={path.name: file_digest(path) for path in written})
            complete = replace(complete, **last())
            _write_record(folder, complete)
        return complete

    def commit_preview(self, record: PreviewRecord) -> None:
        """Writes the record."""
        with self._new_folder(self.root / paths.PREVIEWS / record.key) as folder:
            _write_record(folder, record)

    def release(self, key: str) -> None:
        """Deletes the weights of a phase that has no children and is scored; its record stays and says so."""
        record = self.phase(key)
        if record is None or record.released:
            return
        folder = self.root / paths.PHASES / key
        _write_record(folder, replace(record, files={}, released=True))
        for name in record.files:
            (folder / name).unlink(missing_ok=True)

    def abandon(self, key: str) -> None:
        """Deletes what a phase has in scratch: nobody will train it further."""
        shutil.rmtree(self.root / paths.SCRATCH / key, ignore_errors=True)

    @contextmanager
    def made_once(self, kind: str, name: str, heartbeat: Heartbeat = NO_LISTENER) -> Iterator[Path]:
        """Path below <root>/<kind>; the caller makes it, whole or not at all, if it is not there, while others wait."""
        folder = self.root / kind
        path, lock = folder / name, folder / f".{name}{paths.LOCK}"
        if path.exists():
            yield path
            return
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(lock, f"{kind}/{name}", heartbeat):
            yield path
            if path.exists():  # nobody will make it again; filelock never takes the lock of a file that is gone
                lock.unlink(missing_ok=True)

    @contextmanager
    def _new_folder(self, final: Path) -> Iterator[Path]:
        # The unique name lets a worker that outlived its driver finish beside its successor; the first rename wins and
        # the loser's work is the same, because keys name everything that changes a result.
        final.parent.mkdir(parents=True, exist_ok=True)
        folder = _unfinished(final)
        folder.mkdir()
        try:
            yield folder
            if (final / paths.RECORD).exists() and not _is_released(final):
                return
            shutil.rmtree(final, ignore_errors=True)
            folder.rename(final)
            _sync(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path, what: str, heartbeat: Heartbeat) -> Iterator[None]:
    """Holds a lock that one process at a time may hold, and says while it has to wait for whom."""
    # Whoever goes on with the work lets go of it: a phase is committed in a thread of its own.
    lock, since, waits = FileLock(path, thread_local=False), time.time(), ""
    while not lock.is_locked:
        try:
            lock.acquire(timeout=TURN_SECONDS)
        except Timeout:
            waits, now = f"waits for {what}, held by {_holder(path)}", time.time()
            heartbeat.wait(waits, now - since)
            since = now
    try:
        # Beside the lock: where locks are emulated (NFS), closing the lock's own file anew would let go of it.
        note = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%H:%M:%S')}"
        _note_of(path).write_text(note, encoding="utf-8")
        if waits:
            heartbeat.wait("", time.time() - since)
        yield
    finally:
        _note_of(path).unlink(missing_ok=True)
        lock.release()


def _note_of(lock: Path) -> Path:
    """Path of the file in which the holder of a lock names itself."""
    return lock.with_name(f"{lock.name}.holder")


def _holder(lock: Path) -> str:
    try:
        return _note_of(lock).read_text(encoding="utf-8")
    except OSError:
        return "another process"


def _unfinished(path: Path) -> Path:
    """Path to write to before renaming to `path`: unique, with the process and host that write it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.{os.getpid()}@{socket.gethostname()}")


def _is_abandoned(path: Path) -> bool:
    """Whether nobody will finish this: its process is none of this machine any more, or it is older than a day."""
    match = UNFINISHED.search(path.name)
    if match is None:
        return False
    process, host = match.groups()
    if host == socket.gethostname():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    return time.time() - path.stat().st_mtime > DAY


def disk_error(fault: BaseException, folder: Path) -> StoreError | None:
    """Error for the user where a disk is the cause: full, or not writable; None for another error.

    Libraries say it in their own ways: an errno, or words of it.
    """
    cause: BaseException | None = fault
    while cause is not None:
        number, where = getattr(cause, "errno", None), getattr(cause, "filename", None) or folder
        if number in FULL or any(words in str(cause) for words in FULL_WORDS):
            return StoreError(where, f"a full disk ({_room(folder)})", "make room there: what is finished is kept")
        if number in REFUSED and getattr(cause, "filename", None):
            expected = "a place that this process may write is expected (`results:`)"
            return StoreError(where, f"no access from node {socket.gethostname()} ({os.strerror(number)})", expected)
        cause = cause.__cause__ or cause.__context__
    return None


def _room(folder: Path) -> str:
    """Free space on the disk of a folder, in words; the folder need not exist."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    usage = shutil.disk_usage(existing)
    return f"{usage.free / 1e9:.2f} of {usage.total / 1e9:.0f} GB are free at {existing}"


def put(finished: Path, path: Path) -> None:
    """Moves a file into the place of another: after a power cut there is the old one or this one, whole.

    It gets the mode that the user's umask gives to files: safetensors writes its own for their owner alone.
    """
    if finished.stat().st_mode & 0o777 == OWNER_ALONE:
        beside = finished.with_name(f"{finished.name}.mode")  # to ask for the umask is to change it, for all threads
        beside.touch()
        shutil.copymode(beside, finished)
        beside.unlink()
    _sync(finished)
    finished.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old text or the new, also after a power cut."""
    temporary = _unfinished(path)
    temporary.write_text(text, encoding="utf-8")
    put(temporary, path)


def _is_released(folder: Path) -> bool:
    return bool(json.loads((folder / paths.RECORD).read_text(encoding="utf-8")).get("released"))


def _write_record(folder: Path, record: PhaseRecord | ScoreRecord | PreviewRecord) -> None:
    content = json.loads(json.dumps(asdict(record)))
    written = {**content, CHECKSUM: _checksum(content)}
    write_atomically(folder / paths.RECORD, json.dumps(written, indent=1, ensure_ascii=False))


def _checksum(content: object) -> str:
    """Checksum of the content of a record, not of its text: losses that are no finite numbers have a form here, too."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


def _read(folder: Path, kind: type[Record]) -> Record | None:
    path = folder / paths.RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop(CHECKSUM, None)  # records of earlier versions have none
        if checksum is not None and checksum != _checksum(content):
            raise ValueError("it does not match its checksum")
        return kind(**{field.name: content[field.name] for field in fields(kind) if field.name in content})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as damage:
        raise StoreError(path, f"a damaged record ({damage})", _repair(folder)) from damage


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    """Checks that files are there and match their checksums. Raises StoreError.

    A process reads a version of a file for that once: until another size, time or inode says that it has changed.
    """
    for name, digest in files.items():
        path = folder / name
        try:
            state = path.stat()
        except FileNotFoundError:
            raise StoreError(path, "no file", _repair(folder)) from None
        version = (path, state.st_size, state.st_mtime_ns, state.st_ino)
        if _verified.get(version) == digest:
            continue
        if file_digest(path) != digest:
            raise StoreError(path, "content that does not match its checksum", _repair(folder))
        if time.time() - state.st_mtime > SETTLED_SECONDS:
            _verified[version] = digest


_verified: dict[tuple[Path, int, int, int], str] = {}  # version of a file that this process has read -> its digest


def _repair(folder: Path) -> str:
    return f"to repair, delete the folder {folder} and run the study again: it makes this part anew"
