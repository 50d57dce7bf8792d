"""Facts about the transferability score: its value against plain linear algebra, its limits, odd input."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.evaluate.transferability import log_evidence, moments, one_hot


def draw(examples: int, width: int, seed: int = 0):
    """Vectors, and labels of three classes that the first of them predict in part."""
    random = np.random.default_rng([seed, examples, width])
    vectors = random.normal(size=(examples, width))
    noisy = vectors[:, :3] + random.normal(size=(examples, min(3, width)))
    return vectors, noisy.argmax(axis=1)


def score(vectors, labels, classes: int | None = None) -> float:
    columns = one_hot(np.asarray(labels), classes or int(np.max(labels)) + 1)
    value = log_evidence(moments(vectors, columns))
    assert value is not None
    return value


def density(vectors, column, alpha: float, beta: float) -> float:
    """log N(y; 0, I / beta + F F' / alpha) / N, as it is defined."""
    covariance = np.eye(len(column)) / beta + vectors @ vectors.T / alpha
    _, determinant = np.linalg.slogdet(covariance)
    count = len(column)
    return -0.5 * (determinant + column @ np.linalg.solve(covariance, column) + count * np.log(2 * np.pi)) / count


def by_fixed_point(vectors, column, rounds: int = 3000) -> float:
    """The paper's iteration, with plain matrices: alpha = gamma / m'm, beta = (N - gamma) / |Fm - y|^2."""
    alpha = beta = 1.0
    gram, count = vectors.T @ vectors, len(column)
    for _ in range(rounds):
        precision = alpha * np.eye(len(gram)) + beta * gram
        mean = beta * np.linalg.solve(precision, vectors.T @ column)
        gamma = beta * np.trace(np.linalg.solve(precision, gram))
        alpha = gamma / (mean @ mean)
        beta = (count - gamma) / np.sum((vectors @ mean - column) ** 2)
    return density(vectors, column, alpha, beta)


@pytest.mark.parametrize(("examples", "width"), [(60, 5), (40, 20), (90, 30)])
def test_the_score_is_the_mean_over_classes_of_the_evidence_that_fixed_point_iteration_finds(examples, width):
    vectors, labels = draw(examples, width)
    expected = np.mean([by_fixed_point(vectors, (labels == label) * 1.0) for label in range(3)])
    assert score(vectors, labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("examples", "width"), [(50, 4), (15, 30)])
def test_no_prior_and_no_noise_explain_the_labels_better(examples, width):
    vectors, labels = draw(examples, width)
    column = (labels == 0) * 1.0
    best = log_evidence(moments(vectors, column[:, None]))
    densities = [
        density(vectors, column, alpha, beta) for alpha in np.logspace(-6, 6, 40) for beta in np.logspace(-6, 6, 40)
    ]
    assert max(densities) <= best < max(densities) + 0.02


def test_moments_of_batches_add_up():
    vectors, labels = draw(70, 6)
    columns = one_hot(labels, 3)
    parts = moments(vectors[:30], columns[:30]) + moments(vectors[30:], columns[30:])
    assert log_evidence(parts) == pytest.approx(score(vectors, labels), abs=1e-12)


def test_vectors_that_hold_the_labels_score_far_above_noise_and_noise_above_nothing_by_little():
    vectors, labels = draw(300, 10)
    perfect = np.concatenate([vectors, one_hot(labels, 3)], axis=1)
    noise = np.random.default_rng(9).normal(size=(300, 13))
    nothing = score(np.zeros((300, 13)), labels)
    assert score(perfect, labels) > score(vectors, labels) + 1
    assert score(vectors, labels) > score(noise, labels) + 0.05
    assert nothing <= score(noise, labels) < nothing + 0.05


def test_more_random_dimensions_than_examples_are_no_evidence_though_they_fit_everything():
    _, labels = draw(40, 3)
    wide, narrow = (np.random.default_rng(1).normal(size=(40, width)) for width in (400, 3))
    assert score(wide, labels) < score(narrow, labels) + 0.05


def test_vectors_that_are_all_the_same_say_how_frequent_the_classes_are_and_no_more():
    _, labels = draw(200, 4)
    constant = score(np.ones((200, 6)), labels)
    assert constant == pytest.approx(score(np.full((200, 1), 7.0), labels), abs=1e-6)
    beside = np.concatenate([draw(200, 4)[0], np.ones((200, 1))], axis=1)
    assert score(np.zeros((200, 6)), labels) < constant < score(beside, labels)


def test_the_unit_of_the_vectors_does_not_matter_nor_a_rotation():
    vectors, labels = draw(80, 8)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))
    assert score(1000 * vectors, labels) == pytest.approx(score(vectors, labels), abs=1e-8)
    assert score(vectors @ turn, labels) == pytest.approx(score(vectors, labels), abs=1e-8)


def test_a_perfect_fit_has_a_finite_score():
    labels = np.arange(60) % 3
    assert np.isfinite(score(one_hot(labels, 3), labels))


def test_one_class_alone_is_nothing_to_explain():
    vectors, _ = draw(30, 4)
    assert log_evidence(moments(vectors, one_hot(np.zeros(30, dtype=np.int64), 3))) is None
    assert log_evidence(moments(vectors, np.zeros((30, 2)))) is None


def test_a_class_without_examples_changes_nothing():
    vectors, labels = draw(50, 5)
    assert score(vectors, labels, classes=7) == score(vectors, labels)


def test_vectors_without_numbers_say_nothing():
    _, labels = draw(50, 5)
    assert score(np.full((50, 5), np.nan), labels) == score(np.zeros((50, 5)), labels)
