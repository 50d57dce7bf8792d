"""XTREME's data as its publishers give it out: descriptions of local files for `format: xtreme`.

`path` is a folder with the archives that the benchmark's download script fetches, unpacked in it, and single files in
folders named after their task. Not what that script leaves behind: it removes the labels of all test data.

    xnli      XNLI-1.0/xnli.{dev,test}.tsv, XNLI-MT-1.0/multinli/multinli.train.{language}.tsv
    pawsx     x-final/{language}/{train,translated_train,dev_2k,test_2k}.tsv
    panx      panx_dataset/{language}-{train,dev,test}
    udpos     ud-treebanks-v2.5/*/{language}_*-ud-{train,dev,test}.conllu, and v2.7 for lt pl ro uk wo
    xquad     xquad/xquad.{language}.json, squad/train-v1.1.json
    mlqa      MLQA_V1/test/test-context-{language}-question-{language}.json, squad/train-v1.1.json
    tydiqa    tydiqa/tydiqa-goldp-v1.1-train.json, tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{name}.json
    tatoeba   tatoeba/tatoeba.{code}-eng.{code} and .eng
    xcopa     xcopa/{language}/test.{language}.jsonl, COPA/{train,val}.jsonl
    bucc2018  bucc2018/{language}-en/{language}-en.{sample,training}.{language,en,gold}, which XTREME calls dev and test
    lareqa    lareqa/xquad-r/{language}.json, squad/{train,dev}-v1.1.json
    mewslix   mewslix/{candidate_set_entities,wikipedia_pairs-train,wikipedia_pairs-dev,wikinews_mentions-test}.jsonl
"""

from __future__ import annotations

from typing import Any

from sweep.data import SPLITS
from sweep.errors import StudyError, nearest
from sweep.tasks.catalog import BENCHMARKS, THREE_LETTERS, languages_of
from sweep.tasks.catalog.hub import TARGETS, TYDIQA, UD_25, UD_25_TRAIN, UD_27

# What of a hub row also holds for files.
KEPT = ("family", "labels", "corpora", "licence", "normaliser")

_SQUAD = {"path": "squad/train-v1.1.json", "languages": ["en"]}
_TREEBANKS = "ud-treebanks-v{version}/*/{{language}}_*-ud-{split}.conllu"


def _treebanks(split: str, languages: list[str]) -> list[dict[str, Any]]:
    """Parts of a split in the two releases that the versions of the benchmark were made of."""
    releases = (("2.5", languages), ("2.7", sorted(UD_27)))
    return [
        {"path": _TREEBANKS.format(version=version, split=split), "languages": spoken} for version, spoken in releases
    ]


def _comparable(split: str) -> dict[str, str]:
    stem = f"bucc2018/{{language}}-en/{{language}}-en.{split}"
    return {"path": f"{stem}.{{language}}", "pair": f"{stem}.en", "gold": f"{stem}.gold"}


FILES: dict[str, dict[str, Any]] = {
    "xnli": {
        "format": "tsv",
        "labels": {"entailment": [], "neutral": [], "contradiction": ["contradictory"]},
        "columns": {"text": "sentence1", "pair": "sentence2", "label": "gold_label", "unit": "sentence1"},
        "train": {
            "path": "XNLI-MT-1.0/multinli/multinli.train.{language}.tsv",
            "columns": {"text": "premise", "pair": "hypo", "label": "label"},
            "languages": list(TARGETS["xnli"]["languages"]),
        },
        "dev": {
            "path": "XNLI-1.0/xnli.dev.tsv",
            "keep": {"language": "{language}"},
            "languages": list(TARGETS["xnli"]["languages"]),
        },
        "test": {"path": "XNLI-1.0/xnli.test.tsv", "keep": {"language": "{language}"}},
    },
    "pawsx": {
        "format": "tsv",
        "columns": {"text": "sentence1", "pair": "sentence2"},
        "train": [
            {"path": "x-final/{language}/train.tsv", "languages": ["en"]},
            {
                "path": "x-final/{language}/translated_train.tsv",
                "languages": [language for language in languages_of("pawsx") if language != "en"],
                "skip": {"sentence1": ["NS", ""], "sentence2": ["NS", ""]},
            },
        ],
        "dev": {
            "path": "x-final/{language}/dev_2k.tsv",
            "languages": list(languages_of("pawsx")),
            "skip": {"sentence1": ["NS", ""], "sentence2": ["NS", ""]},
        },
        "test": "x-final/{language}/test_2k.tsv",
    },
    "panx": {
        "format": "panx",
        **{
            split: {"path": f"panx_dataset/{{language}}-{split}", "languages": sorted(languages_of("panx"))}
            for split in SPLITS
        },
    },
    "udpos": {
        "format": "conllu-written",
        "train": _treebanks("train", sorted(UD_25_TRAIN)),
        "dev": _treebanks("dev", sorted(UD_25_TRAIN)),
        "test": _treebanks("test", sorted(UD_25)),
    },
    "xquad": {"format": "squad", "train": _SQUAD, "dev": 0.05, "test": "xquad/xquad.{language}.json"},
    "mlqa": {
        "format": "squad",
        "train": _SQUAD,
        "dev": 0.05,
        "test": "MLQA_V1/test/test-context-{language}-question-{language}.json",
    },
    "tydiqa": {
        "format": "squad",
        "languages": TYDIQA,
        "train": {"path": "tydiqa/tydiqa-goldp-v1.1-train.json", "keep": {"id": ["{code}-*"]}, "languages": TYDIQA},
        "dev": 0.1,
        "test": "tydiqa/tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-{code}.json",
    },
    "tatoeba": {
        "format": "parallel",
        "languages": THREE_LETTERS,
        "test": {"path": "tatoeba/tatoeba.{code}-eng.{code}", "pair": "tatoeba/tatoeba.{code}-eng.eng"},
    },
    "xcopa": {
        "format": "jsonl",
        "labels": ["0", "1"],
        "columns": TARGETS["xcopa"]["columns"],
        "train": "COPA/train.jsonl",
        "dev": 0.1,
        "test": [
            {"path": "COPA/val.jsonl", "languages": ["en"]},
            {"path": "xcopa/{language}/test.{language}.jsonl", "languages": list(languages_of("xcopa"))},
        ],
    },
    "bucc2018": {
        "family": "mining",
        "format": "comparable",
        "corpora": ["bucc2018"],
        "dev": _comparable("sample"),
        "test": _comparable("training"),
    },
    "lareqa": {
        "family": "ranking",
        "corpora": ["squad"],
        "languages": list(languages_of("xquad")[:-1]),  # XQuAD-R has no Romanian
        "train": {"path": "squad/train-v1.1.json", "format": "sentence_pairs", "languages": ["en"]},
        "dev": {"path": "squad/dev-v1.1.json", "format": "sentence_pairs", "languages": ["en"]},
        "test": {"path": "lareqa/xquad-r/{language}.json", "format": "sentence_pool"},
    },
    "mewslix": {
        "family": "ranking",
        "corpora": ["mewslix"],
        "pool": ["candidates"],
        "train": {"path": "mewslix/wikipedia_pairs-train.jsonl", "format": "mention_pairs", "languages": ["en"]},
        "dev": {"path": "mewslix/wikipedia_pairs-dev.jsonl", "format": "mention_pairs", "languages": ["en"]},
        "test": [
            {
                "path": "mewslix/wikinews_mentions-test.jsonl",
                "format": "mentions",
                "keep": {"language": "{language}"},
                "languages": list(languages_of("mewslix")),
            },
            {
                "path": "mewslix/candidate_set_entities.jsonl",
                "format": "entities",
                "languages": ["candidates"],
            },
        ],
    },
}


def description(task: str, folder: str, where: str) -> dict[str, Any]:
    """Description of the files of a benchmark's task in a folder. Raises StudyError where there is no such task."""
    if task not in FILES:
        expected = f"a task of {' or '.join(BENCHMARKS)} is expected: {', '.join(FILES)}"
        raise StudyError(where, repr(task), expected, nearest(task, FILES))
    row = {key: value for key, value in TARGETS.get(task, {}).items() if key in KEPT}
    files = {"languages": list(languages_of(task)), **row, **FILES[task]}
    return {key: _placed(value, folder) if key in SPLITS else value for key, value in files.items()}


def _placed(parts: Any, folder: str) -> Any:
    """Parts of a split with their paths below the folder."""
    if isinstance(parts, list):
        return [_placed(part, folder) for part in parts]
    if isinstance(parts, str):
        return f"{folder}/{parts}"
    if isinstance(parts, dict):
        return {key: f"{folder}/{value}" if key in ("path", "pair", "gold") else value for key, value in parts.items()}
    return parts
