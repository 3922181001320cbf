"""The decisions of one portfolio at a close: all symbols at once, by the rules of ``kernels.risk``.

The event flow calls this. ``kernels.lanes`` walks the same rules for blocks of lanes.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray, IntArray
from kernels.codes import (
    ADDITIONS,
    BELOW_MINIMUM,
    HELD,
    HOLD,
    INSIDE_BAND,
    KELLY,
    NO_BUDGET,
    NO_EDGE,
    NO_PLACE,
    NO_SIGNAL,
    NO_VOLATILITY,
    PLACED,
    UNCHANGED,
)
from kernels.orders import exit_direction
from kernels.risk import (
    budget_left,
    budget_share,
    comes_before,
    correlation_adjustment,
    defined_direction,
    inverse_of_lot,
    kelly_size,
    larger,
    mean_correlation,
    needs_volatility,
    other_size,
    placed_order,
    reducing_part,
    scaled_lots,
    shared_order,
    signals_position,
    smaller,
    target_size,
    weighted_correlation,
)

_HOLD = float(HOLD)


@jit
def wanted_positions(
    acted: FloatArray,
    strengths: FloatArray,
    confidences: FloatArray,
    inverse_volatilities: FloatArray,
    lots: FloatArray,
    lot_values: FloatArray,
    sizing: int,
    size: float,
    multiplier: float,
    max_weight: float,
    variance: float,
    equity: float,
    stop_distances: FloatArray,
    waiting: FloatArray,
    correlations: FloatArray | None,
    values: FloatArray,
    values_gross: float,
    correlation_penalty: float,
    short: object,
    wanted: FloatArray,
    sizes: FloatArray,
    rhos: FloatArray,
) -> None:
    """The position that each signal wants before places and budget are shared.

    Args:
        acted: (n_symbols,), directions to act on; NaN for a symbol that waits.
        strengths, confidences: (n_symbols,), of the signals.
        inverse_volatilities: (n_symbols,), per bar; 0 where the volatility is 0.
        lots, lot_values: (n_symbols,), positions, signed, and money per lot at the close.
        sizing: a code of ``kernels.codes``.
        size: the mode's own size.
        multiplier: the factor of the regime.
        max_weight: cap of a position, a fraction of equity.
        variance: the variance of the portfolio, per bar and unit of exposure.
        equity: money at the close.
        stop_distances: (n_symbols,), of the stop of a new position, fractions of its price; inf where
            there is none.
        waiting: (n_symbols,), lots, signed, of entries that wait on while their signal holds.
        correlations: (n_symbols, n_symbols); None for no adjustment.
        values: (n_symbols,), signed values of the positions at the last refresh, in money.
        values_gross: their gross value.
        correlation_penalty: 0 to 1.
        short: None in an account without shorts and with leverage 1.
        wanted: (n_symbols,), receives lots, signed; where the signal holds, the position and what waits.
        sizes: (n_symbols,), receives the fractions of equity before regime, correlation and cap.
        rhos: (n_symbols,), receives the mean correlations with the other positions; 0 without any.
    """
    scaled_size = size * multiplier
    signals = 0.0
    for s in range(len(lots)):
        signals += 1.0 if signals_position(acted[s], lots[s], short) else 0.0
    inverse_signals = 1.0 / larger(signals, 1.0)
    for s in range(len(lots)):
        ivol = inverse_volatilities[s]
        if sizing == KELLY:
            inverse_variance = smaller(ivol * ivol, 1.0 / variance)
            edge = strengths[s] * confidences[s]
            sizes[s] = kelly_size(size, edge, inverse_variance)
            fraction = kelly_size(scaled_size, edge, inverse_variance)
        else:
            sizes[s] = other_size(
                sizing, size, confidences[s], ivol, inverse_signals, stop_distances[s]
            )
            fraction = other_size(
                sizing, scaled_size, confidences[s], ivol, inverse_signals, stop_distances[s]
            )
        rhos[s] = 0.0
        if correlations is not None:
            weighted = weighted_correlation(correlations, s, values)
            rho = mean_correlation(weighted, values_gross, values[s])
            if short is not None:
                rho = rho * acted[s]
            rhos[s] = rho
            fraction = fraction * correlation_adjustment(correlation_penalty, rho)
        target = target_size(
            acted[s], fraction, max_weight, equity, inverse_of_lot(lot_values[s]), short
        )
        stays = acted[s] == _HOLD or np.isnan(acted[s])
        held = lots[s] + (waiting[s] if acted[s] == _HOLD else 0.0)
        wanted[s] = held if stays else target


@jit
def without_place(
    symbol: int,
    strengths: FloatArray,
    confidences: FloatArray,
    inverse_volatilities: FloatArray,
    lots: FloatArray,
    wanted: FloatArray,
    max_positions: float,
) -> bool:
    """Whether a symbol that is to be opened finds no place under ``max_positions``.

    Args:
        symbol: number of the symbol.
        strengths, confidences, inverse_volatilities: (n_symbols,).
        lots, wanted: (n_symbols,), positions held and wanted.
        max_positions: places; inf where unlimited.

    Returns:
        True if it stays out.
    """
    if lots[symbol] != 0.0 or wanted[symbol] == 0.0:
        return False
    ahead = 0.0
    for j in range(len(lots)):
        if wanted[j] != 0.0 and j != symbol:
            first = lots[j] != 0.0 or comes_before(
                strengths[symbol] * confidences[symbol],
                inverse_volatilities[symbol],
                strengths[j] * confidences[j],
                inverse_volatilities[j],
            )
            ahead += 1.0 if first else 0.0
    return ahead >= max_positions


@jit
def decide(
    directions: FloatArray,
    strengths: FloatArray,
    confidences: FloatArray,
    inverse_volatilities: FloatArray,
    lots: FloatArray,
    barred: FloatArray,
    cooling: FloatArray,
    held_bars: FloatArray,
    time_exit: float,
    cooldown: float,
    lot_units: FloatArray,
    lot_values: FloatArray,
    sizing: int,
    allocation: int,
    size: float,
    multiplier: float,
    max_weight: float,
    max_positions: float,
    max_exposure: float,
    min_order_size: float,
    rebalance_band: float,
    variance: float,
    equity: float,
    gross: float,
    stop_distances: FloatArray,
    waiting: FloatArray,
    correlations: FloatArray | None,
    values: FloatArray,
    values_gross: float,
    correlation_penalty: float,
    short: object,
    wanted: FloatArray,
    sizes: FloatArray,
    rhos: FloatArray,
    orders: FloatArray,
    reasons: IntArray,
) -> float:
    """The orders of one portfolio at a close.

    Args:
        directions: (n_symbols,), of the signals; NaN for a symbol that waits and has none: its position
            stays, as on HOLD, and it does not count for ``equal_weight``.
        strengths, confidences, inverse_volatilities, lots, lot_values, sizing, size, multiplier,
            max_weight, variance, equity, stop_distances, waiting, correlations, values, values_gross,
            correlation_penalty, short, sizes, rhos: the same as in ``wanted_positions``.
        barred, cooling, held_bars: (n_symbols,), as in ``kernels.orders.exit_direction``; updated.
        time_exit, cooldown: closes, as there.
        lot_units: (n_symbols,), units per lot.
        allocation: a code of ``kernels.codes``.
        max_positions: inf where unlimited.
        max_exposure: largest gross value over equity.
        min_order_size: smallest order that opens or adds, units.
        rebalance_band: a change smaller than this share of the target is not placed.
        gross: gross value of the positions at the close, money.
        wanted: (n_symbols,), receives the positions wanted before places and budget are shared.
        orders: (n_symbols,), receives the orders, lots, signed.
        reasons: (n_symbols,), receives a code of ``kernels.codes`` each.

    Returns:
        The factor by which the budget scaled the additions or the targets.
    """
    n_symbols = len(lots)
    acted = orders  # the directions are not needed any more once orders are written
    needed = needs_volatility(sizing)
    for s in range(n_symbols):
        if np.isnan(directions[s]):
            acted[s] = np.nan
            continue
        direction = defined_direction(directions[s], inverse_volatilities[s], needed)
        acted[s], barred[s], cooling[s], held_bars[s] = exit_direction(
            direction, lots[s], barred[s], cooling[s], held_bars[s], time_exit, cooldown
        )
    wanted_positions(
        acted, strengths, confidences, inverse_volatilities, lots, lot_values, sizing, size, multiplier,
        max_weight, variance, equity, stop_distances, waiting, correlations, values, values_gross,
        correlation_penalty, short, wanted, sizes, rhos,
    )  # fmt: skip
    added, freed, held = 0.0, 0.0, 0.0
    for s in range(n_symbols):
        reasons[s] = _reason_of_signal(directions[s], acted[s], wanted[s], lots[s], short)
        target = wanted[s]
        if without_place(
            s, strengths, confidences, inverse_volatilities, lots, wanted, max_positions
        ):
            reasons[s], target = NO_PLACE, 0.0
        orders[s] = target - lots[s]
        if allocation == ADDITIONS:
            orders[s] = placed_order(
                target, lots[s], lot_units[s], min_order_size, rebalance_band, short
            )
            if orders[s] == 0.0 and target != lots[s]:
                reasons[s] = _reason_of_size(target, lots[s], lot_units[s], min_order_size)
            reduction = reducing_part(orders[s], lots[s], short)
            freed += abs(reduction) * lot_values[s]
            added += abs(orders[s] - reduction) * lot_values[s]
        elif reasons[s] == HELD or reasons[s] == NO_VOLATILITY:
            held += abs(lots[s]) * lot_values[s]
        else:
            added += abs(target) * lot_values[s]
    if allocation == ADDITIONS:
        share = budget_share(budget_left(max_exposure, equity, gross, freed), added)
    else:
        share = budget_share(budget_left(max_exposure, equity, held, 0.0), added)
    for s in range(n_symbols):
        order = orders[s]
        if allocation == ADDITIONS:
            orders[s] = shared_order(
                order, lots[s], share, lot_units[s], min_order_size, rebalance_band, short
            )
        elif reasons[s] != HELD and reasons[s] != NO_VOLATILITY:
            target = scaled_lots(lots[s] + order, share)
            orders[s] = placed_order(
                target, lots[s], lot_units[s], min_order_size, rebalance_band, short
            )
            if orders[s] == 0.0 and target != lots[s]:
                reasons[s] = _reason_of_size(target, lots[s], lot_units[s], min_order_size)
        if orders[s] != 0.0:
            reasons[s] = PLACED
        elif reasons[s] == PLACED:
            reasons[s] = NO_BUDGET
    return share


@jit
def _reason_of_signal(
    direction: float, acted: float, wanted: float, lots: float, short: object
) -> int:
    """Why a signal wants no change of the position; PLACED if it wants one."""
    if np.isnan(acted):
        return HELD
    if acted == _HOLD and wanted == lots:
        return HELD if direction == _HOLD else NO_VOLATILITY
    if wanted != lots:
        return PLACED
    if lots != 0.0:
        return UNCHANGED
    if acted == 0.0 or (acted < 0.0 and short is None):
        return NO_SIGNAL
    return NO_EDGE


@jit
def _reason_of_size(target: float, lots: float, lot_units: float, min_order_size: float) -> int:
    """Why ``placed_order`` placed nothing for a change of the position."""
    adds = abs(target) > abs(lots)
    small = abs(target - lots) * lot_units < min_order_size
    return BELOW_MINIMUM if adds and small else INSIDE_BAND
