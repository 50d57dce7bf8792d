"""Facts about when two answers are the same: to SQuAD's script in any language, to MLQA's by language."""

from __future__ import annotations

import pytest
from family_cases import task_of

from sweep.data import Row
from sweep.tasks.question_answering import NORMALISERS, SPAN, answer_scores, mlqa, squad


def test_squad_takes_out_ascii_punctuation_and_english_articles_alone() -> None:
    assert squad("The  Cat's, a DOG; an—owl! Der Hund，一只") == "cats dog —owl der hund，一只"


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "The “Cat’s”, a DOG; an—owl!", "cats dog anowl"),  # dash and quotes go, before articles are looked for
        ("en", "$5 + 3 = `8`", "5 3 8"),  # symbols of ASCII go, too
        ("en", "5 € ± 3", "5 € ± 3"),  # those of others stay
        ("es", "La casa de los Unos, ¿el río?", "casa de río"),
        ("de", "Der Hund des Mannes, ein-er", "hund mannes"),
        ("vi", "Những cái của là mèo", "mèo"),
        ("hi", "यह एक, घर है।", "यह एक घर है"),  # Hindi has no articles, and its full stop is punctuation
        ("ar", "في الشمال الشرقي", "في شم شرقي"),  # every such pair of letters goes, also inside a word
        ("zh", "北京，China 2008年的", "北 京 china 2008 年 的"),
        ("tr", "the bir", "the bir"),  # no rules are known
    ],
)
def test_mlqa_normalises_by_language(language: str, text: str, wanted: str) -> None:
    assert mlqa(language)(text) == wanted


@pytest.mark.parametrize(
    ("prediction", "answers", "wanted"),
    [
        ("the cat", ["Cat."], (1.0, 1.0)),
        ("black cat", ["cat", "black cats"], (2 / 3, 0.0)),
        ("", ["cat"], (0.0, 0.0)),
        ("the", ["a"], (0.0, 1.0)),  # nothing is left of either: no common word, but equal
        (None, ["a"], (0.0, 0.0)),  # nothing was said
        ("", [], (1.0, 1.0)),
        ("cat", [], (0.0, 0.0)),
    ],
)
def test_an_answer_is_judged_against_the_best_gold_one(
    prediction: str | None, answers: list[str], wanted: tuple[float, float]
) -> None:
    assert answer_scores(prediction, answers) == pytest.approx(wanted)


def test_chinese_words_in_common_are_characters_to_mlqa_and_whole_phrases_to_squad() -> None:
    assert answer_scores("北京大学", ["北京大"], mlqa("zh")) == pytest.approx((6 / 7, 0.0))
    assert answer_scores("北京大学", ["北京大"], squad) == (0.0, 0.0)


def test_a_task_says_how_its_answers_are_compared() -> None:
    row: Row = {
        "id": "1",
        "context": "in den Häusern",
        "question": "?",
        "answers": [{"text": "den Häusern", "start": 3}],
    }
    judged = [
        SPAN.judge(["Häusern"], [row], task_of(SPAN, normaliser=name), language)[0].tolist()
        for name in NORMALISERS
        for language in ("de", "en")
    ]
    less = [pytest.approx(2 / 3), 0.0, 1.0]
    assert judged == [less, less, [1.0, 1.0, 1.0], less]
