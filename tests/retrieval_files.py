"""BUCC, LAReQA and Mewsli-X in miniature, in the files of their owners, and the descriptions that read them. No tests.

Sentences are numbered; a sentence in another language has its number and another word.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BUCC = {
    "family": "mining",
    "format": "comparable",
    "languages": ["de", "fr"],
    **{
        split: {
            "path": f"bucc2018/{{language}}-en.{split}.{{language}}",
            "pair": f"bucc2018/{{language}}-en.{split}.en",
            "gold": f"bucc2018/{{language}}-en.{split}.gold",
        }
        for split in ("dev", "test")
    },
}
LAREQA = {
    "family": "ranking",
    "languages": ["en", "de", "th"],
    "train": {"path": "squad/train-v1.1.json", "format": "sentence_pairs"},
    "dev": {"path": "squad/dev-v1.1.json", "format": "sentence_pairs"},
    "test": {"path": "lareqa/xquad-r/{language}.json", "format": "sentence_pool"},
}
MEWSLIX = {
    "family": "ranking",
    "languages": ["en", "ta"],
    "pool": ["all"],
    "train": {"path": "mewslix/wikipedia_pairs-train.jsonl", "format": "mention_pairs"},
    "dev": {"path": "mewslix/wikipedia_pairs-dev.jsonl", "format": "mention_pairs"},
    "test": [
        {
            "path": "mewslix/wikinews_mentions/test-{language}.jsonl",
            "gold": "mewslix/wikinews_labels/test-{language}.json",
            "format": "mentions",
        },
        {"path": "mewslix/candidate_set_entities.jsonl", "format": "entities", "languages": ["all"]},
    ],
}
TASKS: dict[str, dict[str, Any]] = {"bucc2018": BUCC, "lareqa": LAREQA, "mewslix": MEWSLIX}


def write_all(root: Path) -> None:
    """All files, below `root`."""
    for split, first in (("dev", 0), ("test", 40)):
        for language in ("de", "fr"):
            write_bucc(root / "bucc2018", f"{language}-en.{split}", language, first)
    for name, first in (("train", 100), ("dev", 120)):
        write_squad(root / "squad" / f"{name}-v1.1.json", "en", first, breaks=False)
    for language in ("en", "de", "th"):
        write_squad(root / "lareqa" / "xquad-r" / f"{language}.json", language, 140, breaks=True)
    write_mewslix(root / "mewslix")


def sentence(language: str, number: int) -> str:
    return f"The {language} town number {number} lies at river {number % 7}."


def write_bucc(folder: Path, stem: str, language: str, first: int) -> None:
    """30 sentences a side, the first 20 of them translations; one that stands twice on the foreign side."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in (language, "en"):
        lines = [f"{side}-{n:06}\t{sentence(side, first + n)}" for n in range(30)]
        if side != "en":
            lines.append(f"{side}-000030\t{sentence(side, first)}")
        (folder / f"{stem}.{side}").write_text("\n".join(lines) + "\n")
    (folder / f"{stem}.gold").write_text("".join(f"{language}-{n:06}\ten-{n:06}\n" for n in range(20)))


def write_squad(path: Path, language: str, first: int, *, breaks: bool) -> None:
    """5 paragraphs of 3 sentences, a question on each of the first two; ids are the same in every language."""
    paragraphs = []
    for number in range(5):
        sentences = [sentence(language, first + 3 * number + n) for n in range(3)]
        context, starts = " ".join(sentences), [0, len(sentences[0]) + 1, len(sentences[0]) + len(sentences[1]) + 2]
        questions = [
            {
                "id": f"q{first}-{number}-{n}",
                "question": f"Where lies {language} town number {first + 3 * number + n}?",
                "answers": [{"text": "town", "answer_start": context.index("town", starts[n])}],
            }
            for n in range(2)
        ]
        spans = list(zip(starts, [*starts[1:], len(context)], strict=True))
        found: dict[str, Any] = {"context": context, "qas": questions}
        paragraphs.append({**found, "sentence_breaks": spans} if breaks else found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "towns", "paragraphs": paragraphs}]}))


def write_mewslix(folder: Path) -> None:
    """12 entities, mentions of them in two languages without their entities, and pairs to train on."""
    for split, first in (("train", 0), ("dev", 6)):
        pairs = [
            {
                "contextual_mention": {"context": context("en", n), "mention": mention("en", n, f"Q{n}")},
                "entity": entity(n),
            }
            for n in range(first, first + 6)
        ]
        _lines(folder / f"wikipedia_pairs-{split}.jsonl", pairs)
    _lines(folder / "candidate_set_entities.jsonl", [entity(n) for n in range(12)])
    for language in ("en", "ta"):
        documents = [{"context": context(language, n), "mentions": [mention(language, n, "")]} for n in range(8)]
        _lines(folder / "wikinews_mentions" / f"test-{language}.jsonl", documents)
        labels = {f"{language}-{n}": [f"Q{n}"] for n in range(8)}
        (folder / "wikinews_labels").mkdir(exist_ok=True)
        (folder / "wikinews_labels" / f"test-{language}.json").write_text(json.dumps(labels))


def entity(number: int) -> dict[str, Any]:
    text = f"River {number} is long.\nIt is  cold."
    end = text.index("\n")
    spans = [{"start": 0, "end": end}, {"start": end + 1, "end": len(text)}]
    described = {"description": text, "sentence_spans": spans, "description_language": "en", "description_url": ""}
    return {"entity_id": f"Q{number}", "title": f"River {number}", **described}


def context(language: str, number: int) -> dict[str, Any]:
    first, second = "Nothing here.", f"In {language} {{old}} river {number} rose."
    spans = [{"start": 0, "end": len(first)}, {"start": len(first) + 1, "end": len(first) + 1 + len(second)}]
    about = {"document_title": "", "document_url": "", "document_id": "d", "language": language}
    return {**about, "text": f"{first} {second}", "sentence_spans": spans}


def mention(language: str, number: int, name: str) -> dict[str, Any]:
    text, shown = context(language, number)["text"], f"river {number}"
    start = text.index(shown)
    span = {"start": start, "end": start + len(shown), "text": shown}
    return {"example_id": f"{language}-{number}", "mention_span": span, "entity_id": name}


def _lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
