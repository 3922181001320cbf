"""What a portfolio of the event flow looks like from outside."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimizer.types import Fill


@dataclass(frozen=True)
class PositionView:
    """What a position looks like from outside.

    Attributes:
        symbol: its name.
        quantity: units, signed.
        value: money, signed, at the last mark.
        unrealised: value less the cost basis, money: its fills at their average, costs included.
        entry: mean fill price, 0 where nothing is held.
    """

    symbol: str
    quantity: float
    value: float
    unrealised: float
    entry: float


@dataclass(frozen=True)
class PortfolioView:
    """What a portfolio looks like from outside: a copy that shares nothing with it.

    Money is as of the last mark, after which no fill should have come in.

    Attributes:
        cash, equity: money.
        exposure: gross value of the positions over equity.
        realised: profit and loss of all positions closed since the start, on the average-cost basis,
            costs included, money. Equity is initial cash plus ``realised``, ``unrealised`` and
            ``carry``; after ruin it may be a debt.
        unrealised: profit and loss of the positions held, money.
        carry: interest and payments earned, less interest, borrow fees and payments paid, since the
            start, money.
        ruined: whether equity has fallen to 0 or below.
        positions: one per symbol.
        transactions: all fills since the start, in order.
        drawdown, metrics: the drawdown and metrics of the period that the last ``start_period``
            began.
    """

    cash: float
    equity: float
    exposure: float
    drawdown: float
    realised: float
    unrealised: float
    carry: float
    ruined: bool
    positions: tuple[PositionView, ...]
    transactions: tuple[Fill, ...]
    metrics: dict[str, float] = field(default_factory=dict)
