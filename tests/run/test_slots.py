"""Facts about how many chains fit side by side on a machine."""

from __future__ import annotations

import pytest

from sweep.config.study import Runtime
from sweep.errors import StudyError
from sweep.run.cluster import local_capacity, no_node_fits


@pytest.mark.parametrize(
    ("cores", "gpu", "cpus", "gpus", "slots"),
    [(1, 0, 4, 0, 4), (2, 0, 5, 0, 2), (1, 1, 8, 2, 2), (1, 0.5, 8, 2, 4), (1, 0.5, 3, 2, 3)],
)
def test_as_many_chains_run_at_once_as_cores_and_gpus_allow(cores, gpu, cpus, gpus, slots):
    assert local_capacity(Runtime(cores=cores, gpu=gpu), {"CPU": cpus, "GPU": gpus}).chains == slots


@pytest.mark.parametrize(("gpu", "gpus"), [(0.5, 0), (1, 0), ("auto", 0)])
def test_gpus_that_the_machine_does_not_have_are_a_mistake(gpu, gpus):
    """Ray would wait for them for ever."""
    with pytest.raises(StudyError, match=rf"runtime.gpu: found {gpu}(.0)?; this machine has {gpus} GPUs"):
        local_capacity(Runtime(gpu=gpu), {"CPU": 8, "GPU": gpus})


@pytest.mark.parametrize(("cores", "cpus", "gpus", "slots"), [(1, 8, 1, 8), (1, 32, 2, 16), (3, 8, 1, 2), (8, 8, 2, 1)])
def test_with_measured_shares_at_most_eight_chains_run_on_a_device(cores, cpus, gpus, slots):
    capacity = local_capacity(Runtime(cores=cores, gpu="auto"), {"CPU": cpus, "GPU": gpus})
    assert (capacity.chains, capacity.devices) == (slots, gpus)


@pytest.mark.parametrize(
    ("gpu", "nodes", "waits"),
    [
        (0, [{"CPU": 4}], False),
        (0, [{"CPU": 1}], True),
        (0, [], True),
        (0.5, [{"CPU": 4}, {"CPU": 2, "GPU": 1}], False),
        (0.5, [{"CPU": 4}, {"CPU": 1, "GPU": 1}], True),
        (1, [{"CPU": 4, "GPU": 0.5}, {"CPU": 1, "GPU": 1}], True),
        ("auto", [{"CPU": 4}], True),
        ("auto", [{"CPU": 4, "GPU": 1}], False),
    ],
)
def test_what_no_node_of_a_cluster_has_is_said_as_it_may_still_grow(gpu, nodes, waits):
    line = no_node_fits(Runtime(cores=2, gpu=gpu), nodes)
    assert bool(line) == waits
    assert "chains wait until one joins" in line or not waits
