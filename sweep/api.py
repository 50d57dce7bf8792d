"""Studies and their results in Python, for scripts, notebooks and debuggers: `sweep.load` and `sweep.open`.

    study = sweep.load("my_study.yaml")  # or a mapping with the same content
    study.check()                        # every mistake in it, as `sweep check`
    study.plan().cells                   # what would run, at which cost, as frames
    results = study.run()                # runs what is missing, as `sweep run`
    results.answer()                     # the first sentence of the report, and what backs it

Frames are pandas tables whose columns their methods name. Those *of the cell* are encoder, intermediate, volume,
source, chain_budget, the keys of phases that the study compares (such as target.weight_decay), and target, all of them
text. A mistake of the user is a `sweep.SweepError` with one line; `check` lists them in place of raising. Nothing here
needs a `__main__` guard, and all of it works in a thread.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sweep.errors import Mistakes, StudyError, nearest

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

    from sweep.config.study import Budget
    from sweep.plan.cost import Costs
    from sweep.plan.hardware import Price
    from sweep.plan.plan import Plan
    from sweep.plan.speed import DeviceTime, Speed
    from sweep.report.page import Report
    from sweep.run.progress import Listener
    from sweep.store.index import StudyStatus

Per = Literal["target", "language", "group", "mean"]


def load(source: str | os.PathLike[str] | Mapping[str, Any], base: str | os.PathLike[str] | None = None) -> Study:
    """Study of a file, or of a mapping with the content of one.

    A file is read anew by every method, and relative paths in it start in its folder. Those in a mapping start in the
    folder `base`, by default the working directory; what is changed in the mapping later changes nothing.

    Raises StudyError where the file cannot be read, or the mapping has a value that YAML has not. Whether the content
    is a study is said by the methods.
    """
    if isinstance(source, Mapping):
        return Study(Path(base or "") / "study", _yaml(source))
    if base is not None:
        raise TypeError("`base` goes with a mapping: paths in a study file start in its folder")
    from sweep.config.load import read

    read(Path(source))
    return Study(Path(source))


def _yaml(content: Mapping[str, Any]) -> str:
    """YAML text of a study. JSON is YAML."""
    try:
        return json.dumps(content, indent=1, default=_plain)
    except (TypeError, ValueError) as failure:
        raise StudyError("study", f"a value that is not plain ({failure})", "what YAML can say is expected") from None


def _plain(value: Any) -> Any:
    """Plain form of a path, a mapping or a number of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r}, a {type(value).__name__}")


def open(folder: str | os.PathLike[str]) -> Results:  # noqa: A001  it is called sweep.open
    """Results of a study's results folder, at any time of its run.

    Raises StudyError where no study has begun there.
    """
    from sweep.store.ledger import study_in

    return Results(Path(folder), study_in(Path(folder)).study)


@dataclass(frozen=True)
class Check:
    """Findings of a check: a study without `mistakes` can be run."""

    mistakes: tuple[str, ...]
    """One line each, with the place in the study, what was found and what would do; in the order of discovery."""
    notes: tuple[str, ...] = ()
    """Notes to know before a run, such as data that overlaps; () where there are mistakes."""
    cells: int = 0
    """Cells of the study; 0 where there are mistakes."""
    data_sets: int = 0
    """Data sets that it reads."""

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join(self.mistakes or [f"{self.cells} cells, {self.data_sets} data sets, no errors", *notes])

    __repr__ = __str__


@dataclass(frozen=True)
class Study:
    """Study that can be checked, planned and run. Made by `sweep.load`."""

    path: Path
    """Of the study file; of a mapping, a name in its base folder, with which messages begin."""
    text: str | None = None
    """Of a mapping: the study in YAML."""

    @property
    def results_folder(self) -> Path:
        """Folder of results, which may not be there yet. Raises StudyError for mistakes in the study."""
        from sweep.config.load import load
        from sweep.store.ledger import results_of

        return results_of(load(self.path, self.text))

    def check(self) -> Check:
        """Every mistake in the study, its data, its encoders' configurations and tokenizers; trains nothing.

        Raises no SweepError: whatever the user can mend is in the list. A study with a mistake in its text is not
        looked at further, as its data may not be what is meant.
        """
        with _process_as_found():
            return self._check()

    def _check(self) -> Check:
        from sweep.config.load import load

        mistakes = Mistakes()
        with mistakes.collect():
            study = load(self.path, self.text)
            from sweep.plan.data_facts import check_data
            from sweep.plan.facts import NO_FACTS
            from sweep.plan.resolve import informed, look_up, make_plan
            from sweep.run.tracking import check_uri

            plan = make_plan(look_up(study, self.path, mistakes), NO_FACTS, mistakes)
            with mistakes.collect():
                checked = check_data(plan, NO_FACTS)
            with mistakes.collect():
                from sweep.run.inspection import check_encoders

                check_encoders(plan, NO_FACTS)
            if study.tracking:
                check_uri(study.tracking)
        if mistakes:
            return Check(tuple(mistakes))
        notes = (*informed(plan, checked.facts).flags, *checked.notes)
        return Check((), notes, len(plan.cells), len(plan.tasks))

    def plan(
        self,
        budget: str | Budget | None = None,
        *,
        on: str | None = None,
        price: str | None = None,
        like: str | os.PathLike[str] | None = None,
    ) -> StudyPlan:
        """Plan of the study: what would run and what it would cost. Needs no network and loads no encoder.

        A `budget`, such as "40 device-hours", takes the place of the study's. Device time is forecast for the device
        `on`, such as "h100"; by default for this machine, by what the study has measured. `price` is that of a
        device-hour, such as "2.5/h"; `like` is the results folder of another study, whose measurements of the same
        encoders count.
        Raises SweepError for mistakes.
        """
        from sweep.config.load import load, read_budget
        from sweep.plan.cost import Costs
        from sweep.plan.data_facts import check_small_data
        from sweep.plan.hardware import Price, device_of
        from sweep.plan.resolve import informed, resolve
        from sweep.store.ledger import Measured, measured, measured_in, results_of

        study = load(self.path, self.text)
        if budget is not None:
            chosen = read_budget(budget, "budget") if isinstance(budget, str) else budget
            study = study.model_copy(update={"budget": chosen})
        device = device_of(study.runtime.gpus, study.runtime.precision, on)
        paid = Price.read(price) if price is not None else None
        known = measured(results_of(study))
        here = Measured() if on is not None else known  # what was measured on one device says nothing about another
        speed = (here + measured_in(Path(like)) if like is not None else here).speed(device)
        plan = resolve(study, self.path, known.facts)
        if learned := check_small_data(plan, known.facts):
            plan = informed(plan, known.facts | learned)
        return StudyPlan(plan, Costs(plan, known.facts.sizes), speed, asked=budget is not None, price=paid)

    def run(self, on_event: Listener | None = None) -> Results:
        """Runs what is missing of the study on Ray, and opens its results.

        Without `on_event` progress is written to standard error. `on_event` is called with a `sweep.Progress` whenever
        a chain reports (once a second or at a milestone) or ends, in the thread of this call; an exception that it
        raises stops the run as Ctrl-C does, and is raised again once the running chains have stopped. What is finished
        is kept, and the next call goes on from there.

        A chain that fails does not end the run: `Results.chains` has its state and why. Nor does the end of the
        budget. The process is left as it was found: environment, working directory, signal handlers, warnings filters,
        levels of loggers. Ctrl-C is heard in the main thread alone.

        Raises SweepError for mistakes, and where this process has started Ray itself or another run is at work in the
        results folder; KeyboardInterrupt where the user has interrupted it.
        """
        from sweep.run.study import run

        with _process_as_found():
            outcome = run(self.path, self.text, on_event)
        if outcome.interrupted:
            raise KeyboardInterrupt
        return open(outcome.results)

    def run_chain(self, chain: str | Mapping[str, object], on_event: Listener | None = None) -> pd.DataFrame:
        """Trains and scores what is missing of one chain in this process, without Ray: for a debugger.

        `chain` is a name as `plan().chains` has it, a part of a name that no other has, or a mapping of columns of that
        frame to values, such as {"intermediate": "nli", "seed": 1}. The chain uses the store and the budget of its
        study, so a later `run` finds its phases and scores. It trains to its end: halving stops it at no rung.
        `on_event` is called with a `sweep.Progress` for every step of work.

        Returns its rows of `Results.scores`; one row, without language and value, where it collapsed before its target
        phase. Raises SweepError for mistakes: where no chain has that name, or several have, where its hyperparameters
        depend on scores that are not there yet, and where budget or deadline end before it does. Whatever else the
        chain's code or `on_event` raises arrives unchanged.
        """
        from sweep.run.inline import run_chain

        with _process_as_found():
            done = run_chain(self.path, chain, self.text, on_event)
        scores = open(done.results).scores()
        return scores[scores["chain"] == done.chain.key].reset_index(drop=True)


@dataclass(frozen=True)
class StudyPlan:
    """Plan of a study. Made by `Study.plan`; printed, it is the text of `sweep plan`."""

    plan: Plan
    """The resolved plan itself (sweep.plan.plan), for those who need more than frames."""
    costs: Costs
    speed: Speed
    asked: bool = False
    """Whether a budget was asked about: then the text and the summary have the cells that it covers."""
    price: Price | None = None
    """Price of a device-hour that was asked about: then they have what device time costs."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Summary that `sweep plan --json` prints: counts, FLOPs, device time, flags; `standing` of what is done."""
        from sweep.plan.order import coverage, summary

        outline: dict[str, Any] = summary(self.plan, self.costs, self.speed)
        if self.price is not None:
            ends = ("low", "expected", "high")
            outline["price"] = {end: self.price.of(outline["device_time"][end]) for end in ends}
        if self.asked:
            outline["coverage"] = coverage(self.plan, self.costs, self.speed)
        if self.standing is not None:
            outline["standing"] = asdict(self.standing)
        return outline

    @property
    def device_time(self) -> DeviceTime:
        """Device-seconds that all of the study takes, from nothing: low, expected, high, and the basis of that."""
        from sweep.plan.speed import DeviceTime

        return DeviceTime(**self.summary["device_time"])

    @cached_property
    def standing(self) -> StudyStatus | None:
        """State of the plan in the results folder, done and left; None where nothing has been run."""
        from sweep.store import paths
        from sweep.store.ledger import opened_to_read

        results = self.plan.study.results_folder
        if not (results / paths.LEDGER).is_file():
            return None
        from sweep.store.artifacts import Store
        from sweep.store.index import study_status

        with opened_to_read(results / paths.LEDGER) as ledger:
            rows = ledger.chains()
        return study_status(self.plan, rows, Store(results / paths.STORE), self.costs, self.speed)

    @property
    def budget(self) -> Budget | None:
        """Budget that the plan is held against; None where there is none."""
        return self.plan.study.budget

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Frame with one row per cell, in the order in which cells are first tried.

        Columns: those of the cell; candidates, seeds (numbers of them);
        flops (of the first candidate alone); covered (whether the budget pays at least the first candidate; True where
        there is no budget); amount (what that candidate adds to the covered cells before) and spent (with all of
        these), in the budget's unit, FLOPs where there is none, NaN where the cell is not covered.
        """
        import pandas as pd

        from sweep.plan.order import Coverage

        first, seeds = Coverage(self.plan, self.costs), len(self.plan.study.axes.seed)
        covered = {entry.cell: entry for entry in first.covered(self.speed)}
        rows = []
        for index in first.order:
            cell, entry = self.plan.cells[index], covered.get(self.plan.cells[index])
            price = sum(first.firsts[index].values())
            counts = {"candidates": self.plan.candidates(cell), "seeds": seeds, "flops": price}
            paid = {name: getattr(entry, name, float("nan")) for name in ("amount", "spent")}
            rows.append({**cell.columns(), **counts, "covered": entry is not None, **paid})
        return pd.DataFrame(rows)

    @cached_property
    def chains(self) -> pd.DataFrame:
        """Frame with one row per chain: candidates of a cell, then its winner with the other seeds.

        Columns: name (for `run_chain`); those of the cell; seed, candidate, role (candidate or replica); lr.<kind> of
        each kind of phase (NaN: without one), <kind>.<key> of each further number that is tuned; flops (alone, its
        scoring included), flops_new (of what no row above has); phases (keys in order, a tuple), chain (key). What dev
        scores will choose is as it is planned as long as none is known.
        """
        import pandas as pd

        from sweep.plan.recipe import INTERMEDIATE, PRETRAIN, TARGET, in_columns

        names = {name for cell in self.plan.cells for name in self.plan.grid(cell)}
        kinds = [kind for kind in (PRETRAIN, INTERMEDIATE, TARGET) if kind in names]
        unknown = dict.fromkeys([*kinds, *sorted(names - set(kinds))], float("nan"))
        rows, seen = [], set[str]()
        for chain in self.plan.planned_chains():
            parts = self.costs.parts(chain)
            cost = {"flops": sum(parts.values()), "flops_new": sum(parts[key] for key in parts.keys() - seen)}
            seen |= parts.keys()
            own = {name: getattr(chain, name) for name in ("seed", "candidate", "role")}
            tuned = in_columns({**unknown, **chain.hyperparameters})
            keys = {"phases": tuple(phase.key for phase in chain.phases), "chain": chain.key}
            rows.append({"name": self.plan.chain_name(chain), **chain.cell.columns(), **own, **tuned, **cost, **keys})
        return pd.DataFrame(rows)

    @cached_property
    def phases(self) -> pd.DataFrame:
        """Frame with one row per distinct phase, in the order in which chains ask for them.

        Columns: phase (key), kind (pretrain, trunk, intermediate or target), tasks (joined by +), encoder,
        learning_rate, seed, parent (key, none: the encoder as published), flops, chains (number of those that need it).
        """
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {}
        for chain in self.plan.planned_chains():
            parts = self.costs.parts(chain)
            for phase in chain.phases:
                row: dict[str, Any] = {"phase": phase.key, "kind": phase.kind, "tasks": "+".join(phase.recipe.tasks)}
                row |= {"encoder": chain.cell.encoder, "learning_rate": phase.learning_rate, "seed": phase.seed}
                row |= {"parent": phase.parent, "flops": parts[phase.key], "chains": 0}
                rows.setdefault(phase.key, row)["chains"] += 1
        return pd.DataFrame(rows.values())

    def __str__(self) -> str:
        from sweep.plan.order import plan_text

        study = self.plan.study
        text = plan_text(self.plan, self.summary, self.speed, self.price)
        return "\n".join([text, *(self.standing.lines(study.results_folder) if self.standing is not None else ())])

    __repr__ = __str__


@dataclass(frozen=True)
class Answer:
    """Answer of a study: the first sentence of its report, and what backs it."""

    sentence: str
    setting: str | None
    """The intermediate setting that gains most on average; None where nothing can be compared yet."""
    gain: float
    """Its mean gain over no intermediate phase in the metric's unit, of which 1 is the best; NaN without a setting."""
    low: float
    """Lower end of the gain's 95% interval."""
    high: float
    """Upper end of the gain's 95% interval."""
    verdict: str
    """helps, hurts, no difference shown, one seed or missing: what is claimed, corrected for the number of settings."""
    targets: int
    """Targets that the mean is over."""
    seeds: int
    """Seeds that both sides of the comparison have."""
    progress: str
    """How many chains are done, in words."""
    doubts: tuple[str, ...]
    """Sentences on what weakens the answer."""

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return "\n".join([self.sentence, f"({self.progress})", *(f"- {doubt}" for doubt in self.doubts)])


@dataclass(frozen=True)
class Results:
    """Results of a study. Made by `sweep.open` and `Study.run`.

    They are read when they are first asked for, and then stay as they are: to see what a run has added, open the folder
    again. Methods raise StoreError where the store is damaged.
    """

    folder: Path
    study: str
    """Name of the study."""

    @cached_property
    def _report(self) -> Report:
        from sweep.report.page import read_folder

        return read_folder(self.folder)

    def scores(self) -> pd.DataFrame:
        """Frame with one row per chain and language, as in scores.csv.

        Columns: study; those of the cell; language, seed, metric, value (of
        which 1 is the best), is_source (whether the target phase was trained in it), flops and device_seconds (of the
        chain alone, whoever trained its phases), chain (key), candidate, role, selected (whether it counts in gains),
        collapsed, majority (value of the best constant answer), retries, retention_before, retention_saved_head,
        retention_fresh_head, state. A chain that ended without scores has one row, with an empty language and NaN.
        """
        return self._report.scores.copy()

    def gains(self, per: Per = "target") -> pd.DataFrame:
        """Frame of gains over no intermediate phase in languages that the target phase has not seen.

        One row per setting (the columns of the cell without the target) and `per`: "target", "language" (and
        target), "group" of languages (and target), or "mean" over targets. Columns: those, then gain, low and high (its
        95% interval), p, p_corrected (for the rows of the frame, Holm), verdict; per target, language and group also
        value with value_low and value_high. Values and gains are in the metric's unit, of which 1 is the best; NaN
        where there is nothing to compare. The other columns are named in sweep.report.gains.Estimates. Empty, without
        columns, where nothing is done.
        """
        frames = {"target": "cells", "language": "languages", "group": "groups", "mean": "overall"}
        if per not in frames:
            raise StudyError("per", repr(per), f"one of {', '.join(frames)} is expected", nearest(str(per), frames))
        return cast("pd.DataFrame", getattr(self._report.estimates, frames[per])).copy()

    def answer(self) -> Answer:
        """Answer of the study, with what backs it. In a notebook it shows the sentence and what weakens it."""
        from sweep.config.axes import Arm
        from sweep.report.statistics import MISSING
        from sweep.report.text import compared, first_sentence

        report, missing = self._report, float("nan")
        sentence = first_sentence(report.estimates, report.progress)
        best = next(iter(compared(report.estimates)[1].to_dict("records")), None)
        if best is None:
            backed: dict[str, Any] = {"setting": None, "gain": missing, "low": missing, "high": missing}
            backed |= {"verdict": MISSING, "targets": 0, "seeds": 0}
        else:
            backed = {name: float(best[name]) for name in ("gain", "low", "high")}
            backed |= {"setting": Arm.of(best).label, "verdict": str(best["verdict"])}
            backed |= {"targets": int(best["targets"]), "seeds": int(best["paired"])}
        return Answer(sentence, **backed, progress=report.progress, doubts=tuple(report.doubts))

    def chains(self) -> pd.DataFrame:
        """Frame with one row per chain that has begun.

        Columns: those of the cell; seed, candidate, role, selected; state
        (running, done, failed, collapsed, stopped, paused, or loser: eliminated by halving), dev (score of its last
        phase, 0..1), flops and device_seconds (really spent: a phase that the store had costs nothing), message (why it
        failed, stopped or collapsed), chain (key).
        """
        from sweep.report.results import chains_frame

        return chains_frame(self._report.chains)

    def curves(self) -> pd.DataFrame:
        """Frame with one row per point of a learning curve, of each finished phase once.

        Columns: phase (key), kind, tasks (joined by +), learning_rate, seed, measure ("loss" of training, or "dev", the
        score on dev data, 0..1), step, value, seconds (since the phase began), chains (keys of those that have the
        phase, a tuple: `explode("chains")` makes a row of each).
        """
        from sweep.report.results import curves_frame

        report = self._report
        return curves_frame([*report.results, *report.collapsed, *report.eliminated])

    def predictions(self, target: str | None = None, language: str | None = None) -> pd.DataFrame:
        """Frame with one row per chain and test example, of the winners: what was asked, what is right, what was said.

        `target` and `language` name one of each; by default all, which may be many rows. Columns: encoder,
        intermediate, volume, source, chain_budget, target; language, seed, chain (key), number (in its language, from
        0), id, the texts of the targets' examples (such as text and pair, or context and question; missing in other
        targets), gold, prediction, probabilities (label -> probability; None without labels). Empty where nothing is
        done.
        """
        from sweep.report.predictions import predictions_frame
        from sweep.store import paths
        from sweep.store.artifacts import Store

        targets = {result.score.task for result in self._report.results}
        languages = {name for result in self._report.results for name in result.score.languages}
        for place, asked, known in (("target", target, targets), ("language", language, languages)):
            if asked is not None and asked not in known:
                expected = f"one of {', '.join(sorted(known))} is expected"
                raise StudyError(place, repr(asked), expected, nearest(asked, known))
        return predictions_frame(self._report.results, Store(self.folder / paths.STORE), target, language)

    def encoder(self, *, phase: str | None = None, **fields: object) -> tuple[PreTrainedModel, Any]:
        """Trained encoder of a finished chain, a transformers model in evaluation mode, and its tokenizer.

        The chain is named by its seed and columns of its cell, as tables write them (tasks as a list, or joined by +);
        one in which the study has a single value may be left out. `phase`
        says after which phase: pretrain, intermediate or target; by default after the target phase, or after the
        intermediate one where no target is named. Of a cell's candidates the winner counts.

        Raises SweepError: an unknown field or value, several chains, none, or weights that were released after scoring
        (`runtime: {keep_winners: 50 GB}` says how much is kept; `sweep export --retrain` trains them again).
        """
        from sweep.run.export import find_chain

        texts = {
            name: "+".join(value) if isinstance(value, list | tuple) else str(value) for name, value in fields.items()
        }
        model, context = find_chain(self.folder, texts, phase, shown=str).load()
        return model.encoder.train(False), context.reader.tokenizer

    def report(self) -> Path:
        """Writes report.html, score tables and submissions into the folder; returns the path of the page."""
        from sweep.report.page import publish
        from sweep.store import paths

        publish(self.folder)
        return self.folder / paths.PAGE

    def __repr__(self) -> str:
        return f"results of {self.study} in {self.folder}: {self._report.progress}"


@contextmanager
def _process_as_found() -> Iterator[None]:
    """Leaves the process as it was, whatever libraries set while they are imported or at work.

    Ray and Tune take signals and hooks, raise levels of loggers and enable faulthandler; others add warnings filters.
    Handlers of signals belong to the main thread, and are left alone in any other.
    """
    variables, folder, hooks = dict(os.environ), Path.cwd(), (sys.excepthook, threading.excepthook)
    handlers = _handlers()
    loggers = {name: logger.level for name, logger in _loggers()}
    filters, faults = list(warnings.filters), faulthandler.is_enabled()
    warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm in a notebook, where nothing here draws bars
    try:
        yield
    finally:
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
        os.chdir(folder)
        sys.excepthook, threading.excepthook = hooks
        for number, handler in _handlers().items():
            if (before := handlers.get(number, handler)) != handler:
                signal.signal(number, before)
        for name, logger in _loggers():
            logger.setLevel(loggers.get(name, logger.level))
        if not faults:
            faulthandler.disable()
        _remove_filters_but(filters)


def _handlers() -> dict[int, Any]:
    """Handlers of signals by number, those that Python has set; {} outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in handlers.items() if handler is not None}


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = [item for item in list(logging.root.manager.loggerDict.items()) if isinstance(item[1], logging.Logger)]
    return [("", logging.root), *cast("list[tuple[str, logging.Logger]]", known)]


def _remove_filters_but(before: list[Any]) -> None:
    """Removes filters of warnings that are not among these; another thread may have changed them meanwhile, too."""
    for added in [entry for entry in warnings.filters if entry not in before]:
        cast("list[Any]", warnings.filters).remove(added)
    with warnings.catch_warnings():
        """Entering it makes Python forget what it remembers of filters, which has no name of its own."""
