"""Entries of one portfolio that wait at a price, by the kernels of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernels.orders import entry_level, entry_price, kept_level, waiting_lots
from kernels.risk import reducing_part
from optimizer.types import Bar, FloatArray, Order


@dataclass(frozen=True, slots=True)
class EntryTerms:
    """Where the entries of a portfolio wait, and for how long.

    Attributes:
        entry: LIMIT_ENTRY or STOP_ENTRY.
        offset: distance from the close, a fraction of it.
        offset_atr: further distance, a multiple of the average true range.
        bars: bars for which a price is good.
    """

    entry: int
    offset: float
    offset_atr: float
    bars: float


@dataclass(frozen=True, slots=True)
class Addition:
    """The part of an order that opens or adds.

    Attributes:
        order: the order.
        lots: signed.
        second: whether the order closes a position before.
        level: price at which it waits; 0 where it fills at the open.
        left: bars for which that price is good, negative for a sale.
    """

    order: Order
    lots: float
    second: bool
    level: float = 0.0
    left: float = 0.0


class WaitingEntries:
    """The additions of one portfolio that wait at a price.

    Args:
        terms: where they wait.
        allow_short: whether short positions are allowed.
    """

    def __init__(self, terms: EntryTerms, allow_short: bool) -> None:
        self._terms = terms
        self._short = True if allow_short else None
        self._waiting: dict[int, Addition] = {}
        self._unfilled: list[Addition] = []

    def place(
        self, orders: Sequence[Order], lots: Sequence[float], closes: FloatArray, ranges: FloatArray
    ) -> None:
        """Put the additions of a close in place of those that wait; an earlier price may still be good.

        Args:
            orders: the orders of one bar, at most one per symbol.
            lots: position of each symbol, signed.
            closes: the closes of the bar, shape (n_symbols,).
            ranges: the average true ranges at the bar, shape (n_symbols,).
        """
        earlier, self._waiting = self._waiting, {}
        terms = self._terms
        for order in orders:
            s = order.symbol
            addition = order.lots - reducing_part(order.lots, lots[s], self._short)
            if addition == 0.0:
                continue
            fresh = entry_level(
                1.0 if addition > 0.0 else -1.0,
                float(closes[s]),
                float(ranges[s]),
                terms.offset,
                terms.offset_atr,
                terms.entry,
            )
            before = earlier.get(s)
            level, left = (0.0, 0.0) if before is None else (before.level, before.left)
            level, left = kept_level(addition, level, left, fresh, terms.bars)
            second = addition != order.lots
            self._waiting[s] = Addition(order, addition, second, level, left)

    def lots(self, positions: Sequence[float]) -> list[float]:
        """What waits on in each symbol whose signal holds, signed.

        Args:
            positions: lots of each symbol, signed.

        Returns:
            One number a symbol; 0 where nothing waits.
        """
        found = [0.0] * len(positions)
        for s, one in self._waiting.items():
            found[s] = float(waiting_lots(one.lots, one.left, positions[s]))
        return found

    def entries(self) -> tuple[Addition, ...]:
        """What waits now, in the order of the symbols."""
        return tuple(self._waiting[s] for s in sorted(self._waiting))

    def reached(
        self, bar: Bar, positions: Sequence[float], gone: Callable[[int], bool]
    ) -> list[tuple[Addition, float]]:
        """Take out the entries whose price a bar reaches.

        Args:
            bar: the bar, or a finer one inside it.
            positions: lots of each symbol, signed.
            gone: whether the bar opens beyond a stop or the target of a symbol's position: that closes
                it, and nothing enters.

        Returns:
            Each with the price of the market at which it fills, in the order of the symbols.
        """
        found = []
        for s in sorted(self._waiting):
            if bar.traded[s] and not gone(s):
                one = self._waiting[s]
                price = entry_price(
                    one.lots,
                    one.level,
                    positions[s],
                    float(bar.open[s]),
                    float(bar.high[s]),
                    float(bar.low[s]),
                    self._terms.entry,
                )
                if price > 0.0:
                    del self._waiting[s]
                    found.append((one, float(price)))
        return found

    def cancel(self, symbol: int) -> None:
        """Let nothing wait in a symbol any more.

        Args:
            symbol: index.
        """
        if symbol in self._waiting:
            self._unfilled.append(self._waiting.pop(symbol))

    def cancel_all(self) -> None:
        """Let nothing wait any more."""
        for symbol in list(self._waiting):
            self.cancel(symbol)

    def unfilled(self) -> list[Addition]:
        """What a bar left without a fill. What is not cancelled waits on, until ``place``.

        Returns:
            The additions, in the order of the symbols.
        """
        found, self._unfilled = [*self._unfilled, *self._waiting.values()], []
        return sorted(found, key=lambda one: one.order.symbol)
