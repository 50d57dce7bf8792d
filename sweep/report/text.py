"""The study's answer in words: one sentence, and a table for the terminal. Frames in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.config.axes import Arm
from sweep.report.gains import SOURCE, Estimates
from sweep.report.results import SCORING, STOPPED, Ended, Result, cell_text, cells_text, chain_order, labels
from sweep.report.statistics import CONFIDENCE, HELPS, HURTS, ONE_SEED
from sweep.store.ledger import DONE, ELIMINATED, FAILED, SUPERSEDED, ChainRow
from sweep.store.records import PhaseRecord, ScoreRecord

if TYPE_CHECKING:
    import pandas as pd

FEW_EXAMPLES = 500
FEW_SEEDS = 3


def points(value: float) -> str:
    """A gain in 0..1 as signed points."""
    return f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def interval(low: float, high: float) -> str:
    """An interval of gains as signed points."""
    return f"[{points(low)}, {points(high)}]"


def gain_text(row: Mapping[Any, Any]) -> str:
    """Gain with interval, of a row that has gain, low and high; a dash where there is none."""
    return "–" if row["gain"] != row["gain"] else f"{points(row['gain'])} {interval(row['low'], row['high'])}"


def first_sentence(estimates: Estimates, progress: str = "no pair of chains is done") -> str:
    """Which setting gains most on average, and whether that is more than noise.

    A setting that was compared on less than half as many targets as another is not called best: a mean over one easy
    target is no answer. `progress` ends the sentence of a study that has nothing to compare yet.
    """
    overall = estimates.overall
    known = overall[overall["gain"].notna()] if len(overall) else overall
    if known.empty:
        return f"Nothing can be compared with no intermediate phase yet: {progress}."
    most = int(known["targets"].max())
    wide = known[2 * known["targets"] >= most]
    best = wide.sort_values("gain", ascending=False, kind="stable").iloc[0]
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


def _only_target(estimates: Estimates, best: pd.Series) -> str:
    cells = estimates.cells
    arm = Arm.of(best.to_dict())
    rows = [row for row in cells[cells["counted"]].to_dict("records") if Arm.of(row) == arm]
    return str(rows[0]["target"])


def _basis(estimates: Estimates, settings: int) -> str:
    seeds = int(estimates.cells["paired"].max())
    corrected = f"; what is claimed allows for the choice among {settings}" if settings > 1 and seeds > 1 else ""
    return f"{CONFIDENCE:.0%} interval over {f'{seeds} seeds and ' if seeds > 1 else ''}test examples{corrected}"


def _setting(row: Mapping[Any, Any], cells: pd.DataFrame) -> str:
    encoders = labels(cells["encoder"])
    named = Arm.of(row).label
    return named if len(encoders) == 1 else f"{named} with {encoders[row['encoder']]}"


def _clearest(estimates: Estimates) -> str:
    """The single cell that helps most, where the mean over targets shows no help."""
    cells = estimates.cells
    sure = cells[(cells["verdict"] == HELPS) & cells["counted"]]
    if sure.empty or cells["target"].nunique() < 2:
        return ""
    best = sure.sort_values("gain", ascending=False, kind="stable").iloc[0]
    return f"; on {best['target']} alone {_setting(best.to_dict(), cells)} gains {gain_text(best.to_dict())}"


def contrast_sentences(estimates: Estimates) -> Iterator[str]:
    """What another source language or mixed-in text changes, one sentence per setting, with seeds and interval."""
    for row in estimates.arms.to_dict("records"):
        subject = _setting(row, estimates.cells)
        if row["gain"] != row["gain"]:
            yield f"{subject} cannot be compared with {row['against']} yet."
            continue
        other = f"instead of {row['against']}" + ("" if row["differs"] == SOURCE else " alone")
        seeds = "1 seed" if row["paired"] == 1 else f"{row['paired']} seeds"
        where = f"on average over {row['targets']} targets" if row["targets"] > 1 else "on one target"
        yield f"{subject} {other}: {gain_text(row)} points {where} ({seeds}; {row['verdict']})."


def vector_sentences(results: Sequence[Result], encoders: Mapping[str, str]) -> Iterator[str]:
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


def missing(chains: Sequence[ChainRow], found: Sequence[Result], plan: Mapping[str, Any]) -> list[str]:
    """What a finished study would have and this one has not (yet), in sentences."""
    states = Counter(chain.state for chain in chains)
    sentences = []
    if earlier := states.pop(SUPERSEDED, 0):
        sentences.append(f"{earlier} chains that the study file no longer asks for are not shown; they were paid for.")
    planned, done = plan.get("chains"), states[DONE] + states[ELIMINATED]
    if isinstance(planned, int) and done < planned:
        others = ", ".join(
            f"{count} {state}" for state, count in sorted(states.items()) if state not in (DONE, ELIMINATED)
        )
        sentences.append(f"{done} of {planned} planned chains are done{f' ({others})' if others else ''}.")
    cells, having = plan.get("cells"), len({result.chain.cell for result in found if result.chain.selected})
    if isinstance(cells, int) and having < cells:
        sentences.append(f"{having} of {cells} cells have a result; the others are shown as missing.")
    if states[DONE] > len(found):
        sentences.append(f"{states[DONE] - len(found)} done chains have lost their records in the store.")
    return sentences


def distrust(
    chains: Sequence[ChainRow],
    found: Sequence[Result],
    over: Sequence[Ended],
    estimates: Estimates,
    plan: Mapping[str, Any],
    *,
    overlapping: bool = False,
) -> list[str]:
    """What weakens the study's answers, in sentences; empty where nothing was found."""
    sentences = [*missing(chains, found, plan), *_few_seeds(estimates), *_few_examples(estimates)]
    encoders = labels(chain.cell.encoder for chain in chains)
    sentences += [*_collapsed(found, over), *_unequal_tuning(chains), *_failed(chains, encoders)]
    sentences += [*_uncompared(estimates, encoders, overlapping), *_mixed(found, over, gpu=plan.get("gpu", False))]
    return [*sentences, *plan.get("flags", ())]


def _mixed(found: Sequence[Result], over: Sequence[Ended], *, gpu: bool) -> list[str]:
    """Whether all was computed alike, and as the study asks: else what differs may be the machines' or the libraries'.

    `gpu` is whether the study asks for one.
    """
    parts: dict[str, PhaseRecord | ScoreRecord] = {r.score.key: r.score for r in found}
    parts |= {phase.key: phase for run in found for phase in run.phases}
    parts |= {phase.key: phase for run in over for phase in run.phases}
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
            sentences.append(f"Phases and scores differ in {what}: {shown}; so may what is compared, beyond its seeds.")
    phases = [part for part in parts.values() if isinstance(part, PhaseRecord)]
    unheard = sum(p.recipe.get("precision") == "bf16" and p.precision == "fp32" for p in phases)
    if unheard:
        sentences.append(f"{unheard} of {len(phases)} phases were asked for in bf16, which their devices do not have.")
    slow = sum(part.device.startswith("cpu") for part in parts.values())
    if gpu and slow:
        told = f"{slow} phases and scores were computed on a CPU, though the study asks for a GPU"
        sentences.append(f"{told}: torch saw none.")
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
            "what a seed does to other settings."
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
    """Cells of one target are compared; those of another may have more to choose from."""
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
    found = f"{len(fewer)} of {len(counts)} cells have fewer finished candidates than others of their target"
    return [f"Unequal tuning: {found} (at worst {counts[worst]} against {fewer[worst]})."]


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


def _collapsed(found: Sequence[Result], over: Sequence[Ended]) -> Iterator[str]:
    """What collapsed phases do to the study's answers, in sentences."""
    level = "dev score at the level of the best constant answer"
    scored = [result for result in found if result.collapsed]
    encoders = labels([*(run.chain.cell.encoder for run in found), *(run.chain.cell.encoder for run in over)])
    if scored:
        phases = {phase.key for result in scored for phase in result.phases if phase.collapsed}
        kept = "kept in means; the table of all cells has gains without them"
        names = cells_text((run.chain for run in scored), encoders)
        yield f"{len(phases)} collapsed target phases ({level}), {kept}: {names}."
    if over:
        yield (
            f"{len(over)} chains have no scores, because a phase before the target phase learned nothing ({level}): "
            f"{cells_text((run.chain for run in over), encoders)}. Means are over their other seeds, if any."
        )


def cost_sentences(saved: pd.DataFrame, held: Mapping[str, int]) -> Iterator[str]:
    """What sharing saved, and how many bytes the weights take that are `held`, by kind of phase."""
    phases = saved[~saved["kind"].isin([SCORING, STOPPED])]
    alone, once = int(phases["count_unshared"].sum()), int(phases["count_shared"].sum())
    stopped = int(saved.loc[saved["kind"] == STOPPED, "count_shared"].sum())
    yield f"The chains that have ended need {alone} phases one chain at a time; {once} were trained, each once."
    if stopped:
        yield f"Beside them {stopped} target phases were stopped at a rung."
    if held:
        parts = ", ".join(f"{kind} {size / 1e9:.2g}" for kind, size in held.items())
        taken = f"take {sum(held.values()) / 1e9:.2g} GB ({parts})"
        yield f"Weights that later chains may begin from {taken}; sweep gc says which nobody needs."


def made_sentences(found: Sequence[Result], published: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Seeds, published encoders, devices and versions of what the report shows."""
    seeds = sorted({result.chain.seed for result in found})
    if seeds:
        yield f"Seeds: {', '.join(map(str, seeds))}."
    yield from _encoders(published)
    versions: dict[str, set[str]] = {}
    parts: list[PhaseRecord | ScoreRecord] = [result.score for result in found]
    parts += [phase for result in found for phase in result.phases]
    for name, version in (pair for part in parts for pair in part.versions.items()):
        versions.setdefault(name, set()).add(version)
    if places := sorted({f"{part.precision} on {part.device}" for part in parts if part.device}):
        yield f"Computed in {', '.join(places)}."
    if versions:
        yield "Versions: " + ", ".join(
            f"{name} {' and '.join(sorted(known))}" for name, known in sorted(versions.items())
        )


def _encoders(known: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What is known of the published encoders: licence, and what they were pretrained on."""
    for name, entry in known.items():
        parts = ("licence", entry["licence"]), ("pretrained on", entry["text"])
        if stated := [f"{what} {value}" for what, value in parts if value]:
            yield f"Encoder {name}: {', '.join(stated)}."


def amount(value: float, unit: str) -> str:
    """FLOPs or device-seconds in words."""
    if unit == "flops":
        for size, name in ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} FLOP"
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if value >= 1.5 * size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} seconds"
