"""First use of a study: hub names become commits, and every row is read and checked before anything is trained.

Both answers are facts that the ledger keeps, so a second run of the study asks nobody and reads nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from sweep.data.hub import HubSource, version_of
from sweep.data.local import LocalSource
from sweep.errors import DataError, Mistakes, StudyError
from sweep.models.registry import EncoderSource
from sweep.plan.checks import compared_pairs, task_data, training_data, training_languages
from sweep.plan.facts import NO_FACTS, Facts, RowsRead
from sweep.plan.plan import Plan
from sweep.plan.resolve import Named
from sweep.tasks.check import Checked, SharedRows, check
from sweep.tasks.task import Family

SMALL = 500_000  # bytes of data that are read and compared in a fifth of a second


def resolve_revisions(named: Named, facts: Facts) -> Facts:
    """Commits of hub data sets and encoders that no earlier run has resolved. Raises SweepError."""
    resolved = NO_FACTS
    for task in named.tasks.values():
        for part in task.source.data_sets if isinstance(task.source, HubSource) else ():
            if (facts | resolved).data_commit(part.data_set) is None:
                resolved = resolved.with_data_commit(part.data_set, version_of(part))
    for encoder in _checkpoints(named.encoders):
        if encoder.on_hub and encoder.revision is None:
            assert encoder.location is not None
            if facts.encoder_commit(encoder.location) is None:
                resolved = resolved.with_encoder_commit(encoder.location, encoder_commit(encoder.location))
    return resolved


@dataclass(frozen=True)
class CheckedData:
    """Facts that spare reading the data the next time, and how data is read that was looked at now."""

    facts: Facts
    notes: tuple[str, ...] = ()


def check_data(plan: Plan, facts: Facts, names: Iterable[str] | None = None) -> CheckedData:
    """Reads every split of every task that the study uses. Raises DataError; its facts spare it the next time.

    They say how many rows there are, what weakens them, and which rows intermediate tasks share with targets. `names`:
    only these tasks.
    """
    new_facts, read = NO_FACTS, dict[str, Checked]()

    def checked(name: str) -> Checked:
        if name not in read:
            task = plan.tasks[name]
            read[name] = check(task, training_languages(plan, name))
        return read[name]

    chosen, mistakes = list(plan.tasks if names is None else names), Mistakes()
    for name in chosen:
        with mistakes.collect():
            if facts.rows_read(data := task_data(plan, name)) is None:
                result = checked(name)
                new_facts = new_facts.with_rows_read(data, RowsRead(result.rows, result.train, result.doubts))
    mistakes.raise_first()
    for name, target in compared_pairs(plan):
        pair = training_data(plan, name), task_data(plan, target)
        if {name, target} <= {*chosen} and facts.shared_rows(*pair) is None:
            training = [rows for (split, _), rows in checked(name).digests.items() if split == "train"]
            new_facts = new_facts.with_shared_rows(*pair, SharedRows.of(training, checked(target).digests))
    return CheckedData(new_facts, tuple(note for result in read.values() for note in result.notes))


def check_small_data(plan: Plan, facts: Facts) -> Facts:
    """Facts on data that a plan can read on the side: local files of SMALL bytes in all, the smallest sets first."""
    sizes = {name: task.source.bytes() for name, task in plan.tasks.items() if isinstance(task.source, LocalSource)}
    ordered = sorted(sizes, key=lambda name: sizes[name])
    totals = accumulate(sizes[name] for name in ordered)
    small = [name for name, total in zip(ordered, totals, strict=True) if total <= SMALL]
    try:
        return check_data(plan, facts, small).facts
    except DataError:  # `check` and `run` say it; a plan asks for sizes alone
        return NO_FACTS


def asked_families(plan: Plan) -> list[Family]:
    """The families that every encoder of the study must be able to do."""
    axes = plan.study.axes
    names = {*axes.target, *(name for names in axes.intermediate for name in names)}
    return sorted({plan.tasks[name].family for name in names if name in plan.tasks}, key=str)


def unchecked_encoders(plan: Plan, facts: Facts) -> list[EncoderSource]:
    """Encoders that no earlier run has looked at for these families (run/inspection.py does)."""
    families = [family.name for family in asked_families(plan)]
    distinct = {source.digest: source for source in _checkpoints(plan.encoders)}
    return [source for digest, source in distinct.items() if not facts.is_encoder_checked(digest, families)]


def _checkpoints(encoders: Mapping[str, EncoderSource]) -> Iterator[EncoderSource]:
    return (checkpoint for encoder in encoders.values() for checkpoint in encoder.checkpoints)


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
        expected = "a hub encoder that can be reached or is in the local cache, or a model folder, is expected"
        raise StudyError(f"encoder {location}", f"no answer ({type(failure).__name__})", expected) from failure
