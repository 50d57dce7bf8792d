"""What an arm is compared with beside no intermediate phase: the same arm without what is special about it.

A translated or multilingual intermediate phase is measured against the same tasks in their own language, a phase with
raw text mixed in against the same labelled tasks alone. Both sides have the same volume, and the means are over the
same languages, those that the target phase has not seen; that some of them were seen in the intermediate phase is what
is compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from dataclasses import replace

from sweep.planning.axes import Arm

SOURCE, TEXT = "source language", "raw text"


def references(arm: Arm, known: Collection[Arm], text: Set[str]) -> Iterator[tuple[str, Arm]]:
    """(what differs, the arm without it) as far as `known` has it. `text` holds the masked tasks."""
    labelled = tuple(task for task in arm.intermediate if task not in text)
    without = []
    if arm.says("source"):
        without.append((SOURCE, arm.without("source")))
    if labelled and labelled != arm.intermediate:
        without.append((TEXT, replace(arm, intermediate=labelled)))
    for what, reference in without:
        yield from ((what, other) for other in known if _in_any_order(other) == _in_any_order(reference))


def _in_any_order(arm: Arm) -> Arm:
    """The arm whatever order a study names its tasks in."""
    return replace(arm, intermediate=tuple(sorted(arm.intermediate)))
