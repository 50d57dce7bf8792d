"""Trained chains of a results folder: found by what they are, and loaded.

A chain is named by the fields of its cell and its seed, as tables write them; of a cell's candidates the winner counts.
A field in which the study has one value may be left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sweep.config.axes import AXES, NOTHING, cell_columns
from sweep.errors import StoreError, StudyError, nearest
from sweep.models.model import MultiTaskModel
from sweep.plan.facts import Facts
from sweep.plan.plan import Plan
from sweep.plan.recipe import INTERMEDIATE, PRETRAIN, TARGET, Chain, Phase
from sweep.plan.resolve import resolve
from sweep.report.results import chain_order, labels
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import DONE, ChainRow, Ledger, opened_to_read, study_in
from sweep.tasks.plugins import add_folder
from sweep.tasks.task import Task
from sweep.train.context import ChainContext, Event, Listener, ignore_events, model_to_score, model_with_heads, set_up
from sweep.train.phase import train_phase

FIELDS = (*cell_columns(), "seed")  # and the study's settings axes
PHASES = (PRETRAIN, INTERMEDIATE, TARGET)


@dataclass(frozen=True)
class TrainedChain:
    """A chain of a results folder, and the phase of it whose weights are meant."""

    results: Path
    plan: Plan
    facts: Facts
    row: ChainRow
    chain: Chain
    phase: Phase | None  # None: the encoder as it was published, of a target without a target phase
    asked: str  # kind of phase: one of PHASES

    @property
    def store(self) -> Store:
        """Store of the results folder."""
        return Store(self.results / paths.STORE)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that the model has heads for, in their order: the target, or those of the phase."""
        if self.asked == TARGET:
            return (self.plan.tasks[self.row.cell.target],)
        return tuple(self.plan.tasks[name] for name in self.phase.recipe.tasks) if self.phase else ()

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.asked} phase of {self.row.cell.name}, seed {self.row.seed}"

    def load(self) -> tuple[MultiTaskModel, ChainContext]:
        """Model with its heads, and the context that has its tokenizer. Raises SweepError, also of lost weights."""
        context = set_up(self.chain, self.plan, self.store)
        if self.phase is not None and not self.store.has_weights(self.phase.key):
            expected = "'sweep export' with the same flags and --retrain trains them again"
            raise StoreError(f"{self.results}: {self.name}", "weights that were released after scoring", expected)
        if self.asked == TARGET:
            return model_to_score(context, self.tasks[0], self.phase), context
        assert self.phase is not None
        return model_with_heads(context, self.tasks, self.phase, self.phase), context

    def train_again(self, listener: Listener = ignore_events) -> None:
        """Trains the phase, and those before it whose weights are gone, as their recipes say; charged to the study.

        Raises StudyError where a run is at work there, SweepError where data or encoder are at fault.
        """
        store, ended = self.store, list(self.chain.phases).index(self.phase) + 1 if self.phase else 0
        phases = self.chain.phases[:ended]
        first = max((number for number, phase in enumerate(phases, 1) if store.has_weights(phase.key)), default=0)
        if first == len(phases):
            return
        with _locked(self.results) as ledger:
            began, attempt = time.time(), ledger.reserve(self.row.key, 0.0, time.time())

            def listen(event: Event) -> None:
                ledger.charge(self.row.key, attempt, event.flops, event.device_seconds)
                listener(event)

            try:
                context = set_up(self.chain, self.plan, store, listen, (began, time.process_time()))
                for phase in phases[first:]:
                    train_phase(context, phase)
            finally:
                ledger.settle(self.row.key, attempt, time.time())


@contextmanager
def _locked(results: Path) -> Iterator[Ledger]:
    """Ledger of a results folder in which no run is at work meanwhile."""
    lock = FileLock(results / paths.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(results, "a 'sweep run' at work", "wait for its end") from None
    except OSError as failure:
        raise StudyError(results, str(failure.strerror), "a folder that can be written is expected") from failure
    ledger = Ledger(results / paths.LEDGER)
    try:
        yield ledger
    finally:
        ledger.close()
        lock.release()


def find_chain(
    results: Path, fields: Mapping[str, str], phase: str | None = None, file: Path | None = None
) -> TrainedChain:
    """Chain of a results folder whose `fields`, some of FIELDS, have these texts.

    `phase` is the kind of phase that is meant: by default the target phase, or without a target the intermediate one.
    `file` is the study file, where it has moved since its last run. Raises SweepError: an unknown text, several chains,
    or none.
    """
    study = study_in(results, file)
    with opened_to_read(results / paths.LEDGER) as ledger:
        facts, rows = ledger.facts(), ledger.chains()
    asked = phase or (TARGET if "target" in fields else INTERMEDIATE)
    rows = [row for row in rows if row.selected and row.state == DONE]
    row = _only(rows, fields, asked, results, Store(results / paths.STORE))
    for code in facts.plan.get("code", ()):
        add_folder((study.path.parent / code).resolve())
    plan = resolve(study, study.path, facts)
    chain = plan.chain(row.cell, row.hyperparameters, row.seed, row.candidate, row.role)
    if chain.key != row.key:
        expected = "the data and encoders of its run are expected, or a new run"
        raise StudyError(results, f"{chain.name}, which what it reads now would make another chain", expected)
    return TrainedChain(results, plan, facts, row, chain, _phase(chain, asked, results), asked)


def _phase(chain: Chain, asked: str, results: Path) -> Phase | None:
    """The phase that is asked for; for the target of a chain without a target phase its last one."""
    phases = {phase.kind: phase for phase in chain.phases}
    if asked == TARGET:
        return chain.phases[-1] if chain.phases else None
    if asked not in phases:
        has = ", ".join(kind for kind in PHASES if kind in phases) or "none"
        raise StudyError(f"{results}: {chain.name}", f"no {asked} phase", f"one of its phases is expected: {has}")
    return phases[asked]


def _only(rows: Sequence[ChainRow], fields: Mapping[str, str], asked: str, results: Path, store: Store) -> ChainRow:
    """The one row with these texts; of a phase before the target's, one of those that share it."""
    if not rows:
        raise StudyError(results, "no finished chain", "run the study until its first chain is done")
    left, fields_of_all = list(rows), _fields(rows)
    for name, text in fields.items():
        if name not in fields_of_all:
            expected = f"one of {', '.join(fields_of_all)} is expected"
            raise StudyError(name, "no field of a chain", expected, nearest(name, fields_of_all))
        known = _texts(rows, name)
        if not any(_same(name, text, value, known) for value in known):
            raise StudyError(f"--{name}", repr(text), f"one of {', '.join(known)} is expected", nearest(text, known))
        among = _texts(left, name)
        left = [row for row in left if _same(name, text, _text(row, name), known)]
        if not left:
            raise StudyError(
                f"--{name}", f"no finished chain with {text!r}", f"beside the others it is {' or '.join(among)}"
            )
    distinct = {_key(row, asked, store): row for row in sorted(left, key=chain_order, reverse=True)}
    if len(distinct) > 1:
        distinct.pop("", None)  # without such a phase
    if len(distinct) > 1:
        raise StudyError(
            results, f"{len(distinct)} chains", f"say which one is meant: {_choices([*distinct.values()])}"
        )
    return next(iter(distinct.values()))


def _fields(rows: Sequence[ChainRow]) -> list[str]:
    """FIELDS and the settings axes of a study."""
    return list(dict.fromkeys([*FIELDS, *(name for row in rows for name in row.cell.columns())]))


def _choices(rows: Sequence[ChainRow]) -> str:
    """Flags that tell the rows apart, with the texts that they may have; the target's only where the others do not."""
    known = _fields(rows)
    others = [name for name in known if name != "target"]
    alike = len({tuple(_text(row, name) for name in others) for row in rows}) < len(rows)
    texts = {name: [text for text in _texts(rows, name) if text != NOTHING] for name in (known if alike else others)}
    return "; ".join(f"--{name} {' or '.join(values)}" for name, values in texts.items() if len(values) > 1)


def _key(row: ChainRow, asked: str, store: Store) -> str:
    """Key of a chain where the target phase is asked for, else of its phase of that kind, empty where it has none."""
    if asked == TARGET:
        return row.key
    records = (store.phase(key) for key in row.phases)
    return next((record.key for record in records if record is not None and record.kind == asked), "")


def _text(row: ChainRow, name: str) -> str:
    return str(row.seed) if name == "seed" else row.cell.columns().get(name, NOTHING)


def _texts(rows: Iterable[ChainRow], name: str) -> list[str]:
    """Texts of a field, each once, in the order of the chains."""
    return list(dict.fromkeys(_text(row, name) for row in rows))


def _same(name: str, given: str, text: str, known: Sequence[str]) -> bool:
    """Whether a given text means this value: tasks in any order, numbers in any form, an encoder by its label."""
    if given == text or (name == "encoder" and given == labels(known)[text]):
        return True
    return name in AXES and _value(name, given) == _value(name, text)


def _value(name: str, text: str) -> Any:
    try:
        value = AXES[name].value(text)
    except ValueError:
        return text
    return sorted(value) if isinstance(value, tuple) else value
