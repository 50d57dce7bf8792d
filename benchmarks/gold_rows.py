"""Cost to each further chain of knowing the rows that it is judged on: kept beside the tokens, or parsed again.

    python benchmarks/gold_rows.py [--data FOLDER] [--rows 5010]

Two targets: one file with 15 languages in XNLI's layout (19 columns, made here), and sib200 in 18 languages, a file
each, below --data where it has one. An encoder of one layer x 16 is trained for two steps and scored on all languages;
a target has two chains, which differ in their seed. Processor seconds of the first and of the second chain, in this
process, and of parsing the second chain's test and dev rows once, language by language.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tiny import TINY

sys.path.insert(0, str(Path(__file__).parents[1]))

from sweep.config.load import load
from sweep.plan.plan import Plan
from sweep.plan.resolve import resolve
from sweep.run.chain import run
from sweep.store.artifacts import Store

LANGUAGES = [
    "ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh",
]  # fmt: skip
LABELS = ["entailment", "neutral", "contradiction"]
HEADER = [
    "language", "gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse",
    "sentence2_parse", "sentence1", "sentence2", "promptID", "pairID", "genre", "label1", "label2", "label3",
    "label4", "label5", "sentence1_tokenized", "sentence2_tokenized", "match",
]  # fmt: skip
SIB200 = [
    "eng_Latn", "deu_Latn", "spa_Latn", "rus_Cyrl", "tur_Latn", "vie_Latn", "arb_Arab", "zho_Hans", "hin_Deva",
    "swh_Latn", "eus_Latn", "kaz_Cyrl", "tam_Taml", "tel_Telu", "yor_Latn", "hau_Latn", "ibo_Latn", "quy_Latn",
]  # fmt: skip
TOPICS = ["science/technology", "travel", "politics", "sports", "health", "entertainment", "geography"]
SHORT = {"learning_rate": 1e-4, "batch_tokens": 512, "collapse_margin": -1, "steps": 2, "evaluations": 1}


def write_xnli(path: Path, rows: int) -> None:
    """Rows of random words in every language, the languages one after another."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abdegiklmnoprstu", k=draw.randint(2, 9))) for _ in range(2000)]
    with path.open("w", encoding="utf-8") as file:
        print(*HEADER, sep="\t", file=file)
        for language in LANGUAGES:
            for number in range(rows):
                texts = [" ".join(draw.choices(words, k=draw.randint(4, count))) for count in (36, 18)]
                votes = draw.choices(LABELS, k=5)
                parsed = ["", "", "", ""]
                print(
                    *(language, votes[0], *parsed, *texts, number // 3, number, "letters", *votes, *texts, "True"),
                    sep="\t", file=file,
                )  # fmt: skip


def tasks(folder: Path, data: Path | None) -> dict[str, dict[str, Any]]:
    """Descriptions of the targets by name."""
    keep = {"keep": {"language": "{language}"}}
    described = {
        "xnli": {
            "family": "sequence", "format": "tsv", "labels": LABELS, "languages": LANGUAGES, "train_language": "en",
            "columns": {"text": "sentence1", "pair": "sentence2", "label": "gold_label", "unit": "promptID"},
            "train": {"path": str(folder / "dev.tsv"), **keep}, "dev": {"path": str(folder / "dev.tsv"), **keep},
            "test": {"path": str(folder / "test.tsv"), **keep},
        }
    }  # fmt: skip
    if data is not None:
        described["sib200"] = {
            "family": "sequence", "format": "tsv", "labels": TOPICS, "columns": {"text": "text", "label": "category"},
            "languages": {code: code for code in SIB200}, "train_language": "eng_Latn",
            **{split: str(data / f"sib200/{{code}}/{split}.tsv") for split in ("train", "dev", "test")},
        }  # fmt: skip
    return described


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def parse(plan: Plan, name: str) -> None:
    """Reads all test and dev rows that a chain is judged on, as each chain did before they were kept."""
    task = plan.tasks[name]
    for language in task.languages:
        task.source.rows("test", language)
    task.source.rows("dev", task.trained_in[0])


def main() -> None:
    """Prints a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with sib200/")
    parser.add_argument("--rows", type=int, default=5010)
    arguments = parser.parse_args()
    encoder = TINY | {"random_init": TINY["random_init"] | {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16,
        "max_position_embeddings": 128}}  # fmt: skip
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_xnli(folder / "dev.tsv", 200)
        write_xnli(folder / "test.tsv", arguments.rows)
        described = tasks(folder, arguments.data)
        content = {
            "study": "rows", "encoders": {"tiny": encoder}, "tasks": described,
            "axes": {"encoder": ["tiny"], "intermediate": ["none"], "target": [*described], "seed": [1, 2]},
            "pretrain": {**SHORT, "task": "world/raw"}, "target": SHORT,
        }  # fmt: skip
        path, store = folder / "study.yaml", Store(folder / "store")
        path.write_text(json.dumps(content), encoding="utf-8")
        plan = resolve(load(path), path)
        for name in described:
            chains = [chain for chain in plan.planned_chains() if chain.cell.target == name]
            spent = [seconds(partial(run, chain, plan, store)) for chain in chains]
            again = seconds(partial(parse, plan, name))
            score = store.score(chains[1].score)
            assert score is not None
            examples, values = (sum(entry[key] for entry in score.languages.values()) for key in ("examples", "value"))
            print(
                f"{name}: {len(score.languages)} languages, {examples:,} examples; processor seconds: first chain"
                f" {spent[0]:.2f}, second {spent[1]:.2f}, parsing its rows {again:.2f}; sum of scores {values:.6f}"
            )


if __name__ == "__main__":
    main()
