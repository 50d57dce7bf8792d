"""Facts about the way from a study file to its plan: every name is looked up once, every file digested once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from small_studies import TINY, study_file

from sweep.cli import main
from sweep.errors import StudyError
from sweep.models.registry import EncoderSource, Shape
from sweep.plan import resolve
from sweep.run.study import prepared
from sweep.store.ledger import opened_to_read
from sweep.store.paths import LEDGER

STEPS = ("look_up", "make_plan")
WORK = ("own_task", "encoder_source", "_row_digests")  # for a task or an encoder


@pytest.fixture
def counted(monkeypatch) -> Counter[str]:
    """How often a step was taken, and how often the work of one was done for which task or encoder."""
    calls = Counter[str]()

    def counting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object) -> object:
            subject = "" if name in STEPS else f" {getattr(given[0], 'name', given[0])}"
            calls[name + subject] += 1
            return real(*given)

        return call

    for name in (*STEPS, *WORK):
        call = counting(name, getattr(resolve, name))
        monkeypatch.setattr(resolve, name, call)
        if name in STEPS:
            monkeypatch.setattr(f"sweep.run.study.{name}", call)
    return calls


def study(folder: Path) -> Path:
    """Of rows in files and of rows that the program makes, with random weights and with a checkpoint per seed."""
    for split in ("train", "dev", "test"):
        rows = [json.dumps({"text": f"{split} {number}", "label": "ab"[number % 2]}) for number in range(30)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    own = {"family": "sequence", "format": "jsonl", "labels": ["a", "b"], "languages": ["en"], **files}
    axes = {"encoder": ["tiny", "world/tiny"], "intermediate": ["none", "world/nli"], "target": ["own", "world/topic"]}
    encoders = {"tiny": TINY}
    return study_file(folder, axes, encoders=encoders, tasks={"own": own}, results=str(folder / "results"))


ONCE = {
    *STEPS,
    "own_task own",
    *(f"encoder_source {name}" for name in ("tiny", "world/tiny")),
    *(f"_row_digests {name}" for name in ("own", "world/nli", "world/raw", "world/topic")),
}


def test_a_plan_is_resolved_once(tmp_path, counted):
    assert main(["plan", str(study(tmp_path))]) == 0
    assert counted == dict.fromkeys(ONCE, 1)


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_is_resolved_once_the_first_time_and_every_time(begun, tmp_path, counted):
    path = study(tmp_path)
    if begun:
        with prepared(path):
            counted.clear()
    with prepared(path) as (plan, _, _):
        assert len(plan.cells) == 2 * 2 * 2
    assert counted == dict.fromkeys(ONCE, 1)


def test_a_setting_that_does_not_fit_leaves_no_results_folder(tmp_path, monkeypatch):
    asked = list[str]()
    monkeypatch.setattr("sweep.run.study.resolve_revisions", lambda *_: asked.append("the hub"))
    path = study_file(
        tmp_path, results=str(tmp_path / "results"), tuning={"candidates": 2, "halving": {"rungs": [0.3]}}
    )
    with pytest.raises(StudyError, match=r"tuning\.halving\.rungs\[0\]"), prepared(path):
        pass
    assert not asked
    assert not (tmp_path / "results").exists()


def hub_encoder(folder: Path, **settings: object) -> Path:
    """A study with an encoder of the hub whose shape nobody knows yet."""
    axes = {"encoder": ["theirs"]}
    encoders = {"theirs": {"path": "somebody/their-encoder"}}
    return study_file(folder, axes, encoders=encoders, pretrain=None, results=str(folder / "results"), **settings)


def read_as(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's only encoder has this shape."""
    monkeypatch.setattr("sweep.plan.resolve.encoder_commit", lambda _location: "c0ffee")

    def check(plan, facts):
        (source,) = plan.encoders.values()
        assert isinstance(source, EncoderSource)
        return facts.with_shape(source.location or "", source.revision, shape)

    monkeypatch.setattr("sweep.run.study._check_encoders", check)


def test_what_the_first_run_learns_of_a_hub_encoder_is_in_its_plan_and_in_the_ledger(tmp_path, monkeypatch, counted):
    shape = Shape(3, 96, 384, 1000, 128)
    read_as(shape, monkeypatch)
    for _ in range(2):
        counted.clear()
        with prepared(hub_encoder(tmp_path)) as (plan, _, results):
            (source,) = plan.encoders.values()
            assert (source.revision, source.shape, source.guessed) == ("c0ffee", shape, False)
            assert not [flag for flag in plan.flags if "planned as if" in flag]
        assert {name: counted[name] for name in STEPS} == dict.fromkeys(STEPS, 1)
    with opened_to_read(results / LEDGER) as ledger:
        assert ledger.facts().encoder_commit("somebody/their-encoder") == "c0ffee"
        assert ledger.facts().shape("somebody/their-encoder", "c0ffee") == shape


def test_a_layer_that_a_hub_encoder_turns_out_to_lack_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    read_as(Shape(3, 96, 384, 1000, 128), monkeypatch)
    path = hub_encoder(tmp_path, scoring={"layer": [4]})
    with (
        pytest.raises(StudyError, match=r"scoring\.layer: found 4, while theirs has the layers 0 .* to 3"),
        prepared(path),
    ):
        pass
