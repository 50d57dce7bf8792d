"""What the hub's data sets look like: exactly their columns and feature types, a few made-up rows with their oddities.

Columns are those of the data sets' own cards (dataset_infos.json, or the Parquet that replaced a loading script).
`DATA_SETS` is keyed by hub id, then by the beginning of the configuration's name. `EXPECTED` says what each task of the
table makes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, List, Value

TEXT, INT = Value("string"), Value("int32")
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
BINARY = ClassLabel(names=["0", "1"])
UPOS_ORDER = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"]
UPOS = ClassLabel(names=[*UPOS_ORDER, "SCONJ", "SYM", "VERB", "X"])
UD_27 = ["NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ", "PROPN", "PRON", "X", "_", "ADV"]
ENTITIES = ClassLabel(names=["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"])
ANSWERS = {"text": List(TEXT), "answer_start": List(INT)}

Rows = Callable[[str, str], list[dict[str, Any]]]  # (configuration, split) -> raw rows


@dataclass(frozen=True)
class Shape:
    """The configurations of a data set whose names begin alike."""

    features: dict[str, Any]
    rows: Rows


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, TEXT)


def labelled(first: str, second: str, labels: list[Any], **more: Any) -> Rows:
    """One row per label, each with its own texts."""
    return lambda config, split: [
        {first: f"{config} {split} {number}", second: "other", "label": label, **more}
        for number, label in enumerate(labels)
    ]


def questions(title: bool, odd: bool = False, prefix: str = "", unanswerable: bool = False) -> Rows:
    """Three paragraphs with a question each. `odd`: the second answer is not at its offset."""

    def rows(config: str, _split: str) -> list[dict[str, Any]]:
        found = []
        for number in range(3):
            start = 4 if odd and number == 1 else 0
            answers = {"text": [f"p{number}"], "answer_start": [start]}
            if unanswerable and number == 2:
                answers = {"text": [], "answer_start": []}
            row = {"id": f"{prefix}{number}", "context": f"p{number} of {config}", "question": "q", "answers": answers}
            found.append({**row, "title": "t"} if title else row)
        return found

    return rows


def gold_passages(_config: str, _split: str) -> list[dict[str, Any]]:
    """TyDiQA: the languages lie in one split, told apart by their ids."""
    found = []
    for language in ("arabic", "bengali", "english", "finnish", "indonesian", "korean", "russian", "swahili", "telugu"):
        found += [{**row, "id": f"{language}-{row['id']}-0"} for row in questions(title=True)(language, "")]
    return found


def hellaswag(_config: str, split: str) -> list[dict[str, Any]]:
    row = {"ind": 1, "activity_label": "Roofing", "ctx_a": "A man is on a roof.", "ctx_b": "he", "ctx": "A man is he"}
    row |= {"endings": ["a.", "b.", "c.", "d."], "source_id": "s", "split": split, "split_type": "indomain"}
    return [{**row, "ind": number, "label": "" if split == "test" else "3"} for number in range(3)]


def cosmos(_config: str, split: str) -> list[dict[str, Any]]:
    row = {"context": "c.", "question": "q?", **{f"answer{number}": f"a{number}" for number in range(4)}}
    label = -1 if split == "test" else 2
    return [{**row, "id": str(number), "context": f"c{number}.", "label": label} for number in range(3)]


def commonsense(_config: str, split: str) -> list[dict[str, Any]]:
    choices = {"label": list("ABCDE"), "text": ["v", "w", "x", "y", "z"]}
    row = {"question": "q?", "question_concept": "q", "choices": choices, "answerKey": "" if split == "test" else "D"}
    return [{"id": str(number), **row} for number in range(3)]


def social(_config: str, _split: str) -> list[dict[str, Any]]:
    row = {"context": "c.", "question": "q?", "answerA": "x", "answerB": "y", "answerC": "z"}
    return [{**row, "context": f"c{label}.", "label": label} for label in ("3", "1", "2")]


def causes(label: int, **more: Any) -> Rows:
    row = {"premise": "It fell.", "choice1": "x", "choice2": "y", "label": label, **more}
    return lambda _config, _split: [
        {**row, "idx": number, "question": asked} for number, asked in enumerate(("cause", "effect", "cause"))
    ]


def tagged(tags: str, *more: str) -> Rows:
    """Two sentences of words, and one without any."""

    def rows(config: str, _split: str) -> list[dict[str, Any]]:
        others = {name: [config, config] for name in more}
        row = {"tokens": ["In", "Ulm"], tags: [0, 5], **others}
        empty: dict[str, Any] = {"tokens": [], tags: [], **{name: [] for name in more}}
        return [row, row, row, *([empty] if tags == "pos_tags" else [])]

    return rows


def treebank(config: str, _split: str) -> list[dict[str, Any]]:
    """A surface form of two words is a row of its own, tagged `_`."""
    words = ["poszedłem", "poszedł", "em", "."]
    other = {name: ["x"] * 4 for name in ("lemmas", "xpos", "feats", "head", "deprel", "deps", "misc")}
    row = {"text": "poszedłem.", "tokens": words, "upos": ["_", "VERB", "AUX", "PUNCT"], **other}
    return [{"idx": f"{config}-{number}", **row} for number in range(2)]


def tatoeba(_config: str, _split: str) -> list[dict[str, Any]]:
    row = {"source_sentence": "Hei.\n", "target_sentence": "Hi.\n", "source_lang": "/root/.cache/x", "target_lang": "e"}
    return [row, {**row, "source_sentence": "Moi.\n"}]


def articles(config: str, _split: str) -> list[dict[str, Any]]:
    bodies = [f"{config} article {number}\n\nwith paragraphs" for number in range(200)]
    return [{"id": str(number), "url": "u", "title": "t", "text": body} for number, body in enumerate(bodies)]


PAIR = {**texts("premise", "hypothesis"), "label": NLI}
SENTENCES = {"id": INT, **texts("sentence1", "sentence2"), "label": BINARY}
QUESTION = {**texts("id", "title", "context", "question"), "answers": ANSWERS}
UNTITLED = {**texts("context", "question"), "answers": ANSWERS, "id": TEXT}
MULTI_NLI = {"promptID": INT, **texts("pairID", "premise", "premise_binary_parse", "premise_parse"), "genre": TEXT}
MULTI_NLI |= {**texts("hypothesis", "hypothesis_binary_parse", "hypothesis_parse"), "label": NLI}
COPA = {**texts("premise", "choice1", "choice2", "question"), "idx": INT}
TREEBANK = {**texts("idx", "text"), "tokens": List(TEXT), "lemmas": List(TEXT)}
TREEBANK |= {"upos": List(ClassLabel(names=[*UD_27, "INTJ", "VERB", "AUX"]))}
TREEBANK |= {name: List(TEXT) for name in ("xpos", "feats", "head", "deprel", "deps", "misc")}
PARSES = {name: "(p)" for name in MULTI_NLI if "parse" in name} | {"promptID": 1, "pairID": "1e", "genre": "fiction"}
TAGS = {"tokens": List(TEXT), "ner_tags": List(ENTITIES), "langs": List(TEXT)}

DATA_SETS: dict[str, dict[str, Shape]] = {
    "nyu-mll/glue": {
        "mnli": Shape({**PAIR, "idx": INT}, labelled("premise", "hypothesis", [0, 1, 2], idx=0)),
        "qqp": Shape(
            {
                **texts("question1", "question2"),
                "label": ClassLabel(names=["not_duplicate", "duplicate"]),
                "idx": INT,
            },
            lambda config, split: [
                *labelled("question1", "question2", [1, 0, 1], idx=0)(config, split),
                {"question1": "", "question2": "other", "label": 0, "idx": 9},
            ],
        ),
    },
    "nyu-mll/multi_nli": {"default": Shape(MULTI_NLI, labelled("premise", "hypothesis", [2, 1], **PARSES))},
    "stanfordnlp/snli": {"plain_text": Shape(PAIR, labelled("premise", "hypothesis", [1, -1, 2]))},
    "facebook/anli": {
        "plain_text": Shape(
            {"uid": TEXT, **PAIR, "reason": TEXT}, labelled("premise", "hypothesis", [0], uid="u", reason="")
        )
    },
    "facebook/xnli": {"": Shape(PAIR, labelled("premise", "hypothesis", [0, 1, 2]))},
    "google-research-datasets/paws": {
        "labeled_final": Shape(SENTENCES, labelled("sentence1", "sentence2", [0, 1], id=1))
    },
    "google-research-datasets/paws-x": {
        "": Shape(
            SENTENCES,
            lambda config, split: [
                *labelled("sentence1", "sentence2", [0, 1], id=1)(config, split),
                {"id": 9, "sentence1": "NS", "sentence2": "b", "label": 0},
            ],
        )
    },
    "rajpurkar/squad": {"plain_text": Shape(QUESTION, questions(title=True))},
    "rajpurkar/squad_v2": {"squad_v2": Shape(QUESTION, questions(title=True, unanswerable=True))},
    "facebook/mlqa": {"mlqa-translate-train.": Shape(UNTITLED, questions(title=False, odd=True))},
    "google/xquad": {"xquad.": Shape(UNTITLED, questions(title=False))},
    "google-research-datasets/tydiqa": {"secondary_task": Shape(QUESTION, gold_passages)},
    "Rowan/hellaswag": {
        "default": Shape(
            {
                "ind": INT,
                **texts("activity_label", "ctx_a", "ctx_b", "ctx"),
                "endings": List(TEXT),
                **texts("source_id", "split", "split_type", "label"),
            },
            hellaswag,
        )
    },
    "allenai/cosmos_qa": {
        "default": Shape(
            {**texts("id", "context", "question", "answer0", "answer1", "answer2", "answer3"), "label": INT}, cosmos
        )
    },
    "tau/commonsense_qa": {
        "default": Shape(
            {
                **texts("id", "question", "question_concept"),
                "choices": {"label": List(TEXT), "text": List(TEXT)},
                "answerKey": TEXT,
            },
            commonsense,
        )
    },
    "lighteval/siqa": {
        "": Shape(texts("context", "question", "answerA", "answerB", "answerC", "label"), social),
    },
    "aps/super_glue": {"copa": Shape({**COPA, "label": ClassLabel(names=["choice1", "choice2"])}, causes(label=1))},
    "cambridgeltl/xcopa": {"": Shape({**COPA, "label": INT, "changed": Value("bool")}, causes(label=0, changed=False))},
    "google/xtreme": {
        "PAN-X.": Shape(TAGS, tagged("ner_tags", "langs")),
        "udpos.": Shape({"tokens": List(TEXT), "pos_tags": List(UPOS)}, tagged("pos_tags")),
        "MLQA.": Shape(QUESTION, questions(title=True)),
        "tatoeba.": Shape(texts("source_sentence", "target_sentence", "source_lang", "target_lang"), tatoeba),
    },
    "unimelb-nlp/wikiann": {"": Shape({**TAGS, "spans": List(TEXT)}, tagged("ner_tags", "langs", "spans"))},
    "universal-dependencies/universal_dependencies": {"": Shape(TREEBANK, treebank)},
    "wikimedia/wikipedia": {"20231101.": Shape(texts("id", "url", "title", "text"), articles)},
}

ANSWER = [{"text": "p1", "start": 0}]
WORDS = {"words": ["In", "Ulm"]}
# (task, split, language): how many rows, and the last of them
EXPECTED: dict[tuple[str, str, str], tuple[int, dict[str, Any]]] = {
    ("anli_plus", "train", "en"): (2 + 2 + 3, {"text": "plain_text train_r3 0", "pair": "other", "label": 0}),
    ("anli_plus", "dev", "en"): (2, {"text": "default validation_matched 1", "pair": "other", "label": 1}),
    ("mnli", "train", "en"): (3, {"text": "mnli train 2", "pair": "other", "label": 2}),
    ("mnli", "train", "ar"): (3, {"text": "ar train 2", "pair": "other", "label": 2}),
    ("snli", "train", "en"): (2, {"text": "plain_text train 2", "pair": "other", "label": 2}),
    ("qqp", "test", "en"): (3, {"text": "qqp validation 2", "pair": "other", "label": 1}),
    ("paws", "test", "en"): (2, {"text": "labeled_final test 1", "pair": "other", "label": 1}),
    ("squad", "test", "en"): (
        3,
        {"id": "2", "context": "p2 of plain_text", "question": "q", "answers": [{"text": "p2", "start": 0}]},
    ),
    ("squad", "train", "ar"): (
        1,
        {
            "id": "2",
            "context": "p2 of mlqa-translate-train.ar",
            "question": "q",
            "answers": [{"text": "p2", "start": 0}],
        },
    ),
    ("squad2", "test", "en"): (3, {"id": "2", "context": "p2 of squad_v2", "question": "q", "answers": []}),
    ("hellaswag", "test", "en"): (
        3,
        {"prompt": "A man is on a roof.", "options": ["he a.", "he b.", "he c.", "he d."], "label": 3},
    ),
    ("cosmos_qa", "test", "en"): (3, {"prompt": "c2. q?", "options": ["a0", "a1", "a2", "a3"], "label": 2}),
    ("commonsense_qa", "test", "en"): (3, {"prompt": "q?", "options": ["v", "w", "x", "y", "z"], "label": 3}),
    ("siqa", "test", "en"): (3, {"prompt": "c2. q?", "options": ["x", "y", "z"], "label": 1}),
    ("xnli", "test", "zh"): (3, {"text": "zh test 2", "pair": "other", "label": 2}),
    ("pawsx", "dev", "zh"): (2, {"text": "zh validation 1", "pair": "other", "label": 1}),
    ("pawsx", "test", "zh"): (3, {"text": "NS", "pair": "b", "label": 0}),
    ("panx", "test", "zh"): (3, {**WORDS, "tags": [0, 5]}),
    ("panx", "test", "uk"): (3, {**WORDS, "tags": [0, 5]}),
    ("udpos", "test", "zh"): (3, {**WORDS, "tags": [0, 5]}),
    ("udpos", "test", "pl"): (6, {"words": ["poszedł", "em", "."], "tags": [15, 3, 12]}),
    ("udpos", "train", "pl"): (4, {"words": ["poszedł", "em", "."], "tags": [15, 3, 12]}),
    ("xquad", "test", "ro"): (
        3,
        {"id": "2", "context": "p2 of xquad.ro", "question": "q", "answers": [{"text": "p2", "start": 0}]},
    ),
    ("xquad", "train", "en"): (
        2,
        {"id": "1", "context": "p1 of plain_text", "question": "q", "answers": [{"text": "p1", "start": 0}]},
    ),
    ("mlqa", "test", "zh"): (
        3,
        {"id": "2", "context": "p2 of MLQA.zh.zh", "question": "q", "answers": [{"text": "p2", "start": 0}]},
    ),
    ("tydiqa", "test", "id"): (
        3,
        {
            "id": "indonesian-2-0",
            "context": "p2 of indonesian",
            "question": "q",
            "answers": [{"text": "p2", "start": 0}],
        },
    ),
    ("tydiqa", "dev", "en"): (
        1,
        {"id": "english-2-0", "context": "p2 of english", "question": "q", "answers": [{"text": "p2", "start": 0}]},
    ),
    ("xcopa", "test", "qu"): (3, {"prompt": "It fell. What was the cause?", "options": ["x", "y"], "label": 0}),
    ("xcopa", "dev", "en"): (1, {"prompt": "It fell. What was the effect?", "options": ["x", "y"], "label": 1}),
    ("tatoeba", "test", "fi"): (2, {"text": "Moi.", "pair": "Hi."}),
    ("wikipedia", "dev", "sw"): (2, {"text": "20231101.sw article 67\n\nwith paragraphs"}),
}
