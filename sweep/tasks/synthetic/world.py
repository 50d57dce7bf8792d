"""World of the embedded benchmark: concepts, events, and seven languages that express them.

In one minute. The world has six topics (say farm, sea, market). A topic has its own beings, things, places and actions.
Beings have habits: each prefers some actions, things and places, so words have distributions that a language model can
learn. An action has an opposite (open, close) and a usual consequence; beings have a kind (dog: animal). Some beings
have names (a person's two words), some are organisations (a word and the city they sit in). A `Fact` is one event:
agent, action, thing and perhaps a quality, a place and a negation. A `Language` expresses a fact in its own word order
and with its own word forms.

A concept is an integer. Every concept has one form in the pivot language; another language shares that form with the
pivot for a part of the concepts (`Language.shared`) and has a form of its own, found in no other language, for the
rest. The shared sets are nested (a word that a far language shares, the nearer ones share too) and spread evenly over
the word classes.

Random numbers come from `random.Random.random` alone, the one method whose sequence Python promises to keep between
versions. Tasks are in rows.py, which makes rows of these facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import TypeVar

Item = TypeVar("Item")
Phrase = tuple[int, ...]  # concepts in the order in which a noun phrase or a name is spoken in the pivot
Members = dict[str, tuple[tuple[int, ...], ...]]  # word class -> topic -> concepts
Piece = tuple[str, Phrase]  # a role in the sentence, and what fills it

TOPICS = 6


@dataclass(frozen=True)
class Language:
    """Language by its differences from the pivot. Its code has word order and share: in sov55 verbs follow objects."""

    code: str
    order: str  # of subject, verb and object
    shared: float  # share of the concepts whose form is the pivot's
    raw: int  # documents of raw text
    adjective_first: bool = True  # otherwise the quality follows its noun


PIVOT = Language("pivot", "SVO", 1.0, 5000)
LANGUAGES: tuple[Language, ...] = (
    PIVOT,
    Language("svo85", "SVO", 0.85, 3000),
    Language("svo70", "SVO", 0.70, 2500, adjective_first=False),
    Language("sov55", "SOV", 0.55, 2500),
    Language("vso40", "VSO", 0.40, 2000, adjective_first=False),
    Language("sov25", "SOV", 0.25, 1500),
    Language("vso10", "VSO", 0.10, 1000, adjective_first=False),
)
LANGUAGE = {language.code: language for language in LANGUAGES}

# word class -> how many concepts: per topic, or in all where the class has no topic
PER_TOPIC = {"being": 6, "thing": 6, "place": 3, "action": 4, "kind": 1}
IN_ALL = {"given": 12, "family": 10, "city": 10, "institution": 6, "quality": 12}
FUNCTION = ("who", "at", "and", "so", "not", "what", "because", "where")  # the first are shared most widely


@dataclass(frozen=True)
class Fact:
    """One event: somebody does something to a thing, perhaps of some quality, perhaps somewhere."""

    agent: Phrase  # (being,), (kind,), (given, family) or (institution, city)
    action: int
    thing: int
    quality: int | None = None
    place: Phrase | None = None  # (place,) or (city,)
    negated: bool = False


@dataclass(frozen=True)
class World:
    """Concepts by class, habits and word forms, all drawn from one seed. Use `world_of(seed)`."""

    classes: tuple[str, ...]  # [concepts] word class of every concept
    topics: tuple[int, ...]  # [concepts] topic of every concept, 0 where its class has none
    members: Members  # class -> topic -> concepts (a class without topics has one)
    habits: dict[tuple[int, str], tuple[int, ...]]  # (concept, class) -> concepts of that class, the preferred first
    forms: dict[str, tuple[str, ...]]  # language code -> [concepts] word form
    function: dict[str, int]  # "not" -> its concept

    def opposite(self, concept: int) -> int:
        """Opposite of an action or quality; they come in pairs."""
        group = self.members[self.classes[concept]][self.topic(concept)]
        return group[group.index(concept) ^ 1]

    def consequence(self, action: int) -> int:
        """Action that usually follows: the first pair of a topic leads to the second, and that one back."""
        group = self.members["action"][self.topic(action)]
        return group[(group.index(action) + 2) % 4]

    def topic(self, concept: int) -> int:
        """Topic of a concept; 0 where its class has no topics."""
        return self.topics[concept]

    def kind(self, concept: int) -> int:
        """Concept of the kind of beings that a topic has."""
        return self.members["kind"][self.topic(concept)][0]


@cache
def world_of(seed: int) -> World:
    """The world of a seed. Fast (milliseconds) and the same in every process."""
    random = Random(f"world/{seed}")
    classes: list[str] = []
    homes: list[int] = []
    members: Members = {}
    counts = [(name, TOPICS, n) for name, n in PER_TOPIC.items()] + [(name, 1, n) for name, n in IN_ALL.items()]
    for name, topics, count in [*counts, ("function", 1, len(FUNCTION))]:
        start = len(classes)
        members[name] = tuple(tuple(range(start + t * count, start + (t + 1) * count)) for t in range(topics))
        classes += [name] * (topics * count)
        homes += [topic for topic in range(topics) for _ in range(count)]
    return World(
        classes=tuple(classes),
        topics=tuple(homes),
        members=members,
        habits=_habits(members, random),
        forms=_forms(members, len(classes), random),
        function=dict(zip(FUNCTION, members["function"][0], strict=True)),
    )


def _habits(members: Members, random: Random) -> dict[tuple[int, str], tuple[int, ...]]:
    habits: dict[tuple[int, str], tuple[int, ...]] = {}
    for topic in range(TOPICS):
        own = {name: members[name][topic] for name in PER_TOPIC}
        for being in own["being"]:
            for name in ("action", "thing", "place"):
                habits[being, name] = tuple(shuffled(own[name], random))
            habits[being, "city"] = tuple(shuffled(members["city"][0], random)[:3])
        for action in own["action"]:
            habits[action, "thing"] = tuple(shuffled(own["thing"], random))
        for thing in own["thing"]:
            habits[thing, "quality"] = tuple(shuffled(members["quality"][0], random)[:4])
    for name in ("given", "institution"):  # a named one behaves like one being, and keeps to few cities
        for index, concept in enumerate(members[name][0]):
            group = members["being"][index % TOPICS]
            habits[concept, "being"] = (pick(group, random),)
            habits[concept, "city"] = tuple(shuffled(members["city"][0], random)[:3])
    for given in members["given"][0]:
        habits[given, "family"] = tuple(shuffled(members["family"][0], random)[:3])
    return habits


def _forms(members: Members, concepts: int, random: Random) -> dict[str, tuple[str, ...]]:
    """Word forms of every language; `depth` orders the concepts of a class by how far their form has spread."""
    depth = [0.0] * concepts
    for name, groups in members.items():
        spread = [concept for group in groups for concept in group]
        if name != "function":
            spread = shuffled(spread, random)
        for rank, concept in enumerate(spread):
            depth[concept] = (rank + 0.5) / len(spread)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = shuffled([a + b + c for a in syllables for b in syllables for c in ("", "n", "r", "s")], random)
    supply = iter(words)
    pivot = tuple(next(supply) for _ in range(concepts))
    return {
        language.code: tuple(
            pivot[concept] if depth[concept] < language.shared else next(supply) for concept in range(concepts)
        )
        for language in LANGUAGES
    }


def pick(items: Sequence[Item], random: Random) -> Item:
    """One of the items, all equally likely."""
    return items[int(random.random() * len(items))]


def prefer(items: Sequence[Item], random: Random) -> Item:
    """One of the items, each about half as likely as the one before it."""
    share = random.random()
    for item in items[:-1]:
        if share < 0.5:
            return item
        share = 2 * share - 1
    return items[-1]


def shuffled(items: Sequence[Item], random: Random) -> list[Item]:
    """The items in random order."""
    keys = [random.random() for _ in items]
    return [items[position] for position in sorted(range(len(items)), key=keys.__getitem__)]


def draw_agent(world: World, topic: int, random: Random, named: float = 0.3) -> Phrase:
    """A being of the topic, or with probability `named` a person or an organisation that lives in it."""
    share = random.random()
    if share >= named:
        return (pick(world.members["being"][topic], random),)
    name = "given" if share < named * 2 / 3 else "institution"
    first = pick(world.members[name][0][topic::TOPICS], random)
    second = "family" if name == "given" else "city"
    return first, prefer(world.habits[first, second], random)


def draw_fact(world: World, topic: int, random: Random, agent: Phrase | None = None, action: int | None = None) -> Fact:
    """An event of the topic, after the habits of its agent."""
    agent = agent or draw_agent(world, topic, random)
    being = world.habits.get((agent[0], "being"), agent)[0]
    if action is None:
        action = prefer(world.habits[being, "action"], random)
    owner = being if random.random() < 0.5 else action
    thing = prefer(world.habits[owner, "thing"], random)
    quality = prefer(world.habits[thing, "quality"], random) if random.random() < 0.4 else None
    place = None
    if random.random() < 0.6:
        owner, name = (agent[0], "city") if random.random() < 0.3 else (being, "place")
        place = (prefer(world.habits[owner, name], random),)
    return Fact(agent, action, thing, quality, place)


def say(world: World, fact: Fact, language: Language, fronted: bool = False) -> list[Piece]:
    """The pieces of a sentence in the language's order: (role, concepts).

    Roles: agent, action, thing, place, and marker for the words between. `fronted` puts the place first.
    """
    noun: Phrase = (fact.thing,)
    if fact.quality is not None:
        noun = (fact.quality, fact.thing) if language.adjective_first else (fact.thing, fact.quality)
    action: list[Piece] = [("action", (fact.action,))]
    if fact.negated:
        action.insert(0, ("marker", (world.function["not"],)))
    parts: dict[str, list[Piece]] = {"S": [("agent", fact.agent)], "V": action, "O": [("thing", noun)]}
    clause = [piece for letter in language.order for piece in parts[letter]]
    if fact.place is None:
        return clause
    where: list[Piece] = [("marker", (world.function["at"],)), ("place", fact.place)]
    return where + clause if fronted else clause + where


def entailed(world: World, fact: Fact, random: Random) -> Fact:
    """Weaker fact that this one entails: no place, no quality, a kind for its agent."""
    weaker = fact
    if random.random() < 0.5:
        weaker = replace(weaker, place=None)
    if random.random() < 0.5:
        weaker = replace(weaker, quality=None)
    if len(fact.agent) == 1 and random.random() < 0.4:
        weaker = replace(weaker, agent=(world.kind(fact.agent[0]),))
    return weaker


def contradicted(world: World, fact: Fact, random: Random) -> Fact:
    """Fact that contradicts this one: an opposite, or its negation."""
    share = random.random()
    if fact.quality is not None and share < 0.3:
        return replace(fact, quality=world.opposite(fact.quality))
    if share < 0.8:
        return replace(fact, action=world.opposite(fact.action))
    return replace(fact, negated=True)


def neutral(world: World, fact: Fact, premise: Fact, random: Random) -> Fact:
    """Fact that may be so or not: another thing, or an agent that neither this fact nor `premise` has."""
    topic = world.topic(fact.thing)
    if random.random() < 0.5:
        return replace(
            fact, thing=pick([thing for thing in world.members["thing"][topic] if thing != fact.thing], random)
        )
    while (agent := draw_agent(world, topic, random)) in (fact.agent, premise.agent):
        pass
    return replace(fact, agent=agent)


def passage(world: World, topic: int, random: Random, facts: int) -> list[Fact]:
    """Facts of one topic with different agents, actions or things, so that a question has one answer."""
    chosen: list[Fact] = []
    while len(chosen) < facts:
        fact = draw_fact(world, topic, random)
        if all(
            fact.agent[0] != old.agent[0] and (fact.action, fact.thing) != (old.action, old.thing) for old in chosen
        ):
            chosen.append(fact)
    return chosen
