"""Predictions beside the texts and right answers that they are about, to read errors: predictions.parquet.

The chains are those of submissions/: of each cell the winner, with every seed. A row is one example, as one chain
answered it. Texts, ids and right answers were kept beside the label files when the first chain was scored on them, so
the data may be gone. Rows are written target by target and language by language, all chains of one together, so that
the file holds every text about once and memory no more than one language.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweep.config.axes import NOTHING, cell_columns
from sweep.errors import StoreError
from sweep.report.results import Result
from sweep.store import paths
from sweep.store.artifacts import Store, put
from sweep.tasks.task import Task
from sweep.xtreme import described_in, read_examples, test_file, unpack

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

OWN = ("language", "seed", "chain", "number", "gold", "prediction", "probabilities")  # columns that are no axis
ROWS = 500_000  # of a row group
DICTIONARY_BYTES = 1 << 26  # of the distinct texts of a row group; beyond them it holds every one as it comes


@dataclass(frozen=True)
class _Examples:
    """Test set in a language as its label files describe it, read once for all chains."""

    labels: Path
    task: Task
    ids: Sequence[str] | None  # None: they were not kept
    columns: Mapping[str, pa.Array]  # ids and texts, as dictionaries

    @classmethod
    def read(cls, labels: Path, target: str, language: str) -> _Examples:
        import pyarrow as pa

        task = described_in(labels, target)
        examples = read_examples(labels, task, language)
        names = dict.fromkeys(name for example in examples or () for name in example)
        texts = {name: [example.get(name, "") for example in examples or ()] for name in names}
        columns = {_column(name): pa.array(values, pa.string()).dictionary_encode() for name, values in texts.items()}
        return cls(labels, task, texts.get("id"), columns)


@dataclass(frozen=True)
class _Answers:
    """Answers of a chain in a language: N texts, and probabilities [N, C] where it has them."""

    ids: Sequence[str]  # as the files have them; empty texts where they have none
    gold: Sequence[str]
    predictions: Sequence[str]
    probabilities: NDArray[np.float16] | None


def write_predictions(folder: Path, results: Iterable[Result], store: Store) -> Path:
    """Writes predictions.parquet into a results folder; returns its path. Raises StoreError for a damaged store."""
    import pyarrow.parquet as pq

    chosen, path = _kept(results), folder / paths.PREDICTIONS_PARQUET
    schema = _schema(chosen, store)
    with tempfile.TemporaryDirectory(prefix=".predictions-", dir=folder) as unfinished:
        file = Path(unfinished) / path.name
        settings = {"compression": "zstd", "dictionary_pagesize_limit": DICTIONARY_BYTES, "store_schema": False}
        with pq.ParquetWriter(file, schema, **settings) as writer:
            for table in _tables(chosen, store, schema):
                writer.write_table(table, row_group_size=ROWS)
        put(file, path)
    return path


def predictions_frame(
    results: Iterable[Result], store: Store, target: str | None = None, language: str | None = None
) -> pd.DataFrame:
    """Frame with the rows of predictions.parquet, of one target or language alone if asked. Writes nothing.

    Columns: COLUMN_MEANINGS of the file. Raises StoreError for a damaged store.
    """
    import pyarrow as pa

    chosen = [result for result in _kept(results) if target is None or result.score.task == target]
    schema = _schema(chosen, store)
    parts = list(_tables(chosen, store, schema, language))
    plain = [table.cast(_without_dictionaries(schema)) for table in parts]
    frame: pd.DataFrame = pa.concat_tables(plain or [_without_dictionaries(schema).empty_table()]).to_pandas()
    frame["probabilities"] = frame["probabilities"].map(lambda pairs: None if pairs is None else dict(pairs))
    return frame


def _column(name: str) -> str:
    """Column of a text: its name in the family, unless something else has it."""
    return f"text.{name}" if name in (*cell_columns([name]), *OWN) else name


def _kept(results: Iterable[Result]) -> list[Result]:
    return [result for result in results if result.chain.selected and paths.PREDICTIONS in result.score.files]


def _tables(
    results: Sequence[Result], store: Store, schema: pa.Schema, language: str | None = None
) -> Iterator[pa.Table]:
    """Tables of some rows each, target by target and language by language."""
    import pyarrow as pa

    for target in dict.fromkeys(result.score.task for result in results):
        chosen = [result for result in results if result.score.task == target]
        languages = dict.fromkeys(name for result in chosen for name in result.score.languages)
        for name in languages if language is None else [language]:
            tables, rows, known = list[pa.Table](), 0, dict[Path, _Examples]()
            for result in (result for result in chosen if name in result.score.languages):
                labels = store.labels(result.score.key)
                if labels not in known:
                    known[labels] = _Examples.read(labels, target, name)
                answers = _answers(result, store, known[labels], name)
                tables.append(_table(result, known[labels], answers, name, schema))
                rows += len(tables[-1])
                if rows >= ROWS:
                    yield _joined(tables)
                    tables, rows = [], 0
            if tables:
                yield _joined(tables)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with one dictionary for each column."""
    import pyarrow as pa

    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _schema(results: Sequence[Result], store: Store) -> pa.Schema:
    """Columns of all targets: those of cells, the texts of any of them, answers."""
    import pyarrow as pa

    cells = cell_columns(dict.fromkeys(name for result in results for name in result.chain.cell.columns()))
    texts = dict[str, None]()
    for labels, score in {store.labels(result.score.key): result.score for result in results}.items():
        task = described_in(labels, score.task)
        for example in itertools.chain.from_iterable(
            read_examples(labels, task, name) or () for name in score.languages
        ):
            texts |= dict.fromkeys(_column(name) for name in example if name != "id")
    shared = pa.dictionary(pa.int32(), pa.string())
    first = [*((column, shared) for column in (*cells, "language")), ("seed", pa.int64()), ("chain", shared)]
    own = [("number", pa.int64()), ("id", shared), *((column, shared) for column in texts), ("gold", shared)]
    last = [("prediction", shared), ("probabilities", pa.map_(pa.string(), pa.float32()))]
    return pa.schema([*first, *own, *last])


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    plain = (field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in schema)
    return pa.schema(list(plain))


def _answers(result: Result, store: Store, examples: _Examples, language: str) -> _Answers:
    """Answers of a chain in a language, one per example. Raises StoreError."""
    family, name = examples.task.family, test_file(examples.task.family, language)
    with tempfile.TemporaryDirectory(prefix="sweep-predictions-") as folder:
        unpack(store.predictions(result.score.key), Path(folder), name)
        pair = family.read_files(Path(folder) / name, examples.labels / name, examples.task)
    answered = [
        family.shown(row, number, prediction, pair.task)
        for number, (row, prediction) in enumerate(zip(pair.rows, pair.predictions, strict=True))
    ]
    ids: Sequence[str] = [str(row.get("id", "")) for row in pair.rows]
    if examples.ids is not None and "id" in next(iter(pair.rows), {"id": ""}):  # the files name some, or all, of them
        by_id = dict(zip(ids, answered, strict=True))
        answered, ids = [by_id.get(name, ("", "")) for name in examples.ids], examples.ids
    if examples.ids is not None and len(answered) != len(examples.ids):
        problem = f"{len(examples.ids)} examples and {len(answered)} right answers in {language}"
        raise StoreError(examples.labels, problem, "files as they were written are expected")
    gold, predictions = ([pair[side] for pair in answered] for side in (0, 1))
    return _Answers(ids, gold, predictions, store.probabilities(result.score.key).get(language))


def _table(result: Result, examples: _Examples, answers: _Answers, language: str, schema: pa.Schema) -> pa.Table:
    """Rows of a chain in a language."""
    import pyarrow as pa

    chain, count = result.chain, len(answers.gold)
    same = {**chain.cell.columns(), "language": language, "chain": chain.key}
    arrays: dict[str, Any] = {
        "seed": pa.array(np.full(count, chain.seed)), "number": pa.array(np.arange(count)),
        "probabilities": _map(answers.probabilities, examples.task, count),
    }  # fmt: skip
    for name, texts in (("id", answers.ids), ("gold", answers.gold), ("prediction", answers.predictions)):
        arrays[name] = pa.array(texts, pa.string()).dictionary_encode()
    arrays |= examples.columns
    for name in (name for name in schema.names if name not in arrays):
        value = same.get(name, NOTHING if name in cell_columns([name]) else None)  # None: a text of other targets
        numbers = pa.array(np.zeros(count, np.int32), mask=np.full(count, value is None))
        arrays[name] = pa.DictionaryArray.from_arrays(numbers, pa.array([value or ""], pa.string()))
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _map(values: NDArray[np.float16] | None, task: Task, count: int) -> Any:
    """Label -> probability of each example; null where there are none."""
    import pyarrow as pa

    if values is None:
        return pa.nulls(count, pa.map_(pa.string(), pa.float32()))
    known = ~np.isnan(values)
    names = task.labels if len(task.labels) == values.shape[1] else map(str, range(values.shape[1]))
    labels = pa.array(list(names), pa.string()).take(pa.array(np.nonzero(known)[1]))
    bounds = np.concatenate([[0], known.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.MapArray.from_arrays(bounds, labels, pa.array(values[known].astype(np.float32)))
