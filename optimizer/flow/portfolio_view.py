"""What a portfolio of the event flow looks like from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.flow.period import Period
from optimizer.types import Fill, PortfolioState


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


@dataclass(frozen=True, eq=False, kw_only=True)
class PortfolioView(PortfolioState):
    """What a portfolio looks like from outside: a copy that shares nothing with it.

    It is the state that the risk manager takes. Money is as of the last mark, after which no fill should
    have come in.

    Attributes:
        drawdown: fall from the peak of the period that the last ``start_period`` began, a fraction.
        realised: profit and loss of all positions closed since the start, on the average-cost basis,
            costs included, money. Equity is initial cash plus ``realised``, ``unrealised`` and
            ``carry``; after ruin it may be a debt.
        unrealised: profit and loss of the positions held, money.
        carry: interest and payments earned, less interest, borrow fees and payments paid, since the
            start, money.
        ruined: whether equity has fallen to 0 or below.
        positions: one per symbol.
    """

    drawdown: float
    realised: float
    unrealised: float
    carry: float
    ruined: bool
    positions: tuple[PositionView, ...]
    _booked: Sequence[Fill]
    _n_booked: int
    _period: Period
    _per_year: tuple[float, float]

    @property
    def transactions(self) -> tuple[Fill, ...]:
        """All fills since the start, in order."""
        # The container only ever adds to its list, so its first fills stay what they are.
        return tuple(self._booked[: self._n_booked])

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the period, by the kernel of the sweep; empty before its first bar."""
        if not self._period.n_bars:
            return {}
        return self._period.metrics(self.cash, self.ruined, *self._per_year)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_booked": self.transactions}
