"""The embedded benchmark: every task family in a small invented world, offline, generated from a seed.

world.py says what happens and how languages say it; here are the tasks. Training and dev data exist in the pivot
language (raw text: in all languages, no translations), and for two tasks translated, as XNLI's are into all of its
languages and SQuAD's into some; test data exist in every language. Row i of a translation, as of a test set, has the
same meaning in every language. Labels are balanced. Meanings are divided between train, dev and test by a checksum, so
no test row is a training row, in any language.

    world/nli         sequence   entailment, neutral, contradiction of a fact               large train, all languages
    world/rte         sequence   entailed or not, in news of people and organisations                 small train
    world/paraphrase  sequence   same fact in another arrangement, or a changed one
    world/topic       sequence   which of six topics                                        small train
    world/copa        choice     the likelier cause or consequence
    world/pos         token      parts of speech                                            large train
    world/ner         token      persons, places, organisations (BIO)                       small train
    world/qa          span       who, what, where; a fifth is unanswerable                  large train, near languages
    world/qa_small    span       the same skill in shorter contexts, all answerable         small train
    world/retrieval   embedding  find the pivot sentence that a foreign one translates      no train
    world/raw         masked     raw text; the farther a language, the less there is
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random

from sweep.data import SPLITS, Row, Size
from sweep.errors import DataError, nearest
from sweep.tasks import FAMILIES
from sweep.tasks.synthetic import rows
from sweep.tasks.synthetic.world import LANGUAGE, LANGUAGES, PIVOT, TOPICS, Language, World, world_of
from sweep.tasks.task import Family, Task

GENERATOR_VERSION = 1  # raise it whenever a row may change: it is part of every key
SAMPLE = 40  # rows that a mean length is estimated from


@dataclass(frozen=True)
class Design:
    """Design of one task: family, labels, examples of its splits, and functions that make its rows."""

    family: str
    train: int
    dev: int
    test: int  # per language
    draw: Callable[[World, Random, int], rows.Meaning]
    row: Callable[[World, rows.Meaning, Language], Row]
    labels: tuple[str, ...] = ()
    translated: tuple[str, ...] = ()  # languages beside the pivot that train and dev are translated into
    foreign: bool = False  # rows translate a foreign sentence into the pivot, which has none of its own

    @property
    def shape(self) -> Family:
        """Its family."""
        return FAMILIES[self.family]


FOREIGN = tuple(language.code for language in LANGUAGES if language is not PIVOT)  # the nearest first
NLI_LABELS = ("entailment", "neutral", "contradiction")
TOPIC_LABELS = tuple(f"topic{number}" for number in range(TOPICS))
DESIGNS = {
    "nli": Design("sequence", 12000, 300, 300, rows.draw_nli, rows.nli_row, NLI_LABELS, FOREIGN),
    "rte": Design("sequence", 200, 300, 300, rows.draw_rte, rows.rte_row, ("entailment", "not_entailment")),
    "paraphrase": Design("sequence", 1500, 300, 300, rows.draw_paraphrase, rows.paraphrase_row, ("different", "same")),
    "topic": Design("sequence", 60, 150, 300, rows.draw_topic, rows.topic_row, TOPIC_LABELS),
    "copa": Design("choice", 400, 200, 300, rows.draw_copa, rows.copa_row, ("0", "1")),
    "pos": Design("token", 2000, 150, 200, rows.draw_sentence, rows.pos_row, rows.POS_LABELS),
    "ner": Design("token", 60, 150, 200, rows.draw_sentence, rows.ner_row, rows.NER_LABELS),
    "qa": Design("span", 10000, 200, 200, rows.draw_qa, rows.qa_row, translated=FOREIGN[:3]),
    "qa_small": Design("span", 100, 200, 200, rows.draw_qa_small, rows.qa_row),
    "retrieval": Design("embedding", 0, 0, 300, rows.draw_pair, rows.pair_row, foreign=True),
    "raw": Design("masked", PIVOT.raw, 100, 100, rows.draw_story, rows.story_row),
}


@dataclass(frozen=True)
class EmbeddedSource:
    """Source of one task of DESIGNS: a pure function of (seed, GENERATOR_VERSION, split, language)."""

    task: str
    seed: int = 0

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Task, seed and version of the generator."""
        return {"source": "embedded", "task": self.task, "seed": self.seed, "generator": GENERATOR_VERSION}

    def size(self, split: str, language: str) -> Size:
        """Exact number of examples; mean length in words, punctuation and special tokens of a sample of rows."""
        self._check(split, language)
        examples = self.examples(split, language)
        return Size(examples, _mean_tokens(self.task, self.seed, split) if examples else 0.0)

    def rows(self, split: str, language: str) -> list[Row]:
        """Rows of a split; empty where the split does not exist in the language (train of a foreign language).

        Raises DataError for an unknown split or language.
        """
        self._check(split, language)
        design, examples = DESIGNS[self.task], self.examples(split, language)
        if split == "train" and design.shape.raw_text:  # a language's own; all else is translated
            meanings = tuple(islice(_meanings(self.task, self.seed, split, language), examples))
        else:
            meanings = _translated(self.task, self.seed, split)[:examples]
        made = [design.row(world_of(self.seed), meaning, LANGUAGE[language]) for meaning in meanings]
        if "id" in design.shape.optional_columns:
            return [{"id": f"{self.task}-{split}-{number}", **row} for number, row in enumerate(made)]
        return made

    def places(self, split: str, language: str) -> list[str]:
        """Task, split and number of each row."""
        return [f"{self.task} {split}:{number}" for number in range(self.examples(split, language))]

    def examples(self, split: str, language: str) -> int:
        """Number of rows of a split, without making them."""
        design = DESIGNS[self.task]
        count = {"train": design.train, "dev": design.dev, "test": design.test}[split]
        if design.shape.raw_text:
            return LANGUAGE[language].raw if split == "train" else count
        if design.foreign and language == PIVOT.code:
            return 0
        return count if split == "test" or language in (PIVOT.code, *design.translated) else 0

    def _check(self, split: str, language: str) -> None:
        where = f"world/{self.task}"
        if split not in SPLITS:
            raise DataError(where, f"split {split!r}", f"one of {', '.join(SPLITS)}", nearest(split, SPLITS))
        if language not in LANGUAGE:
            raise DataError(
                where, f"language {language!r}", f"one of {', '.join(LANGUAGE)}", nearest(language, LANGUAGE)
            )


def _meanings(task: str, seed: int, split: str, language: str) -> Iterator[rows.Meaning]:
    """Endless distinct meanings of a split. Raw text for training has meanings of each language's own."""
    own = language if split == "train" else ""
    random = Random(f"{seed}/{task}/{split}/{own}")
    drawn: set[rows.Meaning] = set()
    while True:
        meaning = DESIGNS[task].draw(world_of(seed), random, len(drawn))
        if _split(meaning) == split and meaning not in drawn:
            drawn.add(meaning)
            yield meaning


@cache
def _translated(task: str, seed: int, split: str) -> tuple[rows.Meaning, ...]:
    """Meanings of a split, cached because every language expresses the same ones."""
    design = DESIGNS[task]
    examples = {"train": design.train, "dev": design.dev, "test": design.test}[split]
    return tuple(islice(_meanings(task, seed, split, PIVOT.code), examples))


def _split(meaning: rows.Meaning) -> str:
    """Split in which a meaning may occur: train for three quarters of all, dev and test for an eighth each."""
    return ("dev", "test", *["train"] * 6)[zlib.crc32(repr(meaning).encode()) % 8]


@cache
def _mean_tokens(task: str, seed: int, split: str) -> float:
    meanings = islice(_meanings(task, seed, split, PIVOT.code), SAMPLE)
    made = [DESIGNS[task].row(world_of(seed), meaning, PIVOT) for meaning in meanings]
    return sum(_length(DESIGNS[task].shape, row) for row in made) / SAMPLE


def _length(family: Family, row: Row) -> int:
    """Number of words, punctuation marks and special tokens, as a word-level tokenizer counts them."""
    if "words" in row:
        return len(row["words"]) + 2
    return sum(sum(map(_count, texts)) + len(texts) + 1 for texts in family.texts(row))


def _count(text: str) -> int:
    return len(text.split()) + text.count(".") + text.count("?")


def _task(name: str, design: Design) -> Task:
    codes = tuple(language.code for language in LANGUAGES)
    return Task(
        name=f"world/{name}",
        family=design.shape,
        source=EmbeddedSource(name),
        languages=codes[1:] if design.foreign else codes,
        train_language=PIVOT.code if design.train else None,
        labels=design.labels,
        corpora=(f"world/{name}",),
        train_languages=codes if design.shape.raw_text else (),
        sources=(PIVOT.code, *design.translated) if design.translated else (),
    )


TASKS: tuple[Task, ...] = tuple(_task(name, design) for name, design in DESIGNS.items())
