"""A treebank's sentence as XTREME tags it: words as they are written, each with one part of speech.

CoNLL-U divides a written word such as "zum" into syntactic words. XTREME puts it together again: the tag is that of the
word nearest to the root, and where several are equally near the one whose tag comes first in a list. After
conllu_to_conll.py (--replace_subtokens_with_fused_forms) and utils_preprocess.py of google-research/xtreme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_DEFAULT = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
_BY_LANGUAGE = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
COLUMNS = 10
NO_BREAK = "\u200c"  # a zero-width non-joiner, which Persian has inside words


def written_words(lines: Sequence[Sequence[str]], language: str) -> tuple[list[str], list[str]]:
    """(words, UPOS tags) from the fields [10] of a sentence's lines: words 1, written words 1-2, empty nodes 1.1.

    Raises ValueError where a word stands twice, or a written word has parts that no other line is.
    """
    words = {fields[0]: fields[1] for fields in lines if fields[0].isdecimal()}
    tags = {fields[0]: fields[3] for fields in lines if fields[0].isdecimal()}
    above = {fields[0]: _parents(fields) for fields in lines if fields[0].isdecimal()}
    if len(words) < sum(fields[0].isdecimal() for fields in lines):
        raise ValueError("a sentence with the same word number twice")
    order = _BY_LANGUAGE.get(language, _DEFAULT).split()
    for fields in lines:
        first, dash, last = fields[0].partition("-")
        if dash:
            numbered = first.isdecimal() and last.isdecimal()
            span = [str(number) for number in range(int(first), int(last) + 1)] if numbered else []
            if not span or not set(span) <= set(words):
                raise ValueError(f"the written word {fields[0]} in a sentence of the words {', '.join(words)}")
            head = _head(span, tags, above, order)
            words[head] = fields[1]
            for part in span:
                if part != head:
                    del words[part]
    forms = [form.replace(NO_BREAK, "").replace(" ", "") for form in words.values()]
    return forms, [tags[word] for word in words]


def is_whole(words: Sequence[str]) -> bool:
    """Whether the sentence's words were published: where they were not, they are `_`. One that remains is none."""
    withheld = sum(word == "_" for word in words)
    return withheld == 0 or withheld < len(words) - 1


def _parents(fields: Sequence[str]) -> set[str]:
    """Heads in the tree and in the enhanced graph, whose empty nodes do not count."""
    enhanced = [pair.split(":")[0] for pair in fields[8].split("|")] if fields[8] != "_" else []
    return {fields[6], *(head for head in enhanced if head.isdecimal())}


def _head(span: Sequence[str], tags: Mapping[str, str], above: Mapping[str, set[str]], order: Sequence[str]) -> str:
    """The word with the fewest nodes above it, then the one whose tag ranks first, then the first."""
    depth = {word: len(_ancestors(word, above)) for word in span}
    nearest = [word for word in span if depth[word] == min(depth.values())]
    rank = {tag: number for number, tag in enumerate(order)}
    return min(nearest, key=lambda word: rank.get(tags[word], len(rank)))


def _ancestors(word: str, above: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [word]
    while waiting:
        new = above.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found - {word}
