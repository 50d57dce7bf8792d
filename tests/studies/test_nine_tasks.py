"""Facts about the paper's table and the study of encoder families as studies, and their miniature twins."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_studies import cut, plan_of, reported

from sweep.report import page

STUDIES = Path(__file__).parents[2] / "search_spaces"
NINE, FAMILIES = STUDIES / "nine_tasks.yaml", STUDIES / "family_and_size.yaml"
SEED = {"seed": [0]}


def twin(path):
    return path.parent / "miniature" / path.name


def test_the_table_has_each_task_alone_all_together_and_none():
    for path in (NINE, twin(NINE)):
        settings = plan_of(path).study.axes.intermediate
        alone = {names[0] for names in settings if len(names) == 1}
        (together,) = [set(names) for names in settings if len(names) > 1]
        assert () in settings
        assert together <= alone


def test_tasks_that_contain_the_targets_data_are_named():
    flags = plan_of(NINE).flags
    for intermediate, target in (("mnli", "xnli"), ("anli_plus", "xnli"), ("squad", "xquad"), ("squad2", "mlqa")):
        assert any(flag.startswith(f"overlap: {intermediate} and {target} ") for flag in flags)


def test_families_are_compared_in_more_than_one_size():
    for path in (FAMILIES, twin(FAMILIES)):
        shapes = [encoder.shape for encoder in plan_of(path).encoders.values()]
        assert len({(shape.layers, shape.hidden) for shape in shapes}) > 1
        assert len({shape.gated for shape in shapes}) > 1


def test_the_table_in_miniature_runs_from_the_file_to_the_page(tmp_path):
    found, done = reported(cut(twin(NINE), tmp_path, SEED), tmp_path)
    assert done == 7 * 4
    assert set(found.scores["intermediate"]) == {cell.text("intermediate") for cell in plan_of(twin(NINE)).cells}
    gains = found.estimates.cells
    assert gains["gain"].notna().sum() == 6 * 4
    html = page.save(found, tmp_path).read_text(encoding="utf-8")
    assert "world/nli+world/paraphrase+world/qa+world/copa+world/pos" in html


@pytest.mark.long  # 27 chains; the twins of other studies are run always
def test_the_families_in_miniature_run_from_the_file_to_the_page(tmp_path):
    found, done = reported(cut(twin(FAMILIES), tmp_path, SEED), tmp_path)
    assert done == 3 * 3 * 3
    assert set(found.scores["encoder"]) == {"bert_small", "bert_large", "modernbert_small"}
    html = page.save(found, tmp_path).read_text(encoding="utf-8")
    assert all(name in html for name in ("bert_small", "bert_large", "modernbert_small"))
