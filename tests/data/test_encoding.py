"""Facts of encoded data: the Arrow file gives back what was written, without a copy, and appears whole or not at all.

What is written for which rows is in test_families.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_cases import CASES, WORDS
from small_tokenizers import small_tokenizer

from sweep.data.encoded import (
    SEQUENCES_AT_ONCE,
    Encoded,
    EncodedSequence,
    concatenate,
    encode,
    from_sequences,
    open_encoded,
)
from sweep.errors import StoreError
from sweep.heartbeat import Cancelled, Heartbeat


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return small_tokenizer("bert", [" ".join(WORDS)] * 20)


def assert_equal(found: Encoded, wanted: Encoded) -> None:
    for field in fields(Encoded):
        one, other = getattr(found, field.name), getattr(wanted, field.name)
        assert (one is None) == (other is None), field.name
        if one is not None:
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_the_file_gives_back_every_array(name: str, tokenizer: Any, tmp_path: Path) -> None:
    case = CASES[name]
    path = tmp_path / "deep" / "data.arrow"
    written = encode(case.family, case.rows, tokenizer, 60, path)
    in_memory = from_sequences(case.family.encode(case.rows, tokenizer, 60))
    assert_equal(written, in_memory)
    assert_equal(open_encoded(path), in_memory)
    assert [entry.name for entry in path.parent.iterdir()] == ["data.arrow"]


def test_no_rows_make_a_file_too(tokenizer: Any, tmp_path: Path) -> None:
    encoded = encode(CASES["span"].family, [], tokenizer, 60, tmp_path / "data.arrow")
    assert encoded.examples == 0
    assert encoded.bounds.tolist() == encoded.target_bounds.tolist() == [0]


def test_arrays_are_read_only_views_of_the_map(tokenizer: Any, tmp_path: Path) -> None:
    case = CASES["span"]
    encoded = encode(case.family, case.rows, tokenizer, 60, tmp_path / "data.arrow")
    for field in fields(Encoded):
        array = getattr(encoded, field.name)
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_a_view_outlives_the_file_and_its_replacement(tokenizer: Any, tmp_path: Path) -> None:
    case, path = CASES["sequence"], tmp_path / "data.arrow"
    before = encode(case.family, case.rows, tokenizer, 60, path)
    tokens = before.tokens.copy()
    encode(case.family, case.rows[:3], tokenizer, 60, path)
    path.unlink()
    np.testing.assert_array_equal(before.tokens, tokens)


class _Broken:
    def encode(self, *_: object) -> Iterator[EncodedSequence]:
        yield EncodedSequence([1], 0)
        raise ZeroDivisionError


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        encode(_Broken(), [], None, 60, tmp_path / "data.arrow")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@dataclass
class Counting(Heartbeat):
    """Counts, and ends the work at its last beat."""

    last: int | None = None
    beats: int = 0

    def beat(self) -> None:
        self.beats += 1
        if self.beats == self.last:
            raise Cancelled


def test_whoever_encodes_much_may_stop_on_the_way_and_leaves_no_file(tokenizer: Any, tmp_path: Path) -> None:
    case = CASES["sequence"]
    rows = [*case.rows] * (3 * SEQUENCES_AT_ONCE // len(case.rows) + 1)
    counting, leaving = Counting(), Counting(last=1)
    with pytest.raises(Cancelled):
        encode(case.family, rows, tokenizer, 60, tmp_path / "data.arrow", leaving)
    assert list(tmp_path.iterdir()) == []
    encode(case.family, rows, tokenizer, 60, tmp_path / "data.arrow", counting)
    assert counting.beats == len(rows) // SEQUENCES_AT_ONCE
    assert open_encoded(tmp_path / "data.arrow").examples == len(rows)


@pytest.mark.parametrize("kept", [0, 100, -40])
def test_a_damaged_file_is_named_in_the_error(kept: int, tokenizer: Any, tmp_path: Path) -> None:
    case, path = CASES["sequence"], tmp_path / "data.arrow"
    encode(case.family, case.rows, tokenizer, 60, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"data\.arrow"):
        open_encoded(path)


def test_a_missing_file_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_encoded(tmp_path / "data.arrow")


@pytest.mark.parametrize("name", CASES)
def test_concatenated_parts_are_the_encoding_of_all_rows(name: str, tokenizer: Any) -> None:
    case = CASES[name]
    parts = [case.rows[:10], case.rows[10:11], case.rows[11:]]
    encoded = [from_sequences(case.family.encode(rows, tokenizer, 60)) for rows in parts]
    assert_equal(concatenate(encoded), from_sequences(case.family.encode(case.rows, tokenizer, 60)))


def test_parts_of_different_kinds_do_not_concatenate() -> None:
    bare = from_sequences([EncodedSequence([1], 0)])
    with pytest.raises(ValueError, match="every part or in none"):
        concatenate([bare, from_sequences([EncodedSequence([1], 0, segments=[0])])])
    with pytest.raises(ValueError, match="nothing"):
        concatenate([])


@pytest.mark.parametrize("examples", [[1], [0, 2], [0, 1, 0]])
def test_examples_are_numbered_without_gaps(examples: list[int]) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        from_sequences(EncodedSequence([1], example) for example in examples)


def test_segments_are_for_every_token_or_for_none() -> None:
    with pytest.raises(ValueError, match="every token or for none"):
        from_sequences([EncodedSequence([1], 0, segments=[0]), EncodedSequence([1], 1)])
