"""Facts that runs of a study have learned and its ledger keeps: one writer and one reader of their names and texts.

Commits of hub data sets and encoders, shapes of hub encoders, row counts, rows in common, sizes of what was loaded, dev
scores at rungs, memory and pace on shared devices, time that parts of chains took, and what a report needs of the
study. The ledger's table holds (name, text) pairs; nobody else builds a name or parses a text. Names never change:
ledgers outlive versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

from sweep.data import Size
from sweep.keys import fingerprint
from sweep.models.registry import Shape
from sweep.plan.speed import Place, Taken
from sweep.tasks.data_check import SharedRows

STUDY, FILE, PLAN, PREVIEWS, CORES = "study", "study:file", "plan", "previews", "device:cores"


@dataclass(frozen=True)
class TaskData:
    """All rows that a study reads of a task."""

    task: str
    digest: str  # of its rows
    languages: tuple[str, ...]  # in which intermediate phases train it

    @property
    def _name(self) -> str:
        return ":".join(["read", self.task, self.digest, *self.languages])


@dataclass(frozen=True)
class RowsRead:
    """Row counts of a task whose rows were all read."""

    rows: int
    train: Mapping[str, int]  # language -> training rows
    doubts: tuple[str, ...]  # what weakens scores on it, in sentences


@dataclass(frozen=True)
class Reached:
    """Dev score and cost of a target phase when it paused at a rung."""

    dev: float  # 0..1
    flops: float  # of the phase so far
    device_seconds: float


@dataclass(frozen=True)
class Facts:
    """An immutable set of facts: `facts.shape(...)` reads one, `facts.with_shape(...)` is the set with one more.

    `older | newer` has what either knows; where both do, the newer one counts. Each reader returns None where nothing
    is known.
    """

    texts: Mapping[str, str] = field(default_factory=dict)  # by name, as the ledger keeps them

    def __or__(self, newer: Facts) -> Facts:
        return Facts({**self.texts, **newer.texts})

    def __bool__(self) -> bool:
        return bool(self.texts)

    def _with(self, name: str, text: str) -> Facts:
        return Facts({**self.texts, name: text})

    def _json(self, name: str) -> Any:
        text = self.texts.get(name)
        return None if text is None else json.loads(text)

    def _numbers(self, name: str) -> list[float] | None:
        text = self.texts.get(name)
        return None if text is None else [float(number) for number in text.split()]

    def _kind(self, kind: str) -> Iterator[tuple[str, str]]:
        """(name without its kind, text) of all facts of a kind."""
        return ((name.removeprefix(kind), text) for name, text in self.texts.items() if name.startswith(kind))

    # -- the study -----------------------------------------------------------------------------------------------------

    @property
    def study(self) -> str | None:
        """The name of the study that a results folder belongs to."""
        return self.texts.get(STUDY)

    def with_study(self, name: str) -> Facts:
        return self._with(STUDY, name)

    @property
    def study_file(self) -> str | None:
        """Path of the study file at the last run, relative to the results folder, so that both can be moved."""
        return self.texts.get(FILE)

    def with_study_file(self, path: str) -> Facts:
        return self._with(FILE, path)

    @property
    def plan(self) -> dict[str, Any]:
        """Summary of the plan for the report, as `sweep plan --json` prints it; {} where no run has made one."""
        return self._json(PLAN) or {}

    def with_plan(self, summary: Mapping[str, Any]) -> Facts:
        return self._with(PLAN, json.dumps(summary))

    @property
    def previews(self) -> list[dict[str, str]]:
        """The previews that `sweep preview` has asked for: columns of its cell that name each, and its key."""
        return self._json(PREVIEWS) or []

    def with_previews(self, entries: Sequence[Mapping[str, str]]) -> Facts:
        return self._with(PREVIEWS, json.dumps(entries))

    # -- data and encoders ---------------------------------------------------------------------------------------------

    def data_commit(self, data_set: str) -> str | None:
        """The commit of a hub data set (`HubPart.data_set`): one for all tasks that read it."""
        return self.texts.get(f"data:{data_set}")

    def with_data_commit(self, data_set: str, commit: str) -> Facts:
        return self._with(f"data:{data_set}", commit)

    def encoder_commit(self, location: str) -> str | None:
        """The commit of a hub encoder."""
        return self.texts.get(f"encoder:{location}")

    def with_encoder_commit(self, location: str, commit: str) -> Facts:
        return self._with(f"encoder:{location}", commit)

    def shape(self, location: str, commit: str | None) -> Shape | None:
        """The shape of a hub encoder, which no plan knows before its first use."""
        known = self._json(f"shape:{location}:{commit}")
        return None if known is None else Shape(**known)

    def with_shape(self, location: str, commit: str | None, shape: Shape) -> Facts:
        return self._with(f"shape:{location}:{commit}", json.dumps(asdict(shape)))

    def is_encoder_checked(self, digest: str, families: Sequence[str]) -> bool:
        """Whether an encoder was found able to do tasks of these families."""
        return _checked(digest, families) in self.texts

    def with_encoder_checked(self, digest: str, families: Sequence[str]) -> Facts:
        return self._with(_checked(digest, families), "yes")

    def rows_read(self, data: TaskData) -> RowsRead | None:
        """Row counts and doubts of a task; None where nobody has read its rows, or they have changed since."""
        known = self._json(data._name)
        return None if known is None else RowsRead(known["rows"], known["train"], tuple(known["doubts"]))

    def with_rows_read(self, data: TaskData, rows: RowsRead) -> Facts:
        return self._with(data._name, json.dumps(asdict(rows)))

    def shared_rows(self, training: Sequence[str], target: TaskData) -> SharedRows | None:
        """Rows that training data, given by the digests of its parts, has in common with a target."""
        known = self._json(_shared(training, target))
        if known is None:
            return None
        pairs = {
            split: {language: tuple(pair) for language, pair in known[split].items()}
            for split in ("test", "dev", "train")
        }
        return SharedRows(**pairs, trained=tuple(known["trained"]))

    def with_shared_rows(self, training: Sequence[str], target: TaskData, shared: SharedRows) -> Facts:
        return self._with(_shared(training, target), json.dumps(asdict(shared), sort_keys=True))

    # -- measurements --------------------------------------------------------------------------------------------------

    @property
    def sizes(self) -> dict[tuple[str, str, str], Size]:
        """(task, split, language) -> what was really loaded, where a plan has estimates."""
        sizes = {}
        for name, text in self._kind("size:"):
            task, split, language = name.rsplit(":", 2)
            examples, *means = text.split()
            sizes[task, split, language] = Size(int(examples), *map(float, means))
        return sizes

    def with_size(self, task: str, split: str, language: str, size: Size) -> Facts:
        means = [mean for mean in (size.tokens, size.sequences) if mean is not None]
        numbers = [str(size.examples), *(f"{mean:.3f}" for mean in means)]
        return self._with(f"size:{task}:{split}:{language}", " ".join(numbers))

    def reached(self, phase: str, rung: float) -> Reached | None:
        """Dev score and cost of the target phase with this key at a rung, a share of its steps."""
        known = self._numbers(f"rung:{phase}:{rung:g}")
        return None if known is None else Reached(*known)

    def with_reached(self, phase: str, rung: float, reached: Reached) -> Facts:
        numbers = (reached.dev, reached.flops, reached.device_seconds)
        return self._with(f"rung:{phase}:{rung:g}", " ".join(map(repr, numbers)))

    @property
    def furthest(self) -> dict[str, Reached]:
        """Key of a target phase -> where it stood at the last rung at which it paused."""
        known = [(name.split(":")[0], Reached(*map(float, text.split()))) for name, text in self._kind("rung:")]
        return dict(sorted(known, key=lambda pair: pair[1].flops))

    def memory(self, work: str) -> tuple[float, float] | None:
        """(bytes that a kind of work needs, bytes that the device has)."""
        known = self._numbers(f"memory:{work}")
        return None if known is None else (known[0], known[1])

    def with_memory(self, work: str, needed: float, device: float) -> Facts:
        return self._with(f"memory:{work}", f"{needed:.0f} {device:.0f}")

    def pace(self, work: str, chains: int) -> float | None:
        """Device-seconds per FLOP of a kind of work where `chains` of them share a device."""
        known = self._numbers(f"pace:{work}:{chains}")
        return None if known is None else known[0]

    def with_pace(self, work: str, chains: int, device_seconds_per_flop: float) -> Facts:
        return self._with(f"pace:{work}:{chains}", repr(device_seconds_per_flop))

    @property
    def taken(self) -> dict[Place, Taken]:
        """Encoder and kinds of work -> time that parts of chains of these kinds have taken."""
        known = ((tuple(json.loads(name)), json.loads(text)) for name, text in self._kind("taken:"))
        return {place: Taken(*numbers) for place, numbers in known}

    def with_taken(self, place: Place, taken: Taken) -> Facts:
        return self._with(f"taken:{json.dumps(place)}", json.dumps(astuple(taken)))

    @property
    def cores_per_device(self) -> float | None:
        """Cores that a machine has for each of its GPUs."""
        known = self._numbers(CORES)
        return None if known is None else known[0]

    def with_cores_per_device(self, cores: float) -> Facts:
        return self._with(CORES, f"{cores:g}")


NO_FACTS = Facts()


def _checked(digest: str, families: Sequence[str]) -> str:
    return f"checked:encoder:{digest}:{'+'.join(families)}"


def _shared(training: Sequence[str], target: TaskData) -> str:
    return f"shared:{fingerprint([list(training), target._name])}"
