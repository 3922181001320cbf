"""The metrics of a portfolio over one period: in-sample or the holdout."""

from __future__ import annotations

from dataclasses import dataclass, field

from kernels import layout
from kernels.portfolio import add_drawdown, add_return, add_to_streak, bar_return, drawdown
from optimizer.sweep.lanes import row_of
from optimizer.sweep.performance import metrics_of
from optimizer.types import Fill, FloatArray


@dataclass(slots=True)
class Period:
    """Running sums of a period, those of a lane of the sweep.

    Attributes:
        start: equity before the first bar, money.
        n_bars: number of bars so far.
    """

    start: float
    _equity: float = field(init=False)
    _peak: float = field(init=False)
    _closed: float = field(init=False)
    _max_drawdown: float = 0.0
    _returns: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    _drawdowns: tuple[float, float, float] = (0.0, 0.0, 0.0)
    _losing: tuple[float, float] = (0.0, 0.0)
    _sum_exposure: float = 0.0
    _sum_equity: float = 0.0
    _traded: float = 0.0
    _costs: float = 0.0
    _n_trades: float = 0.0
    _n_wins: float = 0.0
    _sum_held: float = 0.0
    _profit: float = 0.0
    _loss: float = 0.0
    _n_liquidations: float = 0.0
    _carry: float = 0.0
    n_bars: int = 0
    n_returns: int = 0

    def __post_init__(self) -> None:
        self._equity = self._peak = self._closed = self.start

    def add_fill(self, fill: Fill) -> None:
        """Add a fill.

        Args:
            fill: the fill of an order, a stop or a margin call.
        """
        self._costs += fill.cost
        self._traded += abs(fill.lots) * fill.raw_value

    def add_trade(self, profit: float, held: float) -> None:
        """Add a trade that has ended.

        Args:
            profit: money, costs included.
            held: bars since the fill that opened it.
        """
        self._losing = add_to_streak(1.0, profit, *self._losing)
        self._sum_held += held
        self._n_trades += 1.0
        self._n_wins += 1.0 if profit > 0.0 else 0.0
        self._profit += max(profit, 0.0)
        self._loss += max(-profit, 0.0)

    def add_lane(self, rows: FloatArray) -> None:
        """Add what an account that is a part of this one has traded in the same period.

        Its trades count like those of this one; the losing streak is the longest of any part.

        Args:
            rows: the rows of its lane at the end of the period, shape (N_LANE_ROWS,), see
                ``kernels.layout``.
        """
        self._traded += rows[row_of(layout.TRADED)]
        self._costs += rows[row_of(layout.COSTS)]
        self._n_trades += rows[row_of(layout.N_TRADES)]
        self._n_wins += rows[row_of(layout.N_WINS)]
        self._sum_held += rows[row_of(layout.SUM_HELD)]
        self._profit += rows[row_of(layout.GROSS_PROFIT)]
        self._loss += rows[row_of(layout.GROSS_LOSS)]
        self._n_liquidations += rows[row_of(layout.N_LIQUIDATIONS)]
        self._carry += rows[row_of(layout.CARRY)]
        losing, most = self._losing
        self._losing = losing, max(most, float(rows[row_of(layout.MOST_LOSING)]))

    def move(self, money: float) -> None:
        """Take money that is paid in, or out if negative, for no return.

        Args:
            money: money.
        """
        self._equity += money
        self._peak += money
        self._closed += money

    def add_carry(self, earned: float) -> None:
        """Add the carry of a bar.

        Args:
            earned: interest and payments, less interest, borrow fees and payments paid, money.
        """
        self._carry += earned

    def add_liquidation(self) -> None:
        """Count a margin call that closed a position."""
        self._n_liquidations += 1.0

    def add_bar(self, equity: float, exposure: float, risk_free: float, closes: bool) -> None:
        """Add a bar.

        Args:
            equity: money at its close.
            exposure: gross value of the positions over equity at its close.
            risk_free: return without risk since the last close of a return, a fraction; subtracted in
                the sums of returns.
            closes: whether the bar closes a return.
        """
        if closes:
            excess = bar_return(equity, self._closed) - risk_free
            self._returns = add_return(excess, *self._returns)
            self._closed = equity
            self.n_returns += 1
        self._sum_exposure += exposure
        self._sum_equity += equity
        self._peak = max(equity, self._peak)
        fall = drawdown(equity, self._peak)
        self._max_drawdown = max(self._max_drawdown, fall)
        self._drawdowns = add_drawdown(fall, *self._drawdowns)
        self._equity = equity
        self.n_bars += 1

    def drawdown(self, equity: float) -> float:
        """The fall from the peak of the period, a fraction of the peak.

        Args:
            equity: money.
        """
        return drawdown(equity, self._peak)

    def metrics(
        self, cash: float, ruined: bool, bars_per_year: float, returns_per_year: float
    ) -> dict[str, float]:
        """The metrics by name, from the kernel of the sweep.

        Args:
            cash: money at the last bar.
            ruined: whether equity has fallen to 0 or below.
            bars_per_year: makes years of bars.
            returns_per_year: annualizes returns.

        Raises:
            ValueError: no bar has been added.
        """
        if not self.n_bars:
            raise ValueError("no bar yet")
        s1, s2, s3, s4, down, lost = self._returns
        squares, under, most_under = self._drawdowns
        losing, most_losing = self._losing
        sums = {
            layout.CASH: cash,
            layout.EQUITY: self._equity,
            layout.RUINED: float(ruined),
            layout.PEAK: self._peak,
            layout.MAX_DRAWDOWN: self._max_drawdown,
            layout.SUM_RETURN: s1,
            layout.SUM_RETURN_2: s2,
            layout.SUM_RETURN_3: s3,
            layout.SUM_RETURN_4: s4,
            layout.SUM_DOWNSIDE_2: down,
            layout.SUM_EXPOSURE: self._sum_exposure,
            layout.SUM_EQUITY: self._sum_equity,
            layout.TRADED: self._traded,
            layout.COSTS: self._costs,
            layout.N_TRADES: self._n_trades,
            layout.N_WINS: self._n_wins,
            layout.GROSS_PROFIT: self._profit,
            layout.GROSS_LOSS: self._loss,
            layout.N_LIQUIDATIONS: self._n_liquidations,
            layout.CARRY: self._carry,
            layout.SUM_LOSS: lost,
            layout.SUM_DRAWDOWN_2: squares,
            layout.UNDER_PEAK: under,
            layout.MOST_UNDER_PEAK: most_under,
            layout.LOSING: losing,
            layout.MOST_LOSING: most_losing,
            layout.SUM_HELD: self._sum_held,
        }
        return metrics_of(
            sums, self.start, self.n_bars, bars_per_year, self.n_returns, returns_per_year
        )
