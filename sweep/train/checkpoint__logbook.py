"""Curve, dev scores and cost of a phase's attempts: plain data, part of its checkpoint, so a resumed phase has one
history."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sweep.plan.recipe import Phase
from sweep.train.context import Bench
from sweep.train.context__meter import step_flops
from sweep.train.loop import Progress, State

CURVE_POINTS = 200
COUNTERS = {  # in a log -> in Progress and State; all from the first step of the run on
    "steps": "step",
    "tokens": "tokens",
    "padded": "padded_tokens",
    "attended": "attended_tokens",
    "examples": "examples",
}


def new_log(state: State | None = None, resumes: str | None = None) -> dict[str, Any]:
    """The log of a phase that begins: at its first step, or at the `state` of the trunk segment that it `resumes`."""
    log: dict[str, Any] = {"began": time.time(), "attempts": [], "resumes": resumes, "made": []}
    return log | _unspent(state["values"] if state is not None else {})


def next_log(collapsed: Mapping[str, Any]) -> dict[str, Any]:
    """The log of an attempt after the one that has collapsed."""
    return {name: collapsed[name] for name in ("began", "attempts", "resumes", "made")} | _unspent({})


def _unspent(counted: Mapping[str, int]) -> dict[str, Any]:
    """Nothing spent and nothing seen yet; steps and tokens count on from those of the run's trunk."""
    counters = {name: counted.get(counter, 0) for name, counter in COUNTERS.items()}
    return {"curve": [], "dev": [], "flops": 0, "seconds": 0.0, **counters}


class Logbook:
    """Writes the log of one attempt. `log["attempts"]` are the collapsed ones before it."""

    def __init__(self, bench: Bench, phase: Phase, log: dict[str, Any]) -> None:
        self.log = log
        if bench.made not in log["made"]:
            log["made"].append(bench.made)
        self.bench, self.phase = bench, phase
        self._flops_before = log["flops"] - bench.meter.flops
        self._seconds_before = log["seconds"] - bench.meter.device_seconds
        self._masked = {name for name in phase.recipe.tasks if bench.plan.tasks[name].family.raw_text}

    def note(self, progress: Progress, by_task: Mapping[str, float]) -> None:
        """Keeps what the step cost and, every so often, its loss; `by_task` are the dev scores, where it has some."""
        log, meter = self.log, self.bench.meter
        meter.flops += self._step_flops(progress)
        log.update(
            {name: getattr(progress, counter) for name, counter in COUNTERS.items()},
            flops=self._flops_before + meter.flops, seconds=self._seconds_before + meter.device_seconds,
        )  # fmt: skip
        now = time.time()
        if progress.step % max(1, progress.steps // CURVE_POINTS) == 0 or progress.step == progress.steps:
            point = {"step": progress.step, "loss": progress.loss_value(), "tokens": progress.tokens, "time": now}
            log["curve"].append(point)
        if progress.dev is not None:
            log["dev"].append({"step": progress.step, "value": progress.dev, "time": now, "tasks": dict(by_task)})

    def report(self, progress: Progress) -> None:
        """Tells of a step, or that its dev evaluation gets on."""
        loss, attempt = self.log["curve"][-1]["loss"] if self.log["curve"] else None, len(self.log["attempts"])
        self.bench.meter.report(progress.step, progress.steps, loss=loss, dev=progress.dev, attempt=attempt)

    def made(self) -> dict[str, Any]:
        """Where and with what all attempts were computed; a phase may go on elsewhere."""
        made = self.log["made"]
        versions = {name: _all(one["versions"][name] for one in made) for name in made[-1]["versions"]}
        places = {name: _all(one[name] for one in made) for name in ("precision", "device", "kernels")}
        return {**places, "versions": versions}

    def close(self, seed: int, dev: float, collapsed: bool) -> None:
        """The attempt is over: one line about it."""
        log = self.log
        log["attempts"].append({
            "seed": seed, "dev": dev, "steps": log["steps"], "flops": float(log["flops"]),
            "device_seconds": log["seconds"], "collapsed": collapsed,
        })  # fmt: skip

    def _step_flops(self, progress: Progress) -> float:
        fed, attended = progress.padded_tokens - self.log["padded"], progress.attended_tokens - self.log["attended"]
        return step_flops(self.bench.encoder.shape, fed, attended, progress.task in self._masked)


def _all(values: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(filter(None, values)))
