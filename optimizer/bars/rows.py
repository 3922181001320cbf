"""Rows of a file of bars, with their places in it for error messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from optimizer.bars.times import time_text
from optimizer.errors import DataError
from optimizer.types import BoolArray, FloatArray, IntArray, TimeArray

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
PAYMENTS = ("funding", "dividends")
"""Optional columns, which a file may call by any name."""


@dataclass(frozen=True)
class Rows:
    """Rows of a file in its order, not checked yet.

    Attributes:
        source: the file.
        unit: what messages call a row: ``line`` of a CSV file, ``row`` of a Parquet file.
        frame: columns under their standard names; the index is the number of the line or row.
        names: symbols.
        code: index in ``names`` of each row's symbol; empty until it is known.
        time: the time of each row, UTC; empty until it is known.
        values: the values of each row, by column name; empty until they are known.
    """

    source: str
    unit: str
    frame: pd.DataFrame
    names: tuple[str, ...] = ()
    code: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    time: TimeArray = field(default_factory=lambda: np.empty(0, dtype="datetime64[ns]"))
    values: Mapping[str, FloatArray] = field(default_factory=dict)

    def keep(self, mask: BoolArray) -> Rows:
        """Only the rows marked in ``mask``, shape (n_rows,).

        Args:
            mask: shape (n_rows,).

        Returns:
            The kept rows, in the same order.
        """
        return replace(
            self,
            frame=self.frame[mask],
            code=self.code[mask],
            time=self.time[mask] if len(self.time) else self.time,
        )

    def number(self, row: int) -> str:
        """The line or row number, as messages name it.

        Args:
            row: position in ``frame``.
        """
        return f"{self.unit} {self.frame.index[row]}"

    def at(self, row: int) -> str:
        """The file and the row, as messages name them; rows of several files name theirs.

        Args:
            row: position in ``frame``.
        """
        return f"{self.source}, {self.number(row)}" if self.unit else str(self.frame.index[row])

    def symbol(self, row: int) -> str:
        """The symbol of a row.

        Args:
            row: position in ``frame``.
        """
        return self.names[int(self.code[row])]

    def cell(self, column: str, row: int) -> str:
        """The text of a cell of the file, quoted.

        Args:
            column: standard name.
            row: position in ``frame``.
        """
        return repr(str(self.frame[column].iloc[row]))

    def numbers(self, column: str, called: str | None = None) -> FloatArray:
        """The numbers of a column, NaN where a cell is empty; shape (n_rows,).

        Args:
            column: standard name.
            called: its name in messages; None for the standard name.

        Raises:
            DataError: names the first cell that is no number.
        """
        name, values = called or column, self.frame[column]
        if pd.api.types.is_bool_dtype(values) or values.dtype.kind in "cmM":
            self.refuse(0, f"column {name} has {values.dtype} values; it must have numbers")
        if not pd.api.types.is_numeric_dtype(values):
            written = values.notna()
            values = pd.to_numeric(values, errors="coerce")
            if (row := first_row(values.isna() & written)) is not None:
                self.refuse(row, f"column {name} is not a number: {self.cell(column, row)}")
        return values.to_numpy(dtype=np.float64, na_value=np.nan)

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise a ``DataError`` that names the row.

        Args:
            row: position in ``frame``.
            problem: what is wrong, and the fix.
        """
        place = self.at(row)
        if len(self.time):
            place += f" ({self.symbol(row)}, {time_text(self.time[row])})"
        elif len(self.code):
            place += f" ({self.symbol(row)})"
        raise DataError(f"{place}: {problem}")

    def by_symbol(self) -> list[IntArray]:
        """Positions of the rows of each symbol, in the order of the file.

        Returns:
            One array per symbol, shape (n_rows of the symbol,), ascending.
        """
        order = np.argsort(self.code, kind="stable")
        counts = np.bincount(self.code, minlength=len(self.names))
        return np.split(order, np.cumsum(counts)[:-1])


def oldest_first(rows: Rows) -> tuple[Rows, bool]:
    """Turn round a file that has the newest row of each symbol first, as many exports do.

    Args:
        rows: the rows with their symbols and times.

    Returns:
        The rows, and whether they were turned round; no row is moved where any is out of order.
    """
    steps = [np.diff(rows.time[where]) for where in rows.by_symbol()]
    several = [step for step in steps if len(step)]
    if not several or not all((step < np.timedelta64(0, "ns")).all() for step in several):
        return rows, False
    return replace(
        rows, frame=rows.frame.iloc[::-1], code=rows.code[::-1], time=rows.time[::-1]
    ), True


def first_row(marked: Any) -> int | None:
    """The position of the first marked row; None if no row is marked.

    Args:
        marked: shape (n_rows,).
    """
    where = np.flatnonzero(np.asarray(marked, dtype=np.bool_))
    return int(where[0]) if len(where) else None
