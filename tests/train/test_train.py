"""Facts about fit(): it learns, it can be interrupted after any step, it selects on dev, and parts make a whole."""

from __future__ import annotations

import gc
import json
import math
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import HEADS, tiny_model, toy

from sweep.config.phases import Sampling
from sweep.models.encoders import cpu_weights
from sweep.models.model import NATIVE_BF16
from sweep.train.data import Mixture, Stream, subset
from sweep.train.loop import FitSettings, State, evaluated_steps, fit, rate, start
from sweep.train.score import score_all

TRAINED = [family for family in HEADS if family != "embedding"]
SETTINGS = FitSettings(learning_rate=3e-3, steps=12, seed=1, warmup=0.2)
MIXED = Mixture(
    tuple(Stream(family, toy(family)) for family in TRAINED), batch_tokens=160, seed=2, sampling=Sampling(by="uniform")
)
ONE = Mixture((Stream("sequence", toy("sequence")),), batch_tokens=160, seed=2)


def dev_score(model):
    """Accuracy of the sequence head, in steps coarse enough for ties."""
    encoded = toy("sequence", seed=9)
    logits = np.stack(score_all(model, {"en": encoded}, "sequence", batch_tokens=999)["en"])
    return float((logits.argmax(axis=1) == encoded.targets).mean())


def through_files(state: State, folder) -> State:
    """The state as the store keeps it."""
    save_file(state["tensors"], folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(state["values"]))
    return State(
        tensors=load_file(folder / "state.safetensors"), values=json.loads((folder / "state.json").read_text())
    )


def trained(mixture, settings, evaluate=False, seed=0):
    model = tiny_model(seed=seed)
    items = list(fit(model, mixture, settings, (lambda _: dev_score(model)) if evaluate else None))
    return model, items


def same(left, right):
    return all(torch.equal(tensor, cpu_weights(right)[name]) for name, tensor in cpu_weights(left).items())


VARIANTS = {
    "one task": (ONE, SETTINGS),
    "all families with dropout and masking": (MIXED, SETTINGS),
    "wsd in micro-batches": (MIXED, replace(SETTINGS, schedule="wsd", micro_batch_tokens=50)),
    "best on dev": (ONE, replace(SETTINGS, evaluations=6)),
}


@pytest.mark.parametrize("interrupted", [1, 5, 11, 12])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_is_the_undisturbed_run(variant, interrupted, tmp_path):
    """Bit for bit, after any step, through files, into other weights, with torch's generator disturbed."""
    mixture, settings = VARIANTS[variant]
    undisturbed, expected = trained(mixture, settings, evaluate=True)
    broken = tiny_model()
    first = list(islice(fit(broken, mixture, settings, lambda _: dev_score(broken)), interrupted))
    state = through_files(first[-1].snapshot(), tmp_path)
    torch.manual_seed(interrupted)
    resumed = tiny_model(seed=7)
    rest = list(fit(resumed, mixture, settings, lambda _: dev_score(resumed), state))
    assert same(undisturbed, resumed)
    for a, b in zip(expected, [*first, *rest], strict=True):
        assert torch.equal(a.loss, b.loss)
        assert replace(a, loss=b.loss, snapshot=b.snapshot) == b


WSD = replace(SETTINGS, schedule="wsd", warmup_steps=3, decay=0.25, evaluations=2)


def reached(mixture, settings, step, resume=None):
    """The state after a step of a run that goes no further."""
    items = islice(
        fit(tiny_model(), mixture, settings, resume=resume), step - (resume["values"]["step"] if resume else 0)
    )
    return list(items)[-1].snapshot()


def ended(mixture, settings, seed=0, resume=None):
    """Model and last step of a run that is evaluated on its way."""
    model = tiny_model(seed=seed)
    return model, list(fit(model, mixture, settings, lambda _: dev_score(model), resume))[-1]


@pytest.mark.parametrize("mixture", [ONE, MIXED], ids=["one task", "all families"])
def test_a_branch_of_another_runs_trunk_is_the_run_done_alone(mixture, tmp_path):
    """Runs of 12, 20 and 32 steps; the trunk of one is that of the next. Weights and AdamW's moments, bit for bit."""
    state = None
    for steps in (12, 20, 32):
        settings = replace(WSD, steps=steps)
        alone, last = ended(mixture, settings)
        state = through_files(reached(mixture, replace(WSD, steps=99), settings.decay_start, state), tmp_path)
        branch, branched = ended(mixture, settings, seed=7, resume=state)
        assert same(alone, branch)
        first, second = last.snapshot(), branched.snapshot()
        assert first["values"] == second["values"]
        assert first["tensors"].keys() == second["tensors"].keys()
        assert all(torch.equal(tensor, second["tensors"][name]) for name, tensor in first["tensors"].items())


def test_a_larger_volume_goes_on_from_the_trunk_of_a_smaller_one(tmp_path):
    data = toy("sequence", 800)
    small, large = (
        Mixture((Stream("sequence", subset(data, np.arange(examples))),), 160, 2, nested=True)
        for examples in (500, 800)
    )
    settings = replace(WSD, steps=large.steps_for(1))
    end = min(replace(WSD, steps=small.steps_for(1)).decay_start, small.shared_steps())
    assert end > 20
    alone, branch = tiny_model(), tiny_model(seed=7)
    expected = list(fit(alone, large, settings))[-1].snapshot()
    rest = list(fit(branch, large, settings, resume=through_files(reached(small, settings, end), tmp_path)))
    assert len(rest) == settings.steps - end
    assert all(
        torch.equal(tensor, expected["tensors"][name]) for name, tensor in rest[-1].snapshot()["tensors"].items()
    )


def test_a_run_may_go_on_from_before_its_first_step(tmp_path):
    alone = trained(ONE, SETTINGS)[0]
    state = through_files(start(tiny_model(), ONE, SETTINGS), tmp_path)
    branch = tiny_model(seed=7)
    assert len(list(fit(branch, ONE, SETTINGS, resume=state))) == SETTINGS.steps
    assert same(alone, branch)


def test_two_runs_are_equal_and_seeds_differ():
    first, second = trained(MIXED, SETTINGS)[0], trained(MIXED, SETTINGS)[0]
    reseeded = trained(MIXED, replace(SETTINGS, seed=2))[0]
    assert same(first, second)
    assert not same(first, reseeded)


@pytest.mark.parametrize("family", TRAINED)
def test_every_family_is_learned(family):
    mixture = Mixture((Stream(family, toy(family, 12)),), batch_tokens=400, seed=0)
    items = trained(mixture, FitSettings(learning_rate=1e-2, steps=120, seed=0))[1]
    losses = [item.loss_value() for item in items]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize("family", TRAINED)
def test_micro_batches_have_the_gradient_of_the_whole_batch(family):
    """Without dropout, one step in parts of any size gives the loss and the weights of one step in one piece."""
    mixture = Mixture((Stream(family, toy(family)),), batch_tokens=5000, seed=2)
    results = []
    for micro in (None, 200, 1):
        model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        for head in model.heads.children():
            head.dropout = torch.nn.Identity()
        # plain steps of AdamW blow up rounding where a gradient is near 0, so the gradients themselves are compared
        settings = FitSettings(learning_rate=0.0, steps=1, seed=0, micro_batch_tokens=micro, clip=1e9)
        (item,) = fit(model, mixture, settings)
        moments = {k: v for k, v in item.snapshot()["tensors"].items() if "/exp_avg/" in k}
        results.append((item.loss_value(), moments))
    for loss, moments in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        for name, moment in moments.items():
            torch.testing.assert_close(moment, results[0][1][name], rtol=1e-3, atol=1e-6)


def test_the_best_weights_on_dev_are_kept():
    """The model ends with the weights of the earliest best evaluation, though training went on."""
    model = tiny_model()
    curve, kept = iter([0.3, 0.8, 0.5, 0.8]), {}
    for item in fit(model, ONE, replace(SETTINGS, evaluations=4), lambda _: next(curve)):
        if item.dev is not None:
            kept[item.step] = cpu_weights(model)
    assert list(kept) == [3, 6, 9, 12]
    assert (item.best, item.best_step) == (0.8, 6)
    assert all(torch.equal(tensor, kept[6][name]) for name, tensor in cpu_weights(model).items())
    assert not model.training


def test_the_last_weights_are_kept_where_the_study_says_so():
    model = tiny_model()
    curve = iter([0.8, 0.1])
    for item in fit(model, ONE, replace(SETTINGS, evaluations=2, select="last"), lambda _: next(curve)):
        last = item, cpu_weights(model)
    assert (last[0].best, last[0].best_step) == (0.8, 6)
    assert all(torch.equal(tensor, last[1][name]) for name, tensor in cpu_weights(model).items())


def test_an_evaluation_is_given_its_step_before_it_has_a_score():
    evaluated = []

    def evaluate(progress):
        evaluated.append((progress.step, progress.steps, progress.dev))
        return 0.0

    list(fit(tiny_model(), ONE, replace(SETTINGS, evaluations=3), evaluate))
    assert evaluated == [(4, 12, None), (8, 12, None), (12, 12, None)]


def test_dropout_is_off_while_dev_is_scored_and_on_again_after():
    model, modes = tiny_model(), []

    def evaluate(_):
        modes.append(model.training)
        return 0.0

    trained_modes = [model.training for _ in fit(model, ONE, replace(SETTINGS, evaluations=3), evaluate)]
    assert modes == [False] * 3
    assert len(trained_modes) == SETTINGS.steps


@pytest.mark.skipif(not NATIVE_BF16, reason="this CPU does not multiply bf16")
@pytest.mark.parametrize("family", TRAINED)
def test_bf16_on_a_cpu_that_has_it_trains_like_fp32_and_the_same_twice(family):
    mixture = Mixture((Stream(family, toy(family)),), batch_tokens=160, seed=2)
    exact, rough = trained(mixture, SETTINGS)[1], trained(mixture, replace(SETTINGS, precision="bf16"))[1]
    again = trained(mixture, replace(SETTINGS, precision="bf16"))[1]
    assert [item.loss_value() for item in rough] == [item.loss_value() for item in again]
    assert any(a.loss_value() != b.loss_value() for a, b in zip(exact, rough, strict=True))
    for a, b in zip(exact, rough, strict=True):
        assert a.loss_value() == pytest.approx(b.loss_value(), rel=0.05)


def test_dropout_is_on_from_the_first_step_in_an_encoder_as_it_was_loaded():
    """Transformers loads in eval mode, which a model round it does not show."""
    model = tiny_model()
    model.encoder.eval()
    next(fit(model, ONE, SETTINGS))
    assert all(module.training for module in model.modules())


def test_progress_counts_what_was_trained():
    items = trained(MIXED, SETTINGS)[1]
    assert [item.step for item in items] == list(range(1, 13))
    assert {item.task for item in items} <= set(TRAINED)
    assert all(a.tokens < b.tokens and a.examples < b.examples for a, b in pairwise(items))
    assert all(item.tokens <= item.padded_tokens <= item.step * 160 for item in items)
    assert all(math.isfinite(item.loss_value()) for item in items)


def test_nothing_of_a_step_is_kept_but_its_loss():
    """Between steps there is no graph and no gradient."""
    model = tiny_model()
    for item in fit(model, ONE, SETTINGS):
        assert item.loss.grad_fn is None
        assert all(parameter.grad is None for parameter in model.parameters())
    gc.collect()
    assert not [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor) and o.grad_fn is not None]


def test_a_snapshot_does_not_change_when_training_goes_on():
    model = tiny_model()
    run = fit(model, ONE, SETTINGS)
    state = next(run).snapshot()
    before = {name: tensor.clone() for name, tensor in state["tensors"].items()}
    list(run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state["tensors"].items())
    assert state["values"]["step"] == 1


def test_biases_and_norms_do_not_decay():
    """With no gradient signal left (rate 0 decays nothing), decay shrinks matrices and leaves vectors alone."""
    settings = replace(SETTINGS, schedule="constant", warmup=0.0, learning_rate=1e-2, steps=1)
    plain, decayed = (trained(ONE, replace(settings, weight_decay=decay))[0] for decay in (0.0, 0.9))
    for name, tensor in cpu_weights(plain).items():
        unused = tensor.abs().sum() == 0 or (name.startswith("heads.") and "sequence" not in name)
        assert unused or torch.equal(tensor, cpu_weights(decayed)[name]) == (tensor.ndim == 1)


def rates(**settings):
    schedule = FitSettings(learning_rate=2.0, seed=0, **settings)
    return [rate(step, schedule) for step in range(1, schedule.steps + 1)]


def test_linear_rises_and_falls():
    assert rates(steps=10, warmup=0.2) == pytest.approx([1, 2, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25])


def test_wsd_falls_with_one_minus_root():
    expected = [1, 2, 2, 2, 2, 2, 2, 2 * (1 - 0.25**0.5), 2 * (1 - 0.5**0.5), 2 * (1 - 0.75**0.5)]
    assert rates(steps=10, warmup=0.2, schedule="wsd", decay=0.4) == pytest.approx(expected)


def test_before_its_decay_wsd_does_not_depend_on_the_length():
    short, long = (rates(steps=steps, warmup_steps=3, schedule="wsd", decay=0.2) for steps in (10, 30))
    assert short[:8] == long[:8] == pytest.approx([2 / 3, 4 / 3, 2, 2, 2, 2, 2, 2])


def test_a_warm_up_that_reaches_into_the_decay_ends_low_all_the_same():
    late = rates(steps=10, warmup_steps=20, schedule="wsd", decay=0.5)
    assert late[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert late[-1] == pytest.approx(2 * (1 - 0.8**0.5))


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_a_warm_up_in_steps_is_one_of_every_schedule(schedule):
    assert rates(steps=10, warmup_steps=4, schedule=schedule)[:4] == pytest.approx([0.5, 1, 1.5, 2])


def test_constant_stays():
    assert rates(steps=4, warmup=0.5, schedule="constant") == pytest.approx([1, 2, 2, 2])


@pytest.mark.parametrize(("evaluations", "steps"), [(1, {10}), (2, {5, 10}), (4, {2, 5, 8, 10}), (0, set())])
def test_evaluations_are_evenly_spaced_and_end_with_the_last_step(evaluations, steps):
    assert evaluated_steps(FitSettings(learning_rate=1, steps=10, seed=0, evaluations=evaluations)) == steps


@pytest.mark.parametrize(
    ("steps", "decay", "evaluations", "expected"),
    [(20, 0.2, 2, {18, 20}), (20, 0.2, 1, {20}), (20, 0.0, 3, {20}), (20, 1.0, 2, {10, 20}), (1, 0.5, 4, {1})],
)
def test_wsd_is_evaluated_in_its_decay_alone(steps, decay, evaluations, expected):
    settings = FitSettings(1, steps, 0, schedule="wsd", decay=decay, evaluations=evaluations)
    assert evaluated_steps(settings) == expected


def test_more_evaluations_than_steps_are_one_each():
    assert evaluated_steps(FitSettings(learning_rate=1, steps=3, seed=0, evaluations=9)) == {1, 2, 3}
