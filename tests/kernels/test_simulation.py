"""The simulation: lanes against the reference, properties that hold on any bars, an account by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kernels import layout, metrics
from kernels.codes import (
    FILL_CASH,
    FILL_KINDS,
    FILL_LOTS,
    FILL_PRICE,
    FILL_VALUE,
    ORDER_ADDING,
    ORDER_REDUCING,
    STOPPED,
    WRITTEN_OFF,
)
from kernels.layout import EQUITY, LANES, MAX_DRAWDOWN, N_LANE_ROWS, PEAK, STRIDE
from tests.reference import metrics as reference_metrics
from tests.reference.simulation import SUMS, Costs, ParameterSet, Rules, simulate_one
from tests.support.by_hand import ALL_IN, cash_of, equity_of, lots_of, scenario
from tests.support.causality import assert_causal
from tests.support.lanes import Inputs, Lane, Sweep
from tests.support.random_lanes import (
    FIRST,
    N_BARS,
    OPTIONS,
    RECORDED,
    STRATEGIES,
    FloatArray,
    Options,
    assert_close,
    assert_equals_reference,
    blocks_of,
    every_option,
    inputs_for,
    random_blocks,
    random_inputs,
    random_lane,
    random_path,
    sweep_of,
)


@pytest.mark.parametrize(
    ("n_symbols", "refresh"), [(1, 1), (2, 1), (9, 4)], ids=["1", "2", "9-refreshed-rarely"]
)
@every_option
def test_lanes_equal_the_reference(name: str, n_symbols: int, refresh: int) -> None:
    options, seed = OPTIONS[name], 100 * n_symbols
    blocks = random_blocks(seed, options)
    sweep = sweep_of(inputs_for(options, seed, n_symbols, refresh), blocks, options)
    sweep.walk(FIRST, N_BARS)
    ended = sweep.row("ruined") == 1.0
    outcomes = [
        assert_equals_reference(sweep, k, b, block[b])
        for k, block in enumerate(blocks)
        for b in {0, 1, 30, LANES - 1, int(ended[k].argmax())}
    ]
    # The comparison has substance: with many symbols every rule took effect somewhere.
    kinds = [fill.kind for out in outcomes for fill in out.fills]
    assert sum(out.sums["n_trades"] for out in outcomes) > 50
    if n_symbols < 9:
        return
    assert any(out.cut_additions for out in outcomes) or options.fill_at_close
    assert any(out.scaled_closes for out in outcomes)
    assert (kinds.count("stop") > 50) == options.stops
    shorts = sum(lots < 0.0 for out in outcomes for row in out.lots for lots in row)
    assert (shorts > 50) == options.allow_short
    if name in ("leverage", "short", "all", "plain"):
        assert ("liquidation" in kinds) == (name != "plain")
    assert any(out.sums["carry"] != 0.0 for out in outcomes) == options.carry
    if name == "short":
        assert min(out.equity[-1] for out in outcomes) < 0.0


@every_option
def test_each_bar_equals_the_reference(name: str) -> None:
    path, blocks = random_path(name), blocks_of(name)
    for k in range(len(blocks)):
        lane = blocks[k][k]
        market = path.sweep.inputs.market(lane.columns)
        out = simulate_one(market, lane.chosen, path.sweep.rules, FIRST)
        np.testing.assert_array_equal(path.lots[:, k, :, k], out.lots)
        if not OPTIONS[name].fill_at_close:
            np.testing.assert_array_equal(path.orders[:, k, :, k], out.orders)
        assert_close(path.equity[:, k, k], out.equity)
        assert_close(path.cash[:, k, k], out.cash)
        assert_close(path.exposure[:, k, k], out.exposure)
        assert_close(path.variance[:, k, k], out.variance)


def result_rows(sweep: Sweep) -> dict[str, FloatArray]:
    """Every row that is a result or influences one; lanes on the last axis."""
    rows = {
        name: sweep.row(name)
        for name in ("cash", "equity", "exposure", "variance", "ruined", "peak", *SUMS)
    }
    return rows | {name: sweep.symbol_row(name) for name in ("lots", "order", "flow")}


def assert_same_bits(actual: dict[str, FloatArray], expected: dict[str, FloatArray]) -> None:
    """Compare results to the last bit."""
    for name, values in expected.items():
        assert actual[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize("name", ["plain", "all"])
def test_place_in_the_blocks_does_not_matter(name: str) -> None:
    options = OPTIONS[name]
    path = random_path(name)
    blocks = blocks_of(name)
    random = np.random.default_rng(5)
    shuffle = random.permutation(2 * LANES)
    moved, came_from = [], []
    # The strategies come in another order, and lanes that shared their columns are mixed with others.
    for k in (4, 0, 6, 2):
        both = blocks[k] + blocks[k + 1]
        for part in (shuffle[:LANES], shuffle[LANES:]):
            moved.append([both[i] for i in part])
            came_from.append([(k + i // LANES, i % LANES) for i in part])
    moved.append(blocks[1][:3])
    came_from.append([(1, min(i, 2)) for i in range(LANES)])
    sweep = sweep_of(path.sweep.inputs, moved, options).walk(FIRST, N_BARS)
    k, b = np.array(came_from).transpose(2, 0, 1)
    before = {
        row: np.moveaxis(values, -1, 1)[k, b] if values.ndim == 2 else values[k, :, b]
        for row, values in result_rows(path.sweep).items()
    }
    after = {
        row: values if values.ndim == 2 else np.moveaxis(values, 1, 2)
        for row, values in result_rows(sweep).items()
    }
    assert_same_bits(
        {row: np.ascontiguousarray(values) for row, values in after.items()},
        {row: np.ascontiguousarray(values) for row, values in before.items()},
    )


@pytest.mark.parametrize("options", [*OPTIONS.values(), RECORDED], ids=[*OPTIONS, "recorded"])
def test_cut_anywhere_and_carry_the_state(options: Options) -> None:
    inputs, blocks = inputs_for(options, 31, 2, 3), random_blocks(31, options)
    whole = sweep_of(inputs, blocks, options).walk(FIRST, N_BARS)
    random = np.random.default_rng(8)
    for n_cuts in (1, 1, 4, 20):
        cuts = sorted(random.integers(FIRST, N_BARS + 1, n_cuts).tolist())
        pieces = sweep_of(inputs, blocks, options)
        for start, stop in zip([FIRST, *cuts], [*cuts, N_BARS], strict=True):
            pieces.walk(start, stop)
        assert pieces.bits() == whole.bits(), cuts
        assert pieces.equity.tobytes() == whole.equity.tobytes()
        assert pieces.fills.tobytes() == whole.fills.tobytes()


def test_nothing_is_written_beyond_the_lanes() -> None:
    sweep = random_path("all").sweep
    fresh = sweep_of(sweep.inputs, [[Lane(ParameterSet())]] * len(sweep.state), OPTIONS["all"])
    np.testing.assert_array_equal(sweep.state[..., LANES:], fresh.state[..., LANES:])
    assert not sweep.positions[..., LANES:].any()


# Causality. Here everything that the lanes read is computed from the bars. A kernel that reads bar
# t + 1 of an input equals this kernel on the input shifted by a bar. The test must notice that for each
# input.

READ = (
    "opens",
    "highs",
    "lows",
    "closes",
    "features",
    "volatilities",
    "regimes",
    "correlations",
    "volumes",
)


def inputs_from_bars(
    opens: FloatArray, highs: FloatArray, lows: FloatArray, closes: FloatArray, volumes: FloatArray
) -> dict[str, npt.NDArray[Any]]:
    """Features and regimes of each bar from the bars up to it, computed one value at a time."""
    n_bars, n_symbols = closes.shape
    features = np.full((n_bars, n_symbols, 1), np.nan)
    volatilities = np.full((n_bars, n_symbols, 1), np.nan)
    regimes = np.zeros((n_bars, 1), dtype=np.int8)
    correlations = np.zeros((max(n_bars - FIRST, 0), n_symbols, n_symbols))
    for bar in range(FIRST, n_bars):
        seen = closes[bar - FIRST : bar + 1]
        changes = seen[1:] / seen[:-1] - 1.0
        features[bar, :, 0] = seen[-1] / seen[0] - 1.0
        for symbol in range(n_symbols):
            volatilities[bar, symbol, 0] = sqrt(sum(c * c for c in changes[:, symbol].tolist()) / 7)
        regimes[bar, 0] = np.sign(sum(changes[-1].tolist()))
        for i in range(n_symbols):
            for j in range(n_symbols):
                pairs = zip(changes[:, i].tolist(), changes[:, j].tolist(), strict=True)
                together = sum(a * b for a, b in pairs) / 7
                scale = volatilities[bar, i, 0] * volatilities[bar, j, 0]
                correlations[bar - FIRST, i, j] = together / scale
    return {
        "opens": opens,
        "highs": highs,
        "lows": lows,
        "closes": closes,
        "features": features,
        "volatilities": volatilities,
        "regimes": regimes,
        "correlations": correlations,
        "volumes": volumes,
    }


def decisions(shifted: str | None) -> Callable[..., tuple[FloatArray, ...]]:
    """Positions and orders of the lanes after each bar; a named input is read one bar ahead."""

    def walk(
        opens: FloatArray,
        highs: FloatArray,
        lows: FloatArray,
        closes: FloatArray,
        volumes: FloatArray,
    ) -> tuple[FloatArray, ...]:
        arrays = inputs_from_bars(opens, highs, lows, closes, volumes)
        if shifted is not None:
            ahead = arrays[shifted]
            arrays[shifted] = np.concatenate([ahead[1:], ahead[-1:]])
        inputs = Inputs(**arrays, refresh=1, first=FIRST)
        lanes = [
            Lane(
                ParameterSet(
                    thresholds=(0.0,),
                    lookback=7,
                    size=kelly,
                    max_exposure=1.5,
                    costs=Costs(impact=0.5, volume_share=0.2),
                    correlation_penalty=0.8,
                    stop_loss=0.04,
                    take_profit=0.08,
                    trailing_stop=trailing,
                )
            )
            for kelly in (0.1, 0.4)
            for trailing in (0.05, inf)
        ]
        n_symbols = closes.shape[1]
        sweep = sweep_of(inputs, [lanes], OPTIONS["all"])
        equity = np.zeros((len(closes), len(lanes)))
        held = np.zeros((len(closes), n_symbols, 4, len(lanes)))
        for bar in range(FIRST, len(closes)):
            sweep.walk(bar, bar + 1)
            equity[bar] = sweep.row("equity")[0, : len(lanes)]
            lots = sweep.symbol_row("lots")
            best = np.where(lots != 0.0, sweep.symbol_row("best"), 0.0)
            for i, rows in enumerate((lots, best, *map(sweep.symbol_row, ("order", "rho")))):
                held[bar, :, i] = rows[0, :, : len(lanes)]
        return equity, held

    return walk


def causality_case() -> tuple[list[FloatArray], range]:
    inputs = random_inputs(77, 3, None, 60)
    bars = [inputs.opens, inputs.highs, inputs.lows, inputs.closes, np.asarray(inputs.volumes)]
    return bars, range(FIRST + 3, 60, 4)


def test_reads_no_bar_ahead() -> None:
    bars, cuts = causality_case()
    assert_causal(decisions(None), bars, cuts)


@pytest.mark.parametrize("shifted", READ)
def test_reading_one_bar_ahead_is_noticed(shifted: str) -> None:
    bars, cuts = causality_case()
    with pytest.raises(AssertionError, match="changes when"):
        assert_causal(decisions(shifted), bars, cuts)


# Properties of money that hold on any bars.


@every_option
def test_equity_is_cash_and_positions(name: str) -> None:
    path, options = random_path(name), OPTIONS[name]
    instruments = path.sweep.instruments
    closes = path.sweep.inputs.closes[FIRST:] * instruments[:, layout.LOT_MONEY]
    positions = np.zeros_like(path.cash)
    for symbol in range(closes.shape[1]):
        positions += path.lots[:, :, symbol] * closes[:, symbol, None, None]
    np.testing.assert_array_equal(path.equity, path.cash + positions)
    assert (path.lots == np.floor(path.lots)).all()
    if not options.allow_short:
        assert (path.lots >= 0.0).all()
    if not options.allow_short and options.leverage == 1.0 and not options.fees:
        assert (path.cash >= -1e-9).all()
        assert (path.equity > 0.0).all()


@every_option
def test_final_equity_is_initial_cash_profits_and_carry(name: str) -> None:
    sweep = random_path(name).sweep
    closed = sweep.row("gross_profit") - sweep.row("gross_loss") + sweep.row("carry")
    lot_values = sweep.inputs.closes[-1] * sweep.instruments[:, layout.LOT_MONEY]
    open_ = sweep.symbol_row("flow") + sweep.symbol_row("lots") * lot_values[:, None]
    expected = sweep.rules.initial_cash + closed + open_.sum(axis=1)
    # A debt too is what was lost, to the cent.
    np.testing.assert_allclose(sweep.row("equity"), expected, rtol=1e-9, atol=1e-7)
    assert (sweep.row("n_wins") <= sweep.row("n_trades")).all()


@pytest.mark.parametrize("name", ["short", "all", "all_at_close"])
def test_an_ended_account_stays_flat_and_keeps_its_debt(name: str) -> None:
    path = random_path(name)
    ended = path.sweep.row("ruined") == 1.0
    assert ended.any() or name != "short"
    assert not ended.all()
    for values in result_rows(path.sweep).values():
        assert np.isfinite(values).all()
    gone = np.minimum.accumulate(path.equity, axis=0) <= 0.0
    np.testing.assert_array_equal(gone[-1], ended)
    np.testing.assert_array_equal(path.cash[gone], path.equity[gone])
    for before, after, was in zip(path.equity[:-1], path.equity[1:], gone[:-1], strict=True):
        np.testing.assert_array_equal(after[was], before[was])
    for rows in (path.lots, path.orders, path.flow):
        assert (np.moveaxis(rows, 2, -1)[gone] == 0.0).all()
    assert (path.sweep.row("max_drawdown")[ended] >= 1.0).all()


@pytest.mark.parametrize("fill_at_close", [False, True], ids=["next_open", "close"])
def test_recorded_fills_replay_to_the_recorded_equity(fill_at_close: bool) -> None:
    options = replace(RECORDED, fill_at_close=fill_at_close, leverage=3.0)
    inputs, n_symbols = inputs_for(options, 55, 4), 4
    rates = np.asarray(inputs.rates)
    kinds = np.zeros(len(FILL_KINDS))
    for seed, strategy in enumerate(STRATEGIES):
        random = np.random.default_rng(seed)
        lane = random_lane(random, strategy, options)
        chosen = replace(
            lane.chosen,
            size=(0.5, 50.0)[seed % 2],
            costs=replace(lane.chosen.costs, volume_share=inf),
            max_weight=3.0,
            max_exposure=3.0,
            max_positions=inf,
            min_order_size=1.0,
            stop_loss=(0.04, inf)[seed % 2],
            take_profit=inf,
            trailing_stop=inf,
        )
        others = [random_lane(random, strategy, options) for _ in range(5)]
        sweep = sweep_of(inputs, [[replace(lane, chosen=chosen), *others]], options)
        sweep.walk(FIRST, N_BARS)
        equity, fills = sweep.equity, sweep.fills
        assert not equity[:FIRST].any()
        assert not fills[:FIRST].any()
        kinds += (fills[..., FILL_LOTS] != 0.0).sum(axis=(0, 1))
        money = sweep.instruments[:, layout.LOT_MONEY]
        cash, traded, costs, carry = sweep.rules.initial_cash, 0.0, 0.0, 0.0
        lots = np.zeros(n_symbols)
        for bar in range(FIRST, N_BARS):
            shorts = np.maximum(-lots, 0.0) * inputs.closes[bar - 1] * money
            free = cash - shorts.sum()
            earned = free * rates[bar, layout.CREDIT if free > 0.0 else layout.DEBIT]
            earned -= (shorts * sweep.instruments[:, layout.BORROW]).sum() * rates[
                bar, layout.YEARS
            ]
            alive = equity[FIRST:bar].min(initial=1.0) > 0.0
            cash += earned if alive else 0.0
            carry += earned if alive else 0.0
            for symbol, kind in np.argwhere(fills[bar, :, :, FILL_LOTS]):
                fill = fills[bar, symbol, kind]
                assert inputs.traded[bar, symbol] or kind == WRITTEN_OFF
                value = fill[FILL_VALUE] / money[symbol]
                if kind in (0, 1):
                    price = inputs.closes if fill_at_close else inputs.opens
                    assert value == pytest.approx(price[bar, symbol], rel=1e-12)
                assert inputs.lows[bar, symbol] * (1 - 1e-12) <= value
                assert value <= inputs.highs[bar, symbol] * (1 + 1e-12)
                # A purchase pays at least the market's price, a sale gets at most it.
                side = np.sign(fill[FILL_LOTS])
                assert side * (fill[FILL_CASH] - fill[FILL_VALUE]) >= -1e-9
                assert side * (fill[FILL_PRICE] - value) >= -1e-9
                cash -= fill[FILL_LOTS] * fill[FILL_CASH]
                lots[symbol] += fill[FILL_LOTS]
                traded += abs(fill[FILL_LOTS]) * fill[FILL_VALUE] * (kind != WRITTEN_OFF)
                costs += abs(fill[FILL_LOTS] * (fill[FILL_CASH] - fill[FILL_VALUE]))
            expected = cash + (lots * inputs.closes[bar] * money).sum()
            assert equity[bar] == pytest.approx(expected, rel=1e-9, abs=1e-6), bar
        np.testing.assert_array_equal(lots, sweep.symbol_row("lots")[0, :, 0])
        assert_close(sweep.row("cash")[0, 0], cash)
        assert_close(sweep.row("traded")[0, 0], traded)
        assert_close(sweep.row("costs")[0, 0], costs)
        assert_close(sweep.row("carry")[0, 0], carry)
        assert equity[-1] == sweep.row("equity")[0, 0]
    assert (kinds[[ORDER_REDUCING, ORDER_ADDING, STOPPED]] > 0).all(), kinds


def test_recording_changes_nothing() -> None:
    blocks = random_blocks(4, RECORDED)
    inputs = inputs_for(RECORDED, 4)
    recorded = sweep_of(inputs, blocks, RECORDED).walk(FIRST, N_BARS)
    silent = sweep_of(inputs, blocks, replace(RECORDED, record=False)).walk(FIRST, N_BARS)
    assert recorded.bits() == silent.bits()


# An option that is compiled in but not used changes nothing.


def with_correlations(inputs: Inputs) -> Inputs:
    """The same inputs with correlations added."""
    return Inputs(
        inputs.opens,
        inputs.highs,
        inputs.lows,
        inputs.closes,
        inputs.features,
        inputs.volatilities,
        inputs.regimes,
        random_inputs(3, inputs.n_symbols, 2).correlations,
        2,
        FIRST,
        inputs.volumes,
        inputs.rates,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", Options(stops=True)),
        ("plain", Options(correlated=True)),
        ("short", replace(OPTIONS["short"], stops=True, correlated=True, fees=True)),
    ],
    ids=["stops", "correlations", "all-short"],
)
def test_an_option_that_is_off_changes_nothing(name: str, options: Options) -> None:
    path, blocks = random_path(name), blocks_of(name)
    inputs = path.sweep.inputs
    if options.correlated:
        inputs = with_correlations(inputs)
    sweep = Sweep(inputs, blocks, path.sweep.rules, options.stops, options.fees)
    sweep.walk(FIRST, N_BARS)
    assert_same_bits(result_rows(sweep), result_rows(path.sweep))


UNUSED = {
    "plain": Options(record=True),
    "short": Options(allow_short=True, record=True),
    "most": Options(stops=True, allow_short=True, correlated=True, record=True),
}


@pytest.mark.parametrize(("fees", "extended"), [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("name", UNUSED)
def test_code_for_sets_that_no_set_is_changes_nothing(
    name: str, fees: bool, extended: bool
) -> None:
    """Not a bit of state, equity or fills: other options decide which code a study compiles."""
    options = UNUSED[name]
    inputs, blocks = inputs_for(options, 31), random_blocks(31, options)
    without = sweep_of(inputs, blocks, options)
    assert not without.extended
    without.walk(FIRST, N_BARS)
    code = Sweep(
        inputs, blocks, options.rules(), options.stops, fees, options.record, extended=extended
    ).walk(FIRST, N_BARS)
    assert code.bits() == without.bits()
    assert code.equity.tobytes() == without.equity.tobytes()
    assert code.fills.tobytes() == without.fills.tobytes()
    assert (without.fills[..., FILL_LOTS] != 0.0).any()
    assert (without.row("traded") > 0.0).mean() > 0.5


def test_places_for_all_change_nothing() -> None:
    path, blocks = random_path("plain"), blocks_of("plain")
    blocks = [
        [replace(lane, chosen=replace(lane.chosen, max_positions=3.0)) for lane in block]
        for block in blocks
    ]
    sweep = sweep_of(path.sweep.inputs, blocks, OPTIONS["places"]).walk(FIRST, N_BARS)
    assert sweep.limited
    assert_same_bits(result_rows(sweep), result_rows(path.sweep))


def test_shorting_changes_nothing_without_a_short_signal() -> None:
    inputs = random_inputs(21)
    inputs.features = np.abs(inputs.features)
    inputs.features.flags.writeable = False
    blocks = random_blocks(21, OPTIONS["plain"])[:2]
    options = OPTIONS["leverage"]
    long_only = sweep_of(inputs, blocks, options).walk(FIRST, N_BARS)
    both = sweep_of(inputs, blocks, replace(options, allow_short=True)).walk(FIRST, N_BARS)
    assert_same_bits(result_rows(both), result_rows(long_only))
    assert (long_only.row("traded") > 0.0).any()


# The places of the symbols.


@pytest.mark.parametrize("seed", range(3))
@every_option
def test_the_order_of_the_symbols_does_not_matter(name: str, seed: int) -> None:
    options, n_symbols = OPTIONS[name], 7
    inputs = inputs_for(options, seed, n_symbols, 2)
    blocks = random_blocks(seed, options)
    order = np.random.default_rng(seed).permutation(n_symbols)
    rules = options.rules()
    moved_rules = replace(rules, instruments=tuple(rules.instruments[s] for s in order))
    recorded = replace(options, record=True)
    one = sweep_of(inputs, blocks, recorded).walk(FIRST, N_BARS)
    moved = sweep_of(inputs.permuted(order.tolist()), blocks, recorded, moved_rules)
    moved.walk(FIRST, N_BARS)
    for row in ("lots", "order"):
        np.testing.assert_array_equal(moved.symbol_row(row), one.symbol_row(row)[:, order])
    np.testing.assert_array_equal(moved.fills[..., FILL_LOTS], one.fills[:, order][..., FILL_LOTS])
    np.testing.assert_allclose(moved.fills, one.fills[:, order], rtol=1e-9)
    np.testing.assert_allclose(moved.equity, one.equity, rtol=1e-9, atol=1e-7)
    # Trades that end in the same bar follow each other in the order of the symbols.
    ordered = ("most_losing",)
    for row in ("cash", "equity", "ruined", *(name for name in SUMS if name not in ordered)):
        actual, expected = moved.row(row), one.row(row)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-7, err_msg=row)
    figures = [performance_of(sweep) for sweep in (moved, one)]
    for one_figures in figures:
        one_figures[:, metrics.LOSING_STREAK] = 0.0
    np.testing.assert_allclose(figures[0], figures[1], rtol=1e-8, atol=1e-9)
    assert (one.row("traded") > 0.0).any()


def performance_of(sweep: Sweep) -> FloatArray:
    """Metrics of all lanes."""
    n_lanes = len(sweep.state) * LANES
    rows = sweep.state[:, :, :LANES].transpose(1, 0, 2).reshape(N_LANE_ROWS, n_lanes)
    start = np.full(n_lanes, sweep.rules.initial_cash)
    out = np.empty((n_lanes, metrics.N_METRICS))
    n = N_BARS - FIRST
    metrics.performance(np.ascontiguousarray(rows), start, n, 252.0, n, 252.0, out)
    return out


# Examples by hand, see ``tests/support/by_hand.py``.


def test_a_position_by_hand() -> None:
    path = scenario(
        signals=[[1, 1, -1, -1]],
        opens=[[100, 101, 103, 105]],
        closes=[[100, 102, 104, 103]],
        chosen=replace(
            ALL_IN,
            max_exposure=0.5,
            rebalance_band=0.1,
            costs=Costs(slippage=0.01, commission=0.005),
        ),
        rules=Rules(initial_cash=10_000.0),
    )
    # Bar 0: half of 10000 is 5000, at the close of 100: order 50.
    # Bar 1: bought at the open of 101. With slippage 101 * 1.01 = 102.01; with commission
    #        102.01 * 1.005 = 102.52005 a lot, 5126.0025 in all. Cash 10000 - 5126.0025 = 4873.9975.
    #        Equity 4873.9975 + 50 * 102 = 9973.9975; the exposure is over a half, so no order.
    # Bar 2: 4873.9975 + 50 * 104 = 10073.9975. The signal is gone: order -50.
    # Bar 3: sold at the open of 105. 105 * 0.99 = 103.95, * 0.995 = 103.43025 a lot, 5171.5125 in
    #        all. Cash 4873.9975 + 5171.5125 = 10045.51.
    assert lots_of(path) == [0, 50, 50, 0]
    assert [float(o) for o in path.orders[:, 0, 0, 0]] == [50, 0, -50, 0]
    cash = [10_000.0, 4873.9975, 4873.9975, 10_045.51]
    equity = [10_000.0, 9973.9975, 10_073.9975, 10_045.51]
    assert cash_of(path) == pytest.approx(cash, abs=1e-9)
    assert equity_of(path) == pytest.approx(equity, abs=1e-9)
    row = {name: float(path.sweep.row(name)[0, 0]) for name in SUMS}
    # Costs: 5126.0025 - 50 * 101 = 76.0025 and 50 * 105 - 5171.5125 = 78.4875.
    assert row["costs"] == pytest.approx(154.49, abs=1e-9)
    assert row["traded"] == pytest.approx(50 * 101 + 50 * 105, abs=1e-9)
    # One trade, with a profit of 5171.5125 - 5126.0025.
    assert (row["n_trades"], row["n_wins"], row["gross_loss"]) == (1, 1, 0)
    assert row["gross_profit"] == pytest.approx(45.51, abs=1e-9)
    changes = [0.0, -26.0025 / 10_000.0, 100.0 / 9973.9975, -28.4875 / 10_073.9975]
    for power in (1, 2, 3, 4):
        name = "sum_return" if power == 1 else f"sum_return_{power}"
        assert row[name] == pytest.approx(sum(change**power for change in changes), abs=1e-15)
    assert row["sum_downside_2"] == pytest.approx(changes[1] ** 2 + changes[3] ** 2, abs=1e-15)
    assert row["sum_exposure"] == pytest.approx(5100 / 9973.9975 + 5200 / 10_073.9975, abs=1e-12)
    assert row["sum_equity"] == pytest.approx(sum(equity), abs=1e-9)
    # The deepest fall: 26.0025 below 10000 is 0.26 %, 28.4875 below 10073.9975 is 0.283 %.
    assert row["max_drawdown"] == pytest.approx(28.4875 / 10_073.9975, abs=1e-14)


def test_a_trade_that_breaks_even_is_not_won() -> None:
    path = scenario([[1, 1, -1, -1]], [[10, 10, 10, 10]])
    assert lots_of(path) == [0, 100, 100, 0]
    row = {name: float(path.sweep.row(name)[0, 0]) for name in SUMS}
    assert (row["n_trades"], row["n_wins"], row["gross_profit"], row["gross_loss"]) == (1, 0, 0, 0)


def test_the_last_position_is_marked_and_not_sold() -> None:
    path = scenario([[1, 1, -1]], [[10, 10, 12]])
    assert lots_of(path) == [0, 100, 100]
    assert equity_of(path)[-1] == 1200
    assert path.sweep.row("n_trades")[0, 0] == 0
    assert path.sweep.row("traded")[0, 0] == 1000


def test_a_period_that_starts_after_the_end_has_finite_sums() -> None:
    sweep = scenario([[-1, -1, -1, -1, -1]], [[10, 10, 25, 5, 5]], options="short").sweep
    # As between in-sample and out-of-sample: the peak and all sums are reset.
    sweep.state[:, int(PEAK) // STRIDE] = sweep.state[:, int(EQUITY) // STRIDE]
    sweep.state[:, int(MAX_DRAWDOWN) // STRIDE :] = 0.0
    sweep.walk(3, 5)
    assert np.isfinite(sweep.state).all()


# Performance of the lanes from their sums against performance from the path.


@pytest.mark.parametrize("name", ["plain", "all_at_close"])
def test_metrics_of_the_sums_equal_those_of_the_path(name: str) -> None:
    sweep, blocks = random_path(name).sweep, blocks_of(name)
    # Without the risk-free rate, whose effect on a Sharpe ratio is tested by itself.
    free = np.asarray(sweep.inputs.rates).copy()
    free[:, layout.RISK_FREE] = 0.0
    sweep = sweep_of(replace(sweep.inputs, rates=free), blocks, OPTIONS[name])
    actual = performance_of(sweep.walk(FIRST, N_BARS))
    for k, block in enumerate(blocks):
        for b in range(0, LANES, 9):
            lane = block[b]
            out = simulate_one(sweep.inputs.market(lane.columns), lane.chosen, sweep.rules, FIRST)
            if out.ended:
                continue
            expected = reference_metrics.performance(
                out.equity,
                sweep.rules.initial_cash,
                out.exposure,
                out.profits,
                out.sums["traded"],
                out.sums["costs"],
                out.ended,
                252.0,
                out.sums["n_liquidations"],
                out.sums["carry"],
                out.held,
            )
            for metric, value in expected.items():
                # CARRY is a row of the lanes' state there.
                place = getattr(metrics, "NET_CARRY" if metric == "carry" else metric.upper())
                assert actual[k * LANES + b, place] == pytest.approx(
                    value, rel=1e-7, abs=1e-8, nan_ok=True
                ), (metric, lane)
