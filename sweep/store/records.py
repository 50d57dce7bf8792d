"""Records of finished phases, scores and previews: plain data, one JSON file each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Activity (sweep/heartbeat.py) -> "device_seconds", which add up to those of the record, and "seconds" by the clock; {}
# in records of earlier versions. What a chain does between two of its records stands in the second one: also that it
# hashed and committed the first.
Activities: TypeAlias = dict[str, dict[str, float]]


@dataclass(frozen=True)
class PhaseRecord:
    """Record of a finished phase: its recipe, cost, dev curve and files. Scores are in 0..1."""

    key: str
    kind: str  # pretrain | intermediate | target | trunk
    parent: str | None  # key of the phase it started from; None: the encoder as it was published
    recipe: dict[str, Any]
    curve: list[dict[str, float]]  # step, loss, tokens, time (epoch seconds)
    dev: list[dict[str, Any]]  # step, value (0..1), time, and value per task
    dev_score: float | None  # of the weights that were kept, mean over tasks; None where there is no dev data
    majority: float | None  # dev score of the best constant answer, mean over tasks
    collapsed: bool  # nothing was learned, in no attempt: of what was tried last this record holds curve and scores
    selected_step: int
    steps: int
    tokens: int  # real tokens, padding excluded
    examples: int
    flops: float  # computed from the encoder's shape and what was really fed, padding included; all attempts
    device_seconds: float  # of all attempts; of records of earlier versions, those of steps and evaluations alone
    started: float
    ended: float
    versions: dict[str, str]  # of this program and of the libraries that compute
    files: dict[str, str]  # name -> sha256
    released: bool = False  # weights were deleted after scoring
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)  # dev task -> dev, majority, collapsed
    attempts: list[dict[str, Any]] = field(default_factory=list)  # seed, dev, steps, flops, device_seconds, collapsed
    resumes: str | None = None  # key of the trunk segment that it went on from; its costs are those after it
    precision: str = ""  # really used: fp32 or bf16, or both, where it was resumed elsewhere
    device: str = ""  # such as "cpu: AMD EPYC 9B45" or "cuda: NVIDIA H100", or several
    kernels: str = ""  # of a CPU: whose linear layers and dropout (sweep/models/cpu_kernels.py)
    rows: int | None = None  # of the embeddings that its weights hold; None: all
    decay: float = 1.0  # factor by which the others have become smaller since the encoder was published
    activities: Activities = field(default_factory=dict)

    @property
    def dead_end(self) -> bool:
        """Whether it collapsed before the target phase: it has no weights, and nothing may start from it."""
        return self.collapsed and self.kind != "target"


@dataclass(frozen=True)
class ScoreRecord:
    """Zero-shot scores of one set of weights on one target."""

    key: str
    phase: str | None  # key of the phase that was scored; None: the encoder as it was published
    task: str
    family: str
    metric: str
    train_language: str | None
    settings: dict[str, Any]
    # language -> value (0..1), examples, majority (0..1), and threshold of a mining task
    languages: dict[str, dict[str, float]]
    flops: float
    device_seconds: float
    started: float
    ended: float
    files: dict[str, str]
    # Intermediate task -> what its scores are about, then before, saved_head, fresh_head (0..1, or None).
    retention: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: str = ""  # key of the folder that says what is right; empty: no predictions were kept
    layers: dict[str, dict[str, float]] = field(default_factory=dict)  # layer -> language -> value; vectors only
    activities: Activities = field(default_factory=dict)
    precision: str = ""
    device: str = ""
    kernels: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreviewRecord:
    """Record of a preview: how well the vectors of one set of weights explain the labels of one target (LogME)."""

    key: str
    phase: str | None  # key of the short phase; None: the encoder as it was published
    task: str
    value: float | None  # LogME, mean log evidence per label in nats; None: all labels are the same
    examples: int
    vectors: int
    flops: float  # of the forward pass alone
    device_seconds: float
    started: float
    ended: float
    precision: str = ""
    device: str = ""
    kernels: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def time_of(records: Iterable[PhaseRecord | ScoreRecord]) -> Activities:
    """Sum of the activities of records; those of earlier versions add nothing."""
    added: Activities = {}
    for activity, part in (pair for record in records for pair in record.activities.items()):
        sums = added.setdefault(activity, dict.fromkeys(part, 0.0))
        for unit, amount in part.items():
            sums[unit] += amount
    return added
