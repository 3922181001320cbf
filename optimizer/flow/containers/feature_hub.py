"""Features of the last bar, updated bar by bar with the kernels that fill the columns of the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from kernels.correlation import correlation_state_size, correlation_step
from kernels.regimes import market_features_step, market_return_step
from optimizer.errors import DataError
from optimizer.market.features import FeatureKey, GivenFeature, new_state, sorted_keys, step
from optimizer.types import Bar, FloatArray

Indicators = Mapping[str, FloatArray]
"""Features of a bar by name, such as ``momentum_60``, each of shape (n_symbols,); NaN in its warm-up."""


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array


def indicator_name(key: FeatureKey) -> str:
    """The name of a feature among the hub's values, such as ``sma_20``.

    Args:
        key: name and lookback.
    """
    return f"{key[0]}_{key[1]}"


class _History:
    """All bars so far, those of a symbol contiguous."""

    _FIELDS = ("open", "high", "low", "close", "volume")

    def __init__(self, n_symbols: int) -> None:
        self.n_bars = 0
        self._arrays = {name: np.empty((n_symbols, 1024)) for name in self._FIELDS}

    def add(self, bar: Bar) -> None:
        """Take the next bar."""
        for name, array in self._arrays.items():
            if self.n_bars == array.shape[1]:
                array = np.concatenate((array, np.empty_like(array)), axis=1)
                self._arrays[name] = array
            array[:, self.n_bars] = getattr(bar, name)
        self.n_bars += 1

    def of(self, symbol: int) -> dict[str, FloatArray]:
        """Bars of one symbol by field, each of shape (n_bars,)."""
        return {name: array[symbol, : self.n_bars] for name, array in self._arrays.items()}


class FeatureHub:
    """Features of all symbols, one bar at a time.

    Args:
        symbols: the symbols in the order of the bars' columns.
        keys: features to compute.
        market_lookbacks: windows of the market's features, for classifiers, by market: a symbol,
            or None for the equal-weighted index.
        correlation: (lookback, refresh, first bar) of the correlation matrix; None without one.
        given: features of the user's strategies by name. They are computed again at each bar from
            all bars so far, so their time grows with the square of the bars.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        keys: Sequence[FeatureKey],
        market_lookbacks: Sequence[tuple[str | None, int]] = (),
        correlation: tuple[int, int, int] | None = None,
        given: Mapping[str, GivenFeature] | None = None,
    ) -> None:
        self._symbols = symbols
        every = sorted_keys(keys)
        self._keys = [key for key in every if "." not in key[0]]
        self._given = [(key, (given or {})[key[0]]) for key in every if "." in key[0]]
        self._history = _History(len(symbols))
        self._states = [[new_state(key) for _ in symbols] for key in self._keys]
        self._columns: dict[str | None, list[int]] = {}
        for market, _ in market_lookbacks:
            if market is not None and market not in symbols:
                raise DataError(f"no symbol {market!r} to take as the market")
            whole = list(range(len(symbols)))
            self._columns[market] = whole if market is None else [symbols.index(market)]
        self._returns: dict[str | None, list[float]] = {market: [] for market in self._columns}
        self._rings = {
            (market, lookback): (np.zeros(lookback), np.zeros(1, np.int64), np.empty(2))
            for market, lookback in market_lookbacks
        }
        self._correlation = correlation
        if correlation is not None:
            n = len(symbols)
            self._correlation_state = np.zeros(correlation_state_size(correlation[0], n))
            self._matrix = _read_only(np.zeros((n, n)))
        self._previous: FloatArray | None = None
        self._latest: Bar | None = None
        self.correlation_refreshed = False

    def calculate_indicators(self, bar: Bar) -> Indicators:
        """Take the next bar.

        Args:
            bar: the one after the last.

        Returns:
            Its features, read-only.

        Raises:
            StrategyError: a user's feature raised.
        """
        values: dict[str, FloatArray] = {}
        for key, states in zip(self._keys, self._states, strict=True):
            column = np.empty(len(self._symbols))
            for s, state in enumerate(states):
                column[s] = step(
                    key, state, float(bar.high[s]), float(bar.low[s]), float(bar.close[s])
                )
            values[indicator_name(key)] = _read_only(column)
        if self._given:
            self._history.add(bar)
            for key, feature in self._given:
                column = np.full(len(self._symbols), np.nan)
                for s in range(len(self._symbols) if self._history.n_bars > key[1] else 0):
                    column[s] = feature(self._history.of(s), key[1])[-1]
                values[indicator_name(key)] = _read_only(column)
        close = np.array(bar.close)
        for market, columns in self._columns.items():
            own = close[columns]
            before = self._previous
            moved = 0.0 if before is None else market_return_step(before[columns], own)
            self._returns[market].append(moved)
        for (market, _), (ring, seen, features) in self._rings.items():
            market_features_step(self._returns[market][-1], ring, seen, features)
        self._update_correlation(bar, close)
        self._previous = close
        self._latest = bar
        return MappingProxyType(values)

    def _update_correlation(self, bar: Bar, close: FloatArray) -> None:
        if self._correlation is None:
            return
        lookback, refresh, first = self._correlation
        wanted = bar.index >= first and (bar.index - first) % refresh == 0
        self.correlation_refreshed = wanted
        out = np.empty_like(self._matrix)
        correlation_step(self._correlation_state, close, lookback, wanted, out)
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

    def market_returns(self, market: str | None) -> FloatArray:
        """All log returns of the market so far, shape (n_bars,), read-only; 0 at the first bar.

        Args:
            market: a symbol, or None for the index.
        """
        return _read_only(np.array(self._returns[market]))
