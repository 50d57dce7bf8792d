"""Facts about regression on sentence pairs: rank correlation as a sum of statistics, its head, its files, a chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from small_studies import finish, plan_of, study_file, with_encoder_of
from small_tokenizers import KINDS, small_tokenizer

from sweep.data.encoded import from_sequences
from sweep.errors import DataError, StudyError
from sweep.report.statistics import scores_of
from sweep.store.artifacts import Store
from sweep.tasks.data_check import check
from sweep.tasks.regression import REGRESSION, rank_correlation, squared_error
from sweep.tasks.table import TASKS
from sweep.tasks.task import Task
from sweep.xtreme.score import read_pair

TASK = Task("likeness", REGRESSION, TASKS["world/nli"].source, ("en",))


def related(count: int, share: float, step: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of which one explains a share of the other; `step` rounds both, so that many are equal."""
    x, noise = np.random.default_rng(seed).normal(size=(2, count))
    y = share * x + np.sqrt(1 - share**2) * noise
    return (np.round(x / step) * step, np.round(y / step) * step) if step else (x, y)


def judged(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return REGRESSION.judge(x.tolist(), [{"score": score} for score in y.tolist()], TASK, "en")


@pytest.mark.parametrize("step", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("share", [-0.7, 0.0, 0.3, 0.95, 1.0])
def test_the_value_of_a_whole_test_set_is_scipys(share: float, step: float) -> None:
    x, y = related(300, share, step)
    details = REGRESSION.details(judged(x, y).sum(axis=0))
    assert details["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert details["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert REGRESSION.value(judged(x, y).sum(axis=0)) == details["spearman"]


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_leaving_an_example_out_of_the_sums_moves_the_value_as_ranking_the_others_anew_does(
    share: float, step: float
) -> None:
    x, y = related(200, share, step)
    statistics = judged(x, y)
    ours = REGRESSION.value(statistics.sum(axis=0) - statistics)
    others = [np.arange(200) != left for left in range(200)]
    theirs = np.array([stats.spearmanr(x[kept], y[kept]).statistic for kept in others])
    assert np.std(ours) == pytest.approx(np.std(theirs), rel=0.02)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999


def test_influences_sum_to_zero_and_their_spread_is_that_of_other_test_sets() -> None:
    _, influence = rank_correlation(*related(400, 0.8))
    assert influence.sum() == pytest.approx(0, abs=1e-9)
    drawn = [stats.spearmanr(*related(400, 0.8, seed=seed)).statistic for seed in range(300)]
    assert np.sqrt((influence**2).mean() / 400) == pytest.approx(np.std(drawn), rel=0.15)


def test_a_report_gives_a_correlation_the_standard_error_of_its_influences() -> None:
    x, y = related(400, 0.8)
    rho, influence = rank_correlation(x, y)
    scores = scores_of([("none", 1)], [judged(x, y)], REGRESSION.value)
    assert scores.values[0] == pytest.approx(rho)
    assert np.sqrt((scores.influence[0] ** 2).sum()) == pytest.approx(np.sqrt((influence**2).sum()) / 400, rel=0.01)


def test_a_constant_answer_has_no_correlation_and_is_the_chance_level() -> None:
    rows = [{"text": "a", "pair": "b", "score": float(score)} for score in range(5)]
    nothing = from_sequences([])
    assert REGRESSION.chance_level(rows, nothing, TASK, "en") == 0.0
    assert REGRESSION.value(judged(np.zeros(5), np.arange(5.0)).sum(axis=0)) == 0.0
    assert REGRESSION.value(judged(np.zeros(0), np.zeros(0)).sum(axis=0)) == 0.0


def test_the_loss_compares_outputs_with_scores_to_the_last_bit_of_a_float() -> None:
    scores, outputs = [0.0, -1.25, 3.3333333, 5e9], torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    rows = [{"text": "bo teko", "pair": "bo", "score": score} for score in scores]
    encoded = from_sequences(REGRESSION.encode(rows, small_tokenizer(KINDS[0], ["bo teko"] * 20), 20))
    targets = torch.from_numpy(encoded.targets.astype(np.int64))
    wanted = (outputs[:, 0] - torch.tensor(scores)).square().sum()
    assert torch.equal(squared_error(outputs, targets), wanted)


def test_official_files_have_a_number_a_line_and_score_as_before(tmp_path: Path) -> None:
    x, y = related(50, 0.6)
    rows = [{"text": "a", "pair": "b", "score": score} for score in y.tolist()]
    files = tmp_path / "predictions.tsv", tmp_path / "labels.tsv"
    files[0].write_text(REGRESSION.predictions_text(x.tolist(), rows, TASK))
    files[1].write_text(REGRESSION.labels_text(rows, TASK))
    assert [float(line) for line in files[0].read_text().splitlines()] == x.tolist()
    pair = read_pair(*files, TASK)
    assert np.array_equal(REGRESSION.judge(pair.predictions, pair.rows, TASK, "en"), judged(x, y))
    files[0].write_text("1.5\nx\n")
    files[1].write_text("1\n2\n")
    with pytest.raises(DataError, match=r"predictions.tsv:2: found 'x'; a number is expected"):
        read_pair(*files, TASK)


def study(folder: Path, **changes: object) -> Path:
    """How many of the words of a text are `x`, one after another in a tab-separated file, as STS-B's scores are."""
    random = np.random.default_rng(0)
    for name, count in (("train", 400), ("dev", 80), ("test", 60)):
        words = random.choice(["x", "bo"], size=(count, 6))
        lines = [f"{' '.join(row)}\tbo\t{(row == 'x').sum() / 2:.3f}" for row in words]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *lines]) + "\n")
    description = {
        "family": "regression", "format": "tsv", "columns": {"text": "sentence1", "pair": "sentence2"},
        "languages": ["en"], "train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv", **changes,
    }  # fmt: skip
    target = {"steps": 120, "evaluations": 2, "learning_rate": 3e-3}
    return study_file(folder, {"target": ["likeness"]}, tasks={"likeness": description}, target=target)


def test_a_chain_learns_a_score_and_keeps_what_its_report_needs(small_store: Store, tmp_path: Path) -> None:
    store = with_encoder_of(small_store, tmp_path / "store")
    [chain] = finish(study(tmp_path), store)
    record, phase = store.score(chain.score), store.phase(chain.phases[-1].key)
    assert record is not None
    assert phase is not None
    assert (record.family, record.metric) == ("regression", "spearman")
    entry = record.languages["en"]
    assert (entry["majority"], phase.majority) == (0.0, 0.0)
    assert entry["value"] == float(REGRESSION.value(store.statistics(chain.score)["en"].sum(axis=0)))
    assert entry["value"] > 0.5


def test_pearsons_r_may_be_chosen_and_what_is_no_number_is_refused(tmp_path: Path) -> None:
    assert plan_of(study(tmp_path, metric="pearson")).tasks["likeness"].metric_name == "pearson"
    with pytest.raises(StudyError, match="a regression task has spearman, pearson"):
        plan_of(study(tmp_path, metric="kendall"))
    task = plan_of(study(tmp_path)).tasks["likeness"]
    assert check(task).rows == 540
    for score, said in (("much", "'much' as score; a number"), ("nan", "score nan is not a finite number")):
        (tmp_path / "test.tsv").write_text(f"sentence1\tsentence2\tscore\na\tb\t{score}\n")
        with pytest.raises(DataError, match=rf"test.tsv:2: found {said}"):
            check(plan_of(tmp_path / "study.yaml").tasks["likeness"])
