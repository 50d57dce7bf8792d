"""Study files with random mistakes: each can be planned, or gives one line that says where the mistake is."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sweep.cli import main

STUDIES = Path(__file__).parents[2] / "search_spaces"
NAMES = ["quickstart", "volume_vs_size", "miniature/english_vs_multilingual", "miniature/count_vs_budget"]
MUTANTS = 60  # of each study
VALUES: list[Any] = [
    *(None, True, 0, -1, 3, 10**30, 1e308, -0.5, 0.5, 2**63, float("inf"), float("nan"), 5e-324),
    *("", " ", "none", "full", "own", "en", "zz", "world/nli", "world/raw", "tatoeba", "a\tb", "a\nb", "{x}", "\x07"),
    *(
        "ünï☃",
        "\U0001f917",
        "../..",
        "/",
        300 * "x",
        [],
        [[]],
        [None],
        {},
        {"": 1},
        [1, "a"],
        [{}],
        {1: 2},
        ["en", "en"],
    ),
]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a value."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield (*place, name)
        yield from places(child, (*place, name))


def inside(value: Any, place: tuple[Any, ...]) -> Any:
    for name in place:
        value = value[name]
    return value


def mutate(study: Any, chance: random.Random) -> None:
    """Changes, renames, doubles, moves or removes one thing."""
    known = list(places(study))
    section = chance.choice(sorted({place[0] for place in known}))
    place = chance.choice([place for place in known if place[0] == section])
    holder, name = inside(study, place[:-1]), place[-1]
    value = holder[name]
    match chance.choice(["value", "value", "value", "copy", "name", "double", "remove"]):
        case "value":
            holder[name] = copy.deepcopy(chance.choice(VALUES))
        case "copy":
            holder[name] = copy.deepcopy(inside(study, chance.choice(known)))
        case "name" if isinstance(holder, dict):
            holder[f"{name}x"[chance.randrange(2) :]] = holder.pop(name)
        case "double" if isinstance(value, list) and value:
            value.append(copy.deepcopy(chance.choice(value)))
        case _:
            del holder[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_random_mistake_is_one_line_with_its_place_or_none_at_all(name, tmp_path, capsys):
    original = YAML(typ="safe", pure=True).load(STUDIES / f"{name}.yaml")
    settings = original["axes"]["intermediate"]
    original["axes"]["intermediate"] = [*settings[:2], settings[-1]]  # a smaller study is planned sooner
    path, chance = tmp_path / "study.yaml", random.Random(name)
    refused = 0
    for _ in range(MUTANTS):
        study = copy.deepcopy(original)
        mutate(study, chance)
        text = json.dumps(study).replace("Infinity", ".inf").replace("NaN", ".nan")
        path.write_text(text, encoding="utf-8")
        code, printed = main(["plan", str(path)]), capsys.readouterr()
        assert code in (0, 2), text
        if code == 2:
            assert printed.err.count("\n") == 1, (printed.err, text)
            place, _, rest = printed.err.partition(": found ")
            assert place.startswith(f"sweep: {path}: "), (printed.err, text)
            assert rest, (printed.err, text)
            refused += 1
        else:
            assert printed.err == "", text
    assert MUTANTS // 2 < refused < MUTANTS  # else it shows little
