"""What every fill of a lane does: its terms, the change of the position, cash, costs and trades."""

import numpy as np

from kernels._jit import jit_apart, jit_lanes
from kernels.arrays import ColumnArray, FloatArray, Index
from kernels.codes import FILL_CASH, FILL_LOTS, FILL_PRICE, FILL_VALUE, LIMIT_ENTRY
from kernels.execution import (
    entry_costs,
    fill_costs,
    fill_terms,
    lot_need,
    payable_share,
    volume_limit,
)
from kernels.layout import (
    ADDED,
    BEST,
    CASH,
    COMMISSION,
    COSTS,
    ENTRY,
    ENTRY_ATR,
    EQUITY_NOW,
    FLOW,
    FREED,
    GROSS_LOSS,
    GROSS_PROFIT,
    HALF_SPREAD_TICKS,
    HELD_BARS,
    IMPACT,
    LOSING,
    LOT_MONEY,
    LOT_UNITS,
    LOTS,
    MAKER,
    MINIMUM,
    MOST_LOSING,
    N_TRADES,
    N_WINS,
    OPENED,
    OWN_COMMISSION,
    OWN_HALF_SPREAD,
    OWN_IMPACT,
    OWN_MAKER,
    OWN_MINIMUM,
    OWN_PER_ORDER,
    OWN_PER_UNIT,
    OWN_SLIPPAGE,
    OWN_VOLUME_SHARE,
    PER_ORDER,
    PER_UNIT,
    SHARE,
    SLIPPAGE,
    SPENT,
    SUM_HELD,
    TICK,
    TRADED,
    VOLATILITY_COLUMN,
    VOLUME_SHARE,
    X_VOLATILITY,
    ZERO,
    B,
)
from kernels.portfolio import add_to_streak, mean_entry, reduced
from kernels.risk import either, larger, smaller


@jit_lanes
def gather_volatility(
    c: Index,
    s: Index,
    decided: int,
    volatilities: FloatArray,
    columns: ColumnArray,
    scratch: FloatArray,
    fees: object,
) -> None:
    """Leave the volatilities that scale the impact of one symbol's fills for ``lane_terms``.

    In the loop that fills, the indirect loads would keep the compiler from vectorizing.

    Args:
        c, s: offset of the block in ``columns``, and the symbol.
        decided: bar whose volatility scales the impact.
        volatilities: (n_bars, n_symbols, n_volatilities), per bar.
        columns: columns of each lane.
        scratch: X_VOLATILITY is written where ``fees`` is given.
        fees: None where no lane has costs that depend on the size of a fill.
    """
    if fees is not None:
        for b in range(B):
            scratch[X_VOLATILITY + b] = volatilities[decided, s, columns[c + VOLATILITY_COLUMN + b]]


@jit_lanes
def lane_terms(
    q: Index,
    s: Index,
    b: Index,
    side: float,
    quantity: float,
    price: float,
    parameters: FloatArray,
    instruments: FloatArray,
    scratch: FloatArray,
    volumes: FloatArray,
    t: int,
    fees: object,
    entry: int | None,
) -> tuple[float, float]:
    """Price and cash per lot of a lane's fill; see ``kernels.execution.fill_terms``.

    Args:
        q: offset of the block in ``parameters``.
        s, b: numbers of the symbol and of the lane.
        side: 1 for a purchase, -1 for a sale.
        quantity: lots, >= 0.
        price: the price of the market.
        parameters: rows of each lane.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        scratch: the scratch values as ``gather_volatility`` left them.
        volumes: (n_bars, n_symbols), units; inf where unknown.
        t: bar of the fill.
        fees: None where no lane has costs that depend on the size of a fill.
        entry: how an entry inside the bar fills, LIMIT_ENTRY or STOP_ENTRY; None for any other fill.

    Returns:
        Price per unit and money per lot.
    """
    slippage = parameters[q + SLIPPAGE + b] + instruments[s, OWN_SLIPPAGE]
    half_spread = (
        parameters[q + HALF_SPREAD_TICKS + b] * instruments[s, TICK]
        + instruments[s, OWN_HALF_SPREAD]
    )
    commission = parameters[q + COMMISSION + b] + instruments[s, OWN_COMMISSION]
    impact = 0.0
    if fees is not None:
        impact = (parameters[q + IMPACT + b] + instruments[s, OWN_IMPACT]) * scratch[
            X_VOLATILITY + b
        ]
    if entry is not None:
        slippage, half_spread, impact, commission = entry_costs(
            entry == LIMIT_ENTRY,
            slippage,
            half_spread,
            impact,
            commission,
            parameters[q + MAKER + b] + instruments[s, OWN_MAKER],
        )
    lot_units, lot_money = instruments[s, LOT_UNITS], instruments[s, LOT_MONEY]
    if fees is None:
        return fill_terms(
            side, quantity, price, lot_units, lot_money, slippage, half_spread, commission,
            0.0, 0.0, 0.0, 0.0, 0.0, None,
        )  # fmt: skip
    return fill_terms(
        side,
        quantity,
        price,
        lot_units,
        lot_money,
        slippage,
        half_spread,
        commission,
        parameters[q + PER_UNIT + b] + instruments[s, OWN_PER_UNIT],
        parameters[q + MINIMUM + b] + instruments[s, OWN_MINIMUM],
        parameters[q + PER_ORDER + b] + instruments[s, OWN_PER_ORDER],
        impact,
        1.0 / volumes[t, s],
        True,
    )


@jit_lanes
def lane_volume_limit(
    q: Index,
    s: Index,
    b: Index,
    t: int,
    quantity: float,
    parameters: FloatArray,
    instruments: FloatArray,
    volumes: FloatArray,
    fees: object,
) -> float:
    """The part of a lane's fill that the bar's volume allows, in lots.

    Args:
        q: offset of the block in ``parameters``.
        s, b: numbers of the symbol and of the lane.
        t: bar of the fill.
        quantity: lots, >= 0.
        parameters: rows of each lane.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        volumes: (n_bars, n_symbols), units; inf where unknown.
        fees: None where no lane has costs that depend on the size of a fill.
    """
    if fees is None:
        return quantity
    share = smaller(parameters[q + VOLUME_SHARE + b], instruments[s, OWN_VOLUME_SHARE])
    return volume_limit(quantity, share, volumes[t, s], instruments[s, LOT_UNITS])


@jit_lanes
def book_costs(
    state: FloatArray, o: Index, b: Index, change: float, value: float, cash_per_lot: float
) -> None:
    """Add a fill to the value traded and to the costs paid.

    Args:
        state: updated.
        o, b: offset of the block in ``state``, and the lane.
        change: lots filled, signed.
        value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings.
    """
    state[o + TRADED + b] += abs(change) * value
    state[o + COSTS + b] += fill_costs(change, value, cash_per_lot)


@jit_lanes
def book_trade(
    state: FloatArray, o: Index, b: Index, ended: float, profit: float, held: float
) -> None:
    """Count a trade if it ended, and add its profit or loss and its length.

    Args:
        state: updated.
        o, b: offset of the block in ``state``, and the lane.
        ended: 1.0 if a trade ended, else 0.0.
        profit: money, after costs; 0.0 if no trade ended.
        held: bars since the position was opened.
    """
    state[o + N_TRADES + b] += ended
    state[o + N_WINS + b] += ended if profit > 0.0 else 0.0
    state[o + GROSS_PROFIT + b] += larger(profit, 0.0)
    state[o + GROSS_LOSS + b] += larger(-profit, 0.0)
    losing, most = add_to_streak(ended, profit, state[o + LOSING + b], state[o + MOST_LOSING + b])
    state[o + LOSING + b] = losing
    state[o + MOST_LOSING + b] = most
    state[o + SUM_HELD + b] += ended * held


@jit_lanes
def reduce_position(
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    o: Index,
    p: Index,
    b: Index,
    change: float,
    value: float,
    cash_per_lot: float,
) -> bool:
    """Reduce a position, and book cash and costs. ``end_trades`` books the trade if it ends.

    Args:
        state, positions: updated.
        scratch: SPENT is written: what the trade earned if it ended, else NaN.
        o, p, b: offsets of the block in ``state`` and of the symbol in ``positions``, and the lane.
        change: lots, signed; 0 changes nothing.
        value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings.

    Returns:
        Whether the trade ended.
    """
    lots, flow, ended, profit = reduced(
        positions[p + LOTS + b], positions[p + FLOW + b], change, cash_per_lot
    )
    positions[p + LOTS + b] = lots
    positions[p + FLOW + b] = flow
    scratch[SPENT + b] = profit if ended > 0.0 else np.nan
    state[o + CASH + b] -= change * cash_per_lot
    book_costs(state, o, b, change, value, cash_per_lot)
    return ended > 0.0


@jit_lanes
def ask_power(
    q: Index,
    s: Index,
    b: Index,
    side: float,
    quantity: float,
    value: float,
    cash_per_lot: float,
    parameters: FloatArray,
    instruments: FloatArray,
    scratch: FloatArray,
    leverage: float,
    fees: object,
) -> None:
    """Add an addition to what a lane's additions ask of the buying power; ``grant_power`` shares it.

    Args:
        q: offset of the block in ``parameters``.
        s, b: numbers of the symbol and of the lane.
        side: 1 for a purchase, -1 for a sale.
        quantity: lots, >= 0.
        value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings.
        parameters: rows of each lane.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        scratch: ADDED is raised, and FREED by what does not shrink with the quantity.
        leverage: buying power over equity.
        fees: None where no lane has costs that depend on the size of a fill.
    """
    scratch[ADDED + b] += quantity * lot_need(side, value, cash_per_lot, leverage)
    if fees is not None:
        fixed = leverage * (
            parameters[q + MINIMUM + b]
            + instruments[s, OWN_MINIMUM]
            + parameters[q + PER_ORDER + b]
            + instruments[s, OWN_PER_ORDER]
        )
        scratch[FREED + b] += fixed if quantity > 0.0 else 0.0


@jit_lanes
def grant_power(scratch: FloatArray) -> None:
    """Share the buying power of a block among the additions of each lane.

    Args:
        scratch: the scratch values as ``power_lanes`` and ``ask_power`` left them; SHARE is written, and
            SPENT cleared.
    """
    for b in range(B):
        scratch[SHARE + b] = payable_share(
            scratch[EQUITY_NOW + b], scratch[ADDED + b], scratch[FREED + b]
        )
        scratch[SPENT + b] = 0.0


@jit_lanes
def add_to_position(
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    o: Index,
    p: Index,
    b: Index,
    t: float,
    change: float,
    paid: float,
    value: float,
    cash_per_lot: float,
    atr: float,
    stops: object,
) -> None:
    """Open a position or add to it, and book its costs. Its cash is left in SPENT.

    Args:
        state, positions: updated.
        scratch: SPENT is raised.
        o, p, b: offsets of the block in ``state`` and of the symbol in ``positions``, and the lane.
        t: number of the bar.
        change: lots, signed; 0 changes nothing.
        paid: price per unit, after costs.
        value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings.
        atr: average true range before the fill.
        stops: the same as in ``fill_lanes``.
    """
    if stops is not None:
        move_entry(positions, p, b, change, paid, atr)
    lots = positions[p + LOTS + b]
    opens = (lots == 0.0) & (change != 0.0)
    # Exact, as both are whole, where a choice between the two would become a masked store.
    opened = positions[p + OPENED + b]
    positions[p + OPENED + b] = opened + either(opens, t - opened, 0.0)
    positions[p + LOTS + b] = lots + change
    positions[p + FLOW + b] -= change * cash_per_lot
    scratch[SPENT + b] += change * cash_per_lot
    book_costs(state, o, b, change, value, cash_per_lot)


@jit_lanes
def end_trades(
    state: FloatArray, positions: FloatArray, scratch: FloatArray, o: Index, p: Index, t: float
) -> None:
    """Count the trades that ``reduce_position`` ended, and add their profits and lengths.

    A loop of its own, because most fills end no trade.

    Args:
        state: updated.
        positions: read.
        scratch: the scratch values as ``reduce_position`` left them.
        o, p: offsets of the block in ``state`` and of the symbol in ``positions``.
        t: number of the bar.
    """
    for b in range(B):
        profit = scratch[SPENT + b]
        ended = profit == profit
        held = t - positions[p + OPENED + b]
        book_trade(state, o, b, 1.0 if ended else 0.0, profit if ended else 0.0, held)


@jit_lanes
def move_entry(
    positions: FloatArray, p: Index, b: Index, change: float, price: float, atr: float
) -> None:
    """Update what stops and signals read of a position that is about to grow.

    Args:
        positions: updated.
        p, b: offset of the symbol in ``positions``, and the lane.
        change: lots to be added, signed.
        price: the price after slippage.
        atr: average true range before the fill.
    """
    lots = positions[p + LOTS + b]
    positions[p + ENTRY + b] = mean_entry(lots, positions[p + ENTRY + b], change, price)
    opens = (lots == 0.0) & (change != 0.0)
    positions[p + BEST + b] = price if opens else positions[p + BEST + b]
    positions[p + ENTRY_ATR + b] = atr if opens else positions[p + ENTRY_ATR + b]
    positions[p + HELD_BARS + b] = 0.0 if opens else positions[p + HELD_BARS + b]


@jit_apart
def record_fill(
    fills: FloatArray,
    q: Index,
    s: Index,
    t: int,
    kind: int,
    change: float,
    price: float,
    parameters: FloatArray,
    instruments: FloatArray,
    scratch: FloatArray,
    volumes: FloatArray,
    f: int,
    fees: object,
    entry: int | None,
) -> None:
    """Keep a fill of lane 0 of block 0. Those of one kind in one bar become one at their mean price.

    Args:
        fills: (n_bars, n_symbols, n_kinds, 4), updated.
        q, s, parameters, instruments, scratch, volumes, fees, entry: the same as in ``lane_terms``.
        t, f: the bar, and the row of ``volumes``: the bar too, or a finer one inside it.
        kind: a code of ``kernels.codes``.
        change: lots, signed; 0 keeps nothing.
        price: the price of the market.
    """
    if change != 0.0:
        side = 1.0 if change > 0.0 else -1.0
        paid, cash_per_lot = lane_terms(
            q, s, ZERO, side, abs(change), price, parameters, instruments, scratch, volumes, f, fees,
            entry,
        )  # fmt: skip
        value = price * instruments[s, LOT_MONEY]
        before = fills[t, s, kind, FILL_LOTS]
        if before == 0.0:
            fills[t, s, kind, FILL_PRICE] = paid
            fills[t, s, kind, FILL_VALUE] = value
            fills[t, s, kind, FILL_CASH] = cash_per_lot
        else:
            share = change / (before + change)
            fills[t, s, kind, FILL_PRICE] += share * (paid - fills[t, s, kind, FILL_PRICE])
            fills[t, s, kind, FILL_VALUE] += share * (value - fills[t, s, kind, FILL_VALUE])
            fills[t, s, kind, FILL_CASH] += share * (cash_per_lot - fills[t, s, kind, FILL_CASH])
        fills[t, s, kind, FILL_LOTS] = before + change
