"""Facts about failures: which ones need a new process, what is left of them, and what they are called."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
import torch
from small_studies import plan_of, study_file
from small_tokenizers import small_tokenizer
from tiny_models import SHAPES

from sweep.cli import main
from sweep.config.study import Runtime
from sweep.errors import DataError, StoreError, StudyError
from sweep.models.encoders import random_encoder
from sweep.plan.cost import Costs
from sweep.run.cluster import cluster, run_folder
from sweep.run.tune import (
    ChainSearcher,
    append_to_log,
    chain_trial,
    leaves_device_unusable,
    report_of,
    report_to_tune,
    streams_to_log,
    worker_place,
)
from sweep.search.admission import Admission
from sweep.store.artifacts import Store, disk_error
from sweep.store.index import StoreIndex
from sweep.store.ledger import FAILED, STOPPED, Ledger
from sweep.store.paths import CHECKPOINT
from sweep.tasks.table import TASKS
from sweep.train.context import Meter

HINT = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call.\nCompile with `TORCH_USE_CUDA_DSA`"
)


@pytest.mark.parametrize(
    "fault",
    [
        torch.AcceleratorError(f"CUDA error: device-side assert triggered{HINT}"),
        torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered{HINT}"),
        torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        torch.AcceleratorError("HIP error: unspecified launch failure"),
        RuntimeError(f"CUDA error: unspecified launch failure{HINT}"),
        RuntimeError("CUDA driver error: unknown error"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_an_error_that_a_device_does_not_recover_from_needs_a_new_process(fault):
    assert leaves_device_unusable(fault)
    wrapped = ValueError("loss is no number")
    wrapped.__cause__ = fault
    assert leaves_device_unusable(wrapped)


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("planted"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        DataError("train.tsv:3", "CUDA error: a text", "a label is expected"),
        KeyError("CUDA error"),
        MemoryError(),
    ],
)
def test_an_error_of_data_program_or_memory_needs_no_new_process(fault):
    assert not leaves_device_unusable(fault)


# Logs

SPEAKER = """
import os, subprocess, sys, warnings
from pathlib import Path
from sweep.run.tune import streams_to_log, stacks_when_silent
print("before")
try:
    with streams_to_log(Path(sys.argv[1])) as note, stacks_when_silent(float(sys.argv[2])):
        note("begins")
        warnings.warn("a warning")
        print("from python")
        subprocess.run(["echo", "from elsewhere"])
        EVENT
except ValueError:
    print("after")
"""


def spoken(folder: Path, event: str, silence: float = 100.0) -> tuple[str, str, int]:
    """(log, what the terminal has of it, exit code) of a process in which something happens."""
    log = folder / "logs" / "key.log"
    command = [sys.executable, "-c", SPEAKER.replace("EVENT", event), str(log), str(silence)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return log.read_text(encoding="utf-8"), done.stdout + done.stderr, done.returncode


def test_all_that_a_process_says_in_a_chain_goes_to_the_chains_log_with_the_traceback(tmp_path):
    log, terminal, code = spoken(tmp_path, 'raise ValueError("planted")')
    for said in ("begins", "UserWarning: a warning", "from python", "from elsewhere", "ValueError: planted"):
        assert said in log
    assert "Traceback (most recent call last)" in log
    assert (terminal, code) == ("before\nafter\n", 0)


def test_a_process_that_crashes_leaves_its_stack_in_the_log(tmp_path):
    log, _, code = spoken(tmp_path, "import faulthandler; faulthandler.enable(); os.abort()")
    assert "Fatal Python error: Aborted" in log
    assert code < 0


def test_a_process_that_hangs_leaves_its_stack_in_the_log_before_it_is_ended(tmp_path):
    log, _, _ = spoken(tmp_path, "import time; time.sleep(1)", silence=0.3)
    assert "Timeout (0:00:00.3" in log
    assert "most recent call first" in log


def test_a_log_is_appended_to_and_never_lost(tmp_path):
    log = tmp_path / "logs" / "key.log"
    append_to_log(log, "one")
    with streams_to_log(log) as note:
        note(f"two on {worker_place()}")
    append_to_log(log, "three\nlines")
    said = [line.split(" ", 2)[-1] for line in log.read_text(encoding="utf-8").splitlines()]
    assert said == ["one", f"two on node {os.uname().nodename}, process {os.getpid()}, CPU", "three", "lines"]


# Disks


def test_a_full_disk_is_one_line_with_the_file_and_what_is_free(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    found = disk_error(caught.value, tmp_path / "results" / "store")
    assert isinstance(found, StoreError)
    assert str(found).startswith(f"{tmp_path}/results/store: found a full disk (")
    assert f"are free at {tmp_path})" in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("text", ["I/O error: No space left on device (os error 28)", "database or disk is full"])
def test_a_full_disk_is_known_by_the_words_of_libraries_too_and_behind_other_errors(text, tmp_path):
    outer = RuntimeError("training failed")
    outer.__cause__ = Exception(text)
    assert "a full disk" in str(disk_error(outer, tmp_path))


def test_a_folder_that_may_not_be_written_is_one_line_and_another_error_is_none_of_the_disk(tmp_path):
    refused = PermissionError(errno.EROFS, "Read-only file system", str(tmp_path / "file"))
    assert f"{tmp_path / 'file'}: found no access from node" in str(disk_error(refused, tmp_path))
    assert disk_error(FileNotFoundError(errno.ENOENT, "no"), tmp_path) is None
    assert disk_error(ValueError("planted"), tmp_path) is None


def test_a_command_that_finds_the_disk_full_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    def full(_results):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "report.html"))

    monkeypatch.setattr("sweep.report.page.publish", full)
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"sweep: {tmp_path}/report.html: found a full disk (")
    assert said.count("\n") == 1


# What a worker tells its driver


def attempted(folder: Path, monkeypatch, fault: Exception, *, store: str = "store") -> tuple[list[dict], str]:
    """(reports, log) of an attempt at a chain on a GPU in which something is raised, also where Tune hears of it."""
    plan, told = plan_of(study_file(folder, runtime={"gpu": 1})), list[dict]()
    (chain,) = plan.planned_chains()

    def fails(_chain, _plan, _store, listener, **_more):
        Meter(1.0, (time.time(), time.process_time()), clocked=True, listener=listener).beat()
        raise fault

    monkeypatch.setattr("sweep.run.tune.tune.report", lambda result: told.append(report_of(result)))
    monkeypatch.setattr("sweep.run.chain.run", fails)
    config = {
        "chain": chain.key, "cell": 0, "hyperparameters": dict(chain.hyperparameters), "seed": 1, "candidate": 0,
        "role": chain.role, "pause_at": None, "devices": 1.0, "keep": False,
    }  # fmt: skip
    with suppress(torch.AcceleratorError):
        chain_trial(config, plan, str(folder / store), Store(folder / "store").claim("small"))
    log = Store(folder / "store").log(chain.key)
    return told, log.read_text(encoding="utf-8") if log.exists() else ""


def test_a_planted_error_fails_its_chain_at_once_on_a_gpu_too_and_leaves_its_traceback(tmp_path, monkeypatch):
    told, said = attempted(tmp_path, monkeypatch, ValueError("planted"))
    assert told[-1]["finished"]
    assert told[-1]["failed"] == "ValueError: planted"
    assert "Traceback (most recent call last)" in said
    assert said.endswith("ValueError: planted\n")


def test_an_error_that_breaks_the_device_is_told_before_its_process_ends(tmp_path, monkeypatch):
    told, said = attempted(tmp_path, monkeypatch, torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert told[-1]["broken"] == "AcceleratorError: CUDA error: device-side assert triggered"
    assert "finished" not in told[-1]
    assert "AcceleratorError" in said


def test_a_worker_whose_disk_is_full_says_so_in_one_line(tmp_path, monkeypatch):
    told, _ = attempted(tmp_path, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert "found a full disk (" in told[-1]["failed"]
    assert "\n" not in told[-1]["failed"]


def test_a_worker_that_does_not_see_the_results_folder_trains_nothing_and_makes_nothing(tmp_path, monkeypatch):
    (last,), said = attempted(tmp_path, monkeypatch, ValueError("it has begun"), store="elsewhere/store")
    assert last["failed"].startswith(
        f"node {os.uname().nodename}: {tmp_path}/elsewhere/store/study.json: found no store"
    )
    assert "Traceback" in last["trace"]  # which the driver keeps: the worker has no folder for it
    assert said == ""
    assert not (tmp_path / "elsewhere").exists()


def test_what_broke_a_device_in_every_process_is_the_reason_and_no_death_without_one(tmp_path):
    plan, ledger = plan_of(study_file(tmp_path, {"seed": [1, 2]})), Ledger(tmp_path / "ledger.sqlite")
    admission, said = Admission(plan, StoreIndex(Store(tmp_path / "store")), ledger, Costs(plan)), list[str]()
    searcher = ChainSearcher(admission, admission.next(), lambda: None, said.append)
    broken, dead = searcher.suggest("one"), searcher.suggest("two")
    searcher.on_trial_result(
        "one", report_to_tune({"broken": "AcceleratorError: CUDA error: lost", "trace": "Traceback ..."})
    )
    for trial in ("one", "two"):
        searcher.on_trial_complete(trial, error=True)
    log = f"logs/{broken['chain']}.log"
    reasons = {chain.key: reason for chain, reason in admission.outcomes.failed}
    assert reasons[broken["chain"]] == f"AcceleratorError: CUDA error: lost; tried in 3 processes ({log})"
    assert "its worker died 3 times" in reasons[dead["chain"]]
    assert "Traceback ..." in (tmp_path / log).read_text(encoding="utf-8")
    assert all(reason in line for reason, line in zip(reasons.values(), said, strict=True))


# What killed runs leave

KILLED = """
import os, signal
from sweep.run.cluster import run_folder
with run_folder() as folder:
    (folder / "ray").mkdir()
    (folder / "ray" / "socket").touch()
    print(folder, oct(folder.stat().st_mode)[-3:], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_temporary_folder_of_a_killed_run_goes_with_the_next_one_and_that_of_a_living_one_stays():
    with run_folder() as alive:
        done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
        folder, mode = done.stdout.split()
        assert mode == "700"
        assert Path(folder).is_dir()
        strange = Path(tempfile.mkdtemp(prefix="sweep-", dir="/tmp"))  # without our mark
        try:
            with run_folder():
                assert not Path(folder).exists()
                assert alive.is_dir()
                assert strange.is_dir()
        finally:
            strange.rmdir()
    assert not alive.exists()


UNFINISHED = """
import os, signal, sys
from pathlib import Path
from sweep.store.artifacts import Store
with Store(Path(sys.argv[1]))._new_folder(Path(sys.argv[1]) / "phases" / "key") as folder:
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_begun_to_write_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    store = Store(tmp_path / "store")
    command = [sys.executable, "-c", UNFINISHED, str(store.root)]
    left = Path(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())
    assert left.is_dir()
    with store._new_folder(store.root / "phases" / "other") as mine:
        store.tidy()
        assert mine.is_dir()
    assert not left.exists()
    assert [path.name for path in (store.root / "phases").iterdir()] == ["other"]


def test_half_a_checkpoint_of_a_killed_process_goes_when_its_phase_goes_on(tmp_path):
    scratch = Store(tmp_path).scratch("key")
    for name in (CHECKPOINT, f".{CHECKPOINT}", ".tmp3cf8gt"):
        (scratch / name).touch()
    with Store(tmp_path).training("key"):
        assert {path.name for path in scratch.iterdir()} == {CHECKPOINT, ".lock", ".lock.holder"}


# Ray


def test_a_ray_that_does_not_start_is_one_line_with_what_to_do_after_some_tries(monkeypatch):
    tries = []

    def start(**_arguments):
        tries.append(1)
        raise Exception("The current node timed out during startup. This could happen because of\nreasons.")

    monkeypatch.setattr("ray.init", start)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(StudyError, match=r"Ray: found 3 starts .*timed out during startup.*; free memory"),
        cluster(Runtime()),
    ):
        raise AssertionError("it has begun")
    assert len(tries) == 3


# Weights that cannot be loaded


class Foreign:
    def __reduce__(self):
        return print, ("code of the file runs",)


def damaged_encoder(folder: Path, name: str, content: bytes) -> Path:
    words = [row["text"] for row in TASKS["world/topic"].source.rows("train", "pivot")]
    tokenizer = small_tokenizer("bert", words)
    tokenizer.save_pretrained(folder)
    random_encoder(SHAPES["bert"], len(tokenizer), tokenizer.pad_token_id, 0).save_pretrained(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content or whole[:-1000])
    return folder


def pickled(value: object) -> bytes:
    stream = BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors", b"", "cut off or damaged (.*); fetch the file again"),
        ("model.safetensors", POINTER, "a Git LFS pointer in the place of weights; 'git lfs pull' there fetches them"),
        ("pytorch_model.bin", POINTER, "a Git LFS pointer in the place of weights"),
        ("pytorch_model.bin", pickled({"a": torch.ones(900)})[:-100], "cut off or damaged"),
        (
            "pytorch_model.bin",
            pickled({"a": Foreign()}),
            "a pickle that is more than tensors and may run any code; it is not",
        ),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "part-1.safetensors"}}', "no /.*/part-1.safetensors"),
    ],
)
def test_check_says_in_one_line_what_is_wrong_with_weights_and_what_is_safe_to_do(name, content, said, tmp_path, capfd):
    folder = damaged_encoder(tmp_path / "encoder", name, content)
    axes = {"encoder": [str(folder)], "target": ["world/retrieval"]}
    path = study_file(tmp_path, axes, pretrain=None, encoders={})
    assert main(["check", str(path)]) == 2
    out, err = capfd.readouterr()
    assert re.search(said, err)
    assert "weights_only" not in err
    assert "code of the file runs" not in out
    assert err.count("\n") == 1


# Whose store it is


def test_a_worker_that_does_not_see_the_store_of_its_driver_names_its_node_and_the_path(tmp_path):
    mark = Store(tmp_path / "store").claim("mine")
    Store(tmp_path / "store").check(mark)
    assert Store(tmp_path / "store").claim("mine") == mark
    with pytest.raises(
        StoreError, match=rf"node {os.uname().nodename}: {tmp_path}/elsewhere/study.json: found no store"
    ):
        Store(tmp_path / "elsewhere").check(mark)
    assert not (tmp_path / "elsewhere").exists()


def test_a_store_under_the_same_path_that_another_driver_has_made_is_not_taken_for_ours(tmp_path):
    mark = Store(tmp_path / "store").claim("mine")
    Store(tmp_path / "other").claim("mine")
    with pytest.raises(StoreError, match="the store of another study or folder"):
        Store(tmp_path / "other").check(mark)


def test_a_chain_that_says_it_has_finished_and_has_left_no_record_has_failed(tmp_path):
    plan, ledger = plan_of(study_file(tmp_path, {"seed": [1, 2]})), Ledger(tmp_path / "ledger.sqlite")
    admission = Admission(plan, StoreIndex(Store(tmp_path / "store")), ledger, Costs(plan))
    lost, stopped = admission.next(), admission.next()
    admission.ended(lost.key, finished=True)
    admission.ended(stopped.key)
    ((failed, reason),) = admission.outcomes.failed
    assert failed == lost
    assert f"{tmp_path}/store has no record" in reason
    assert {row.key: row.state for row in ledger.chains()} == {lost.key: FAILED, stopped.key: STOPPED}
