"""Source languages of intermediate phases, and named groups of target languages with their resource classes.

For the 50 languages of XTREME and XTREME-R. A language that is not here, or has no value, is in no group: nothing is
guessed.

CLASSES     Joshi et al. 2020 (arXiv 2004.09095), file lang2tax.txt; 0 is the least provided for, 5 the best. Uncertain:
            ht, which other copies of the list have as 1, and qu, of whose varieties the list has quz as 1 and quy as 0.
CC100_GB    gigabytes of the compressed monolingual files of CC-100 (Wenzek et al. 2020), as its page states them;
            Burmese with its Zawgyi file. No value is close to the limit of 1 GB where copies of the page may differ:
            the nearest are kk 0.889 and ka 1.1.

A source is `own` (what a task is usually trained in: English in the table), `all` (every language that it has training
data in, joined), or a language. Tasks of one phase take the same source; where one of them lacks it there is no such
phase, because a phase with one task in German and one in English answers no question. Raw text is not translated: it
comes in the languages that its description or `text` names, whatever the source. Dev data stay in a task's own
language, so English dev alone selects in every arm.

joshi_0 .. joshi_5   the class of Joshi et al. 2020, from left behind to best provided for
joshi_low            class at most 2
cc100_small          less than 1 GB of text in CC-100
unseen               not among the pretraining languages of the encoder at hand, of the 50 of XTREME and XTREME-R

A study asks for them in `report: {groups: [...]}`; its own, in `language_groups`, are always reported. What encoders
have seen is in sweep/models/registry.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sweep.config.axes import ALL, OWN
from sweep.config.study import Study
from sweep.errors import StudyError, nearest
from sweep.models.registry import registered
from sweep.tasks.task import Task

_BY_CLASS = {
    5: "ar de en es fr ja zh",
    4: "eu fa fi hi hu it ko nl pl pt ru tr vi",
    3: "af bg bn el et he id ka kk lt ms ro ta th tl uk ur",
    2: "ht mr pa sw wo yo",
    1: "az gu jv ml my qu te",
}
CLASSES: Mapping[str, int] = {language: number for number, names in _BY_CLASS.items() for language in names.split()}

# fmt: off
CC100_GB: Mapping[str, float] = {
    "yo": 0.0011, "qu": 0.0015, "wo": 0.0036, "ht": 0.0091, "jv": 0.037, "my": 0.224, "pa": 0.09, "gu": 0.242,
    "af": 0.305, "sw": 0.332, "mr": 0.334, "eu": 0.488, "te": 0.536, "tl": 0.701, "ml": 0.831, "bn": 0.86, "ur": 0.884,
    "kk": 0.889, "ka": 1.1, "ta": 1.3, "az": 1.3, "et": 1.7, "ms": 2.1, "hi": 2.5, "lt": 3.4, "ar": 5.4, "tr": 5.4,
    "he": 6.1, "el": 7.4, "it": 7.8, "nl": 7.9, "th": 8.7, "bg": 9.3, "pl": 12, "pt": 13, "es": 14, "fr": 14, "ko": 14,
    "uk": 14, "zh": 14, "ja": 15, "fi": 15, "hu": 15, "ro": 16, "de": 18, "fa": 20, "vi": 28, "id": 36, "ru": 46,
    "en": 82,
}
# fmt: on


Pair = tuple[tuple[str, ...], str]  # the tasks of an intermediate phase and their source; no tasks: no phase


def trained_in(task: Task, source: str) -> tuple[str, ...]:
    """The languages that a phase trains the task in; none where the task has no training data in the source."""
    if task.family.raw_text or source == OWN:
        return task.trained_in
    if source == ALL:
        return task.sources
    return (source,) if source in having(task) else ()


def judged_in(task: Task, languages: Sequence[str]) -> str:
    """The language of the dev data of a task that is trained in `languages`."""
    return languages[0] if task.family.raw_text else task.trained_in[0]


def having(task: Task) -> tuple[str, ...]:
    """The languages that a task has training data in."""
    return task.sources or task.trained_in


def source_settings(study: Study, tasks: Mapping[str, Task]) -> list[Pair]:
    """Each intermediate with each source that all of its tasks have.

    A source that means what `own` means, such as `en` for English tasks, is `own`: it is no other cell.
    """
    settings = ((names, _canonical([tasks[name] for name in names], source)) for names, source in _asked(study))
    return list(dict.fromkeys((names, source) for names, source in settings if source is not None))


def check_sources(study: Study, tasks: Mapping[str, Task], path: object) -> None:
    """Checks that every source is one that an intermediate task has. Raises StudyError."""
    used = _translatable(study, tasks)
    known = sorted({language for task in used for language in having(task)})
    for index, source in enumerate(study.axes.source):
        where = f"{path}: axes.source[{index}]"
        if source == ALL and not any(task.sources for task in used):
            problem = "'all', while no intermediate task has training data in more than one language"
            raise StudyError(where, problem, f"one of {', '.join([OWN, *known])} is expected")
        if source not in (OWN, ALL, *known):
            problem = f"the language {source!r}, in which no intermediate task has training data"
            expected = f"one of {', '.join([OWN, ALL, *known])} is expected"
            raise StudyError(where, problem, expected, nearest(source, [OWN, ALL, *known]))


def source_flags(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Notes of a plan on sources: cells that are left out, and what makes arms unequal."""
    used = _translatable(study, tasks)
    for source in study.axes.source:
        lacking = [task.name for task in used if not trained_in(task, source)]
        if lacking:
            why = "training data in one language only" if source == ALL else "no training data in it"
            has = "has" if len(lacking) == 1 else "have"
            yield f"source {source}: {', '.join(lacking)} {has} {why}; cells with {_it(lacking)} are left out"
    if ALL in study.axes.source and "full" in study.axes.volume:
        yield "source all: with volume 'full' it trains on more data than one language has; a number makes them equal"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "one of them"


def _asked(study: Study) -> Iterator[Pair]:
    for names in study.axes.intermediate:
        yield from ((names, source) for source in (study.axes.source if names else (OWN,)))


def _canonical(tasks: Sequence[Task], source: str) -> str | None:
    languages = [trained_in(task, source) for task in tasks]
    if not all(languages):
        return None
    return OWN if languages == [task.trained_in for task in tasks] else source


def _translatable(study: Study, tasks: Mapping[str, Task]) -> list[Task]:
    """The intermediate tasks that a source language makes a difference to, in the study's order."""
    names = dict.fromkeys(name for setting in study.axes.intermediate for name in setting)
    return [tasks[name] for name in names if not tasks[name].family.raw_text]


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
    """Checks that groups are defined, and of languages that a target has. Raises StudyError."""
    for index, name in enumerate(study.report.groups):
        if name not in (*NAMES, *study.language_groups):
            known = [*study.language_groups, *NAMES]
            expected = f"one of {', '.join(known)} is expected"
            raise StudyError(
                f"{path}: report.groups[{index}]", f"the unknown group {name!r}", expected, nearest(name, known)
            )
    languages = sorted(_languages(study, tasks))
    for group, members in study.language_groups.items():
        if group in NAMES:
            expected = "another name is expected, or report.groups"
            raise StudyError(f"{path}: language_groups.{group}", "a group that every study knows", expected)
        for index, language in enumerate(members):
            if language not in languages:
                where = f"{path}: language_groups.{group}[{index}]"
                problem = f"the language {language!r}, which no target has"
                raise StudyError(
                    where, problem, f"one of {', '.join(languages)} is expected", nearest(language, languages)
                )


def group_flags(study: Study, tasks: Mapping[str, Task]) -> Iterator[str]:
    """Notes of a plan on groups: targets without a group's languages, languages and encoders nothing is known of."""
    groups_by_encoder = groups_of(study)
    for group in dict.fromkeys(name for groups in groups_by_encoder.values() for name in groups):
        for target in study.axes.target:
            has = set(tasks[target].languages)
            named = {encoder: groups[group] for encoder, groups in groups_by_encoder.items() if group in groups}
            lacking = [encoder for encoder, languages in named.items() if not has & set(languages)]
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
