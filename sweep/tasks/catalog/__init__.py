"""XTREME (arXiv 2003.11080) and XTREME-R (arXiv 2104.07412): tasks, languages, and data that users must bring.

Tasks and groups carry the names of the official scorer; lists are in its order, since it is the order of its sums. Data
sets may have more languages than a benchmark averages over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from sweep.data import Row, Size
from sweep.errors import DataError
from sweep.tasks import FAMILIES
from sweep.tasks.task import Task

_XNLI = "ar bg de el en es fr hi ru sw th tr ur vi zh"
_PANX = (
    "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my zh kk tr et"
    " fi hu"
)
_UDPOS = "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
_TATOEBA = "ar he vi id jv tl eu ml ta te af nl de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw zh kk tr et fi hu"
_XQUAD = "en es de el ru tr ar vi th zh hi"
_MLQA = "en es de ar hi vi zh"
_TYDIQA = "en ar bn fi id ko ru sw te"

_XTREME = {
    "pawsx": "de en es fr ja ko zh",
    "xnli": _XNLI,
    "panx": _PANX,
    "udpos": _UDPOS,
    "bucc2018": "de fr ru zh",
    "tatoeba": _TATOEBA,
    "xquad": _XQUAD,
    "mlqa": _MLQA,
    "tydiqa": _TYDIQA,
}
_XTREME_R = {
    "xnli": _XNLI,
    "panx": f"{_PANX} qu pl uk az lt pa gu ro",
    "udpos": f"{_UDPOS} lt pl uk wo ro",
    "tatoeba": f"{_TATOEBA} az lt pl uk ro",
    "xcopa": "et ht id it qu sw ta th tr vi zh",
    "lareqa": "",  # one pool of all languages: its own script gives one number
    "mewslix": "ar de en es fa ja pl ro ta tr uk",
    "xquad": f"{_XQUAD} ro",
    "mlqa": _MLQA,
    "tydiqa": _TYDIQA,
}

BENCHMARKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    version: {task: tuple(languages.split()) for task, languages in tasks.items()}
    for version, tasks in (("xtreme", _XTREME), ("xtreme-r", _XTREME_R))
}

# As the official scorer groups them: XTREME-R counts XCOPA in two groups, and LAReQA in none.
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "xtreme": {
        "classification": ("pawsx", "xnli"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("bucc2018", "tatoeba"),
    },
    "xtreme-r": {
        "classification": ("xnli", "xcopa"),
        "tagging": ("udpos", "panx"),
        "qa": ("xquad", "mlqa", "tydiqa"),
        "retrieval": ("tatoeba", "mewslix"),
        "multi_choice": ("xcopa",),
    },
}


def languages_of(task: str) -> tuple[str, ...]:
    """Languages of a task in any version of the benchmark, those of the first version first."""
    versions = BENCHMARKS.values()
    return tuple(dict.fromkeys(language for tasks in versions for language in tasks.get(task, ())))


# fmt: off
NAMES = {
    "af": "Afrikaans", "ar": "Arabic", "az": "Azerbaijani", "bg": "Bulgarian", "bn": "Bengali", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "ht": "Haitian", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh",
    "ko": "Korean", "lt": "Lithuanian", "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "my": "Burmese",
    "nl": "Dutch", "pa": "Punjabi", "pl": "Polish", "pt": "Portuguese", "qu": "Quechua", "ro": "Romanian",
    "ru": "Russian", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish",
    "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "wo": "Wolof", "yo": "Yoruba", "zh": "Chinese",
}
# As Tatoeba and LASER write them: Persian, Swahili and Chinese by their largest variety.
THREE_LETTERS = {
    "af": "afr", "ar": "ara", "az": "aze", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "es": "spa", "et": "est",
    "eu": "eus", "fa": "pes", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita",
    "ja": "jpn", "jv": "jav", "ka": "kat", "kk": "kaz", "ko": "kor", "lt": "lit", "ml": "mal", "mr": "mar", "nl": "nld",
    "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "sw": "swh", "ta": "tam", "te": "tel", "th": "tha", "tl": "tgl",
    "tr": "tur", "uk": "ukr", "ur": "urd", "vi": "vie", "zh": "cmn",
}
# fmt: on


@dataclass(frozen=True)
class MissingSource:
    """Source without data. Every method raises DataError with what is needed and what would do instead."""

    where: str  # place in the study file that would describe the data
    expected: str  # what a user can do
    why: str  # why only the user can provide the data

    def identity(self, split: str, language: str) -> Mapping[str, object]:
        """Raises DataError."""
        self._refuse()

    def size(self, split: str, language: str) -> Size:
        """Raises DataError."""
        self._refuse()

    def rows(self, split: str, language: str) -> list[Row]:
        """Raises DataError."""
        self._refuse()

    def places(self, split: str, language: str) -> list[str]:
        """Raises DataError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DataError(self.where, f"no data, {self.why}", self.expected)


CCG = Task(
    name="ccg",
    family=FAMILIES["token"],
    source=MissingSource(
        "tasks.ccg",
        "describe your own files of CCGbank (LDC2005T13) there, as `family: token, format: conll, labels: FILE` with a"
        " word and its supertag on a line, and the supertags in FILE, a line each; or take udpos, English parts of"
        " speech, which are free and not the paper's task",
        "which its licence keeps off the hub",
    ),
    languages=("en",),
    corpora=("ccgbank",),
    licence="LDC (LDC2005T13): not free, bring your own",
)


def _published(name: str, family: str, languages: tuple[str, ...], why: str, **rest: Any) -> Task:
    """Task of the benchmarks whose data the hub does not have as its score needs it."""
    expected = (
        "describe your copy there as {format: xtreme, path: folder}; sweep/tasks/catalog/publishers.py lists the files"
    )
    source = MissingSource(f"tasks.{name}", expected, why)
    return Task(name, FAMILIES[family], source, languages, licence="as its publishers state", **rest)


XQUAD_R = languages_of("xquad")[:-1]  # it has no Romanian
PROVIDED = (
    CCG,
    _published(
        "bucc2018", "mining", languages_of("bucc2018"), "of which the hub has the gold pairs alone",
        train_language=None, corpora=("bucc2018",),
    ),
    _published("lareqa", "ranking", XQUAD_R, "whose sentence breaks the hub does not have", corpora=("squad",)),
    _published(
        "mewslix", "ranking", languages_of("mewslix"), "which its own script makes", corpora=("mewslix",),
        pool=("candidates",),
    ),
)  # fmt: skip
