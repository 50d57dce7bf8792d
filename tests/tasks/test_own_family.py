"""Facts about families and metrics of a user's own, and that no other module knows what a family is called."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from small_studies import chains_of, plan_of, study_file, with_encoder_of

from sweep.errors import StudyError
from sweep.run.chain import run
from sweep.store import paths
from sweep.store.artifacts import Store
from sweep.store.ledger import opened_to_read
from sweep.tasks import FAMILIES, measure_of, plugins
from sweep.tasks.classification import VALUES, class_counts
from sweep.tasks.table import TASKS
from sweep.tasks.task import Task
from sweep.xtreme.score import score

SWEEP = Path(__file__).resolve().parents[2] / "sweep"
OWN_FILES = {Path(sys.modules[type(family).__module__].__file__ or "") for family in FAMILIES.values()}

# The files of docs/own-task.md: a family, a head and a metric.
TOY, TOY_HEAD, METRIC = (
    code.strip() + "\n"
    for code in re.findall(r"```python\n(.*?)```", (SWEEP.parent / "docs" / "own-task.md").read_text(), re.DOTALL)
)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    """A study file beside a family, a head and a metric of its own, which this process forgets afterwards."""
    (tmp_path / "mood.py").write_text(TOY)
    (tmp_path / "mood_head.py").write_text(TOY_HEAD)
    (tmp_path / "my_metric.py").write_text(METRIC)
    random = np.random.default_rng(0)
    for name, count in (("train", 300), ("dev", 60), ("en", 40), ("de", 40)):
        marks = random.choice([".", "!", "a", "b"], size=(count, 7))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"said": " ".join(row)}) + "\n" for row in marks))
        rows = [{"text": " ".join(row), "label": "ab"["!" in row]} for row in marks.tolist()]
        (tmp_path / f"labels-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = list(sys.path)
    yield study(tmp_path)
    sys.path[:] = path
    forget("mood", "mood_head", "my_metric", "empty", "broken")


def study(folder: Path, **changes: object) -> Path:
    own = {
        "family": "mood:Mood", "format": "jsonl", "columns": {"words": "said"}, "languages": ["en", "de"],
        "train": "train.jsonl", "dev": "dev.jsonl", "test": "{language}.jsonl", **changes,
    }  # fmt: skip
    tasks = {"mood": {name: value for name, value in own.items() if value is not None}}
    axes = {"target": ["mood"], "intermediate": ["none", "world/rte"], "seed": [1, 2]}
    return study_file(folder, axes, tasks=tasks, results="out")


def labelled(folder: Path, **changes: object) -> Path:
    """The same study with a task of two classes."""
    files = {"train": "labels-train.jsonl", "dev": "labels-dev.jsonl", "test": "labels-{language}.jsonl"}
    return study(folder, **{"family": "sequence", "columns": None, "labels": ["a", "b"], **files, **changes})


def sweep(command: str, study: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command line in another process and another folder than the study's."""
    folder.mkdir(exist_ok=True)
    asked = [sys.executable, "-m", "sweep", command, str(study)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_family_in_one_file_goes_from_rows_to_report_and_official_files(toy: Path, tmp_path: Path) -> None:
    done = sweep("run", toy, tmp_path / "away")
    assert done.returncode == 0, done.stderr
    results = toy.parent / "out"
    with opened_to_read(results / paths.LEDGER) as ledger:
        chains = ledger.chains()
    assert [chain.state for chain in chains] == ["done"] * 4
    store, family = Store(results / "store"), plan_of(toy).tasks["mood"].family
    for chain in chains:
        record = store.score(chain.score)
        assert record is not None
        assert (record.family, record.metric) == ("mood:Mood", "closeness")
        statistics = store.statistics(chain.score)
        for language, entry in record.languages.items():
            assert entry["value"] == float(family.value(statistics[language].sum(axis=0)))
            assert 0.3 < entry["majority"] < 0.9
    assert "mood" in (results / "report.html").read_text()
    folder = next((results / "submissions").glob("*/seed-1"))
    assert len((folder / "predictions" / "mood" / "test-de.txt").read_text().split()) == 40
    scored = score(folder).by_language()["mood"]
    assert set(scored) == {"en", "de"}
    assert set(scored["de"]) == {"closeness", "exact"}
    moved = shutil.copytree(toy.parent, tmp_path.with_name("moved"))
    (toy.parent / "mood.py").unlink()
    again = sweep("report", moved / "out", tmp_path / "away")
    assert again.returncode == 0, again.stderr


# Keys


def keys(path: Path) -> list[str]:
    return [chain.key for chain in plan_of(path).planned_chains()]


def forget(*modules: str) -> None:
    for name in modules:
        sys.modules.pop(name, None)
        plugins._digests.pop(name, None)


def test_what_a_family_of_ones_own_says_is_part_of_every_key(toy: Path) -> None:
    before = keys(toy)
    assert keys(toy) == before
    (toy.parent / "mood.py").write_text(TOY.replace("1 - away / 2", "1 - away / 3"))
    forget("mood")
    assert not set(keys(toy)) & set(before)


def test_a_changed_head_is_another_head(toy: Path) -> None:
    before = keys(toy)
    (toy.parent / "mood_head.py").write_text(TOY_HEAD.replace("randn", "rand"))
    importlib.invalidate_caches()
    assert not set(keys(toy)) & set(before)


def test_a_version_stands_for_the_file_of_a_family(toy: Path) -> None:
    versioned = TOY.replace('    suffix = "txt"\n', '    suffix = "txt"\n    version = 1\n')
    (toy.parent / "mood.py").write_text(versioned)
    before = keys(toy)
    (toy.parent / "mood.py").write_text(versioned + "# a remark\n")
    forget("mood")
    assert keys(toy) == before


def test_a_metric_is_part_of_the_keys_of_phases_that_it_selects(toy: Path) -> None:
    before, after = keys(labelled(toy.parent)), keys(labelled(toy.parent, metric="macro_f1"))
    assert not set(before) & set(after)
    assert keys(labelled(toy.parent, metric="accuracy")) == before


# Metrics


def test_a_chain_is_judged_by_the_metric_that_its_task_names(toy: Path, small_store: Store, tmp_path: Path) -> None:
    store = with_encoder_of(small_store, tmp_path / "store")
    for metric in ("macro_f1", "my_metric:mean_recall"):
        path = labelled(toy.parent, metric=metric)
        chain, plan = next(chains_of(path))
        run(chain, plan, store)
        record = store.score(chain.score)
        assert record is not None
        assert record.metric == metric
        sums = store.statistics(chain.score)["de"].sum(axis=0)
        right, predicted, gold = sums.reshape(-1, 3).T
        by_hand = {
            "macro_f1": np.mean(2 * right / (predicted + gold)),
            "my_metric:mean_recall": np.mean(right / gold),
        }
        assert record.languages["de"]["value"] == pytest.approx(by_hand[metric])
        assert record.languages["de"]["value"] == measure_of(record.family, record.metric).value(sums)


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_of_classes_are_those_of_scikit_learn(classes: int) -> None:
    random = np.random.default_rng(classes)
    gold = random.integers(classes, size=400)
    predicted = np.where(random.random(400) < 0.6, gold, random.integers(classes - 1, size=400))
    theirs = {
        "accuracy": metrics.accuracy_score(gold, predicted),
        "micro_f1": metrics.f1_score(gold, predicted, average="micro"),
        "macro_f1": metrics.f1_score(gold, predicted, average="macro"),
        "weighted_f1": metrics.f1_score(gold, predicted, average="weighted"),
        "matthews": metrics.matthews_corrcoef(gold, predicted),
    }
    if classes == 2:
        theirs["binary_f1"] = metrics.f1_score(gold, predicted)
    counts = class_counts(predicted.tolist(), [[one] for one in gold], classes)
    without = counts.sum(axis=0) - counts
    for name, value in theirs.items():
        assert VALUES[name](counts.sum(axis=0)) == pytest.approx(value, abs=1e-12)
        assert VALUES[name](without).shape == (400,)


def test_nothing_predicted_right_is_worth_nothing_in_any_metric() -> None:
    counts = class_counts([1, 1], [[0], [0]], 3).sum(axis=0)
    assert {name: float(value(counts)) for name, value in VALUES.items()} == dict.fromkeys(VALUES, 0.0)


def test_words_are_counted_where_tags_are_judged_by_accuracy() -> None:
    metric = FAMILIES["token"].metric_of("accuracy", "here")
    assert metric is not None
    task = Task("t", FAMILIES["token"], TASKS["world/pos"].source, ("en",), labels=("A", "B"))
    rows = [{"words": ["a", "b", "c"], "tags": [0, 1, 1]}, {"words": ["d"], "tags": [-100]}]
    assert float(metric.value(metric.judge([[0, 0, 1], []], rows, task, "en").sum(axis=0))) == pytest.approx(2 / 3)


# Mistakes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "modd:Mood"}, "tasks.mood.family: found no module 'modd'"),
        ({"family": "modd:Mood"}, "did you mean 'mood'?"),
        ({"family": "mood:Modo"}, "tasks.mood.family: found 'mood:Modo', while mood has no Modo"),
        ({"family": "mood:Modo"}, "did you mean 'Mood'?"),
        ({"family": "mood:"}, "tasks.mood.family: found 'mood:'; module:name is expected"),
        ({"family": "mood:np"}, "a complete subclass of sweep.tasks.task.Family is expected"),
        ({"family": "empty:Empty"}, "which lacks check, encode, judge, predict, value, columns;"),
        ({"family": "broken:Family"}, "the module 'broken', which cannot be imported (ZeroDivisionError"),
        ({"family": "json:Mood"}, "rename your module"),
        (
            {"metric": "exat"},
            "tasks.mood.metric: found the unknown metric 'exat'; a mood:Mood task has closeness",
        ),
        ({"metric": "my_metric:mean_recal"}, "did you mean 'mean_recall'?"),
        ({"columns": {"wrods": "said"}}, "tasks.mood.columns.wrods: found the unknown key 'wrods'; one of words"),
        ({"omit": ["x"]}, "tasks.mood.omit: found a key of token tasks; a mood:Mood task has no use for it"),
    ],
)
def test_a_mistake_about_ones_own_python_is_one_line(toy: Path, changes: dict[str, object], said: str) -> None:
    (toy.parent / "empty.py").write_text("from sweep.tasks.task import Family\n\nclass Empty(Family):\n    pass\n")
    (toy.parent / "broken.py").write_text("1 / 0\n")
    (toy.parent / "json.py").write_text("")
    with pytest.raises(StudyError) as mistake:
        plan_of(study(toy.parent, **changes))
    assert said in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_f1_of_one_of_two_classes_is_refused_where_there_are_three(toy: Path) -> None:
    assert plan_of(labelled(toy.parent, metric="binary_f1")).tasks["mood"].metric_name == "binary_f1"
    with pytest.raises(StudyError, match="found the unknown metric 'binary_f1'"):
        plan_of(labelled(toy.parent, metric="binary_f1", labels=["a", "b", "c"]))


# Nobody else knows a family


def named(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, family) of every comparison with a family's name, and of tables by such names."""
    for node in ast.walk(tree):
        sides: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            sides = [node.value]
        elif isinstance(node, ast.Dict) and len(node.keys) > 1:
            sides = [key for key in node.keys if isinstance(key, ast.Constant) and key.value in ("sequence", "mining")]
        for side in sides:
            inside = side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side]
            for one in inside:
                if isinstance(one, ast.Constant) and one.value in FAMILIES:
                    yield node.lineno if hasattr(node, "lineno") else 0, str(one.value)
                if isinstance(one, ast.Attribute) and one.attr == "name" and ast.unparse(one).endswith("family.name"):
                    yield one.lineno, "family.name"


@pytest.mark.parametrize("path", sorted(set(SWEEP.rglob("*.py")) - OWN_FILES), ids=str)
def test_no_other_module_compares_the_names_of_families(path: Path) -> None:
    assert list(named(ast.parse(path.read_text()))) == []


def test_a_comparison_with_the_name_of_a_family_is_seen() -> None:
    for line in ('x.family == "span"', 'x in ("token", "y")', '{"sequence": 1, "z": 2}', "x.family.name != y"):
        assert list(named(ast.parse(line)))
