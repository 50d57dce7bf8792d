"""Facts about the JSON schema of a study file: it agrees with the program that reads the file, and is current."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

import sweep
from sweep.cli import main
from sweep.config.load import parse
from sweep.errors import StudyError
from sweep.tasks.describe import own_task
from sweep.tasks.description import study_schema

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = Path(sweep.__file__).parent / "study.schema.json"
SHIPPED = sorted([*REPOSITORY.glob("search_spaces/**/*.yaml"), *FILE.parent.glob("encoders/*/*.yaml")])
SCHEMA = Draft202012Validator(study_schema())

GOOD = """
study: sample
axes: {encoder: [a], intermediate: [none, nli, [nli, pos]], target: [topic], seed: [1, 2], volume: [10, full],
  target.weight_decay: [0, 0.01], target.clip: [1], intermediate.warmup: [0.1, {steps: 10}],
  intermediate.sampling.by: [uniform]}
encoders: {a: {path: some/where}}
intermediate: {learning_rate: {log: [1e-5, 1e-3], points: 3}, batch_tokens: 100, epochs: 1}
target: {learning_rate: 1e-5, batch_tokens: 100, steps: 5, warmup: 0.1, overrides: {topic: {steps: 10}}}
tasks: {topic: {family: sequence, format: tsv, labels: [x, y], languages: [en], train: a.tsv, dev: 0.1, test: b.tsv}}
scoring: {layer: 3}
budget: 2 Device-hours
deadline: 90 min
runtime: {gpu: 0.5, silence: 2h, keep_winners: 20 GB}
"""

BAD = [
    ("seed:", "sede:"),
    ("seed: [1, 2]", "seed: []"),
    ("seed: [1, 2]", "seed: [1, 1]"),
    ("seed: [1, 2]", "seed: ['1']"),
    ("seed: [1, 2]", "seed: [-1]"),
    ("volume: [10, full]", "volume: [ful]"),
    ("volume: [10, full]", "volume: [0]"),
    ("encoder: [a]", "encoder: a"),
    ("intermediate: [none, nli,", "intermediate: [none, {nli: 1},"),
    ("target.weight_decay", "target.weight_dekay"),
    ("target.weight_decay", "targt.weight_decay"),
    ("[0, 0.01]", "[-1]"),
    ("[0, 0.01]", "[0, 0]"),
    ("[0, 0.01]", "0.01"),
    ("{steps: 10}],", "{step: 10}],"),
    ("[uniform]", "[uniformly]"),
    ("study: sample", "study: a sample"),
    ("study: sample\n", ""),
    ("study: sample", "study: 5"),
    ("{path: some/where}", "{pth: some/where}"),
    ("points: 3", "points: 0"),
    ("points: 3", "points: 3, frist: 1e-4"),
    ("learning_rate: 1e-5", "learning_rate: fast"),
    ("learning_rate: 1e-5", "learning_rate: 0"),
    ("learning_rate: 1e-5, ", ""),
    ("batch_tokens: 100, steps: 5", "batch_tokens: 1.5, steps: 5"),
    ("warmup: 0.1", "warmup: 2"),
    ("warmup: 0.1", "warmup: {step: 2}"),
    ("warmup: 0.1", "schedule: cosine"),
    ("{steps: 10}", "{step: 10}"),
    ("{steps: 10}", "{steps: ten}"),
    ("family: sequence, ", ""),
    ("format: tsv", "fromat: tsv"),
    ("format: tsv", "format: tvs"),
    ("test: b.tsv", "test: {paht: b.tsv}"),
    ("dev: 0.1", "dev: {path: c.tsv, columns: 5}"),
    ("layer: 3", "layer: last"),
    ("2 Device-hours", "2 hours"),
    ("2 Device-hours", "2"),
    ("90 min", "90 minutes"),
    ("90 min", "90"),
    ("gpu: 0.5", "gpu: 2"),
    ("gpu: 0.5", "gpu: all"),
    ("silence: 2h", "silence: 30"),
    ("20 GB", "20 gigabytes"),
    ("20 GB", "many"),
]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_the_schema_takes_a_shipped_study_which_names_it_in_its_first_line(file):
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={os.path.relpath(FILE, file.parent)}"
    assert [error.message for error in SCHEMA.iter_errors(content(text))] == []


def test_the_schema_takes_every_short_notation():
    assert [error.message for error in SCHEMA.iter_errors(content(GOOD))] == []
    read(GOOD)


def test_a_section_may_leave_out_what_an_axis_sets():
    text = GOOD.replace("target.clip: [1]", "target.batch_tokens: [100, 200]")
    text = text.replace("batch_tokens: 100, steps: 5", "steps: 5")
    assert [error.message for error in SCHEMA.iter_errors(content(text))] == []
    assert parse(text, "study.yaml").target.batch_tokens == 100


@pytest.mark.parametrize(("good", "bad"), BAD, ids=[bad.strip()[:30] or good[:30] for good, bad in BAD])
def test_the_schema_and_the_reader_refuse_the_same_mistakes(good, bad):
    assert good in GOOD
    text = GOOD.replace(good, bad, 1)
    assert not SCHEMA.is_valid(content(text))
    with pytest.raises(StudyError):
        read(text)


def test_the_shipped_file_is_what_the_command_prints(tmp_path, capsys):
    """After a change: sweep schema --out sweep/study.schema.json."""
    assert main(["schema"]) == 0
    printed = capsys.readouterr().out
    assert FILE.read_text(encoding="utf-8") == printed
    assert main(["schema", "--out", str(tmp_path / "study.schema.json")]) == 0
    assert (tmp_path / "study.schema.json").read_text(encoding="utf-8") == printed


def test_every_key_of_a_study_has_a_description():
    models = json.loads(FILE.read_text(encoding="utf-8"))["$defs"]
    keys = {f"{name}.{key}": field for name, model in models.items() for key, field in model["properties"].items()}
    assert [key for key, field in keys.items() if not field.get("description")] == []


def test_an_unknown_key_that_resembles_none_may_be_one_of_a_later_version():
    with pytest.raises(StudyError, match=rf"this is version {sweep.__version__}, and a later one may know it"):
        parse(f"{GOOD}zyx: 1\n", "study.yaml")


def read(text):
    study = parse(text, "study.yaml")
    return own_task("topic", study.tasks["topic"], Path(), "tasks.topic")


def content(text):
    return YAML(typ="safe", pure=True).load(text)
