"""Facts about nearest neighbours, against a full sort of the whole similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sweep.train.score import GROUP, DeviceVectors, block_shape, nearest_neighbours

SHAPES = [(1, 1), (3, 70), (70, 3), (64, 64), (65, 130), (200, 97)]


def whole_numbers(rows: int, seed: int) -> NDArray[np.float32]:
    """Vectors whose products are exact in any order, with many ties."""
    return np.random.default_rng(seed).integers(-2, 3, size=(rows, 6)).astype(np.float32)


def sorted_in_full(queries: NDArray[np.float32], keys: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The reference: every similarity of a query in one stable sort."""
    return np.argsort(-(queries @ keys.T), axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize("count", [1, 4, 20, 1000])
@pytest.mark.parametrize("block_bytes", [1, 4 * 64 * 64, 1 << 20])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_both_directions_are_those_of_a_full_sort_with_the_lower_index_first(rows, columns, block_bytes, count):
    queries, keys = whole_numbers(rows, 0), whole_numbers(columns, 1)
    forward, backward = nearest_neighbours(
        torch.from_numpy(queries), torch.from_numpy(keys), count, both=True, block_bytes=block_bytes
    )
    assert backward is not None
    np.testing.assert_array_equal(forward.keys, sorted_in_full(queries, keys, count))
    np.testing.assert_array_equal(backward.keys, sorted_in_full(keys, queries, count))
    np.testing.assert_array_equal(forward.cosine, np.take_along_axis(queries @ keys.T, forward.keys, axis=1))


def test_equal_keys_come_in_their_order_whatever_the_block():
    queries, keys = torch.ones(5, 8), torch.ones(300, 8)
    for block_bytes in (1, 1 << 14, 1 << 20):
        forward, backward = nearest_neighbours(queries, keys, 4, both=True, block_bytes=block_bytes)
        assert forward.keys.tolist() == [[0, 1, 2, 3]] * 5
        assert backward is not None
        assert backward.keys.tolist() == [[0, 1, 2, 3]] * 300


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
def test_an_empty_side_has_and_gives_no_neighbours(rows, columns):
    forward, backward = nearest_neighbours(torch.ones(rows, 2), torch.ones(columns, 2), 4, both=True)
    assert backward is not None
    assert forward.keys.shape == (rows, min(4, columns))
    assert backward.keys.shape == (columns, min(4, rows))


def test_no_neighbours_are_refused():
    with pytest.raises(ValueError, match="0 neighbours"):
        nearest_neighbours(torch.ones(2, 2), torch.ones(2, 2), 0)


@pytest.mark.parametrize("rows", [1, 1000, 500_000])
@pytest.mark.parametrize("columns", [1, 3000, 500_000])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20, 64 << 20])
def test_a_block_keeps_to_its_bytes_and_is_never_larger_than_the_matrix(rows, columns, block_bytes):
    height, width = block_shape(rows, columns, block_bytes)
    assert height * width * 4 <= max(block_bytes, 4 * GROUP * GROUP)
    assert height % GROUP == width % GROUP == 0
    assert height < rows + GROUP
    assert width < columns + GROUP
    assert height * width * 4 > min(block_bytes, rows * columns * 4) * 0.8 or GROUP in (height, width)


def test_neighbours_are_by_angle():
    draw = np.random.default_rng(0)
    pivot = draw.normal(size=(300, 8))
    order = draw.permutation(300)
    foreign = pivot[order] * draw.uniform(0.1, 10, size=(300, 1))
    vectors = DeviceVectors(np.concatenate([pivot, foreign]).astype(np.float32), torch.device("cpu"))
    neighbours = vectors.nearest(np.arange(300), np.arange(300, 600), 1)
    np.testing.assert_array_equal(order[neighbours.keys[:, 0]], np.arange(300))
    np.testing.assert_allclose(neighbours.cosine, 1, atol=1e-5)


def test_vectors_that_are_zero_or_no_number_are_near_to_nothing():
    array = np.array([[0, 0], [np.nan, np.inf], [-1, 0], [3, 4]], dtype=np.float32)
    vectors = DeviceVectors(array, torch.device("cpu"))
    assert np.isfinite(vectors.nearest(np.arange(4), np.arange(4), 4).cosine).all()
    assert vectors.nearest(np.array([0, 3]), np.arange(4), 1).cosine.ravel().tolist() == pytest.approx([0, 1])
