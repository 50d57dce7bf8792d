"""Devices by name: how many FLOPs a second they can do, and which part of that chains are known to reach.

Peaks of GPUs are those of NVIDIA's data sheets for matrices without sparsity: bf16, which `precision: auto` takes where
a device has it, and fp32 outside of tensor cores, which torch takes unless told otherwise. h100 and h200 are the SXM
modules. The peak of a core is its clock times what its widest vector units do in a cycle.

What is reached of a peak depends on the encoder and its batches far more than on the device: a range, not a number. On
cores: 20% (96 columns) to 60% (384 columns, docs/benchmarks.md). On GPUs nothing was measured by this project: from
what padded batches of short texts leave of a GPU to what a trainer of large batches reaches.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import StudyError, nearest

CPU = "cpu"
USED = {"core": (0.15, 0.6), "gpu": (0.15, 0.5)}  # of a peak: low and high

# name -> (bf16, fp32), TFLOP/s; bf16 is None where the device has none.
GPUS: dict[str, tuple[float | None, float]] = {
    "t4": (None, 8.1),  # data sheet of 2019; its 65 TFLOP/s are fp16, which no phase uses
    "l4": (121.0, 30.3),  # 2023; 242 with sparsity
    "a10g": (70.0, 35.0),  # 2021; 140 with sparsity
    "a100": (312.0, 19.5),  # 2020; 624 with sparsity
    "h100": (989.0, 67.0),  # 2022, SXM; 1,979 with sparsity
    "h200": (989.0, 67.0),  # 2023, SXM; the H100's processor with more memory
}
ASSUMED_GPU = "a100"  # where a study asks for a GPU and this machine has none that is known

PRICE = re.compile(r"\s*(?P<before>[^\s\d.,-]*)\s*(?P<amount>\d+(\.\d+)?|\.\d+)\s*(?P<after>[^\s\d/]*)\s*/\s*h\s*")

CLOCK = 2.5e9  # cycles per second of a core that does not say its own
CPUINFO, NVIDIA = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Device:
    """A device of a plan: what it is, its peak, and which part of that is expected to be reached."""

    name: str
    peak: float  # FLOPs per second
    of: str  # the precision that the peak is of, and where it is from where no data sheet says it
    used: tuple[float, float]  # low and high

    def seconds(self, flops: float) -> tuple[float, float]:
        """Least and most device-seconds that so many FLOPs take."""
        low, high = self.used
        return flops / self.peak / high, flops / self.peak / low

    def __str__(self) -> str:
        low, high = self.used
        return f"{self.name}: {low:.0%} to {high:.0%} of its peak, {_rate(self.peak)} in {self.of}"


@dataclass(frozen=True)
class Price:
    """Price of an hour of a device, in whatever currency."""

    amount: float
    before: str = ""  # texts around an amount, such as "$" or "EUR"
    after: str = ""

    @classmethod
    def read(cls, text: str) -> Price:
        """Price of a text such as 2.5/h, $2.5/h or 2.5 EUR/h. Raises StudyError."""
        found = PRICE.fullmatch(text)
        if found is None:
            expected = "an amount per device-hour is expected, such as 2.5/h, $2.5/h or '2.5 EUR/h'"
            raise StudyError("--price", repr(text), expected)
        return cls(float(found["amount"]), found["before"], found["after"])

    def of(self, device_seconds: float) -> float:
        """Price of so many device-seconds."""
        return self.amount * device_seconds / 3600

    def written(self, low: float, high: float) -> str:
        """Range of amounts in words, with the currency as it was given."""
        before = self.before if not self.before or not self.before[-1].isalnum() else f"{self.before} "
        return f"{before}{_rounded(low)} to {_rounded(high)}{f' {self.after}' if self.after else ''}"

    def __str__(self) -> str:
        return f"{self.before}{self.amount:g}{f' {self.after}' if self.after else ''} per device-hour"


def device_of(gpus: float, precision: str, on: str | None = None) -> Device:
    """Device that chains of a study run on: that of the name `on`, else what this machine has of its kind.

    `gpus` and `precision` are those of the study's runtime. Raises StudyError for an unknown name.
    """
    name = on.lower() if on is not None else "" if gpus else CPU
    if name == CPU:
        return _core()
    if name in GPUS:
        return _gpu(name, name, precision)
    if on is not None:
        known = [*GPUS, CPU]
        raise StudyError("--on", repr(on), f"one of {', '.join(known)} is expected", nearest(name, known))
    if (here := _gpu_here()) is not None:
        return _gpu(here, f"{here}, this machine's", precision)
    return _gpu(ASSUMED_GPU, f"{ASSUMED_GPU}, assumed (--on names another)", precision)


def _gpu(name: str, shown: str, precision: str) -> Device:
    bf16, fp32 = GPUS[name]
    if bf16 is None or precision == "fp32":
        return Device(shown, fp32 * 1e12, "fp32", USED["gpu"])
    return Device(shown, bf16 * 1e12, "bf16", USED["gpu"])


def _gpu_here() -> str | None:
    """Name of this machine's first GPU in GPUS, as its driver's files say; nothing is loaded or called for it."""
    for file in sorted(NVIDIA.glob("*/information")):
        with suppress(OSError):
            words = re.findall(r"[a-z0-9]+", file.read_text(encoding="utf-8", errors="replace").lower())
            return next((word for word in words if word in GPUS), None)
    return None


def _core() -> Device:
    """A core of this machine, by what its kernel says of it."""
    text = ""
    with suppress(OSError):
        text = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    said = dict(re.findall(r"(?m)^([^\t:]+)\t*: ?(.*)$", text))
    clock = float(said.get("cpu MHz", CLOCK / 1e6)) * 1e6
    width, units = _vectors(said.get("flags", ""), said.get("vendor_id", ""))
    return Device("a core of this machine", clock * width, f"fp32 ({units} at {clock / 1e9:.1f} GHz)", USED["core"])


def _vectors(flags: str, vendor: str) -> tuple[int, str]:
    """FLOPs per cycle in fp32 of a core with these flags, and the vector units that do them.

    A fused multiply-add counts two; cores have two such units. Of AMD's cores with AVX-512 the common ones (Zen 4) do
    half an instruction in a cycle.
    """
    has = set(flags.split())
    if "avx512f" in has and vendor != "AuthenticAMD":
        return 64, "AVX-512"
    if "avx512f" in has or {"avx2", "fma"} <= has:
        return 32, "AVX-512 in halves" if "avx512f" in has else "AVX2"
    return 16, "vectors of 128 bits"


def _rounded(amount: float) -> str:
    """An amount in three digits, from a thousand on without fractions."""
    return f"{float(f'{amount:.3g}'):,.0f}" if amount >= 1000 else f"{amount:.3g}"


def _rate(flops: float) -> str:
    return f"{flops / 1e12:,.3g} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:,.3g} GFLOP/s"
