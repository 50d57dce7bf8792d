"""All that only a GPU can show, part by part into one JSON; `benchmarks/gpu.sh` calls it on a bare machine.

    benchmarks/gpu.sh [WHEELS] [OUT] [--parts machine tests ...] [--minutes 8]

Each part is a process of its own with a limit of its own, and notes what it finds as soon as it is there: one that
crashes or is late loses nothing of the others, and its traceback stands in the JSON. Without a GPU shapes are tiny.

    machine   versions, rates of large matrix products and copies, which attention kernels take a mask
    tests     tests/train/test_gpu.py, outcome by outcome
    base      fit() against Trainer in bf16, XLM-R base with random weights, batches of 32 and 256 texts
    step      what a step of fit() is made of: the GPU's busy share, launches, the kernels that take longest
    chain     whole chains without Ray in bf16 and fp32: seconds and scores
    shapes    the cost of many batch shapes, by attention kernel and by what lengths are rounded up to
    large     as base, XLM-R large
    memory    bytes of a chain and chains per card with all rows and with 20,000; copies to the host
    shares    2 and 4 chains side by side on the card against one after another
    score     score() against Trainer.evaluate(), sentences per second
    flat      Trainer with flattened batches and flash attention, where flash_attn is installed
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "benchmarks")]
RESULT, LOG = "gpu.json", "gpu.log"
CARD_BYTES = 80e9  # chains are counted for such a card
ROWS = 20_000  # of the vocabulary that a study of some languages meets
BATCH_TOKENS = 4096
LENGTHS = {"mean": 3.2, "sigma": 0.65}  # of the logarithm: sentence classification, mean near 30 tokens
PAD = 1
GOALS = {  # part, name of the value, at least
    "base: Trainer's seconds / fit()'s, 32 texts": ("base", "32 texts: times as fast", 3.0),
    "base: Trainer's seconds / fit()'s, 256 texts": ("base", "256 texts: times as fast", 3.0),
    "base: share of the matrix rate, 256 texts": ("base", "256 texts: share of the matrix rate", 0.45),
    "large: share of the matrix rate, 256 texts": ("large", "256 texts: share of the matrix rate", 0.5),
    "two chains together / one after the other": ("shares", "2 chains: times one", 1.0),
}
Note = Callable[..., None]  # adds values to the part's result


@dataclass(frozen=True)
class Size:
    """How much is measured: as on a GPU, or just enough to try every line."""

    device: str
    tiny: bool

    def of(self, large: Any, small: Any) -> Any:
        return small if self.tiny else large


def main() -> None:
    """Runs the parts one after another and prints what they found; with --part, one of them."""
    parser = argparse.ArgumentParser(description="all that only a GPU can show")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of each part's limit, on a slow machine")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        _one(arguments.part, arguments.out / RESULT)
        return
    (arguments.out / RESULT).write_text("{}\n", encoding="utf-8")
    (arguments.out / LOG).write_text("", encoding="utf-8")
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.parts:
        limit = min(arguments.patience * PARTS[name][1], end - time.monotonic())
        _supervised(name, limit, arguments.out)
    _summary(json.loads((arguments.out / RESULT).read_text(encoding="utf-8")))


# ---- parts as processes ----------------------------------------------------------------------------------------------


def _supervised(name: str, limit: float, out: Path) -> None:
    """Runs a part in a process, ends it and all of its children at the limit, and notes how it ended."""
    if limit < 5:
        _note(out / RESULT, name, state="left out: no time was left", seconds=0.0)
        return
    begun = time.monotonic()
    command = [sys.executable, __file__, "--out", str(out), "--part", name]
    with (out / LOG).open("a", encoding="utf-8") as log:
        print(f"==== {name}", file=log, flush=True)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limit)
            state = "done" if not code else f"failed with code {code}"
        except subprocess.TimeoutExpired:
            state = f"ended at its limit of {limit:.0f} s; what it had found is kept"
        finally:
            _end_group(process)
    seconds = round(time.monotonic() - begun, 1)
    _note(out / RESULT, name, state=state, seconds=seconds)
    print(f"{name}: {state}, {seconds} s", flush=True)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _one(name: str, result: Path) -> None:
    """Runs one part here; a traceback goes into the result."""
    try:
        import torch

        gpu = torch.cuda.is_available()
        if not gpu:
            torch.set_num_threads(1)
        PARTS[name][0](Size("cuda" if gpu else "cpu", tiny=not gpu), lambda **values: _note(result, name, **values))
    except Exception:
        _note(result, name, traceback=traceback.format_exc())
        raise


def _note(result: Path, name: str, **values: Any) -> None:
    """Adds values to a part's result, in one move: one process writes at a time."""
    content = json.loads(result.read_text(encoding="utf-8"))
    content.setdefault(name, {}).update(values)
    unfinished = result.with_suffix(".new")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(result)


def _summary(content: Mapping[str, Any]) -> None:
    print(json.dumps({name: _shown(part) for name, part in content.items()}, indent=1))
    for name, (part, value, least) in GOALS.items():
        found = content.get(part, {}).get(value)
        met = "not measured" if found is None else f"{found:.2f}, {'met' if found >= least else 'MISSED'}"
        print(f"{name}: goal {least}, {met}")
    for name, part in content.items():
        if part["state"] != "done":
            print(f"{name}: {part['state']}: {part.get('traceback', '').strip().splitlines()[-1:]}")


def _shown(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part without what is long: it stands in the file."""
    return {name: value for name, value in part.items() if len(json.dumps(value)) < 1000}


# ---- machine ---------------------------------------------------------------------------------------------------------


def _machine(size: Size, note: Note) -> None:
    import torch

    packages = ("torch", "transformers", "tokenizers", "numpy", "accelerate", "flash_attn", "triton", "pyarrow")
    note(
        device=torch.cuda.get_device_name() if size.device == "cuda" else platform.machine(),
        python=platform.python_version(), cores=os.cpu_count(), commit=_commit(),
        versions={name: _version(name) for name in packages}, cuda=torch.version.cuda,
    )  # fmt: skip
    if size.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        cudnn: Any = torch.backends.cudnn
        note(bytes=properties.total_memory, multiprocessors=properties.multi_processor_count, cudnn=cudnn.version(),
             capability=list(torch.cuda.get_device_capability()))  # fmt: skip
    from fit import matrix_rate

    for precision in size.of(("bf16", "fp32"), ("fp32",)):
        note(**{f"matrix rate, {precision}": matrix_rate(precision)})
    numbers = torch.ones(size.of(2**30, 2**20), device=size.device)
    other, seconds = torch.empty_like(numbers), []
    for _ in range(5):
        begin = _now(size)
        other.copy_(numbers)
        seconds.append(_now(size) - begin)
    note(**{"copied, bytes/s": 2 * 4 * len(numbers) / min(seconds)})
    note(attention=_attention(size))


def _attention(size: Size) -> dict[str, str]:
    """The attention kernel that torch chooses for bf16 with dropout, by the mask it is given, as encoders give it."""
    import torch
    from torch.nn.attention import SDPBackend

    choose: Any = torch._fused_sdp_choice
    kind, heads, length = torch.bfloat16, 12, 40
    query = torch.randn(64, heads, length, 64, device=size.device, dtype=kind, requires_grad=True)
    mask = torch.ones(64, 1, 1, length, device=size.device, dtype=torch.bool)
    mask[::2, ..., 30:] = False
    masks = {"no mask": None, "bool mask": mask, "bf16 mask": torch.zeros(mask.shape, dtype=kind, device=size.device)}
    found = {}
    for name, one in masks.items():
        found[name] = str(SDPBackend(choose(query, query, query, attn_mask=one, dropout_p=0.1)))
    return found


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now(size: Size) -> float:
    """Time when the device has done all that it was given."""
    import torch

    if size.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


# ---- tests -----------------------------------------------------------------------------------------------------------


def _tests(_size: Size, note: Note) -> None:
    """Outcome of every test. Options of the project's own runs, which need more plugins, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        options = ["-q", "-o", "addopts=", "-o", "filterwarnings=", "--import-mode=importlib", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", "tests/train/test_gpu.py"]
        code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    outcomes: dict[str, list[str]] = {"passed": [], "failure": [], "error": [], "skipped": []}
    messages = {}
    for case in cases:
        name, told = str(case.get("name")), [child for child in case if child.tag in outcomes]
        outcomes[told[0].tag if told else "passed"].append(name)
        if told:
            messages[name] = (told[0].text or told[0].get("message") or "")[-3000:]
    note(code=code, passed=len(outcomes["passed"]), messages=messages,
         **{kind: names for kind, names in outcomes.items() if kind != "passed"})  # fmt: skip
    assert code == 0, f"pytest ended with {code}"


# ---- fit() -----------------------------------------------------------------------------------------------------------


def _fit(shape: str, size: Size, note: Note) -> None:
    """fit() against Trainer with dynamic padding, for the usual batch and for one that fills the card."""
    import fit

    many = ((32, 4800), (256, 19_200)) if shape == "base" else ((32, 2400), (256, 9600))
    for batch, examples in size.of(many, ((32, 64),)):
        words = ["--batch", str(batch), "--examples", str(examples), "--pairs", str(size.of(2, 1))]
        arguments = fit.parsed([*words, *_shape_words(shape, size)])
        turns = []
        for turn in fit.measured(arguments):
            turns.append(turn)
            found = _compared(turns, fit.matrix_rate(arguments.precision))
            note(**{f"{batch} texts: {name}": value for name, value in found.items()})


def _shape_words(shape: str, size: Size) -> list[str]:
    return ["--shape", "tiny", "--threads", "1"] if size.tiny else ["--shape", shape]


def _compared(turns: list[dict[str, Any]], possible: float) -> dict[str, Any]:
    """The best of each side's turns, and the ratios of each."""
    best = {name: min((turn[name] for turn in turns), key=lambda run: run.seconds) for name in turns[0]}
    ours, theirs = best["fit()"], best["Trainer"]
    found: dict[str, Any] = {
        "times as fast": theirs.seconds / ours.seconds,
        "share of the matrix rate": ours.flops / ours.seconds / possible,
    }
    for name, run in best.items():
        found |= {f"{name} tokens/s": run.tokens / run.seconds, f"{name} ms/step": 1000 * run.seconds / run.steps,
                  f"{name} peak bytes": run.peak_bytes, f"{name} dev loss": run.loss}  # fmt: skip
    return found


def _flat(_size: Size, note: Note) -> None:
    import fit

    reason = fit.no_flash_attention()
    if reason:
        note(skipped=reason)
        return
    arguments = fit.parsed(["--shape", "base", "--batch", "256", "--examples", "12800", "--pairs", "1", "--flatten"])
    for turn in fit.measured(arguments):
        note(**_compared([turn], fit.matrix_rate(arguments.precision)))
        note(**{"fit() against flat": turn["flat"].seconds / turn["fit()"].seconds})


# ---- one step --------------------------------------------------------------------------------------------------------


def _steps(shape: str, size: Size, rows: int, batch_tokens: int) -> Iterator[Any]:
    """Steps of fit() of XLM-R's shape with random weights, on texts of usual lengths, without end."""
    from sweep.train.data import Mixture, Stream
    from sweep.train.loop import FitSettings, fit

    mixture = Mixture((Stream("topic", _texts(rows, size)),), batch_tokens, seed=1)
    settings = FitSettings(1e-5, steps=100_000, seed=1, precision="bf16")
    return fit(_model(shape, size, rows), mixture, settings)


def _model(shape: str, size: Size, rows: int) -> Any:
    from shapes import SIZES, random_model, xlm_r

    return random_model(xlm_r(*SIZES[size.of(shape, "tiny")]), size.of(rows, 500), size.device, PAD)


def _texts(rows: int, size: Size) -> Any:
    import numpy as np

    from sweep.data.encoded import EncodedSequence, from_sequences

    draw, words = np.random.default_rng(7), size.of(rows, 500)
    lengths = np.clip(draw.lognormal(LENGTHS["mean"], LENGTHS["sigma"], size.of(20_000, 200)), 4, 128).astype(int)
    texts = (draw.integers(5, words, length).tolist() for length in lengths)
    return from_sequences(EncodedSequence(text, number, [number % 3]) for number, text in enumerate(texts))


def _step(size: Size, note: Note) -> None:
    """Busy share, launches and longest kernels of steps; rows and batches as users have them."""
    from shapes import VOCABULARY

    cases = [("base", VOCABULARY, 1024), ("base", VOCABULARY, 4096), ("base", ROWS, 4096), ("base", ROWS, 16_384)]
    cases += [("large", ROWS, 4096)]
    for shape, rows, tokens in size.of(cases, cases[:1]):
        note(**{f"{shape}, {rows} rows, {tokens} tokens": _profiled(_steps(shape, size, rows, tokens), size)})


def _profiled(steps: Iterator[Any], size: Size) -> dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    count = size.of(10, 2)
    if size.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(count):
        last = next(steps)
    begin, before = _now(size), last.tokens
    for _ in range(count):
        last = next(steps)
    host = time.perf_counter() - begin  # until all was handed over
    seconds = _now(size) - begin
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if size.device == "cuda" else [])]
    with profile(activities=kinds) as profiler:
        for _ in range(count):
            next(steps)
        _now(size)
    # An operator of the host has the time of its kernels too, and so has a note of where the optimizer steps.
    ran = [one for one in profiler.key_averages() if one.device_type.name == "CUDA" and not one.is_user_annotation]
    kernels = [(one.key, one.self_device_time_total / 1e6, one.count) for one in ran]
    kernels.sort(key=lambda kernel: -kernel[1])
    busy = sum(kernel[1] for kernel in kernels)
    return {
        "ms/step": 1000 * seconds / count, "host ms/step": 1000 * host / count,
        "tokens/s": (last.tokens - before) / seconds,
        "busy share": busy / seconds,  # the profiler slows the host, hardly the kernels
        "launches/step": sum(kernel[2] for kernel in kernels) / count,
        "longest": [[key[:90], round(1000 * spent / count, 3), number / count] for key, spent, number in kernels[:14]],
        "peak bytes": torch.cuda.max_memory_allocated() if size.device == "cuda" else 0,
    }  # fmt: skip


# ---- batch shapes ----------------------------------------------------------------------------------------------------


def _shapes(size: Size, note: Note) -> None:
    """Tokens per second of forward and backward passes over the same batches, the first time and again."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernels: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "torch's choice": nullcontext,
        "cuDNN": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
        "memory-efficient": lambda: sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
        "math": lambda: sdpa_kernel(SDPBackend.MATH),
    }
    cases = [
        ("torch's choice", 1, True),
        ("cuDNN", 1, True),
        ("memory-efficient", 1, True),
        ("torch's choice", 8, True),
    ]
    cases += [("torch's choice", 1, False), ("torch's choice", 16, True), ("torch's choice", 32, True)]
    cases += [("cuDNN", 8, True), ("cuDNN", 16, True), ("memory-efficient", 8, True), ("math", 1, True)]
    model, texts = _model("base", size, ROWS), _texts(ROWS, size)
    for number, (kernel, multiple, masked) in enumerate(size.of(cases, [cases[0], cases[-1]])):
        name = f"{kernel}, lengths rounded up to {multiple}{'' if masked else ', without a mask'}"
        try:
            # Another number of tokens gives other shapes: what earlier cases have planned does not help.
            tokens = BATCH_TOKENS + 160 * ((number + 1) // 2) * (-1) ** number
            batches = _rounded(texts, size, tokens, multiple, masked=masked)
            with kernels[kernel]():
                note(**{name: _passes(model, batches, size)})
        except RuntimeError as refused:  # a kernel that cannot take it
            note(**{name: f"{refused}"[:300]})


def _rounded(texts: Any, size: Size, batch_tokens: int, multiple: int, *, masked: bool) -> list[Any]:
    """Batches on the device, cut by lengths that are rounded up to multiples; all with a mask or all without.

    Batches that are rounded when they are cut have as many shapes as before: their numbers of sequences still differ.
    """
    from dataclasses import replace

    import torch
    from torch.nn.functional import pad

    from sweep.data.encoded import EncodedSequence, from_sequences
    from sweep.models.batches import DeviceData, epoch_batches

    lengths = -(-texts.lengths() // multiple) * multiple
    rounded = from_sequences(EncodedSequence([PAD] * int(n), number, [0]) for number, n in enumerate(lengths))
    data, batches = DeviceData(texts, size.device, PAD), []
    for ids in epoch_batches(rounded, batch_tokens, seed=1, epoch=0)[: size.of(50, 2)]:
        batch = data.batch(ids)
        more = int(lengths[ids].max()) - batch.input_ids.shape[1]
        real = (
            torch.ones_like(batch.input_ids, dtype=torch.bool) if batch.attention_mask is None else batch.attention_mask
        )
        inputs, mask = pad(batch.input_ids, (0, more), value=PAD), pad(real, (0, more), value=False)
        batches.append(replace(batch, input_ids=inputs, attention_mask=mask if masked else None))
    return batches


def _passes(model: Any, batches: list[Any], size: Size) -> dict[str, float]:
    seconds = []
    for _ in range(2):
        begin = _now(size)
        for batch in batches:
            with model.train().autocast("bf16"):
                loss = model.loss(batch, "topic")
            loss.backward()
            model.zero_grad(set_to_none=True)
        seconds.append(_now(size) - begin)
    tokens = sum(batch.tokens for batch in batches)
    shapes = {tuple(batch.input_ids.shape) for batch in batches}
    first, again = (tokens / spent for spent in seconds)
    extra = 1000 * (seconds[0] - seconds[1]) / len(shapes)
    padded = sum(batch.padded_tokens for batch in batches) / tokens
    return {
        "shapes": len(shapes),
        "padded / real tokens": padded,
        "tokens/s, first": first,
        "tokens/s, again": again,
        "ms more per new shape": extra,
    }


# ---- memory ----------------------------------------------------------------------------------------------------------


def _memory(size: Size, note: Note) -> None:
    """Bytes of one chain in training; seconds of the copies that checkpoints and the best weights take."""
    import torch
    from shapes import VOCABULARY

    from sweep.models.batches import peak_memory, reset_peak_memory
    from sweep.models.encoders import cpu_copy

    for shape, rows in size.of([(s, r) for s in ("base", "large") for r in (VOCABULARY, ROWS)], [("base", VOCABULARY)]):
        if size.device == "cuda":
            reset_peak_memory()
        steps = _steps(shape, size, rows, BATCH_TOKENS)
        for _ in range(size.of(12, 2)):
            last = next(steps)
        found = {}
        if size.device == "cuda":
            taken, _ = peak_memory()
            found = {"peak bytes, CUDA's own included": taken, "chains per 80 GB": int(CARD_BYTES // taken),
                     "peak bytes allocated": torch.cuda.max_memory_allocated()}  # fmt: skip
        begin = _now(size)
        state = last.snapshot()
        found["s, copy of a checkpoint"] = _now(size) - begin
        found["bytes of a checkpoint"] = sum(tensor.nbytes for tensor in state["tensors"].values())
        weights = [tensor.to(size.device) for name, tensor in state["tensors"].items() if name.startswith("weights/")]
        found["bytes of the weights"] = sum(tensor.nbytes for tensor in weights)
        ways: dict[str, Callable[[Any], Any]] = {
            "pageable": cpu_copy,
            "pinned": lambda tensor: tensor.to("cpu", non_blocking=True),
        }
        for name, copy in ways.items():
            for turn in ("first", "again"):
                begin = _now(size)
                copies = [copy(tensor) for tensor in weights]
                found[f"s, copy of the weights, {name}, {turn}"] = _now(size) - begin
                del copies
        note(**{f"{shape}, {rows} rows": found})
        del state, weights, steps, last


# ---- scoring, sharing, whole chains ----------------------------------------------------------------------------------


def _score(size: Size, note: Note) -> None:
    import score

    words = size.of(["--examples", "300", "--pairs", "2"], ["--languages", "3", "--examples", "10", "--pairs", "1"])
    words += size.of([], ["--layers", "2", "--hidden", "64", "--threads", "1"])
    note(**score.measure(score.parsed(words)))


def _shares(size: Size, note: Note) -> None:
    import shares

    words = ["--shape", size.of("base", "tiny"), "--vocabulary", str(size.of(ROWS, 500)), "--device", size.device]
    words += ["--seconds", str(size.of(5, 0.2)), "--chains", "1"]
    for tokens, counts in size.of(((BATCH_TOKENS, (1, 2, 4)), (1024, (1, 2))), ((1024, (1, 2)),)):
        alone = 0.0
        for count in counts:
            (speed,) = shares.measure(shares.parsed([*words[:-1], str(count), "--batch-tokens", str(tokens)])).values()
            alone = alone or speed
            name = f"{count} chains" if tokens == BATCH_TOKENS or size.tiny else f"{count} chains of {tokens} tokens"
            note(**{f"{name}: tokens/s": speed, f"{name}: times one": speed / alone})


def _chain(size: Size, note: Note) -> None:
    """One chain of the embedded benchmark in each precision, as `sweep run --inline` runs it."""
    from sweep.run.inline import lines_to, run_chain
    from sweep.store import paths
    from sweep.store.artifacts import Store

    with tempfile.TemporaryDirectory() as folder:
        for precision in size.of(("fp32", "bf16"), ("fp32",)):
            study = _study(Path(folder) / precision, size, precision)
            begun = time.monotonic()
            done = run_chain(Path(folder) / "study.yaml", {"seed": 0}, json.dumps(study), lines_to(print))
            store = Store(done.results / paths.STORE)
            scores, last = store.score(done.chain.score), store.phase(done.chain.phases[-1].key)
            assert scores is not None
            assert last is not None
            note(**{precision: {
                "seconds": time.monotonic() - begun, "device": last.device, "precision": last.precision,
                "device-seconds of the target phase and of scoring": [last.device_seconds, scores.device_seconds],
                "scores": {language: entry["value"] for language, entry in scores.languages.items()},
            }})  # fmt: skip


def _study(results: Path, size: Size, precision: str) -> dict[str, Any]:
    phase = {"learning_rate": 1e-3, "batch_tokens": 1024, "dropout": 0.0, "evaluations": 2, "dev_examples": 300,
             "collapse_margin": -1, **size.of({"epochs": 1}, {"steps": 4})}  # fmt: skip
    return {
        "study": "gpu", "results": str(results),
        "axes": {"encoder": ["world/tiny"], "intermediate": ["world/qa"], "target": ["world/qa_small"], "seed": [0]},
        "intermediate": phase, "target": phase, **size.of({}, {"scoring": {"examples": 20}}),
        "runtime": {"gpu": int(size.device == "cuda"), "precision": precision},
    }  # fmt: skip


PARTS: dict[str, tuple[Callable[[Size, Note], None], float]] = {  # with the seconds that each may take
    "machine": (_machine, 45),
    "tests": (_tests, 110),
    "base": (lambda size, note: _fit("base", size, note), 90),
    "step": (_step, 60),
    "chain": (_chain, 60),
    "shapes": (_shapes, 75),
    "large": (lambda size, note: _fit("large", size, note), 90),
    "memory": (_memory, 60),
    "shares": (_shares, 100),
    "score": (_score, 60),
    "flat": (_flat, 60),
}


if __name__ == "__main__":
    main()
