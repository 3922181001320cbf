"""Funding and dividends: what a unit of each symbol is paid in each bar."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kernels.portfolio import unit_payments
from optimizer.bars.rows import Rows, first_row
from optimizer.types import FloatArray, TimeArray


def read_payments(rows: Rows, columns: Mapping[str, str]) -> FloatArray | None:
    """Dividends less funding, per unit that is held at the symbol's row before.

    Args:
        rows: checked, with the columns ``funding`` and ``dividends`` where ``columns`` has them.
        columns: their names in the file, for messages.

    Returns:
        Money, shape (n_rows,); 0 in the first row of a symbol. None where nothing is ever paid.

    Raises:
        DataError: a dividend is negative, a rate is not within -1 to 1, or a cell is no finite number.
    """
    if not columns:
        return None
    nothing = np.zeros(len(rows.frame))
    given = {name: _numbers(rows, name, called) for name, called in columns.items()}
    dividends, funding = given.get("dividends", nothing), given.get("funding", nothing)
    if (row := first_row(dividends < 0.0)) is not None:
        rows.refuse(
            row,
            f"column {columns['dividends']} is {dividends[row]:g}; a dividend is money per unit, 0 or"
            " more",
        )
    if (row := first_row(np.abs(funding) >= 1.0)) is not None:
        rows.refuse(
            row,
            f"column {columns['funding']} is {funding[row]:g}; a funding rate is a fraction of the value"
            " for one bar, between -1 and 1: 0.0001 for 0.01 percent",
        )
    paid = np.zeros(len(rows.frame))
    for where in rows.by_symbol():
        held, now = where[:-1], where[1:]
        previous = rows.values["close"][held]
        paid[now] = unit_payments(dividends[now], funding[now], previous)
    return paid if paid.any() else None


def _numbers(rows: Rows, name: str, called: str) -> FloatArray:
    values = rows.numbers(name, called)
    if (row := first_row(np.isinf(values))) is not None:
        rows.refuse(row, f"column {called} is {values[row]}; it must be finite, or empty for 0")
    return np.nan_to_num(values)


def align_payments(paid: FloatArray, rows: Rows, calendar: TimeArray) -> FloatArray:
    """Payments at the bars of a calendar. Those of a bar that it lacks are made at its next bar.

    Args:
        paid: the payments of ``read_payments``, money per unit, shape (n_rows,).
        rows: the rows of the bars that they belong to.
        calendar: ascending, shape (n_bars,).

    Returns:
        Money per unit, shape (n_bars, n_symbols).
    """
    table = np.zeros((len(calendar) + 1, len(rows.names)))
    np.add.at(table, (np.searchsorted(calendar, rows.time), rows.code), paid)
    return np.ascontiguousarray(table[:-1])
