"""The family `ranking`: find the right ones among the candidates of all languages (LAReQA, Mewsli-X).

Every query is compared with one pool that holds the candidates of every language, by cosine. The statistics of a query
are (AP@20, 1), the metric is their mean, mAP@20. Average precision sums, over the ranks of right candidates, their
share among the candidates up to there, and divides by the smaller of 20 and the number of right ones. With one right
candidate it is the reciprocal of its rank: Mewsli-X's MRR@20.
Source: third_party/utils_lareqa.py and utils_mewslix.py of google-research/xtreme.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.tasks.base import Encoded, EncodedSequence, Prediction, Row, Task
from sweep.tasks.classify import accuracy
from sweep.tasks.retrieval import Text, identity, text_sequences
from sweep.tasks.vectors import Vectors

DEPTH = 20


def average_precision(ranked: Sequence[str], right: set[str]) -> float:
    """AP@20 of candidates in ranked order; one that stands twice counts once."""
    total, hits, seen = 0.0, 0, set[str]()
    for rank, candidate in enumerate(ranked[:DEPTH], start=1):
        if candidate in right and candidate not in seen:
            seen.add(candidate)
            hits += 1
            total += hits / rank
    return total / min(len(right), DEPTH) if right else 0.0


class RankingFamily:
    """One sequence for a row's query, then one for its candidate; a row has one of them, or both."""

    name = "ranking"
    metric = "map@20"
    required: tuple[str, ...] = ("id", "query", "candidate", "links")
    default_max_length = 256

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
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
        """The rows of all languages, the links of every query completed: from candidates, and from its own row.

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
        """The best candidates of every query among the rows' candidates."""
        first = encoded.example_bounds()[:-1]
        asks = np.array([row["query"] is not None for row in rows], dtype=np.bool_)
        offers = np.array([row["candidate"] is not None for row in rows], dtype=np.bool_)
        found: list[Prediction] = [[] for _ in rows]
        if not asks.any() or not offers.any():
            return found
        keys = outputs.nearest(first[asks], (first + asks)[offers], DEPTH).keys
        ids = [row["id"] for row in rows if row["candidate"] is not None]
        for number, best in zip(np.flatnonzero(asks).tolist(), keys.tolist(), strict=True):
            found[number] = [ids[key] for key in best]
        return found

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 2] (AP@20, 1) of queries, zeros elsewhere. A query without a right candidate scores 0."""
        judged = np.zeros((len(rows), 2))
        for number, (row, ranked) in enumerate(zip(rows, predictions, strict=True)):
            if row["query"] is not None:
                judged[number] = average_precision(ranked, set(row["links"])), 1
        return judged

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of AP@20."""
        return accuracy(sums)

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Mean of AP@20."""
        return {self.metric: self.value(sums)}

    def majority(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """mAP@20 of showing every query the candidates that are right most often."""
        right = [set(row["links"]) for row in self.pool(rows) if row["query"] is not None]
        shown = [
            candidate for candidate, _ in Counter(key for links in right for key in sorted(links)).most_common(DEPTH)
        ]
        return sum(average_precision(shown, links) for links in right) / len(right) if right else 0.0


def _own(row: Row) -> str:
    """What the rows with both sides and the same candidate share; no id of a query looks like it."""
    return f"\0{row['candidate']}"


def _right(row: Row, answers: dict[str, list[str]]) -> list[str]:
    links = [*row["links"], *answers.get(row["id"], [])]
    if row["candidate"] is not None:
        links += answers[_own(row)]
    return list(dict.fromkeys(links))


RANKING = RankingFamily()
