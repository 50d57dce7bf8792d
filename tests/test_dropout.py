"""Facts about our dropout: what it drops, what it leaves, and that torch's generator decides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sweep.training.dropout import FastDropout, use_fast_dropout


def dropped(inputs: torch.Tensor, p: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return FastDropout(p)(inputs)


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
    layer = FastDropout(0.5)
    assert not torch.equal(layer(inputs), layer(inputs))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything_are_torchs(p):
    assert torch.equal(dropped(torch.ones(9), p), torch.full((9,), 1 - p))


def test_nothing_is_dropped_in_evaluation_and_of_nothing():
    inputs = torch.ones(9)
    assert FastDropout(0.5).eval()(inputs) is inputs
    assert dropped(torch.ones(0, 4), 0.5).shape == (0, 4)


def test_every_plain_dropout_of_a_model_is_exchanged_and_no_other():
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(nn.Dropout(0.2), nn.ModuleList([nn.Dropout(0.3), Own(), nn.Dropout1d()]))
    use_fast_dropout(model)
    kinds = [type(module) for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    assert kinds == [FastDropout, FastDropout, Own, nn.Dropout1d]
    assert model[0].p == 0.2
