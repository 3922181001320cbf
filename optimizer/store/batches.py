"""Reading a batch of results, which anyone may have written: everything is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.catalogue import METRICS, SET_COLUMNS
from optimizer.errors import StudyError
from optimizer.store.batch_files import (
    HOLDOUT_KEY,
    MAXIMA_KEY,
    MOMENTS_KEY,
    TRIALS_KEY,
    holdout_path,
    is_whole,
    moments_path,
    read_maxima,
    read_metadata,
)
from optimizer.store.columns import COUNTS, FLAGS, KEPT, NAMES, OUT_OF_SAMPLE
from optimizer.store.trial_records import read_trials
from optimizer.text import name_problem, quoted
from optimizer.types import Float32Array, FloatArray

_FEW_ROWS = 100_000
"""So many rows take no memory that matters."""


@dataclass(frozen=True)
class FinishedBatch:
    """What is recorded of a batch.

    Attributes:
        path: its file.
        trials: the trials as ``StudyFolder.write_batch`` took them.
        maxima: largest draws of the max-test over its sets, see ``no_draws``.
    """

    path: Path
    trials: Sequence[Mapping[str, Any]]
    maxima: Float32Array


def read_batch(path: Path, names: Mapping[str, Collection[str]] | None = None) -> FinishedBatch:
    """Read a batch and compare its checksums.

    Args:
        path: the path of its result file.
        names: the names as ``check_names`` takes them; None checks none.

    Returns:
        The path of the batch, and its trials.

    Raises:
        ValueError: it is damaged; says how.
    """
    try:
        if not is_whole(path):
            raise ValueError("its checksum does not match its content")
        metadata = read_metadata(path)
        if (
            not {TRIALS_KEY, MOMENTS_KEY, HOLDOUT_KEY, MAXIMA_KEY}
            <= (metadata.metadata or {}).keys()
        ):
            raise ValueError("not a batch of this study")
        check_schema(metadata.schema.to_arrow_schema())
        trials = read_trials(metadata.metadata[TRIALS_KEY])
        maxima = read_maxima(metadata.metadata)
        _check_rows(metadata)
        if names is not None:
            check_names(pq.read_table(path, columns=list(NAMES)), names)
        for other, key in ((moments_path(path), MOMENTS_KEY), (holdout_path(path), HOLDOUT_KEY)):
            if not other.is_file():
                raise ValueError(f"{other} is missing")
            with other.open("rb") as file:  # piecewise: it may be of any size
                found = hashlib.file_digest(file, "sha256").hexdigest().encode()
            if found != metadata.metadata[key]:
                raise ValueError(f"{other} is not what was written")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ValueError(f"damaged ({' '.join(str(error).split())})") from None
    return FinishedBatch(path, trials, maxima)


def _check_rows(metadata: pq.FileMetaData) -> None:
    """Refuse more rows than the trials of a batch have sets: a small file can claim any number.

    Raises:
        ValueError: it has more, or has too many and does not say of how many sets they are.
    """
    groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    rows = max(metadata.num_rows, groups)
    if rows <= _FEW_ROWS:
        return
    trials = read_trials((metadata.metadata or {}).get(TRIALS_KEY, b"[]"))
    n_sets = sum(one["user_attrs"]["n_sets"] for one in trials)
    if rows > n_sets:
        raise ValueError(f"it has {rows:,} rows; its trials have {n_sets:,} parameter sets")


def check_names(table: pa.Table, known: Mapping[str, Collection[str]]) -> None:
    """Refuse strategies and classifiers that the study does not have.

    Args:
        table: rows of a result file.
        known: the names that the study has, for each column of names.

    Raises:
        ValueError: a row has another name.
    """
    for column in known:
        if column not in table.column_names:
            continue
        for chunk in table[column].chunks:
            for name in chunk.dictionary.to_pylist():
                if name not in known[column]:
                    raise ValueError(
                        f"it has a {column} {quoted(name)}, which the study does not have"
                    )


def check_schema(schema: pa.Schema) -> None:
    """Refuse columns that no batch has.

    Args:
        schema: the schema of a result file.

    Raises:
        ValueError: a column is missing, of the wrong type, or has no name.
    """
    _check_columns(schema, (*SET_COLUMNS, *METRICS))
    for field in schema:
        if field.name in OUT_OF_SAMPLE:
            raise ValueError(f"column {quoted(field.name)} belongs to the holdout")
        if problem := name_problem(field.name):
            raise ValueError(f"column {quoted(field.name)} {problem}")
        if not field.name.isidentifier():
            raise ValueError(f"column {quoted(field.name)} has no name of a parameter")


def _check_columns(schema: pa.Schema, names: Sequence[str]) -> None:
    """Refuse a file in which a column is missing, or any column is of the wrong type."""
    kinds = {"set": pa.types.is_integer, "trial": pa.types.is_integer}
    kinds |= dict.fromkeys(("feasible", KEPT, *FLAGS), pa.types.is_boolean)
    kinds |= dict.fromkeys(COUNTS, pa.types.is_integer)
    kinds |= dict.fromkeys(NAMES, _is_text)
    for name in names:
        if schema.names.count(name) != 1:
            raise ValueError(f"not one column {name}")
    for field in schema:
        if not kinds.get(field.name, pa.types.is_floating)(field.type):
            raise ValueError(f"column {quoted(field.name)} has type {field.type}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type))


def read_schema(path: Path) -> pa.Schema:
    """The columns of a result file.

    Args:
        path: the path of the file.

    Raises:
        OSError, ValueError, pa.ArrowException: it cannot be read, or is no result file.
    """
    schema = read_metadata(path).schema.to_arrow_schema()
    check_schema(schema)
    return schema


def read_results(path: Path, **options: Any) -> pa.Table:
    """The rows of a result file, after its columns and their number were checked.

    Args:
        path: the path of the file.
        options: the options of ``pyarrow.parquet.read_table``.

    Raises:
        OSError, ValueError, pa.ArrowException: it cannot be read, or is no result file.
    """
    schema = read_schema(path)
    missing = [name for name in options.get("columns") or () if name not in schema.names]
    if missing:
        raise ValueError(f"no column {quoted(missing[0])}")
    _check_rows(read_metadata(path))
    return pq.read_table(path, **options)


def read_holdout(batch: Path, **options: Any) -> pa.Table:
    """The out-of-sample metrics of a batch, after columns and number of rows were checked.

    Args:
        batch: its result file.
        options: the options of ``pyarrow.parquet.read_table``.

    Raises:
        OSError, ValueError, pa.ArrowException: the file cannot be read, or belongs to no such batch.
    """
    path = holdout_path(batch)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    metadata, rows = read_metadata(path), read_metadata(batch).num_rows
    _check_columns(metadata.schema.to_arrow_schema(), ("set", *OUT_OF_SAMPLE))
    groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if not metadata.num_rows == groups == rows:
        raise ValueError(f"{path} has {groups:,} rows; the batch has {rows:,}")
    return pq.read_table(path, **options)


def read_moments(batch: Path) -> FloatArray:
    """The return moments of a batch, mapped.

    Args:
        batch: its result file.

    Returns:
        Sums and sums of squares of returns per set and block, shape (n_sets, 2, n_blocks).

    Raises:
        OSError, ValueError: the file cannot be read, or holds something else.
    """
    path = moments_path(batch)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file")
    sums: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(sums, np.ndarray) or sums.dtype != np.float64 or sums.ndim != 3:
        raise ValueError(f"{path} holds no return moments")
    return sums


def read_parquet(read: Callable[[], Any], path: Path) -> Any:
    """Call a reader of a batch's file.

    Args:
        read: the reader.
        path: the path of the file.

    Returns:
        What ``read`` returned.

    Raises:
        StudyError: the file cannot be read; names it.
    """
    try:
        return read()
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise StudyError(
            f"{path}: cannot be read: {error}; `barsweep resume {path.parent.parent}` computes it again"
        ) from None
