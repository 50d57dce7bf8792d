"""Facts about retention: intermediate tasks scored before and after the target phase, with saved and fresh heads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from finished_study import FinishedStudy, the_row
from small_studies import chains_of, finish, hear, plan_of, study_file, unmeasured, with_data_of, with_encoder_of
from tiny_models import tiny_model, toy

from sweep.data import Size
from sweep.errors import StudyError
from sweep.evaluate.linear_probe import fit_head
from sweep.models.heads import LinearHead
from sweep.plan.cost import Costs, probe_examples
from sweep.report import page
from sweep.report.gains import estimate_retention
from sweep.report.results import COLUMN_MEANINGS, read_results
from sweep.run.chain import run
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger
from sweep.store.paths import LEDGER
from sweep.tasks import FAMILIES, measure_of
from sweep.train.context import model_with_heads, set_up
from sweep.train.score import score_all

ASKED = {"retention": True}
LINEAR = ("sequence", "choice", "token", "span")


# The fresh head


def fitted(family: str, seed: int = 0, examples: int = 60):
    model, data = tiny_model(seed=seed), toy(family, examples)
    fit_head(model, family, data, batch_tokens=256, precision="fp32")
    return model, data


def loss(model, family: str, data) -> float:
    from sweep.models.batches import DeviceData, scoring_batches

    device, total = DeviceData(data, "cpu", model.pad_id), 0.0
    model.eval()
    with torch.no_grad():
        for ids in scoring_batches(data, 256):
            total += float(model.loss(device.batch(ids), family))
    return total


@pytest.mark.parametrize("family", LINEAR)
def test_a_fresh_head_fits_its_data_better_than_a_head_that_knows_nothing(family):
    model, data = fitted(family)
    blank = tiny_model()
    with torch.no_grad():
        blank.head(family).linear.weight.zero_()
    assert loss(model, family, data) < 0.97 * loss(blank, family, data)


@pytest.mark.parametrize("family", LINEAR)
def test_a_fresh_head_depends_neither_on_the_head_before_nor_on_how_batches_are_cut(family):
    data, heads = toy(family, 40), []
    for batch_tokens in (100, 4000):
        model = tiny_model()
        with torch.no_grad():
            model.head(family).linear.weight.normal_(generator=torch.Generator().manual_seed(batch_tokens))
        fit_head(model, family, data, batch_tokens=batch_tokens, precision="fp32")
        heads.append(model.head(family).linear.weight.detach())
    assert torch.allclose(*heads, atol=2e-2, rtol=2e-2)


def test_a_fresh_head_is_logistic_regression():
    """Its gradient is zero where that of the penalised mean loss is, in standardised vectors."""
    model, data = fitted("sequence", examples=80)
    outputs = np.stack(score_all(model, {"": data}, "sequence", batch_tokens=4000)[""])
    shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    # The biases carry no penalty: at the minimum the mean predicted shares are those of the labels.
    assert shares.mean(axis=0) == pytest.approx(np.bincount(data.targets, minlength=3) / 80, abs=1e-3)


def test_fitting_a_head_leaves_the_encoder_as_it_was():
    model, before = tiny_model(), tiny_model()
    fit_head(model, "token", toy("token"), batch_tokens=256, precision="fp32")
    pairs = zip(model.encoder.state_dict().values(), before.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(after, initial) for after, initial in pairs)
    assert isinstance(model.head("token"), LinearHead)


@pytest.mark.parametrize("family", ["masked", "embedding"])
def test_a_task_without_a_linear_head_is_refused(family):
    with pytest.raises(ValueError, match="no linear head"):
        fit_head(tiny_model(), family, toy(family), batch_tokens=256, precision="fp32")


def test_a_fresh_head_on_an_encoder_that_blew_up_says_one_thing_of_everything():
    model = tiny_model()
    with torch.no_grad():
        model.embeddings.fill_(torch.nan)
    fit_head(model, "sequence", toy("sequence"), batch_tokens=256, precision="fp32")
    data = toy("sequence")
    assert torch.isfinite(model.head("sequence").linear.bias).all()
    assert np.bincount(data.targets).argmax() == int(model.head("sequence").linear.bias.argmax())


@pytest.mark.parametrize(
    ("task", "train", "examples"),
    [
        ("world/rte", Size(50_000, 30.0), 2000), ("world/rte", Size(70, 30.0), 70),
        ("world/pos", Size(50_000, 25.0), 2000), ("world/qa", Size(50_000, 400.0), 500),
    ],
)  # fmt: skip
def test_the_examples_of_a_fresh_head_are_bounded_by_their_vectors(task, train, examples, tmp_path):
    axes = {"intermediate": [task]}
    assert probe_examples(plan_of(study_file(tmp_path, axes)).tasks[task], train) == examples


# A chain


@pytest.fixture(scope="module")
def prepared(small_store, tmp_path_factory):
    """A store with the data of all that is read below, and the pretrained encoder."""
    made = with_encoder_of(small_store, tmp_path_factory.mktemp("prepared") / "store")
    finish(study_file(tmp_path_factory.mktemp("study"), {"intermediate": [["world/rte", "world/pos"]]}), made)
    return made


@pytest.fixture
def store(prepared, tmp_path):
    return with_encoder_of(prepared, tmp_path / "store")


@pytest.mark.parametrize("intermediate", ["world/rte", "world/copa", "world/pos", "world/qa_small"])
def test_an_intermediate_task_of_any_family_is_scored_before_and_after_with_both_heads(intermediate, store, tmp_path):
    (chain,) = finish(study_file(tmp_path, {"intermediate": [intermediate]}, scoring=ASKED), store)
    score, statistics = store.score(chain.score), store.statistics(chain.score)
    assert list(score.retention) == [intermediate]
    entry = score.retention[intermediate]
    assert (entry["split"], entry["language"], entry["examples"]) == ("test", "pivot", 50)
    assert set(score.languages) < set(statistics)
    assert len(set(store.units(chain.score)[f"retention/{intermediate}"].tolist())) == 50
    for head in ("before", "saved_head", "fresh_head"):
        table = statistics[f"retention/{intermediate}/{head}"]
        assert len(table) == 50
        assert entry[head] == measure_of(entry["family"], entry["metric"]).value(table.sum(axis=0))


def test_before_is_the_intermediate_phase_as_it_was_left(store, tmp_path):
    """Scored again from the store by hand: its encoder, its head."""
    ((chain, plan),) = chains_of(study_file(tmp_path, {"intermediate": ["world/pos"]}, scoring=ASKED))
    run(chain, plan, store)
    context, task = set_up(chain, plan, store), plan.tasks["world/pos"]
    model = model_with_heads(context, [task], chain.phases[1], chain.phases[1])
    encoded = context.reader.encoded(task, "test", "pivot")
    outputs = score_all(model, {"": encoded}, task.name, batch_tokens=4000)[""]
    rows = task.source.rows("test", "pivot")
    family = FAMILIES["token"]
    table = family.judge(family.predict(outputs, encoded, rows, task.labels), rows, task, "pivot")
    statistics = store.statistics(chain.score)["retention/world/pos/before"]
    assert {tuple(row) for row in statistics} <= {tuple(row) for row in table}
    assert statistics.sum() < table.sum()


def test_a_target_phase_that_changes_nothing_retains_everything(store, tmp_path):
    path = study_file(
        tmp_path, {"intermediate": ["world/pos"]}, scoring=ASKED,
        intermediate={"steps": 30, "learning_rate": 1e-2}, target={"learning_rate": 1e-12},
    )  # fmt: skip
    (chain,) = finish(path, store)
    entry = store.score(chain.score).retention["world/pos"]
    assert entry["saved_head"] == pytest.approx(entry["before"], abs=0.01)
    assert entry["before"] > 0.5
    assert entry["fresh_head"] > 0.3


def test_every_task_of_a_multi_task_phase_is_scored_again_and_text_without_a_fresh_head(store, tmp_path):
    tasks = ["world/rte", "world/pos", "world/raw"]
    (chain,) = finish(study_file(tmp_path, {"intermediate": [tasks]}, scoring=ASKED), store)
    found = store.score(chain.score).retention
    assert set(found) == set(tasks)
    assert [found[task]["fresh_head"] is None for task in tasks] == [False, False, True]
    assert (found["world/raw"]["split"], found["world/raw"]["metric"]) == ("test", "masked_accuracy")


def test_retention_is_measured_before_the_target_weights_are_released(store, tmp_path):
    (chain,) = finish(study_file(tmp_path, {"intermediate": ["world/rte"]}, scoring=ASKED), store)
    assert store.phase(chain.phases[-1].key).released
    assert store.score(chain.score).retention


def test_two_runs_of_a_chain_measure_the_same_retention(prepared, tmp_path):
    runs = []
    for name in ("one", "other"):
        made = with_data_of(prepared, tmp_path / name)
        (chain,) = finish(study_file(tmp_path, {"intermediate": [["world/rte", "world/pos"]]}, scoring=ASKED), made)
        runs.append((unmeasured(made.score(chain.score)), made.statistics(chain.score)))
    (record, first), (repeated, second) = runs
    assert record == repeated
    assert all(np.array_equal(first[name], second[name]) for name in first)


# Keys and costs


AXES = {"intermediate": ["none", "world/rte", ["world/rte", "world/pos"]], "target": ["world/topic", "world/retrieval"]}


def test_only_chains_with_an_intermediate_and_a_target_phase_have_other_score_keys(tmp_path):
    plain = [chain for chain, _ in chains_of(study_file(tmp_path, AXES))]
    asked = [chain for chain, _ in chains_of(study_file(tmp_path, AXES, scoring=ASKED))]
    assert [chain.phases == asking.phases for chain, asking in zip(plain, asked, strict=True)] == [True] * 6
    changed = [chain.cell for chain, asking in zip(plain, asked, strict=True) if chain.score != asking.score]
    assert [(cell.label, cell.target) for cell in changed] == [
        ("world/rte", "world/topic"), ("world/rte+world/pos", "world/topic"),
    ]  # fmt: skip


def test_a_plan_counts_what_retention_costs_and_no_more(store, tmp_path):
    """Planned from the real lengths, which the measured facts give; padding and its allowance make the difference."""
    path = study_file(tmp_path, {"intermediate": [["world/rte", "world/pos"]]}, scoring=ASKED)
    ((chain, plan),) = chains_of(path)
    run(chain, plan, store)
    plain = plan_of(study_file(tmp_path, {"intermediate": [["world/rte", "world/pos"]]}))
    more = Costs(plan).score(chain.cell) - Costs(plain).score(chain.cell)
    (other,) = finish(study_file(tmp_path, {"intermediate": [["world/rte", "world/pos"]]}), store)
    spent = store.score(chain.score).flops - store.score(other.score).flops
    assert more > 0
    assert 0.7 < more / spent < 1.4


def test_a_study_that_asks_later_trains_nothing_but_released_target_phases_again(store, tmp_path):
    finish(study_file(tmp_path, {"intermediate": ["world/rte"]}), store)
    before = store.keys("phases")
    finish(study_file(tmp_path, {"intermediate": ["world/rte"]}, scoring=ASKED), store)
    assert store.keys("phases") == before


def test_a_setting_that_is_no_yes_or_no_is_a_mistake_at_its_place(tmp_path):
    with pytest.raises(StudyError, match=r"scoring\.retention"):
        plan_of(study_file(tmp_path, scoring={"retention": "often"}))


# The report


@pytest.fixture(scope="module")
def reported(prepared, tmp_path_factory):
    """(report of a study of two seeds with a multi-task phase, its folder)"""
    folder = tmp_path_factory.mktemp("reported")
    made, ledger = with_data_of(prepared, folder / "store"), Ledger(folder / LEDGER)
    axes = {"intermediate": ["none", "world/pos", ["world/rte", "world/pos"]], "seed": [1, 2]}
    path = study_file(folder, axes, scoring=ASKED, intermediate={"steps": 30, "learning_rate": 1e-2})
    plan = plan_of(path)
    admission = Admission(plan, StoreIndex(made), ledger, Costs(plan))
    while (chain := admission.next()) is not None:
        run(chain, plan, made, partial(hear, admission, chain))
        admission.ended(chain.key)
    found = page.read("a study", ledger.chains(), made, {}, {})
    page.save(found, folder)
    return found, folder


def test_the_scores_file_has_the_mean_retention_of_each_chain(reported):
    frame = pd.read_csv(reported[1] / "scores.csv")
    kept = frame[frame["intermediate"] == "world/pos"]  # a single task: the mean is its score
    asked = frame["retention_before"].notna()
    assert set(frame[asked]["intermediate"]) == {"world/pos", "world/rte+world/pos"}
    assert (kept.groupby("chain")["retention_saved_head"].nunique() == 1).all()
    alone = pd.read_csv(reported[1] / "retention.csv").query("intermediate == 'world/pos'").set_index("chain")
    assert (kept["retention_fresh_head"] == kept["chain"].map(alone["retention_fresh_head"])).all()


def test_a_file_of_its_own_has_one_row_per_chain_and_intermediate_task(reported):
    frame = pd.read_csv(reported[1] / "retention.csv")
    assert sorted(zip(frame["intermediate"], frame["task"], strict=True)) == sorted(
        [("world/pos", "world/pos"), *(("world/rte+world/pos", task) for task in ("world/rte", "world/pos"))] * 2
    )
    assert list(frame) == [name for name in COLUMN_MEANINGS["retention.csv"] if name != "<phase>.<key>"]
    ratio = frame["retention_saved_head"] / frame["retention_before"]
    assert np.allclose(frame["retention"], ratio)


def test_the_report_has_means_with_intervals_that_hold_them(reported):
    frame = reported[0].retention
    assert len(frame) == 3
    assert set(frame["seeds"]) == {2}
    for name in ("before", "saved_head", "fresh_head", "kept", "fresh_kept"):
        assert (frame[f"{name}_low"] <= frame[name]).all()
        assert (frame[name] <= frame[f"{name}_high"]).all()
    files = pd.read_csv(reported[1] / "retention.csv").groupby(["intermediate", "task"])["retention_before"].mean()
    for row in frame.to_dict("records"):
        assert row["before"] == pytest.approx(files[row["intermediate"], row["task"]])


def test_the_page_shows_what_is_left_of_the_intermediate_tasks(reported):
    html = (reported[1] / "report.html").read_text()
    section = html.split("Retention of the intermediate tasks")[1].split("</section>")[0]
    assert "<svg" in section
    assert section.count("<tr>") == 1 + 3
    assert "kept with a fresh head" in section


def test_a_study_that_does_not_ask_has_neither_section_nor_file(store, tmp_path):
    made, ledger = store, Ledger(tmp_path / LEDGER)
    plan = plan_of(study_file(tmp_path, {"intermediate": ["world/pos"]}))
    admission = Admission(plan, StoreIndex(made), ledger, Costs(plan))
    chain = admission.next()
    run(chain, plan, made)
    admission.ended(chain.key)
    html = page.save(page.read("a study", ledger.chains(), made, {}, {}), tmp_path).read_text()
    assert "What is left" not in html
    assert not (tmp_path / "retention.csv").exists()


# The shipped studies

STUDIES = REPOSITORY / "search_spaces"


def test_the_real_study_of_retention_asks_it_of_every_intermediate_task_and_both_sizes():
    plan = plan_of(STUDIES / "retention.yaml")
    asked = {(cell.encoder, name) for cell in plan.cells for name in plan.retained(cell)}
    named = {(encoder, name) for encoder in plan.study.axes.encoder for name in ("mnli", "squad", "hellaswag", "udpos")}
    assert asked == named
    costs = Costs(plan)
    for cell in plan.cells:
        again = costs.score(cell) - costs.score(replace(cell, intermediate=()))
        assert (again > 0) == bool(cell.intermediate)
        assert again < 0.5 * sum(costs.phase(cell, recipe) for recipe in plan.recipes(cell))


def test_its_miniature_measures_retention_in_both_encoders(tmp_path):
    store, path = Store(tmp_path / "store"), STUDIES / "miniature" / "retention.yaml"
    chains = finish(path, store)
    found = {chain.cell: store.score(chain.score).retention for chain in chains}
    assert {(cell.encoder, *sorted(tasks)) for cell, tasks in found.items() if tasks} == {
        (encoder, *tasks) for encoder in ("small", "large") for tasks in (["world/pos"], ["world/pos", "world/topic"])
    }
    for entry in (tasks["world/pos"] for tasks in found.values() if tasks):
        assert entry["before"] > entry["majority"] + 0.3
        # So large a rate leaves little of what the head relied on, and much of what the encoder knows.
        assert entry["saved_head"] < entry["before"] - 0.1
        assert entry["fresh_head"] > entry["saved_head"] + 0.1


# The report


def test_what_is_kept_is_paired_by_example_and_scores_have_intervals(tmp_path):
    """Here both scores of a run are the same answers: all is kept, for sure, though each score is uncertain."""
    study = FinishedStudy(tmp_path, retention=True)
    for intermediate in ("nli", "qa"):
        for target in ("topic", "pos"):
            for seed in range(3):
                study.chain(intermediate, target, seed)
    frame = estimate_retention(read_results(study.chains(), study.store), study.store)
    assert len(frame) == 4
    row = the_row(frame, intermediate="nli", target="topic")
    assert (row["kept"], row["seeds"]) == (1, 3)
    assert row["kept_high"] - row["kept_low"] < 0.02
    for head in ("before", "saved_head", "fresh_head"):
        assert row[f"{head}_low"] < row[head] - 0.005
        assert row[head] + 0.005 < row[f"{head}_high"] < 1
