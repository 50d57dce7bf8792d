"""Facts that only a GPU can show; all are skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny_models import HEADS, SHAPES, tiny_model, toy

from sweep.config.phases import Sampling
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error in here."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("micro_batch_tokens", [None, 100])
@pytest.mark.parametrize("kind", sorted(set(SHAPES) - {"deberta-v2"}))
def test_no_training_step_waits_for_the_device(kind, micro_batch_tokens):
    """Of all families, masks drawn included; the first steps may, as they set up what later ones use."""
    model = tiny_model(kind).to("cuda")
    streams = tuple(Stream(family, toy(family)) for family in HEADS)
    mixture = Mixture(streams, batch_tokens=400, seed=2, sampling=Sampling(by="uniform"))
    settings = FitSettings(
        learning_rate=1e-3, steps=60, seed=0, precision="bf16", micro_batch_tokens=micro_batch_tokens
    )
    steps = fit(model, mixture, settings)
    trained = {next(steps).task for _ in range(30)}
    assert trained == set(HEADS)
    with no_waiting():
        for _ in range(29):
            next(steps)
    assert torch.isfinite(next(steps).loss)
