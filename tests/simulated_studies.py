"""Studies with a known truth: per-example statistics of all runs, drawn from a world in which gains are known.

A run answers an example rightly where its skill exceeds the example's difficulty, which is the same for all runs, and
in part for both languages and for the questions of a passage; an arm and a run have likes of their own beside. A seed
moves the skill of all arms and, by itself, that of each. The expected score of a run is its skill, so gains are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from sweep.report.statistics import Run, Scores, average, scores_of
from sweep.tasks import FAMILIES

Floats = NDArray[np.float64]
LANGUAGES = 2
QUESTIONS = 5  # of a passage
SHARED, OF_ARM = 0.65, 0.15  # of the variance of an answer: difficulty, and what one arm finds easy
OWN = 0.08  # variance of a score that examples add to one run alone, times its number of examples
EVERYWHERE = 0.2  # of what a seed does to an arm: the intermediate phase is the same for all targets
BASE = 0.65
UNEQUAL = 0.5  # standard deviation of the log of the seeds' standard deviations
FAMILY = {"accuracy": "sequence", "f1 of tokens": "token", "f1 of answers": "span", "map": "ranking"}
EXAMPLES = {"examples": 400, "equal": 400, "seeds": 800}  # in both languages, by what dominates
SEED_SHARE = {"examples": 0.125, "equal": 1.0, "seeds": 8.0}  # variance of seeds in units of a run's own of examples


@dataclass(frozen=True)
class World:
    """What is simulated; every other arm has `effect`, the others lose as much. The first arm is the baseline."""

    seeds: int = 3
    dominant: str = "equal"
    metric: str = "accuracy"
    unequal: bool = False
    effect: float = 0.0
    passages: bool = False
    settings: int = 10
    targets: int = 9


@dataclass(frozen=True)
class Target:
    """One target of a study: what the report has, and what only the simulation knows."""

    statistics: list[list[Floats]]  # by language, by run: [N, K]
    units: NDArray[np.int64] | None
    runs: list[Run]
    family: str
    means: Floats  # [1 + settings] true scores
    variances: Floats  # [1 + settings] of what a seed does to one arm

    def scores(self) -> Scores:
        """As the report makes them of the statistics."""
        units = [self.units] * len(self.runs) if self.units is not None else ()
        value = FAMILIES[self.family].value
        return average([scores_of(self.runs, tables, value, units) for tables in self.statistics], same_units=True)


def study(world: World, random: np.random.Generator) -> list[Target]:
    """The targets of one study; seeds have a part of what they do to an arm in common on all of them."""
    arms, everywhere = 1 + world.settings, random.normal(size=(1 + world.settings, world.seeds))
    return [_target(world, arms, everywhere, random) for _ in range(world.targets)]


def _target(world: World, arms: int, everywhere: Floats, random: np.random.Generator) -> Target:
    size = SEED_SHARE[world.dominant] * OWN / EXAMPLES[world.dominant]
    deviations = np.full(arms, np.sqrt(size))
    if world.unequal:
        deviations *= np.exp(random.normal(0, UNEQUAL, arms) - UNEQUAL**2)  # their mean square stays
    sign = np.where(np.arange(world.settings) % 2, -1.0, 1.0)
    means = BASE + np.concatenate([[0.0], world.effect * sign])
    drawn = np.sqrt(EVERYWHERE) * everywhere + np.sqrt(1 - EVERYWHERE) * random.normal(size=everywhere.shape)
    own = drawn * deviations[:, None]
    skills = means[:, None] + own + random.normal(0, np.sqrt(size), world.seeds)
    runs: list[Run] = [(arm, seed) for arm in range(arms) for seed in range(world.seeds)]
    statistics, units = _answers(world, np.clip(skills, 0.02, 0.98), random)
    return Target(statistics, units, runs, FAMILY[world.metric], means, deviations**2)


def _answers(
    world: World, skills: Floats, random: np.random.Generator
) -> tuple[list[list[Floats]], NDArray[np.int64] | None]:
    """[arms, seeds] skills as per-example statistics, and the units of examples."""
    examples = EXAMPLES[world.dominant] // LANGUAGES
    units = np.arange(examples) // QUESTIONS if world.passages else None
    shared = random.normal(size=examples)
    if units is not None:
        shared = np.sqrt(0.5) * (shared + random.normal(size=examples)[units])
    gold = 1 + random.poisson(1.2, examples)  # chunks of a sentence
    found = []
    for _ in range(LANGUAGES):
        difficulty = np.sqrt(0.7) * shared + np.sqrt(0.3) * random.normal(size=examples)
        z = random.standard_normal((*skills.shape, examples), dtype=np.float32) * np.float32(
            np.sqrt(1 - SHARED - OF_ARM)
        )
        z += (np.sqrt(SHARED) * difficulty).astype(np.float32)
        z += np.float32(np.sqrt(OF_ARM)) * random.standard_normal((len(skills), 1, examples), dtype=np.float32)
        tables = _judged(world.metric, z.reshape(-1, examples), skills.reshape(-1, 1), gold, random)
        found.append(list(tables))
    return found, units


def _judged(
    metric: str, z: NDArray[np.floating[Any]], skills: Floats, gold: NDArray[np.int64], random: np.random.Generator
) -> Floats:
    """[R, N, K] of standard normal z [R, N], such that the metric's expected value is the skill [R, 1]."""
    ones = np.ones(z.shape)
    if metric == "accuracy":
        return np.stack([z < ndtri(skills), ones], axis=2).astype(np.float64)
    if metric == "f1 of tokens":  # recall r with half of what was missed found elsewhere: F1 = 2 r / (1.5 + r / 2)
        recall = 1.5 * skills / (2 - 0.5 * skills)
        chance = ndtr((ndtri(recall) - np.sqrt(0.5) * z) / np.sqrt(0.5))
        right, wrong = random.binomial(gold, chance), random.binomial(gold, 0.5 * (1 - recall) * ones)
        return np.stack([right, right + wrong, gold * ones], axis=2).astype(np.float64)
    reach = np.minimum(skills, 1 - skills) * 0.6
    steps = (-1.0, 1.0) if metric == "f1 of answers" else (-1.0, -1 / 3, 1 / 3, 1.0)
    share = np.mean([z < ndtri(skills + step * reach) for step in steps], axis=0)
    return np.stack([share, share == 1, ones] if metric == "f1 of answers" else [share, ones], axis=2).astype(
        np.float64
    )
