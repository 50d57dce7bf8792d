"""The family of the masked language model (`masked`): raw text, some of whose tokens are to be guessed.

Which tokens are masked is drawn anew by the training side, never here. Statistics are (correct, masked) per line of
text and the metric is the share of masked tokens guessed right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.tasks.classification import accuracy
from sweep.tasks.task import Family, HeadSpec, Prediction, Task


class MaskedFamily(Family):
    """[CLS] text [SEP]; a long line becomes several sequences of the same example, so that nothing is lost.

    Row: text: str. Targets: one per token. Output: [2] correctly predicted masked tokens, masked tokens. Prediction:
    (int, int), the same of the whole row.
    """

    name = "masked"
    metric = "masked_accuracy"
    columns = ("text",)
    raw_text = True
    suffix = None

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """A line of text."""
        return {"text": columns.text(raw, "text", where)}

    def tokenizer_lacks(self, tokenizer: Any) -> tuple[str, str] | None:
        """A mask token."""
        if tokenizer.mask_token_id is not None:
            return None
        expected = "a masked task needs one: name it as mask_token in its tokenizer_config.json, or leave the task out"
        return "no mask token", expected

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """The masked token's word."""
        return HeadSpec("masked")

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """What is wrong with a row, or None."""
        return None if isinstance(row["text"], str) and row["text"].strip() else "empty text"

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """Targets are 1 where a token may be masked: on all but special tokens, unknown ones included among those."""
        around = frame(tokenizer, pair=False)
        room = around.room(max_length)
        before, after = ([0] * len(gap) for gap in around.gaps)
        special = frozenset(tokenizer.all_special_ids)
        for start, part in slices(rows):
            texts = subwords(tokenizer, [row["text"] for row in part])
            for number, text in enumerate(texts, start):
                for first in range(0, max(len(text), 1), room):
                    shown = text[first : first + room]
                    maskable = [int(token not in special) for token in shown]
                    segments = around.segments(len(shown))
                    yield EncodedSequence(around.join(shown), number, [*before, *maskable, *after], segments)

    def predict(
        self, outputs: Sequence[NDArray[Any]], encoded: Encoded, rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Prediction]:
        """(correct, masked) tokens of each row from the counts [2] of every sequence."""
        if not outputs:
            return []
        counts = np.add.reduceat(np.stack(outputs).astype(np.int64), encoded.example_bounds()[:-1], axis=0)
        return [(right, masked) for right, masked in counts.tolist()]

    def judge(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], task: Task, language: str
    ) -> NDArray[np.float64]:
        """[N, 2] (correct, masked)."""
        return np.array(predictions, dtype=np.float64).reshape(-1, 2)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of masked tokens guessed right; 0 where none was masked."""
        return accuracy(sums)

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """Share of the most frequent token among those that may be masked: what guessing it every time is worth."""
        maskable = encoded.tokens[encoded.targets == 1]
        return float(np.unique(maskable, return_counts=True)[1].max() / len(maskable)) if len(maskable) else 0.0


MASKED = MaskedFamily()
