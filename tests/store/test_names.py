"""Facts about file names: they stay in their folder, differ where names differ, and can be read."""

from __future__ import annotations

import itertools
import unicodedata

import pytest

from sweep.keys import LONGEST, file_name
from sweep.tasks.catalog import BENCHMARKS
from sweep.tasks.table import TASKS

PARTS = ("a", "A", "b", "/", "-", "_", ".", "~", " ", "+", "\0", "\n", "é", "e\u0301", "ß", "ss", "\ud800")
NASTY = (
    "", ".", "..", "../../x", "/etc/passwd", "C:\\x", "~root", "con", "nul.txt", "com1.tar.gz", ".hidden", "-rf",
    "a" * 300, "a" * 301, "語" * 200, "\x1b[2J", "name~e3b0c44298fc", "a--b", "a/b", "a//b", "a-/b", "a/-b", "$(x)",
    "*", "a\u202eb",
)  # fmt: skip


def on_disk(name: str) -> str:
    """What a file system that knows neither case nor normal forms makes of a file name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFC", name).casefold())


def test_two_names_never_share_a_file_name() -> None:
    names = {"".join(parts) for length in range(4) for parts in itertools.product(PARTS, repeat=length)} | {*NASTY}
    assert len({on_disk(file_name(name)) for name in names}) == len(names)


def test_two_lists_of_names_never_share_a_file_name() -> None:
    names = ("a", "b", "a_", "_", "-", "a__b", "a/b", "", "x" * 100, "x" * 100 + "__" + "x" * 100)
    lists = [parts for length in (1, 2, 3) for parts in itertools.product(names, repeat=length)]
    assert len({on_disk(file_name(*parts)) for parts in lists}) == len(lists)


@pytest.mark.parametrize("name", [*NASTY, *PARTS])
def test_a_file_name_stays_in_its_folder_and_means_nothing_to_a_system(name: str) -> None:
    made = file_name(name)
    assert made
    assert made.isprintable()
    assert not set(made) & set('/\\:*?"<>|$ \0')
    assert made[0] not in ".~"
    assert made[-1] not in ". "
    assert made.split(".")[0] not in {"con", "nul", "com1"}
    assert len(made.encode()) <= LONGEST


def test_ordinary_names_are_their_own_with_two_dashes_for_a_slash() -> None:
    names = {*TASKS, *(task for tasks in BENCHMARKS.values() for task in tasks), "1000", "own+de", "none", "zh", "1e17"}
    assert {name: file_name(name) for name in names} == {name: name.replace("/", "--") for name in names}


def test_other_names_can_be_read() -> None:
    assert file_name("FacebookAI/xlm-roberta-base").startswith("FacebookAI-xlm-roberta-base~")
    assert file_name("tiny", "world/nli", "-") == "tiny__world--nli__-"
