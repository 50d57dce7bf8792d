"""Facts about a device that runs out of memory: the same step in smaller parts, nothing lost, an end where none fits.

Without a GPU the error is raised by a hook in the encoder, as torch raises it: in the middle of a forward pass.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from tiny_models import HEADS, PAD, tiny_model, toy

from sweep.data import IGNORED
from sweep.evaluate.linear_probe import linear_features
from sweep.models.batches import DeviceData, micro_batches
from sweep.models.model import MultiTaskModel
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, fit
from sweep.train.score import DeviceVectors, score_all

STEP = FitSettings(learning_rate=0.0, steps=1, seed=0, clip=1e9)


def mixture(family: str) -> Mixture:
    return Mixture((Stream(family, toy(family)),), batch_tokens=5000, seed=2)


class SmallDevice:
    """A hook between two layers of an encoder: no room for hidden states of more than so many tokens."""

    def __init__(self, model: MultiTaskModel, tokens: int) -> None:
        self.tokens, self.refused, self.kept = tokens, 0, list[weakref.ref[torch.Tensor]]()
        self.alive_at_retry = 0
        model.encoder.encoder.layer[0].register_forward_hook(self)

    def __call__(self, _layer: object, _inputs: object, hidden: torch.Tensor) -> None:
        self.alive_at_retry += sum(reference() is not None for reference in self.kept)
        self.kept.clear()
        if hidden.shape[0] * hidden.shape[1] > self.tokens:
            self.refused += 1
            self.kept.append(weakref.ref(hidden))
            raise torch.cuda.OutOfMemoryError("no room")


def still(model: MultiTaskModel) -> MultiTaskModel:
    """The model without dropout, whose noise depends on the parts of a batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def moments(step) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in step.snapshot()["tensors"].items() if "/exp_avg/" in name}


@pytest.mark.parametrize("family", HEADS)
def test_a_step_without_memory_is_made_in_parts_with_the_same_gradient(family):
    whole, model = still(tiny_model()), still(tiny_model())
    small = SmallDevice(model, 130)
    (expected,), (step,) = fit(whole, mixture(family), STEP), fit(model, mixture(family), STEP)
    assert small.refused > 1
    assert step.snapshot()["values"]["micro_batch_tokens"] <= 130
    assert step.loss_value() == pytest.approx(expected.loss_value(), rel=1e-5)
    assert (step.examples, step.tokens, step.padded_tokens) == (
        expected.examples,
        expected.tokens,
        expected.padded_tokens,
    )
    for name, moment in moments(expected).items():
        torch.testing.assert_close(moments(step)[name], moment, rtol=1e-3, atol=1e-6)


def test_every_part_of_a_masked_batch_computes_the_logits_of_its_own_masked_tokens_alone():
    """Logits over the vocabulary are most of the memory of such a step: parts that repeat them never fit."""
    model, shown = tiny_model(families=("masked",)).eval(), list[int]()
    batch = model.prepare(DeviceData(toy("masked"), "cpu", PAD).batch(np.arange(24)), "masked", seed=0)
    model.head("masked").register_forward_hook(lambda _head, _inputs, logits: shown.append(len(logits)))
    whole = model.loss(batch, "masked")
    total = shown.pop()
    for part_tokens in (300, 100, 1):
        parts = micro_batches(batch, part_tokens)
        losses = [model.loss(part, "masked") for part in parts]
        assert len(shown) == len(parts) > 1
        assert shown == [int((part.targets != IGNORED).sum()) for part in parts]
        assert sum(shown) == total
        assert max(shown) < total
        torch.testing.assert_close(torch.stack(losses).sum(), whole)
        shown.clear()


def test_dropout_of_vectors_that_are_computed_twice_is_the_same_both_times():
    """The loss falls, as it would not along gradients of other vectors than those that were compared."""
    model = tiny_model(families=("embedding",), hidden_dropout_prob=0.3)
    settings = FitSettings(learning_rate=1e-2, steps=40, seed=0, micro_batch_tokens=100)
    losses = [step.loss_value() for step in fit(model, mixture("embedding"), settings)]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


def test_nothing_of_a_failed_attempt_is_left_when_the_step_is_tried_again():
    """An error that is still being handled keeps the frames of its traceback, and with them the hidden states."""
    model = tiny_model()
    small = SmallDevice(model, 130)
    for _ in fit(model, mixture("token"), STEP):
        pass
    assert small.refused > 1
    assert small.alive_at_retry == 0


def test_later_steps_begin_with_what_fitted_and_so_does_a_resumed_run():
    settings = replace(STEP, steps=4)
    model = tiny_model()
    small = SmallDevice(model, 130)
    first = list(islice(fit(model, mixture("sequence"), settings), 2))
    refused = small.refused
    assert refused > 0
    rest = list(fit(model, mixture("sequence"), settings, resume=first[-1].snapshot()))
    assert len(rest) == 2
    assert small.refused == refused


@pytest.mark.parametrize("family", HEADS)
def test_where_not_even_one_example_fits_the_error_is_raised(family):
    model = tiny_model()
    small = SmallDevice(model, 3)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no room"):
        list(fit(model, mixture(family), STEP))
    assert small.refused < 12


def rows(outputs) -> list[np.ndarray]:
    """One array per sequence."""
    return list(outputs.array if isinstance(outputs, DeviceVectors) else outputs)


@pytest.mark.parametrize("family", HEADS)
def test_scoring_without_memory_is_done_in_parts_with_the_same_outputs(family):
    encoded = {"en": toy(family), "sw": toy(family, 17, seed=5)}
    expected = score_all(tiny_model(), encoded, family, batch_tokens=900)
    model = tiny_model()
    small = SmallDevice(model, 130)
    outputs = score_all(model, encoded, family, batch_tokens=900)
    assert 0 < small.refused < 5  # later batches begin with what fitted
    for language, arrays in expected.items():
        for whole, halved in zip(rows(arrays), rows(outputs[language]), strict=True):
            np.testing.assert_allclose(halved, whole, atol=1e-5)


@pytest.mark.parametrize(("family", "room"), [("sequence", 50), ("choice", 130), ("token", 50), ("span", 130)])
def test_features_are_read_in_parts_too(family, room):
    model = tiny_model()
    whole = list(linear_features(model, family, toy(family), 900, "fp32"))
    SmallDevice(model, room)
    halved = list(linear_features(model, family, toy(family), 900, "fp32"))
    assert len(halved) > len(whole)
    vectors = [torch.cat([part.vectors for part in read]) for read in (whole, halved)]
    torch.testing.assert_close(*vectors, rtol=1e-4, atol=1e-5)
