"""The plateau scores of a study's sets among all tiles, which take the place of those in their tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.batch_files import read_metadata
from optimizer.store.names import PLATEAU
from optimizer.text import one_line
from optimizer.types import FloatArray, IntArray

_SCHEMA = pa.schema([("set", pa.int64()), ("score", pa.float64())])


def save_plateau(folder: Path, numbers: IntArray, scores: FloatArray) -> None:
    """Write the scores of all sets of a study that has tried them all.

    Args:
        folder: the folder of the study.
        numbers: (n_sets,), the numbers of the sets.
        scores: (n_sets,), NaN where undefined.

    Raises:
        StudyError: they cannot be written.
    """
    columns = [pa.array(numbers), pa.array(scores, from_pandas=True)]
    table = pa.table(columns, schema=_SCHEMA)
    save(folder / PLATEAU, lambda part: pq.write_table(table, part))


def with_plateau(folder: Path, frame: pd.DataFrame, n_sets: int) -> pd.DataFrame:
    """Sets with their scores among all tiles.

    Args:
        folder: the folder of their study.
        frame: rows of its results, ``set`` and ``score`` among their columns.
        n_sets: the number of its sets.

    Returns:
        The same rows; as they are where the study has no such scores, or not yet.

    Raises:
        StudyError: the scores cannot be read, or are those of other sets.
    """
    path = folder / PLATEAU
    if not path.is_file():
        return frame
    again = f"`barsweep resume {folder}` computes it again"
    try:
        metadata = read_metadata(path)
        if metadata.schema.to_arrow_schema().remove_metadata() != _SCHEMA:
            raise ValueError("its columns are others")
        groups = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        if not metadata.num_rows == groups == n_sets:
            raise ValueError(f"it has {groups:,} rows, the study {n_sets:,} sets")
        table = pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StudyError(f"{path}: cannot be read: {one_line(error)}; {again}") from None
    numbers = table["set"].to_numpy()
    places = np.searchsorted(numbers, frame["set"].to_numpy())
    if not np.array_equal(numbers[np.minimum(places, len(numbers) - 1)], frame["set"]):
        raise StudyError(f"{path}: has no score of some of the sets; {again}")
    return frame.assign(score=table["score"].to_numpy(zero_copy_only=False)[places])
