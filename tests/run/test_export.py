"""Facts about exports: a folder, loaded by transformers in another process, predicts what its chain was scored with."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from documentation import blocks
from huggingface_hub import ModelCard, constants
from published_encoders import save_published
from retrieval_files import BUCC, LAREQA, write_all
from small_studies import chains_of, study_file, with_encoder_of

from sweep.cli import main
from sweep.data import IGNORED, Row
from sweep.errors import StoreError, StudyError
from sweep.evaluate.zero_shot import POOL, ScoringSets
from sweep.heartbeat import NO_LISTENER
from sweep.plan.facts import NO_FACTS
from sweep.run.chain import run
from sweep.run.export import MARK, TrainedChain, export, find_chain
from sweep.store.artifacts import Store
from sweep.store.ledger import DONE, Ledger, opened_to_read, row_of
from sweep.store.paths import LEDGER, STORE, STUDY_FILE
from sweep.tasks.table import TASKS
from sweep.train.score import DeviceVectors
from sweep.xtreme import test_file as prediction_file

TARGETS = ("world/rte", "world/topic", "world/copa", "world/pos", "world/ner", "world/qa_small", "world/retrieval")
OWN = ("likeness", "doubts", "bucc2018", "lareqa")
WITH_OWN_CODE = {"world/rte", "world/topic", "world/copa", "likeness"}
# What each folder's card says, done: its code is run, and asked.
READER = r"""
import json, os, re, sys
answers = []
for folder, calls in json.load(sys.stdin):
    os.chdir(folder)
    scope = {}
    exec(re.search("```python\n(.*?)```", open("README.md", encoding="utf-8").read(), re.S)[1], scope)
    if "vectors" in scope:
        answers.append([scope["vectors"](calls[first : first + 32]).tolist() for first in range(0, len(calls), 32)])
    else:
        answers.append([scope["predict"](*call) for call in calls])
sys.stdout.write("answers" + json.dumps(answers))
"""


def own_tasks(folder: Path) -> dict[str, Any]:
    """A regression, questions without answers, mining and ranking, in files below a folder."""
    random, likeness, doubts = np.random.default_rng(0), list[str](), list[str]()
    for number in range(60):
        words = random.choice(["x", "bo", "ka"], size=6)
        likeness.append(f"{' '.join(words)}\tbo ka\t{(words == 'x').mean():.3f}")
        context = " ".join(random.choice(["Zürich", "bo", "Nai\u0308ve", "ka,", "re\u0301x"], size=8 + 3 * number % 90))
        answers = [{"text": context[:2], "answer_start": 0}] if number % 3 else []
        doubts.append(json.dumps({"id": str(number), "context": context, "question": "bo ka?", "answers": answers}))
    for split, some in (("train", slice(40)), ("test", slice(40, None))):
        (folder / f"likeness-{split}.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *likeness[some], ""]))
        (folder / f"doubts-{split}.jsonl").write_text("\n".join([*doubts[some], ""]))
    write_all(folder)
    own = {
        "likeness": {"family": "regression", "format": "tsv", "columns": {"text": "sentence1", "pair": "sentence2"}},
        "doubts": {"family": "span", "format": "jsonl"},
    }
    for name, description in own.items():
        train, test = (f"{name}-{split}.{description['format']}" for split in ("train", "test"))
        description |= {"languages": ["en"], "train": train, "dev": train, "test": test}
    return {**own, "bucc2018": BUCC, "lareqa": LAREQA}


def finished(path: Path, results: Path) -> None:
    """Runs all chains of a study in this process, each the winner of its cell, and keeps what it has trained."""
    results.mkdir(parents=True, exist_ok=True)
    ledger, store = Ledger(results / LEDGER), Store(results / STORE)
    for chain, plan in chains_of(path):
        run(chain, plan, store, keep=True)
        record = store.phase(chain.phases[-1].key) if chain.phases else None
        dev = record.dev_score if record is not None else None
        ledger.open_chain(replace(row_of(chain, DONE, 0.0), selected=True))
        ledger.close_chain(chain.key, DONE, dev, 1.0)
    ledger.remember(NO_FACTS.with_study("small").with_study_file(os.path.relpath(path, results)))
    ledger.close()
    (results / STUDY_FILE).write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain on a target of every family, from an encoder with BERT's traits and from one with XLM-R's."""
    folder = tmp_path_factory.mktemp("exports")
    raw = TASKS["world/raw"]
    texts = [row["text"] for language in raw.trained_in for row in raw.source.rows("train", language)[:200]]
    for name in ("mbert", "xlm-r"):
        save_published(name, folder / name, [*texts, "Zürich Naïve réx, bo ka?"])
    encoders = {"first": {"path": "mbert", "pooling": "cls"}, "mean": {"path": "xlm-r"}}
    axes = {"encoder": [*encoders], "intermediate": [["world/rte", "world/topic"]], "target": [*TARGETS, *OWN]}
    short = {"steps": 4, "evaluations": 1, "dev_examples": 20}
    path = study_file(
        folder, axes, encoders=encoders, tasks=own_tasks(folder), scoring={"examples": 6, "layer": 1},
        question="Does it travel?", intermediate=short, target=short,
    )  # fmt: skip
    content = json.loads(path.read_text())
    del content["pretrain"]
    path.write_text(json.dumps(content))
    finished(path, folder / "results")
    return folder / "results"


def rows_of(trained: TrainedChain) -> tuple[ScoringSets, dict[str, list[Row]]]:
    """What a chain was scored on: sets, and the rows that are encoded under each name."""
    _, context = trained.load()
    (task,), plan = trained.tasks, trained.plan
    sets = ScoringSets.read(context.reader, task, None, plan.study.scoring.examples)
    if task.family.pools:
        return sets, {POOL: [row for test in sets.tests.values() for row in test.rows]}
    parts = sets.tests | {f"dev {language}": dev for language, dev in sets.devs.items()}
    return sets, {name: part.rows for name, part in parts.items()}


ARGUMENTS = {
    "sequence": ("text", "pair"), "regression": ("text", "pair"), "choice": ("prompt", "options"),
    "token": ("words",), "span": ("question", "context"),
}  # fmt: skip


def questions_to(trained: TrainedChain, named: dict[str, list[Row]]) -> list[Any]:
    """Calls of `predict`, or texts for `vectors`."""
    (task,) = trained.tasks
    rows = [row for part in named.values() for row in part]
    if task.family.vectors:
        return [text for row in rows for (text,) in task.family.texts(row)]
    return [[row[name] for name in ARGUMENTS[task.family.name]] for row in rows]


def test_plain_transformers_predicts_in_a_fresh_process_what_every_chain_was_scored_with(
    results: Path, tmp_path: Path
) -> None:
    asked, chains = list[tuple[str, list[Any]]](), list[TrainedChain]()
    for encoder in ("first", "mean"):
        for target in (*TARGETS, *OWN):
            trained = find_chain(results, {"encoder": encoder, "target": target})
            folder = tmp_path / f"{encoder}-{target.replace('/', '-')}"
            lines = export(trained, folder)
            assert ("trust_remote_code" in " ".join(lines)) == (target in WITH_OWN_CODE)
            chains.append(trained)
            asked.append((str(folder), questions_to(trained, rows_of(trained)[1])))
    for trained, found in zip(chains, answers_to(asked, tmp_path), strict=True):
        compare(trained, found)


def answers_to(asked: Sequence[tuple[str, list[Any]]], folder: Path) -> list[Any]:
    """What the codes of the cards answer, in one process that has nothing of this package."""
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", READER], input=json.dumps(asked), capture_output=True,
        text=True, check=False, env=environment, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("answers"), "nothing was asked back"
    return list(json.loads(done.stdout.partition("answers")[2]))


def compare(trained: TrainedChain, found: list[Any]) -> None:
    """Holds predictions against those that the store has, or what is judged of vectors against its statistics."""
    (task,), store, score = trained.tasks, trained.store, trained.row.score
    sets, named = rows_of(trained)
    if task.family.vectors:
        vectors = np.array([vector for batch in found for vector in batch], dtype=np.float32)
        ends = np.cumsum([len(part.lengths()) for part in sets.encoded.values()])
        parts = dict(zip(sets.encoded, np.split(vectors, ends[:-1]), strict=True))
        outputs = {name: DeviceVectors(part, torch.device("cpu")) for name, part in parts.items()}
        judged = sets.judgements(outputs, NO_LISTENER).statistics
        for language, statistics in store.statistics(score).items():
            np.testing.assert_array_equal(judged[language], statistics)
        return
    answers = iter(found)
    with ZipFile(store.predictions(score)) as archive:
        for language, rows in named.items():
            stored = archive.read(prediction_file(task.family, language)).decode()
            predictions = [next(answers) for _ in rows]
            if task.family.name == "regression":
                np.testing.assert_allclose(
                    predictions, [float(line) for line in stored.splitlines()], rtol=1e-4, atol=1e-5
                )
                continue
            numbered = [number_of(prediction, row, task) for prediction, row in zip(predictions, rows, strict=True)]
            assert task.family.predictions_text(numbered, rows, task) == stored, (trained.name, language)


def number_of(prediction: Any, row: Row, task: Any) -> Any:
    """A prediction as its family has it: numbers of labels, and tags of those words alone that have one."""
    if isinstance(prediction, list):
        return [task.labels.index(name) for name, tag in zip(prediction, row["tags"], strict=True) if tag != IGNORED]
    return task.labels.index(prediction) if task.family.name == "sequence" else prediction


@pytest.fixture(scope="module")
def with_raw_text(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one chain, whose intermediate phase trains on a task and on raw text."""
    folder = tmp_path_factory.mktemp("mixed")
    with_encoder_of(small_store, folder / "results" / STORE)
    path = study_file(folder, {"intermediate": [["world/rte", "world/raw"]], "target": ["world/ner"]})
    finished(path, folder / "results")
    return folder / "results"


def test_an_intermediate_phase_is_exported_with_the_head_of_a_task_that_it_has_trained(
    with_raw_text: Path, tmp_path: Path
) -> None:
    """Of a phase with raw text mixed in, that of the other task by itself."""
    trained = find_chain(with_raw_text, {})
    assert trained.asked == "intermediate"
    export(trained, tmp_path / "rte")
    export(trained, tmp_path / "raw", head="world/raw")
    model, context = trained.load()
    encoder, tokenizer = model.eval().encoder, context.reader.tokenizer
    rows = trained.plan.tasks["world/rte"].source.rows("dev", "pivot")[:20]
    mask = tokenizer.mask_token
    pairs, texts = [[row["text"], row["pair"]] for row in rows], [[f"{mask} {row['text']} {mask}"] for row in rows]
    answers = answers_to([(str(tmp_path / "rte"), pairs), (str(tmp_path / "raw"), texts)], tmp_path)
    for pair, text, label, words in zip(pairs, texts, *answers, strict=True):
        ids = [torch.tensor([tokenizer(*each)["input_ids"]]) for each in (pair, text)]
        with torch.inference_mode():
            of_pair, of_text = (encoder(each).last_hidden_state for each in ids)
            logits, tokens = model.head("world/rte")(of_pair.mean(dim=1)), model.head("world/raw")(of_text)
        assert label == trained.tasks[0].labels[int(logits.argmax())]
        assert words == tokenizer.convert_ids_to_tokens(tokens[ids[1] == tokenizer.mask_token_id].argmax(dim=-1))


REFUSED = """
from transformers import AutoModelForSequenceClassification
try:
    AutoModelForSequenceClassification.from_pretrained("nli")
except ValueError as refused:
    print("refused:", refused)
"""


def test_what_the_documentation_shows_runs_and_code_of_a_folder_is_not_run_unasked(
    with_raw_text: Path, tmp_path: Path
) -> None:
    """Nor are the weights loaded without it, into a head that was never trained."""
    export(find_chain(with_raw_text, {}), tmp_path / "nli")
    [shown] = [block for block in blocks("docs/export.md") if block.name == "predict.py"]
    (tmp_path / "predict.py").write_text(f"{shown.text}{REFUSED}")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "predict.py"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    label, *rest = done.stdout.splitlines()
    assert label in TASKS["world/rte"].labels
    assert "refused: " in "".join(rest)
    assert "trust_remote_code=True" in rest[-1]


def test_without_a_named_head_a_phase_on_several_tasks_is_exported_as_its_encoder(
    results: Path, tmp_path: Path
) -> None:
    first, second = export(find_chain(results, {"encoder": "mean"}), tmp_path)
    assert first.endswith("for AutoModel")
    assert (
        second == "  the encoder alone: the phase trained world/rte, world/topic; --head NAME exports one with its head"
    )


def test_a_card_says_what_the_model_is_how_it_scored_and_what_to_distrust(results: Path, tmp_path: Path) -> None:
    trained = find_chain(results, {"encoder": "mean", "target": "bucc2018"})
    export(trained, tmp_path)
    card, score = ModelCard.load(tmp_path / "README.md"), trained.store.score(trained.row.score)
    assert score is not None
    assert card.data.language == ["de", "fr"], "the pivot of the embedded world is no language of ours"
    assert {entry.dataset_config: entry.metric_value for entry in card.data.eval_results} == {
        language: pytest.approx(entry["value"], abs=1e-6) for language, entry in score.languages.items()
    }
    flags = "--encoder mean --intermediate world/rte+world/topic --volume full --source own --target bucc2018 --seed 1"
    for said in (
        "The study asks: Does it travel?",
        "| intermediate | world/rte + world/topic | pivot",
        "| bucc2018 | is scored | mining |",
        "only seed of its chain (1)",
        "sample of at most 6 test examples",
        "hidden_states[1]",
        f"which dev data gave: de {score.languages['de']['threshold']:.4f}",
        "not stated: ask its owner",
        f"sweep export RESULTS {flags} --out FOLDER",
    ):
        assert said in card.content, said
    texts = [path.read_text() for path in tmp_path.iterdir() if path.suffix != ".safetensors"]
    assert str(results.parent) not in "".join(texts), "nobody else has this folder"


def test_a_folder_that_no_export_has_made_is_left_alone_and_one_of_ours_made_anew(
    results: Path, tmp_path: Path
) -> None:
    trained = find_chain(results, {"encoder": "mean", "target": "world/rte"})
    other = find_chain(results, {"encoder": "mean", "target": "world/pos"})
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="not an export of ours"):
        export(trained, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    export(trained, tmp_path / "model")
    (tmp_path / "model" / "mine.txt").write_text("a note")
    export(other, tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert "modeling_linear_head.py" not in files, "it belonged to the one before"
    assert files == {"mine.txt", *json.loads((tmp_path / "model" / MARK).read_text())["files"]}
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", "model"}


@pytest.mark.parametrize(
    ("fields", "phase", "said"),
    [
        ({}, None, "found 2 chains; say which one is meant: --encoder first or mean"),
        ({"encoder": "mean"}, "target", "--target bucc2018 or doubts or"),
        ({"encoder": "meen"}, None, "--encoder: found 'meen'; one of first, mean is expected; did you mean 'mean'?"),
        ({"target": "world/rtf"}, None, "did you mean 'world/rte'?"),
        ({"seed": "2"}, None, "--seed: found '2'; one of 1 is expected"),
        ({"volume": "many"}, None, "--volume: found 'many'; one of full is expected"),
        ({"encoder": "mean", "target": "world/rte"}, "pretrain", "found no pretrain phase; one of its phases is"),
        ({"endcoder": "mean"}, None, "did you mean 'encoder'?"),
        ({"target.dropout": "0.1"}, None, "target.dropout: found no field of a chain; one of encoder, intermediate"),
    ],
)  # fmt: skip
def test_what_names_no_chain_or_several_is_one_line_with_what_is_there(
    fields: dict[str, str], phase: str | None, said: str, results: Path
) -> None:
    with pytest.raises(StudyError) as mistake:
        find_chain(results, fields, phase)
    assert said in str(mistake.value)


def test_a_chain_is_found_by_tasks_in_any_order_and_by_the_only_value_of_what_is_not_said(results: Path) -> None:
    asked = {"intermediate": "world/topic+world/rte", "target": "world/rte", "encoder": "mean"}
    assert (
        find_chain(results, asked).chain.key == find_chain(results, {**asked, "seed": "1", "source": "own"}).chain.key
    )


def test_a_head_that_the_phase_has_not_trained_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"--head: found 'world/rtf'; one of world/rte, world/topic .*mean 'world/rte'"
    ):
        export(find_chain(results, {"encoder": "mean"}), tmp_path / "out", head="world/rtf")
    assert not (tmp_path / "out").exists()


# Weights that are gone


def test_weights_that_were_released_are_named_with_the_flag_that_trains_the_very_same_again(
    with_raw_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those of the phases before, which `sweep gc` may have deleted; what it costs is charged to the study."""
    shutil.copytree(with_raw_text.parent, tmp_path, dirs_exist_ok=True)
    made = tmp_path / "results"
    trained = find_chain(made, {"target": "world/ner"})
    keys = [phase.key for phase in trained.chain.phases[1:]]
    before = {key: (trained.store.weights(key) / "encoder.safetensors").read_bytes() for key in keys}
    for key in keys:
        trained.store.release(key)
    command = ["export", str(made), "--target", "world/ner", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "released after scoring; 'sweep export' with the same flags and --retrain trains them again" in said
    assert main([*command, "--retrain"]) == 0
    assert {key: (trained.store.weights(key) / "encoder.safetensors").read_bytes() for key in keys} == before
    assert "trained again" not in (tmp_path / "out" / "README.md").read_text(), "they are those that were scored"
    with opened_to_read(made / LEDGER) as ledger:
        assert ledger.spent()[0] == sum(record.flops for key in keys if (record := trained.store.phase(key)))
    trained.store.release(keys[-1])
    with pytest.raises(StoreError, match="--retrain"):
        trained.load()


# The hub


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as takes a folder: it keeps what it was sent."""

    sent: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            self.sent["created"] = json.loads(text)
            return self._answer({"url": f"http://{self.headers['Host']}/someone/model", "name": "someone/model"})
        if "/preupload/" in self.path:
            files = json.loads(text)["files"]
            return self._answer(
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            )
        if "/commit/" in self.path:
            lines = [json.loads(line) for line in text.decode().splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.sent["files"] = {file["path"]: base64.b64decode(file["content"]) for file in files}
            return self._answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/someone/model/commit/1",
                    "commitOid": "1",
                    "pullRequestUrl": None,
                }
            )
        return self._answer({})

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_push_hands_the_whole_folder_to_a_repository_of_the_hub(hub: str, results: Path, tmp_path: Path) -> None:
    """In a process of its own: libraries read where the hub is when they are imported."""
    command = ["--encoder", "mean", "--target", "world/pos", "--out", str(tmp_path / "out"), "--push", "someone/model"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub, "HF_TOKEN": "hf_made_up"}
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "export", str(results), *command], capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Hub.sent["created"]["name"] == "model"
    assert Hub.sent["files"] == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert done.stdout.splitlines()[-1].endswith("someone/model")


def test_what_cannot_be_pushed_is_one_line_before_anything_is_made(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    command = ["export", str(results), "--encoder", "mean", "--target", "world/pos", "--out", str(tmp_path / "out")]
    for name, offline, said in (
        ("model", False, "no name of a repository; USER/NAME is expected"),
        ("someone/model", True, "HF_HUB_OFFLINE"),
        ("someone/model", False, "no credentials; log in with 'hf auth login'"),
    ):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert main([*command, "--push", name]) == 2
        assert re.fullmatch(f"sweep: .*{re.escape(said)}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
