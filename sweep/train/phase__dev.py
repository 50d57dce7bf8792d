"""What a phase is judged by: the dev scores of its tasks, and whether it has learned anything.

A task has collapsed where its dev score is within the phase's `collapse_margin` of the best constant answer; where that
leaves little room, because one class is most of dev, within that share of what is left (`is_collapsed`). A phase
has collapsed where every task that judges it has; one that collapsed beside others that did not is marked, and the
phase is passed on. Mixed-in text is there to keep the encoder multilingual, not to be good at: it judges a phase only
where it is alone.

Answers are compared as SQuAD's script does, whatever a target's own script does in its test languages: XTREME chooses
checkpoints so, and targets that are trained on the same data share a phase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.models.model import Chainable
from sweep.plan.languages import judged_in
from sweep.plan.recipe import Phase
from sweep.tasks.task import Task
from sweep.train.context import Bench
from sweep.train.context__meter import encoded_flops
from sweep.train.data import Sample, sample
from sweep.train.score import score

ROOM = 0.1  # above the best constant answer; with less the margin is smaller
SQUAD = "squad"  # a key of sweep.tasks.question_answering__normalise.NORMALISERS


class DevSets:
    """The dev sets of a phase, each in its task's own language, English, whatever language it is trained in."""

    def __init__(self, bench: Bench, phase: Phase, samples: Sequence[Sample]) -> None:
        self._bench, self._settings, self._dev = bench, phase.recipe.settings, samples
        tokens = bench.runtime.score_batch_tokens
        self._flops = [encoded_flops(bench.encoder.shape, [one.encoded], tokens) for one in self._dev]
        self._majority = {one.task.name: one.majority() for one in self._dev}
        self.latest: dict[str, float] = {}  # task -> dev score of the last evaluation

    @classmethod
    def read(cls, bench: Bench, tasks: Sequence[Task], phase: Phase) -> DevSets:
        """Encodes what is not encoded yet."""
        judging = [task for task in tasks if not task.family.raw_text] or tasks
        return cls(bench, phase, [_sample(bench, task, phase) for task in judging])

    def evaluate(self, model: Chainable, heard: Callable[[], None]) -> float:
        """Mean over the tasks of their metrics, 0..1; calls `heard` after every batch, what it cost taken down."""
        tokens, precision = self._bench.runtime.score_batch_tokens, self._bench.precision
        for one, flops in zip(self._dev, self._flops, strict=True):
            name = one.task.name
            scoring = score(model, {"dev": one.encoded}, name, batch_tokens=tokens, precision=precision)
            outputs = self._bench.meter.scored(flops, scoring, lambda _: heard())
            self.latest[name] = one.value(one.statistics(one.predictions(outputs[0]["dev"])))
        return sum(self.latest.values()) / len(self.latest)

    def selected(self, points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Of the evaluations of an attempt, the one whose weights were kept."""
        best = self._settings.select == "best"
        return max(points, key=lambda point: (point["value"], -point["step"])) if best else points[-1]

    def verdict(self, values: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        """Per task its dev score, that of the best constant answer, and whether it collapsed."""
        margin = self._settings.collapse_margin
        found = {}
        for name, value in values.items():
            collapsed = is_collapsed(value, self._majority[name], margin)
            found[name] = {"dev": value, "majority": self._majority[name], "collapsed": collapsed}
        return found

    def majority(self) -> float:
        """Mean over the tasks of the best constant answers' dev scores."""
        return sum(self._majority.values()) / len(self._majority)


def _sample(bench: Bench, task: Task, phase: Phase) -> Sample:
    trained = dict(zip(phase.recipe.tasks, phase.recipe.languages, strict=True))[task.name]
    language, settings = judged_in(task, trained), phase.recipe.settings
    digest = bench.plan.rows[task.name, "dev", language]
    encoded = bench.reader.encoded(task, digest, "dev", language, settings.max_length)
    return sample(encoded, replace(task, normaliser=SQUAD), "dev", language, settings.dev_examples)


def is_collapsed(value: float, constant: float, margin: float) -> bool:
    """Whether a dev score shows nothing beyond the best constant answer, both 0..1.

    The margin is that of a dev set with a tenth of its answers or more left to find, and shrinks with what is left: at
    0.99 a margin of 0.01 is 0.001, which one right answer in a thousand exceeds. Where one answer is always right
    nothing can be told, and at a margin of -1 nothing is.
    """
    room = 1 - constant
    return margin > -1 and room > 0 and value <= constant + margin * min(1.0, room / ROOM)


def has_collapsed(verdict: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether no task of a phase has learned anything."""
    return all(entry["collapsed"] for entry in verdict.values())
