"""Facts about what workers are started with: variables, and the plan."""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys

import pytest
from small_studies import plan_of, study_file

from sweep.run.cluster import ALLOCATOR, worker_environment
from sweep.run.tune import SentOnce

TAKEN_AND_FREED = """
import resource, threading
def work():
    for _ in range(20):
        bytearray(100_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start(); thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(environment: dict[str, str]) -> int:
    return int(subprocess.check_output([sys.executable, "-c", TAKEN_AND_FREED], env=environment, text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are glibc's")
def test_a_worker_keeps_the_memory_of_arrays_that_it_has_freed():
    """In a thread, as Tune runs chains."""
    plain = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    assert page_faults(plain | worker_environment()) < page_faults(plain) / 5


def test_what_the_user_has_set_counts(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = worker_environment()
    assert (found["MALLOC_TRIM_THRESHOLD_"], found["HF_HUB_OFFLINE"]) == ("1000", "1")


def test_a_process_unpickles_the_plan_once_for_all_its_chains(tmp_path):
    plan = plan_of(study_file(tmp_path))
    sent = pickle.dumps(SentOnce(plan))
    first, second = (pickle.loads(sent) for _ in range(2))  # noqa: S301  our own
    assert first.cells == plan.cells
    assert first is second
