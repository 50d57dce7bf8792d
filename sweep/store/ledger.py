"""Ledger of what was reserved and spent, chain by chain: one SQLite file, one writer.

The ledger is the truth that survives a kill; Optuna's studies, MLflow and the live display are rebuilt from it.
Spending is kept per attempt, so an attempt that died is still charged with what it last reported.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sweep.config.axes import Cell, cell_columns
from sweep.config.load import parse
from sweep.config.spaces import Value
from sweep.config.study import Study
from sweep.errors import StoreError, StudyError
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.hardware import Device
from sweep.plan.recipe import REPLICA, Chain
from sweep.plan.speed import NOTHING, Place, Speed, Taken
from sweep.store import paths

COPIES = 20  # attempts to copy it while a run writes
DRIVER = ""  # name under which the driver says what it does, beside the keys of running chains

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
COLLAPSED = "collapsed"  # ended at a phase that learned nothing: a result, and never tried again
PAUSED = "paused"  # waits, without a worker, until the other candidates of its cell have come as far
SUPERSEDED = "superseded"  # of an earlier version of the study file: no result of this one, but paid for
ELIMINATED = "loser"  # the text in ledgers; another candidate is better, so it is not trained further, or not scored
OVER = (DONE, COLLAPSED, ELIMINATED)  # nothing is left to do for such a chain

_SCHEMA = """
create table if not exists chains (
    key text primary key, cell text not null, {columns}, seed integer not null,
    candidate integer not null, role text not null, settings text not null default '[]',
    selected integer not null default 0, rates text not null, phases text not null, score text not null,
    state text not null, dev real, started real not null, ended real, message text not null default '',
    changed integer not null default 0);
create index if not exists chains_by_change on chains (changed);
create index if not exists chains_of_cell on chains (cell);
create table if not exists attempts (
    chain text not null, attempt integer not null, reserved real not null, settled integer not null default 0,
    flops real not null default 0, device_seconds real not null default 0, started real not null, ended real,
    primary key (chain, attempt));
create index if not exists open_attempts on attempts (settled) where settled = 0;
create table if not exists facts (name text primary key, value text not null);
create table if not exists latest (name text primary key, time real not null, value text not null);
""".format(columns=", ".join(f"{name} text not null" for name in cell_columns()))


@dataclass(frozen=True)
class ChainRow:
    """One chain as the ledger knows it."""

    key: str
    cell: Cell
    seed: int
    candidate: int  # index among the candidates of its cell
    role: str  # "candidate" (first seed, tuning) | "replica" (the winner's hyperparameters, another seed)
    selected: bool  # the cell's winner or a replica of it: these rows make the tables
    hyperparameters: dict[str, Value]  # as sweep.plan.recipe names them
    phases: tuple[str, ...]  # keys, trunk segments left out
    score: str
    state: str  # running | done | failed | stopped | collapsed | paused | loser | superseded
    dev: float | None
    flops: float  # really spent by this chain, all attempts; a shared phase found in the store costs nothing
    device_seconds: float
    started: float
    ended: float | None
    message: str = ""


_NOW = "(select coalesce(max(changed), 0) + 1 from chains)"  # a clock that ticks with every change of a chain
_SPENT = ("flops", "device_seconds")  # kept per attempt
# Columns that have a field's name; `rates` has the hyperparameters.
_OWN = tuple(each.name for each in fields(ChainRow) if each.name not in ("cell", "hyperparameters"))
_KEPT = (name for name in _OWN if name not in (*_SPENT, "ended", "message"))
_WRITTEN = ("cell", *cell_columns(), "settings", "rates", *_KEPT)


class Ledger:
    """Opened by the driver alone; others read what `opened_to_read` gives them.

    Raises StoreError, here and in every call, where the file is damaged or no ledger, or its disk is full.
    """

    def __init__(self, path: Path, copy_of: Path | None = None) -> None:
        self.path = copy_of or path  # in messages
        with _explained(self.path):
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        tables = {str(name) for (name,) in self._rows("select name from sqlite_master where type = 'table'")}
        if tables and not tables & {"chains", "attempts", "facts"}:
            problem = f"a database of something else (with the table {min(tables)!r})"
            raise StoreError(self.path, problem, "a ledger that 'sweep run' has made, or no file, is expected there")
        self._rows("pragma journal_mode=wal")
        self._rows("pragma synchronous=normal")
        with _explained(self.path):
            self._db.executescript(_SCHEMA)
            if "settings" not in {row["name"] for row in self._db.execute("pragma table_info(chains)")}:
                # A ledger of a version without settings axes.
                self._db.execute("alter table chains add column settings text not null default '[]'")
        self._settled: tuple[float, float] | None = None  # what settled attempts have spent, once somebody asked

    def close(self) -> None:
        self._db.close()

    def _rows(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[sqlite3.Row]:
        with _explained(self.path):
            return self._db.execute(sql, values).fetchall()

    def open_chain(self, row: ChainRow) -> None:
        """Records a chain that is about to run; a chain that an earlier run left unfinished starts again.

        It takes the place of any other with its cell, seed and candidate, and a replica that of any other replica.
        """
        values = {name: getattr(row, name) for name in _OWN} | row.cell.columns()
        values.update(cell=row.cell.name, rates=json.dumps(row.hyperparameters), phases=json.dumps(row.phases))
        values["settings"] = json.dumps(row.cell.settings)
        self._rows(
            f"insert into chains ({', '.join(_WRITTEN)}, changed)"
            f" values ({', '.join(f':{name}' for name in _WRITTEN)}, {_NOW})"
            " on conflict (key) do update set state = excluded.state, message = '', changed = excluded.changed,"
            f" ended = case when excluded.state = '{RUNNING}' then null else ended end,"
            f" role = case when chains.state = '{SUPERSEDED}' then excluded.role else role end",
            values,
        )
        same = f"(candidate = :candidate or (role = '{REPLICA}' and :role = '{REPLICA}'))"
        self._supersede(f"cell = :cell and seed = :seed and key != :key and {same}", values)

    def supersede(self, keys: Iterable[str]) -> None:
        """Marks chains that the study file does not ask for now."""
        for key in keys:
            self._supersede("key = :key", {"key": key})

    def _supersede(self, which: str, values: Mapping[str, object]) -> None:
        self._rows(
            f"update chains set state = '{SUPERSEDED}', selected = 0, changed = {_NOW}"
            f" where state != '{SUPERSEDED}' and {which}",
            values,
        )

    def close_chain(self, key: str, state: str, dev: float | None, ended: float, message: str = "") -> None:
        # A chain that a later run finds finished keeps the time at which it ended: nothing about it has changed.
        self._rows(
            "update chains set state = ?, dev = coalesce(?, dev), ended = coalesce(ended, ?), message = ?,"
            f" changed = {_NOW} where key = ?",
            (state, dev, ended, message, key),
        )

    def select(self, cell: str, candidate: int) -> None:
        """Marks the winner of a cell's tuning, and the replicas that carry its hyperparameters."""
        self._rows(
            f"update chains set selected = (candidate = ?1), changed = {_NOW}"
            f" where cell = ?2 and selected != (candidate = ?1) and state != '{SUPERSEDED}'",
            (candidate, cell),
        )

    def reserve(self, chain: str, amount: float, started: float) -> int:
        """Opens an attempt and holds `amount` (in the budget's unit) for it; returns the attempt's number."""
        ((attempt,),) = self._rows("select count(*) from attempts where chain = ?", (chain,))
        self._rows(
            "insert into attempts (chain, attempt, reserved, started) values (?,?,?,?)",
            (chain, attempt, amount, started),
        )
        return int(attempt)

    def hold(self, chain: str, attempt: int, amount: float) -> None:
        """Raises or lowers the amount that an open attempt may spend in all."""
        self._rows("update attempts set reserved = ? where chain = ? and attempt = ?", (amount, chain, attempt))

    def charge(self, chain: str, attempt: int, flops: float, device_seconds: float) -> None:
        """Records the FLOPs and device-seconds that an attempt has spent so far, in total."""
        self._rows(
            "update attempts set flops = ?, device_seconds = ? where chain = ? and attempt = ?",
            (flops, device_seconds, chain, attempt),
        )

    def settle(self, chain: str, attempt: int, ended: float) -> None:
        """Closes an attempt: what it spent stays, what was reserved for it is free."""
        settled = self._rows(
            "update attempts set settled = 1, ended = ? where chain = ? and attempt = ? and settled = 0"
            " returning flops, device_seconds",
            (ended, chain, attempt),
        )
        if settled and self._settled is not None:
            ((flops, device_seconds),) = settled
            self._settled = (self._settled[0] + flops, self._settled[1] + device_seconds)
        self._rows("delete from latest where name = ?", (chain,))
        self._rows(f"update chains set changed = {_NOW} where key = ?", (chain,))

    def note(self, name: str, now: float, value: Mapping[str, Any]) -> None:
        """Keeps the latest of a running chain, or of the DRIVER, for whoever asks meanwhile: plain data."""
        self._rows("insert or replace into latest (name, time, value) values (?, ?, ?)", (name, now, json.dumps(value)))

    def latest(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """Name -> time and content of what `note` kept; a chain that has ended has none."""
        return {str(name): (float(at), json.loads(text)) for name, at, text in self._rows("select * from latest")}

    def settle_all(self, ended: float) -> None:
        """Closes the attempts of an earlier run, at start: none of them is running any more."""
        self._rows("update attempts set settled = 1, ended = coalesce(ended, ?) where settled = 0", (ended,))
        self._rows("delete from latest")
        self._rows(f"update chains set state = ?, changed = {_NOW} where state = ?", (STOPPED, RUNNING))
        self._settled = None

    def spent(self) -> tuple[float, float]:
        """(FLOPs, device-seconds) of all attempts, finished or not."""
        total = "select total(flops), total(device_seconds) from attempts where settled = "
        if self._settled is None:
            self._settled = tuple(self._rows(f"{total} 1")[0])
        running = self._rows(f"{total} 0")[0]  # asked at every report: few rows, whatever has run before
        return float(self._settled[0] + running[0]), float(self._settled[1] + running[1])

    def held(self, unit: str) -> float:
        """Amount that open attempts may still spend, in the unit 'flops' or 'device_seconds'."""
        column = {"flops": "flops", "device_seconds": "device_seconds"}[unit]
        return float(self._rows(f"select total(max(reserved - {column}, 0)) from attempts where settled = 0")[0][0])

    def change(self) -> int:
        """The number of the latest change of any chain."""
        return int(self._rows("select coalesce(max(changed), 0) from chains")[0][0])

    def chains(self, after: int = 0) -> list[ChainRow]:
        """All chains that were ever started and have changed `after` that change, in the order of their start."""
        query = (
            "select c.*, total(a.flops) as flops, total(a.device_seconds) as device_seconds from chains c"
            " left join attempts a on a.chain = c.key where c.changed > ? group by c.key order by c.rowid"
        )
        return [_row(row) for row in self._rows(query, (after,))]

    def facts(self) -> Facts:
        """Facts that runs of the study have learned."""
        return Facts({str(name): str(text) for name, text in self._rows("select name, value from facts")})

    def remember(self, facts: Facts) -> None:
        """Keeps facts with the study; of what was known before, the newer counts."""
        with _explained(self.path):
            self._db.executemany("insert or replace into facts (name, value) values (?, ?)", list(facts.texts.items()))

    def charge_lost(self, flops: float, device_seconds: float, now: float) -> None:
        """Charges spending of which nothing but its results is known, because the ledger that kept it is gone."""
        self._rows(
            "insert or replace into attempts (chain, attempt, reserved, settled, flops, device_seconds, started, ended)"
            " values ('', 0, 0, 1, ?, ?, ?, ?)",
            (flops, device_seconds, now, now),
        )
        self._settled = None


@contextmanager
def opened_to_read(path: Path) -> Iterator[Ledger]:
    """Opens a copy of a ledger, be its study running here, elsewhere or nowhere. Raises StoreError, FileNotFoundError.

    A copy: whoever opens a database with a write-ahead log makes files beside it, and on another machine than its
    writer's sees no shared memory and may read nonsense. The log holds what a checkpoint is writing until it is begun
    anew, so a copy of file and log, in this order, is whole wherever the log is the same before and after.
    """
    log = path.with_name(f"{path.name}-wal")
    with tempfile.TemporaryDirectory(prefix="sweep-ledger-") as folder:
        copy = Path(folder) / path.name
        for _ in range(COPIES):
            begun = _log_begun(path, log)
            shutil.copyfile(path, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(log, copy.with_name(log.name))
            if _log_begun(path, log) == begun:
                break
            copy.with_name(log.name).unlink(missing_ok=True)
            time.sleep(0.05)
        ledger = Ledger(copy, copy_of=path)
        try:
            yield ledger
        finally:
            ledger.close()


def _log_begun(path: Path, log: Path) -> tuple[bytes, int]:
    """The header of the write-ahead log, another one each time it is begun, or when the file was changed."""
    try:
        with log.open("rb") as stream:
            header = stream.read(32)
    except FileNotFoundError:
        header = b""
    return header, 0 if header else path.stat().st_mtime_ns


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what SQLite says of a file into one line; of statements that are wrong it says nothing."""
    try:
        yield
    except sqlite3.DatabaseError as failure:
        if type(failure) not in (sqlite3.DatabaseError, sqlite3.OperationalError):
            raise
        expected = (
            "a disk with room is expected; then the same command goes on"
            if "full" in str(failure)
            else "to repair, move this file away and run the study again: finished work is kept, and what it cost is"
            " counted from the store's records"
        )
        raise StoreError(path, f"a ledger that cannot be used ({failure})", expected) from failure


def row_of(chain: Chain, state: str, now: float) -> ChainRow:
    """A chain as it begins, or is found to be over."""
    return ChainRow(
        key=chain.key, cell=chain.cell, seed=chain.seed, candidate=chain.candidate, role=chain.role,
        selected=chain.role == REPLICA, hyperparameters=dict(chain.hyperparameters),
        phases=tuple(phase.key for phase in chain.phases if not phase.trunk), score=chain.score, state=state,
        dev=None, flops=0.0, device_seconds=0.0, started=now, ended=None,
    )  # fmt: skip


def _row(row: sqlite3.Row) -> ChainRow:
    values = {name: row[name] for name in _OWN}
    values.update(
        hyperparameters=json.loads(row["rates"]),
        phases=tuple(json.loads(row["phases"])),
        selected=bool(row["selected"]),
    )
    return ChainRow(cell=Cell.of({**dict(json.loads(row["settings"])), **dict(row)}), **values)


@dataclass(frozen=True)
class Measured:
    """Measurements of a study's runs; nothing before it has begun."""

    facts: Facts = NO_FACTS  # of the ledger
    taken: Mapping[Place, Taken] = field(default_factory=dict)

    def __add__(self, other: Measured) -> Measured:
        """These measurements, with the times that others have taken; facts are of one study alone."""
        places = self.taken.keys() | other.taken.keys()
        taken = {at: self.taken.get(at, NOTHING) + other.taken.get(at, NOTHING) for at in places}
        return Measured(self.facts, taken)

    def speed(self, device: Device) -> Speed:
        return Speed(self.taken, device)


def measured(results: Path) -> Measured:
    """Facts and measured work of the ledger in a results folder; nothing where there is none."""
    if not (results / paths.LEDGER).is_file():
        return Measured()
    with opened_to_read(results / paths.LEDGER) as ledger:
        return Measured(ledger.facts(), taken_of(ledger))


def measured_in(results: Path) -> Measured:
    """Measurements of another study. Raises StudyError where no study has begun in that folder."""
    if not (results / paths.LEDGER).is_file():
        raise no_study(results)
    return measured(results)


def taken_of(ledger: Ledger) -> dict[Place, Taken]:
    """Time that parts of chains have taken, by their kinds; of a version that did not note that, whole chains'."""
    taken = dict(ledger.facts().taken)
    for row in () if taken else ledger.chains():
        place = (row.cell.encoder,)
        taken[place] = taken.get(place, NOTHING) + Taken.of(row.flops, row.device_seconds)
    return taken


def results_of(study: Study) -> Path:
    """Folder of results of a study, whether it is there or not.

    Raises StudyError where it is not, and the study has results in the folder of this name below the working
    directory, which `results:` was once relative to: they are neither left behind nor used without a word.
    """
    folder, earlier = study.results_folder, study.results_named
    if (folder / paths.LEDGER).exists() or not (earlier / paths.LEDGER).is_file():
        return folder
    known = measured(earlier).facts
    if known.study == study.study and known.study_file is None:
        problem = f"no results in {folder}, which is relative to the study file, but in {earlier.absolute()}"
        expected = f"move them there, or name their place, `results: {earlier.absolute()}`, or a new one to begin anew"
        raise StudyError(f"{study.path}: results", problem, expected)
    return folder


def study_in(results: Path, file: Path | None = None) -> Study:
    """The study of a results folder as its last run read it; `file` is where its file is, if it has moved since.

    Raises StudyError where no study has begun.
    """
    copy = results / paths.STUDY_FILE
    if not copy.exists() or not (results / paths.LEDGER).exists():
        raise no_study(results)
    path = file or study_path(results, measured(results).facts)
    return parse(copy.read_text(encoding="utf-8"), str(path))


def study_path(results: Path, facts: Facts) -> Path:
    """Path of the study file at the last run in a results folder; of its copy there where that is not known."""
    return Path(os.path.normpath(results / (facts.study_file or paths.STUDY_FILE)))


def no_study(results: Path) -> StudyError:
    """A folder in which no study has begun."""
    return StudyError(results, "no study", "the results folder of a 'sweep run' is expected")
