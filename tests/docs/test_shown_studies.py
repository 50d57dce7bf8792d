"""Facts about studies that the documentation shows with their files: they train, every family ends in scores."""

from __future__ import annotations

import json

import pytest
from documentation import blocks_in, is_study, mapping, merged, write_files
from small_studies import finish

from sweep.store.artifacts import Store

SHORT = {"steps": 2, "evaluations": 1, "retries": 0, "collapse_margin": -1}
STUDIES = [
    block
    for block in blocks_in("yaml")
    if block.name is not None and is_study(block) and mapping(block)["axes"]["encoder"] == ["world/tiny"]
]


@pytest.mark.long
@pytest.mark.parametrize("block", STUDIES, ids=str)
def test_a_study_of_the_documentation_ends_in_scores(block, tmp_path, monkeypatch):
    """With phases of two steps, one after another in this process."""
    write_files(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert block.name is not None
    study = mapping(block)
    changes = {"axes": {"seed": [0]}} | {kind: SHORT for kind in ("intermediate", "target") if kind in study}
    (tmp_path / block.name).write_text(json.dumps(merged(study, changes)), encoding="utf-8")
    store = Store(tmp_path / "store")
    chains = finish(tmp_path / block.name, store)
    assert {chain.cell.target for chain in chains} == set(study["axes"]["target"])
    assert all(store.score(chain.score) for chain in chains)
