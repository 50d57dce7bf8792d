"""Family of multilingual ranking (`ranking`): candidates of all languages ranked for a query (LAReQA, Mewsli-X).

Every query is compared with one pool that holds the candidates of every language, by cosine. Statistics of a query are
(AP@20, 1); the metric is their mean, mAP@20. Average precision sums, over the ranks of right candidates, their share
among the candidates up to there, and divides by the smaller of 20 and the number of right ones. With one right
candidate it is the reciprocal of its rank: Mewsli-X's MRR@20. Source: third_party/utils_lareqa.py and utils_mewslix.py
of google-research/xtreme.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence
from sweep.data.files import coverage_notes, json_object, object_text
from sweep.data.sample import Sample
from sweep.errors import DataError
from sweep.tasks.classification import accuracy
from sweep.tasks.retrieval import Text, Vectors, identity, text_sequences
from sweep.tasks.task import ALONE, Family, Guess, HeadSpec, Pair, Prediction, Task

DEPTH = 20


def average_precision(ranked: Sequence[str], right: set[str]) -> float:
    """AP@20 of candidates in ranked order; one that occurs twice counts once."""
    total, hits, counted = 0.0, 0, set[str]()
    for rank, candidate in enumerate(ranked[:DEPTH], start=1):
        if candidate in right and candidate not in counted:
            counted.add(candidate)
            hits += 1
            total += hits / rank
    return total / min(len(right), DEPTH) if right else 0.0


class RankingFamily(Family):
    """Ranking of candidates: a sequence for a row's query, then one for its candidate; a row has one of them, or both.

    Row: id: str, query: str | None, candidate: str | None, links: list[str] (of a query: ids of right candidates; of a
    candidate: ids of queries that it answers; either will do). A training row has both sides. Targets: as of embedding,
    where a row has both sides; else []. Output: Vectors. Prediction: ids of candidates, the best first, at most 20;
    empty for a row without a query.
    """

    name = "ranking"
    also_called = ("reranking", "beir", "information_retrieval")
    metric = "map@20"
    columns = ("id",)
    optional_columns = ("query", "candidate", "links")
    usual_names: ClassVar = {"id": ("qid", "query_id"), "candidate": ("positive", "passage", "document")}
    default_max_length = 256
    vectors = True
    pools = True
    suffix = "json"

    def guess_columns(self, sample: Sample) -> Guess | None:
        """An id, a query, and its candidate or the ids of candidates."""
        guess = super().guess_columns(sample)
        if guess is None or "query" not in guess.columns or len(guess.columns) < 3:
            return None
        return replace(guess, sure=ALONE, why="queries and candidates that answer them")

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of a query, a candidate, or both, and linked ids. Raises DataError."""
        row: Row = {"id": str(columns.value(raw, "id", where)), "query": None, "candidate": None, "links": []}
        for side in ("query", "candidate"):
            if side in columns.columns and columns.value(raw, side, where) is not None:
                row[side] = columns.text(raw, side, where)
        if "links" in columns.columns:
            row["links"] = columns.texts(raw, "links", where)
        return row

    def check_to_train(self, row: Row) -> str | None:
        """Problem of a row without a query or a candidate, or None."""
        if None not in (row["query"], row["candidate"]):
            return None
        return "a training row with one side; a query and its candidate belong into one"

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """Query and candidate, as far as it has them."""
        return [(row[side],) for side in ("query", "candidate") if row[side]]

    def contents(self, row: Row) -> Iterable[str]:
        """Its query, or else its candidate."""
        return (row["candidate"] if row["query"] is None else row["query"],)

    def readable(self, row: Row) -> dict[str, str]:
        """Its query."""
        return {"query": row["query"]}

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Ids of right candidates and of the best ones, with spaces between them."""
        return " ".join(row["links"]), " ".join(prediction)

    def is_scored(self, row: Row) -> bool:
        """Whether it has a query."""
        return row["query"] is not None

    def may_be_left_out(self, row: Row) -> bool:
        """Whether it has no candidate: those are searched."""
        return self.is_scored(row)

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Vectors of the encoder."""
        return HeadSpec("vector")

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        if row["query"] is None and row["candidate"] is None:
            return "neither a query nor a candidate"
        for side in ("query", "candidate"):
            text = row[side]
            if text is not None and (not isinstance(text, str) or not text.strip()):
                return f"empty {side}"
        return None

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One or two sequences per row; the candidate of a row with both has its identity as target."""
        return text_sequences(rows, self._texts, tokenizer, max_length)

    def _texts(self, row: Row) -> list[Text]:
        if row["query"] is None:
            return [(row["candidate"], ())]
        if row["candidate"] is None:
            return [(row["query"], ())]
        return [(row["query"], ()), (row["candidate"], (identity(row["candidate"]),))]

    def pool(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of all languages, with the links of every query completed from candidates and from its own row.

        Rows with both sides may share a candidate's text; then each of these candidates is right for each of them.
        """
        answers: defaultdict[str, list[str]] = defaultdict(list)
        for row in rows:
            if row["candidate"] is not None:
                keys = row["links"] if row["query"] is None else [_own(row)]
                for key in keys:
                    answers[key].append(row["id"])
        return [row if row["query"] is None else row | {"links": _right(row, answers)} for row in rows]

    def predict(
        self, outputs: Vectors, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Best candidates of every query among the rows' candidates."""
        first = encoded.example_bounds()[:-1]
        asks = np.array([row["query"] is not None for row in rows], dtype=np.bool_)
        offers = np.array([row["candidate"] is not None for row in rows], dtype=np.bool_)
        predictions: list[Prediction] = [[] for _ in rows]
        if not asks.any() or not offers.any():
            return predictions
        keys = outputs.nearest(first[asks], (first + asks)[offers], DEPTH).keys
        ids = [row["id"] for row in rows if row["candidate"] is not None]
        for number, best in zip(np.flatnonzero(asks).tolist(), keys.tolist(), strict=True):
            predictions[number] = [ids[key] for key in best]
        return predictions

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 2]: (AP@20, 1) of queries, zeros for other rows. Queries without right candidates score 0."""
        judged = np.zeros((len(rows), 2))
        for number, (row, ranked) in enumerate(zip(rows, predictions, strict=True)):
            if row["query"] is not None:
                judged[number] = average_precision(ranked, set(row["links"])), 1
        return judged

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """mAP@20 [...]."""
        return accuracy(sums)

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """mAP@20 of ranking for every query the candidates that are right most often."""
        right = [set(row["links"]) for row in self.pool(rows) if row["query"] is not None]
        shown = [
            candidate for candidate, _ in Counter(key for links in right for key in sorted(links)).most_common(DEPTH)
        ]
        return sum(average_precision(shown, links) for links in right) / len(right) if right else 0.0

    def gold(self, row: Row, number: int) -> Prediction:
        """Ids of its right candidates."""
        return row["links"]

    def predictions_text(self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
        """JSON object {id: [ids, the best first]}."""
        pairs = zip(rows, predictions, strict=True)
        return object_text((row["id"], list(ids)) for row, ids in pairs if self.is_scored(row))

    def read_files(self, predictions: Path, labels: Path, task: Task) -> Pair:
        """Ranked ids and right ids of both files. Raises DataError."""
        gold, predicted = (json_object(path) for path in (labels, predictions))
        for path, side in ((labels, gold), (predictions, predicted)):
            for name, ids in side.items():
                if not isinstance(ids, list) or not all(isinstance(identifier, str) for identifier in ids):
                    raise DataError(path, f"{ids!r} for {name!r}", "a list of ids is expected")
        rows: list[Row] = [
            {"id": name, "query": "", "candidate": None, "links": [identifier.strip() for identifier in ids]}
            for name, ids in gold.items()
        ]
        ranked = [predicted.get(name, []) for name in gold]
        return Pair(task, rows, ranked, coverage_notes(predicted, list(gold), predictions))


def _own(row: Row) -> str:
    """Key of the rows with both sides and the same candidate; no id of a query has this form."""
    return f"\0{row['candidate']}"


def _right(row: Row, answers: dict[str, list[str]]) -> list[str]:
    links = [*row["links"], *answers.get(row["id"], [])]
    if row["candidate"] is not None:
        links += answers[_own(row)]
    return list(dict.fromkeys(links))


RANKING = RankingFamily()
