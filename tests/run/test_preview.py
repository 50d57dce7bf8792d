"""Facts about the preview: what it trains, what it says of a setting, what it costs, its regret in the report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from finished_study import FinishedStudy
from small_studies import plan_of, study_file, with_data_of

from sweep.cli import main
from sweep.config.axes import AMOUNTS
from sweep.errors import StudyError
from sweep.evaluate.transferability import label_columns, log_evidence, measure_transferability, moments, one_hot
from sweep.models.heads import Features
from sweep.plan.cost import Costs
from sweep.plan.facts import NO_FACTS
from sweep.plan.preview import EXAMPLES, preview_parts, previews, ranked_targets, short_plan
from sweep.plan.recipe import INTERMEDIATE, PRETRAIN
from sweep.report import page
from sweep.report.gains import estimate_regrets
from sweep.report.results import preview_frame
from sweep.run.preview import preview
from sweep.store.artifacts import Store
from sweep.store.ledger import Ledger
from sweep.store.paths import LEDGER
from sweep.store.records import PreviewRecord
from sweep.train.context import model_to_score, set_up
from sweep.train.data import SAMPLE_SEED, training_data

AXES = {"intermediate": ["none", "world/pos"], "target": ["world/topic"]}


def shorts(path):
    """(chains of the previews, their plan)"""
    short = short_plan(plan_of(path))
    return list(previews(short)), short


def by_setting(chains):
    return {chain.cell.without(*AMOUNTS).label: chain for chain in chains}


# What is trained


@pytest.mark.parametrize(
    "changes",
    [
        {"intermediate": {"steps": 5000, "evaluations": 9, "retries": 2, "collapse_margin": 0.01}},
        {"intermediate": {"steps": 5000, "schedule": "wsd", "warmup": {"steps": 10}}},
        {"intermediate": {"overrides": {"world/pos": {"epochs": 7, "examples": 3}}}},
    ],
)
def test_a_preview_sees_its_examples_once_whatever_the_study_says_of_lengths(changes, tmp_path):
    chains, _ = shorts(study_file(tmp_path, AXES, **changes))
    (phase,) = [phase for phase in by_setting(chains)["world/pos"].phases if phase.kind == INTERMEDIATE]
    settings = phase.recipe.settings
    assert (phase.recipe.examples, settings.epochs, settings.steps, settings.schedule) == (EXAMPLES, 1, None, "linear")
    assert (settings.evaluations, settings.retries, settings.collapse_margin) == (1, 0, -1)


def test_what_a_task_changes_beside_its_length_holds_in_its_preview(tmp_path):
    chains, _ = shorts(study_file(tmp_path, AXES, intermediate={"overrides": {"world/pos": {"batch_tokens": 333}}}))
    assert by_setting(chains)["world/pos"].phases[-1].recipe.settings.batch_tokens == 333


def test_volumes_chain_budgets_and_seeds_share_a_preview_and_sources_do_not(tmp_path):
    axes = {**AXES, "volume": [100, "full"], "seed": [1, 2]}
    chains, _ = shorts(study_file(tmp_path, axes))
    assert [chain.cell.without(*AMOUNTS).label for chain in chains] == ["none", "world/pos"]
    assert len({chain.score for chain in chains}) == 2


def test_a_preview_pretrains_no_encoder_that_the_study_does_not(tmp_path):
    path = study_file(tmp_path, AXES)
    plan = plan_of(path)
    wanted = {phase.key for chain in plan.planned_chains() for phase in chain.phases if phase.kind == PRETRAIN}
    chains, _ = shorts(path)
    assert {phase.key for chain in chains for phase in chain.phases if phase.kind == PRETRAIN} == wanted


def test_targets_share_the_short_phase_and_have_a_preview_each(tmp_path):
    chains, _ = shorts(study_file(tmp_path, {**AXES, "target": ["world/topic", "world/rte"]}))
    assert len({chain.score for chain in chains}) == 4
    assert len({chain.phases[-1].key for chain in chains}) == 2
    assert not any(phase.kind == "target" for chain in chains for phase in chain.phases)


def test_a_target_without_labels_to_train_on_is_not_ranked(tmp_path):
    plan = plan_of(study_file(tmp_path, {**AXES, "target": ["world/topic", "world/retrieval"]}))
    assert ranked_targets(plan) == ("world/topic",)
    assert {cell.target for cell in short_plan(plan).cells} == {"world/topic"}


# What it says


@pytest.fixture(scope="module")
def measured(small_store, tmp_path_factory):
    """(store, chains by intermediate and target, their plan) of previews for a target of every family."""
    folder = tmp_path_factory.mktemp("measured")
    targets = ["world/topic", "world/copa", "world/ner", "world/qa_small"]
    chains, short = shorts(study_file(folder, {**AXES, "target": targets}))
    store = with_data_of(small_store, folder / "store")
    for chain in chains:
        measure_transferability(chain, short, store)
    return store, {(chain.cell.without(*AMOUNTS).label, chain.cell.target): chain for chain in chains}, short


def test_every_family_of_labels_has_a_value_and_says_on_how_many_vectors(measured):
    store, chains, _ = measured
    records = {name: store.preview(chain.score) for name, chain in chains.items()}
    assert all(np.isfinite(record.value) for record in records.values())
    for (_, target), record in records.items():
        assert record.vectors == record.examples if target == "world/topic" else record.vectors > record.examples
        assert record.flops > 0
    assert len({record.value for record in records.values()}) == 8


def test_a_value_is_the_evidence_of_the_pooled_vectors_of_the_targets_first_examples(measured):
    """By hand, one text at a time."""
    store, chains, short = measured
    chain = chains["world/pos", "world/topic"]
    context, task = set_up(chain, short, store), short.tasks["world/topic"]
    model = model_to_score(context, task, chain.phases[-1]).eval()
    whole = context.reader.encoded(task, "train", "pivot")
    chosen = training_data({"pivot": whole}, EXAMPLES, SAMPLE_SEED)
    vectors = []
    with torch.inference_mode():
        for begin, end in zip(chosen.bounds[:-1], chosen.bounds[1:], strict=True):
            ids = torch.from_numpy(chosen.tokens[begin:end].astype(np.int64))[None]
            vectors.append(model.encoder(input_ids=ids).last_hidden_state[0].mean(dim=0).numpy())
    columns = one_hot(chosen.targets.astype(np.int64), len(task.labels))
    wanted = log_evidence(moments(np.stack(vectors), columns))
    assert store.preview(chain.score).value == pytest.approx(wanted, abs=1e-3)


def test_a_preview_that_is_there_is_not_made_again(measured):
    store, chains, short = measured
    before = store.keys("phases")
    events = []
    measure_transferability(chains["world/pos", "world/topic"], short, store, events.append)
    assert events == []
    assert store.keys("phases") == before


def test_two_stores_hold_the_same_values(measured, tmp_path):
    store, chains, short = measured
    other, chain = with_data_of(store, tmp_path / "store"), chains["world/pos", "world/topic"]
    measure_transferability(chain, short, other)
    assert other.preview(chain.score).value == store.preview(chain.score).value


def test_a_choice_has_one_column_and_a_span_two_each_with_a_one_per_group():
    vectors, group = torch.zeros(5, 2), torch.tensor([0, 0, 1, 1, 1])
    choice = label_columns(Features(vectors, torch.tensor([[1], [2]]), group), classes=0)
    assert choice.T.tolist() == [[0, 1, 1, 0, 0]]
    span = label_columns(Features(vectors, torch.tensor([[0, 1], [2, 4]]), group), classes=0)
    assert span.T.tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1]]


def test_classes_have_a_column_each_also_those_without_examples():
    assert label_columns(Features(torch.zeros(2, 2), torch.tensor([2, 0])), 4).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


# What it costs


def test_the_planned_cost_is_about_what_was_spent(measured):
    store, chains, short = measured
    chain = chains["world/pos", "world/topic"]
    parts = preview_parts(Costs(short), chain)
    spent = {phase.key: store.phase(phase.key).flops for phase in chain.phases}
    spent[chain.score] = store.preview(chain.score).flops
    assert parts.keys() == spent.keys()
    assert all(0.6 < parts[key] / spent[key] < 1.6 for key in parts)


def test_the_command_charges_the_study_and_a_second_call_spends_nothing(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_data_of(small_store, tmp_path / "runs/small/store")
    path = study_file(tmp_path, AXES)
    first, second = preview(path), preview(path)
    assert (first.made, first.missing, second.made, second.missing) == (2, 0, 0, 0)
    assert first.flops > 0
    assert second.flops == 0
    assert second.ranking.equals(first.ranking)
    ledger = Ledger(tmp_path / "runs/small" / LEDGER)
    assert ledger.spent()[0] == first.flops
    assert ledger.chains() == []
    assert len(ledger.facts().previews) == 2


def test_a_budget_that_is_too_small_makes_no_preview_and_a_larger_one_goes_on(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_data_of(small_store, tmp_path / "runs/small/store")
    poor = preview(study_file(tmp_path, AXES, budget="1e6 flops"))
    assert (poor.made, poor.missing, poor.flops) == (0, 2, 0)
    rich = preview(study_file(tmp_path, AXES, budget="1e15 flops"))
    assert (rich.made, rich.missing) == (2, 0)


def test_a_study_with_nothing_to_rank_is_one_line_with_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=r"axes\.intermediate: found none alone"):
        preview(study_file(tmp_path))
    with pytest.raises(StudyError, match=r"axes\.target: found no target that a preview can rank"):
        preview(study_file(tmp_path, {**AXES, "target": ["world/retrieval"]}))


def test_the_command_prints_the_ranking_and_what_is_not_ranked(small_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with_data_of(small_store, tmp_path / "runs/small/store")
    path = study_file(tmp_path, {**AXES, "target": ["world/topic", "world/retrieval"]})
    assert main(["preview", str(path)]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    lines = printed.splitlines()
    assert lines[0].startswith("world/topic (tiny)")
    assert lines[1].split()[:2] == ["1", "world/pos"]
    assert lines[2].split()[:2] == ["-", "none"]
    assert lines[-1] == "not ranked, without labels to train on: world/retrieval"


# The report


VALUES = {"none": 0.1, "nli": 0.3, "qa": 0.4, "same": 0.2}


def entries(store: Store, target: str = "topic") -> list[dict[str, str]]:
    found = []
    for name, value in VALUES.items():
        key = f"{name}-{target}"
        store.commit_preview(PreviewRecord(key, None, target, value, 10, 10, 1e9, 1.0, 0.0, 1.0))
        source = "-" if name == "none" else "own"
        found.append({"encoder": "tiny", "intermediate": name, "source": source, "target": target, "key": key})
    return found


def reported(folder, settings):
    """The report of a study that ran these settings; gains are nli +8, qa -6, same 0 points."""
    study = FinishedStudy(folder)
    for name in settings:
        for seed in range(2):
            study.chain(name, "topic", seed)
    facts = NO_FACTS.with_previews(entries(study.store))
    found = page.read("a study", study.chains(), study.store, {}, {}, facts=facts)
    return found, page.save(found, folder).read_text()


def test_the_regret_is_what_the_best_of_those_kept_lacks(tmp_path):
    found, html = reported(tmp_path, VALUES)
    frame = estimate_regrets(found.previews, found.estimates.models).set_index("kept")
    assert list(found.previews["intermediate"]) == ["qa", "nli", "same", "none"]
    assert frame.loc[1, "regret"] == pytest.approx(0.14, abs=0.01)
    assert frame.loc[2, "regret"] == 0
    assert 0 < frame.loc[1, "low"] < 0.14 < frame.loc[1, "high"] < 0.3
    assert 0 == frame.loc[2, "low"] <= frame.loc[2, "high"] < 0.05  # the best is kept, and what is not is far behind
    assert list(frame.index) == [1, 2]
    section = html.split("Preview of the intermediate settings")[1].split("</section>")[0]
    assert "1 of 3" in section


def test_no_regret_is_told_where_a_setting_was_not_run(tmp_path):
    found, html = reported(tmp_path, ["none", "nli", "qa"])
    assert estimate_regrets(found.previews, found.estimates.models).empty
    assert found.previews["gain"].notna().sum() == 2
    assert "Preview of the intermediate settings" in html


def test_the_best_volume_of_a_setting_counts(tmp_path):
    store = Store(tmp_path)
    rows = [("nli", "full", 0.01), ("nli", "100", 0.05), ("qa", "full", 0.0), ("same", "full", 0.02)]
    cells = pd.DataFrame(
        [
            {
                "encoder": "tiny",
                "target": "topic",
                "source": "own",
                "intermediate": name,
                "volume": volume,
                "gain": gain,
            }
            for name, volume, gain in rows
        ]
    )
    frame = preview_frame(entries(store), store, cells)
    assert estimate_regrets(frame, {}).set_index("kept")["regret"].tolist() == [0.05, 0.0]


def test_a_preview_that_has_no_value_or_is_not_there_has_no_row(tmp_path):
    store = Store(tmp_path)
    asked = entries(store)
    store.commit_preview(PreviewRecord("one class", None, "topic", None, 10, 10, 1e9, 1.0, 0.0, 1.0))
    asked += [{**asked[1], "intermediate": "pos", "key": key} for key in ("one class", "never made")]
    assert len(preview_frame(asked, store)) == 4


def test_a_study_without_a_preview_has_no_such_section(tmp_path):
    study = FinishedStudy(tmp_path)
    study.chain("none", "topic")
    found = page.read("a study", study.chains(), study.store, {}, {})
    assert found.previews.empty
    assert "Preview of the intermediate settings" not in page.save(found, tmp_path).read_text()
