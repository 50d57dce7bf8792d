"""What a family has to itself: truncation, chunks, windows, decoding, direction. Shared facts: test_families."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from family_cases import BIO, UPOS, WORDS, statistics, task_of, text
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import normalizers

from sweep.data import IGNORED, Row
from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.tasks.classification import CHOICE, SEQUENCE
from sweep.tasks.masked_lm import MASKED
from sweep.tasks.question_answering import SPAN, best_span, in_form
from sweep.tasks.retrieval import EMBEDDING
from sweep.tasks.tagging import TOKEN, Notation, chunk_counts, notation


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return small_tokenizer(request.param, [" ".join(WORDS)] * 20)


def sequences(encoded: Encoded) -> list[list[int]]:
    return [part.tolist() for part in np.split(encoded.tokens, encoded.bounds[1:-1])]


def windows(encoded: Encoded) -> list[np.ndarray]:
    assert encoded.offsets is not None
    return np.split(encoded.offsets, encoded.bounds[1:-1])


# sequence and choice


@pytest.mark.parametrize("max_length", [9, 20, 33, 400])
def test_pairs_are_framed_and_cut_as_the_tokenizer_itself_would(tokenizer: Any, max_length: int) -> None:
    rows: list[Row] = [
        {"text": text(first), "pair": text(second), "label": 0} for first in (1, 8, 25) for second in (1, 9, 24)
    ]
    encoded = from_sequences(SEQUENCE.encode(rows, tokenizer, max_length))
    texts, pairs = [row["text"] for row in rows], [row["pair"] for row in rows]
    wanted = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    assert sequences(encoded) == wanted["input_ids"]
    if encoded.segments is not None:
        assert encoded.segments.tolist() == [kind for kinds in wanted["token_type_ids"] for kind in kinds]


def test_a_prompt_is_cut_from_its_front_and_the_option_stays_whole(tokenizer: Any) -> None:
    row = {"prompt": text(60), "options": ["bo teko", text(5)], "label": 0}
    encoded = from_sequences(CHOICE.encode([row], tokenizer, 40))
    prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    for tokens, option in zip(sequences(encoded), row["options"], strict=True):
        whole = tokenizer(row["prompt"], option)["input_ids"]
        assert tokens == [whole[0], *whole[1 + len(whole) - 40 :]]
        assert set(prompt) >= set(tokens[1:10])


def test_the_first_of_equal_options_is_the_answer(tokenizer: Any) -> None:
    rows = [{"prompt": "a", "options": ["b"] * 3, "label": label} for label in (0, 1)]
    encoded = from_sequences(CHOICE.encode(rows, tokenizer, 40))
    outputs = [np.array([score]) for score in (2.0, 2.0, 1.0, 0.0, 2.0, 2.0)]
    assert CHOICE.predict(outputs, encoded, rows, ()) == [0, 1]
    assert statistics(CHOICE, outputs, encoded, rows).tolist() == [[1, 1], [1, 1]]


# token


def counts(gold: str, predicted: str) -> list[float]:
    """(right, predicted, gold) chunks of one sentence."""
    wanted, found = gold.split(), predicted.split()
    labels = sorted({*wanted, *found})
    arrays = [np.array([labels.index(tag) for tag in tags]) for tags in (found, wanted)]
    return chunk_counts(*arrays, np.zeros(len(wanted), np.int64), 1, labels)[0].tolist()


@pytest.mark.parametrize(
    ("gold", "predicted", "wanted"),
    [
        ("NOUN NOUN VERB", "NOUN NOUN VERB", [2, 2, 2]),  # a run is one chunk
        ("NOUN NOUN VERB", "NOUN ADJ VERB", [1, 3, 2]),
        ("SCONJ SCONJ VERB", "SCONJ SCONJ SCONJ", [2, 3, 3]),  # S tags stand alone
        ("B-PER I-PER O", "I-PER I-PER O", [1, 1, 1]),  # an I- without B- starts a chunk
        ("B-PER I-PER", "B-PER B-PER", [0, 2, 1]),
        ("B-PER I-LOC", "B-PER I-PER", [0, 1, 2]),  # a change of type starts one too
        ("B-PER O I-PER", "B-PER O B-PER", [2, 2, 2]),
        ("O O", "O O", [0, 0, 0]),
        ("S-PER S-PER O", "B-PER E-PER O", [0, 1, 2]),
    ],
)
def test_chunks(gold: str, predicted: str, wanted: list[float]) -> None:
    assert counts(gold, predicted) == wanted


def chunks_one_by_one(tags: list[str]) -> set[tuple[str, int, int]]:
    """The rules of both kinds of tags, read aloud."""
    found, start = set(), None
    for place, tag in enumerate([*tags, "O"]):
        kind = tag.split("-")[-1]
        before = tags[place - 1] if place else "O"
        raw_single = "-" not in tag and tag.startswith("S")
        fresh = tag.startswith("B-") or raw_single or kind != before.split("-")[-1]
        if start is not None and (tag == "O" or fresh):
            found.add((before.split("-")[-1], start, place))
            start = None
        if tag != "O" and fresh:
            start = place
    return found


@pytest.mark.parametrize("labels", [UPOS, BIO])
def test_chunks_are_those_of_the_rules_applied_one_by_one(labels: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    sentence = np.sort(rng.integers(0, 300, size=3000))
    predicted, gold = rng.integers(0, len(labels), size=(2, 3000))
    fast = chunk_counts(predicted, gold, sentence, 300, labels)
    for number in range(300):
        found, wanted = (
            chunks_one_by_one([labels[tag] for tag in tags[sentence == number]]) for tags in (predicted, gold)
        )
        assert fast[number].tolist() == [len(found & wanted), len(found), len(wanted)]


@pytest.mark.parametrize(
    ("labels", "gold", "predicted", "f1"),  # of seqeval 1.2.2, mode "strict" with the scheme named
    [
        ("O B-P I-P E-P S-P", "B-P E-P S-P B-P I-P E-P O", "B-P E-P S-P B-P I-P I-P O", 0.8),  # no end, no entity
        ("O B-P I-P L-P U-P", "U-P U-P O B-P L-P", "U-P B-P O B-P L-P", 0.8),
        ("O B-P I-P L-P U-P", "B-P L-P B-P L-P O", "B-P I-P I-P L-P O", 0.0),
        ("O B-P I-P L-P U-P B-L L-L", "B-P L-P O B-L L-L", "B-P L-L O B-L L-L", 2 / 3),  # one type from end to end
        ("O B_P I_P L_P U_P", "U_P U_P O", "U_P U_P O", 1.0),
        ("o b-p m-p e-p w-p", "b-p e-p w-p o", "b-p e-p b-p o", 2 / 3),
        ("O P-B P-I", "P-B P-I O P-B", "P-B P-I O O", 2 / 3),
        ("O B I", "B I O B", "B I O O", 2 / 3),
    ],
)
def test_entities_of_other_schemes_are_scored_as_seqeval_does(labels: str, gold: str, predicted: str, f1: float):
    names = labels.split()
    row = {"tags": [names.index(tag) for tag in gold.split()]}
    found = TOKEN.judge([[names.index(tag) for tag in predicted.split()]], [row], task_of(TOKEN, tuple(names)), "en")
    assert TOKEN.value(found.sum(axis=0)) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("labels", "scheme", "written"),
    [
        ("O B-PER I-PER", "IOB", "O B-PER I-PER"),
        ("o b_per i_per", "IOB", "O B-per I-per"),
        ("PER-B PER-I LOC-NEW-B O", "IOB", "B-PER I-PER B-LOC-NEW O"),
        ("I-PER E-PER O", "IOE", "I-PER E-PER O"),
        ("O B-X I-X E-X S-X", "IOBES", "O B-X I-X E-X S-X"),
        ("O B-X M-X E-X W-X", "IOBES", "O B-X I-X E-X S-X"),
        ("O B-X I-X L-X U-X", "BILOU", "O B-X I-X L-X U-X"),
        ("B M E S", "IOBES", "B I E S"),
        ("ADJ NOUN SCONJ SYM", "none", "ADJ NOUN SCONJ SYM"),
        ("N O V S L B I", "none", "N O V S L B I"),  # one letter each, of which N and V are of no scheme
        ("B-NOUN B-VERB NUM", "none", "B-NOUN B-VERB NUM"),
        ("noun_s noun_p verb", "none", "noun_s noun_p verb"),
        ("S[dcl]\\NP N/N O", "none", "S[dcl]\\NP N/N O"),
    ],
)
def test_the_scheme_of_labels_is_recognised_in_every_spelling_and_parts_of_speech_have_none(labels, scheme, written):
    assert notation(tuple(labels.split())) == Notation(scheme, tuple(written.split()))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("O B-PER I-PER MISC", "entity tags, and 'MISC', which is none"),
        ("OTHER B-PER I-PER", "entity tags, and 'OTHER', which is none"),
        ("none PER_B PER_I", "entity tags, and 'none', which is none"),
        ("O B-PER b_PER", "the tag B-PER in two spellings|entity tags in several spellings"),
        ("O B-PER I_PER", "entity tags in several spellings"),
        ("O B-X L-X E-X", "tags of no scheme: B, E, L together"),
    ],
)
def test_labels_of_which_some_are_entity_tags_are_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        notation(tuple(labels.split()))


def test_a_word_without_tag_is_read_and_neither_trained_nor_scored(tokenizer: Any) -> None:
    rows = [{"words": ["bo", "teko", "bo"], "tags": [1, IGNORED, 2]}, {"words": ["bo"], "tags": [IGNORED]}]
    encoded = from_sequences(TOKEN.encode(rows, tokenizer, 60))
    assert encoded.targets[encoded.targets != IGNORED].tolist() == [1, 2]
    outputs = [np.where(part == IGNORED, 0, part) for part in np.split(encoded.targets, encoded.bounds[1:-1])]
    found = TOKEN.predict(outputs, encoded, rows, BIO)
    assert [tags.tolist() for tags in found] == [[1, 2], []]
    task = task_of(TOKEN, BIO)
    assert TOKEN.judge(found, rows, task, "en").tolist() == [[1, 1, 1], [0, 0, 0]]  # B-PER I-PER: one entity
    assert TOKEN.chance_level(rows, encoded, task, "en") == 0.0
    assert TOKEN.predictions_text(found, rows, task) == TOKEN.labels_text(rows, task) == "B-PER\nI-PER\n\n"


def test_a_tag_is_on_the_first_subword_of_its_word(tokenizer: Any) -> None:
    words = ["bo", "damusufida", "\u200c", "teko"]
    encoded = from_sequences(TOKEN.encode([{"words": words, "tags": [0, 1, 2, 3]}], tokenizer, 128))
    places = np.flatnonzero(encoded.targets != IGNORED)
    assert encoded.targets[places].tolist() == [0, 1, 2, 3]
    heads = tokenizer.convert_ids_to_tokens(encoded.tokens[places])
    assert all(word.startswith(head.strip("▁Ġ")) for word, head in zip(words[:2], heads[:2], strict=True))


def test_words_are_split_as_in_running_text() -> None:
    for kind in KINDS:
        known = small_tokenizer(kind, [" ".join(WORDS)] * 20)
        words = text(12).split()
        encoded = from_sequences(TOKEN.encode([{"words": ["bo", *words], "tags": [0] * 13}], known, 128))
        running = known(" ".join(["bo", *words]))["input_ids"]
        inner = len(known.tokenize(" ".join(words)))
        assert sequences(encoded)[0][-inner + 2 :] == running[-inner + 2 :]


def test_a_long_sentence_is_split_between_words_and_a_word_longer_than_that_loses_its_end(tokenizer: Any) -> None:
    words = [*text(30).split(), "damusufida" * 9, *text(3).split()]
    row = {"words": words, "tags": list(range(len(words)))}
    encoded = from_sequences(TOKEN.encode([row], tokenizer, 12))
    assert encoded.lengths().max() == 12
    assert encoded.targets[encoded.targets != IGNORED].tolist() == row["tags"]
    inside = [part[part != IGNORED] for part in np.split(encoded.targets, encoded.bounds[1:-1])]
    assert all(len(tags) for tags in inside)


def test_a_prediction_must_tag_every_word() -> None:
    rows = [{"words": ["bo", "teko"], "tags": [0, 1]}, {"words": ["bo"], "tags": [0]}]
    assert TOKEN.judge([[0, 1], [1]], rows, task_of(TOKEN, UPOS), "en").tolist() == [[2, 2, 2], [0, 1, 1]]
    with pytest.raises(ValueError, match="every word"):
        TOKEN.judge([[0], [1, 1]], rows, task_of(TOKEN, UPOS), "en")


# span


def test_targets_and_offsets_point_at_the_answer_in_the_context_as_written(tokenizer: Any) -> None:
    words = text(150).split()
    for first in (0, 70, 149):
        start = sum(len(word) + 1 for word in words[:first])
        answers = [{"text": words[first], "start": start}]
        row = {"id": "1", "context": " ".join(words), "question": "bo?", "answers": answers}
        encoded = from_sequences(SPAN.encode([row], tokenizer, 100))
        targets = encoded.targets.reshape(-1, 2)
        assert len(targets) > 3
        assert targets.any(axis=1).any()
        for offsets, (begin, end) in zip(windows(encoded), targets, strict=True):
            if end:
                assert row["context"][offsets[begin, 0] : offsets[end, 1]].strip() == words[first]


NORMALISED = {
    "NFC": normalizers.NFC(),
    "NFKC": normalizers.NFKC(),
    "NFD": normalizers.NFD(),
    "lower case without accents": normalizers.BertNormalizer(lowercase=True),
}


@pytest.mark.parametrize("normaliser", NORMALISED)
@pytest.mark.parametrize("kind", ["bert", "xlmr"])
@pytest.mark.parametrize(
    "answer",
    [
        "caf\u00e9",
        "cafe\u0301",
        "a\u0301\u0323",
        "\u1112\u1161\u11ab\u1100\u116e\u11a8",
        "\uff76\uff9e",
        "\ufb01n",
        "bo",
    ],
)
def test_answers_come_back_as_they_were_written_whatever_the_tokenizer_makes_of_them(answer, kind, normaliser):
    """Composed, decomposed, two marks, Hangul in jamo, half-width Katakana, a ligature."""
    known = small_tokenizer(kind, [" ".join([*WORDS, unicodedata.normalize("NFKC", answer)])] * 20)
    known.backend_tokenizer.normalizer = NORMALISED[normaliser]
    rows: list[Row] = []
    for number, (before, after) in enumerate((("", ""), ("bo ", " teko"), ("e\u0301 ", " e\u0301"))):
        answers = [{"text": answer, "start": len(before)}]
        rows.append({"id": str(number), "context": before + answer + after, "question": "bo", "answers": answers})
    encoded = from_sequences(SPAN.encode(rows, known, 60))
    outputs = []
    for length, (start, end) in zip(encoded.lengths(), encoded.targets.reshape(-1, 2), strict=True):
        logits = np.zeros((length, 2))
        logits[start, 0] = logits[end, 1] = 9
        outputs.append(logits)
    assert SPAN.predict(outputs, encoded, rows, ()) == [answer] * len(rows)


@pytest.mark.parametrize(
    ("context", "answer", "said"),
    [
        (
            "le cafe\u0301 noir",
            {"text": "caf\u00e9", "start": 3},
            "the context is in Unicode form NFD, the answer in NFC",
        ),
        (
            "le caf\u00e9 noir",
            {"text": "cafe\u0301", "start": 3},
            "the context is in Unicode form NFC, the answer in NFD",
        ),
        ("cafe\u0301 noir", {"text": "noir", "start": 5}, "the context is in Unicode form NFD, the answer in NFC"),
    ],
)
def test_an_answer_in_another_normal_form_is_named_with_the_key_that_helps(context, answer, said):
    row: Row = {"id": "1", "context": context, "question": "bo", "answers": [answer]}
    problem = str(SPAN.check(row, ()))
    assert said in problem
    assert "`normal_form: NFC` beside `columns` reads both alike" in problem
    assert SPAN.check(in_form(row, "NFC"), ()) is None
    row["answers"] = [{"text": "teko", "start": 3}]
    assert "normal_form" not in str(SPAN.check(row, ()))


def test_windows_of_384_start_128_tokens_apart_and_cover_the_context(tokenizer: Any) -> None:
    row: Row = {"id": "1", "context": text(400), "question": text(90), "answers": []}
    encoded = from_sequences(SPAN.encode([row], tokenizer, 384))
    context = tokenizer(row["context"], add_special_tokens=False)["input_ids"]
    special = tokenizer.num_special_tokens_to_add(pair=True)
    starts = range(0, len(context), 128)
    for tokens, offsets, start in zip(sequences(encoded), windows(encoded), starts, strict=False):
        inside = offsets[:, 0] >= 0
        room = 384 - special - 64  # the question is cut to 64
        assert np.array(tokens)[inside].tolist() == context[start : start + room]
    assert sequences(encoded)[-1][-2] == context[-1]
    assert set(encoded.targets.tolist()) == {0}


def test_an_answer_cut_by_a_window_is_not_in_it(tokenizer: Any) -> None:
    words = text(100).split()
    row = {"id": "1", "context": " ".join(words), "question": "bo", "answers": [{"text": " ".join(words), "start": 0}]}
    encoded = from_sequences(SPAN.encode([row], tokenizer, 60))
    assert set(encoded.targets.tolist()) == {0}


def test_the_best_span_is_in_the_context_in_order_and_at_most_30_tokens_long() -> None:
    offsets = np.array([(-1, -1), *((place, place + 1) for place in range(50)), (-1, -1)], dtype=np.int32)
    logits = np.zeros((52, 2))
    logits[0] = logits[51] = 99  # outside the context
    logits[5, 0], logits[40, 1], logits[20, 1], logits[3, 1] = 9, 9, 5, 8
    assert best_span(logits, offsets) == (14.0, 4, 20)
    assert best_span(logits[:1], offsets[:1]) is None


def test_no_answer_wins_only_where_some_question_has_none(tokenizer: Any) -> None:
    rows: list[Row] = [
        {"id": "1", "context": "bo teko", "question": "bo", "answers": [{"text": "teko", "start": 3}]},
        {"id": "2", "context": "bo teko", "question": "bo", "answers": []},
    ]
    encoded = from_sequences(SPAN.encode(rows, tokenizer, 60))
    outputs = [np.zeros((length, 2)) for length in encoded.lengths()]
    for output in outputs:
        output[0] = 1
    assert SPAN.predict(outputs, encoded, rows, ()) == ["", ""]
    rows[1]["answers"] = rows[0]["answers"]
    assert "" not in SPAN.predict(outputs, encoded, rows, ())


def test_exact_match_is_told_beside_f1() -> None:
    details = SPAN.details(np.array([3.0, 1.0, 4.0]))
    assert {name: float(value) for name, value in details.items()} == {"f1": 0.75, "exact_match": 0.25}


# embedding


def test_each_pivot_sentence_looks_for_its_foreign_one() -> None:
    foreign, pivot = np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 0, 1]]
    outputs = list(np.stack([foreign, pivot], axis=1).reshape(6, 3))
    rows: list[Row] = [{"text": "a", "pair": "b"}] * 3
    encoded = Encoded(*(np.zeros(0),) * 2, np.repeat(np.arange(3), 2), *(np.zeros(0),) * 2)  # type: ignore[arg-type]
    assert statistics(EMBEDDING, outputs, encoded, rows).tolist() == [[1, 1], [0, 1], [0, 1]]


def test_a_row_may_say_which_foreign_sentence_is_its_own() -> None:
    rows: list[Row] = [{"text": "a", "pair": "b", "match": match} for match in (2, 0, 1)]
    assert EMBEDDING.judge([2, 1, 1], rows, task_of(EMBEDDING), "de").tolist() == [[1, 1], [0, 1], [1, 1]]


# masked


def test_special_and_unknown_tokens_are_never_masked(tokenizer: Any) -> None:
    encoded = from_sequences(MASKED.encode([{"text": f"bo \u4e00 {tokenizer.mask_token} teko"}], tokenizer, 60))
    special = np.isin(encoded.tokens, tokenizer.all_special_ids)
    np.testing.assert_array_equal(encoded.targets == 1, ~special)
    assert special.sum() >= 3


def test_a_long_line_is_several_sequences_of_one_example(tokenizer: Any) -> None:
    line = text(100)
    encoded = from_sequences(MASKED.encode([{"text": line}], tokenizer, 30))
    assert encoded.examples == 1
    assert len(encoded.example) > 3
    assert encoded.tokens[encoded.targets == 1].tolist() == tokenizer(line, add_special_tokens=False)["input_ids"]


def test_the_majority_of_questions_with_answers_is_the_best_blind_answer():
    """The first word is the answer: saying the first word always is worth everything, whatever was learned."""
    rows = [
        {"id": str(n), "context": f"{word} came by boat", "question": "who?", "answers": [{"text": word, "start": 0}]}
        for n, word in enumerate(["ann", "ben", "cleo"])
    ]
    none = np.zeros(0)
    assert SPAN.chance_level(rows, none, task_of(SPAN), "en") == 1.0
    last = [{**row, "answers": [{"text": "boat", "start": row["context"].index("boat")}]} for row in rows[:2]]
    assert SPAN.chance_level([*last, rows[2]], none, task_of(SPAN), "en") == pytest.approx(2 / 3)


def test_the_majority_of_mostly_unanswerable_questions_is_saying_nothing():
    rows = [{"id": "1", "context": "a b c d e f", "question": "?", "answers": []}] * 3
    rows += [{"id": "2", "context": "a b c d e f", "question": "?", "answers": [{"text": "d", "start": 6}]}]
    assert SPAN.chance_level(rows, np.zeros(0), task_of(SPAN), "en") == 0.75


def test_the_majority_of_masked_text_is_that_of_its_tokens_special_ones_left_out():
    encoded = from_sequences(
        [EncodedSequence([1, 7, 7, 8, 2], 0, [0, 1, 1, 1, 0]), EncodedSequence([1, 9, 2], 1, [0, 1, 0])]
    )
    assert MASKED.chance_level([{"text": "a a b"}, {"text": "c"}], encoded, task_of(MASKED), "en") == 0.5
