"""Facts about forecasts from what chains that really ran have taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_studies import hear, plan_of, study_file

from sweep.api import Study
from sweep.plan.cost import Costs
from sweep.run.chain import run
from sweep.run.progress import device_seconds_left
from sweep.search.admission import Admission
from sweep.store.artifacts import Store
from sweep.store.index import StoreIndex
from sweep.store.ledger import Ledger, measured
from sweep.store.paths import LEDGER

AXES = {"intermediate": ["none", "world/pos"], "target": ["world/topic"]}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, float, list[float]]:
    """Folder of a study whose chains ran here; what it spent, and what was left after each chain."""
    folder = tmp_path_factory.mktemp("ran")
    plan, results = plan_of(study_file(folder, AXES, results="results")), folder / "results"
    results.mkdir()
    ledger, store = Ledger(results / LEDGER), Store(results / "store")
    admission, left = Admission(plan, StoreIndex(store), ledger, Costs(plan)), []
    while (chain := admission.next()) is not None:
        run(chain, plan, store, lambda event, chain=chain: hear(admission, chain, event))
        admission.ended(chain.key)
        left.append(device_seconds_left(admission))
    spent = admission.spending.spent
    ledger.close()
    return folder, spent, left


def test_all_that_a_study_has_spent_is_measured_by_kind_of_work(ran):
    folder, spent, _ = ran
    taken = measured(folder / "results").taken
    assert sum(part.seconds + part.encoding for part in taken.values()) == pytest.approx(spent, rel=0.02)
    kinds = {place[1:3] for place in taken}
    assert {("train", "masked"), ("train", "token"), ("train", "sequence")} <= kinds
    assert {place[1] for place in taken} == {"train", "score"}


def test_encoding_is_told_from_training_and_only_what_is_new_is_encoded(ran):
    folder, _, _ = ran
    taken = measured(folder / "results").taken
    (scores,) = [part for place, part in taken.items() if place[1] == "score"]
    assert (scores.parts, scores.examples) == (2, 7 * 300)  # the second chain reads what the first one has encoded
    assert sum(part.encoding for part in taken.values()) > 0


def test_nothing_is_left_of_a_study_that_is_done(ran):
    _, _, left = ran
    assert left[0] > left[1] == 0


def test_another_study_is_forecast_by_what_its_encoder_has_taken_in_this_one(ran, tmp_path):
    folder, spent, _ = ran
    other = Study(study_file(tmp_path, {**AXES, "seed": [1, 2]}))
    alone, like = other.plan().device_time, other.plan(like=folder / "results").device_time
    assert "peak" in alone.basis
    assert "measured" in like.basis
    assert like.high / like.low < alone.high / alone.low
    assert spent < like.expected < 3 * spent
