"""Facts about how many chains fit side by side on a machine."""

from __future__ import annotations

import pytest

from sweep.cluster import local_slots
from sweep.errors import StudyError
from sweep.planning.spec import Runtime


@pytest.mark.parametrize(
    ("cores", "gpu", "cpus", "gpus", "slots"),
    [(1, 0, 4, 0, 4), (2, 0, 5, 0, 2), (1, 1, 8, 2, 2), (1, 0.5, 8, 2, 4), (1, 0.5, 3, 2, 3), (1, 2, 8, 4, 2)],
)
def test_as_many_chains_run_at_once_as_cores_and_gpus_allow(cores, gpu, cpus, gpus, slots):
    assert local_slots(Runtime(cores=cores, gpu=gpu), {"CPU": cpus, "GPU": gpus}) == slots


@pytest.mark.parametrize(("gpu", "gpus"), [(0.5, 0), (1, 0), (2, 1)])
def test_gpus_that_the_machine_does_not_have_are_a_mistake(gpu, gpus):
    """Ray would wait for them for ever."""
    with pytest.raises(StudyError, match=rf"runtime.gpu: found {gpu}(.0)?; this machine has {gpus} GPUs"):
        local_slots(Runtime(gpu=gpu), {"CPU": 8, "GPU": gpus})
