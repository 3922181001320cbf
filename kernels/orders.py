"""Orders that wait at a price, and positions that are closed by time."""

from kernels._jit import jit
from kernels.codes import HOLD, STOP_ENTRY
from kernels.portfolio import closes_held
from kernels.risk import barred_direction, larger

_HOLD = float(HOLD)


@jit
def entry_level(
    side: float, close: float, atr: float, offset: float, offset_atr: float, entry: int
) -> float:
    """Price at which an entry waits.

    Args:
        side: 1 to buy, -1 to sell.
        close: the close of the bar that decides.
        atr: average true range at that bar, in units of price.
        offset: distance from the close, a fraction of it.
        offset_atr: further distance, a multiple of ``atr``.
        entry: LIMIT_ENTRY or STOP_ENTRY.

    Returns:
        The price.
    """
    distance = side * (close * offset + atr * offset_atr)
    return close + distance if entry == STOP_ENTRY else close - distance


@jit
def kept_level(
    addition: float, level: float, left: float, fresh: float, entry_bars: float
) -> tuple[float, float]:
    """The price at which an addition waits, and for how long.

    Args:
        addition: lots to be added as decided at this close, signed.
        level: price at which the last one waits.
        left: bars for which that price was good at the close before, negative for a sale; 0 if
            nothing waits.
        fresh: price of an order placed now.
        entry_bars: bars for which it is good.

    Returns:
        The price, and the bars for which it is good from now on, negative for a sale; 0 if nothing is
        added.
    """
    side = 1.0 if addition > 0.0 else -1.0
    good = side * left - 1.0
    kept = good > 0.0
    bars = good if kept else entry_bars
    return (level if kept else fresh), (side * bars if addition != 0.0 else 0.0)


@jit
def waiting_lots(order: float, left: float, lots: float) -> float:
    """What still waits at a close while the signal holds.

    Args:
        order: lots, signed, not filled so far.
        left: bars for which its price was good at the close before, negative for a sale; 0 if nothing
            waits.
        lots: position, signed.

    Returns:
        Lots, signed; 0 if the price has expired or the position is on the other side.
    """
    return order if (abs(left) > 1.0) & (order * lots >= 0.0) else 0.0


@jit
def entry_price(
    order: float, level: float, lots: float, open_: float, high: float, low: float, entry: int
) -> float:
    """Price at which a waiting entry fills in this bar, or 0.

    A limit order fills only if the price trades through its level.

    Args:
        order: lots, signed; 0 gives 0.
        level: the price at which it waits.
        lots: position, signed; nothing fills while it is on the other side.
        open_, high, low: prices of the bar.
        entry: LIMIT_ENTRY or STOP_ENTRY.

    Returns:
        The price before slippage, or 0.
    """
    buys = order > 0.0
    # A sale is a purchase with its prices negated and high and low swapped.
    side = 1.0 if buys else -1.0
    wait, first = level * side, open_ * side
    top = high if buys else -low
    bottom = low if buys else -high
    if entry == STOP_ENTRY:
        reached = top >= wait
        price = first if first > wait else wait
    else:
        reached = bottom < wait
        price = first if first < wait else wait
    fills = reached & (order != 0.0) & (order * lots >= 0.0)
    return price * side if fills else 0.0


@jit
def exit_direction(
    direction: float,
    lots: float,
    barred: float,
    cooling: float,
    held: float,
    time_exit: float,
    cooldown: float,
) -> tuple[float, float, float, float]:
    """The direction to act on after exits: by time now, and by stops before.

    Args:
        direction: the direction of the signal.
        lots: position, signed.
        barred: direction that an exit closed, or 0.
        cooling: closes, this one included, at which nothing may be entered.
        held: closes at which the position has been held before this one; below 0, see
            ``kernels.portfolio.closes_held``.
        time_exit: number of such closes, this one included, after which the position is closed; inf
            where off.
        cooldown: closes at which nothing may be entered after an exit; 0 bars its direction instead.

    Returns:
        The direction to act on, and ``barred``, ``cooling`` and ``held`` for the next close.
    """
    held = closes_held(held, lots)
    timed = (lots != 0.0) & (held >= time_exit)
    closed = 1.0 if lots > 0.0 else -1.0
    barred, cooling = exit_marks(timed, closed, barred, cooling, cooldown)
    direction, barred = barred_direction(direction, barred)
    direction = 0.0 if timed | (cooling > 0.0) else direction
    return direction, barred, larger(cooling - 1.0, 0.0), held


@jit
def exit_marks(
    exits: bool, closed: float, barred: float, cooling: float, cooldown: float
) -> tuple[float, float]:
    """What an exit leaves behind, so that the position is not entered again at once.

    Args:
        exits: whether there is one.
        closed: direction of the position.
        barred: direction barred before, or 0.
        cooling: closes at which nothing may be entered, before.
        cooldown: closes at which nothing may be entered after an exit; 0 bars its direction instead.

    Returns:
        ``barred`` and ``cooling`` from now on.
    """
    bars = exits & (cooldown == 0.0)
    return (closed if bars else barred), (cooldown if exits else cooling)
