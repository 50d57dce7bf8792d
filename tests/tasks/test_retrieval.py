"""Facts about retrieval targets from their owners' files to scores: BUCC, LAReQA, Mewsli-X in miniature."""

from __future__ import annotations

import pytest
from retrieval_files import BUCC, LAREQA, TASKS, write_all, write_bucc, write_squad
from small_studies import finish, plan_of, study_file, with_encoder_of

from sweep.errors import DataError, StudyError
from sweep.plan.recipe import default_layer
from sweep.tasks import measure_of
from sweep.tasks.data_check import check
from sweep.tasks.describe import own_task

SCORED = {"bucc2018": 31, "lareqa": 10, "mewslix": 8}  # foreign sentences, questions, mentions per language


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory):
    return with_encoder_of(small_store, tmp_path_factory.mktemp("shared") / "store")


def study(folder, root, *targets, scoring=None, **changes):
    tasks = {name: TASKS[name] for name in targets if name in TASKS}
    read = {"examples": None, **(scoring or {})}
    return study_file(folder, {"target": list(targets)}, data_root=str(root), tasks=tasks, scoring=read, **changes)


def task_of(name, root, **changes):
    return own_task(name, TASKS[name] | changes, root, f"tasks.{name}")


# Chains


@pytest.mark.parametrize("target", TASKS)
def test_a_retrieval_target_is_scored_in_every_language(target, store, root, tmp_path):
    (chain,) = finish(study(tmp_path, root, target), store)
    score, statistics = store.score(chain.score), store.statistics(chain.score)
    assert list(score.languages) == TASKS[target]["languages"]
    for language, entry in score.languages.items():
        assert len(statistics[language]) == entry["examples"] == SCORED[target]
        assert entry["value"] == measure_of(score.family, score.metric).value(statistics[language].sum(axis=0))
        assert 0 <= entry["value"] <= 1
        assert ("threshold" in entry) == (target == "bucc2018")
        assert len(store.units(chain.score)[language]) == entry["examples"]
    trained = [phase.recipe.tasks for phase in chain.phases if phase.recipe.kind == "target"]
    assert trained == ([] if target == "bucc2018" else [(target,)])


def test_questions_on_one_paragraph_are_a_unit_in_all_languages_of_lareqa(store, root, tmp_path):
    (chain,) = finish(study(tmp_path, root, "lareqa"), store)
    units = [store.units(chain.score)[language].tolist() for language in LAREQA["languages"]]
    assert units == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 3


def test_every_layer_asked_for_is_scored_and_the_first_counts(store, root, tmp_path):
    values = {}
    for layers in ([0, 1, 2], [1]):
        (chain,) = finish(study(tmp_path, root, "bucc2018", scoring={"layer": layers}), store)
        values[len(layers)] = store.score(chain.score)
    assert list(values[3].layers) == ["0", "1", "2"]
    assert values[3].settings["layers"] == [0, 1, 2]
    assert values[3].layers["1"] == values[1].layers["1"]
    for score in values.values():
        first = score.layers[str(score.settings["layers"][0])]
        assert first == {language: entry["value"] for language, entry in score.languages.items()}


def test_without_a_layer_the_encoders_depth_chooses_and_a_trained_target_is_read_at_the_end(store, root, tmp_path):
    chains = finish(study(tmp_path, root, "bucc2018", "world/retrieval", "lareqa"), store)
    settings = [store.score(chain.score).settings for chain in chains]
    assert [one["layers"] for one in settings] == [[1], [1], [2]]
    assert [one["pooling"] for one in settings] == ["mean"] * 3


def test_one_target_may_be_read_otherwise(root, tmp_path):
    own = {"overrides": {"bucc2018": {"layer": -1, "pooling": "cls"}}}
    plan = plan_of(study(tmp_path, root, "bucc2018", "world/retrieval", scoring=own))
    assert plan.study.scoring.reading("bucc2018") == ((-1,), "cls")
    assert plan.study.scoring.reading("world/retrieval") == (None, None)


def test_depths_of_the_papers_encoders_give_their_layers():
    assert [default_layer(layers) for layers in (12, 24)] == [8, 14]
    assert all(0 < default_layer(layers) <= layers for layers in range(1, 40))


@pytest.mark.parametrize(
    ("scoring", "place", "found"),
    [
        ({"layer": [0, 9]}, "scoring.layer", "9, while tiny has the layers 0"),
        ({"overrides": {"bucc2018": {"layer": 3}}}, "scoring.overrides.bucc2018.layer", "3, while tiny"),
        ({"overrides": {"bucc": {"layer": 1}}}, "scoring.overrides.bucc", "bucc2018"),
        ({"overrides": {"lareqa": {"layer": 1}}}, "scoring.overrides.lareqa", "not trained"),
        ({"layer": []}, "scoring.layer", "an empty list"),
        ({"layer": "last"}, "scoring.layer", "last"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(scoring, place, found, root, tmp_path):
    with pytest.raises(StudyError) as error:
        plan_of(study(tmp_path, root, "bucc2018", "lareqa", scoring=scoring))
    assert place in str(error.value)
    assert found in str(error.value)


# Files


@pytest.mark.parametrize("name", TASKS)
def test_all_rows_of_the_miniatures_pass_the_check(name, root):
    task = task_of(name, root)
    assert check(task).rows > 20


def test_bucc_links_foreign_sentences_to_english_ones(root):
    rows = task_of("bucc2018", root).source.rows("test", "de")
    assert [len([row for row in rows if row["side"] == side]) for side in ("text", "pair")] == [31, 30]
    assert rows[3] == {
        "id": "de-000003",
        "side": "text",
        "text": "The de town number 43 lies at river 1.",
        "links": ["en-000003"],
    }
    assert sum(len(row["links"]) for row in rows) == 20


def test_lareqa_has_every_sentence_as_a_candidate_and_its_questions_as_queries(root):
    rows = task_of("lareqa", root).source.rows("test", "th")
    queries, candidates = ([row for row in rows if row[side]] for side in ("query", "candidate"))
    assert (len(queries), len(candidates)) == (10, 15)
    assert candidates[1]["id"] == "th_1_1"
    assert candidates[1]["links"] == ["q140-0-1"]
    assert candidates[2]["links"] == []
    sentence = "The th town number 141 lies at river 1. "
    assert candidates[1]["candidate"].startswith(f"{sentence}The th town number 140")


def test_squad_gives_questions_with_the_sentence_of_their_answer(root):
    rows = task_of("lareqa", root).source.rows("train", "en")
    assert len(rows) == 10
    assert rows[1]["query"] == "Where lies en town number 101?"
    assert rows[1]["candidate"].startswith("The en town number 101 lies at river 3. The en town number 100")


def test_a_mention_stands_first_and_between_braces_in_its_sentence(root):
    rows = task_of("mewslix", root).source.rows("test", "ta")
    assert rows[2] == {
        "id": "ta-2",
        "query": "river 2: In ta (old) { river 2 } rose.",
        "candidate": None,
        "links": ["Q2"],
        "unit": "Q2",
    }


def test_the_candidates_of_all_languages_are_a_language_of_their_own(root):
    task = task_of("mewslix", root)
    assert task.languages == ("en", "ta")
    assert task.pool == ("all",)
    rows = task.source.rows("test", "all")
    assert rows[5] == {"id": "Q5", "query": None, "candidate": "River 5 is long. It is cold.", "links": []}


def test_the_threshold_data_is_part_of_what_scores_depend_on(root, tmp_path):
    def digest(data):
        return plan_of(study(tmp_path, data, "bucc2018")).tests["bucc2018"]

    before = digest(root)
    write_all(tmp_path)
    assert digest(tmp_path) == before
    with (tmp_path / "bucc2018" / "de-en.dev.gold").open("a") as gold:
        gold.write("de-000021\ten-000021\n")
    assert digest(tmp_path) != before


PARAGRAPH = (
    '{"data": [{"paragraphs": [{"context": "abc", "sentence_breaks": %s,'
    ' "qas": [{"id": "q", "question": "?", "answers": [{"text": "a", "answer_start": %s}]}]}]}]}'
)
BROKEN = [
    ("bucc2018/de-en.test.de", "de-1\tone\nde-1\ttwo\n", "de-en.test.de:2", "the id 'de-1' of line 1 again"),
    ("bucc2018/de-en.test.en", "en-1 no tab\n", "de-en.test.en:1", "a tab"),
    ("bucc2018/de-en.test.gold", "de-000001\ten-9\n", "de-en.test.gold:1", "the id 'en-9'"),
    ("bucc2018/de-en.test.gold", "en-000001\tde-000001\n", "de-en.test.gold:1", "the id 'en-000001'"),
    ("lareqa/xquad-r/en.json", '{"data": [{"paragraphs": [{"qas": []}]}]}', "data[0].paragraphs[0]", "no 'context'"),
    ("lareqa/xquad-r/en.json", "{", "en.json:1", "broken JSON"),
    (
        "lareqa/xquad-r/en.json",
        PARAGRAPH % ('[["x"]]', '"0"'),
        "data[0].paragraphs[0]",
        "another structure (not enough",
    ),
    ("lareqa/xquad-r/en.json", PARAGRAPH % ("3", "0"), "data[0].paragraphs[0]", "another structure ('int' object"),
    ("lareqa/xquad-r/en.json", PARAGRAPH % ("[[0, 3]]", '"x"'), "data[0].paragraphs[0]", "another structure (invalid"),
    ("mewslix/wikinews_labels/test-en.json", '{"en-0": "Q0"}', "test-en.json", "'Q0' for 'en-0'"),
    ("mewslix/candidate_set_entities.jsonl", '{"entity_id": "Q1"}\n', "entities.jsonl:1", "no 'description'"),
    ("mewslix/wikinews_labels/test-en.json", "[]", "test-en.json", "a JSON list"),
    ("mewslix/wikinews_mentions/test-en.jsonl", '{"context": {}, "mentions": [{}]}\n', "en.jsonl:1", "'example_id'"),
]


@pytest.mark.parametrize(("file", "content", "place", "found"), BROKEN, ids=[f"{b[0]} {b[3]}" for b in BROKEN])
def test_a_broken_file_is_named_with_its_place(file, content, place, found, tmp_path):
    write_all(tmp_path)
    (tmp_path / file).write_text(content)
    name = "bucc2018" if "bucc" in file else "mewslix" if "mewslix" in file else "lareqa"
    with pytest.raises(DataError) as error:
        check(task_of(name, tmp_path))
    assert place in str(error.value)
    assert found in str(error.value)


def test_a_training_row_with_one_side_is_refused(root):
    task = task_of("mewslix", root, train={"path": "mewslix/candidate_set_entities.jsonl", "format": "entities"})
    with pytest.raises(DataError, match="a training row with one side"):
        check(task)


@pytest.mark.parametrize(
    ("name", "changes", "place", "found"),
    [
        ("bucc2018", {"dev": None}, "dev", "the threshold of a mining task"),
        ("bucc2018", {"dev": {**BUCC["dev"], "languages": ["de"]}}, "dev", "no dev data for fr"),
        ("bucc2018", {"test": {"path": "x{language}", "pair": "y"}}, "test.gold", "the path of the pairs of ids"),
        ("bucc2018", {"pool": ["de"]}, "pool", "of a ranking task"),
        ("mewslix", {"pool": ["al"]}, "pool", "did you mean 'all'"),
        ("mewslix", {"format": "mention"}, "format", "mentions"),
    ],
)
def test_a_description_that_lacks_something_is_refused(name, changes, place, found, root):
    description = {key: value for key, value in (TASKS[name] | changes).items() if value is not None}
    if "format" in changes:
        description["test"] = "x{language}"
    with pytest.raises(StudyError) as error:
        own_task(name, description, root, f"tasks.{name}")
    assert place in str(error.value)
    assert found in str(error.value)


# XTREME's publishers' layout


def published(root, name, languages):
    """The task as `format: xtreme` reads it, on miniatures in the published folders."""
    for language in ("de", "fr", "ru", "zh"):
        for split, first in (("sample", 0), ("training", 40)):
            write_bucc(root / "bucc2018" / f"{language}-en", f"{language}-en.{split}", language, first)
    for language in (*LAREQA["languages"], "el"):
        write_squad(root / "lareqa" / "xquad-r" / f"{language}.json", language, 140, breaks=True)
    write_all(root)
    mentions = root / "mewslix" / "wikinews_mentions-test.jsonl"
    mentions.write_text("".join(file.read_text() for file in sorted((root / "mewslix/wikinews_mentions").iterdir())))
    return own_task(name, {"format": "xtreme", "path": ".", "languages": languages}, root, f"tasks.{name}")


@pytest.mark.parametrize(
    ("name", "languages", "pool", "examples"),
    [
        ("bucc2018", ["de", "zh"], (), 61),
        ("lareqa", ["en", "el"], (), 25),
        ("mewslix", ["en", "ta"], ("candidates",), 8),
    ],
)
def test_published_files_are_read_as_they_lie(name, languages, pool, examples, tmp_path):
    task = published(tmp_path, name, languages)
    assert (task.languages, task.pool) == (tuple(languages), pool)
    assert task.trained_in == (() if name == "bucc2018" else ("en",))
    assert check(task).rows > 0
    for language in languages:
        assert len(task.source.rows("test", language)) == examples


@pytest.mark.parametrize("name", TASKS)
def test_a_study_that_names_the_task_alone_is_told_how_to_describe_its_files(name, tmp_path):
    with pytest.raises(DataError, match=r"describe your copy there as \{format: xtreme, path: folder\}"):
        plan_of(study_file(tmp_path, {"target": [name]}))
