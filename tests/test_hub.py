"""Hub data sets, offline: small Parquet folders with the columns of the real ones, read by the real `load_dataset`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from sweep.errors import DataError, StudyError
from sweep.fingerprint import fingerprint
from sweep.tasks import FAMILIES, HUB, TASKS
from sweep.tasks.base import Size
from sweep.tasks.sources import check, hub_task

NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"]
UPOS += ["SCONJ", "SYM", "VERB", "X"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
TEXT = Value("string")
ANSWERS = {"text": List(TEXT), "answer_start": List(Value("int32"))}
COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of a repository that is made up here


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """`datasets` prepares what it loads; keep that out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


@pytest.fixture
def repository(tmp_path):
    """Writes a folder laid out like a hub repository: {config: {split: rows}}."""

    def write(name: str, features: dict, configs: dict[str, dict[str, list[dict]]]) -> Path:
        folder = tmp_path / name.replace("/", "__")
        lines = ["---", "configs:"]
        for config, splits in configs.items():
            (folder / config).mkdir(parents=True, exist_ok=True)
            lines += [f"- config_name: {config}", "  data_files:"]
            for split, rows in splits.items():
                Dataset.from_list(rows, features=Features(features)).to_parquet(folder / config / f"{split}-0.parquet")
                lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
        return folder

    return write


def offline(name: str, folders: dict[str, Path], **changes):
    """The table's task with every hub id replaced by a local folder."""
    text = json.dumps({**HUB[name], **changes})
    for identifier, folder in folders.items():
        text = text.replace(f'"{identifier}"', json.dumps(str(folder)))
    return hub_task(name, json.loads(text), f"tasks.{name}")


def pair(label):
    return {"premise": "p", "hypothesis": "h", "label": label}


@pytest.fixture
def xnli(repository):
    """XNLI in two languages; the English test split has a row without label."""
    features = {"premise": TEXT, "hypothesis": TEXT, "label": NLI}
    english = {"train": [pair(0), pair(1), pair(2)], "validation": [pair(1)], "test": [pair(2)]}
    return repository("facebook/xnli", features, {"en": english, "de": {"test": [pair(0), pair(2)]}})


def test_class_labels_are_read_by_name(xnli):
    """Hub and XTREME number the same labels differently, so integers are never trusted."""
    task = offline("xnli", {"facebook/xnli": xnli}, labels=["contradiction", "entailment", "neutral"])
    assert task.source.rows("test", "de") == [
        {"text": "p", "pair": "h", "label": 1},
        {"text": "p", "pair": "h", "label": 0},
    ]


def test_a_check_reads_the_splits_of_all_languages(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, languages=["en", "de"])
    assert check(task, FAMILIES["sequence"]) == 3 + 1 + 1 + 2


def test_snli_rows_without_label_are_dropped(repository):
    features = {"premise": TEXT, "hypothesis": TEXT, "label": NLI}
    folder = repository("snli", features, {"plain_text": {"train": [pair(-1), pair(1), pair(-1)]}})
    rows = offline("snli", {"stanfordnlp/snli": folder}).source.rows("train", "en")
    assert [row["label"] for row in rows] == [1]


def test_mnli_is_read_from_glue(repository):
    features = {"premise": TEXT, "hypothesis": TEXT, "label": NLI, "idx": Value("int32")}
    splits = {split: [{**pair(2), "idx": 0}] for split in ("train", "validation_matched", "validation_mismatched")}
    task = offline("mnli", {"nyu-mll/glue": repository("glue", features, {"mnli": splits})})
    assert task.source.rows("train", "en") == [{"text": "p", "pair": "h", "label": 2}]
    assert check(task, FAMILIES["sequence"]) == 3


def test_pawsx_labels_are_digits_that_get_names(repository):
    features = {"id": Value("int32"), "sentence1": TEXT, "sentence2": TEXT, "label": ClassLabel(names=["0", "1"])}
    rows = [{"id": 1, "sentence1": "a", "sentence2": "b", "label": 1}]
    folder = repository("paws-x", features, {"ko": {"test": rows}})
    task = offline("pawsx", {"google-research-datasets/paws-x": folder})
    assert task.labels == ("different", "paraphrase")
    assert task.source.rows("test", "ko") == [{"text": "a", "pair": "b", "label": 1}]


def test_squad_answers_are_a_mapping_of_lists(repository):
    features = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    answers = {"text": ["c"], "answer_start": [0]}
    rows = [{"id": "7", "title": "t", "context": "c d", "question": "q", "answers": answers}]
    task = offline("squad", {"rajpurkar/squad": repository("squad", features, {"plain_text": {"validation": rows}})})
    answer = {"text": "c", "start": 0}
    assert task.source.rows("test", "en") == [{"id": "7", "context": "c d", "question": "q", "answers": [answer]}]


def test_xquad_is_trained_on_squad_and_tested_in_its_own_languages(repository):
    features = {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    answers = {"text": ["c"], "answer_start": [0]}

    def rows(context, count):
        return [{"id": str(i), "context": context, "question": "q", "answers": answers} for i in range(count)]

    train = [row for i in range(40) for row in rows(f"c{i}", 2)]
    folders = {
        "rajpurkar/squad": repository("squad", features, {"plain_text": {"train": train}}),
        "google/xquad": repository("xquad", features, {"xquad.ro": {"validation": rows("c", 3)}}),
    }
    task = offline("xquad", folders)
    assert len(task.source.rows("test", "ro")) == 3
    dev = {row["context"] for row in task.source.rows("dev", "en")}
    assert dev == {"c0", "c20"}
    assert not dev & {row["context"] for row in task.source.rows("train", "en")}


def test_hellaswag_labels_are_text_and_its_endings_one_column(repository):
    features = {"ind": Value("int32"), "activity_label": TEXT, "ctx": TEXT, "endings": List(TEXT), "label": TEXT}
    row = {"ind": 1, "activity_label": "Roofing", "ctx": "A man", "endings": ["a", "b", "c", "d"], "label": "3"}
    folder = repository("hellaswag", features, {"default": {"validation": [row]}})
    task = offline("hellaswag", {"Rowan/hellaswag": folder})
    options = ["a", "b", "c", "d"]
    assert task.source.rows("test", "en") == [{"prompt": "Roofing: A man", "options": options, "label": 3}]


def test_siqa_answers_are_three_columns_counted_from_one(repository):
    features = dict.fromkeys(("context", "question", "answerA", "answerB", "answerC", "label"), TEXT)
    row = {"context": "c", "question": "q", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"}
    folder = repository("siqa", features, {"default": {"validation": [row]}})
    task = offline("siqa", {"lighteval/siqa": folder})
    assert task.source.rows("test", "en") == [{"prompt": "c q", "options": ["x", "y", "z"], "label": 2}]


def test_commonsense_qa_choices_lie_inside_a_column(repository):
    features = {"question": TEXT, "choices": {"label": List(TEXT), "text": List(TEXT)}, "answerKey": TEXT}
    options = ["v", "w", "x", "y", "z"]
    row = {"question": "q", "choices": {"label": list("ABCDE"), "text": options}, "answerKey": "D"}
    folder = repository("commonsense_qa", features, {"default": {"validation": [row]}})
    task = offline("commonsense_qa", {"tau/commonsense_qa": folder})
    assert task.source.rows("test", "en") == [{"prompt": "q", "options": options, "label": 3}]


def test_tags_of_panx_and_udpos_are_read_by_name(repository):
    features = {"tokens": List(TEXT), "ner_tags": List(ClassLabel(names=ENTITIES)), "langs": List(TEXT)}
    row = {"tokens": ["In", "Ulm"], "ner_tags": [0, 5], "langs": ["de", "de"]}
    folder = repository("xtreme-ner", features, {"PAN-X.de": {"test": [row]}})
    task = offline("panx", {"google/xtreme": folder})
    assert task.source.rows("test", "de") == [{"words": ["In", "Ulm"], "tags": [0, 5]}]

    features = {"tokens": List(TEXT), "pos_tags": List(ClassLabel(names=UPOS))}
    folder = repository("xtreme-pos", features, {"udpos.Yoruba": {"test": [{"tokens": ["a"], "pos_tags": [15]}]}})
    task = offline("udpos", {"google/xtreme": folder})
    assert task.source.rows("test", "yo") == [{"words": ["a"], "tags": [task.labels.index("VERB")]}]


def test_xcopa_asks_for_cause_or_effect_and_english_is_copa(repository):
    features = {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "idx": Value("int32")}
    row = {"premise": "p.", "choice1": "x", "choice2": "y", "question": "cause", "idx": 0, "label": 1}
    copa = {**features, "label": ClassLabel(names=["choice1", "choice2"])}
    folders = {
        "aps/super_glue": repository("super_glue", copa, {"copa": {"validation": [{**row, "question": "effect"}]}}),
        "cambridgeltl/xcopa": repository("xcopa", {**features, "label": Value("int32")}, {"qu": {"test": [row]}}),
    }
    task = offline("xcopa", folders)
    assert task.source.rows("test", "qu") == [{"prompt": "p. This is because", "options": ["x", "y"], "label": 1}]
    assert task.source.rows("test", "en") == [{"prompt": "p. As a result", "options": ["x", "y"], "label": 1}]


def test_tatoeba_sentences_lose_their_line_ends(repository):
    features = dict.fromkeys(("source_sentence", "target_sentence", "source_lang", "target_lang"), TEXT)
    row = {"source_sentence": "Hei.\n", "target_sentence": "Hi.\n", "source_lang": "/tmp/x", "target_lang": "eng"}
    folder = repository("xtreme-tatoeba", features, {"tatoeba.fin": {"validation": [row]}})
    task = offline("tatoeba", {"google/xtreme": folder})
    assert task.train_language is None
    assert task.source.rows("test", "fi") == [{"text": "Hei.", "pair": "Hi."}]


def test_languages_that_are_stacked_in_one_split_are_told_apart_by_a_column(repository):
    features = {"language": TEXT, "sentence1": TEXT, "sentence2": TEXT, "gold_label": TEXT}
    rows = [{"language": code, "sentence1": code, "sentence2": "h", "gold_label": "neutral"} for code in ("de", "sw")]
    description = {
        "family": "sequence",
        "hub": str(repository("xtreme", features, {"XNLI": {"test": rows}})),
        "config": "XNLI",
        "columns": {"text": "sentence1", "pair": "sentence2", "label": "gold_label"},
        "labels": ["entailment", "neutral", "contradiction"],
        "languages": ["de", "sw"],
        "keep": {"language": "{language}"},
        "test": "test",
        "sizes": {"test": 1},
        "tokens": 40,
    }
    task = hub_task("t", description, "tasks.t")
    assert [row["text"] for row in task.source.rows("test", "sw")] == ["sw"]


# What a plan knows without a network


@pytest.mark.parametrize("name", sorted(HUB))
def test_every_row_of_the_table_has_sizes_for_its_splits(name):
    task = TASKS[name]
    for language in task.languages:
        assert task.source.size("test", language).examples > 0
    for language in task.trained_in:
        train, dev = task.source.size("train", language), task.source.size("dev", language)
        assert train.examples > dev.examples > 0
    fingerprint(task.source.identity())


def test_a_share_of_train_is_taken_from_its_size():
    assert TASKS["squad"].source.size("dev", "en") == Size(4380, 175.0)
    assert TASKS["squad"].source.size("train", "en") == Size(87_599 - 4380, 175.0)


@pytest.mark.parametrize(("name", "count"), [("xnli", 15), ("pawsx", 7)])
def test_training_data_is_there_in_other_languages(name, count):
    assert len(TASKS[name].sources) == count
    assert TASKS[name].trained_in == ("en",)
    for language in TASKS[name].sources:
        assert TASKS[name].source.size("train", language).examples > 0


def test_an_unresolved_source_says_so():
    assert TASKS["xcopa"].source.identity()["revision"] is None


def test_sizes_are_asked_for():
    description = {**HUB["xnli"], "sizes": {"train": 3}}
    with pytest.raises(StudyError, match=r"tasks\.xnli\.sizes: found nothing; the rows per language of dev, test"):
        hub_task("xnli", description, "tasks.xnli")


# Revisions


def test_a_commit_in_the_study_file_needs_no_look_up():
    task = hub_task("xnli", {**HUB["xnli"], "revision": COMMIT}, "tasks.xnli")
    assert task.source.resolve().identity()["revision"] == COMMIT


def test_a_local_folder_is_resolved_to_the_digest_of_its_files(xnli):
    source = offline("xnli", {"facebook/xnli": xnli}).source.resolve()
    assert source.revision
    assert source == source.resolve()
    assert len(source.rows("train", "en")) == 3
    (xnli / "README.md").write_text((xnli / "README.md").read_text() + "\nchanged\n")
    with pytest.raises(DataError, match="a folder that has changed since the study began"):
        source.rows("train", "en")


def test_data_sets_of_one_task_have_a_commit_each(repository):
    folders = {
        "aps/super_glue": repository("super_glue", {"a": TEXT}, {"copa": {"train": [{"a": "x"}]}}),
        "cambridgeltl/xcopa": repository("xcopa", {"a": TEXT}, {"qu": {"test": [{"a": "x"}]}}),
    }
    source = offline("xcopa", folders).source.resolve()
    assert source.identity()["data_sets"] == ["super_glue", "xcopa"]
    assert len(source.revision.split("+")) == 2


def test_offline_the_commit_is_the_one_that_the_local_cache_refers_to(tmp_path):
    reference = tmp_path / "hub/datasets--facebook--xnli/refs/main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    assert TASKS["xnli"].source.resolve().revision == COMMIT


def prepared(folder: Path, tmp_path: Path, config: str, split: str, commit: str) -> None:
    """Puts a data set into the cache of `datasets` as a download of that commit would have left it."""
    datasets.load_dataset(str(folder), config, split=split)
    [done] = (tmp_path / "cache" / folder.name).glob(f"{config}/*/*/dataset_info.json")
    target = tmp_path / "cache/facebook___xnli" / config / "0.0.0" / commit
    target.parent.mkdir(parents=True)
    done.parent.rename(target)
    for arrow in target.glob("*.arrow"):
        arrow.rename(target / arrow.name.replace("facebook__xnli", "xnli"))


def test_offline_a_prepared_data_set_is_found_with_its_commit(xnli, tmp_path):
    prepared(xnli, tmp_path, "de", "test", COMMIT)
    source = TASKS["xnli"].source.resolve()
    assert source.revision == COMMIT
    assert len(source.rows("test", "de")) == 2


def test_another_commit_in_the_cache_is_never_taken_for_the_one_asked_for(xnli, tmp_path):
    prepared(xnli, tmp_path, "de", "test", COMMIT)
    task = hub_task("xnli", {**HUB["xnli"], "revision": COMMIT[::-1]}, "tasks.xnli")
    with pytest.raises(DataError, match=f"found commit {COMMIT} in the local cache") as caught:
        task.source.resolve().rows("test", "de")
    assert COMMIT[::-1] in str(caught.value)


# What is said where a data set cannot be had


def test_offline_an_absent_data_set_is_named_with_what_would_do():
    for call in (TASKS["xnli"].source.resolve, lambda: TASKS["xnli"].source.rows("test", "de")):
        with pytest.raises(DataError) as caught:
            call()
        message = str(caught.value)
        assert "facebook/xnli" in message
        assert "a folder with its README.md and Parquet files, written for 'facebook/xnli' in tasks.xnli" in message
        assert "\n" not in message


def test_an_unknown_configuration_is_answered_with_those_there_are(xnli):
    task = offline("xnli", {"facebook/xnli": xnli})
    with pytest.raises(DataError, match=r"BuilderConfig 'sw' not found\. Available: \['en', 'de'\]"):
        task.source.rows("test", "sw")


def test_columns_that_changed_are_named_with_those_expected(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, columns={"text": "sentence1", "pair": "hypothesis"})
    with pytest.raises(DataError, match="no column 'sentence1'; the columns are premise, hypothesis, label"):
        task.source.rows("test", "de")


def test_a_split_that_is_filtered_to_nothing_is_refused(xnli):
    task = offline("xnli", {"facebook/xnli": xnli}, skip={"premise": ["p"]})
    with pytest.raises(DataError, match="found no test rows"):
        task.source.rows("test", "de")


def test_the_table_is_there_without_heavy_libraries():
    code = "import sys, sweep.tasks; print([m for m in ('datasets', 'pyarrow', 'torch', 'pandas') if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert output.stdout.strip() == "[]"
