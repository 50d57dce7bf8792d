"""Draft of a study on a user's own files: each is looked at, and all that was found is written with its reason.

One `--target` or `--intermediate` is one data set: files that are read alike, of several splits and languages. Names of
files and folders, or columns, say which; families say themselves which columns are theirs (Family.guess_columns). What
cannot be decided is a StudyError or DataError with what would do, and nothing is written: a draft passes `sweep check`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import textwrap
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import sweep
from sweep.config.load import parse
from sweep.data.files import text_lines
from sweep.data.formats import Layout, read
from sweep.data.local import LocalSource
from sweep.data.retrieval_formats import FIXED_COLUMNS, NUMBERED_COLUMNS
from sweep.data.sample import HIDDEN, Sample, merged, sample
from sweep.errors import DataError, Mistakes
from sweep.plan.cost import Costs
from sweep.plan.data_facts import check_data
from sweep.plan.facts import NO_FACTS
from sweep.plan.order import summary
from sweep.plan.plan import Plan
from sweep.plan.resolve import look_up, make_plan
from sweep.plan.speed import Speed
from sweep.tasks import FAMILIES
from sweep.tasks.catalog import NAMES, THREE_LETTERS
from sweep.tasks.describe import own_task
from sweep.tasks.description import LocalReading
from sweep.tasks.table import TASKS
from sweep.tasks.task import Family, Guess

SOURCE = "en"
DEV_SHARE = 0.1
SMALL = 2000  # training rows below which one pass over them is few steps
HEADROOM = 1.5  # of the budget over the planned cost, for phases that are tried again
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "dev": ("dev", "val", "valid", "validation", "devel", "development", "trial"),
    "test": ("test", "tst", "testing", "eval", "evaluation", "heldout", "devtest"),
}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
LANGUAGE_COLUMNS, SPLIT_COLUMNS = ("language", "lang", "locale", "language_code"), ("split", "set", "partition")
NO_NAMES = (
    "data",
    "txt",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "conll",
    "conllu",
    "iob2",
    "parquet",
    "gz",
    "bz2",
    "all",
    "full",
)
TOKEN = re.compile(r"[a-z]{2,3}_[A-Z][a-z]{3}(?![a-z])|[a-z]{2,3}[-_][A-Z]{2}(?![A-Za-z])|[A-Za-z]+")
SCRIPT_OR_REGION = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3}|[-_][A-Z]{2})")
WORDS_TOO = (
    "am",
    "as",
    "be",
    "he",
    "is",
    "it",
    "my",
    "no",
    "or",
    "so",
    "to",
)  # codes that a lone name may have as words
_ISO_639_1 = (
    "aa ab af ak am ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cs cv cy da de dv dz ee el en eo es et eu fa"
    " ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ig ii ik is it iu ja jv ka kg ki kj kk kl km"
    " kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny"
    " oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th"
    " ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
TWO_LETTERS = frozenset(_ISO_639_1.split())
# Codes of three letters (ISO 639-2 and -3) beside those of Tatoeba, to the two letters that encoders are known by.
OTHER_CODES = {
    "eng": "en", "swa": "sw", "zho": "zh", "chi": "zh", "arb": "ar", "ekk": "et", "fas": "fa", "msa": "ms", "zsm": "ms",
    "hau": "ha", "ibo": "ig", "kin": "rw", "wol": "wo", "quy": "qu", "aym": "ay", "ayr": "ay", "hat": "ht", "amh": "am",
    "som": "so", "zul": "zu", "xho": "xh", "sna": "sn", "nya": "ny", "lug": "lg", "lin": "ln", "orm": "om", "gaz": "om",
    "bam": "bm", "twi": "tw", "ewe": "ee", "tsn": "tn", "npi": "ne", "nep": "ne", "sin": "si", "khm": "km", "mya": "my",
    "lao": "lo", "mon": "mn", "khk": "mn", "hye": "hy", "bel": "be", "cat": "ca", "ces": "cs", "cym": "cy", "dan": "da",
    "gle": "ga", "glg": "gl", "hrv": "hr", "isl": "is", "lav": "lv", "lvs": "lv", "mkd": "mk", "mlt": "mt", "nob": "nb",
    "nno": "nn", "slk": "sk", "slv": "sl", "sqi": "sq", "als": "sq", "srp": "sr", "swe": "sv", "bos": "bs", "jav": "jv",
    "sun": "su", "guj": "gu", "kan": "kn", "pan": "pa", "ory": "or", "asm": "as", "snd": "sd", "pus": "ps", "pbt": "ps",
    "yor": "yo", "tgk": "tg", "uzb": "uz", "uzn": "uz", "kir": "ky", "tuk": "tk", "tat": "tt", "uig": "ug", "grn": "gn",
}  # fmt: skip
LANGUAGES = {long: short for short, long in THREE_LETTERS.items()} | OTHER_CODES
BY_NAME = {name.lower(): code for code, name in NAMES.items()}


# ---- files: splits and languages -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Rows of one split in one language: a file, or rows of it that `keep` chooses."""

    path: str  # below the root
    split: str | None
    code: str  # language as the path, or a column, has it; "" where nothing says
    language: str  # in the study: of two letters where there are such; English where nothing says another
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pair: str | None = None  # file of the translations

    @cached_property
    def templates(self) -> tuple[str, str, tuple[tuple[str, tuple[str, ...]], ...]]:
        """Path, second path and kept values with {code} in place of the language's code."""
        kept = tuple((name, tuple("{code}" if value == self.code else value for value in values))
                     for name, values in self.keep.items())  # fmt: skip
        return _template(self.path, self.code), _template(self.pair or "", self.code), kept


def language_of(code: str) -> str:
    """Language of a code or name in files: eng, eng_Latn and English are en, as is none; an unknown code stays."""
    if not code:
        return SOURCE
    first = re.split("[_-]", code)[0]
    if first in TWO_LETTERS:
        return code if code[len(first) :].isupper() else first
    return BY_NAME.get(code.lower()) or LANGUAGES.get(first, code)


def _is_known(token: str) -> bool:
    return token in TWO_LETTERS or language_of(token) != token or SCRIPT_OR_REGION.fullmatch(token) is not None


def _template(path: str, code: str) -> str:
    """Path with {code} in place of a code; words that contain it stay."""
    return re.sub(rf"(?<![A-Za-z]){re.escape(code)}(?![A-Za-z])", "{code}", path) if code else path


def _split_in(path: str) -> str | None:
    """Split that a file's name says, or else its folders, the nearest first."""
    for part in reversed(path.split("/")):
        words = [word.lower() for token in TOKEN.findall(part) for word in re.split("(?<=[a-z])(?=[A-Z])", token)]
        found = [SPLIT_OF[word] for word in words if word in SPLIT_OF]
        if found:
            return found[-1]
    return None


def _codes(paths: Sequence[str]) -> list[str]:
    """Language code in each path, "" where there is none: a known one that not all paths have, or one in its place."""
    tokens = [
        [token for part in reversed(path.split("/")) for token in reversed(TOKEN.findall(part))] for path in paths
    ]
    known = [[token for token in found if _is_known(token)] for found in tokens]
    if len(paths) == 1:
        known = [[token for token in known[0] if token not in WORDS_TOO]]
    everywhere = set.intersection(*map(set, known)) if len(paths) > 1 else set()
    codes = [next((token for token in found if token not in everywhere), "") for found in known]
    if not any(codes):
        codes = [next(iter(found), "") for found in known]
    return _by_place(paths, codes)


def _by_place(paths: Sequence[str], codes: list[str]) -> list[str]:
    """Codes, with unknown ones of two or three letters that stand where others have known ones, or tell files apart."""
    short = [[token for token in re.findall(r"(?<![A-Za-z])[a-z]{2,3}(?![A-Za-z])", path) if token not in SPLIT_OF]
             for path in paths]  # fmt: skip
    places = {_template(path, code) for path, code in zip(paths, codes, strict=True) if code}
    if not places:
        counts = Counter(_template(path, token) for path, found in zip(paths, short, strict=True) for token in {*found})
        places = {place for place, count in counts.items() if count > 1}
    found_at = [next((token for token in found if _template(path, token) in places), "")
                for path, found in zip(paths, short, strict=True)]  # fmt: skip
    codes = [code or found for code, found in zip(codes, found_at, strict=True)]
    accepted = {code for code in codes if code}
    return [code or next((token for token in found if token in accepted), "")
            for code, found in zip(codes, short, strict=True)]  # fmt: skip


def _pieces(paths: Sequence[str], samples: Sequence[Sample], root: Path) -> list[Piece]:
    """Rows of each split in each language; codes of one language (zho_Hans, zho_Hant) stay as they are."""
    pieces = list(_found_pieces(paths, samples, root))
    codes: dict[Any, set[str]] = defaultdict(set)
    for piece in pieces:
        codes[piece.split, piece.language].add(piece.code)
    alike = {code for found in codes.values() if len(found - {""}) > 1 for code in found if code}
    return [replace(piece, language=piece.code) if piece.code in alike else piece for piece in pieces]


def _found_pieces(paths: Sequence[str], samples: Sequence[Sample], root: Path) -> Iterator[Piece]:
    codes = _codes(paths)
    for path, found, code in zip(paths, samples, codes, strict=True):
        by_split = found.named(*SPLIT_COLUMNS)
        if by_split is not None and not set(map(str.lower, found.columns[by_split].values or ("?",))) <= set(SPLIT_OF):
            by_split = None
        by_language = found.named(*LANGUAGE_COLUMNS) if not code else None
        if by_language is not None and not _are_languages(found, by_language):
            by_language = None
        names = [name for name in (by_split, by_language) if name]
        if not names:
            yield Piece(path, _split_in(path), code, language_of(code))
            continue
        rows = read(root / path, found.form, Layout(tuple(found.keys.get("header", ())), found.keys.get("quoting")))
        for values in Counter(tuple(str(row.get(name)) for name in names) for _, row in rows):
            said = dict(zip(names, values, strict=True))
            split = SPLIT_OF[said[by_split].lower()] if by_split else _split_in(path)
            language = said[by_language] if by_language else code
            yield Piece(path, split, language, language_of(language), {name: (value,) for name, value in said.items()})


def _are_languages(found: Sample, column: str) -> bool:
    values = found.columns[column].values
    return bool(values) and all(re.fullmatch(r"[A-Za-z]{2,3}([-_]\w+)?|[A-Z][a-z]+", value) for value in values or ())


def _translations(paths: Sequence[str], samples: Sequence[Sample], root: Path) -> list[Piece]:
    """Pieces of files of lines that translate an English one: alike but for the last code, as many, none blank."""
    known = [[token for token in TOKEN.findall(path) if _is_known(token)] for path in paths]
    if not all(known):
        return []
    codes = [tokens[-1] for tokens in known]
    english = {
        _without_last(path, code): (path, found.rows)
        for path, code, found in zip(paths, codes, samples, strict=True)
        if language_of(code) == SOURCE
    }
    pieces = []
    for path, code, found in zip(paths, codes, samples, strict=True):
        if language_of(code) != SOURCE:
            partner, rows = english.get(_without_last(path, code), ("", -1))
            if rows != found.rows or any(not line.strip() for _, line in text_lines(root / path)):
                return []
            pieces.append(Piece(path, _split_in(path), code, language_of(code), pair=partner))
    return pieces


def _without_last(path: str, code: str) -> str:
    before, _, after = path.rpartition(code)
    return f"{before}|{after}"


# ---- a data set ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """Description of a data set with the reason for each of its keys."""

    name: str
    family: Family
    keys: dict[str, Any]
    reasons: dict[str, str]
    others: list[str]  # comments: what else it may be, and what was left out
    rows: int  # of training data


def _draft(
    paths: Sequence[Path], root: Path, target: bool, families: Sequence[Family], taken: Collection[str]
) -> Draft:
    """Draft of a data set from its files. Raises SweepError."""
    mistakes, samples = Mistakes(), list[Sample]()
    for path in paths:
        with mistakes.collect():
            samples.append(sample(path))
    mistakes.raise_first()
    names = [Path(os.path.relpath(path, root)).as_posix() for path in paths]
    raw_text = {found.form for found in samples} == {"lines"}
    translated = raw_text and not any(family.raw_text for family in families)
    pieces = _translations(names, samples, root) if translated else []
    whole = replace(samples[0], form="parallel", columns={}) if pieces else _alike(paths, samples)
    guesses = _guesses(whole, families, target)
    if not guesses:
        raise DataError(paths[0], *_unrecognised(whole, target))
    family, guess = guesses[0]
    pieces = pieces or _pieces(names, samples, root)
    keys, reasons = _reading(whole, family, guess, paths[0])
    splits = _splits(pieces, family, target, paths[0])
    where, about = _where(splits, family)
    others = [_alternative(other, second) for other, second in guesses[1:] if second.sure >= guess.sure - 1]
    if whole.form == "parallel" and not target:
        others.append("lines of text that do not translate each other are of the family masked: --family masked")
    read = {*_used(splits, family, "train"), *_used(splits, family, "dev")}
    if left := sorted({piece.language for piece in splits["dev"] + splits["train"]} - read):
        others.append(f"not read: train and dev data in {', '.join(left[:5])}{', ...' if len(left) > 5 else ''};"
                      f" train_languages: {_yaml([_source(splits), *left[:1]])} would train in several")  # fmt: skip
    if pieces[0].code == "" and len(pieces) == 1:
        others.append("no language in its name: taken for English; train_language says another")
    by_path = dict(zip(names, samples, strict=True))
    trained = [piece for piece in splits["train"] if piece.language in _used(splits, family, "train")]
    rows = sum(by_path[name].rows for name in {piece.path for piece in trained})
    named = [root / piece.path for piece in splits["test" if target else "train"]]
    return _with_flags(
        Draft(_name(list(paths), named, taken), family, keys | where, reasons | about, others, rows), root
    )


def _alike(paths: Sequence[Path], samples: Sequence[Sample]) -> Sample:
    """Sample of all files, with the columns that all of them have. Raises DataError where they are not read alike."""
    first = samples[0]
    for path, other in zip(paths[1:], samples[1:], strict=True):
        apart = f"{_shape(other)}, while {paths[0]} is {_shape(first)}"
        expected = "files of one --target or --intermediate are read alike: leave this one out, or rename its columns"
        if (other.form, other.keys) != (first.form, first.keys) or not set(first.columns) & set(other.columns):
            raise DataError(path, apart, expected)
        if first.form == "conll" and first.columns.keys() != other.columns.keys():
            apart = f"{len(other.columns)} columns, while {paths[0]} has {len(first.columns)}"
            expected = "parts with columns of their own are described by hand (docs/data/tagging.md shows how)"
            raise DataError(path, apart, expected)
    common = [name for name in first.columns if all(name in other.columns for other in samples)]
    joined = merged(samples)
    return replace(joined, columns={name: joined.columns[name] for name in common})


def _shape(found: Sample) -> str:
    return f"{found.form} with the columns {', '.join([name for name in found.columns if '*' not in name][:8])}"


def _guesses(whole: Sample, families: Sequence[Family], target: bool) -> list[tuple[Family, Guess]]:
    """Families that may read it, the surest first; those that the user names before all others."""
    asked = [*families, *(family for family in FAMILIES.values() if family not in families)]
    found = [
        (family, guess)
        for family in asked
        if not (target and family.suffix is None) and (guess := family.guess_columns(whole)) is not None
    ]
    return sorted(found, key=lambda pair: (pair[0] not in families, -pair[1].sure))


def _unrecognised(whole: Sample, target: bool) -> tuple[str, str]:
    if whole.form == "lines" and target:
        expected = "give it as --intermediate (raw text is trained on, not scored), or with a translation of each line"
        return "lines of text", expected
    if [*whole.columns] == ["column1", "column2"] == [*whole.keys.get("header", ())] and whole.texts() == ["column2"]:
        expected = "comparable corpora (`family: mining`) are described by hand: docs/data/mining.md shows how"
        return "an id and a text on each line", expected
    columns = ", ".join(f"{name} ({_content(whole, name)})" for name in list(whole.columns)[:8])
    expected = "columns of a family are expected (docs/own-data.md shows them); --family NAME asks one by its own names"
    return f"columns that no family knows: {columns}", expected


def _content(whole: Sample, name: str) -> str:
    column = whole.columns[name]
    if column.lists or column.mappings:
        return "lists" if column.lists else "mappings"
    return "numbers" if column.numeric else "text" if column.reads_as_text else "values"


def _reading(whole: Sample, family: Family, guess: Guess, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys of how rows are read, and reasons."""
    keys: dict[str, Any] = {"family": family.name, "format": whole.form, **whole.keys}
    reasons = {"family": guess.why, "format": _format_reason(whole)}
    default = FIXED_COLUMNS.get(whole.form, ())
    if any(name != raw or raw not in default for name, raw in guess.columns.items()):
        numbered = whole.form in NUMBERED_COLUMNS
        keys["columns"] = {name: int(raw) if numbered else raw for name, raw in guess.columns.items()}
        reasons["columns"] = "the family's column: the file's"
    keys |= guess.keys
    if guess.label is not None:
        keys["labels"], hidden = _labels(whole, guess.label, path)
        reasons["labels"] = f"all values of column {guess.label}"
        if hidden and not whole.columns[guess.label].lists:
            keys["skip"] = {guess.label: hidden}
            reasons["skip"] = "rows without a label"
    blank = {raw: sorted(whole.columns[raw].blank) for name in family.columns for raw in _raw(guess.columns.get(name))
             if raw in whole.columns and whole.columns[raw].blank and raw != guess.label}  # fmt: skip
    if blank:
        keys["skip"] = {**keys.get("skip", {}), **blank}
        reasons["skip"] = "rows without a label, or with nothing in these columns"
    return keys, reasons


def _raw(column: Any) -> list[str]:
    if isinstance(column, Mapping):
        return []
    return column if isinstance(column, list) else [column] if column else []


def _format_reason(whole: Sample) -> str:
    if "header" in whole.keys:
        return "the first line is no header: its columns are called column1, column2, ..."
    return f"quotes enclose values: {whole.keys['quoting']}".lower() if "quoting" in whole.keys else ""


def _labels(whole: Sample, label: str, path: Path) -> tuple[Any, list[str]]:
    """Labels, with further spellings where they differ in case alone; and values that say that there is none."""
    values = whole.columns[label].values
    if values is None:
        expected = "a column of labels is expected; where there are so many, `labels: FILE` reads them, a line each"
        raise DataError(path, f"more than 500 different values in column {label!r}", expected)
    hidden = [value for value in values if HIDDEN.fullmatch(value)]
    spelled: dict[str, list[str]] = {}
    for value, _ in values.most_common():
        if value not in hidden:
            spelled.setdefault(value.casefold() if not whole.columns[label].lists else value, []).append(value)
    names = sorted((ways[0] for ways in spelled.values()), key=_label_order)
    others = {ways[0]: ways[1:] for ways in spelled.values()}
    return ({name: others[name] for name in names} if any(others.values()) else names), sorted(hidden)


def _label_order(label: str) -> tuple[Any, ...]:
    number = float(label) if re.fullmatch(r"\d+(\.\d+)?", label) else float("inf")
    kind, letter = (label[2:], label[0]) if re.match("[BIES]-", label) else (label, "")
    return label not in ("O", "o"), number, kind, letter


def _splits(pieces: Sequence[Piece], family: Family, target: bool, path: Path) -> dict[str, list[Piece]]:
    """Pieces by split. Raises DataError where one is missing that a study needs."""
    splits: dict[str, list[Piece]] = {
        split: [piece for piece in pieces if piece.split == split] for split in SPLIT_NAMES
    }
    if not target and len({piece.split for piece in pieces}) == 1:
        return {"train": list(pieces), "dev": [], "test": []}  # the only data given, whatever its name says
    unnamed = [piece for piece in pieces if piece.split is None]
    if family.raw_text or (not target and not splits["train"]):
        splits["train"] += unnamed
    elif family.vectors or splits["train"]:
        splits["test"] += unnamed if target else []
    else:
        english = [piece for piece in unnamed if piece.language == SOURCE]
        splits["train"] += english
        splits["test"] += [piece for piece in unnamed if piece not in english]
    if not splits["train"] and not (target and family.vectors):
        lacking = "English training and dev data" if target else "training data"
        expected = f"give its training file too (train in its name): a {family} task is trained in English, or in"
        expected += " another one language, and tested in others"
        raise DataError(path, f"no {lacking}", expected if target else "name the file or its folder with train in it")
    if target and not splits["test"]:
        raise DataError(path, "no test data", "give files of the languages to test in, with test in their names")
    return splits


def _source(splits: Mapping[str, Sequence[Piece]]) -> str:
    languages = [piece.language for piece in splits["train"]]
    return SOURCE if SOURCE in languages or not languages else languages[0]


def _used(splits: Mapping[str, Sequence[Piece]], family: Family, split: str) -> list[str]:
    """Languages of a split that are read."""
    languages = list(dict.fromkeys(piece.language for piece in splits[split]))
    everywhere = split == "test" or family.raw_text or (split == "dev" and family.calibrates)
    return languages if everywhere else [language for language in languages if language == _source(splits)]


def _where(splits: Mapping[str, list[Piece]], family: Family) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys that say where rows are and in which languages, and reasons."""
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    source = _source(splits)
    if family.raw_text:
        keys["train_languages"] = _used(splits, family, "train")
    elif source != SOURCE:
        keys["train_language"] = source
        reasons["train_language"] = "there is no training data in English"
    tested = splits["test"] or (splits["train"] if family.raw_text else [])
    codes = {piece.language: piece.code or piece.language for piece in tested}
    if codes and (splits["test"] or any(name != code for name, code in codes.items())):
        keys["languages"] = _listed(codes)
        reasons["languages"] = "those to test in" if splits["test"] else "and their codes in paths"
    counts = Counter(piece.templates for pieces in splits.values() for piece in pieces)
    shared = {template for template, count in counts.items() if count > 1}
    for split in SPLIT_NAMES:
        read = [piece for piece in splits[split] if piece.language in _used(splits, family, split)]
        if read:
            keys[split] = _parts(read, codes, shared, split == "test" or len({piece.language for piece in read}) > 1)
        elif split == "dev" and "train" in keys:
            keys["dev"] = DEV_SHARE
            reasons["dev"] = "a share of train: no file of dev data was given"
    if splits["test"] and splits["train"] and all(piece.split is None for piece in splits["train"]):
        reasons["train"] = "no split in its name: if its rows are translations of test rows, give others"
    return keys, reasons


def _listed(codes: Mapping[str, str]) -> Any:
    return list(codes) if all(name == code for name, code in codes.items()) else dict(codes)


def _parts(pieces: Sequence[Piece], codes: Mapping[str, str], shared: Collection[Any], by_language: bool) -> Any:
    """Value of a split: a path, a mapping with one, or a list of these; {code} in paths that several files share."""
    groups: dict[Any, list[Piece]] = defaultdict(list)
    for piece in pieces:
        groups[piece.templates].append(piece)
    parts = []
    for template, group in groups.items():
        first = group[0]
        fits = template in shared and all(codes.get(piece.language) == piece.code for piece in group)
        literal = (first.path, first.pair or "", tuple(first.keep.items()))
        path, pair, keep = template if fits or len(group) > 1 else literal
        part = {"path": path, "pair": pair, "keep": {name: list(values) for name, values in keep}}
        if by_language and len(groups) > 1:
            part["languages"] = _listed({piece.language: piece.code or piece.language for piece in group})
        part = {key: value for key, value in part.items() if value}
        parts.append(part if len(part) > 1 else path)
    return parts[0] if len(parts) == 1 else parts


def _alternative(family: Family, guess: Guess) -> str:
    return f"or family: {family} ({guess.why}), columns: {_yaml(guess.columns)}"


def _name(paths: Sequence[Path], read: Sequence[Path], taken: Collection[str]) -> str:
    """Name of a data set: what the names of all its files, or of those that are read, or folders, have in common."""
    tried = (_common(chosen, depth) for depth in range(1, 5) for chosen in (paths, read))
    words = next(filter(None, tried), ["task"])
    name = "_".join(dict.fromkeys(words))
    others = (f"{name}{number}" for number in count(2))
    return name if name not in taken else next(other for other in others if other not in taken)


def _common(paths: Sequence[Path], depth: int) -> list[str]:
    """Words that all paths have among their last parts, without splits and languages."""
    names = [path.as_posix().strip("/") for path in paths]
    found = [_words("/".join(name.split("/")[-depth:]), code) for name, code in zip(names, _codes(names), strict=True)]
    return [word for word in found[0] if all(word in other for other in found)]


def _words(name: str, code: str) -> list[str]:
    """Words of a path that say what it holds."""
    words = re.findall(r"[A-Za-z][A-Za-z0-9]*", _template(name, code).replace("{code}", "/"))
    return [word.lower() for word in words if word.lower() not in (*SPLIT_OF, *NO_NAMES) and not _is_known(word)]


def _with_flags(made: Draft, root: Path) -> Draft:
    """Draft with those keys of its family that leave out rows without which it cannot be read. Raises DataError."""
    fields = LocalReading.model_fields
    flags = [key for key in made.family.reading_keys if fields[key].default is False]
    first: DataError | None = None
    for key in (None, *flags) if flags else ():
        tried = made
        if key is not None and first is not None:
            reason = f"without it {Path(first.where).name}: {first.found.partition(';')[0]}"
            tried = replace(made, keys=made.keys | {key: True}, reasons=made.reasons | {key: reason})
        try:
            _read_through(tried, root)
        except DataError as error:
            first = first or error
        else:
            return tried
    return made


def _read_through(made: Draft, root: Path) -> None:
    """Reads what a study would read of a data set. Raises DataError."""
    task = own_task(made.name, made.keys, root, f"tasks.{made.name}")
    assert isinstance(task.source, LocalSource)
    for split, languages in (("train", task.trained_in), ("dev", task.trained_in), ("test", task.languages)):
        for language in languages:
            for where, row in task.source.located(split, language):
                if problem := made.family.check(row, task.labels):
                    raise DataError(where, problem, "correct the row, or leave it out")


# ---- the study file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """Text of a study file that can be planned, and what is said of it on the terminal."""

    text: str
    lines: tuple[str, ...]


def new_study(
    targets: Sequence[Sequence[str]],
    intermediates: Sequence[Sequence[str]],
    encoders: Sequence[str],
    out: Path,
    families: Sequence[Family] = (),
) -> Written:
    """Study on data sets, each given as its files or as a name of the table. Raises SweepError with all mistakes."""
    given = [(paths, True) for paths in targets] + [(paths, False) for paths in intermediates]
    files = [Path(path).absolute() for paths, _ in given for path in paths if not _in_table(paths)]
    root = Path(os.path.commonpath([file.parent for file in files])) if files else out.absolute().parent
    mistakes, drafts, names = Mistakes(), list[Draft](), {True: list[str](), False: list[str]()}
    for paths, target in given:
        if _in_table(paths):
            names[target] += paths
            continue
        with mistakes.collect():
            taken = {*(draft.name for draft in drafts), *names[True], *names[False]}
            chosen = [Path(path).absolute() for path in dict.fromkeys(paths)]
            drafts.append(_draft(chosen, root, target, families, taken))
            names[target].append(drafts[-1].name)
    mistakes.raise_first()
    study = _Text(drafts, names[True], names[False], encoders or [DEFAULT_ENCODER], out.absolute(), root)
    plan = _planned(study.text(None), out, [draft.name for draft in drafts])
    flops = summary(plan, Costs(plan), Speed())["flops_planned"]
    text = study.text(float(str(flops)))
    parse(text, str(out))
    lines = [f"{draft.name}: {draft.family}, {draft.reasons['family']}" for draft in drafts]
    return Written(text, (*lines, f"{len(plan.cells)} cells"))


def _in_table(paths: Sequence[str]) -> bool:
    return all(path in TASKS and not Path(path).exists() for path in paths)


def _planned(text: str, out: Path, own: Sequence[str]) -> Plan:
    """Plan of a study whose own data has been read through. Raises SweepError with all mistakes."""
    mistakes = Mistakes()
    plan = make_plan(look_up(parse(text, str(out)), out, mistakes), NO_FACTS, mistakes)
    mistakes.raise_first()
    check_data(plan, NO_FACTS, own)
    return plan


DEFAULT_ENCODER = "FacebookAI/xlm-roberta-base"
HEAD = """\
# Written by `sweep new`, which has looked at the files: what it decided stands here with its reason, for you to change.
#     sweep check {file}    every mistake in this file, its data and its encoders
#     sweep plan {file}     what would run, and what it would cost
#     sweep run {file}      runs what is missing, then writes the report
"""


@dataclass(frozen=True)
class _Text:
    """Sections of the study file."""

    drafts: Sequence[Draft]
    targets: Sequence[str]
    intermediates: Sequence[str]
    encoders: Sequence[str]
    out: Path
    root: Path

    @property
    def gpu(self) -> bool:
        """Whether this machine seems to have an NVIDIA GPU."""
        return shutil.which("nvidia-smi") is not None

    def text(self, flops: float | None) -> str:
        """The file; `flops` is the cost of its plan, where that is known."""
        sections = (self._head(), self._axes(), self._phases(), self._budget(flops), self._tasks())
        return "\n".join(sections)

    def _head(self) -> str:
        schema = Path(sweep.__file__).with_name("study.schema.json")
        lines = [f"# yaml-language-server: $schema={os.path.relpath(schema, self.out.parent)}",
                 HEAD.format(file=self.out.name)]  # fmt: skip
        asked = " or ".join(self.targets)
        lines.append(f"study: {_yaml(re.sub(r'[^A-Za-z0-9._-]', '-', self.out.stem) or 'study')}"
                     "  # also the name of the folder of results, runs/<study>")  # fmt: skip
        what = f"Which intermediate task helps {asked}?" if self.intermediates else f"How well is {asked} transferred?"
        lines.append(f"question: {_yaml(what)}  # stands at the head of the report")
        if self.drafts:
            lines.append(f"data_root: {_yaml(Path(os.path.relpath(self.root, self.out.parent)).as_posix())}"
                         "  # relative to this file; paths of tasks are relative to it")  # fmt: skip
        return "\n".join(lines) + "\n"

    def _axes(self) -> str:
        lines = [
            "axes:  # what is compared: every combination is a cell",
            f"  encoder: {_yaml(list(self.encoders))}  # hub ids or model folders; several are compared",
            f"  intermediate: {_yaml(['none', *self.intermediates])}  # none is what every gain is measured against",
        ]
        if len(self.intermediates) > 1:
            lines.append(
                f"  # a list inside is one phase on several tasks: [none, {_yaml(list(self.intermediates[:2]))}]"
            )
        elif not self.intermediates:
            lines.append("  # `sweep tasks` lists data sets to add: [none, mnli, squad]")
        lines += [
            "  # volume: [full, 1000]  # training examples of each intermediate task",
            "  # source: [own]  # language of intermediate data that is translated: [own, de, all]",
            f"  target: {_yaml(list(self.targets))}",
            "  seed: [0, 1, 2]  # one seed claims nothing; more make intervals narrower",
        ]
        return "\n".join(lines) + "\n"

    def _phases(self) -> str:
        rate = "1e-5" if any("large" in encoder for encoder in self.encoders) else "2e-5"
        tuned = f"or tuned: {{log: [5e-6, 5e-5], points: 4, first: {rate}}} with `tuning: {{candidates: 4}}` below"
        sections = []
        for phase, names, epochs, small in (
            ("intermediate", self.intermediates, 1, 3), ("target", self.targets, 3, 10),
        ):  # fmt: skip
            if not names:
                continue
            lines = [
                f"{phase}:  # settings of every {phase} phase",
                f"  learning_rate: {rate}  # {tuned}",
                "  batch_tokens: 4096  # a batch in subword tokens, padding included",
                f"  epochs: {epochs}  # passes over the data; or steps: 5000",
                "  # max_length: 256  # tokens of a sequence; left out, the family's own (128, spans 384)",
            ]
            few = [draft for draft in self.drafts if draft.name in names and 0 < draft.rows < SMALL]
            if few:
                changes = _yaml({draft.name: {"epochs": small} for draft in few})
                lines.append(f"  overrides: {changes}  # few rows need more passes")
            sections.append("\n".join(lines) + "\n")
        return "\n".join(sections)

    def _budget(self, flops: float | None) -> str:
        lines = []
        if flops:
            lines.append(
                f"budget: {HEADROOM * flops:.2g} FLOPs  # {HEADROOM} times what the plan takes; or 40 device-hours"
            )
        gpu = int(self.gpu)
        why = "one GPU" if gpu else "no GPU was seen; gpu: 1 takes one"
        lines += [
            "# deadline: 8h  # of each run, on the clock",
            f"runtime: {{cores: 1, gpu: {gpu}}}  # of one chain: {why}; gpu: 0.5 puts two chains on one",
            "# tuning: {candidates: 4}  # learning rates that are tried in every cell, chosen by English dev data",
            "# scoring: {retention: true}  # scores intermediate tasks again after the target phase",
        ]
        return "\n".join(lines) + "\n"

    def _tasks(self) -> str:
        if not self.drafts:
            return ""
        lines = ["tasks:  # docs/reference/tasks.md has all keys"]
        for draft in self.drafts:
            lines += ["", f"  {_yaml(draft.name)}:"]
            for key, value in draft.keys.items():
                lines += _filled(f"    {key}", value, draft.reasons.get(key, ""))
            for other in draft.others:
                lines += textwrap.wrap(other, WIDTH, initial_indent="    # ", subsequent_indent="    #   ")
            if further := [metric.name for metric in draft.family.metrics()]:
                lines.append(f"    # metric: {draft.family.metric}  # or {', '.join(further)}")
            lines.append(
                f"    # corpora: [{draft.name}]  # corpora inside, where tasks overlap without a row in common"
            )
        return "\n".join(lines) + "\n"


WIDTH = 118
PLAIN = re.compile(r"(\.{0,2}/)*[A-Za-z_][\w./-]*")
WORDS = ("null", "true", "false")  # that YAML does not read as text


def _yaml(value: Any) -> str:
    """Value in YAML's flow style, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _filled(key: str, value: Any, reason: str) -> list[str]:
    """Lines of a key with its reason: parts of a split below each other, long lists wrapped between their items."""
    room = len(key) - len(key.lstrip())
    indent = " " * (room + 2)
    comment = f"  # {reason}" if reason else ""
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        lines = [f"{key}:{comment}"]
        for item in value:
            lines += _wrapped(f"{indent}- ", item, f"{indent}    ")
        return lines
    lines = _wrapped(f"{key}: ", value, indent)
    if len(lines) == 1 and len(lines[0] + comment) <= WIDTH:
        return [lines[0] + comment]
    return [
        *textwrap.wrap(comment.strip(), WIDTH, initial_indent=" " * room, subsequent_indent=f"{' ' * room}# "),
        *lines,
    ]


def _wrapped(before: str, value: Any, indent: str) -> list[str]:
    """Lines of a value in flow style, broken between items."""
    if not isinstance(value, (Mapping, list)) or len(before) + len(_yaml(value)) <= WIDTH:
        return [before + _yaml(value)]
    opening, closing = "{}" if isinstance(value, Mapping) else "[]"
    lines, line = list[str](), before + opening
    items = (
        [_yaml({name: item})[1:-1] for name, item in value.items()] if isinstance(value, Mapping) else map(_yaml, value)
    )
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return [*lines, line.removesuffix(", ") + closing]
