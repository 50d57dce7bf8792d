"""Named groups of languages: those that every study knows, and the user's own.

joshi_0 .. joshi_5   the class of Joshi et al. 2020, from left behind to best provided for
joshi_low            class at most 2
cc100_small          less than 1 GB of text in CC-100
unseen               not among the pretraining languages of the encoder at hand, of the 50 of XTREME and XTREME-R

A study asks for them in `report: {groups: [...]}`; its own, in `language_groups`, are always reported. Facts about
languages are in tasks/resources, what encoders have seen in planning/registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweep.config.study import Study
from sweep.errors import StudyError, nearest
from sweep.models.registry__shapes import registered
from sweep.plan.languages__resources import CC100_GB, CLASSES
from sweep.tasks.task import Task

LOW_CLASS, SMALL_GB = 2, 1.0
UNSEEN_GROUP = "unseen"
FIXED: Mapping[str, tuple[str, ...]] = {
    **{f"joshi_{number}": tuple(one for one in CLASSES if CLASSES[one] == number) for number in range(6)},
    "joshi_low": tuple(language for language in CLASSES if CLASSES[language] <= LOW_CLASS),
    "cc100_small": tuple(language for language in CC100_GB if CC100_GB[language] < SMALL_GB),
}
NAMES = (*FIXED, UNSEEN_GROUP)

Groups = dict[str, dict[str, tuple[str, ...]]]  # encoder -> group -> languages


def groups_of(study: Study) -> Groups:
    """The groups that a study reports, per encoder."""
    return {encoder: dict(_groups(study, encoder)) for encoder in study.axes.encoder}


def check_groups(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Refuses groups that nobody defines and languages that no target has. Raises StudyError."""
    for index, name in enumerate(study.report.groups):
        if name not in (*NAMES, *study.language_groups):
            known = [*study.language_groups, *NAMES]
            wanted = f"one of {', '.join(known)} is expected"
            raise StudyError(
                f"{path}: report.groups[{index}]", f"the unknown group {name!r}", wanted, nearest(name, known)
            )
    languages = sorted(_languages(study, tasks))
    for group, members in study.language_groups.items():
        if group in NAMES:
            wanted = "another name is expected, or report.groups"
            raise StudyError(f"{path}: language_groups.{group}", "a group that every study knows", wanted)
        for index, language in enumerate(members):
            if language not in languages:
                where = f"{path}: language_groups.{group}[{index}]"
                found = f"the language {language!r}, which no target has"
                raise StudyError(
                    where, found, f"one of {', '.join(languages)} is expected", nearest(language, languages)
                )


def group_flags(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Targets that say nothing about a group, and languages and encoders of which nothing is known."""
    found = groups_of(study)
    for group in dict.fromkeys(name for groups in found.values() for name in groups):
        for target in study.axes.target:
            has = set(tasks[target].languages)
            lacking = [encoder for encoder, named in found.items() if group in named and not has & set(named[group])]
            if lacking:
                whose = f" for {', '.join(lacking)}" if group == UNSEEN_GROUP else ""
                yield f"group {group}: {target} has none of its languages{whose}"
    if UNSEEN_GROUP in study.report.groups:
        unknown = [encoder for encoder in study.axes.encoder if _unseen(study, encoder) is None]
        if unknown:
            yield f"group {UNSEEN_GROUP}: the pretraining languages of {', '.join(unknown)} are not known"
    yield from _unknown_languages(study, tasks)


def _unknown_languages(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    languages = _languages(study, tasks)
    for name in study.report.groups:
        facts = CC100_GB if name == "cc100_small" else CLASSES
        if name in NAMES and (unknown := sorted(languages - set(facts))):
            shown = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
            yield f"group {name}: nothing is known of {shown}, so they are not in it"


def _groups(study: Study, encoder: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from study.language_groups.items()
    for name in study.report.groups:
        if name in FIXED:
            yield name, FIXED[name]
        elif name == UNSEEN_GROUP and (unseen := _unseen(study, encoder)) is not None:
            yield name, tuple(sorted(unseen))


def _unseen(study: Study, encoder: str) -> frozenset[str] | None:
    """Languages that an encoder has not seen; None where that is not known."""
    seen = registered(encoder, study.encoders.get(encoder)).languages
    return frozenset(CLASSES) - seen if seen is not None else None


def _languages(study: Study, tasks: Mapping[str, Task]) -> set[str]:
    return {language for name in study.axes.target for language in tasks[name].languages}
