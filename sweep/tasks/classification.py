"""Families of classes: `sequence` (class of a text or pair) and `choice` (one of several options).

Statistics are (correct, 1) and the metric is accuracy; `sequence` also has the metrics of classes below. Labels are
integers here; the source maps names to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.data.files import numbered
from sweep.data.sample import HIDDEN, Sample
from sweep.errors import DataError
from sweep.tasks.task import ALONE, NAMES, SHAPE, Family, Guess, HeadSpec, Measure, Metric, Prediction, Task

MIN_OPTIONS = 2
LABEL_NAMES = (
    *("label", "gold_label", "labels", "category", "class", "topic", "sentiment", "intent", "entailment_judgment"),
    *("judgment", "quality", "is_duplicate", "is_paraphrase", "gold", "tag", "target", "y"),
)
PROMPT_NAMES = ("premise", "prompt", "ctx", "context", "question", "query", "stem", "sentence", "text")
OPTION_STEMS = ("choice", "option", "ending", "answer", "alternative", "candidate", "solution", "sol", "ans", "opt", "")
OPTION_LISTS = (
    "options",
    "options.text",
    "choices.text",
    "question.choices.text",
    "choices",
    "endings",
    "candidates",
    "answers",
)
ANSWER_NAMES = ("label", "answer", "answerkey", "correct", "gold", "correct_answer", "answer_right_ending")
Sums = NDArray[np.float64]


def accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy [...] from sums [..., 2] of (correct, counted); 0 where nothing was counted."""
    counted = sums[..., 1]
    return np.divide(sums[..., 0], counted, out=np.zeros_like(counted), where=counted > 0)


def right_or_wrong(predictions: Sequence[int], gold: Sequence[int]) -> NDArray[np.float64]:
    """Statistics [N, 2]: (correct, 1)."""
    correct = np.asarray(predictions, dtype=np.int64) == np.asarray(gold, dtype=np.int64)
    return np.stack([correct, np.ones_like(correct)], axis=1).astype(np.float64)


def _label_problem(label: object, count: int) -> str | None:
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < count:
        return f"label {label!r} is not one of the integers 0 to {count - 1}"
    return None


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of a pair cut to `room` tokens in all; the longer text is cut until both are equal."""
    if first + second <= room:
        return first, second
    if min(first, second) <= room // 2:
        return (first, room - first) if first <= second else (room - second, second)
    half = room // 2
    return (half, room - half) if first <= second else (room - half, half)


def class_counts(predicted: Sequence[Any], gold: Sequence[Sequence[int]], classes: int) -> Sums:
    """Counts [N, 3 C] per example: of each class what is right, predicted and gold.

    An example has one predicted and one gold class, or a list of them (words of a sentence).
    """
    lengths = [len(classes_of) for classes_of in gold]
    owner = np.repeat(np.arange(len(gold)), lengths)
    flat_gold = np.concatenate([np.zeros(0, np.int64), *map(np.atleast_1d, gold)]).astype(np.int64)
    flat = np.concatenate([np.zeros(0, np.int64), *map(np.atleast_1d, predicted)]).astype(np.int64)
    right = flat == flat_gold
    counted = ((owner[right], flat[right]), (owner, flat), (owner, flat_gold))
    bins = np.concatenate([(rows * classes + labels) * 3 + kind for kind, (rows, labels) in enumerate(counted)])
    return np.bincount(bins, minlength=len(gold) * classes * 3).reshape(len(gold), -1).astype(np.float64)


def _parts(sums: Sums) -> tuple[Sums, Sums, Sums]:
    """Right, predicted and gold [..., C] from [..., 3 C]."""
    counts = sums.reshape(*sums.shape[:-1], -1, 3)
    return counts[..., 0], counts[..., 1], counts[..., 2]


def _over(share: Sums, total: Sums) -> Sums:
    """Ratio, 0 where the total is 0."""
    return np.divide(share, total, out=np.zeros_like(total), where=total > 0)


def _accuracy(sums: Sums) -> Sums:
    right, _, gold = _parts(sums)
    return _over(right.sum(axis=-1), gold.sum(axis=-1))


def _micro_f1(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    return _over(2 * right.sum(axis=-1), (predicted + gold).sum(axis=-1))


def _f1(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    return _over(2 * right, predicted + gold)


def _macro_f1(sums: Sums) -> Sums:
    _, predicted, gold = _parts(sums)
    return _over(_f1(sums).sum(axis=-1), ((predicted + gold) > 0).sum(axis=-1).astype(np.float64))


def _weighted_f1(sums: Sums) -> Sums:
    gold = _parts(sums)[2]
    return _over((_f1(sums) * gold).sum(axis=-1), gold.sum(axis=-1))


def _binary_f1(sums: Sums) -> Sums:
    return _f1(sums)[..., 1]


def _matthews(sums: Sums) -> Sums:
    right, predicted, gold = _parts(sums)
    total, hits = gold.sum(axis=-1), right.sum(axis=-1)
    covariance = hits * total - (predicted * gold).sum(axis=-1)
    variances = (total**2 - (predicted**2).sum(axis=-1)) * (total**2 - (gold**2).sum(axis=-1))
    return _over(covariance, np.sqrt(np.maximum(variances, 0)))


# Metrics of classes: values of sums of per-example counts, of each class what is right, predicted and gold. Where an
# example has one class these are all that the metrics need of the confusion matrix: its diagonal and its margins.
# Means and conventions are scikit-learn's: F1 of a class that is neither predicted nor gold is left out of macro_f1,
# and a correlation without variance is 0.
#
#     accuracy      right over gold; equal to micro_f1 where every example has one class and gets one
#     micro_f1      F1 of all classes together
#     macro_f1      mean F1 of the classes that are predicted or gold
#     weighted_f1   mean F1 of the classes, weighted by their gold examples
#     binary_f1     F1 of the second of two labels, as GLUE's scorer has it for MRPC and QQP
#     matthews      correlation of predicted and gold classes, -1..1 (Gorodkin 2004, the statistic R_K; with two classes
#                   the phi coefficient of Matthews 1975)
VALUES: dict[str, Callable[[Sums], Sums]] = {
    "accuracy": _accuracy, "micro_f1": _micro_f1, "macro_f1": _macro_f1, "weighted_f1": _weighted_f1,
    "binary_f1": _binary_f1, "matthews": _matthews,
}  # fmt: skip


@dataclass(frozen=True)
class ClassMetric:
    """Metric of VALUES for a family whose rows, or their words, have `classes`."""

    family: Family
    name: str = "accuracy"

    @property
    def identity(self) -> object:
        """Its name."""
        return self.name

    @property
    def lowest(self) -> float:
        """-1 of a correlation, else 0."""
        return -1.0 if self.name == "matthews" else 0.0

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Counts [N, 3 C] of right, predicted and gold examples of each class."""
        return class_counts(predictions, [self.family.classes(row) for row in rows], len(task.labels))

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Value [...] of this metric from sums [..., 3 C]."""
        return VALUES[self.name](sums)

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """This metric alone, by its name."""
        return {self.name: self.value(sums)}


def class_metrics(family: Family, labels: Sequence[str] | None) -> list[ClassMetric]:
    """Metrics of classes for these labels (None: any labels), without the family's own."""
    two = labels is None or len(labels) == 2
    return [ClassMetric(family, name) for name in VALUES if name != family.metric and (two or name != "binary_f1")]


def softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Softmax over the last axis of [..., C], in fp32; -inf has probability 0."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float32)
    shares: NDArray[np.float32] = raised / raised.sum(axis=-1, keepdims=True, dtype=np.float32)
    return shares


class _OneOfAFew(Family):
    """Family whose answer is one of a few, judged by accuracy."""

    probe = "texts"

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 2]: (correct, 1)."""
        return right_or_wrong(predictions, [row["label"] for row in rows])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy [...] from sums [..., 2]."""
        return accuracy(sums)

    def constants(self, rows: Sequence[Row], labels: Sequence[str]) -> Iterator[list[Prediction]]:
        """Every class, or position of the answer, that is right for some row."""
        yield from ([label] * len(rows) for label in sorted({row["label"] for row in rows}))


class SequenceFamily(_OneOfAFew):
    """Class of a text or a pair: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP], the longer text cut first.

    Row: text: str, pair: str | None, label: int. Target: [label]. Output: [C] class logits. Prediction: int, the class.
    """

    name = "sequence"
    also_called = ("classification", "text_classification", "nli", "pair", "topic", "sentiment")
    columns = ("text", "label")
    optional_columns = ("pair",)
    labels = "named"

    def guess_columns(self, sample: Sample) -> Guess | None:
        """A text or two, and a column of few values."""
        texts, label = sample.text_or_pair(), sample.classes(*LABEL_NAMES)
        if not texts or label is None or label in texts:
            return None
        named = [value for value in sample.columns[label].values or () if not HIDDEN.fullmatch(value)]
        about = "two texts" if len(texts) > 1 else "a text"
        why = f"{about} and {len(named)} labels in {sample.rows:,} rows"
        sure = NAMES if sample.named(*LABEL_NAMES) == label else SHAPE
        return Guess({**dict(zip(("text", "pair"), texts, strict=False)), "label": label}, sure, why, label)

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of text, pair or None, and the label's integer. Raises DataError."""
        pair = columns.text(raw, "pair", where) if "pair" in columns.columns else None
        label = columns.label(columns.value(raw, "label", where), where)
        return {"text": columns.text(raw, "text", where), "pair": pair, "label": label}

    def classes(self, row: Row) -> Sequence[int]:
        """Its label."""
        return (row["label"],)

    def metrics(self, labels: Sequence[str] | None = None) -> Sequence[Metric]:
        """Metrics of classes."""
        return class_metrics(self, labels)

    def counts(self) -> Measure:
        """Counts of classes, for a user's own metric."""
        return ClassMetric(self)

    def line(self, prediction: Prediction, task: Task) -> str:
        """Name of the class."""
        return task.labels[prediction]

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """Integers of class names. Raises DataError with file:line."""
        return numbered(lines, {name.strip(): number for number, name in enumerate(task.labels)}, path)

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        if not isinstance(row["text"], str) or not row["text"].strip():
            return "empty text"
        if row.get("pair") is not None and not isinstance(row["pair"], str):
            return f"pair is {row['pair']!r}, not text"
        return _label_problem(row["label"], len(labels))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per row."""
        return one_sequence_each(rows, [row["label"] for row in rows], tokenizer, max_length)

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Class of the greatest logit [C] of each row; the lowest of equal ones."""
        classes: list[Prediction] = np.stack(outputs).argmax(axis=1).tolist() if outputs else []
        return classes

    def probabilities(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.floating[Any]] | None:
        """Probabilities [N, C] of the classes."""
        return softmax(np.stack(outputs)) if outputs else None


def one_sequence_each(
    rows: Sequence[Row], targets: Sequence[int], tokenizer: Any, max_length: int
) -> Iterator[EncodedSequence]:
    """One sequence of `text`, and of `pair` if the row has one, with its target; the longer text is cut first."""
    single, double = frame(tokenizer, pair=False), frame(tokenizer, pair=True)
    for start, part in slices(rows):
        texts = subwords(tokenizer, [row["text"] for row in part])
        pairs = iter(subwords(tokenizer, [row["pair"] for row in part if row.get("pair") is not None]))
        for number, (row, text) in enumerate(zip(part, texts, strict=True), start):
            if row.get("pair") is None:
                shown, around = [text[: single.room(max_length)]], single
            else:
                pair = next(pairs)
                first, second = longest_first(len(text), len(pair), double.room(max_length))
                shown, around = [text[:first], pair[:second]], double
            segments = around.segments(*map(len, shown))
            yield EncodedSequence(around.join(*shown), number, [targets[number]], segments)


class ChoiceFamily(_OneOfAFew):
    """One of several options: each is encoded with the prompt, [CLS] prompt [SEP] option [SEP]; the best score wins.

    A prompt that is too long is cut at its front; its end is nearest to the option.

    Row: prompt: str, options: list[str] (2 or more), label: int. Targets: [label] on the first option's sequence, [] on
    the others. Output: [1] score of the option. Prediction: int, the option.
    """

    name = "choice"
    also_called = ("multiple_choice", "copa")
    columns = ("prompt", "options", "label")
    labels = "numbered"
    sequences = 3.0
    suffix = "jsonl"

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Several options in columns of one series, or in a list, and a column that says which of them is right."""
        options, count = _option_columns(sample)
        answer = sample.named(*ANSWER_NAMES) or next(
            (name for name in sample.columns if sample.form == "blocks" and sample.columns[name].numeric), None
        )
        if not options or answer is None or sample.columns[answer].values is None:
            return None
        marks = _marks([value for value in sample.columns[answer].values or () if value.strip()], count)
        used = [options] if isinstance(options, str) else options
        left = [name for name in sample.texts() if name not in used]
        prompt = sample.named(*PROMPT_NAMES)
        usable = prompt is not None and prompt not in used and not sample.columns[prompt].mappings
        prompt = prompt if usable else next(iter(left), None)
        if marks is None or prompt is None:
            return None
        columns: dict[str, Any] = {"prompt": _prompt(sample, prompt), "options": options, "label": answer}
        why = f"{count or 'several'} options and the number of the right one"
        return Guess(columns, ALONE, why, keys={"labels": marks} if marks else {})

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of prompt, options and the index of the right one. Raises DataError."""
        options = columns.texts(raw, "options", where)
        label = columns.label(columns.value(raw, "label", where), where)
        return {"prompt": columns.text(raw, "prompt", where), "options": options, "label": label}

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """Prompt with each option."""
        return [(row["prompt"], option) for option in row["options"]]

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Score of each option."""
        return HeadSpec("choice", 1)

    def line(self, prediction: Prediction, task: Task) -> str:
        """JSON object {"label": option}."""
        return f'{{"label": {prediction}}}'

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """Indices of options. Raises DataError with file:line."""
        return [_option(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        options = row["options"]
        if not isinstance(row["prompt"], str):
            return f"prompt is {row['prompt']!r}, not text"
        if len(options) < MIN_OPTIONS:
            return f"{len(options)} options; a choice has {MIN_OPTIONS} or more"
        if not all(isinstance(option, str) and option.strip() for option in options):
            return "empty option"
        return _label_problem(row["label"], len(options))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per option; the row's label is the target of the first of them."""
        around = frame(tokenizer, pair=True)
        room = around.room(max_length)
        for start, part in slices(rows):
            prompts = subwords(tokenizer, [row["prompt"] for row in part])
            options = iter(subwords(tokenizer, [option for row in part for option in row["options"]]))
            for number, (row, prompt) in enumerate(zip(part, prompts, strict=True), start):
                for position in range(len(row["options"])):
                    option = next(options)[:room]
                    shown = prompt[max(0, len(prompt) + len(option) - room) :]
                    targets = [row["label"]] if position == 0 else []
                    segments = around.segments(len(shown), len(option))
                    yield EncodedSequence(around.join(shown, option), number, targets, segments)

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Option of the greatest score [1] of each row; the first of equal ones."""
        if not outputs:
            return []
        firsts = encoded.example_bounds()[:-1]
        order = np.lexsort((-np.concatenate(outputs), encoded.example))  # stable: equal scores keep their order
        options: list[Prediction] = (order[firsts] - firsts).tolist()
        return options

    def probabilities(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.floating[Any]] | None:
        """Probabilities [N, C] of the options, of which the row with most of them has C."""
        if not outputs:
            return None
        firsts = encoded.example_bounds()[:-1]
        places = np.arange(len(outputs)) - firsts[encoded.example]
        scores = np.full((len(rows), int(places.max()) + 1), -np.inf, dtype=np.float32)
        scores[encoded.example, places] = np.concatenate(outputs)
        return np.where(np.isinf(scores), np.nan, softmax(scores))

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Numbers of the options, counted from 0."""
        return str(row["label"]), str(prediction)


def _option_columns(sample: Sample) -> tuple[str | list[str] | None, int]:
    """Column with a list of options, or their columns, and how many there are (0: not always the same number)."""
    for name in OPTION_LISTS:
        column = sample.named(name)
        if column and sample.columns[column].lists and not sample.columns[column].mappings:
            lengths = {len(value) for value in sample.columns[column].first if isinstance(value, (list, tuple))}
            return column, lengths.pop() if len(lengths) == 1 else 0
    if sample.form == "blocks":
        texts = [name for name in sample.columns if not sample.columns[name].numeric]
        return texts[1:], len(texts) - 1
    for stem in OPTION_STEMS:
        members = sample.series().get(stem, [])
        if len(members) >= MIN_OPTIONS:
            return members, len(members)
    return None, 0


def _marks(values: Sequence[str], count: int) -> list[str] | None:
    """Marks of the options where they are not 0, 1, ...; [] where they are; None where values mark no options."""
    numbers = [str(number) for number in range(max(count, len(values)) + 1)]
    letters = "ABCDEFGHIJ"[: count or len(values)]
    if values and set(values) <= set(numbers[:-1]):
        return []
    if values and set(values) <= set(numbers[1:]):
        return numbers[1:]
    for marks in (letters, letters.lower()):
        if values and set(values) <= set(marks):
            return list(marks)
    return None


def _prompt(sample: Sample, prompt: str) -> Any:
    """Column of the prompt, with what is asked for if another column says so (COPA)."""
    asks = sample.named("question")
    if asks is None or asks == prompt:
        return prompt
    if set(sample.columns[asks].values or ()) == {"cause", "effect"}:
        return {"by": asks, "cause": f"{{{prompt}}} This is because", "effect": f"{{{prompt}}} As a result"}
    return f"{{{prompt}}} {{{asks}}}" if sample.columns[asks].reads_as_text else prompt


def _option(line: str, where: str) -> int:
    try:
        option = json.loads(line)["label"]
    except (ValueError, KeyError, TypeError, IndexError):
        option = line
    if type(option) is not int or option < 0:
        expected = '{"label": option} with the number of an option, counted from 0, is expected'
        raise DataError(where, repr(option), expected)
    return option


SEQUENCE = SequenceFamily()
CHOICE = ChoiceFamily()
