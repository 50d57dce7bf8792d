"""Facts about the share of train that is dev: drawn at random, every label in it, whole passages and documents."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import pytest
from family_cases import CASES

from sweep.data import IGNORED
from sweep.data.units import dev_size, drawn_as_dev
from sweep.errors import DataError
from sweep.tasks.classification import SEQUENCE
from sweep.tasks.describe import own_task
from sweep.tasks.question_answering import SPAN
from sweep.tasks.tagging import TOKEN

TENTH = Fraction(1, 10)
FAMILY_WITH = {"context": SPAN, "tags": TOKEN, "text": SEQUENCE}


def texts(*labels: int):
    return [{"text": f"text {number}", "pair": None, "label": label} for number, label in enumerate(labels)]


def shape_of(rows):
    """The family that has such rows."""
    return next(family for column, family in FAMILY_WITH.items() if column in rows[0])


def dev_of(rows, share=TENTH):
    return [row for row, is_dev in zip(rows, drawn_as_dev(shape_of(rows), rows, share).tolist(), strict=True) if is_dev]


@pytest.mark.parametrize("every", [2, 5, 10])
def test_labels_that_come_at_a_fixed_distance_are_all_in_dev_in_their_proportions(every):
    rows = texts(*([*[0] * (every - 1), 1] * (400 // every)))
    assert Counter(row["label"] for row in dev_of(rows)) == {0: 40 - 40 // every, 1: 40 // every}


def test_labels_that_stand_one_after_another_are_all_in_dev():
    assert Counter(row["label"] for row in dev_of(texts(*[0] * 300, *[1] * 90, *[2] * 10))) == {0: 30, 1: 9, 2: 1}


def test_the_parts_of_small_labels_add_up_to_the_share():
    dev = dev_of(texts(*list(range(6)) * 4))
    assert len(dev) == dev_size(24, TENTH) == 3
    assert len({row["label"] for row in dev}) == 3


@pytest.mark.parametrize("name", CASES)
def test_a_share_of_any_family_is_about_its_size_and_the_same_every_time(name):
    rows, family = CASES[name].rows, CASES[name].family
    dev = drawn_as_dev(family, rows, TENTH)
    assert dev_size(len(rows), TENTH) * 0.9 <= dev.sum() <= dev_size(len(rows), TENTH) * 1.1
    assert (drawn_as_dev(family, rows, TENTH) == dev).all()


@pytest.mark.parametrize("share", [TENTH, Fraction(1, 2), Fraction(9, 10)])
def test_questions_on_one_passage_stay_together_wherever_they_stand(share):
    rows = [{"id": "", "context": f"c{n % 20}", "question": f"q{n}", "answers": []} for n in range(100)]
    dev = {row["context"] for row in dev_of(rows, share)}
    assert len(dev_of(rows, share)) == 5 * len(dev) == 100 * share


def test_questions_without_an_answer_have_their_part():
    gold = [{"text": "c", "start": 0}]
    rows = [{"context": f"c{n}", "question": "q", "answers": gold if n % 3 else []} for n in range(300)]
    assert sum(not row["answers"] for row in dev_of(rows)) == 10


def test_sentences_of_a_document_stay_together_and_rare_tags_have_their_part():
    rows = [{"words": [str(n)], "tags": [0], "unit": f"d{n // 10}"} for n in range(400)]
    assert sorted(Counter(row["unit"] for row in dev_of(rows)).values()) == [10] * 4
    alone = [{"words": [str(n)], "tags": [0, 1 if n < 20 else 0, *[IGNORED] * (n % 9 == 0)]} for n in range(200)]
    assert sum(1 in row["tags"] for row in dev_of(alone)) == 2


def test_rows_that_say_the_same_stay_together():
    rows = [{"text": f"Text  {n // 2}" if n % 2 else f"text {n // 2}", "pair": None, "label": n % 2} for n in range(80)]
    chosen = drawn_as_dev(shape_of(rows), rows, TENTH)
    assert (chosen[::2] == chosen[1::2]).all()


def test_a_few_large_units_leave_neither_side_empty():
    rows = [{"text": str(n), "label": 0, "unit": "a" if n else "b"} for n in range(50)]
    assert [row["unit"] for row in dev_of(rows, Fraction(1, 100))] == ["b"]
    assert [row["unit"] for row in dev_of(rows, Fraction(99, 100))] == ["a"] * 49


def jsonl(tmp_path, share, **columns):
    lines = [json.dumps({"text": f"t{n}", "label": "ab"[n % 2], "passage": n // 4, "all": "x"}) for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    described = {"family": "sequence", "format": "jsonl", "labels": ["a", "b"], "train": "train.jsonl"}
    return own_task("case", {**described, "dev": share, "columns": columns}, tmp_path, "tasks.case").source


def test_train_is_exactly_what_is_not_dev_in_the_order_of_the_file(tmp_path):
    source = jsonl(tmp_path, 0.25)
    train, dev = ([row["text"] for row in source.rows(split, "en")] for split in ("train", "dev"))
    assert sorted([*train, *dev]) == sorted(f"t{n}" for n in range(40))
    assert (len(train), len(dev)) == (source.size("train", "en").examples, source.size("dev", "en").examples)
    assert train == sorted(train, key=lambda text: int(text[1:]))


def test_a_named_unit_is_never_divided_and_is_part_of_what_train_and_dev_depend_on(tmp_path):
    whole = {n // 4 for n in (int(row["text"][1:]) for row in jsonl(tmp_path, 0.2, unit="passage").rows("dev", "en"))}
    assert len(whole) == 2
    for split in ("train", "dev"):
        plain, named = jsonl(tmp_path, 0.2), jsonl(tmp_path, 0.2, unit="passage")
        assert plain.identity(split, "en") != named.identity(split, "en")


def test_one_passage_cannot_be_divided_and_the_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl: found 40 rows that all belong to one unit.*tasks\.case\.dev"):
        jsonl(tmp_path, 0.2, unit={"by": "label", "a": "{all}", "b": "{all}"}).rows("dev", "en")
