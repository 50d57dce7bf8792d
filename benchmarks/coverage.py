"""How often the report's intervals cover a known truth, and how often it claims what is not there.

Simulated studies (tests/simulated_studies.py: per-example statistics of all runs, 10 settings and a baseline on 9
targets) go through the functions that the report calls, from statistics to intervals. Every combination of

    seeds 2, 3, 5, 10 x what dominates x metric x equal or unequal seed variances x effect x with passages or without

gets one study a round, and rounds go on until `--minutes` are over; counts are kept in `--counts`, so that runs add up.

    python benchmarks/coverage.py --minutes 40 --counts counts.json > tables.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only wait for each other
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from simulated_studies import Target, World, study  # noqa: E402

from sweep.report.statistics import LEVEL, Estimate, Model, average, fitted, holm  # noqa: E402

SEEDS, DOMINANT = (2, 3, 5, 10), ("examples", "equal", "seeds")
METRICS = ("accuracy", "f1 of tokens", "f1 of answers", "map")
EFFECTS = {"none": 0.0, "small": 0.02, "large": 0.1}
NORMAL = 1.959964
MORE = 3
Counts = defaultdict[str, float]


def main() -> None:
    """Simulates until the time is up, then prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--counts", type=Path, default=Path("counts.json"))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--every-row", action="store_true", help="one line per row instead of rows together")
    asked = parser.parse_args()
    kept = json.loads(asked.counts.read_text()) if asked.counts.exists() else {}
    counts = {name: defaultdict(float, kept.get(name, {})) for name, _ in rows()}
    number = {name: index for index, name in enumerate(counts)}
    worlds = {name: world for name, world in rows() if world.seeds in asked.seeds}
    end = time.monotonic() + 60 * asked.minutes
    while time.monotonic() < end:
        for name in sorted(worlds, key=lambda name: counts[name]["studies"] / share_of(worlds[name]))[:48]:
            random = np.random.default_rng([number[name], int(counts[name]["studies"])])
            for what, count in measured(worlds[name], study(worlds[name], random)).items():
                counts[name][what] += count
        asked.counts.write_text(json.dumps(counts))
    print("\n".join(tables(counts, asked.every_row)))


def share_of(world: World) -> int:
    """Without an effect a study is one case of a table, not 90 of cells: there are more of these."""
    return 1 if world.effect else MORE


def rows() -> Iterator[tuple[str, World]]:
    """Name and world of every row."""
    for seeds, dominant, unequal, passages, metric, effect in itertools.product(
        SEEDS, DOMINANT, (False, True), (False, True), METRICS, EFFECTS
    ):
        name = " | ".join([line(seeds, dominant, unequal, passages), metric, effect])
        yield name, World(seeds, dominant, metric, unequal, EFFECTS[effect], passages)


def line(seeds: int, dominant: str, unequal: bool, passages: bool) -> str:
    """The first cells of a line of a table."""
    return f"{seeds} | {dominant} | {'unequal' if unequal else 'equal'} | {'passages' if passages else 'single'}"


def measured(world: World, targets: Sequence[Target]) -> Counts:
    """What one study adds to the counts of its row."""
    scores = [target.scores() for target in targets]
    models, p_values, found = fitted(scores), [], defaultdict(float, studies=1.0)
    for target, model in zip(targets, models, strict=True):
        for arm in range(1, len(target.means)):
            gain, truth = model.gain(arm, 0), target.means[arm] - target.means[0]
            found["cells"] += 1
            found["covered"] += covers(gain, truth)
            if gain is not None:
                found["excluded"] += gain.low > 0 or gain.high < 0
                found["width"] += (gain.high - gain.low) / 2 / best(target, arm, model)
                p_values.append(gain.p)
        found["levels"] += 1
        found["level_covered"] += covers(model.level(1), target.means[1])
    mean = Model(average(scores, same_units=False), models[0].inequality)
    for arm in range(1, 1 + world.settings):
        found["means"] += 1
        found["mean_covered"] += covers(mean.gain(arm, 0), np.mean([t.means[arm] - t.means[0] for t in targets]))
    found["squares"] = (found["covered"] / found["cells"]) ** 2
    found["tables"] += bool((holm(p_values) < LEVEL).any())
    return found


def covers(found: Estimate | None, truth: float) -> bool:
    """Whether the truth lies in an interval."""
    return found is not None and found.low <= truth <= found.high


def best(target: Target, arm: int, model: Model) -> float:
    """Half of the interval of somebody who knows the true variances of seeds."""
    rows = [[row for row, (one, _) in enumerate(target.runs) if one == which] for which in (arm, 0)]
    influence = np.subtract(*(model.scores.influence[row].mean(axis=0) for row in rows))
    seeds = (target.variances[arm] + target.variances[0]) / len(rows[0])
    return NORMAL * float(np.sqrt(influence @ influence + seeds))


def tables(counts: Mapping[str, Counts], every: bool) -> Iterator[str]:
    """Markdown: a line per seeds, larger noise, variances and examples; one per metric and effect; or every row."""
    if every:
        yield from table("seeds | larger noise | variances | examples | metric | effect", counts, lambda name: name)
        return
    yield from table("seeds | larger noise | variances | examples", counts, lambda name: name.rsplit(" | ", 2)[0])
    yield ""
    yield from table("metric | effect", counts, lambda name: " | ".join(name.split(" | ")[-2:]))
    yield ""
    yield from table("", counts, lambda _name: "together")


def table(names: str, counts: Mapping[str, Counts], line_of: Callable[[str], str]) -> Iterator[str]:
    """Rows that are of one line together."""
    lines: dict[str, list[tuple[str, Counts]]] = {}
    for name, row in counts.items():
        lines.setdefault(line_of(name), []).append((name, row))
    columns = "studies | covered ± error | false: cells | false: tables | width | scores | means"
    yield f"| {names} | {columns} |"
    yield "| --- " * (names.count("|") + columns.count("|") + 2) + "|"
    for line, found in lines.items():
        rows, none = [row for _, row in found], [row for name, row in found if name.endswith("none")]
        cells = [f"{sum(row['studies'] for row in rows):.0f}", with_error(rows)]
        cells += [share(none, "excluded", "cells"), share(none, "tables", "studies")]
        cells += [share(rows, "width", "cells", "{:.2f}", 1)]
        cells += [share(rows, f"{what}_covered", f"{what}s") for what in ("level", "mean")]
        yield f"| {line} | {' | '.join(cells)} |"


def with_error(found: Sequence[Counts]) -> str:
    """Coverage of these rows together and its standard error, for cells of one study are right or wrong together."""
    studies = max(sum(row["studies"] for row in found), 1)
    mean = sum(row["covered"] for row in found) / max(sum(row["cells"] for row in found), 1)
    error = np.sqrt(max(sum(row["squares"] for row in found) / studies - mean**2, 0) / studies)
    return f"{100 * mean:.1f} ± {100 * error:.1f}"


def share(found: Sequence[Counts], what: str, of: str, form: str = "{:.1f}", times: float = 100) -> str:
    """Of these rows together, in per cent."""
    whole = sum(row[of] for row in found)
    return form.format(times * sum(row[what] for row in found) / whole) if whole else "–"


if __name__ == "__main__":
    main()
