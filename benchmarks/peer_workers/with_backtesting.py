"""backtesting.py: one symbol alone, one run a parameter set."""

from __future__ import annotations

import backtesting
import numpy as np
import pandas as pd
from backtesting.lib import FractionalBacktest

from benchmarks.peer_workers.serve import Array, Case, equity_row, serve

backtesting.backtesting._tqdm = lambda sequence, **_: sequence  # no progress bar


def w1(case: Case, engine: str) -> Array:
    """Each set by ``run``.

    It acts from its second bar on, so it gets the bar before the first decision too. A fill at the
    close is in its equity one bar later than in ours.
    """

    class Momentum(backtesting.Strategy):  # type: ignore[misc]
        lookback = 0
        threshold = 0.0

        def init(self) -> None:
            momentum = np.append(0.0, case.momentum(self.lookback)[:, 0])
            self.momentum = self.I(lambda: momentum, plot=False)

        def next(self) -> None:
            now = self.momentum[-1]
            if now > self.threshold:
                if not self.position:
                    self.buy()
            elif now < -self.threshold and self.position:
                self.position.close()

    names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
    frame = pd.DataFrame(
        {name: getattr(case, own)[case.first - 1 :, 0] for name, own in names.items()},
        pd.DatetimeIndex(case.timestamps[case.first - 1 :]),
    )
    test = FractionalBacktest(
        frame,
        Momentum,
        fractional_unit=1e-6,
        cash=case.cash,
        commission=case.fees,
        trade_on_close=True,
    )
    rows = []
    for lookback, threshold in zip(case.lookbacks, case.thresholds, strict=True):
        stats = test.run(lookback=int(lookback), threshold=float(threshold))
        rows.append(equity_row(stats._equity_curve["Equity"].to_numpy()[1:], case))
    return np.array(rows)


if __name__ == "__main__":
    serve({"w1": w1}, ["backtesting"])
