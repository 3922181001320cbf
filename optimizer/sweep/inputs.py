"""What a sweep computes once for all parameter sets: features, volatilities, correlations, rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import layout
from kernels.codes import LIVE
from optimizer.bars.checks import require_bars
from optimizer.bars.finer import FinerBars, no_finer_bars
from optimizer.errors import DataError, StrategyError
from optimizer.market.clock import MarketClock
from optimizer.market.correlations import compute_correlations
from optimizer.market.feature_keys import (
    ACROSS,
    FeatureKey,
    given_warm_up,
    indicator_name,
    read_name,
    split_parameters,
    warm_up,
)
from optimizer.market.features import FeatureColumns, bars_of_warm_up, compute_features
from optimizer.market.regime_models import Classifier
from optimizer.market.regimes import fit_market
from optimizer.market.talib_features import TalibFeature
from optimizer.market.timeframes import timeframe_problem
from optimizer.strategies.user_kernels import CustomFeature
from optimizer.study_file.space import Space
from optimizer.sweep.rules import Rules
from optimizer.sweep.universe import live_mask, symbol_ends, tradable_mask
from optimizer.types import Bars, Float32Array, FloatArray, IntArray, MaskArray

RegimeKey = tuple[Classifier, str | None, tuple[tuple[str, float], ...]]
"""A classifier, the market's symbol (None: the index), and the classifier's parameters."""

RegimeCodes = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class MarketRegime:
    """What one regime model says of every bar.

    Attributes:
        codes: shape (n_bars,).
        probabilities: shape (n_bars, 2): those of a bear and of a bull market; None where no strategy of
            the study takes them.
    """

    codes: RegimeCodes
    probabilities: FloatArray | None = None

    @classmethod
    def neutral(cls, n_bars: int, probabilities: bool = False) -> MarketRegime:
        """What is known without a classifier: nothing.

        Args:
            n_bars: number of bars.
            probabilities: whether to give them too, 0 both.
        """
        shares = np.zeros((n_bars, 2)) if probabilities else None
        return cls(np.zeros(n_bars, dtype=np.int8), shares)


NO_REGIME: RegimeKey = ("none", None, ())

LEAST_BLOCK = 10
"""Least bars of a block: the Sharpe ratio of fewer says nothing."""

_RULE_ARRAYS = ("instruments", "rates", "members", "flat", "counted")
"""Arrays of ``Rules``; the last three may be None."""

PRICES = ("open", "high", "low", "close", "volume")
"""Arrays of ``Bars`` that all have."""

BAR_ARRAYS = ("timestamps", *PRICES, "present", "payments")
"""Arrays of ``Bars``; the last two may be None."""

NO_PAYMENTS, EVERY_BAR = np.zeros((0, 0)), np.zeros(0, dtype=np.uint8)
"""Read-only like all arrays that the simulation reads, so that it needs no variant of its own."""
NO_PAYMENTS.flags.writeable = EVERY_BAR.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that the parameter sets of a study share, read-only.

    Attributes:
        bars: the bars of all symbols.
        features: columns of every lookback of the space.
        volatilities: the volatilities per bar, shape (n_bars, n_symbols, n_lookbacks).
        inverse_volatilities: the inverse volatilities of the same shape, 0 where the volatility is
            0.
        volatility_lookbacks: the lookbacks of the last axis, ascending.
        correlations: shape (n_refreshes, n_symbols, n_symbols), from bar ``first`` on; None if no
            parameter set needs them.
        first: bar of the first decision; the same for every parameter set.
        split: first bar of the holdout; n_bars without a holdout.
        bounds: block b of the in-sample bars is [bounds[b], bounds[b + 1]); the last one ends at
            ``split``.
        rules: the rules of the study.
        live: whether each symbol decides at each bar, shape (n_bars, n_symbols); see
            ``optimizer.sweep.universe``.
        warm_up: bars of its own that a symbol has before its first decision.
        ends: last bar of each symbol that ends before the bars do, shape (n_symbols,); -1 for others.
        atrs: average true range of each symbol's last bar, in units of price, shape
            (n_bars, n_symbols); empty where no parameter set reads it.
        benchmark: returns of the benchmark less the risk-free ones at the bars that close a return, shape
            (n_bars,); empty without a max-test.
        alpha_bounds: bounds of the blocks of the max-test; ``split`` alone without one.
        multipliers: those of each block, shape (n_blocks, n_draws); no rows without a max-test. See
            ``optimizer.sweep.max_test``.
    """

    bars: Bars
    features: FeatureColumns
    volatilities: FloatArray
    inverse_volatilities: FloatArray
    volatility_lookbacks: tuple[int, ...]
    correlations: FloatArray | None
    first: int
    split: int
    bounds: tuple[int, ...]
    rules: Rules
    live: MaskArray
    warm_up: int
    ends: IntArray
    atrs: FloatArray
    benchmark: FloatArray
    alpha_bounds: tuple[int, ...]
    multipliers: Float32Array

    _ARRAYS = (
        *("volatilities", "inverse_volatilities", "correlations", "live", "ends", "atrs"),
        *("benchmark", "multipliers"),
    )

    @cached_property
    def extended(self) -> bool:
        """Whether the simulation needs its ``extended`` code."""
        ends = bool((self.ends >= 0).any())
        return self.rules.extended or ends or self.bars.payments is not None

    @property
    def payments(self) -> FloatArray:
        """``Bars.payments``; shape (0, 0) where there are none."""
        return NO_PAYMENTS if self.bars.payments is None else self.bars.payments

    @property
    def counted(self) -> MaskArray:
        """``Rules.counted``; shape (0,) where every bar closes a return."""
        return EVERY_BAR if self.rules.counted is None else self.rules.counted

    @cached_property
    def rates(self) -> FloatArray:
        """``Rules.closing_rates`` from the first decision on, with the benchmark's returns."""
        rates = self.rules.closing_rates(self.first)
        if len(self.benchmark):
            rates = rates.copy()
            rates[:, layout.BENCHMARK] = self.benchmark
            rates.flags.writeable = False
        return rates

    @cached_property
    def volumes(self) -> FloatArray:
        """Units traded, shape (n_bars, n_symbols); inf where unknown.

        Also inf where nothing trades: there is no fill then, but a symbol whose last bar is one, and it
        is closed without impact.
        """
        if not self.rules.fees:
            return self.bars.volume
        volumes = np.where(self.bars.volume > 0.0, self.bars.volume, np.inf)
        volumes.flags.writeable = False
        return volumes

    @cached_property
    def finer(self) -> FinerBars:
        """The finer bars inside each bar; the bars themselves where the study has none."""
        if self.rules.finer is not None:
            return self.rules.finer
        return no_finer_bars(self.bars, self.volumes)

    def save(self, folder: Path) -> None:
        """Write the arrays to ``folder``, from which workers map them.

        Args:
            folder: made if needed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "features.npy", self.features.values)
        left_out = []
        for owner, names in (
            (self.bars, BAR_ARRAYS),
            (self.rules, _RULE_ARRAYS),
            (self, self._ARRAYS),
        ):
            for name in names:
                array = getattr(owner, name)
                if array is None:
                    left_out.append(name)
                else:
                    np.save(folder / f"{name}.npy", array)
        if self.rules.finer is not None:
            for one in fields(FinerBars):
                np.save(folder / f"finer_{one.name}.npy", getattr(self.rules.finer, one.name))
        head = {
            "left_out": left_out,
            "symbols": self.bars.symbols,
            "bars_per_year": self.bars.bars_per_year,
            "source": self.bars.source,
            "has_volume": np.asarray(self.bars.has_volume).tolist(),
            "keys": self.features.keys,
            "volatility_lookbacks": self.volatility_lookbacks,
            "first": self.first,
            "warm_up": self.warm_up,
            "split": self.split,
            "bounds": self.bounds,
            "alpha_bounds": self.alpha_bounds,
            "rules": {
                one.name: getattr(self.rules, one.name)
                for one in fields(self.rules)
                if one.name not in (*_RULE_ARRAYS, "finer", "slower")
            },
            "finer": self.rules.finer is not None,
        }
        (folder / "inputs.json").write_text(json.dumps(head))

    def shortened(self) -> Inputs:
        """These inputs cut to one bar in and one out of sample, which is enough to compile."""
        few, split = self.bars.head(self.first + 2), self.first + 1
        live = self.live[: few.n_bars]
        return replace(
            self,
            bars=few,
            split=split,
            bounds=(split,),
            live=live,
            **self._without_max_test(split),
        )

    def _without_max_test(self, split: int) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark[:0],
            "alpha_bounds": (split,),
            "multipliers": self.multipliers[:0],
        }

    def window(self, first: int, split: int, stop: int) -> Inputs:
        """These inputs with the first decision at ``first``, the holdout [split, stop), and no blocks.

        Args:
            first: bar of the first decision.
            split: first bar of the holdout.
            stop: bar after the last one.
        """
        bars, rules = self.bars.head(stop), self.rules
        correlations = self.correlations
        if correlations is not None and first != self.first:
            correlations = compute_correlations(
                bars, rules.correlation_lookback, rules.correlation_refresh, first
            )
            correlations.flags.writeable = False
        return replace(
            self,
            bars=bars,
            correlations=correlations,
            first=first,
            split=split,
            bounds=(split,),
            live=self.live[:stop],
            atrs=self.atrs[:stop],
            **self._without_max_test(split),
        )

    @classmethod
    def load(cls, folder: Path) -> Inputs:
        """Map the arrays that ``save`` wrote to ``folder``.

        Args:
            folder: the folder to which ``save`` wrote.

        Returns:
            The inputs; their arrays are read-only and shared by all processes that map them.
        """
        head = json.loads((folder / "inputs.json").read_text())

        def mapped(name: str) -> Any:
            if name in head["left_out"]:
                return None
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

        bars = Bars(
            symbols=tuple(head["symbols"]),
            **{name: mapped(name) for name in BAR_ARRAYS},
            bars_per_year=head["bars_per_year"],
            source=head["source"],
            has_volume=np.array(head["has_volume"], dtype=np.bool_),
        )
        keys = tuple((name, *parameters) for name, *parameters in head["keys"])
        return cls(
            bars,
            FeatureColumns(keys, mapped("features")),
            volatility_lookbacks=tuple(head["volatility_lookbacks"]),
            first=head["first"],
            warm_up=head["warm_up"],
            split=head["split"],
            bounds=tuple(head["bounds"]),
            alpha_bounds=tuple(head["alpha_bounds"]),
            rules=Rules(
                **{
                    **head["rules"],
                    "per_symbol": tuple(head["rules"]["per_symbol"]),
                    **{name: mapped(name) for name in _RULE_ARRAYS},
                    "finer": FinerBars(*(mapped(f"finer_{one.name}") for one in fields(FinerBars)))
                    if head["finer"]
                    else None,
                    "slower": None,
                }
            ),
            **{name: mapped(name) for name in cls._ARRAYS},
        )


def feature_keys(space: Space) -> list[FeatureKey]:
    """Every feature column that a parameter set of the space may read, sorted.

    Args:
        space: the parameter space of the study.
    """
    keys: set[FeatureKey] = set()
    for strategy in space.strategies:
        for use in strategy.features:
            names = sorted({one for one in use[1:] if isinstance(one, str)})
            lists = [space.column_values(strategy.column(name)) for name in names]
            for values in product(*lists):
                keys.add(strategy.feature_key(use, dict(zip(names, values, strict=True))))
    # The kernels read one column at least.
    return sorted(keys) or [("close",)]


def given_features(space: Space) -> dict[str, CustomFeature | TalibFeature]:
    """The features of the user's own strategies, by name.

    Args:
        space: the parameter space of the study.

    Raises:
        StrategyError: the file of a strategy is missing or has changed.
    """
    return {
        name: feature
        for strategy in space.user_strategies
        for name, feature in strategy.kernels().features.items()
    }


def require_finite(
    bars: Bars,
    columns: FeatureColumns,
    given: Mapping[str, CustomFeature | TalibFeature],
    live: MaskArray,
) -> None:
    """Refuse a user's feature that is not finite at a bar after its warm-up.

    Args:
        bars: the bars of all symbols.
        columns: computed from them.
        given: features of the user's strategies by name.
        live: see ``Inputs``; what is compared, or computed on longer bars, is finite where it is LIVE.

    Raises:
        StrategyError: names the place in the user's file, the bar and the symbol.
    """
    for i, (text, *parameters) in enumerate(columns.keys):
        name = read_name(text)
        if not name.given:
            continue
        unused = given_warm_up(name, split_parameters(name, parameters)[0])
        undefined = ~np.isfinite(columns.values[:, :, i])
        if name.timeframe is not None or name.across in ACROSS:
            undefined &= live == LIVE
        for s in range(bars.n_symbols):
            own = bars.own(s)
            undefined[: own[unused] if len(own) > unused else bars.n_bars, s] = False
        wrong = np.argwhere(undefined)
        if len(wrong):
            t, s = int(wrong[0, 0]), int(wrong[0, 1])
            raise StrategyError(
                f"{given[name.function].place}: feature {indicator_name(columns.keys[i])}:"
                f" {columns.values[t, s, i]} at {str(bars.timestamps[t])[:16]} of"
                f" {bars.symbols[s]} (bar {t}); give a number at every bar after the first"
                f" {unused}, or a longer lookback"
            )


def study_warm_up(space: Space, rules: Rules, bars: Bars) -> int:
    """The number of bars before the first decision: the longest warm-up of the space.

    Args:
        space: the parameter space of the study.
        rules: the rules of the study.
        bars: the bars of all symbols.

    Raises:
        StrategyError: a timeframe is no longer than the bars.
    """
    keys, clock = feature_keys(space), rules.clock(bars)
    _require_longer_bars(space, clock)
    longest = bars_of_warm_up(bars, keys, clock)
    longest = max(longest, *(warm_up(("volatility", n)) for n in _volatility_lookbacks(space)))
    if rules.ranges:
        longest = max(longest, warm_up(("atr", rules.atr_lookback)))
    return max(longest, rules.correlation_lookback) if rules.correlated else longest


def _require_longer_bars(space: Space, clock: MarketClock) -> None:
    """Refuse a timeframe that is no longer than the bars, with its place in the user's file."""
    for strategy in space.user_strategies:
        for argument, (feature, *_) in strategy.declaration.features:
            timeframe = read_name(feature).timeframe
            problem = timeframe_problem(timeframe, clock) if timeframe else ""
            if problem:
                place = strategy.kernels().places[argument]
                raise StrategyError(f"{place}: FEATURES: {argument}: {problem}")


def _volatility_lookbacks(space: Space) -> tuple[int, ...]:
    return space.lookbacks("risk", "volatility_lookback")


def require_warm_up(bars: Bars, first: int) -> None:
    """Refuse bars that end in the warm-up of a study, or soon after it.

    Args:
        bars: the bars of all symbols.
        first: bar of the first decision.

    Raises:
        DataError: there are fewer than 10 bars from ``first`` on.
    """
    require_bars(bars, first + 10, f"the longest lookback of the study needs {first} for warm-up")


def holdout_bar(bars: Bars, rules: Rules, first: int, holdout: float) -> int:
    """The first bar of the holdout; n_bars without a holdout. It begins with a return of its own.

    Args:
        bars: the bars of all symbols.
        rules: the rules of the study.
        first: bar of the first decision.
        holdout: share of the bars from ``first`` on; 0 for no holdout.

    Raises:
        DataError: the share is less than two bars, or all bars are of one day.
    """
    split = bars.n_bars - int((bars.n_bars - first) * holdout)
    closes = rules.closes(first, split)
    if not len(closes):
        raise DataError(
            f"{bars.source}: the {split - first} in-sample bars are of one day, and [search] returns ="
            ' "day" needs more; set it to "bar", or give more bars'
        )
    split = int(closes[-1]) + 1
    if holdout > 0.0 and bars.n_bars - split < 2:
        raise DataError(
            f"{bars.source}: a holdout of {holdout} leaves {bars.n_bars - split} of"
            f" {bars.n_bars - first} bars; raise [validation] holdout, or set it to 0"
        )
    return split


def block_bounds(
    first: int, split: int, n_blocks: int, least: int = LEAST_BLOCK
) -> tuple[int, ...]:
    """Bounds of ``n_blocks`` blocks of equal length that end at ``split``.

    No block is shorter than ``least`` bars. If the bars do not suffice, there are fewer blocks, an even
    number. Bars that are left over are left out at the start.

    Args:
        first: first bar.
        split: bar after the last one.
        n_blocks: number of blocks wanted, even.
        least: bars of a block.

    Returns:
        Ascending, one more than there are blocks.

    >>> block_bounds(100, 202, 4)
    (102, 127, 152, 177, 202)
    >>> block_bounds(100, 120, 4)
    (100, 110, 120)
    """
    most = (split - first) // least
    n_blocks = n_blocks if n_blocks <= most else most // 2 * 2
    length = (split - first) // max(n_blocks, 1)
    return tuple(split - block * length for block in range(n_blocks, -1, -1))


def return_blocks(
    rules: Rules, first: int, split: int, n_blocks: int, least: int = LEAST_BLOCK
) -> tuple[int, ...]:
    """Bounds in bars of ``block_bounds`` of the returns: each block has as many returns.

    Args:
        rules: the rules of the study.
        first: first bar.
        split: bar after the last one, where a return has been closed.
        n_blocks: number of blocks wanted, even.
        least: returns of a block.

    Returns:
        Ascending, one more than there are blocks.
    """
    edges = np.concatenate(([first], rules.closes(first, split) + 1))
    return tuple(int(edges[i]) for i in block_bounds(0, len(edges) - 1, n_blocks, least))


def prepare(
    bars: Bars,
    space: Space,
    rules: Rules,
    holdout: float,
    first: int | None = None,
    n_blocks: int = 0,
    warm_up: int | None = None,
) -> Inputs:
    """Compute once what all parameter sets of a space share.

    Args:
        bars: the bars of all symbols.
        space: the parameter space of the study.
        rules: the rules of the study.
        holdout: share of the bars after the warm-up that the search never sees; 0 for no holdout.
        first: bar of the first decision; None takes the longest warm-up of the space.
        n_blocks: in-sample blocks of bars whose return moments are kept; see ``block_bounds``.
        warm_up: bars of its own that a symbol has before its first decision; None takes the longest
            warm-up of the space.

    Returns:
        The inputs of every tile of the space.

    Raises:
        DataError: too few bars for the warm-up.
        StrategyError: a user's feature raised, or is not finite after its warm-up.
    """
    warm_up = study_warm_up(space, rules, bars) if warm_up is None else warm_up
    first = warm_up if first is None else first
    if not isinstance(first, int) or first < 0:
        raise DataError(f"{bars.source}: first bar {first!r}; expected a whole number, 0 or more")
    require_warm_up(bars, first)
    split = holdout_bar(bars, rules, first, holdout)
    lookbacks = _volatility_lookbacks(space)
    volatilities = compute_features(bars, [("volatility", n) for n in lookbacks]).values
    with np.errstate(divide="ignore"):
        usable = np.where(volatilities > 0.0, volatilities, np.inf)
    correlations = None
    if rules.correlated:
        correlations = compute_correlations(
            bars, rules.correlation_lookback, rules.correlation_refresh, first
        )
    volatilities = np.nan_to_num(volatilities)
    atrs = np.empty((0, bars.n_symbols))
    if rules.ranges:
        values = compute_features(bars, [("atr", rules.atr_lookback)]).values[:, :, 0]
        atrs = np.stack(
            [bars.carried(s, values[bars.own(s), s], np.nan) for s in range(bars.n_symbols)], axis=1
        )
        atrs = np.nan_to_num(np.ascontiguousarray(atrs))
    given = given_features(space)
    live = live_mask(bars, warm_up, rules.members, rules.flat)
    features = compute_features(
        bars,
        feature_keys(space),
        given,
        rules.clock(bars),
        tradable_mask(bars, warm_up, rules.members),
    )
    require_finite(bars, features, given, live)
    inputs = Inputs(
        bars=bars,
        features=features,
        volatilities=volatilities,
        inverse_volatilities=1.0 / usable,
        volatility_lookbacks=lookbacks,
        correlations=correlations,
        first=first,
        split=split,
        bounds=return_blocks(rules, first, split, n_blocks),
        rules=rules,
        live=live,
        warm_up=warm_up,
        ends=symbol_ends(bars),
        atrs=atrs,
        benchmark=np.zeros(0),
        alpha_bounds=(split,),
        multipliers=np.empty((0, 0), np.float32),
    )
    for name in inputs._ARRAYS:
        array = getattr(inputs, name)
        if array is not None:
            array.flags.writeable = False
    return inputs


def fit_key(bars: Bars, key: RegimeKey, probabilities: bool = False) -> tuple[MarketRegime, str]:
    """Regime of the market at every bar by one classifier.

    Args:
        bars: the bars of all symbols.
        key: the regime model.
        probabilities: whether to compute them too; see ``Strategy.regime_values``.

    Returns:
        The regime, and the reason why the classifier was never fitted, if so.

    Raises:
        DataError: the market is not among the symbols of the bars.
    """
    name, market, parameters = key
    if name == "none":
        return MarketRegime.neutral(bars.n_bars, probabilities), ""
    regimes = fit_market(bars, market, name, dict(parameters), probabilities)
    never = "" if regimes.n_fits else f"{name}: {regimes.reasons[0]}"
    return MarketRegime(regimes.codes, regimes.probabilities), never
