"""Sizes of a block of lanes: what each signal wants, and what places and budget leave of it."""

import numpy as np

from kernels._jit import jit_apart, jit_lanes
from kernels.arrays import ByteArray, CodeArray, ColumnArray, FloatArray, Index
from kernels.codes import ADD, ADDITIONS, HOLD, NEUTRAL, REDUCE
from kernels.execution import stop_distance
from kernels.lanes.gathering import of_lane
from kernels.layout import (
    ADDED,
    BARRED,
    BEAR_MULTIPLIER,
    BULL_MULTIPLIER,
    COLUMN_BLOCK,
    CONFIDENCE,
    COOLDOWN,
    COOLING,
    CORRELATION_PENALTY,
    DIRECTION,
    EQUITY_NOW,
    FRACTION,
    FREED,
    GROSS,
    HELD_BARS,
    INVERSE_VARIANCE,
    LEFT,
    LOT_MONEY,
    LOT_UNITS,
    LOTS,
    MAX_EXPOSURE,
    MAX_POSITIONS,
    MAX_WEIGHT,
    MIN_ORDER_SIZE,
    NEUTRAL_MULTIPLIER,
    ORDER,
    PARAMETER_BLOCK,
    POSITION_BLOCK,
    RANK,
    RANK_BLOCK,
    RANK_CALM,
    RANK_EDGE,
    REBALANCE_BAND,
    REGIME_COLUMN,
    RHO,
    SAME_REGIME,
    SCALED_SIZE,
    SHARE,
    SIZE,
    SPENT,
    STATE_BLOCK,
    STOP_LOSS,
    STOP_LOSS_ATR,
    TIME_EXIT,
    VARIANCE,
    X_INVERSE_VOLATILITY,
    B,
)
from kernels.orders import exit_direction, waiting_lots
from kernels.risk import (
    budget_left,
    budget_share,
    comes_before,
    correlation_adjustment,
    either,
    inverse_of_lot,
    kelly_size,
    larger,
    other_size,
    placed_order,
    reducing_part,
    scaled_lots,
    shared_order,
    signals_position,
    smaller,
    target_size,
)

_HOLD = float(HOLD)


@jit_lanes
def regime_lanes(
    k: Index,
    t: int,
    regimes: CodeArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    scratch: FloatArray,
    same: int,
) -> None:
    """What the sizes of all symbols at bar ``t`` share: regime, portfolio; clears ADDED and FREED.

    Args:
        k, t: numbers of the block and of the bar.
        regimes: (n_bars, n_models), codes.
        columns, parameters: rows of each lane.
        state: VARIANCE is read.
        scratch: SCALED_SIZE, the size times the multiplier of the regime, INVERSE_VARIANCE, ADDED and
            FREED are written.
        same: what all lanes of the block read alike, as bits.
    """
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    o = k * STATE_BLOCK
    for b in range(B):
        scratch[ADDED + b] = 0.0
        scratch[FREED + b] = 0.0
        scratch[INVERSE_VARIANCE + b] = 1.0 / state[o + VARIANCE + b]
    if same & SAME_REGIME != 0:
        # One row for the whole block, so that the loop is a plain product.
        code = regimes[t, columns[c + REGIME_COLUMN]]
        row = NEUTRAL_MULTIPLIER
        if code > NEUTRAL:
            row = BULL_MULTIPLIER
        elif code < NEUTRAL:
            row = BEAR_MULTIPLIER
        for b in range(B):
            scratch[SCALED_SIZE + b] = parameters[q + SIZE + b] * parameters[q + row + b]
    else:
        for b in range(B):
            code = regimes[t, columns[c + REGIME_COLUMN + b]]
            multiplier = parameters[q + NEUTRAL_MULTIPLIER + b]
            if code > NEUTRAL:
                multiplier = parameters[q + BULL_MULTIPLIER + b]
            elif code < NEUTRAL:
                multiplier = parameters[q + BEAR_MULTIPLIER + b]
            scratch[SCALED_SIZE + b] = parameters[q + SIZE + b] * multiplier


@jit_lanes
def lane_exit_direction(
    p: Index, q: Index, b: Index, direction: float, positions: FloatArray, parameters: FloatArray
) -> tuple[float, float, float, float]:
    """The direction of a lane after exits; see ``kernels.orders.exit_direction``.

    Args:
        p, q, b: offsets of the symbol in ``positions`` and of the block in ``parameters``, and the
            lane.
        direction: the direction of the signal.
        positions, parameters: read.

    Returns:
        The direction, and BARRED, COOLING and HELD_BARS for the next close.
    """
    return exit_direction(
        direction,
        positions[p + LOTS + b],
        positions[p + BARRED + b],
        positions[p + COOLING + b],
        positions[p + HELD_BARS + b],
        parameters[q + TIME_EXIT + b],
        parameters[q + COOLDOWN + b],
    )


@jit_lanes
def lane_waiting_lots(p: Index, b: Index, positions: FloatArray) -> float:
    """What still waits of a lane's entry; see ``kernels.orders.waiting_lots``.

    Args:
        p, b: offset of the symbol in ``positions``, and the lane.
        positions: read.

    Returns:
        Lots, signed.
    """
    return waiting_lots(positions[p + ORDER + b], positions[p + LEFT + b], positions[p + LOTS + b])


@jit_apart
def count_lanes(
    p: Index,
    q: Index,
    positions: FloatArray,
    parameters: FloatArray,
    scratch: FloatArray,
    stops: object,
    short: object,
) -> None:
    """Count one symbol for ``equal_weight``.

    Args:
        p, q: offsets of the symbol in ``positions`` and of the block in ``parameters``.
        positions, parameters: read.
        scratch: the scratch values as ``put_signal`` left them; SPENT, the number of symbols that
            signal, is raised.
        stops: None where stops are off.
        short: None where short positions are off.
    """
    for b in range(B):
        direction = scratch[DIRECTION + b]
        if stops is not None:
            direction, _, _, _ = lane_exit_direction(p, q, b, direction, positions, parameters)
        counts = signals_position(direction, positions[p + LOTS + b], short)
        scratch[SPENT + b] += 1.0 if counts else 0.0


@jit_apart
def other_size_lanes(
    q: Index,
    parameters: FloatArray,
    scratch: FloatArray,
    sizing: int,
    ivol: float,
    range_: float,
    confident: object,
    own: object,
) -> None:
    """Fractions of equity of one symbol in the modes other than ``kelly``.

    Args:
        q: offset of the block in ``parameters``.
        parameters: rows of each lane.
        scratch: the scratch values as ``put_signal`` left them; SPENT is the number of symbols that
            signal. FRACTION is overwritten.
        sizing: a code of ``kernels.codes``.
        ivol: inverse of the volatility per bar that all lanes share.
        range_: average true range over the close.
        confident: None where the confidence of all signals is 1.
        own: None where all lanes of the block read the same columns.
    """
    for b in range(B):
        confidence = 1.0
        if confident is not None:
            confidence = scratch[CONFIDENCE + b]
        scratch[FRACTION + b] = other_size(
            sizing,
            scratch[SCALED_SIZE + b],
            confidence,
            of_lane(ivol, scratch, X_INVERSE_VOLATILITY, b, own),
            1.0 / larger(scratch[SPENT + b], 1.0),
            stop_distance(
                1.0, parameters[q + STOP_LOSS + b], range_, parameters[q + STOP_LOSS_ATR + b]
            ),
        )


@jit_lanes
def wait_lanes(p: Index, positions: FloatArray, raw: bool) -> None:
    """Leave the position of a symbol that does not decide at this bar as it is.

    Args:
        p: offset of the symbol in ``positions``.
        positions: ORDER is written.
        raw: whether the sizes are raw, as in ``want_lanes``.
    """
    for b in range(B):
        positions[p + ORDER + b] = np.nan if raw else 0.0


@jit_lanes
def want_lanes(
    p: Index,
    q: Index,
    s: Index,
    positions: FloatArray,
    parameters: FloatArray,
    scratch: FloatArray,
    close: float,
    instruments: FloatArray,
    raw: bool,
    correlation: object,
    stops: object,
    short: object,
    extended: object,
    entries: object,
) -> int:
    """Turn one symbol's signals into orders, before the budget is shared.

    Args:
        p, q, s: offsets of the symbol in ``positions`` and of the block in ``parameters``, and the
            symbol.
        positions: ORDER, BARRED, COOLING and HELD_BARS are written.
        parameters: rows of each lane.
        scratch: the scratch values as ``put_signal`` left them. Values are added to ADDED and FREED.
        close: price of the symbol.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        raw: whether to leave the change of the position wanted, and NaN where the signal holds, for
            ``settle_lanes``.
        correlation: None where no lane has a correlation penalty.
        stops: None where stops are off.
        short: None where short positions are off.
        extended: the flag of the same name in ``simulate``; None where ``raw`` is False in every
            call.
        entries: None where additions fill at the open.

    Returns:
        The parts of an order that any lane has: REDUCE, ADD, both bits or 0.
    """
    lot_units = instruments[s, LOT_UNITS]
    lot_value = close * instruments[s, LOT_MONEY]
    inverse_lot_value = inverse_of_lot(lot_value)
    if stops is not None:
        for b in range(B):
            direction, barred, cooling, held = lane_exit_direction(
                p, q, b, scratch[DIRECTION + b], positions, parameters
            )
            scratch[DIRECTION + b] = direction
            positions[p + BARRED + b] = barred
            positions[p + COOLING + b] = cooling
            positions[p + HELD_BARS + b] = held
    if correlation is not None:
        for b in range(B):
            rho = positions[p + RHO + b]
            if short is not None:
                rho = rho * scratch[DIRECTION + b]
            scratch[FRACTION + b] *= correlation_adjustment(
                parameters[q + CORRELATION_PENALTY + b], rho
            )
    if extended is not None and raw:
        for b in range(B):
            direction = scratch[DIRECTION + b]
            target = target_size(
                direction,
                scratch[FRACTION + b],
                parameters[q + MAX_WEIGHT + b],
                scratch[EQUITY_NOW + b],
                inverse_lot_value,
                short,
            )
            change = target - positions[p + LOTS + b]
            held = np.nan
            if entries is not None:
                waiting = lane_waiting_lots(p, b, positions)
                held = waiting if waiting != 0.0 else held
            positions[p + ORDER + b] = held if direction == _HOLD else change
        return 0
    placed = 0
    for b in range(B):
        direction = scratch[DIRECTION + b]
        lots = positions[p + LOTS + b]
        target = target_size(
            direction,
            scratch[FRACTION + b],
            parameters[q + MAX_WEIGHT + b],
            scratch[EQUITY_NOW + b],
            inverse_lot_value,
            short,
        )
        waiting = 0.0
        if entries is not None:
            waiting = lane_waiting_lots(p, b, positions)
            target = lots + waiting if direction == _HOLD else target
        order = placed_order(
            target,
            lots,
            lot_units,
            parameters[q + MIN_ORDER_SIZE + b],
            parameters[q + REBALANCE_BAND + b],
            short,
        )
        order = either((direction == _HOLD) & (waiting == 0.0), 0.0, order)
        positions[p + ORDER + b] = order
        placed |= 1 if order != 0.0 else 0
    if placed == 0:
        return 0
    return sum_lanes(p, positions, scratch, lot_value, short)


@jit_lanes
def want_common_lanes(
    p: Index,
    q: Index,
    s: Index,
    positions: FloatArray,
    parameters: FloatArray,
    scratch: FloatArray,
    close: float,
    instruments: FloatArray,
    direction: float,
    edge: float,
    inverse_volatility: float,
    correlation: object,
    short: object,
) -> int:
    """As ``want_lanes`` by Kelly sizes, for a signal that all lanes share.

    Args:
        p, q, s, positions, parameters, close, instruments, correlation, short: the same as in
            ``want_lanes``.
        scratch: the scratch values as ``regime_lanes`` left them. Values are added to ADDED and FREED.
        direction: 1, or -1 where short positions are on.
        edge: strength times confidence.
        inverse_volatility: the inverse volatility of the symbol, per bar.

    Returns:
        The parts of an order that any lane has: REDUCE, ADD, both bits or 0.
    """
    lot_units = instruments[s, LOT_UNITS]
    lot_value = close * instruments[s, LOT_MONEY]
    inverse_lot_value = inverse_of_lot(lot_value)
    placed = 0
    for b in range(B):
        fraction = kelly_size(
            scratch[SCALED_SIZE + b],
            edge,
            smaller(inverse_volatility * inverse_volatility, scratch[INVERSE_VARIANCE + b]),
        )
        if correlation is not None:
            rho = positions[p + RHO + b]
            if short is not None:
                rho = rho * direction
            fraction *= correlation_adjustment(parameters[q + CORRELATION_PENALTY + b], rho)
        target = target_size(
            direction,
            fraction,
            parameters[q + MAX_WEIGHT + b],
            scratch[EQUITY_NOW + b],
            inverse_lot_value,
            short,
        )
        order = placed_order(
            target,
            positions[p + LOTS + b],
            lot_units,
            parameters[q + MIN_ORDER_SIZE + b],
            parameters[q + REBALANCE_BAND + b],
            short,
        )
        positions[p + ORDER + b] = order
        placed |= 1 if order != 0.0 else 0
    if placed == 0:
        return 0
    return sum_lanes(p, positions, scratch, lot_value, short)


@jit_lanes
def any_lots(p: Index, positions: FloatArray) -> bool:
    """Whether any lane holds a position in a symbol.

    Args:
        p: offset of the symbol in ``positions``.
        positions: read.
    """
    held = 0
    for b in range(B):
        held |= 1 if positions[p + LOTS + b] != 0.0 else 0
    return held != 0


@jit_lanes
def any_acts(p: Index, positions: FloatArray, scratch: FloatArray, short: object) -> bool:
    """Whether the signal of any lane may need an order: it wants a position, or leaves one.

    Args:
        p: offset of the symbol in ``positions``.
        positions: read.
        scratch: DIRECTION is read.
        short: None where short positions are off.
    """
    acting = 0
    for b in range(B):
        direction = scratch[DIRECTION + b]
        wants = direction == 1.0
        if short is not None:
            wants = abs(direction) == 1.0
        leaves = (direction != _HOLD) & (positions[p + LOTS + b] != 0.0)
        acting |= 1 if wants | leaves else 0
    return acting != 0


@jit_lanes
def exit_lanes(p: Index, positions: FloatArray, scratch: FloatArray, lot_value: float) -> int:
    """Orders that close the positions of all lanes in one symbol, where short positions are off.

    Args:
        p: offset of the symbol in ``positions``.
        positions: ORDER is written.
        scratch: FREED is raised.
        lot_value: money per lot at the close.

    Returns:
        The parts of an order that any lane has: REDUCE or 0.
    """
    for b in range(B):
        positions[p + ORDER + b] = 0.0 - positions[p + LOTS + b]
    return sum_lanes(p, positions, scratch, lot_value, None)


@jit_lanes
def sum_lanes(
    p: Index, positions: FloatArray, scratch: FloatArray, lot_value: float, short: object
) -> int:
    """Add the values of one symbol's orders to FREED and ADDED.

    Args:
        p: offset of the symbol in ``positions``.
        positions: read.
        scratch: FREED and ADDED are raised.
        lot_value: money per lot at the close.
        short: None where short positions are off.

    Returns:
        The parts of an order that any lane has: REDUCE, ADD, both bits or 0.
    """
    reduces = 0
    adds = 0
    for b in range(B):
        order = positions[p + ORDER + b]
        reduction = reducing_part(order, positions[p + LOTS + b], short)
        scratch[ADDED + b] += abs(order - reduction) * lot_value
        reduces |= 1 if reduction != 0.0 else 0
        adds |= 1 if order != reduction else 0
    if reduces != 0:
        for b in range(B):
            order = positions[p + ORDER + b]
            reduction = reducing_part(order, positions[p + LOTS + b], short)
            scratch[FREED + b] += abs(reduction) * lot_value
    return (REDUCE if reduces != 0 else 0) + (ADD if adds != 0 else 0)


@jit_apart
def place_lanes(
    k: Index, parameters: FloatArray, positions: FloatArray, scratch: FloatArray, ranks: FloatArray
) -> None:
    """Keep out the symbols that find no place under ``max_positions``.

    Args:
        k: number of the block.
        parameters: rows of each lane.
        positions: ORDER as ``want_lanes`` left it where ``raw``; 0 for symbols kept out.
        scratch: SPENT is overwritten.
        ranks: (n_symbols * RANK_BLOCK,), edges and inverse volatilities; overwritten.
    """
    n_symbols = np.uint64(len(ranks) // int(RANK_BLOCK))
    q = k * PARAMETER_BLOCK
    for b in range(B):
        scratch[SPENT + b] = parameters[q + MAX_POSITIONS + b]
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        r = s * RANK_BLOCK
        for b in range(B):
            lots, change = positions[p + LOTS + b], positions[p + ORDER + b]
            # A symbol on hold has a change of NaN: it stays if it is held, and never opens.
            stays = (lots != 0.0) & (change != -lots)
            opens = (lots == 0.0) & (abs(change) > 0.0)
            scratch[SPENT + b] -= 1.0 if stays else 0.0
            # What does not open has no claim to a place.
            ranks[r + RANK_EDGE + b] = ranks[r + RANK_EDGE + b] if opens else -np.inf
            ranks[r + RANK + b] = 0.0
    for s in range(n_symbols):
        r = s * RANK_BLOCK
        for j in range(n_symbols):
            if j != s:
                a = j * RANK_BLOCK
                for b in range(B):
                    first = comes_before(
                        ranks[r + RANK_EDGE + b],
                        ranks[r + RANK_CALM + b],
                        ranks[a + RANK_EDGE + b],
                        ranks[a + RANK_CALM + b],
                    )
                    ranks[r + RANK + b] += 1.0 if first else 0.0
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        r = s * RANK_BLOCK
        for b in range(B):
            held = positions[p + LOTS + b] != 0.0
            keeps = held | (ranks[r + RANK + b] < scratch[SPENT + b])
            positions[p + ORDER + b] = positions[p + ORDER + b] if keeps else 0.0


@jit_apart
def settle_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    instruments: FloatArray,
    parameters: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    allocation: int,
    short: object,
) -> None:
    """Make orders of the changes that ``want_lanes`` left where ``raw``, and add up their values.

    With ``allocation = "targets"`` the orders come later, in ``share_lanes``.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        parameters: rows of each lane.
        positions: ORDER is updated.
        pending: (n_blocks, n_symbols), receives REDUCE and ADD bits.
        scratch: ADDED and FREED are raised; for targets FREED is the value of the positions on hold.
        allocation: a code of ``kernels.codes``.
        short: None where short positions are off.
    """
    n_symbols = np.uint64(closes.shape[1])
    q = k * PARAMETER_BLOCK
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        lot_units = instruments[s, LOT_UNITS]
        lot_value = closes[t, s] * instruments[s, LOT_MONEY]
        if allocation == ADDITIONS:
            for b in range(B):
                change, lots = positions[p + ORDER + b], positions[p + LOTS + b]
                holds = np.isnan(change)
                order = placed_order(
                    lots + (0.0 if holds else change),
                    lots,
                    lot_units,
                    parameters[q + MIN_ORDER_SIZE + b],
                    parameters[q + REBALANCE_BAND + b],
                    short,
                )
                positions[p + ORDER + b] = 0.0 if holds else order
            pending[k, s] = sum_lanes(p, positions, scratch, lot_value, short)
        else:
            for b in range(B):
                change, lots = positions[p + ORDER + b], positions[p + LOTS + b]
                holds = np.isnan(change)
                scratch[FREED + b] += (abs(lots) if holds else 0.0) * lot_value
                scratch[ADDED + b] += (0.0 if holds else abs(lots + change)) * lot_value


@jit_lanes
def share_lanes(
    k: Index,
    instruments: FloatArray,
    parameters: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    allocation: int,
    short: object,
    extended: object,
) -> None:
    """Share the budget of block ``k`` among the orders of this close.

    Args:
        k: number of the block.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        parameters: rows of each lane.
        positions: ORDER is updated.
        pending: (n_blocks, n_symbols), updated.
        scratch: the scratch values as ``want_lanes`` or ``settle_lanes`` left them; SHARE is written.
        allocation: a code of ``kernels.codes``.
        short: None where short positions are off.
        extended: the flag of the same name in ``simulate``; None where the allocation is
            ``additions``.
    """
    n_symbols = np.uint64(len(instruments))
    q = k * PARAMETER_BLOCK
    scaled = 0
    targets = False
    if extended is not None:
        targets = allocation != ADDITIONS
    for b in range(B):
        gross, freed = scratch[GROSS + b], scratch[FREED + b]
        if targets:
            gross, freed = freed, 0.0
        left = budget_left(parameters[q + MAX_EXPOSURE + b], scratch[EQUITY_NOW + b], gross, freed)
        scratch[SHARE + b] = left
        scaled |= 1 if scratch[ADDED + b] > left else 0
    if not targets and scaled == 0:
        return
    for b in range(B):
        scratch[SHARE + b] = budget_share(scratch[SHARE + b], scratch[ADDED + b])
    for s in range(n_symbols):
        if not targets and pending[k, s] & ADD == 0:
            continue
        p = (k * n_symbols + s) * POSITION_BLOCK
        lot_units = instruments[s, LOT_UNITS]
        reduces = 0
        adds = 0
        if targets:
            for b in range(B):
                order, lots = positions[p + ORDER + b], positions[p + LOTS + b]
                holds = np.isnan(order)
                target = scaled_lots(lots + (0.0 if holds else order), scratch[SHARE + b])
                order = placed_order(
                    target,
                    lots,
                    lot_units,
                    parameters[q + MIN_ORDER_SIZE + b],
                    parameters[q + REBALANCE_BAND + b],
                    short,
                )
                order = 0.0 if holds else order
                positions[p + ORDER + b] = order
                reduction = reducing_part(order, lots, short)
                reduces |= 1 if reduction != 0.0 else 0
                adds |= 1 if order != reduction else 0
        else:
            # Reductions stay as they are.
            reduces = pending[k, s] & REDUCE
            for b in range(B):
                order, lots = positions[p + ORDER + b], positions[p + LOTS + b]
                order = shared_order(
                    order,
                    lots,
                    scratch[SHARE + b],
                    lot_units,
                    parameters[q + MIN_ORDER_SIZE + b],
                    parameters[q + REBALANCE_BAND + b],
                    short,
                )
                positions[p + ORDER + b] = order
                adds |= 1 if order != reducing_part(order, lots, short) else 0
        pending[k, s] = (REDUCE if reduces != 0 else 0) + (ADD if adds != 0 else 0)
