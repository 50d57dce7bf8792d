"""What a setting is compared with beside no intermediate phase: the same setting without what is special about it.

A translated or multilingual intermediate phase is measured against the same tasks in their own language, a phase with
raw text mixed in against the same labelled tasks alone. Both sides have the same volume, and the means are over the
same languages, those that the target phase has not seen; that some of them were seen in the intermediate phase is what
is compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set

from sweep.planning.axes import OWN
from sweep.planning.settings import NOTHING, Setting

SOURCE, TEXT = "source language", "raw text"


def references(setting: Setting, known: Collection[Setting], text: Set[str]) -> Iterator[tuple[str, Setting]]:
    """(what differs, the setting without it) as far as `known` has it. `text` holds the masked tasks."""
    labelled = frozenset(setting.tasks) - text
    wanted = []
    if setting.source not in (OWN, NOTHING):
        wanted.append((SOURCE, frozenset(setting.tasks), OWN))
    if labelled and labelled != frozenset(setting.tasks):
        wanted.append((TEXT, labelled, setting.source))
    for what, tasks, source in wanted:
        for other in known:
            without = frozenset(other.tasks), other.volume, other.source, other.chain_budget
            if without == (tasks, setting.volume, source, setting.chain_budget):
                yield what, other
