"""Facts about an encoder of which every seed has its own checkpoint, as MultiBERTs and the shipped `world/tiny`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import plan_of, study_file
from tiny_models import SHAPES

from sweep.cli import main
from sweep.config.load import load
from sweep.errors import Mistakes, SweepError
from sweep.models.encoders import load_encoder, load_published_head
from sweep.models.heads import MaskedHead
from sweep.plan.facts import NO_FACTS
from sweep.plan.preview import previews, short_plan
from sweep.plan.resolve import look_up, resolve, resolve_revisions, unchecked_encoders
from sweep.run.inspection import check_encoders
from sweep.search.suggestions import CandidateResult, suggest

MULTIBERTS = {"path": "google/multiberts-seed_{seed}"}


def checkpoints(folder: Path, *seeds: int, **shape: Any) -> None:
    """Model folders as far as a plan reads them, each with weights of its own."""
    for seed in seeds:
        place = folder / f"checkpoint-{seed}"
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text(json.dumps({**SHAPES["bert"], "vocab_size": 60, **shape}))
        (place / "model.safetensors").write_bytes(f"weights of {seed}".encode())


def per_seed(folder: Path, *seeds: int, encoder: dict[str, Any] | None = None, **changes: Any) -> Path:
    axes = {"encoder": ["mine"], "target": ["world/topic", "world/retrieval"], "seed": list(seeds)}
    described = encoder or {"path": "checkpoint-{seed}"}
    return study_file(folder, axes | changes.pop("axes", {}), pretrain=None, encoders={"mine": described}, **changes)


def test_a_seeds_chains_begin_from_its_own_checkpoint(tmp_path):
    checkpoints(tmp_path, 1, 2)
    plan = plan_of(per_seed(tmp_path, 1, 2))
    source = plan.encoders["mine"]
    assert [Path(source.of(seed).location or "").name for seed in (1, 2)] == ["checkpoint-1", "checkpoint-2"]
    # Scores of the encoders themselves, without any phase, are the seeds' own too.
    assert len({chain.score for chain in plan.planned_chains()}) == 4


def test_one_seeds_weights_are_in_the_keys_of_that_seed_alone(tmp_path):
    keys = []
    for folder, changed in ((tmp_path / "a", b"weights of 2"), (tmp_path / "b", b"others")):
        folder.mkdir()
        checkpoints(folder, 1, 2)
        (folder / "checkpoint-2" / "model.safetensors").write_bytes(changed)
        found = plan_of(per_seed(folder, 1, 2)).planned_chains()
        keys.append({(chain.cell.target, chain.seed): (chain.phases, chain.score) for chain in found})
    same = {place for place, value in keys[0].items() if keys[1][place] == value}
    assert same == {("world/topic", 1), ("world/retrieval", 1)}


def test_a_seed_more_changes_nothing_of_those_before(tmp_path):
    checkpoints(tmp_path, 1, 2)
    tuned = {"target": {"learning_rate": {"log": [1e-4, 1e-2], "points": 5}}, "tuning": {"candidates": 3, "startup": 2}}
    few, more = (plan_of(per_seed(tmp_path, *seeds, **tuned)) for seeds in ((1,), (1, 2)))
    assert {chain.key for chain in few.planned_chains()} < {chain.key for chain in more.planned_chains()}
    tried = [CandidateResult(few.planned(few.cells[0], number), 0.5 + number / 10) for number in range(2)]
    proposed = [suggest(plan, plan.cells[0], 2, tried, {}) for plan in (few, more)]
    assert proposed[0] == proposed[1]


def test_a_preview_reads_the_first_seeds_checkpoint(tmp_path):
    checkpoints(tmp_path, 1, 2)
    axes = {"intermediate": ["none", "world/nli"]}
    one, both, other = (
        [chain.score for chain in previews(short_plan(plan_of(per_seed(tmp_path, *seeds, axes=axes))))]
        for seeds in ((1,), (1, 2), (2, 1))
    )
    assert one == both
    assert not {*one} & {*other}


def test_every_checkpoint_of_the_hub_gets_its_own_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.plan.resolve.encoder_commit", lambda location: f"commit of {location}")
    path = per_seed(tmp_path, 1, 2, encoder=MULTIBERTS)
    facts = resolve_revisions(look_up(load(path), path, Mistakes()), NO_FACTS)
    source = resolve(load(path), path, facts).encoders["mine"]
    assert [source.of(seed).revision for seed in (1, 2)] == [f"commit of google/multiberts-seed_{n}" for n in (1, 2)]
    assert len({source.of(seed).digest for seed in (1, 2)}) == 2


def test_every_checkpoint_is_looked_at_before_anything_is_trained(tmp_path):
    checkpoints(tmp_path, 1, 2)
    plan = plan_of(per_seed(tmp_path, 1, 2))
    assert {Path(source.location or "").name for source in unchecked_encoders(plan, NO_FACTS)} == {
        "checkpoint-1",
        "checkpoint-2",
    }


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"path": "checkpoint-{seed}"}, ["axes.encoder[0]", "no folder", "checkpoint-3'", "every seed of axes.seed"]),
        ({"path": "checkpoint-{sed}"}, ["{sed} in the path", "{seed} alone stands for something there"]),
        ({"path": "world/tiny"}, ["no folder", "seed-3'", "with 'world/tiny' one for every seed of axes.seed"]),
        ({"path": "nothing-{seed}"}, ["the encoder 'nothing-1'"]),
    ],
)
def test_a_seed_without_a_checkpoint_is_one_line(encoder, said, tmp_path, capsys):
    checkpoints(tmp_path, 1, 2)
    assert main(["plan", str(per_seed(tmp_path, 1, 2, 3, encoder=encoder))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in said), line


def test_checkpoints_of_several_shapes_are_one_line(tmp_path):
    checkpoints(tmp_path, 1)
    checkpoints(tmp_path, 2, num_hidden_layers=3)
    with pytest.raises(SweepError, match=r"checkpoint-2 of seed 2, which has another shape than .*checkpoint-1"):
        plan_of(per_seed(tmp_path, 1, 2))


def test_a_checkpoint_that_two_seeds_share_is_said(tmp_path):
    checkpoints(tmp_path, 1, 2)
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"weights of 1")
    assert any("mine: seeds with equal checkpoints" in flag for flag in plan_of(per_seed(tmp_path, 1, 2)).flags)


# The encoders that come with the package


ENCODERS = Path(__file__).parents[2] / "sweep" / "encoders"


def test_the_shipped_encoders_are_found_wherever_the_study_file_lies(tmp_path):
    axes = {"encoder": ["world/tiny"], "intermediate": ["none", "world/raw"], "target": ["world/qa_small"]}
    plan = plan_of(study_file(tmp_path, {**axes, "seed": [2, 0]}, pretrain=None, encoders={}))
    source = plan.encoders["world/tiny"]
    assert [Path(source.of(seed).location or "") for seed in (0, 2)] == [
        ENCODERS / "world-tiny" / f"seed-{seed}" for seed in (0, 2)
    ]
    assert len({source.of(seed).digest for seed in (0, 2)}) == 2
    check_encoders(plan, NO_FACTS)


def test_a_shipped_encoder_has_the_head_that_predicted_its_masked_words():
    folder = str(ENCODERS / "world-tiny" / "seed-0")
    encoder = load_encoder(folder)
    head = MaskedHead(encoder.config.hidden_size, encoder.get_input_embeddings().weight, 1e-12)
    assert load_published_head(head, folder)
    assert {tensor.dtype for tensor in encoder.state_dict().values() if tensor.is_floating_point()} == {torch.float32}


def test_a_wheel_holds_every_file_of_the_shipped_encoders_and_the_template_of_the_page():
    told = tomllib.loads((ENCODERS.parents[1] / "pyproject.toml").read_text())
    patterns = told["tool"]["setuptools"]["package-data"]["sweep"]
    held = {place for pattern in patterns for place in ENCODERS.parent.glob(pattern)}
    there = {place for place in ENCODERS.rglob("*") if place.is_file()}
    assert there <= held
    assert {*ENCODERS.parent.rglob("*.j2")} <= held
    assert sum(place.stat().st_size for place in there) < 3 * 2**20
