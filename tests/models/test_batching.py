"""Facts about batches: every example once, within the budget, little padding, in a seeded order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import HEADS, PAD, toy

from sweep.config.phases import Sampling
from sweep.data import IGNORED
from sweep.data.encoded import Encoded, EncodedSequence, from_sequences
from sweep.models.batches import DeviceData, epoch_batches, micro_batches, nested_pools, scoring_batches
from sweep.train.data import BLOCK, Mixture, Stream, subset


@pytest.fixture(scope="module")
def realistic() -> Encoded:
    """Lengths as in sentence classification: lognormal, median 25, at most 128."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(3.2, 0.6, 5000).astype(int), 4, 128)
    return from_sequences(EncodedSequence([7] * length, number, [0]) for number, length in enumerate(lengths))


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_example_is_in_one_batch_of_an_epoch(family, epoch):
    encoded = toy(family, 300)
    ids = np.concatenate(epoch_batches(encoded, 256, seed=3, epoch=epoch))
    assert sorted(ids) == list(range(300))


@pytest.mark.parametrize("family", HEADS)
def test_every_example_is_in_one_scoring_batch(family):
    assert sorted(np.concatenate(scoring_batches(toy(family, 300), 256))) == list(range(300))


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("cut", [scoring_batches, lambda encoded, budget: epoch_batches(encoded, budget, 0, 0)])
def test_padded_tokens_stay_within_the_budget(family, cut):
    encoded = toy(family, 300)
    data = DeviceData(encoded, "cpu", PAD)
    assert all(data.batch(ids).padded_tokens <= 256 for ids in cut(encoded, 256))


def test_an_example_above_the_budget_is_a_batch_alone():
    encoded = from_sequences(EncodedSequence([5] * length, n, [0]) for n, length in enumerate([3, 3, 50, 3]))
    assert sorted(map(sorted, epoch_batches(encoded, 16, 0, 0))) == [[0, 1, 3], [2]]


def test_padding_is_below_five_percent(realistic):
    data = DeviceData(realistic, "cpu", PAD)
    batches = [data.batch(ids) for ids in epoch_batches(realistic, 2048, 0, 0)]
    padded, real = sum(batch.padded_tokens for batch in batches), sum(batch.tokens for batch in batches)
    assert real == len(realistic.tokens)
    assert padded / real < 1.05


def test_batches_are_full(realistic):
    assert len(epoch_batches(realistic, 2048, 0, 0)) < 1.08 * len(realistic.tokens) / 2048


def test_no_batch_is_a_leftover_of_a_few_examples():
    encoded = from_sequences(EncodedSequence([5] * 10, number, [0]) for number in range(41))
    assert sorted(map(len, epoch_batches(encoded, 200, 0, 0))) == [10, 11, 20]


def test_order_depends_on_seed_and_epoch_alone(realistic):
    def order(seed, epoch):
        return np.concatenate(epoch_batches(realistic, 1024, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_long_and_short_batches_alternate(realistic):
    """Lengths of neighbouring batches do not correlate: training does not run from short to long."""
    means = np.array([realistic.lengths()[ids].mean() for ids in epoch_batches(realistic, 1024, 0, 0)])
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.25


def test_the_longest_scoring_batch_comes_first(realistic):
    longest = [realistic.lengths()[ids].max() for ids in scoring_batches(realistic, 1024)]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize(("examples", "most"), [(100, 0.3), (500, 0.1), (5000, 0.05)])
def test_scoring_pads_little_though_examples_are_few(examples, most, realistic):
    """Half a thousand dev examples would fit into one batch, two thirds of it padding."""
    few = from_sequences(EncodedSequence([7] * int(n), k, [0]) for k, n in enumerate(realistic.lengths()[:examples]))
    padded = sum(len(ids) * few.lengths()[ids].max() for ids in scoring_batches(few, 16384))
    assert padded / len(few.tokens) - 1 < most


def test_no_examples_are_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="no examples"):
        epoch_batches(from_sequences([]), 100, 0, 0)


@pytest.mark.parametrize("family", HEADS)
def test_a_batch_from_the_device_is_plain_padding(family):
    encoded = toy(family, 20)
    ids = np.array([11, 3, 19, 0])
    batch = DeviceData(encoded, "cpu", PAD).batch(ids)
    rows = [row for n in ids for row in np.flatnonzero(encoded.example == n)]
    spans = [slice(encoded.bounds[row], encoded.bounds[row + 1]) for row in rows]
    target_spans = [slice(encoded.target_bounds[row], encoded.target_bounds[row + 1]) for row in rows]
    assert torch.equal(batch.input_ids, plain(encoded.tokens, spans, PAD))
    assert torch.equal(batch.attention_mask, plain(np.ones(len(encoded.tokens)), spans, 0).bool())
    assert torch.equal(batch.segments, plain(encoded.segments, spans, 0))
    assert torch.equal(batch.targets, plain(encoded.targets, target_spans, IGNORED))
    assert batch.lengths.tolist() == [len(encoded.tokens[span]) for span in spans]
    assert batch.example.tolist() == [
        position for position, n in enumerate(ids) for _ in np.flatnonzero(encoded.example == n)
    ]
    assert (batch.examples, batch.tokens) == (4, int(batch.lengths.sum()))


def plain(flat, spans, fill):
    rows = [torch.as_tensor(np.array(flat[span]), dtype=torch.int64) for span in spans]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)


def test_sequences_of_one_length_need_no_mask():
    encoded = from_sequences(EncodedSequence([5] * 6, number, [0]) for number in range(8))
    assert DeviceData(encoded, "cpu", PAD).batch(np.arange(8)).attention_mask is None


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("micro_tokens", [1, 100, 10_000])
def test_a_split_batch_is_the_batch_in_parts(family, micro_tokens):
    batch = DeviceData(toy(family, 20), "cpu", PAD).batch(np.arange(20))
    parts = micro_batches(batch, micro_tokens)
    assert torch.equal(torch.cat([part.input_ids for part in parts]), batch.input_ids)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert sum(part.examples for part in parts) == batch.examples
    assert all(part.padded_tokens <= micro_tokens or part.examples == 1 for part in parts)
    assert all(part.first[0] == 0 and part.first[-1] == len(part.input_ids) for part in parts)


def mixture(nested=False, **settings):
    streams = (Stream("big", toy("sequence", 900)), Stream("small", toy("token", 100)))
    return Mixture(streams, batch_tokens=128, seed=5, nested=nested, sampling=Sampling(**settings))


def shares(mixed, steps=20 * BLOCK):
    return np.bincount(mixed.schedule(steps), minlength=2) / steps


def test_proportional_sampling_passes_over_every_stream_equally_often():
    mixed = mixture()
    assert shares(mixed) * mixed.epoch_steps().sum() == pytest.approx(mixed.epoch_steps(), rel=0.05)


def test_uniform_sampling_gives_equal_shares():
    assert shares(mixture(by="uniform")).tolist() == [0.5, 0.5]


def test_temperature_lies_between_proportional_and_uniform():
    small = [shares(mixture(by="temperature", temperature=t))[1] for t in (1, 3, 100)]
    assert small[0] < small[1] < small[2]
    assert small[0] == pytest.approx(shares(mixture())[1])
    assert small[2] == pytest.approx(0.5, abs=0.03)


def test_a_cap_limits_a_streams_share_and_not_its_data():
    streams = (Stream("big", toy("sequence", 900)), Stream("small", toy("sequence", 100)))
    mixed = Mixture(streams, batch_tokens=128, seed=0, sampling=Sampling(cap=100))
    assert mixed.weights() == pytest.approx([0.5, 0.5], abs=0.05)
    batches = mixed.batches(0)
    seen = np.concatenate([next(batches) for _ in range(round(mixed.epoch_steps()[0]) * 10)])
    assert len(set(seen.tolist())) == 900


def test_a_ratio_is_a_share_of_steps_whatever_the_sizes_are():
    mixed = mixture(ratios={"small": 0.75})
    assert shares(mixed).tolist() == [0.25, 0.75]
    assert mixed.steps_for(1) == round(mixed.epoch_steps()[0] / 0.25)  # a pass over what has no ratio


@pytest.mark.parametrize("smoothing", [1.0, 3.0, 1e9])
def test_streams_of_one_task_divide_its_share_and_leave_that_of_others_alone(smoothing):
    languages = (Stream("text", toy("sequence", 900)), Stream("text", toy("sequence", 100)))
    streams = (*languages, Stream("task", toy("token", 300)))
    weights = Mixture(streams, 128, 0, Sampling(ratios={"text": 0.5}), smoothing).weights()
    assert weights.sum() == pytest.approx(1)
    assert weights[2] == pytest.approx(0.5)
    sizes = Mixture(streams, 128, 0).epoch_steps()
    assert weights[0] / weights[1] == pytest.approx((sizes[0] / sizes[1]) ** (1 / smoothing))


def test_a_cap_on_a_task_is_shared_by_its_streams():
    streams = tuple(Stream("text", toy("sequence", count)) for count in (900, 100))
    whole, capped = (Mixture(streams, 128, 0, Sampling(cap=cap)).epoch_steps() for cap in (None, 500))
    assert capped == pytest.approx(whole / 2)


# Volumes that begin with each other


def first(encoded: Encoded, examples: int) -> Encoded:
    return subset(encoded, np.arange(examples))


def epoch_of(encoded, epoch=0, batch_tokens=256):
    return [batch for pool in nested_pools(encoded, batch_tokens, 3, epoch) for batch in pool]


@pytest.mark.parametrize("family", HEADS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_example_is_in_one_batch_of_a_nested_epoch_within_the_budget(family, epoch):
    encoded = toy(family, 300)
    batches = epoch_of(encoded, epoch)
    assert sorted(np.concatenate(batches)) == list(range(300))
    data = DeviceData(encoded, "cpu", PAD)
    assert all(data.batch(ids).padded_tokens <= 256 for ids in batches)


@pytest.mark.parametrize("volumes", [(200, 1000), (1000, 1001), (900, 5000), (4000, 5000)])
def test_a_volume_begins_with_the_whole_pools_of_a_smaller_one(volumes, realistic):
    small, large = (nested_pools(first(realistic, volume), 1024, 3, 0) for volume in volumes)
    shared = [batch.tolist() for pool in small[:-1] for batch in pool]
    assert [batch.tolist() for pool in large for batch in pool][: len(shared)] == shared


@pytest.mark.parametrize("volume", [2000, 3000, 4100, 5000])
def test_what_volumes_do_not_share_is_a_fifth_of_the_smaller_one_at_most(volume, realistic):
    """From 80 batches on; before, a pool has 16."""
    nested = Mixture((Stream("one", first(realistic, volume)),), 512, 3, nested=True)
    assert 0.75 * nested.steps_for(1) <= nested.shared_steps() < nested.steps_for(1)


def test_a_second_epoch_of_nested_data_is_another_order(realistic):
    assert np.concatenate(epoch_of(realistic)).tolist() != np.concatenate(epoch_of(realistic, 1)).tolist()


def test_nested_batches_are_shuffled_inside_their_pool(realistic):
    longest = [realistic.lengths()[ids].max() for ids in nested_pools(realistic, 1024, 3, 0)[-2]]
    assert longest != sorted(longest)


def test_nested_data_of_a_few_hundred_batches_is_padded_by_less_than_a_tenth(realistic):
    padded = sum(len(ids) * realistic.lengths()[ids].max() for ids in epoch_of(realistic, batch_tokens=1024))
    assert padded / len(realistic.tokens) < 1.10


def test_several_streams_are_not_known_to_share_steps_between_volumes():
    assert mixture(nested=True).shared_steps() == 0
    assert mixture().shared_steps() == 0


def test_a_nested_stream_continues_where_it_was():
    mixed = mixture(nested=True)
    whole, rest = mixed.batches(0), mixed.batches(0, 50)
    expected = [next(whole).tolist() for _ in range(150)][50:]
    assert [next(rest).tolist() for _ in expected] == expected


def test_a_short_run_takes_the_first_steps_of_a_long_one():
    mixed = mixture()
    assert mixed.schedule(300)[:70].tolist() == mixed.schedule(70).tolist()


def test_one_stream_needs_no_drawing():
    assert Mixture((Stream("only", toy("sequence")),), 128, 0).schedule(3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("start", [0, 1, 7, 30])
def test_a_stream_continues_where_it_was(start):
    mixed = mixture()
    whole, rest = mixed.batches(1), mixed.batches(1, start)
    expected = [next(whole).tolist() for _ in range(40)][start:]
    assert [next(rest).tolist() for _ in expected] == expected


def test_steps_are_passes_over_the_data():
    mixed = mixture()
    epoch = mixed.epoch_steps().sum()
    assert (mixed.steps_for(1), mixed.steps_for(2.5)) == (epoch, round(2.5 * epoch))
    assert mixed.steps_for(0.0001) == 1
