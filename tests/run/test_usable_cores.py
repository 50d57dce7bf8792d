"""Facts about how many cores a run believes to have: those of its process, or of its container's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.run.cluster import usable_cores

DOCKER = "/docker/4f2c"


def machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """The files of a Linux machine that tell a process of its control groups."""
    told = {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in told.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        # version 2: in a container's own namespace, and as its host sees it
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 8),
        ("0::/user.slice/job", {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "400000 100000"}, 4),
        ("0::/user.slice/job", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": ""}, 8),
        # version 1: -1 is no quota, and the host's name of the group does not exist inside the container
        ("2:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 8),
        (f"2:cpu,cpuacct:{DOCKER}", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "50000"}, 3),
        (f"1:cpu:{DOCKER}", {f"cpu{DOCKER}/cpu.cfs_quota_us": "200000", f"cpu{DOCKER}/cpu.cfs_period_us": "100000"}, 2),
        ("3:cpuset:/\n2:memory:/", {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"}, 8),
        # both at once: the hierarchy of version 2 has no controllers then
        ("1:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    ],
)
def test_a_containers_quota_counts_and_not_its_hosts_cores(cgroup, files, cores, tmp_path):
    assert usable_cores(machine(tmp_path, cgroup, files)) == cores


def test_the_cores_that_a_process_may_run_on_count(tmp_path):
    assert usable_cores(tmp_path) == 8


def test_where_nothing_is_known_of_the_process_the_machines_cores_count(tmp_path, monkeypatch):
    """As on macOS, which has neither control groups nor the question."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
