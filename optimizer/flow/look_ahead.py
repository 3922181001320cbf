"""The check that features, strategies and classifiers read no later bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from kernels.codes import NEUTRAL
from optimizer.bars.checks import require_bars
from optimizer.flow.services.strategy import StatelessStrategy, StrategyConfig
from optimizer.market.feature_keys import indicator_name
from optimizer.market.features import bars_of_warm_up, compute_features
from optimizer.strategies.position_values import tried_positions
from optimizer.strategies.regime_values import tried_regimes
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import RegimeKey, feature_keys, fit_key, given_features
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.sweep.universe import tradable_mask
from optimizer.types import Bars, BoolArray, FloatArray, Regime

N_CUTS = 4
"""Places at which the bars are cut."""

SIGNAL_BARS = 50
"""Number of bars before a cut at which signals are compared; look-ahead shows at the last ones."""

Key = tuple[str, str, str]
"""Kind of a column (feature, signal, regime), its name, and its symbol; a regime has none."""


@dataclass(frozen=True)
class LookAhead:
    """A value that changes when later bars change.

    Attributes:
        kind: ``feature``, ``signal`` or ``regime``.
        name: the name of the feature, such as ``momentum_60``, of the strategy, or of the
            classifier.
        symbol: the symbol of the first bar that changes; empty for a regime.
        bar, time: the first bar that changes.
        cut: bars up to here were the same.
        with_later_bars, without: its value there with all bars, and with those from ``cut`` on left
            out or replaced.
    """

    kind: str
    name: str
    symbol: str
    bar: int
    time: str
    cut: int
    with_later_bars: float
    without: float

    def __str__(self) -> str:
        """One line."""
        of = f" of {self.symbol}" if self.symbol else ""
        return (
            f"{self.kind} {self.name}{of} at {self.time} (bar {self.bar}) is"
            f" {self.with_later_bars:.6g}, and {self.without:.6g} when the bars from {self.cut} on"
            " differ"
        )


def look_ahead_check(study: Study, bars: Bars) -> list[LookAhead]:
    """Find features, strategies and classifiers of a study that read later bars.

    The bars are cut at some places. The bars after a cut are first left out and then replaced by
    other prices, where a symbol has them; all values before the cut must stay the same, bit for bit. Each
    feature is checked at every lookback of the study, each strategy and classifier at its first parameter
    set.

    >>> import optimizer
    >>> study = optimizer.load_study("study.toml")
    >>> optimizer.look_ahead_check(study, optimizer.load_bars("bars.parquet", end="2006-12-31"))
    []

    Args:
        study: the study to check.
        bars: the bars of the study.

    Returns:
        The first bar at which each feature, strategy or classifier changes; empty if all stay the
        same.

    Raises:
        DataError: there are too few bars.
        StrategyError: the user's code raised.
    """
    space = build_space(in_bars(study, bars))
    checked = _Checked(study, space, bars)
    least = max(64, checked.warm_up + N_CUTS + 1)
    require_bars(bars, least, f"the look-ahead check needs {least}")
    rng = np.random.default_rng(bars.n_bars)
    # The last cut leaves one bar out: a value that reads only the next bar changes there.
    inside = rng.integers(checked.warm_up + 1, bars.n_bars - 1, N_CUTS - 1)
    cuts = sorted({*inside.tolist(), bars.n_bars - 1})
    whole = checked.outputs(bars, [(max(0, cut - SIGNAL_BARS), cut) for cut in cuts])
    found: dict[tuple[str, str], LookAhead] = {}
    for cut in cuts:
        span = [(max(0, cut - SIGNAL_BARS), cut)]
        for other in (bars.head(cut), _replaced(bars, cut, rng)):
            for key, values in checked.outputs(other, span, cut).items():
                expected, actual = whole[key][:cut], values[:cut]
                differs = ~((expected == actual) | (np.isnan(expected) & np.isnan(actual)))
                if key[0] == "signal":
                    differs[: span[0][0]] = False
                if not differs.any():
                    continue
                bar = int(np.argmax(differs.any(axis=1)))
                part = int(np.argmax(differs[bar]))
                known = found.get(key[:2])
                if known is None or bar < known.bar:
                    found[key[:2]] = LookAhead(
                        *key, bar, str(bars.timestamps[bar])[:16], cut,
                        float(expected[bar, part]), float(actual[bar, part]),
                    )  # fmt: skip
    return list(found.values())


class _Checked:
    """The features, strategies and classifiers of a study."""

    def __init__(self, study: Study, space: Space, bars: Bars) -> None:
        self._given = given_features(space)
        self._strategies: dict[str, StrategyConfig] = {}
        self._regimes: dict[str, RegimeKey] = {}
        for branch in space.branches:
            lanes = branch.first_set()
            tile = Tile.of(branch, lanes)
            first = {name: float(values[0]) for name, values in lanes.items()}
            self._strategies.setdefault(
                branch.strategy.name, StrategyConfig.of(branch.strategy, first, bars.bars_per_year)
            )
            self._regimes.setdefault(branch.classifier, tile.regime_keys()[0][0])
        self._probabilities = space.takes_probabilities
        lookbacks = space.lookbacks("risk", "volatility_lookback")
        self._keys = [*feature_keys(space), *(("volatility", n) for n in lookbacks)]
        rules = study_rules(study, space, bars)
        self._clock, self._members = rules.clock(bars), rules.members
        self.warm_up = bars_of_warm_up(bars, self._keys, self._clock)

    def outputs(
        self, bars: Bars, spans: Sequence[tuple[int, int]], known: int | None = None
    ) -> dict[Key, FloatArray]:
        """All values, each of shape (n_bars, n_parts); signals only at the bars of ``spans``.

        Slower bars that close after the first ``known`` bars are left out; None leaves out none.
        """
        clock = self._clock
        if known is not None and clock.slower is not None:
            end = int(clock.ends(clock.at(bars.timestamps[:known]))[-1])
            clock = replace(clock, slower=clock.slower.until(end))
        members = None if self._members is None else self._members[: bars.n_bars]
        tradable = tradable_mask(bars, self.warm_up, members)
        columns = compute_features(bars, self._keys, self._given, clock, tradable)
        found: dict[Key, FloatArray] = {}
        by_name = {
            indicator_name(key): columns.values[:, :, i] for i, key in enumerate(columns.keys)
        }
        for name, values in by_name.items():
            for s, symbol in enumerate(bars.symbols):
                found["feature", name, symbol] = values[:, s : s + 1]
        for name, config in self._strategies.items():
            n_tried = len(list(_tried(config, 1.0)))
            signals = np.full((bars.n_symbols, bars.n_bars, 3 * n_tried), np.nan)
            for t in sorted({t for start, stop in spans for t in range(start, stop)}):
                for s, signal in _signals(by_name, config, bars, t, tradable[t] == 1):
                    signals[s, t] = signal
            for s, symbol in enumerate(bars.symbols):
                found["signal", name, symbol] = signals[s]
        for name, key in self._regimes.items():
            if name != "none":
                regime = fit_key(bars, key, self._probabilities)[0]
                shares = regime.probabilities
                parts = [regime.codes, *(() if shares is None else shares.T)]
                found["regime", name, ""] = np.stack(parts, axis=1).astype(np.float64)
        return found


def _tried(config: StrategyConfig, close: float) -> Iterator[tuple[tuple[float, ...], Regime]]:
    """Positions, each under some probabilities of the regime, on which a signal is tried."""
    names = config.regime_values
    regimes = [
        Regime("", NEUTRAL, **dict(zip(names, one, strict=True))) for one in tried_regimes(names)
    ]
    return product(tried_positions(config.position_values, close), regimes)


def _signals(
    features: Mapping[str, FloatArray],
    config: StrategyConfig,
    bars: Bars,
    t: int,
    decides: BoolArray,
) -> Iterator[tuple[int, list[float]]]:
    """Symbol, and its signals on all that is tried, of each symbol that decides at bar ``t``."""
    now = {name: values[t] for name, values in features.items()}
    bar = bars.at(t)
    for s in np.flatnonzero(decides).tolist():
        found: list[float] = []
        for position, regime in _tried(config, float(bar.close[s])):
            signal = StatelessStrategy.generate_signal(now, config, bar, s, "", position, regime)
            found += (signal.direction, signal.strength, signal.confidence)
        yield s, found


_PRICES = ("open", "high", "low", "close")


def _replaced(bars: Bars, cut: int, rng: np.random.Generator) -> Bars:
    """Other bars from ``cut`` on: scaled by a factor for each, so that high stays above low."""
    factors = np.ones((bars.n_bars, bars.n_symbols))
    factors[cut:] = rng.uniform(0.25, 4.0, (bars.n_bars - cut, bars.n_symbols))
    return replace(bars, **{name: getattr(bars, name) * factors for name in (*_PRICES, "volume")})
