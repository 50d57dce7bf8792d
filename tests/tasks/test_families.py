"""Facts that hold for every family and every kind of tokenizer. What one has to itself is in test_family_rules."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from family_cases import CASES, WORDS, Case
from numpy.typing import NDArray
from small_tokenizers import KINDS, small_tokenizer

from sweep.data import IGNORED, Row
from sweep.data.encoded import Encoded, from_sequences

SHORT, LONG = 60, 4096


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return small_tokenizer(request.param, [" ".join(WORDS)] * 20)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def encoded(case: Case, tokenizer: Any, max_length: int, rows: Sequence[Row] | None = None) -> Encoded:
    return from_sequences(case.family.encode(case.rows if rows is None else rows, tokenizer, max_length))


def summed(case: Case, outputs: Sequence[NDArray[Any]], data: Encoded) -> NDArray[np.float64]:
    return case.statistics(outputs, data).sum(axis=0)


@pytest.mark.parametrize("max_length", [SHORT, LONG])
def test_perfect_outputs_score_1(case: Case, tokenizer: Any, max_length: int) -> None:
    data = encoded(case, tokenizer, max_length)
    assert case.family.value(summed(case, case.perfect(data, case.rows), data)) == pytest.approx(1.0)


def test_outputs_of_the_majority_answer_score_the_majority(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, LONG)
    score = float(case.family.value(summed(case, case.constant(data, case.rows), data)))
    assert score == pytest.approx(case.chance_level(data), abs=1e-9)


def test_random_outputs_score_about_chance(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, LONG)
    low, high = case.chance
    assert low <= case.family.value(summed(case, case.guess(data, case.rows), data)) <= high


def test_statistics_have_one_row_per_example(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT)
    statistics = case.statistics(case.guess(data, case.rows), data)
    assert statistics.shape == (len(case.rows), case.columns)
    assert statistics.dtype == np.float64


def test_value_is_vectorised_over_leading_axes(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, LONG)
    statistics = case.statistics(case.guess(data, case.rows), data)
    draws = np.random.default_rng(0).integers(0, len(statistics), size=(2, 3, len(statistics)))
    sums = statistics[draws].sum(axis=2)
    values = case.family.value(sums)
    assert values.shape == (2, 3)
    assert values[1, 2] == case.family.value(sums[1, 2])


def test_scores_do_not_depend_on_the_order_of_rows(case: Case, tokenizer: Any) -> None:
    straight = encoded(case, tokenizer, SHORT)
    outputs = case.guess(straight, case.rows)
    before = case.statistics(outputs, straight)
    order = random.Random(1).sample(range(len(case.rows)), len(case.rows))
    rows = [case.rows[number] for number in order]
    bounds = straight.example_bounds().tolist()
    moved = [output for number in order for output in outputs[bounds[number] : bounds[number + 1]]]
    after = case.statistics(moved, encoded(case, tokenizer, SHORT, rows), rows)
    np.testing.assert_array_equal(after, before[order])


def test_a_row_is_encoded_alike_whatever_stands_beside_it(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT)
    bounds = data.example_bounds()
    for number in (0, 7, len(case.rows) - 1):
        alone = encoded(case, tokenizer, SHORT, [case.rows[number]])
        first, last = data.bounds[bounds[number]], data.bounds[bounds[number + 1]]
        np.testing.assert_array_equal(alone.tokens, data.tokens[first:last])


def test_every_example_survives_encoding_and_no_sequence_is_too_long(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT)
    assert data.examples == len(case.rows)
    assert np.all(np.diff(data.example_bounds()) >= 1)
    assert data.lengths().max() <= SHORT


def test_short_sequences_keep_all_gold(case: Case, tokenizer: Any) -> None:
    totals = []
    for max_length in (SHORT, LONG):
        data = encoded(case, tokenizer, max_length)
        totals.append(summed(case, case.perfect(data, case.rows), data))
    np.testing.assert_array_equal(totals[0], totals[1])


def test_segments_are_given_where_the_tokenizer_has_them(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT)
    assert (data.segments is not None) == ("token_type_ids" in tokenizer("a"))
    if data.segments is not None:
        pairs = case.family.name in ("sequence", "choice", "span")
        assert set(data.segments.tolist()) == ({0, 1} if pairs else {0})


def test_targets_that_are_tokens_of_the_sequence_stay_inside_it(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT)
    counts = np.diff(data.target_bounds)
    if case.family.name in ("token", "masked"):
        np.testing.assert_array_equal(counts, data.lengths())
    elif case.family.name == "span":
        assert np.all(data.targets.reshape(-1, 2) < data.lengths()[:, None])
    else:
        assert counts.max() <= 1
    assert np.all((data.targets >= 0) | (data.targets == IGNORED))


def test_truncation_and_padding_of_the_tokenizer_neither_matter_nor_change(case: Case, tokenizer: Any) -> None:
    before = encoded(case, tokenizer, SHORT)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(5)
    backend.enable_padding(length=50)
    state = backend.truncation, backend.padding
    try:
        after = encoded(case, tokenizer, SHORT)
        assert (backend.truncation, backend.padding) == state
    finally:
        backend.no_truncation()
        backend.no_padding()
    np.testing.assert_array_equal(after.tokens, before.tokens)


def test_no_rows_are_no_examples_and_score_0(case: Case, tokenizer: Any) -> None:
    data = encoded(case, tokenizer, SHORT, [])
    statistics = case.statistics([], data, [])
    assert data.examples == 0
    assert statistics.shape == (0, case.columns)
    assert case.family.value(statistics.sum(axis=0)) == 0
    assert case.chance_level(data, []) == 0


def test_check_finds_nothing_wrong_with_good_rows_and_says_what_is_with_others(case: Case) -> None:
    assert {case.family.check(row, case.labels) for row in case.rows} == {None}
    for message, row in case.broken.items():
        assert message in str(case.family.check(row, case.labels))


def test_a_max_length_without_room_for_text_is_refused(case: Case, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        encoded(case, tokenizer, 2)
