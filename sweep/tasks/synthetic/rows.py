"""Rows of the embedded benchmark: for every task, how a meaning is drawn and how a language writes it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from sweep.data import Row
from sweep.tasks.synthetic.world import (
    FUNCTION,
    PIVOT,
    TOPICS,
    Fact,
    Language,
    Phrase,
    Piece,
    World,
    contradicted,
    draw_agent,
    draw_fact,
    entailed,
    neutral,
    passage,
    pick,
    say,
    shuffled,
)

POS_LABELS = ("NOUN", "VERB", "ADJ", "PROPN", "ADP", "PART", "CCONJ", "PUNCT")
NER_LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")

Tagger = Callable[[World, Phrase, int], int]
Meaning = tuple[Any, ...]  # facts and choices with a stable repr: what a row says, in every language


def _words(world: World, pieces: list[Piece], language: Language) -> list[str]:
    forms = world.forms[language.code]
    return [forms[concept] for _, phrase in pieces for concept in phrase]


def _text(world: World, language: Language, *facts: Fact, fronted: bool = False) -> str:
    return " ".join(" ".join(_words(world, say(world, fact, language, fronted), language)) + "." for fact in facts)


def _any_topic(random: Random) -> int:
    return pick(range(TOPICS), random)


# --- sequence
def draw_nli(world: World, random: Random, index: int) -> Meaning:
    """A fact and a hypothesis about it, mostly of common beings."""
    return _inference(world, random, index % 3, 0.2)


def draw_rte(world: World, random: Random, index: int) -> Meaning:
    """Another genre: news of people and organisations; neutral and contradicted are one label."""
    *facts, _ = _inference(world, random, pick((1, 2), random) if index % 2 else 0, 0.8)
    return *facts, index % 2


def _inference(world: World, random: Random, label: int, named: float) -> Meaning:
    """A fact, a hypothesis about it, and the label: 0 entailed, 1 neither, 2 contradicted."""
    while True:
        topic = _any_topic(random)
        premise = draw_fact(world, topic, random, draw_agent(world, topic, random, named))
        hypothesis = entailed(world, premise, random)
        if label == 1:
            hypothesis = neutral(world, hypothesis, premise, random)
        elif label == 2:
            hypothesis = contradicted(world, hypothesis, random)
        if hypothesis != premise:
            return premise, hypothesis, label


def nli_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Premise and hypothesis as a pair of texts."""
    premise, hypothesis, label = meaning
    return {"text": _text(world, language, premise), "pair": _text(world, language, hypothesis), "label": label}


def rte_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Premise with its place in front, and hypothesis."""
    return {**nli_row(world, meaning, language), "text": _text(world, language, meaning[0], fronted=True)}


def draw_paraphrase(world: World, random: Random, index: int) -> Meaning:
    """A fact, and the same fact or one with another agent or thing; one of the two begins with its place."""
    while (fact := draw_fact(world, _any_topic(random), random)).place is None:
        pass
    second = fact if index % 2 else neutral(world, fact, fact, random)
    return fact, second, random.random() < 0.5, index % 2


def paraphrase_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Two texts."""
    fact, second, fronted, label = meaning
    text, pair = _text(world, language, fact, fronted=fronted), _text(world, language, second, fronted=not fronted)
    return {"text": text, "pair": pair, "label": label}


def draw_topic(world: World, random: Random, index: int) -> Meaning:
    """Two facts of a topic and a stray one, in any order."""
    topic = index % TOPICS
    stray = (topic + 1 + int(random.random() * (TOPICS - 1))) % TOPICS
    facts = [draw_fact(world, where, random) for where in (topic, topic, stray)]
    order = shuffled(range(3), random)
    return *(facts[position] for position in order), topic


def topic_row(world: World, meaning: Meaning, language: Language) -> Row:
    """One text."""
    *facts, topic = meaning
    return {"text": _text(world, language, *facts), "pair": None, "label": topic}


# --- choice
def draw_copa(world: World, random: Random, index: int) -> Meaning:
    """A fact, what usually follows (or went before), and the opposite of that."""
    fact = draw_fact(world, _any_topic(random), random)
    link = pick(("so", "because"), random)
    likely = draw_fact(world, world.topic(fact.action), random, fact.agent, world.consequence(fact.action))
    options = [likely, replace(likely, action=world.opposite(likely.action))]
    label = index % 2
    return fact, link, options[label], options[1 - label], label


def copa_row(world: World, meaning: Meaning, language: Language) -> Row:
    """A prompt that ends in `so` or `because`, and two ways to go on."""
    fact, link, first, second, label = meaning
    prompt = f"{_text(world, language, fact)[:-1]} {world.forms[language.code][world.function[link]]}"
    options = [_text(world, language, option) for option in (first, second)]
    return {"prompt": prompt, "options": options, "label": label}


# --- token

PART_OF_SPEECH = {
    **dict.fromkeys(("being", "thing", "place", "kind", "institution"), "NOUN"),
    **dict.fromkeys(("given", "family", "city"), "PROPN"),
    "action": "VERB",
    "quality": "ADJ",
}
FUNCTION_TAGS = {"not": "PART", "and": "CCONJ"}


def draw_sentence(world: World, random: Random, index: int) -> Meaning:
    """One or two facts joined by `and`, with many names."""
    topic = _any_topic(random)
    facts = [draw_fact(world, topic, random, draw_agent(world, topic, random, named=0.5)) for _ in range(1 + index % 2)]
    return tuple(replace(fact, negated=random.random() < 0.15) for fact in facts)


def _tagged(world: World, meaning: Meaning, language: Language, tag: Tagger, end: int) -> Row:
    """Words and tags of facts joined by `and`, with a full stop tagged `end`."""
    words: list[str] = []
    tags: list[int] = []
    for number, fact in enumerate(meaning):
        joint: list[Piece] = [("marker", (world.function["and"],))] if number else []
        for _, phrase in joint + say(world, fact, language):
            words += [world.forms[language.code][concept] for concept in phrase]
            tags += [tag(world, phrase, position) for position in range(len(phrase))]
    return {"words": [*words, "."], "tags": [*tags, end]}


def _pos_tag(world: World, phrase: Phrase, position: int) -> int:
    name = world.classes[phrase[position]]
    if name == "function":
        return POS_LABELS.index(FUNCTION_TAGS.get(FUNCTION[world.members[name][0].index(phrase[position])], "ADP"))
    return POS_LABELS.index(PART_OF_SPEECH[name])


def _ner_tag(world: World, phrase: Phrase, position: int) -> int:
    kind = {"given": "PER", "institution": "ORG", "city": "LOC"}.get(world.classes[phrase[0]])
    return NER_LABELS.index(f"{'I' if position else 'B'}-{kind}") if kind else 0


def pos_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Words and their parts of speech."""
    return _tagged(world, meaning, language, _pos_tag, POS_LABELS.index("PUNCT"))


def ner_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Words and the entities that they begin or continue."""
    return _tagged(world, meaning, language, _ner_tag, 0)


# --- span

ASKED = {"who": "agent", "what": "thing", "where": "place"}


def _question(world: World, random: Random, facts: int, answerable: bool) -> Meaning:
    """Facts, the fact that is asked for, the question word, and the index of the answering fact (-1: none)."""
    context = passage(world, _any_topic(random), random, facts)
    subject = pick(context, random)
    word = _question_word(subject, random)
    if answerable:
        return *context, subject, word, context.index(subject)
    if word == "who":
        question = replace(subject, action=world.opposite(subject.action))
        answered = any((fact.action, fact.thing) == (question.action, question.thing) for fact in context)
    else:
        question = replace(subject, agent=draw_agent(world, world.topic(subject.action), random))
        answered = any(fact.agent[0] == question.agent[0] for fact in context)
    return _question(world, random, facts, False) if answered else (*context, question, word, -1)


def _question_word(fact: Fact, random: Random) -> str:
    return pick([word for word in ASKED if word != "where" or fact.place], random)


def draw_qa(world: World, random: Random, index: int) -> Meaning:
    """A question about one of two or three facts; every fifth has no answer."""
    return _question(world, random, 2 + index % 2, index % 5 != 4)


def draw_qa_small(world: World, random: Random, _index: int) -> Meaning:
    """A question about one of two facts."""
    return _question(world, random, 2, True)


def qa_row(world: World, meaning: Meaning, language: Language) -> Row:
    """Context, question, and the answer with its offset in the context; `id` is added by the source."""
    *facts, question, word, answer = meaning
    context, answers = "", []
    for number, fact in enumerate(facts):
        for role, phrase in say(world, fact, language):
            words = " ".join(world.forms[language.code][concept] for concept in phrase)
            if number == answer and role == ASKED[word]:
                answers.append({"text": words, "start": len(context)})
            context += words + " "
        context = context[:-1] + ". "
    return {"context": context[:-1], "question": _asked(world, question, word, language), "answers": answers}


def _asked(world: World, fact: Fact, word: str, language: Language) -> str:
    """Question: the question word comes first, the piece that it replaces is left out."""
    fact = replace(fact, place=fact.place if word == "where" else None)
    gone = ("marker", "place") if word == "where" else (ASKED[word],)
    kept = [piece for piece in say(world, fact, language) if piece[0] not in gone]
    return " ".join(_words(world, [("marker", (world.function[word],)), *kept], language)) + "?"


# --- embedding and raw text
def draw_pair(world: World, random: Random, _index: int) -> Meaning:
    """A fact."""
    return (draw_fact(world, _any_topic(random), random),)


def pair_row(world: World, meaning: Meaning, language: Language) -> Row:
    """The fact in a language and in the pivot."""
    return {"text": _text(world, language, *meaning), "pair": _text(world, PIVOT, *meaning)}


def draw_story(world: World, random: Random, _index: int) -> Meaning:
    """(how, fact) pairs: one to three sentences follow the first; deeds have consequences, and people repeat and ask.

    `how` is "." (a new sentence), "so" or "because" (linked to the one before), or a question word: the fact before is
    asked for and the answer given.
    """
    topic = _any_topic(random)
    fact = draw_fact(world, topic, random)
    story = [(".", fact)]
    for _ in range(1 + int(random.random() * 3)):
        share = random.random()
        if share < 0.2:
            fact = draw_fact(world, topic, random, fact.agent, world.consequence(fact.action))
            story.append((pick(("so", "because"), random), fact))
        elif share < 0.45:
            story.append((".", entailed(world, fact, random)))
        elif share < 0.6:
            story.append((".", replace(fact, action=world.opposite(fact.action), negated=True)))
        elif share < 0.8:
            story.append((_question_word(fact, random), fact))
        else:
            fact = draw_fact(world, topic, random)
            story.append((".", fact))
    return tuple(story)


def story_row(world: World, meaning: Meaning, language: Language) -> Row:
    """One text."""
    forms, text = world.forms[language.code], ""
    for how, fact in meaning:
        if how in ASKED:
            answer = next(phrase for role, phrase in say(world, fact, language) if role == ASKED[how])
            text += f" {_asked(world, fact, how, language)} {' '.join(forms[concept] for concept in answer)}."
        elif how == ".":
            text += " " + _text(world, language, fact)
        else:
            text = f"{text[:-1]} {forms[world.function[how]]} {_text(world, language, fact)}"
    return {"text": text.strip()}
