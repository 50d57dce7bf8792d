"""What a study says of how the tasks of a phase are mixed, checked against the tasks that its phases have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.config.phases import Text
from sweep.config.study import Study
from sweep.errors import StudyError, nearest
from sweep.tasks.task import Task


def check_mixing(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Ratios must be of tasks that are mixed and leave something for the others. Raises StudyError."""
    if study.pretrain is not None:
        _check_text(study.pretrain.text, [tasks[study.pretrain.task]], f"{path}: pretrain.text")
    if study.target is not None:
        _check_text(study.target.text, [], f"{path}: target.text")
    if study.intermediate is not None:
        used = dict.fromkeys(name for names in study.axes.intermediate for name in names)
        _check_text(study.intermediate.text, [tasks[name] for name in used], f"{path}: intermediate.text")
        _check_ratios(study.intermediate.sampling.ratios, study.axes.intermediate, f"{path}: intermediate")


def _check_ratios(ratios: Mapping[str, float], phases: Sequence[tuple[str, ...]], where: str) -> None:
    mixed = [names for names in phases if len(names) > 1]
    known = sorted({name for names in mixed for name in names})
    for name in ratios:
        if name not in known:
            wanted = f"one of {', '.join(known)}" if known else "an intermediate of several tasks"
            found = f"{name!r}, which no phase mixes with another task"
            raise StudyError(f"{where}.sampling.ratios", found, f"{wanted} is expected", nearest(name, known))
    for names in mixed:
        total, free = sum(ratios.get(name, 0.0) for name in names), [name for name in names if name not in ratios]
        found = f"{total:g} for {'+'.join(names)}"
        if not free and abs(total - 1) > 1e-6:
            raise StudyError(f"{where}.sampling.ratios", f"{found}, each with a ratio", "1 together is expected")
        if free and total > 1 - 1e-6:
            found += f", which leaves nothing for {', '.join(free)}"
            raise StudyError(f"{where}.sampling.ratios", found, "less than 1 together is expected")


def _check_text(text: Text, tasks: Sequence[Task], where: str) -> None:
    raw = [task for task in tasks if task.family.raw_text]
    if text != Text() and not raw:
        raise StudyError(where, "settings of raw text", "a masked task among the phase's tasks is expected")
    for task in raw:
        for index, language in enumerate(text.languages or ()):
            if language not in task.trained_in:
                found = f"the language {language!r}, in which {task.name} has no text"
                wanted = f"one of {', '.join(task.trained_in)} is expected"
                raise StudyError(f"{where}.languages[{index}]", found, wanted, nearest(language, task.trained_in))
