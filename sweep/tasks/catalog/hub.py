"""Hub data sets: descriptions for intermediate phases (ENGLISH) and for targets and raw text (TARGETS).

Intermediate: the nine of X-STILTs (arXiv 2005.13013) and further ones, English, some with machine-translated training
data in other languages. Targets: the tasks of XTREME and XTREME-R, trained in English and tested in every language, and
raw text for masked language modelling; where there is training data in other languages it is named too, so that the
language of a phase can be chosen.

A description is read by sweep.tasks.describe; its sizes are those that the data sets' own cards state. Where the hub
has no labelled test split, its validation split is the test split and dev is a share of train, so that no checkpoint is
ever chosen on what is reported. Traps of a data set are noted at its description.
"""

from __future__ import annotations

from typing import Any

from sweep.tasks.catalog import BENCHMARKS, NAMES, THREE_LETTERS, languages_of

NLI = ["entailment", "neutral", "contradiction"]
PARAPHRASE = {"different": ["0"], "paraphrase": ["1"]}
NO_LABEL = {"label": [-1]}
PARQUET = "refs/convert/parquet"  # where the hub keeps what it has made of a loading script, which cannot be loaded

MNLI_TRANSLATED = [language for language in languages_of("xnli") if language != "en"]
SQUAD_TRANSLATED = ["ar", "de", "es", "hi", "vi", "zh"]  # MLQA's translate-train
# fmt: off
SQUAD_SIZES = {
    "en": 87_599, "ar": 78_058, "de": 80_069, "es": 81_810, "hi": 82_451, "vi": 84_816, "zh": 76_285,
}
SQUAD = [
    {"split": "train", "hub": "rajpurkar/squad", "config": "plain_text", "languages": ["en"]},
    {
        "split": "train", "hub": "facebook/mlqa", "config": "mlqa-translate-train.{language}", "fallback": PARQUET,
        "languages": SQUAD_TRANSLATED, "skip_misplaced": True,
    },
]
ANLI_TRAIN = [{"split": f"train_r{number}", "hub": "facebook/anli", "config": "plain_text"} for number in (1, 2, 3)]

ENGLISH: dict[str, dict[str, Any]] = {
    "anli_plus": {  # one data set and one head, so every row is equally likely; 785 rows of SNLI have no label
        "family": "sequence", "corpora": ["snli", "mnli", "anli"], "licence": "non-commercial (ANLI: CC BY-NC 4.0)",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI, "skip": NO_LABEL,
        "train": [
            {"split": "train", "hub": "stanfordnlp/snli", "config": "plain_text"},
            {"split": "train", "hub": "nyu-mll/multi_nli", "config": "default"},
            *ANLI_TRAIN,
        ],
        # MNLI's, as for mnli itself: ANLI's were written to fool models, and would choose for that
        "dev": {"split": "validation_matched", "hub": "nyu-mll/multi_nli", "config": "default"},
        "test": {"split": "validation_mismatched", "hub": "nyu-mll/multi_nli", "config": "default"},
        "sizes": {"train": 1_104_934, "dev": 9_815, "test": 9_832}, "tokens": 40,
    },
    "mnli": {  # in other languages XNLI's translations
        "family": "sequence", "hub": "nyu-mll/glue", "config": "mnli", "corpora": ["mnli"],
        "licence": "OANC, with parts under CC BY 3.0, CC BY-SA 3.0 and others",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI,
        "train": [
            {"split": "train", "languages": ["en"]},
            {"split": "train", "hub": "facebook/xnli", "config": "{language}", "languages": MNLI_TRANSLATED},
        ],
        "dev": [
            {"split": "validation_matched", "languages": ["en"]},
            {"split": "validation", "hub": "facebook/xnli", "config": "{language}", "languages": MNLI_TRANSLATED},
        ],
        "test": "validation_mismatched",
        "sizes": {"train": 392_702, "dev": {"en": 9_815, "other": 2_490}, "test": 9_832}, "tokens": 42,
    },
    "snli": {
        "family": "sequence", "hub": "stanfordnlp/snli", "config": "plain_text", "corpora": ["snli"],
        "licence": "CC BY-SA 4.0",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI, "skip": NO_LABEL,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 549_367, "dev": 9_842, "test": 9_824}, "tokens": 28,
    },
    "qqp": {  # a few questions are empty
        "family": "sequence", "hub": "nyu-mll/glue", "config": "qqp", "corpora": ["qqp"],
        "licence": "Quora's terms: non-commercial",
        "columns": {"text": "question1", "pair": "question2"},
        "labels": {"different": ["not_duplicate"], "paraphrase": ["duplicate"]},
        "skip": {"question1": [""], "question2": [""]},
        "train": "train", "dev": 0.02, "test": "validation",
        "sizes": {"train": 363_846, "test": 40_430}, "tokens": 30,
    },
    "paws": {
        "family": "sequence", "hub": "google-research-datasets/paws", "config": "labeled_final", "corpora": ["paws"],
        "licence": "free for any use, with acknowledgement of Google",
        "columns": {"text": "sentence1", "pair": "sentence2"}, "labels": PARAPHRASE,
        "train": "train", "dev": "validation", "test": "test",
        "sizes": {"train": 49_401, "dev": 8_000, "test": 8_000}, "tokens": 58,
    },
    "squad": {  # in other languages MLQA's translate-train, some answers of which are not where their offset says
        "family": "span", "hub": "rajpurkar/squad", "config": "plain_text", "corpora": ["squad"],
        "licence": "CC BY-SA 4.0",
        "columns": {"id": "id"}, "train": SQUAD, "dev": 0.05, "test": "validation",
        "sizes": {"train": SQUAD_SIZES, "test": 10_570}, "tokens": 175,
    },
    "squad2": {
        "family": "span", "hub": "rajpurkar/squad_v2", "config": "squad_v2", "corpora": ["squad", "squad2"],
        "licence": "CC BY-SA 4.0",
        "columns": {"id": "id"}, "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 130_319, "test": 11_873}, "tokens": 175,
    },
    "hellaswag": {  # the label is text, "0" to "3", and "" in the hub's test split
        "family": "choice", "hub": "Rowan/hellaswag", "config": "default", "fallback": PARQUET,
        "corpora": ["hellaswag"], "licence": "MIT",
        "columns": {"prompt": "ctx_a", "options": [f"{{ctx_b}} {{endings.{number}}}" for number in range(4)]},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 39_905, "test": 10_042}, "tokens": 330,
    },
    "cosmos_qa": {
        "family": "choice", "hub": "allenai/cosmos_qa", "config": "default", "fallback": PARQUET,
        "corpora": ["cosmos_qa"], "licence": "CC BY 4.0",
        "columns": {
            "prompt": "{context} {question}", "options": ["answer0", "answer1", "answer2", "answer3"],
            "unit": "context",
        },
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 25_262, "test": 2_985}, "tokens": 430,
    },
    "commonsense_qa": {
        "family": "choice", "hub": "tau/commonsense_qa", "config": "default", "corpora": ["commonsense_qa"],
        "licence": "MIT", "labels": ["A", "B", "C", "D", "E"],
        "columns": {"prompt": "question", "options": "choices.text", "label": "answerKey"},
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 9_741, "test": 1_221}, "tokens": 110,
    },
    "siqa": {  # allenai/social_i_qa is a script
        "family": "choice", "hub": "lighteval/siqa", "corpora": ["siqa"],
        "licence": "see its card", "labels": ["1", "2", "3"],
        "columns": {
            "prompt": "{context} {question}", "options": ["answerA", "answerB", "answerC"], "unit": "context",
        },
        "train": "train", "dev": 0.05, "test": "validation",
        "sizes": {"train": 33_410, "test": 1_954}, "tokens": 110,
    },
}
# fmt: on

UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ"]
UPOS += ["SYM", "VERB", "X"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]

XNLI = ["en", *(language for language in languages_of("xnli") if language != "en")]
PAWS_X = ["en", *(language for language in languages_of("pawsx") if language != "en")]
PAN_X = sorted(BENCHMARKS["xtreme"]["panx"])
WIKIANN = sorted(set(languages_of("panx")) - set(PAN_X))  # XTREME-R's further languages
PAN_X_HELD_OUT = {
    "other": 10_000,
    **dict.fromkeys(("af", "az", "bn", "hi", "kk", "ml", "mr", "ms", "sw", "ta", "te", "tl", "ur"), 1_000),
    **dict.fromkeys(("gu", "jv", "my", "pa", "qu", "yo"), 100),
}
UD_25 = {language: NAMES[language] for language in BENCHMARKS["xtreme"]["udpos"]}
UD_25_TRAIN = {language: name for language, name in UD_25.items() if language not in ("kk", "th", "tl", "yo")}
TYDIQA = {language: NAMES[language].lower() for language in languages_of("tydiqa")}
TATOEBA = {language: THREE_LETTERS[language] for language in BENCHMARKS["xtreme"]["tatoeba"]}

# Treebanks of the languages that XTREME-R takes from UD 2.7, the release that this hub data set was made of.
UD_27 = {
    "lt": ["lt_alksnis", "lt_hse"],
    "pl": ["pl_lfg", "pl_pdb", "pl_pud"],
    "ro": ["ro_nonstandard", "ro_rrt", "ro_simonero"],
    "uk": ["uk_iu"],
    "wo": ["wo_wtb"],
}


def _ud_27(split: str) -> list[dict[str, Any]]:
    """Parts of a split, one per treebank; `_` is the tag of a surface form whose words follow."""
    shared = {
        "split": split,
        "hub": "universal-dependencies/universal_dependencies",
        "fallback": "refs/convert/parquet",
        "columns": {"words": "tokens", "tags": "upos"},
        "omit": ["_"],
    }
    trained = [(language, treebank) for language, treebanks in UD_27.items() for treebank in treebanks]
    return [
        {**shared, "config": treebank, "languages": [language]}
        for language, treebank in trained
        if split == "test" or treebank != "pl_pud"  # which has no other split
    ]


# fmt: off
TARGETS: dict[str, dict[str, Any]] = {
    "xnli": {  # its English training data is MNLI's, the others are machine-translated
        "family": "sequence", "hub": "facebook/xnli", "config": "{language}", "corpora": ["mnli", "xnli"],
        "licence": "CC BY-NC 4.0",
        "columns": {"text": "premise", "pair": "hypothesis", "unit": "premise"}, "labels": NLI, "languages": XNLI,
        "train": {"split": "train", "languages": XNLI}, "dev": {"split": "validation", "languages": XNLI},
        "test": "test", "sizes": {"train": 392_702, "dev": 2_490, "test": 5_010}, "tokens": 42,
    },
    # Not google/xtreme's copy, which lost rows to CSV quoting. NS stands for a sentence that was not translated: such
    # rows are not learned from, but tested on, as in the official score. Label 1 is a paraphrase.
    "pawsx": {
        "family": "sequence", "hub": "google-research-datasets/paws-x", "config": "{language}", "corpora": ["paws"],
        "licence": "free for any use, with acknowledgement of Google",
        "columns": {"text": "sentence1", "pair": "sentence2"}, "labels": ["0", "1"], "languages": PAWS_X,
        "train": {"split": "train", "languages": PAWS_X, "skip": {"sentence1": ["NS", ""], "sentence2": ["NS", ""]}},
        "dev": {"split": "validation", "languages": PAWS_X, "skip": {"sentence1": ["NS", ""], "sentence2": ["NS", ""]}},
        "test": "test", "sizes": {"train": 49_401, "dev": 2_000, "test": 2_000}, "tokens": 58,
    },
    "panx": {
        "family": "token", "hub": "google/xtreme", "config": "PAN-X.{language}", "corpora": ["wikiann"],
        "licence": "see its card",
        "columns": {"words": "tokens", "tags": "ner_tags"}, "labels": ENTITIES, "languages": PAN_X,
        "train": [
            {"split": "train", "languages": PAN_X},
            {"split": "train", "hub": "unimelb-nlp/wikiann", "config": "{language}", "languages": WIKIANN},
        ],
        "dev": [
            {"split": "validation", "languages": PAN_X},
            {"split": "validation", "hub": "unimelb-nlp/wikiann", "config": "{language}", "languages": WIKIANN},
        ],
        "test": [
            {"split": "test", "languages": PAN_X},
            {"split": "test", "hub": "unimelb-nlp/wikiann", "config": "{language}", "languages": WIKIANN},
        ],
        "sizes": {
            "train": {
                "other": 20_000, "af": 5_000, "az": 10_000, "bn": 10_000, "et": 15_000, "eu": 10_000, "gu": 100,
                "hi": 5_000, "jv": 100, "ka": 10_000, "kk": 1_000, "lt": 10_000, "ml": 10_000, "mr": 5_000, "my": 100,
                "pa": 100, "qu": 100, "sw": 1_000, "ta": 15_000, "te": 1_000, "tl": 10_000, "yo": 100,
            },
            "dev": PAN_X_HELD_OUT, "test": PAN_X_HELD_OUT,
        },
        "tokens": 14,
    },
    # Syntactic words: surface forms of several words are split, unlike in XTREME's own files, so scores differ a little
    # in ar, de, es, fr, he, it, pt, tr and others. The official words come from CoNLL-U files (`format: xtreme`).
    # Kazakh has no dev data; Tagalog, Thai and Yoruba have test data alone.
    "udpos": {
        "family": "token", "hub": "google/xtreme", "config": "udpos.{code}", "corpora": ["ud_english_ewt"],
        "licence": "per treebank; some are non-commercial",
        "columns": {"words": "tokens", "tags": "pos_tags"}, "labels": UPOS, "languages": UD_25,
        "skip": {"tokens": "[]"},  # sentences whose words were withheld
        "train": [{"split": "train", "languages": UD_25_TRAIN}, *_ud_27("train")],
        "dev": [{"split": "validation", "languages": UD_25_TRAIN}, *_ud_27("validation")],
        "test": [{"split": "test", "languages": UD_25}, *_ud_27("test")],
        "sizes": {
            "train": {
                "af": 1_315, "ar": 6_075, "bg": 8_907, "de": 166_849, "el": 28_152, "en": 21_253, "es": 28_492,
                "et": 25_749, "eu": 5_396, "fa": 4_798, "fi": 27_198, "fr": 47_308, "he": 5_241, "hi": 13_304,
                "hu": 910, "id": 4_477, "it": 29_685, "ja": 7_125, "ko": 27_410, "lt": 2_494, "mr": 373, "nl": 18_051,
                "pl": 31_496, "pt": 17_992, "ro": 35_911, "ru": 67_435, "ta": 400, "te": 1_051, "tr": 3_664,
                "uk": 5_496, "ur": 4_043, "vi": 1_400, "wo": 1_188, "zh": 18_998,
            },
            "dev": {
                "af": 194, "ar": 909, "bg": 1_115, "de": 19_233, "el": 2_559, "en": 3_974, "es": 3_054, "et": 3_125,
                "eu": 1_798, "fa": 599, "fi": 3_239, "fr": 5_979, "he": 484, "hi": 1_659, "hu": 441, "id": 559,
                "it": 2_278, "ja": 511, "ko": 3_016, "lt": 770, "mr": 46, "nl": 1_394, "pl": 3_960, "pt": 1_770,
                "ro": 2_247, "ru": 9_960, "ta": 80, "te": 131, "tr": 988, "uk": 672, "ur": 552, "vi": 800, "wo": 449,
                "zh": 3_038,
            },
            "test": {
                "af": 425, "ar": 1_680, "bg": 1_116, "de": 22_458, "el": 2_809, "en": 5_440, "es": 3_147, "et": 3_760,
                "eu": 1_799, "fa": 600, "fi": 4_422, "fr": 9_465, "he": 491, "hi": 2_684, "hu": 449, "id": 1_557,
                "it": 3_518, "ja": 2_372, "kk": 1_047, "ko": 4_276, "lt": 837, "mr": 47, "nl": 1_471, "pl": 4_942,
                "pt": 2_681, "ro": 2_272, "ru": 11_336, "ta": 120, "te": 146, "th": 1_000, "tl": 55, "tr": 4_785,
                "uk": 892, "ur": 535, "vi": 800, "wo": 470, "yo": 100, "zh": 5_528,
            },
        },
        "tokens": 25,
    },
    "xquad": {  # its English part is a part of SQuAD's validation split, which is therefore no dev data here
        "family": "span", "hub": "google/xquad", "config": "xquad.{language}", "corpora": ["squad"],
        "licence": "CC BY-SA 4.0", "columns": {"id": "id"}, "languages": list(languages_of("xquad")),
        "train": SQUAD, "dev": 0.05, "test": "validation",
        "sizes": {"train": SQUAD_SIZES, "test": 1_190}, "tokens": 190,
    },
    "mlqa": {  # context and question in the same language
        "family": "span", "hub": "google/xtreme", "config": "MLQA.{language}.{language}", "corpora": ["squad", "mlqa"],
        "licence": "CC BY-SA 3.0", "normaliser": "mlqa",
        "columns": {"id": "id"}, "languages": list(languages_of("mlqa")),
        "train": SQUAD, "dev": 0.05, "test": "test",
        "sizes": {
            "train": SQUAD_SIZES,
            "test": {
                "ar": 5_335, "de": 4_517, "en": 11_590, "es": 5_253, "hi": 4_918, "vi": 5_495, "zh": 5_137,
            },
        },
        "tokens": 190,
    },
    # GoldP. All languages lie in one split, told apart by the beginning of the id. Its validation split is the test
    # split of the benchmark, so dev is a share of train.
    "tydiqa": {
        "family": "span", "hub": "google-research-datasets/tydiqa", "config": "secondary_task", "corpora": ["tydiqa"],
        "licence": "Apache 2.0", "columns": {"id": "id"}, "languages": TYDIQA, "keep": {"id": ["{code}-*"]},
        "train": {"split": "train", "languages": TYDIQA}, "dev": 0.1, "test": "validation",
        "sizes": {
            "train": {
                "en": 3_696, "ar": 14_805, "bn": 2_390, "fi": 6_855, "id": 5_702, "ko": 1_625, "ru": 6_490,
                "sw": 2_755, "te": 5_563,
            },
            "test": {
                "en": 440, "ar": 921, "bn": 113, "fi": 782, "id": 565, "ko": 276, "ru": 812, "sw": 499, "te": 669,
            },
        },
        "tokens": 150,
    },
    "xcopa": {  # English: COPA, whose test labels are hidden. XTREME-R trains on SIQA (`siqa`) before it.
        "family": "choice", "hub": "cambridgeltl/xcopa", "config": "{language}", "corpora": ["copa"],
        "licence": "CC BY 4.0",
        "columns": {
            "prompt": {
                "by": "question",
                "cause": "{premise} What was the cause?", "effect": "{premise} What was the effect?",
            },
            "options": ["choice1", "choice2"],
        },
        "labels": {"0": ["choice1"], "1": ["choice2"]},
        "train": {"split": "train", "hub": "aps/super_glue", "config": "copa"}, "dev": 0.1,
        "test": [
            {"split": "validation", "hub": "aps/super_glue", "config": "copa", "languages": ["en"]},
            {"split": "test", "languages": list(languages_of("xcopa"))},
        ],
        "sizes": {"train": 400, "test": {"en": 100, "other": 500}}, "tokens": 50,
    },
    # Sentences keep their line ends, and source_lang is not to be trusted. The further languages of XTREME-R are not in
    # this copy: they come from the files of LASER (`format: xtreme`).
    "tatoeba": {
        "family": "embedding", "hub": "google/xtreme", "config": "tatoeba.{code}", "corpora": ["tatoeba"],
        "licence": "CC BY 2.0 FR",
        "columns": {"text": "source_sentence", "pair": "target_sentence"}, "languages": TATOEBA,
        "test": "validation", "tokens": 22,
        "sizes": {
            "test": {
                "other": 1_000, "jv": 205, "ka": 746, "kk": 575, "ml": 687, "sw": 390, "ta": 307, "te": 234, "th": 548,
            },
        },
    },
    "wikipedia": {  # raw text for multilingual MLM: the first articles of each language, which are its oldest
        "family": "masked", "hub": "wikimedia/wikipedia", "config": "20231101.{language}", "first": 10_000,
        "corpora": ["wikipedia"], "licence": "CC BY-SA 3.0 and GFDL", "columns": {"text": "text"},
        "train_languages": sorted({language for languages in BENCHMARKS["xtreme"].values() for language in languages}),
        "skip": {"text": [""]},
        "train": "train", "dev": 0.01, "sizes": {"train": 10_000}, "tokens": 500,
    },
}
# fmt: on
