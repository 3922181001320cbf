"""The loop over bars, symbols and lanes: many parameter sets through the same bars at once.

This module is compiled once more for each strategy of a user; see ``kernels.user_signal``.
"""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import ByteArray, CodeArray, ColumnArray, FloatArray, IntArray
from kernels.lanes.accounts import account_lanes, carry_lanes, open_lanes
from kernels.lanes.correlations import rho_lanes
from kernels.lanes.decisions import decide_lanes
from kernels.lanes.entries import enter_lanes, level_lanes
from kernels.lanes.fills import fill_lanes, pending_lanes
from kernels.lanes.marks import mark_lanes
from kernels.lanes.signals import block_signals
from kernels.lanes.stops import end_lanes, margin_lanes, stop_lanes
from kernels.lanes.sums import sum_bars
from kernels.layout import LAST_EQUITY, ONE, ROW, SUMMED_BARS, YEARS, ZERO
from kernels.user_signal import POSITION_AWARE

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
    traded: ByteArray,
    live: ByteArray,
    ends: IntArray,
    volumes: FloatArray,
    finer: IntArray,
    finer_opens: FloatArray,
    finer_highs: FloatArray,
    finer_lows: FloatArray,
    finer_traded: ByteArray,
    finer_volumes: FloatArray,
    atrs: FloatArray,
    features: FloatArray,
    volatilities: FloatArray,
    inverse_volatilities: FloatArray,
    regimes: CodeArray,
    correlations: FloatArray | None,
    correlation_first: int,
    correlation_refresh: int,
    instruments: FloatArray,
    rates: FloatArray,
    payments: FloatArray,
    counted: ByteArray,
    strategies: IntArray,
    same: ByteArray,
    runs: ColumnArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    recent: FloatArray,
    values: FloatArray | None,
    ranks: FloatArray,
    sizing: int,
    allocation: int,
    entry: int,
    leverage: float,
    maintenance: float,
    decay: float,
    equity: FloatArray,
    fills: FloatArray,
    fees: object,
    stops: object,
    short: object,
    extended: object,
    close_fill: object,
    entries: object,
) -> None:
    """Walk bars ``first`` to ``last - 1`` for every block of lanes, carrying the state on.

    Walking [a, b) and then [b, c) with the same state equals walking [a, c), bit for bit.

    Args:
        first, last: bars to walk.
        opens, highs, lows, closes: (n_bars, n_symbols), prices.
        traded: (n_bars, n_symbols), 1 where the symbol trades in the bar.
        live: (n_bars, n_symbols), WAITING, LIVE or LEAVING.
        ends: (n_symbols,), last bar of each symbol that ends before the bars do; -1 for the others.
        volumes: (n_bars, n_symbols), units; inf where unknown.
        finer: (n_bars + 1,), bar t has the finer bars ``finer[t]`` to ``finer[t + 1] - 1``, through which
            stops, entries that wait and the maintenance margin go; each bar itself where there are
            none.
        finer_opens, finer_highs, finer_lows, finer_traded, finer_volumes: (n_finer_bars, n_symbols), as
            those of the bars.
        atrs: (n_bars, n_symbols), average true ranges, in units of price; empty where unused.
        features: (n_bars, n_symbols, n_columns), finite where ``live`` is not WAITING, from ``first``
            on, in the columns used.
        volatilities, inverse_volatilities: (n_bars, n_symbols, n_volatilities), per bar; the
            inverse is 0 where the volatility is 0.
        regimes: (n_bars, n_models), codes.
        correlations: (n_refreshes, n_symbols, n_symbols), matrix m is that of bar
            ``correlation_first + m * correlation_refresh``; None where no lane has a penalty.
        correlation_first, correlation_refresh: bars.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS), see ``kernels.layout``.
        rates: (n_bars, N_RATE_COLUMNS), see ``kernels.layout``.
        payments: (n_bars, n_symbols), money that a unit held at the close before is paid; empty without
            funding and dividends.
        counted: (n_bars,), 1 where a return of the metrics is closed; empty where every bar closes one.
        strategies: (n_blocks,), code of the signal kernel.
        same: (n_blocks,), what all lanes of the block read alike, as bits of ``kernels.layout``.
        runs: (n_blocks, MOST_RUNS + 1), the first lane of each run of neighbours that read the same
            features, and LANES after the last one; LANES alone where there are more of them.
        columns: (n_blocks * COLUMN_BLOCK,).
        parameters: (n_blocks * PARAMETER_BLOCK,).
        state: (n_blocks * STATE_BLOCK,), updated.
        positions: (n_blocks * n_symbols * POSITION_BLOCK,), updated.
        pending: (n_blocks, n_symbols), updated: which parts of an order any lane has pending, as
            REDUCE and ADD bits.
        scratch: (SCRATCH_SIZE,), overwritten.
        recent: (RECENT_SIZE,), overwritten.
        values: (n_symbols, STRIDE), overwritten; None where ``correlations`` is None.
        ranks: (n_symbols * RANK_BLOCK,), overwritten; empty where places are unlimited.
        sizing, allocation, entry: codes of ``kernels.codes``.
        leverage: buying power over equity.
        maintenance: least equity of a margin account, a fraction of gross value.
        decay: the decay of the portfolio's variance, a fraction.
        equity: (n_bars,), receives the equity of lane 0 of block 0 at each close; empty to record
            nothing.
        fills: (n_bars, n_symbols, n_kinds, 4), receives the fills of this lane, see
            ``kernels.codes``; empty to record nothing.
        fees, stops, short, extended, close_fill, entries: None where off, which removes their code.
            Where on: some lane has costs that depend on the size of a fill; stops are watched, or exits
            by time; short positions are allowed; the study has a sizing mode other than ``kelly``, an
            allocation other than ``additions``, limited places, leverage, interest, payments, or a symbol
            that ends before the bars; orders fill at the close of the bar that decides them; additions
            wait at a price.
    """
    margin = short is not None or leverage > 1.0
    # Entry prices are kept for stops, and for a signal that reads them.
    entered = True if POSITION_AWARE else stops
    for start in range(first, last, TIME_TILE):
        stop = min(start + TIME_TILE, last)
        for k in range(np.uint64(len(strategies))):
            open_lanes(k, state, scratch, recent)
            i = ZERO  # bars that are not in the sums yet
            signals = block_signals(k, strategies[k], parameters)
            for t in range(start, stop):
                # The timeline of a bar: carry, fills at the open, entries inside the bar, stops, margin
                # and the end of a symbol, marks at the close, accounts, correlations, decisions, fills
                # at the close.
                # ``EventFlow._portfolio_bar`` in optimizer/flow/event_flow.py holds the same timeline
                # for one portfolio, by design: lanes and containers have different state, and both
                # call the same scalar rules.
                # tests/optimizer/flow/test_event_flow.py::test_events_equal_the_sweep holds the two
                # together, bit for bit.
                # Without margin, only a commission larger than the proceeds takes cash below 0.
                owes = short is not None or fees is not None or extended is not None
                if owes and rates[t, YEARS] != 0.0:
                    carry_lanes(
                        k, t, closes, instruments, rates, payments, state, positions, scratch, short,
                        extended,
                    )  # fmt: skip
                if close_fill is None:
                    fill_lanes(
                        k, t, t - 1, opens, traded, volumes, volatilities, atrs, instruments, columns,
                        parameters, state, positions, pending, scratch, leverage, fills, fees, entered,
                        short, extended, entries,
                    )  # fmt: skip
                for f in range(finer[t], finer[t + 1]):
                    if entries is not None:
                        enter_lanes(
                            k, t, f, finer_opens, finer_highs, finer_lows, finer_traded,
                            finer_volumes, volatilities, atrs, instruments, columns, parameters,
                            state, positions, pending, scratch, leverage, entry, fills, fees, entered,
                            short, extended,
                        )  # fmt: skip
                    if stops is not None:
                        stop_lanes(
                            k, t, f, finer_opens, finer_highs, finer_lows, finer_traded,
                            finer_volumes, volatilities, instruments, columns, parameters, state,
                            positions, pending, scratch, fills, fees, short, entries,
                        )  # fmt: skip
                    if (short is not None or extended is not None) and margin:
                        margin_lanes(
                            k, t, f, finer_opens, finer_highs, finer_lows, finer_traded,
                            finer_volumes, volatilities, instruments, columns, parameters, state,
                            positions, scratch, maintenance, fills, fees,
                        )  # fmt: skip
                if extended is not None:
                    end_lanes(
                        k, t, closes, ends, volumes, volatilities, instruments, columns, parameters,
                        state, positions, scratch, fills, fees, short,
                    )  # fmt: skip
                mark_lanes(
                    k, t, closes, state, positions, scratch, values, instruments, fills, short
                )
                account_lanes(k, i, state, scratch, recent, decay)
                if correlations is not None and values is not None:
                    since = t - correlation_first
                    if since % correlation_refresh == 0:
                        m = since // correlation_refresh
                        rho_lanes(k, m, correlations, positions, scratch, values)
                decide_lanes(
                    k, t, closes, atrs, features, volatilities, inverse_volatilities, regimes, live,
                    instruments, columns, parameters, state, positions, pending, scratch, ranks,
                    strategies[k], same[k], runs, signals, sizing, allocation, values, stops, short,
                    extended, entries,
                )  # fmt: skip
                if entries is not None:
                    level_lanes(k, t, closes, atrs, parameters, positions, pending, entry, short)
                if close_fill is not None and pending_lanes(k, pending):
                    fill_lanes(
                        k, t, t, closes, traded, volumes, volatilities, atrs, instruments, columns,
                        parameters, state, positions, pending, scratch, leverage, fills, fees, entered,
                        short, extended, None,
                    )  # fmt: skip
                    mark_lanes(
                        k,
                        t,
                        closes,
                        state,
                        positions,
                        scratch,
                        values,
                        instruments,
                        fills,
                        short,
                    )
                    account_lanes(k, i, state, scratch, recent, None)
                i += ONE
                if len(equity) > 0 and k == ZERO:
                    equity[t] = recent[LAST_EQUITY + i * ROW]
                if i == SUMMED_BARS or t == stop - 1:
                    sum_bars(k, t, i, counted, rates, state, scratch, recent)
                    i = ZERO
