"""A flow of one portfolio that takes an account over before it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.flow.account_flow import AccountFlow, BarParts
from optimizer.flow.containers.execution import Market
from optimizer.flow.event_flow import EventFlow
from optimizer.flow.portfolio_view import PortfolioView
from optimizer.types import Bar, Order, Regime, Signal

SMALL_CHANGE = 1e-6
"""Of equity: by no more than this may cash differ and still count as the same."""


@dataclass(frozen=True)
class Takeover:
    """What an account holds.

    Attributes:
        bar: index of the bar before whose decisions it is taken over.
        cash: money.
        lots: position of each symbol, signed.
        entries: mean entry price of each; None where it is unknown.
        forced: whether it is taken over even if it is what the flow holds.
    """

    bar: int
    cash: float
    lots: tuple[float, ...]
    entries: tuple[float | None, ...]
    forced: bool = True


class AccountTakingFlow(EventFlow):
    """A flow of one portfolio, which before the decisions of a bar may take another account over.

    Args:
        *parts: the arguments of ``EventFlow``.

    Attributes:
        takeover: what it takes over, once, if it differs from what it holds; None for nothing.
        taken_over: whether the last one did.
        expected: the cash and the lots in place of which it was taken.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.takeover: Takeover | None = None
        self.taken_over = False
        self.expected: tuple[float, tuple[float, ...]] = (0.0, ())
        self._seen: Takeover | None = None

    @property
    def account(self) -> AccountFlow:
        """The one portfolio."""
        (one,) = self._portfolios
        return one

    @property
    def lots(self) -> tuple[float, ...]:
        """Position of each symbol, signed, in lots."""
        return self.account.container.lots

    def view(self) -> PortfolioView:
        """The state of the portfolio."""
        return self.account.container.get_state()

    def _own_signals(self, one: AccountFlow, bar: Bar) -> list[Signal]:
        self._take_over(one, bar)
        return super()._own_signals(one, bar)

    def _decide(
        self, one: AccountFlow, parts: BarParts, signals: Sequence[Signal], regime: Regime
    ) -> tuple[Order, ...]:
        if self._take_over(one, parts.bar) and parts.refreshed:
            one.container.refresh_correlation()
        return super()._decide(one, parts, signals, regime)

    def _take_over(self, one: AccountFlow, bar: Bar) -> bool:
        """Take over what is due at a bar; whether that has happened, now or by ``_own_signals``."""
        given, container = self.takeover, one.container
        if given is None or given.bar != bar.index:
            return False
        if given is not self._seen:
            self._seen = given
            close = abs(given.cash - container.cash) <= SMALL_CHANGE * abs(container.equity)
            self.taken_over = given.forced or not close or given.lots != container.lots
            if self.taken_over:
                self.expected = container.cash, container.lots
                entries = given.entries
                container.take_over(given.cash, given.lots, entries, bar, self._ranges)
                one.note_stops(bar)
        return self.taken_over

    def market_of(self, bar: Bar) -> Market:
        """What the next bar's orders fill at: its opens, with what was known at the close before.

        Args:
            bar: the bar that comes next.
        """
        name = self.account.spec.strategy.volatility
        return Market(bar, bar.open, self._features[name], self._ranges)
