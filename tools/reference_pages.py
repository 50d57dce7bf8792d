"""Reference pages of docs/, made of the code that they describe: `python tools/reference_pages.py` writes them anew.

    reference/study.md      keys of a study file: the models of sweep.config
    reference/tasks.md      keys of a data set, families and formats: sweep.tasks.description
    reference/files.md      files of a results folder and their columns: sweep.store.paths, sweep.report.results
    reference/commands.md   commands and their options: the parser of sweep.cli

`make docs` calls this; a test compares pages with code.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sweep import cli
from sweep.config import values
from sweep.config.phases import PhaseSettings
from sweep.config.spaces import TUNED, Space
from sweep.config.study import Study
from sweep.report import results
from sweep.store import paths
from sweep.tasks import FAMILIES, description
from sweep.tasks.task import Family

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- Made by tools/reference_pages.py from the code: `make docs` writes it anew. -->\n"

STUDY_TEXT = """\
Sections stand in the order of the file. A key without a default is absent where it is left out; its text
says what holds then. Unknown keys are refused. [A study file](../study-file.md)
shows most keys at work; what stands below `tasks` has [a page of its own](tasks.md).
"""
TASKS_TEXT = """\
What stands below `tasks: {NAME: ...}`. [Your own data](../own-data.md) shows every family and format with
files. A data set is on the hub where it or a part of it says `hub`; `format: xtreme` is a task of the benchmarks in its
publishers' files; all others lie in local files.
"""
FILES_TEXT = """\
The folder is `runs/<study>`, or what `results:` names. Tables are CSV files in UTF-8 with a header;
`scores.parquet` is the same table as `scores.csv`. Where more than learning rates are tuned, they have a further column
for each hyperparameter at the end, such as `lr.target` and `target.weight_decay`. Numbers have ten digits; an empty
cell has no value.
"""

LEVELS_TEXT = """\
A command answers on standard output; errors, warnings and the progress of a run are lines on standard error. `-q`
(`--quiet`) leaves out progress, `-v` (`--verbose`) adds which chain starts, what it takes from the store, and why
another one waits. `SWEEP_LOG` in the environment says the same for all commands: error, warning, info or debug.
`sweep --version` prints the versions of the program and its libraries.

`source <(sweep completion bash)` in `~/.bashrc` completes commands, options and files; for zsh, write the output of
`sweep completion zsh` into a file `_sweep` in a folder of `$fpath`. An editor with a YAML language server completes
and checks keys by the schema that the first line of a study file names; `sweep schema --out study.schema.json` writes
one to name.
"""

# Short notations of YAML, by the function that reads them.
NOTATIONS: dict[Callable[..., Any], str] = {
    values.as_warmup: "a share from 0 to 1, or {steps: ...}, or a search space",
    values.as_volume: "a whole number above 0, or `full`",
    values.as_share: "0, 1, 1/k such as 0.5 or 0.25, or `auto`",
    values.as_duration: "a number and " + ", ".join(values.DURATIONS) + ", such as `8h` or `90 min`",
    values.as_bytes: "0, or a number and " + ", ".join(values.SIZES) + ", such as `20 GB`",
    values.as_budget: "a number and " + ", ".join(values.UNITS) + ", such as `2 device-hours`",
    values.as_list: "a whole number, or a list of them",
}


def pages() -> dict[str, str]:
    """Path below docs/ -> text of every generated page."""
    made = {"study": study_page, "tasks": tasks_page, "files": files_page, "commands": commands_page}
    return {f"reference/{name}.md": page().rstrip() + "\n" for name, page in made.items()}


# ---- models ----------------------------------------------------------------------------------------------------------


def models_in(kind: Any) -> Iterator[type[BaseModel]]:
    """Models in an annotation such as `dict[Name, Encoder]`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    else:
        for inner in get_args(kind):
            yield from models_in(inner)


# ---- what a value may be ---------------------------------------------------------------------------------------------


def values_of(kind: Any, bounds: list[Any] | None = None) -> str:
    """Allowed values of a type in words, such as `list of whole numbers above 0`."""
    bounds = list(bounds or ())
    if TUNED in bounds:
        return f"{values_of(kind, [bound for bound in bounds if bound is not TUNED])}, or a search space"
    for bound in bounds:
        if isinstance(bound, BeforeValidator) and bound.func in NOTATIONS:
            return NOTATIONS[bound.func]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values_of(inner[0], [*bounds, *_flat(inner[1:])])
    if origin in (Union, UnionType):
        options = [option for option in inner if option is not type(None) and (option, float in inner) != (int, True)]
        return " or ".join(values_of(option, bounds) for option in options)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return (
            f"list of {values_of(inner[0])}"
            if Ellipsis in inner
            else f"list of {len(inner)}, each a {values_of(inner[0])}"
        )
    if origin is dict:
        return f"mapping from {values_of(inner[0])} to {values_of(inner[1])}" if inner[1] is not Any else "mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping (below)"
    return WORDS[kind] + _limits(bounds)


WORDS = {str: "text", bool: "`true`, `false`", int: "whole number", float: "number", Any: "anything"}


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        yield from _flat(tuple(item.metadata)) if isinstance(item, FieldInfo) else (item,)


def _limits(bounds: list[Any]) -> str:
    """Bounds in words; bounds that only keep numbers finite are left out."""
    found = {
        name: getattr(bound, name) for bound in bounds for name in ("gt", "ge", "lt", "le") if hasattr(bound, name)
    }
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    return "".join(f" {words[name]} {_number(limit)}" for name, limit in found.items() if abs(limit) < values.MOST)


def _number(limit: float) -> str:
    return f"{limit:,.0f}" if limit >= 1000 else f"{limit:g}"


def default_of(field: FieldInfo) -> str:
    """Default as YAML has it; "" where a key has none of its own."""
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, BaseModel):
        default = default.model_dump(exclude_defaults=True)
    if default is None or default in ({}, ()):
        return ""
    units = {values.as_duration: (values.DURATIONS, "h"), values.as_bytes: (values.SIZES, "GB")}
    for reader in _readers(field):
        if reader.func in units:
            sizes, unit = units[reader.func]
            return f"default `{default / sizes[unit]:g} {unit}`"
    shown = f"{default:g}" if isinstance(default, float) else json.dumps(default)
    shown = '""' if default == "" else shown.replace('"', "")
    return f"default `{shown}`"


def key_entry(name: str, kind: str, default: str, meaning: str) -> str:
    """One key as an item of a list."""
    about = "; ".join(part for part in (default, kind) if part)
    return f"- **`{name}`** ({about}). {meaning}"


# ---- the study file --------------------------------------------------------------------------------------------------


def study_page() -> str:
    """Keys of a study file, section by section."""
    lines = [
        MADE,
        "# Keys of a study file\n",
        STUDY_TEXT,
    ]
    for title, (model, fields) in _sections().items():
        lines += [f"## {title}\n", *_introduction(model)]
        lines += [study_key(name, model) for name in fields]
        lines.append("")
    return "\n".join(lines)


def study_key(name: str, model: type[BaseModel]) -> str:
    """Entry of a key; a mapping is a link to its section."""
    field = model.model_fields[name]
    kind = values_of(field.annotation, field.metadata)
    if "mapping (below)" in kind:
        inner = next(models_in(field.annotation))
        place = PHASES if issubclass(inner, PhaseSettings) else _titles()[inner]
        kind = kind.replace("mapping (below)", f"[mapping](#{slug(place)})")
    kind = kind.replace("search space", f"[search space](#{slug(SPACES)})")
    # A field with an alias stands for keys by names of their own.
    kind = "list of values of the key" if field.alias else kind
    return key_entry(field.alias or name, kind, default_of(field), _one_line(field.description or ""))


FIRST, PHASES = "Top level", "Phases: pretrain, intermediate, target"
SPACES = "Search spaces"


@cache
def _sections() -> dict[str, tuple[type[BaseModel], list[str]]]:
    """Title -> (model, its keys there): the study, and every mapping inside of it where it first stands."""
    found: dict[str, tuple[type[BaseModel], list[str]]] = {FIRST: (Study, list(Study.model_fields))}

    def visit(model: type[BaseModel], path: str) -> None:
        for name, field in model.model_fields.items():
            if any(NOTATIONS.get(bound.func, "below").count("below") == 0 for bound in _readers(field)):
                continue  # never written as a mapping
            for inner in models_in(field.annotation):
                if issubclass(inner, PhaseSettings) and PHASES not in found:
                    found[PHASES] = PhaseSettings, list(PhaseSettings.model_fields)
                    found[SPACES] = Space, list(Space.model_fields)
                    visit(PhaseSettings, "Phases: ")
                if inner not in (known for known, _ in found.values()):
                    shown = PhaseSettings.model_fields if issubclass(inner, PhaseSettings) else {}
                    found[f"{path}{name}"] = inner, [key for key in inner.model_fields if key not in shown]
                    visit(inner, f"{path}{name}.")

    visit(Study, "")
    return found


def _titles() -> dict[type[BaseModel], str]:
    return {model: title for title, (model, _) in _sections().items()}


def _readers(field: FieldInfo) -> list[BeforeValidator]:
    return [bound for bound in field.metadata if isinstance(bound, BeforeValidator)]


def _introduction(described: Any) -> list[str]:
    """Paragraphs of a docstring."""
    return [line for part in (inspect.getdoc(described) or "").split("\n\n") for line in (_one_line(part), "")]


def slug(title: str) -> str:
    """Anchor of a heading, as GitHub and Sphinx make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _one_line(text: str) -> str:
    return " ".join(text.split())


# ---- data sets -------------------------------------------------------------------------------------------------------


def tasks_page() -> str:
    """Keys of a data set, by where its data lies, and the families."""
    lines = [
        MADE,
        "# Keys of a data set\n",
        TASKS_TEXT,
        "## Families\n",
        "| family | columns | may have | labels | metric | other metrics |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_family_row, FAMILIES.values()),
        "",
    ]
    for title, model, without in (
        ("All data sets", description.AnyDataSet, ()),
        ("How rows are read", description.Reading, ()),
        ("Local files", description.LocalDataSet, (description.AnyDataSet, description.Reading)),
        ("One part of a split", description.LocalPart, (description.LocalReading,)),
        ("A joined file", description.Join, ()),
        ("On the hub", description.HubDataSet, (description.AnyDataSet, description.Reading)),
        ("One part of a split on the hub", description.HubPart, (description.HubReading,)),
        ("The benchmarks' own files", description.Published, ()),
        ("Sizes", description.Sizes, ()),
    ):
        shown = {name for other in without for name in other.model_fields if name != "tokens"}
        lines += [f"## {title}\n", *_introduction(model)]
        fields = {name: field for name, field in model.model_fields.items() if name not in shown}
        lines += [data_key(name, field) for name, field in fields.items()]
        lines.append("")
    return "\n".join(lines)


def _family_row(family: Family) -> str:
    listed = ", ".join
    own_metrics = [metric.name for metric in family.metrics()]
    cells = [f"`{family}`", listed(family.columns), listed(family.optional_columns)]
    return "| " + " | ".join([*cells, family.labels, family.metric, listed(own_metrics)]) + " |"


def data_key(name: str, field: FieldInfo) -> str:
    """Entry of a key; its description says what it may be, but for plain kinds."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kinds = {bool: "`true`, `false`"}
    kind = kinds.get(field.annotation, "") if isinstance(field.annotation, type) else ""
    if isinstance(listed := extra.get("enum"), list):
        kind = ", ".join(f"`{value}`" for value in listed)
    meaning = field.description or ""
    entry = f"- **`{name}`**"
    about = "; ".join(part for part in (default_of(field), kind) if part)
    return entry + (f" ({about})" if about else "") + f": {meaning}"


# ---- results ---------------------------------------------------------------------------------------------------------


def files_page() -> str:
    """Files of a results folder, and the columns of those that are tables."""
    tree = (inspect.getdoc(paths) or "").split("\n\n")[1]
    lines = [MADE, "# Files of a results folder\n", "```text", textwrap.dedent(tree), "```\n", FILES_TEXT]
    for file, columns in results.COLUMN_MEANINGS.items():
        lines += [f"## {file}\n"]
        lines += [f"- **`{name}`**: {meaning}" for name, meaning in columns.items()]
        lines.append("")
    return "\n".join(lines)


# ---- commands --------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Commands as their own help has them."""
    parser = cli._parser()
    lines = [
        MADE,
        "# Commands\n",
        "There are no hyperparameters on the command line: a study is complete in its file.\n",
        LEVELS_TEXT,
    ]
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        lines += [f"## sweep {name}\n", f"{command.description}\n", f"```text\n{_usage(command)}\n```\n"]
        for action in command._actions:
            if action.dest not in ("help", "level"):  # what every command has
                flag = ", ".join(action.option_strings) or str(action.metavar or action.dest)
                choices = f" ({', '.join(action.choices)})" if action.choices else ""
                default = f" Default {action.default}." if action.default not in (None, False) else ""
                lines.append(f"- **`{flag}`**{choices}: {action.help or ''}.{default}")
        lines.append("")
    return "\n".join(lines)


def _usage(command: argparse.ArgumentParser) -> str:
    return _one_line(command.format_usage().removeprefix("usage: "))


def main() -> None:
    """Writes all pages."""
    for path, text in pages().items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
