"""A Ray cluster to run chains on: the one that RAY_ADDRESS names, or a local one that lives as long as the run.

The local one is private: its own temporary folder, its own token, no dashboard. Nothing of another Ray on the machine
is touched, and nothing is left in the user's home.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sweep.errors import StudyError
from sweep.planning.sharing import CROWDS
from sweep.planning.spec import Runtime

OBJECT_STORE_BYTES = 100 * 2**20  # weights and data travel through files; Ray's store holds the plan and little else
DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # they cost more than half of a short trial and leak
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the only way to a silent console
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours stops chains cleanly
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune would save what is never restored, all trials each time
    # Ray would kill workers when the machine's memory is nearly full, whoever filled it, and Tune ends a study whose
    # worker is killed while it starts. The kernel takes a worker only where it must, which is a death like any other.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",  # else 15: whatever else the machine does would come first
    "TUNE_MAX_PENDING_TRIALS_PG": "16",  # lets an autoscaling cluster see work that waits
}
# glibc gives large arrays back to the kernel when they are freed and takes them anew in the next step, page by page: a
# third of the time of scoring on a CPU, a tenth of training. Workers keep what they have had. Other C libraries ignore
# these.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",  # a thread's own arena holds no more than 64 MB in one piece
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
WORKER_VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE")


@dataclass(frozen=True)
class Room:
    """What a cluster has for chains."""

    chains: int | None  # side by side at most; None where the cluster grows on demand
    devices: float | None  # that work when all are busy, in the unit of device-seconds
    lacking: str = ""  # a line for the user


@contextmanager
def cluster(runtime: Runtime) -> Iterator[Room]:
    """Starts or joins Ray; yields what is there. Raises StudyError where not one chain fits on this machine."""
    os.environ.update(DRIVER_ENVIRONMENT)
    joined = os.environ.get("RAY_ADDRESS")
    folder = None if joined else tempfile.mkdtemp(prefix="sweep-", dir="/tmp")  # short: socket paths end at 108 bytes
    if not joined:
        cores = len(os.sched_getaffinity(0))
        if runtime.cores > cores:
            raise StudyError(
                "runtime.cores", str(runtime.cores), f"at most the {cores} cores of this machine are expected"
            )
        # Without a token every user of this machine could run code as this one; Ray's default one lands in the home.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    import ray

    try:
        if joined:
            ray.init(runtime_env={"env_vars": worker_environment()}, log_to_driver=False, logging_level=logging.ERROR)
        else:
            with _loopback():
                ray.init(
                    address="local", num_cpus=cores, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=folder, runtime_env={"env_vars": worker_environment()}, log_to_driver=False,
                    logging_level=logging.ERROR,
                )  # fmt: skip
        for name in ("ray", "ray.tune"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if joined:
            yield Room(None, None, lacking(runtime, [node["Resources"] for node in ray.nodes() if node["Alive"]]))  # type: ignore[no-untyped-call]
        else:
            yield local_room(runtime, ray.cluster_resources())  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _loopback() -> Iterator[None]:
    """What Ray starts here listens on 127.0.0.1 alone, as it does by itself where it knows no clusters (macOS).

    A `_node_ip_address` of that kind is replaced by the machine's own by Ray. The variable is for its processes, the
    constant for this one, in which Ray may have been imported long before.
    """
    from ray._private import ray_constants

    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    said = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name)
        if said is not None:
            os.environ[name] = said


def local_room(runtime: Runtime, resources: Mapping[str, float]) -> Room:
    """What this machine has for chains. Raises StudyError where not one fits."""
    by_core = int(resources.get("CPU", 0) // runtime.cores)
    if not runtime.gpus:
        return Room(by_core, float(by_core * runtime.cores))
    devices = resources.get("GPU", 0.0)
    if devices < runtime.gpus:
        raise StudyError("runtime.gpu", str(runtime.gpu), f"this machine has {devices:g} GPUs; 0 runs on cores")
    smallest = 1 / CROWDS[0] if runtime.shares else runtime.gpus
    chains = max(min(by_core, int(devices // smallest)), 1)
    return Room(chains, devices if runtime.shares else chains * runtime.gpus)


def lacking(runtime: Runtime, nodes: Sequence[Mapping[str, float]]) -> str:
    """What no node of a cluster has now; it may grow, so that is no mistake. Empty where one has all."""
    if any(node.get("GPU", 0) >= runtime.gpus and node.get("CPU", 0) >= runtime.cores for node in nodes):
        return ""
    wanted = f"{runtime.cores} cores" + (f" and {runtime.gpus:g} GPUs" if runtime.gpus else "")
    return f"no node of the cluster has {wanted}: chains wait until one joins (runtime.cores, runtime.gpu)"


def worker_environment() -> dict[str, str]:
    """Variables that workers need on other machines too."""
    found = {name: os.environ[name] for name in (*WORKER_VARIABLES, *ALLOCATOR) if name in os.environ}
    # Tune gives a worker two seconds to leave a stopped chain, and then loses the next one without a word.
    return {"TOKENIZERS_PARALLELISM": "false", "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600", **ALLOCATOR, **found}
