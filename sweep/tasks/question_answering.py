"""Family of extractive question answering (`span`), and the comparison of answers.

XTREME compares answers as SQuAD's script does in every language of XQuAD and TyDiQA, and as MLQA's script does in MLQA
alone: the task's `normaliser`.

Windows, decoding and scores are those of the SQuAD script that XTREME uses for XQuAD and TyDiQA in every language:
windows start 128 tokens apart, the best span of at most 30 tokens over all windows is the answer, cut from the context
as it was written. Statistics are (F1, exact match, 1); the metric is mean F1.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row, short_place
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords, subwords_with_offsets
from sweep.data.files import coverage_notes, each_once, json_object, object_text
from sweep.data.formats import read
from sweep.data.sample import Sample
from sweep.errors import DataError
from sweep.tasks.task import ALONE, Family, Guess, HeadSpec, Pair, Prediction, Task

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

Normaliser = Callable[[str], str]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")


class _Punctuation(dict[int, int | None]):
    """Table for str.translate that deletes Unicode punctuation (categories P*) and ASCII punctuation."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        dropped = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = None if dropped else code
        return self[code]


_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNICODE_PUNCTUATION = _Punctuation()
_ENGLISH = re.compile(r"\b(a|an|the)\b")
_CHINESE = re.compile(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+")  # characters one by one, all else by blanks
_ARTICLES = {
    "ar": re.compile("ال"),  # the official pattern is `\sال^|ال`, whose first half nothing matches
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "en": _ENGLISH,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
}


def squad(text: str) -> str:
    """Text in lower case, without ASCII punctuation and English articles, with single spaces; for every language."""
    return " ".join(_ENGLISH.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


def mlqa(language: str) -> Normaliser:
    """Normaliser of a language: lower case, no punctuation of any script, no articles, Chinese by characters.

    The script knows en es de vi ar hi zh and refuses other languages; here those have no articles.
    """
    articles = _ARTICLES.get(language)

    def normalised(text: str) -> str:
        text = text.lower().translate(_UNICODE_PUNCTUATION)
        if articles:
            text = articles.sub(" ", text)
        return " ".join(_CHINESE.findall(text) if language == "zh" else text.split())

    return normalised


NORMALISERS: dict[str, Callable[[str], Normaliser]] = {"squad": lambda language: squad, "mlqa": mlqa}  # noqa: ARG005


def answer_scores(prediction: str | None, answers: Sequence[str], normalise: Normaliser = squad) -> tuple[float, float]:
    """(F1, exact match) in 0..1 against the best gold answer; without gold answers 1 for an empty prediction.

    As in both scripts, two texts without a common word have F1 0, even where both are empty after normalisation, and a
    question without a prediction (None) scores 0.
    """
    if prediction is None:
        return 0.0, 0.0
    predicted = normalise(prediction)
    if not answers:
        return (0.0, 0.0) if predicted else (1.0, 1.0)
    gold = [normalise(answer) for answer in answers]
    return max(_f1(predicted, answer) for answer in gold), float(predicted in gold)


def _f1(predicted: str, gold: str) -> float:
    if predicted == gold:
        return float(bool(predicted))
    predicted_words, gold_words = predicted.split(), gold.split()
    common = (Counter(predicted_words) & Counter(gold_words)).total()
    return 2 * common / (len(predicted_words) + len(gold_words)) if common else 0.0


def in_form(row: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Row of extractive question answering with its texts in a Unicode normal form, and answers' offsets moved along.

    An offset counts characters of the context as it was, or of the context in one of the forms: the one where the
    answer stands.
    """
    chosen, context = cast(Form, form), str(row["context"])
    texts = {name: unicodedata.normalize(chosen, row[name]) for name in ("context", "question")}
    answers = [_moved(answer, context, texts["context"], chosen) for answer in row["answers"]]
    return {**row, **texts, "answers": answers}


def _moved(answer: Mapping[str, Any], before: str, after: str, form: Form) -> dict[str, Any]:
    text, start = unicodedata.normalize(form, answer["text"]), int(answer["start"])
    if start < 0:
        return {"text": text, "start": start}
    counted = (before, *(unicodedata.normalize(candidate, before) for candidate in FORMS))
    moved = [len(unicodedata.normalize(form, context[:start])) for context in counted]
    return {"text": text, "start": next((at for at in moved if text and after.startswith(text, at)), moved[0])}


def forms_apart(context: str, answer: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(form of the context, of the answer, form in which the answer is at its offset); None where no form helps."""
    row = {"context": context, "question": "", "answers": [answer]}
    for form in FORMS:
        converted = in_form(row, form)
        [moved] = converted["answers"]
        if moved["text"] and moved["start"] >= 0 and converted["context"].startswith(moved["text"], moved["start"]):
            return _form_of(context), _form_of(answer["text"]), form
    return None


def _form_of(text: str) -> str:
    return next((form for form in FORMS if unicodedata.is_normalized(form, text)), "no one form")


STRIDE = 128  # tokens from the start of a window to that of the next
QUESTION_TOKENS = 64
N_BEST = 20
ANSWER_TOKENS = 30
CHANCE_ROWS = 1000
NOWHERE = (-1, -1)


def best_span(logits: NDArray[Any], offsets: NDArray[np.int32]) -> tuple[float, int, int] | None:
    """(score, first character, character after the last) of a window's best span, or None without context tokens.

    `logits` [L, 2] are those of start and end, `offsets` [L, 2] characters of the context, negative outside it.
    """
    inside = np.flatnonzero(offsets[:, 0] >= 0)
    start_logits, end_logits = logits[inside, 0], logits[inside, 1]
    starts = np.argsort(-start_logits, kind="stable")[:N_BEST]
    ends = np.argsort(-end_logits, kind="stable")[:N_BEST]
    length = ends[None, :] - starts[:, None] + 1
    scores = start_logits[starts][:, None] + end_logits[ends][None, :]
    scores = np.where((length >= 1) & (length <= ANSWER_TOKENS), scores, -np.inf)
    if not scores.size or scores.max() == -np.inf:
        return None
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    first, last = offsets[inside[starts[start]]], offsets[inside[ends[end]]]
    return float(scores[start, end]), int(first[0]), int(last[1])


def _answer(windows: Sequence[NDArray[Any]], offsets: Sequence[NDArray[np.int32]], context: str, may_lack: bool) -> str:
    """Answer of one example; empty where no-answer (both logits at the first token) beats every span."""
    spans = [best_span(*window) for window in zip(windows, offsets, strict=True)]
    best = max((span for span in spans if span), default=None, key=lambda span: span[0])
    if best is None:
        return ""
    if may_lack and min(float(window[0].sum()) for window in windows) > best[0]:
        return ""
    return context[best[1] : best[2]].strip()  # some tokenizers count the space before a word in


def _located(answers: Sequence[dict[str, Any]], offsets: list[tuple[int, int]]) -> tuple[int, int] | None:
    """First and last context token of the first gold answer, or None where there is none."""
    if not answers:
        return None
    start = int(answers[0]["start"])
    end = start + len(answers[0]["text"])
    touched = [index for index, (first, last) in enumerate(offsets) if first < end and last > start and last > first]
    return (touched[0], touched[-1]) if touched else None


class SpanFamily(Family):
    """Span of a context: [CLS] question [SEP] window of the context [SEP], as many windows as the context needs.

    Targets are the answer's first and last token, or (0, 0), the position of [CLS], in a window that lacks part of it.

    Row: id: str, context: str, question: str, answers: list[{"text": str, "start": int}] (empty: unanswerable). Output:
    [L, 2] start and end logits. Prediction: str, the answer as it stands in the context; empty: no answer; None: no
    prediction, which scores 0.
    """

    name = "span"
    also_called = ("qa", "question_answering", "extractive_qa", "squad")
    metric = "f1"
    further_metrics = ("exact_match",)
    columns = ("context", "question", "answers")
    optional_columns = ("id",)
    reading_keys = ("skip_misplaced", "normal_form")
    usual_names: ClassVar = {
        "context": ("passage", "paragraph"),
        "question": ("question_lang", "question_text", "question_translated"),
        "answers": ("answer", "answer_pivot"),
    }
    default_max_length = 384
    probe = "tokens"
    own_words = True
    suffix = "json"

    def guess_columns(self, sample: Sample) -> Guess | None:
        """A context, a question, and answers with their places in the context."""
        guess = super().guess_columns(sample)
        if guess is None or not sample.columns[guess.columns["answers"]].mappings:
            return None
        return replace(guess, sure=ALONE, why="a context, questions and where their answers stand")

    def row(self, columns: Columns, raw: Row, where: str) -> Row | None:
        """Row of id, context, question and answers in the described normal form; None: misplaced. Raises DataError."""
        context = columns.value(raw, "context", where)
        if not isinstance(context, str):
            raise DataError(where, f"{type(context).__name__} as context", "text is expected")
        row: Row = {
            "id": str(columns.value(raw, "id", where)) if "id" in columns.columns else short_place(where),
            "context": context,  # never stripped: answers are offsets into it
            "question": columns.text(raw, "question", where),
            "answers": _read_answers(columns.value(raw, "answers", where), where),
        }
        row = row if columns.normal_form is None else in_form(row, columns.normal_form)
        misplaced = columns.skip_misplaced and any(_misplaced(row["context"], answer) for answer in row["answers"])
        return None if misplaced else row

    def answer(self, row: Row) -> str | None:
        """ "no answer" of an unanswerable question; else None."""
        return None if row["answers"] else "no answer"

    def texts(self, row: Row) -> Sequence[tuple[str, ...]]:
        """Question and whole context."""
        return [(row["question"], row["context"])]

    def tokenizer_lacks(self, tokenizer: Any) -> tuple[str, str] | None:
        """The first special token, which stands for no answer, where the tokenizer has none."""
        if frame(tokenizer, pair=True).gaps[0]:
            return None
        expected = "a span task needs one, to answer that there is no answer: leave such tasks out"
        return "no special token at the beginning of a text", expected

    def unit(self, row: Row) -> str | None:
        """Its context."""
        return f"text {row['context']}"

    def strata(self, rows: Sequence[Row]) -> Sequence[int]:
        """Whether there is an answer."""
        return [len(row["answers"]) > 0 for row in rows]

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Start and end logits of each token."""
        return HeadSpec("span", 2)

    def scoring_settings(self, task: Task) -> dict[str, object]:
        """Name of the normaliser."""
        return {"normaliser": task.normaliser}

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        for column in ("context", "question"):
            if not isinstance(row[column], str) or not row[column].strip():
                return f"empty {column}"
        for answer in row["answers"]:
            text, start = answer["text"], answer["start"]
            if not text:
                return "empty answer text; an unanswerable question has no answers at all"
            if start < 0 or row["context"][start : start + len(text)] != text:
                return f"answer {text!r} is not at character {start} of the context{_mended(row['context'], answer)}"
        return None

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per window, with offsets."""
        around = frame(tokenizer, pair=True)
        room = around.room(max_length)
        for start, part in slices(rows):
            questions = subwords(tokenizer, [row["question"] for row in part])
            # Questions share paragraphs: each is tokenised once.
            contexts = list(dict.fromkeys(row["context"] for row in part))
            tokenised = dict(zip(contexts, subwords_with_offsets(tokenizer, contexts), strict=True))
            for number, (row, question_tokens) in enumerate(zip(part, questions, strict=True), start):
                question = question_tokens[: min(QUESTION_TOKENS, room // 2)]
                tokens, offsets = tokenised[row["context"]]
                before = len(around.gaps[0]) + len(question) + len(around.gaps[1])
                answer = _located(row["answers"], offsets)
                for first, last in _windows(len(tokens), room - len(question)):
                    yield EncodedSequence(
                        tokens=around.join(question, tokens[first:last]),
                        example=number,
                        targets=_target(answer, first, last, before),
                        segments=around.segments(len(question), last - first),
                        offsets=[NOWHERE] * before + offsets[first:last] + [NOWHERE] * len(around.gaps[2]),
                    )

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """Answer of each row from start and end logits [L, 2] of every window.

        In a set where every question has an answer, "no answer" is never predicted. Raises ValueError where `encoded`
        has no offsets.
        """
        if encoded.offsets is None:
            if rows:
                raise ValueError("span data is encoded with offsets")
            return []
        offsets = np.split(encoded.offsets, encoded.bounds[1:-1])
        may_lack = any(not row["answers"] for row in rows)
        bounds = encoded.example_bounds().tolist()
        return [
            _answer(outputs[first:last], offsets[first:last], row["context"], may_lack)
            for first, last, row in zip(bounds, bounds[1:], rows, strict=False)
        ]

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 3]: (F1, exact match, 1). A prediction that is None scores 0."""
        normalise = NORMALISERS[task.normaliser](language)
        scores = [
            (*answer_scores(answer, [gold["text"] for gold in row["answers"]], normalise), 1.0)
            for answer, row in zip(predictions, rows, strict=True)
        ]
        return np.array(scores, dtype=np.float64).reshape(-1, 3)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean F1 [...]."""
        return self.details(sums)["f1"]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """F1 and exact match of the SQuAD script, each [...] from sums [..., 3]; 0 where nothing was counted."""
        count = sums[..., 2]
        return {
            name: np.divide(sums[..., column], count, out=np.zeros_like(count), where=count > 0)
            for column, name in enumerate(("f1", "exact_match"))
        }

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """F1 of the best constant answer: none, the whole context, its first or last n words (1, 2, 4, ... 32).

        Measured on at most CHANCE_ROWS rows, drawn at random.
        """
        drawn = np.random.Generator(np.random.PCG64(len(rows))).permutation(len(rows))[:CHANCE_ROWS]
        sample = [rows[index] for index in np.sort(drawn)]
        words = [row["context"].split() for row in sample]
        answers = [[""] * len(sample), [row["context"] for row in sample]]
        for count in (2**power for power in range(6)):
            answers += [
                [" ".join(context_words[:count]) for context_words in words],
                [" ".join(context_words[-count:]) for context_words in words],
            ]
        sums = np.stack([task.measure.judge(answer, sample, task, language).sum(axis=0) for answer in answers])
        return float(task.measure.value(sums).max())

    def ids(self, rows: Sequence[Row]) -> Sequence[str]:
        """Ids; one that occurs again gets a number, since a JSON object has each key once."""
        occurrences: Counter[str] = Counter()
        ids = []
        for row in rows:
            occurrences[row["id"]] += 1
            ids.append(row["id"] if occurrences[row["id"]] == 1 else f"{row['id']}#{occurrences[row['id']]}")
        return ids

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Right answers, with ` | ` between them, and the predicted one; each is empty where there is none."""
        return " | ".join(answer["text"] for answer in row["answers"]), prediction or ""

    def predictions_text(self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
        """JSON object {id: answer}."""
        return object_text(zip(self.ids(rows), predictions, strict=True))

    def labels_text(self, rows: Sequence[Row], task: Task) -> str:
        """SQuAD file without contexts and questions."""
        questions = []
        for name, row in zip(self.ids(rows), rows, strict=True):
            answers = [{"text": gold["text"], "answer_start": gold["start"]} for gold in row["answers"]]
            questions.append({"id": name, "question": "", "answers": answers})
        document = {"version": "1.1", "data": [{"paragraphs": [{"context": "", "qas": questions}]}]}
        return json.dumps(document, ensure_ascii=False) + "\n"

    def read_files(self, predictions: Path, labels: Path, task: Task) -> Pair:
        """Answers and gold answers of both files. Raises DataError."""
        rows: list[Row] = []
        for _, raw in read(labels, "squad"):
            try:
                gold = [{"text": str(answer["text"])} for answer in raw["answers"]]
                rows.append({"id": str(raw["id"]), "answers": gold})
            except (KeyError, TypeError) as error:
                raise DataError(
                    labels, f"question {raw['id']} with no {error}", "answers[].text is expected"
                ) from error
        ids = [row["id"] for row in rows]
        each_once(ids, labels)
        predicted = json_object(predictions)
        for name, answer in predicted.items():
            if not isinstance(answer, str):
                raise DataError(predictions, f"{answer!r} for {name!r}", "the text of an answer is expected")
        return Pair(task, rows, [predicted.get(name) for name in ids], coverage_notes(predicted, ids, predictions))


def _misplaced(context: str, answer: Mapping[str, Any]) -> bool:
    """Whether the answer is not at its offset, as in some machine-translated data."""
    text, start = answer["text"], answer["start"]
    return not text or start < 0 or not context.startswith(text, start)


def _read_answers(value: Any, where: str) -> list[dict[str, Any]]:
    """List of {text, start}, from SQuAD's list of objects or the hub's object of lists. Raises DataError."""
    try:
        if isinstance(value, Mapping):
            pairs = list(zip(value["text"], value["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in value]
        return [{"text": str(text), "start": int(start)} for text, start in pairs]
    except (KeyError, TypeError, ValueError) as error:
        expected = "answers are a list of {text, answer_start}, or {text: [...], answer_start: [...]}"
        raise DataError(where, f"answers that cannot be read ({error})", expected) from error


def _mended(context: str, answer: Mapping[str, Any]) -> str:
    """Key that reads a misplaced answer at its offset, as it does in one normal form, or else leaves its row out."""
    if (forms := forms_apart(context, answer)) is None:
        return "; `skip_misplaced: true` beside `columns` leaves out such rows"
    of_context, of_answer, form = forms
    escaped = ascii(answer["text"])
    return (
        f" as it is written ({escaped}): the context is in Unicode form {of_context}, the answer in {of_answer};"
        f" `normal_form: {form}` beside `columns` reads both alike"
    )


def _windows(length: int, room: int) -> Iterator[tuple[int, int]]:
    """Ranges of context tokens, `room` each (the last perhaps fewer), that cover every token."""
    step = min(STRIDE, max(1, room // 2))  # short windows still overlap by half
    start = 0
    while start + room < length:
        yield start, start + room
        start += step
    yield start, length


def _target(answer: tuple[int, int] | None, first: int, last: int, before: int) -> list[int]:
    """First and last answer token in the window of context tokens [first, last) that follows `before` other tokens."""
    if answer and first <= answer[0] and answer[1] < last:
        return [answer[0] - first + before, answer[1] - first + before]
    return [0, 0]


SPAN = SpanFamily()
