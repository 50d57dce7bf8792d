"""Ray Tune's scheduler: hands reports to admission, which says whether a chain goes on. No decision is made here."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.admission import Admission
from sweep.search import read


class BudgetScheduler(FIFOScheduler):
    """Hears every report, also the one at which a chain is stopped, which Tune's searchers never see."""

    def __init__(self, admission: Admission) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._admission = admission

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        key, report = trial.config["chain"], read(result)
        if "failed" in report:
            return str(TrialScheduler.CONTINUE)
        self._admission.heard(key, report)
        goes_on = report.get("finished") or self._admission.may_go_on(key)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}
