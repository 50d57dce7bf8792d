"""A Ray Tune function trainable around one chain: events become reports, an error becomes a failed result.

Runs in a thread of a warm worker process, which keeps torch and transformers imported between chains.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
from ray import tune

from sweep.errors import DeviceError, SweepError
from sweep.planning.plan import Plan
from sweep.planning.sharing import CORES
from sweep.planning.spec import Budget
from sweep.purse import REPORT_SECONDS, REPORT_SHARE
from sweep.search import written


def chain_trial(config: dict[str, Any], plan: Plan, store_root: str) -> None:
    """Runs the chain that `config` names and reports to the driver. A stop arrives as SystemExit inside tune.report."""
    began = time.time(), time.process_time()  # before torch is imported: the chain has its place from now on
    from sweep.chain.trial import run
    from sweep.store import Store

    cell = plan.cells[config["cell"]]
    chain = plan.chain(cell, config["rates"], config["seed"], config["candidate"], config["role"])
    last, heard = 0.0, dict[str, Any]()  # time and content of the last report
    report: dict[str, Any] = {"started": began[0], "flops": 0.0, "device_seconds": 0.0, "seconds": 0.0}
    report |= {"phase": "", "key": ""}
    try:
        # Closed at once: a stopped chain must not hold its phase's lock in a process that goes on to others.
        attempt = run(chain, plan, Store(Path(store_root)), began, config["until"], config["devices"])
        with closing(attempt) as events:
            for event in events:
                report = {"started": began[0], **vars(event)}
                if plan.study.runtime.shares and event.facts:
                    report["facts"] = {**event.facts, **_machine()}
                milestone = event.committed or event.facts or event.said or event.dev is not None
                if milestone or time.time() - last > REPORT_SECONDS or _dear(plan.study.budget, heard, report):
                    tune.report(written(report))
                    last, heard = time.time(), report
    # Raising would make Tune try again what cannot succeed, and pay for it each time.
    except SweepError as mistake:
        report["failed"] = str(mistake)
        report["crowded"] = isinstance(mistake, DeviceError) and plan.study.runtime.shares and config["devices"] < 1
    except Exception as fault:
        if plan.study.runtime.gpus:
            raise  # an error may leave the device unusable: a new process tries again
        report["failed"] = " ".join(f"{type(fault).__name__}: {fault}".split())
        report["trace"] = traceback.format_exc()
    tune.report(written({**report, "committed": False, "facts": {}, "finished": True}))


def _machine() -> dict[str, str]:
    """Cores per GPU of the node that this worker runs on."""
    own = ray.get_runtime_context().get_node_id()
    node = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == own)  # type: ignore[no-untyped-call]
    return {CORES: f"{node.get('CPU', 1) / node.get('GPU', 1):g}"}


def _dear(budget: Budget | None, heard: Mapping[str, Any], report: Mapping[str, Any]) -> bool:
    """Whether what was spent since the last report is a noticeable share of the budget."""
    if budget is None:
        return False
    return bool(report[budget.unit] - heard.get(budget.unit, 0.0) > REPORT_SHARE * budget.amount)
