"""A Ray Tune function trainable around one chain: events become reports, an error becomes a failed result.

Runs in a thread of a warm worker process, which keeps torch and transformers imported between chains.
"""

from __future__ import annotations

import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

from ray import tune

from sweep.errors import SweepError
from sweep.planning.plan import Plan
from sweep.search import written

REPORT_SECONDS = 1.0  # a report costs the driver two milliseconds; milestones are reported at once


def chain_trial(config: dict[str, Any], plan: Plan, store_root: str) -> None:
    """Runs the chain that `config` names and reports to the driver. A stop arrives as SystemExit inside tune.report."""
    from sweep.chain.trial import run
    from sweep.store import Store

    started = time.time()
    cell = plan.cells[config["cell"]]
    chain = plan.chain(cell, config["rates"], config["seed"], config["candidate"], config["role"])
    last = 0.0
    report: dict[str, Any] = {
        "started": started,
        "flops": 0.0,
        "device_seconds": 0.0,
        "phase": "",
        "key": "",
    }
    try:
        # Closed at once: a stopped chain must not hold its phase's lock in a process that goes on to others.
        with closing(run(chain, plan, Store(Path(store_root)), started)) as events:
            for event in events:
                report = {"started": started, **vars(event)}
                if event.committed or event.facts or event.dev is not None or time.time() - last > REPORT_SECONDS:
                    tune.report(written(report))
                    last = time.time()
    # Raising would make Tune try again what cannot succeed, and pay for it each time.
    except SweepError as mistake:
        report["failed"] = str(mistake)
    except Exception as fault:
        if plan.study.runtime.gpu:
            raise  # an error may leave the device unusable: a new process tries again
        report["failed"] = " ".join(f"{type(fault).__name__}: {fault}".split())
        report["trace"] = traceback.format_exc()
    tune.report(written({**report, "committed": False, "facts": {}, "finished": True}))
