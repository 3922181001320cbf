"""Read small CSV files that accompany the bars: interest rates, membership."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from optimizer.bars.text_files import MISSING_TEXTS, UNREADABLE
from optimizer.errors import DataError
from optimizer.text import one_line


def read_side_table(
    path: Path, what: str, missing: Sequence[str] = MISSING_TEXTS, dtype: type | None = None
) -> pd.DataFrame:
    """Read a CSV file whose first line names its columns.

    Args:
        path: a ``.csv`` or ``.csv.gz`` file.
        what: the file holds, in messages, plural.
        missing: texts of an empty cell.
        dtype: the data type of every column; None lets pandas find out.

    Returns:
        The table; its index numbers the lines of the file.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.name.lower().endswith((".csv", ".csv.gz")):
        raise DataError(f"{path}: {what} are read from .csv and .csv.gz files; save it as CSV")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                dtype=dtype,
                keep_default_na=False,
                na_values=list(missing),
                index_col=False,
                skipinitialspace=True,
                skip_blank_lines=False,  # so that rows keep the numbers of their lines
                encoding="utf-8-sig",
            )
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; the path of {what} is relative to the study file"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({one_line(error)})") from error
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: is empty; line 1 must name the columns") from None
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error
    frame.index = pd.RangeIndex(2, len(frame) + 2)
    return frame.rename(columns=lambda name: str(name).strip())
