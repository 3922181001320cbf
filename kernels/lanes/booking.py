"""Bookings that every fill makes: value traded and costs, ended trades, entry prices."""

from kernels._jit import jit_borrowing
from kernels.arrays import FloatArray, Index
from kernels.layout import BEST, COSTS, ENTRY, GROSS_LOSS, GROSS_PROFIT, N_TRADES, N_WINS, TRADED
from kernels.portfolio import entry_price
from kernels.risk import larger


@jit_borrowing
def book_costs(
    state: FloatArray, o: Index, b: Index, quantity: float, value: float, cost: float
) -> None:
    """Add a fill to the value traded and to the costs paid.

    Args:
        state: updated.
        o, b: offset of the block in ``state``, and the lane.
        quantity: lots filled, >= 0.
        value: money per lot before slippage and commission.
        cost: money per lot that slippage and commission take.
    """
    state[o + TRADED + b] += quantity * value
    state[o + COSTS + b] += quantity * cost


@jit_borrowing
def book_trade(state: FloatArray, o: Index, b: Index, ended: float, profit: float) -> None:
    """Count a trade if it ended, and add its profit or loss.

    Args:
        state: updated.
        o, b: offset of the block in ``state``, and the lane.
        ended: 1.0 if a trade ended, else 0.0.
        profit: money, after costs; 0.0 if no trade ended.
    """
    state[o + N_TRADES + b] += ended
    state[o + N_WINS + b] += ended if profit > 0.0 else 0.0
    state[o + GROSS_PROFIT + b] += larger(profit, 0.0)
    state[o + GROSS_LOSS + b] += larger(-profit, 0.0)


@jit_borrowing
def move_entry(
    positions: FloatArray, p: Index, b: Index, before: float, change: float, price: float
) -> None:
    """Update the entry price and the best price of a position after a fill.

    Only stops read the two.

    Args:
        positions: updated.
        p, b: offset of the symbol in ``positions``, and the lane.
        before: position before the fill in lots, signed.
        change: lots filled, signed.
        price: after slippage.
    """
    positions[p + ENTRY + b] = entry_price(before, positions[p + ENTRY + b], change, price)
    opened = (before == 0.0) | (before * (before + change) < 0.0)
    best = positions[p + BEST + b]
    positions[p + BEST + b] = price if opened & (change != 0.0) else best
