"""When two answers are the same: the rules of the SQuAD v1.1 script and of the MLQA script. Unicode's normal forms.

XTREME compares answers as SQuAD does in every language of XQuAD and TyDiQA, and as MLQA does in MLQA alone.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

Normaliser = Callable[[str], str]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")


class _Punctuation(dict[int, int | None]):
    """For str.translate: takes out Unicode's punctuation (categories P*) and what ASCII counts as such."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        dropped = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = None if dropped else code
        return self[code]


_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNICODE_PUNCTUATION = _Punctuation()
_ENGLISH = re.compile(r"\b(a|an|the)\b")
_CHINESE = re.compile(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+")  # characters one by one, all else by blanks
_ARTICLES = {
    "ar": re.compile("ال"),  # the official pattern is `\sال^|ال`, whose first half nothing matches
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "en": _ENGLISH,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
}


def squad(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces; the same in every language."""
    return " ".join(_ENGLISH.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def mlqa(language: str) -> Normaliser:
    """Lower case, no punctuation of any script, none of the language's articles, Chinese characters one by one.

    The script knows en es de vi ar hi zh and refuses others; here those have no articles.
    """
    articles = _ARTICLES.get(language)

    def normalised(text: str) -> str:
        text = text.lower().translate(_UNICODE_PUNCTUATION)
        if articles:
            text = articles.sub(" ", text)
        return " ".join(_CHINESE.findall(text) if language == "zh" else text.split())

    return normalised


NORMALISERS: dict[str, Callable[[str], Normaliser]] = {"squad": lambda language: squad, "mlqa": mlqa}  # noqa: ARG005


def answer_scores(prediction: str | None, answers: Sequence[str], normalise: Normaliser = squad) -> tuple[float, float]:
    """(F1, exact match) in 0..1 against the best gold answer; without any, both say whether the prediction is empty.

    As in both scripts two texts without a common word have F1 0, even where both are empty after normalisation, and a
    question that nothing is predicted for (None) scores 0.
    """
    if prediction is None:
        return 0.0, 0.0
    found = normalise(prediction)
    if not answers:
        return (0.0, 0.0) if found else (1.0, 1.0)
    wanted = [normalise(answer) for answer in answers]
    return max(_f1(found, answer) for answer in wanted), float(found in wanted)


def _f1(found: str, wanted: str) -> float:
    if found == wanted:
        return float(bool(found))
    found_words, wanted_words = found.split(), wanted.split()
    common = (Counter(found_words) & Counter(wanted_words)).total()
    return 2 * common / (len(found_words) + len(wanted_words)) if common else 0.0


def in_form(row: Mapping[str, Any], form: str) -> dict[str, Any]:
    """A row of extractive question answering with all its text in a normal form, and its answers' offsets with it.

    An offset counts characters of the context as it was, or of the context in one of the forms: where the answer stands
    decides.
    """
    chosen, context = cast(Form, form), str(row["context"])
    texts = {name: unicodedata.normalize(chosen, row[name]) for name in ("context", "question")}
    answers = [_moved(answer, context, texts["context"], chosen) for answer in row["answers"]]
    return {**row, **texts, "answers": answers}


def _moved(answer: Mapping[str, Any], before: str, after: str, form: Form) -> dict[str, Any]:
    text, start = unicodedata.normalize(form, answer["text"]), int(answer["start"])
    if start < 0:
        return {"text": text, "start": start}
    counted = (before, *(unicodedata.normalize(one, before) for one in FORMS))
    moved = [len(unicodedata.normalize(form, context[:start])) for context in counted]
    return {"text": text, "start": next((at for at in moved if text and after.startswith(text, at)), moved[0])}


def forms_apart(context: str, answer: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(form of the context, of the answer, a form in which the answer is at its offset) where it is not as they are.

    None where no form helps.
    """
    row = {"context": context, "question": "", "answers": [answer]}
    for form in FORMS:
        read = in_form(row, form)
        [found] = read["answers"]
        if found["text"] and found["start"] >= 0 and read["context"].startswith(found["text"], found["start"]):
            return _form_of(context), _form_of(answer["text"]), form
    return None


def _form_of(text: str) -> str:
    return next((form for form in FORMS if unicodedata.is_normalized(form, text)), "no one form")
