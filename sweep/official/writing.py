"""Predictions and gold answers of one language as the texts of official files. reading.py is the way back.

sequence   a label a line                           choice     {"label": option} a line
token      a tag a line, a blank line between       span       {id: answer}; labels as a SQuAD file without texts
           sentences                                embedding  the row of the foreign side a line
mining     id TAB id a line                         ranking    {id: [ids, the best first]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sweep.tasks.base import Prediction, Row, Task
from sweep.tasks.token import tagged


def predictions_text(predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
    """The content of a language's prediction file."""
    match task.family:
        case "sequence":
            return _lines(task.labels[number] for number in predictions)
        case "choice":
            return _lines(f'{{"label": {option}}}' for option in predictions)
        case "token":
            return _tags(predictions, task.labels)
        case "span":
            return _object(zip(_ids(rows), predictions, strict=True))
        case "mining":
            return _lines(f"{row['id']}\t{other}" for row, found in _beside(rows, predictions) for other in found)
        case "ranking":
            return _object(
                (row["id"], list(ids)) for row, ids in _beside(rows, predictions) if row["query"] is not None
            )
    return _lines(predictions)


def labels_text(rows: Sequence[Row], task: Task) -> str:
    """The content of a language's label file: a SQuAD file, or what a prediction without a fault would look like."""
    if task.family == "span":
        return _answers(rows)
    return predictions_text([_gold(row, number, task.family) for number, row in enumerate(rows)], rows, task)


def _gold(row: Row, number: int, family: str) -> Prediction:
    match family:
        case "token":
            return tagged(row)
        case "mining":
            return row["links"] if row["side"] == "text" else ()
        case "ranking":
            return row["links"]
        case "embedding":
            return row.get("match", number)
    return row["label"]


def _lines(values: Iterable[object]) -> str:
    return "".join([f"{value}\n" for value in values])


def _tags(sentences: Iterable[Sequence[int]], labels: Sequence[str]) -> str:
    lines = [f"{label}\n" for label in labels]
    return "\n".join("".join([lines[tag] for tag in sentence]) for sentence in sentences)


def _object(values: Iterable[tuple[str, Any]]) -> str:
    return json.dumps(dict(values), ensure_ascii=False, indent=0) + "\n"


def _beside(rows: Sequence[Row], predictions: Sequence[Prediction]) -> Iterable[tuple[Row, Prediction]]:
    return zip(rows, predictions, strict=True)


def _ids(rows: Iterable[Row]) -> list[str]:
    """The id of each row; one that stands again gets a number, since a JSON object has each key once."""
    seen: Counter[str] = Counter()
    ids = []
    for row in rows:
        seen[row["id"]] += 1
        ids.append(row["id"] if seen[row["id"]] == 1 else f"{row['id']}#{seen[row['id']]}")
    return ids


def _answers(rows: Sequence[Row]) -> str:
    questions = []
    for name, row in zip(_ids(rows), rows, strict=True):
        answers = [{"text": gold["text"], "answer_start": gold["start"]} for gold in row["answers"]]
        questions.append({"id": name, "question": "", "answers": answers})
    document = {"version": "1.1", "data": [{"paragraphs": [{"context": "", "qas": questions}]}]}
    return json.dumps(document, ensure_ascii=False) + "\n"
