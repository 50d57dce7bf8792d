"""Ray Tune's searcher: hands admission's chains to Tune and tells it which have ended. No decision is made here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.recipe import Chain
from sweep.run.logs import add
from sweep.search.admission import Admission

WORKER_DEATHS = 2  # a chain whose worker dies more often has failed
METRIC = "objective"  # Tune wants one in every report; what is compared is compared by admission, inside cells
REPORT = "report"


def written(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as Tune takes it: one text. Tune flattens mappings and keeps statistics of every number for ever."""
    facts: Facts = report.get("facts", NO_FACTS)
    return {METRIC: 0.0, REPORT: json.dumps({**report, "facts": dict(facts.texts)})}


def read(result: Mapping[str, Any]) -> dict[str, Any]:
    """The report in a result of Tune; empty where a chain has not reported."""
    if REPORT not in result:
        return {}
    report: dict[str, Any] = json.loads(result[REPORT])
    return {**report, "facts": Facts(report["facts"])}


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
        self._chains: dict[str, Chain] = {}  # Tune's trial id -> chain
        self._broken: dict[str, str] = {}  # Tune's trial id -> what left a device unusable in its latest attempt

    def suggest(self, trial_id: str) -> Any:
        chain = self._first or self._admission.next()
        self._first = None
        self._tell()
        if chain is None:
            return Searcher.FINISHED if self._admission.finished else None
        self._chains[trial_id] = chain
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
            "keep": self._admission.winners.room,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        report = read(result)
        if broken := report.get("broken"):
            self._broken[trial_id] = broken
            self._keep(self._chains[trial_id], report)
        self._tell()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        report, chain, broken = read(result or {}), self._chains.pop(trial_id), self._broken.pop(trial_id, None)
        failure = report.get("failed")
        self._keep(chain, report)
        if error:
            deaths = f"its worker died {WORKER_DEATHS + 1} times: out of memory, hanging, or ended from outside"
            failure = deaths if broken is None else f"{broken}; tried in {WORKER_DEATHS + 1} processes"
        finished, crowded = report.get("finished", False), report.get("crowded", False)
        failed = len(self._admission.endings.failed)
        self._admission.ended(chain.key, failure, crowded=crowded, finished=finished)
        for _, reason in self._admission.endings.failed[failed:]:
            self._say(f"{chain.name} failed: {reason}")
        self._tell()

    def _keep(self, chain: Chain, report: Mapping[str, Any]) -> None:
        """Writes a traceback into the chain's log where its worker could not."""
        if trace := report.get("trace"):
            add(self._admission.stock.store.log(chain.key), trace)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its parts for a restore that is never used; the ledger cannot and need not travel."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a new start rebuilds everything from plan, store and ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: Tuner.restore is not used."""
