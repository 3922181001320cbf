"""The feature columns that a study shares: computed once, read by every lane.

Thin over ``kernels.features``: ``compute_features`` fills whole columns, and ``new_state`` and ``step``
give the event flow the same bits one bar at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_integer

import numpy as np

from kernels.correlation import (
    N_SPAN_ROWS,
    correlation,
    correlation_state_size,
    joint_correlation,
)
from kernels.features import (
    atr,
    atr_state_size,
    atr_step,
    ema,
    ema_state_size,
    ema_step,
    momentum,
    momentum_state_size,
    momentum_step,
    rsi,
    rsi_state_size,
    rsi_step,
    sma,
    sma_state_size,
    sma_step,
    volatility,
    volatility_state_size,
    volatility_step,
)
from optimizer.errors import StrategyError
from optimizer.types import Bars, FloatArray

FeatureKey = tuple[str, int]
"""Name and lookback of a feature, such as ``("momentum", 60)``. ``("close", 1)`` is the close.

A feature of a user's strategy has the strategy's name and a dot before its own.
"""

GivenFeature = Callable[[Mapping[str, FloatArray], int], FloatArray]
"""A user's feature: of the bars of one symbol (open, high, low, close, volume by name, each
(n_bars,)) and the lookback to its values (n_bars,), NaN at the first ``lookback``."""

_NONE_GIVEN: Mapping[str, GivenFeature] = {}

MAX_LOOKBACK = 100_000
"""Longest lookback, in bars; the catalogue's bound."""


@dataclass(frozen=True)
class _Feature:
    """How to compute one feature.

    Attributes:
        least: shortest lookback at which it is defined.
        delay: its first defined bar is ``lookback + delay``.
        inputs: the bar's values that it takes, in order.
        state_size, step, series: its kernels.
    """

    least: int
    delay: int
    inputs: tuple[str, ...]
    state_size: Callable[[int], int]
    step: Callable[..., float]
    series: Callable[..., None]


_CLOSE = ("close",)
_BAR = ("high", "low", "close")
_FIELDS = ("open", "high", "low", "close", "volume")
_FEATURES = {
    "atr": _Feature(1, 0, _BAR, atr_state_size, atr_step, atr),
    "ema": _Feature(1, -1, _CLOSE, ema_state_size, ema_step, ema),
    "momentum": _Feature(1, 0, _CLOSE, momentum_state_size, momentum_step, momentum),
    "rsi": _Feature(1, 0, _CLOSE, rsi_state_size, rsi_step, rsi),
    "sma": _Feature(1, -1, _CLOSE, sma_state_size, sma_step, sma),
    "volatility": _Feature(2, 0, _CLOSE, volatility_state_size, volatility_step, volatility),
}
FEATURE_NAMES: tuple[str, ...] = tuple(sorted(("close", *_FEATURES)))
"""Names that a feature key may have."""

_LEAST_CORRELATION = 2


def _check_lookback(name: str, lookback: int, least: int, most: int = MAX_LOOKBACK) -> int:
    try:
        bars = as_integer(lookback)
    except TypeError:
        bars = least - 1
    if isinstance(lookback, bool) or not least <= bars <= most:
        bound = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise StrategyError(f"feature {name!r}: lookback must be {bound} bars, got {lookback!r}")
    return bars


def _check(key: FeatureKey) -> FeatureKey:
    """The key with a plain int as lookback, or a StrategyError."""
    try:
        name, lookback = key
    except (TypeError, ValueError):
        raise StrategyError(f"a feature key is (name, lookback), got {key!r}") from None
    if name == "close":
        return name, _check_lookback(name, lookback, 1, 1)
    if isinstance(name, str) and "." in name:
        return name, _check_lookback(name, lookback, 1)
    if not isinstance(name, str) or name not in _FEATURES:
        raise StrategyError(f"unknown feature {name!r}: known are {', '.join(FEATURE_NAMES)}")
    return name, _check_lookback(name, lookback, _FEATURES[name].least)


def least_lookback(name: str) -> int:
    """The shortest lookback at which a built-in feature is defined.

    Args:
        name: one of ``FEATURE_NAMES`` except ``close``.
    """
    return _FEATURES[name].least


def warm_up(feature_name: str, lookback: int) -> int:
    """The number of leading bars at which a feature is NaN, if there are enough bars.

    Args:
        feature_name: one of `FEATURE_NAMES`, or ``"correlation"``.
        lookback: bars.

    Raises:
        StrategyError: the name is unknown, or the lookback is out of bounds.
    """
    if feature_name == "correlation":
        return _check_lookback(feature_name, lookback, _LEAST_CORRELATION)
    name, bars = _check((feature_name, lookback))
    if name == "close":
        return 0
    return bars if "." in name else bars + _FEATURES[name].delay


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
            key: name and lookback.

        Raises:
            StrategyError: there is no such column.
        """
        checked = _check(key)
        column = bisect_left(self.keys, checked)
        if column == len(self.keys) or self.keys[column] != checked:
            raise StrategyError(f"feature {checked!r} was not computed: columns are {self.keys!r}")
        return column

    @property
    def warm_up(self) -> int:
        """Longest warm-up of its keys, in bars: from this bar on, every column is defined.

        It may exceed the number of bars; then at least one column is NaN throughout.
        """
        return max((warm_up(*key) for key in self.keys), default=0)


def sorted_keys(keys: Iterable[FeatureKey]) -> tuple[FeatureKey, ...]:
    """The keys checked, sorted, each once.

    Args:
        keys: the keys in any order.

    Raises:
        StrategyError: the name is unknown, or the lookback is out of bounds.
    """
    return tuple(sorted({_check(key) for key in keys}))


def compute_features(
    bars: Bars, keys: Sequence[FeatureKey], given: Mapping[str, GivenFeature] = _NONE_GIVEN
) -> FeatureColumns:
    """Compute each feature of each symbol, on the bars that the symbol has.

    Where a symbol has no bar, its columns keep the values of its last one; before its first they are
    NaN.

    Args:
        bars: the bars of all symbols; a column whose lookback exceeds n_bars is NaN throughout.
        keys: the keys in any order; repeated ones are computed once.
        given: features of the user's strategies by name.

    Returns:
        A column for each distinct key.

    Raises:
        StrategyError: a name is unknown, a lookback is out of bounds, or a user's feature raised.
    """
    columns = sorted_keys(keys)
    values = np.empty((bars.n_bars, bars.n_symbols, len(columns)))
    for symbol in range(bars.n_symbols):
        _fill_columns(bars, symbol, columns, given, values[:, symbol])
    return FeatureColumns(columns, values)


def _fill_columns(
    bars: Bars,
    symbol: int,
    columns: Sequence[FeatureKey],
    given: Mapping[str, GivenFeature],
    values: FloatArray,
) -> None:
    """Compute the features of one symbol on its own bars into ``values``, (n_bars, n_columns)."""
    own = bars.own(symbol)
    # Copies, so that the bars of a symbol are contiguous, and writeable: numba would compile a kernel
    # once more for read-only inputs.
    fields = {name: np.array(getattr(bars, name)[own, symbol]) for name in _FIELDS}
    for column, (name, lookback) in enumerate(columns):
        out = values[: len(own), column]
        if name == "close":
            out[:] = fields["close"]
        elif "." not in name:
            feature = _FEATURES[name]
            inputs = [fields[one] for one in feature.inputs]
            feature.series(*inputs, lookback, np.zeros(feature.state_size(lookback)), out)
        elif len(own) > lookback or bars.present is None:
            out[:] = given[name](fields, lookback)
        else:
            # A symbol may have fewer bars than a feature of the user's was written for.
            out[:] = np.nan
        if bars.present is not None:
            values[:, column] = bars.carried(symbol, out.copy(), np.nan)


def new_state(key: FeatureKey) -> FloatArray:
    """Fresh state of one feature of one symbol, for `step`.

    Args:
        key: name and lookback of a built-in feature.

    Returns:
        The state, shape (n,), where n depends on the feature and its lookback.

    Raises:
        StrategyError: the name is unknown, or the lookback is out of bounds.
    """
    name, lookback = _check(key)
    return np.zeros(0 if name == "close" else _FEATURES[name].state_size(lookback))


def step(key: FeatureKey, state: FloatArray, high: float, low: float, close: float) -> float:
    """Take one bar of one symbol.

    The bits are those of ``compute_features`` at that bar.

    Args:
        key: the key as given to `new_state`, which has checked it.
        state: the state that `new_state` returned, changed in place.
        high: the high of the bar.
        low: the low of the bar.
        close: the close of the bar.

    Returns:
        The feature's value, NaN during its warm-up.
    """
    name, lookback = key
    if name == "close":
        return close
    feature = _FEATURES[name]
    if feature.inputs == _CLOSE:
        return feature.step(state, close, lookback)
    return feature.step(state, high, low, close, lookback)


def compute_correlations(bars: Bars, lookback: int, refresh: int, first_bar: int) -> FloatArray:
    """Rolling Pearson correlations of log returns, at scheduled bars only.

    Matrix k belongs to bar ``first_bar + k * refresh``, for every such bar below n_bars. It uses that
    bar and earlier ones. Two symbols are compared on the bars that both have, as if no other symbol
    were there. Undefined entries (before ``lookback`` returns, or a symbol whose
    returns are all equal) are 0: no known co-movement. The diagonal is 1.

    Args:
        bars: the bars of all symbols.
        lookback: returns in the window, 2 or more.
        refresh: bars between two matrices, 1 or more.
        first_bar: bar of the first matrix, 0 or more.

    Returns:
        (n_refreshes, n_symbols, n_symbols), float64, C-contiguous, symmetric, within [-1, 1].

    Raises:
        StrategyError: the lookback is out of bounds.
        ValueError: ``refresh`` or ``first_bar`` is out of bounds.
    """
    lookback = _check_lookback("correlation", lookback, _LEAST_CORRELATION)
    if refresh < 1:
        raise ValueError(f"refresh must be 1 bar or more, got {refresh!r}")
    if first_bar < 0:
        raise ValueError(f"first_bar must be 0 or more, got {first_bar!r}")
    n_symbols = bars.n_symbols
    matrices = np.empty((len(range(first_bar, bars.n_bars, refresh)), n_symbols, n_symbols))
    close = np.array(bars.close)
    if bars.present is None:
        state = np.zeros(correlation_state_size(lookback, n_symbols))
        correlation(close, lookback, first_bar, refresh, state, matrices)
    else:
        spans = np.zeros((N_SPAN_ROWS, n_symbols), dtype=np.int64)
        present = np.array(bars.present)
        joint_correlation(close, present, lookback, first_bar, refresh, spans, matrices)
    matrices[np.isnan(matrices)] = 0.0
    diagonal = np.arange(n_symbols)
    matrices[:, diagonal, diagonal] = 1.0
    return matrices
