"""Ray Tune's scheduler: hands reports to admission, which says whether a chain goes on. No decision is made here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sweep.run.logs import add
from sweep.run.tune import read
from sweep.search.admission import Admission


class BudgetScheduler(FIFOScheduler):
    """Hears every report, also the one at which a chain is stopped, which Tune's searchers never see."""

    def __init__(self, admission: Admission, say: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._admission, self._say = admission, say
        self._deaths: dict[str, int] = {}  # trial -> how often its worker has died

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        key, report = trial.config["chain"], read(result)
        if "failed" in report or "broken" in report:
            return str(TrialScheduler.CONTINUE)
        self._admission.heard(key, report)
        if said := report.get("said"):
            self._say(f"{self._admission.running[key].chain.name}: {said}")
        goes_on = report.get("finished") or self._admission.may_go_on(key)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Tune asks ten times a second: the moment to look after chains that do not report. It chooses by itself."""
        live = {trial.config["chain"]: trial for trial in tune_controller.get_live_trials()}
        for key, trial in live.items():
            self._note_deaths(key, trial)
        at_work = {key: trial for key, trial in live.items() if trial.status == Trial.RUNNING}
        for key in at_work.keys() & self._admission.running.keys():
            self._admission.placed(key)
        for key in self._admission.stranded() & live.keys():
            _end(tune_controller, live[key])
        for key in self._admission.silent() & at_work.keys():
            ray.kill(at_work[key].temporary_state.ray_actor)  # Tune begins the chain anew, as often as a worker may die

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._note_deaths(trial.config["chain"], trial)
        super().on_trial_error(tune_controller, trial)

    def _note_deaths(self, key: str, trial: Any) -> None:
        """What Ray knows of the end of a worker goes to the chain's log: the worker itself may have said nothing."""
        deaths = trial.run_metadata.num_failures
        if deaths > self._deaths.get(trial.trial_id, 0):
            self._deaths[trial.trial_id] = deaths
            told = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
            add(self._admission.stock.store.log(key), f"the worker has died ({deaths})\n{told}")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}


def _end(tune_controller: Any, trial: Any) -> None:
    """Ends a chain that does not listen, with its process: what the store and the last checkpoint have is kept."""
    if trial.status == Trial.RUNNING:
        trial.max_failures = 0  # else Tune would begin it anew
        ray.kill(trial.temporary_state.ray_actor)
    else:
        trial.init_local_path()  # else Tune stumbles over it at the end
        with redirect_stdout(StringIO()):  # what Tune prints of it, however silent it is to be
            tune_controller.stop_trial(trial)  # its process is not there yet
