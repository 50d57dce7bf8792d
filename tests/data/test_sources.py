"""A data set described in the study file: what becomes of it, and what is said where it cannot be."""

from __future__ import annotations

import bz2
import json
import os
import pickle
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sweep.data import IGNORED, Size
from sweep.errors import DataError, StudyError
from sweep.keys import fingerprint
from sweep.tasks.catalog import publishers
from sweep.tasks.data_check import check
from sweep.tasks.describe import own_task
from sweep.tasks.description import DESCRIPTION, Described
from sweep.tasks.table import HUB

TOPICS = {
    "family": "sequence",
    "format": "tsv",
    "columns": {"text": "sentence", "label": "category"},
    "labels": ["sports", "travel"],
    "languages": {"en": "eng", "de": "deu"},
    "train": "{code}/train.tsv",
    "dev": "{code}/dev.tsv",
    "test": "{code}/test.tsv",
}


@pytest.fixture
def folder(tmp_path):
    """A root with the files of TOPICS."""
    for code in ("eng", "deu"):
        write(tmp_path / code / "test.tsv", f"sentence\tcategory\n{code} one\tsports\n{code} two\ttravel\n")
    write(tmp_path / "eng/train.tsv", "sentence\tcategory\n" + "".join(f"t{i}\tsports\n" for i in range(10)))
    write(tmp_path / "eng/dev.tsv", "sentence\tcategory\nd\ttravel\n")
    return tmp_path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def task(root, **changes):
    description = {key: value for key, value in {**TOPICS, **changes}.items() if value is not None}
    return own_task("topics", description, root, "tasks.topics")


def only(root, **description):
    """A task whose test split, English alone, is all it has."""
    return own_task("t", {"languages": ["en"], **description}, root, "tasks.t")


def study_error(root, **changes) -> str:
    with pytest.raises(StudyError) as caught:
        task(root, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def data_error(call) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What a good description gives


def test_rows_have_the_columns_of_the_family_and_labels_as_integers(folder):
    assert task(folder).source.rows("test", "de") == [
        {"text": "deu one", "pair": None, "label": 0},
        {"text": "deu two", "pair": None, "label": 1},
    ]


def test_a_task_is_tested_in_its_languages_and_trained_in_english(folder):
    made = task(folder)
    assert (made.languages, made.trained_in, made.labels) == (("en", "de"), ("en",), ("sports", "travel"))


def test_a_task_without_training_data_has_no_train_language(folder):
    made = task(folder, train=None, dev=None)
    assert made.train_language is None
    assert made.trained_in == ()


def test_a_task_travels_between_processes(folder):
    made = task(folder)
    copy = pickle.loads(pickle.dumps(made))  # noqa: S301 - how Ray carries it
    assert copy.source.rows("dev", "en") == made.source.rows("dev", "en")


def test_labels_that_are_too_many_for_a_study_file_are_lines_of_a_file(tmp_path):
    write(tmp_path / "supertags.txt", "".join(f"S[{n}]\\NP\n" for n in range(1200)))
    write(tmp_path / "x.conll", "goes S[1100]\\NP\n. S[3]\\NP\n\n")
    made = only(tmp_path, family="token", format="conll", labels="supertags.txt", test="x.conll")
    assert len(made.labels) == 1200
    assert made.source.rows("test", "en") == [{"words": ["goes", "."], "tags": [1100, 3]}]
    write(tmp_path / "x.conll", "goes S[x]\n\n")
    message = data_error(lambda: made.source.rows("test", "en"))
    assert "x.conll:1: found the label 'S[x]'" in message
    assert len(message) < 1000


def test_labels_may_be_spelled_in_several_ways_and_as_numbers(tmp_path):
    rows = [{"text": "a", "label": "YES"}, {"text": "b", "label": 1}, {"text": "c", "label": "no"}]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    made = only(tmp_path, family="sequence", format="jsonl", labels={"no": [0], "yes": ["YES", 1]}, test="x.jsonl")
    assert made.labels == ("no", "yes")
    assert [row["label"] for row in made.source.rows("test", "en")] == [1, 1, 0]


def test_a_part_of_a_split_has_its_own_reading_keys(folder):
    write(folder / "other.csv", "s,c\nhola,VIAJE\n")
    part = {
        "path": "other.csv",
        "format": "csv",
        "columns": {"text": "s", "label": "c"},
        "labels": {"travel": "VIAJE"},
        "languages": ["es"],
    }
    made = task(folder, test=["{code}/test.tsv", part])
    assert made.languages == ("en", "de", "es")
    assert made.source.rows("test", "es") == [{"text": "hola", "pair": None, "label": 1}]


def test_parts_of_one_language_are_read_one_after_another(folder):
    made = task(folder, test=["eng/test.tsv", "eng/dev.tsv"], languages=["en"])
    assert [row["text"] for row in made.source.rows("test", "en")] == ["eng one", "eng two", "d"]


def test_dev_can_be_a_share_of_train_that_is_never_trained_on(folder):
    source = task(folder, dev=0.3).source
    train = [row["text"] for row in source.rows("train", "en")]
    dev = [row["text"] for row in source.rows("dev", "en")]
    assert len(dev) == 3
    assert sorted(train + dev) == [f"t{i}" for i in range(10)]
    assert (source.size("train", "en").examples, source.size("dev", "en").examples) == (7, 3)


def test_multilingual_training_data_is_read_by_language(tmp_path):
    for language in ("en", "fi"):
        write(tmp_path / f"{language}.txt", f"{language} a\n{language} b\n")
    description = {"family": "masked", "format": "lines", "train_languages": ["en", "fi"], "train": "{language}.txt"}
    made = own_task("raw", {**description, "dev": 0.5}, tmp_path, "tasks.raw")
    assert made.trained_in == ("en", "fi")
    assert made.languages == ()
    [row] = made.source.rows("train", "fi")
    assert row["text"] in ("fi a", "fi b")


def test_a_task_knows_the_languages_that_have_training_data(folder):
    for code in ("eng", "deu"):
        write(folder / code / "train.tsv", f"sentence\tcategory\n{code} one\tsports\n{code} two\tsports\n")
    english = task(folder)
    translated = task(folder, train={"path": "{code}/train.tsv", "languages": TOPICS["languages"]}, dev=0.5)
    assert (english.sources, translated.sources) == ((), ("en", "de"))
    assert translated.trained_in == ("en",)
    assert [row["text"][:3] for row in translated.source.rows("dev", "de")] == ["deu"]


def test_training_data_without_dev_data_is_no_source(folder):
    train = {"path": "{code}/train.tsv", "languages": TOPICS["languages"]}
    assert task(folder, train=train).sources == ()


def test_columns_can_be_templates_lists_and_chosen_by_a_value(tmp_path):
    rows = [
        {"p": "It fell.", "a": "x", "b": "y", "q": "cause", "gold": 1},
        {"p": "It fell.", "a": "x", "b": "y", "q": "effect", "gold": 0},
    ]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    columns = {
        "prompt": {"by": "q", "cause": "{p} Why?", "effect": "{p} So?"},
        "options": ["a", "b"],
        "label": "gold",
    }
    made = only(tmp_path, family="choice", format="jsonl", columns=columns, test="x.jsonl")
    assert made.source.rows("test", "en") == [
        {"prompt": "It fell. Why?", "options": ["x", "y"], "label": 1},
        {"prompt": "It fell. So?", "options": ["x", "y"], "label": 0},
    ]


def test_options_can_be_one_column_and_lie_inside_another(tmp_path):
    write(tmp_path / "x.jsonl", json.dumps({"q": "?", "choices": {"text": ["x", "y"]}, "key": "B"}))
    columns = {"prompt": "q", "options": "choices.text", "label": "key"}
    made = only(tmp_path, family="choice", format="jsonl", columns=columns, labels=["A", "B"], test="x.jsonl")
    assert made.source.rows("test", "en") == [{"prompt": "?", "options": ["x", "y"], "label": 1}]


def test_options_can_be_the_same_entry_of_each_item_of_a_list(tmp_path):
    choices = [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]
    rows = [{"q": {"stem": "?", "choices": choices[:count]}, "key": "B"} for count in (2, 1)]
    write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "q.stem", "options": "q.choices.*.text", "label": "key"}
    made = only(tmp_path, family="choice", format="jsonl", columns=columns, labels=["A", "B"], test="x.jsonl")
    assert [row["options"] for row in made.source.rows("test", "en")] == [["x", "y"], ["x"]]


def test_an_entry_that_an_item_lacks_or_that_is_in_no_list_is_no_column(tmp_path):
    for row in ({"choices": [{"text": "x"}, {"txt": "y"}]}, {"choices": {"text": ["x", "y"]}}):
        write(tmp_path / "x.jsonl", json.dumps(row | {"q": "?", "key": "A"}))
        columns = {"prompt": "q", "options": "choices.*.text", "label": "key"}
        made = only(tmp_path, family="choice", format="jsonl", columns=columns, labels=["A", "B"], test="x.jsonl")
        with pytest.raises(DataError, match=r"x\.jsonl:1: found no column"):
            made.source.rows("test", "en")


def test_a_row_that_was_taken_for_a_header_is_named_as_one(tmp_path):
    write(
        tmp_path / "x.tsv",
        "".join(f"x\ta sentence of so many words that nobody would name a column so {n}\n" for n in "12"),
    )
    with pytest.raises(DataError, match=r"`header: \[\.{3}\]` names them where the first line of the file does not"):
        only(tmp_path, family="sequence", format="tsv", labels=["x"], test="x.tsv").source.rows("test", "en")


@pytest.mark.parametrize(
    ("mark", "form", "said"),
    [("\t", "csv", "`format: tsv`"), (",", "tsv", "`format: csv`"), (";", "csv", "with tabs or commas")],
)
def test_a_table_divided_at_something_else_is_said(mark, form, said, tmp_path):
    write(tmp_path / "x", f"text{mark}label\na{mark}x\n")
    with pytest.raises(DataError, match=re.escape(said)):
        only(tmp_path, family="sequence", format=form, labels=["x"], test="x").source.rows("test", "en")


def test_gold_labels_of_another_file_are_joined_by_id(tmp_path):
    write(tmp_path / "data.csv", "id,text\n7,seven\n3,three\n")
    write(tmp_path / "gold.csv", "3,no\n7,yes\n")
    join = {"path": "gold.csv", "format": "csv", "header": ["id", "label"], "on": "id"}
    made = only(tmp_path, family="sequence", format="csv", labels=["no", "yes"], join=join, test="data.csv")
    assert [(row["text"], row["label"]) for row in made.source.rows("test", "en")] == [("seven", 1), ("three", 0)]


def test_rows_are_kept_and_skipped_by_the_values_of_columns(tmp_path):
    lines = [("en", "a", "x"), ("de", "b", "x"), ("en", "c", "-")]
    write(tmp_path / "x.tsv", "lang\ttext\tlabel\n" + "".join("\t".join(line) + "\n" for line in lines))
    made = own_task(
        "t",
        {
            "family": "sequence",
            "format": "tsv",
            "labels": ["x", "y"],
            "languages": ["en", "de"],
            "keep": {"lang": ["{language}"]},
            "skip": {"label": ["-"]},
            "test": "x.tsv",
        },
        tmp_path,
        "tasks.t",
    )
    assert [row["text"] for row in made.source.rows("test", "en")] == ["a"]
    assert [row["text"] for row in made.source.rows("test", "de")] == ["b"]
    assert made.source.size("test", "en").examples == 1


def test_a_star_in_keep_stands_for_any_ending(tmp_path):
    rows = [{"id": f"{name}-1", "text": name, "label": "x"} for name in ("finnish", "indonesian", "finnishy")]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    keep = {"id": ["finnish-*"]}
    made = only(tmp_path, family="sequence", format="jsonl", labels=["x"], keep=keep, test="x.jsonl")
    assert [row["text"] for row in made.source.rows("test", "en")] == ["finnish"]


def test_items_of_a_list_are_named_by_number(tmp_path):
    write(tmp_path / "x.jsonl", json.dumps({"a": "he", "b": ["sat.", "ran."], "label": 1}))
    columns = {"prompt": "a", "options": ["{a} {b.0}", "{a} {b.1}"]}
    made = only(tmp_path, family="choice", format="jsonl", columns=columns, test="x.jsonl")
    assert made.source.rows("test", "en") == [{"prompt": "he", "options": ["he sat.", "he ran."], "label": 1}]
    made = only(tmp_path, family="choice", format="jsonl", columns={**columns, "prompt": "b.2"}, test="x.jsonl")
    assert "x.jsonl:1: found no column 'b.2'; the columns are a, b, label" in data_error(
        lambda: made.source.rows("test", "en")
    )


def test_words_with_a_tag_that_is_omitted_are_left_out(tmp_path):
    write(tmp_path / "x.conll", "du\t_\nde\tADP\nle\tDET\n\n")
    made = only(tmp_path, family="token", format="conll", labels=["ADP", "DET"], omit=["_"], test="x.conll")
    assert made.source.rows("test", "en") == [{"words": ["de", "le"], "tags": [0, 1]}]


@pytest.mark.parametrize("answer", [("b", 0), ("b", -1), ("", 0), ("z", 2)])
def test_questions_whose_answer_is_elsewhere_can_be_left_out(tmp_path, answer):
    def row(number, text, start):
        return {"id": number, "context": "a b", "question": "q", "answers": {"text": [text], "answer_start": [start]}}

    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, [row("1", "b", 2), row("2", *answer)])))
    made = only(tmp_path, family="span", format="jsonl", columns={"id": "id"}, skip_misplaced=True, test="x.jsonl")
    assert [row["id"] for row in made.source.rows("test", "en")] == ["1"]


def as_parquet(path, rows, class_labels=None):
    """A Parquet file, its integer tags or labels with names where some are given."""
    import datasets

    features = None
    if class_labels is not None:
        named = datasets.ClassLabel(names=class_labels)
        text = datasets.Value("string")
        kinds = {"words": datasets.List(text), "tags": datasets.List(named), "text": text, "label": named}
        features = datasets.Features({name: kinds[name] for name in rows[0]})
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


@pytest.mark.parametrize("hidden", [-1, -100])
@pytest.mark.parametrize("form", ["jsonl", "conll", "parquet", "class labels", "hub"])
def test_a_tag_below_zero_says_that_a_word_has_none_in_every_format(tmp_path, form, hidden):
    rows = [{"words": ["John", "##son", "ran"], "tags": [1, hidden, 0]}]
    described = {"family": "token", "format": form, "labels": {"O": [0], "B-PER": [1]}}
    if form == "jsonl":
        path = write(tmp_path / "x.jsonl", json.dumps(rows[0]))
    elif form == "conll":
        path = write(tmp_path / "x.conll", f"John 1\n##son {hidden}\nran 0\n")
    else:
        as_parquet(path := tmp_path / "x.parquet", rows, ["O", "B-PER"] if form != "parquet" else None)
        described |= {"format": "parquet"} | ({} if form == "parquet" else {"labels": ["O", "B-PER"]})
    if form == "hub":
        del described["format"]
        folder = {"hub": str(tmp_path), "test": "train", "languages": ["en"], "sizes": {"test": 1}, "tokens": 5}
        made = own_task("t", {**described, **folder}, Path(), "tasks.t")
    else:
        made = only(tmp_path, **described, test=path.name)
    assert made.source.rows("test", "en") == [{"words": rows[0]["words"], "tags": [1, IGNORED, 0]}]
    assert check(made).rows == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "class labels"])
def test_a_label_below_zero_is_hidden_and_never_the_last_one(tmp_path, form):
    rows = [{"text": "a", "label": -1}, {"text": "b", "label": 1}]
    described = {"family": "sequence", "format": form, "labels": {"no": [0], "yes": [1]}}
    if form == "csv":
        path = write(tmp_path / "x.csv", "text,label\na,-1\nb,1\n")
    elif form == "jsonl":
        path = write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    else:
        as_parquet(path := tmp_path / "x.parquet", rows, ["no", "yes"] if form == "class labels" else None)
        described |= {"format": "parquet"} | ({"labels": ["no", "yes"]} if form == "class labels" else {})
    message = data_error(lambda: only(tmp_path, **described, test=path.name).source.rows("test", "en"))
    assert "found the label -1, which names none" in message
    assert "`skip: {label: [-1]}` leaves out such rows" in message
    skipped = only(tmp_path, **described, skip={"label": [-1]}, test=path.name).source.rows("test", "en")
    assert [(row["text"], row["label"]) for row in skipped] == [("b", 1)]


def test_an_answer_below_zero_is_no_option_either(tmp_path):
    write(tmp_path / "x.jsonl", json.dumps({"prompt": "?", "options": ["x", "y"], "label": -1}))
    made = only(tmp_path, family="choice", format="jsonl", test="x.jsonl")
    assert "x.jsonl:1: found the label -1, which names none" in data_error(lambda: made.source.rows("test", "en"))


def test_a_test_set_without_any_tag_is_refused(tmp_path):
    write(tmp_path / "x.conll", "John -1\nran -1\n\n")
    made = only(tmp_path, family="token", format="conll", labels={"O": [0], "B-PER": [1]}, test="x.conll")
    assert "x.conll: found no word with a tag in the test data" in data_error(lambda: check(made))


@pytest.mark.parametrize(
    ("spelled", "written"),
    [
        *((spelled, written) for spelled in (1, "1") for written in ("1", "1.0", '"1"', '"1.0"', "true")),
        *((True, written) for written in ("true", '"true"', '"True"')),
    ],
)
def test_integers_booleans_and_their_texts_are_one_label(tmp_path, spelled, written):
    write(tmp_path / "x.jsonl", f'{{"text": "a", "label": {written}}}')
    labels = {"no": ["0"], "yes": [spelled]}
    made = only(tmp_path, family="sequence", format="jsonl", labels=labels, test="x.jsonl")
    assert [row["label"] for row in made.source.rows("test", "en")] == [1]


def test_options_may_be_many_and_differ_in_number_from_row_to_row(tmp_path):
    rows = [{"prompt": "?", "options": [f"o{n}" for n in range(count)], "label": count - 1} for count in (2, 8, 26)]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    made = only(tmp_path, family="choice", format="jsonl", test="x.jsonl")
    assert [row["label"] for row in made.source.rows("test", "en")] == [1, 7, 25]
    assert check(made).rows == 3
    assert made.source.size("test", "en").sequences == 12
    write(tmp_path / "x.jsonl", json.dumps({**rows[0], "label": 2}))
    assert "x.jsonl:1: found label 2 is not one of" in data_error(lambda: check(made))


@pytest.mark.parametrize(
    ("form", "content", "place"),
    [
        ("conll", "_ O\nJohn B-PER\n\tO\nran O\n", "x.conll:3: found an empty word, number 3 of its sentence"),
        ("conllu", "# a\n1\tJohn\tB-PER\n2\t\tO\n3\tran\tO\n", "x.conllu:3: found an empty word, number 2"),
        ("panx", "en:John\tB-PER\nen:\tO\nen:ran\tO\n", "x.panx:2: found an empty word, number 2"),
        (
            "jsonl",
            '{"words": ["John", "", "ran"], "tags": ["B-PER", "O", "O"], "lines": [7, 8, 9]}',
            "x.jsonl:1: found an empty word",
        ),
        ("parquet", None, "x.parquet:1: found an empty word, number 2 of its sentence"),
    ],
)
def test_an_empty_word_is_named_by_its_own_line_and_can_be_left_out(tmp_path, form, content, place):
    if content is None:
        as_parquet(tmp_path / "x.parquet", [{"words": ["John", "", "ran"], "tags": ["B-PER", "O", "O"]}])
    else:
        write(tmp_path / f"x.{form}", content)
    described = {"family": "token", "format": form, "labels": ["O", "B-PER"], "test": f"x.{form}"}
    described |= {"columns": {"words": 2, "tags": 3}} if form == "conllu" else {}
    message = data_error(lambda: only(tmp_path, **described).source.rows("test", "en"))
    assert place in message
    assert "`omit_empty: true`" in message
    [row] = only(tmp_path, **described, omit_empty=True).source.rows("test", "en")
    assert row["words"][-2:] == (["John", "ran"])
    assert row["tags"][-2:] == [1, 0]


def test_a_sentence_that_loses_all_its_words_is_left_out(tmp_path):
    write(tmp_path / "x.conll", "\tO\n\nran O\n")
    made = only(tmp_path, family="token", format="conll", labels=["O"], omit_empty=True, test="x.conll")
    assert made.source.rows("test", "en") == [{"words": ["ran"], "tags": [0]}]


def test_an_unknown_tag_is_named_by_its_own_line(tmp_path):
    write(tmp_path / "x.conll", "a O\nb O\nc B-PRE\n")
    made = only(tmp_path, family="token", format="conll", labels=["O", "B-PER"], test="x.conll")
    assert "x.conll:3: found the label 'B-PRE'" in data_error(lambda: made.source.rows("test", "en"))


@pytest.mark.parametrize(
    ("labels", "content", "names", "tags"),
    [
        (["O", "B_P", "L_P", "U_P"], "a B_P\nb L_P\nc U_P\nd O\n", ("O", "B-P", "L-P", "U-P"), [1, 2, 3, 0]),
        ({"o": [], "b-p": ["X"], "i-p": []}, "a X\nb i-p\nc o\n", ("O", "B-p", "I-p"), [1, 2, 0]),
        (["O", "B-P", "M-P", "E-P", "W-P"], "a B-P\nb M-P\nc E-P\n", ("O", "B-P", "I-P", "E-P", "S-P"), [1, 2, 3]),
    ],
)
def test_entity_tags_are_named_as_their_scheme_writes_them_and_read_as_the_file_does(
    tmp_path, labels, content, names, tags
):
    write(tmp_path / "x.conll", content)
    made = only(tmp_path, family="token", format="conll", labels=labels, test="x.conll")
    assert made.labels == names
    assert made.source.rows("test", "en")[0]["tags"] == tags


def test_labels_of_which_some_are_entity_tags_are_refused_with_their_place(tmp_path):
    with pytest.raises(StudyError, match=r"tasks\.t\.labels: found entity tags, and 'LOC', which is none; O and the"):
        only(tmp_path, family="token", format="conll", labels=["O", "B-PER", "I-PER", "LOC"], test="x.conll")


def test_a_tag_outside_of_an_entity_is_named_by_its_line_where_entities_have_an_end(tmp_path):
    labels = ["O", "B-P", "I-P", "L-P", "U-P"]
    described = {"family": "token", "format": "conll", "labels": labels, "test": "x.conll"}
    write(tmp_path / "x.conll", "a B-P\nb L-P\n\nc O\nd B-P\ne O\n")
    message = data_error(lambda: only(tmp_path, **described).source.rows("test", "en"))
    assert "x.conll:5: found the tag B-P outside of an entity; an entity in BILOU is B- I- L- or U- alone" in message
    as_iob2 = {"O": [], "B-P": ["U-P"], "I-P": ["L-P"]}
    rows = only(tmp_path, **{**described, "labels": as_iob2}).source.rows("test", "en")
    assert [row["tags"] for row in rows] == [[1, 2], [0, 1, 0]]


def test_text_of_another_normal_form_is_read_alike_with_the_key_that_the_message_names(tmp_path):
    row = {"id": "1", "context": "le cafe\u0301 noir", "question": "ou\u0300 ?", "answers": []}
    row["answers"] = [{"text": "caf\u00e9", "answer_start": 3}, {"text": "noir", "answer_start": 8}]
    write(tmp_path / "x.jsonl", json.dumps(row))
    described = {"family": "span", "format": "jsonl", "columns": {"id": "id"}, "test": "x.jsonl"}
    message = data_error(lambda: check(only(tmp_path, **described)))
    assert "x.jsonl:1: found answer" in message
    assert "`normal_form: NFC` beside `columns`" in message
    for form, start, later in (("NFC", 3, 8), ("NFD", 3, 9)):
        made = only(tmp_path, **described, normal_form=form)
        assert check(made).rows == 1
        [found] = made.source.rows("test", "en")
        assert [answer["start"] for answer in found["answers"]] == [start, later]
    with pytest.raises(StudyError, match=r"tasks\.t\.normal_form: found 'NFX'; one of NFC, NFD, NFKC, NFKD"):
        only(tmp_path, **described, normal_form="NFX")


def test_tags_of_conllu_are_its_fourth_column_if_nothing_is_said(tmp_path):
    write(tmp_path / "x.conllu", "1\ta\ta\tDET\tD\n2\tb\tb\tCONJ\tC\n\n")
    labels = {"CCONJ": ["CONJ"], "DET": []}
    made = only(tmp_path, family="token", format="conllu", labels=labels, test="x.conllu")
    assert made.source.rows("test", "en") == [{"words": ["a", "b"], "tags": [1, 0]}]


def test_tags_can_be_another_column(tmp_path):
    write(tmp_path / "x.iob2", "# text = a b\n1\ta\tO\t-\t-\n2\tb\tB\t-\t-\n\n")
    columns = {"words": 2, "tags": 3}
    made = only(tmp_path, family="token", format="conllu", columns=columns, labels=["O", "B"], test="x.iob2")
    assert made.source.rows("test", "en") == [{"words": ["a", "b"], "tags": [0, 1]}]


def test_answers_are_offsets_into_an_untouched_context(tmp_path):
    content = {"id": "1", "context": "\ufeff a b\n", "question": "q\n", "answers": {"text": ["b"], "answer_start": [4]}}
    write(tmp_path / "x.jsonl", json.dumps(content))
    columns = {"id": "id"}
    [row] = only(tmp_path, family="span", format="jsonl", columns=columns, test="x.jsonl").source.rows("test", "en")
    answer = {"text": "b", "start": 4}
    assert row == {"id": "1", "context": "\ufeff a b\n", "question": "q", "answers": [answer]}


# Identity and size


def identities(of):
    """(split, language) -> identity."""
    places = [("train", "en"), ("dev", "en"), *(("test", language) for language in of.languages)]
    return {place: of.source.identity(*place) for place in places}


def test_identity_is_in_the_contents_not_in_the_place(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in folder.rglob("*.tsv"):
        write(elsewhere / path.relative_to(folder), path.read_text(encoding="utf-8"))
    assert task(folder).source.identity("test", "de") == task(elsewhere).source.identity("test", "de")
    fingerprint(task(folder).source.identity("test", "de"))


def test_a_changed_file_changes_the_identity_of_its_split_and_language_alone(folder):
    before = identities(task(folder))
    path = write(folder / "deu/test.tsv", "sentence\tcategory\nneu\tsports\n")
    os.utime(path, ns=(1, 1))
    after = identities(task(folder))
    assert [place for place in before if before[place] != after[place]] == [("test", "de")]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["travel", "sports"]},
        {"columns": {"text": "category", "label": "category"}},
        {"skip": {"sentence": ["t3"]}},
        {"dev": 0.1},
    ],
)
def test_a_changed_mapping_changes_the_identity(folder, changes):
    assert identities(task(folder)) != identities(task(folder, **changes))


def test_a_sentence_of_conllu_ends_with_a_blank_line(tmp_path):
    write(tmp_path / "a.conllu", "# x\n1\ta\t_\tX\n\n1\tb\t_\tX\n\n")
    made = only(tmp_path, family="token", format="conllu", labels=["X"], test="a.conllu")
    assert made.source.size("test", "en") == Size(2, 3.0)


@pytest.mark.parametrize("blank", ["", "\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_between_sentences_may_hold_a_blank_or_a_tab(tmp_path, blank, end):
    (tmp_path / "a.conll").write_bytes(end.join(["a X", blank, "b X", "c X", blank, "d X", blank, ""]).encode())
    made = only(tmp_path, family="token", format="conll", labels=["X"], test="a.conll")
    assert made.source.size("test", "en").examples == len(made.source.rows("test", "en")) == 3


def test_a_header_is_no_row_and_the_last_line_needs_no_end(tmp_path):
    write(tmp_path / "a.csv", "text\na\nb\nc")
    assert only(tmp_path, family="masked", format="csv", test="a.csv").source.size("test", "en").examples == 3


def test_a_pattern_across_two_chunks_is_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.data.local.CHUNK", 3)
    write(tmp_path / "a.conllu", "1\tabc\t_\tX\n\n" * 20)
    made = only(tmp_path, family="token", format="conllu", labels=["X"], test="a.conllu")
    assert made.source.size("test", "en").examples == 20


def test_the_rows_of_a_compressed_file_are_counted(tmp_path):
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"line\n" * 1000))
    assert only(tmp_path, family="masked", format="lines", test="a.txt.bz2").source.size("test", "en").examples == 1000


def test_sizes_that_are_stated_are_not_counted(folder):
    source = task(folder, sizes={"train": 100}, tokens=7, dev=0.25).source
    assert source.size("train", "en") == Size(75, 7.0)
    assert source.size("dev", "en") == Size(25, 7.0)
    assert source.size("test", "en") == Size(2, 7.0)


def test_all_options_of_a_choice_count_in_its_length(tmp_path):
    row = {"prompt": "p" * 42, "options": ["o" * 42] * 3, "label": 0}
    write(tmp_path / "x.jsonl", json.dumps(row))
    size = only(tmp_path, family="choice", format="jsonl", test="x.jsonl").source.size("test", "en")
    assert size.tokens == pytest.approx(3 * 23)


# What is said of a bad description: the place, what was found, what would do, the nearest name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colums": {}}, "tasks.topics.colums: found the unknown key 'colums'; one of family, train_language"),
        ({"family": "sequense"}, "tasks.topics.family: found 'sequense'; one of sequence, choice"),
        ({"format": "tvs"}, "tasks.topics.format: found 'tvs'; one of jsonl, csv, tsv"),
        (
            {"format": None},
            "tasks.topics.train.format: found nothing; the key 'format' is expected: the format of the files",
        ),
        ({"columns": {"txt": "sentence"}}, "tasks.topics.columns.txt: found the unknown key 'txt'; one of text"),
        ({"columns": {"text": 1.5}}, "tasks.topics.columns.text: found 1.5; a column"),
        ({"labels": None}, "tasks.topics.labels: found nothing; a list of labels"),
        ({"labels": "sports"}, "sports'; a list of labels, {label: [spellings]}, or a file with a label on each line"),
        ({"labels": {"sports": ["a"], "travel": ["a"]}}, "'a' for sports and for travel"),
        ({"languages": "en"}, "languages: found 'en'; a list of languages"),
        ({"languages": None}, "tasks.topics.test.languages: found nothing"),
        ({"test": "eng/test.tsv"}, "tasks.topics.test: found the same data for 2 languages (en, de)"),
        ({"dev": None}, "tasks.topics.dev: found nothing; a file, or a share of train"),
        ({"dev": 1.5}, "tasks.topics.dev: found 1.5; a share between 0 and 1"),
        ({"train": None, "dev": 0.1}, "tasks.topics.dev: found a share of 0.1; there is no train"),
        ({"train": None, "dev": None, "test": None}, "tasks.topics: found no data"),
        ({"train": 5}, "tasks.topics.train: found 5; a path, or a mapping"),
        ({"train": {"paht": "x"}}, "tasks.topics.train.paht: found the unknown key 'paht'; one of"),
        ({"train": {"labels": {"sport": ["x"]}, "path": "x"}}, "tasks.topics.train.labels: found 'sport'"),
        ({"train_languages": []}, "tasks.topics.train_languages: found an empty list"),
        ({"quoting": "off"}, "tasks.topics.quoting: found 'off'; true or false"),
        ({"sizes": {"train": "many"}}, "tasks.topics.sizes.train: found 'many'; a whole number is expected"),
        ({"sizes": {"train": {"en": 0}}}, "tasks.topics.sizes.train.en: found 0; a number above 0"),
        ({"omit": "O"}, "tasks.topics.omit: found 'O'; a list is expected: tags whose words are left out"),
        ({"skip_misplaced": "yes"}, "tasks.topics.skip_misplaced: found 'yes'; true or false"),
        (
            {"omit_empty": True},
            "tasks.topics.omit_empty: found a key of token tasks; a sequence task has no use for it",
        ),
        ({"normal_form": "NFC"}, "tasks.topics.normal_form: found a key of span tasks"),
        ({"sizes": {"tran": 3}}, "tasks.topics.sizes.tran: found the unknown key 'tran'; one of train, dev, test"),
        ({"normaliser": "suqad"}, "tasks.topics.normaliser: found 'suqad'; one of squad, mlqa"),
        ({"tokens": 0}, "tasks.topics.tokens: found 0; a number above 0"),
        (
            {"keep": ["x"]},
            "tasks.topics.keep: found ['x']; a mapping is expected: {column: [values]} that rows must have",
        ),
        (
            {"join": {"path": "x", "format": "csv"}},
            "tasks.topics.join.on: found nothing; the key 'on' is expected: the column that both files have",
        ),
        (
            {"format": "parallel"},
            "tasks.topics.train.pair: found nothing; the key 'pair' is expected: the path of the translations",
        ),
        ({"format": "blocks"}, "tasks.topics.train.lines: found nothing; the key 'lines' is expected: the names of"),
        ({"test": ["{code}/test.tsv", {"path": "x", "format": "pdf"}]}, "tasks.topics.test[1].format: found 'pdf'"),
        (
            {"format": "csv", "header": ["sentense", "category"]},
            "tasks.topics.columns.text: found no column 'sentence'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_in_the_study_file(folder, changes, message):
    assert message in study_error(folder, **changes)


def test_all_mistakes_of_a_description_are_named_at_once(folder):
    changes = {"colums": {}, "quoting": "off", "sizes": {"tran": 3}, "train": [{"path": 5}, {"path": "x", "omit": [1]}]}
    with pytest.raises(StudyError) as caught:
        task(folder, **changes)
    places = {mistake.where.removeprefix("tasks.topics.") for mistake in (caught.value, *caught.value.further)}
    assert places == {"colums", "quoting", "sizes.tran", "train[0].path", "train[1].omit[0]"}


def test_mistakes_of_all_parts_are_named_at_once_and_what_they_share_once(folder):
    parts = {"train": {"path": "x", "languages": ["en", "de"]}, "test": "y", "columns": {"text": "t", "lable": "l"}}
    with pytest.raises(StudyError) as caught:
        task(folder, **parts)
    assert [mistake.where for mistake in (caught.value, *caught.value.further)] == ["tasks.topics.columns.lable"]
    with pytest.raises(StudyError) as caught:
        task(folder, **{**parts, "columns": None})
    places = [mistake.where for mistake in (caught.value, *caught.value.further)]
    assert places == ["tasks.topics.train", "tasks.topics.test"]


def test_a_label_that_stands_twice_is_refused(folder):
    assert "tasks.topics.labels: found ['1', 1]; distinct values are expected" in study_error(folder, labels=["1", 1])


def models(kind):
    yield kind
    for below in kind.__subclasses__():
        yield from models(below)


@pytest.mark.parametrize("model", dict.fromkeys(models(Described)), ids=lambda model: model.__name__)
def test_every_key_of_a_description_has_a_meaning(model):
    schema = model.model_json_schema().get("properties", {})
    assert set(schema) == set(model.model_fields)
    assert [name for name, key in schema.items() if "description" not in str(key)] == []


@pytest.mark.parametrize(
    "description", [TOPICS, *HUB.values(), *(publishers.description(name, "x", "") for name in publishers.FILES)]
)
def test_the_schema_takes_descriptions_and_no_mistyped_key(description):
    schema = Draft202012Validator(DESCRIPTION.json_schema())
    assert schema.is_valid(description)
    assert not schema.is_valid({**description, "colums": {}})
    assert not schema.is_valid({**description, "test": {"paht": "x"}})
    assert not schema.is_valid({**description, "tokens": "many"})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"colums": {}}, "columns"),
        ({"family": "sequense"}, "sequence"),
        ({"format": "tvs"}, "tsv"),
        ({"train": {"labels": {"sport": ["x"]}, "path": "x"}}, "sports"),
        ({"format": "csv", "header": ["sentense", "category"]}, "sentense"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(folder, changes, name):
    assert study_error(folder, **changes).endswith(f"did you mean '{name}'?")


# What is said of bad data


def test_an_absent_file_is_named_with_the_place_in_the_study_file(folder):
    (folder / "deu/test.tsv").unlink()
    for call in (lambda: task(folder).source.identity("test", "de"), lambda: task(folder).source.size("test", "de")):
        message = data_error(call)
        assert f"{folder}/deu/test.tsv: found no such file; correct tasks.topics.test or data_root" in message


def test_a_label_outside_of_the_mapping_is_named_by_line_with_the_nearest(folder):
    write(folder / "deu/test.tsv", "sentence\tcategory\na\tsports\nb\tTravel\n")
    message = data_error(lambda: task(folder).source.rows("test", "de"))
    assert "test.tsv:3: found the label 'Travel'" in message
    assert "labels are sports, travel; did you mean 'travel'?" in message


def test_a_column_that_the_file_lacks_is_named_with_those_it_has(folder):
    made = task(folder, columns={"text": "sentense", "label": "category"})
    message = data_error(lambda: made.source.rows("test", "en"))
    assert "test.tsv:2: found no column 'sentense'; the columns are sentence, category" in message
    assert message.endswith("did you mean 'sentence'?")


def test_an_empty_data_set_is_refused_when_it_is_planned_and_when_it_is_read(folder):
    write(folder / "eng/test.tsv", "sentence\tcategory\n")
    assert "test.tsv: found no test rows" in data_error(lambda: task(folder).source.rows("test", "en"))
    assert "test.tsv: found no test rows" in data_error(lambda: task(folder).source.size("test", "en"))


def test_a_language_that_the_task_lacks_is_refused(folder):
    message = data_error(lambda: task(folder).source.rows("test", "dee"))
    assert "tasks.topics.test: found language 'dee'; its languages are de, en; did you mean 'de'?" in message


def test_an_id_without_gold_is_named_by_line(tmp_path):
    write(tmp_path / "data.csv", "id,text\n7,seven\n3,three\n")
    write(tmp_path / "gold.csv", "7,yes\n")
    join = {"path": "gold.csv", "format": "csv", "header": ["id", "label"], "on": "id"}
    made = only(tmp_path, family="sequence", format="csv", labels=["no", "yes"], join=join, test="data.csv")
    assert "data.csv:3: found id '3'" in data_error(lambda: made.source.rows("test", "en"))


def test_a_value_without_a_text_for_it_is_named_by_line(tmp_path):
    write(tmp_path / "x.jsonl", '{"p": "a", "q": "reason", "o": ["x", "y"], "label": 0}')
    columns = {"prompt": {"by": "q", "cause": "{p}"}, "options": "o"}
    made = only(tmp_path, family="choice", format="jsonl", columns=columns, test="x.jsonl")
    assert "x.jsonl:1: found 'reason' in column 'q'" in data_error(lambda: made.source.rows("test", "en"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": None, "label": "x"}, "found NoneType None as text; text is expected"),
        ({"text": 5, "label": "x"}, "found int 5 as text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, row, message):
    write(tmp_path / "x.jsonl", json.dumps(row))
    made = only(tmp_path, family="sequence", format="jsonl", labels=["x"], test="x.jsonl")
    assert message in data_error(lambda: made.source.rows("test", "en"))


def test_answers_of_another_shape_are_refused(tmp_path):
    write(tmp_path / "x.jsonl", json.dumps({"context": "c", "question": "q", "answers": [{"text": "c"}]}))
    made = only(tmp_path, family="span", format="jsonl", test="x.jsonl")
    assert "x.jsonl:1: found answers that cannot be read" in data_error(lambda: made.source.rows("test", "en"))


# The check before anything is trained


def test_a_check_reads_all_splits_and_counts_rows(folder):
    made = task(folder)
    assert check(made).rows == 10 + 1 + 2 + 2


def test_a_check_says_which_labels_of_dev_and_test_no_training_row_has(folder):
    made = task(folder)  # all training rows are of sports
    described = "tasks.topics.{}: rows of labels that no training row has, in {}: travel ({}); no model learns these"
    dev, test, *_ = check(made).doubts
    assert described.format("dev", "en", 1) in dev
    assert described.format("test", "en, de", 2) in test
    write(folder / "eng/train.tsv", "sentence\tcategory\na\tsports\nb\ttravel\n")
    for other in (task(folder), task(folder, train=None, dev=None)):
        assert not any("no model learns" in doubt for doubt in check(other).doubts)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["O", "B-X", "L-X"], "entities in BILOU"), (["ADJ", "O"], "no entity tags; a run of equal ones is one chunk")],
)
def test_a_check_says_in_which_scheme_tags_are_read(tmp_path, labels, said):
    write(tmp_path / "x.conll", "a O\n")
    made = only(tmp_path, family="token", format="conll", labels=labels, test="x.conll")
    assert check(made).notes == (f"tasks.t.labels: {said}",)


def test_a_check_names_the_line_of_a_row_that_makes_no_sense(folder):
    write(folder / "deu/test.tsv", "sentence\tcategory\na\tsports\n \ttravel\n")
    message = data_error(lambda: check(task(folder)))
    assert "deu/test.tsv:3: found empty text" in message


def test_a_check_finds_an_answer_that_is_not_in_its_context(tmp_path):
    answers = {"text": ["b"], "answer_start": [0]}
    write(tmp_path / "x.jsonl", json.dumps({"context": "a b", "question": "q", "answers": answers}))
    made = only(tmp_path, family="span", format="jsonl", columns={"id": "question"}, test="x.jsonl")
    assert "x.jsonl:1: found" in data_error(lambda: check(made))
