"""Pairs of tasks whose comparison would flatter: training data in common, or a baseline that has seen it already."""

from __future__ import annotations

from sweep.tasks.base import Task

# Target -> corpora that XTREME-R's own baseline is trained on before it, so that its "no intermediate phase" has one.
XTREME_R_BASELINES = {"tatoeba": ("squad",), "xcopa": ("siqa",)}


def overlap(intermediate: Task, target: Task) -> str | None:
    """Why an intermediate task's gain on a target is no fair gain, or None."""
    if intermediate.name == target.name:
        return "are the same task"
    if shared := set(intermediate.corpora) & set(target.corpora):
        return f"share training data ({', '.join(sorted(shared))})"
    if seen := set(intermediate.corpora) & set(XTREME_R_BASELINES.get(target.name, ())):
        return f"are one chain in XTREME-R, whose own baseline is trained on {', '.join(sorted(seen))} first"
    return None
