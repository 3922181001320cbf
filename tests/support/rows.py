"""Rows of the analytics database; imports little, for processes that are started to be killed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optimizer.analytics.writer import AnalyticsWriter

Tables = dict[str, list[tuple[Any, ...]]]
SYMBOLS = ("AAA", "BBB")
PORTFOLIOS = ("s.p1", "s.p2", "s.p3")


def rows_of_bar(bar: int, shift: float = 0.0) -> Tables:
    """Every table's rows of a bar, from the bar's number alone."""
    random_floats = random.Random(bar)

    def real() -> float:
        return random_floats.uniform(-1e6, 1e6) + shift

    rows: Tables = {"bars": [], "signals": [], "rejects": [], "orders": [], "fills": []}
    for symbol in SYMBOLS:
        signal_id = f"s.k.{bar:07d}.{symbol}.signal"
        bar_id = f"d.{bar:07d}.{symbol}.bar"
        rows["bars"].append((bar_id, bar, f"t{bar}", symbol, *(real() for _ in range(5))))
        rows["signals"].append(
            (signal_id, "s.k", bar, symbol, 1, real(), 0.5, '{"sma_20": 1.25}', bar_id)
        )
        for portfolio in PORTFOLIOS:
            own = f"{portfolio}.{bar:07d}.{symbol}"
            if portfolio == PORTFOLIOS[0]:
                reject = (f"{own}.reject", portfolio, bar, symbol, signal_id, "no_edge", None, None)
                rows["rejects"].append(reject)
                continue
            of_signal = (signal_id, f"s.c.{bar:07d}.regime")
            sizes = (real(), real(), None, *(real() for _ in range(6)))
            rows["orders"].append(
                (f"{own}.order", portfolio, bar, symbol, *of_signal, real(), *sizes)
            )
            if bar > 0:
                order_id = f"{portfolio}.{bar - 1:07d}.{symbol}.order"
                numbers = (real() for _ in range(5))
                rows["fills"].append(
                    (
                        *(f"{own}.fill", order_id, portfolio, bar, symbol, "order"),
                        *(*numbers, bar_id, None, None, 1, f"t{bar}"),
                    )
                )
    rows["regimes"] = [(f"s.c.{bar:07d}.regime", "s.c", bar, -1)]
    rows["equity"] = [(portfolio, bar, *(real() for _ in range(4))) for portfolio in PORTFOLIOS]
    if bar == 0:
        rows["portfolios"] = [
            (p, "h", "momentum", "hmm", '{"lookback": 20}', "d") for p in PORTFOLIOS
        ]
    return rows


def add_bars(writer: AnalyticsWriter, bars: Sequence[int]) -> None:
    for bar in bars:
        for name, rows in rows_of_bar(bar).items():
            writer.add(name, rows)
        writer.end_bar(bar)
