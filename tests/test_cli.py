"""Facts about the command line: a user's mistake is one line and exit code 2, before anything is trained."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_studies import study_file

from sweep.cli import main

TOPICS = {
    "family": "sequence",
    "format": "tsv",
    "columns": {"text": "text", "label": "category"},
    "labels": ["sport", "travel"],
    "languages": ["en", "sw"],
    "train": "{language}.tsv",
    "dev": "{language}.tsv",
    "test": "test/{language}.tsv",
}
ROWS = "text\tcategory\na game\tsport\na ship\ttravel\n"


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """The command line in this process: what a process of its own adds is its start, in which it imports everything."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


def own_data(folder: Path, swahili: str | None = ROWS, **changes: object) -> Path:
    (folder / "test").mkdir()
    for name in ("en.tsv", "test/en.tsv"):
        (folder / name).write_text(ROWS)
    if swahili is not None:
        (folder / "test" / "sw.tsv").write_text(swahili)
    return study_file(folder, {"target": ["topics"]}, tasks={"topics": {**TOPICS, **changes}}, data_root=".")


def test_good_data_passes_the_check(tmp_path, sweep):
    done = sweep("check", own_data(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_lengths_that_an_encoder_does_not_take_are_said_by_plan_and_check_with_place_and_remedy(tmp_path, sweep):
    path = own_data(tmp_path)
    study = json.loads(path.read_text())
    study["target"] |= {"max_length": 128, "overrides": {"topics": {"max_length": 500}}}
    path.write_text(json.dumps(study))
    said = "target.overrides.topics.max_length: 500 tokens, of which tiny takes 128 and the rest is cut; write 128"
    for command in ("plan", "check"):
        done = sweep(command, path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"note: {said}\n" in done.stdout
        assert "target.max_length" not in done.stdout


@pytest.mark.parametrize(
    ("axes", "sections", "said"),
    [
        ({"target": ["world/topik"]}, {}, ["axes.target[0]", "'world/topik'", "did you mean 'world/topic'"]),
        ({"intermediate": ["none", "world/nil"]}, {}, ["axes.intermediate[1]", "did you mean 'world/nli'"]),
        ({"intermediate": ["world/retrieval"]}, {}, ["axes.intermediate[0]", "no training data"]),
        ({"intermediate": ["none", "ccg"]}, {}, ["tasks.ccg", "LDC2005T13", "format: conll", "udpos"]),
        ({"encoder": ["tinny"]}, {}, ["axes.encoder[0]", "'tinny'", "did you mean 'tiny'"]),
        ({}, {"language_groups": {"low": ["svo86"]}}, ["language_groups.low[0]", "did you mean 'svo85'"]),
        ({}, {"scoring": {"layer": 9}}, ["scoring.layer", "9"]),
        ({}, {"scoring": {"layer": [0, -3]}}, ["scoring.layer: found [0, -3], which is layer 0 of tiny twice"]),
        ({"target": []}, {}, ["axes.target", "at least one value"]),
    ],
)
def test_a_name_that_is_not_there_is_one_line_with_its_place(axes, sections, said, tmp_path, sweep):
    done = sweep("plan", study_file(tmp_path, axes, **sections))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    for fragment in said:
        assert fragment in done.stderr


@pytest.mark.parametrize(
    ("swahili", "changes", "said"),
    [
        (None, {}, ["sw.tsv", "topics.test"]),
        (ROWS + "a lion\tnature\n", {}, ["sw.tsv:4", "'nature'", "sport"]),
        (ROWS + "a lion\n", {}, ["sw.tsv:4"]),
        ("text\tcategory\n", {}, ["sw.tsv", "no test rows"]),
        (ROWS, {"format": "jsonl"}, ["en.tsv:1"]),
        (ROWS, {"columns": {"text": "text", "label": "kategory"}}, ["kategory", "category"]),
        (ROWS, {"fromat": "tsv"}, ["tasks.topics", "fromat", "did you mean 'format'"]),
        (ROWS, {"languages": ["en", "fi"]}, ["fi.tsv"]),
    ],
)
def test_data_that_is_not_as_described_is_one_line_with_file_and_line(swahili, changes, said, tmp_path, capsys):
    assert main(["check", str(own_data(tmp_path, swahili, **changes))]) == 2
    printed = capsys.readouterr().err.splitlines()[0]  # one for each file
    for fragment in said:
        assert fragment in printed


def test_nothing_is_trained_where_data_is_not_as_described(tmp_path, sweep):
    done = sweep("run", own_data(tmp_path, ROWS + "a lion\tnature\n"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "sw.tsv:4" in done.stderr
    assert not list(tmp_path.glob("runs/*/store/phases/*"))


RANDOM = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "BERT"}, ["encoders.tiny.random_init.model_type: found 'BERT'", "did you mean 'bert'"]),
        ({"hiden_size": 32}, ["encoders.tiny.random_init.hiden_size: found an unknown name", "'hidden_size'"]),
        ({"hidden_size": 33}, ["encoders.tiny.random_init: found", "not a multiple of the number of attention heads"]),
        ({"hidden_dropout_prob": "x"}, ["encoders.tiny.random_init: found", "hidden_dropout_prob"]),
        ({"num_hidden_layers": 10**18}, ["axes.encoder[0]: found num_hidden_layers", "from 1 to 1000"]),
        ({"max_position_embeddings": 1}, ["axes.encoder[0]: found", "room for 1 tokens; at least 8"]),
        ({"model_type": "deberta-v2", "relative_attention": True, "position_buckets": "x"}, ["of its positions"]),
    ],
)
def test_a_random_encoder_that_cannot_be_is_one_line_with_its_place(changes, said, tmp_path, capsys):
    tiny = {"random_init": {**RANDOM, **changes}, "tokenizer": {"text": "world/raw", "vocab_size": 100}}
    assert main(["check", str(study_file(tmp_path, encoders={"tiny": tiny}))]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    for fragment in said:
        assert fragment in printed


def test_a_results_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["run", str(study_file(tmp_path, results=str(tmp_path / "file" / "results")))]) == 2
    assert "results, no folder that can be written" in capsys.readouterr().err


def test_overrides_that_nothing_reads_are_noted(tmp_path, capsys):
    path = study_file(tmp_path, target={"overrides": {"world/nli": {"steps": 3}, "world/topic": {"steps": 3}}})
    assert main(["plan", str(path)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "changes nothing" in line]
    assert notes == [
        "note: target.overrides.world/nli changes nothing: no target phase of this study is on world/nli alone"
    ]


def test_a_check_says_every_mistake_of_the_file_then_every_one_of_data_and_encoders(tmp_path, sweep):
    path = own_data(tmp_path, ROWS + "a lion\tnature\n")
    study = json.loads(path.read_text())
    (tmp_path / "en.tsv").write_text("text\tcategory\n")
    study["tasks"] |= {"gone": {**TOPICS, "test": "gone/{language}.tsv"}, "odd": {**TOPICS, "labels": 3}}
    study["axes"] |= {"target": ["topics", "gone", "odd", "nothing"], "encoder": ["own", "tiny", "tinny"]}
    (tmp_path / "model").mkdir()
    shape = {"model_type": "x", "hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    own = {**shape, "auto_map": {"AutoModel": "x.X"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(own))
    study["encoders"]["own"] = {"path": "model"}
    study |= {"tracking": "fro://m"}
    path.write_text(json.dumps(study))
    done = sweep("check", path)
    assert (done.returncode, done.stdout) == (2, "")
    places = (
        "tasks.odd.labels: found 3", "the unknown task 'nothing'", "the unknown encoder 'tinny'", "gone/en.tsv",
        "sw.tsv:4: found the label", "en.tsv: found no", "config.json: auto_map: found", "tracking: found 'fro://m'",
    )  # fmt: skip
    assert [place for place in places if place not in done.stderr] == []
    assert all(line.startswith("sweep: ") for line in done.stderr.splitlines())
    path.write_text(
        json.dumps({**study, "budgt": "1 flops", "scoring": {"examples": -1}, "tuning": {"candidates": "x"}})
    )
    lines = sweep("check", path).stderr.splitlines()
    assert [line.partition(": ")[2].partition(": found")[0] for line in lines] == [
        f"{path}: {place}" for place in ("budgt", "scoring.examples", "tuning.candidates")
    ]


def test_a_check_of_a_faulty_file_imports_nothing_heavy(tmp_path):
    path = study_file(tmp_path, budgt="1 flops")
    heavy = "*{'torch', 'numpy', 'mlflow'} & {*sys.modules}"
    code = f"import sys; from sweep.cli import main; print(main(['check', sys.argv[1]]), {heavy})"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]


def test_an_idle_override_of_a_task_on_the_hub_is_no_mistake(tmp_path, monkeypatch, sweep):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = study_file(tmp_path, target={"overrides": {"xnli": {"steps": 3}}})
    done = sweep("check", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: target.overrides.xnli changes nothing: no target phase of this study is on xnli alone" in done.stdout


def test_a_plan_says_which_hub_encoders_it_does_not_know(tmp_path, sweep):
    encoders = {"own": {"path": "someone/an-encoder"}, "xlmr": {"path": "FacebookAI/xlm-roberta-base"}}
    path = study_file(tmp_path, {"encoder": [*encoders]}, encoders=encoders, pretrain=None)
    flags = [line for line in sweep("plan", path).stdout.splitlines() if "as if it had the shape of" in line]
    assert len(flags) == 1
    assert flags[0].startswith("note: own: planned as if it had the shape of FacebookAI/xlm-roberta-base")


def test_a_study_file_that_is_not_there_is_one_line(tmp_path):
    """In a process of its own, whose exit code is what the command line says."""
    command = [sys.executable, "-m", "sweep", "run", str(tmp_path / "absent.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "absent.yaml" in done.stderr


def test_a_folder_without_a_study_has_no_report(tmp_path, sweep):
    done = sweep("report", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_the_long_study_of_the_documentation_can_be_planned(tmp_path, sweep):
    page = (Path(__file__).parents[1] / "docs/study-file.md").read_text(encoding="utf-8")
    (tmp_path / "study.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    for code in ("eng_Latn", "swh_Latn", "quy_Latn"):
        (tmp_path / "data" / code).mkdir(parents=True)
        for split in ("train", "dev", "test"):
            (tmp_path / "data" / code / f"{split}.tsv").write_text(ROWS.replace("sport", "sports"))
    done = sweep("plan", tmp_path / "study.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "21 cells" in done.stdout


MULTILINGUAL = ["real_multilingual", "miniature/real_multilingual"]
REAL = {"real_small": "all-minilm-l6-v2", **dict.fromkeys(MULTILINGUAL, "multilingual-e5-small")}  # their encoders


@pytest.mark.parametrize("name", ["quickstart", "family_and_size", "retention", "miniature/retention", *REAL])
def test_the_shipped_studies_can_be_planned(name, request, sweep):
    if name in REAL:
        request.getfixturevalue("shared_data")
        if not (Path(__file__).parents[1] / "encoders" / REAL[name]).is_dir():
            pytest.skip("its encoder is fetched by `make real` or `make real-small`")
    done = sweep("plan", Path(__file__).parents[1] / "search_spaces" / f"{name}.yaml")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_budget_asked_about_says_which_cells_it_covers_in_their_order(tmp_path, sweep):
    path = study_file(tmp_path, {"intermediate": ["none", "world/nli"], "target": ["world/topic", "world/ner"]})
    whole = json.loads(sweep("plan", path, "--budget", "1e15 flops", "--json").stdout)
    cells = [one["cell"] for one in whole["coverage"]]
    assert len(cells) == whole["covered_by_budget"] == whole["cells"] == 4
    assert ["none" in cell for cell in cells] == [True, True, False, False]
    spent = [one["spent"] for one in whole["coverage"]]
    assert spent == pytest.approx([sum(one["amount"] for one in whole["coverage"][: n + 1]) for n in range(4)])
    less = sweep("plan", path, "--budget", f"{spent[1] + 1:.0f} flops").stdout
    assert [line.split(": ")[0].strip() for line in less.splitlines()[-2:]] == [f"1  {cells[0]}", f"2  {cells[1]}"]


def test_a_budget_that_is_none_is_refused_with_what_would_do(tmp_path, sweep):
    done = sweep("plan", study_file(tmp_path), "--budget", "4 device-ours")
    assert done.returncode == 2
    assert "--budget: found '4 device-ours'; an amount and one of device-seconds" in done.stderr
    assert done.stderr.endswith("did you mean 'device-hours'?\n")
    assert done.stderr.count("\n") == 1


def test_a_plan_says_how_far_sharing_can_go(tmp_path, sweep):
    assert "at most, were all phases before the target phase free" in sweep("plan", study_file(tmp_path)).stdout


def test_the_version_is_one_line_with_those_of_python_and_libraries(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    line = capsys.readouterr().out
    assert re.fullmatch(r"sweep \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, torch .*, ray .*\)\n", line)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_every_command(shell, sweep):
    script = sweep("completion", shell).stdout
    for command in ("check", "plan", "run", "report", "schema"):
        assert command in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0


def test_a_level_of_the_log_that_is_none_is_one_line(tmp_path, monkeypatch, sweep):
    monkeypatch.setenv("SWEEP_LOG", "debgu")
    done = sweep("check", study_file(tmp_path))
    assert (done.returncode, done.stderr) == (
        2, "sweep: SWEEP_LOG: found 'debgu'; one of error, warning, info, debug is expected; did you mean 'debug'?\n",
    )  # fmt: skip


def test_a_command_leaves_the_logger_as_it_was(tmp_path, sweep):
    logger = logging.getLogger("sweep")
    before = logger.level, logger.propagate, [*logger.handlers]
    sweep("check", "-v", study_file(tmp_path))
    assert (logger.level, logger.propagate, [*logger.handlers]) == before
