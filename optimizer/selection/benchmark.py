"""The returns of a study's benchmark, which its folder keeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from optimizer.errors import StudyError
from optimizer.files import save
from optimizer.store.folder import StudyFolder
from optimizer.store.names import BENCHMARK
from optimizer.sweep.inputs import Inputs
from optimizer.types import FloatArray


def save_benchmark(folder: StudyFolder, inputs: Inputs, returns: FloatArray) -> None:
    """Write ``benchmark.parquet``: a column ``timestamp`` and one of returns.

    Args:
        folder: the folder of the study.
        inputs: the prepared inputs of the study.
        returns: the result of ``optimizer.sweep.buy_and_hold.benchmark_returns``.

    Raises:
        StudyError: it cannot be written.
    """
    times = pd.DatetimeIndex(inputs.bars.timestamps[inputs.first :], tz="UTC")
    frame = pd.DataFrame({"timestamp": times, "return": returns})
    path = folder.path / BENCHMARK
    save(path, lambda part: frame.to_parquet(part, index=False))


def load_benchmark(folder: StudyFolder) -> pd.Series[float] | None:
    """Returns per bar of a study's benchmark, from the first decision on.

    Args:
        folder: the folder of the study.

    Returns:
        Indexed by time; None where the study has not come so far, or found no feasible set.

    Raises:
        StudyError: the file cannot be read.
    """
    frame = read_series(folder.path / BENCHMARK, "return")
    return None if frame is None else frame.set_index("timestamp")["return"]


def read_series(path: Path, column: str) -> pd.DataFrame | None:
    """A column of numbers by time that a study wrote.

    Args:
        path: a Parquet file.
        column: its name.

    Returns:
        Columns ``timestamp`` and ``column``; None where the file is missing.

    Raises:
        StudyError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        return None
    try:
        schema = pq.read_schema(path)
        time, values = (schema.field(name).type for name in ("timestamp", column))
        if not pa.types.is_timestamp(time) or not pa.types.is_floating(values):
            raise ValueError(f"its columns are {time} and {values}")
        return pd.read_parquet(path, columns=["timestamp", column])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StudyError(f"{path}: cannot be read: {error}; run the study again") from None
