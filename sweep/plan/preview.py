"""Previews of intermediate settings: a plan with short phases whose results are ranked for each target.

How well the published encoder's vectors explain a target's labels says nothing about an intermediate task. So every
setting gets a short phase, EXAMPLES of each of its tasks seen once, shared by all targets; what it leaves is judged by
LogME on EXAMPLES of the target's English training data, in one forward pass (sweep/evaluate/transferability.py). It is
a guess: Poth et al. 2021 (arXiv 2104.08247), who compare such guesses, judge whole intermediate phases. Reports
therefore show what a guess would have cost wherever all of a target's settings were run.

Volumes and chain budgets of a setting share its preview, and so do values of settings axes that a short phase does not
see. Targets that no linear head can answer have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sweep.config.phases import Phases, PhaseSettings, Warmup
from sweep.data.encoded import ENCODING_VERSION
from sweep.keys import fingerprint
from sweep.plan.cost import Costs
from sweep.plan.plan import Plan
from sweep.plan.recipe import INTERMEDIATE, TARGET, Chain

PREVIEW_VERSION = 1  # raised when the same weights would give another value
EXAMPLES = 1000  # of each intermediate task, and of the target

# What makes a phase short, whatever the study says. What it has learned is not asked: the target's labels judge it.
SHORT = {
    "epochs": 1.0, "steps": None, "schedule": "linear", "warmup": Warmup(share=0.1), "evaluations": 1,
    "select": "last", "collapse_margin": -1.0, "retries": 0, "examples": None,
}  # fmt: skip


def ranked_targets(plan: Plan) -> tuple[str, ...]:
    """The targets whose settings can be ranked; of the others, all settings have to be tried."""
    tasks = (plan.tasks[name] for name in plan.study.axes.target)
    return tuple(task.name for task in tasks if task.family.probe and task.trained_in)


def short_plan(plan: Plan) -> Plan:
    """The study with short intermediate phases, one seed, and the cells that are to be ranked, baselines among them."""
    study, targets = plan.study, ranked_targets(plan)
    unseen = tuple(filter(_is_unseen, study.axes.settings))
    update: dict[str, Any] = {"volume": (EXAMPLES,), "chain_budget": None, "seed": study.axes.seed[:1]}
    update["settings"] = {path: values for path, values in study.axes.settings.items() if path not in unseen}
    axes = study.axes.model_copy(update=update)
    short = study.intermediate and _shortened(study.intermediate)
    ranked = (cell for cell in plan.cells if cell.target in targets)
    cells = (replace(cell, volume=EXAMPLES, chain_budget=None).without(*unseen) for cell in ranked)
    update = {"axes": axes, "intermediate": short}
    return replace(plan, study=study.model_copy(update=update), cells=tuple(dict.fromkeys(cells)))


def _is_unseen(path: str) -> bool:
    """Whether a settings axis is of the target phase, or of what is the same in every short phase."""
    phase, key, *_ = path.split(".")
    return phase == TARGET or (phase == INTERMEDIATE and key in SHORT)


def _shortened(settings: Phases) -> Phases:
    overrides = {
        task: {name: value for name, value in changes.items() if name not in SHORT}
        for task, changes in settings.overrides.items()
    }
    return settings.at({**SHORT, "overrides": overrides})


def previews(short: Plan) -> Iterator[Chain]:
    """One chain per cell of a short plan, without a target phase; under its score's key the store keeps the preview."""
    for cell in short.cells:
        chain = short.chain(cell, short.planned(cell, 0), short.study.axes.seed[0])
        phases = tuple(phase for phase in chain.phases if phase.recipe.kind != TARGET)
        encoder = short.encoders[cell.encoder].of(chain.seed)
        weights = [phases[-1].key if phases else encoder.digest, encoder.pooling]
        rows = short.rows[cell.target, "train", short.tasks[cell.target].trained_in[0]]
        read = [cell.target, rows, EXAMPLES, target_settings(short, chain).max_length, short.study.runtime.precision]
        key = fingerprint(["preview", PREVIEW_VERSION, ENCODING_VERSION, weights, read])
        yield replace(chain, key=key, phases=phases, score=key)


def target_settings(short: Plan, chain: Chain) -> PhaseSettings:
    """The settings of the target phase that the chain does not run."""
    return short.recipes(chain.cell)[-1].settings


def preview_parts(costs: Costs, chain: Chain) -> dict[str, float]:
    """key -> FLOPs of the short phases and of the forward pass; `costs` are those of the short plan."""
    parts = {phase.key: costs.phase(chain.cell, phase.recipe) for phase in chain.phases}
    return {**parts, chain.score: costs.reading(chain.cell, EXAMPLES)}
