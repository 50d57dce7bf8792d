"""Task families, one file each, and the table of those that a study may name as `family`."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import StudyError, nearest
from sweep.tasks.classification import CHOICE, SEQUENCE
from sweep.tasks.masked_lm import MASKED
from sweep.tasks.mining import MINING
from sweep.tasks.plugins import is_reference
from sweep.tasks.question_answering import SPAN
from sweep.tasks.ranking import RANKING
from sweep.tasks.regression import REGRESSION
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.tagging import TOKEN
from sweep.tasks.task import Family, Measure, own_family

_ALL: tuple[Family, ...] = (
    SEQUENCE,
    CHOICE,
    TOKEN,
    SPAN,
    EMBEDDING,
    MINING,
    RANKING,
    MASKED,
    REGRESSION,
)
FAMILIES = {family.name: family for family in _ALL}


def family_of(name: str, where: object = "", folder: Path | None = None) -> Family:
    """Family of a name, or of `module:Class` below `folder`. Raises StudyError at `where`."""
    if is_reference(name):
        return own_family(name, folder, where=where)
    if name not in FAMILIES:
        expected = f"one of {', '.join(FAMILIES)} is expected, or module:Class"
        asked = name.lower().replace("-", "_").replace(" ", "_")
        meant = next((family.name for family in FAMILIES.values() if asked in family.also_called), None)
        raise StudyError(where or f"family {name}", repr(name), expected, meant or nearest(name, FAMILIES))
    return FAMILIES[name]


def measure_of(family: str, metric: str) -> Measure:
    """Measure that turns a record's statistics into a score, by family and metric names. Raises StudyError."""
    resolved = family_of(family)
    return resolved.metric_of(metric, f"metric {metric}") or resolved
