"""The account and instrument tables of a study file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from optimizer.catalogue import HIGHEST_RATE, LOWEST_RATE
from optimizer.study_file.per_symbol import (
    DEFAULT,
    is_per_symbol,
    per_symbol_to_dict,
    read_per_symbol,
)
from optimizer.study_file.tables import Table, real
from optimizer.study_file.values import bounded, expect_table, filled_text, named, refusal
from optimizer.text import quoted

_MOST_BPS = 100_000.0
_BORROW_BPS = 100.0


@dataclass(frozen=True)
class RateFile:
    """An interest rate that a file gives over time, written ``"file.csv:column"``.

    Attributes:
        path: relative to the study file's folder.
        column: whose values are fractions a year.
    """

    path: str
    column: str

    def __str__(self) -> str:
        """As a study file states it."""
        return f"{self.path}:{self.column}"


Rate = float | RateFile
"""Fraction a year: one for all bars, or by time."""


def _read_rate(value: object) -> Rate:
    if isinstance(value, str):
        text = filled_text(value)
        path, _, column = text.rpartition(":")
        if not path.strip() or not column.strip():
            raise refusal(
                f'got {quoted(text)}; expected a fraction a year, or "file.csv:column" for the column'
                " of a file"
            )
        return RateFile(path.strip(), column.strip())
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(
            f'got {quoted(value)}; expected a fraction a year such as 0.02, or "file.csv:column"'
        )
    return float(bounded(value, float, LOWEST_RATE, HIGHEST_RATE))


def _read_borrow(value: object) -> dict[str, float]:
    if isinstance(value, Mapping) and is_per_symbol(value):
        return read_per_symbol(value, _BORROW_BPS, 0.0, _MOST_BPS)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(
            f"got {quoted(value)}; expected a number, or one for each symbol such as"
            " {GME = 2000.0, default = 100.0}"
        )
    return {DEFAULT: float(bounded(value, float, 0.0, _MOST_BPS))}


def _read_currency(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z][A-Z0-9]{1,9}", value):
        raise refusal(f'got {quoted(value)}; expected the code of a currency, such as "USD"')
    return value


class AccountTable(Table):
    """``[account]``: what the broker lends, and at what rates; it holds for the whole study.

    The rates of debts are those of an expensive retail broker: too much costs a strategy a part of
    its return, too little makes one look good that only borrows.

    Attributes:
        leverage: most gross value of all positions, times equity.
        maintenance_margin: equity below this share of the gross value is liquidated.
        financing_bps_year: basis points a year on debit cash. Margin loans of retail brokers cost
            1.5 to 7 points more than the central bank's rate.
        cash_rate: earned on credit cash.
        risk_free: subtracted from returns in ratios; None takes ``cash_rate``.
        currency: what prices and cash are in, such as USD; only tables and figures name it.
        borrow_bps_year: basis points a year on the value of a short position, by symbol, and under
            ``default`` for all others. Large stocks cost 25 to 50, scarce ones thousands.
    """

    leverage: Annotated[float, real(1.0, 100.0)] = 1.0
    maintenance_margin: Annotated[float, real(0.0, 1.0)] = 0.25
    financing_bps_year: Annotated[float, real(0.0, _MOST_BPS)] = 800.0
    cash_rate: Annotated[float | RateFile, BeforeValidator(_read_rate)] = 0.0
    risk_free: Annotated[float | RateFile, BeforeValidator(_read_rate)] | None = None
    currency: Annotated[str, BeforeValidator(_read_currency)] | None = None
    borrow_bps_year: Annotated[dict[str, float], BeforeValidator(_read_borrow)] = Field(
        default_factory=lambda: {DEFAULT: _BORROW_BPS}
    )

    @property
    def money(self) -> str:
        """What tables and figures call the money: its currency where that is known."""
        return self.currency or "money"

    @property
    def risk_free_rate(self) -> Rate:
        """``risk_free``, or the rate that it takes if it is left out."""
        return self.cash_rate if self.risk_free is None else self.risk_free

    def to_dict(self) -> dict[str, object]:
        """The table as a study file states it, defaults filled in."""
        written: dict[str, object] = {
            "leverage": self.leverage,
            "maintenance_margin": self.maintenance_margin,
            "financing_bps_year": self.financing_bps_year,
            "cash_rate": _rate_to_dict(self.cash_rate),
            "borrow_bps_year": per_symbol_to_dict(self.borrow_bps_year),
        }
        if self.currency is not None:
            written["currency"] = self.currency
        if self.risk_free is not None:
            written["risk_free"] = _rate_to_dict(self.risk_free)
        return written


def _rate_to_dict(rate: Rate) -> object:
    return str(rate) if isinstance(rate, RateFile) else rate


def with_rate_paths(account: Mapping[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    """A copy of ``[account]`` with other paths of its rate files.

    Args:
        account: ``[account]`` as ``AccountTable.to_dict`` gives it.
        move: gives the new path of a path.
    """
    moved = dict(account)
    for key in ("cash_rate", "risk_free"):
        if isinstance(moved.get(key), str):
            path, _, column = moved[key].rpartition(":")
            moved[key] = f"{move(path)}:{column}"
    return moved


class InstrumentTable(Table):
    """``[instruments.SYMBOL]``: how one symbol is traded.

    Attributes:
        lot_size: units of a lot; None takes that of ``[risk]``.
        tick_size: smallest step of its price, money; 0 for none.
        multiplier: money that one unit gains when its price rises by 1.
    """

    lot_size: Annotated[float, real(1e-12, 1e12)] | None = None
    tick_size: Annotated[float, real(0.0, 1e12)] = 0.0
    multiplier: Annotated[float, real(1e-12, 1e12)] = 1.0


def read_instruments(value: object) -> Mapping[str, object]:
    """Read ``[instruments]``: a table for each symbol.

    Args:
        value: the value that the study file gives.

    Returns:
        The tables by symbol, each a mapping of plain values.

    Raises:
        PydanticCustomError: it is something else, or a key is no name of a symbol.
    """
    table = expect_table(value)
    for symbol in table:
        named(symbol)
    return table
