"""Command line of sweep. A study is complete in its file: there are no hyperparameters here.

Exit codes: 0 success (also where the budget ended the study), 1 some chains failed, 2 a user error, 130 interrupted.

What a command answers is on standard output, everything else a line on standard error, through the logger `sweep`: an
error; a warning; info, the progress of a run; debug, which chain starts when and why. --quiet ends with warnings.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from sweep import __version__
from sweep.api import Study
from sweep.errors import Mistakes, StudyError, SweepError, nearest

TRACKING_SECONDS = 30.0  # that a report waits for MLflow
FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
VERSIONS = ("xtreme", "xtreme-r")  # of sweep.tasks.catalog, which a command line that only plans need not load
PHASES = ("pretrain", "intermediate", "target")  # of sweep.plan.recipe, for the same reason
SHELLS = ("bash", "zsh")
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # shtab.FILE, which need not be imported for it
LIBRARIES = ("torch", "transformers", "ray", "mlflow-skinny", "optuna")  # that `sweep --version` names
LOG = logging.getLogger("sweep")
LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}
LEVEL = "SWEEP_LOG"  # environment variable with one of LEVELS, where the command line does not say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    with _logging_to_stderr(options.level):
        return _call(options)


def _call(options: argparse.Namespace) -> int:
    try:
        if options.level is None and (level := os.environ.get(LEVEL, "")):
            _set_level(level)
        return int(options.command(options))
    except SweepError as mistake:
        LOG.error(mistake)
        return USER_ERROR
    except KeyboardInterrupt:
        LOG.error("interrupted; the same command resumes from what is finished")
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as fault:
        from sweep.store.artifacts import disk_error

        full = disk_error(fault, getattr(options, "results", Path.cwd()))
        if full is None:
            raise
        LOG.error(full)
        return USER_ERROR


class _Lines(logging.Handler):
    """Writer of records as lines to standard error as it is at that moment: a live view puts its own in place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes `sweep: ` and the message."""
        print(f"sweep: {record.getMessage()}", file=sys.stderr)


@contextmanager
def _logging_to_stderr(level: int | None) -> Iterator[None]:
    """Sends the logger's records to standard error, and nowhere else."""
    handler, before = _Lines(), (LOG.level, LOG.propagate)
    LOG.addHandler(handler)
    LOG.propagate = False
    LOG.setLevel(logging.INFO if level is None else level)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.level, LOG.propagate = before


def _set_level(name: str) -> None:
    if name.lower() not in LEVELS:
        raise StudyError(LEVEL, repr(name), f"one of {', '.join(LEVELS)} is expected", nearest(name, LEVELS))
    LOG.setLevel(LEVELS[name.lower()])


def new(options: argparse.Namespace) -> int:
    """Writes a commented study on your own files, after looking at them. Never overwrites a file."""
    from sweep.run.new import new_study
    from sweep.tasks import family_of

    out: Path = options.out
    if out.exists():
        raise StudyError("--out", f"{out}, which is there already", "another name is expected: no file is overwritten")
    families = [family_of(name, "--family", out.absolute().parent) for name in options.family]
    mistakes = Mistakes()
    with mistakes.collect():
        made = new_study(options.target, options.intermediate, options.encoder, out, families)
    if mistakes:
        for line in mistakes:
            LOG.error(line)
        return USER_ERROR
    with out.open("x", encoding="utf-8") as file:
        file.write(made.text)
    print("\n".join([*made.lines, f"{out}: read its comments, then: sweep check {out}; sweep plan {out}"]))
    return 0


def check(options: argparse.Namespace) -> int:
    """Lists every error in a study file, its data, its encoders' configurations and tokenizers; trains nothing."""
    found = Study(options.file).check()
    for line in found.mistakes:
        LOG.error(line)
    if found.mistakes:
        return USER_ERROR
    print(f"{options.file}: {found}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """Prints what would run and what it would cost. Needs no network and loads no encoder."""
    budget = None
    if options.budget:
        from sweep.config.load import read_budget

        budget = read_budget(options.budget, "--budget")
    planned = Study(options.file).plan(budget, on=options.on, price=options.price, like=options.like)
    print(json.dumps(planned.summary, indent=1) if options.json else planned)
    return 0


def status(options: argparse.Namespace) -> int:
    """Says what of a study is done, running, failed and left, at any time and without disturbing it."""
    from sweep.run.progress import read_status, status_text

    path: Path = options.study
    found = read_status(path if path.is_dir() else Study(path).results_folder)
    print(json.dumps(asdict(found), indent=1) if options.json else status_text(found))
    return 0


def run(options: argparse.Namespace) -> int:
    """Runs what is missing of the study, then writes the report; or one chain in this process, to look into it."""
    if options.chain is not None or options.inline:
        return _run_inline(options)
    from sweep.report.page import publish
    from sweep.run.study import outcome_text
    from sweep.run.study import run as run_study
    from sweep.run.tracking import send_missing

    outcome = run_study(options.file)
    report = publish(outcome.results)
    print(outcome_text(outcome, options.file))
    print(report)
    send_missing(outcome.results, LOG.warning, TRACKING_SECONDS)
    if outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.admission.outcomes.failed else 0


def _run_inline(options: argparse.Namespace) -> int:
    if options.chain is None or not options.inline:
        expected = "both are: one chain runs in this process, where a debugger sees it; without them the study runs"
        raise StudyError("--chain and --inline", "one of them", expected)
    from sweep.run.inline import inline_text, lines_to, run_chain

    print(inline_text(run_chain(options.file, options.chain, listener=lines_to(LOG.info))))
    return 0


def preview(options: argparse.Namespace) -> int:
    """Ranks the intermediate settings of a study for each target, from short phases, before it is run."""
    from sweep.run.preview import preview as preview_study
    from sweep.run.preview import text

    print(text(preview_study(options.file), options.file))
    return 0


def report(options: argparse.Namespace) -> int:
    """Writes report and score tables of what is finished."""
    from sweep.report.page import publish
    from sweep.run.tracking import send_missing

    print(publish(options.results))
    send_missing(options.results, LOG.warning, TRACKING_SECONDS)
    return 0


def predictions(options: argparse.Namespace) -> int:
    """Writes predictions.parquet: what winners answer, beside texts and right answers; to read errors."""
    from sweep.report.page import read_folder
    from sweep.report.predictions import write_predictions
    from sweep.store import paths
    from sweep.store.artifacts import Store

    report = read_folder(options.results)
    print(write_predictions(options.results, report.results, Store(options.results / paths.STORE)))
    return 0


def gc(options: argparse.Namespace) -> int:
    """Lists weights that no chain of a study needs any more, with their sizes; deletes them with --delete."""
    from sweep.run.cleanup import collect, text

    chosen = {"delete": options.delete, "finished": options.finished}
    print(text(collect(options.file, **chosen), options.file, **chosen))
    return 0


def export(options: argparse.Namespace) -> int:
    """Writes a trained chain as a model folder for transformers, with a model card."""
    from sweep.run.export import FIELDS, check_push, find_chain, push
    from sweep.run.export import export as export_chain

    if options.push:
        check_push(options.push)
    fields = {name: text for name in FIELDS if (text := getattr(options, name)) is not None}
    fields |= {name: text for name, _, text in (pair.partition("=") for pair in options.set or ())}
    trained = find_chain(options.results, fields, options.phase, options.file)
    if options.retrain:
        trained.train_again()
    for line in export_chain(trained, options.out, options.head):
        print(line)
    if options.push:
        print(push(options.out, options.push))
    return 0


def score(options: argparse.Namespace) -> int:
    """Scores a folder of predictions and labels in the official layout of XTREME and XTREME-R."""
    from sweep.xtreme.score import score as score_folder
    from sweep.xtreme.score import scores_text

    scores = score_folder(options.folder, options.version)
    for note in scores.notes:
        LOG.warning(note)
    print(json.dumps(scores.by_language(), indent=1) if options.json else scores_text(scores, options.version))
    return 0


def ui(options: argparse.Namespace) -> int:
    """Opens the MLflow UI on a results folder, after sending what MLflow lacks."""
    from sweep.run.tracking import send_missing
    from sweep.run.ui import open_ui

    return open_ui(options.results.absolute(), send_missing(options.results, LOG.warning), options.port)


def tasks(options: argparse.Namespace) -> int:
    """Lists the data sets that a study can name, or one in full: family, languages, sizes, licence, overlaps."""
    from sweep.tasks.table import TASKS, details, facts, table

    names = [options.name] if options.name else list(TASKS)
    if options.json:
        print(json.dumps([facts(name) for name in names], indent=1))
    else:
        print(details(options.name) if options.name else table(names))
    return 0


def schema(options: argparse.Namespace) -> int:
    """Prints the JSON schema of a study file, by which an editor completes and checks it."""
    from sweep.tasks.description import study_schema

    text = json.dumps(study_schema(), indent=1) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


def completion(options: argparse.Namespace) -> int:
    """Prints what makes a shell complete commands, options and files."""
    import shtab

    print(shtab.complete(_parser(), options.shell))
    return 0


class _Version(argparse.Action):
    """Versions of the program, of Python and of LIBRARIES in one line. No library is imported for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Prints them and exits."""
        versions = [f"{name} {_version_of(name)}" for name in LIBRARIES]
        print(f"sweep {__version__} (Python {platform.python_version()}, {', '.join(versions)})")
        parser.exit()


def _version_of(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _parser() -> argparse.ArgumentParser:
    text = "Studies of cross-lingual transfer, each complete in its file."
    parser = argparse.ArgumentParser(prog="sweep", description=text)
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions of sweep and of its libraries")
    _add_levels(parser, None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_new(_command(commands, new))
    for command in (check, plan, preview, run, gc):
        _add_path(_command(commands, command), "file", help="the study file")
    for command in (report, predictions, ui):
        _add_path(_command(commands, command), "results", help="the results folder of a study")
    _add_path(_command(commands, status), "study", help="the study file, or its results folder")
    _command(commands, tasks).add_argument("name", nargs="?", help="one of them, to see it in full")
    text = "this chain alone, by its name (cell and seed, as messages have it) or a part of it; with --inline"
    commands.choices["run"].add_argument("--chain", metavar="NAME", help=text)
    text = "in this process, without Ray: a breakpoint opens, a traceback is shown as it is"
    commands.choices["run"].add_argument("--inline", action="store_true", help=text)
    _add_export(_command(commands, export))
    text = "list the cells that this budget covers, in their order, such as '40 device-hours'"
    commands.choices["plan"].add_argument("--budget", help=text)
    _add_forecast(commands.choices["plan"])
    for name in ("plan", "status", "tasks"):
        commands.choices[name].add_argument("--json", action="store_true", help="print machine-readable figures")
    scoring = _command(commands, score)
    _add_path(scoring, "folder", help="a folder with predictions/<task>/ and labels/<task>/")
    scoring.add_argument("--version", choices=VERSIONS, help="only its tasks, in all its languages")
    scoring.add_argument("--json", action="store_true", help="print task -> language -> metric -> value")
    commands.choices["gc"].add_argument("--delete", action="store_true", help="delete them; scores and records stay")
    text = "with --delete: also weights of finished phases, which a chain that you add later would train again"
    commands.choices["gc"].add_argument("--finished", action="store_true", help=text)
    commands.choices["ui"].add_argument("--port", type=int, default=5000, help="port of this machine on which it is")
    _add_path(_command(commands, schema), "--out", help="write it into this file")
    shells = _command(commands, completion)
    text = "source <(sweep completion bash) in ~/.bashrc; zsh: as _sweep in $fpath"
    shells.add_argument("shell", choices=SHELLS, help=text)
    return parser


def _add_forecast(parser: argparse.ArgumentParser) -> None:
    text = "the device for which time is forecast: t4, l4, a10g, a100, h100, h200 or cpu; this machine's if left out"
    parser.add_argument("--on", metavar="DEVICE", help=text)
    text = "what a device-hour costs, such as 2.5/h, '$2.5/h' or '2.5 EUR/h': then the plan says what its time costs"
    parser.add_argument("--price", metavar="AMOUNT/h", help=text)
    text = "results folder of another study: what its chains took counts for the same encoders on the same device"
    _add_path(parser, "--like", metavar="RESULTS", help=text)


def _add_new(parser: argparse.ArgumentParser) -> None:
    text = "files of one data set, of all its splits and languages; or names that `sweep tasks` lists; repeat for more"
    for role in ("--target", "--intermediate"):
        _add_path(parser, role, type=str, nargs="+", action="append", default=[], metavar="FILE", help=text)
    parser.add_argument("--encoder", nargs="+", default=[], help="hub ids or model folders")
    text = "a family to ask first whether columns are its own; or module:Class beside the study file"
    parser.add_argument("--family", action="append", default=[], help=text)
    text = "the study file to write; study.yaml where nothing is said"
    _add_path(parser, "--out", default=Path("study.yaml"), help=text)


def _add_export(parser: argparse.ArgumentParser) -> None:
    from sweep.config.axes import cell_columns

    _add_path(parser, "results", help="the results folder of a study")
    chosen = parser.add_argument_group("the chain, as tables write it; what the study does not vary may be left out")
    for name in (*cell_columns(), "seed"):
        text = f"its {name.replace('_', ' ')}"
        text += "; without one the weights after the intermediate phase are meant" if name == "target" else ""
        chosen.add_argument(f"--{name.replace('_', '-')}", help=text)
    text = "a value of a settings axis, such as target.dropout=0.1; as often as there are"
    chosen.add_argument("--set", metavar="KEY=VALUE", action="append", help=text)
    parser.add_argument("--phase", choices=PHASES, help="weights after this phase, for the target where one is named")
    parser.add_argument("--head", metavar="TASK", help="whose head it gets, where the phase has trained several tasks")
    _add_path(parser, "--out", required=True, help="the folder to write: new, empty, or an earlier export")
    text = "train weights again that were released after scoring, as their recipes say"
    parser.add_argument("--retrain", action="store_true", help=text)
    parser.add_argument("--push", metavar="USER/NAME", help="upload it to this repository of the hub, private if new")
    _add_path(parser, "--file", help="the study file, where it has moved since the last run")


def _add_path(parser: argparse.ArgumentParser, name: str, **rest: Any) -> None:
    action = parser.add_argument(name, **{"type": Path, **rest})
    action.complete = FILES  # type: ignore[attr-defined]  # read by shtab


def _add_levels(parser: argparse.ArgumentParser, default: Any) -> None:
    for flags, level, text in (
        (("-q", "--quiet"), logging.WARNING, "no progress: warnings and errors alone"),
        (("-v", "--verbose"), logging.DEBUG, "say too which chain starts, and why"),
    ):
        parser.add_argument(*flags, dest="level", action="store_const", const=level, default=default, help=text)


def _command(commands: Any, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    text = (command.__doc__ or "").strip()
    parser: argparse.ArgumentParser = commands.add_parser(command.__name__, help=text, description=text)
    parser.set_defaults(command=command)
    _add_levels(parser, argparse.SUPPRESS)  # after the command as before it
    return parser
