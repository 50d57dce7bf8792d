"""What a study that has begun has measured, for forecasts: sizes of what was loaded, device-seconds per FLOP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sweep.plan.cost import Speed
from sweep.plan.facts import NO_FACTS, Facts
from sweep.store import paths
from sweep.store.ledger import opened_to_read


@dataclass(frozen=True)
class Measured:
    """Nothing, before a study has begun."""

    facts: Facts = NO_FACTS  # of the ledger
    work: tuple[tuple[str, float, float], ...] = ()  # (encoder, FLOPs, device-seconds) of each chain

    def speed(self, gpu: bool) -> Speed:
        return Speed(self.work, gpu)


def measured(results: Path) -> Measured:
    """What the ledger in a results folder knows; nothing where there is none."""
    if not (results / paths.LEDGER).is_file():
        return Measured()
    with opened_to_read(results / paths.LEDGER) as ledger:
        work = tuple((row.cell.encoder, row.flops, row.device_seconds) for row in ledger.chains())
        facts = ledger.facts()
        return Measured(facts, work)
