"""Studies of seconds over the embedded benchmark, for tests of whole chains and whole runs. No tests here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from sweep.config.load import load
from sweep.heartbeat import Cancelled
from sweep.plan.cost import Costs
from sweep.plan.languages import groups_of
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.run.study import plan_facts
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger
from sweep.store.paths import LEDGER
from sweep.store.records import PhaseRecord, ScoreRecord
from sweep.train.context import Event

if TYPE_CHECKING:
    from sweep.report.page import Report

TINY = {
    "random_init": {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    },
    "tokenizer": {"text": "world/raw", "vocab_size": 1500, "algorithm": "wordpiece"},
}
# Phases of a few steps learn next to nothing, and are passed on all the same.
PHASE: dict[str, Any] = {"learning_rate": 1e-3, "batch_tokens": 512, "collapse_margin": -1}
SMALL: dict[str, Any] = {
    "study": "small",
    "axes": {"encoder": ["tiny"], "intermediate": ["none"], "target": ["world/topic"], "seed": [1]},
    "encoders": {"tiny": TINY},
    "pretrain": {**PHASE, "task": "world/raw", "steps": 20, "evaluations": 1},
    "intermediate": {**PHASE, "steps": 8, "evaluations": 2},
    "target": {**PHASE, "steps": 8, "evaluations": 2},
    "scoring": {"examples": 50},
}
# What a clock says; all else must be equal in equal runs.
MEASURED = ("started", "ended", "device_seconds", "time", "activities")


def study_file(folder: Path, axes: dict[str, Any] | None = None, **changes: Any) -> Path:
    """SMALL with other axes and sections; a section that is a mapping keeps what is not named. JSON is YAML."""
    content = {**SMALL, "axes": {**SMALL["axes"], **(axes or {})}}
    for name, value in changes.items():
        merged = isinstance(value, dict) and isinstance(content.get(name), dict)
        content[name] = {**content[name], **value} if merged else value
    path = folder / "study.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def plan_of(path: Path) -> Plan:
    return resolve(load(path), path)


def chains_of(path: Path) -> Iterator[tuple[Chain, Plan]]:
    plan = plan_of(path)
    return ((chain, plan) for chain in plan.planned_chains())


def finish(path: Path, store: Store) -> list[Chain]:
    """Runs all chains of a study one after another in this process, without Ray."""
    made = []
    for chain, plan in chains_of(path):
        run(chain, plan, store)
        made.append(chain)
    return made


def events_of(chain: Chain, plan: Plan, store: Store) -> list[Event]:
    """Runs a chain; returns what it reported."""
    events = list[Event]()
    run(chain, plan, store, events.append)
    return events


def stopped_when(chain: Chain, plan: Plan, store: Store, over: Callable[[Event], bool]) -> list[Event]:
    """Stops a chain at the first event that is `over`, or lets it finish; returns what it reported."""
    events = list[Event]()

    def listen(event: Event) -> None:
        events.append(event)
        if over(event):
            raise Cancelled

    with suppress(Cancelled):
        run(chain, plan, store, listen)
    return events


def stopped_after(chain: Chain, plan: Plan, store: Store, events: int) -> list[Event]:
    """The same, after so many events."""
    numbers = count(1)
    return stopped_when(chain, plan, store, lambda _: next(numbers) == events)


def finish_in_pieces(chain: Chain, plan: Plan, store: Store) -> list[Event]:
    """Stops a chain after 5 events, goes on for 9, for 13, ... until it is finished; returns where it was stopped."""
    stopped = []
    for events in count(5, 4):
        seen = stopped_after(chain, plan, store, events)
        if len(seen) < events:
            return stopped
        stopped.append(seen[-1])
    raise AssertionError("counting has no end")


def unmeasured(record: PhaseRecord | ScoreRecord | None) -> Any:
    """A record as plain data without what a clock measured."""
    assert record is not None
    return _without_times(asdict(record))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in MEASURED}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def cut(study: Path, folder: Path, axes: dict[str, Any]) -> Path:
    """A shipped study with other axes and phases of a few steps, which are passed on whatever they learned."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(study)
    content["axes"] |= axes
    short = {**PHASE, "steps": 4, "evaluations": 1, "dev_examples": 20}
    for kind in ("pretrain", "intermediate", "target"):
        usual = content.get(kind, {})
        content[kind] = {key: value for key, value in usual.items() if key not in ("epochs", "overrides")} | short
    content["scoring"] = {**content.get("scoring", {}), "examples": 40}
    path = folder / "study.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def reported(path: Path, results: Path) -> tuple[Report, int]:
    """The report of a study whose chains ran in this process as a run would admit them, and how many were done."""
    from sweep.report.page import read  # brings matplotlib, which machines with a GPU may lack

    plan, store = plan_of(path), Store(results / "store")
    ledger, costs = Ledger(results / LEDGER), Costs(plan)
    admission = Admission(plan, StoreIndex(store), ledger, costs)
    while (chain := admission.next()) is not None:
        run(chain, plan, store, partial(hear, admission, chain), pause_at=admission.pause_at(chain.key))
        admission.ended(chain.key)
    chains, planned, facts = ledger.chains(), plan_facts(plan, costs), ledger.facts()
    ledger.close()
    found = read(plan.study.study, chains, store, groups_of(plan.study), planned, facts=facts)
    return found, len(admission.outcomes.done)


def hear(admission: Admission, chain: Chain, event: Event) -> None:
    """Tells admission what a chain has reported."""
    admission.heard(chain.key, {"started": 0.0, **vars(event)})


def with_data_of(prepared: Store, root: Path) -> Store:
    """A store without phases that need not make tokenizer and encoded data again."""
    for kind in ("data", "encoders"):
        if (prepared.root / kind).exists():  # a published encoder needs no tokenizer made
            shutil.copytree(prepared.root / kind, root / kind, copy_function=os.link)
    return Store(root)


def with_encoder_of(prepared: Store, root: Path) -> Store:
    """A store that need not pretrain either: the phases of this kind that the other has."""
    store = with_data_of(prepared, root)
    for key in prepared.keys("phases"):
        record = prepared.phase(key)
        if record is not None and record.kind == "pretrain":
            shutil.copytree(prepared.root / "phases" / key, root / "phases" / key)
    return store
