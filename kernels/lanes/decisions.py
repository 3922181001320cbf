"""The decisions of a block of lanes at the close of a bar: regime, signals, risk, orders.

This module is compiled once more for each strategy of a user; see ``kernels.user_signal``.
"""

import numpy as np

from kernels._jit import jit_lanes
from kernels.arrays import ByteArray, CodeArray, ColumnArray, FloatArray, Index
from kernels.codes import (
    ADD,
    ADDITIONS,
    AVERAGE_CROSS,
    BREAKOUT,
    EQUAL_WEIGHT,
    HOLD,
    KELLY,
    LEAVING,
    ROTATION,
    WAITING,
)
from kernels.lanes.gathering import gather_feature
from kernels.lanes.signals import (
    BlockSignals,
    common_direction,
    one_signal,
    signal_lanes,
)
from kernels.lanes.sizing import (
    any_acts,
    any_lots,
    count_lanes,
    exit_lanes,
    other_size_lanes,
    place_lanes,
    regime_lanes,
    settle_lanes,
    share_lanes,
    wait_lanes,
    want_common_lanes,
    want_lanes,
)
from kernels.lanes.user_signals import user_lanes
from kernels.layout import (
    ALL_SAME,
    COLUMN_BLOCK,
    DIRECTION,
    EDGE,
    FEATURE_0,
    FEATURE_1,
    LOT_MONEY,
    PARAMETER_BLOCK,
    POSITION_BLOCK,
    RANK_BLOCK,
    RANK_CALM,
    RANK_EDGE,
    SAME_VOLATILITY,
    SCORE_SHARPE,
    SIGNAL_0,
    SIGNAL_1,
    SPENT,
    VOLATILITY_COLUMN,
    X0,
    X1,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)
from kernels.risk import defined_direction, needs_volatility
from kernels.user_signal import GIVEN

_HOLD = float(HOLD)


@jit_lanes
def decide_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    atrs: FloatArray,
    features: FloatArray,
    volatilities: FloatArray,
    inverse_volatilities: FloatArray,
    regimes: CodeArray,
    live: ByteArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    ranks: FloatArray,
    strategy: int,
    same: int,
    runs: ColumnArray,
    signals: BlockSignals,
    sizing: int,
    allocation: int,
    correlation: object,
    stops: object,
    short: object,
    extended: object,
    entries: object,
) -> None:
    """Decide the orders of block ``k`` at the close of bar ``t``, all symbols at once.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        atrs: (n_bars, n_symbols), average true ranges, in units of price; empty where unused.
        features: (n_bars, n_symbols, n_columns).
        volatilities, inverse_volatilities: (n_bars, n_symbols, n_volatilities), per bar; the
            inverse is 0 where the volatility is 0.
        regimes: (n_bars, n_models), codes.
        live: (n_bars, n_symbols), WAITING, LIVE or LEAVING.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        columns, parameters: rows of each lane.
        state: read.
        positions: the orders are written.
        pending: (n_blocks, n_symbols), receives which parts of an order any lane placed, as REDUCE
            and ADD bits.
        scratch: the scratch values as ``mark_lanes`` and ``account_lanes`` left them; overwritten.
        ranks: (n_symbols * RANK_BLOCK,), overwritten; empty where places are unlimited.
        strategy: code of the signal kernel.
        same: what all lanes of the block read alike, as bits.
        runs: (n_blocks, MOST_RUNS + 1), the first lanes of the runs, see ``simulate``.
        signals: what ``block_signals`` returned.
        sizing, allocation: codes of ``kernels.codes``.
        correlation: None where no lane has a correlation penalty.
        stops: None where stops are off.
        short: None where short positions are off.
        extended: the flag of the same name in ``simulate``.
        entries: None where additions fill at the open.
    """
    n_symbols = np.uint64(closes.shape[1])
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    shared = same == ALL_SAME
    # Without these options a symbol on which nothing is to be done costs next to nothing, and what all
    # symbols share is computed once a symbol needs it.
    quick = False
    if stops is None and entries is None and extended is None and not GIVEN:
        quick = True
    ready = not quick
    if ready:
        regime_lanes(k, t, regimes, columns, parameters, state, scratch, same)
    adding = 0
    needed = needs_volatility(sizing)
    ranked = len(ranks) > 0
    raw = ranked or allocation != ADDITIONS
    counted = 0
    if extended is not None and sizing == EQUAL_WEIGHT:
        # A first pass over the signals counts the symbols that share the exposure.
        counted = 1
        for b in range(B):
            scratch[SPENT + b] = 0.0
    for step in range(1 + counted):
        for s in range(n_symbols):
            p = (k * n_symbols + s) * POSITION_BLOCK
            if live[t, s] == WAITING:
                pending[k, s] = 0
                wait_lanes(p, positions, raw)
                continue
            close = closes[t, s]
            x0 = features[t, s, columns[c + FEATURE_0]]
            x1 = features[t, s, columns[c + FEATURE_1]]
            vol = volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
            ivol = inverse_volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
            said = np.nan
            if not shared:
                gather_feature(k, t, s, FEATURE_0, X0, features, columns, runs, scratch)
                if strategy in (AVERAGE_CROSS, BREAKOUT, ROTATION):
                    gather_feature(k, t, s, FEATURE_1, X1, features, columns, runs, scratch)
            if stops is None and entries is None and extended is None and not GIVEN:
                if live[t, s] == LEAVING:
                    said = 0.0
                elif shared:
                    said = common_direction(strategy, close, x0, x1, signals)
                    said = defined_direction(said, ivol, needed)
                leaves = False
                if short is None:
                    leaves = (said == 0.0) | (said == -1.0)
                if said == _HOLD or (leaves and not any_lots(p, positions)):
                    wait_lanes(p, positions, False)
                    pending[k, s] = 0
                    continue
                if not ready:
                    regime_lanes(k, t, regimes, columns, parameters, state, scratch, same)
                    ready = True
                if short is None and leaves:
                    lot_value = close * instruments[s, LOT_MONEY]
                    pending[k, s] = exit_lanes(p, positions, scratch, lot_value)
                    continue
                if shared and signals[4] and abs(said) == 1.0:
                    _, edge = one_signal(
                        strategy, close, x0, x1, vol, ivol, parameters[q + SIGNAL_0],
                        parameters[q + SIGNAL_1], parameters[q + SCORE_SHARPE],
                    )  # fmt: skip
                    pending[k, s] = want_common_lanes(
                        p, q, s, positions, parameters, scratch, close, instruments, said, edge, ivol,
                        correlation, short,
                    )  # fmt: skip
                    adding |= pending[k, s] & ADD
                    continue
            alike = False
            if stops is None and entries is None and extended is None and not GIVEN:
                alike = same & SAME_VOLATILITY != 0
            if not shared and not alike:
                for b in range(B):
                    column = columns[c + VOLATILITY_COLUMN + b]
                    scratch[X_VOLATILITY + b] = volatilities[t, s, column]
                    scratch[X_INVERSE_VOLATILITY + b] = inverse_volatilities[t, s, column]
            # numba compiles the calls with None and with True separately, so neither has a choice
            # between shared and own values inside its loop over lanes.
            if GIVEN:
                # Where stops are watched, ``want_lanes`` counts the closes held.
                counts = stops is None and step == counted
                if shared:
                    user_lanes(
                        p, q, c, t, s, features, columns, parameters, positions, scratch, close,
                        vol, ivol, needed, counts, None, extended,
                    )  # fmt: skip
                else:
                    user_lanes(
                        p, q, c, t, s, features, columns, parameters, positions, scratch, close,
                        vol, ivol, needed, counts, True, extended,
                    )  # fmt: skip
            elif shared:
                signal_lanes(
                    q, strategy, parameters, scratch, close, x0, x1, vol, ivol, needed, None, None,
                    extended,
                )  # fmt: skip
            else:
                if stops is None and entries is None and extended is None and alike:
                    signal_lanes(
                        q, strategy, parameters, scratch, close, x0, x1, vol, ivol, needed, True, None,
                        extended,
                    )  # fmt: skip
                else:
                    signal_lanes(
                        q, strategy, parameters, scratch, close, x0, x1, vol, ivol, needed, True, True,
                        extended,
                    )  # fmt: skip
            if live[t, s] == LEAVING:
                for b in range(B):
                    scratch[DIRECTION + b] = 0.0
            if extended is not None:
                if step < counted:
                    count_lanes(p, q, positions, parameters, scratch, stops, short)
                    continue
                if sizing != KELLY:
                    confident = True if GIVEN else None
                    range_ = 0.0
                    if len(atrs) > 0:
                        range_ = atrs[t, s] / close
                    if shared:
                        other_size_lanes(
                            q, parameters, scratch, sizing, ivol, range_, confident, None
                        )
                    else:
                        other_size_lanes(
                            q, parameters, scratch, sizing, ivol, range_, confident, True
                        )
                if ranked:
                    r = s * RANK_BLOCK
                    for b in range(B):
                        own = scratch[X_INVERSE_VOLATILITY + b]
                        ranks[r + RANK_CALM + b] = ivol if shared else own
                        ranks[r + RANK_EDGE + b] = scratch[EDGE + b]
            if (
                stops is None
                and entries is None
                and not raw
                and not any_acts(p, positions, scratch, short)
            ):
                wait_lanes(p, positions, False)
                pending[k, s] = 0
                continue
            pending[k, s] = want_lanes(
                p, q, s, positions, parameters, scratch, close, instruments, raw, correlation,
                stops, short, extended, entries,
            )  # fmt: skip
            adding |= pending[k, s] & ADD
    if extended is not None:
        if ranked:
            place_lanes(k, parameters, positions, scratch, ranks)
        if raw:
            settle_lanes(
                k,
                t,
                closes,
                instruments,
                parameters,
                positions,
                pending,
                scratch,
                allocation,
                short,
            )
    if extended is None and adding == 0:
        return
    share_lanes(
        k, instruments, parameters, positions, pending, scratch, allocation, short, extended
    )
