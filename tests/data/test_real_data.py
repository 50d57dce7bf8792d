"""Real data files, where they are at hand: real_small.yaml loads whole, with the rows that the sources count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sweep.tasks.data_check import check
from sweep.tasks.describe import own_task

STUDY = Path(__file__).resolve().parents[2] / "search_spaces/real_small.yaml"
DESCRIPTIONS = YAML(typ="safe", pure=True).load(STUDY.read_text(encoding="utf-8"))["tasks"]

# task -> (train, dev) in English
TRAINED = {
    "snli_nli": (8330, 1000),
    "hellaswag": (8033, 2009),
    "squad": (4370, 477),
    "ewt_pos": (12544, 2001),
    "raw_text": (2700, 56),
    "sib200": (701, 99),
    "ud_pos": (12544, 2001),
    "americas_nli": (4500, 500),
    "xquad": (4370, 477),
    "xcopa": (9997, 997),  # 3 of 10,000 have an empty option
}
UD_TEST = {"en": 2077, "de": 977, "es": 427, "tr": 1100, "vi": 800, "eu": 1799, "ta": 120, "te": 146, "yo": 317}
NLI_TEST = {"en": 4927, "nah": 735, "oto": 748}  # 3 of 738 have an empty premise
TATOEBA_TEST = {"jv": 205, "kk": 575, "ml": 687, "ta": 307, "te": 234}


@pytest.fixture
def task(shared_data):
    """Makes a task of real_small.yaml, or one of a description."""

    def make(name: str, description: dict | None = None):
        return own_task(name, description or DESCRIPTIONS[name], shared_data, f"tasks.{name}")

    return make


def rows(task, split="test"):
    languages = task.languages if split == "test" else task.trained_in
    return {language: task.source.rows(split, language) for language in languages}


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_every_row_passes_its_familys_check(task, name):
    made = task(name)
    assert check(made).rows > 0


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_training_data_has_the_rows_that_its_source_counts(task, name):
    source = task(name).source
    train, dev = TRAINED[name]
    assert (len(source.rows("train", "en")), len(source.rows("dev", "en"))) == (train, dev)
    assert source.size("train", "en").examples == pytest.approx(train, rel=0.001)
    assert source.size("dev", "en").examples == pytest.approx(dev, rel=0.02)


@pytest.mark.parametrize("name", sorted(set(DESCRIPTIONS) - {"snli_nli", "hellaswag", "squad", "ewt_pos", "raw_text"}))
def test_a_plan_counts_test_rows_as_they_are(task, name):
    made = task(name)
    for language, found in rows(made).items():
        assert made.source.size("test", language).examples == len(found)


def test_topics_have_18_languages_in_parallel(task):
    tests = rows(task("sib200"))
    assert len(tests) == 18
    labels = {language: [row["label"] for row in found] for language, found in tests.items()}
    assert len(labels["en"]) == 204
    assert all(found == labels["en"] for found in labels.values())


def test_tags_are_read_in_11_languages(task):
    made = task("ud_pos")
    tests = rows(made)
    assert {language: len(found) for language, found in tests.items()} == {**UD_TEST, "kk": 1047, "hi": 1684}
    assert sum(len(row["words"]) for row in made.source.rows("train", "en")) == 204_577


def test_hindi_conjunctions_of_ud_1_are_those_of_ud_2(task):
    made = task("ud_pos")
    tags = Counter(tag for row in made.source.rows("test", "hi") for tag in row["tags"])
    assert tags[made.labels.index("CCONJ")] == 635


def test_vietnamese_words_contain_spaces(task):
    words = [word for row in task("ud_pos").source.rows("test", "vi") for word in row["words"]]
    assert any(" " in word for word in words)


def test_inference_has_9_languages(task):
    counts = {language: len(found) for language, found in rows(task("americas_nli")).items()}
    assert counts == {**dict.fromkeys(["ay", "bzd", "cni", "hch", "qu", "tar"], 750), **NLI_TEST}


def test_sick_and_americas_nli_spell_the_same_labels(task):
    made = task("americas_nli")
    for split, language in (("train", "en"), ("test", "en"), ("test", "qu")):
        assert {row["label"] for row in made.source.rows(split, language)} == {0, 1, 2}


def test_questions_are_parallel_in_5_languages(task):
    tests = rows(task("xquad"))
    assert len(tests) == 5
    ids = {language: [row["id"] for row in found] for language, found in tests.items()}
    assert len(ids["en"]) == 1190
    assert all(found == ids["en"] for found in ids.values())


def test_answers_of_questions_are_where_they_say(task):
    """Spanish contexts begin with U+FEFF, which counts as a character."""
    for found in rows(task("xquad")).values():
        for row in found:
            for answer in row["answers"]:
                assert row["context"][answer["start"] :].startswith(answer["text"])


def test_no_question_is_trained_on_and_tested(task):
    source = task("xquad").source
    contexts = [{row["context"] for row in source.rows(split, "en")} for split in ("train", "dev", "test")]
    assert not contexts[0] & contexts[1]
    assert not contexts[0] & contexts[2]
    assert not contexts[1] & contexts[2]


def test_english_reasons_have_three_options_and_the_other_languages_two(task):
    tests = rows(task("xcopa"))
    assert {language: len(found) for language, found in tests.items()} == {**dict.fromkeys(tests, 500), "en": 1000}
    assert len(tests) == 11
    assert {len(row["options"]) for row in tests["en"]} == {3}
    assert {len(row["options"]) for language in tests if language != "en" for row in tests[language]} == {2}


def test_reasons_have_the_gold_of_their_own_id(task):
    row = task("xcopa").source.rows("train", "en")[0]
    assert row["prompt"].startswith("He poured orange juice on his cereal.")
    assert row["options"][row["label"]] == "Orange juice doesn't taste good on cereal."


def test_sentences_have_translations_in_29_languages(task):
    made = task("tatoeba")
    counts = {language: len(found) for language, found in rows(made).items()}
    assert made.trained_in == ()
    assert counts == {**dict.fromkeys(made.languages, 1000), **TATOEBA_TEST}
    assert len(counts) == 29
    assert made.source.rows("test", "af")[0] == {
        "text": "Haar Engels is uitstekend.",
        "pair": "Her English is excellent.",
    }


def test_endings_are_those_of_their_context(task):
    source, begins = task("hellaswag").source, "Roof shingle removal: A man is sitting on a roof."
    rows = [row for split in ("train", "dev") for row in source.rows(split, "en")]
    (row,) = [row for row in rows if row["prompt"].startswith(begins)]
    assert row["options"][row["label"]] == "starts pulling up roofing on a roof."


def test_raw_text_has_24_languages(task):
    made = task("raw_text")
    assert len(made.trained_in) == 24
    for language in made.trained_in:
        assert made.source.size("train", language).examples > 600


# Files that no shipped study uses, for what is odd in them


def test_msrp_has_a_byte_order_mark_and_literal_quotes(task):
    description = {
        "family": "sequence",
        "format": "tsv",
        "columns": {"text": "#1 String", "pair": "#2 String", "label": "Quality"},
        "labels": {"different": ["0"], "paraphrase": ["1"]},
        "languages": ["en"],
        "train": "msrp/msr-para-train.tsv",
        "dev": "msrp/msr-para-val.tsv",
        "test": "msrp/msr-para-test.tsv",
    }
    made = task("msrp", description)
    assert [len(made.source.rows(split, "en")) for split in ("train", "dev", "test")] == [3576, 500, 1725]


def test_ocnli_rows_without_agreed_label_are_skipped(task):
    description = {
        "family": "sequence",
        "format": "jsonl",
        "columns": {"text": "sentence1", "pair": "sentence2"},
        "labels": ["entailment", "neutral", "contradiction"],
        "skip": {"label": "-"},
        "languages": ["zh"],
        "test": "ocnli/dev.json",
    }
    assert len(task("ocnli", description).source.rows("test", "zh")) == 2950


def test_wnut17_words_may_begin_with_a_hash(task):
    types = ["person", "location", "corporation", "group", "product", "creative-work"]
    description = {
        "family": "token",
        "format": "conll",
        "labels": ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")],
        "languages": ["en"],
        "train": "wnut17/wnut17train.conll",
        "dev": "wnut17/emerging.dev.conll",
        "test": "wnut17/emerging.test.annotated",
    }
    made = task("wnut17", description)
    assert [len(made.source.rows(split, "en")) for split in ("train", "dev", "test")] == [3394, 1009, 1287]
    assert any(word.startswith("#") for row in made.source.rows("train", "en") for word in row["words"])


def test_masakhaner_and_uner_are_one_task_with_two_layouts(task):
    types = ["PER", "LOC", "ORG", "DATE"]
    iob2 = {"format": "conllu", "columns": {"words": 2, "tags": 3}}
    description = {
        "family": "token",
        "format": "conll",
        "labels": {"O": ["OTH", "B-OTH", "I-OTH"], **{f"{prefix}-{name}": [] for name in types for prefix in "BI"}},
        "train": {**iob2, "path": "uner/UNER_English-EWT/en_ewt-ud-dev.iob2"},
        "dev": 0.1,
        "test": [
            {
                **iob2,
                "path": "uner/UNER_{code}-ud-test.iob2",
                "languages": {"en": "English-EWT/en_ewt", "zh": "Chinese-GSD/zh_gsd"},
            },
            {"path": "masakhaner2/{code}/test.txt", "languages": {"ha": "hau", "rw": "kin", "wo": "wol", "yo": "yor"}},
        ],
    }
    made = task("ner", description)
    assert check(made).rows == 2001 + 2077 + 500 + 1633 + 2235 + 1312 + 1964
