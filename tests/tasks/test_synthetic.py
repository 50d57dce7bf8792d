"""Facts about the embedded benchmark: what its rows promise to a study, and what its languages are said to be."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from sweep.data import SPLITS
from sweep.errors import DataError
from sweep.tasks.synthetic import TASKS, EmbeddedSource
from sweep.tasks.synthetic import world as worlds
from sweep.tasks.synthetic.world import LANGUAGE, LANGUAGES, PIVOT, TOPICS, Fact, say, world_of

BY_NAME = {task.name.removeprefix("world/"): task for task in TASKS}
FOREIGN = [language.code for language in LANGUAGES if language is not PIVOT]


@cache
def rows(task, split, language=PIVOT.code, seed=0):
    """Made once for all tests, which only read them."""
    return EmbeddedSource(task, seed).rows(split, language)


def digest():
    """Of every row of every task in the pivot and in one far language."""
    sums = hashlib.sha256()
    for name in BY_NAME:
        for split in SPLITS:
            for code in (PIVOT.code, FOREIGN[-1]):
                sums.update(json.dumps(rows(name, split, code), sort_keys=True).encode())
    return sums.hexdigest()


def test_another_process_makes_the_same_rows():
    code = f"import sys; sys.path.insert(0, {str(worlds.__file__.rsplit('/sweep/', 1)[0])!r}); "
    code += f"sys.path.insert(0, {__file__.rsplit('/', 1)[0]!r}); import test_synthetic; print(test_synthetic.digest())"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.strip() == digest()


def test_another_seed_is_another_world():
    assert rows("nli", "dev", seed=0) != rows("nli", "dev", seed=1)
    assert world_of(0).forms[PIVOT.code] != world_of(1).forms[PIVOT.code]
    assert EmbeddedSource("nli", 0).identity("train", "pivot") != EmbeddedSource("nli", 1).identity("train", "pivot")


def test_every_family_has_a_task():
    assert {task.family.name for task in TASKS} == {"sequence", "choice", "token", "span", "embedding", "masked"}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_task_has_test_rows_in_every_language(name):
    task = BY_NAME[name]
    assert set(task.languages) == set(FOREIGN if task.family.name == "embedding" else LANGUAGE)
    assert all(rows(name, "test", code) for code in task.languages)


@pytest.mark.parametrize("name", BY_NAME)
def test_size_says_how_many_rows_there_are(name):
    for split in SPLITS:
        for code in LANGUAGE:
            assert BY_NAME[name].source.size(split, code).examples == len(rows(name, split, code))


@pytest.mark.parametrize("name", BY_NAME)
def test_size_knows_the_mean_length_within_a_tenth(name):
    """Counted as a word-level tokenizer would: words, punctuation, special tokens."""
    for split in SPLITS:
        found = rows(name, split, FOREIGN[0] if name in ("retrieval", "raw") else PIVOT.code)
        if found:
            size = BY_NAME[name].source.size(split, FOREIGN[0] if name in ("retrieval", "raw") else PIVOT.code)
            assert size.tokens == pytest.approx(sum(map(counted, found)) / len(found), rel=0.1)


def counted(row):
    if "words" in row:
        return len(row["words"]) + 2
    if "options" in row:
        return sum(len(tokens(row["prompt"])) + len(tokens(option)) + 3 for option in row["options"])
    parts = [row[key] for key in ("text", "pair", "context", "question") if row.get(key)]
    return sum(len(tokens(part)) for part in parts) + len(parts) + 1


def tokens(text):
    return re.findall(r"\w+|[^\w\s]", text)


@pytest.mark.parametrize("name", BY_NAME)
def test_training_and_dev_rows_are_in_the_languages_that_the_task_names(name):
    task = BY_NAME[name]
    for split in ("train", "dev"):
        found = tuple(code for code in LANGUAGE if rows(name, split, code))
        assert set(found) == set(task.sources or task.trained_in)


@pytest.mark.parametrize(("name", "count"), [("nli", 7), ("qa", 4), ("pos", 1)])
def test_some_tasks_are_translated_into_all_languages_some_into_near_ones(name, count):
    assert len(BY_NAME[name].sources or BY_NAME[name].trained_in) == count


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_translation_says_what_the_pivot_says(split):
    here = world_of(0)

    def meant(row, code):
        meaning = {form: number for number, form in enumerate(here.forms[code])}
        words = re.findall(r"\w+", f"{row['text']} {row['pair']}")
        return row["label"], sorted(meaning[word] for word in words)

    for one, other in list(zip(rows("nli", split), rows("nli", split, FOREIGN[-1]), strict=True))[:50]:
        assert meant(one, PIVOT.code) == meant(other, FOREIGN[-1])


@pytest.mark.parametrize("name", BY_NAME)
def test_rows_are_as_their_family_wants_them(name):
    family = BY_NAME[name].family
    for split in SPLITS:
        for code in (PIVOT.code, FOREIGN[2]):
            assert {family.check(row, BY_NAME[name].labels) for row in rows(name, split, code)} <= {None}


@pytest.mark.parametrize("name", [name for name, task in BY_NAME.items() if task.family.name in ("sequence", "choice")])
def test_labels_are_balanced(name):
    for split in SPLITS:
        counts = Counter(row["label"] for row in rows(name, split))
        assert set(counts) == set(range(len(BY_NAME[name].labels)))
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("name", ["pos", "ner"])
def test_every_tag_occurs_in_training(name):
    tags = {tag for row in rows(name, "train") for tag in row["tags"]}
    assert tags | {BY_NAME["ner"].labels.index("I-LOC") if name == "ner" else 0} == set(
        range(len(BY_NAME[name].labels))
    )


@pytest.mark.parametrize("name", ["qa", "qa_small"])
@pytest.mark.parametrize("code", LANGUAGE)
def test_an_answer_stands_at_its_offset(name, code):
    for row in rows(name, "test", code):
        for answer in row["answers"]:
            assert row["context"][answer["start"] :].startswith(answer["text"])


def test_a_fifth_of_the_questions_has_no_answer():
    assert sum(not row["answers"] for row in rows("qa", "train")) == len(rows("qa", "train")) / 5
    assert all(row["answers"] for row in rows("qa_small", "train"))


@pytest.mark.parametrize("name", BY_NAME)
def test_no_test_row_is_a_training_or_dev_row(name):
    def texts(split):
        return {
            json.dumps({**row, "id": None, "label": None})
            for row in rows(name, split, FOREIGN[0] if name == "raw" else PIVOT.code)
        }

    assert not texts("test") & texts("train")
    assert not texts("test") & texts("dev")


def test_test_rows_mean_the_same_in_every_language():
    """A pair's pivot side, a question's answerability and all labels agree between languages."""
    assert len({tuple(row["pair"] for row in rows("retrieval", "test", code)) for code in FOREIGN}) == 1
    for name in ("nli", "rte", "paraphrase", "topic", "copa"):
        assert len({tuple(row["label"] for row in rows(name, "test", code)) for code in LANGUAGE}) == 1


@pytest.mark.parametrize("code", FOREIGN)
def test_a_pair_says_the_same_words(code):
    foreign_forms, pivot_forms = world_of(0).forms[code], world_of(0).forms[PIVOT.code]
    meaning = dict(zip(foreign_forms, pivot_forms, strict=True))
    for row in rows("retrieval", "test", code):
        assert sorted(meaning[word] for word in row["text"][:-1].split()) == sorted(row["pair"][:-1].split())


def test_no_two_retrieval_pairs_are_alike():
    assert len({row["pair"] for row in rows("retrieval", "test", FOREIGN[0])}) == len(
        rows("retrieval", "test", FOREIGN[0])
    )


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.code)
def test_a_language_shares_as_many_forms_with_the_pivot_as_its_table_says(language):
    here = world_of(0)
    pairs = list(zip(here.forms[language.code], here.forms[PIVOT.code], strict=True))
    assert sum(own == pivot for own, pivot in pairs) / len(pairs) == pytest.approx(language.shared, abs=0.03)


def test_a_form_that_is_not_shared_belongs_to_one_language():
    here = world_of(0)
    pivot = set(here.forms[PIVOT.code])
    own = [form for code in FOREIGN for form in set(here.forms[code]) - pivot]
    assert len(own) == len(set(own))
    assert all(len(set(forms)) == len(forms) for forms in here.forms.values())


def test_a_nearer_language_shares_what_a_farther_one_does():
    here = world_of(0)
    shared = [{n for n, form in enumerate(here.forms[code]) if form == here.forms[PIVOT.code][n]} for code in FOREIGN]
    assert all(far < near for near, far in pairwise(shared))


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.code)
def test_a_sentence_follows_its_languages_word_order(language):
    here = world_of(0)
    being, action, thing = (here.members[name][0][0] for name in ("being", "action", "thing"))
    spoken = [role for role, _ in say(here, Fact((being,), action, thing), language)]
    assert spoken == [{"S": "agent", "V": "action", "O": "thing"}[letter] for letter in language.order]
    assert language is PIVOT or language.code == f"{language.order.lower()}{round(100 * language.shared)}"


def test_farther_languages_have_less_raw_text():
    amounts = [len(rows("raw", "train", language.code)) for language in LANGUAGES]
    assert amounts == [language.raw for language in LANGUAGES] == sorted(amounts, reverse=True)


def test_topics_share_no_words_of_their_own():
    groups = [
        {concept for name in worlds.PER_TOPIC for concept in world_of(0).members[name][topic]}
        for topic in range(TOPICS)
    ]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_an_opposites_opposite_is_the_thing_itself():
    here = world_of(0)
    for group in here.members["action"]:
        for action in group:
            assert here.opposite(here.opposite(action)) == action != here.opposite(action)
            assert here.consequence(action) not in (action, here.opposite(action))


@pytest.mark.parametrize(("split", "language", "hint"), [("tset", "pivot", "'test'"), ("test", "pivt", "'pivot'")])
def test_a_split_or_language_that_does_not_exist_is_named(split, language, hint):
    for call in (EmbeddedSource("nli").rows, EmbeddedSource("nli").size):
        with pytest.raises(DataError, match=f"did you mean {hint}"):
            call(split, language)
