"""Facts about the kernels for CPUs: they compute what torch's do, drop what was asked for, and can be left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_studies import finish, study_file
from tiny_models import HEADS, PAD, SHAPES, VOCABULARY, toy
from torch import nn

from sweep.models import cpu_kernels
from sweep.models.batches import DeviceData
from sweep.models.cpu_kernels import BitDropout, kernels_in_use, one_dnn_linear, one_dnn_works, use_cpu_kernels
from sweep.models.encoders import random_encoder
from sweep.models.model import MultiTaskModel
from sweep.store.artifacts import Store

SHORT: dict[str, Any] = {"pretrain": {"steps": 4}, "target": {"steps": 2}, "scoring": {"examples": 8}}


def dropped(inputs: torch.Tensor, p: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return BitDropout(p)(inputs)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_for_and_the_mean_stays(p):
    result = dropped(torch.ones(1000, 1001), p)
    share = float((result == 0).float().mean())
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / result.numel()) ** 0.5 + 2**-17)
    assert float(result.mean()) == pytest.approx(1, abs=0.01)
    kept = result[result != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-3)


def test_neighbours_are_dropped_independently():
    zero = dropped(torch.ones(1_000_000), 0.3) == 0
    for distance in (1, 2, 3, 4, 1000):
        assert float((zero[distance:] & zero[:-distance]).float().mean()) == pytest.approx(0.09, abs=0.003)


def test_the_gradient_is_dropped_where_the_value_is():
    inputs = torch.randn(7, 5, 3, requires_grad=True)
    result = dropped(inputs, 0.4)
    result.sum().backward()
    assert torch.equal(inputs.grad == 0, result == 0)
    torch.testing.assert_close(result, inputs * inputs.grad)


def test_torchs_seed_decides():
    inputs = torch.ones(50, 50)
    assert torch.equal(dropped(inputs, 0.5, seed=1), dropped(inputs, 0.5, seed=1))
    assert not torch.equal(dropped(inputs, 0.5, seed=1), dropped(inputs, 0.5, seed=2))
    torch.manual_seed(1)
    layer = BitDropout(0.5)
    assert not torch.equal(layer(inputs), layer(inputs))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_are_torchs(p):
    assert torch.equal(dropped(torch.ones(9), p), torch.full((9,), 1 - p))


def test_nothing_is_dropped_in_evaluation_and_of_nothing():
    inputs = torch.ones(9)
    assert BitDropout(0.5).eval()(inputs) is inputs
    assert dropped(torch.ones(0, 4), 0.5).shape == (0, 4)


def test_every_plain_dropout_of_a_model_is_exchanged_and_no_other():
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(nn.Dropout(0.2), nn.ModuleList([nn.Dropout(0.3), Own(), nn.Dropout1d()]))
    use_cpu_kernels(model)
    kinds = [type(module) for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert kinds == [BitDropout, BitDropout, Own, nn.Dropout1d]
    assert model[0].p == 0.2


def test_as_many_are_dropped_as_by_torch_and_the_gradient_has_the_same_scale():
    for p in (0.1, 0.5):
        kept = []
        for layer in (BitDropout(p), nn.Dropout(p)):
            torch.manual_seed(0)
            inputs = torch.ones(1000, 1000, requires_grad=True)
            layer(inputs).sum().backward()
            kept.append(inputs.grad[inputs.grad != 0])
        assert len(kept[0]) == pytest.approx(len(kept[1]), rel=0.01)
        torch.testing.assert_close(kept[0][0], kept[1][0], rtol=1e-4, atol=0)


# ---- linear layers


@pytest.mark.parametrize("shape", [(7, 5, 12), (3, 12), (12,), (0, 12)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_layers_and_their_gradients_are_torchs(shape, with_bias):
    """Up to the rounding of fp32, for any leading shape."""
    draw = torch.Generator().manual_seed(0)
    inputs, weight, bias = (torch.randn(s, generator=draw) for s in (shape, (9, 12), (9,)))
    results = []
    for product in (one_dnn_linear, torch.nn.functional.linear):
        given = [tensor.clone().requires_grad_() for tensor in (inputs, weight, bias)[: 3 if with_bias else 2]]
        out = product(*given, *([] if with_bias else [None]))
        out.square().sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in given)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("family", ["sequence", "token", "masked"])
def test_a_models_loss_and_gradients_are_those_of_torchs_kernels(family):
    """In evaluation, where nothing is dropped."""
    batch = DeviceData(toy(family), "cpu", PAD).batch(np.arange(24))
    results = []
    for kernels in ("auto", "torch"):
        model = model_with(kernels, family).eval()
        loss = model.loss(model.prepare(batch, family, seed=0), family)
        loss.backward()
        results.append({"loss": loss.detach(), **{name: p.grad for name, p in model.named_parameters()}})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-4, atol=1e-5)


def test_a_bias_with_gaps_in_memory_is_read_as_it_is():
    inputs, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    torch.testing.assert_close(one_dnn_linear(inputs, weight, weight[:, 0]), inputs @ weight.T + weight[:, 0])


# ---- which kernels run


def kinds(model: nn.Module) -> set[str]:
    own = {"OneDnnLinear", "OneDnnProjection", "BitDropout"}
    return own & {type(module).__name__ for module in model.modules()}


def model_with(kernels: str, family: str = "masked") -> MultiTaskModel:
    encoder = random_encoder(SHAPES["bert"], VOCABULARY, PAD, 0)
    return MultiTaskModel(encoder, {family: HEADS[family]}, seed=0, pad_id=PAD, cpu_kernels=kernels)


@pytest.fixture
def without_operator(monkeypatch):
    """A torch that has no such operator, or one with other arguments, or other results."""

    def lacking(product):
        monkeypatch.setattr(cpu_kernels, "_product", product)
        one_dnn_works.cache_clear()

    yield lacking
    monkeypatch.undo()
    one_dnn_works.cache_clear()


def gone(*_):
    return torch.ops.mkldnn.no_such_operator.default


def changed(inputs, weight, _):
    return torch.ops.mkldnn._linear_pointwise.default(inputs, weight)


def wrong(inputs, weight, _):
    return torch.zeros(*inputs.shape[:-1], len(weight))


@pytest.mark.skipif(not one_dnn_works(), reason="this torch has no oneDNN")
def test_auto_takes_all_of_them():
    assert kinds(model_with("auto")) == {"OneDnnLinear", "OneDnnProjection", "BitDropout"}
    assert kernels_in_use("auto", "cpu") == "linear by oneDNN, dropout by random bits"


@pytest.mark.parametrize("product", [gone, changed, wrong])
def test_where_the_private_operator_is_gone_or_another_linear_layers_are_torchs(product, without_operator):
    without_operator(product)
    model = model_with("auto")
    assert kinds(model) == {"BitDropout"}
    assert kernels_in_use("auto", "cpu") == "linear by torch, dropout by random bits"
    batch = DeviceData(toy("masked"), "cpu", PAD).batch(np.arange(24))
    model.loss(model.prepare(batch, "masked", seed=0), "masked").backward()


def test_torch_takes_none_of_them(monkeypatch):
    def refuse(*_):
        raise AssertionError("a kernel of ours ran")

    for name in ("_product", "_kept"):
        monkeypatch.setattr(cpu_kernels, name, refuse)
    model = model_with("torch").train()
    assert kinds(model) == set()
    batch = DeviceData(toy("masked"), "cpu", PAD).batch(np.arange(24))
    model.loss(model.prepare(batch, "masked", seed=0), "masked").backward()
    assert kernels_in_use("torch", "cpu") == "linear by torch, dropout by torch"


def test_looking_for_the_operator_draws_no_random_number():
    one_dnn_works.cache_clear()
    before = torch.get_rng_state()
    one_dnn_works()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_gpu_has_no_kernels_to_speak_of():
    assert kernels_in_use("auto", "cuda") == ""


def test_a_study_chooses_them_keys_do_not_and_records_say_which(tmp_path):
    keys, records = [], []
    for kernels in ("auto", "torch"):
        folder = tmp_path / kernels
        folder.mkdir()
        store, path = Store(folder / "store"), study_file(folder, runtime={"cpu_kernels": kernels}, **SHORT)
        (chain,) = finish(path, store)
        keys.append((*(phase.key for phase in chain.phases), chain.score))
        records.append([*(store.phase(phase.key) for phase in chain.phases), store.score(chain.score)])
    assert keys[0] == keys[1]
    for made, kernels in zip(records, ("auto", "torch"), strict=True):
        assert {record.kernels for record in made} == {kernels_in_use(kernels, "cpu")}
