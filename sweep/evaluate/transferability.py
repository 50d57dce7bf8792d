"""Preview of one intermediate setting for one target: its short phase and LogME of the target's labels.

The labels are what the target's head would predict: classes of texts or words, which option of a choice is right,
where a span starts and ends.
"""

from __future__ import annotations

import time

from sweep.data.encoded import Encoded
from sweep.evaluate.linear_probe import Moments, label_columns, log_evidence, moments, parts
from sweep.models.model import Chainable
from sweep.plan.plan import Plan
from sweep.plan.preview import EXAMPLES, target_settings
from sweep.plan.recipe import Chain
from sweep.store.artifacts import Store
from sweep.store.index import Stock
from sweep.store.records import PreviewRecord
from sweep.tasks.task import Task
from sweep.train.context import Bench, Listener, encoded_flops, ignore, model_to_score, set_up
from sweep.train.data import SAMPLE_SEED, training_data
from sweep.train.phase import train_phase


def measure(chain: Chain, short: Plan, store: Store, listener: Listener = ignore) -> None:
    """Commits the preview of a chain of a short plan; without one it ends where pretraining has collapsed.

    Raises SweepError where data, encoder or store are at fault.
    """
    stock = Stock(store)
    if store.preview(chain.score) is not None or stock.dead_end(chain) is not None:
        return
    bench = set_up(chain, short, store, listener)
    for phase in stock.to_train(chain):
        train_phase(bench, phase)
        stock.learn(phase.key)
        if stock.dead_end(chain) is not None:
            return
    _judge(bench, chain)


def _judge(bench: Bench, chain: Chain) -> None:
    bench.meter.enter("preview", chain.score)
    begun, spent = time.time(), bench.meter.device_seconds
    task, last = bench.plan.tasks[chain.cell.target], chain.phases[-1] if chain.phases else None
    encoded = _examples(bench, task, chain)
    found = _moments(bench, model_to_score(bench, task, last), task, encoded)
    flops = encoded_flops(bench.encoder.shape, [encoded], bench.runtime.score_batch_tokens)
    bench.meter.flops += flops
    record = PreviewRecord(
        key=chain.score, phase=last.key if last is not None else None, task=task.name, value=log_evidence(found),
        examples=encoded.examples, vectors=found.count, flops=float(flops),
        device_seconds=bench.meter.device_seconds - spent, started=begun, ended=time.time(), **bench.made,
    )  # fmt: skip
    bench.store.commit_preview(record)
    bench.meter.report(1, 1, committed=True)


def _examples(bench: Bench, task: Task, chain: Chain) -> Encoded:
    """Training examples of the target, the same ones for every setting."""
    language, length = task.trained_in[0], target_settings(bench.plan, chain).max_length
    digest = bench.plan.rows[task.name, "train", language]
    whole = bench.reader.encoded(task, digest, "train", language, length)
    return training_data({language: whole}, EXAMPLES, SAMPLE_SEED)


def _moments(bench: Bench, model: Chainable, task: Task, encoded: Encoded) -> Moments:
    whole: Moments | None = None
    for part in parts(model, task.name, encoded, bench.runtime.score_batch_tokens, bench.precision):
        one = moments(part.vectors.cpu().numpy(), label_columns(part, len(task.labels)))
        whole = one if whole is None else whole + one
        bench.meter.beat()
    assert whole is not None
    return whole
