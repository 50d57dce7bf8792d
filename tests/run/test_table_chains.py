"""Every intermediate task and every target of the table in whole chains, on files like the hub's and the publishers'.

Encoders are an XLM-R and an mBERT at toy size, with tokenizers of their classes.
"""

from __future__ import annotations

import datasets
import pytest
from hub_folders import hub_folders, offline_row
from published_encoders import save_published
from retrieval_files import TASKS as OWN_RETRIEVAL
from retrieval_files import write_all
from small_studies import PHASE, finish, plan_of, study_file

from sweep.store.artifacts import Store
from sweep.tasks.table import HUB, TASKS

PAPER = ("anli_plus", "mnli", "qqp", "squad2", "squad", "hellaswag", "ccg", "cosmos_qa", "commonsense_qa")
BEYOND = ("siqa", "paws", "snli")
ON_HUB = tuple(name for name in HUB if len(TASKS[name].languages) > 1 and not TASKS[name].family.raw_text)
TEXTS = [f"the river runs to town number {number} and back to the {number % 7} hills" for number in range(200)]
CCG = "The\tNP/N\nriver\tN\nruns\tS\\NP\n\nIt\tNP\nends\tS\\NP\n\n"
OWN_CCG = {
    "family": "token", "format": "conll", "labels": ["N", "NP", "NP/N", "S\\NP"],
    "languages": ["en"], "train": "ccg.txt", "dev": "ccg.txt", "test": "test.txt",
}  # fmt: skip
OWN = {"ccg": OWN_CCG, **OWN_RETRIEVAL}  # what the hub does not have


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Descriptions of the table's tasks that read folders laid out like the hub's repositories."""
    folder, patch = tmp_path_factory.mktemp("hub"), pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
    datasets.disable_progress_bars()
    languages = {name: {*TASKS[name].languages, *TASKS[name].trained_in} for name in (*PAPER, *BEYOND, *ON_HUB)}
    yield {
        name: offline_row(name, hub_folders(name, folder / name, languages[name])) for name in languages if name in HUB
    }
    patch.undo()


@pytest.fixture(scope="module")
def encoder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_published(request.param, folder, TEXTS)
    return folder


def study(folder, hub, encoder, intermediate, target):
    write_all(folder)
    for name in ("ccg.txt", "test.txt"):
        (folder / name).write_text(CCG)
    named = {*target, *(name for names in intermediate for name in ([names] if isinstance(names, str) else names))}
    tasks = {name: hub[name] if name in hub else OWN[name] for name in named if name in (*hub, *OWN)}
    axes = {"encoder": [str(encoder)], "intermediate": intermediate, "target": target}
    short = {**PHASE, "steps": 2, "evaluations": 1}
    return study_file(
        folder, axes, pretrain=None, encoders={}, tasks=tasks, data_root=".", intermediate=short, target=short
    )


def scores(path, tmp_path):
    """{cell: languages scored} of all chains, run one after another."""
    store = Store(tmp_path / "store")
    return {chain.cell: set(store.score(chain.score).languages) for chain in finish(path, store)}


@pytest.mark.parametrize("encoder", ["xlm-r", pytest.param("mbert", marks=pytest.mark.long)], indirect=True)
def test_each_intermediate_task_is_trained_and_passed_on(hub, encoder, tmp_path):
    path = study(tmp_path, hub, encoder, [*PAPER, *BEYOND], ["xcopa"])
    found = scores(path, tmp_path)
    assert [cell.intermediate for cell in found] == [(name,) for name in (*PAPER, *BEYOND)]


@pytest.mark.parametrize("encoder", ["xlm-r"], indirect=True)  # what encoders do differently is in test_published
def test_each_target_is_scored_in_all_its_languages_alone_and_after_all_nine(hub, encoder, tmp_path):
    path = study(tmp_path, hub, encoder, ["none", list(PAPER)], [*ON_HUB, *OWN_RETRIEVAL])
    found, plan = scores(path, tmp_path), plan_of(path)
    assert len(found) == 2 * 12
    for cell, languages in found.items():
        assert languages == set(plan.tasks[cell.target].languages)
