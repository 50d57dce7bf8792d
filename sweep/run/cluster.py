"""Ray cluster to run chains on: the one that RAY_ADDRESS names, or a local one that lives as long as the run.

The local one is private: its own temporary folder, its own token, no dashboard. Nothing of another Ray on the machine
is touched, and nothing is left in the user's home.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sweep.config.study import Runtime
from sweep.errors import StudyError
from sweep.search.devices import COLOCATIONS
from sweep.store.artifacts import disk_error

TEMPORARY, PREFIX = Path("/tmp"), "sweep-"  # short: paths of sockets end at 108 bytes
ALIVE = "alive"  # in a run's temporary folder: locked as long as the run lives
STARTS = 3  # Ray gives up a start after 30 s, and has no setting for that
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
LOGGERS = ("ray", "ray.tune")  # silent while the cluster lives
WORKER_VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE")


@dataclass(frozen=True)
class Capacity:
    """Capacity of a cluster for chains."""

    chains: int | None  # side by side at most; None where the cluster grows on demand
    devices: float | None  # that work when all are busy, in the unit of device-seconds
    warning: str = ""  # a line for the user
    folder: Path = TEMPORARY  # for files that go with the run


@contextmanager
def cluster(runtime: Runtime) -> Iterator[Capacity]:
    """Starts or joins Ray; yields its capacity.

    Also in a process that has imported Ray before, in any thread, and again; the environment is left as it was. Raises
    StudyError where not one chain fits on this machine, or Ray does not start or answer.
    """
    joined = bool(os.environ.get("RAY_ADDRESS"))
    cores = usable_cores()
    if not joined and runtime.cores > cores:
        expected = f"at most the {cores} cores that this process may use are expected"
        raise StudyError("runtime.cores", str(runtime.cores), expected)
    # Without a token every user of this machine could run code as this one; Ray's default one lands in the home.
    token = {} if joined else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        with environment({**DRIVER_ENVIRONMENT, **token}):
            import ray

            if ray.is_initialized():
                expected = "call ray.shutdown() before; with RAY_ADDRESS in the environment a study joins that cluster"
                raise StudyError("ray", "a Ray that this process has started or joined already", expected)
            _read_environment_again()
            levels = {name: logging.getLogger(name).level for name in LOGGERS}
            with run_folder() as folder:
                try:
                    yield replace(_started(runtime, cores, None if joined else folder / "ray"), folder=folder)
                finally:
                    ray.shutdown()
                    for name, level in levels.items():
                        logging.getLogger(name).setLevel(level)
    finally:
        _read_environment_again()  # what this process does with Ray afterwards is its own


@contextmanager
def run_folder() -> Iterator[Path]:
    """Temporary folder of this run, for this user alone; those of runs that were killed are removed first.

    A run holds a lock in its folder, which the kernel takes from it however it ends.
    """
    for folder in TEMPORARY.glob(f"{PREFIX}*"):
        _remove_dead(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TEMPORARY))
    lock = FileLock(folder / ALIVE)
    try:
        lock.acquire()
        (folder / ALIVE).write_text(
            f"sweep, process {os.getpid()}\n", encoding="utf-8"
        )  # from now on it may be removed
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_dead(folder: Path) -> None:
    """Removes the folder of a run that has ended, where it is this user's and ours; a link is none of ours."""
    mark = folder / ALIVE
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not mark.read_text().startswith("sweep,"):
            return
        with FileLock(mark, timeout=0):
            for path in folder.iterdir():  # the mark last: what cannot be removed now is tried again
                if path != mark:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.rmtree(folder)
    except (OSError, Timeout):
        return


def _started(runtime: Runtime, cores: int, folder: Path | None) -> Capacity:
    """Joins Ray, or starts one in a folder of its own, which it opens to everybody; the one around it is not."""
    import ray

    own: dict[str, Any] = {
        "runtime_env": {"env_vars": worker_environment()},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if folder is None:
        _begin(partial(ray.init, **own), "RAY_ADDRESS", os.environ["RAY_ADDRESS"])
    else:
        own |= {"address": "local", "num_cpus": cores, "include_dashboard": False, "_temp_dir": str(folder)}
        with _loopback():
            _begin(partial(ray.init, object_store_memory=OBJECT_STORE_BYTES, **own), "Ray", f"{STARTS} starts here")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if folder is not None:
        return local_capacity(runtime, ray.cluster_resources())  # type: ignore[no-untyped-call]
    return Capacity(None, None, no_node_fits(runtime, [node["Resources"] for node in ray.nodes() if node["Alive"]]))  # type: ignore[no-untyped-call]


def _begin(start: Callable[[], object], where: str, what: str) -> None:
    """Starts or joins Ray. Raises StudyError where that is refused or takes too long, after some tries."""
    import ray

    for left in reversed(range(STARTS)):
        try:
            start()
        except Exception as failure:
            ours = isinstance(failure, (TypeError, AttributeError, ImportError))  # a mistake of this program
            if ours or disk_error(failure, TEMPORARY):
                raise
            ray.shutdown()
            if not left:
                words = " ".join(str(failure).split())[:200]
                expected = "free memory and cores are expected (`free -h`, `uptime`), or a cluster that answers"
                raise StudyError(where, f"{what} without an answer of Ray ({words})", expected) from failure
        else:
            return


def _read_environment_again() -> None:
    """Ray reads how to authenticate when it is imported, and keeps the first token that it has seen.

    It would wait for a minute for a cluster that has another one.
    """
    from ray import _raylet

    raylet: Any = _raylet  # compiled, and carries no types
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process, and leaves all as they were: libraries set some of their own meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _loopback() -> Iterator[None]:
    """Makes what Ray starts here listen on 127.0.0.1 alone, as it does by itself where it knows no clusters (macOS).

    A `_node_ip_address` of that kind is replaced by the machine's own by Ray. The variable is for its processes, the
    constant for this one, in which Ray may have been imported long before.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def usable_cores(root: Path = Path("/")) -> int:
    """Number of cores that this process may keep busy: those it may run on, or fewer where a container's quota says so.

    A quota is processor time per period, in the process's control group or in one above it: `cpu.max` in version 2,
    `cpu.cfs_quota_us` over `cpu.cfs_period_us` in version 1. Of a broken core only the whole ones count. `root` is
    where `proc` and `sys` are looked for; without them, as on macOS, all cores of the machine count.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return allowed
    quotas = [quota for group in groups for quota in _quotas(root / "sys/fs/cgroup", *group.split(":", 2)[1:])]
    return max(min([allowed, *map(int, quotas)]), 1)


def _quotas(mounted: Path, controllers: str, group: str) -> Iterator[float]:
    """Quotas in cores of a control group and those above it.

    Inside a container the group may be named as its host sees it, while the files of its own group are those at the
    mount.
    """
    if controllers and "cpu" not in controllers.split(","):
        return
    for mount in (mounted / controllers, mounted / "cpu") if controllers else (mounted, mounted / "unified"):
        own = mount / group.lstrip("/")
        for folder in (own, *own.parents):
            if folder == mounted.parent:
                break
            with suppress(OSError, ValueError, ZeroDivisionError):
                if controllers:
                    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    quota, period = ((folder / name).read_text(encoding="ascii").strip() for name in names)
                else:
                    quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
                if float(quota) > 0:  # -1 and `max` (no number) grant all
                    yield float(quota) / float(period)


def local_capacity(runtime: Runtime, resources: Mapping[str, float]) -> Capacity:
    """Capacity of this machine. Raises StudyError where not one chain fits."""
    by_core = int(resources.get("CPU", 0) // runtime.cores)
    if not runtime.gpus:
        return Capacity(by_core, float(by_core * runtime.cores))
    devices = resources.get("GPU", 0.0)
    if devices < runtime.gpus:
        raise StudyError("runtime.gpu", str(runtime.gpu), f"this machine has {devices:g} GPUs; 0 runs on cores")
    smallest = 1 / COLOCATIONS[0] if runtime.shares else runtime.gpus
    chains = max(min(by_core, int(devices // smallest)), 1)
    return Capacity(chains, devices if runtime.shares else chains * runtime.gpus)


def no_node_fits(runtime: Runtime, nodes: Sequence[Mapping[str, float]]) -> str:
    """Warning where no node of a cluster has room for a chain; none where one has. The cluster may grow: no error."""
    if any(node.get("GPU", 0) >= runtime.gpus and node.get("CPU", 0) >= runtime.cores for node in nodes):
        return ""
    needed = f"{runtime.cores} cores" + (f" and {runtime.gpus:g} GPUs" if runtime.gpus else "")
    return f"no node of the cluster has {needed}: chains wait until one joins (runtime.cores, runtime.gpu)"


def worker_environment() -> dict[str, str]:
    """Environment variables of workers, on whatever machine."""
    inherited = {name: os.environ[name] for name in (*WORKER_VARIABLES, *ALLOCATOR) if name in os.environ}
    # Tune gives a worker two seconds to leave a stopped chain, and then loses the next one without a word.
    return {"TOKENIZERS_PARALLELISM": "false", "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600", **ALLOCATOR, **inherited}
