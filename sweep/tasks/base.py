"""The contract between data and training: what a task is, what its rows look like, how encoded data lies in memory.

A *task* is a row of a table (name, family, labels, languages, where its rows are). A *family* is an output shape; it
turns rows into token sequences, outputs into predictions, and predictions into statistics. A data set therefore needs
no code of its own, a prediction file of somebody else is judged as a chain's own outputs are, and a metric is always
`value(sum of per-example statistics)`: the same statistics give the score, its interval and the paired comparison.

Numpy only: nothing here or beside it imports torch, ray or mlflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
"""One example in the columns of its family:

    sequence   text: str, pair: str | None, label: int
    choice     prompt: str, options: list[str] (2 or more), label: int
    token      words: list[str], tags: list[int] (IGNORED: a word without tag, which is read and not scored)
    span       id: str, context: str, question: str, answers: list[{"text": str, "start": int}] (empty: unanswerable)
    embedding  text: str (foreign side), pair: str (pivot side); row i of the sides are translations of each other,
               unless `match: int` says which row's foreign side translates the pivot side
    mining     id: str, side: "text" (foreign) or "pair" (pivot), text: str,
               links: list[str] (of side text: ids of its translations on the other side)
    ranking    id: str, query: str | None, candidate: str | None, links: list[str] (of a query: ids of right candidates;
               of a candidate: ids of queries that it answers; either will do). A training row has both sides.
    masked     text: str
"""

Prediction = Any
"""What a model says of one row, in plain values that a file can hold:

    sequence   int: class
    choice     int: option
    token      a tag for every word that has one: NDArray[int] or list[int]
    span       str: answer as it stands in the context; empty: no answer; None: nothing was said, which scores 0
    embedding  int: row whose foreign side is nearest to this row's pivot side
    mining     {id of a translation on the other side: its score}; empty: none, and of side pair always
    ranking    ids of candidates, the best first, at most 20; empty for a row without a query
    masked     (int, int): tokens guessed right, tokens masked
"""

Outputs = Any
"""What a model puts out for an `Encoded`: one array per sequence, in its order; of embedding, mining and ranking tasks
the vectors of all sequences as sweep.tasks.vectors.Vectors.

    sequence   [C] class logits
    choice     [1] score of the option
    token      [len] predicted tag of every token position
    span       [len, 2] start and end logits
    masked     [2] correctly predicted masked tokens, masked tokens
"""

# Raised when the same data would be read as other rows, or the same rows be encoded otherwise: part of every key.
ENCODING_VERSION = 3
SPLITS = ("train", "dev", "test")
IGNORED = -100  # a target that has no loss and no score, as in torch.nn.CrossEntropyLoss


@dataclass(frozen=True)
class Size:
    """What is known about a split before it is loaded; a plan needs no more than that."""

    examples: int
    tokens: float  # mean subword tokens per example, all its sequences together, special tokens included
    sequences: float | None = None  # mean per example (options of a choice); None: as many as its family usually has


class Source(Protocol):
    """Where a task's rows are. Implementations are frozen dataclasses: embedded, local files, hub."""

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """What rows of a split depend on, as plain data for a key: digests of files, commit of a hub data set, a seed.

        Nothing else: data sets that are read alike have one identity, whatever other splits lie beside them. Raises
        DataError.
        """

    def size(self, split: str, language: str) -> Size:
        """Examples and mean length of a split, without loading it where that can be avoided."""

    def rows(self, split: str, language: str) -> list[Row]:
        """The rows in the family's columns, labels mapped to integers. Raises DataError."""


@dataclass(frozen=True)
class Task:
    """One data set as the study sees it."""

    name: str
    family: str  # a key of FAMILIES in sweep.tasks
    source: Source
    languages: tuple[str, ...]  # languages that have a test split, the training language included where it has one
    train_language: str | None = "en"  # None: nothing to train on (retrieval targets)
    pool: tuple[str, ...] = ()  # ranking: further languages of the test split, whose candidates are searched too
    labels: tuple[str, ...] = ()  # names in the order of their integers; empty where the family has no labels
    corpora: tuple[str, ...] = ()  # names of the corpora inside, to flag overlaps ("mnli" in MNLI and XNLI)
    train_languages: tuple[str, ...] = field(default=())  # multilingual training data (MLM); () means (train_language,)
    sources: tuple[str, ...] = ()  # languages that have train and dev rows, any of which may be the train language;
    # () means no more than `trained_in`
    normaliser: str = "squad"  # how span answers are compared in scores: a key of NORMALISERS in sweep.tasks.normalise
    licence: str = ""  # a short note on the terms of its data

    @property
    def trained_in(self) -> tuple[str, ...]:
        """The languages whose train split a phase reads."""
        return self.train_languages or ((self.train_language,) if self.train_language else ())

    @property
    def held_out(self) -> tuple[str, str]:
        """(split, language) that show how well a trained task is done: test, or dev where it has no test, at home."""
        language = self.trained_in[0]
        return ("test" if language in self.languages else "dev"), language


@dataclass(frozen=True)
class Encoded:
    """Token sequences of one split in one language: flat numpy arrays, usually views of a memory-mapped Arrow file.

    An *example* is one row; it owns one or more consecutive *sequences* (the options of a choice, the windows of a long
    context, the two sides of a sentence pair). S sequences, T tokens in all.
    """

    tokens: NDArray[np.int32]  # [T]
    bounds: NDArray[np.int64]  # [S+1]: sequence s is tokens[bounds[s]:bounds[s+1]]
    example: NDArray[np.int32]  # [S]: the example that owns the sequence; starts at 0, nondecreasing, no gaps
    targets: NDArray[np.int32]  # [U]: what the head is to predict, flat; meaning per family below
    target_bounds: NDArray[np.int64]  # [S+1]
    segments: NDArray[np.int8] | None = None  # [T] token type ids where the encoder uses them
    offsets: NDArray[np.int32] | None = None  # [T, 2] span only: characters in the context, (-1, -1) outside it

    # targets per sequence:
    #   sequence   [label]
    #   choice     [label] on the first option's sequence, [] on the others
    #   token      one per token: tag on a word's first subword, IGNORED elsewhere
    #   span       [start, end] token positions inside this sequence, both 0 where the answer is not in it
    #   embedding  [identity of the text] on the pair's sequence, [] on the other: equal ones are no negatives
    #   mining     []
    #   ranking    as embedding, where a row has both sides; else []
    #   masked     one per token: 1 where the token may be masked, 0 for special tokens

    @property
    def examples(self) -> int:
        return int(self.example[-1]) + 1 if len(self.example) else 0

    def lengths(self) -> NDArray[np.int64]:
        """[S] tokens per sequence."""
        return np.diff(self.bounds)

    def example_bounds(self) -> NDArray[np.int64]:
        """[N+1]: example n owns sequences example_bounds[n]:example_bounds[n+1]."""
        return np.searchsorted(self.example, np.arange(self.examples + 1)).astype(np.int64)


@dataclass(frozen=True)
class EncodedSequence:
    """One sequence as a family hands it over, before the flat arrays are built."""

    tokens: Sequence[int]
    example: int
    targets: Sequence[int] = ()
    segments: Sequence[int] | None = None
    offsets: Sequence[tuple[int, int]] | None = None


class Family(Protocol):
    """An output shape. Stateless; one instance per family in sweep.tasks.FAMILIES."""

    name: str
    metric: str  # "accuracy", "f1", "map@20", "masked_accuracy"
    required: tuple[str, ...]  # canonical columns of a row
    default_max_length: int

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, in words for its owner, or None."""

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """Sequences in the order of rows. `tokenizer` is a fast Hugging Face tokenizer."""

    def predict(
        self, outputs: Outputs, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """What the outputs say of each row."""

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, K] per-example statistics whose sum over examples determines the metric, from predictions alone."""

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """[...] metric in 0..1 from [..., K] summed statistics; vectorised for the jackknife."""

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every metric that the official scorer reports, by its name there, each as `value` gives its own."""

    def majority(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """The metric in 0..1 of the best answer that is the same for every row: at or below it nothing was learned.

        `rows` of a split in a language, and `encoded` the same rows.
        """
