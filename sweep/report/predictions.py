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

ROWS = 500_000  # of a row group
DICTIONARY_BYTES = 1 << 26  # of the distinct texts of a row group; beyond them it holds every one as it comes


@dataclass(frozen=True)
class _Answers:
    """Examples of a language and what one chain answered: lists of N texts, and probabilities [N, C] if there are."""

    result: Result
    task: Task
    ids: Sequence[str]
    texts: Mapping[str, Sequence[str]]  # by column
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
            tables, rows = list[pa.Table](), 0
            for result in (result for result in chosen if name in result.score.languages):
                tables.append(_table(_answers(result, store, name), name, schema))
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
            texts |= dict.fromkeys(name for name in example if name != "id")
    shared = pa.dictionary(pa.int32(), pa.string())
    first = [*((column, shared) for column in (*cells, "language")), ("seed", pa.int64()), ("chain", shared)]
    own = [("number", pa.int64()), ("id", shared), *((column, shared) for column in texts), ("gold", shared)]
    last = [("prediction", shared), ("probabilities", pa.map_(pa.string(), pa.float32()))]
    return pa.schema([*first, *own, *last])


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    plain = (field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in schema)
    return pa.schema(list(plain))


def _answers(result: Result, store: Store, language: str) -> _Answers:
    """Answers of a chain in a language. Raises StoreError."""
    labels = store.labels(result.score.key)
    task = described_in(labels, result.score.task)
    family, name = task.family, test_file(task.family, language)
    with tempfile.TemporaryDirectory(prefix="sweep-predictions-") as folder:
        unpack(store.predictions(result.score.key), Path(folder), name)
        pair = family.read_files(Path(folder) / name, labels / name, task)
    examples = read_examples(labels, task, language)
    answered = [
        family.shown(row, number, prediction, pair.task)
        for number, (row, prediction) in enumerate(zip(pair.rows, pair.predictions, strict=True))
    ]
    ids = [str(row.get("id", "")) for row in pair.rows]
    if examples is not None and pair.rows and "id" in pair.rows[0]:  # the files name examples, perhaps not all of them
        by_id = dict(zip(ids, answered, strict=True))
        answered = [by_id.get(example["id"], ("", "")) for example in examples]
    if examples is not None and len(answered) != len(examples):
        problem = f"{len(examples)} examples and {len(answered)} right answers in {language}"
        raise StoreError(labels, problem, "files as they were written are expected")
    columns = dict.fromkeys(column for example in examples or () for column in example if column != "id")
    return _Answers(
        result=result, task=task, ids=ids if examples is None else [example["id"] for example in examples],
        texts={column: [example.get(column, "") for example in examples or ()] for column in columns},
        gold=[gold for gold, _ in answered], predictions=[prediction for _, prediction in answered],
        probabilities=store.probabilities(result.score.key).get(language),
    )  # fmt: skip


def _table(answers: _Answers, language: str, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    chain, count = answers.result.chain, len(answers.gold)
    same = {**chain.cell.columns(), "language": language, "chain": chain.key}
    own: dict[str, Sequence[str]] = {**answers.texts, "id": answers.ids}
    own |= {"gold": answers.gold, "prediction": answers.predictions}
    arrays: dict[str, Any] = {
        "seed": pa.array(np.full(count, chain.seed)), "number": pa.array(np.arange(count)),
        "probabilities": _map(answers, count),
    }  # fmt: skip
    for field in schema:
        if field.name in own:
            arrays[field.name] = pa.array(own[field.name], pa.string()).dictionary_encode()
        elif field.name not in arrays:
            value = same.get(field.name, NOTHING if field.name in cell_columns([field.name]) else None)
            one = pa.array([value] if value is not None else [], pa.string())
            numbers = pa.array(np.zeros(count, np.int32), mask=np.full(count, value is None))
            arrays[field.name] = pa.DictionaryArray.from_arrays(numbers, one)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _map(answers: _Answers, count: int) -> Any:
    """Label -> probability of each example; null where there are none."""
    import pyarrow as pa

    values = answers.probabilities
    if values is None:
        return pa.nulls(count, pa.map_(pa.string(), pa.float32()))
    known = ~np.isnan(values)
    names = answers.task.labels if len(answers.task.labels) == values.shape[1] else map(str, range(values.shape[1]))
    labels = pa.array(list(names), pa.string()).take(pa.array(np.nonzero(known)[1]))
    bounds = np.concatenate([[0], known.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.MapArray.from_arrays(bounds, labels, pa.array(values[known].astype(np.float32)))
