"""From bars and parameter sets to results: one set in full, and many side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest

from optimizer import catalogue
from optimizer.catalogue import METRICS, RISK
from optimizer.errors import BarsweepError, DataError, StudyFileError
from optimizer.market.regimes import fit_regimes, market_returns
from optimizer.review.backtest import backtest
from optimizer.study_file.components import NAMED
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study, study_from_dict
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import (
    Inputs,
    MarketRegime,
    RegimeKey,
    feature_keys,
    fit_key,
    prepare,
    study_warm_up,
)
from optimizer.sweep.rules import Rules, study_rules
from optimizer.sweep.single_set import record_equity, simulate_single, single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars
from tests.reference.metrics import performance
from tests.support.studies import changed, mapping, random_bars

CASH = 50_000.0
COSTS = {"commission_bps": 7.0, "slippage_bps": 11.0, "initial_cash": CASH}
COMMISSION, SLIPPAGE = 7e-4, 11e-4
FINANCING, BORROW = 0.08, 0.03
LOANS = {"financing_bps_year": 800.0, "borrow_bps_year": 300.0}

LONG_ONLY: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 15,
    "kelly_fraction": 0.2,
    "correlation_lookback": 20,
}
WITH_STOPS: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 8,
    "momentum_threshold": 0.01,
    "kelly_fraction": 0.3,
    "correlation_lookback": 20,
    "stop_loss": 0.03,
    "take_profit": 0.08,
    "trailing_stop": 0.04,
    "min_order_size": 3,
}


def rows(frame: pd.DataFrame) -> Any:
    """The rows of ``frame`` as tuples with a name for each column."""
    return frame.itertuples()


def cut(bars: Bars, stop: int) -> Bars:
    names = ("timestamps", "open", "high", "low", "close", "volume")
    return replace(bars, **{name: getattr(bars, name)[:stop].copy() for name in names})


def run_long_only(**keys: Any) -> BacktestResult:
    return backtest(random_bars(), LONG_ONLY, costs=COSTS, holdout=0.25, **keys)


def run_with_stops(**keys: Any) -> BacktestResult:
    short: dict[str, Any] = {"allow_short": True, "account": LOANS}
    return backtest(random_bars(), WITH_STOPS, costs=COSTS, holdout=0.25, **short, **keys)


def run_at_close(**keys: Any) -> BacktestResult:
    costs = {**COSTS, "fill": "close"}
    return backtest(random_bars(), LONG_ONLY, costs=costs, holdout=0.25, **keys)


RUNS = {"long only": run_long_only, "short, stops": run_with_stops, "at the close": run_at_close}


@pytest.fixture(params=list(RUNS))
def result(request: pytest.FixtureRequest) -> BacktestResult:
    found = RUNS[request.param]()
    assert len(found.fills) > 30, "too few fills to test anything"
    return found


def periods(result: BacktestResult) -> list[tuple[dict[str, float], int, int, float]]:
    """Metrics of each period, its first and last bar in ``equity``, and its start equity."""
    assert result.out_of_sample is not None
    n_bars = len(result.equity)
    split = n_bars - int(n_bars * 0.25)
    return [
        (result.in_sample, 0, split, CASH),
        (result.out_of_sample, split, n_bars, float(result.equity.iloc[split - 1])),
    ]


def test_metrics_are_those_that_empyrical_finds_in_the_equity(result: BacktestResult) -> None:
    for metrics, start, stop, cash in periods(result):
        path = np.concatenate([[cash], result.equity.to_numpy()[start:stop]])
        returns = pd.Series(path[1:] / path[:-1] - 1.0, result.equity.index[start:stop])
        yearly = {"annualization": 252}
        expected = {
            "total_return": empyrical.cum_returns_final(returns),
            "cagr": empyrical.annual_return(returns, **yearly),
            "volatility": empyrical.annual_volatility(returns, **yearly),
            "sharpe": empyrical.sharpe_ratio(returns, **yearly),
            "sortino": empyrical.sortino_ratio(returns, **yearly),
            "calmar": empyrical.calmar_ratio(returns, **yearly),
            "max_drawdown": -empyrical.max_drawdown(returns),
        }
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-9)
        assert metrics["final_equity"] == path[-1]


def test_fills_replayed_by_plain_arithmetic_give_equity_and_metrics(
    result: BacktestResult,
) -> None:
    bars = random_bars()
    close = {s: bars.close[:, i] for i, s in enumerate(bars.symbols)}
    first = bars.n_bars - len(result.equity)
    place = {time: bar for bar, time in enumerate(bars.timestamps.tolist())}
    by_bar: dict[int, list[Any]] = {}
    for fill in rows(result.fills):
        by_bar.setdefault(place[fill.timestamp.value], []).append(fill)

    cash, held, flow = CASH, dict.fromkeys(bars.symbols, 0.0), dict.fromkeys(bars.symbols, 0.0)
    equity, exposure = [], []
    profits: list[list[float]] = []
    lasted: list[list[float]] = []
    opened = dict.fromkeys(bars.symbols, 0)
    traded, costs, carry = [], [], []
    years = np.diff(bars.timestamps, prepend=bars.timestamps[:1]) / np.timedelta64(31_557_600, "s")
    splits = {start for _, start, _, _ in periods(result)[1:]}
    for bar in range(first, bars.n_bars):
        if bar - first in splits:  # what an open trade made before the holdout is in-sample
            flow = {s: -held[s] * close[s][bar - 1] for s in bars.symbols}
        sold = -sum(min(held[s] * close[s][bar - 1], 0.0) for s in bars.symbols)
        carry.append((FINANCING * min(cash - sold, 0.0) - BORROW * sold) * years[bar])
        cash += carry[-1]
        profits.append([])
        lasted.append([])
        traded.append(0.0)
        costs.append(0.0)
        for fill in by_bar.pop(bar, []):
            value = fill.quantity * fill.price
            cash -= value + abs(value) * COMMISSION
            before, after = held[fill.symbol], held[fill.symbol] + fill.quantity
            closing = -before if before * after < 0.0 else fill.quantity
            flow[fill.symbol] -= closing * fill.price + abs(closing * fill.price) * COMMISSION
            if before * after < 0.0 or (before != 0.0 and after == 0.0):
                profits[-1].append(flow[fill.symbol])
                lasted[-1].append(float(bar - opened[fill.symbol]))
                rest = after if before * after < 0.0 else 0.0
                flow[fill.symbol] = -rest * fill.price - abs(rest * fill.price) * COMMISSION
            if before == 0.0 or before * after < 0.0:
                opened[fill.symbol] = bar
            held[fill.symbol] = after
            worse = 1.0 + SLIPPAGE if fill.quantity > 0 else 1.0 - SLIPPAGE
            traded[-1] += abs(fill.quantity) * fill.price / worse
            costs[-1] += fill.cost
        worth = {s: held[s] * close[s][bar] for s in bars.symbols}
        equity.append(cash + sum(worth.values()))
        exposure.append(sum(map(abs, worth.values())) / equity[-1])
    assert not by_bar, "fills outside the walk"
    np.testing.assert_allclose(result.equity.to_numpy(), equity, rtol=1e-11)

    names = {"max_drawdown": "drawdown", "n_trades": "trades", "ruined": "ruin"}
    for metrics, start, stop, begin in periods(result):
        expected = performance(
            equity[start:stop],
            begin,
            exposure[start:stop],
            [profit for one in profits[start:stop] for profit in one],
            sum(traded[start:stop]),
            sum(costs[start:stop]),
            False,
            252.0,
            carry=sum(carry[start:stop]),
            held=[bars_held for one in lasted[start:stop] for bars_held in one],
        )
        for name in METRICS:
            assert metrics[name] == pytest.approx(
                expected[names.get(name, name)], rel=1e-8, abs=1e-9, nan_ok=True
            ), name


@pytest.mark.parametrize("kind", list(RUNS))
def test_fills_stand_at_the_prices_of_their_bars(kind: str) -> None:
    result, bars = RUNS[kind](), random_bars()
    place = {time: bar for bar, time in enumerate(bars.timestamps.tolist())}
    prices = bars.close if kind == "at the close" else bars.open
    fills = result.fills
    named = ["timestamp", "symbol", "quantity", "price", "cost", "kind", "lots", "value", "cash"]
    assert list(fills.columns) == named
    assert fills["timestamp"].is_monotonic_increasing
    assert ("stop" in set(fills["kind"])) == (kind == "short, stops")
    for fill in rows(fills):
        bar, symbol = place[fill.timestamp.value], bars.symbols.index(fill.symbol)
        worse = 1.0 + SLIPPAGE if fill.quantity > 0 else 1.0 - SLIPPAGE
        before = fill.price / worse
        if fill.kind == "order":
            assert before == pytest.approx(prices[bar, symbol], rel=1e-12)
        else:
            low, high = bars.low[bar, symbol], bars.high[bar, symbol]
            assert low * (1 - 1e-12) <= before <= high * (1 + 1e-12)
        assert fill.quantity == round(fill.quantity) != 0
        paid = abs(fill.quantity) * (abs(fill.price - before) + fill.price * COMMISSION)
        assert fill.cost == pytest.approx(paid, rel=1e-9)


def test_sells_come_before_buys_and_no_cash_is_borrowed() -> None:
    cash = CASH
    result = run_long_only()
    for _, fills in result.fills.groupby("timestamp"):
        signs = np.sign(fills["quantity"]).tolist()
        assert signs == sorted(signs)
        for fill in rows(fills):
            cash -= fill.quantity * fill.price + abs(fill.quantity) * fill.price * COMMISSION
            assert cash > -1e-6


# --- Holdout ----------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [run_long_only, run_with_stops])
def test_in_sample_is_a_run_over_the_bars_before_the_holdout(run: Any) -> None:
    bars = random_bars()
    short = run is run_with_stops
    parameters = WITH_STOPS if short else LONG_ONLY
    account = LOANS if short else None
    whole = run()
    n_in_sample = len(whole.equity) - int(len(whole.equity) * 0.25)
    first = bars.n_bars - len(whole.equity)
    alone = backtest(
        cut(bars, first + n_in_sample),
        parameters,
        costs=COSTS,
        allow_short=short,
        first_bar=first,
        account=account,
    )
    assert alone.out_of_sample is None
    assert alone.in_sample == whole.in_sample
    pd.testing.assert_series_equal(alone.equity, whole.equity[:n_in_sample], check_freq=False)
    seen = whole.fills["timestamp"] <= alone.equity.index[-1]
    pd.testing.assert_frame_equal(alone.fills, whole.fills[seen])


def test_bars_of_the_holdout_do_not_touch_the_metrics_before_it() -> None:
    bars = random_bars()
    split = bars.n_bars - int((bars.n_bars - 20) * 0.25)
    parameters = {**LONG_ONLY, "classifier": "hmm", "hmm_lookback": 10, "hmm_train_bars": 60,
                  "hmm_refit_bars": 30}  # fmt: skip
    before = backtest(bars, parameters, holdout=0.25, first_bar=20)
    after = backtest(changed(bars, split), parameters, holdout=0.25, first_bar=20)
    assert before.in_sample == after.in_sample
    assert before.out_of_sample != after.out_of_sample
    assert before.equity[: split - 20].equals(after.equity[: split - 20])
    assert before.regimes[: split - 20].equals(after.regimes[: split - 20])


def test_the_holdout_takes_over_the_positions() -> None:
    whole = backtest(random_bars(), LONG_ONLY, costs=COSTS)
    split = run_long_only()
    assert whole.out_of_sample is None
    pd.testing.assert_series_equal(whole.equity, split.equity)
    pd.testing.assert_frame_equal(whole.fills, split.fills)
    assert split.out_of_sample is not None
    together = split.in_sample["n_trades"] + split.out_of_sample["n_trades"]
    assert whole.in_sample["n_trades"] == together
    assert whole.in_sample["final_equity"] == split.out_of_sample["final_equity"]


# --- One set and many -------------------------------------------------------------------------

SMALL_FIT = {"train_bars": 80, "refit_bars": 60}
MIXED: dict[str, Any] = {
    "strategy": [
        {"name": "momentum", "lookback": {"choices": [5, 12, 30]}, "threshold": {"low": 0, "high": 0.05}},
        {"name": "mean_reversion", "lookback": {"choices": [5, 14]}, "oversold": {"low": 20, "high": 50}},
        {"name": "sma_cross", "fast": {"choices": [3, 8]}, "slow": {"choices": [15, 30]}},
        {"name": "ema_cross", "fast": {"choices": [3, 8]}, "slow": {"choices": [15, 30]}},
        {"name": "breakout", "lookback": {"choices": [10, 20]}, "atr_lookback": {"choices": [5, 9]},
         "width": {"low": 0.2, "high": 2.0}},
    ],
    "classifier": [
        {"name": "none"},
        {"name": "hmm", "lookback": {"choices": [5, 10]}, **SMALL_FIT},
        {"name": "svm", "lookback": 5, "horizon": {"choices": [2, 5]}, "market": "BBB", **SMALL_FIT},
    ],
    "risk": {
        "allow_short": True,
        "kelly_fraction": {"low": 0.02, "high": 0.5},
        "max_exposure": {"low": 0.3, "high": 2.0},
        "bear_multiplier": {"low": 0.0, "high": 1.0},
        "correlation_penalty": {"choices": [0.0, 0.4, 1.0]},
        "volatility_lookback": {"choices": [5, 10, 20]},
        "stop_loss": {"choices": [0.0, 0.05]},
        "trailing_stop": {"choices": [0.0, 0.08]},
        "correlation_lookback": 25,
        "lot_size": 0.1,
        "min_order_size": {"choices": [0.1, 2.0]},
    },
}  # fmt: skip


def mixed_study() -> tuple[Study, Space]:
    study = study_from_dict({**mapping(), **MIXED, "costs": COSTS, "account": {"leverage": 2.0}})
    return study, build_space(study)


def mixed_tiles(space: Space, n_lanes: int, seed: int = 5) -> list[Tile]:
    """Tiles of every branch, each lane with its own draw of every parameter."""
    rng = np.random.default_rng(seed)
    tiles = []
    for branch in space.branches:
        columns = {}
        for name in branch.columns:
            values = np.asarray(branch.values(name), dtype=np.float64)
            columns[name] = rng.choice(values, n_lanes)
            continuous = [one for one in branch.searched if one.name == name and one.continuous]
            if continuous:
                columns[name] = rng.uniform(values[0], values[-1], n_lanes)
        tiles.append(Tile.of(branch, columns))
    return tiles


def codes_of(bars: Bars, tiles: list[Tile]) -> dict[RegimeKey, MarketRegime]:
    keys = {key for tile in tiles for key in tile.regime_keys()[0]}
    return {key: fit_key(bars, key)[0] for key in keys}


@pytest.fixture(scope="module")
def mixed() -> tuple[Inputs, list[Tile], dict[RegimeKey, MarketRegime]]:
    study, space = mixed_study()
    bars = random_bars()
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.25)
    tiles = mixed_tiles(space, 70)
    return inputs, tiles, codes_of(bars, tiles)


def equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))


Mixed = tuple[Inputs, list[Tile], dict[RegimeKey, MarketRegime]]


def test_a_set_alone_is_the_same_as_among_a_thousand(mixed: Mixed) -> None:
    inputs, tiles, codes = mixed
    together = evaluate(inputs, tiles, codes)
    assert sum(tile.n_lanes for tile in tiles) > 1000
    lively = np.concatenate([result.in_sample[:, METRICS.index("n_trades")] for result in together])
    assert np.median(lively) > 10
    rng = np.random.default_rng(0)
    for tile, result in zip(tiles, together, strict=True):
        assert result.in_sample.shape == (tile.n_lanes, len(METRICS))
        for lane in rng.choice(tile.n_lanes, 4, replace=False):
            one = tile.slice(lane, lane + 1)
            alone = evaluate(inputs, [one], codes)[0]
            assert equal(alone.in_sample[0], result.in_sample[lane])
            assert equal(alone.out_of_sample[0], result.out_of_sample[lane])


def test_order_and_company_of_tiles_do_not_matter(mixed: Mixed) -> None:
    inputs, tiles, codes = mixed
    straight = evaluate(inputs, tiles, codes)
    turned = evaluate(inputs, tiles[::-1], codes)[::-1]
    for one, other in zip(straight, turned, strict=True):
        assert equal(one.in_sample, other.in_sample)
        assert equal(one.out_of_sample, other.out_of_sample)


def test_the_backtest_of_a_set_is_its_row_in_the_sweep(mixed: Mixed) -> None:
    """Also where the study compiles options in that the set alone does not use."""
    inputs, tiles, codes = mixed
    together = evaluate(inputs, tiles, codes)
    tried = set()
    for tile, result in zip(tiles, together, strict=True):
        for lane in range(tile.n_lanes):
            values = {name: float(column[lane]) for name, column in tile.columns.items()}
            options = (
                values["stop_loss"] + values["trailing_stop"] > 0.0,
                values["correlation_penalty"] > 0.0,
            )
            if options == (False, False) or (tile.strategy.name, tile.classifier, options) in tried:
                continue
            tried.add((tile.strategy.name, tile.classifier, options))
            alone = backtest(
                inputs.bars,
                {"strategy": tile.strategy.name, "classifier": tile.classifier, **values},
                costs=COSTS,
                allow_short=True,
                market=tile.market,
                holdout=0.25,
                first_bar=inputs.first,
                account={"leverage": 2.0},
            )
            assert equal(list(alone.in_sample.values()), result.in_sample[lane])
            assert alone.out_of_sample is not None
            assert equal(list(alone.out_of_sample.values()), result.out_of_sample[lane])
    assert len(tried) == 15 * 3


def test_lanes_that_share_columns_equal_lanes_that_gather(mixed: Mixed) -> None:
    inputs, tiles, codes = mixed
    tile = tiles[0]
    same = {name: np.repeat(column[:1], 128) for name, column in tile.columns.items()}
    same["kelly_fraction"] = np.linspace(0.02, 0.5, 128)
    other = {name: column.copy() for name, column in same.items()}
    other["volatility_lookback"][1::2] = 10.0 if same["volatility_lookback"][0] == 5.0 else 5.0
    other["momentum_lookback"][1::2] = 5.0 if same["momentum_lookback"][0] == 12.0 else 12.0
    sharing, gathering = (
        evaluate(inputs, [replace(tile, columns=columns)], codes)[0].in_sample
        for columns in (same, other)
    )
    assert equal(sharing[::2], gathering[::2])
    assert not equal(sharing[1::2], gathering[1::2])


# --- Inputs -----------------------------------------------------------------------------------


def test_inputs_survive_the_way_through_files(mixed: Mixed, tmp_path: Path) -> None:
    inputs, tiles, codes = mixed
    inputs.save(tmp_path / "shared")
    loaded = Inputs.load(tmp_path / "shared")
    for one in fields(Inputs):
        before, after = getattr(inputs, one.name), getattr(loaded, one.name)
        if isinstance(before, np.ndarray):
            assert before.dtype == after.dtype
            assert equal(before, after)
            assert not after.flags.writeable
        elif one.name not in ("bars", "features", "rules"):
            assert before == after
    for one in fields(Rules):
        before, after = getattr(inputs.rules, one.name), getattr(loaded.rules, one.name)
        assert equal(before, after) if isinstance(before, np.ndarray) else before == after, one.name
    assert loaded.bars.content_hash == inputs.bars.content_hash
    assert loaded.bars.symbols == inputs.bars.symbols
    assert loaded.bars.bars_per_year == inputs.bars.bars_per_year
    assert loaded.features.keys == inputs.features.keys
    assert equal(loaded.features.values, inputs.features.values)
    for before, after in zip(
        evaluate(inputs, tiles[:3], codes), evaluate(loaded, tiles[:3], codes), strict=True
    ):
        assert equal(before.in_sample, after.in_sample)
        assert equal(before.out_of_sample, after.out_of_sample)


def test_a_volume_after_the_bars_that_were_saved_still_counts(tmp_path: Path) -> None:
    study = study_from_dict(mapping(risk={"correlation_penalty": 0.0}))
    space, bars = build_space(study), random_bars(120)
    volume = bars.volume.copy()
    volume[:110, 0] = 0.0
    volume[:, 1] = 0.0
    bars = replace(bars, volume=volume, has_volume=None)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    cut = inputs.window(inputs.first, 90, 100)
    cut.save(tmp_path)
    assert Inputs.load(tmp_path).bars.traded.tolist() == [[0, 1, 1]] * 100
    assert inputs.bars.traded[110:].tolist() == [[1, 1, 1]] * 10


def test_inputs_without_correlations_survive_too(tmp_path: Path) -> None:
    study = study_from_dict(mapping(risk={"correlation_penalty": 0.0}))
    space, bars = build_space(study), random_bars(120)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    assert inputs.correlations is None
    inputs.save(tmp_path)
    loaded = Inputs.load(tmp_path)
    assert loaded.correlations is None
    assert loaded.split == bars.n_bars


def test_every_feature_of_the_space_is_computed_and_defined(mixed: Mixed) -> None:
    inputs, _, _ = mixed
    _, space = mixed_study()
    assert list(inputs.features.keys) == feature_keys(space)
    assert np.isfinite(inputs.features.values[inputs.first :]).all()
    assert not inputs.features.values.flags.writeable
    # One bar less would leave a column undefined.
    assert inputs.first == study_warm_up(space, inputs.rules, inputs.bars) == 30


def test_correlations_are_refreshed_as_the_study_says() -> None:
    bars = random_bars(120)
    study = study_from_dict(mapping(risk={"correlation_refresh": 7}))
    space = build_space(study)
    inputs = prepare(bars, space, study_rules(study, space, bars), 0.0)
    assert inputs.correlations is not None
    assert len(inputs.correlations) == len(range(inputs.first, 120, 7))
    returns = np.diff(np.log(bars.close), axis=0)
    bar = inputs.first + 7
    np.testing.assert_allclose(
        inputs.correlations[1], np.corrcoef(returns[bar - 20 : bar], rowvar=False), rtol=1e-9
    )


# --- Parameters -------------------------------------------------------------------------------


def test_the_parameters_of_a_result_run_it_again() -> None:
    first = run_with_stops()
    again = backtest(
        random_bars(), first.parameters, costs=COSTS, holdout=0.25, allow_short=True, account=LOANS
    )
    assert again.parameters == first.parameters
    assert again.in_sample == first.in_sample
    assert again.equity.equals(first.equity)


def test_defaults_are_filled_in_and_numpy_numbers_taken() -> None:
    plain = backtest(random_bars(120), {"strategy": "momentum", "momentum_lookback": 20})
    assert plain.parameters["classifier"] == "none"
    assert plain.parameters["kelly_fraction"] == 0.25
    given: dict[str, Any] = {"strategy": "momentum", "momentum_lookback": np.int64(20),
                             "kelly_fraction": np.float64(0.25)}  # fmt: skip
    assert backtest(random_bars(120), given).in_sample == plain.in_sample


def test_regimes_are_those_of_the_market() -> None:
    bars = random_bars()
    fit = {"lookback": 10, "train_bars": 80, "refit_bars": 40}
    named = {f"hmm_{name}": value for name, value in fit.items()}
    for market in (None, "BBB"):
        result = backtest(bars, {**LONG_ONLY, "classifier": "hmm", **named}, market=market)
        codes = fit_regimes(market_returns(bars, market), "hmm", fit).codes
        assert set(result.regimes) == {-1, 0, 1}
        assert result.regimes.tolist() == codes[-len(result.regimes) :].tolist()
        assert result.regimes.index.equals(result.equity.index)


def test_the_regime_scales_the_size() -> None:
    named: dict[str, Any] = {"classifier": "hmm", "hmm_lookback": 10, "hmm_train_bars": 80,
                             "hmm_refit_bars": 40}  # fmt: skip
    even = {"bull_multiplier": 1.0, "bear_multiplier": 1.0, "neutral_multiplier": 1.0}
    bars = random_bars()
    none = backtest(bars, {**LONG_ONLY, **even})
    same = backtest(bars, {**LONG_ONLY, **named, **even})
    less = backtest(bars, {**LONG_ONLY, **named, **even, "bear_multiplier": 0.0})
    assert same.in_sample == none.in_sample
    assert less.in_sample["exposure"] < same.in_sample["exposure"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"momentum_lookbak": 3}, ["lookbak", 'did you mean "lookback"']),
        ({"momentum_lookback": 0}, ["lookback", "got 0"]),
        ({"momentum_lookback": 2.5}, ["lookback", "2.5"]),
        ({"momentum_lookback": "long"}, ["momentum_lookback", "'long'", "expected one number"]),
        ({"momentum_threshold": {"sweep": [0.1]}}, ["momentum_threshold", "expected one number"]),
        ({"momentum_lookback": float("nan")}, ["lookback", "nan"]),
        ({"kelly_fraction": -1.0}, ["kelly_fraction", "-1"]),
        ({"kelly_fractio": 1.0}, ["kelly_fractio", 'did you mean "kelly_fraction"']),
        ({"breakout_lookback": 20}, ["breakout_lookback"]),
        ({"classifier": "hmmm"}, ["hmmm", 'did you mean "hmm"']),
        ({"hmm_lookback": 20}, ["hmm_lookback"]),
        ({"strategy": "momentums"}, ["momentums", "valid: momentum, "]),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(
    parameters: Mapping[str, Any], words: list[str]
) -> None:
    with pytest.raises(StudyFileError) as error:
        backtest(random_bars(60), {**LONG_ONLY, **parameters})
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_strategy_is_needed() -> None:
    with pytest.raises(StudyFileError, match="strategy"):
        backtest(random_bars(60), {"kelly_fraction": 0.1})


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"costs": {"comission_bps": 3}}, 'did you mean "commission_bps"'),
        ({"costs": {"fill": "open"}}, "next_open"),
        ({"holdout": 1.0}, "holdout"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(keys: Mapping[str, Any], word: str) -> None:
    with pytest.raises(StudyFileError, match=word):
        backtest(random_bars(60), LONG_ONLY, **keys)


def test_too_few_bars() -> None:
    with pytest.raises(DataError, match=r"25 bars .* at least 30 are needed: .* 20 for warm-up"):
        backtest(random_bars(25), LONG_ONLY)
    backtest(random_bars(30), LONG_ONLY)


def test_an_unknown_market_is_named() -> None:
    with pytest.raises(DataError, match="ZZZ"):
        backtest(random_bars(60), {**LONG_ONLY, "classifier": "hmm"}, market="ZZZ")


@pytest.mark.parametrize("first_bar", [-5, 55, 10_000, 30.5])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_first_bar_that_is_none_of_the_bars_is_refused(first_bar: Any, penalty: float) -> None:
    parameters = {**LONG_ONLY, "correlation_penalty": penalty}
    with pytest.raises(BarsweepError):
        backtest(random_bars(60), parameters, first_bar=first_bar)


@pytest.mark.parametrize("strategy", ["momentum", "mean_reversion", "sma_cross", "breakout"])
def test_nothing_is_decided_while_a_feature_is_undefined(strategy: str) -> None:
    """A first bar inside the warm-up is allowed: an export may come from another space."""
    longest = {"momentum": 60, "mean_reversion": 14, "sma_cross": 99, "breakout": 19}[strategy]
    bars = random_bars()
    result = backtest(bars, {"strategy": strategy}, first_bar=2, allow_short=True)
    decided = int(np.searchsorted(bars.timestamps, result.fills["timestamp"].min().to_datetime64()))
    assert decided > max(longest, 20)
    assert (result.equity[: decided - 2] == 100_000.0).all()
    assert np.isfinite(result.in_sample["sharpe"])


def test_one_symbol_needs_no_correlation() -> None:
    bars = random_bars(120, ("AAA",))
    one, none = (
        backtest(bars, {**WITH_STOPS, "correlation_penalty": penalty}, allow_short=True)
        for penalty in (1.0, 0.0)
    )
    assert one.in_sample == none.in_sample
    assert one.in_sample["n_trades"] > 0


def test_equity_alone_is_that_of_the_whole_record() -> None:
    parameters = {**WITH_STOPS, "max_exposure": 1.0}
    study = single_set_study(parameters, COSTS, False, None, 0.25)
    inputs, tile, result = simulate_single(study, random_bars(200))
    codes = {key: fit_key(inputs.bars, key)[0] for key in tile.regime_keys()[0]}
    assert len(result.fills) > 10
    pd.testing.assert_series_equal(record_equity(inputs, tile, codes), result.equity)


@pytest.mark.parametrize("table", ["strategy", "classifier"])
@pytest.mark.parametrize(
    "name",
    sorted({one.name.split("_")[0] for one in (*RISK, *catalogue.COSTS)} - {*catalogue.UNPREFIXED}),
)
def test_a_part_named_as_a_key_of_another_table_begins(
    name: str, table: str, tmp_path: Path
) -> None:
    """Each column goes where it belongs: ``max_exposure`` is of the risk, ``max_own`` of the part."""
    if table == "classifier" and name in ("atr", "correlation", "volatility"):
        pytest.skip("refused: every classifier has a lookback, whose column is of the risk")
    file = tmp_path / "own.py"
    file.write_text(STRATEGY if table == "strategy" else CLASSIFIER)
    own = {"path": str(file)}
    values: dict[str, Any] = {"strategy": "momentum", f"{name}_own": 7, table: name}
    values |= {one.name: one.default for one in RISK if one.low <= one.default}
    study = single_set_study(
        values, {"commission_bps": 3.0}, False, None, 0.0,
        {name: own} if table == "strategy" else None,
        NAMED,
        own_classifier=own if table == "classifier" else None,
    )  # fmt: skip
    (part,) = study.strategies if table == "strategy" else study.classifiers
    assert part.settings["own"] == 7
    assert {key: study.risk.settings[key] for key in values if key in study.risk.settings} == {
        key: value for key, value in values.items() if key in study.risk.settings
    }
    assert study.risk.settings.keys() > {"max_exposure", "kelly_fraction"}


def test_the_longer_of_two_names_owns_a_column(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STRATEGY)
    own = {"path": str(tmp_path / "own.py")}
    values: dict[str, Any] = {"strategy": "first(up+up_own)", "up_own_own": 5, "up_own": 9}
    study = single_set_study(values, {}, False, None, 0.0, {"up": own, "up_own": own}, NAMED)
    assert [part.settings["own"] for part in study.strategies] == [9, 5]


def test_a_column_that_two_names_begin_is_refused(tmp_path: Path) -> None:
    """``up_own_2`` would be of ``up_own``, and is no parameter of it."""
    (tmp_path / "up.py").write_text(STRATEGY.replace("own", "own_2"))
    (tmp_path / "own.py").write_text(STRATEGY)
    content = mapping()
    content["strategy"] = [{"name": "up", "path": "up.py"}, {"name": "up_own", "path": "own.py"}]
    said = r"\[\[strategy\]\] #2 name: the column up_own_2 of up begins as those of up_own do"
    with pytest.raises(StudyFileError, match=said):
        study_from_dict(content, tmp_path)


STRATEGY = """\
from optimizer import HOLD
PARAMETERS = {"own": (5, 1, 50)}
FEATURES = {}
def signal(own):
    return HOLD, 0.0, 0.0
"""

CLASSIFIER = """\
PARAMETERS = {"own": (5, 1, 50)}
def fit(returns, own):
    return returns[:1]
def classify(model, returns):
    return 0
"""
