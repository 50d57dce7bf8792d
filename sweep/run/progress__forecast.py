"""What is left of a running study: device-seconds until its end, and the least budget with which it would go on."""

from __future__ import annotations

from sweep.config.study import Budget
from sweep.search.admission import Admission


def device_seconds_left(admission: Admission) -> float:
    """Forecast of the work that is left, shared phases once, replicas of cells that are not tuned yet left out.

    Of candidates that have not begun, as many go on from each stage as the plan says. Of what runs, the steps that it
    has not made are left.
    """
    left: dict[str, tuple[str, float]] = {}
    costs, stock = admission.costs, admission.stock
    for chain, work in admission.left():
        parts = costs.planned(chain) if work.stage == 0 else costs.parts(chain)
        wanted = [phase.key for phase in stock.to_train(chain)]
        wanted += [chain.score] if chain.score in parts and not stock.is_over(chain) else []
        left.update({key: (chain.cell.encoder, parts[key]) for key in wanted})
    for running in admission.running.values():
        latest = running.latest
        if latest.get("steps") and (key := latest["key"]) in left:
            encoder, flops = left[key]
            left[key] = encoder, flops * (1 - latest["step"] / latest["steps"])
    speed = admission.purse.speed_so_far(admission.running.values())
    return sum(speed.device_seconds(encoder, flops) for encoder, flops in left.values())


def least_budget(admission: Admission) -> Budget | None:
    """The budget with which the cheapest of the chains that were not paid for could run."""
    budget = admission.plan.study.budget
    if budget is None or not admission.endings.unpaid:
        return None
    least = admission.purse.spent + min(admission.price(chain) for chain in admission.endings.unpaid)
    return budget.model_copy(update={"amount": least})
