"""What a study that has begun has measured, for forecasts: sizes of what was loaded, device-seconds per FLOP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep.planning.budget import Speed
from sweep.planning.ledger import FILE, opened_to_read
from sweep.tasks.base import Size


@dataclass(frozen=True)
class Measured:
    """Nothing, before a study has begun."""

    sizes: Mapping[tuple[str, str, str], Size] = field(default_factory=dict)  # (task, split, language)
    facts: Mapping[str, str] = field(default_factory=dict)  # of the ledger
    work: tuple[tuple[str, float, float], ...] = ()  # (encoder, FLOPs, device-seconds) of each chain

    def speed(self, gpu: bool) -> Speed:
        return Speed(self.work, gpu)


def measured(results: Path) -> Measured:
    """What the ledger in a results folder knows; nothing where there is none."""
    if not (results / FILE).is_file():
        return Measured()
    with opened_to_read(results / FILE) as ledger:
        work = tuple((row.encoder, row.flops, row.device_seconds) for row in ledger.chains())
        facts = ledger.facts()
        return Measured(measured_sizes(facts), facts, work)


def measured_sizes(facts: Mapping[str, str]) -> dict[tuple[str, str, str], Size]:
    """What runs have really loaded, from the ledger's facts."""
    found = {}
    for name, value in facts.items():
        if name.startswith("size:"):
            task, split, language = name.removeprefix("size:").rsplit(":", 2)
            examples, *means = value.split()
            found[task, split, language] = Size(int(examples), *map(float, means))
    return found
