"""XTREME's data in its publishers' files (`format: xtreme`): what is read of each, and what is said of bad ones."""

from __future__ import annotations

import json

import pytest

from sweep.data.formats import is_whole, written_words
from sweep.errors import DataError, StudyError
from sweep.tasks import FAMILIES
from sweep.tasks.catalog import languages_of
from sweep.tasks.catalog.publishers import FILES
from sweep.tasks.data_check import check
from sweep.tasks.describe import own_task


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def squad(path, prefix="", start=0):
    """Three paragraphs with a question each."""
    answer = [{"text": "p", "answer_start": start}]
    paragraphs = [
        {"context": f"p{n}", "qas": [{"id": f"{prefix}{n}", "question": "q", "answers": answer}]} for n in range(3)
    ]
    write(path, json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))


def conllu(*words, text="x"):
    lines = [f"{n}\t{form}\t_\t{tag}\t_\t_\t{head}\t_\t{deps}\t_" for n, form, tag, head, deps in words]
    return "\n".join([f"# text = {text}", *lines, "", ""])


ZUM = conllu(
    ("1", "geht", "VERB", 0, "_"),
    ("2-3", "zum", "_", "_", "_"),
    ("2", "zu", "ADP", 4, "_"),
    ("3", "dem", "DET", 4, "_"),
    ("4", "Arzt", "NOUN", 1, "_"),
)
WITHHELD = conllu(("1", "_", "X", 0, "_"), ("2", "_", "X", 1, "_"), ("3", ".", "PUNCT", 1, "_"))


@pytest.fixture
def folder(tmp_path):
    """Miniature files of every task, in English and some other languages."""
    xnli = "language\tgold_label\tsentence1_parse\tsentence1\tsentence2\n"
    rows = "".join(f"{language}\tneutral\t(p)\t{language}\th\n" for language in ("en", "sw"))
    for split in ("dev", "test"):
        write(tmp_path / f"XNLI-1.0/xnli.{split}.tsv", xnli + rows)
    for language in ("en", "sw"):
        write(
            tmp_path / f"XNLI-MT-1.0/multinli/multinli.train.{language}.tsv",
            f'premise\thypo\tlabel\n{language} "quoted\th\tcontradictory\n',
        )
    paws = "id\tsentence1\tsentence2\tlabel\n1\ta\tb\t1\n2\tNS\tb\t0\n"
    for name in ("en/train", "en/dev_2k", "en/test_2k", "ko/translated_train", "ko/dev_2k", "ko/test_2k"):
        write(tmp_path / f"x-final/{name}.tsv", paws)
    for language in ("en", "yo"):
        for split in ("train", "dev", "test"):
            write(tmp_path / f"panx_dataset/{language}-{split}", f"{language}:R:S\tB-ORG\n{language}:.\tO\n\n")
    for split in ("train", "dev", "test"):
        english = tmp_path / "ud-treebanks-v2.5/UD_English"
        write(english / f"en_ewt-ud-{split}.conllu", conllu(("1", "Go", "VERB", 0, "_")))
    write(tmp_path / "ud-treebanks-v2.5/UD_German-HDT/de_hdt-ud-test.conllu", ZUM)
    write(tmp_path / "ud-treebanks-v2.5/UD_German-GSD/de_gsd-ud-test.conllu", WITHHELD + ZUM)
    squad(tmp_path / "squad/train-v1.1.json")
    squad(tmp_path / "xquad/xquad.ro.json")
    squad(tmp_path / "MLQA_V1/test/test-context-hi-question-hi.json")
    squad(tmp_path / "tydiqa/tydiqa-goldp-v1.1-train.json", "english-")
    squad(tmp_path / "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-telugu.json", "telugu-")
    write(tmp_path / "tatoeba/tatoeba.lit-eng.lit", "Labas.\nTaip.\n")
    write(tmp_path / "tatoeba/tatoeba.lit-eng.eng", "Hi.\nYes.\n")
    copa = {"premise": "It fell.", "choice1": "x", "choice2": "y", "question": "effect", "label": 1, "idx": 0}
    write(tmp_path / "COPA/train.jsonl", "\n".join(json.dumps({**copa, "idx": n}) for n in range(3)))
    write(tmp_path / "xcopa/qu/test.qu.jsonl", json.dumps({**copa, "changed": True}))
    return tmp_path


def official(folder, name, *languages):
    return own_task(
        name, {"format": "xtreme", "path": "files", "languages": list(languages)}, linked(folder), f"tasks.{name}"
    )


def linked(folder):
    root = folder / "root"
    if not root.exists():
        root.mkdir()
        (root / "files").symlink_to(folder, target_is_directory=True)
    return root


ANSWERED = {"context": "p2", "question": "q", "answers": [{"text": "p", "start": 0}]}
# (task, language): (train rows, test rows), the last test row
READ = {
    ("xnli", "sw"): (1, 1, {"text": "sw", "pair": "h", "label": 1}),
    ("pawsx", "ko"): (1, 2, {"text": "NS", "pair": "b", "label": 0}),
    ("panx", "yo"): (1, 1, {"words": ["R:S", "."], "tags": [3, 0]}),
    ("udpos", "de"): (None, 2, {"words": ["geht", "zum", "Arzt"], "tags": [15, 1, 7]}),
    ("xquad", "ro"): (None, 3, {"id": "2", **ANSWERED}),
    ("mlqa", "hi"): (None, 3, {"id": "2", **ANSWERED}),
    ("tydiqa", "te"): (None, 3, {"id": "telugu-2", **ANSWERED}),
    ("tatoeba", "lt"): (None, 2, {"text": "Taip.", "pair": "Yes."}),
    ("xcopa", "qu"): (None, 1, {"prompt": "It fell. What was the effect?", "options": ["x", "y"], "label": 1}),
}


@pytest.mark.parametrize(("name", "language"), READ)
def test_a_task_reads_its_publishers_files(folder, name, language):
    task = official(folder, name, language)
    train, test, last = READ[name, language]
    rows = task.source.rows("test", language)
    said = {column: value for column, value in rows[-1].items() if column != "unit"}
    assert (len(rows), said, task.languages) == (test, last, (language,))
    assert task.source.size("test", language).examples >= test
    if train is not None:
        assert len(task.source.rows("train", language)) == train
    assert check(task).rows > 0


def test_every_task_with_files_is_read_here():
    in_test_retrieval = {"bucc2018", "lareqa", "mewslix"}
    assert {name for name, _ in READ} == set(FILES) - in_test_retrieval


def test_labels_and_normaliser_are_those_of_the_hub_row(folder):
    assert official(folder, "mlqa", "hi").normaliser == "mlqa"
    assert official(folder, "xnli", "sw").labels == ("entailment", "neutral", "contradiction")
    [row] = official(folder, "xnli", "sw").source.rows("train", "en")
    assert row == {"text": 'en "quoted', "pair": "h", "label": 2}


def test_all_languages_of_the_benchmark_are_there_where_none_are_chosen(folder):
    for name in FILES:
        task = own_task(name, {"format": "xtreme", "path": "files"}, linked(folder), "t")
        assert set(languages_of(name)) <= set(task.languages)


def test_a_study_may_call_a_task_by_another_name(folder):
    description = {"format": "xtreme", "path": "files", "task": "tatoeba", "languages": ["lt"]}
    assert own_task("mine", description, linked(folder), "t").source.rows("test", "lt")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("xnly", {}, "t.task: found 'xnly'; a task of xtreme or xtreme-r is expected: xnli"),
        (
            "xnli",
            {"path": None},
            "t.path: found nothing; the key 'path' is expected: the folder with the benchmark's files",
        ),
        ("xnli", {"languages": ["swa"]}, "t.languages: found language 'swa'; its languages are"),
        (
            "xnli",
            {"labels": ["x"]},
            "t.labels: found the unknown key 'labels'; one of format, path, task, languages is",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(folder, name, changes, message):
    with pytest.raises(StudyError) as caught:
        own_task(name, {"format": "xtreme", "path": "files", **changes}, linked(folder), "t")
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(folder):
    with pytest.raises(DataError, match=r"multinli\.train\.th\.tsv: found no such file; correct tasks\.xnli\.train"):
        official(folder, "xnli", "th").source.rows("train", "th")
    with pytest.raises(DataError, match=r"ud-treebanks-v2\.5/\*/fr_\*-ud-test\.conllu: found no such file"):
        official(folder, "udpos", "fr").source.rows("test", "fr")


def test_a_treebank_line_of_other_columns_is_named(folder):
    write(folder / "ud-treebanks-v2.5/UD_Thai-PUD/th_pud-ud-test.conllu", "1\ta\tb\n\n")
    with pytest.raises(DataError, match=r"th_pud-ud-test\.conllu:1: found 3 columns; a line of CoNLL-U has 10"):
        official(folder, "udpos", "th").source.rows("test", "th")


def test_files_of_one_language_are_read_in_the_order_of_their_names(folder):
    source = official(folder, "udpos", "de").source
    places = [place.rsplit("/", 1)[1] for place, _ in source.located("test", "de")]
    assert places == ["de_gsd-ud-test.conllu:7", "de_hdt-ud-test.conllu:2"]


# Written words


def tagged(language, *words):
    return written_words([line.split("\t") for line in conllu(*words).splitlines()[1:] if line], language)


def test_a_written_word_has_the_tag_of_its_word_nearest_to_the_root():
    words = [("1-2", "vámonos", "_", "_", "_"), ("1", "vamos", "VERB", 0, "_"), ("2", "nos", "PRON", 1, "_")]
    assert tagged("es", *words) == (["vámonos"], ["VERB"])


@pytest.mark.parametrize(("language", "tag"), [("de", "ADP"), ("it", "ADP"), ("en", "ADP"), ("fr", "ADP")])
def test_of_equally_near_words_the_tag_that_ranks_first_is_taken(language, tag):
    words = [("1-2", "zum", "_", "_", "_"), ("1", "dem", "DET", 3, "_"), ("2", "zu", "ADP", 3, "_")]
    assert tagged(language, *words, ("3", "Arzt", "NOUN", 0, "_")) == (["zum", "Arzt"], [tag, "NOUN"])


def test_ranks_are_those_of_the_language():
    words = [
        ("1-2", "w", "_", "_", "_"),
        ("1", "a", "ADV", 3, "_"),
        ("2", "b", "PRON", 3, "_"),
        ("3", "c", "X", 0, "_"),
    ]
    assert tagged("it", *words)[1][0] == "ADV"
    assert tagged("fr", *words)[1][0] == "PRON"


def test_heads_of_the_enhanced_graph_count_and_empty_nodes_do_not():
    words = [("1-2", "w", "_", "_", "_"), ("1", "a", "NOUN", 3, "3:x|4:y"), ("2", "b", "VERB", 3, "3:x|3.1:y")]
    others = [("3", "c", "X", 0, "_"), ("3.1", "d", "X", "_", "_"), ("4", "e", "X", 3, "_")]
    assert tagged("en", *words, *others) == (["w", "c", "e"], ["VERB", "X", "X"])


def test_signs_that_are_not_seen_are_taken_out_of_words():
    assert tagged("fa", ("1", "می\u200cشود", "VERB", 0, "_"), ("2", "10 000", "NUM", 1, "_"))[0] == ["میشود", "10000"]


@pytest.mark.parametrize(
    ("words", "whole"), [(["a", "b"], True), (["_", "_", "."], False), (["_", "a", "b"], True), (["_"], False)]
)
def test_sentences_without_published_words_are_left_out(words, whole):
    assert is_whole(words) is whole


# Real files


def test_real_treebanks_have_written_words(shared_data, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/ud-treebanks-v2.5").symlink_to(shared_data / "ud", target_is_directory=True)
    description = {"format": "xtreme", "path": "files", "languages": ["de", "es", "tr", "yo"]}
    task = own_task("udpos", description, tmp_path, "t")
    counts = {}
    for language in task.languages:
        rows = task.source.rows("test", language)
        assert all(FAMILIES["token"].check(row, task.labels) is None for row in rows)
        counts[language] = len(rows)
    assert counts == {"de": 977, "es": 427, "tr": 1100, "yo": 317}
    german = [word for row in task.source.rows("test", "de") for word in row["words"]]
    assert "zum" in german


def test_real_xquad_and_xcopa_are_read(shared_data):
    for name, languages, count in (("xquad", ["en", "zh"], 1190), ("xcopa", ["ht"], 500)):
        description = {"format": "xtreme", "path": ".", "languages": languages}
        task = own_task(name, description, shared_data, "t")
        for language in languages:
            assert len(task.source.rows("test", language)) == count
