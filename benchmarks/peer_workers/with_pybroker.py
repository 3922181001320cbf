"""PyBroker: one backtest a parameter set, several symbols sharing cash.

An order of its fills at the next bar at the earliest. To fill at the close of the bar of decision it
is shown the signal and the close of the next bar, one bar early.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pybroker

from benchmarks.peer_workers.serve import PRICES, Array, Case, equity_row, serve

pybroker.disable_logging()
pybroker.disable_progress_bar()


def to_weight(
    ctx: pybroker.ExecContext, case: Case, symbols: list[str], bar: int, weight: float
) -> None:
    """Bring a symbol to a weight at the close that it fills at, of the equity there."""
    closes = case.close[case.first + bar]
    shares = {position.symbol: float(position.shares) for position in ctx.long_positions()}
    equity = float(ctx.cash) + sum(
        held * closes[symbols.index(symbol)] for symbol, held in shares.items()
    )
    held = shares.get(ctx.symbol, 0.0)
    change = weight * equity / closes[symbols.index(ctx.symbol)] - held
    if weight == 0.0 and held > 0.0:
        ctx.sell_fill_price = pybroker.PriceType.CLOSE
        ctx.sell_all_shares()
    elif change > case.min_size:
        ctx.buy_fill_price = pybroker.PriceType.CLOSE
        ctx.buy_shares = change
    elif change < 0.0 and weight > 0.0:
        ctx.sell_fill_price = pybroker.PriceType.CLOSE
        ctx.sell_shares = -change


def sweep(case: Case, engine: str) -> Array:
    """Each set by ``backtest``."""
    symbols = [f"S{s:02d}" for s in range(case.n_symbols)]
    start = case.first - 1
    frame = pd.concat(
        pd.DataFrame(
            {
                "symbol": symbol,
                "date": pd.to_datetime(case.timestamps[start:]),
                **{name: getattr(case, name)[start:, s] for name in PRICES},
            }
        )
        for s, symbol in enumerate(symbols)
    ).reset_index(drop=True)
    costs = {
        symbol: case.close[case.first :, s] * (1 + case.fees) for s, symbol in enumerate(symbols)
    }
    config = pybroker.StrategyConfig(
        initial_cash=case.cash,
        fee_mode=pybroker.FeeMode.ORDER_PERCENT,
        fee_amount=case.fees * 100,
        enable_fractional_shares=True,
        round_fill_price=False,
        round_test_result=False,
        bars_per_year=int(case.bars_per_year),
    )
    rows = []
    for lookback, threshold in zip(case.lookbacks, case.thresholds, strict=True):
        columns = case.momentum(int(lookback)).T
        momentum = dict(zip(symbols, columns, strict=True))

        def decide(
            ctx: pybroker.ExecContext,
            momentum: dict[str, Array] = momentum,
            threshold: float = threshold,
        ) -> None:
            bar = ctx.bars - 1
            if bar == len(momentum[ctx.symbol]):
                return
            now = momentum[ctx.symbol][bar]
            if not np.isnan(case.weight):
                if abs(now) > threshold:
                    to_weight(ctx, case, symbols, bar, case.weight if now > 0.0 else 0.0)
            elif now > threshold:
                cash = float(ctx.cash)
                shares = cash / costs[ctx.symbol][bar]
                if shares > case.min_size and ctx.long_pos() is None:
                    ctx.buy_fill_price = pybroker.PriceType.CLOSE
                    ctx.buy_shares = shares
            elif now < -threshold and ctx.long_pos() is not None:
                ctx.sell_fill_price = pybroker.PriceType.CLOSE
                ctx.sell_all_shares()

        strategy = pybroker.Strategy(frame, frame["date"].iloc[0], frame["date"].iloc[-1], config)
        strategy.add_execution(decide, symbols)
        result = strategy.backtest()
        rows.append(equity_row(result.portfolio["market_value"].to_numpy()[1:], case))
    return np.array(rows)


if __name__ == "__main__":
    serve({"w1": sweep, "w2": sweep}, ["lib-pybroker"])
