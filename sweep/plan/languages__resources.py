"""How well languages are provided for: taxonomy classes and size of pretraining text.

For the 50 languages of XTREME and XTREME-R. A language that is not here, or has no value, is in no group: nothing is
guessed.

CLASSES     Joshi et al. 2020 (arXiv 2004.09095), file lang2tax.txt; 0 is the least provided for, 5 the best. Uncertain:
            ht, which other copies of the list have as 1, and qu, of whose varieties the list has quz as 1 and quy as 0.
CC100_GB    gigabytes of the compressed monolingual files of CC-100 (Wenzek et al. 2020), as its page states them;
            Burmese with its Zawgyi file. No value is close to the limit of 1 GB where copies of the page may differ:
            the nearest are kk 0.889 and ka 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping

_BY_CLASS = {
    5: "ar de en es fr ja zh",
    4: "eu fa fi hi hu it ko nl pl pt ru tr vi",
    3: "af bg bn el et he id ka kk lt ms ro ta th tl uk ur",
    2: "ht mr pa sw wo yo",
    1: "az gu jv ml my qu te",
}
CLASSES: Mapping[str, int] = {language: number for number, names in _BY_CLASS.items() for language in names.split()}

# fmt: off
CC100_GB: Mapping[str, float] = {
    "yo": 0.0011, "qu": 0.0015, "wo": 0.0036, "ht": 0.0091, "jv": 0.037, "my": 0.224, "pa": 0.09, "gu": 0.242,
    "af": 0.305, "sw": 0.332, "mr": 0.334, "eu": 0.488, "te": 0.536, "tl": 0.701, "ml": 0.831, "bn": 0.86, "ur": 0.884,
    "kk": 0.889, "ka": 1.1, "ta": 1.3, "az": 1.3, "et": 1.7, "ms": 2.1, "hi": 2.5, "lt": 3.4, "ar": 5.4, "tr": 5.4,
    "he": 6.1, "el": 7.4, "it": 7.8, "nl": 7.9, "th": 8.7, "bg": 9.3, "pl": 12, "pt": 13, "es": 14, "fr": 14, "ko": 14,
    "uk": 14, "zh": 14, "ja": 15, "fi": 15, "hu": 15, "ro": 16, "de": 18, "fa": 20, "vi": 28, "id": 36, "ru": 46,
    "en": 82,
}
# fmt: on
