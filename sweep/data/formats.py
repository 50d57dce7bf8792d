"""File formats: from a data file to raw rows, each with the number of the line (or record) where it begins.

A raw row has the file's own column names; sweep.data.columns says what they mean. Text is UTF-8, with or without a byte
order mark, and is never normalised. Names ending in .gz and .bz2 are decompressed. Malformed files raise DataError with
`file:line`, what was found and what is expected.

CoNLL-U divides a written word such as "zum" into syntactic words. XTREME puts it together again: the tag is that of the
word nearest to the root, and of equally near ones that whose tag comes first in a list. After conllu_to_conll.py
(--replace_subtokens_with_fused_forms) and utils_preprocess.py of google-research/xtreme.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from sweep.data.files import document, parquet_rows, parsed, text_lines
from sweep.errors import DataError

Raw = dict[str, Any]
LINES = "# lines"  # line numbers of the words, in formats with a word on a line; no column's name
Numbered = Iterator[tuple[int, Raw]]
UNIT = "# unit"  # name of the document or passage of a raw row, where a format has one; no column's name

csv.field_size_limit(2**31 - 1)  # of characters; the library's 131072 is less than a long document


@dataclass(frozen=True)
class Layout:
    """Details of a format that a file does not tell itself. Comments name the formats that a field is for."""

    header: tuple[str, ...] = ()  # csv, tsv: column names of a file that has none on its first line
    quoting: bool | None = None  # csv, tsv: whether " encloses a field; None: yes in csv, no in tsv
    lines: tuple[str, ...] = ()  # blocks: the names of a record's lines
    numbers: tuple[int, ...] = ()  # conllu, conll: the columns to keep, counted from 1; they are named "1", "2", ...
    pair: Path | None = None  # parallel: the file whose line n translates line n; comparable: the pivot side
    gold: Path | None = None  # comparable: ids of translations; mentions: JSON of {mention: [entity]}
    language: str = ""  # conllu-written: the language, some of which rank parts of speech in their own way


def read(path: Path, form: str, layout: Layout = Layout()) -> Numbered:
    """(number, raw row) of every row: the number of its line, or of its record in parquet and squad, from 1.

    `form` is a key of READERS. Raises DataError.
    """
    return READERS[form](path, layout)


def _json_lines(path: Path, _layout: Layout) -> Numbered:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        expected = "write one JSON object per line"
        try:
            row = parsed(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}", f"a line that is not JSON ({error})", expected) from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}", f"a JSON {type(row).__name__}", expected)
        yield number, row


def _separated(path: Path, layout: Layout, separator: str, quoting: bool) -> Numbered:
    # Not pyarrow.csv, which has no line numbers, reads the broken `"a"b` as ab without a word, ends lines at a carriage
    # return alone and refuses a field larger than its block. It reads 1.7 to 2.2 times as fast (60 MB, 500,000 rows),
    # but reading fields is 4% of checking and encoding rows, and importing it takes 0.25 s: more than it saves on files
    # of less than some 350,000 rows.
    records = _quoted(path, separator) if quoting else _literal(path, separator)
    header = list(layout.header)
    for number, fields in records:
        if not header:
            header = fields
            if len(set(header)) < len(header):
                raise DataError(f"{path}:{number}", "a header with the same name twice", "give the names as `header`")
        elif len(fields) != len(header):
            quotes = "" if quoting else " (with quoting off; set `quoting: true` if quotes enclose fields)"
            expected = f"a row has {len(header)}: {', '.join(header)}{quotes}"
            raise DataError(f"{path}:{number}", f"{len(fields)} fields", expected)
        else:
            yield number, dict(zip(header, fields, strict=True))


def _literal(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in text_lines(path):
        if line:
            yield number, line.split(separator)


def _quoted(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for _, line in text_lines(path)), delimiter=separator, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            expected = "close the quote, or set `quoting: false` where quotes are literal"
            raise DataError(f"{path}:{first}", f"a row with broken quotes ({error})", expected) from error
        if fields is None:
            return
        if fields:
            yield first, fields


def _csv(path: Path, layout: Layout) -> Numbered:
    return _separated(path, layout, ",", layout.quoting is not False)


def _tsv(path: Path, layout: Layout) -> Numbered:
    return _separated(path, layout, "\t", layout.quoting is True)


def _parquet(path: Path, _layout: Layout) -> Numbered:
    return parquet_rows(path)


def _squad(path: Path, _layout: Layout) -> Numbered:
    content = document(path)
    number = 0
    at = "data"
    try:
        for a, article in enumerate(content["data"]):
            for p, paragraph in enumerate(article["paragraphs"]):
                at = f"data[{a}].paragraphs[{p}]"
                for question in paragraph["qas"]:
                    number += 1
                    yield number, _question(article, paragraph, question)
    except (KeyError, TypeError) as error:
        expected = "SQuAD is data[].paragraphs[].{context, qas[].{id, question, answers[].{text, answer_start}}}"
        raise DataError(f"{path}: {at}", absent(error), expected) from error


def absent(error: Exception) -> str:
    """Description of the missing key or wrong type behind an error of reading a nested structure."""
    return f"no {error}" if isinstance(error, KeyError) else f"another structure ({error})"


def _question(article: Raw, paragraph: Raw, question: Raw) -> Raw:
    return {
        "id": question["id"],
        "title": article.get("title", ""),
        "context": paragraph["context"],
        "question": question["question"],
        "answers": question["answers"],
        "is_impossible": question.get("is_impossible", False),
    }


def _conllu(path: Path, layout: Layout) -> Numbered:
    """Reader of CoNLL-U. Word lines begin with an id; `1-2` (a multiword token) and `1.1` (empty) are skipped."""

    def words() -> Words:
        last, document = 0, None
        for number, line in text_lines(path):
            fields = line.split("\t")
            if not line.strip():
                last = 0
                yield number, None, document
            elif line.startswith("#"):
                document = _new_document(line, f"{path}:{number}") or document
            elif fields[0].isdecimal():
                if int(fields[0]) <= last:
                    expected = "the words of a sentence are numbered, and a blank line ends it"
                    raise DataError(f"{path}:{number}", f"word {fields[0]} after word {last}", expected)
                last = int(fields[0])
                yield number, fields, document
            elif not fields[0].replace("-", "").replace(".", "").isdecimal():
                expected = "a word line begins with its number and a tab (`format: conll` has no numbers)"
                raise DataError(f"{path}:{number}", repr(line[:40]), expected)

    return _sentences(path, words(), layout.numbers)


def _conll(path: Path, layout: Layout) -> Numbered:
    """Reader of columns separated by tabs, or by spaces in lines without a tab. `#` is a word here, no comment."""

    def words() -> Words:
        document = None
        for number, line in text_lines(path):
            if not line.strip() or line.startswith("-DOCSTART-"):
                yield number, None, document
                document = f"{path}:{number}" if line.strip() else document
            else:
                fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
                yield number, fields, document

    return _sentences(path, words(), layout.numbers)


Words = Iterator[
    tuple[int, list[str] | None, str | None]
]  # (line, fields of a word or None between sentences, document)


def _new_document(comment: str, place: str) -> str | None:
    """Document that a comment of CoNLL-U begins, by its id if it has one."""
    key, _, name = comment.removeprefix("#").partition("=")
    return name.strip() or place if key.split()[:1] == ["newdoc"] else None


def _within(unit: str | None) -> Raw:
    return {} if unit is None else {UNIT: unit}


def _sentences(path: Path, words: Words, columns: Sequence[int]) -> Numbered:
    kept: list[list[str]] = []
    lines: list[int] = []
    within = None
    for number, fields, unit in chain(words, [(0, None, None)]):
        if fields is None:
            if kept:
                values = map(list, zip(*kept, strict=True))
                yield lines[0], {**dict(zip(map(str, columns), values, strict=True)), LINES: lines, **_within(within)}
            kept, lines = [], []
            continue
        within = unit
        if len(fields) < max(columns):
            raise DataError(
                f"{path}:{number}", f"{len(fields)} columns", f"the description names column {max(columns)}"
            )
        kept.append([fields[column - 1] for column in columns])
        lines.append(number)


def _conllu_written(path: Path, layout: Layout) -> Numbered:
    """Reader of CoNLL-U with words as written, without sentences whose words were not published."""
    sentence: list[list[str]] = []
    first, document = 0, None
    for number, line in chain(text_lines(path), [(0, "")]):
        if line.startswith("#"):
            document = _new_document(line, f"{path}:{number}") or document
            continue
        if line.strip():
            fields = line.split("\t")
            if len(fields) != COLUMNS:
                expected = f"a line of CoNLL-U has {COLUMNS}, separated by tabs"
                raise DataError(f"{path}:{number}", f"{len(fields)} columns", expected)
            first = first if sentence else number
            sentence.append(fields)
        elif sentence:
            try:
                words, tags = written_words(sentence, layout.language)
            except ValueError as error:
                expected = "words numbered from 1 and ranges of them are expected, and a blank line after each sentence"
                raise DataError(f"{path}:{first}", str(error), expected) from error
            if is_whole(words):
                yield first, {"words": words, "tags": tags} | _within(document)
            sentence = []


def _panx(path: Path, _layout: Layout) -> Numbered:
    """Reader of WikiANN's own files: `en:word`, tab, tag. Lines of two columns without a colon are skipped."""
    words: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    for number, line in chain(text_lines(path), [(0, "")]):
        fields = line.strip().split("\t")
        if len(fields) == 2:
            _, colon, word = fields[0].partition(":")
            if colon:
                words.append(word.strip())
                tags.append(fields[1].strip())
                lines.append(number)
        elif words:
            yield lines[0], {"words": words, "tags": tags, LINES: lines}
            words, tags, lines = [], [], []


def _lines(path: Path, _layout: Layout) -> Numbered:
    for number, line in text_lines(path):
        if line.strip():
            yield number, {"text": line}


def _parallel(path: Path, layout: Layout) -> Numbered:
    assert layout.pair is not None  # a description without it is refused (sweep.tasks.describe)
    for line, translation in zip_longest(text_lines(path), text_lines(layout.pair)):
        if line is None or translation is None:
            shorter, at = (path, translation) if line is None else (layout.pair, line)
            expected = "the two files must have the same number of lines"
            raise DataError(f"{shorter}:{at[0]}", "fewer lines than in the other file", expected)
        yield line[0], {"text": line[1], "pair": translation[1]}


def _blocks(path: Path, layout: Layout) -> Numbered:
    block: list[str] = []
    number = 0
    for number, line in text_lines(path):
        block.append(line)
        if len(block) == len(layout.lines):
            yield number - len(block) + 1, dict(zip(layout.lines, block, strict=True))
            block = []
    if any(line.strip() for line in block):
        expected = f"a record has {len(layout.lines)} lines: {', '.join(layout.lines)}"
        raise DataError(f"{path}:{number}", f"the end of the file after {len(block)} lines of a record", expected)


Reader = Callable[[Path, Layout], Numbered]
READERS: dict[str, Reader] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "squad": _squad,
    "conllu": _conllu,
    "conllu-written": _conllu_written,
    "conll": _conll,
    "panx": _panx,
    "lines": _lines,
    "parallel": _parallel,
    "blocks": _blocks,
}


_DEFAULT = "VERB NOUN PROPN PRON ADJ NUM ADV INTJ AUX ADP DET PART CCONJ SCONJ X PUNCT"
_BY_LANGUAGE = {
    "es": "VERB AUX PRON ADP DET",
    "fr": "VERB AUX PRON NOUN ADJ ADV ADP DET PART SCONJ CONJ",
    "it": "VERB AUX ADV PRON ADP DET INTJ",
}
COLUMNS = 10
NO_BREAK = "\u200c"  # a zero-width non-joiner, which Persian has inside words


def written_words(lines: Sequence[Sequence[str]], language: str) -> tuple[list[str], list[str]]:
    """(words, UPOS tags) of a sentence from its lines' 10 fields; a surface token 1-2 replaces the words 1 and 2.

    The tag is that of the head word, as in XTREME (see the module). Raises
    ValueError where a word occurs twice, or a surface token has parts that no other line is.
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
    """Whether a sentence's words were published: withheld ones are `_`. One `_` among others is a word."""
    withheld = sum(word == "_" for word in words)
    return withheld == 0 or withheld < len(words) - 1


def _parents(fields: Sequence[str]) -> set[str]:
    """Heads in the tree and in the enhanced graph, without empty nodes."""
    enhanced = [pair.split(":")[0] for pair in fields[8].split("|")] if fields[8] != "_" else []
    return {fields[6], *(head for head in enhanced if head.isdecimal())}


def _head(span: Sequence[str], tags: Mapping[str, str], above: Mapping[str, set[str]], order: Sequence[str]) -> str:
    """Word with the fewest nodes above it, then of the highest ranking tag, then the first."""
    depth = {word: len(_ancestors(word, above)) for word in span}
    nearest = [word for word in span if depth[word] == min(depth.values())]
    rank = {tag: number for number, tag in enumerate(order)}
    return min(nearest, key=lambda word: rank.get(tags[word], len(rank)))


def _ancestors(word: str, above: Mapping[str, set[str]]) -> set[str]:
    ancestors: set[str] = set()
    frontier = [word]
    while frontier:
        new = above.get(frontier.pop(), set()) - ancestors
        ancestors |= new
        frontier += new
    return ancestors - {word}
