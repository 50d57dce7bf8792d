"""Contract between data and training: Task, a row of the table of data sets, and Family, an output shape.

A *task* is a row of a table (name, family, labels, languages, source of its rows). A *family* is an output shape; it
turns rows into token sequences, outputs into predictions, and predictions into statistics. A data set therefore needs
no code of its own, prediction files of other programs are judged as a chain's own outputs are, and a metric is always
`value(sum of per-example statistics)`: the same statistics give the score, its interval and the paired comparison.

Numpy only: nothing here or beside it imports torch, ray or mlflow.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row, Source, guess_tokens
from sweep.data.encoded import Encoded, EncodedSequence
from sweep.data.files import file_lines, same_length
from sweep.data.sample import Sample
from sweep.errors import StudyError, nearest
from sweep.keys import fingerprint
from sweep.tasks.plugins import digest_of, imported, is_reference, module_digest, module_folder, restored

Prediction = Any  # prediction for one row, in plain values that a file can hold
Outputs = Any  # of a model for an `Encoded`: one array per sequence, in its order; or tasks.retrieval.Vectors


@dataclass(frozen=True)
class Task:
    """Data set as a study sees it: a name, a family, and where its rows are."""

    name: str
    family: Family
    source: Source
    languages: tuple[str, ...]  # languages that have a test split, the training language included where it has one
    train_language: str | None = "en"  # None: nothing to train on (retrieval targets)
    pool: tuple[str, ...] = ()  # ranking: further languages of the test split, whose candidates are searched too
    labels: tuple[str, ...] = ()  # names in the order of their integers; empty where the family has no labels
    corpora: tuple[str, ...] = ()  # names of the corpora inside, to flag overlaps ("mnli" in MNLI and XNLI)
    train_languages: tuple[str, ...] = field(default=())  # multilingual training data (MLM); () means (train_language,)
    # Languages that have train and dev rows, any of which may be the train language; () means only `trained_in`.
    sources: tuple[str, ...] = ()
    normaliser: str = "squad"  # of span answers in scores: a key of sweep.tasks.question_answering.NORMALISERS
    licence: str = ""  # a short note on the terms of its data
    metric: Metric | None = None  # None: the family's own

    @property
    def measure(self) -> Measure:
        """Measure of its predictions: its own metric, or its family."""
        return self.metric or self.family

    @property
    def metric_name(self) -> str:
        """Name of its metric."""
        return self.metric.name if self.metric else self.family.metric

    @property
    def trained_in(self) -> tuple[str, ...]:
        """Languages whose train split a phase reads."""
        return self.train_languages or ((self.train_language,) if self.train_language else ())

    @property
    def held_out(self) -> tuple[str, str]:
        """(split, language) on which a trained task is scored at home: test, or dev if it has no test there."""
        language = self.trained_in[0]
        return ("test" if language in self.languages else "dev"), language

    @property
    def calibrated_in(self) -> tuple[str, ...]:
        """Languages whose dev data calibrates predictions before they are scored."""
        return self.languages if self.family.calibrates else ()

    def identity(self) -> dict[str, object]:
        """Meaning of its rows as plain data for a key: family, labels, and a metric other than the family's own."""
        own = {"metric": self.metric.identity} if self.metric else {}
        return {"family": self.family.identity, "labels": self.labels, **own}

    def digest(self, split: str, language: str) -> str:
        """Digest of its rows as they are now, and of what they mean. Raises DataError."""
        return fingerprint({"rows": self.source.identity(split, language), **self.identity()})


SHAPE, NAMES, ALONE = 1, 2, 3  # of a guess: from values; from names of columns; of a form that no other family has


@dataclass(frozen=True)
class Guess:
    """Columns of a data file that may be a family's, and how sure that is."""

    columns: Mapping[str, Any]  # the family's column -> the file's, as a description has them
    sure: int  # SHAPE, NAMES or ALONE
    why: str  # in half a sentence
    label: str | None = None  # column whose values are the labels' names
    keys: Mapping[str, Any] = field(default_factory=dict)  # further keys of a description


class Measure(Protocol):
    """Judgement of predictions: statistics of each example, and a value of their sums.

    The same statistics give the score, its interval and the paired comparison.
    """

    @property
    def lowest(self) -> float:
        """Smallest value: 0, or -1 of a correlation. The largest is 1."""

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, K] per example whose sum over examples determines the metric, from predictions alone."""

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metric [...] from `lowest` to 1, from summed statistics [..., K]; vectorised for the jackknife."""

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every metric of these statistics by name, each [...] as from `value`."""


class Metric(Measure, Protocol):
    """Measure that a task names instead of its family's own."""

    @property
    def name(self) -> str:
        """Name in studies and tables."""

    @property
    def identity(self) -> object:
        """Identity in keys, as plain data."""


@dataclass(frozen=True)
class Detail:
    """Metric that a family's statistics give beside its own, by the name in `details`."""

    family: Family
    name: str

    @property
    def identity(self) -> object:
        """Its name."""
        return self.name

    @property
    def lowest(self) -> float:
        """Smallest value: the family's."""
        return self.family.lowest

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, K] of the family."""
        return self.family.judge(predictions, rows, task, language)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metric [...] of this name."""
        return self.details(sums)[self.name]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every metric of the family."""
        return self.family.details(sums)


@dataclass(frozen=True)
class OwnMetric:
    """Metric of a user's own: a function `module:name` of summed statistics.

    Its argument are sums of the family's `counts`, [..., K]; it returns [...]. For families of classes K is [C, 3],
    flat: per class the examples that are right, predicted and gold.
    """

    counts: Measure
    name: str
    folder: Path  # from which the module is imported in other processes
    digest: str  # of its file

    @property
    def identity(self) -> object:
        """Its name and the digest of its file."""
        return [self.name, self.digest]

    @property
    def lowest(self) -> float:
        """Smallest value: the function's attribute `lowest`, or 0."""
        return float(getattr(restored(self.name, self.folder, self.digest), "lowest", 0.0))

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, K] whose sums the function gets."""
        return self.counts.judge(predictions, rows, task, language)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Result [...] of the function. Raises StudyError where it has another shape."""
        function = restored(self.name, self.folder, self.digest)
        values = np.asarray(function(sums), dtype=np.float64)
        if values.shape != sums.shape[:-1]:
            expected = "an array of all axes of its argument but the last is expected: write it with sums[..., k]"
            raise StudyError(f"metric {self.name}", f"an array of the shape {values.shape}", expected)
        return values

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Its own value."""
        return {self.name: self.value(sums)}


@dataclass(frozen=True)
class HeadSpec:
    """Head of a task, built by sweep.models.heads; no torch here."""

    head: str  # text, choice, token, span, vector, masked; or module:Class, a subclass of sweep.models.heads.Head
    outputs: int = 0  # of the head's matrix
    # Of a text head: summed loss of [E, outputs] fp32 and [E] integer targets; None: cross entropy of classes.
    loss: Callable[[Any, Any], Any] | None = None
    mask_id: int | None = None  # the tokenizer's mask token, of a masked head


@dataclass(frozen=True)
class Pair:
    """Predictions and gold rows of a language, read from its prediction and label files."""

    task: Task
    rows: list[Row]
    predictions: list[Prediction]
    notes: tuple[str, ...] = ()  # on what is wrong in a file and does not stop the official scorer


class Family(ABC):
    """Output shape: everything that is special about tasks of one kind. Stateless; a task holds an instance.

    A study brings one of its own as `family: module:Class`. It defines at least its `columns`, and how to `check`,
    `encode`, `predict`, `judge` and `value`; everything else has a default, that of a class of a text with one
    prediction a line. A metric is a value of the sum of per-example statistics; one that is no such value, such as a
    rank correlation, is linearised, and its docstring says what is held fixed.
    """

    name: str = ""  # in the table of families; module:Class of a user's own, set when it is imported
    also_called: tuple[str, ...] = ()  # words by which others know such tasks, for hints
    version: int | str | None = None  # of a user's own, part of keys; None: the digest of its file stands for it
    metric: str = "accuracy"
    lowest: float = 0.0  # smallest value of its metrics; -1 of correlations
    further_metrics: tuple[str, ...] = ()  # names of `details` that a task may choose instead

    # A description's columns: those it must have, those it may have; keys of a description that only this family has.
    columns: tuple[str, ...]
    optional_columns: tuple[str, ...] = ()
    reading_keys: tuple[str, ...] = ()
    usual_names: ClassVar[
        Mapping[str, tuple[str, ...]]
    ] = {}  # column -> its names in published data sets, beside its own
    # Labels of a description: must be named, or are numbered unless they are named, or do not exist.
    labels: Literal["named", "numbered", "none"] = "none"
    classed: str = "row"  # unit that has a class: a row, a word

    default_max_length: int = 128
    sequences: float = 1.0  # mean per example where its data does not say so
    raw_text: bool = False  # own text of each language, mixed in to keep an encoder multilingual; never a target
    vectors: bool = False  # outputs are retrieval.Vectors, read at a chosen layer unless a target phase trains them
    # Input of a linear probe of its classes, a vector per text or per token; None: there is no such probe, so retention
    # is measured without a fresh head and no preview ranks settings for the task.
    probe: Literal["texts", "tokens"] | None = None
    pools: bool = False  # the rows of all languages are searched together
    calibrates: bool = False  # predictions of test rows depend on a threshold that dev rows of the language give

    own_words: bool = False  # units are named by text of the language, so that their translations have other names
    suffix: str | None = "tsv"  # of its official files; None: it has none, and is never a target

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.name == getattr(other, "name", None)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __reduce__(self) -> Any:
        if not is_reference(self.name):
            return type(self), ()
        module = type(self).__module__
        return own_family, (self.name, module_folder(module), module_digest(module))

    def __str__(self) -> str:
        return self.name

    @property
    def identity(self) -> object:
        """Identity in keys: its name, and of a user's own its version or the digests of its file and its head's."""
        if not is_reference(self.name):
            return self.name
        if self.version is not None:
            return [self.name, self.version]
        head = self.head(()).head
        own_head = [digest_of(head)] if is_reference(head) else []
        return [self.name, module_digest(type(self).__module__), *own_head]

    # Rows

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Columns of a data file that may be this family's, or None; by default by its names and `usual_names`."""
        asked = (*self.columns, *self.optional_columns)
        found = {name: sample.named(name, *self.usual_names.get(name, ())) for name in asked}
        if None in (found[name] for name in self.columns):
            return None
        columns = {name: raw for name, raw in found.items() if raw is not None}
        label = columns.get("label") if self.labels == "named" else None
        return Guess(columns, NAMES, f"columns named {', '.join(columns.values())}", label)

    @abstractmethod
    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""

    def check_to_train(self, row: Row) -> str | None:
        """Problem of a row as training data, or None."""
        return None

    def row(self, columns: Any, raw: Row, where: str) -> Row | None:
        """Row from a raw one, by way of sweep.data.columns.Columns; None: the row is left out.

        The default takes the values of `columns`, labels as integers. Raises DataError.
        """
        values = {name: columns.value(raw, name, where) for name in columns.columns}
        if self.labels != "none" and "label" in values:
            values["label"] = columns.label(values["label"], where)
        return values

    def label_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Labels as they are written in scores and files. Raises ValueError where they follow no one scheme."""
        return names

    def labels_to_read(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Labels that reading a row depends on beside its spellings: part of the identity of its rows."""
        return ()

    def scheme(self, labels: tuple[str, ...]) -> str | None:
        """Scheme of entity tags that the labels follow, or None where labels are no tags."""
        return None

    def classes(self, row: Row) -> Sequence[int]:
        """Classes of a row or of its words; empty where nothing has a class."""
        return ()

    def answer(self, row: Row) -> str | None:
        """Constant answer that would be right for this row; None: the row has an answer of its own."""
        return f"label {row['label']}" if "label" in row else None

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """Texts of each of a row's sequences, as far as lengths depend on them: by default `text` and `pair`."""
        return [tuple(row[name] for name in ("text", "pair") if row.get(name))]

    def guess_tokens(self, row: Row) -> float:
        """Estimated subword tokens of a row, all its sequences together, from its texts."""
        return sum(guess_tokens(*texts) for texts in self.texts(row))

    def contents(self, row: Row) -> Iterable[str]:
        """Texts that identify a row, without its answer; rows with equal contents are the same row."""
        for name in (*self.columns, *self.optional_columns):
            value = row.get(name) if name != "id" else None
            if isinstance(value, str):
                yield value
            elif isinstance(value, (list, tuple)):
                yield from (item for item in value if isinstance(item, str))

    def unit(self, row: Row) -> str | None:
        """Name of the unit of dependent rows that a row belongs to, if it has no column `unit`; None: its own."""
        return None

    def strata(self, rows: Sequence[Row]) -> Sequence[int]:
        """Strata of rows, of which a share of them has equal parts: by default their labels."""
        return [row.get("label", 0) for row in rows]

    def is_scored(self, row: Row) -> bool:
        """Whether a row is an example of a score; rows that are only searched are not."""
        return True

    def may_be_left_out(self, row: Row) -> bool:
        """Whether a sample of test rows may lack this one; rows that are searched are never left out."""
        return True

    def pool(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of all languages that are searched together, completed with links between them."""
        return rows

    # Encoding and model

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """Sequences in the order of rows. `tokenizer` is a fast Hugging Face tokenizer; lengths are in tokens."""

    def tokenizer_lacks(self, tokenizer: Any) -> tuple[str, str] | None:
        """(what a tokenizer lacks for this family, what is expected), or None."""
        return None

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Head of a task with these labels: by default a classifier of texts."""
        return HeadSpec("text", len(labels))

    def scoring_settings(self, task: Task) -> dict[str, object]:
        """Settings that a score depends on beside weights and rows."""
        return {}

    # Predictions and scores

    @abstractmethod
    def predict(
        self, outputs: Outputs, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Prediction for each row from the model's outputs."""

    def calibrate(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> float:
        """Threshold from dev rows; of families that calibrate."""
        raise NotImplementedError

    def apply_threshold(self, predictions: Sequence[Prediction], threshold: float) -> list[Prediction]:
        """Predictions with scores from the threshold on."""
        raise NotImplementedError

    @abstractmethod
    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, K] per example whose sum over examples determines the metric, from predictions alone."""

    @abstractmethod
    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Metric [...], at most 1, from summed statistics [..., K]; vectorised for the jackknife."""

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every metric that the official scorer reports, by its name there, each [...] as from `value`."""
        return {self.metric: self.value(sums)}

    def metrics(self, labels: Sequence[str] | None = None) -> Sequence[Metric]:
        """Metrics that a task with these labels (None: any labels) may name instead of the family's own."""
        return [Detail(self, name) for name in self.further_metrics]

    def counts(self) -> Measure:
        """Measure whose summed statistics a user's own metric gets."""
        return self

    def metric_of(
        self, name: str, where: object, folder: Path | None = None, labels: Sequence[str] | None = None
    ) -> Metric | None:
        """Metric of a name or of module:function; None: the family's own. Raises StudyError."""
        if is_reference(name):
            imported(name, where, folder)
            module = name.partition(":")[0]
            return OwnMetric(self.counts(), name, module_folder(module), module_digest(module))
        metrics = {metric.name: metric for metric in self.metrics(labels)}
        if name not in (self.metric, *metrics):
            expected = f"a {self.name} task has {', '.join((self.metric, *metrics))}, or module:function"
            raise StudyError(where, f"the unknown metric {name!r}", expected, nearest(name, (self.metric, *metrics)))
        return metrics.get(name)

    def constants(self, rows: Sequence[Row], labels: Sequence[str]) -> Iterator[list[Prediction]]:
        """Constant predictions, the best of any metric among them; none where the chance level is 0."""
        return iter(())

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """Chance level: metric of the best constant answer. A phase at this level has learned nothing.

        `rows` of a split in a language, and `encoded` the same rows.
        """
        measure = task.measure
        candidates = (measure.judge(answers, rows, task, language) for answers in self.constants(rows, task.labels))
        return max((float(measure.value(statistics.sum(axis=0))) for statistics in candidates), default=0.0)

    # Official files

    def gold(self, row: Row, number: int) -> Prediction:
        """Prediction that would be right for a row, the one of this number."""
        return row["label"]

    def line(self, prediction: Prediction, task: Task) -> str:
        """Prediction as a line of a file; for families with a line per row."""
        return str(prediction)

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """Predictions from the lines of a file. Raises DataError with file:line."""
        raise NotImplementedError

    def from_gold(self, gold: Prediction) -> Row:
        """Columns that `judge` reads, from a prediction in a label file."""
        return {"label": gold}

    def predictions_text(self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
        """Content of a language's prediction file: by default one prediction a line."""
        return "".join([f"{self.line(prediction, task)}\n" for prediction in predictions])

    def labels_text(self, rows: Sequence[Row], task: Task) -> str:
        """Content of a language's label file: by default the prediction file of right answers."""
        return self.predictions_text([self.gold(row, number) for number, row in enumerate(rows)], rows, task)

    def ids(self, rows: Sequence[Row]) -> Sequence[str | None]:
        """Ids of rows, those by which files name them where they do: by default the column `id`, None without one."""
        return [None if row.get("id") is None else str(row["id"]) for row in rows]

    def readable(self, row: Row) -> dict[str, str]:
        """Texts of an example by column, for a reader of its errors: by default all columns but ids and labels."""
        texts = {}
        for name in (*self.columns, *self.optional_columns):
            value = row.get(name)
            if name not in ("id", "unit", "label") and isinstance(value, str):
                texts[name] = value
            elif value and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
                texts[name] = json.dumps(list(value), ensure_ascii=False)
        return texts

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Right answer and prediction of a row as a person reads them: by default as they stand in a file."""
        return self.line(self.gold(row, number), task), self.line(prediction, task)

    def probabilities(
        self, outputs: Outputs, encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.floating[Any]] | None:
        """Probabilities [N, C] of the labels of each row, NaN of those it has not; None of families without any."""
        return None

    def read_files(self, predictions: Path, labels: Path, task: Task) -> Pair:
        """Predictions and gold rows of a language; what the official scorer accepts is noted. Raises DataError."""
        gold, predicted = file_lines(labels), file_lines(predictions)
        same_length(predicted, predictions, gold, labels)
        rows = [self.from_gold(line) for line in self.parsed(gold, labels, task)]
        return Pair(task, rows, self.parsed(predicted, predictions, task))


def own_family(name: str, folder: Path | None, digest: str | None = None, where: object = "") -> Family:
    """Family of a user's own, from `module:Class`, whose file must have the `digest`. Raises StudyError."""
    where = where or f"family {name}"
    kind = imported(name, where, folder) if digest is None else restored(name, folder, digest)
    expected = "a complete subclass of sweep.tasks.task.Family is expected"
    if not isinstance(kind, type) or not issubclass(kind, Family):
        raise StudyError(where, repr(name), expected)
    if lacking := sorted(kind.__abstractmethods__) + [name for name in ("columns",) if not hasattr(kind, name)]:
        raise StudyError(where, f"{name!r}, which lacks {', '.join(lacking)}", expected)
    family: Family = kind()
    family.name = name
    return family
