"""Facts about the exception tree: one line with place, finding, remedy and nearest name."""

from __future__ import annotations

import pickle

import pytest

from sweep.errors import DataError, DeviceError, StoreError, StudyError, SweepError, nearest

KINDS = (StudyError, DataError, StoreError, DeviceError)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_sweep_error_and_reads_as_one_line(kind):
    error = kind("intermediate[1]", "'mnly',\n a task that is not there", "name a task", "mnli")
    assert isinstance(error, SweepError)
    assert str(error) == "intermediate[1]: found 'mnly', a task that is not there; name a task; did you mean 'mnli'?"


def test_without_a_nearest_name_nothing_is_guessed():
    assert str(DataError("rows.csv:7", "3 columns", "write 4")) == "rows.csv:7: found 3 columns; write 4"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("where", "this", "that", "those")))  # noqa: S301  Ray's own way
    assert type(error) is kind
    assert (error.where, error.found, error.expected, error.nearest) == ("where", "this", "that", "those")


def test_the_nearest_name_ignores_case_and_keeps_the_spelling():
    assert nearest("MNLY", ["mnli", "XNLI", "pos"]) == "mnli"
    assert nearest("xnly", ["mnli", "XNLI", "pos"]) == "XNLI"


def test_a_name_far_from_all_has_no_nearest():
    assert nearest("zzzzzz", ["mnli", "pos"]) is None
    assert nearest("mnli", []) is None
