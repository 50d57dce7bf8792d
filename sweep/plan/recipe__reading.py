"""How a target is read at scoring time: test examples, and for sentence vectors the layers and the pooling.

Translations are found by vectors of a middle layer: the one that the registry has for the encoder (mBERT 8 of 12, XLM-R
large 14 of 24), else `default_layer`, a rule that gives these two, and the same relative depth elsewhere. A task that a
target phase trained is read where it was trained: at the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.config.study import Study
from sweep.models.registry__shapes import EncoderSource
from sweep.tasks.task import Task


def default_layer(layers: int) -> int:
    """Two thirds up in an encoder of at most 12 layers, 7/12 in a deeper one."""
    return round(layers * (2 / 3 if layers <= 12 else 7 / 12))


def scoring_settings(study: Study, task: Task, encoder: EncoderSource) -> dict[str, Any]:
    """What of the study's scoring settings counts for a task; layers count from the embedding layer, 0.

    The first layer is the one that counts; the others are shown beside it.
    """
    settings: dict[str, Any] = {"examples": study.scoring.examples, **task.family.scoring_settings(task)}
    if not task.family.vectors:
        return settings
    last = encoder.shape.layers
    if task.trained_in:
        return settings | {"layers": [last], "pooling": encoder.pooling}
    asked, pooling = study.scoring.reading(task.name)
    own = default_layer(last) if encoder.known.layer is None else encoder.known.layer
    layers = [own] if asked is None else [layer % (last + 1) for layer in asked]
    return settings | {"layers": list(dict.fromkeys(layers)), "pooling": pooling or encoder.known.pooling}


def read_layers(settings: Mapping[str, Any], encoder: EncoderSource) -> list[int]:
    """The same layers as a model takes them: -1 is the last one, its final norm included."""
    return [-1 if layer == encoder.shape.layers else layer for layer in settings.get("layers", [-1])]
