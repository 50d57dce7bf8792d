"""What happens once per study before anything is trained: hub names become commits, and every row is read and checked.

Both answers are facts that the ledger keeps, so a second run of the study asks nobody and reads nothing again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import StudyError
from sweep.fingerprint import fingerprint
from sweep.planning.plan import Plan
from sweep.planning.resolve import data_fact, encoder_fact
from sweep.planning.shapes import EncoderSource
from sweep.planning.sources import trained_in
from sweep.tasks import FAMILIES
from sweep.tasks.check import check
from sweep.tasks.hub import HubSource, version_of


def resolve_revisions(plan: Plan, facts: Mapping[str, str]) -> dict[str, str]:
    """Facts with the commits of hub data sets and encoders that no earlier run has resolved. Raises SweepError."""
    found = {}
    for task in plan.tasks.values():
        for part in task.source.data_sets if isinstance(task.source, HubSource) else ():
            if (fact := data_fact(part)) not in facts and fact not in found:
                found[fact] = version_of(part)
    for encoder in _checkpoints(plan):
        if encoder.on_hub and encoder.revision is None and encoder_fact(encoder) not in facts:
            assert encoder.location is not None
            found[encoder_fact(encoder)] = encoder_commit(encoder.location)
    return found


@dataclass(frozen=True)
class CheckedData:
    """Facts that spare reading the data the next time, and what their owner should know of them."""

    facts: Mapping[str, str]
    notes: tuple[str, ...]


def check_data(plan: Plan, facts: Mapping[str, str]) -> CheckedData:
    """Reads every split of every task that the study uses. Raises DataError."""
    found, notes = dict[str, str](), list[str]()
    settings = {(cell.intermediate, cell.source): None for cell in plan.cells}
    for name, task in plan.tasks.items():
        used = [trained_in(task, source) for names, source in settings if name in names]
        sources = sorted({language for languages in used for language in languages})
        rows = fingerprint([digest for (read, *_), digest in plan.rows.items() if read == name])
        fact = ":".join(["checked", name, rows, *sources])
        if fact not in facts:
            checked = check(task, FAMILIES[task.family], sources)
            found[fact] = str(checked.rows)
            notes += checked.notes
    return CheckedData(found, tuple(notes))


def asked_families(plan: Plan) -> list[str]:
    """The families that every encoder of the study must be able to do."""
    axes = plan.study.axes
    names = {*axes.target, *(name for names in axes.intermediate for name in names)}
    return sorted({plan.tasks[name].family for name in names})


def unchecked_encoders(plan: Plan, facts: Mapping[str, str]) -> dict[str, EncoderSource]:
    """Fact -> encoder that no earlier run has looked at for these families (sweep/chain/inspection.py does)."""
    families = "+".join(asked_families(plan))
    found = {f"checked:encoder:{source.digest}:{families}": source for source in _checkpoints(plan)}
    return {fact: source for fact, source in found.items() if fact not in facts}


def _checkpoints(plan: Plan) -> Iterator[EncoderSource]:
    return (checkpoint for encoder in plan.encoders.values() for checkpoint in encoder.checkpoints)


def encoder_commit(location: str) -> str:
    """The commit of a hub encoder's main branch: asked from the hub, or from the local cache when offline."""
    from httpx2 import HTTPError  # huggingface_hub lets the errors of its client through
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    cached = try_to_load_from_cache(location, "config.json")
    try:
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled("offline")
        return str(HfApi().model_info(location, timeout=20.0).sha)
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError) as failure:
        if isinstance(cached, str):
            return Path(cached).parent.name  # .../snapshots/<commit>/config.json
        wanted = "a hub encoder that can be reached or is in the local cache, or a model folder, is expected"
        raise StudyError(f"encoder {location}", f"no answer ({type(failure).__name__})", wanted) from failure
