"""File formats of retrieval data as their owners publish them: BUCC 2018, LAReQA, Mewsli-X.

They yield rows in the columns of their family. How text is put together follows google-research/xtreme
(third_party/processors/lareqa.py, third_party/utils_mewslix.py), so that scores compare.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.data.files import document, text_lines
from sweep.data.formats import READERS, UNIT, Layout, Numbered, Raw, Reader, absent, read
from sweep.errors import DataError, nearest

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")
MARKED = re.compile(r"\{(.*?)\}")


def comparable(path: Path, layout: Layout) -> Numbered:
    """BUCC: `id<TAB>sentence` of the foreign side, of the pivot side (`pair`), `id<TAB>id` of the pairs (`gold`)."""
    assert layout.pair is not None  # a description without it is refused (sweep.tasks.describe)
    assert layout.gold is not None
    texts, pairs = _identified(path), _identified(layout.pair)
    links = defaultdict[str, list[str]](list)
    for number, (foreign, pivot) in _fields(layout.gold):
        for name, sentences, file in ((foreign, texts, path), (pivot, pairs, layout.pair)):
            if name not in sentences:
                raise DataError(
                    f"{layout.gold}:{number}", f"the id {name!r}", f"one of {file}", nearest(name, sentences)
                )
        links[foreign].append(pivot)
    for side, sentences in (("text", texts), ("pair", pairs)):
        for name, (number, text) in sentences.items():
            gold = links.get(name, []) if side == "text" else []
            yield number, {"id": name, "side": side, "text": text, "links": gold}


def _identified(path: Path) -> dict[str, tuple[int, str]]:
    """id -> (line, sentence)."""
    sentences: dict[str, tuple[int, str]] = {}
    for number, (name, text) in _fields(path):
        if name in sentences:
            raise DataError(
                f"{path}:{number}", f"the id {name!r} of line {sentences[name][0]} again", "distinct ids are expected"
            )
        sentences[name] = number, text
    return sentences


def _fields(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    for number, line in text_lines(path):
        name, tab, text = line.partition("\t")
        if not line.strip():
            continue
        if not tab or not name or not text.strip():
            raise DataError(f"{path}:{number}", repr(line[:40]), "an id, a tab and a text or second id are expected")
        yield number, (name, text)


def sentence_pool(path: Path, _layout: Layout) -> Numbered:
    """LAReQA: SQuAD with `sentence_breaks`; each question is a query, each sentence with its context a candidate.

    Questions on one paragraph are a unit. Ids of candidates are those of the official code: file name (the
    language), paragraph, sentence.
    """
    number = 0
    for number, (paragraph, breaks, questions) in enumerate(_paragraphs(path), start=1):
        context = paragraph["context"]
        answered = defaultdict[int, list[str]](list)
        for question in questions:
            place = _sentence_of(question, breaks)
            if place is not None:
                # The official code finds the answer by its text: a sentence that stands twice is right twice.
                for index, (start, end) in enumerate(breaks):
                    if context[start:end] == context[slice(*breaks[place])]:
                        answered[index].append(question["id"])
                query = {"id": question["id"], "query": question["question"], "candidate": None, "links": []}
                yield number, {**query, UNIT: context}
        if answered:
            for index, span in enumerate(breaks):
                name = f"{path.stem}_{number}_{index}"
                text = _candidate(context, span)
                yield number, {"id": name, "query": None, "candidate": text, "links": answered.get(index, [])}


def sentence_pairs(path: Path, _layout: Layout) -> Numbered:
    """LAReQA's training data: SQuAD questions, each with the sentence of its first answer in context.

    Without `sentence_breaks` a simple rule finds sentences (a mark, white space, a capital or digit); XTREME's own
    splitter knows more abbreviations.
    """
    number = 0
    for paragraph, breaks, questions in _paragraphs(path):
        for question in questions:
            number += 1
            place = _sentence_of(question, breaks)
            if place is not None:
                text = _candidate(paragraph["context"], breaks[place])
                pair = {"id": question["id"], "query": question["question"], "candidate": text, "links": []}
                yield number, {**pair, UNIT: paragraph["context"]}


def _candidate(context: str, span: Sequence[int]) -> str:
    return (context[slice(*span)] + context).replace("\n", "")


def _sentence_of(question: Raw, breaks: Sequence[tuple[int, int]]) -> int | None:
    """Index of the sentence in which the first answer starts, or None."""
    if not question["answers"]:
        return None
    start = int(question["answers"][0]["answer_start"])
    return next((index for index, (first, end) in enumerate(breaks) if first <= start < end), None)


def _paragraphs(path: Path) -> Iterator[tuple[Raw, list[tuple[int, int]], list[Raw]]]:
    """(paragraph, its sentences as spans of its context, its questions)."""
    content = document(path)
    at = "data"
    try:
        for a, article in enumerate(content["data"]):
            for p, paragraph in enumerate(article["paragraphs"]):
                at = f"data[{a}].paragraphs[{p}]"
                context, breaks = paragraph["context"], paragraph.get("sentence_breaks")
                if not isinstance(context, str):
                    raise TypeError(f"the context is a {type(context).__name__}")
                spans = list(_sentences(context)) if not breaks else [(int(first), int(end)) for first, end in breaks]
                for question in paragraph["qas"]:
                    _ = (
                        question["id"],
                        question["question"],
                        [int(answer["answer_start"]) for answer in question["answers"]],
                    )
                yield paragraph, spans, paragraph["qas"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        expected = "data[].paragraphs[].{context, sentence_breaks, qas[].{id, question, answers[].answer_start}}"
        raise DataError(f"{path}: {at}", absent(error), expected) from error


def _sentences(context: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in SENTENCE_END.finditer(context):
        yield start, gap.end()
        start = gap.end()
    yield start, len(context)


def mentions(path: Path, layout: Layout) -> Numbered:
    """Mewsli-X: entity mentions as queries. `gold` is a JSON of {mention: [entity]} if the file has no entities.

    Mentions of one entity are a unit: they have the same right candidate.
    """
    gold = _gold(layout.gold) if layout.gold is not None else {}
    for number, text in read(path, "jsonl"):
        with _record(path, number):
            for mention in text["mentions"]:
                name, entity = mention["example_id"], mention.get("entity_id")
                links = [str(target) for target in gold.get(name, [entity] if entity else [])]
                query = _mention(text["context"], mention["mention_span"])
                about = {"language": text["context"]["language"], UNIT: links[0] if links else None}
                yield number, {"id": name, "query": query, "candidate": None, "links": links, **about}


def entities(path: Path, _layout: Layout) -> Numbered:
    """Mewsli-X: entities with the sentences that describe them, as candidates."""
    for number, entity in read(path, "jsonl"):
        with _record(path, number):
            yield number, {"id": entity["entity_id"], "query": None, "candidate": _entity(entity), "links": []}


def mention_pairs(path: Path, _layout: Layout) -> Numbered:
    """Mewsli-X: mentions with their entities, for training."""
    for number, pair in read(path, "jsonl"):
        with _record(path, number):
            mention = pair["contextual_mention"]
            query = _mention(mention["context"], mention["mention"]["mention_span"])
            name = mention["mention"]["example_id"]
            yield number, {"id": name, "query": query, "candidate": _entity(pair["entity"]), "links": []}


@contextmanager
def _record(path: Path, number: int) -> Iterator[None]:
    """Turns an error of reading a record into a DataError with file:line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        expected = "records of Mewsli-X as its own scripts write them are expected"
        raise DataError(f"{path}:{number}", absent(error), expected) from error


def _gold(path: Path) -> Mapping[str, Any]:
    gold = document(path)
    if not isinstance(gold, dict):
        raise DataError(path, f"a JSON {type(gold).__name__}", "one object {mention: [entity]} is expected")
    for name, values in gold.items():
        if not isinstance(values, list):
            raise DataError(path, f"{values!r} for {name!r}", "a list of entities is expected")
    return gold


def _mention(context: Raw, span: Raw) -> str:
    """Query of a mention: the mention, then its sentence with the mention between braces."""
    start, end, text = span["start"], span["end"], context["text"]
    around = ((sentence["start"], sentence["end"]) for sentence in context["sentence_spans"])
    first, last = next((sentence for sentence in around if sentence[0] <= start and end <= sentence[1]), (0, len(text)))
    left, right = (MARKED.sub(r"(\1)", part) for part in (text[first:start], text[end:last]))
    return _one_line(f"{span['text']}: {left} {{ {span['text']} }} {right}")


def _entity(entity: Raw) -> str:
    description = entity["description"]
    return _one_line(
        " ".join(description[sentence["start"] : sentence["end"]] for sentence in entity["sentence_spans"])
    )


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()).replace("  ", " ").strip()


RETRIEVAL_READERS: dict[str, Reader] = {
    "comparable": comparable,
    "sentence_pool": sentence_pool,
    "sentence_pairs": sentence_pairs,
    "mentions": mentions,
    "entities": entities,
    "mention_pairs": mention_pairs,
}
ALL_READERS: dict[str, Reader] = {**READERS, **RETRIEVAL_READERS}

# Raw columns of formats whose files do not name them.
FIXED_COLUMNS = {
    "squad": ("id", "title", "context", "question", "answers", "is_impossible"),
    "lines": ("text",),
    "parallel": ("text", "pair"),
    "conllu-written": ("words", "tags"),
    "panx": ("words", "tags"),
    "comparable": ("id", "side", "text", "links"),
    **dict.fromkeys(
        ("sentence_pool", "sentence_pairs", "entities", "mention_pairs"), ("id", "query", "candidate", "links")
    ),
    "mentions": ("id", "query", "candidate", "links", "language"),
}
# Raw columns of formats that number them, where a description does not choose others.
NUMBERED_COLUMNS = {"conllu": {"words": "2", "tags": "4"}, "conll": {"words": "1", "tags": "2"}}
# Keys that a description with such a format must have beside `path`.
REQUIRED_KEYS = {"blocks": ("lines",), "parallel": ("pair",), "comparable": ("pair", "gold")}
