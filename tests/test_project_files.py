"""Facts about files of the project that are no code: they agree with the code and with each other."""

from __future__ import annotations

import re
from pathlib import Path

from ruamel.yaml import YAML

import sweep

REPOSITORY = Path(__file__).resolve().parents[1]


def text(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def content(name):
    return YAML(typ="safe", pure=True).load(text(name))


def test_hooks_before_a_commit_run_what_make_lint_runs():
    """In its order, from .venv, so that nothing is fetched."""
    makefile = text("Makefile")
    names = dict(re.findall(r"^(\w+) = (.*)$", makefile, re.MULTILINE))
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    commands = [line.strip() for line in recipe[1].splitlines()]
    for _ in range(2):
        commands = [re.sub(r"\$\((\w+)\)", lambda name: names[name[1]], command) for command in commands]
    (repository,) = content(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == commands
    assert {(hook["language"], hook["pass_filenames"]) for hook in repository["hooks"]} == {("system", False)}


def test_the_version_is_the_same_everywhere_and_has_its_changes():
    assert re.search(rf'^version = "{re.escape(sweep.__version__)}"$', text("pyproject.toml"), re.MULTILINE)
    citation = content("CITATION.cff")
    assert citation["version"] == sweep.__version__
    released = re.search(rf"^## \[{re.escape(sweep.__version__)}\] - (\S+)$", text("CHANGELOG.md"), re.MULTILINE)
    assert released is not None
    assert released[1] == str(citation["date-released"])
    assert citation["license"] == "Apache-2.0"


def test_every_command_is_in_the_changelog():
    commands = re.findall(r"^## sweep (\w+)$", text("docs/reference/commands.md"), re.MULTILINE)
    assert [command for command in commands if not re.search(rf"`(?:sweep )?{command}\b", text("CHANGELOG.md"))] == []
