"""Faster CPU kernels for linear layers and dropout, where this torch and processor have them.

Linear layers: torch multiplies through MKL, which takes its fast paths on Intel CPUs only. On an AMD CPU (Zen 5, one
core, fp32, 960 x 384 x 1536) that is 102 GFLOP/s against 236 of oneDNN: whole layers are 1.7 to 2 times as fast. The
operator is a private one, which torch's own compiler emits for CPUs; where it is missing, fails or gives other products
than torch's, torch's stays. Results and gradients are torch's up to rounding.

Dropout: torch draws one number per element, 4.3 ns; from random bits it is 1.0 ns. 16 bits decide about an element, so
its probability is a multiple of 2^-16. What is dropped is a function of torch's generator, as torch's own is.

Parameters and state dicts stay as they are. On other devices and types torch's own kernels run.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Kernels = Literal["auto", "torch"]

BITS = 16


def use_cpu_kernels(model: nn.Module) -> None:
    """Replaces the kernels of every plain Linear, Projection and Dropout of a model, as far as those here work."""
    kernels: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: BitDropout}
    if one_dnn_works():
        kernels |= {nn.Linear: OneDnnLinear, Projection: OneDnnProjection}
    for module in model.modules():
        if type(module) in kernels:
            module.__class__ = kernels[type(module)]


def kernels_in_use(kernels: Kernels, device_type: str) -> str:
    """Names of the kernels that compute on a device, for records; empty where it is not a CPU."""
    if device_type != "cpu":
        return ""
    linear = "oneDNN" if kernels == "auto" and one_dnn_works() else "torch"
    return f"linear by {linear}, dropout by {'random bits' if kernels == 'auto' else 'torch'}"


@cache
def one_dnn_works() -> bool:
    """Whether this torch has the operator, with the arguments and the results that are expected here."""
    inputs, weight = torch.arange(6.0, device="cpu").view(2, 3), torch.arange(12.0, device="cpu").view(4, 3) - 5
    try:
        with torch.no_grad():
            return bool(torch.allclose(_product(inputs, weight, weight[:, 0]), inputs @ weight.T + weight[:, 0]))
    except Exception:  # a private operator may fail in any way
        return False


def one_dnn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Linear layer [..., I] x [O, I]' + [O], as torch.nn.functional.linear; by oneDNN for fp32 on a CPU."""
    fast = inputs.device.type == "cpu" and inputs.dtype == weight.dtype == torch.float32
    if not fast or not inputs.numel() or torch.is_autocast_enabled("cpu"):
        return functional.linear(inputs, weight, bias)
    product: Any = _Linear.apply
    result: Tensor = product(inputs, weight, bias)
    return result


class OneDnnLinear(nn.Linear):
    """torch.nn.Linear by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        return one_dnn_linear(input, self.weight, self.bias)


class Projection(nn.Module):
    """Linear layer whose parameters are another module's: [..., I] x [O, I]' + [O]."""

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(inputs, weight, bias)


class OneDnnProjection(Projection):
    """Projection by oneDNN."""

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return one_dnn_linear(inputs, weight, bias)


class BitDropout(nn.Dropout):
    """torch.nn.Dropout with 16 random bits per element; its share is a multiple of 2^-16."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        threshold = round(self.p * 2**BITS)
        if not self.training or input.device.type != "cpu" or not 0 < threshold < 2**BITS or self.inplace:
            return functional.dropout(input, self.p, self.training, self.inplace)
        scaled: Any = _Scaled.apply
        result: Tensor = scaled(input, _kept(input.shape, threshold), 1 / (1 - threshold / 2**BITS))
        return result


class _Linear(torch.autograd.Function):
    """Linear layer and its gradients, by `_product`."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.t(), None) if of_inputs else None,
            _product(flat.t(), inputs.reshape(-1, inputs.shape[-1]).t(), None) if of_weight else None,
            flat.sum(dim=0) if of_bias else None,
        )


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product [..., I] x [O, I]' + [O] by oneDNN."""
    bias = bias if bias is None else bias.contiguous()  # the operator reads one number after the other
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(inputs, weight, bias, "none", [], "")
    return result


def _kept(shape: torch.Size, threshold: int) -> Tensor:
    """Boolean mask of a shape: an element is kept with probability 1 - threshold / 2^BITS, from torch's generator."""
    count, per_number = shape.numel(), 64 // BITS
    bits = np.random.PCG64(int(torch.randint(2**62, ()))).random_raw(-(-count // per_number))
    return torch.from_numpy(bits.view(np.uint16)[:count] >= threshold).view(shape)


class _Scaled(torch.autograd.Function):
    """Kept elements times a factor, and the gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kept: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.factor = factor
        return (inputs * kept).mul_(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.factor), None, None
