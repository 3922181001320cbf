"""What an account has really earned against what it would have by its backtest, and why it differs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from optimizer.errors import DataError, StudyError
from optimizer.flow.prepared import PreparedFlow
from optimizer.review.exported import naming_export, read_export
from optimizer.review.records import set_record
from optimizer.selection.sequential import ALARM, SequentialTest, fits_sharpe
from optimizer.store.folder import StudyFolder
from optimizer.store.names import MANIFEST
from optimizer.trading.account import Account, read_positions
from optimizer.trading.counterfactual import Steps, Traded, by_broker, by_rules
from optimizer.trading.live import Live, read_fills, read_session
from optimizer.trading.outcomes import Outcomes
from optimizer.trading.plan import TradingSet, bars_of_export, open_to_trade
from optimizer.types import FloatArray

PARTS = ("revised", "timing", "missed", "price", "rest")
"""What makes live and expected differ, in the order in which it is given to the account."""


@dataclass(frozen=True, eq=False, repr=False)
class Drift:
    """Live against expected.

    Attributes:
        study: name of the study.
        number: number of the set in it.
        source: what says what was traded.
        equity: a row for each bar, indexed by its time: ``expected`` and ``live`` (money), and each of
            ``PARTS``, which add up to ``live - expected`` exactly: in the last bit of each number.
        orders: a row for each order of the live account: ``time`` of the decision, ``symbol``,
            ``order_id``, ``ordered``, ``filled`` (units), ``price``, ``commission``, ``model_filled``,
            ``model_price``, ``model_commission``, ``outcome``, ``slippage_bps`` (worse than the model is
            above 0), ``cost`` (money by which price and commission are worse than the model's).
        returns: live returns less the risk-free rate, indexed by the time of the bar that closes each.
        returns_per_year: annualizes them.
        test: whether they still fit the Sharpe ratio to expect; None without one.
        expected_from: where that comes from; empty without one.
        notes: what limits the comparison, in words.
    """

    study: str
    number: int
    source: str
    equity: pd.DataFrame
    orders: pd.DataFrame
    returns: pd.Series[float]
    returns_per_year: float
    test: SequentialTest | None
    expected_from: str
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, float]:
        """Money of each of ``PARTS`` at the last bar; they add up to ``difference``."""
        return {name: float(self.equity[name].iloc[-1]) for name in PARTS}

    @property
    def difference(self) -> float:
        """Live less expected at the last bar, money."""
        return float(self.equity["live"].iloc[-1] - self.equity["expected"].iloc[-1])

    @property
    def sharpe(self) -> float | None:
        """The Sharpe ratio a year of the live returns; None where it is undefined."""
        if len(self.returns) < 2 or not self.returns.std() > 0.0:
            return None
        ratio = self.returns.mean() / self.returns.std()
        return float(ratio * math.sqrt(self.returns_per_year))

    @property
    def counts(self) -> dict[str, int]:
        """How many orders had each outcome."""
        found = self.orders["outcome"].value_counts()
        return {str(name): int(found[name]) for name in sorted(found.index)}

    @property
    def slippage_bps(self) -> float | None:
        """Mean slippage against the model, weighted by value; None where nothing was filled by both."""
        both = self.orders.dropna(subset=["slippage_bps"])
        weights = (both["filled"] * both["model_price"]).abs()
        if not weights.sum() > 0.0:
            return None
        return float((both["slippage_bps"] * weights).sum() / weights.sum())

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; None where undefined."""

        def plain(value: Any) -> Any:
            if isinstance(value, pd.Timestamp):
                return value.isoformat()
            return None if isinstance(value, float) and not math.isfinite(value) else value

        test = None
        if self.test is not None:
            one = self.test
            test = {
                "expected": one.expected,
                "expected_from": self.expected_from,
                "false_alarm_rate": one.rate,
                "p": one.p,
                "alarm_after": one.alarm,
                "largest": plain(one.largest),
                "years_to_alarm": one.years_to_alarm,
                "evidence": one.evidence.tolist(),
            }
        return {
            "study": self.study,
            "set": self.number,
            "source": self.source,
            "start": self.equity.index[0].isoformat(),
            "stop": self.equity.index[-1].isoformat(),
            "expected": float(self.equity["expected"].iloc[-1]),
            "live": float(self.equity["live"].iloc[-1]),
            "difference": self.difference,
            "parts": self.parts,
            "sharpe": self.sharpe,
            "slippage_bps": self.slippage_bps,
            "outcomes": self.counts,
            "test": test,
            "notes": list(self.notes),
            "equity": [
                {"time": time.isoformat(), **row}
                for time, row in zip(self.equity.index, self.equity.to_dict("records"), strict=True)
            ],
            "orders": [
                {str(key): plain(value) for key, value in row.items()}
                for row in self.orders.to_dict("records")
            ],
        }

    def __repr__(self) -> str:
        """The difference in a line."""
        n_bars = len(self.equity)
        return (
            f"<Drift of {self.study} set {self.number}: {self.difference:+,.2f} in {n_bars} bars>"
        )


def drift(
    trades: str | Path,
    path: str | Path,
    *,
    number: int | None = None,
    data: str | Path | None = None,
    cash: float | None = None,
    positions: str | Path | None = None,
    start: str | None = None,
    stop: str | None = None,
    expect: float | None = None,
    rate: float = ALARM,
    trust: bool = False,
) -> Drift:
    """Compare what an account has traded with what its set would have traded, and say why they differ.

    The account is taken through the event flow again and again, each time with one more of the things
    that have really happened: the bars as they were known, orders that were late, orders that were missed
    or refused, prices and commissions. Each changes the equity by its part; what then still differs is
    the rest.

    Args:
        trades: the folder of a session of ``barsweep trade``, or a table of fills (CSV or Parquet) with
            the columns ``time``, ``symbol``, ``quantity``, ``price`` and perhaps ``commission``.
        path: a JSON or TOML export, or the folder of a study.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best.
        data: bars up to the end of the comparison, as they are now: a file, or a folder of files; None
            takes the file that the export names.
        cash: money of the account before the first fill of a table.
        positions: its positions then, see ``next_orders``; None for none.
        start: time of the bar whose close decided the first orders of a table; None takes the bar before
            its first fill.
        stop: time of the last bar of the comparison with a table; None takes the last bar.
        expect: the Sharpe ratio a year to expect; None takes the one of the study, if it is there.
        rate: false-alarm rate of the test.
        trust: approve the strategy file that the export names, for good.

    Returns:
        Equities, parts, orders and the test.

    Raises:
        ExportError: the export cannot be used.
        DataError: the bars, the session or the table cannot be used.
        StudyError: the folder holds no study, or the ledger cannot be used.
        UntrustedCodeError: you have neither run nor approved the strategy file.
    """
    if not 0.0 < rate < 1.0:
        raise DataError(f"--alarm {rate:g}; expected a rate above 0 and below 1")
    if expect is not None and not math.isfinite(expect):
        raise DataError(f"--expect {expect}; expected a Sharpe ratio a year")
    file, source = Path(path), Path(trades)
    with naming_export(file):
        found = open_to_trade(
            file,
            number=number,
            data=None if data is None else Path(data),
            accept_revisions=True,
            trust=trust,
        )
        live = _live(source, found, file, number, cash, positions, start, stop)
        if live.steps.start < found.history.n_recorded:
            found.note_look()
        ratio, where = expect, "--expect"
        if expect is None:
            ratio, where = _ratio_to_expect(file, number, found)
        return _compared(found, live, ratio, where, rate)


def _live(
    source: Path,
    found: TradingSet,
    file: Path,
    number: int | None,
    cash: float | None,
    positions: str | Path | None,
    start: str | None,
    stop: str | None,
) -> Live:
    if source.is_dir():
        if any(one is not None for one in (cash, positions, start, stop)):
            raise DataError(
                f"{source}: a session knows its account and its bars; --cash, --positions, --from and"
                " --to are for tables of fills"
            )
        content, _, base = read_export(file, number)
        references = [(base / content["data"]["path"]).resolve(), bars_of_export(file)]
        return read_session(source, found, references)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if cash is None:
        raise DataError(
            f"{source}: give the money of the account before its first fill with --cash N"
        )
    account = Account(cash, {}) if positions is None else read_positions(Path(positions), cash)
    return read_fills(source, found, account, start, stop)


def _ratio_to_expect(file: Path, number: int | None, found: TradingSet) -> tuple[float | None, str]:
    """The Sharpe ratio to expect of a set by its study, where that is in the folder of the export."""
    folder = file if file.is_dir() else file.parent
    if not (folder / MANIFEST).is_file():
        return None, ""
    content, _, _ = read_export(file, number)
    try:
        if StudyFolder.open(folder).manifest()["study_hash"] != content["study"]["hash"]:
            return None, ""
        return set_record(folder, found.number).sharpe_to_expect, f"the study in {folder}"
    except StudyError:
        return None, ""


# --- The accounts ----------------------------------------------------------------------------------


def _compared(found: TradingSet, live: Live, ratio: float | None, where: str, rate: float) -> Drift:
    bars, steps = live.bars, live.steps
    plan = found.prepared(bars, steps.start)
    given = Outcomes(plan, live)
    actual = by_broker(plan, given.steps, given.as_live)
    given.know(actual)
    begins = Steps(steps.start, steps.account)
    accounts = [
        _as_now(found, live),
        by_rules(plan, begins).equity,
        by_broker(plan, begins, given.late).equity,
        by_broker(plan, begins, given.missing).equity,
        by_broker(plan, begins, given.priced).equity,
        actual.equity,
    ]
    times = pd.DatetimeIndex(bars.timestamps[steps.start :], name="time", tz="UTC")
    exact = _on_a_grid(accounts)
    table = pd.DataFrame({"expected": exact[0], "live": exact[-1]}, times)
    for name, before, after in zip(PARTS, exact, exact[1:], strict=False):
        table[name] = after - before
    returns = _returns(plan, steps.start, actual)
    per_year = plan.rules.returns_per_year
    test = None if ratio is None else _fit(returns, ratio, per_year, rate)
    return Drift(
        study=found.name,
        number=found.number,
        source=live.source,
        equity=table,
        orders=given.table(actual),
        returns=returns,
        returns_per_year=per_year,
        test=test,
        expected_from=where if test is not None else "",
        notes=live.notes,
    )


def _fit(returns: pd.Series[float], ratio: float, per_year: float, rate: float) -> SequentialTest:
    values: FloatArray = np.asarray(returns, dtype=np.float64)
    return fits_sharpe(values, ratio, per_year, rate)


def _as_now(found: TradingSet, live: Live) -> FloatArray:
    """The equity by the rules of the study on the bars as they are now, at each bar that was known."""
    every, steps = found.history.bars, live.steps
    times = live.bars.timestamps[steps.start :]
    start = int(np.searchsorted(every.timestamps, times[0]))
    stop = int(np.searchsorted(every.timestamps, times[-1], "right"))
    if start >= every.n_bars or every.timestamps[start] != times[0] or stop <= start:
        raise DataError(
            f"{every.source}: no bar at {times[0]}, with which {live.source} begins; give bars that go"
            " on to its end with --data"
        )
    if every.timestamps[stop - 1] != times[-1]:
        raise DataError(
            f"{every.source}: no bar at {times[-1]}, with which {live.source} ends; give bars that go on"
            " to there with --data"
        )
    plan = found.prepared(every.head(stop), start)
    account = replace(steps.account, bar=start)
    equity = by_rules(plan, Steps(start, account)).equity
    places = np.searchsorted(every.timestamps[start:stop], times, "right") - 1
    found_at: FloatArray = equity[places]
    return found_at


def _on_a_grid(accounts: list[FloatArray]) -> list[FloatArray]:
    """Equities rounded to a power of 2 that is far below a cent, so that all their sums are exact."""
    most = max(float(np.abs(one).max()) for one in accounts)
    unit = 2.0 ** (math.frexp(most)[1] - 48)
    return [np.round(one / unit) * unit for one in accounts]


def _returns(plan: PreparedFlow, start: int, account: Traded) -> pd.Series[float]:
    """Returns less the risk-free rate, without money that came or went."""
    rules, n_bars = plan.rules, plan.bars.n_bars
    closes = rules.closes(start + 1, n_bars)
    places = np.concatenate(([0], closes - start))
    moved = np.diff(np.cumsum(account.moved)[places])
    before, after = account.equity[places[:-1]], account.equity[places[1:]] - moved
    change = np.divide(after, before, out=np.ones_like(before), where=before > 0.0) - 1.0
    free = rules.closing_rates(start + 1)[closes, layout.RISK_FREE]
    times = pd.DatetimeIndex(plan.bars.timestamps[closes], name="time", tz="UTC")
    return pd.Series(change - free, times, name="return")
