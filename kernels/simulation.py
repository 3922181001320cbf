"""The loop over bars, symbols and lanes: many parameter sets through the same bars at once.

This module is compiled once more for each strategy of a user; see ``kernels.user_signal``.
"""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import BoolArray, ByteArray, CodeArray, ColumnArray, FloatArray, IntArray
from kernels.lanes.accounts import account_lanes, variance_lanes
from kernels.lanes.correlations import rho_lanes
from kernels.lanes.decisions import decide_lanes
from kernels.lanes.fills import fill_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.stops import stop_lanes
from kernels.layout import EQUITY, ZERO

TIME_TILE = 16
"""Bars that one block walks before the next block does, so that their features stay in cache."""


@jit_borrowing
def simulate(
    first: int,
    last: int,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    closes: FloatArray,
    features: FloatArray,
    volatilities: FloatArray,
    inverse_volatilities: FloatArray,
    regimes: CodeArray,
    correlations: FloatArray | None,
    correlation_first: int,
    correlation_refresh: int,
    strategies: IntArray,
    shared: BoolArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    values: FloatArray | None,
    lot_size: float,
    slippage: float,
    commission: float,
    decay: float,
    equity: FloatArray | None,
    fills: FloatArray | None,
    stop_prices: FloatArray | None,
    stops: object,
    short: object,
    close_fill: object,
) -> None:
    """Walk bars ``first`` to ``last - 1`` for every block of lanes, carrying the state on.

    Walking [a, b) and then [b, c) with the same state equals walking [a, c), bit for bit.

    Args:
        first, last: bars to walk.
        opens, highs, lows, closes: (n_bars, n_symbols), prices.
        features: (n_bars, n_symbols, n_columns), finite from ``first`` on in the columns used.
        volatilities, inverse_volatilities: (n_bars, n_symbols, n_volatilities), per bar; the
            inverse is 0 where the volatility is 0.
        regimes: (n_bars, n_models), codes.
        correlations: (n_refreshes, n_symbols, n_symbols), matrix m is that of bar
            ``correlation_first + m * correlation_refresh``; None where no lane has a penalty.
        correlation_first, correlation_refresh: bars.
        strategies: (n_blocks,), code of the signal kernel.
        shared: (n_blocks,), whether all lanes of the block read the same columns.
        columns: (n_blocks * COLUMN_BLOCK,).
        parameters: (n_blocks * PARAMETER_BLOCK,).
        state: (n_blocks * STATE_BLOCK,), updated.
        positions: (n_blocks * n_symbols * POSITION_BLOCK,), updated.
        pending: (n_blocks, n_symbols), updated: which kinds of order any lane has pending, as SELL
            and BUY bits.
        scratch: (SCRATCH_SIZE,), overwritten.
        values: (n_symbols, STRIDE), overwritten; None where ``correlations`` is None.
        lot_size: units per lot.
        slippage, commission: fractions of the price and of the value.
        decay: of the portfolio's variance, a fraction.
        equity: (n_bars,), receives the equity of lane 0 of block 0 at each close; or None.
        fills: (n_bars, n_symbols, 3), receives the lots that this lane sold (negative) and bought,
            and the change by its stops; or None.
        stop_prices: (n_bars, n_symbols), receives the prices of its stops before slippage; or None.
        stops, short, close_fill: None where off. Where on: stops are watched, short positions are
            allowed, orders fill at the close of the bar that decides them.
    """
    for start in range(first, last, TIME_TILE):
        stop = min(start + TIME_TILE, last)
        for k in range(np.uint64(len(strategies))):
            for t in range(start, stop):
                # The timeline of a bar: fills at the open, stops, marks at the close, accounts,
                # correlations, decisions, fills at the close. ``EventFlow._portfolio_bar`` in
                # optimizer/flow/event_flow.py holds the same timeline for one portfolio, by design:
                # lanes and containers have different state, and both call the same scalar rules.
                # tests/optimizer/flow/test_event_flow.py::test_events_equal_the_sweep holds the two
                # together, bit for bit.
                if close_fill is None:
                    fill_lanes(
                        k, t, opens, state, positions, pending, lot_size, slippage, commission,
                        fills, stops, short,
                    )  # fmt: skip
                if stops is not None:
                    stop_lanes(
                        k, t, opens, highs, lows, state, positions, parameters, lot_size, slippage,
                        commission, fills, stop_prices, short,
                    )  # fmt: skip
                mark_lanes(k, t, closes, state, positions, scratch, values, lot_size, short)
                if close_fill is None:
                    account_lanes(k, state, scratch, decay)
                else:
                    variance_lanes(k, state, scratch, decay)
                if correlations is not None and values is not None:
                    since = t - correlation_first
                    if since % correlation_refresh == 0:
                        m = since // correlation_refresh
                        rho_lanes(k, m, correlations, positions, scratch, values)
                decide_lanes(
                    k, t, closes, features, volatilities, inverse_volatilities, regimes, columns,
                    parameters, state, positions, pending, scratch, strategies[k], shared[k],
                    lot_size, values, stops, short,
                )  # fmt: skip
                if close_fill is not None:
                    fill_lanes(
                        k, t, closes, state, positions, pending, lot_size, slippage, commission,
                        fills, stops, short,
                    )  # fmt: skip
                    mark_lanes(k, t, closes, state, positions, scratch, values, lot_size, short)
                    account_lanes(k, state, scratch, None)
                if equity is not None and k == ZERO:
                    equity[t] = state[EQUITY]
