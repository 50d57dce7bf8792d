"""Ray Tune's searcher: hands admission's chains to Tune and tells it which have ended. No decision is made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from sweep.admission import Admission
from sweep.planning.chains import Chain

WORKER_DEATHS = 2  # a chain whose worker dies more often has failed
METRIC = "objective"  # Tune wants one in every report; what is compared is compared by admission, inside cells
REPORT = "report"


def written(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as Tune takes it: one text. Tune flattens mappings and keeps statistics of every number for ever."""
    return {METRIC: 0.0, REPORT: json.dumps(report)}


def read(result: Mapping[str, Any]) -> dict[str, Any]:
    """The report in a result of Tune; empty where a chain has not reported."""
    report: dict[str, Any] = json.loads(result.get(REPORT, "{}"))
    return report


class ChainSearcher(Searcher):
    """One suggestion is one chain; the trial's configuration is what rebuilds it from the plan."""

    def __init__(
        self, admission: Admission, first: Chain, tell: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._admission = admission
        self._first: Chain | None = first  # admitted before Ray was started: without it there was nothing to start for
        self._tell = tell  # called whenever something may have changed, for the display
        self._say = say
        self._chains: dict[str, str] = {}  # Tune's trial id -> key of the chain

    def suggest(self, trial_id: str) -> Any:
        chain = self._first or self._admission.next()
        self._first = None
        self._tell()
        if chain is None:
            return Searcher.FINISHED if self._admission.finished else None
        self._chains[trial_id] = chain.key
        self._admission.given(chain.key)
        return {
            "chain": chain.key,
            "cell": self._admission.position(chain),
            "rates": dict(chain.rates),
            "seed": chain.seed,
            "candidate": chain.candidate,
            "role": chain.role,
            "until": self._admission.until(chain.key),
            "devices": self._admission.devices(chain.key),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._tell()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        report = read(result or {})
        failure = report.get("failed")
        if trace := report.get("trace"):
            self._say(f"a chain failed by a fault of the program; the study goes on\n{trace}")
        if error:
            failure = f"its worker died {WORKER_DEATHS + 1} times: out of memory, hanging, or ended from outside"
        self._admission.ended(self._chains.pop(trial_id), failure, report.get("crowded", False))
        self._tell()

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a new start rebuilds everything from plan, store and ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: Tuner.restore is not used."""
