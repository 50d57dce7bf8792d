"""What every test shares: no network, no telemetry, and the folder of real data where there is one."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file begins first: what is left at the end can be split between test processes."""
    items.sort(key=lambda item: item.path.name != "test_study.py")


def pytest_collection_finish() -> None:
    """Leaves what libraries made at their import to no garbage collection: a million objects that never go."""
    gc.freeze()


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
