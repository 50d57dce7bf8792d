"""The families whose answer is one of a few: `sequence` (class of a text or pair) and `choice` (one of its options).

Their statistics are (correct, 1) and their metric is accuracy; metrics of classes are there for `sequence`. Labels are
integers by now, names the source's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.data.files import numbered
from sweep.errors import DataError
from sweep.tasks.metrics import ClassMetric, class_metrics
from sweep.tasks.task import Family, HeadSpec, Measure, Metric, Prediction, Task

MIN_OPTIONS = 2


def accuracy(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[...] share correct from [..., 2] sums of (correct, counted); 0 where nothing was counted."""
    counted = sums[..., 1]
    return np.divide(sums[..., 0], counted, out=np.zeros_like(counted), where=counted > 0)


def right_or_wrong(predictions: Sequence[int], gold: Sequence[int]) -> NDArray[np.float64]:
    """[N, 2] (correct, 1)."""
    correct = np.asarray(predictions, dtype=np.int64) == np.asarray(gold, dtype=np.int64)
    return np.stack([correct, np.ones_like(correct)], axis=1).astype(np.float64)


def _label_problem(label: object, count: int) -> str | None:
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < count:
        return f"label {label!r} is not one of the integers 0 to {count - 1}"
    return None


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of a pair cut to `room` tokens in all, the longer text giving way until both are equal."""
    if first + second <= room:
        return first, second
    if min(first, second) <= room // 2:
        return (first, room - first) if first <= second else (room - second, second)
    half = room // 2
    return (half, room - half) if first <= second else (room - half, half)


class _OneOfAFew(Family):
    """How an answer that is one of a few is judged."""

    probe = "texts"

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 2] (correct, 1)."""
        return right_or_wrong(predictions, [row["label"] for row in rows])

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Accuracy."""
        return accuracy(sums)

    def constants(self, rows: Sequence[Row], labels: Sequence[str]) -> Iterator[list[Prediction]]:
        """Every class, or position of the answer, that is right for some row."""
        yield from ([label] * len(rows) for label in sorted({row["label"] for row in rows}))


class SequenceFamily(_OneOfAFew):
    """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP] where a row has a pair; ends are cut, the longer text first.

    Row: text: str, pair: str | None, label: int. Target: [label]. Output: [C] class logits. Prediction: int, the class.
    """

    name = "sequence"
    columns = ("text", "label")
    optional_columns = ("pair",)
    labels = "named"

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Text, pair or None, and the label's integer."""
        pair = columns.text(raw, "pair", where) if "pair" in columns.columns else None
        label = columns.label(columns.value(raw, "label", where), where)
        return {"text": columns.text(raw, "text", where), "pair": pair, "label": label}

    def classes(self, row: Row) -> Sequence[int]:
        """Its label."""
        return (row["label"],)

    def metrics(self, labels: Sequence[str] | None = None) -> Sequence[Metric]:
        """Those of classes."""
        return class_metrics(self, labels)

    def counts(self) -> Measure:
        """Of classes."""
        return ClassMetric(self)

    def line(self, prediction: Prediction, task: Task) -> str:
        """The name of a class."""
        return task.labels[prediction]

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """The integers of names."""
        return numbered(lines, {name.strip(): number for number, name in enumerate(task.labels)}, path)

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
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
        """The greatest of the class logits [C] of each row; the first of equal ones."""
        classes: list[Prediction] = np.stack(outputs).argmax(axis=1).tolist() if outputs else []
        return classes


def one_sequence_each(
    rows: Sequence[Row], targets: Sequence[int], tokenizer: Any, max_length: int
) -> Iterator[EncodedSequence]:
    """One sequence of `text`, and `pair` where there is one, for each row, with its target; the longer text is cut."""
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
    """Every option is encoded with the prompt, [CLS] prompt [SEP] option [SEP], and the highest score wins.

    What does not fit is cut from the front of the prompt, whose end is nearest to the option.

    Row: prompt: str, options: list[str] (2 or more), label: int. Targets: [label] on the first option's sequence, [] on
    the others. Output: [1] score of the option. Prediction: int, the option.
    """

    name = "choice"
    columns = ("prompt", "options", "label")
    labels = "numbered"
    sequences = 3.0
    suffix = "jsonl"

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Prompt, options and the right one's position."""
        options = columns.texts(raw, "options", where)
        label = columns.label(columns.value(raw, "label", where), where)
        return {"prompt": columns.text(raw, "prompt", where), "options": options, "label": label}

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """The prompt with each option."""
        return [(row["prompt"], option) for option in row["options"]]

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """A score of each option."""
        return HeadSpec("choice", 1)

    def line(self, prediction: Prediction, task: Task) -> str:
        """{"label": option}."""
        return f'{{"label": {prediction}}}'

    def parsed(self, lines: Sequence[str], path: Path, task: Task) -> list[Prediction]:
        """The numbers of options."""
        return [_option(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
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
        """The option of the greatest score [1] of each row; the first of equal ones."""
        if not outputs:
            return []
        firsts = encoded.example_bounds()[:-1]
        order = np.lexsort((-np.concatenate(outputs), encoded.example))  # stable: equal scores keep their order
        options: list[Prediction] = (order[firsts] - firsts).tolist()
        return options


def _option(line: str, where: str) -> int:
    try:
        option = json.loads(line)["label"]
    except (ValueError, KeyError, TypeError, IndexError):
        option = line
    if type(option) is not int or option < 0:
        wanted = '{"label": option} with the number of an option, counted from 0, is expected'
        raise DataError(where, repr(option), wanted)
    return option


SEQUENCE = SequenceFamily()
CHOICE = ChoiceFamily()
