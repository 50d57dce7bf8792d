"""Facts of rows on disk: they come back equal to the last type, and a study opens each file of its data once."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from family_cases import CASES
from small_studies import chains_of, events_of, study_file, with_encoder_of

from sweep.data import Size
from sweep.data.local import SAMPLE
from sweep.data.rows import AT_ONCE, TUPLE, located, open_rows, together, write_rows
from sweep.errors import DataError, StoreError
from sweep.heartbeat import Heartbeat
from sweep.plan.plan import Plan
from sweep.plan.recipe import Chain
from sweep.run.chain import run
from sweep.store.artifacts import Store
from sweep.tasks.describe import own_task
from sweep.train.context import set_up

CHARACTERS = ["a", "\u00e9", "e\u0301", "\u0634", "\U00010348", "\ud800", "\0", "\u2028", '"', "\\", ",", "\n"]


def value(random: Random, depth: int) -> Any:
    """Random value of any type that rows have."""
    kinds = ["text", "int", "float", "bool", "none", *(["list", "tuple", "dict"] if depth else [])]
    inside = [value(random, depth - 1) for _ in range(random.randrange(4))] if depth else []
    text = "".join(random.choices(CHARACTERS, k=random.randrange(6)))
    return {
        "text": text, "int": random.choice([0, 1, -1, 2**70]), "float": random.choice([0.0, 1.0, -0.1, 1e300]),
        "bool": random.random() < 0.5, "none": None, "list": inside, "tuple": tuple(inside),
        "dict": {f"{text}{number}": item for number, item in enumerate(inside)},
    }[random.choice(kinds)]  # fmt: skip


def kept(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they come back from a file."""
    write_rows((("xx", f"file:{number}", row) for number, row in enumerate(rows)), ["xx"], path)
    split = open_rows(path, "xx")
    assert list(split.places) == [f"file:{number}" for number in range(len(rows))]
    return list(split.rows)


def typed(value: Any) -> Any:
    """The value with the type of everything in it: 1, 1.0 and True are equal to Python."""
    if isinstance(value, dict):
        return "dict", [(name, typed(item)) for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [typed(item) for item in value]
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_rows_come_back_equal_to_the_last_type(count, tmp_path):
    random = Random(count)
    rows = [{name: value(random, 3) for name in ("text", "label", "x\0y")} for _ in range(count)]
    assert typed(kept(tmp_path / "rows.arrow", rows)) == typed(rows)


def test_texts_come_back_as_they_were_and_not_normalised(tmp_path):
    texts = ["", "e\u0301", "\u00e9", "\u2028", "\ufeff", "\ud800", "a,b", '"', "\\u0000tuple", TUPLE, "𐍈", "\r\n"]
    rows = [{"text": text, "pair": None, "label": number} for number, text in enumerate([*texts, *texts])]
    assert typed(kept(tmp_path / "rows.arrow", rows)) == typed(rows)


def test_numbers_that_are_none_come_back_too(tmp_path):
    rows = kept(tmp_path / "rows.arrow", [{"score": math.nan}, {"score": -math.inf}, {"score": -0.0}])
    assert math.isnan(rows[0]["score"])
    assert (rows[1]["score"], math.copysign(1, rows[2]["score"])) == (-math.inf, -1)


@pytest.mark.parametrize("name", CASES)
def test_rows_of_every_family_come_back(name, tmp_path):
    assert typed(kept(tmp_path / "rows.arrow", CASES[name].rows)) == typed(CASES[name].rows)


def test_a_row_is_found_by_its_number_and_a_slice_is_a_list(tmp_path):
    count = 2 * AT_ONCE + 3
    kept(tmp_path / "rows.arrow", [{"label": number} for number in range(count)])
    rows = open_rows(tmp_path / "rows.arrow", "xx").rows
    assert [rows[number]["label"] for number in (0, -1, AT_ONCE, np.int64(5))] == [0, count - 1, AT_ONCE, 5]
    assert [row["label"] for row in rows[7 : AT_ONCE + 9]] == list(range(7, AT_ONCE + 9))
    assert [row["label"] for row in rows[::-100]] == list(range(count))[::-100]
    assert rows[count:] == []
    with pytest.raises(IndexError):
        rows[count]


@pytest.mark.parametrize("value", [{1, 2}, np.float64(0.5), {1: "a"}, {TUPLE: []}, b"bytes"])
def test_a_value_that_would_come_back_otherwise_is_refused_with_its_place(value, tmp_path):
    with pytest.raises(DataError, match=r"file:1: found a value of the type (set|float64|dict|bytes) in a row"):
        kept(tmp_path / "rows.arrow", [{"text": "sound"}, {"text": [value]}])
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named_and_how_to_mend_it(tmp_path):
    path = tmp_path / "rows.arrow"
    kept(path, [{"text": "word"}] * 3)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(StoreError, match=r"rows\.arrow: found damaged rows .*; delete the file; it is made again"):
        open_rows(path, "xx")
    path.write_bytes(content.replace(b'"word"', b'"wo"d"'))
    with pytest.raises(StoreError, match=r"rows\.arrow: found damaged rows"):
        list(open_rows(path, "xx").rows)
    with pytest.raises(StoreError, match=r"rows\.arrow: found damaged rows"):
        open_rows(path, "another language")
    with pytest.raises(FileNotFoundError):
        open_rows(tmp_path / "absent.arrow", "xx")


# Data that several languages share


LANGUAGES = ("en", "de", "sw")
LABELS = ["yes", "no"]


def described(folder: Path, count: int = 12) -> dict[str, Any]:
    """One file of all languages per split, the languages in turns."""
    for split in ("train", "dev", "test"):
        lines = [
            "\t".join([language, f"{language} {split} {number} bo ka", LABELS[number % 5 % 2], f"item {number // 2}"])
            for number in range(count)
            for language in LANGUAGES
        ]
        (folder / f"{split}.tsv").write_text("\n".join(["language\ttext\tlabel\titem", *lines, ""]), encoding="utf-8")
    one = {"keep": {"language": "{language}"}}
    return {
        "family": "sequence", "format": "tsv", "labels": LABELS, "languages": [*LANGUAGES], "train_language": "en",
        "columns": {"text": "text", "label": "label", "unit": "item"},
        **{split: {"path": f"{split}.tsv", **one} for split in ("train", "dev", "test")},
    }  # fmt: skip


def test_one_pass_gives_the_rows_of_all_languages_of_a_file_as_one_pass_each_does(tmp_path):
    source = own_task("shared", described(tmp_path), tmp_path, "tasks.shared").source
    assert together(source, "test", "de") == LANGUAGES
    found: dict[str, list[tuple[str, Any]]] = {language: [] for language in LANGUAGES}
    for language, place, row in located(source, "test", LANGUAGES):
        found[language].append((place, row))
    for language in LANGUAGES:
        assert [row for _, row in found[language]] == source.rows("test", language)
        assert [place for place, _ in found[language]] == source.places("test", language)


def test_languages_with_files_of_their_own_do_not_stand_together(tmp_path):
    own = {"family": "sequence", "format": "tsv", "labels": LABELS, "languages": ["en", "de"], "test": "{code}.tsv"}
    for language in ("en", "de"):
        (tmp_path / f"{language}.tsv").write_text("text\tlabel\nbo\tyes\n")
    source = own_task("apart", own, tmp_path, "tasks.apart").source
    assert together(source, "test", "de") == ("de",)


def test_a_language_without_rows_in_a_shared_file_is_named(tmp_path):
    source = own_task("shared", described(tmp_path), tmp_path, "tasks.shared").source
    (tmp_path / "test.tsv").write_text("language\ttext\tlabel\titem\nen\tbo\tyes\t1\nde\tbo\tno\t1\n")
    with pytest.raises(DataError, match="no test rows"):
        list(located(source, "test", LANGUAGES))


def test_sizes_of_languages_that_share_a_file_are_those_of_their_rows(tmp_path):
    source = own_task("shared", described(tmp_path, count=70), tmp_path, "tasks.shared").source
    with (tmp_path / "test.tsv").open("a") as file:
        file.write("de\tbo\tno\titem\n")
    for language, count in (("en", 70), ("de", 71), ("sw", 70)):
        family, first = source.parts("test", language)[0].columns.family, source.rows("test", language)[:SAMPLE]
        tokens = sum(map(family.guess_tokens, first)) / len(first)
        assert source.size("test", language) == Size(count, tokens)


def test_a_bad_row_of_a_language_that_nobody_asks_for_spoils_no_size(tmp_path):
    source = own_task("shared", described(tmp_path), tmp_path, "tasks.shared").source
    with (tmp_path / "test.tsv").open("a") as file:
        file.write("de\tbo\tperhaps\titem\n")
    assert source.size("test", "en").examples == 12
    with pytest.raises(DataError, match="the label 'perhaps'"):
        source.size("test", "de")


# Chains


@pytest.fixture
def study(small_store: Store, tmp_path: Path) -> tuple[Store, Plan, list[Chain], Path]:
    """Two chains with other seeds on one target, whose data lie in a folder."""
    data = tmp_path / "data"
    data.mkdir()
    path = study_file(
        tmp_path, {"target": ["shared"], "seed": [1, 2]}, tasks={"shared": described(data)}, data_root="data",
        scoring={"examples": None},
    )  # fmt: skip
    made = list(chains_of(path))
    return with_encoder_of(small_store, tmp_path / "store"), made[0][1], [chain for chain, _ in made], data


def scores(store: Store, chain: Chain) -> Any:
    score = store.score(chain.score)
    assert score is not None
    return (
        score.languages,
        {language: table.tolist() for language, table in store.statistics(chain.score).items()},
        {language: numbers.tolist() for language, numbers in store.units(chain.score).items()},
        store.predictions(chain.score).read_bytes(),
        {path.name: path.read_bytes() for path in store.labels(chain.score).iterdir()},
    )


def test_a_second_chain_is_scored_to_the_digit_after_the_data_are_gone(study, small_store, tmp_path):
    store, plan, (first, second), data = study
    another = with_encoder_of(small_store, tmp_path / "another")
    run(second, plan, another)
    parsed = Counter(event.doing for event in events_of(first, plan, store) if event.doing.startswith("parsing"))
    assert parsed == {"parsing shared (dev, en)": 1, "parsing shared (test, en, de, sw)": 1}
    for file in data.iterdir():
        file.unlink()
    run(second, plan, store)
    assert scores(store, second) == scores(another, second)


def test_a_store_without_kept_rows_goes_on_and_keeps_them(study):
    store, plan, (first, second), _ = study
    others = set((store.root / "data").glob("rows-*"))
    run(first, plan, store)
    made = {path: path.read_bytes() for path in {*(store.root / "data").glob("rows-*")} - others}
    assert len(made) == 2
    for path in made:
        path.unlink()
    run(second, plan, store)
    assert {path: path.read_bytes() for path in made} == made


def test_data_that_change_under_a_running_study_are_noticed_and_not_kept(study):
    store, plan, (first, _), data = study
    before = set((store.root / "data").glob("rows-*"))
    (data / "test.tsv").write_text((data / "test.tsv").read_text().replace("bo ka", "bo ko"))
    with pytest.raises(DataError, match=r"shared \(test, en\): found data that has changed since the study started"):
        run(first, plan, store)
    assert len(set((store.root / "data").glob("rows-*")) - before) == 1  # of dev


def test_encoders_and_lengths_share_the_rows(study):
    store, plan, (first, _), _ = study
    context = set_up(first, plan, store)
    beats = Counter[str]()

    class Counting(Heartbeat):
        def beat(self, doing: str = "") -> None:
            beats[doing.partition(" ")[0]] += 1

    reader = replace(context.reader, heartbeat=Counting())
    task = plan.tasks["shared"]
    for length in (16, 32):
        for language in LANGUAGES:
            assert reader.encoded(task, "test", language, length).examples == len(task.source.rows("test", language))
    assert (beats["parsing"], beats["encoding"]) == (1, 6)


def test_a_unit_that_a_description_names_anew_is_read_anew(study):
    """A unit is part of no digest of dev rows, and retention is told of the units of some."""
    store, plan, (first, _), data = study
    reader = set_up(first, plan, store).reader
    task = plan.tasks["shared"]
    assert reader.rows(task, "dev", "en").rows[3]["unit"] == "item 1"
    renamed = described(data) | {"columns": {"text": "text", "label": "label", "unit": "label"}}
    other = own_task("shared", renamed, data, "tasks.shared")
    assert other.digest("dev", "en") == task.digest("dev", "en")
    assert reader.rows(other, "dev", "en").rows[3]["unit"] == "no"
