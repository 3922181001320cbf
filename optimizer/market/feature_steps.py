"""Features one bar at a time, with the bits of ``compute_features`` at that bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optimizer.errors import StrategyError
from optimizer.market.clock import MarketClock, Moments
from optimizer.market.feature_keys import (
    BAR_FIELDS,
    PANEL,
    FeatureKey,
    FeatureName,
    given_warm_up,
    indicator_name,
    read_name,
    sorted_keys,
    split_parameters,
)
from optimizer.market.features import FeatureColumns, GivenFeature, new_state, step
from optimizer.market.panel import PanelHistory, compared
from optimizer.market.slower import SlowerBars
from optimizer.market.time_features import TIME_FEATURES, time_values
from optimizer.market.timeframes import Periods, Resampler, periods
from optimizer.types import Bar, FloatArray, IntArray, MaskArray

_BarValues = Mapping[str, float]


class _History:
    """All bars so far that each symbol has, those of a symbol contiguous."""

    def __init__(self, n_symbols: int) -> None:
        self.n_bars = np.zeros(n_symbols, dtype=np.int64)
        self._arrays = {name: np.empty((n_symbols, 1024)) for name in BAR_FIELDS}

    def add(self, symbol: int, bar: _BarValues) -> None:
        """Take the next bar of a symbol."""
        place = self.n_bars[symbol]
        for name, array in self._arrays.items():
            if place == array.shape[1]:
                array = np.concatenate((array, np.empty_like(array)), axis=1)
                self._arrays[name] = array
            array[symbol, place] = bar[name]
        self.n_bars[symbol] += 1

    def of(self, symbol: int) -> dict[str, FloatArray]:
        """Bars of one symbol by field, each of shape (n_own,)."""
        own = self.n_bars[symbol]
        return {name: array[symbol, :own] for name, array in self._arrays.items()}


class _Slower:
    """The bars of a second file, each given once it has closed."""

    def __init__(self, symbol: int, slower: SlowerBars) -> None:
        self._fields, self._ends = slower.of_symbol(symbol)
        self._n_given = 0

    def until(self, end: int) -> list[_BarValues]:
        """Those that have closed by a time and were not given yet."""
        n_closed = int(np.searchsorted(self._ends, end, side="right"))
        rows = range(self._n_given, n_closed)
        self._n_given = max(self._n_given, n_closed)
        return [{name: float(values[row]) for name, values in self._fields.items()} for row in rows]


class _Bars:
    """The bars on which some features are computed: those of the study, or longer ones."""

    def __init__(self, n_symbols: int, timeframe: str | None, clock: MarketClock | None) -> None:
        self.timeframe = timeframe
        self.history: _History | None = None
        self._resamplers = [Resampler() for _ in range(n_symbols)]
        slower = None if clock is None else clock.slower
        own = slower is not None and slower.timeframe == timeframe
        self._slower = [_Slower(s, slower) for s in range(n_symbols)] if slower and own else None

    def new(
        self, symbol: int, bar: _BarValues, end: int, found: Mapping[str, Periods]
    ) -> Sequence[_BarValues]:
        """The bars that are there with the next bar of a symbol, which closes at ``end``."""
        if self.timeframe is None:
            return [bar]
        if self._slower is not None:
            return self._slower[symbol].until(end)
        return self._resamplers[symbol].add(bar, found[self.timeframe])


@dataclass(frozen=True, eq=False)
class _Column:
    """One feature of all symbols."""

    key: FeatureKey
    name: FeatureName
    own: tuple[float, ...]
    compared: tuple[float, ...]
    bars: _Bars | None
    inner: FloatArray
    states: list[FloatArray] = field(default_factory=list)


class FeatureSteps:
    """The features of all symbols, one bar at a time.

    Args:
        symbols: the symbols in the order of the bars' columns.
        keys: features to compute.
        given: features of the user's strategies by name. They are computed again at each bar from
            all bars so far, so their time grows with the square of the bars.
        clock: the days and sessions of the market; None where no feature needs them.
        tradable: which symbols are compared at each bar, 1 or 0, shape (n_bars, n_symbols); None
            compares all.
    """

    def __init__(
        self,
        symbols: tuple[str, ...],
        keys: Sequence[FeatureKey],
        given: Mapping[str, GivenFeature],
        clock: MarketClock | None = None,
        tradable: MaskArray | None = None,
    ) -> None:
        n_symbols = len(symbols)
        self._symbols = symbols
        self._given, self._clock, self._tradable = given, clock, tradable
        self._known: FeatureColumns | None = None
        self._bars: dict[str | None, _Bars] = {}
        self._columns: list[_Column] = []
        self._panel: PanelHistory | None = None
        self._n_own = np.zeros(n_symbols, dtype=np.int64)
        for key in sorted_keys(keys):
            name = read_name(key[0])
            own, compares = split_parameters(name, key[1:])
            bars, states = None, []
            if name.across == PANEL:
                self._panel = self._panel or PanelHistory(symbols)
            elif name.feature not in TIME_FEATURES:
                bars = self._bars.setdefault(
                    name.timeframe, _Bars(n_symbols, name.timeframe, clock)
                )
                if name.given:
                    bars.history = bars.history or _History(n_symbols)
                else:
                    states = [new_state((name.feature, *own)) for _ in symbols]
            inner = np.full(n_symbols, np.nan)
            self._columns.append(_Column(key, name, own, compares, bars, inner, states))
        self._sessions: IntArray = np.full(n_symbols, -1)
        self._values = {
            indicator_name(one.key): np.full(n_symbols, np.nan) for one in self._columns
        }
        self._timed = any(
            one.name.timeframe or one.name.feature in TIME_FEATURES for one in self._columns
        )

    def extend(
        self,
        clock: MarketClock | None,
        tradable: MaskArray | None,
        known: FeatureColumns | None = None,
    ) -> None:
        """Let the features go on beyond the bars for which they were made.

        Args:
            clock: the days and sessions of more bars, the first ones of which are those; None where no
                feature needs them.
            tradable: which symbols are compared at each of them.
            known: the features of the user's strategies at all of these bars, which need not be computed
                again at each of them; None if they are.
        """
        # Sessions are numbered from the first day on, which more bars leave as it is.
        self._clock, self._tradable, self._known = clock, tradable, known

    def step(self, bar: Bar) -> dict[str, FloatArray]:
        """Take the next bar.

        Args:
            bar: the one after the last.

        Returns:
            The features by name, such as ``momentum_60``, each of shape (n_symbols,); a symbol without a
            bar keeps its values.

        Raises:
            StrategyError: a user's feature raised; names its line, the bar and the symbol.
        """
        there = np.ones(len(self._n_own), np.uint8) if bar.present is None else bar.present
        own = np.flatnonzero(there).tolist()
        self._n_own[own] += 1
        fields = {s: {name: float(getattr(bar, name)[s]) for name in BAR_FIELDS} for s in own}
        now = self._moment(bar)
        new = self._new_bars(fields, now)
        marks = there if self._tradable is None else there & self._tradable[bar.index]
        if self._panel is not None:
            all_fields = {name: getattr(bar, name) for name in BAR_FIELDS}
            self._panel.add(bar.time, all_fields, there, marks)
        values = {name: column.copy() for name, column in self._values.items()}
        place = f"bar {bar.index} at {bar.time}"
        for one in self._columns:
            out = values[indicator_name(one.key)]
            if one.name.given and self._known is not None:
                out[own] = self._known.values[bar.index, own, self._known.index(one.key)]
            elif one.name.feature in TIME_FEATURES:
                assert self._clock is not None and now is not None
                found = time_values(one.name.feature, self._clock, now, self._sessions[own])
                out[own] = found
            elif one.name.across == PANEL:
                self._panel_values(one, own, out, place)
            else:
                inner = out if one.name.across is None else one.inner
                self._own_values(one, new, inner, place)
                if one.name.across is not None:
                    rows = inner[np.newaxis], marks[np.newaxis]
                    found = compared(one.name.across, *rows, one.compared)[0]
                    out[own] = found[own]
        if now is not None:
            self._sessions[own] = now.sessions[0]
        self._values = values
        return values

    def _moment(self, bar: Bar) -> Moments | None:
        if not self._timed:
            return None
        if self._clock is None:
            raise ValueError("features of time or of a timeframe need a clock")
        return self._clock.at(np.array([bar.time], dtype="datetime64[ns]"))

    def _new_bars(
        self, fields: Mapping[int, _BarValues], now: Moments | None
    ) -> dict[str | None, dict[int, Sequence[_BarValues]]]:
        """The bars of each timeframe that each symbol has with the bar now."""
        found: dict[str, Periods] = {}
        end = 0
        for timeframe in self._bars:
            if timeframe is not None:
                assert self._clock is not None and now is not None
                found[timeframe] = periods(timeframe, self._clock, now)
                end = int(self._clock.ends(now)[0])
        new = {
            timeframe: {s: bars.new(s, bar, end, found) for s, bar in fields.items()}
            for timeframe, bars in self._bars.items()
        }
        for timeframe, bars in self._bars.items():
            if bars.history is not None:
                for s, rows in new[timeframe].items():
                    for row in rows:
                        bars.history.add(s, row)
        return new

    def _own_values(
        self,
        one: _Column,
        new: Mapping[str | None, Mapping[int, Sequence[_BarValues]]],
        out: FloatArray,
        place: str,
    ) -> None:
        assert one.bars is not None
        key: FeatureKey = (one.name.feature, *one.own)
        for s, rows in new[one.name.timeframe].items():
            for row in rows if one.states else ():
                out[s] = step(key, one.states[s], row)
            history = None if one.states or not rows else one.bars.history
            if history is not None and history.n_bars[s] > given_warm_up(one.name, one.own):
                where = f"{place} of {self._symbols[s]}"
                out[s] = self._returned(one, history.of(s), where)[-1]

    def _panel_values(self, one: _Column, own: Sequence[int], out: FloatArray, place: str) -> None:
        used = [s for s in own if self._n_own[s] > given_warm_up(one.name, one.own)]
        if used and self._panel is not None:
            out[used] = self._returned(one, self._panel.fields(), place)[-1][used]

    def _returned(self, one: _Column, fields: Mapping[str, Any], place: str) -> FloatArray:
        """What a user's function returns, or its error with the bar."""
        try:
            return self._given[one.name.function](fields, one.own)
        except StrategyError as error:
            raise type(error)(f"{error}; at {place}") from None
