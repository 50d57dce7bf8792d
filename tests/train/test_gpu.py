"""Facts that only a GPU can show; all are skipped where there is none, but for those that a CPU shows as well.

`benchmarks/gpu.sh` runs this file on a machine that has little more than torch and pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_studies import chains_of, events_of, study_file
from tiny_models import HEADS, PAD, SHAPES, VOCABULARY, tiny_model, toy

from sweep.config.phases import Sampling
from sweep.data import IGNORED
from sweep.models.batches import peak_memory, reset_peak_memory
from sweep.models.encoders import random_encoder
from sweep.models.model import MultiTaskModel, has_bf16
from sweep.models.vocabulary import Rows, decayed, hold
from sweep.plan.facts import NO_FACTS
from sweep.run.chain import run
from sweep.search.devices import chains_per_device, work_names
from sweep.store.artifacts import Store
from sweep.train.context import Event
from sweep.train.data import Mixture, Stream
from sweep.train.loop import FitSettings, State, fit
from sweep.train.score import score_all

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
# Heads of 64 are what the fast attention kernels are made for; more than 3,072 tokens take another way back through the
# embeddings than fewer.
LONG: dict[str, Any] = {"max_position_embeddings": 140}
USUAL: dict[str, Any] = {**LONG, "hidden_size": 128, "intermediate_size": 256}
LARGE = 6000


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device is an error in here."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def mixture(examples: int, batch_tokens: int, families: tuple[str, ...] = tuple(HEADS)) -> Mixture:
    """Toy sequences of up to 128 tokens of all these families in turns."""
    streams = tuple(Stream(family, toy(family, examples, lengths=(4, 128))) for family in families)
    return Mixture(streams, batch_tokens, seed=2, sampling=Sampling(by="uniform"))


@GPU
@pytest.mark.parametrize("batch_tokens", [400, LARGE])
@pytest.mark.parametrize("micro_batch_tokens", [None, 100])
@pytest.mark.parametrize("kind", sorted(set(SHAPES) - {"deberta-v2"}))
def test_no_training_step_waits_for_the_device(kind, micro_batch_tokens, batch_tokens):
    """Of all families, masks drawn included; the first steps may, as they set up what later ones use."""
    model = tiny_model(kind, **(LONG if kind == "distilbert" else USUAL)).to("cuda")
    settings = FitSettings(
        learning_rate=1e-3, steps=60, seed=0, precision="bf16", micro_batch_tokens=micro_batch_tokens
    )
    steps = fit(model, mixture(200, batch_tokens), settings)
    trained = {next(steps).task for _ in range(30)}
    assert trained == set(HEADS)
    with no_waiting():
        for _ in range(29):
            next(steps)
    assert torch.isfinite(next(steps).loss)


@GPU
def test_no_step_of_a_whole_chain_waits_for_the_device(tmp_path: Path):
    """Between evaluations and checkpoints; a loss is read when later steps have been given to the device."""
    ((chain, plan),) = chains_of(
        study_file(tmp_path, target={"steps": 40, "evaluations": 1}, runtime={"gpu": 1, "precision": "bf16"})
    )

    def listen(event: Event) -> None:
        training = event.phase == "target" and not event.preparing and 10 <= event.step < 39
        torch.cuda.set_sync_debug_mode("error" if training else "default")

    store = Store(tmp_path / "store")
    run(chain, plan, store, listen)
    record = store.phase(chain.phases[-1].key)
    assert record.device.startswith("cuda")
    assert len(record.curve) == 40
    assert all(np.isfinite(point["loss"]) for point in record.curve)


@GPU
def test_a_chain_measures_the_memory_and_the_pace_of_everything_that_it_does(tmp_path: Path):
    axes = {"intermediate": ["world/nli"], "target": ["world/topic"]}
    ((chain, plan),) = chains_of(study_file(tmp_path, axes, runtime={"gpu": "auto"}))
    facts, works = NO_FACTS.with_cores_per_device(16), work_names(plan, chain, chain.phases, scored=True)
    for event in events_of(chain, plan, Store(tmp_path / "store")):
        facts |= event.facts
    for work in works:
        memory = facts.memory(work)
        assert memory is not None
        needed, device = memory
        assert 0 < needed < device <= torch.cuda.get_device_properties(0).total_memory
    assert chains_per_device(works, facts, cores=1) > 1


@pytest.mark.parametrize("device", DEVICES)
def test_a_loss_that_is_read_later_is_that_of_its_own_step(device):
    model = tiny_model(families=("sequence",), **LONG).to(device)
    settings = FitSettings(learning_rate=1e-2, steps=6, seed=0)
    losses = [(step.loss_value(), step.loss_later()) for step in fit(model, mixture(60, 900, ("sequence",)), settings)]
    assert [later() for _, later in losses] == [loss for loss, _ in losses]
    assert len({loss for loss, _ in losses}) == 6


def trained(device: str, precision: Any) -> Any:
    model = tiny_model(families=("token",), **LONG, hidden_size=64).to(device)
    settings = FitSettings(learning_rate=3e-3, steps=40, seed=0, precision=precision)
    for _ in fit(model, mixture(200, 1024, ("token",)), settings):
        pass
    return model


@pytest.mark.parametrize("device", DEVICES)
def test_scores_in_bf16_are_those_in_fp32(device):
    """Of the same weights nearly every answer is the same; a model trained in bf16 learns as much."""
    if not has_bf16(device):
        pytest.skip("no native bf16")
    exact, rounded = trained(device, "fp32"), trained(device, "bf16")
    test = toy("token", 100, seed=5, lengths=(4, 128))
    reference, same, other = (
        np.concatenate(score_all(model, {"test": test}, "token", batch_tokens=4096, precision=precision)["test"])
        for model, precision in ((exact, "fp32"), (exact, "bf16"), (rounded, "bf16"))
    )
    assert (reference == same).mean() > 0.98
    shares = [(answers == test.targets)[test.targets != IGNORED].mean() for answers in (reference, other)]
    assert shares[0] > 0.8
    assert shares[1] == pytest.approx(shares[0], abs=0.05)


@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_goes_on_in_the_same_process_ends_with_the_same_weights(precision):
    """To the last bit, dropout included, as on a CPU (test_train.py); with the attention kernels that torch chooses."""
    settings = FitSettings(learning_rate=1e-3, steps=12, seed=0, precision=precision)

    def weights(resume: State | None = None, stop: int | None = None) -> State:
        model = tiny_model(families=("token",), **USUAL).to("cuda")
        *_, last = fit(model, mixture(400, LARGE, ("token",)), settings, resume=resume, stop=stop)
        return last.snapshot()

    whole, resumed = weights(), weights(weights(stop=5))
    differing = {
        name: float((tensor - resumed["tensors"][name]).abs().max())
        for name, tensor in whole["tensors"].items()
        if not torch.equal(tensor, resumed["tensors"][name])
    }
    assert not differing


@GPU
def test_a_step_beyond_the_allowed_memory_is_made_in_parts_with_the_same_loss():
    torch.cuda.init()
    options = {"hidden_size": 256, "intermediate_size": 1024, "hidden_dropout_prob": 0.0}
    data = Mixture((Stream("token", toy("token", 4000)),), batch_tokens=80_000, seed=2)

    def step() -> Any:
        model = tiny_model(**options, attention_probs_dropout_prob=0.0).to("cuda")
        return next(iter(fit(model, data, FitSettings(learning_rate=0.0, steps=1, seed=0, clip=1e9))))

    whole = step()
    assert whole.snapshot()["values"]["micro_batch_tokens"] is None
    torch.cuda.empty_cache()
    allowed = 2**28 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(allowed)
    try:
        parts = step()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 0 < parts.snapshot()["values"]["micro_batch_tokens"] < 80_000
    assert parts.loss_value() == pytest.approx(whole.loss_value(), rel=1e-4)


@GPU
def test_the_peak_of_memory_is_measured_with_what_cuda_takes_itself():
    reset_peak_memory()
    before, total = peak_memory()
    numbers = torch.zeros(2**28, device="cuda")  # 1 GiB
    del numbers
    after, _ = peak_memory()
    assert 2**30 <= after - before < 1.1 * 2**30
    assert after < total


@GPU
def test_steps_take_no_more_memory_the_longer_they_go_on():
    """Beyond the first pass over the data, whose longest batch it has seen."""
    model = tiny_model(families=("token",), **USUAL).to("cuda")
    data = mixture(400, LARGE, ("token",))
    steps = fit(model, data, FitSettings(1e-3, steps=200, seed=0, precision="bf16"))
    list(islice(steps, 60))
    allocated = torch.cuda.memory_allocated()
    list(islice(steps, 120))
    assert torch.cuda.memory_allocated() <= 1.01 * allocated


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=GPU)])
def test_an_encoder_that_is_on_a_device_already_looks_up_there_which_rows_it_holds(device):
    encoder = random_encoder(SHAPES["bert"], VOCABULARY, PAD, seed=0).to(device)
    hold(encoder, Rows(np.arange(20, dtype=np.int32)))
    tensors = [*encoder.parameters(), *encoder.buffers()]
    assert {tensor.device.type for tensor in tensors} == {device}


@GPU
def test_with_rows_in_use_alone_steps_lose_the_same_take_less_memory_and_wait_for_nothing():
    """On a CPU to the last bit (test_rows_in_use.py); here the norm of the gradients is cut elsewhere."""
    vocabulary = 100_000
    found = {}
    for rows in (None, Rows(np.arange(VOCABULARY, dtype=np.int32))):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        encoder = random_encoder({**SHAPES["xlm-roberta"], **USUAL}, vocabulary, PAD, seed=0)
        if rows is not None:
            hold(encoder, rows)
        model = MultiTaskModel(encoder, {"token": HEADS["token"]}, seed=0, pad_id=PAD).to("cuda")
        steps = fit(model, mixture(200, LARGE, ("token",)), FitSettings(learning_rate=1e-3, steps=20, seed=0))
        losses = [next(steps).loss_value() for _ in range(10)]
        with no_waiting():
            last = [next(steps) for _ in range(9)][-1]
        found[rows is None] = [*losses, last.loss_value()], torch.cuda.max_memory_allocated() - before
        del model, encoder, steps, last
    assert found[False][0] == pytest.approx(found[True][0], rel=1e-3)
    spared = (vocabulary - VOCABULARY) * 128 * 4
    assert found[True][1] - found[False][1] > 3.5 * spared  # weights, gradients, two moments


@pytest.mark.parametrize(("device", "digits"), [("cpu", 0.0), pytest.param("cuda", 1e-5, marks=GPU)])
def test_rows_that_are_brought_back_are_those_that_were_never_left_out(device, digits):
    """To the last bit on a CPU; a GPU's AdamW rounds its decay elsewhere."""
    settings, trained = FitSettings(learning_rate=1e-3, steps=20, seed=0), list[MultiTaskModel]()
    for rows in (None, Rows(np.arange(VOCABULARY, dtype=np.int32))):
        encoder = random_encoder({**SHAPES["bert"], **LONG}, 3 * VOCABULARY, PAD, seed=0)
        published = encoder.get_input_embeddings().weight.detach().clone()
        if rows is not None:
            hold(encoder, rows)
        trained.append(MultiTaskModel(encoder, {"token": HEADS["token"]}, seed=0, pad_id=PAD).to(device))
        list(fit(trained[-1], mixture(40, 400, ("token",)), settings))
    whole, held = trained
    assert held.rows is not None
    brought_back = decayed(published[VOCABULARY:].to(device), held.rows.decay)
    torch.testing.assert_close(brought_back, whole.embeddings.detach()[VOCABULARY:], rtol=digits, atol=0.0)
    assert not torch.equal(brought_back.cpu(), published[VOCABULARY:])
