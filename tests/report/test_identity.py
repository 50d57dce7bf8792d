"""Facts about what is compared: no output shows two cells as one, or one as two, whichever axes a study has."""

from __future__ import annotations

import csv
import itertools
import json
from collections import Counter
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from cell_tables import VALUES, hold, made, read
from finished_study import FinishedStudy
from small_studies import TINY, chains_of, finish, plan_of, stopped_when, study_file

from sweep.config.axes import CROSSED, PAIRED, Axes, Cell, arm_columns, cell_columns
from sweep.models.model import NATIVE_BF16
from sweep.models.registry import encoder_source
from sweep.plan import plan as planning_plan
from sweep.plan import recipe as planning_chains
from sweep.plan.recipe import Chain
from sweep.report import figures, page
from sweep.report.results import arms_in, read_results, retention_frame, write_groups, write_retention, write_scores
from sweep.report.submissions import publish_submissions
from sweep.report.text import distrust
from sweep.run.tracking import chain_tags
from sweep.store.artifacts import Store
from sweep.train import context

PAIRS = list(itertools.combinations(VALUES, 2))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinishedStudy, page.Report]:
    study = made(tmp_path_factory.mktemp("everything"), VALUES)
    return study, read(study)


@pytest.mark.parametrize("axes", PAIRS, ids=map("-".join, PAIRS))
def test_with_any_two_axes_every_table_has_a_row_for_every_cell_and_no_other(axes, tmp_path):
    hold(read(made(tmp_path, axes)))


def test_with_all_axes_every_table_has_a_row_for_every_cell_and_no_other(everything):
    hold(everything[1])


def test_pictures_label_every_setting_and_every_panel_once(everything):
    _, found = everything
    cells = found.estimates.cells
    encoders, targets = cells["encoder"].nunique(), cells["target"].nunique()
    settings = {arm.label for arm in arms_in(cells) if not arm.baseline}
    map_ = figures.gains_map(found.estimates)
    assert map_ is not None
    blocks = [[text.get_text() for text in axes.texts] for axes in map_.axes][:encoders]
    for texts in blocks:
        assert Counter(text for text in texts if text in settings - set(VALUES["target"])) == Counter(settings)
        assert sum(text.startswith("[") for text in texts) == len(settings) * (targets + 1)
    assert {text for texts in blocks for text in texts} >= {"one/base", "other/base"}
    panels = figures.profiles(found.estimates.languages, cells)
    curves = figures.curves(found.results, figures.arm_styles(cells))
    for figure, wanted in ((panels, encoders * targets), (curves, encoders * (targets - 1 + 1))):
        assert figure is not None
        titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
        assert len([title for title in titles if title]) == len({*titles} - {""}) == wanted


def test_files_have_every_cell_as_the_page_has_it(everything):
    study, found = everything
    write_scores(found.scores, study.folder)
    write_groups(found.estimates.groups, study.folder)
    write_retention(retention_frame("study", found.results), study.folder)
    for name, rows in (("scores", len(found.scores)), ("groups", len(found.estimates.groups)), ("retention", 96)):
        with (study.folder / f"{name}.csv").open() as stream:
            lines = list(csv.DictReader(stream))
        assert set(cell_columns()) <= set(lines[0])
        assert len(lines) == rows


def test_a_submission_is_one_setting_with_all_its_targets(everything):
    study, found = everything
    publish_submissions(study.folder, found.results, study.store)
    folders = [path.parent for path in (study.folder / "submissions").rglob("submission.json")]
    assert len(folders) == len({tuple(chain.cell.columns()[name] for name in arm_columns()) for chain in found.chains})
    for folder in folders:
        assert set(json.loads((folder / "submission.json").read_text())["tasks"]) == {"mean", "intermediate"}
    written = {path.read_text() for path in (study.folder / "submissions").rglob("predictions/*/test-de.tsv")}
    assert written == {result.score.key for result in found.results}


def test_submissions_are_those_of_the_results_and_files_of_others_stay(tmp_path):
    study = FinishedStudy(tmp_path, published=True)
    for intermediate, seed in itertools.product(("none", "nli"), (0, 1)):
        for target in ("topic", "pos"):
            study.chain(intermediate, target, seed)
    found, root = read_results(study.chains(), study.store), tmp_path / "submissions"
    assert publish_submissions(tmp_path, found, study.store) == []
    notes = [root / "notes.txt", root / "tiny__nli__full" / "seed-1" / "predictions" / "topic" / "mine.tsv"]
    for path in notes:
        path.write_text("mine")
    left = [one for one in found if one.chain.seed == 0 and (one.arm.baseline or one.chain.cell.target == "pos")]
    (line,) = publish_submissions(tmp_path, left, study.store)
    assert "2 files there are not this study's and were left alone (notes.txt, tiny__nli__full/seed-1/pred" in line
    assert {path for path in root.rglob("*") if path.is_file()} >= {*notes}
    fresh = tmp_path / "fresh"
    assert publish_submissions(fresh, left, study.store) == []
    assert files_of(root) - files_of(fresh / "submissions") == {path.relative_to(root) for path in notes}
    assert files_of(fresh / "submissions") < files_of(root)
    assert len(publish_submissions(tmp_path, [], study.store)) == 1
    assert {root / path for path in files_of(root)} == {*notes}


def test_a_description_that_was_tampered_with_reaches_no_file_outside_its_folder(tmp_path):
    study = FinishedStudy(tmp_path, published=True)
    study.chain("none", "topic")
    found = read_results(study.chains(), study.store)
    publish_submissions(tmp_path, found, study.store)
    (description,) = (tmp_path / "submissions").rglob("submission.json")
    content = json.loads(description.read_text())
    content["tasks"]["../../../../kept"] = {**content["tasks"]["topic"], "languages": ["../x"]}
    description.write_text(json.dumps(content))
    outside = {path: path.read_bytes() for path in study.store.root.rglob("*") if path.is_file()}
    assert publish_submissions(tmp_path, [], study.store) == []
    assert not (tmp_path / "submissions").exists()
    assert {path: path.read_bytes() for path in study.store.root.rglob("*") if path.is_file()} == outside


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_what_names_a_cell_is_said_once_and_the_same_wherever_it_is_listed():
    axes = set(Axes.model_fields) - {"seed", "settings"}
    assert axes == set(cell_columns()) == {field.name for field in fields(Cell)} - {"settings"} == {*PAIRED, *CROSSED}


def test_cells_of_a_plan_and_their_chains_have_names_and_keys_of_their_own(tmp_path):
    axes = {
        "encoder": ["tiny", "own"],
        "intermediate": ["none", "world/nli", ["world/nli", "world/pos"]],
        "volume": [100, "full"],
        "source": ["own", "svo85"],
        "target": ["world/rte", "world/retrieval"],
        "chain_budget": {"flops": [1e11, 1e12]},
    }
    lengths = {name: {"steps": None} for name in ("intermediate", "target")}
    path = study_file(tmp_path, axes, encoders={"own": {**TINY, "pooling": "cls"}}, **lengths)
    plan = plan_of(path)
    settings = 1 + 2 * 2 + 2  # world/pos has no data in svo85
    assert len({cell.name for cell in plan.cells}) == len(plan.cells) == 2 * settings * 2 * 2
    chains = list(plan.planned_chains())
    assert len({chain.key for chain in chains}) == len(chains)


# ---- where and with what it was computed -----------------------------------------------------------------------------


def keys(folder: Path, **runtime: object) -> set[str]:
    axes = {"intermediate": ["none", "world/nli"], "target": ["world/rte", "world/retrieval"]}
    chains = plan_of(study_file(folder, axes, runtime=runtime)).planned_chains()
    return {key for chain in chains for key in (chain.score, *(phase.key for phase in chain.phases))}


def test_the_precision_that_is_asked_for_is_in_every_key_and_nothing_else_of_the_runtime_is(tmp_path):
    found = [keys(tmp_path, precision=precision) for precision in ("auto", "fp32", "bf16")]
    assert not any(one & other for one, other in itertools.combinations(found, 2))
    assert keys(tmp_path, cores=2, gpu=0.5, checkpoint_seconds=1.0, score_batch_tokens=64) == found[0]


@pytest.mark.parametrize("changed", ["pytorch_model.bin", "model.safetensors", "bpe.codes", "config.json"])
def test_whatever_an_encoder_is_loaded_from_is_part_of_its_digest(changed, tmp_path):
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**TINY["random_init"], "vocab_size": 100, "x": 0}))
        (folder / "README.md").write_text(f"words {number}")
        (folder / ".lock").write_text(f"{number}")
        found.append(encoder_source(str(folder), None, tmp_path, None, (1,), "").digest)
    assert found[0] == found[1]
    (tmp_path / "1" / changed).write_text(json.dumps({**TINY["random_init"], "vocab_size": 100, "x": 1}))
    assert encoder_source(str(tmp_path / "1"), None, tmp_path, None, (1,), "").digest != found[0]


@pytest.mark.parametrize("module", [planning_chains, planning_plan])
def test_another_way_to_read_rows_is_another_key(module, tmp_path, monkeypatch):
    axes = {"intermediate": ["world/nli"], "target": ["world/rte"]}
    before, after = next(plan_of(study_file(tmp_path, axes)).planned_chains()), None
    monkeypatch.setattr(module, "ENCODING_VERSION", -1)
    after = next(plan_of(study_file(tmp_path, axes)).planned_chains())
    assert before.score != after.score
    if module is planning_chains:
        assert not {phase.key for phase in before.phases} & {phase.key for phase in after.phases}


@pytest.mark.parametrize("changed", ["normaliser", "test", "notes"])
def test_scores_depend_on_all_that_tells_what_is_left_of_an_intermediate_task(changed, tmp_path):
    row = {"id": "1", "question": "who?", "context": "Ann went.", "answers": [{"text": "Ann", "start": 0}]}
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    columns = {name: name for name in ("id", "question", "context", "answers")}
    task = {"family": "span", "format": "jsonl", "columns": columns, "languages": ["en"], **files}
    axes = {"intermediate": ["own"], "target": ["world/rte"]}

    def chain() -> Chain:
        path = study_file(tmp_path, axes, tasks={"own": task}, scoring={"retention": True})
        return next(plan_of(path).planned_chains())

    before = chain()
    if changed == "normaliser":
        task["normaliser"] = "mlqa"
    elif changed == "test":
        (tmp_path / "test.jsonl").write_text(json.dumps({**row, "question": "why?"}))
    else:
        (tmp_path / "notes.jsonl").write_text("")
    after = chain()
    assert [phase.key for phase in before.phases] == [phase.key for phase in after.phases]
    assert (before.score != after.score) == (changed != "notes")


def test_records_say_on_what_in_which_precision_and_by_which_program_they_were_made(tmp_path, monkeypatch):
    short: dict[str, Any] = {"pretrain": {"steps": 8}, "target": {"steps": 2}, "scoring": {"examples": 8}}
    ((chain, plan),) = chains_of(
        study_file(tmp_path, runtime={"precision": "bf16", "checkpoint_seconds": 1e-9}, **short)
    )
    store = Store(tmp_path / "store")
    stopped_when(chain, plan, store, lambda event: event.step > 5)
    elsewhere = "cpu: another"
    monkeypatch.setattr(context, "_device_name", lambda _: elsewhere)
    finish(study_file(tmp_path, runtime={"precision": "bf16"}, **short), store)
    first, last = (store.phase(phase.key) for phase in chain.phases)
    score = store.score(chain.score)
    precision = "bf16" if NATIVE_BF16 else "fp32"
    assert first.device.startswith("cpu: ")
    assert first.device.endswith(f" and {elsewhere}")
    assert (last.device, score.device) == (elsewhere, elsewhere)
    assert {first.precision, last.precision, score.precision} == {precision}
    assert last.recipe["precision"] == "bf16"
    for record in (first, last, score):
        assert record.versions["sweep"] == version("xling-sweep")
        assert record.versions["torch"] == torch.__version__


def test_a_report_distrusts_what_was_computed_differently(tmp_path):
    study = FinishedStudy(tmp_path, examples=500)
    for intermediate, seed in itertools.product(("none", "nli"), range(3)):
        study.chain(intermediate, "topic", seed)
    found = read(study)

    def doubts(gpu: bool = False, **changes: object) -> list[str]:
        first, *others = found.results
        changed = [replace(first, score=replace(first.score, **changes)), *others]
        return distrust(found.chains, changed, (), found.estimates, {"gpu": gpu})

    alike = {"precision": "fp32", "device": "cpu: A", "versions": {"sweep": "1", "torch": "2.13.0"}}
    others = [replace(one, score=replace(one.score, **alike)) for one in found.results]
    found = replace(found, results=tuple(others))
    assert doubts() == []
    assert doubts(gpu=True) == [
        "6 phases and scores were computed on a CPU, though the study asks for a GPU: torch found none."
    ]
    assert "differ in precision: bf16 (1), fp32 (5);" in doubts(precision="bf16")[0]
    assert "differ in device: cpu: A (5), cuda: NVIDIA H100 (1);" in doubts(device="cuda: NVIDIA H100")[0]
    assert "differ in version of sweep: 1 (5), 2 (1);" in doubts(versions={"sweep": "2", "torch": "2.13.0"})[0]


def test_a_chain_in_mlflow_says_the_same_of_its_phases_and_scores(tmp_path):
    study = FinishedStudy(tmp_path)
    chain = study.chain("nli", "topic")
    phases = [store_phase for key in chain.phases for store_phase in study.store.history(key)]
    score = replace(study.store.score(chain.score), precision="bf16", device="cuda: B", versions={"sweep": "2"})
    made = [replace(one, precision="fp32", device="cpu: A", versions={"sweep": "1"}) for one in phases]
    tags = chain_tags(chain, made, score)
    assert tags["sweep.precision"] == "bf16 and fp32"
    assert tags["sweep.device"] == "cpu: A and cuda: B"
    assert tags["sweep.version"] == "1 and 2"
