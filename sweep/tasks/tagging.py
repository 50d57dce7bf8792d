"""Family of sequence tagging (`token`), and the schemes of entity tags.

    IOB            of B- and I-, IOB2 and IOB1 alike: conlleval's reading, which is seqeval's default. B- starts a
                   chunk, and so does an I- that nothing of its type precedes
    IOE            of I- and E-, read by the same rule: E- ends a chunk
    IOBES, BILOU   strictly, as seqeval's mode "strict" with the scheme named: a chunk is S- (U-) alone, or B-, any
                   number of I- and E- (L-) of one type, and nothing else. BMES and BMEWO are IOBES with other letters
    none           a run of equal tags is one chunk, except that tags that begin with S are chunks of one word. That is
                   what seqeval 0.0.12 makes of raw tags (UPOS: SCONJ, SYM), hence XTREME's "F1" of UDPOS. seqeval 1.x
                   gives other numbers

O is outside in all of them. Labels may be spelled `B-PER`, `B_PER`, `b-per`, `PER-B`, or `B` where there is one type.

Statistics are (chunks right, chunks predicted, chunks in the gold tags) of a sentence and the metric is their micro F1,
as XTREME computes it for both its tagging tasks. What a chunk is follows from the labels.

A word may have no tag (IGNORED): it is read, and neither trained nor scored; chunks are made of the words that have
one. No tag of a training sentence is lost: what is too long becomes several sequences of whole words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import BYTES_PER_TOKEN, IGNORED, Row
from sweep.data.columns import Columns, spelling
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.data.files import file_lines, numbered, same_length
from sweep.data.formats import LINES
from sweep.data.retrieval_formats import NUMBERED_COLUMNS
from sweep.data.sample import Column, Sample
from sweep.errors import DataError
from sweep.tasks.classification import ClassMetric
from sweep.tasks.task import ALONE, Family, Guess, HeadSpec, Metric, Pair, Prediction, Task

OUTSIDE = -1
RAW = "none"
STRICT = {"IOBES": "B- I- E- or S- alone", "BILOU": "B- I- L- or U- alone"}

_SCHEMES: tuple[tuple[str, str, dict[str, str]], ...] = (  # name, letters, letters that are renamed
    ("IOB", "BI", {}),
    ("IOE", "IE", {}),
    ("IOBES", "BIES", {}),
    ("BILOU", "BILU", {}),
    ("IOBES", "BMES", {"M": "I"}),
    ("IOBES", "BMEW", {"M": "I", "W": "S"}),
    ("IOBES", "BIEW", {"W": "S"}),
)
_LETTERS = "BIELSUMW"
_PLAIN = re.compile("([BIES])-(.+)")
_SPELLINGS = (
    _PLAIN,
    *(re.compile(f"(?P<tag>[{_LETTERS}]){between}(?P<type>.+)", re.IGNORECASE) for between in "-_"),
    *(re.compile(f"(?P<type>.+){between}(?P<tag>[{_LETTERS}])", re.IGNORECASE) for between in "-_"),
    re.compile(f"(?P<tag>[{_LETTERS}])(?P<type>)", re.IGNORECASE),
)
_ENTITY = re.compile("[BI][-_].+|.+[-_][BI]", re.IGNORECASE)


@dataclass(frozen=True)
class Notation:
    """Scheme of a set of labels, and the labels as the scheme writes them."""

    scheme: str  # IOB, IOE, IOBES, BILOU, or RAW
    labels: tuple[str, ...]


@lru_cache(maxsize=64)
def notation(labels: tuple[str, ...]) -> Notation:
    """Notation of a set of labels. Raises ValueError where some are entity tags and others are not."""
    outside = [label for label in labels if label in ("O", "o")]
    entity_labels = [label for label in labels if label not in outside]
    for spelled in _SPELLINGS:
        matches = [spelled.fullmatch(label) for label in entity_labels]
        # Without an O only what is written plainly is believed to be entity tags: parts of speech have prefixes too.
        if entity_labels and all(matches) and (outside or spelled is _PLAIN or _segments(entity_labels)):
            return _written(labels, [_parts(match, spelled) for match in matches if match])
    if any(_ENTITY.fullmatch(label) for label in entity_labels if outside or _goes_on(label, entity_labels)):
        odd = next((label for label in entity_labels if not _ENTITY.fullmatch(label)), None)
        raise ValueError(f"entity tags, and {odd!r}, which is none" if odd else "entity tags in several spellings")
    return Notation(RAW, labels)


def _goes_on(label: str, labels: Sequence[str]) -> bool:
    """Whether a label of an entity's first word has one of its next words beside it: B-PER and I-PER."""
    swapped = (re.sub(place, letter, label) for place in ("^[Bb]", "[Bb]$") for letter in "Ii")
    return any(candidate != label and candidate in labels for candidate in swapped)


def _segments(labels: Iterable[str]) -> bool:
    """Whether these are the tags of words cut into characters, where no tag is outside."""
    return {"B", "E"} <= set(labels)


def _parts(match: re.Match[str], spelled: re.Pattern[str]) -> tuple[str, str]:
    letter, kind = match.groups() if spelled is _PLAIN else (match["tag"], match["type"])
    return str(letter).upper(), str(kind)


def _written(labels: Sequence[str], parts: Sequence[tuple[str, str]]) -> Notation:
    used = {letter for letter, _ in parts}
    for scheme, letters, renamed in _SCHEMES:
        if used <= set(letters):
            rest = iter(f"{renamed.get(letter, letter)}-{kind}".removesuffix("-") for letter, kind in parts)
            names = tuple("O" if label in ("O", "o") else next(rest) for label in labels)
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"the tag {twice} in two spellings")
            return Notation(scheme, names)
    raise ValueError(f"tags of no scheme: {', '.join(sorted(used))} together")


@dataclass(frozen=True)
class Scheme:
    """Rules by which tags make chunks; every array has one entry per tag."""

    types: NDArray[np.int64]  # [C] type of chunk that the tag belongs to, or OUTSIDE
    opens: NDArray[np.bool_]  # [C] the tag always starts a chunk
    closes: NDArray[np.bool_]  # [C] the chunk never goes on after the tag
    strict: bool  # a chunk that does not open or does not close is none

    @classmethod
    def of(cls, labels: Sequence[str]) -> Scheme:
        """Scheme of the labels; that of raw tags where they follow none."""
        try:
            written = notation(tuple(labels))
        except ValueError:
            written = Notation(RAW, tuple(labels))
        raw = written.scheme == RAW
        names = [label if raw else label[2:] for label in written.labels]
        order = {name: number for number, name in enumerate(dict.fromkeys(names))}
        kinds = [OUTSIDE if label == "O" else order[name] for label, name in zip(written.labels, names, strict=True)]
        starts, ends = (("S",), ("S",)) if raw else (("B", "S", "U"), ("E", "S", "L", "U"))
        return cls(
            types=np.array(kinds, dtype=np.int64),
            opens=np.array([label.startswith(starts) for label in written.labels], dtype=np.bool_),
            closes=np.array([label.startswith(ends) for label in written.labels], dtype=np.bool_),
            strict=written.scheme in STRICT,
        )

    def chunks(self, tags: NDArray[np.int64], sentence: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Type [W] of the chunk that starts at each word (OUTSIDE: none does), and the word [W] after its end."""
        starts, firsts, ends = self._runs(tags, sentence)
        if self.strict:
            starts[firsts[~self._whole(tags, firsts, ends)]] = OUTSIDE
        return starts, np.repeat(ends, ends - firsts)

    def misfit(self, tags: Sequence[int]) -> int | None:
        """First word of a sentence whose tag is not outside and belongs to no chunk, or None."""
        words = np.array(tags, dtype=np.int64)
        starts, firsts, ends = self._runs(words, np.zeros_like(words))
        broken = firsts[(starts[firsts] != OUTSIDE) & ~self._whole(words, firsts, ends)]
        return int(broken[0]) if self.strict and len(broken) else None

    def _runs(self, tags: NDArray[np.int64], sentence: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Types [W] as of `chunks` before the strict rule; first words [R] of runs, and words [R] after them."""
        types = self.types[tags]
        fresh = np.diff(sentence, prepend=-1) != 0
        turns = np.diff(types, prepend=OUTSIDE) != 0
        closed = np.concatenate([[False], self.closes[tags[:-1]]]) if len(tags) else np.zeros(0, dtype=np.bool_)
        cuts = fresh | turns | self.opens[tags] | closed
        firsts = np.flatnonzero(cuts)
        return np.where(cuts, types, OUTSIDE), firsts, np.append(firsts, len(tags))[1:]

    def _whole(self, tags: NDArray[np.int64], firsts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.opens[tags[firsts]] & self.closes[tags[ends - 1]]


def chunk_counts(
    predicted: NDArray[Any], gold: NDArray[Any], sentence: NDArray[Any], sentences: int, labels: Sequence[str]
) -> NDArray[np.float64]:
    """Counts [N, 3] of (right, predicted, gold) chunks per sentence, from tags [W] and sentence numbers [W]."""
    scheme = Scheme.of(labels)
    predicted_types, predicted_ends = scheme.chunks(predicted, sentence)
    gold_types, gold_ends = scheme.chunks(gold, sentence)
    right = (predicted_types == gold_types) & (predicted_types != OUTSIDE) & (predicted_ends == gold_ends)
    counted = (right, predicted_types != OUTSIDE, gold_types != OUTSIDE)
    counts = [np.bincount(sentence, weights=mask, minlength=sentences) for mask in counted]
    return np.stack(counts, axis=1).astype(np.float64)  # bincount of nothing is of integers


def micro_scores(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """F1, precision and recall, each [...], from sums [..., 3] of (right, predicted, gold); 0 where there is none.

    F1 is twice the right ones over all predicted and gold ones.
    """
    right, predicted, gold = np.moveaxis(sums, -1, 0)
    parts = {"f1": (2 * right, predicted + gold), "precision": (right, predicted), "recall": (right, gold)}
    return {
        name: np.divide(share, total, out=np.zeros_like(total), where=total > 0)
        for name, (share, total) in parts.items()
    }


def tagged(row: Row) -> list[int]:
    """Tags of a row's words, without IGNORED."""
    return [tag for tag in row["tags"] if tag != IGNORED]


def flat(tags: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tags [W] of all words, and their sentence numbers [W]."""
    lengths = np.array([len(sentence) for sentence in tags], dtype=np.int64)
    return np.concatenate([np.zeros(0, np.int64), *tags]).astype(np.int64), np.repeat(np.arange(len(tags)), lengths)


def word_reading(tokenizer: Any) -> tuple[str, int]:
    """(text that a word inside a sentence begins with, token of a word that has no subword)."""
    together, first, second, spaced = subwords(tokenizer, ["a b", "a", "b", " b"])
    # Tokenizers that keep the space with the word (byte-level BPE) know a word inside a sentence by its leading space.
    space = " " if together != first + second and together == first + spaced else ""
    return space, tokenizer.pad_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id


def _word_subwords(tokenizer: Any, words: Sequence[str]) -> dict[str, list[int]]:
    """Subwords of each distinct word as it stands inside a sentence; at least one."""
    space, unknown = word_reading(tokenizer)
    distinct = list(dict.fromkeys(words))
    pieces = subwords(tokenizer, [space + word for word in distinct])
    return {word: piece or [unknown] for word, piece in zip(distinct, pieces, strict=True)}


def _split(lengths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Ranges of words whose subwords fit into `room` together; they cover all words."""
    start, filled = 0, 0
    for word, length in enumerate(lengths):
        if filled and filled + length > room:
            yield start, word
            start, filled = word, 0
        filled += length
    yield start, len(lengths)


WORD_NAMES = ("words", "tokens", "token", "form", "forms")
TAG_NAMES = ("tags", "ner_tags", "ner", "upos", "pos_tags", "pos", "labels", "label")


def _word_columns(sample: Sample) -> list[str]:
    """Columns that may hold the words."""
    if sample.form in NUMBERED_COLUMNS:
        return [NUMBERED_COLUMNS[sample.form]["words"]]
    return [name for name in [sample.named(*WORD_NAMES)] if name]


def _tag_column(columns: Mapping[str, Column], sample: Sample) -> str | None:
    """Column of the tags: the last one of entity tags; else by its name, or its place in the format; or None."""
    few = [name for name, column in columns.items() if column.values is not None and len(column.values) > 1]
    for name in reversed(few):
        try:
            if notation(tuple(columns[name].values or ())).scheme != RAW:
                return name
        except ValueError:
            continue
    usual = sample.named(*TAG_NAMES) or NUMBERED_COLUMNS.get(sample.form, {}).get("tags")
    return usual if usual in few else few[-1] if few and sample.form == "conll" else None


class TokenFamily(Family):
    """Tag of every word: [CLS] subwords of the words [SEP]; the tag is on a word's first subword, else IGNORED.

    Row: words: list[str], tags: list[int] (IGNORED: a word without tag, which is read and not scored). Targets: one per
    token. Output: [L] predicted tag of every token. Prediction: a tag for every word that has one, array or list.
    """

    name = "token"
    also_called = ("tagging", "ner", "pos", "token_classification", "sequence_labelling", "sequence_labeling")
    metric = "f1"
    further_metrics = ("precision", "recall")
    columns = ("words", "tags")
    reading_keys = ("omit", "omit_empty")
    labels = "named"
    classed = "word"
    probe = "tokens"

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Lists of words and of tags: of a column format, or by their names."""
        lists = {name: column for name, column in sample.columns.items() if column.lists and not column.mappings}
        words = next((name for name in _word_columns(sample) if name in lists), None)
        tags = _tag_column({name: column for name, column in lists.items() if name != words}, sample)
        if words is None or tags is None:
            return None
        count = len(lists[tags].values or ())
        why = f"{count} tags in {sample.rows:,} sentences"
        if tags.isdecimal():
            why += f", from column {tags}"
        return Guess({"words": words, "tags": tags}, ALONE, why, tags)

    def row(self, columns: Columns, raw: Row, where: str) -> Row | None:
        """Row of words and their tags' integers, without those in `omit`. Raises DataError with the word's line."""
        tags = columns.value(raw, "tags", where)
        if not isinstance(tags, (list, tuple)):
            raise DataError(where, f"{type(tags).__name__} {tags!r} as tags", "a list of tags is expected")
        words = columns.texts(raw, "words", where)
        if len(words) != len(tags):
            raise DataError(where, f"{len(words)} words but {len(tags)} tags", "a tag for every word is expected")
        kept, places, numbers = list[int](), list[str](), list[int]()
        for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
            if (columns.omit and spelling(tag) in columns.omit) or (columns.omit_empty and not word.strip()):
                continue
            at = _of_word(raw, where, number)
            if not word:
                expected = "give it a word, or leave such words out with `omit_empty: true` beside `columns`"
                raise DataError(at, f"an empty word, number {number + 1} of its sentence", expected)
            kept.append(number)
            places.append(at)
            numbers.append(columns.tag(tag, at))
        _refuse_misfit(columns.labels, numbers, places)
        if (columns.omit or columns.omit_empty) and not kept:
            return None
        return {"words": [words[number] for number in kept], "tags": numbers}

    def label_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Entity tags as their scheme writes them. Raises ValueError where they follow no one scheme."""
        return notation(names).labels

    def labels_to_read(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """All labels: the scheme depends on them, and whether tags make an entity on the scheme."""
        return labels

    def scheme(self, labels: tuple[str, ...]) -> str | None:
        """IOB, IOE, IOBES, BILOU, or "none" for raw tags."""
        return notation(labels).scheme

    def classes(self, row: Row) -> Sequence[int]:
        """Tags of its words, without IGNORED."""
        return tagged(row)

    def guess_tokens(self, row: Row) -> float:
        """Estimate from the bytes of its words, at least one token each."""
        return 2 + sum(max(1.0, len(word.encode()) / BYTES_PER_TOKEN) for word in row["words"])

    def readable(self, row: Row) -> dict[str, str]:
        """Its words, with spaces between them."""
        return {"words": " ".join(row["words"])}

    def shown(self, row: Row, number: int, prediction: Prediction, task: Task) -> tuple[str, str]:
        """Tags of its words that have one, with spaces between them."""
        gold, predicted = (" ".join([task.labels[tag] for tag in tags]) for tags in (tagged(row), prediction))
        return gold, predicted

    def contents(self, row: Row) -> Iterable[str]:
        """Its sentence."""
        return (" ".join(row["words"]),)

    def strata(self, rows: Sequence[Row]) -> Sequence[int]:
        """The rarest tag of each sentence."""
        tags_of = [tagged(row) for row in rows]
        counts = Counter(tag for tags in tags_of for tag in tags)
        return [min(tags, key=lambda tag: (counts[tag], tag), default=IGNORED) for tags in tags_of]

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Class of each token."""
        return HeadSpec("token", len(labels))

    def metrics(self, labels: Sequence[str] | None = None) -> Sequence[Metric]:
        """Precision and recall of chunks, accuracy of words."""
        return [*super().metrics(labels), ClassMetric(self, "accuracy")]

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
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
            pieces_of = _word_subwords(tokenizer, [word for row in part for word in row["words"]])
            for number, row in enumerate(part, start):
                # The end of a word longer than a whole sequence is cut; its tag is on its first subword.
                pieces = [pieces_of[word][:room] for word in row["words"]]
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
        """Tags of each row's words that have one, from the predicted tag [L] of every token."""
        if not outputs:
            return []
        shown = encoded.targets != IGNORED
        words = np.bincount(np.repeat(encoded.example, encoded.lengths())[shown], minlength=encoded.examples)
        return np.split(np.concatenate(outputs)[shown].astype(np.int64), np.cumsum(words)[:-1])

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """Statistics [N, 3]: (right, predicted, gold) chunks. Raises ValueError where a row lacks tags."""
        gold, of_word = flat([tagged(row) for row in rows])
        predicted, of_prediction = flat(predictions)
        if not np.array_equal(of_word, of_prediction):
            raise ValueError("every word has one predicted tag")
        return chunk_counts(predicted, gold, of_word, len(rows), task.labels)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Micro F1 [...] of chunks; 0 where there is none."""
        return micro_scores(sums)["f1"]

    def details(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """F1, precision and recall of chunks, each [...]."""
        return micro_scores(sums)

    def constants(self, rows: Sequence[Row], labels: Sequence[str]) -> Iterator[list[Prediction]]:
        """Every word with the most frequent tag."""
        tags = [tagged(row) for row in rows]
        gold, _ = flat(tags)
        if len(gold):
            most = int(np.bincount(gold).argmax())
            yield [[most] * len(sentence) for sentence in tags]

    def gold(self, row: Row, number: int) -> Prediction:
        """Tags of its words, without IGNORED."""
        return tagged(row)

    def predictions_text(self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task) -> str:
        """Lines of one tag, with a blank line between sentences."""
        lines = [f"{label}\n" for label in task.labels]
        return "\n".join("".join([lines[tag] for tag in sentence]) for sentence in predictions)

    def read_files(self, predictions: Path, labels: Path, task: Task) -> Pair:
        """Tags of both files; tags that the task's labels lack are scored, too. Raises DataError."""
        gold, predicted = file_lines(labels), file_lines(predictions)
        _same_sentences(predicted, predictions, gold, labels)
        names = list(dict.fromkeys([*task.labels, *sorted(set(gold) - {""}), NO_ENTITY]))
        try:
            notation(tuple(names))
        except ValueError as error:
            expected = "the tags of one scheme are expected, such as B-PER and I-PER"
            raise DataError(labels, str(error), expected) from error
        numbers = {name.strip(): number for number, name in enumerate(names)}
        words = np.array([bool(tag) for tag in gold], dtype=np.bool_)
        # Blank line b is followed by sentence b + 1, which begins after the words before it.
        cuts = np.cumsum(words)[~words]
        tags = [
            np.split(np.array(numbered([tag for tag in side if tag], numbers, path, side), dtype=np.int64), cuts)
            for side, path in ((gold, labels), (predicted, predictions))
        ]
        rows: list[Row] = [{"tags": sentence} for sentence in tags[0]] if gold else []
        return Pair(replace(task, labels=tuple(names)), rows, tags[1])


NO_ENTITY = "O"  # the official taggers have it as a class, whatever the tag set


def _of_word(raw: Row, where: str, number: int) -> str:
    """Place of a word where the file has each on a line of its own, else that of its row."""
    return f"{where.rpartition(':')[0]}:{raw[LINES][number]}" if LINES in raw else where


def _refuse_misfit(labels: tuple[str, ...], tags: Sequence[int], places: Sequence[str]) -> None:
    """Raises DataError for tags that make no entity in a scheme whose entities have an end."""
    scheme = notation(labels).scheme
    if scheme not in STRICT:
        return
    shown = [(tag, at) for tag, at in zip(tags, places, strict=True) if tag != IGNORED]
    misfit = _scheme(labels).misfit([tag for tag, _ in shown])
    if misfit is not None:
        tag, at = shown[misfit]
        expected = (
            f"an entity in {scheme} is {STRICT[scheme]}, all of one type: correct the file, or spell its tags as those"
            " of IOB2 in `labels`, such as {B-PER: [B-PER, S-PER, U-PER], I-PER: [I-PER, E-PER, L-PER]}"
        )
        raise DataError(at, f"the tag {labels[tag]} outside of an entity", expected)


@lru_cache(maxsize=16)
def _scheme(labels: tuple[str, ...]) -> Scheme:
    return Scheme.of(labels)


def _same_sentences(predicted: Sequence[str], predictions: Path, gold: Sequence[str], labels: Path) -> None:
    for number, (tag, gold_tag) in enumerate(zip(predicted, gold, strict=False), start=1):
        if (not tag) != (not gold_tag):
            problem, expected = ("a tag", "a blank line") if tag else ("a blank line", "a tag")
            raise DataError(f"{predictions}:{number}", problem, f"{expected} is expected, as at {labels}:{number}")
    same_length(predicted, predictions, gold, labels)


TOKEN = TokenFamily()
