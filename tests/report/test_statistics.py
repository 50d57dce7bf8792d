"""Facts about intervals: how often they cover the truth, what is counted once, what is drawn together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t
from simulated_studies import Target, World, study

from sweep.report.statistics import Estimate, Model, Scores, average, fitted, holm, ratio, scores_of
from sweep.tasks import FAMILIES, measure_of
from sweep.tasks.table import TASKS
from sweep.tasks.task import Task

ACCURACY = FAMILIES["sequence"].value


def gains(targets: list[Target]) -> list[tuple[Estimate, float]]:
    """What the report says of every cell, and the truth."""
    found = []
    for target, model in zip(targets, fitted([target.scores() for target in targets]), strict=True):
        for arm in range(1, len(target.means)):
            gain = model.gain(arm, 0)
            assert gain is not None
            found.append((gain, target.means[arm] - target.means[0]))
    return found


def simulated(world: World, studies: int, seed: int = 0) -> list[list[tuple[Estimate, float]]]:
    random = np.random.default_rng(seed)
    return [gains(study(world, random)) for _ in range(studies)]


def table(values: np.ndarray, influence: np.ndarray | None = None) -> Scores:
    """[arms, seeds] scores of runs, by default on endless test sets."""
    runs = tuple((arm, seed) for arm in range(values.shape[0]) for seed in range(values.shape[1]))
    nothing = np.zeros((len(runs), 2)) if influence is None else influence
    return Scores(runs, values.ravel(), nothing, nothing.shape[1] if influence is not None else 10**6, 1e-12)


# ---- what intervals promise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, 3])
def test_an_interval_covers_the_true_gain_in_93_to_97_of_100_cases(seeds: int) -> None:
    """Whatever is the larger noise. Of 1,152 cells those that share a baseline are right or wrong together."""
    covered = {}
    for number, dominant in enumerate(("examples", "equal", "seeds")):
        world = World(seeds, dominant, effect=0.02, settings=8, targets=4)
        found = [pair for one in simulated(world, 12, seed=number) for pair in one]
        covered[dominant] = np.mean([gain.low <= truth <= gain.high for gain, truth in found])
    assert 0.92 <= np.mean(list(covered.values())) <= 0.98  # 36 studies leave an error of a point
    assert all(0.9 <= share <= 0.99 for share in covered.values())


def test_a_table_of_settings_that_change_nothing_claims_nothing() -> None:
    tables = [[gain.p for gain, _ in one] for one in simulated(World(2, "seeds", unequal=True), 12, seed=5)]
    assert sum(bool((holm(p) < 0.05).any()) for p in tables) <= 2
    assert sum(min(p) < 0.05 for p in tables) > 6  # as each of 90 intervals by itself would


def test_more_settings_tell_more_about_a_seed() -> None:
    """Two seeds of one setting have one degree of freedom between them, those of eight have eight."""
    random = np.random.default_rng(2)
    widths = []
    for settings in (1, 8):
        models = [Model(table(random.normal(0.5, 0.02, (1 + settings, 2)))) for _ in range(20)]
        widths.append(np.median([gain.high - gain.low for model in models if (gain := model.gain(1, 0))]))
    assert widths[0] > 1.5 * widths[1]


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_one_setting_alone_has_students_interval(seeds: int) -> None:
    values = np.random.default_rng(3).normal(0.5, 0.02, (2, seeds))
    differences = values[1] - values[0]
    wanted = t.ppf(0.975, seeds - 1) * differences.std(ddof=1) / np.sqrt(seeds)
    gain = Model(table(values)).gain(1, 0)
    assert gain is not None
    assert gain.value == pytest.approx(differences.mean())
    assert gain.high - gain.value == pytest.approx(wanted, rel=0.1)
    assert gain.p == pytest.approx(
        2 * t.sf(abs(differences.mean()) / wanted * t.ppf(0.975, seeds - 1), seeds - 1), abs=0.03
    )


# ---- examples --------------------------------------------------------------------------------------------------------


def answers(random: np.random.Generator, arms: int, seeds: int, examples: int) -> Scores:
    """Runs of one skill whose answers have nothing in common: seeds do nothing, examples all."""
    runs = [(arm, seed) for arm in range(arms) for seed in range(seeds)]
    right = [np.stack([random.random(examples) < 0.7, np.ones(examples)], axis=1).astype(float) for _ in runs]
    return scores_of(runs, right, ACCURACY)


def test_the_noise_of_examples_is_not_counted_twice() -> None:
    random = np.random.default_rng(4)
    tables = fitted([answers(random, 9, 3, 200) for _ in range(6)])
    halves = [gain.high - gain.value for model in tables for arm in range(1, 9) if (gain := model.gain(arm, 0))]
    once = 1.96 * np.sqrt(2 * 0.21 / 200 / 3)
    assert once < np.mean(halves) < 1.25 * once  # counted twice it is 1.41 times as wide


def test_questions_of_one_passage_are_drawn_together() -> None:
    random = np.random.default_rng(5)
    passages = np.repeat(np.arange(40), 5)
    right = [(random.random(40) < 0.7)[passages] for _ in range(2)]
    statistics = [np.stack([one, np.ones(200)], axis=1).astype(float) for one in right]
    runs = [("none", 0), ("nli", 0)]
    alone = Model(scores_of(runs, statistics, ACCURACY)).gain("nli", "none")
    together = Model(scores_of(runs, statistics, ACCURACY, [passages] * 2)).gain("nli", "none")
    assert alone is not None
    assert together is not None
    assert together.value == alone.value
    assert together.high - together.value == pytest.approx(np.sqrt(5) * (alone.high - alone.value), rel=0.06)


def test_translations_of_an_example_are_drawn_together() -> None:
    random = np.random.default_rng(6)
    one = np.stack([random.random(300) < 0.7, np.ones(300)], axis=1).astype(float)
    other = np.stack([random.random(300) < 0.7, np.ones(300)], axis=1).astype(float)
    first, second, different = (scores_of([("none", 0)], [right], ACCURACY) for right in (one, one, other))
    translated, unlike = (average([first, two], same_units=True) for two in (second, different))
    assert Model(translated)._covariance[0, 0] == pytest.approx(Model(first)._covariance[0, 0])
    assert Model(unlike)._covariance[0, 0] == pytest.approx(Model(first)._covariance[0, 0] / 2, rel=0.15)


@pytest.mark.parametrize("family", ["sequence", "token", "span", "ranking"])
def test_influences_are_the_spread_between_test_sets(family: str) -> None:
    """Also of metrics that are no means."""
    random = np.random.default_rng(7)
    metric = {"sequence": "accuracy", "token": "f1 of tokens", "span": "f1 of answers", "ranking": "map"}[family]
    world = World(seeds=1, metric=metric, settings=1, targets=40, dominant="examples")
    targets = study(world, random)
    assert targets[0].family == family
    pool = np.concatenate([target.statistics[0][0] for target in targets])
    sets = [pool[random.integers(len(pool), size=200)] for _ in range(300)]
    scores = scores_of([("none", number) for number in range(300)], sets, FAMILIES[family].value)
    told = np.sqrt((scores.influence**2).sum(axis=1)).mean()
    assert told == pytest.approx(scores.values.std(), rel=0.15)


# ---- correlations ----------------------------------------------------------------------------------------------------


def correlations(values: np.ndarray) -> Scores:
    """[arms, seeds] correlations of runs on endless test sets."""
    return replace(table(values), lowest=-1.0)


def test_a_correlation_may_vary_and_gain_over_its_whole_range() -> None:
    """Its variance is at most 1, that of a score in 0..1 a quarter."""
    spread = np.random.default_rng(11).uniform(-0.95, 0.95, (2, 40)).round(2)
    gain = Model(correlations(spread)).gain(1, 0)
    assert gain is not None
    wanted = t.ppf(0.975, 39) * (spread[1] - spread[0]).std(ddof=1) / np.sqrt(40)
    assert gain.high - gain.value == pytest.approx(wanted, rel=0.1)
    far = Model(correlations(np.array([[-0.7, -0.72, -0.69], [0.8, 0.81, 0.78]]))).gain(1, 0)
    assert far is not None
    assert far.value == pytest.approx(1.5)
    assert 1 < far.low < far.high < 2


@pytest.mark.parametrize("family", ["regression", "sequence"])
def test_a_correlation_below_zero_has_an_interval_around_it(family: str) -> None:
    random = np.random.default_rng(12)
    if family == "regression":
        measure = measure_of("regression", "spearman")
        gold, noise = random.normal(size=(2, 300))
        task = Task("likeness", FAMILIES["regression"], TASKS["world/nli"].source, ("en",))
        statistics = measure.judge([*(noise - 0.6 * gold)], [{"score": score} for score in gold], task, "en")
    else:
        measure = measure_of("sequence", "matthews")
        gold = random.integers(2, size=300)
        guessed = np.where(random.random(300) < 0.7, 1 - gold, gold)
        classes = [[(guessed == gold) & (gold == c), guessed == c, gold == c] for c in (0, 1)]
        statistics = np.stack([column for columns in classes for column in columns], axis=1).astype(float)
    scores = scores_of([("none", 0)], [statistics], measure.value, lowest=measure.lowest)
    level = Model(scores).level("none")
    assert scores.lowest == -1
    assert level is not None
    assert -1 < level.low < level.value < level.high < 0
    assert level.high - level.low < 0.4


# ---- edges -----------------------------------------------------------------------------------------------------------


def test_a_level_at_an_end_has_an_interval_inside() -> None:
    perfect = np.ones((50, 2))
    level = Model(scores_of([("none", 0), ("none", 1)], [perfect, perfect], ACCURACY)).level("none")
    assert level is not None
    assert level.high == 1
    assert level.low == pytest.approx(0.93, abs=0.02)  # Wilson's of 50 of 50


def test_arms_that_answer_alike_differ_by_no_more_than_an_example_is_worth() -> None:
    runs = [(arm, seed) for arm in ("none", "nli") for seed in range(3)]
    same = np.stack([np.arange(100) < 60, np.ones(100)], axis=1).astype(float)
    gain = Model(scores_of(runs, [same] * 6, ACCURACY)).gain("nli", "none")
    assert gain is not None
    assert gain.value == pytest.approx(0, abs=1e-12)
    assert 0.01 < gain.high < 0.04
    assert gain.p == pytest.approx(1)


def test_one_unit_says_nothing() -> None:
    runs = [(arm, seed) for arm in ("none", "nli") for seed in range(3)]
    right = [np.ones((5, 2)) if arm == "nli" else np.array([[0.0, 1.0]] * 5) for arm, _ in runs]
    gain = Model(scores_of(runs, right, ACCURACY, [np.zeros(5, dtype=np.int64)] * 6)).gain("nli", "none")
    assert gain is not None
    assert (gain.low, gain.high, gain.p) == (-1, 1, 1)


def test_what_has_no_runs_has_no_numbers() -> None:
    nothing, some = Model(table(np.zeros((2, 2))).only([])), Model(table(np.full((2, 2), 0.5)))
    assert nothing.gain(1, 0) is nothing.level(1) is some.gain(1, 7) is None
    assert not nothing.evidence.any()


def test_scores_that_are_all_equal_differ_by_nothing() -> None:
    gain = Model(table(np.full((3, 3), 0.5))).gain(1, 0)
    assert gain is not None
    assert gain.value == 0
    assert 0 < gain.high < 1e-3
    assert gain.p == 1


def test_a_seed_that_one_arm_lacks_is_left_out_of_its_gain_alone() -> None:
    values = np.random.default_rng(8).normal(0.5, 0.02, (4, 3))
    whole = table(values)
    lacking = whole.only(run for run in whole.runs if run != (1, 2))
    model = Model(lacking)
    first, second = model.gain(1, 0), model.gain(2, 0)
    assert first is not None
    assert second is not None
    assert (first.seeds, second.seeds) == (2, 3)
    assert first.value == pytest.approx((values[1, :2] - values[0, :2]).mean())
    assert second.value == pytest.approx((values[2] - values[0]).mean())


def test_what_a_seed_does_to_all_arms_is_in_levels_and_not_in_gains() -> None:
    random = np.random.default_rng(9)
    own, common = random.normal(0.5, 0.002, (6, 4)), random.normal(0, 0.05, 4)
    still, moved = Model(table(own)), Model(table(own + common))
    (level, gain), (moved_level, moved_gain) = (
        [pair.high - pair.low for pair in (model.level(1), model.gain(1, 0)) if pair] for model in (still, moved)
    )
    assert moved_gain == pytest.approx(gain, rel=0.02)
    assert moved_level > 5 * level


def test_a_ratio_is_paired() -> None:
    random = np.random.default_rng(10)
    right = random.random(400) < 0.8
    before = np.stack([right, np.ones(400)], axis=1).astype(float)
    runs = [("nli", seed) for seed in range(2)]
    whole = scores_of(runs, [before] * 2, ACCURACY)
    kept = ratio(whole, whole)
    assert kept.values == pytest.approx([1, 1])
    assert np.abs(kept.influence).max() == 0


def test_holm_multiplies_the_smallest_by_all_and_leaves_out_what_is_no_comparison() -> None:
    assert holm([0.01, np.nan, 0.02, 0.9]) == pytest.approx([0.03, np.nan, 0.04, 0.9], nan_ok=True)
    assert holm([0.03, 0.02]) == pytest.approx([0.04, 0.04])
    assert len(holm([])) == 0
