"""The broker of docs/account.md with a strategy that reads its position, from docs/strategy.md alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from tests.reference.broker import FLAT, HOLD, LONG, SHORT, Broker, Kind, Symbol


@dataclass
class Memory:
    """What is remembered of one symbol: its closes since it was entered, and since it was left."""

    closes: list[float] = field(default_factory=list)
    since_exit: float = inf


class PositionBroker(Broker):
    """As ``Broker``; instead of momentum it follows ``tests.support.strategies.POSITION``.

    The lookback is that of momentum; the other parameters begin with ``mine_``.
    """

    def memory(self, one: Symbol) -> Memory:
        if not hasattr(self, "memories"):
            self.memories = [Memory() for _ in self.symbols]
        return self.memories[one.index]

    def fill(self, one: Symbol, lots: float, market: float, bar: int, kind: Kind) -> None:
        """Also forget the position that was, where one ends."""
        super().fill(one, lots, market, bar, kind)
        if lots != 0.0 and one.lots == 0.0:
            self.memory(one).closes.clear()
            self.memory(one).since_exit = 0.0

    def signal(self, one: Symbol, bar: int) -> tuple[int, float]:
        """Direction and strength; called once at each close at which the symbol decides."""
        memory, close, strength = self.memory(one), one.close[bar], 0.2 * one.volatility[bar]
        (momentum,) = (column[bar] for column in one.features)
        if one.lots == 0.0:
            memory.since_exit += 1.0
            if memory.since_exit < self.p["mine_pause"]:
                return FLAT, 0.0
            return (LONG if momentum > 0.0 else SHORT), 0.5 * strength
        memory.closes.append(close)
        side = 1 if one.lots > 0.0 else -1
        returns = [side * (past - one.entry) / one.entry for past in memory.closes]
        now, best, worst, give_back = (
            returns[-1],
            max(returns),
            min(returns),
            self.p["mine_give_back"],
        )
        if len(returns) >= self.p["mine_longest"] or best - now > give_back:
            return FLAT, 0.0
        if worst < -2.0 * give_back and now > 0.0:
            return -side, 0.7 * strength
        if side * (close - one.entry) > 0.01 * one.entry:
            return side, strength
        return HOLD, 0.0
