"""Family of the masked language model (`masked`): raw text, some of whose tokens are predicted.

The batches of training draw anew which tokens are masked. Statistics are (correct, masked) per line of text; the metric
is the share of masked tokens predicted right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.data import Row
from sweep.data.columns import Columns
from sweep.data.encoded import Encoded, EncodedSequence, frame, slices, subwords
from sweep.data.sample import Sample
from sweep.tasks.classification import accuracy
from sweep.tasks.task import NAMES, SHAPE, Family, Guess, HeadSpec, Prediction, Task


class MaskedFamily(Family):
    """Raw text: [CLS] text [SEP]; a long line becomes several sequences of one example.

    Row: text: str. Targets: one per token, 1 where it may be masked. Output: [2] correctly predicted masked tokens,
    masked tokens. Prediction: (int, int), the same of the whole row.
    """

    name = "masked"
    also_called = ("mlm", "masked_lm", "raw_text", "text", "fill_mask")
    metric = "masked_accuracy"
    columns = ("text",)
    raw_text = True
    suffix = None

    def guess_columns(self, sample: Sample) -> Guess | None:
        """Lines of text, or one text in a row and no label."""
        if sample.form == "lines":
            return Guess({}, NAMES, "lines of text")
        texts = sample.texts()
        if len(texts) != 1 or any(column.has_classes for column in sample.columns.values()):
            return None
        return Guess({"text": texts[0]}, SHAPE, "a text and no label")

    def row(self, columns: Columns, raw: Row, where: str) -> Row:
        """Row of a line of text. Raises DataError."""
        return {"text": columns.text(raw, "text", where)}

    def tokenizer_lacks(self, tokenizer: Any) -> tuple[str, str] | None:
        """The mask token, where the tokenizer has none."""
        if tokenizer.mask_token_id is not None:
            return None
        expected = "a masked task needs one: name it as mask_token in its tokenizer_config.json, or leave the task out"
        return "no mask token", expected

    def head(self, labels: Sequence[str]) -> HeadSpec:
        """Token of the vocabulary at each masked position."""
        return HeadSpec("masked")

    def check(self, row: Row, labels: Sequence[str]) -> str | None:
        """Problem of a row in words for its owner, or None."""
        return None if isinstance(row["text"], str) and row["text"].strip() else "empty text"

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Iterator[EncodedSequence]:
        """Sequences with target 1 where a token may be masked: all but special and unknown tokens."""
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
        """Statistics [N, 2]: (correct, masked)."""
        return np.array(predictions, dtype=np.float64).reshape(-1, 2)

    def value(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share [...] of masked tokens predicted right; 0 where none was masked."""
        return accuracy(sums)

    def chance_level(self, rows: Sequence[Row], encoded: Encoded, task: Task, language: str) -> float:
        """Frequency of the most frequent token among those that may be masked."""
        maskable = encoded.tokens[encoded.targets == 1]
        return float(np.unique(maskable, return_counts=True)[1].max() / len(maskable)) if len(maskable) else 0.0


MASKED = MaskedFamily()
