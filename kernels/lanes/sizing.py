"""Sizes of a block of lanes: scaled Kelly fractions, the cash and budget left, and the orders."""

from kernels._jit import jit_borrowing
from kernels.arrays import CodeArray, ColumnArray, FloatArray, Index
from kernels.codes import BUY, NEUTRAL, SELL
from kernels.layout import (
    BARRED,
    BEAR_MULTIPLIER,
    BUDGET_LEFT,
    BULL_MULTIPLIER,
    CASH,
    CASH_LEFT,
    COLUMN_BLOCK,
    CORRELATION_PENALTY,
    DIRECTION,
    EQUITY_NOW,
    FRACTION,
    GROSS,
    KELLY_FRACTION,
    LOTS,
    MAX_EXPOSURE,
    MIN_LOTS,
    NEUTRAL_MULTIPLIER,
    ORDER,
    PARAMETER_BLOCK,
    REBALANCE_BAND,
    REGIME_COLUMN,
    RHO,
    SCALED_KELLY,
    STATE_BLOCK,
    B,
)
from kernels.risk import (
    barred_direction,
    budget,
    budget_taken,
    cash_taken,
    correlation_adjustment,
    inverse_of_lot,
    order_size,
    smaller,
)


@jit_borrowing
def regime_lanes(
    k: Index,
    t: int,
    regimes: CodeArray,
    columns: ColumnArray,
    parameters: FloatArray,
    scratch: FloatArray,
    shared: bool,
) -> None:
    """Kelly fraction of each lane times its multiplier for the regime at bar ``t``.

    Args:
        k, t: numbers of the block and of the bar.
        regimes: (n_bars, n_models), codes.
        columns, parameters: rows of each lane.
        scratch: SCALED_KELLY is written.
        shared: whether all lanes of the block read the same regime model.
    """
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    if shared:
        # One row for the whole block, so that the loop is a plain product.
        code = regimes[t, columns[c + REGIME_COLUMN]]
        row = NEUTRAL_MULTIPLIER
        if code > NEUTRAL:
            row = BULL_MULTIPLIER
        elif code < NEUTRAL:
            row = BEAR_MULTIPLIER
        for b in range(B):
            scratch[SCALED_KELLY + b] = parameters[q + KELLY_FRACTION + b] * parameters[q + row + b]
    else:
        for b in range(B):
            code = regimes[t, columns[c + REGIME_COLUMN + b]]
            multiplier = parameters[q + NEUTRAL_MULTIPLIER + b]
            if code > NEUTRAL:
                multiplier = parameters[q + BULL_MULTIPLIER + b]
            elif code < NEUTRAL:
                multiplier = parameters[q + BEAR_MULTIPLIER + b]
            scratch[SCALED_KELLY + b] = parameters[q + KELLY_FRACTION + b] * multiplier


@jit_borrowing
def limit_lanes(
    k: Index, parameters: FloatArray, state: FloatArray, scratch: FloatArray, short: object
) -> None:
    """Cash and budget that the orders of this bar may claim, in money.

    Args:
        k: number of the block.
        parameters, state: rows of each lane.
        scratch: as ``mark_lanes`` left it; CASH_LEFT is written, and BUDGET_LEFT where short
            positions are on.
        short: None where short positions are off.
    """
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    for b in range(B):
        cash_left = state[o + CASH + b]
        budget_left = budget(
            parameters[q + MAX_EXPOSURE + b], scratch[EQUITY_NOW + b], scratch[GROSS + b]
        )
        if short is None:
            # A long order claims as much cash as budget, and rounding keeps their order: at every
            # symbol the smaller of the two decides.
            cash_left = smaller(cash_left, budget_left)
        else:
            scratch[BUDGET_LEFT + b] = budget_left
        scratch[CASH_LEFT + b] = cash_left


@jit_borrowing
def size_lanes(
    p: Index,
    q: Index,
    positions: FloatArray,
    parameters: FloatArray,
    scratch: FloatArray,
    lot_value: float,
    correlation: object,
    stops: object,
    short: object,
) -> int:
    """Turn one symbol's signals into orders for the next fill.

    Args:
        p, q: offsets of the symbol in ``positions`` and of the block in ``parameters``.
        positions: ORDER and BARRED are written.
        parameters: rows of each lane.
        scratch: as ``put_signal`` and ``limit_lanes`` left it. The orders' claims are deducted from
            CASH_LEFT, and from BUDGET_LEFT where short positions are on.
        lot_value: money per lot at the close.
        correlation: None where no lane has a correlation penalty.
        stops: None where stops are off.
        short: None where short positions are off.

    Returns:
        The kinds of order that any lane placed: SELL, BUY, both bits or 0.
    """
    inverse_lot_value = inverse_of_lot(lot_value)
    if stops is not None:
        for b in range(B):
            direction, barred = barred_direction(scratch[DIRECTION + b], positions[p + BARRED + b])
            scratch[DIRECTION + b] = direction
            positions[p + BARRED + b] = barred
    sells = False
    buys = False
    for b in range(B):
        direction = scratch[DIRECTION + b]
        fraction = scratch[FRACTION + b]
        if correlation is not None:
            rho = positions[p + RHO + b]
            if short is not None:
                rho = rho * direction
            fraction = fraction * correlation_adjustment(
                parameters[q + CORRELATION_PENALTY + b], rho
            )
        lots = positions[p + LOTS + b]
        cash_left = scratch[CASH_LEFT + b]
        budget_left = cash_left
        if short is not None:
            budget_left = scratch[BUDGET_LEFT + b]
        order, _, _, _, _ = order_size(
            direction,
            fraction,
            scratch[EQUITY_NOW + b],
            lots,
            lot_value,
            inverse_lot_value,
            cash_left,
            budget_left,
            parameters[q + MIN_LOTS + b],
            parameters[q + REBALANCE_BAND + b],
            short,
        )
        positions[p + ORDER + b] = order
        scratch[CASH_LEFT + b] = cash_left - cash_taken(order, lot_value)
        if short is not None:
            scratch[BUDGET_LEFT + b] = budget_left - budget_taken(order, lots, lot_value, short)
        sells |= order < 0.0
        buys |= order > 0.0
    return (SELL if sells else 0) + (BUY if buys else 0)
