"""What a preview said of each intermediate setting, and its regret where all of a target's settings were run.

Regret is the best gain among all settings minus the best gain among those that the preview ranks highest: what would
have been lost by running these alone. Of a setting with several volumes or budgets the best one counts. Which one is
the best is not known either, so the regret's interval comes from all differences between a setting that was kept and
one that was not, at once (Bonferroni), as in comparisons with the best (Hsu 1984).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from sweep.config.axes import AMOUNTS, ARM_COLUMNS, NONE, Arm
from sweep.report.statistics import LEVEL, Estimate, Model
from sweep.store.artifacts import Store

if TYPE_CHECKING:
    import pandas as pd

KEPT = (1, 2, 3, 5)  # how many settings a user might keep
PREVIEWED = [name for name in ARM_COLUMNS if name not in ("encoder", *AMOUNTS)]  # columns of what is ranked
GROUP = ["encoder", "target"]  # for whom it is ranked


def preview_frame(
    entries: Sequence[Mapping[str, str]], store: Store, cells: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Per encoder, target and setting: `evidence`, `rank` (1 is best; none of the baseline) and, where run, `gain`.

    `entries` name a preview each: columns of its cell without amounts, and its key. `cells` are those of the
    estimates. A setting whose preview is missing, or has no value, has no row. Raises StoreError.
    """
    import pandas as pd

    found = [(entry, store.preview(entry["key"])) for entry in entries]
    gains = _gains(cells) if cells is not None else {}
    rows = [
        {**entry, "evidence": record.value, "gain": gains.get(_name(entry)), "flops": record.flops}
        for entry, record in found
        if record is not None and record.value is not None
    ]
    frame = pd.DataFrame(rows, columns=[*GROUP, *PREVIEWED, "evidence", "gain", "flops"])
    frame["gain"] = frame["gain"].astype(float)
    others = frame["intermediate"] != NONE
    frame["rank"] = frame[others].groupby(GROUP)["evidence"].rank(method="first", ascending=False)
    return frame.sort_values([*GROUP, "rank"], na_position="last", kind="stable").reset_index(drop=True)


def _name(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in (*GROUP, *PREVIEWED))


def _gains(cells: pd.DataFrame) -> dict[tuple[str, ...], float]:
    """The best gain of each setting over its volumes and budgets."""
    best: dict[tuple[str, ...], float] = {}
    for row in cells.to_dict("records"):
        if row["gain"] == row["gain"]:
            best[_name(row)] = max(best.get(_name(row), row["gain"]), row["gain"])
    return best


def regrets(frame: pd.DataFrame, models: Mapping[tuple[str, str], Model]) -> pd.DataFrame:
    """Per encoder, target and number of settings `kept`: `best`, `best_kept`, `regret`, all gains in 0..1.

    Only where every setting of the target has a gain, and for fewer kept than there are. `models` are those of the
    estimates; without one the interval is missing.
    """
    import pandas as pd

    names = [*GROUP, "kept", "of", "best", "best_kept", "regret", "low", "high"]
    return pd.DataFrame(list(_regrets(frame, models)), columns=names)


def _regrets(frame: pd.DataFrame, models: Mapping[tuple[str, str], Model]) -> Iterator[dict[str, object]]:
    for (encoder, target), members in frame[frame["intermediate"] != NONE].groupby(GROUP, sort=False):
        if members["gain"].isna().any():
            continue
        best = members["gain"].max()
        for kept in (count for count in KEPT if count < len(members)):
            among = members[members["rank"] <= kept]
            chosen, names = among["gain"].max(), _names(among)
            counts, model = {"kept": kept, "of": len(members)}, models.get((str(encoder), str(target)))
            low, high = _interval(model, names, _names(members) - names) if model is not None else (float("nan"),) * 2
            yield {
                "encoder": encoder, "target": target, **counts, "best": best, "best_kept": chosen,
                "regret": best - chosen, "low": low, "high": high,
            }  # fmt: skip


def _names(frame: pd.DataFrame) -> set[Arm]:
    return {Arm.of(row, but=AMOUNTS) for row in frame.to_dict("records")}


def _interval(model: Model, names: Set[Arm], rest: Set[Arm]) -> tuple[float, float]:
    """Of the best gain of all settings minus the best of those that were kept, whichever these are.

    It is at most the largest lead over any one that was kept, and at least the smallest lead of any that was not.
    """
    arms = [arm for arm in model.arms if isinstance(arm, Arm)]
    kept = [arm for arm in arms if arm.without(*AMOUNTS) in names]
    others = [arm for arm in arms if arm.without(*AMOUNTS) in rest]
    confidence = 1 - LEVEL / max(len(kept) * len(others), 1)
    leads = [[_lead(model, other, one, confidence) for one in kept] for other in others]
    by_other = [[lead for lead in row if lead] for row in leads]
    by_kept = [[lead for lead in column if lead] for column in zip(*leads, strict=True)]
    low = max((min(lead.low for lead in row) for row in by_other if row), default=0.0)
    high = min((max(lead.high for lead in column) for column in by_kept if column), default=0.0)
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def _lead(model: Model, one: Arm, other: Arm, confidence: float) -> Estimate | None:
    """By how much one's gain exceeds the other's."""
    weights = Counter({one: 1, other: -1})
    weights.subtract({one.reference: 1})
    weights.update({other.reference: 1})
    return model.contrast({arm: weight for arm, weight in weights.items() if weight}, confidence)
