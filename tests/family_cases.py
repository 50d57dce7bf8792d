"""For every family: rows, and the outputs of models whose score is known beforehand. Data of test_families, no tests.

Rows are generated from a seed; their words are nonsense of several syllables, so that every tokenizer splits some.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweep.data import IGNORED, Row
from sweep.data.encoded import Encoded
from sweep.tasks.classification import CHOICE, SEQUENCE
from sweep.tasks.masked_lm import MASKED
from sweep.tasks.mining import MINING
from sweep.tasks.question_answering import SPAN
from sweep.tasks.ranking import RANKING
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.table import TASKS
from sweep.tasks.tagging import TOKEN
from sweep.tasks.task import Family, Prediction, Task
from sweep.train.score import DeviceVectors

Outputs = list[NDArray[Any]]
Model = Callable[[Encoded, list[Row]], Outputs]

_random = random.Random(7)
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
WORDS = ["".join(_random.choices(_SYLLABLES, k=_random.choice((1, 2, 2, 3, 5)))) for _ in range(120)]
UPOS = ("ADJ", "NOUN", "PUNCT", "SCONJ", "VERB")
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
BILOU = ("O", *(f"{letter}-{kind}" for kind in ("PER", "LOC") for letter in "BILU"))
MOST_OPTIONS = 9


@dataclass(frozen=True)
class Case:
    """A family with rows and models; `chance` is the range in which a model that guesses must score."""

    family: Family
    rows: list[Row]
    labels: tuple[str, ...]
    perfect: Model
    constant: Model  # gives the majority answer
    guess: Model
    chance: tuple[float, float]
    columns: int
    broken: dict[str, Row]  # rows by what check() says of them

    def statistics(self, outputs: Outputs, encoded: Encoded, rows: list[Row] | None = None) -> NDArray[np.float64]:
        """What comes of outputs by way of predictions."""
        return statistics(self.family, outputs, encoded, self.rows if rows is None else rows, self.labels)

    def chance_level(self, encoded: Encoded, rows: list[Row] | None = None) -> float:
        return self.family.chance_level(
            self.rows if rows is None else rows, encoded, task_of(self.family, self.labels), "en"
        )


def statistics(
    family: Family, outputs: Outputs, encoded: Encoded, rows: list[Row], labels: tuple[str, ...] = ()
) -> NDArray[np.float64]:
    """Outputs of a model on rows of a family, predicted and judged."""
    return family.judge(*predicted(family, outputs, encoded, rows, labels), task_of(family, labels), "en")


def predicted(
    family: Family, outputs: Outputs, encoded: Encoded, rows: list[Row], labels: tuple[str, ...] = ()
) -> tuple[list[Prediction], list[Row]]:
    """What outputs say of rows, and the rows as a judge wants them."""
    found = DeviceVectors(np.array(outputs, dtype=np.float32), torch.device("cpu")) if family.vectors else outputs
    known = RANKING.pool(rows) if family is RANKING else rows
    return family.predict(found, encoded, known, labels), known


def task_of(family: Family, labels: tuple[str, ...] = (), normaliser: str = "squad") -> Task:
    """A task of the family; its source is never read."""
    return Task("case", family, TASKS["world/nli"].source, ("en",), labels=labels, normaliser=normaliser)


def text(length: int) -> str:
    """That many words."""
    return " ".join(_random.choices(WORDS, k=length))


def guesses(encoded: Encoded, *shape: int) -> Outputs:
    """Normal noise of the shape for every sequence; -1 stands for its length."""
    rng = np.random.default_rng(3)
    return [rng.normal(size=[length if size < 0 else size for size in shape]) for length in encoded.lengths().tolist()]


def _sequence() -> Case:
    rows: list[Row] = [
        {"text": text(1 + number % 30), "pair": text(9) if number % 3 else None, "label": _random.choice((0, 1, 1, 2))}
        for number in range(300)
    ]
    return Case(
        SEQUENCE,
        rows,
        ("no", "perhaps", "yes"),
        perfect=lambda encoded, rows: [np.eye(3)[target] for target in encoded.targets],
        constant=lambda encoded, rows: [np.eye(3)[1] for _ in rows],
        guess=lambda encoded, rows: guesses(encoded, 3),
        chance=(0.23, 0.43),
        columns=2,
        broken={
            "empty text": rows[0] | {"text": "  "},
            "not one of the integers 0 to 2": rows[0] | {"label": 3},
            "label '1'": rows[0] | {"label": "1"},
            "pair is 5": rows[0] | {"pair": 5},
        },
    )


def _choice() -> Case:
    rows: list[Row] = []
    for number in range(300):
        options = [text(_random.randint(1, 8)) for _ in range(2 + number % (MOST_OPTIONS - 1))]
        label = 0 if number % 2 else _random.randrange(len(options))
        rows.append({"prompt": text(number % 25), "options": options, "label": label})
    return Case(
        CHOICE,
        rows,
        (),
        perfect=lambda encoded, rows: [
            np.eye(MOST_OPTIONS)[row["label"], [k]] for row in rows for k in range(len(row["options"]))
        ],
        constant=lambda encoded, rows: [
            np.eye(MOST_OPTIONS)[0, [k]] for row in rows for k in range(len(row["options"]))
        ],
        guess=lambda encoded, rows: guesses(encoded, 1),
        chance=(0.13, 0.33),  # 2 to 9 options in equal shares: 0.23
        columns=2,
        broken={
            "1 options": rows[0] | {"options": ["a"], "label": 0},
            "empty option": rows[0] | {"options": ["a", ""]},
            "integers 0 to 1": rows[0] | {"label": 2},
            "prompt is None": rows[0] | {"prompt": None},
        },
    )


def _token(labels: tuple[str, ...], frequent: int) -> Case:
    rows: list[Row] = []
    for number in range(200):
        words = [*text(1 + number % 40).split(), "\u200c"]  # the last is no subword at all to BERT
        tags = [_random.choice((frequent, frequent, IGNORED, *range(len(labels)))) for _ in words]
        rows.append({"words": words, "tags": tags})
    good: Row = {"words": ["a", "b"], "tags": [0, 1]}
    return Case(
        TOKEN,
        rows,
        labels,
        perfect=lambda encoded, rows: _per_token(encoded, np.where(encoded.targets == IGNORED, 0, encoded.targets)),
        constant=lambda encoded, rows: _per_token(encoded, np.full(len(encoded.tokens), frequent)),
        guess=lambda encoded, rows: [logits.argmax(axis=1) for logits in guesses(encoded, -1, len(labels))],
        chance=(0.0, 0.3),
        columns=3,
        broken={
            "no words": {"words": [], "tags": []},
            "2 words but 1 tags": good | {"tags": [0]},
            "word '' is not text": good | {"words": ["a", ""]},
            f"tag {len(labels)} of 'b'": good | {"tags": [0, len(labels)]},
            "tag -1 of 'b'": good | {"tags": [0, -1]},
        },
    )


def _per_token(encoded: Encoded, tags: NDArray[Any]) -> Outputs:
    return np.split(tags, encoded.bounds[1:-1])


def _span(unanswerable: bool) -> Case:
    rows: list[Row] = []
    for number in range(80):
        words = text(5 + number * 2).split()
        # Where every question has an answer, every other one begins the context.
        first = 0 if not unanswerable and number % 2 else _random.randrange(len(words))
        answer, start = " ".join(words[first : first + 2]), sum(len(word) + 1 for word in words[:first])
        answers = [] if unanswerable and number % 3 == 0 else [{"text": answer, "start": start}]
        row = {"id": str(number), "context": " ".join(words), "question": text(1 + number % 12), "answers": answers}
        rows.append(row)
    good: Row = {"id": "1", "context": "one two", "question": "what?", "answers": [{"text": "two", "start": 4}]}
    return Case(
        SPAN,
        rows,
        (),
        perfect=lambda encoded, rows: _certain(encoded, encoded.targets.reshape(-1, 2)),
        constant=lambda encoded, rows: _silences(encoded) if unanswerable else _beginnings(encoded, rows),
        guess=lambda encoded, rows: guesses(encoded, -1, 2),
        chance=(0.0, 0.3),
        columns=3,
        broken={
            "empty question": good | {"question": ""},
            "empty context": good | {"context": " "},
            "answer 'two' is not at character 3": good | {"answers": [{"text": "two", "start": 3}]},
            "answer 'two' is not at character -1": good | {"answers": [{"text": "two", "start": -1}]},
            "empty answer text": good | {"answers": [{"text": "", "start": 0}]},
        },
    )


def _silences(encoded: Encoded) -> Outputs:
    return [_silence(length) for length in encoded.lengths().tolist()]


def _beginnings(encoded: Encoded, rows: list[Row]) -> Outputs:
    """Start and end logits that say the first two words of every context."""
    assert encoded.offsets is not None
    outputs = []
    for example, offsets in zip(encoded.example, np.split(encoded.offsets, encoded.bounds[1:-1]), strict=True):
        end = len(" ".join(rows[example]["context"].split()[:2]))
        logits = np.zeros((len(offsets), 2))
        logits[offsets[:, 0] == 0, 0] = 9.0
        logits[offsets[:, 1] == end, 1] = 9.0
        outputs.append(logits)
    return outputs


def _silence(length: int) -> NDArray[np.float64]:
    """Logits with all weight on no-answer."""
    logits = np.full((length, 2), -np.inf)
    logits[0] = 0
    return logits


def _certain(encoded: Encoded, places: NDArray[Any]) -> Outputs:
    """Start and end logits that leave no doubt, more in a window with the answer than in one without."""
    outputs = []
    for length, (start, end) in zip(encoded.lengths().tolist(), places.tolist(), strict=True):
        logits = np.zeros((length, 2))
        logits[start, 0] = logits[end, 1] = 9.0 if end else 1.0
        outputs.append(logits)
    return outputs


def _embedding() -> Case:
    rows: list[Row] = [{"text": text(1 + number % 30), "pair": text(8)} for number in range(300)]
    return Case(
        EMBEDDING,
        rows,
        (),
        perfect=lambda encoded, rows: list(np.repeat(np.random.default_rng(0).normal(size=(len(rows), 16)), 2, axis=0)),
        constant=lambda encoded, rows: [np.eye(16)[0]] * (2 * len(rows)),
        guess=lambda encoded, rows: guesses(encoded, 16),
        chance=(0.0, 0.03),
        columns=2,
        broken={"empty text": rows[0] | {"text": ""}, "empty pair": rows[0] | {"pair": None}},
    )


def _mining() -> Case:
    """The sides are translations of each other, in another order but for the first."""
    order = [0, *_random.sample(range(1, 150), 149)]
    rows: list[Row] = [
        {"id": f"t{number}", "side": "text", "text": text(4 + number % 30), "links": [f"p{number}"]}
        for number in range(150)
    ]
    rows += [{"id": f"p{number}", "side": "pair", "text": text(8), "links": []} for number in order]
    return Case(
        MINING,
        rows,
        (),
        perfect=lambda encoded, rows: [_own_vector(row["id"][1:]) for row in rows],
        constant=lambda encoded, rows: [np.eye(16)[0]] * len(rows),
        guess=lambda encoded, rows: guesses(encoded, 16),
        chance=(0.0, 0.05),
        columns=3,
        broken={"side 'left' is not text or pair": rows[0] | {"side": "left"}, "empty text": rows[0] | {"text": " "}},
    )


def _ranking() -> Case:
    """Links on queries, links on candidates, and rows with both sides."""
    rows: list[Row] = []
    for number in range(60):
        query, candidate = f"q{number}", f"c{number}"
        asked, answered = ([candidate], []) if number % 2 else ([], [query])
        rows.append({"id": query, "query": text(5), "candidate": None, "links": asked})
        rows.append({"id": candidate, "query": None, "candidate": text(30), "links": answered})
        rows.append({"id": f"b{number}", "query": text(5), "candidate": text(9), "links": []})
    return Case(
        RANKING,
        rows,
        (),
        perfect=lambda encoded, rows: [
            _own_vector(row["id"].replace("q", "c")) for row in rows for side in ("query", "candidate") if row[side]
        ],
        constant=lambda encoded, rows: [np.eye(16)[0]] * len(encoded.lengths()),
        guess=lambda encoded, rows: guesses(encoded, 16),
        chance=(0.0, 0.1),
        columns=2,
        broken={
            "neither a query nor a candidate": rows[0] | {"query": None},
            "empty query": rows[0] | {"query": " "},
            "empty candidate": rows[1] | {"candidate": 5},
        },
    )


def _own_vector(name: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=16)


def _masked() -> Case:
    rows: list[Row] = [{"text": "bo " * (number % 9) + text(1 + number % 40)} for number in range(200)]
    return Case(
        MASKED,
        rows,
        (),
        perfect=lambda encoded, rows: _counts(encoded, encoded.targets == 1),
        constant=lambda encoded, rows: _counts(
            encoded, encoded.tokens == np.bincount(encoded.tokens[encoded.targets == 1]).argmax()
        ),
        guess=lambda encoded, rows: _counts(encoded, np.random.default_rng(0).random(len(encoded.tokens)) < 0.1),
        chance=(0.07, 0.13),
        columns=2,
        broken={"empty text": {"text": "\n"}},
    )


def _counts(encoded: Encoded, right: NDArray[np.bool_]) -> Outputs:
    both = np.stack([right & (encoded.targets == 1), encoded.targets == 1], axis=1)
    return [part.sum(axis=0).astype(np.float64) for part in np.split(both, encoded.bounds[1:-1])]


CASES: dict[str, Case] = {
    "sequence": _sequence(),
    "choice": _choice(),
    "upos": _token(UPOS, 1),
    "bio": _token(BIO, 0),
    "bilou": _token(BILOU, 0),
    "span": _span(unanswerable=False),
    "span or none": _span(unanswerable=True),
    "embedding": _embedding(),
    "mining": _mining(),
    "ranking": _ranking(),
    "masked": _masked(),
}
