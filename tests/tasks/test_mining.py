"""Facts about mining translations, against XTREME's procedure written down step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from family_cases import task_of

from sweep.data import Row
from sweep.data.encoded import Encoded
from sweep.tasks.mining import MINING
from sweep.train.score import DeviceVectors

NOTHING = Encoded(*(np.zeros(0),) * 5)  # type: ignore[arg-type]


def rows_of(texts: list[str], pairs: list[str], links: dict[int, list[int]] | None = None) -> list[Row]:
    """Both corpora; `links` says which texts are translated by which pairs."""
    gold = links or {}
    rows: list[Row] = [
        {"id": f"t{n}", "side": "text", "text": text, "links": [f"p{m}" for m in gold.get(n, [])]}
        for n, text in enumerate(texts)
    ]
    return rows + [{"id": f"p{n}", "side": "pair", "text": text, "links": []} for n, text in enumerate(pairs)]


def mined(rows: list[Row], vectors: object) -> dict[tuple[str, str], float]:
    outputs = DeviceVectors(np.array(vectors, dtype=np.float32), torch.device("cpu"))
    predictions = MINING.predict(outputs, NOTHING, rows, ())
    return {
        (row["id"], other): score
        for row, prediction in zip(rows, predictions, strict=True)
        for other, score in prediction.items()
    }


def step_by_step(rows: list[Row], vectors: np.ndarray) -> dict[tuple[str, str], float]:
    """What third_party/utils_retrieve.py of google-research/xtreme does, sentence by sentence."""
    sides = []
    for side in ("text", "pair"):
        numbers = [n for n, row in enumerate(rows) if row["side"] == side]
        distinct = list(dict.fromkeys(rows[n]["text"] for n in numbers))
        last = {rows[n]["text"]: n for n in numbers}
        stripped = [rows[n]["text"].strip() for n in numbers]
        ids = {rows[n]["text"].strip(): rows[n]["id"] for n in numbers if stripped.count(rows[n]["text"].strip()) == 1}
        matrix = np.array([vectors[last[text]] / np.linalg.norm(vectors[last[text]]) for text in distinct])
        sides.append((distinct, matrix, ids))
    (texts, x, text_ids), (pairs, y, pair_ids) = sides
    cosine = x @ y.T
    near = [np.argsort(-cosine[i], kind="stable")[:4] for i in range(len(x))]
    far = [np.argsort(-cosine[:, j], kind="stable")[:4] for j in range(len(y))]

    def margin(i: int, j: int) -> float:
        return float(cosine[i, j] / ((cosine[i, near[i]].mean() + cosine[far[j], j].mean()) / 2))

    candidates = [max(((margin(i, j), i, int(j)) for j in near[i]), key=lambda c: c[0]) for i in range(len(x))]
    candidates += [max(((margin(i, j), int(i), j) for i in far[j]), key=lambda c: c[0]) for j in range(len(y))]
    found, seen_x, seen_y = {}, set(), set()
    for score, i, j in sorted(candidates, key=lambda c: -c[0]):
        if i in seen_x or j in seen_y:
            continue
        seen_x.add(i)
        seen_y.add(j)
        if score > 0 and texts[i].strip() in text_ids and pairs[j].strip() in pair_ids:
            found[text_ids[texts[i].strip()], pair_ids[pairs[j].strip()]] = score
    return found


@pytest.mark.parametrize("seed", range(6))
def test_what_is_mined_is_what_the_procedure_gives_sentence_by_sentence(seed):
    """Corpora of different size with duplicates, near translations among noise."""
    draw = np.random.default_rng(seed)
    texts = [f"t {draw.integers(120)}" + " " * draw.integers(2) for _ in range(50)]
    pairs = [f"p {draw.integers(150)}" for _ in range(70)]
    rows = rows_of(texts, pairs)
    vectors = draw.normal(size=(120, 5))
    vectors[50:80] = vectors[:30] + 0.3 * draw.normal(size=(30, 5))
    found, expected = mined(rows, vectors), step_by_step(rows, vectors)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for pair, score in expected.items():
        assert found[pair] == pytest.approx(score, rel=1e-4)


def test_a_sentence_that_stands_twice_is_never_part_of_a_pair():
    vectors = np.eye(4)[[0, 1, 0, 0, 1]]
    assert set(mined(rows_of(["a", "b", "a"], ["c", "d"]), vectors)) == {("t1", "p1")}
    assert set(mined(rows_of(["a", "b", " a"], ["c", "d"]), vectors)) == {("t1", "p1")}


def test_of_a_sentence_that_stands_twice_the_last_vector_counts():
    """The first "a" would take "c" from "b"; the last one lies elsewhere."""
    vectors = [[1, 0, 0], [1, 0.5, 0], [0, 0, 1], [1, 0, 0]]
    assert set(mined(rows_of(["a", "b", "a"], ["c"]), vectors)) == {("t1", "p0")}


def test_each_sentence_is_in_one_pair_at_most():
    draw = np.random.default_rng(0)
    pairs = mined(rows_of([f"t{n}" for n in range(30)], [f"p{n}" for n in range(50)]), draw.normal(size=(80, 3)))
    for side in zip(*pairs, strict=True):
        assert len(set(side)) == len(side)


@pytest.mark.parametrize(("texts", "pairs"), [([], ["a"]), (["a"], []), ([], [])])
def test_an_empty_side_has_no_translations(texts, pairs):
    rows = rows_of(texts, pairs)
    assert mined(rows, np.ones((len(rows), 2))) == {}


def predictions_of(*scored: tuple[float, bool], gold: int) -> tuple[list[dict[str, float]], list[Row]]:
    """Predictions with these scores that are right or wrong, and rows with `gold` pairs in all."""
    rows = rows_of(["x"] * max(len(scored), gold), [], {n: [n] for n in range(gold)})
    found: list[dict[str, float]] = [{} for _ in rows]
    for number, (score, right) in enumerate(scored):
        found[number] = {f"p{number}" if right else "wrong": score}
    return found, rows


def test_the_threshold_lies_in_the_middle_between_the_best_cut_and_the_next_score():
    predictions, rows = predictions_of((1.5, True), (1.3, True), (1.2, False), (1.1, False), gold=2)
    assert MINING.calibrate(predictions, rows) == pytest.approx(1.25)


def test_of_equally_good_cuts_the_highest_is_taken():
    """1 of 1 against 2 gold pairs is F1 2/3; so is 2 of 4."""
    predictions, rows = predictions_of((4.0, True), (3.0, False), (2.0, False), (1.0, True), gold=2)
    assert MINING.calibrate(predictions, rows) == pytest.approx(3.5)


def test_where_all_pairs_are_right_the_last_score_is_the_threshold():
    predictions, rows = predictions_of((1.5, True), (1.25, True), gold=2)
    assert MINING.calibrate(predictions, rows) == 1.25
    assert sum(map(len, MINING.apply_threshold(predictions, 1.25))) == 2


def test_without_a_right_pair_there_is_no_threshold():
    assert MINING.calibrate(*predictions_of((1.5, False), gold=1)) == 0
    assert MINING.calibrate([{}], rows_of(["a"], [])) == 0
    assert MINING.calibrate([], []) == 0


def test_a_pair_at_the_threshold_counts():
    assert MINING.apply_threshold([{"a": 1.0}, {"b": 0.999}, {}], 1.0) == [{"a": 1.0}, {}, {}]


def test_f1_is_over_pairs_of_ids():
    rows = rows_of(["a", "b", "c", "d"], ["e"], {0: [0, 1], 1: [2], 3: [3]})
    judged = MINING.judge([{"p0": 1, "p5": 1}, {"p2": 1}, {"p9": 1}, {}, {}], rows, task_of(MINING), "de")
    assert judged.tolist() == [[1, 2, 2], [1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert MINING.value(judged.sum(axis=0)) == pytest.approx(2 * 2 / (4 + 4))
