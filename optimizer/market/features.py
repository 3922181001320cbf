"""The feature columns that a study shares: computed once, read by every lane.

Thin over ``kernels``: ``compute_features`` fills whole columns, and ``FeatureSteps`` gives the event flow
the same bits one bar at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimizer.errors import StrategyError
from optimizer.market.clock import MarketClock, market_clock
from optimizer.market.feature_keys import (
    BAR_FIELDS,
    PANEL,
    FeatureKey,
    FeatureName,
    check_key,
    given_warm_up,
    read_name,
    sorted_keys,
    split_parameters,
    warm_up,
)
from optimizer.market.feature_table import FEATURES
from optimizer.market.panel import compared, of_own_bars, panel_fields
from optimizer.market.time_features import TIME_FEATURES, time_values
from optimizer.market.timeframes import LongerBars, longer_bars_of
from optimizer.types import Bars, FloatArray, MaskArray

GivenFeature = Callable[[Mapping[str, Any], tuple[float, ...]], FloatArray]
"""A user's feature: of the bars of one symbol (open, high, low, close, volume by name, each
(n_bars,)) and the feature's parameters to its values (n_bars,), NaN during ``given_warm_up``. One of a
panel: of ``PANEL_FIELDS`` of all symbols to values (n_bars, n_symbols)."""

_NONE_GIVEN: Mapping[str, GivenFeature] = {}


@dataclass(frozen=True, eq=False)
class FeatureColumns:
    """Feature columns of all symbols.

    Attributes:
        keys: sorted, each once; the order of the columns.
        values: (n_bars, n_symbols, n_columns), float64, C-contiguous, read-only, so that the lanes
            of one tile read a bar's columns from one place. NaN during a feature's warm-up, which each
            symbol begins at its own first bar.
    """

    keys: tuple[FeatureKey, ...]
    values: FloatArray

    def __post_init__(self) -> None:
        if list(self.keys) != sorted(set(self.keys)):
            raise ValueError(f"feature keys must be sorted and unique, got {self.keys!r}")
        if self.values.ndim != 3 or self.values.shape[2] != len(self.keys):
            raise ValueError(
                f"feature values must be (n_bars, n_symbols, {len(self.keys)}), "
                f"got {self.values.shape}"
            )
        self.values.flags.writeable = False

    def index(self, key: FeatureKey) -> int:
        """The column of ``key``.

        Args:
            key: name and parameters.

        Raises:
            StrategyError: there is no such column.
        """
        checked = check_key(key)
        column = bisect_left(self.keys, checked)
        if column == len(self.keys) or self.keys[column] != checked:
            raise StrategyError(f"feature {checked!r} was not computed: columns are {self.keys!r}")
        return column

    @property
    def warm_up(self) -> int:
        """Longest warm-up of its keys, in bars: from this bar on, every column is defined.

        It may exceed the number of bars; then at least one column is NaN throughout.
        """
        return max(map(warm_up, self.keys), default=0)


def compute_features(
    bars: Bars,
    keys: Sequence[FeatureKey],
    given: Mapping[str, GivenFeature] = _NONE_GIVEN,
    clock: MarketClock | None = None,
    tradable: MaskArray | None = None,
) -> FeatureColumns:
    """Compute each feature of each symbol, on the bars that the symbol has.

    Where a symbol has no bar, its columns keep the values of its last one; before its first they are
    NaN.

    Args:
        bars: the bars of all symbols; a column whose lookback exceeds n_bars is NaN throughout.
        keys: the keys in any order; repeated ones are computed once.
        given: features of the user's strategies by name.
        clock: the days and sessions of the market; None takes days of UTC.
        tradable: which symbols are compared at each bar, 1 or 0, shape (n_bars, n_symbols); None
            compares all. Those without a bar or without a value are left out.

    Returns:
        A column for each distinct key.

    Raises:
        StrategyError: a name is unknown, a lookback is out of bounds, a timeframe is no longer than the
            bars, or a user's feature raised.
    """
    columns = sorted_keys(keys)
    names = [read_name(name) for name, *_ in columns]
    timed = any(name.timeframe or name.feature in TIME_FEATURES for name in names)
    if timed and clock is None:
        clock = market_clock(bars.timestamps)
    values = np.empty((bars.n_bars, bars.n_symbols, len(columns)))
    for symbol in range(bars.n_symbols):
        own = _Own(bars, symbol, clock, given)
        for column, (name, (_, *parameters)) in enumerate(zip(names, columns, strict=True)):
            if name.across != PANEL:
                found = own.values(name, split_parameters(name, parameters)[0])
                values[:, symbol, column] = bars.carried(symbol, found, np.nan)
    marks = np.ones((bars.n_bars, bars.n_symbols), np.uint8) if tradable is None else tradable
    present = marks if bars.present is None else marks & bars.present
    for column, (name, (_, *parameters)) in enumerate(zip(names, columns, strict=True)):
        if name.across is None:
            continue
        if name.across == PANEL:
            returned = given[name.function](panel_fields(bars, present), tuple(parameters))
            across = of_own_bars(bars, returned, given_warm_up(name, parameters))
        else:
            _, own_parameters = split_parameters(name, parameters)
            across = compared(name.across, values[:, :, column], present, own_parameters)
        for s in range(bars.n_symbols):
            values[:, s, column] = bars.carried(s, across[bars.own(s), s], np.nan)
    return FeatureColumns(columns, values)


class _Own:
    """The features of one symbol on its own bars."""

    def __init__(
        self,
        bars: Bars,
        symbol: int,
        clock: MarketClock | None,
        given: Mapping[str, GivenFeature],
    ) -> None:
        own = bars.own(symbol)
        self._symbol = symbol
        # Copies, so that the bars of a symbol are contiguous, and writeable: numba would compile a
        # kernel once more for read-only inputs.
        self._fields = {name: np.array(getattr(bars, name)[own, symbol]) for name in BAR_FIELDS}
        self._given = given
        self._whole = bars.present is None
        self._longer: dict[str, LongerBars] = {}
        self._clock = clock
        self._timestamps = bars.timestamps[own]

    def values(self, name: FeatureName, parameters: tuple[float, ...]) -> FloatArray:
        """A feature at the symbol's own bars, shape (n_own,)."""
        if name.feature in TIME_FEATURES:
            assert self._clock is not None
            now = self._clock.at(self._timestamps)
            before = np.concatenate(([-1], now.sessions))[:-1]
            return time_values(name.feature, self._clock, now, before)
        if name.timeframe is None:
            return self._computed(name, parameters, self._fields)
        if name.timeframe not in self._longer:
            assert self._clock is not None
            now = self._clock.at(self._timestamps)
            self._longer[name.timeframe] = longer_bars_of(
                name.timeframe, self._clock, now, self._symbol, self._fields
            )
        longer = self._longer[name.timeframe]
        return longer.seen(self._computed(name, parameters, longer.fields))

    def _computed(
        self, name: FeatureName, parameters: tuple[float, ...], fields: dict[str, FloatArray]
    ) -> FloatArray:
        n_bars = len(fields["close"])
        if name.feature == "close":
            return fields["close"]
        if not name.given:
            feature, out = FEATURES[name.feature], np.empty(n_bars)
            inputs = [fields[one] for one in feature.inputs]
            feature.series(*inputs, *parameters, np.zeros(feature.state_size(*parameters)), out)
            return out
        if n_bars > given_warm_up(name, parameters) or (self._whole and name.timeframe is None):
            return self._given[name.function](fields, parameters)
        # A symbol may have fewer bars than a feature of the user's was written for.
        return np.full(n_bars, np.nan)


def bars_of_warm_up(bars: Bars, keys: Sequence[FeatureKey], clock: MarketClock) -> int:
    """The number of bars of its own that a symbol has before every feature is defined.

    Args:
        bars: the bars of all symbols; those of a symbol that ends before count as its whole history.
        keys: the features.
        clock: the days and sessions of the market.

    Returns:
        The most of any symbol, in bars of the study: how many make a longer bar is in the bars.

    Raises:
        StrategyError: a name is unknown, or a timeframe is no longer than the bars.
    """
    longest = 0
    needed: dict[str, int] = {}
    for key in keys:
        timeframe = read_name(key[0]).timeframe
        if timeframe is None:
            longest = max(longest, warm_up(key))
        else:
            needed[timeframe] = max(needed.get(timeframe, 0), warm_up(key) + 1)
    for s in range(bars.n_symbols if needed else 0):
        own = bars.own(s)
        fields = {name: np.array(getattr(bars, name)[own, s]) for name in BAR_FIELDS}
        now = clock.at(bars.timestamps[own])
        for timeframe, count in needed.items():
            closed = longer_bars_of(timeframe, clock, now, s, fields).closed
            longest = max(longest, int(np.searchsorted(closed, count)))
    return longest


def new_state(key: FeatureKey) -> FloatArray:
    """Fresh state of one feature of one symbol, for `step`.

    Args:
        key: name and parameters of a built-in feature of one symbol, on the bars themselves.

    Returns:
        The state, shape (n,), where n depends on the feature and its parameters.

    Raises:
        StrategyError: the name is unknown, or a parameter is out of bounds.
    """
    name, *parameters = check_key(key)
    return np.zeros(0 if name == "close" else FEATURES[name].state_size(*parameters))


def step(key: FeatureKey, state: FloatArray, bar: Mapping[str, float]) -> float:
    """Take one bar of one symbol.

    The bits are those of ``compute_features`` at that bar.

    Args:
        key: the key as given to `new_state`, which has checked it.
        state: the state that `new_state` returned, changed in place.
        bar: open, high, low, close and volume of the bar, by name.

    Returns:
        The feature's value, NaN during its warm-up.
    """
    name, *parameters = key
    if name == "close":
        return bar["close"]
    feature = FEATURES[name]
    return feature.step(state, *(bar[one] for one in feature.inputs), *parameters)
