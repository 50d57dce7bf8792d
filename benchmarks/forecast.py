"""How well the cost of a study is forecast: spent over forecast, before its start and after a tenth of it.

    python benchmarks/forecast.py [--only NAME ...] [--without NAME ...]

Twenty studies of the embedded benchmark with three tiny encoders: families, volumes, seeds, tuning with and without
halving, chain budgets, retention, retrieval, mixed sizes. Each encoder is measured once, by a study of its own. What
`sweep plan --like` says on that basis before the start, and what it says of the whole at the first milestone after a
tenth, are held against what the study has spent; so is what the study's own measurements alone say there, as `sweep
status` shows it ("alone").

Chains run in this process, admitted as `sweep run` does. Spent are processor seconds, which are not free of what
else the machine does: a yardstick, the same bit of computing before every chain, says how far it was slower or faster
than during the calibration, and "even" is the ratio with that taken out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from sweep.config.load import load
from sweep.plan.cost import Costs
from sweep.plan.order import summary
from sweep.plan.recipe import Chain
from sweep.plan.resolve import resolve
from sweep.plan.speed import Speed
from sweep.run.chain import run
from sweep.run.progress import device_seconds_left, works_left
from sweep.search.admission import Admission
from sweep.search.budget import REPORT_SECONDS
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger, Measured, taken_of
from sweep.store.paths import LEDGER
from sweep.train.context import Event

PHASE = {"batch_tokens": 1024, "dropout": 0.0, "collapse_margin": -1, "evaluations": 2, "dev_examples": 150}
SECTIONS: dict[str, dict[str, Any]] = {
    "pretrain": {**PHASE, "task": "world/raw", "learning_rate": 3e-3, "steps": 40, "evaluations": 1},
    "intermediate": {**PHASE, "learning_rate": 1e-3, "steps": 40},
    "target": {**PHASE, "batch_tokens": 512, "learning_rate": 1e-3, "epochs": 3},
    "scoring": {"layer": 1, "examples": 100},
    "runtime": {"gpu": 0, "cores": 1},
}


def _random(layers: int, hidden: int) -> dict[str, Any]:
    config = {"model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4,
              "intermediate_size": 4 * hidden, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
              "attention_probs_dropout_prob": 0.0}  # fmt: skip
    return {"random_init": config, "tokenizer": {"text": "world/raw", "vocab_size": 1000, "algorithm": "wordlevel"}}


TINY, NARROW, DEEP = "world/tiny", "narrow", "deep"  # the first comes with the package, the others are pretrained
ENCODERS = {NARROW: _random(2, 64), DEEP: _random(4, 96)}
NLI, POS, QA = "world/nli", "world/pos", "world/qa"
RTE, NER, QA_SMALL, RETRIEVAL = "world/rte", "world/ner", "world/qa_small", "world/retrieval"
TWO, FOUR = [RTE, QA_SMALL], [RTE, NER, QA_SMALL, RETRIEVAL]
TUNED = {"learning_rate": {"log": [5e-4, 2e-3], "points": 3}}
TUNING = {"candidates": 3, "startup": 3}
HALVING = {**TUNING, "halving": {"rungs": [0.5], "keep": 0.34}}
WSD = {"schedule": "wsd", "warmup": {"steps": 10}, "evaluations": 1}
VOLUMES = {"intermediate": {**WSD, "steps": None, "epochs": 1.0}}
BUDGETS = {"flops": [2e10, 6e10], "shares": {"intermediate": 0.75, "target": 0.25}}
BUDGETED = {"intermediate": {**WSD, "steps": None}, "target": {**WSD, "epochs": None}}
SEEDS = {"seed": [0, 1, 2]}


def _study(
    encoders: list[str], settings: list[Any], targets: list[str], axes: Any = None, **changes: Any
) -> dict[str, Any]:
    own = {name: ENCODERS[name] for name in encoders if name in ENCODERS}
    content = {name: {**section, **changes.get(name, {})} for name, section in SECTIONS.items()}
    content |= {name: section for name, section in changes.items() if name not in SECTIONS}
    content |= {"encoders": own} if own else {}
    if not own:
        del content["pretrain"]
    axes = {"encoder": encoders, "intermediate": settings, "target": targets, "seed": [1], **(axes or {})}
    return {"study": "forecast", "results": "results", "axes": axes, **content}


def calibration(encoder: str) -> dict[str, Any]:
    """The study by which an encoder is measured once."""
    return _study([encoder], ["none", NLI, POS], FOUR, scoring={"retention": True})


def studies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each study."""
    yield "families", _study([TINY], ["none", NLI, POS], FOUR)
    yield "families, narrow", _study([NARROW], ["none", NLI, POS], FOUR)
    yield "families, deep", _study([DEEP], ["none", NLI, POS], TWO)
    yield "other families", _study([TINY], ["none", "world/copa", "world/paraphrase"], ["world/topic", "world/copa"])
    yield "seeds", _study([TINY], ["none", NLI], TWO, SEEDS)
    yield "seeds, narrow", _study([NARROW], ["none", NLI], [RTE], SEEDS)
    yield "volumes", _study([TINY], ["none", NLI], TWO, {"volume": [500, 1500, 3000]}, **VOLUMES)
    yield "volumes, deep", _study([DEEP], ["none", POS], [NER], {"volume": [500, 2000]}, **VOLUMES)
    yield "chain budgets", _study([TINY], ["none", NLI], TWO, {"chain_budget": BUDGETS}, **BUDGETED)
    yield "chain budgets, mixed", _study([NARROW], ["none", [NLI, POS]], TWO, {"chain_budget": BUDGETS}, **BUDGETED)
    yield "tuned", _study([TINY], ["none", NLI], TWO, target=TUNED, tuning=TUNING)
    tuned = {"target": {**TUNED, "epochs": 4}, "tuning": HALVING}
    yield "halving", _study([TINY], ["none", NLI], TWO, **tuned, scoring={"chains": "winners"})
    yield "halving, deep", _study([DEEP], ["none", NLI], [QA_SMALL], **tuned)
    yield "retention", _study([TINY], ["none", NLI, POS], TWO, scoring={"retention": True})
    yield "retention, narrow", _study([NARROW], ["none", QA], TWO, scoring={"retention": True})
    yield "retrieval", _study([TINY], ["none", NLI, POS, "world/paraphrase"], [RETRIEVAL])
    yield "retrieval, layers", _study([DEEP], ["none", NLI], [RETRIEVAL], scoring={"layer": [1, 2, 4]})
    yield "sizes", _study([TINY, NARROW, DEEP], ["none", NLI], [RTE])
    yield "mixtures", _study([TINY], ["none", [NLI, POS], [QA, NLI, POS]], TWO)
    yield "all examples", _study([TINY], ["none", NLI], FOUR, scoring={"examples": None})


def main() -> None:
    """Measures the encoders, runs the studies and prints a line for each."""
    parser = argparse.ArgumentParser(description="how well the cost of a study is forecast")
    parser.add_argument("--only", nargs="+", default=[""], help="studies whose name has one of these")
    parser.add_argument("--without", nargs="+", default=[], help="but none of these")
    arguments = parser.parse_args()
    chosen = [
        (title, content) for title, content in studies()
        if any(name in title for name in arguments.only) and all(name not in title for name in arguments.without)
    ]  # fmt: skip
    encoders = dict.fromkeys(encoder for _, content in chosen for encoder in content["axes"]["encoder"])
    torch.set_num_threads(1)
    started, known, even = time.process_time(), Measured(), list[float]()
    with tempfile.TemporaryDirectory(prefix="sweep-forecast-") as name:
        Ran.of(_study([TINY], ["none"], [RTE]), Path(name) / "warm", Measured())  # libraries, in their first steps
        for encoder in encoders:
            measured = Ran.of(calibration(encoder), Path(name) / encoder.replace("/", "-"), Measured())
            known, even = known + measured.measured, even + measured.yardsticks
        print("spent / forecast        device-seconds  before  even  in range  after a tenth  even  alone")
        found = list[tuple[float, float, float]]()
        for title, content in chosen:
            ran = Ran.of(content, Path(name) / title.replace(" ", "-"), known)
            found.append(ran.ratios)
            print(ran.line(title, statistics.median(even)), flush=True)
    for at, (limit, ratios) in {"before": (0.1, [r[0] for r in found]), "after": (0.03, [r[1] for r in found])}.items():
        within = sum(abs(ratio - 1) <= limit for ratio in ratios)
        print(f"{at}: {within} of {len(ratios)} within {limit:.0%}, median {statistics.median(ratios):.3f}")
    print(f"{time.process_time() - started:.0f} processor seconds")


@dataclass
class Ran:
    """A study that has run here: what was forecast, what it has spent, and how fast the machine was."""

    forecast: dict[str, Any]  # device time before the start
    spent: float = 0.0
    # Spent, forecast of what is left with what was known before and without, number of yardsticks.
    milestones: list[tuple[float, float, float, int]] = field(default_factory=list)
    yardsticks: list[float] = field(default_factory=list)  # processor seconds
    measured: Measured = field(default_factory=Measured)

    @classmethod
    def of(cls, content: dict[str, Any], folder: Path, known: Measured) -> Ran:
        """Runs a study in a new folder; `known` was measured before."""
        folder.mkdir()
        path = folder / "study.yaml"
        path.write_text(json.dumps(content))
        plan, store, ledger = resolve(load(path), path), Store(folder / "store"), Ledger(folder / LEDGER)
        for name, split, language in plan.rows:  # made once per process, as no files are: nobody pays for it here
            plan.tasks[name].source.rows(split, language)
        costs = Costs(plan)
        ran = cls(summary(plan, costs, Speed(known.taken))["device_time"])  # type: ignore[arg-type]
        admission = Admission(plan, StoreIndex(store), ledger, costs)
        while (chain := admission.next()) is not None:
            ran.yardsticks.append(_yardstick())
            pause_at = admission.pause_at(chain.key)
            run(chain, plan, store, Reports(admission, chain, ran, known).take, pause_at=pause_at)
            admission.ended(chain.key)
        assert not admission.outcomes.failed, admission.outcomes.failed
        ran.spent, ran.measured = admission.spending.spent, Measured(taken=taken_of(ledger))
        ledger.close()
        return ran

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Spent over forecast before the start, and after a tenth with what was known before and without."""
        spent, left, alone, _ = self.tenth
        return self.spent / self.forecast["expected"], self.spent / (spent + left), self.spent / (spent + alone)

    @property
    def tenth(self) -> tuple[float, float, float, int]:
        """The first milestone at which a tenth was spent."""
        return next(milestone for milestone in self.milestones if milestone[0] >= self.spent / 10)

    def line(self, title: str, even: float) -> str:
        """Line of the table; `even` is the yardstick of the calibration."""
        before, after, alone = self.ratios
        slower, count = statistics.median(self.yardsticks) / even, self.tenth[-1]
        rest = statistics.median(self.yardsticks[count:] or self.yardsticks)
        later = rest / statistics.median(self.yardsticks[:count])
        inside = self.forecast["low"] <= self.spent <= self.forecast["high"]
        numbers = f"{self.spent:14.1f}  {before:6.3f}  {before / slower:5.3f}  {'yes' if inside else 'no':8}"
        return (
            f"{title:24}{numbers}  {after:6.3f} at {self.tenth[0] / self.spent:.0%}  {after / later:5.3f}  {alone:5.3f}"
        )


@dataclass
class Reports:
    """Reports of a chain to the driver, as workers send them: milestones at once, else one a second."""

    admission: Admission
    chain: Chain
    ran: Ran
    known: Measured
    _sent: float = 0.0

    def take(self, event: Event) -> None:
        """Takes an event of the chain's work."""
        milestone = event.committed or event.facts or event.message or event.dev is not None
        if not milestone and time.time() - self._sent <= REPORT_SECONDS:
            return
        self._sent = time.time()
        self.admission.heard(self.chain.key, {"started": 0.0, **vars(event)})
        spending, works = self.admission.spending, works_left(self.admission)
        both = self.known + Measured(taken=spending.speed_so_far(self.admission.running.values()).taken)
        speed = both.speed(spending.speed.device)
        left = speed.encoding(works, spending.read) + sum(map(speed.device_seconds, works))
        alone = device_seconds_left(self.admission)
        self.ran.milestones.append((spending.spent, left, alone, len(self.ran.yardsticks)))


def _yardstick() -> float:
    """Processor seconds of a piece of computing that is always the same."""
    tokens, inner, outer = torch.ones(1024, 96), torch.ones(96, 384), torch.ones(384, 96)
    began = time.process_time()
    for _ in range(60):
        tokens = torch.tanh((tokens @ inner).relu() @ outer)
    return time.process_time() - began


if __name__ == "__main__":
    main()
