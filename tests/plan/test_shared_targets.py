"""Facts about targets that are trained on the same data: their phase is trained once, whatever they are called."""

from __future__ import annotations

import json

import datasets
import pytest
from hub_folders import hub_folders, offline_row, repository
from hub_rows import DATA_SETS
from published_encoders import save_published
from small_studies import PHASE, chains_of, finish, plan_of, study_file

from sweep.config.load import load
from sweep.errors import Mistakes
from sweep.plan.facts import NO_FACTS
from sweep.plan.resolve import look_up, resolve, resolve_revisions
from sweep.run.chain import run
from sweep.search.suggestions import CandidateResult, suggest
from sweep.store.artifacts import Store
from sweep.tasks.table import TASKS

TEXTS = [f"the river runs to town number {number} and back to the {number % 7} hills" for number in range(200)]
SHORT = {**PHASE, "steps": 2, "evaluations": 2}
TUNED = {"learning_rate": {"log": [1e-5, 1e-3], "points": 9}}


def question(number: int, answer: str) -> str:
    context = f"It was {answer} in the year {number}."
    answers = {"text": [answer], "answer_start": [7]}
    return json.dumps({"id": str(number), "context": context, "question": "What was it?", "answers": answers})


@pytest.fixture
def files(tmp_path):
    """Questions whose answers the two scripts compare differently: quotation marks that ASCII lacks."""
    for name, answers in {"train": ("“red”", "blue"), "one": ("red",), "two": ("“green”",)}.items():
        lines = [question(number, answer) for number, answer in enumerate(answers * 20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def reading(test: str, normaliser: str, **changes: object) -> dict[str, object]:
    read = {"family": "span", "format": "jsonl", "languages": ["en"], "train": "train.jsonl", "dev": 0.5}
    return {**read, "test": f"{test}.jsonl", "normaliser": normaliser, **changes}


TWO = {"one": reading("one", "squad"), "two": reading("two", "mlqa")}


def target_keys(path) -> dict[str, set[str]]:
    """Target -> keys of its target phases."""
    found: dict[str, set[str]] = {}
    for chain, _ in chains_of(path):
        found.setdefault(chain.cell.target, set()).add(chain.phases[-1].key)
    return found


def weights(store, key) -> dict[str, str]:
    """Checksums of what a phase has left, and how it was judged."""
    record = store.phase(key)
    return {**record.files, "dev": [point["value"] for point in record.dev], "step": record.selected_step}


def test_the_tables_targets_on_squad_share_their_phases(tmp_path):
    path = study_file(tmp_path, {"intermediate": ["none", "world/nli"], "target": ["squad", "xquad", "mlqa", "tydiqa"]})
    found = target_keys(path)
    assert found["squad"] == found["xquad"] == found["mlqa"]
    assert not found["squad"] & found["tydiqa"]
    assert len({chain.score for chain, _ in chains_of(path)}) == 8


@pytest.mark.parametrize(
    "changes",
    [{"train": "one.jsonl"}, {"dev": 0.25}, {"dev": "two.jsonl"}, {"skip": {"id": ["3"]}}, {"languages": ["de"]}],
)
def test_targets_that_read_other_rows_share_nothing(files, changes):
    tasks = {**TWO, "two": {**TWO["two"], "train_language": next(iter(changes.get("languages", ["en"]))), **changes}}
    found = target_keys(study_file(files, {"target": ["one", "two"]}, tasks=tasks))
    assert not found["one"] & found["two"]


def test_settings_of_one_target_alone_keep_its_phases_apart(files):
    path = study_file(files, {"target": ["one", "two"]}, tasks=TWO, target={"overrides": {"two": {"dropout": 0.2}}})
    found = target_keys(path)
    assert not found["one"] & found["two"]


def test_neither_its_name_nor_its_script_changes_what_is_trained_on_a_task(files):
    records = []
    for name in ("one", "two"):
        axes = {"intermediate": [[name, "world/raw"]], "target": [name]}
        mixed = {"sampling": {"ratios": {name: 0.5}}}
        told = {"tasks": TWO, "intermediate": mixed, "runtime": {"keep_target_weights": True}}
        store = Store(files / f"store-{name}")
        (chain,) = finish(study_file(files, axes, **told), store)
        records.append({phase.key: weights(store, phase.key) for phase in chain.phases})
    assert records[0] == records[1]
    assert len(records[0]) == 3


def test_cells_that_share_their_phases_are_tuned_alike(files):
    plan = plan_of(study_file(files, {"target": ["one", "two"]}, tasks=TWO, target=TUNED, pretrain=TUNED))
    tried: list[CandidateResult] = []
    for number in range(8):
        proposed = [suggest(plan, cell, number, tried, {}) for cell in plan.cells]
        assert proposed[0] == proposed[1]
        tried.append(CandidateResult(proposed[0], 0.1 * (number % 3)))


def test_weights_that_another_target_needs_are_kept_until_it_is_scored(files):
    store, released = Store(files / "store"), []
    for chain, plan in chains_of(study_file(files, {"target": ["one", "two"]}, tasks=TWO)):
        run(chain, plan, store)
        released.append(store.phase(chain.phases[-1].key).released)
    assert released == [False, True]


def test_weights_are_not_kept_for_a_target_that_never_tries_their_rate(files):
    other = {"overrides": {"two": {"learning_rate": 5e-4}}}
    path, store = study_file(files, {"target": ["one", "two"]}, tasks=TWO, target=other), Store(files / "store")
    chain, plan = next(chains_of(path))
    run(chain, plan, store)
    assert store.phase(chain.phases[-1].key).released


# The real rows, on miniature copies of their data sets


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A study of XQuAD and MLQA over folders laid out like the hub's, the two in different places."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    save_published("mbert", tmp_path / "encoder", TEXTS)
    tasks = {
        name: offline_row(name, hub_folders(name, tmp_path / name, {*TASKS[name].languages, "en"}))
        for name in ("xquad", "mlqa")
    }
    axes = {"encoder": [str(tmp_path / "encoder")], "target": list(tasks)}
    told = {"pretrain": None, "encoders": {}, "tasks": tasks, "intermediate": None, "target": SHORT}
    return study_file(tmp_path, axes, **told, runtime={"keep_target_weights": True})


def resolved(path):
    """The plan with the commits that a run would record, and these."""
    study = load(path)
    facts = resolve_revisions(look_up(study, path, Mistakes()), NO_FACTS)
    return resolve(study, path, facts), facts


def test_xquad_and_mlqa_train_their_target_phase_once_and_are_both_scored(hub, tmp_path):
    (plan, _), store = resolved(hub), Store(tmp_path / "store")
    chains = list(plan.planned_chains())
    for chain in chains:
        run(chain, plan, store)
    assert store.keys("phases") == [chains[0].phases[0].key]
    for chain in chains:
        assert set(store.score(chain.score).languages) == set(TASKS[chain.cell.target].languages)
    assert len(store.keys("scores")) == 2


def test_other_test_data_leave_a_targets_phases_as_they_are(hub, tmp_path):
    before, facts = resolved(hub)
    shape = DATA_SETS["google/xquad"]["xquad."]
    folder = next((tmp_path / "xquad").glob("google__xquad"))
    language = "xquad.de"
    rows = shape.rows(language, "validation")[:1]
    repository(folder, shape.features, {language: {"validation": rows}})
    after, others = resolved(hub)
    one, other = (next(plan.planned_chains()) for plan in (before, after))
    assert one.phases[-1].key == other.phases[-1].key
    assert one.score != other.score
    assert facts.data_commit(str(folder)) != others.data_commit(str(folder))


def test_a_data_set_that_several_tasks_read_is_looked_up_once(tmp_path):
    commit = "a" * 40
    known = NO_FACTS
    for data_set in (
        "rajpurkar/squad",
        "google/xquad",
        "google/xtreme",
        "facebook/mlqa or refs/convert/parquet",
    ):
        known = known.with_data_commit(data_set, commit)
    path = study_file(tmp_path, {"target": ["xquad", "mlqa"]})
    assert resolve_revisions(look_up(load(path), path, Mistakes()), known) == NO_FACTS
