"""Facts about identity: equal values have equal keys everywhere, and what has no stable identity is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweep.keys import KEY_LENGTH, canonical, file_digest, fingerprint


@dataclass(frozen=True)
class Frozen:
    rate: float
    tasks: tuple[str, ...]


@dataclass
class Mutable:
    rate: float


def test_a_key_is_hexadecimal_of_fixed_length():
    key = fingerprint({"a": 1})
    assert len(key) == KEY_LENGTH
    int(key, 16)


def test_the_order_of_a_mapping_does_not_change_its_key_and_the_order_of_a_list_does():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_a_tuple_is_its_list_and_a_frozen_dataclass_is_its_mapping():
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    assert fingerprint(Frozen(1e-4, ("nli",))) == fingerprint({"rate": 1e-4, "tasks": ["nli"]})


def test_numbers_that_differ_have_keys_that_differ():
    assert len({fingerprint(value) for value in (1, 1.5, True, "1", None, 1e-5, 1.0000000001e-5)}) == 7


def test_text_is_kept_as_it_is():
    assert canonical({"language": "Tiếng Việt"}) == '{"language":"Tiếng Việt"}'


def test_a_key_is_the_same_in_another_process_with_another_hash_seed():
    code = "from sweep.keys import fingerprint; print(fingerprint({'b': [1, 2.5, None], 'a': 'ñ'}))"
    keys = [
        subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert keys == [fingerprint({"b": [1, 2.5, None], "a": "ñ"})] * 2


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"tasks": {"nli", "pos"}}, "value.tasks is a set"),
        ({"rates": [1.0, float("nan")]}, r"value.rates\[1\] is nan"),
        (float("inf"), "value is inf"),
        ({1: "one"}, "has the key 1"),
        (Mutable(1.0), "freeze the dataclass"),
        (Path("here"), "value is a PosixPath"),
        (Frozen, "value is a type"),
    ],
)
def test_what_has_no_stable_identity_is_refused_with_its_place(value, sentence):
    with pytest.raises(TypeError, match=sentence):
        fingerprint(value)


def test_a_file_is_known_by_its_bytes(tmp_path):
    one, same, other = tmp_path / "one", tmp_path / "same", tmp_path / "other"
    one.write_bytes(b"weights" * 1000)
    same.write_bytes(b"weights" * 1000)
    other.write_bytes(b"weights" * 999)
    assert file_digest(one) == file_digest(same) != file_digest(other)
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "absent")
