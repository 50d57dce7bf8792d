"""Sentences of the report: the study's answer, what weakens it, what it cost. Frames in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.config.axes import Arm
from sweep.heartbeat import ACTIVITIES, COMPUTING
from sweep.report.gains import TEXT, Estimates
from sweep.report.results import SCORING, STOPPED, Result, Unscored, cell_text, cells_text, chain_order, labels
from sweep.report.statistics import CONFIDENCE, HELPS, HURTS, ONE_SEED
from sweep.store.ledger import DONE, ELIMINATED, FAILED, SUPERSEDED, ChainRow
from sweep.store.records import PhaseRecord, ScoreRecord

if TYPE_CHECKING:
    import pandas as pd

FEW_EXAMPLES = 500
FEW_SEEDS = 3


def points(value: float) -> str:
    """Gain as signed points, hundredths of the metric's unit."""
    return f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def interval(low: float, high: float) -> str:
    """Interval of gains as signed points."""
    return f"[{points(low)}, {points(high)}]"


def gain_text(row: Mapping[Any, Any]) -> str:
    """Gain with interval, of a row with gain, low and high; a dash where the gain is NaN."""
    return "–" if row["gain"] != row["gain"] else f"{points(row['gain'])} {interval(row['low'], row['high'])}"


def amount(value: float, unit: str) -> str:
    """FLOPs (unit 'flops') or device-seconds in words."""
    if unit == "flops":
        for size, name in ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} FLOP"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if value >= 1.5 * size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} seconds"


def first_sentence(estimates: Estimates, progress: str = "no pair of chains is done") -> str:
    """The study's answer: the setting that gains most on average, and whether that is more than noise.

    `progress` ends the sentence of a study that has nothing to compare yet.
    """
    known, wide = compared(estimates)
    if known.empty:
        return f"Nothing can be compared with no intermediate phase yet: {progress}."
    most, best = int(known["targets"].max()), wide.iloc[0]
    targets = f"{best['targets']} targets" if best["targets"] == most else f"{best['targets']} of {most} targets"
    where = f"on average over {targets}" if best["targets"] > 1 else f"on {_only_target(estimates, best)}"
    number = f"{points(best['gain'])} points {interval(best['low'], best['high'])} ({_basis(estimates, len(known))})"
    choice = f", the best of {len(wide)} settings," if len(wide) > 1 else ""
    subject = f"{_setting(best.to_dict(), estimates.cells)}{choice}"
    if best["verdict"] == HELPS:
        return f"Training on {subject} before the target phase helps zero-shot transfer {where}: {number}."
    change = f"{subject} changes zero-shot scores by {number}{_clearest(estimates)}"
    if best["verdict"] == ONE_SEED:
        return f"One seed shows nothing about training noise: {where} {change}."
    if best["verdict"] == HURTS:
        return f"No intermediate phase helps {where}: even {change}."
    return f"No intermediate phase is shown to help {where}: {change}."


def compared(estimates: Estimates) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Settings that have a gain, rows of `overall`; and those of them that may be called best, the best one first.

    One that was compared on less than half as many targets as another may not: a mean over one easy target is no
    answer.
    """
    overall = estimates.overall
    known = overall[overall["gain"].notna()] if len(overall) else overall
    wide = known[2 * known["targets"] >= known["targets"].max()] if len(known) else known
    return known, wide.sort_values("gain", ascending=False, kind="stable") if len(wide) else wide


def _only_target(estimates: Estimates, best: pd.Series) -> str:
    cells = estimates.cells
    arm = Arm.of(best.to_dict())
    rows = [row for row in cells[cells["counted"]].to_dict("records") if Arm.of(row) == arm]
    return str(rows[0]["target"])


def _basis(estimates: Estimates, settings: int) -> str:
    seeds = int(estimates.cells["paired"].max())
    corrected = f"; corrected for the choice among {settings}" if settings > 1 and seeds > 1 else ""
    return f"{CONFIDENCE:.0%} interval over {f'{seeds} seeds and ' if seeds > 1 else ''}test examples{corrected}"


def _setting(row: Mapping[Any, Any], cells: pd.DataFrame) -> str:
    encoders = labels(cells["encoder"])
    named = Arm.of(row).label
    return named if len(encoders) == 1 else f"{named} with {encoders[row['encoder']]}"


def _clearest(estimates: Estimates) -> str:
    """Clause about the single cell that helps most, where the mean over targets shows no help."""
    cells = estimates.cells
    sure = cells[(cells["verdict"] == HELPS) & cells["counted"]]
    if sure.empty or cells["target"].nunique() < 2:
        return ""
    best = sure.sort_values("gain", ascending=False, kind="stable").iloc[0]
    return f"; on {best['target']} alone {_setting(best.to_dict(), cells)} gains {gain_text(best.to_dict())}"


def contrast_sentences(estimates: Estimates) -> Iterator[str]:
    """Sentences on what another source language, mixed-in text or a setting changes: arm, gain, seeds."""
    for row in estimates.arms.to_dict("records"):
        subject = _setting(row, estimates.cells)
        if row["gain"] != row["gain"]:
            yield f"{subject} cannot be compared with {row['against']} yet."
            continue
        other = f"instead of {row['against']}" + (" alone" if row["differs"] == TEXT else "")
        seeds = "1 seed" if row["paired"] == 1 else f"{row['paired']} seeds"
        where = f"on average over {row['targets']} targets" if row["targets"] > 1 else "on one target"
        yield f"{subject} {other}: {gain_text(row)} points {where} ({seeds}; {row['verdict']})."


def vector_sentences(results: Sequence[Result], encoders: Mapping[str, str]) -> Iterator[str]:
    """Sentences on how retrieval targets were scored, one per target and encoder: layer, pooling, dev thresholds."""
    first: dict[tuple[str, str], Result] = {}
    for result in results:
        if result.score.layers:
            first.setdefault((result.chain.cell.target, result.chain.cell.encoder), result)
    for (target, encoder), result in sorted(first.items()):
        settings = result.score.settings
        where = f"{target}: vectors of layer {settings['layers'][0]} of {encoders[encoder]} (0: its embeddings)"
        yield f"{where}, {settings['pooling']} pooling{_thresholds(results, target, encoder)}."


def _thresholds(results: Sequence[Result], target: str, encoder: str) -> str:
    mine = (result for result in results if (result.chain.cell.target, result.chain.cell.encoder) == (target, encoder))
    entries = [entry for result in mine for entry in result.score.languages.values()]
    values = [entry["threshold"] for entry in entries if "threshold" in entry]
    return f", margins from {min(values):.3f} to {max(values):.3f} chosen on dev data" if values else ""


def missing(chains: Sequence[ChainRow], results: Sequence[Result], plan: Mapping[str, Any]) -> list[str]:
    """Sentences on what a finished study would have and this one has not (yet)."""
    states = Counter(chain.state for chain in chains)
    sentences = []
    if earlier := states.pop(SUPERSEDED, 0):
        sentences.append(f"{earlier} chains of an earlier study file are not shown; their cost is counted.")
    planned, done = plan.get("chains"), states[DONE] + states[ELIMINATED]
    if isinstance(planned, int) and done < planned:
        counted = sorted((state, count) for state, count in states.items() if state not in (DONE, ELIMINATED))
        rest = ", ".join(f"{count} {state}" for state, count in counted)
        sentences.append(f"{done} of {planned} planned chains are done{f' ({rest})' if rest else ''}.")
    cells, having = plan.get("cells"), len({result.chain.cell for result in results if result.chain.selected})
    if isinstance(cells, int) and having < cells:
        sentences.append(f"{having} of {cells} cells have a result; the others are shown as missing.")
    if states[DONE] > len(results):
        sentences.append(f"{states[DONE] - len(results)} done chains have lost their records in the store.")
    return sentences


def distrust(
    chains: Sequence[ChainRow],
    results: Sequence[Result],
    collapsed: Sequence[Unscored],
    estimates: Estimates,
    plan: Mapping[str, Any],
    *,
    overlapping: bool = False,
) -> list[str]:
    """Sentences on what weakens the study's answers; empty where nothing does.

    `collapsed` are the chains that collapsed before their target phase, `plan` is what `sweep plan --json` prints.
    """
    sentences = [*missing(chains, results, plan), *_few_seeds(estimates), *_few_examples(estimates)]
    encoders = labels(chain.cell.encoder for chain in chains)
    sentences += [*_collapsed(results, collapsed), *_unequal_tuning(chains), *_failed(chains, encoders)]
    sentences += [
        *_uncompared(estimates, encoders, overlapping),
        *_mixed(results, collapsed, gpu=plan.get("gpu", False)),
    ]
    return [*sentences, *plan.get("flags", ())]


def _mixed(results: Sequence[Result], collapsed: Sequence[Unscored], *, gpu: bool) -> list[str]:
    """Sentences on what was not computed alike, or not as the study asks: scores may differ by machine or library.

    `gpu` is whether the study asks for one.
    """
    parts: dict[str, PhaseRecord | ScoreRecord] = {r.score.key: r.score for r in results}
    parts |= {phase.key: phase for run in results for phase in run.phases}
    parts |= {phase.key: phase for run in collapsed for phase in run.phases}
    used = {
        "precision": [part.precision for part in parts.values()],
        "device": [part.device for part in parts.values()],
        "kernels": [part.kernels for part in parts.values()],
    }
    for name in sorted({name for part in parts.values() for name in part.versions}):
        used[f"version of {name}"] = [part.versions.get(name, "") for part in parts.values()]
    sentences = []
    for what, values in used.items():
        counts = Counter(value for value in values if value)
        if len(counts) > 1:
            shown = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))
            sentences.append(
                f"Phases and scores differ in {what}: {shown}; differences between scores may come from that."
            )
    phases = [part for part in parts.values() if isinstance(part, PhaseRecord)]
    refused = sum(p.recipe.get("precision") == "bf16" and p.precision == "fp32" for p in phases)
    if refused:
        sentences.append(
            f"{refused} of {len(phases)} phases were to run in bf16 and ran in fp32: their devices have no bf16."
        )
    slow = sum(part.device.startswith("cpu") for part in parts.values())
    if gpu and slow:
        sentences.append(
            f"{slow} phases and scores were computed on a CPU, though the study asks for a GPU: torch found none."
        )
    return sentences


def _failed(chains: Sequence[ChainRow], encoders: Mapping[str, str]) -> list[str]:
    failed = sorted((chain for chain in chains if chain.state == FAILED), key=chain_order)
    if not failed:
        return []
    first = failed[0]
    name = f"{cell_text(first.cell.columns(), encoders)}, seed {first.seed}"
    return [f"{len(failed)} of {len(chains)} chains failed; the first, {name}: {first.message or 'no message'}."]


def _few_seeds(estimates: Estimates) -> list[str]:
    cells = estimates.cells
    if cells.empty:
        return []
    single, few = int((cells["seeds"] == 1).sum()), int(((cells["seeds"] > 1) & (cells["seeds"] < FEW_SEEDS)).sum())
    sentences = []
    if single:
        sentences.append(
            f"{single} of {len(cells)} cells have one seed: their intervals are over test examples only"
            " and say nothing about training noise."
        )
    if few:
        sentences.append(
            f"{few} of {len(cells)} cells have fewer than {FEW_SEEDS} seeds: their intervals rest on "
            "the seed variance of other settings."
        )
    return sentences


def _few_examples(estimates: Estimates) -> list[str]:
    if estimates.languages.empty:
        return []
    sizes = estimates.languages.groupby(["target", "language"])["examples"].min()
    small = sizes[sizes < FEW_EXAMPLES]
    by_target = [
        f"{target} ({group.min()} to {group.max()} in {len(group)} languages)"
        for target, group in small.groupby("target")
    ]
    return [f"Test sets below {FEW_EXAMPLES} examples: {', '.join(by_target)}."] if by_target else []


def _unequal_tuning(chains: Sequence[ChainRow]) -> list[str]:
    """Sentence on cells with fewer candidates than others of their target, with which alone they are compared."""
    # A chain without phases (retrieval with the published encoder) has nothing to tune.
    tuned = [chain for chain in chains if chain.role == "candidate" and chain.phases]
    counts = Counter(chain.cell for chain in tuned if chain.state in (DONE, ELIMINATED))
    most: dict[str, int] = {}
    for cell, count in counts.items():
        most[cell.target] = max(count, most.get(cell.target, 0))
    fewer = {cell: most[cell.target] for cell, count in counts.items() if count < most[cell.target]}
    if not fewer:
        return []
    worst = max(fewer, key=lambda cell: fewer[cell] - counts[cell])
    which = f"{len(fewer)} of {len(counts)} cells have fewer finished candidates than others of their target"
    return [f"Unequal tuning: {which} (at worst {counts[worst]} against {fewer[worst]})."]


def _uncompared(estimates: Estimates, encoders: Mapping[str, str], overlapping: bool) -> list[str]:
    sentences = []
    cells, overall = estimates.cells, estimates.overall
    if not overall.empty and overall["targets"].nunique() > 1:
        low, high = overall["targets"].min(), overall["targets"].max()
        sentences.append(f"Mean gains are over different targets ({low} to {high} of them): compare them with care.")
    if not cells.empty and cells["overlap"].any():
        shared = cells[cells["overlap"]].to_dict("records")
        names = dict.fromkeys(cell_text(row, encoders) for row in shared)
        done = "counted in mean gains, as the study asks" if overlapping else "left out of mean gains"
        sentences.append(f"Training data overlaps with the target's, {done}: {', '.join(names)}.")
    return sentences


def _collapsed(results: Sequence[Result], collapsed: Sequence[Unscored]) -> Iterator[str]:
    """Sentences on what collapsed phases do to the study's answers."""
    scored = [result for result in results if result.collapsed]
    encoders = labels([*(run.chain.cell.encoder for run in results), *(run.chain.cell.encoder for run in collapsed)])
    if scored:
        phases = {phase.key for result in scored for phase in result.phases if phase.collapsed}
        kept = "kept in means; the table of all cells has gains without them"
        names = cells_text((run.chain for run in scored), encoders)
        yield f"{len(phases)} collapsed target phases (dev score at chance level), {kept}: {names}."
    if collapsed:
        yield (
            f"{len(collapsed)} chains have no scores, because a phase before the target phase collapsed (dev score at"
            f" chance level): {cells_text((run.chain for run in collapsed), encoders)}. Means are over the other seeds,"
            " if any."
        )


def cost_sentences(savings: pd.DataFrame, held: Mapping[str, int]) -> Iterator[str]:
    """Sentences on phases saved by sharing (savings_frame) and on weights `held` in the store, bytes by kind."""
    phases = savings[~savings["kind"].isin([SCORING, STOPPED])]
    alone, once = int(phases["count_unshared"].sum()), int(phases["count_shared"].sum())
    stopped = int(savings.loc[savings["kind"] == STOPPED, "count_shared"].sum())
    yield f"Finished chains need {alone} phases one chain at a time; shared, {once} were trained."
    if stopped:
        yield f"Successive halving stopped {stopped} further target phases at a rung."
    if held:
        parts = ", ".join(f"{kind} {size / 1e9:.2g}" for kind, size in held.items())
        yield f"Weights kept for warm starts: {sum(held.values()) / 1e9:.2g} GB ({parts}); see sweep gc."


def time_sentence(times: pd.DataFrame) -> str:
    """Sentence on where device time went (time_frame); "" where nothing is known of it."""
    spent = times[list(ACTIVITIES)].sum()
    total = float(spent.sum())
    if not total:
        return ""
    computed = float(spent[list(COMPUTING)].sum())
    rest = [f"{name} {value / total:.1%}" for name, value in spent.items() if name not in COMPUTING and value]
    device_time = f"{amount(total, 'device_seconds')} of device time"
    return f"The device computed in {computed / total:.1%} of {device_time}; {', '.join(rest)}."


def made_sentences(results: Sequence[Result], published: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Sentences on seeds, published encoders, devices and versions of what the report shows."""
    seeds = sorted({result.chain.seed for result in results})
    if seeds:
        yield f"Seeds: {', '.join(map(str, seeds))}."
    yield from _encoders(published)
    versions: dict[str, set[str]] = {}
    parts: list[PhaseRecord | ScoreRecord] = [result.score for result in results]
    parts += [phase for result in results for phase in result.phases]
    for name, version in (pair for part in parts for pair in part.versions.items()):
        versions.setdefault(name, set()).add(version)
    if devices := sorted({f"{part.precision} on {part.device}" for part in parts if part.device}):
        yield f"Computed in {', '.join(devices)}."
    if versions:
        yield "Versions: " + ", ".join(
            f"{name} {' and '.join(sorted(known))}" for name, known in sorted(versions.items())
        )


def _encoders(published: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Sentences on published encoders: licence, and what they were pretrained on."""
    for name, entry in published.items():
        parts = ("licence", entry["licence"]), ("pretrained on", entry["text"])
        if stated := [f"{what} {value}" for what, value in parts if value]:
            yield f"Encoder {name}: {', '.join(stated)}."
