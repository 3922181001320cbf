"""Changes to what a set is simulated on: costs, delay, noise, trades and symbols left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from kernels.codes import LEAVING, LIVE, WAITING
from optimizer.catalogue import COSTS
from optimizer.review.stress.simulation import Fitted, InSample
from optimizer.strategies.position_values import OF_CLOSES
from optimizer.strategies.strategy import Strategy
from optimizer.strategies.user import UserStrategy
from optimizer.sweep.inputs import Inputs, MarketRegime
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray, IntArray

LIMITS = ("max_volume_share",)
"""Parameters of ``COSTS`` that cost nothing themselves."""

_OWN_COSTS = (
    *(layout.OWN_SLIPPAGE, layout.OWN_HALF_SPREAD, layout.OWN_COMMISSION, layout.OWN_MAKER),
    *(layout.OWN_PER_UNIT, layout.OWN_MINIMUM, layout.OWN_PER_ORDER, layout.OWN_IMPACT),
)

_IN_PRICE = ("atr", "close", "ema", "sma")
"""Built-in features in units of price."""


def times_costs(set_: InSample, multiple: float) -> tuple[Inputs, Tile]:
    """Every cost of trading times a number; a rebate stays as it is, and so does a limit.

    Args:
        set_: the set.
        multiple: 0 or more.

    Returns:
        Its inputs and its tile.
    """
    names = [one.name for one in COSTS if one.name not in LIMITS]
    own = {name: _times(set_.tile.columns[name], multiple) for name in names}
    instruments = set_.rules.instruments.copy()
    instruments[:, _OWN_COSTS] = _times(instruments[:, _OWN_COSTS], multiple)
    instruments.flags.writeable = False
    rules = replace(set_.rules, instruments=instruments)
    tile = replace(set_.tile, columns={**set_.tile.columns, **own})
    return replace(set_.inputs, rules=rules), tile


def _times(costs: FloatArray, multiple: float) -> FloatArray:
    return np.where(costs > 0.0, costs * multiple, costs)


def has_costs(set_: InSample) -> bool:
    """Whether trading costs the set anything.

    Args:
        set_: the set.
    """
    names = [one.name for one in COSTS if one.name not in LIMITS]
    lane = any(float(set_.tile.columns[name][0]) > 0.0 for name in names)
    return lane or bool((set_.rules.instruments[:, _OWN_COSTS] > 0.0).any())


def meets_volume(set_: InSample) -> bool:
    """Whether the size of a fill counts against the volume of its bar: by impact, or by a limit.

    Args:
        set_: the set.
    """
    columns, instruments = set_.tile.columns, set_.rules.instruments
    lane = any(float(columns[name][0]) > 0.0 for name in ("impact", *LIMITS))
    own = (instruments[:, layout.OWN_IMPACT] > 0.0).any()
    limited = np.isfinite(instruments[:, layout.OWN_VOLUME_SHARE]).any()
    return bool((lane or own or limited) and np.asarray(set_.bars.has_volume).any())


def reads_close(strategy: Strategy) -> bool:
    """Whether a signal of the user's takes the close of the bar, or a return to it, besides its features.

    Also where built-in strategies and the user's are together.

    Args:
        strategy: the strategy.
    """
    own = [one for one in strategy.members if isinstance(one, UserStrategy)]
    # A built-in signal is kept by scaling its features, which another strategy may read too.
    mixed = 0 < len(own) < len(strategy.members)
    read = {argument for one in own for argument in one.declaration.arguments}
    return mixed or not {"close", *OF_CLOSES}.isdisjoint(read)


def delayed(set_: InSample) -> tuple[Inputs, Fitted]:
    """Every decision sees what was known one bar of its symbol before, so it acts one bar later.

    Features, volatilities and regimes are those of the bar before. The account and the prices by which
    an order is sized are those of the bar itself. Averages and ranges that a built-in signal compares
    with the close are scaled to it: the signal is that of the bar before.

    Args:
        set_: the set, whose strategy does not ``reads_close``.

    Returns:
        Its inputs, and what its regime models say.
    """
    inputs, bars = set_.inputs, set_.inputs.bars
    before = _own_bar_before(bars)
    live = inputs.live.copy()
    live[np.take_along_axis(inputs.live, before, axis=0) == WAITING] = WAITING
    features = _rows(inputs.features.values, before)
    if not any(isinstance(one, UserStrategy) for one in set_.strategy.members):
        scale = bars.close / np.take_along_axis(bars.close, before, axis=0)
        for place, (name, *_) in enumerate(inputs.features.keys):
            if name in _IN_PRICE:
                features[:, :, place] *= scale
    volatilities = _rows(inputs.volatilities, before)
    inverse = _rows(inputs.inverse_volatilities, before)
    for array in (features, volatilities, inverse, live):
        array.flags.writeable = False
    fitted = {
        key: MarketRegime(
            _one_later(found.codes),
            None if found.probabilities is None else _one_later(found.probabilities),
        )
        for key, found in set_.models.items()
    }
    changed = replace(
        inputs,
        features=replace(inputs.features, values=features),
        volatilities=volatilities,
        inverse_volatilities=inverse,
        live=live,
    )
    return changed, fitted


def _one_later(rows: Any) -> Any:
    """Each row one bar later; the first one stays."""
    return np.concatenate((rows[:1], rows[:-1]))


def _own_bar_before(bars: Bars) -> IntArray:
    """The bar that each symbol has before each of its bars, (n_bars, n_symbols); its first one itself."""
    before = np.tile(np.arange(bars.n_bars)[:, np.newaxis], (1, bars.n_symbols))
    for s in range(bars.n_symbols):
        own = bars.own(s)
        before[own[1:], s] = own[:-1]
    return before


def _rows(values: FloatArray, rows: IntArray) -> FloatArray:
    """The values of other bars, (n_bars, n_symbols, n_columns)."""
    taken = np.take_along_axis(values[: len(rows)], rows[:, :, np.newaxis], axis=0)
    return np.ascontiguousarray(taken)


def noisy(bars: Bars, split: int, share: float, random: np.random.Generator) -> Bars:
    """Bars whose prices are off by chance, each by a share of its symbol's volatility per bar.

    Open, high, low and close of a bar are each multiplied by the exponential of a normal number. The
    high then is at least the open and the close, the low at most. A bar that a symbol lacks stands at
    the close before.

    Args:
        bars: the bars.
        split: number of bars from which the volatility is taken, the standard deviation of the changes
            of the logarithm of the close.
        share: standard deviation of the noise, a fraction of the volatility.
        random: the source of the noise.

    Returns:
        Bars of the same times, symbols and volumes.
    """
    noise = random.normal(size=(4, bars.n_bars, bars.n_symbols))
    prices = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for s in range(bars.n_symbols):
        own = bars.own(s)
        changes = np.diff(np.log(bars.close[own[own < split], s]))
        deviation = share * float(changes.std()) if len(changes) > 1 else 0.0
        for part, name in zip(noise, prices, strict=True):
            prices[name][own, s] *= np.exp(deviation * part[own, s])
        ends = (prices["open"][own, s], prices["close"][own, s])
        prices["high"][own, s] = np.maximum(prices["high"][own, s], np.maximum(*ends))
        prices["low"][own, s] = np.minimum(prices["low"][own, s], np.minimum(*ends))
        if bars.present is not None and len(own):
            still = bars.carried(s, prices["close"][own, s], prices["open"][own[0], s])
            for values in prices.values():
                values[bars.present[:, s] == 0, s] = still[bars.present[:, s] == 0]
    return replace(bars, **prices)


def without_symbol(inputs: Inputs, symbol: int) -> Inputs:
    """The inputs with which a symbol is never traded; regimes and the benchmark still see it.

    Args:
        inputs: the inputs.
        symbol: index of the symbol.
    """
    live = inputs.live.copy()
    live[:, symbol] = WAITING
    live.flags.writeable = False
    return replace(inputs, live=live)


def without_entries(inputs: Inputs, trades: pd.DataFrame, skipped: IntArray) -> Inputs:
    """The inputs with which some entries are skipped: their symbol stays flat until its next entry.

    Args:
        inputs: the inputs.
        trades: all trades, see ``Simulated.trades``.
        skipped: rows of ``trades``.
    """
    live = inputs.live.copy()
    later = 0 if inputs.rules.close_fill else 1
    decided = trades["entered"].to_numpy() - later
    symbols = trades["symbol"].map(inputs.bars.symbols.index).to_numpy()
    for row in skipped.tolist():
        own = decided[symbols == symbols[row]]
        after = own[own > decided[row]]
        stop = int(after.min()) if len(after) else len(live)
        part = live[decided[row] : stop, symbols[row]]
        part[part == LIVE] = LEAVING
    live.flags.writeable = False
    return replace(inputs, live=live)
