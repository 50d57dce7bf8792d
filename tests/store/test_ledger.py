"""Facts about the ledger's file: readers change nothing, a damaged one is one line, what a lost one knew is charged."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from finished_study import usual
from small_studies import study_file

from sweep.cli import main
from sweep.errors import StoreError
from sweep.plan.facts import NO_FACTS, Facts
from sweep.report.page import publish
from sweep.run.study import prepared
from sweep.store.ledger import Ledger, opened_to_read
from sweep.store.paths import LEDGER


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> (size, time of change) of the ledger's files."""
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob(f"{LEDGER}*")}


@pytest.mark.parametrize("writing", [True, False])
def test_whoever_reads_changes_no_file_beside_a_run_and_without_one(writing: bool, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER)
    ledger.remember(NO_FACTS.with_study("one"))
    if not writing:
        ledger.close()
    before = listing(tmp_path)
    tmp_path.chmod(0o500)
    with opened_to_read(tmp_path / LEDGER) as read:
        assert read.facts().study == "one"
    tmp_path.chmod(0o700)
    assert listing(tmp_path) == before
    assert (len(before) > 1) == writing


def test_plan_report_and_garbage_change_no_file_of_the_ledger(tmp_path: Path) -> None:
    usual(tmp_path / "results").ledger.close()
    study = study_file(tmp_path, results=str(tmp_path / "results"))
    (tmp_path / "results" / "study.yaml").write_bytes(study.read_bytes())
    before = listing(tmp_path / "results")
    for command in ("plan", "gc"):
        assert main([command, str(study)]) == 0
    publish(tmp_path / "results")
    assert listing(tmp_path / "results") == before


def test_a_plan_makes_no_results_folder(tmp_path: Path) -> None:
    assert main(["plan", str(study_file(tmp_path, results=str(tmp_path / "results")))]) == 0
    assert not (tmp_path / "results").exists()


def both(commit: str) -> Facts:
    return NO_FACTS.with_data_commit("a", commit).with_data_commit("b", commit)


def test_what_is_read_beside_a_run_is_of_one_moment(tmp_path: Path) -> None:
    """Two facts that are always written together, by a writer that checkpoints all the time."""
    ledger, over = Ledger(tmp_path / LEDGER), threading.Event()
    ledger._db.execute("pragma wal_autocheckpoint=2")
    ledger.remember(both(""))

    def write() -> None:
        for number in range(10**6):
            ledger._db.execute("begin")
            ledger.remember(both(str(number) * 500))
            ledger._db.execute("commit")
            if over.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = []
        for _ in range(20):
            with opened_to_read(tmp_path / LEDGER) as read:
                found.append(read.facts())
    finally:
        over.set()
        writer.join()
    assert all(facts == both(facts.data_commit("a")) for facts in found)
    assert len({facts.data_commit("a") for facts in found}) > 1


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table photos (name text)")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda path: path.write_text("nothing of the kind\n" * 99), "file is not a database"),
    "another database": (foreign, "a database of something else (with the table 'photos')"),
    "a damaged page": (damaged, "database disk image is malformed"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_sound_ledger_is_one_line_for_readers_and_writers(name: str, tmp_path: Path, capsys) -> None:
    usual(tmp_path / "results").ledger.close()
    study = study_file(tmp_path, results=str(tmp_path / "results"))
    (tmp_path / "results" / "study.yaml").write_bytes(study.read_bytes())
    damage, said = DAMAGE[name]
    damage(tmp_path / "results" / LEDGER)
    for command in (["plan", str(study)], ["report", str(tmp_path / "results")], ["run", str(study)]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"results/{LEDGER}: found " in line
        assert said in line


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_what_a_lost_ledger_knew_of_costs_is_charged_from_the_records_once(
    lose: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = usual(tmp_path / "results")
    store, results = made.store, tmp_path / "results"
    made.ledger.close()
    records = [store.phase(key) for key in store.keys("phases")] + [store.score(key) for key in store.keys("scores")]
    spent = sum(record.flops for record in records), sum(record.device_seconds for record in records)
    lose(results / LEDGER)
    for said in ("the ledger is missing", ""):
        caplog.clear()
        with prepared(study_file(tmp_path, results=str(results))) as (_, ledger, _):
            assert ledger.spent() == pytest.approx(spent)
        assert said in caplog.text
        assert (caplog.text == "") == (said == "")


def test_an_edited_record_does_not_match_its_checksum_and_one_without_is_of_an_earlier_version(tmp_path: Path) -> None:
    store = usual(tmp_path).store
    key = store.keys("scores")[0]
    path, before = tmp_path / "store" / "scores" / key / "record.json", store.score(key)
    content = json.loads(path.read_text())
    language = next(iter(content["languages"]))
    content["languages"][language]["value"] += 0.01
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"record\.json: found a damaged record .*checksum.*; to repair, delete"):
        store.score(key)
    content["languages"][language]["value"] = before.languages[language]["value"]
    del content["checksum"]
    path.write_text(json.dumps(content))
    assert store.score(key) == before
