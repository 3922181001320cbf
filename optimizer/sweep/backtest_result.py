"""What one parameter set did, bar by bar and trade by trade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kernels.codes import ENTRIES, MARKET_ENTRY
from kernels.risk import reducing_part
from optimizer.study_file.space import Value
from optimizer.sweep.attribution import attribution
from optimizer.sweep.rules import Rules
from optimizer.sweep.tails import tail_metrics
from optimizer.sweep.trades import round_trips, with_excursions
from optimizer.types import Bars, FloatArray

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, repr=False)
class BacktestResult:
    """The result of one parameter set.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet")
    >>> result = optimizer.backtest(bars, {"strategy": "momentum", "momentum_lookback": 20})
    >>> len(result.returns) == len(result.equity) == len(result.positions)
    True
    >>> sorted(result.attribution()["by"].unique())
    ['regime', 'side', 'symbol', 'year']

    Attributes:
        parameters: the parameters by column name, defaults filled in; ``strategy`` and
            ``classifier`` by name.
        equity: money at each close from the first decision on; the index is the time of the bar.
        fills: one row a fill, see ``fill_table``.
        in_sample, out_of_sample: metrics by name; the latter None without a holdout, or while it is
            sealed.
        regimes: the regime code of each bar of ``equity``.
        bars: the bars, to the last one of ``equity``.
        rules: the rules of the account.
        waiting: what ``orders_next`` is made of, see ``Recording``.
        sums: what the metrics are made of, likewise.
    """

    parameters: dict[str, Value]
    equity: pd.Series[float]
    fills: pd.DataFrame
    in_sample: dict[str, float]
    out_of_sample: dict[str, float] | None
    regimes: pd.Series[int]
    bars: Bars
    rules: Rules
    waiting: Mapping[int, FloatArray] = field(default_factory=dict)
    sums: Mapping[int, FloatArray] = field(default_factory=dict)

    def before_holdout(self, n_bars: int) -> BacktestResult:
        """The in-sample part alone, as if nothing were known of the bars after it.

        Args:
            n_bars: bars of ``equity`` in-sample.
        """
        times = self.equity.index[:n_bars]
        stop = self._first + n_bars
        return replace(
            self,
            equity=self.equity.iloc[:n_bars],
            fills=self.fills[self.fills["timestamp"] <= times[-1]],
            out_of_sample=None,
            regimes=self.regimes.iloc[:n_bars],
            bars=self.bars.head(stop),
            waiting={stop: self.waiting[stop]},
            sums={n: sums for n, sums in self.sums.items() if n == stop},
        )

    @property
    def _first(self) -> int:
        """Bar of the first decision."""
        return self.bars.n_bars - len(self.equity)

    @cached_property
    def returns(self) -> pd.Series[float]:
        """Return of each bar, the first relative to the initial cash; 0 after ruin."""
        return returns_of(self.equity, self.rules.initial_cash).rename("return")

    @cached_property
    def _lots(self) -> FloatArray:
        """Signed lots held after each close of ``equity``, shape (n_bars, n_symbols)."""
        changes = np.zeros((len(self.equity), self.bars.n_symbols))
        at = pd.DatetimeIndex(self.equity.index).get_indexer(
            pd.DatetimeIndex(self.fills["timestamp"])
        )
        symbol = pd.Index(self.bars.symbols).get_indexer(pd.Index(self.fills["symbol"]))
        np.add.at(changes, (at, symbol), self.fills["lots"].to_numpy(np.float64))
        return np.cumsum(changes, axis=0)

    @cached_property
    def values(self) -> FloatArray:
        """Signed value of each position at each close, money, shape (n_bars, n_symbols)."""
        closes = self.bars.close[self._first :]
        return np.asarray(self._lots * closes * self.rules.lot_money)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Signed units held after each close, a column per symbol."""
        return self._by_symbol(self._lots * self.rules.lot_units)

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Signed value of each position at the close over equity, a column per symbol; 0 after ruin."""
        equity = self.equity.to_numpy(np.float64)[:, np.newaxis]
        shares = np.divide(self.values, equity, out=np.zeros_like(self.values), where=equity > 0)
        return self._by_symbol(shares)

    def _by_symbol(self, values: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(values, self.equity.index, pd.Index(self.bars.symbols, name="symbol"))

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Every trade, from flat to flat: see ``round_trips`` and, for ``mae`` and ``mfe``,
        ``with_excursions``; positions that are still held come last, with ``end`` open.
        """
        closes = dict(zip(self.bars.symbols, self.bars.close[-1].tolist(), strict=True))
        times = pd.DatetimeIndex(self.equity.index)
        trades = round_trips(self.fills, times, closes)
        return with_excursions(trades, self.bars, at_close=self.rules.close_fill)

    @property
    def open_positions(self) -> dict[str, float]:
        """Signed units held after the last bar, by symbol; they are valued there and are no trades."""
        held: dict[str, float] = {}
        for symbol, fills in self.fills.groupby("symbol", sort=False):
            lots = float(fills["lots"].sum())
            if lots != 0.0:
                held[str(symbol)] = lots * float((fills["quantity"] / fills["lots"]).iloc[0])
        return held

    @property
    def orders_next(self) -> pd.DataFrame:
        """What is decided at the last close, and would fill in the bar after it.

        A row an order: ``symbol``, ``quantity`` (signed units), ``entry`` (``market``, ``limit`` or
        ``stop``) and ``level``, the price at which it waits, NaN at the market. Exits by stop or target
        are no orders. With fills at the close nothing is left to fill.
        """
        lots, orders, levels, left = self.waiting[self.bars.n_bars]
        if self.rules.close_fill:  # filled at the close at which they were decided
            orders = np.zeros_like(orders)
        short = True if self.rules.allow_short else None
        rows = []
        for s, symbol in enumerate(self.bars.symbols):
            waits = self.rules.entry != MARKET_ENTRY and left[s] != 0.0
            at_once = reducing_part(orders[s], lots[s], short) if waits else orders[s]
            parts = (
                (at_once, MARKET_ENTRY, np.nan),
                (orders[s] - at_once, self.rules.entry, levels[s]),
            )
            for change, entry, level in parts:
                if change != 0.0:
                    units = change * self.rules.lot_units[s]
                    rows.append((symbol, units, ENTRIES[entry], level))
        return pd.DataFrame(rows, columns=["symbol", "quantity", "entry", "level"])

    @property
    def stats(self) -> pd.DataFrame:
        """The metrics, one row each: ``in_sample`` and, where it may be shown, ``out_of_sample``.

        Those of ``tail_metrics``, of the returns of each bar, come last.
        """
        returns: FloatArray = np.asarray(self.returns, np.float64)
        split = min(self.waiting) - self._first
        stats = {"in_sample": {**self.in_sample, **tail_metrics(returns[:split])}}
        if self.out_of_sample is not None:
            stats["out_of_sample"] = {**self.out_of_sample, **tail_metrics(returns[split:])}
        return pd.DataFrame(stats).rename_axis("metric")

    def attribution(self) -> pd.DataFrame:
        """Where the profit came from: by symbol, by side, by regime and by year.

        Each of the four adds up to all that was gained. A bar counts for the regime that was known at
        the close before. ``carry`` is what no symbol's trades made: interest, borrow fees and payments.

        Returns:
            Columns ``by``, ``name`` and ``profit`` (money, net of costs).
        """
        gained = np.diff(self.equity.to_numpy(np.float64), prepend=self.rules.initial_cash)
        held = dict(zip(self.bars.symbols, self.values[-1].tolist(), strict=True))
        return attribution(pd.Series(gained, self.equity.index), held, self.fills, self.regimes)

    def plot(self) -> go.Figure:
        """The equity, the drawdown and the exposure as a figure, see ``plot_backtest``."""
        # Through the door of the package: this layer is above that of the figures.
        import optimizer

        return optimizer.plot_backtest(self)

    def __repr__(self) -> str:
        """The result in a line: strategy, profit, Sharpe ratio and trades."""
        sharpe, n_trades = self.in_sample["sharpe"], self.in_sample["n_trades"]
        total = float(self.equity.iloc[-1]) / self.rules.initial_cash - 1.0
        return (
            f"<BacktestResult of {self.parameters['strategy']}: {total:+.1%} in"
            f" {len(self.equity):,} bars; in-sample Sharpe ratio {sharpe:.2f}, {n_trades:.0f} trades>"
        )


def returns_of(equity: pd.Series[float], before: float) -> pd.Series[float]:
    """Returns from value to value.

    Args:
        equity: money, shape (n,).
        before: money before the first of them.

    Returns:
        (n,) fractions; 0 where there is no equity left to earn a return.
    """
    returns = equity / equity.shift(1, fill_value=before) - 1.0
    return returns.where(np.isfinite(returns), 0.0)
