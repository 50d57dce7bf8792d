"""Facts about the documentation: what it shows is a study, a command, a message or a file as the program has them."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest
from documentation import PAGES, REPOSITORY, Block, blocks, blocks_in, is_study, mapping, merged, write_files
from ruamel.yaml import YAML

from sweep.cli import _parser, main
from sweep.config.load import parse
from sweep.data.retrieval_formats import ALL_READERS
from sweep.tasks import FAMILIES, plugins
from sweep.tasks.describe import own_task

YAML_BLOCKS = blocks_in("yaml")
STUDIES = [block for block in YAML_BLOCKS if is_study(block)]
COMPLETE = [block for block in STUDIES if "/" not in "".join(set(mapping(block)["axes"]["encoder"]) - {"world/tiny"})]
CHANGES = {
    dialogue: changes
    for page in PAGES
    for changes, dialogue in itertools.pairwise(blocks(page))
    if dialogue.language == "console" and changes.name is None and changes.language == "yaml"
}  # of the study that the commands of a dialogue name
BASE = {
    "study": "base",
    "axes": {"encoder": ["world/tiny"], "intermediate": ["none", "world/nli"], "target": ["world/topic"], "seed": [1]},
    "intermediate": {"learning_rate": 1e-4, "batch_tokens": 512, "epochs": 1},
    "target": {"learning_rate": 1e-4, "batch_tokens": 512, "epochs": 1},
}


@pytest.fixture(autouse=True)
def _forgotten_modules(tmp_path: Path) -> Iterator[None]:
    """A page's modules have names that those of the next page may have."""
    folders = list(sys.path)
    yield
    sys.path[:] = folders
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").is_relative_to(tmp_path):
            del sys.modules[name]
            plugins._digests.pop(name, None)


def all_of(blocks_shown: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks_shown, ids=str)


@all_of(COMPLETE)
def test_a_study_with_its_files_has_no_errors(block, tmp_path, monkeypatch, capsys):
    write_files(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert block.name is not None, f"{block}: name the file in the paragraph before it"
    assert (main(["check", block.name]), capsys.readouterr().err) == (0, "")


@all_of([block for block in YAML_BLOCKS if block not in (*COMPLETE, *CHANGES.values())])
def test_a_part_of_a_study_fits_into_one(block, tmp_path):
    write_files(block.page, tmp_path)
    study = parse(json.dumps(merged(BASE, mapping(block))), "study.yaml")
    for name, description in study.tasks.items():
        own_task(name, description, tmp_path, f"tasks.{name}", tmp_path)


@all_of(blocks_in("console"))
def test_a_dialogue_is_what_the_program_says(block, tmp_path, monkeypatch, capsys):
    write_files(block.page, tmp_path, before=block)
    monkeypatch.chdir(tmp_path)
    command, expected = block.text.split("\n", 1)
    arguments = shlex.split(command.removeprefix("$ sweep "))
    if (before := CHANGES.get(block)) is not None:
        path = tmp_path / arguments[1]
        path.write_text(json.dumps(merged(YAML(typ="safe", pure=True).load(path), mapping(before))), encoding="utf-8")
    main(arguments)
    said = capsys.readouterr()
    assert OutputChecker().check_output(expected, said.out + said.err, ELLIPSIS), said.out + said.err


def test_commands_can_be_parsed():
    commands = [(block, line) for block in blocks_in("sh") for line in block.text.splitlines()]
    for block, line in commands:
        words = shlex.split(line, comments=True)
        if words[:1] == ["sweep"]:
            try:
                _parser().parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"{block}: {line}")
        if words[:1] == ["python"] and words[1].endswith(".py"):
            script = (REPOSITORY / words[1]).read_text(encoding="utf-8")
            assert [name for name in re.findall(r"--([a-z-]+)", line) if f'{name}"' not in script] == [], block
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), f"{block}: {line}"


def test_python_that_is_no_file_stands_on_the_page_whose_blocks_a_test_runs():
    """See tests/run/test_from_python.py; files of the page on own tasks are run by tests/tasks/test_own_family.py."""
    assert {block.page for block in blocks_in("python") if block.name is None} <= {"docs/python.md"}


@all_of(blocks_in("json"))
def test_json_can_be_read(block):
    json.loads(block.text)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page):
    text = PAGES[page].read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (REPOSITORY / target).exists(), target


def test_the_readme_has_at_most_120_lines():
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 120


def test_every_family_has_a_complete_study():
    shown = {task.get("family") for block in COMPLETE for task in mapping(block).get("tasks", {}).values()}
    assert set(FAMILIES) <= shown


def test_every_format_of_files_is_shown():
    shown = "\n".join(block.text for block in YAML_BLOCKS)
    assert {form for form in ALL_READERS if not re.search(rf"format: {form}\b", shown)} == set()


def test_messages_that_are_explained_are_in_the_program():
    """In the tables of the page; where the program fills in something, the page has three dots."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "sweep").rglob("*.py"))
    for message in re.findall(r"^\| `(.+?)` \|", PAGES["docs/messages.md"].read_text(encoding="utf-8"), re.MULTILINE):
        assert all(part in source for part in re.split(r"\s*\.\.\.,?\s*", message)), message
