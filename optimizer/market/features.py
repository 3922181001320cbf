"""The feature columns that a study shares: computed once, read by every lane.

Thin over ``kernels.features``: ``compute_features`` fills whole columns, and ``new_state`` and ``step``
give the event flow the same bits one bar at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import index as as_integer

import numpy as np

from kernels.correlation import (
    N_SPAN_ROWS,
    correlation,
    correlation_state_size,
    joint_correlation,
)
from optimizer.errors import StrategyError
from optimizer.market.feature_table import FEATURES, MAX_LOOKBACK, FeatureParameter
from optimizer.types import Bars, FloatArray

FeatureKey = tuple[str, *tuple[float, ...]]
"""Name of a feature and its parameters in their order, such as ``("momentum", 60)``,
``("macd", 12, 26, 9)`` or ``("close",)``.

A feature of a user's strategy has the strategy's name and a dot before its own.
"""

GivenFeature = Callable[[Mapping[str, FloatArray], tuple[float, ...]], FloatArray]
"""A user's feature: of the bars of one symbol (open, high, low, close, volume by name, each
(n_bars,)) and the feature's parameters to its values (n_bars,), NaN during ``given_warm_up``."""

_NONE_GIVEN: Mapping[str, GivenFeature] = {}

BAR_FIELDS = ("open", "high", "low", "close", "volume")
"""Values of a bar that a feature may take."""

FEATURE_NAMES: tuple[str, ...] = tuple(sorted(("close", *FEATURES)))
"""Names that a feature key may have."""

_LOOKBACK = FeatureParameter("lookback", 1)
_CORRELATION = FeatureParameter("lookback", 2)


def _checked(name: str, parameter: FeatureParameter, value: object) -> float:
    """The value of a parameter as a plain number, or a StrategyError."""
    if parameter.whole:
        try:
            number: float = as_integer(value)  # type: ignore[arg-type]
        except TypeError:
            number = parameter.least - 1
        form = f"a whole number from {parameter.least} to {MAX_LOOKBACK} bars"
        right = parameter.least <= number <= MAX_LOOKBACK
    else:
        number = float(value) if isinstance(value, (int, float, np.number)) else np.nan
        form = f"a number of {parameter.least:g} or more"
        right = isfinite(number) and number >= parameter.least
    if isinstance(value, bool) or not right:
        raise StrategyError(f"feature {name!r}: {parameter.name} must be {form}, got {value!r}")
    return number


def _check(key: FeatureKey) -> FeatureKey:
    """The key with plain numbers as parameters, or a StrategyError."""
    if not isinstance(key, tuple) or not key:
        raise StrategyError(f"a feature key is (name, parameters...), got {key!r}")
    name, *given = key
    if isinstance(name, str) and "." in name:
        return name, *(_given_parameter(name, value) for value in given)
    parameters = feature_parameters(name)
    if len(given) != len(parameters):
        takes = ", ".join(one.name for one in parameters) or "no parameter"
        raise StrategyError(f"feature {name!r} takes {takes}; got {tuple(given)!r}")
    return name, *(_checked(name, one, value) for one, value in zip(parameters, given, strict=True))


def _given_parameter(name: str, value: object) -> float:
    """A parameter of a user's feature: a lookback if it is a whole number, else any number."""
    if isinstance(value, float) and isfinite(value):
        return value
    return _checked(name, _LOOKBACK, value)


def feature_parameters(name: str) -> tuple[FeatureParameter, ...]:
    """The parameters of a built-in feature, in the order of its key.

    Args:
        name: one of ``FEATURE_NAMES``.

    Raises:
        StrategyError: there is no such feature.
    """
    if name == "close":
        return ()
    if not isinstance(name, str) or name not in FEATURES:
        raise StrategyError(f"unknown feature {name!r}: known are {', '.join(FEATURE_NAMES)}")
    return FEATURES[name].parameters


def indicator_name(key: FeatureKey) -> str:
    """The name of a feature's values, such as ``sma_20`` or ``macd_12_26_9``.

    Args:
        key: name and parameters.
    """
    name, *parameters = key
    return "_".join((name, *(f"{one:g}" for one in parameters)))


def given_warm_up(parameters: Sequence[float]) -> int:
    """The number of leading values of a user's feature that are not used: the sum of its lookbacks.

    Args:
        parameters: those of its key; its lookbacks are the whole numbers.
    """
    return sum(one for one in parameters if isinstance(one, int))


def warm_up(key: FeatureKey) -> int:
    """The number of leading bars at which a feature is NaN, if there are enough bars.

    Args:
        key: name and parameters; the name may also be ``"correlation"``.

    Raises:
        StrategyError: the name is unknown, or a parameter is out of bounds.
    """
    if key[:1] == ("correlation",):
        return int(_checked("correlation", _CORRELATION, *key[1:]))
    name, *parameters = _check(key)
    if name == "close":
        return 0
    return given_warm_up(parameters) if "." in name else FEATURES[name].warm_up(*parameters)


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
        return max(map(warm_up, self.keys), default=0)


def sorted_keys(keys: Iterable[FeatureKey]) -> tuple[FeatureKey, ...]:
    """The keys checked, sorted, each once.

    Args:
        keys: the keys in any order.

    Raises:
        StrategyError: a name is unknown, or a parameter is out of bounds.
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
    fields = {name: np.array(getattr(bars, name)[own, symbol]) for name in BAR_FIELDS}
    for column, (name, *parameters) in enumerate(columns):
        out = values[: len(own), column]
        if name == "close":
            out[:] = fields["close"]
        elif "." not in name:
            feature = FEATURES[name]
            inputs = [fields[one] for one in feature.inputs]
            feature.series(*inputs, *parameters, np.zeros(feature.state_size(*parameters)), out)
        elif len(own) > given_warm_up(parameters) or bars.present is None:
            out[:] = given[name](fields, tuple(parameters))
        else:
            # A symbol may have fewer bars than a feature of the user's was written for.
            out[:] = np.nan
        if bars.present is not None:
            values[:, column] = bars.carried(symbol, out.copy(), np.nan)


def new_state(key: FeatureKey) -> FloatArray:
    """Fresh state of one feature of one symbol, for `step`.

    Args:
        key: name and parameters of a built-in feature.

    Returns:
        The state, shape (n,), where n depends on the feature and its parameters.

    Raises:
        StrategyError: the name is unknown, or a parameter is out of bounds.
    """
    name, *parameters = _check(key)
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
    lookback = warm_up(("correlation", lookback))
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
