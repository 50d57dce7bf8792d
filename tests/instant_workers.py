"""Workers without Ray that finish chains at once: they commit records, report and end, for tests of admission."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from small_studies import plan_of, study_file

from sweep.keys import fingerprint
from sweep.plan.cost import Costs
from sweep.plan.facts import NO_FACTS, Reached
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain, Hyperparameters
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger
from sweep.store.records import PhaseRecord, ScoreRecord

AXES = {
    "intermediate": ["none", "world/nli", ["world/nli", "world/pos"]],
    "target": ["world/topic", "world/ner", "world/retrieval"],
    "seed": [1, 2],
}
TUNED = {"learning_rate": {"log": [1e-4, 1e-2], "points": 5}}
TUNING = {"candidates": 4, "startup": 2}
GPU = {"gpu": 1}  # charged by the clock; cores are charged what workers report


def study(folder: Path, **changes: object) -> Plan:
    folder.mkdir(parents=True, exist_ok=True)
    return plan_of(study_file(folder, AXES, **{"target": TUNED, "tuning": TUNING, **changes}))


class Lab:
    """Workers that finish chains at once: they commit records, report and end, in the order in which they began."""

    def __init__(self, plan: Plan, folder: Path, workers: int = 1, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store, self.ledger = Store(folder / "store"), Ledger(folder / "ledger.sqlite")
        self.admission = Admission(plan, StoreIndex(self.store), self.ledger, Costs(plan), clock)
        self.workers, self.busy, self.started = workers, list[Chain](), list[Chain]()
        self.collapsing = set[str]()  # keys of phases that learn nothing
        self.trained: Counter[str] = Counter()
        self.reached = dict[str, float]()  # phase -> rung
        self.dev_of: Callable[[str, float], float] = lambda key, rung: dev_score(key + str(rung))
        self.clock = itertools.count(1)

    def run(self, chains: int = 10**6) -> Lab:
        """Until nothing runs and nothing may start, or so many chains have ended."""
        while chains:
            self.fill()
            if not self.busy:
                break
            self.finish(self.busy.pop(0))
            chains -= 1
        return self

    def fill(self) -> None:
        while len(self.busy) < self.workers and (chain := self.admission.next()) is not None:
            self.busy.append(chain)
            self.started.append(chain)

    def finish(self, chain: Chain, factor: float = 1.0) -> None:
        """Trains and scores what the chain lacks, at `factor` times the planned cost."""
        spent, pause_at = 0.0, self.admission.pause_at(chain.key)
        for phase in self.admission.stored.to_train(chain):
            if phase is chain.phases[-1] and pause_at is not None and pause_at < 1:
                whole = self.admission.costs.parts(chain)[phase.key]
                spent += factor * (pause_at - self.reached.get(phase.key, 0.0)) * whole
                self.reached[phase.key] = pause_at
                reached = Reached(self.dev_of(phase.key, pause_at), spent, spent / 1e9)
                facts = NO_FACTS.with_reached(phase.key, pause_at, reached)
                self.hear(chain, spent, phase=phase.kind, key=phase.key, facts=facts)
                self.admission.ended(chain.key)
                return
            self.trained[phase.key] += 1
            missing = 1 - self.reached.get(phase.key, 0.0)
            spent += factor * missing * self.admission.costs.parts(chain)[phase.key]
            self.store.commit_phase(phase_record(phase, phase.key in self.collapsing), {})
            self.hear(chain, spent, phase=phase.kind, key=phase.key, committed=True)
            if self.admission.stored.dead_end(chain) is not None:
                self.admission.ended(chain.key)
                return
        if pause_at is not None:
            self.admission.ended(chain.key)
            return
        spent += factor * self.admission.costs.parts(chain)[chain.score]
        self.store.commit_score(score_record(chain), {"en": np.ones((3, 2))})
        self.hear(chain, spent, phase="score", key=chain.score, committed=True)
        self.admission.ended(chain.key)

    def hear(self, chain: Chain, flops: float, started: float = 0.0, **report: object) -> None:
        spent = {"flops": flops, "device_seconds": flops / 1e9, "seconds": flops / 1e9}
        full = {"started": started, **spent, "phase": "", "key": "", **report}
        self.admission.heard(chain.key, full)

    def winners(self) -> dict[str, tuple[int, Hyperparameters]]:
        rows = [row for row in self.ledger.chains() if row.selected and row.role == "candidate"]
        return {row.cell.name: (row.candidate, row.hyperparameters) for row in rows}


def collapsing(lab: Lab, kind: str, tasks: tuple[str, ...]) -> Lab:
    """All phases of a kind on these tasks will learn nothing."""
    chains = lab.admission.plan.planned_chains()
    phases = [phase for chain in chains for phase in chain.phases]
    lab.collapsing |= {phase.key for phase in phases if (phase.kind, phase.recipe.tasks) == (kind, tasks)}
    return lab


def dev_score(key: str) -> float:
    """Any function of the key will do: the same in every run."""
    return int(fingerprint(key)[:6], 16) / 16**6


def phase_record(phase, collapsed: bool = False) -> PhaseRecord:
    dev = dev_score(phase.key)
    return PhaseRecord(
        key=phase.key, kind=phase.kind, parent=phase.parent, recipe=phase.record(), curve=[], dev=[],
        dev_score=dev, majority=0.0, collapsed=collapsed, selected_step=1, steps=1, tokens=1, examples=1, flops=1.0,
        device_seconds=1.0, started=0.0, ended=1.0, versions={}, files={},
    )  # fmt: skip


def score_record(chain: Chain) -> ScoreRecord:
    return ScoreRecord(
        key=chain.score, phase=chain.phases[-1].key, task=chain.cell.target, family="sequence", metric="accuracy",
        train_language="en", settings={}, languages={}, flops=1.0, device_seconds=1.0, started=0.0, ended=1.0, files={},
    )  # fmt: skip
