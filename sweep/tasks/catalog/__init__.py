"""Which tasks and languages XTREME (arXiv 2003.11080) and XTREME-R (arXiv 2104.07412) are made of.

Tasks and groups carry the names of the official scorer; lists are in its order, since it is the order of its sums. Data
sets may have more languages than a benchmark averages over.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    """Languages of a task in any version, those of the first version first."""
    versions = BENCHMARKS.values()
    return tuple(dict.fromkeys(language for tasks in versions for language in tasks.get(task, ())))
