"""Features of the last bar, updated bar by bar with the kernels that fill the columns of the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from kernels.correlation import N_SPAN_ROWS, joint_correlation_step
from kernels.regimes import joint_market_return_step, market_features_step
from optimizer.errors import DataError
from optimizer.flow.order_of_bars import require_next
from optimizer.market.clock import MarketClock
from optimizer.market.feature_keys import FeatureKey
from optimizer.market.feature_steps import FeatureSteps
from optimizer.market.features import FeatureColumns, GivenFeature
from optimizer.types import Bar, FloatArray, MaskArray

Indicators = Mapping[str, FloatArray]
"""Features of a bar by name, such as ``momentum_60``, each of shape (n_symbols,); NaN in the warm-up of a
symbol. Where a symbol has no bar, it keeps the values of its last one."""


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array


class _Market:
    """The log returns of one symbol at its own bars, or of the index of all at every bar."""

    def __init__(self, columns: Sequence[int]) -> None:
        self.n_bars = 0
        self.has_bar = False
        self._returns = np.empty(1024)
        self._columns = list(columns)
        self._seen = np.zeros(len(columns), dtype=np.bool_)
        self._pairs = np.empty((2, len(columns)))

    def add(self, previous: FloatArray, close: FloatArray, there: MaskArray, whole: bool) -> None:
        """Take the next bar; ``whole`` says whether it counts where no symbol has it."""
        own = there[self._columns]
        self.has_bar = whole or bool(own.any())
        if self.has_bar:
            before, now = previous[self._columns], close[self._columns]
            moved = joint_market_return_step(before, now, own, self._seen, self._pairs)
            if self.n_bars == len(self._returns):
                self._returns = np.concatenate((self._returns, np.empty_like(self._returns)))
            self._returns[self.n_bars] = moved
            self.n_bars += 1

    @property
    def returns(self) -> FloatArray:
        """Those so far, read-only; bars to come do not change them."""
        return _read_only(self._returns[: self.n_bars])


class _Correlations:
    """The correlations of all symbols, on the bars that two of them have in common."""

    def __init__(self, n_symbols: int, lookback: int) -> None:
        self._lookback = lookback
        self._close = np.empty((1024, n_symbols))
        self._present = np.empty((1024, n_symbols), dtype=np.uint8)
        self._spans = np.zeros((N_SPAN_ROWS, n_symbols), dtype=np.int64)

    def step(self, bar: int, close: FloatArray, there: MaskArray, wanted: bool) -> FloatArray:
        """Take bar ``bar``; the matrix, which means something if it is ``wanted``."""
        if bar == len(self._close):
            self._close = np.concatenate((self._close, np.empty_like(self._close)))
            self._present = np.concatenate((self._present, np.empty_like(self._present)))
        self._close[bar], self._present[bar] = close, there
        out = np.empty((len(close), len(close)))
        joint_correlation_step(
            self._close, self._present, bar, self._spans, self._lookback, wanted, out
        )
        return out


class FeatureHub:
    """Features of all symbols, one bar at a time.

    Args:
        symbols: the symbols in the order of the bars' columns.
        keys: features to compute.
        market_lookbacks: windows of the market's features, for classifiers, by market: a symbol,
            or None for the equal-weighted index.
        correlation: (lookback, refresh, first bar) of the correlation matrix; None without one.
        given, clock, tradable: those of ``FeatureSteps``.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        keys: Sequence[FeatureKey],
        market_lookbacks: Sequence[tuple[str | None, int]] = (),
        correlation: tuple[int, int, int] | None = None,
        given: Mapping[str, GivenFeature] | None = None,
        clock: MarketClock | None = None,
        tradable: MaskArray | None = None,
    ) -> None:
        self._symbols = symbols
        self._features = FeatureSteps(symbols, keys, given or {}, clock, tradable)
        self._markets: dict[str | None, _Market] = {}
        for market, _ in market_lookbacks:
            if market is not None and market not in symbols:
                raise DataError(f"no symbol {market!r} to take as the market")
            whole = list(range(len(symbols)))
            self._markets[market] = _Market(whole if market is None else [symbols.index(market)])
        self._rings = {
            (market, lookback): (np.zeros(lookback), np.zeros(1, np.int64), np.empty(2))
            for market, lookback in market_lookbacks
        }
        self._correlation = correlation
        if correlation is not None:
            n = len(symbols)
            self._correlations = _Correlations(n, correlation[0])
            self._matrix = _read_only(np.zeros((n, n)))
        self._previous: FloatArray | None = None
        self._latest: Bar | None = None
        self.correlation_refreshed = False

    def extend(
        self,
        clock: MarketClock | None,
        tradable: MaskArray | None,
        known: FeatureColumns | None = None,
    ) -> None:
        """Let the features go on beyond the bars for which they were made.

        Args:
            clock, tradable, known: those of more bars, see ``FeatureSteps.extend``.
        """
        self._features.extend(clock, tradable, known)

    def calculate_indicators(self, bar: Bar) -> Indicators:
        """Take the next bar.

        Args:
            bar: the one after the last.

        Returns:
            Its features, read-only.

        Raises:
            DataError: the bar is out of order or has other symbols.
            StrategyError: a user's feature raised; names its line, the bar and the symbol.
        """
        require_next(bar, self._symbols, self._latest)
        n_symbols = len(self._symbols)
        there = np.ones(n_symbols, np.uint8) if bar.present is None else bar.present
        values = self._features.step(bar)
        close = np.array(bar.close)
        before = close if self._previous is None else self._previous
        for name, market in self._markets.items():
            market.add(before, close, there, whole=name is None)
        for (name, _), (ring, seen, features) in self._rings.items():
            if self._markets[name].has_bar:
                market_features_step(self._markets[name].returns[-1], ring, seen, features)
        self._update_correlation(bar, close, there)
        found = {name: _read_only(column) for name, column in values.items()}
        self._previous = close
        self._latest = bar
        return MappingProxyType(found)

    def _update_correlation(self, bar: Bar, close: FloatArray, there: MaskArray) -> None:
        if self._correlation is None:
            return
        _, refresh, first = self._correlation
        wanted = bar.index >= first and (bar.index - first) % refresh == 0
        self.correlation_refreshed = wanted
        out = self._correlations.step(bar.index, close, there, wanted)
        if wanted:
            out[np.isnan(out)] = 0.0
            np.fill_diagonal(out, 1.0)
            self._matrix = _read_only(out)

    def get_latest_market_data(self) -> Bar:
        """The last bar.

        Raises:
            DataError: no bar has come yet.
        """
        if self._latest is None:
            raise DataError("no bar yet")
        return self._latest

    def get_correlation_matrix(self) -> FloatArray | None:
        """The last correlations, shape (n_symbols, n_symbols), read-only; None if they are unused."""
        return self._matrix if self._correlation is not None else None

    def market_features(self, market: str | None, lookback: int) -> FloatArray:
        """The mean and standard deviation of the last log returns of the market, shape (1, 2), read-only.

        Args:
            market: a symbol, or None for the index.
            lookback: bars.
        """
        return _read_only(self._rings[market, lookback][2].reshape(1, 2).copy())

    def market_has_bar(self, market: str | None) -> bool:
        """Whether the market has the last bar; the index has every bar.

        Args:
            market: a symbol, or None for the index.
        """
        return self._markets[market].has_bar

    def market_bars(self, market: str | None) -> int:
        """The number of bars that the market has so far.

        Args:
            market: a symbol, or None for the index.
        """
        return self._markets[market].n_bars

    def market_returns(self, market: str | None) -> FloatArray:
        """All log returns of the market so far, at the bars that it has, read-only; 0 at the first.

        Args:
            market: a symbol, or None for the index.

        Returns:
            Shape (n_bars,), see ``market_bars``.
        """
        return self._markets[market].returns
