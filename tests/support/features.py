"""Bars, parameters and references of every feature of the table, for its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from kernels.features.table import FEATURES
from tests.reference import features, smoothed_features, window_features

FloatArray = npt.NDArray[np.float64]
Parameters = tuple[float, ...]
Fields = Mapping[str, FloatArray]
"""Open, high, low, close and volume by name, each (n_bars,)."""

REMEMBERS = {
    *("adx", "atr", "ema", "keltner_lower", "keltner_upper", "macd", "macd_histogram"),
    *("macd_signal", "minus_di", "plus_di", "rsi"),
}
"""Features that remember all bars before; the others know a window of bars alone."""


def walk(n_bars: int, seed: int, scale: float = 0.01) -> Fields:
    """Bars of a geometric random walk."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, scale, n_bars)))
    open_ = close * np.exp(random.normal(0.0, scale, n_bars))
    return {
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + random.uniform(0.0, scale, n_bars)),
        "low": np.minimum(open_, close) * (1.0 - random.uniform(0.0, scale, n_bars)),
        "close": close,
        "volume": random.uniform(1e3, 1e5, n_bars),
    }


def far_walk(n_bars: int, seed: int) -> Fields:
    """Bars that move by about 1 at a price of 1e9."""
    random = np.random.default_rng(seed)
    close = 1e9 + np.cumsum(random.normal(0.0, 1.0, n_bars))
    open_ = close + random.normal(0.0, 1.0, n_bars)
    return {
        "open": open_,
        "high": np.maximum(open_, close) + random.uniform(0.0, 1.0, n_bars),
        "low": np.minimum(open_, close) - random.uniform(0.0, 1.0, n_bars),
        "close": close,
        "volume": random.uniform(1e3, 1e5, n_bars),
    }


def still(price: float, n_bars: int) -> Fields:
    """Bars that all stay at one price."""
    prices = {name: np.full(n_bars, price) for name in ("open", "high", "low", "close")}
    return {**prices, "volume": np.arange(n_bars) % 3 * 7.0}


@st.composite
def bars_of(draw: st.DrawFn, least: int = 0) -> Fields:
    """Bars that stay constant, move between few levels, or jump by many orders of magnitude.

    Volumes are absent, unknown or whatever.
    """
    prices = draw(
        st.one_of(
            st.lists(st.integers(1, 4).map(float), min_size=least, max_size=50),
            st.lists(st.floats(1e-3, 1e6), min_size=least, max_size=50),
        )
    )
    n_bars = len(prices)
    close = np.array(prices, dtype=np.float64)
    spread = np.array(draw(st.lists(st.floats(0.0, 0.5), min_size=n_bars, max_size=n_bars)))
    place = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=n_bars, max_size=n_bars)))
    volume = st.one_of(st.sampled_from([0.0, 0.0, 5.0, np.nan]), st.floats(0.0, 1e9))
    return {
        "open": close * (1.0 + spread * place),
        "high": close * (1.0 + spread),
        "low": close * (1.0 - spread),
        "close": close,
        "volume": np.array(draw(st.lists(volume, min_size=n_bars, max_size=n_bars)), np.float64),
    }


def parameters_of(name: str, most: int = 12) -> st.SearchStrategy[Parameters]:
    """Parameters of a feature: bars up to ``most``, widths up to 4."""
    return st.tuples(
        *(
            st.integers(least, most) if isinstance(least, int) else st.floats(least, 4.0)
            for least in FEATURES[name].least.values()
        )
    )


def some_parameters(name: str, lookback: int = 5) -> Parameters:
    """Parameters of a feature: ``lookback``, then one bar fewer for each further one; widths of 2."""
    return tuple(
        max(lookback - n, least) if isinstance(least, int) else 2.0
        for n, least in enumerate(FEATURES[name].least.values())
    )


def fresh(name: str, parameters: Parameters) -> FloatArray:
    """A fresh state."""
    return np.zeros(FEATURES[name].state_size(*parameters))


def inputs_of(name: str, bars: Fields) -> list[FloatArray]:
    """What a feature takes of the bars."""
    return [np.ascontiguousarray(bars[one]) for one in FEATURES[name].inputs]


def compute(
    name: str, bars: Fields, parameters: Parameters, state: FloatArray | None = None
) -> FloatArray:
    """The values of a feature, from the given state or a fresh one."""
    inputs = inputs_of(name, bars)
    out = np.full(len(inputs[0]), -1.0)
    state = fresh(name, parameters) if state is None else state
    FEATURES[name].series(*inputs, *parameters, state, out)
    return out


def by_reference(name: str, bars: Fields, parameters: Parameters) -> list[float]:
    """The values of a feature in plain Python."""
    for module in (features, window_features, smoothed_features):
        if hasattr(module, name):
            reference = cast(Callable[..., list[float]], getattr(module, name))
            inputs: Sequence[list[float]] = [one.tolist() for one in inputs_of(name, bars)]
            return reference(*inputs, *parameters)
    raise AssertionError(f"{name} has no reference")


def part(bars: Fields, start: int | None, stop: int | None) -> Fields:
    """Some of the bars."""
    return {name: values[start:stop] for name, values in bars.items()}
