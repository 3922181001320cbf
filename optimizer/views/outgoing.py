"""What an exported set held and traded, as files that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.errors import ExportError
from optimizer.files import write_atomically
from optimizer.review.replay import Replay
from optimizer.store.guards import check_output

ENDINGS = (".csv", ".parquet")


def positions_table(replayed: Replay) -> pd.DataFrame:
    """The value of each position at each close, and the cash: what pyfolio takes as ``positions``.

    Args:
        replayed: the set.

    Returns:
        A row a bar from the first decision on, indexed by its time (UTC); a column a symbol, money,
        signed, and ``cash``. A row adds up to the equity.
    """
    result = replayed.result
    values = result.weights.mul(result.equity, axis=0)
    values["cash"] = result.equity - values.sum(axis=1)
    return values.rename_axis(index="timestamp", columns=None)


def weights_table(replayed: Replay) -> pd.DataFrame:
    """The share of each position in the equity at each close.

    Args:
        replayed: the set.

    Returns:
        A row a bar from the first decision on, indexed by its time (UTC); a column a symbol, signed.
    """
    return replayed.result.weights.rename_axis(index="timestamp", columns=None)


def orders_table(replayed: Replay) -> pd.DataFrame:
    """What was bought and sold: what pyfolio takes as ``transactions``.

    Fills of one symbol in one bar are one row, at their mean price, so that a pivot to a column a symbol
    gives what vectorbt's ``Portfolio.from_orders`` takes.

    Args:
        replayed: the set.

    Returns:
        A row a symbol and bar in which it traded, indexed by the bar's time (UTC), in order of time
        and symbol: ``symbol``, ``amount`` (units, negative if sold), ``price`` (spread, slippage and
        impact included) and ``commission`` (money).
    """
    fills = replayed.result.fills
    frame = pd.DataFrame(
        {
            "timestamp": fills["timestamp"],
            "symbol": fills["symbol"],
            "amount": fills["quantity"],
            "paid": fills["quantity"] * fills["price"],
            # What a fill costs beyond its price: its money, less that of its units at this price.
            "commission": -fills["cash"] - np.sign(fills["lots"]) * fills["value"],
        }
    )
    sums = frame.groupby(["timestamp", "symbol"], sort=True).sum()
    sums = sums[sums["amount"] != 0.0]  # bought and sold in one bar: no order of that bar
    sums["price"] = sums["paid"] / sums["amount"]
    table = sums.reset_index("symbol")[["symbol", "amount", "price", "commission"]]
    return table.rename_axis(index="timestamp")


def trades_table(replayed: Replay) -> pd.DataFrame:
    """Every trade from flat to flat, as ``BacktestResult.trades`` has them.

    Args:
        replayed: the set.

    Returns:
        A row a trade, indexed by a number from 0.
    """
    return replayed.result.trades.rename_axis(index="trade")


TABLES: Mapping[str, Callable[[Replay], pd.DataFrame]] = {
    "positions": positions_table,
    "weights": weights_table,
    "orders": orders_table,
    "trades": trades_table,
}
"""What may be written, by the option of ``barsweep replay``."""


def check_table_files(files: Mapping[str, Path]) -> None:
    """Refuse files that ``write_tables`` would not write, before anything is computed.

    Args:
        files: the files by the names of ``TABLES``.

    Raises:
        StudyError: a file name ends in neither .csv nor .parquet, its folder is missing, or it must not
            be replaced.
        ExportError: two tables go to one file.
    """
    seen: dict[Path, str] = {}
    for name, path in files.items():
        check_output(path, ENDINGS, f"a table of {name}")
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            raise ExportError(f"{path}: given for --{other} and --{name}; give each its own file")


def write_tables(replayed: Replay, files: Mapping[str, Path]) -> None:
    """Write tables of a set, each as its file name says: CSV or Parquet.

    Args:
        replayed: the set.
        files: the files by the names of ``TABLES``.

    Raises:
        ExportError: a file cannot be written.
        StudyError: see ``check_table_files``.
    """
    check_table_files(files)
    for name, path in files.items():
        frame = TABLES[name](replayed)
        try:
            is_csv = path.suffix.lower() == ".csv"
            write_atomically(path, frame.to_csv if is_csv else frame.to_parquet)
        except OSError as error:
            raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
