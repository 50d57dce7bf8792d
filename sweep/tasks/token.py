"""The family whose answer is a tag for every word (`token`): UPOS, named entities.

Statistics are (chunks right, chunks predicted, chunks in the gold tags) of a sentence and the metric is their micro F1,
as XTREME computes it for both its tagging tasks. What a chunk is follows from the labels: schemes.py.

A word may have no tag (IGNORED): it is read, and neither trained nor scored; chunks are made of the words that have
one. No tag of a training sentence is lost: what is too long becomes several sequences of whole words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.tasks.base import IGNORED, Encoded, EncodedSequence, Prediction, Row, Task
from sweep.tasks.schemes import OUTSIDE, Scheme
from sweep.tasks.subwords import frame, slices, subwords


def chunk_counts(
    predicted: NDArray[Any], gold: NDArray[Any], sentence: NDArray[Any], sentences: int, labels: Sequence[str]
) -> NDArray[np.float64]:
    """[N, 3] (right, predicted, gold) chunks per sentence from the tags [W] of all words and their sentences [W]."""
    scheme = Scheme.of(labels)
    found, found_ends = scheme.chunks(predicted, sentence)
    wanted, wanted_ends = scheme.chunks(gold, sentence)
    right = (found == wanted) & (found != OUTSIDE) & (found_ends == wanted_ends)
    counted = (right, found != OUTSIDE, wanted != OUTSIDE)
    counts = [np.bincount(sentence, weights=which, minlength=sentences) for which in counted]
    return np.stack(counts, axis=1).astype(np.float64)  # bincount of nothing is of integers


def micro_scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """F1, precision and recall, each [...] from [..., 3] sums of (right, predicted, gold); 0 where nothing was counted.

    F1 is twice the right ones over all predicted and gold ones.
    """
    right, predicted, gold = np.moveaxis(sums, -1, 0)
    parts = {"f1": (2 * right, predicted + gold), "precision": (right, predicted), "recall": (right, gold)}
    return {name: np.divide(share, of, out=np.zeros_like(of), where=of > 0) for name, (share, of) in parts.items()}


def tagged(row: Row) -> list[int]:
    """The tags of a row's words, those without one left out."""
    return [tag for tag in row["tags"] if tag != IGNORED]


def flat(tags: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[W] tags of all words and [W] their sentences."""
    lengths = np.array([len(sentence) for sentence in tags], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.int64), *tags]).astype(np.int64), np.repeat(np.arange(len(tags)), lengths)


def _word_subwords(tokenizer: Any, words: Sequence[str]) -> dict[str, list[int]]:
    """Subwords of each distinct word as it stands inside a sentence; never none."""
    together, first, second, spaced = subwords(tokenizer, ["a b", "a", "b", " b"])
    # Tokenizers that keep the space with the word (byte-level BPE) know a word inside a sentence by its leading space.
    space = " " if together != first + second and together == first + spaced else ""
    distinct = list(dict.fromkeys(words))
    unknown = tokenizer.pad_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    pieces = subwords(tokenizer, [space + word for word in distinct])
    return {word: piece or [unknown] for word, piece in zip(distinct, pieces, strict=True)}


def _split(lengths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Ranges of words whose subwords fit into `room` together; at least one range, and no word in none."""
    start, filled = 0, 0
    for word, length in enumerate(lengths):
        if filled and filled + length > room:
            yield start, word
            start, filled = word, 0
        filled += length
    yield start, len(lengths)


class TokenFamily:
    """[CLS] subwords of the words [SEP]; the tag is on the first subword of its word, IGNORED elsewhere."""

    name = "token"
    metric = "f1"
    required: tuple[str, ...] = ("words", "tags")
    default_max_length = 128

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
        words, tags = row["words"], row["tags"]
        if not words:
            return "no words"
        if len(words) != len(tags):
            return f"{len(words)} words but {len(tags)} tags"
        for word, tag in zip(words, tags, strict=True):
            if not isinstance(word, str) or not word:
                return f"word {word!r} is not text"
            if not isinstance(tag, int) or isinstance(tag, bool) or not (0 <= tag < len(labels) or tag == IGNORED):
                return f"tag {tag!r} of {word!r} is not one of the integers 0 to {len(labels) - 1}"
        return None

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """One sequence per row, or several of whole words where the sentence is longer than max_length."""
        around = frame(tokenizer, pair=False)
        room = around.room(max_length)
        for start, part in slices(rows):
            known = _word_subwords(tokenizer, [word for row in part for word in row["words"]])
            for number, row in enumerate(part, start):
                # The end of a word longer than a whole sequence is cut; its tag is on its first subword.
                pieces = [known[word][:room] for word in row["words"]]
                for first, last in _split([len(piece) for piece in pieces], room):
                    yield self._sequence(pieces[first:last], row["tags"][first:last], number, around)

    def _sequence(self, pieces: list[list[int]], tags: Sequence[int], number: int, around: Any) -> EncodedSequence:
        tokens = [token for piece in pieces for token in piece]
        targets = [IGNORED] * len(around.gaps[0])
        for piece, tag in zip(pieces, tags, strict=True):
            targets.append(tag)
            targets.extend([IGNORED] * (len(piece) - 1))
        targets.extend([IGNORED] * len(around.gaps[1]))
        return EncodedSequence(around.join(tokens), number, targets, around.segments(len(tokens)))

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """[words] tags of each row's words that have one, from the predicted tag of every token position."""
        if not outputs:
            return []
        shown = encoded.targets != IGNORED
        words = np.bincount(np.repeat(encoded.example, encoded.lengths())[shown], minlength=encoded.examples)
        return np.split(np.concatenate(outputs)[shown].astype(np.int64), np.cumsum(words)[:-1])

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 3] (right, predicted, gold) chunks. Raises ValueError where a row is not tagged word by word."""
        gold, of_word = flat([tagged(row) for row in rows])
        predicted, of_prediction = flat(predictions)
        if not np.array_equal(of_word, of_prediction):
            raise ValueError("every word has one predicted tag")
        return chunk_counts(predicted, gold, of_word, len(rows), task.labels)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Micro F1 of chunks; 0 where there is none."""
        return micro_scores(sums)["f1"]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """F1, precision and recall of chunks."""
        return micro_scores(sums)

    def majority(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """F1 of tagging every word with the most frequent tag; 0 where that is O."""
        gold, sentence = flat([tagged(row) for row in rows])
        if not len(gold):
            return 0.0
        constant = np.full_like(gold, np.bincount(gold).argmax())
        return float(self.value(chunk_counts(constant, gold, sentence, len(rows), task.labels).sum(axis=0)))


TOKEN = TokenFamily()
