"""How sentence vectors were read for retrieval targets: layer, pooling, thresholds; and what other layers give."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sweep.planning.axes import Cell
from sweep.reporting.results import Result

if TYPE_CHECKING:
    import pandas as pd


def sentences(results: Sequence[Result], encoders: Mapping[str, str]) -> Iterator[str]:
    """One sentence per retrieval target and encoder: the layer that counts, and the thresholds that dev data gave."""
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        if result.score.layers:
            found.setdefault((result.chain.cell.target, result.chain.cell.encoder), result)
    for (target, encoder), result in sorted(found.items()):
        settings = result.score.settings
        where = f"{target}: vectors of layer {settings['layers'][0]} of {encoders[encoder]} (0: its embeddings)"
        yield f"{where}, {settings['pooling']} pooling{_thresholds(results, target, encoder)}."


def _thresholds(results: Sequence[Result], target: str, encoder: str) -> str:
    mine = (result for result in results if (result.chain.cell.target, result.chain.cell.encoder) == (target, encoder))
    entries = [entry for result in mine for entry in result.score.languages.values()]
    values = [entry["threshold"] for entry in entries if "threshold" in entry]
    return f", margins from {min(values):.3f} to {max(values):.3f} chosen on dev data" if values else ""


def layer_table(results: Sequence[Result], encoders: Mapping[str, str]) -> pd.DataFrame:
    """Mean score over languages and seeds of selected chains per layer read; empty where none was compared."""
    import pandas as pd

    means: defaultdict[tuple[Cell, int], list[float]] = defaultdict(list)
    counting: dict[tuple[str, str], int] = {}
    for result in results:
        cell, layers = result.chain.cell, result.score.layers
        if len(layers) < 2 or not result.chain.selected:
            continue
        counting[cell.encoder, cell.target] = result.score.settings["layers"][0]
        for layer, languages in layers.items():
            means[cell, int(layer)].append(sum(languages.values()) / len(languages))
    rows = [
        {
            **({"encoder": encoders[cell.encoder]} if len(encoders) > 1 else {}),
            "target": cell.target,
            "intermediate": cell.label,
            "layer": layer,
            "score": f"{100 * sum(values) / len(values):.1f}",
            "counts": "yes" if layer == counting[cell.encoder, cell.target] else "",
        }
        for (cell, layer), values in means.items()
    ]
    return pd.DataFrame(rows)
