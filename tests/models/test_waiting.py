"""Facts about a step on a GPU, without one: nothing of it asks the device for a number, which would wait for the GPU.

The meta device has shapes and no numbers: whatever asks it for one fails.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from published_encoders import PUBLISHED
from tiny_models import HEADS, PAD, SHAPES, VOCABULARY, tiny_model, toy

from sweep.models.batches import DeviceData, micro_batches
from sweep.models.encoders import random_encoder
from sweep.models.model import MultiTaskModel
from sweep.models.registry import model_type

META = torch.device("meta")
TRAINED = [family for family in HEADS if family != "embedding"]
KINDS = {name: config for name, config in PUBLISHED.items() if model_type(config["model_type"]).mask == "ready"}


def one_step(model: MultiTaskModel, family: str, data: DeviceData, parts: int | None) -> None:
    """What fit() does between two steps, the optimizer's own kernel left out."""
    batch = model.prepare(data.batch(np.arange(24)), family, seed=0)
    count = model.count(batch, family)
    for part in micro_batches(batch, parts):
        (model.loss(part, family) / count).backward()
    torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)


@pytest.mark.parametrize("parts", [None, 100])
@pytest.mark.parametrize("family", TRAINED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_asks_the_device_for_no_number(kind, family, parts):
    encoder = random_encoder(KINDS[kind], VOCABULARY, PAD, 0).to(META)
    model = MultiTaskModel(encoder, {family: HEADS[family]}, seed=0, pad_id=PAD).to(META)
    one_step(model, family, DeviceData(toy(family), META, PAD), parts)


@pytest.mark.parametrize("family", TRAINED)
@pytest.mark.parametrize("kind", ["modernbert"])
def test_encoders_that_make_their_own_mask_ask_only_where_something_is_padded(kind, family):
    encoder = random_encoder(SHAPES[kind], VOCABULARY, PAD, 0).to(META)
    model = MultiTaskModel(encoder, {family: HEADS[family]}, seed=0, pad_id=PAD).to(META)
    one_step(model, family, DeviceData(toy(family, lengths=(9, 10)), META, PAD), None)


def test_the_meta_device_answers_no_question():
    """Else the tests above could not fail."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=META).all().item()


@pytest.mark.parametrize("masked", [1, 5, 40])
def test_places_left_over_add_nothing_to_the_loss_on_masked_tokens(masked):
    """On a GPU more places are kept than are masked."""
    model, data = tiny_model(families=("masked",)).eval(), DeviceData(toy("masked"), "cpu", PAD)
    batch = model.prepare(data.batch(np.arange(24)), "masked", seed=0)
    more = type(batch)(**{**vars(batch), "masked": batch.masked + masked})
    assert batch.masked.sum() == int(model.count(batch, "masked"))
    torch.testing.assert_close(model.loss(more, "masked"), model.loss(batch, "masked"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_ready_made_mask_is_the_encoders_own(kind):
    model = MultiTaskModel(random_encoder(KINDS[kind], VOCABULARY, PAD, 0), {}, seed=0, pad_id=PAD).eval()
    batch = DeviceData(toy("sequence"), "cpu", PAD).batch(np.arange(24))
    with torch.inference_mode():
        own = model.encoder(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), output_hidden_states=True
        )
        for layer, states in enumerate(own.hidden_states):
            real = batch.attention_mask
            plain = type(batch)(**{**vars(batch), "segments": None})
            torch.testing.assert_close(model.hidden(plain, layer)[real], states[real], atol=1e-6, rtol=1e-5)
