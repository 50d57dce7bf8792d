"""Ray Tune's scheduler: a chain goes on until it is finished or the budget is gone. The policy is admission's."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.admission import Admission


class BudgetScheduler(FIFOScheduler):
    """Stops chains at their next report when the money is gone or the user wants it; the store keeps their work."""

    def __init__(self, admission: Admission) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._admission = admission

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._admission.closing or self._admission.exhausted
        if stop and not result.get("finished"):
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}
