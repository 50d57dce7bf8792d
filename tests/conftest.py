"""What every test shares: no network, no telemetry, and the folder of real data where there is one."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    *("run/test_study.py", "run/test_trial.py", "evaluate/test_retention.py", "run/test_table_chains.py"),
    *("models/test_published.py", "store/test_superseded.py", "store/test_status.py", "tasks/test_own_family.py"),
    *("run/test_preview.py", "studies/test_tradeoff_studies.py", "studies/test_nine_tasks.py"),
    *("studies/test_english_vs_multilingual.py", "plan/test_trunk.py", "train/test_collapse.py"),
    *("store/test_garbage.py", "run/test_failures.py", "plan/test_chain_budget.py", "plan/test_shared_targets.py"),
    *("run/test_tracking.py", "run/test_ui.py", "run/test_from_python.py", "report/test_submissions.py"),
    *("report/test_predictions.py", "report/test_statistics.py", "store/test_winners.py", "search/test_rungs.py"),
    *("search/test_admission.py", "search/test_devices.py", "search/test_tuning.py", "report/test_identity.py"),
    *("report/test_new_axis.py", "report/test_report.py", "report/test_gains.py", "tasks/test_retrieval.py"),
    *("tasks/test_regression.py", "tasks/test_synthetic.py", "train/test_train.py", "train/test_memory.py"),
    *("train/test_gpu.py", "models/test_model.py", "models/test_cpu_kernels.py", "models/test_waiting.py"),
    *("data/test_real_data.py", "data/test_real_rows.py", "data/test_hub_online.py", "report/test_terminal.py"),
    *("run/test_worker_environment.py", "test_fingerprint.py", "test_imports.py", "config/test_study_fuzz.py"),
    *("test_api.py", "test_cli.py", "plan/test_arms.py", "plan/test_large_plans.py", "report/test_contrasts.py"),
    *("plan/test_flops.py", "store/test_paths.py", "docs/test_pages.py", "docs/test_shown_studies.py"),
    *("run/test_export.py", "models/test_export.py", "run/test_new.py"),
)


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
def shared_data() -> Path:
    """The folder of real data files: $SWEEP_SHARED_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("SWEEP_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
