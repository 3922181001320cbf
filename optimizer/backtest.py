"""From bars and parameter sets to results, with no search and no processes: the sweep's inner part."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kernels import layout
from kernels.execution import buy_cost_per_lot, sell_proceeds_per_lot
from kernels.metrics import performance
from kernels.simulation import simulate
from optimizer.bars import require_bars
from optimizer.catalogue import CLASSIFIERS, METRICS, STRATEGIES, column
from optimizer.classifiers import fit_regimes, market_returns
from optimizer.config import Study, study_from_dict
from optimizer.custom import CustomFeature, CustomStrategy, load_custom, strategy_parameters
from optimizer.errors import DataError, StrategyError, StudyFileError
from optimizer.features import (
    FeatureColumns,
    FeatureKey,
    compute_correlations,
    compute_features,
    warm_up,
)
from optimizer.services import strategy_kernel
from optimizer.space import Space, Value, build_space
from optimizer.types import Bars, BoolArray, FloatArray, IntArray

RegimeKey = tuple[str, str | None, tuple[tuple[str, int], ...]]
"""A classifier, the market's symbol (None: the index), and the classifier's parameters."""

RegimeCodes = npt.NDArray[np.int8]

NO_REGIME: RegimeKey = ("none", None, ())

BLOCKS_PER_CALL = 8
"""Blocks that walk the bars together: enough to share a time tile's features, few for the cache."""

LEAST_BLOCK = 10
"""Bars below which a block's Sharpe ratio says nothing."""

PRICES = ("open", "high", "low", "close", "volume")
"""Arrays of ``Bars`` beside its timestamps."""


@dataclass(frozen=True)
class Rules:
    """What holds for every parameter set of a study.

    Attributes:
        initial_cash: money.
        commission, slippage: fractions of the traded value and of the price.
        lot_size: units.
        ewma_decay: of the portfolio's variance.
        allow_short, close_fill: see the study file.
        stops: whether any parameter set has a stop.
        correlated: whether any has a correlation penalty.
        correlation_lookback, correlation_refresh: bars.
    """

    initial_cash: float
    commission: float
    slippage: float
    lot_size: float
    ewma_decay: float
    allow_short: bool
    close_fill: bool
    stops: bool
    correlated: bool
    correlation_lookback: int
    correlation_refresh: int


def study_rules(study: Study, space: Space, n_symbols: int) -> Rules:
    """The rules of a study; options that no parameter set uses are off."""

    def any_positive(name: str) -> bool:
        return any(max(branch.values(name)) > 0 for branch in space.branches)

    fixed = space.branches[0].fixed
    exact = n_symbols <= int(fixed["correlation_exact_symbols"])
    return Rules(
        initial_cash=study.costs.initial_cash,
        commission=study.costs.commission_bps / 1e4,
        slippage=study.costs.slippage_bps / 1e4,
        lot_size=float(fixed["lot_size"]),
        ewma_decay=float(fixed["ewma_decay"]),
        allow_short=study.risk.allow_short,
        close_fill=study.costs.fill == "close",
        stops=any(any_positive(name) for name in ("stop_loss", "take_profit", "trailing_stop")),
        correlated=n_symbols > 1 and any_positive("correlation_penalty"),
        correlation_lookback=int(fixed["correlation_lookback"]),
        correlation_refresh=1 if exact else int(fixed["correlation_refresh"]),
    )


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that the parameter sets of a study share, read-only.

    Attributes:
        bars: of all symbols.
        features: columns of every lookback of the space.
        volatilities: (n_bars, n_symbols, n_lookbacks) per bar, with its inverse beside it, which is
            0 where the volatility is 0.
        volatility_lookbacks: of its columns, ascending.
        correlations: (n_refreshes, n_symbols, n_symbols) from bar ``first`` on; None where unused.
        first: bar of the first decision; the same for every parameter set.
        split: first bar of the holdout; n_bars where there is none.
        bounds: block b of the in-sample bars is [bounds[b], bounds[b + 1]); the last one ends at
            ``split``.
        rules: of the study.
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

    _ARRAYS = ("volatilities", "inverse_volatilities", "correlations")

    def save(self, folder: Path) -> None:
        """Write the arrays to ``folder`` for workers to map."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("timestamps", *PRICES):
            np.save(folder / f"{name}.npy", getattr(self.bars, name))
        np.save(folder / "features.npy", self.features.values)
        for name in self._ARRAYS:
            if getattr(self, name) is not None:
                np.save(folder / f"{name}.npy", getattr(self, name))
        head = {
            "symbols": self.bars.symbols,
            "bars_per_year": self.bars.bars_per_year,
            "source": self.bars.source,
            "keys": self.features.keys,
            "volatility_lookbacks": self.volatility_lookbacks,
            "first": self.first,
            "split": self.split,
            "bounds": self.bounds,
            "rules": asdict(self.rules),
        }
        (folder / "inputs.json").write_text(json.dumps(head))

    def shortened(self) -> Inputs:
        """The same with the walk cut to one bar in and one out of sample: enough to compile."""
        few = self.bars.head(self.first + 2)
        return replace(self, bars=few, split=self.first + 1, bounds=(self.first + 1,))

    def window(self, first: int, split: int, stop: int) -> Inputs:
        """The same with the first decision at ``first``, a holdout [split, stop), and no blocks."""
        bars, rules = self.bars.head(stop), self.rules
        correlations = self.correlations
        if correlations is not None:
            correlations = compute_correlations(
                bars, rules.correlation_lookback, rules.correlation_refresh, first
            )
            correlations.flags.writeable = False
        return replace(
            self, bars=bars, correlations=correlations, first=first, split=split, bounds=(split,)
        )

    @classmethod
    def load(cls, folder: Path) -> Inputs:
        """Map what ``save`` wrote."""
        head = json.loads((folder / "inputs.json").read_text())

        def mapped(name: str) -> FloatArray:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

        bars = Bars(
            symbols=tuple(head["symbols"]),
            timestamps=np.asarray(
                np.load(folder / "timestamps.npy", mmap_mode="r", allow_pickle=False)
            ),
            **{name: mapped(name) for name in PRICES},
            bars_per_year=head["bars_per_year"],
            source=head["source"],
        )
        keys = tuple((name, lookback) for name, lookback in head["keys"])
        return cls(
            bars,
            FeatureColumns(keys, mapped("features")),
            mapped("volatilities"),
            mapped("inverse_volatilities"),
            tuple(head["volatility_lookbacks"]),
            mapped("correlations") if head["rules"]["correlated"] else None,
            head["first"],
            head["split"],
            tuple(head["bounds"]),
            Rules(**head["rules"]),
        )


def feature_keys(space: Space) -> list[FeatureKey]:
    """Every feature column that a parameter set of the space may read."""
    keys: set[FeatureKey] = set()
    for strategy, custom in {(branch.strategy, branch.custom) for branch in space.branches}:
        for feature, parameter in strategy_kernel(strategy, custom).features:
            keys.update((feature, n) for n in space.lookbacks(strategy, parameter))
    # The kernels read one column at least.
    return sorted(keys) or [("close", 1)]


def given_features(space: Space) -> dict[str, CustomFeature]:
    """The features of users' own strategies, by name."""
    customs = dict.fromkeys(branch.custom for branch in space.branches)
    return {
        name: feature
        for custom in customs
        if custom is not None
        for name, feature in load_custom(custom).features.items()
    }


def require_finite(bars: Bars, columns: FeatureColumns, given: Mapping[str, CustomFeature]) -> None:
    """Refuse a user's feature that is not finite at a bar after its warm-up.

    Raises:
        StrategyError: names the place in the user's file, the bar and the symbol.
    """
    for i, (name, lookback) in enumerate(columns.keys):
        if name not in given:
            continue
        wrong = np.argwhere(~np.isfinite(columns.values[lookback:, :, i]))
        if len(wrong):
            t, s = int(wrong[0, 0]) + lookback, int(wrong[0, 1])
            raise StrategyError(
                f"{given[name].place}: feature {name} with lookback {lookback}:"
                f" {columns.values[t, s, i]} at {str(bars.timestamps[t])[:16]} of"
                f" {bars.symbols[s]} (bar {t}); give a number at every bar after the first"
                f" {lookback}, or a longer lookback"
            )


def study_warm_up(space: Space, rules: Rules) -> int:
    """Bars before the first decision: the longest warm-up of the study's space."""
    longest = max((warm_up(*key) for key in feature_keys(space)), default=0)
    longest = max(longest, *(warm_up("volatility", n) for n in _volatility_lookbacks(space)))
    return max(longest, rules.correlation_lookback) if rules.correlated else longest


def _volatility_lookbacks(space: Space) -> tuple[int, ...]:
    return space.lookbacks("risk", "volatility_lookback")


def holdout_bar(bars: Bars, first: int, holdout: float) -> int:
    """First bar of the holdout, ``n_bars`` where there is none.

    Args:
        bars: of all symbols.
        first: bar of the first decision.
        holdout: share of the bars from there on, 0 for none.

    Raises:
        DataError: the share is too small for two bars.
    """
    split = bars.n_bars - int((bars.n_bars - first) * holdout)
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

    No block is shorter than ``least`` bars: there are fewer, an even number, where the bars do not
    suffice. Bars that do not divide are left out at the start.

    >>> block_bounds(100, 202, 4)
    (102, 127, 152, 177, 202)
    >>> block_bounds(100, 120, 4)
    (100, 110, 120)
    """
    most = (split - first) // least
    n_blocks = n_blocks if n_blocks <= most else most // 2 * 2
    length = (split - first) // max(n_blocks, 1)
    return tuple(split - block * length for block in range(n_blocks, -1, -1))


TRIED_SIGNALS = 20_000
"""Signals of a user's strategy that are looked at before a study starts."""


def try_signals(inputs: Inputs, space: Space) -> None:
    """Refuse a user's strategy whose signal is none, at the first parameter set of the study.

    In a sweep such a signal is HOLD, so that a rare case does not end a search of hours.

    Raises:
        StrategyError: names the place in the user's file, the bar, the symbol and the values.
    """
    bars = inputs.bars
    for branch in {one.custom: one for one in space.branches}.values():
        if branch.custom is None:
            continue
        point = {searched.name: searched.first for searched in branch.searched}
        lane = replace(branch, constraints=()).lanes(point, 0, 1)
        tile = Tile(branch.strategy, branch.classifier, branch.market, lane, branch.custom)
        parameters, columns = _lane_rows(tile, inputs)
        at = _row(layout.USER_FEATURE_0), _row(layout.VOLATILITY_COLUMN), _row(layout.SIGNAL_0)
        read = columns[at[0] : at[0] + layout.N_FEATURES, 0]
        signal = load_custom(branch.custom)
        step = max(1, (bars.n_bars - inputs.first) * bars.n_symbols // TRIED_SIGNALS)
        for t in range(inputs.first, bars.n_bars, step):
            for s, symbol in enumerate(bars.symbols):
                given = (
                    *(float(inputs.features.values[t, s, column]) for column in read),
                    float(bars.close[t, s]),
                    float(inputs.volatilities[t, s, columns[at[1], 0]]),
                    float(inputs.inverse_volatilities[t, s, columns[at[1], 0]]),
                    *(float(value) for value in parameters[at[2] :, 0]),
                )
                problem = signal.problem(given)
                if problem:
                    when = str(bars.timestamps[t])[:16]
                    raise StrategyError(f"{problem} at {when} of {symbol} (bar {t})")


def prepare(
    bars: Bars,
    space: Space,
    rules: Rules,
    holdout: float,
    first: int | None = None,
    n_blocks: int = 0,
) -> Inputs:
    """Compute once what all parameter sets of a space share.

    Args:
        bars: of all symbols.
        space: of the study.
        rules: of the study.
        holdout: share of the bars after the warm-up that the search never sees, 0 for none.
        first: bar of the first decision; None takes the longest warm-up of the space.
        n_blocks: blocks of in-sample bars whose return moments are kept, see ``block_bounds``.

    Raises:
        DataError: too few bars for the warm-up.
        StrategyError: a user's feature fails, or is not finite after its warm-up.
    """
    first = study_warm_up(space, rules) if first is None else first
    if not isinstance(first, int) or first < 0:
        raise DataError(f"{bars.source}: first bar {first!r}; expected a whole number, 0 or more")
    require_bars(bars, first + 10, f"the longest lookback of the study needs {first} for warm-up")
    split = holdout_bar(bars, first, holdout)
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
    given = given_features(space)
    features = compute_features(bars, feature_keys(space), given)
    require_finite(bars, features, given)
    inputs = Inputs(
        bars=bars,
        features=features,
        volatilities=volatilities,
        inverse_volatilities=1.0 / usable,
        volatility_lookbacks=lookbacks,
        correlations=correlations,
        first=first,
        split=split,
        bounds=block_bounds(first, split, n_blocks),
        rules=rules,
    )
    for array in (inputs.volatilities, inputs.inverse_volatilities, inputs.correlations):
        if array is not None:
            array.flags.writeable = False
    return inputs


@dataclass(frozen=True, eq=False)
class Tile:
    """Parameter sets of one branch.

    Attributes:
        strategy: name.
        classifier: name.
        market: symbol whose regime it is; None for the index.
        columns: every numeric parameter by its column name, each of shape (n_lanes,).
        custom: the strategy, where it is a user's.
    """

    strategy: str
    classifier: str
    market: str | None
    columns: Mapping[str, FloatArray]
    custom: CustomStrategy | None = None

    @property
    def n_lanes(self) -> int:
        """Number of parameter sets."""
        return len(self.columns["kelly_fraction"])

    def slice(self, start: int, stop: int) -> Tile:
        """Parameter sets ``start`` to ``stop - 1``."""
        return replace(self, columns={n: c[start:stop] for n, c in self.columns.items()})

    def regime_keys(self) -> tuple[list[RegimeKey], IntArray]:
        """The distinct regime models of the lanes, and which of them each lane reads."""
        names = [parameter.name for parameter in CLASSIFIERS[self.classifier]]
        if not names:
            return [NO_REGIME], np.zeros(self.n_lanes, dtype=np.int64)
        table = np.stack([self.columns[column(self.classifier, n)] for n in names], axis=1)
        distinct, which = np.unique(table, axis=0, return_inverse=True)
        keys: list[RegimeKey] = [
            (
                self.classifier,
                self.market,
                tuple((n, int(v)) for n, v in zip(names, row, strict=True)),
            )
            for row in distinct
        ]
        return keys, which.ravel().astype(np.int64)


def fit_key(bars: Bars, key: RegimeKey) -> tuple[RegimeCodes, str]:
    """Regime of the market at every bar by one classifier, and a warning or nothing.

    Returns:
        (n_bars,) codes, and why the classifier was never fitted, if so.
    """
    name, market, parameters = key
    if name == "none":
        return np.zeros(bars.n_bars, dtype=np.int8), ""
    regimes = fit_regimes(market_returns(bars, market), name, dict(parameters))
    never = "" if regimes.n_fits else f"{name}: {regimes.reasons[0]}"
    return regimes.codes, never


@dataclass(frozen=True, eq=False)
class TileResult:
    """Metrics of a tile's parameter sets.

    Attributes:
        in_sample: (n_lanes, n_metrics), in the order of ``catalogue.METRICS``.
        out_of_sample: the same over the holdout; all NaN where there is none.
        moments: (n_lanes, 2, n_blocks), sum of the returns per bar and of their squares over each
            block of ``Inputs.bounds``.
    """

    in_sample: FloatArray
    out_of_sample: FloatArray
    moments: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[TileResult]) -> TileResult:
        """The lanes of several results, in order."""
        return cls(
            np.concatenate([part.in_sample for part in parts]),
            np.concatenate([part.out_of_sample for part in parts]),
            np.concatenate([part.moments for part in parts]),
        )

    def lanes(self, places: IntArray) -> TileResult:
        """Some of the lanes."""
        return TileResult(self.in_sample[places], self.out_of_sample[places], self.moments[places])


@dataclass(eq=False)
class _Blocks:
    """Lanes laid out in blocks for the simulation; ``order`` is the place of each lane."""

    strategies: IntArray
    shared: BoolArray
    columns: npt.NDArray[np.uint64]
    parameters: FloatArray
    regimes: RegimeCodes
    order: list[IntArray] = field(default_factory=list)
    customs: list[CustomStrategy | None] = field(default_factory=list)

    @property
    def n_blocks(self) -> int:
        return len(self.strategies)


def _positions_of(values: FloatArray, known: Sequence[int]) -> IntArray:
    return np.searchsorted(np.asarray(known), values.astype(np.int64)).astype(np.int64)


_RISK_ROWS = {
    "kelly_fraction": layout.KELLY_FRACTION,
    "max_exposure": layout.MAX_EXPOSURE,
    "bear_multiplier": layout.BEAR_MULTIPLIER,
    "neutral_multiplier": layout.NEUTRAL_MULTIPLIER,
    "bull_multiplier": layout.BULL_MULTIPLIER,
    "correlation_penalty": layout.CORRELATION_PENALTY,
    "rebalance_band": layout.REBALANCE_BAND,
}
_STOP_ROWS = {
    "stop_loss": layout.STOP_LOSS,
    "take_profit": layout.TAKE_PROFIT,
    "trailing_stop": layout.TRAILING_STOP,
}


def _row(offset: np.uint64) -> int:
    return int(offset) // layout.STRIDE


def _lane_rows(tile: Tile, inputs: Inputs) -> tuple[FloatArray, npt.NDArray[np.uint64]]:
    """Parameter rows and column rows of a tile's lanes, (rows, n_lanes); regimes left at 0."""
    kernel = strategy_kernel(tile.strategy, tile.custom)
    own = {
        p.name: tile.columns[column(tile.strategy, p.name)]
        for p in strategy_parameters(tile.strategy, tile.custom)
    }
    parameters = np.zeros((layout.N_PARAMETER_ROWS, tile.n_lanes))
    for name, offset in _RISK_ROWS.items():
        parameters[_row(offset)] = tile.columns[name]
    for name, offset in _STOP_ROWS.items():
        distance = tile.columns[name]
        parameters[_row(offset)] = np.where(distance > 0.0, distance, np.inf)
    parameters[_row(layout.MIN_LOTS)] = tile.columns["min_order_size"] / inputs.rules.lot_size
    for row, values in enumerate(kernel.signal(own)):
        parameters[_row(layout.SIGNAL_0) + row] = values
    columns = np.zeros((layout.N_COLUMN_ROWS, tile.n_lanes), dtype=np.uint64)
    first = _row(layout.FEATURE_0 if tile.custom is None else layout.USER_FEATURE_0)
    for row, (feature, lookback) in enumerate(kernel.features):
        distinct, which = np.unique(own[lookback], return_inverse=True)
        places = np.array([inputs.features.index((feature, int(n))) for n in distinct])
        columns[first + row] = places[which.ravel()]
    columns[_row(layout.VOLATILITY_COLUMN)] = _positions_of(
        tile.columns["volatility_lookback"], inputs.volatility_lookbacks
    )
    return parameters, columns


def _lay_out(
    tiles: Sequence[Tile], inputs: Inputs, regimes: Mapping[RegimeKey, RegimeCodes]
) -> _Blocks:
    """Put the lanes of all tiles into blocks, those of one strategy together."""
    models: list[RegimeKey] = []
    by_code: dict[tuple[int, str], list[int]] = {}
    rows: list[tuple[FloatArray, npt.NDArray[np.uint64]]] = []
    for i, tile in enumerate(tiles):
        parameters, columns = _lane_rows(tile, inputs)
        keys, which = tile.regime_keys()
        models.extend(key for key in keys if key not in models)
        places = np.array([models.index(key) for key in keys])
        columns[_row(layout.REGIME_COLUMN)] = places[which]
        rows.append((parameters, columns))
        code = strategy_kernel(tile.strategy, tile.custom).code
        by_code.setdefault((code, tile.strategy if tile.custom else ""), []).append(i)
    order: list[IntArray] = [np.empty(0, dtype=np.int64)] * len(tiles)
    parts, strategies, at = [], [], 0
    customs: list[CustomStrategy | None] = []
    for (code, _), members in sorted(by_code.items()):
        parameters = np.concatenate([rows[i][0] for i in members], axis=1)
        columns = np.concatenate([rows[i][1] for i in members], axis=1)
        n_lanes = parameters.shape[1]
        start = at
        for i in members:
            order[i] = np.arange(start, start + tiles[i].n_lanes)
            start += tiles[i].n_lanes
        padding = -n_lanes % layout.LANES
        # The last lane again: a block is always full, and padding changes no column.
        parts.append(
            (
                np.pad(parameters, ((0, 0), (0, padding)), mode="edge"),
                np.pad(columns, ((0, 0), (0, padding)), mode="edge"),
            )
        )
        strategies += [code] * ((n_lanes + padding) // layout.LANES)
        customs += [tiles[members[0]].custom] * ((n_lanes + padding) // layout.LANES)
        at += n_lanes + padding
    parameters = _blocked(np.concatenate([p for p, _ in parts], axis=1))
    columns = _blocked(np.concatenate([c for _, c in parts], axis=1))
    lanes = columns[:, :, : layout.LANES]
    shared = (lanes == lanes[:, :, :1]).all(axis=(1, 2))
    codes = np.stack([regimes[key] for key in models], axis=1)
    codes.flags.writeable = False
    return _Blocks(np.array(strategies), shared, columns, parameters, codes, order, customs)


def _blocked(rows: Any) -> Any:
    """(n_rows, n_lanes) as (n_blocks, n_rows, STRIDE)."""
    n_rows, n_lanes = rows.shape
    blocks = layout.aligned_zeros((n_lanes // layout.LANES, n_rows, layout.STRIDE), rows.dtype)
    blocks[:, :, : layout.LANES] = rows.reshape(n_rows, -1, layout.LANES).transpose(1, 0, 2)
    return blocks


@dataclass(eq=False)
class _Recording:
    """What lane 0 did: equity (n_bars,), fills (n_bars, n_symbols, 3), stop prices."""

    equity: FloatArray
    fills: FloatArray
    stop_prices: FloatArray


def _run(
    inputs: Inputs, blocks: _Blocks, start: int, stop: int, recording: _Recording | None
) -> TileResult:
    """Simulate blocks ``start`` to ``stop - 1``, of one kernel, in and out of sample."""
    bars, rules = inputs.bars, inputs.rules
    custom = blocks.customs[start]
    users = None if custom is None else load_custom(custom)
    walk_bars = simulate if users is None else functools.partial(users.call, users.simulate)
    n = stop - start
    state = layout.aligned_zeros((n, layout.N_LANE_ROWS, layout.STRIDE))
    for offset in (layout.CASH, layout.EQUITY, layout.PEAK):
        state[:, _row(offset)] = rules.initial_cash
    positions = layout.aligned_zeros((n * bars.n_symbols * int(layout.POSITION_BLOCK),))
    pending = np.zeros((n, bars.n_symbols), dtype=np.uint8)
    scratch = layout.aligned_zeros((layout.SCRATCH_SIZE,))
    values = None
    if inputs.correlations is not None:
        values = layout.aligned_zeros((bars.n_symbols, layout.STRIDE))

    def walk(first: int, last: int) -> None:
        walk_bars(
            first,
            last,
            bars.open,
            bars.high,
            bars.low,
            bars.close,
            inputs.features.values,
            inputs.volatilities,
            inputs.inverse_volatilities,
            blocks.regimes,
            inputs.correlations,
            inputs.first,
            rules.correlation_refresh,
            blocks.strategies[start:stop],
            blocks.shared[start:stop],
            blocks.columns[start:stop].reshape(-1),
            blocks.parameters[start:stop].reshape(-1),
            state.reshape(-1),
            positions,
            pending,
            scratch,
            values,
            rules.lot_size,
            rules.slippage,
            rules.commission,
            rules.ewma_decay,
            recording.equity if recording else None,
            recording.fills if recording else None,
            recording.stop_prices if recording else None,
            True if rules.stops else None,
            True if rules.allow_short else None,
            True if rules.close_fill else None,
        )

    def metrics(begin: FloatArray, n_bars: int) -> FloatArray:
        out = np.empty((n * layout.LANES, len(METRICS)))
        performance(_rows(state), begin, n_bars, bars.bars_per_year, out)
        return out

    def returns_so_far() -> FloatArray:
        rows = state[:, [_row(layout.SUM_RETURN), _row(layout.SUM_RETURN_2)], : layout.LANES]
        return rows.transpose(0, 2, 1).reshape(-1, 2)

    begin = _rows(state)[_row(layout.EQUITY)].copy()
    sums = np.empty((len(inputs.bounds), n * layout.LANES, 2))
    at = inputs.first
    for i, bound in enumerate(inputs.bounds):
        walk(at, bound)
        sums[i] = returns_so_far()
        at = bound
    moments = np.ascontiguousarray(np.diff(sums, axis=0).transpose(1, 2, 0))
    in_sample = metrics(begin, inputs.split - inputs.first)
    if inputs.split == bars.n_bars:
        return TileResult(in_sample, np.full_like(in_sample, np.nan), moments)
    begin = _rows(state)[_row(layout.EQUITY)].copy()
    state[:, _row(layout.PEAK)] = state[:, _row(layout.EQUITY)]
    state[:, _row(layout.PEAK) + 1 :] = 0.0
    # A trade that is open at the split starts anew at its value there: what it made before is
    # in-sample.
    held = positions.reshape(n, bars.n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE)
    lot_values = bars.close[inputs.split - 1] * rules.lot_size
    held[:, :, _row(layout.FLOW)] = -(held[:, :, _row(layout.LOTS)] * lot_values[:, np.newaxis])
    walk(inputs.split, bars.n_bars)
    return TileResult(in_sample, metrics(begin, bars.n_bars - inputs.split), moments)


def _rows(state: FloatArray) -> FloatArray:
    """State of all lanes as (N_LANE_ROWS, n_lanes)."""
    lanes = state[:, :, : layout.LANES]
    return np.ascontiguousarray(lanes.transpose(1, 0, 2).reshape(layout.N_LANE_ROWS, -1))


def evaluate(
    inputs: Inputs, tiles: Sequence[Tile], regimes: Mapping[RegimeKey, RegimeCodes]
) -> list[TileResult]:
    """Simulate every parameter set of some tiles.

    A set's result does not depend on what it is computed beside. Small tiles share blocks.

    Args:
        inputs: of the study.
        tiles: at least one, none of them empty.
        regimes: codes of each regime model that the tiles name.
    """
    blocks = _lay_out(tiles, inputs, regimes)
    parts = [_run(inputs, blocks, start, stop, None) for start, stop in _calls(blocks)]
    whole = TileResult.joined(parts)
    return [whole.lanes(places) for places in blocks.order]


def _calls(blocks: _Blocks) -> Iterator[tuple[int, int]]:
    """Blocks that walk the bars together: some, of one kernel."""
    start = 0
    for _, group in itertools.groupby(blocks.customs):
        end = start + len(list(group))
        for first in range(start, end, BLOCKS_PER_CALL):
            yield first, min(first + BLOCKS_PER_CALL, end)
        start = end


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """One parameter set in full.

    Attributes:
        parameters: as run, defaults filled in; ``strategy`` and ``classifier`` by name.
        equity: money at each close, indexed by the bar's time, from the first decision on.
        fills: one row a fill: time, symbol, quantity (signed units), price after slippage, cost
            (commission and slippage, money), kind (order, stop, or ruin).
        in_sample, out_of_sample: metrics; the latter None where there is no holdout.
        regimes: the regime code of each bar of ``equity``.
    """

    parameters: dict[str, Value]
    equity: pd.Series[float]
    fills: pd.DataFrame
    in_sample: dict[str, float]
    out_of_sample: dict[str, float] | None
    regimes: pd.Series[int]

    @property
    def open_positions(self) -> dict[str, float]:
        """Signed units held after the last bar, by symbol; they are marked there, and no trades yet."""
        lot = float(self.parameters["lot_size"])
        lots = (self.fills.groupby("symbol", sort=False)["quantity"].sum() / lot).round()
        return {str(symbol): float(n) * lot for symbol, n in lots.items() if n != 0}


def backtest(
    bars: Bars,
    parameters: Mapping[str, Value],
    *,
    costs: Mapping[str, Any] | None = None,
    allow_short: bool = False,
    market: str | None = None,
    holdout: float = 0.0,
    first_bar: int | None = None,
    strategy_path: str | Path | None = None,
) -> BacktestResult:
    """Run one parameter set through the bars, by the kernels of the sweep.

    Args:
        bars: of all symbols.
        parameters: by column name, such as ``{"strategy": "momentum", "momentum_lookback": 60}``;
            ``classifier`` defaults to ``none``, the others to the catalogue.
        costs: as the study file's ``[costs]``.
        allow_short: as in the study file's ``[risk]``.
        market: as in the study file's ``[classifier]``.
        holdout: share of the bars after the warm-up that counts as out-of-sample.
        first_bar: bar of the first decision; None takes the longest warm-up of the parameters.
        strategy_path: Python file of a user's own strategy; None for a built-in.

    Raises:
        StudyFileError: an unknown parameter, or a value out of bounds.
        StrategyError: the user's strategy cannot be used.
        DataError: too few bars, or an unknown market.
    """
    study = single_set_study(parameters, costs or {}, allow_short, market, holdout, strategy_path)
    space = build_space(study)
    rules = study_rules(study, space, bars.n_symbols)
    branch = space.branches[0]
    inputs = prepare(bars, space, rules, holdout, first_bar)
    tile = Tile(branch.strategy, branch.classifier, branch.market, branch.lanes({}), branch.custom)
    keys, _ = tile.regime_keys()
    codes = {key: fit_key(bars, key)[0] for key in keys}
    return record(inputs, tile, codes)


def record(inputs: Inputs, tile: Tile, regimes: Mapping[RegimeKey, RegimeCodes]) -> BacktestResult:
    """Run one parameter set and keep its equity and its fills.

    Args:
        inputs: of the study.
        tile: of one lane.
        regimes: codes of the regime model that it names.
    """
    bars = inputs.bars
    recording = _Recording(
        np.full(bars.n_bars, np.nan),
        np.zeros((bars.n_bars, bars.n_symbols, 3)),
        np.zeros((bars.n_bars, bars.n_symbols)),
    )
    result = _run(inputs, _lay_out([tile], inputs, regimes), 0, 1, recording)
    index = pd.DatetimeIndex(bars.timestamps[inputs.first :], name="timestamp", tz="UTC")
    codes = regimes[tile.regime_keys()[0][0]]
    values: dict[str, Value] = {name: float(array[0]) for name, array in tile.columns.items()}
    return BacktestResult(
        parameters={"strategy": tile.strategy, "classifier": tile.classifier, **values},
        equity=pd.Series(recording.equity[inputs.first :], index, name="equity"),
        fills=_fill_table(inputs, recording),
        in_sample=metric_values(result.in_sample[0]),
        out_of_sample=metric_values(result.out_of_sample[0])
        if inputs.split < bars.n_bars
        else None,
        regimes=pd.Series(codes[inputs.first :], index, name="regime"),
    )


def metric_values(row: FloatArray) -> dict[str, float]:
    """Metrics of one parameter set by name."""
    return {name: float(value) for name, value in zip(METRICS, row, strict=True)}


def single_set_study(
    parameters: Mapping[str, Value],
    costs: Mapping[str, Any],
    allow_short: bool,
    market: str | None,
    holdout: float,
    strategy_path: str | Path | None = None,
) -> Study:
    """A study of one parameter set; see ``backtest``.

    Raises:
        StudyFileError: an unknown parameter, or a value out of bounds.
    """
    given = dict(parameters)
    strategy = given.pop("strategy", None)
    classifier = given.pop("classifier", "none")
    own = strategy_path is not None
    if not isinstance(strategy, str) or (strategy not in STRATEGIES and not own):
        raise StudyFileError(
            f"parameters: strategy = {strategy!r}: unknown; valid: {', '.join(STRATEGIES)}"
        )
    tables: dict[str, dict[str, Any]] = {
        "strategy": {"name": strategy, **({"path": str(strategy_path)} if own else {})},
        "classifier": {"name": classifier},
        "risk": {"allow_short": allow_short},
    }
    if market is not None:
        tables["classifier"]["market"] = market
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise StudyFileError(f"parameters: {name} = {value!r}: expected one number")
        table, key = "risk", name
        for owner in ("strategy", "classifier"):
            prefix = f"{tables[owner]['name']}_"
            if name.startswith(prefix):
                table, key = owner, name.removeprefix(prefix)
        whole = isinstance(value, float) and value.is_integer()
        tables[table][key] = int(value) if whole else value
    return study_from_dict(
        {
            "study": {"name": "backtest"},
            "data": {"path": "."},
            **tables,
            "costs": dict(costs),
            "validation": {"holdout": holdout},
        }
    )


def _fill_table(inputs: Inputs, recording: _Recording) -> pd.DataFrame:
    bars, rules = inputs.bars, inputs.rules
    prices = bars.close if rules.close_fill else bars.open
    at, symbol, kind = np.nonzero(recording.fills)
    lots = recording.fills[at, symbol, kind]
    stopped = kind == 2
    price = np.where(stopped, recording.stop_prices[at, symbol], prices[at, symbol])
    quantity = lots * rules.lot_size
    per_lot = [
        (buy_cost_per_lot if change > 0.0 else sell_proceeds_per_lot)(
            float(one), rules.lot_size, rules.slippage, rules.commission
        )
        for change, one in zip(lots, price, strict=True)
    ]
    paid = price * (1.0 + np.sign(lots) * rules.slippage)
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(bars.timestamps[at], tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": quantity,
            "price": paid,
            "cost": np.abs(lots * (price * rules.lot_size - np.array(per_lot))),
            "kind": np.where(stopped, "stop", "order"),
        }
    )
    # Stops come between the open and the close: before a fill at the close, after one at the open.
    when = np.where(stopped, 1, 2 if rules.close_fill else 0)
    ordered = frame.iloc[np.lexsort((symbol, kind, when, at))]
    return pd.concat([ordered, _ruin_table(inputs, recording)], ignore_index=True)


def _ruin_table(inputs: Inputs, recording: _Recording) -> pd.DataFrame | None:
    """The positions that ruin closed at the close, if it came: written off, at no cost."""
    bars = inputs.bars
    ruined = np.flatnonzero(recording.equity[inputs.first :] == 0.0)
    if not len(ruined):
        return None
    at = inputs.first + int(ruined[0])
    lots = recording.fills[: at + 1].sum(axis=(0, 2))
    symbol = np.flatnonzero(lots)
    return pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(np.repeat(bars.timestamps[at], len(symbol)), tz="UTC"),
            "symbol": np.asarray(bars.symbols, dtype=object)[symbol],
            "quantity": -lots[symbol] * inputs.rules.lot_size,
            "price": bars.close[at, symbol],
            "cost": 0.0,
            "kind": "ruin",
        }
    )
