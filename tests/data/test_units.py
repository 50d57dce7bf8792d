"""Facts about which test examples belong together: passages, documents, rows that say so, translations of one item."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sweep.data.encoded import EncodedSequence, from_sequences
from sweep.data.rows import Split
from sweep.data.units import marks_of, units
from sweep.tasks.classification import SEQUENCE
from sweep.tasks.describe import own_task
from sweep.tasks.question_answering import SPAN
from sweep.tasks.retrieval import EMBEDDING
from sweep.train.data import sample, sampled_units


def shape_of(rows):
    """The family that has such rows."""
    return SPAN if "context" in rows[0] else SEQUENCE if "label" in rows[0] else EMBEDDING


def numbered(**rows):
    """Unit numbers as lists, by language."""
    return {
        language: found.tolist()
        for language, found in units({k: marks_of(shape_of(v), v) for k, v in rows.items()}).items()
    }


def question(name: str, context: str):
    return {"id": name, "context": context, "question": "who?", "answers": []}


def pair(premise: str):
    return {"text": premise, "pair": "so", "label": 0, "unit": premise}


def test_questions_on_one_passage_and_their_translations_are_one_unit():
    en = [question(f"q{number}", f"passage {number // 5}") for number in range(20)]
    de = [question(f"q{number}", f"Absatz {number // 5}") for number in reversed(range(20))]
    found = numbered(en=en, de=de)
    assert found["en"] == [number // 5 for number in range(20)]
    assert found["de"] == found["en"][::-1]


def test_a_language_with_some_of_the_questions_meets_the_others_at_those_it_has():
    en = [question(f"q{number}", f"passage {number // 2}") for number in range(10)]
    sw = [question("q7", "kifungu"), question("own", "kingine")]
    found = numbered(en=en, sw=sw)
    assert found["sw"][0] == found["en"][6] == found["en"][7]
    assert found["sw"][1] not in found["en"]


def test_ids_that_are_counted_in_every_file_do_not_glue_passages():
    en = [question(str(number), f"passage {number // 5}") for number in range(100)]
    de = [question(str(number), f"Absatz {number // 7}") for number in range(100)]
    found = numbered(en=en, de=de)
    assert len(set(found["en"])) == 20
    assert len(set(found["de"])) == 15


def test_rows_without_a_group_are_units_and_meet_their_translations_by_position():
    rows = [{"text": str(number), "pair": None, "label": 0} for number in range(4)]
    found = numbered(en=rows, de=rows, fr=rows[:2])
    assert len(set(found["en"])) == 4
    assert found["de"] == found["en"]
    assert found["fr"] == found["en"][:2]


def test_hypotheses_of_one_premise_are_a_unit_in_all_languages_also_where_a_translation_stands_twice():
    en, de = [pair(f"en {number // 3}") for number in range(30)], [pair(f"de {number // 3}") for number in range(30)]
    de[3:6] = [pair("de 0")] * 3  # two premises were translated alike
    found = numbered(en=en, de=de)
    assert found["de"] == found["en"]
    assert found["en"] == [0] * 6 + [number // 3 - 1 for number in range(6, 30)]


def test_units_named_alike_are_one_in_all_languages_whatever_their_order():
    en = [{"text": str(n), "label": 0, "unit": f"flores {n // 2}"} for n in range(6)]
    found = numbered(en=en, de=en[::-1])
    assert found["de"] == found["en"][::-1]


def test_documents_of_languages_that_are_no_translations_stay_apart():
    en = [{"words": ["a"], "tags": [0], "unit": f"en {n // 10}"} for n in range(60)]
    de = [{"words": ["a"], "tags": [0], "unit": f"de {n // 7}"} for n in range(60)]
    found = numbered(en=en, de=de)
    assert (len(set(found["en"])), len(set(found["de"]))) == (6, 9)


def test_sentence_pairs_meet_at_their_pivot_sentence():
    de = [{"text": f"de {n}", "pair": f"en {n}"} for n in range(5)]
    found = numbered(de=de, fr=[{"text": "fr", "pair": "en 4"}, {"text": "fr", "pair": "other"}])
    assert found["fr"][0] == found["de"][4]
    assert found["fr"][1] not in found["de"]


# Files


def rows_of(tmp_path, name, content, split="test", **description):
    (tmp_path / name).write_text(content)
    task = own_task("case", {split: name, "languages": ["en"], **description}, tmp_path, "tasks.case")
    return task, task.source.rows(split, "en")


SENTENCE = "1\tBo\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n"


@pytest.mark.parametrize("form", ["conllu", "conllu-written"])
def test_sentences_of_a_conllu_document_are_a_unit(form, tmp_path):
    content = f"{SENTENCE}# newdoc id = n1\n# sent_id = 1\n{SENTENCE}{SENTENCE}# newdoc\n{SENTENCE}"
    _, rows = rows_of(tmp_path, "a.conllu", content, family="token", format=form, labels=["NOUN"])
    assert "unit" not in rows[0]
    assert [row["unit"] for row in rows[1:3]] == ["n1", "n1"]
    assert rows[3]["unit"] not in ("n1", "")


def test_sentences_between_docstarts_are_a_unit(tmp_path):
    content = "-DOCSTART- O\n\na O\n\nb O\n\n-DOCSTART- O\n\nc O\n"
    _, rows = rows_of(tmp_path, "a.conll", content, family="token", format="conll", labels=["O"])
    assert len(rows) == 3
    assert rows[0]["unit"] == rows[1]["unit"] != rows[2]["unit"]


def topics(tmp_path, **columns):
    lines = [json.dumps({"text": str(n), "label": "a", "passage": n // 2, "link": "x"}) for n in range(8)]
    known = {"train": "a.jsonl", "dev": "a.jsonl", "family": "sequence", "format": "jsonl", "labels": ["a", "b"]}
    return rows_of(tmp_path, "a.jsonl", "\n".join(lines), **known, columns=columns)


def test_a_study_names_the_column_that_rows_of_a_unit_share(tmp_path):
    _, rows = topics(tmp_path, unit="passage")
    assert numbered(en=rows)["en"] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_named_unit_is_part_of_what_is_scored_and_of_nothing_that_is_trained(tmp_path):
    (plain, _), (named, _) = topics(tmp_path), topics(tmp_path, unit="passage")
    for split, same in (("train", True), ("dev", True), ("test", False)):
        assert (plain.source.identity(split, "en") == named.source.identity(split, "en")) == same


def test_a_unit_is_one_whichever_of_its_questions_were_drawn(tmp_path):
    contents = {}
    for language, own in (("en", range(40)), ("de", range(10, 50))):
        paragraphs = [
            {"context": f"{language} {n}", "qas": [{"id": f"q{n}-{m}", "question": "?", "answers": []} for m in "ab"]}
            for n in own
        ]
        contents[language] = {"data": [{"paragraphs": paragraphs}]}
        (tmp_path / f"{language}.json").write_text(json.dumps(contents[language]))
    described = {"family": "span", "format": "squad", "languages": ["en", "de"], "test": "{language}.json"}
    task = own_task("case", described, tmp_path, "tasks.case")
    encoded = from_sequences(EncodedSequence([1], number, [0, 0], offsets=[(0, 1)]) for number in range(80))
    rows = {language: Split(task.source.rows("test", language), ()) for language in ("en", "de")}
    drawn = {language: sample(encoded, rows[language], task, language, 30) for language in rows}
    found = sampled_units(drawn)
    for language, one in drawn.items():
        assert len(found[language]) == len(one.rows) == 30
    number = dict(zip([row["context"][3:] for row in drawn["en"].rows], found["en"].tolist(), strict=True))
    others = dict(zip([row["context"][3:] for row in drawn["de"].rows], found["de"].tolist(), strict=True))
    shared = number.keys() & others.keys()
    assert len(shared) > 5
    assert {name: number[name] for name in shared} == {name: others[name] for name in shared}
    assert len({*number.values(), *others.values()}) == len(number.keys() | others.keys())
    assert found["en"].dtype == np.int64
