"""Facts about ranking the candidates of all languages for a query, against XTREME's definition of AP@20."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from documentation import write_files
from family_cases import task_of

from sweep.data import Row
from sweep.data.encoded import EncodedSequence, from_sequences
from sweep.tasks.ranking import DEPTH, RANKING, average_precision
from sweep.train.score import DeviceVectors


def query(name: str, *links: str) -> Row:
    return {"id": name, "query": f"what is {name}", "candidate": None, "links": list(links)}


def candidate(name: str, *links: str) -> Row:
    return {"id": name, "query": None, "candidate": f"it is {name}", "links": list(links)}


def by_definition(right: set[str], ranked: list[str], k: int) -> float:
    """average_precision_at_k of third_party/utils_lareqa.py of google-research/xtreme."""
    score = hits = 0.0
    for index, one in enumerate(ranked[:k]):
        if one in right and one not in ranked[:index]:
            hits += 1
            score += hits / (index + 1)
    return score / min(len(right), k)


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_xtremes(seed):
    draw = np.random.default_rng(seed)
    ranked = [str(name) for name in draw.integers(60, size=30)]
    right = {str(name) for name in draw.integers(60, size=draw.integers(1, 40))}
    assert average_precision(ranked, right) == by_definition(right, ranked, DEPTH)


def test_with_one_right_candidate_it_is_the_reciprocal_of_its_rank():
    ranked = [str(n) for n in range(40)]
    assert [average_precision(ranked, {str(n)}) for n in (0, 1, 19, 20)] == [1, 1 / 2, 1 / 20, 0]


def test_a_query_without_a_right_candidate_scores_0_and_counts():
    assert RANKING.judge([["a"]], [query("q")], task_of(RANKING), "de").tolist() == [[0, 1]]


def predicted(rows: list[Row], vectors: object) -> list[list[str]]:
    """The ranking of every row from one vector for each of its sides."""
    sides = [(number, side) for number, row in enumerate(rows) for side in ("query", "candidate") if row[side]]
    encoded = from_sequences(EncodedSequence([1], number) for number, _ in sides)
    return RANKING.predict(DeviceVectors(np.array(vectors, dtype=np.float32), torch.device("cpu")), encoded, rows, ())


def test_candidates_are_ranked_by_cosine_and_queries_are_no_candidates():
    rows = [candidate("a"), query("q"), candidate("b"), query("r"), candidate("c")]
    vectors = [[0, 3], [1, 0.1], [5, 0], [-1, -2], [1, 1]]
    assert predicted(rows, vectors) == [[], ["b", "c", "a"], [], ["b", "a", "c"], []]


def test_a_row_with_both_sides_is_a_query_and_a_candidate():
    both: Row = {"id": "x", "query": "q", "candidate": "c", "links": []}
    rows = [candidate("a"), both]
    assert predicted(rows, [[1, 0], [0, 1], [0, 1]]) == [[], ["x", "a"]]
    assert RANKING.pool(rows)[1]["links"] == ["x"]


def test_at_most_twenty_candidates_are_named():
    rows = [query("q"), *(candidate(str(n)) for n in range(30))]
    ranked = predicted(rows, np.ones((31, 3)))
    assert ranked[0] == [str(n) for n in range(20)]


@pytest.mark.parametrize("rows", [[query("q")], [candidate("c")], []])
def test_without_queries_or_candidates_nothing_is_ranked(rows):
    assert predicted(rows, np.ones((len(rows), 2))) == [[] for _ in rows]


def test_links_count_in_both_directions_and_across_languages():
    """One question in two languages, its answers in three: LAReQA's pool."""
    german = [query("q1"), candidate("de1", "q1"), candidate("de2")]
    hindi = [query("q1"), candidate("hi1", "q1", "q2"), query("q2", "de2")]
    english = [candidate("en1", "q1")]
    pooled = RANKING.pool([*german, *hindi, *english])
    assert [row["links"] for row in pooled if row["query"] is not None] == [
        ["de1", "hi1", "en1"],
        ["de1", "hi1", "en1"],
        ["de2", "hi1"],
    ]


def test_rows_with_both_sides_and_the_same_candidate_answer_each_other():
    rows: list[Row] = [
        {"id": n, "query": n, "candidate": c, "links": []} for n, c in (("1", "x"), ("2", "y"), ("3", "x"))
    ]
    assert [row["links"] for row in RANKING.pool(rows)] == [["1", "3"], ["2"], ["1", "3"]]


def test_the_script_of_the_page_writes_beirs_files_as_rows_of_the_family(tmp_path):
    write_files("docs/data/ranking.md", tmp_path)
    lines = {
        "queries.jsonl": ['{"_id": "q", "text": "who?"}', '{"_id": "unjudged", "text": "when?"}'],
        "corpus.jsonl": ['{"_id": "c", "title": "T", "text": "she"}', '{"_id": "d", "text": "he"}'],
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore", "q\tc\t2", "q\td\t0"],
    }
    (tmp_path / "qrels").mkdir()
    for name, content in {**lines, "qrels/train.tsv": lines["qrels/test.tsv"]}.items():
        (tmp_path / name).write_text("\n".join(content), encoding="utf-8")
    for split, rows in {
        "test": [query("q", "c") | {"query": "who?"}, candidate("c") | {"candidate": "T she"},
                 candidate("d") | {"candidate": "he"}],
        "train": [{"id": "q-c", "query": "who?", "candidate": "T she", "links": []}],
    }.items():  # fmt: skip
        command = [sys.executable, "from_beir.py", ".", split]
        written = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, encoding="utf-8")
        assert [json.loads(line) for line in written.stdout.splitlines()] == rows
