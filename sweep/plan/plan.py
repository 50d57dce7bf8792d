"""The plan: cells, chains, and the phases that chains share. Knows no YAML text and runs nothing.

The key of a phase holds its recipe, its data and its parent's key, so a tree of shared prefixes needs no matching:
equal keys are one phase. Chains are made on demand, because a tuned number is known only when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from sweep.config.axes import OWN, Cell, Settings, phase_of
from sweep.config.phases import LENGTHS, Phases, PhaseSettings, Text
from sweep.config.spaces import Value
from sweep.config.study import Study
from sweep.data.encoded import ENCODING_VERSION
from sweep.keys import KEY_LENGTH, fingerprint
from sweep.models.registry import EncoderSource
from sweep.plan.languages import judged_in, trained_in
from sweep.plan.recipe import (
    CANDIDATE,
    INTERMEDIATE,
    PRETRAIN,
    REPLICA,
    TARGET,
    TRUNK,
    Chain,
    Hyperparameters,
    Phase,
    Recipe,
    quasi_random,
    scoring_settings,
    spread,
    values_at,
)
from sweep.tasks.task import Task

SCORE_VERSION = 3  # raised when the same weights would give other scores

Rows = Mapping[tuple[str, str, str], str]  # (task, split, language) -> digest of its rows and of what they mean
Origin = tuple[float, int, str | None, EncoderSource]  # learning rate, seed, key of the parent, encoder


@dataclass(frozen=True)
class Plan:
    """Everything that a study can run, resolved: encoders, tasks, cells."""

    study: Study
    encoders: Mapping[str, EncoderSource]
    tasks: Mapping[str, Task]
    rows: Rows
    cells: tuple[Cell, ...]
    flags: tuple[str, ...] = ()
    overlaps: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (intermediate task, target) -> why
    counted: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (task, language) -> training examples, exact
    # What was asked before: a plan of 100,000 chains asks for few things many times.
    _phases: dict[tuple[object, ...], Phase] = field(default_factory=dict, init=False, repr=False, compare=False)
    _recipes: dict[tuple[object, ...], Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)
    _at: dict[tuple[object, ...], Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)
    _largest: dict[Cell, dict[str, int | None]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_cells: dict[Cell, tuple[Recipe, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _readings: dict[Cell, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def tests(self) -> dict[str, str]:
        """Task -> digest of what scoring reads of it: test rows, and dev rows where these give it a threshold."""
        return {name: self._test_digest(task) for name, task in self.tasks.items()}

    def recipes(self, cell: Cell) -> tuple[Recipe, ...]:
        """The phases of a cell's chains in order, with the spaces of what is tuned, the seed apart."""
        if cell not in self._of_cells:
            self._of_cells[cell] = tuple(self._recipes_of(cell))
        return self._of_cells[cell]

    def _recipes_of(self, cell: Cell) -> Iterator[Recipe]:
        if self.encoders[cell.encoder].random:
            assert self.study.pretrain is not None
            yield self._recipe(PRETRAIN, (self.study.pretrain.task,), cell.settings)
        if cell.intermediate:
            yield self._intermediate(cell)
        if self.tasks[cell.target].trained_in:
            yield self._target(cell)

    def phase_flops(self, cell: Cell, kind: str) -> float | None:
        """FLOPs that the steps of a phase may cost: its share of the chain's budget among the phases that it trains."""
        axis = self.study.axes.chain_budget
        if axis is None or cell.chain_budget is None:
            return None
        shares = {INTERMEDIATE: axis.shares.intermediate, TARGET: axis.shares.target}
        trained = {INTERMEDIATE: bool(cell.intermediate), TARGET: bool(self.tasks[cell.target].trained_in)}
        whole = sum(share for name, share in shares.items() if trained[name])
        return float(f"{cell.chain_budget * shares[kind] / whole:.6g}")

    def chain(
        self, cell: Cell, hyperparameters: Hyperparameters, seed: int, candidate: int = 0, role: str = CANDIDATE
    ) -> Chain:
        """The chain of a cell with these hyperparameters and seed."""
        encoder = self.encoders[cell.encoder].of(seed)
        phases: list[Phase] = []
        for recipe in self.recipes(cell):
            rate = hyperparameters[recipe.kind]
            assert rate is not None
            origin = rate, seed, phases[-1].key if phases else None, encoder
            phases += self._run(cell, recipe, hyperparameters, origin)
        score = self._score_key(cell, phases[-1].key if phases else encoder.digest)
        key = _join("chain", cell.name, score, str(seed), str(candidate))
        return Chain(key, cell, dict(hyperparameters), seed, candidate, role, tuple(phases), score)

    def chain_name(self, chain: Chain) -> str:
        """Name of a chain that no other has: with the number of the candidate where its cell has several."""
        several = chain.role == CANDIDATE and self.candidates(chain.cell) > 1
        return f"{chain.name}, candidate {chain.candidate}" if several else chain.name

    def readers(self, chain: Chain) -> Iterator[str]:
        """Keys of the scores that are taken of a chain's last phase: its own, and those of targets trained alike."""
        for target in self.study.axes.target:
            cell = replace(chain.cell, target=target)
            if self.is_point(cell, chain.hyperparameters):
                reader = self.chain(cell, chain.hyperparameters, chain.seed)
                if reader.phases and reader.phases[-1].key == chain.phases[-1].key:
                    yield reader.score

    def retained(self, cell: Cell) -> tuple[str, ...]:
        """The intermediate tasks that are scored again after the target phase."""
        asked = self.study.scoring.retention and self.tasks[cell.target].trained_in
        return cell.intermediate if asked else ()

    def grid(self, cell: Cell) -> dict[str, tuple[Value, ...]]:
        """Name of a hyperparameter -> values to choose from, phase by phase."""
        return {name: values for recipe in self.recipes(cell) for name, values in recipe.grid.items()}

    def is_point(self, cell: Cell, hyperparameters: Hyperparameters) -> bool:
        """Whether the cell may be tried with these hyperparameters; further ones are of other cells' phases."""
        grid = self.grid(cell)
        return grid.keys() <= hyperparameters.keys() and all(hyperparameters[name] in grid[name] for name in grid)

    def candidates(self, cell: Cell) -> int:
        """Number of candidates that the cell's tuning compares: as many as the study says, or as its grid has."""
        return min(self.study.tuning.candidates, self._points(cell))

    def startup(self, cell: Cell) -> int:
        """Number of those that ask for no dev score of their own cell; all of them where it tries its whole grid."""
        whole = self.candidates(cell) == self._points(cell)
        return self.candidates(cell) if whole else min(self.study.tuning.startup, self.candidates(cell))

    def is_fixed(self, cell: Cell, candidate: int) -> bool:
        """Whether a candidate depends on no dev score at all: the last start-up point may ask other cells."""
        return candidate == 0 or candidate < self.startup(cell) - 1

    def has_choice(self, cell: Cell) -> bool:
        """Whether dev scores can say which points of its grid the cell tries."""
        return 1 < self.study.tuning.candidates < self._points(cell)

    def _points(self, cell: Cell) -> int:
        return math.prod(recipe.points for recipe in self.recipes(cell))

    def planned(self, cell: Cell, candidate: int) -> dict[str, Value]:
        """Hyperparameters of a candidate as far as no dev score is known; those of the first one depend on none."""
        recipes, grid = self.recipes(cell), self.grid(cell)
        first = tuple(index for recipe in recipes for index in recipe.beginning)
        one_each = all(sum(len(values) > 1 for values in recipe.grid.values()) <= 1 for recipe in recipes)
        design = spread if one_each else quasi_random
        return values_at(grid, design(tuple(map(len, grid.values())), candidate + 1, first)[candidate])

    def planned_chains(self) -> Iterator[Chain]:
        """All chains as far as they can be known before anything has run: candidates, then replicas of the first."""
        first, *replica_seeds = self.study.axes.seed
        for cell in self.cells:
            count = self.candidates(cell)
            for candidate in range(count):
                yield self.chain(cell, self.planned(cell, candidate), first, candidate)
            for seed in replica_seeds:
                yield self.chain(cell, self.planned(cell, 0), seed, 0, REPLICA)

    def _intermediate(self, cell: Cell) -> Recipe:
        arm = cell.volume, cell.source, self.phase_flops(cell, INTERMEDIATE)
        return self._recipe(INTERMEDIATE, cell.intermediate, cell.settings, *arm)

    def _target(self, cell: Cell) -> Recipe:
        return self._recipe(TARGET, (cell.target,), cell.settings, flops=self.phase_flops(cell, TARGET))

    def _recipe(
        self,
        kind: str,
        tasks: tuple[str, ...],
        axes: Settings,
        volume: int | None = None,
        source: str = OWN,
        flops: float | None = None,
    ) -> Recipe:
        own = tuple(pair for pair in axes if phase_of(pair[0]) == kind)
        memo = (kind, tasks, own, volume, source, flops)
        if memo not in self._recipes:
            settings = self.study.phase(kind, own)
            assert settings is not None
            chosen = settings.of(tasks) if isinstance(settings, Phases) else settings
            languages = tuple(self._languages(self.tasks[task], source, chosen.text) for task in tasks)
            limits = [limit for limit in (volume, chosen.examples) if limit is not None]
            examples = self._limit(tasks, languages, min(limits)) if limits else None
            read = zip(tasks, languages, strict=True)
            data = tuple(self._training_digest(self.tasks[task], spoken) for task, spoken in read)
            # Languages are said per task, and raw text's settings count where there is raw text.
            has_text = any(self.tasks[task].family.raw_text for task in tasks)
            chosen = chosen.untuned(_idle(chosen, mixed=len(tasks) > 1, has_text=has_text))
            text = chosen.text.at({"languages": None}) if has_text else Text()
            chosen = chosen.model_copy(update={"text": text})
            precision = self.study.runtime.precision
            self._recipes[memo] = Recipe(kind, tasks, data, languages, examples, chosen, flops, precision)
        return self._recipes[memo]

    def _limit(self, tasks: tuple[str, ...], languages: tuple[tuple[str, ...], ...], examples: int) -> int | None:
        """The volume; None where no task has more examples than that: then it is another name for all of them."""
        most = max(self.examples(task, spoken) or math.inf for task, spoken in zip(tasks, languages, strict=True))
        return None if examples >= most else examples

    def examples(self, task: str, languages: tuple[str, ...]) -> int | None:
        """A task's training examples in these languages together; None where they are not counted yet."""
        counts = [self.counted.get((task, language)) for language in languages]
        return None if None in counts else sum(count for count in counts if count is not None)

    def shown(self, cell: Cell) -> Cell:
        """The cell under the largest of the study's volumes that gives the very phase: others leave out nothing more.

        It keeps a volume that was asked for, by which settings are compared with each other.
        """
        if not cell.intermediate:
            return cell
        without = replace(cell, volume=None)
        if without not in self._largest:
            upwards = sorted(self.study.axes.values("volume"), key=lambda volume: volume or math.inf)
            volumes = {self._intermediate(replace(cell, volume=volume)).digest: volume for volume in upwards}
            self._largest[without] = volumes
        return replace(cell, volume=self._largest[without].get(self._intermediate(cell).digest, cell.volume))

    def _training_digest(self, task: Task, languages: tuple[str, ...]) -> str:
        train = [self.rows[task.name, "train", language] for language in languages]
        return fingerprint({"train": train, "dev": self.rows[task.name, "dev", judged_in(task, languages)]})

    def _test_digest(self, task: Task) -> str:
        read = [self.rows[task.name, "test", language] for language in (*task.languages, *task.pool)]
        read += [self.rows[task.name, "dev", language] for language in task.calibrated_in]
        return fingerprint({"rows": read, "languages": task.languages, "pool": task.pool})

    def _languages(self, task: Task, source: str, text: Text) -> tuple[str, ...]:
        return text.languages or task.trained_in if task.family.raw_text else trained_in(task, source)

    def _lengths(self, cell: Cell, recipe: Recipe, hyperparameters: Hyperparameters) -> tuple[Recipe, ...]:
        """Runs of several lengths that begin with the same steps, shortest first; most runs share none."""
        if recipe.settings.schedule != "wsd":
            lengths = [self._recipe_at(recipe, hyperparameters)]
        elif recipe.length is not None:
            tuned = ({**hyperparameters, recipe.length: length} for length in recipe.grid[recipe.length])
            lengths = [self._recipe_at(recipe, values) for values in tuned]
        elif (axis := self._length_axis(recipe.kind)) is not None:
            others = (cell.with_setting(axis, text) for text in self.study.axes.values(axis))
            recipes = [one for other in others for one in self.recipes(other) if one.kind == recipe.kind]
            longer = sorted(recipes, key=lambda one: one.settings.steps or one.settings.epochs or 0)
            lengths = [self._recipe_at(one, hyperparameters) for one in longer]
        elif recipe.kind == PRETRAIN:
            lengths = [self._recipe_at(recipe, hyperparameters)]
        else:
            recipes = [recipe]
            if recipe.flops is not None:
                recipes = self._budgets(cell, recipe.kind)
            elif recipe.kind == INTERMEDIATE:
                recipes = self._volumes(cell)
            lengths = [self._recipe_at(one, hyperparameters) for one in recipes]
        return tuple({recipe.digest: recipe for recipe in lengths}.values())

    def _length_axis(self, kind: str) -> str | None:
        """The settings axis that compares lengths of phases of this kind."""
        return next((path for path in self.study.axes.settings if path in (f"{kind}.{name}" for name in LENGTHS)), None)

    def _recipe_at(self, recipe: Recipe, hyperparameters: Hyperparameters) -> Recipe:
        if not recipe.is_tuned:
            return recipe
        memo = (recipe.digest, recipe.tasks, *(hyperparameters[name] for name in recipe.grid))
        if memo not in self._at:
            self._at[memo] = recipe.at(hyperparameters)
        return self._at[memo]

    def _volumes(self, cell: Cell) -> list[Recipe]:
        """Recipes of all volumes, smallest first; the cell's alone where a mixture depends on its volume."""
        if len(cell.intermediate) > 1 or max(self._intermediate(cell).settings.possible("text.temperature")) > 1:
            return [self._intermediate(cell)]
        upwards = sorted(self.study.axes.values("volume"), key=lambda volume: volume or math.inf)
        return [self._intermediate(replace(cell, volume=volume)) for volume in upwards]

    def _budgets(self, cell: Cell, kind: str) -> list[Recipe]:
        """Recipes of all chain budgets, smallest first; the cell's alone for a target after an intermediate phase."""
        axis = self.study.axes.chain_budget
        assert axis is not None
        if kind == TARGET:
            alike = [cell] if cell.intermediate else [replace(cell, chain_budget=budget) for budget in axis.flops]
            return sorted(map(self._target, alike), key=lambda recipe: recipe.flops or 0.0)
        # Of a target that is not trained in, the intermediate phase gets the whole budget.
        targets = {bool(self.tasks[name].trained_in): name for name in self.study.axes.target}.values()
        cells = (replace(cell, chain_budget=budget, target=name) for budget in axis.flops for name in targets)
        return sorted(map(self._intermediate, cells), key=lambda recipe: recipe.flops or 0.0)

    def _run(self, cell: Cell, recipe: Recipe, hyperparameters: Hyperparameters, origin: Origin) -> Iterator[Phase]:
        """A phase, before it the trunk segments that it shares with shorter runs and offers to longer ones."""
        own, lengths = self._recipe_at(recipe, hyperparameters), self._lengths(cell, recipe, hyperparameters)
        same_data = recipe.flops is not None or recipe.length is not None or self._length_axis(recipe.kind) is not None
        resumes = None
        for length in lengths[: min(lengths.index(own) + 1, len(lengths) - 1)]:
            segment = self._phase(length, origin, resumes, trunk=True, same_data=same_data)
            resumes = segment.key
            yield segment
        yield self._phase(own, origin, resumes)

    def _phase(
        self, recipe: Recipe, origin: Origin, resumes: str | None, *, trunk: bool = False, same_data: bool = False
    ) -> Phase:
        rate, seed, parent, encoder = origin
        # Neither key holds what it goes on from: that is only a way of getting there.
        memo = (recipe.digest, rate, seed, parent or encoder.name, trunk, same_data)
        if memo not in self._phases:
            weights = parent or _join(encoder.digest, encoder.pooling)
            what = TRUNK if trunk else "phase"
            # It goes on where that of the same phase ends from which larger volumes go on.
            what += " of lengths" if same_data and recipe.flops is None else ""
            key = _join(what, weights, recipe.digest, repr(rate), str(seed))
            self._phases[memo] = Phase(key, recipe, rate, seed, parent, trunk, same_data, resumes)
        return self._phases[memo]

    def _score_key(self, cell: Cell, weights: str) -> str:
        if cell not in self._readings:
            self._readings[cell] = tuple(self._read(cell))
        versions = f"{SCORE_VERSION} {ENCODING_VERSION}"
        return _join("score", versions, weights, *self._readings[cell])

    def _read(self, cell: Cell) -> Iterator[str]:
        """Identity of what is scored of a cell's weights, and how: part of the key of its scores."""
        task = self.tasks[cell.target]
        yield from (task.name, self.tests[task.name], self.study.runtime.precision)
        yield json.dumps(scoring_settings(self.study, task, self.encoders[cell.encoder]), sort_keys=True)
        for name in self.retained(cell):
            task = self.tasks[name]
            yield from (name, self.rows[(name, *task.held_out)], task.normaliser)


def _idle(settings: PhaseSettings, *, mixed: bool, has_text: bool) -> set[str]:
    """Names of numbers that say nothing in a phase with these settings."""
    used = {
        "decay": settings.schedule == "wsd",
        "sampling.temperature": mixed and settings.sampling.by == "temperature",
        "text.temperature": has_text,
    }
    return {name for name, is_used in used.items() if not is_used}


def _join(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:KEY_LENGTH]
