"""Bring the columns of a foreign file into one form: time, volume, numbers, unit of prices."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from optimizer.bars.columns import ADJUSTED, unit_of_volume
from optimizer.bars.rows import PAYMENTS, PRICES, VALUES
from optimizer.bars.symbols import LABEL, labels_of
from optimizer.errors import DataError
from optimizer.text import list_text

_MONEY = {"USD", "USDT", "USDC", "BUSD", "EUR", "GBP", "JPY", "CURRENCY", "QUOTE", "FIAT"}
"""Units of a volume that counts money, unless the symbol begins with them."""
_MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9}
_PLAIN = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:E[-+]?[0-9]+)?[KMB]?"
_THOUSANDS = rf"[-+]?[0-9]{{1,3}}(?:,[0-9]{{3}})+(?:\.[0-9]*)?[KMB]?|{_PLAIN}"
_DECIMAL_COMMA = r"[-+]?(?:[0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+)(?:,[0-9]+)?[KMB]?"


@dataclass(frozen=True)
class Foreign:
    """The rows of a file as they are, with its columns under our names.

    Attributes:
        source: the file.
        format: name of the format.
        unit: what messages call a row: ``line`` of a text file, else ``row``.
        frame: columns symbol, timestamp, open, high, low and close, and volume and ``adj_close`` if
            the file has them; the index is the number of the line or row.
        symbol_from: where the symbol's name came from, for the report.
        notes: further remarks for the report.
    """

    source: str
    format: str
    unit: str
    frame: pd.DataFrame
    symbol_from: str
    notes: tuple[str, ...] = ()


def tidy(
    source: str,
    format: str,
    unit: str,
    frame: pd.DataFrame,
    volumes: pd.DataFrame,
    unused: pd.DataFrame,
) -> Foreign:
    """One column for time, one for volume, prices in units of money.

    Args:
        source: the file.
        format: the name of its format.
        unit: what messages call a row.
        frame: columns by their roles; ``date`` and ``time`` where there is no ``timestamp``.
        volumes: columns of volume in several units, by their names in the file.
        unused: all other columns.

    Returns:
        The rows.

    Raises:
        DataError: which of several volumes counts units cannot be told.
    """
    notes: list[str] = []
    frame = frame.copy(deep=False)
    if "timestamp" not in frame:
        frame["timestamp"] = _moments(frame)
    for name in (*VALUES, ADJUSTED):
        if name in frame:
            frame[name] = plain_numbers(frame[name], whole=name == "volume")
    if "tick_volume" in frame:
        real = pd.to_numeric(frame["volume"], errors="coerce") if "volume" in frame else None
        if real is None or not (real > 0).any():
            frame["volume"] = frame["tick_volume"]
            notes.append("volume is the number of price changes: the file has no traded volume")
    elif "volume" not in frame and len(volumes.columns):
        traded = _units_traded(source, frame, volumes)
        if traded is None:
            notes.append(f"{list_text(volumes.columns)} counts money, not units")
        else:
            frame["volume"] = plain_numbers(volumes[traded], whole=True)
            notes.append(f"volume is {traded}")
    scale = _scale(format, frame)
    if scale != 1.0:
        for name in PRICES:
            prices = frame[name].where(frame[name] < 2**62)  # Databento's sign of no price
            frame[name] = prices / scale
        notes.append(f"prices are divided by {scale:,.0f}")
    labels = labels_of(unused)
    if "symbol" not in frame and len(labels.columns):
        shown = (
            f"{name} ({list_text(map(str, labels[name].dropna().unique()), 3)})" for name in labels
        )
        notes.append(f"not read: {list_text(shown)}; if it names symbols, call it symbol")
    wanted = ("symbol", "timestamp", *VALUES, ADJUSTED, *PAYMENTS)
    frame = frame[[name for name in wanted if name in frame]]
    frame = frame.assign(**{f"{LABEL}{label}": labels[label] for label in labels})
    return Foreign(source, format, unit, frame, "", tuple(notes))


def _moments(frame: pd.DataFrame) -> pd.Series[Any]:
    """Time of each row, in a form that our own reader of times takes."""
    if "date" not in frame:
        return frame["time"]
    date = frame["date"]
    if "time" not in frame or pd.api.types.is_numeric_dtype(date):
        return date
    if pd.api.types.is_datetime64_any_dtype(date):
        if not (date == date.dt.normalize()).all():
            return date
        date = date.dt.strftime("%Y-%m-%d")
    date = date.astype("str").str.strip()
    if date.str.fullmatch(r"-?\d{9,}").all():
        return frame["date"]
    time = frame["time"].astype("str").str.strip()
    digits = time.str.fullmatch(r"\d{1,6}").fillna(False).astype(bool)
    width = 4 if int(time[digits].str.len().max() if digits.any() else 6) <= 4 else 6
    return (date + " " + time.mask(digits, time.str.zfill(width))).where(frame["date"].notna())


def plain_numbers(column: pd.Series[Any], *, whole: bool = False) -> pd.Series[Any]:
    """Numbers written for people, as numbers: ``$1,234.50``, ``1.234,5`` or ``12.3K``.

    Args:
        column: cells of a file.
        whole: whether a single comma before three digits separates thousands, as in counts.

    Returns:
        The column unchanged if it has numbers already, or a cell is of another form.
    """
    if not pd.api.types.is_string_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column
    if any(not isinstance(cell, Hashable) for cell in column):
        return column
    written = column.notna()
    if not written.any():
        return column
    text = column[written].astype("str").str.strip().str.upper()
    if text.str.fullmatch(r"[-+]?[$€£].*").all():
        text = text.str.replace(r"[$€£]", "", regex=True)
    if not text.str.fullmatch(_PLAIN).all():
        both = text.str.contains(",", regex=False) & text.str.contains(".", regex=False)
        one_comma = text.str.fullmatch(r"[-+]?\d{1,3},\d{3}")
        if text.str.fullmatch(_THOUSANDS).all():
            points = text.str.contains(".", regex=False)
            if not (whole or both.any() or points.any() or (text.str.count(",") > 1).any()):
                return column  # 1,234 may be one, or a thousand
            text = text.str.replace(",", "", regex=False)
        elif text.str.fullmatch(_DECIMAL_COMMA).all() and (both.any() or not one_comma.all()):
            text = text.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        else:
            return column
    parts = text.str.extract(r"^(.*?)([KMB]?)$")
    numbers = parts[0].astype(np.float64) * parts[1].map(_MULTIPLES).fillna(1.0)
    return numbers.reindex(column.index)


def _units_traded(source: str, frame: pd.DataFrame, volumes: pd.DataFrame) -> str | None:
    """The volume that counts units rather than money; None if there is only money."""
    names = [str(name) for name in volumes.columns]
    symbol = str(frame["symbol"].iloc[0]).upper() if "symbol" in frame and len(frame) else ""
    starts = [name for name in names if symbol and symbol.startswith(unit_of_volume(name))]
    if len(names) == 1:
        return names[0] if starts or unit_of_volume(names[0]) not in _MONEY else None
    numbers = {name: pd.to_numeric(plain_numbers(volumes[name]), errors="coerce") for name in names}
    low = pd.to_numeric(frame["low"], errors="coerce") * 0.98
    high = pd.to_numeric(frame["high"], errors="coerce") * 1.02
    for name in names:
        for other in names:
            price = (numbers[other] / numbers[name])[numbers[name] > 0]
            if other != name and len(price) and price.between(low, high).mean() >= 0.9:
                return name
    if len(starts) == 1:
        return starts[0]
    rest = [name for name in names if unit_of_volume(name) not in _MONEY]
    if len(rest) == 1:
        return rest[0]
    raise DataError(
        f"{source}: several columns could be volume: {list_text(names)}; keep one, or call it volume"
    )


def _scale(format: str, frame: pd.DataFrame) -> float:
    """What the whole numbers of a format count, if its prices are such."""
    if not all(pd.api.types.is_integer_dtype(frame[name]) for name in PRICES):
        return 1.0
    if format == "Databento":
        return 1e9
    # LEAN writes ten thousandths of shares' prices, and others as they are.
    cents = all((frame[name] % 100 == 0).mean() > 0.9 for name in PRICES)
    return 1e4 if format == "LEAN" and cents else 1.0
