"""Command line of sweep. A study is complete in its file: there are no hyperparameters here.

Exit codes: 0 success (also where the budget ended the study), 1 some chains failed, 2 a user error, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import Mistakes, SweepError

if TYPE_CHECKING:
    from sweep.plan.plan import Plan
    from sweep.store.index import StudyStatus

TRACKING_SECONDS = 30.0  # that a report waits for MLflow
FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130
VERSIONS = ("xtreme", "xtreme-r")  # of sweep.tasks.catalog, which a command line that only plans need not load


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except SweepError as mistake:
        print(f"sweep: {mistake}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("sweep: interrupted; the same command resumes from what is finished", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as fault:
        from sweep.store.artifacts import disk_error

        full = disk_error(fault, getattr(options, "results", Path.cwd()))
        if full is None:
            raise
        print(f"sweep: {full}", file=sys.stderr)
        return USER_ERROR


def check(options: argparse.Namespace) -> int:
    """Lists every error in a study file, its data, its encoders' configurations and tokenizers; trains nothing."""
    from sweep.config.load import load

    mistakes = Mistakes()
    with mistakes.collect():
        study = load(options.file)
        from sweep.plan.data_facts import check_data
        from sweep.plan.facts import NO_FACTS
        from sweep.plan.resolve import informed, look_up, make_plan
        from sweep.run.tracking import check_uri

        plan = make_plan(look_up(study, options.file, mistakes), NO_FACTS, mistakes)
        with mistakes.collect():
            checked = check_data(plan, NO_FACTS)
        with mistakes.collect():
            _check_encoders(plan)
        if study.tracking:
            check_uri(study.tracking)
    if mistakes:
        for line in mistakes:
            _warn(line)
        return USER_ERROR
    print(f"{options.file}: {len(plan.cells)} cells, {len(plan.tasks)} data sets, no errors")
    for note in (*informed(plan, checked.facts).flags, *checked.notes):
        print(f"note: {note}")
    return 0


def _check_encoders(plan: Plan) -> None:
    from sweep.plan.facts import NO_FACTS
    from sweep.run.inspection import check_encoders

    check_encoders(plan, NO_FACTS)


def plan(options: argparse.Namespace) -> int:
    """Prints what would run and what it would cost. Needs no network and loads no encoder."""
    from sweep.config.load import load, read_budget
    from sweep.plan.cost import Costs
    from sweep.plan.data_facts import check_small_data
    from sweep.plan.order import coverage, plan_text, summary
    from sweep.plan.resolve import informed, resolve
    from sweep.store.ledger import measured

    study = load(options.file)
    if options.budget:
        study = study.model_copy(update={"budget": read_budget(options.budget, "--budget")})
    known = measured(study.results_folder)
    planned = resolve(study, options.file, known.facts)
    planned = informed(planned, known.facts | check_small_data(planned, known.facts))
    costs, speed = Costs(planned, known.facts.sizes), known.speed(study.runtime.gpus > 0)
    outline = summary(planned, costs, speed)
    if options.budget:
        outline["coverage"] = coverage(planned, costs, speed)
    stands = _standing(planned)
    if stands is not None:
        outline["standing"] = vars(stands)
    print(json.dumps(outline, indent=1) if options.json else plan_text(planned, outline, speed))
    for line in stands.lines(study.results_folder) if stands is not None and not options.json else ():
        print(line)
    return 0


def _standing(planned: Plan) -> StudyStatus | None:
    """State of the plan in the study's results folder; None where there is none."""
    from sweep.store import paths
    from sweep.store.ledger import opened_to_read

    results = planned.study.results_folder
    if not (results / paths.LEDGER).is_file():
        return None
    from sweep.store.artifacts import Store
    from sweep.store.index import study_status

    with opened_to_read(results / paths.LEDGER) as ledger:
        return study_status(planned, ledger.chains(), Store(results / paths.STORE))


def run(options: argparse.Namespace) -> int:
    """Runs what is missing of the study, then writes the report."""
    from sweep.report.page import publish
    from sweep.run.study import outcome_text
    from sweep.run.study import run as run_study
    from sweep.run.tracking import send_missing

    outcome = run_study(options.file)
    report = publish(outcome.results)
    print(outcome_text(outcome, options.file))
    print(report)
    send_missing(outcome.results, _warn, TRACKING_SECONDS)
    if outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.admission.outcomes.failed else 0


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
    send_missing(options.results, _warn, TRACKING_SECONDS)
    return 0


def gc(options: argparse.Namespace) -> int:
    """Lists weights that no chain of a study needs any more, with their sizes; deletes them with --delete."""
    from sweep.run.cleanup import collect, text

    chosen = {"delete": options.delete, "finished": options.finished}
    print(text(collect(options.file, **chosen), options.file, **chosen))
    return 0


def score(options: argparse.Namespace) -> int:
    """Scores a folder of predictions and labels in the official layout of XTREME and XTREME-R."""
    from sweep.xtreme.score import score as score_folder
    from sweep.xtreme.score import scores_text

    scores = score_folder(options.folder, options.version)
    for note in scores.notes:
        _warn(note)
    print(json.dumps(scores.by_language(), indent=1) if options.json else scores_text(scores, options.version))
    return 0


def ui(options: argparse.Namespace) -> int:
    """Opens the MLflow UI on a results folder, after sending what MLflow lacks."""
    from sweep.run.tracking import send_missing
    from sweep.run.ui import open_ui

    return open_ui(options.results.absolute(), send_missing(options.results, _warn), options.port)


def tasks(options: argparse.Namespace) -> int:
    """Lists the data sets that a study can name, or one in full: family, languages, sizes, licence, overlaps."""
    from sweep.tasks.table import TASKS, details, facts, table

    names = [options.name] if options.name else list(TASKS)
    if options.json:
        print(json.dumps([facts(name) for name in names], indent=1))
    else:
        print(details(options.name) if options.name else table(names))
    return 0


def _warn(note: str) -> None:
    print(f"sweep: {note}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    text = "Studies of cross-lingual transfer, each complete in its file."
    parser = argparse.ArgumentParser(prog="sweep", description=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (check, plan, preview, run, gc):
        _command(commands, command).add_argument("file", type=Path, help="the study file")
    for command in (report, ui):
        _command(commands, command).add_argument("results", type=Path, help="the results folder of a study")
    _command(commands, tasks).add_argument("name", nargs="?", help="one of them, to see it in full")
    text = "list the cells that this budget covers, in their order, such as '40 device-hours'"
    commands.choices["plan"].add_argument("--budget", help=text)
    for name in ("plan", "tasks"):
        commands.choices[name].add_argument("--json", action="store_true", help="print machine-readable figures")
    scoring = _command(commands, score)
    scoring.add_argument("folder", type=Path, help="a folder with predictions/<task>/ and labels/<task>/")
    scoring.add_argument("--version", choices=VERSIONS, help="only its tasks, in all its languages")
    scoring.add_argument("--json", action="store_true", help="print task -> language -> metric -> value")
    commands.choices["gc"].add_argument("--delete", action="store_true", help="delete them; scores and records stay")
    text = "with --delete: also weights of finished phases, which a chain that you add later would train again"
    commands.choices["gc"].add_argument("--finished", action="store_true", help=text)
    commands.choices["ui"].add_argument("--port", type=int, default=5000)
    return parser


def _command(commands: Any, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    text = (command.__doc__ or "").strip()
    parser: argparse.ArgumentParser = commands.add_parser(command.__name__, help=text, description=text)
    parser.set_defaults(command=command)
    return parser
