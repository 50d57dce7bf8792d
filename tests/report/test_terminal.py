"""Facts about tables in the terminal: as wide as it is at most, and nothing of them is lost."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from sweep.terminal import WIDTH, split_table, table

ROWS = [("first", "1,000", "a sentence of many words, longer than the others"), ("the second", "20", "x" * 60)]
WIDE = "from sweep.terminal import table; print(table([('a name', 'word ' * 60)]))"


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_a_table_keeps_its_width_and_loses_no_letter(width):
    text = table(ROWS, ("name", "number", "what"), numbers={1}, indent=2, width=width)
    assert max(map(len, text.splitlines())) <= width
    letters = sorted("".join(("name", "number", "what", *ROWS[0], *ROWS[1])).replace(" ", ""))
    assert sorted("".join(text.split())) == letters


def test_numbers_end_in_one_column_and_no_line_in_a_space():
    lines = table(ROWS, numbers={1}, width=100).splitlines()
    assert lines[0].index("1,000") + 5 == lines[1].index("20") + 2
    assert all(line == line.rstrip() for line in lines)


def test_what_looks_like_markup_is_text():
    assert table([("[bold]x[/bold]", ":smile:")]) == "[bold]x[/bold]  :smile:"


def test_a_table_that_is_too_wide_is_several_that_begin_with_the_same_column():
    columns = [("name", ["a", "b"]), *(("same heading", [f"{n}" * 12, "-"]) for n in range(4))]
    parts = split_table(columns, 40).split("\n\n")
    assert [part.splitlines()[0].split("  ") for part in parts] == [["name", "same heading", "same heading"]] * 2
    assert all(part.splitlines()[1].startswith("a ") for part in parts)
    assert len(split_table(columns, 100).split("\n\n")) == 1


def test_a_pipe_gets_a_fixed_width_and_no_colours_whatever_the_environment_says():
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "30"}
    command = [sys.executable, "-c", WIDE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in done.stdout
    assert WIDTH - 5 < max(map(len, done.stdout.splitlines())) <= WIDTH


def test_a_terminal_gets_its_own_width():
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    subprocess.run([sys.executable, "-c", WIDE], stdout=its, check=True, env=environment)
    text = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(its)
    assert 45 < max(map(len, text.splitlines())) <= 50
