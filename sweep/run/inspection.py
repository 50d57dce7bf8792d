"""Inspection of a study's encoders before anything is trained: whether each can do what its chains will ask of it.

Reads configurations and tokenizers, and of weights only whether they are there, whole and nothing but tensors. Its
findings are facts that the ledger keeps. Runs in a process of its own, for it imports torch: it
takes (plan, facts) on its input and answers on its output with what it has found, or with the SweepError.
"""

from __future__ import annotations

import json
import pickle
import sys

from sweep.errors import Mistakes, SweepError
from sweep.models.encoders import check_shape, check_weights, configuration, load_configuration
from sweep.models.heads import head_class
from sweep.models.registry import EncoderSource, shape_of
from sweep.models.tokenizers import check_tokenizer, load_tokenizer
from sweep.plan.facts import NO_FACTS, Facts
from sweep.plan.plan import Plan
from sweep.plan.resolve import asked_families, unchecked_encoders
from sweep.tasks.task import Family


def check_encoders(plan: Plan, facts: Facts) -> Facts:
    """Facts on encoders that no earlier run has looked at, the shapes of hub encoders among them. Raises StudyError."""
    families, found, mistakes = asked_families(plan), NO_FACTS, Mistakes()
    unchecked = unchecked_encoders(plan, facts)
    for task in plan.tasks.values() if unchecked else ():
        with mistakes.collect():
            head_class(task.family.head(task.labels))
    for source in unchecked:
        with mistakes.collect():
            found |= _check(source, families).with_encoder_checked(source.digest, [family.name for family in families])
    mistakes.raise_first()
    return found


def _check(source: EncoderSource, families: list[Family]) -> Facts:
    if source.location is None:
        where = f"encoders.{source.name}.random_init"
        check_shape(configuration(json.loads(source.config or "{}"), source.vocab_size, 0, where), where)
        return NO_FACTS
    where = f"encoder {source.name!r}"
    config = load_configuration(source.location, source.revision)
    check_shape(config, where)
    shape = shape_of(config.to_dict(), where)
    tokenizer = load_tokenizer(source.location, source.revision)
    check_tokenizer(tokenizer, config.model_type, config.pad_token_id, shape, families)
    check_weights(source.location, source.revision)
    return NO_FACTS.with_shape(source.location, source.revision, shape) if source.on_hub else NO_FACTS


def _answer() -> None:
    plan, facts = pickle.load(sys.stdin.buffer)  # noqa: S301  the driver wrote it
    output, sys.stdout = sys.stdout.buffer, sys.stderr  # what libraries print is no part of the answer
    found: Facts | SweepError
    try:
        found = check_encoders(plan, facts)
    except SweepError as mistake:
        found = mistake
    output.write(pickle.dumps(found))


if __name__ == "__main__":
    _answer()
