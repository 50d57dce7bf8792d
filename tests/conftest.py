"""What every test shares: no network, no telemetry, and the folder of real data where there is one."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from sweep.store.artifacts import Store

# Set before any library is imported: most of them read their switches at import.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="agg",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes run side by side

REPOSITORY = Path(__file__).resolve().parent.parent


# Files that train, simulate or start processes, the longest first. All others are marked `fast`.
SLOW = (
    *("run/test_study.py", "run/test_study_ends.py", "evaluate/test_retention.py", "run/test_trial.py"),
    *("models/test_published.py", "run/test_from_python.py", "run/test_table_chains.py"),
    *("store/test_superseded.py", "plan/test_trunk.py", "run/test_export.py", "train/test_collapse.py"),
    "train/test_rows_in_use.py",
    *("tasks/test_own_family.py", "search/test_tuning.py", "store/test_garbage.py", "plan/test_chain_budget.py"),
    *("data/test_real_data.py", "report/test_new_axis.py", "train/test_train.py", "run/test_new.py"),
    *("plan/test_shared_targets.py", "run/test_tracking.py", "train/test_memory.py", "data/test_real_rows.py"),
    *("search/test_rungs.py", "studies/test_tradeoff_studies.py", "test_api.py", "run/test_preview.py"),
    *("plan/test_large_plans.py", "studies/test_nine_tasks.py", "studies/test_english_vs_multilingual.py"),
    *(
        "studies/test_real_multilingual.py",
        "data/test_hub_online.py",
        "models/test_waiting.py",
        "run/test_ui.py",
        "report/test_predictions.py",
    ),
    *("search/test_devices.py", "run/test_failures.py", "report/test_submissions.py", "plan/test_arms.py"),
    *("models/test_cpu_kernels.py", "report/test_report.py", "tasks/test_synthetic.py"),
    *("config/test_study_fuzz.py", "report/test_identity.py", "report/test_contrasts.py", "test_imports.py"),
    *("report/test_statistics.py", "search/test_admission.py", "run/test_worker_environment.py"),
    *("tasks/test_regression.py", "models/test_export.py", "docs/test_pages.py", "test_cli.py"),
    *("store/test_paths.py", "models/test_model.py", "plan/test_flops.py", "store/test_status.py"),
    *("store/test_winners.py", "report/test_gains.py", "tasks/test_retrieval.py", "train/test_gpu.py"),
    "test_gpu_script.py",
    *("report/test_terminal.py", "test_fingerprint.py", "docs/test_shown_studies.py"),
)


def script(name: str) -> ModuleType:
    """Module of a script in tools/, which are no package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for theirs
    spec.loader.exec_module(module)
    return module


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: what is left at the end can be split between test processes."""
    ranks = {Path(__file__).parent / name: number for number, name in enumerate(SLOW)}
    if missing := [str(path) for path in ranks if not path.exists()]:
        raise pytest.UsageError(f"conftest.SLOW names what is not there: {', '.join(missing)}")
    for item in items:
        if item.path not in ranks:
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Looks for no garbage while libraries are imported, nor later in what they made: a million objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the smallest study, its one chain done: others copy its tokenizer, its data and its encoder."""
    from small_studies import finish, study_file

    from sweep.store.artifacts import Store

    folder = tmp_path_factory.mktemp("small")
    store = Store(folder / "store")
    finish(study_file(folder), store)
    return store


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds its tables and no run, to be copied: MLflow takes two seconds to make them."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.sqlite"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def ready(empty_mlflow: Path, small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Gives a study's results what a run makes before its first phase, so that not every run makes it again.

    The encoder is checked, tokenizer and data are encoded, MLflow has its tables.
    """
    from small_studies import finish, study_file, with_data_of

    from sweep.run.study import prepared

    made, targets = tmp_path_factory.mktemp("made"), ["world/topic", "world/retrieval", "world/ner"]
    axes = {"intermediate": [["world/rte", "world/pos"]], "target": targets}
    store = with_data_of(small_store, made / "store")
    finish(study_file(made, axes), store)

    def give(folder: Path) -> None:
        with chdir(folder), prepared(folder / "study.yaml") as (_, _, results):
            with_data_of(store, results / "store")
            shutil.copy(empty_mlflow, results)

    return give


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data files: $SWEEP_SHARED_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("SWEEP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
