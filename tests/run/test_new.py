"""Facts about `sweep new`: what it writes for files of every family and format passes `sweep check` as it stands."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

import pyarrow
import pytest
from documentation import blocks, write_files
from pyarrow import parquet
from ruamel.yaml import YAML

from sweep.cli import main

NLI = [("a man sleeps here", "nobody is awake", "neutral"), ("two dogs run fast", "the animals move", "entailment"),
       ("the sun is up now", "it is dark night", "contradiction")]  # fmt: skip
TOPICS = [("the game was won late", "sport"), ("a ship left the port", "travel"), ("they ran all day", "sport")]
TAGGED = "John B-PER\nlives O\nin O\nNew B-LOC\nYork I-LOC\n\nHe O\nleft O\n\n"
CONLLU = "# text = a dog\n1\ta\ta\tDET\tDT\t_\t2\tdet\t_\t_\n2\tdog\tdog\tNOUN\tNN\t_\t0\troot\t_\t_\n\n"


def table(rows, *header, by="\t"):
    return "".join(by.join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def repeated(rows, times=4):
    """Rows with texts of their own: data sets of which no two rows are the same."""
    return [(f"{first} {number}", *rest) for number in range(times) for first, *rest in rows]


def squad(context="The tower stands in Paris today."):
    def one(number):
        answer = {"text": "Paris", "answer_start": context.index("Paris")}
        return {"id": str(number), "question": f"Where is it {number}?", "answers": [answer]}

    paragraphs = [{"context": f"{context} {unit}", "qas": [one(2 * unit), one(2 * unit + 1)]} for unit in range(4)]
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]})


def copa(count=4):
    return lines(
        {"premise": f"It rained on {n}.", "choice1": f"It was wet {n}.", "choice2": f"It was dry {n}.",
         "question": ("cause", "effect")[n % 2], "label": n % 2, "idx": n} for n in range(count)
    )  # fmt: skip


def by_split(name, content, languages=("en", "sw")):
    """Files of train and dev in English, and of test in each language."""
    files = {name.format(split=split, language="en"): content for split in ("train", "dev")}
    return files | {name.format(split="test", language=language): content for language in languages}


HEADED = table(repeated(TOPICS), "text", "category")
PAIRS = table(repeated(NLI), "premise", "hypothesis", "gold_label")
SCORED = table(
    [(f"a cat sat {n}", f"a dog sat {n}", n % 3 + 0.25) for n in range(9)], "sentence1", "sentence2", "score"
)
BLOCKS = "".join(f"It rains on {n}\n{n % 2}\nit is wet {n}\nit is dry {n}\n" for n in range(6))
TARGETS = {
    "topics by file": (by_split("topics.{split}.{language}.tsv", HEADED), "sequence", "tsv"),
    "topics by folder": (by_split("{language}/{split}.tsv", HEADED), "sequence", "tsv"),
    "three letters": (by_split("{split}_{language}.csv", HEADED.replace("\t", ","), ("eng", "swh")), "sequence", "csv"),
    "script in codes": (by_split("{language}_Latn/{split}.tsv", HEADED, ("en", "swh")), "sequence", "tsv"),
    "no header": (by_split("{split}-{language}.tsv", table(repeated(TOPICS))), "sequence", "tsv"),
    "pairs": (by_split("{split}.{language}.tsv", PAIRS), "sequence", "tsv"),
    "json lines": (by_split("{split}.{language}.jsonl", lines({"text": t, "label": n} for t, n in repeated(TOPICS))),
                   "sequence", "jsonl"),
    "no split": ({f"topics.{language}.tsv": HEADED for language in ("en", "sw")}, "sequence", "tsv"),
    "languages in a column": (
        {f"{split}.tsv": table([(*row, code) for code in codes for row in repeated(TOPICS)], "text", "label", "locale")
         for split, codes in (("train", ["en"]), ("test", ["en", "sw", "yo"]))}, "sequence", "tsv",
    ),
    "splits in a column": (
        {"all.tsv": table([(f"{text} {split}", label, split, code) for split in ("train", "validation", "test")
                           for code in ("en", "sw") for text, label in repeated(TOPICS)],
                          "text", "label", "split", "lang")}, "sequence", "tsv",
    ),
    "scores": (by_split("{split}.{language}.tsv", SCORED), "regression", "tsv"),
    "entities": (by_split("{language}/{split}.txt", TAGGED * 3), "token", "conll"),
    "treebank": (by_split("{language}_x-ud-{split}.conllu", CONLLU * 3), "token", "conllu"),
    "wikiann": (by_split("{language}/{split}", "en:Paris\tB-LOC\nen:is\tO\n\n" * 3), "token", "panx"),
    "tags in lists": (by_split("{split}.{language}.jsonl", lines(
        {"tokens": ["Paris", "is", str(n)], "ner_tags": ["B-LOC", "O", "O"]} for n in range(5))), "token", "jsonl"),
    "squad": (by_split("{split}.{language}.json", squad()), "span", "squad"),
    "answers in lists": (by_split("{split}.{language}.jsonl", lines(
        {"id": str(n), "context": f"{n} is in Paris", "question": f"Where is {n}?",
         "answers": {"text": ["Paris"], "answer_start": [8]}} for n in range(5))), "span", "jsonl"),
    "options": (by_split("{split}.{language}.jsonl", copa()), "choice", "jsonl"),
    "lettered options": (by_split("{split}.{language}.csv", table(
        [(f"it rains {n}", f"it is wet {n}", f"it is dry {n}", f"it is hot {n}", "ABC"[n % 3]) for n in range(6)],
        "question", "OptionA", "OptionB", "OptionC", "answer", by=",")), "choice", "csv"),
    "options in mappings": (by_split("{split}.{language}.jsonl", lines(
        {"id": n, "question": {"stem": f"why does it rain {n}", "choices": [
            {"label": mark, "text": f"it is {mark} {n}"} for mark in "ABC"]}, "answerKey": "ABC"[n % 3]}
        for n in range(6))), "choice", "jsonl"),
    "records": (by_split("{split}.{language}.txt", BLOCKS), "choice", "blocks"),
    "translations": ({f"news.sw-en.{code}": "".join(f"line {code} {n}\n" for n in range(5)) for code in ("sw", "en")},
                     "embedding", "parallel"),
    "queries": (by_split("{split}.{language}.jsonl", lines(
        {"id": str(n), "query": f"what is {n}", "candidate": f"it is {n}"} for n in range(5))), "ranking", "jsonl"),
    "comparable corpora": (
        {f"{split}.sw.jsonl": lines({"id": f"{side}{n}", "side": side, "text": f"{side} number {n}",
                                     "links": [f"pair{n}"] if side == "text" else []}
                                    for side in ("text", "pair") for n in range(4)) for split in ("dev", "test")},
        "mining", "jsonl",
    ),
}  # fmt: skip
INTERMEDIATES = {
    "one file": (
        {"nli.jsonl": lines({"premise": p, "hypothesis": h, "label": n} for p, h, n in repeated(NLI))}, "sequence",
    ),
    "raw text": (
        {f"raw/{code}.txt": "".join(f"a line of {code}, {n}\n" for n in range(count))
         for code, count in (("en", 12), ("sw", 10), ("yo", 11))}, "masked",
    ),
    "raw text with as many lines in each language, some blank": (
        {f"raw/{code}.txt": "".join(f"a line of {code}{' more' * n}\n\n" for n in range(12))
         for code in ("en", "sw", "yo")},
        "masked",
    ),
    "fractions without a header": ({"sts.csv": table(
        [(f"a cat sat {n}", f"a dog ran {n}", n % 5 + 0.5) for n in range(9)], by=",")}, "regression"),
    "hidden labels": ({"train.tsv": table([*repeated(TOPICS), ("of no topic", "-")], "text", "label")}, "sequence"),
    "empty texts": ({"train.tsv": table([*repeated(TOPICS), (" ", "sport")], "text", "label")}, "sequence"),
    "answers elsewhere": ({"train.jsonl": lines(
        {"id": str(n), "context": f"{n} is in Paris", "question": f"Where is {n}?",
         "answers": {"text": ["Paris"], "answer_start": [8 if n else -1]}} for n in range(5))}, "span"),
}  # fmt: skip


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """The command line in a folder of its own; answers (exit code, output, lines of errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = main([*map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return call


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def made(path="study.yaml"):
    return YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", TARGETS)
def test_a_study_on_a_target_passes_the_check(case, tmp_path, sweep):
    files, family, form = TARGETS[case]
    write(tmp_path / "mydata", files)
    given = [f"mydata/{name}" for name in files]
    code, out, errors = sweep("new", "--target", *given, "--encoder", "world/tiny")
    assert (code, errors) == (0, [])
    (task,) = made()["tasks"].values()
    assert (task["family"], task["format"]) == (family, form)
    assert f": {family}, " in out
    languages = {*task["languages"]} | {*task.get("train_languages", ())}
    assert languages & {"sw"}
    assert not languages & {"eng", "swh", "en_Latn", "swh_Latn"}
    code, out, errors = sweep("check", "study.yaml")
    assert (code, errors) == (0, [])


@pytest.mark.parametrize("case", INTERMEDIATES)
def test_a_study_on_an_intermediate_task_passes_the_check(case, tmp_path, sweep):
    files, family = INTERMEDIATES[case]
    write(tmp_path / "mydata", files)
    given = [f"mydata/{name}" for name in files]
    code, _, errors = sweep("new", "--target", "world/topic", "--intermediate", *given, "--encoder", "world/tiny")
    assert (code, errors) == (0, [])
    (task,) = made()["tasks"].values()
    assert task["family"] == family
    assert sweep("check", "study.yaml")[::2] == (0, [])


def test_tables_of_parquet_and_compressed_files_are_looked_into(tmp_path, sweep):
    rows = [{"text": text, "label": label} for text, label in repeated(TOPICS)]
    for name in ("train.en", "validation.en", "test.sw"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    (tmp_path / "nli.tsv.gz").write_bytes(gzip.compress(PAIRS.encode()))
    files = [path.name for path in sorted(tmp_path.glob("*.parquet"))]
    code, _, errors = sweep("new", "--target", *files, "--intermediate", "nli.tsv.gz", "--encoder", "world/tiny")
    assert (code, errors) == (0, [])
    target, intermediate = made()["tasks"].values()
    assert (target["format"], target["dev"], target["languages"]) == ("parquet", "validation.en.parquet", ["sw"])
    assert (intermediate["format"], intermediate["train"]) == ("tsv", "nli.tsv.gz")
    assert sweep("check", "study.yaml")[::2] == (0, [])


def test_nothing_is_overwritten(tmp_path, sweep):
    (tmp_path / "study.yaml").write_text("mine")
    code, _, errors = sweep("new", "--target", "world/topic")
    assert (code, len(errors)) == (2, 1)
    assert "study.yaml, which is there already" in errors[0]
    assert (tmp_path / "study.yaml").read_text() == "mine"


MISTAKES = {
    "no file": ({}, ["--target", "gone.tsv"], "gone.tsv: found no such file"),
    "empty": ({"a.tsv": ""}, ["--target", "a.tsv"], "a.tsv: found an empty file"),
    "not utf-8": ({}, ["--target", "latin.tsv"], "latin.tsv:1: found bytes that are not UTF-8"),
    "semicolons": ({"a.csv": "text;label\na b;c\n"}, ["--target", "a.csv"], "values separated by ';'"),
    "json list": ({"a.json": '[{"text": "x"}]'}, ["--target", "a.json"], "found a JSON list; one JSON object per line"),
    "two shapes": ({"train.tsv": HEADED, "test.sw.tsv": SCORED}, ["--target", "train.tsv", "test.sw.tsv"],
                   "are read alike"),
    "tags in another column": ({"train.txt": TAGGED.replace(" ", " NN ") * 3, "test.sw.txt": TAGGED * 3},
                               ["--target", "train.txt", "test.sw.txt"],
                               "test.sw.txt: found 2 columns, while"),
    "comparable corpora": (
        {f"{split}.{side}": "".join(f"{side}-{split}-{n}\ta sentence of {side} {n}\n" for n in range(5))
         for split in ("dev", "test") for side in ("de", "en")},
        ["--target", "dev.de", "dev.en", "test.de", "test.en"], "an id and a text on each line; comparable corpora",
    ),
    "no english": ({"test.sw.tsv": HEADED}, ["--target", "test.sw.tsv"], "found no English training and dev data"),
    "no test": ({"train.tsv": HEADED}, ["--target", "train.tsv"], "found no test data"),
    "raw target": ({"sw.txt": "a line\n"}, ["--target", "sw.txt"], "found lines of text; give it as --intermediate"),
    "no family": ({"train.tsv": "x\ty\n1\t2\n3\t4\n"}, ["--intermediate", "train.tsv"], "columns that no family knows"),
    "broken row": ({"train.tsv": HEADED + "one\n"}, ["--intermediate", "train.tsv"], "train.tsv:14: found 1 fields"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_file_that_cannot_be_used_is_one_line_with_what_would_do(case, tmp_path, sweep):
    files, arguments, said = MISTAKES[case]
    write(tmp_path, files)
    (tmp_path / "latin.tsv").write_bytes(b"\xff\tx\n")
    code, _, errors = sweep("new", *arguments, *([] if "--target" in arguments else ["--target", "world/topic"]))
    assert (code, len(errors)) == (2, 1)
    assert said in errors[0]
    assert not (tmp_path / "study.yaml").exists()


def test_every_data_set_with_a_mistake_has_its_line(tmp_path, sweep):
    write(tmp_path, {"a.tsv": "", "b.json": "[]"})
    code, _, errors = sweep("new", "--target", "a.tsv", "--target", "b.json", "--intermediate", "c.jsonl")
    assert (code, len(errors)) == (2, 3)


OWN = """
from sweep.tasks.masked_lm import MaskedFamily


class Verses(MaskedFamily):
    columns = ("verse",)
    suffix = "txt"

    def guess_columns(self, sample):
        return super(MaskedFamily, self).guess_columns(sample)

    def row(self, columns, raw, where):
        return {"verse": columns.text(raw, "verse", where), "text": raw["Verse"]}
"""


def test_a_family_of_ones_own_recognises_its_columns(tmp_path, sweep):
    write(
        tmp_path,
        {"verses_family.py": OWN, "train.tsv": table([(f"a verse of {n}", n) for n in range(9)], "Verse", "n")},
    )
    code, _, errors = sweep("new", "--target", "world/topic", "--intermediate", "train.tsv",
                            "--family", "verses_family:Verses", "--encoder", "world/tiny")  # fmt: skip
    assert (code, errors) == (0, [])
    (task,) = made()["tasks"].values()
    assert (task["family"], task["columns"]) == ("verses_family:Verses", {"verse": "Verse"})


def test_the_page_on_new_studies_shows_what_is_written(tmp_path, sweep):
    """Without the lines that depend on where the program lies and on the machine."""
    page = "docs/new-study.md"
    write_files(page, tmp_path)
    (shown,) = (block.text.splitlines() for block in blocks(page) if block.language == "text" and block.name is None)
    (dialogue,) = (block.text for block in blocks(page) if block.language == "console")
    assert sweep(*shlex.split(dialogue.splitlines()[0].removeprefix("$ sweep ")))[::2] == (0, [])
    written = (tmp_path / "topics.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in written if not line.startswith(("# yaml-", "runtime:"))] == [
        line for line in shown if not line.startswith("runtime:")
    ]


REAL = {
    "topics": (["--target", "sib200/*/test.tsv", "sib200/eng_Latn/*.tsv"], ["sequence"], 18),
    "entities": (["--target", "masakhaner2/pcm/*.txt", "masakhaner2/*/test.txt"], ["token"], 7),
    "answers": (["--target", "xquad/xquad.[dh]*.json", "squad/train-v1.1.json"], ["span"], 2),
    "translations": (["--target", "tatoeba/v1/tatoeba.[ab]*"], ["embedding"], 4),
    "passages in English": (["--target", "afriqa/gold_passages/*/*.json"], ["span"], 4),
    "pairs": (["--target", "sick/SICK_*.txt", "--intermediate", "ocnli/dev.json", "--intermediate", "msrp/*.tsv"],
              ["sequence"] * 3, 1),
    "entities of two sources": (
        ["--target", "sick/SICK_*.txt", "--intermediate", "wnut17/*", "--intermediate", "uner/UNER_E*/*dev.iob2"],
        ["sequence", "token", "token"], 1,
    ),
    "raw text": (["--target", "sick/SICK_*.txt", "--intermediate", "raw/[de][eu].txt"], ["sequence", "masked"], 1),
}  # fmt: skip


@pytest.mark.parametrize("case", REAL)
def test_a_study_on_published_files_passes_the_check(case, shared_data, sweep):
    arguments, families, languages = REAL[case]
    given = [str(path) for word in arguments for path in (sorted(shared_data.glob(word)) if "/" in word else [word])]
    code, _, errors = sweep("new", *given, "--encoder", "world/tiny")
    assert (code, errors) == (0, [])
    tasks = list(made()["tasks"].values())
    assert [task["family"] for task in tasks] == families
    assert len(tasks[0]["languages"]) == languages
    assert sweep("check", "study.yaml")[::2] == (0, [])


UNUSABLE = {
    "test data alone": (["--target", "xcopa/*/*.jsonl"], "found no English training and dev data; give its training"),
    "labels in a second file": (["--target", "comve/*/subtaskB*.csv"], "are read alike"),
    "text that nothing scores": (["--target", "sick/readme.txt"], "found lines of text; give it as --intermediate"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_published_files_that_make_no_target_are_one_line(case, shared_data, sweep):
    arguments, said = UNUSABLE[case]
    given = [str(path) for word in arguments for path in (sorted(shared_data.glob(word)) if "/" in word else [word])]
    code, _, errors = sweep("new", *given)
    assert (code, len(errors)) == (2, 1)
    assert said in errors[0]
