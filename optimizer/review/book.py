"""What several parameter sets did together, each in a sub-account of one account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from kernels.portfolio import exposure_of
from optimizer.errors import ExportError
from optimizer.flow.period import Period
from optimizer.review.exported import bars_of_terms, exported_set
from optimizer.review.rerun import Rerun, Terms, rerun_set
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.sub_accounts import Schedule, simulate_sub_accounts
from optimizer.types import FloatArray

COMBINATION = "combination"
"""The strategy of a book, as its parameters name it."""


@dataclass(frozen=True, eq=False, repr=False)
class BookResult(BacktestResult):
    """The result of several parameter sets, each in a sub-account of its own.

    Equity, positions and weights are those of the whole account, where a long position of one member and
    a short one of another cancel out. Trades, exposure and metrics are of the sub-accounts: what
    they hold adds up, and the losing streak is the longest of any of them.

    Fills, trades and ``orders_next`` have a column ``member``, from 1. The verdict looks at the holdout
    of the whole alone: fills and trades that end there name no member.

    Attributes:
        rebalance: the schedule on which money moves between the members.
    """

    rebalance: Schedule = "never"
    _accounts: tuple[BacktestResult, ...] = ()

    @cached_property
    def members(self) -> tuple[BacktestResult, ...]:
        """The result of each set in-sample, in order; money that moves is in their equities."""
        if self.out_of_sample is None:
            return self._accounts
        return tuple(one.before_holdout(self._n_inside) for one in self._accounts)

    @property
    def _n_inside(self) -> int:
        """Bars of ``equity`` before the holdout."""
        return min(self.waiting) - self._first

    def before_holdout(self, n_bars: int) -> BookResult:
        """The in-sample part alone, as if nothing were known of the bars after it.

        Args:
            n_bars: bars of ``equity`` in-sample.
        """
        found = super().before_holdout(n_bars)
        assert isinstance(found, BookResult)
        return replace(found, _accounts=tuple(one.before_holdout(n_bars) for one in self._accounts))

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Every trade of every member, from flat to flat, as ``BacktestResult.trades``."""
        trades = _by_member([one.trades for one in self._accounts])
        if self.out_of_sample is None:
            return trades
        last = self.equity.index[self._n_inside - 1]
        return trades.assign(member=trades["member"].mask(trades["exit"] > last))

    @property
    def orders_next(self) -> pd.DataFrame:
        """What each member has decided at the last close, as ``BacktestResult.orders_next``."""
        return _by_member([one.orders_next for one in self._accounts])

    def attribution(self) -> pd.DataFrame:
        """Where the profit came from, as ``BacktestResult.attribution``, over all members.

        A bar counts for the regime that the classifier of the member knew. Where money moves between the
        members there are no rows by regime: what a member is paid is no profit of the regime it knew.
        """
        parts = pd.concat([one.attribution() for one in self._accounts])
        if self.rebalance != "never":
            parts = parts[parts["by"] != "regime"]
        return parts.groupby(["by", "name"], sort=False)["profit"].sum().reset_index()


def _by_member(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(member=place) for place, table in enumerate(tables, 1)]
    return pd.concat(numbered, ignore_index=True).astype({"member": "Int64"})


def book_result(
    inputs: Inputs, members: Sequence[BacktestResult], rebalance: Schedule
) -> BookResult:
    """The result of several parameter sets together.

    Args:
        inputs: the prepared inputs of one of them; all have the same bars, rates, first decision and
            holdout.
        members: their results.
        rebalance: the schedule on which money moved between them.

    Returns:
        Equity, fills and metrics of the whole.
    """
    rules = replace(inputs.rules, initial_cash=sum(one.rules.initial_cash for one in members))
    whole = replace(inputs, rules=rules)
    equity = reduce(np.add, [np.asarray(one.equity, np.float64) for one in members])
    gross = reduce(np.add, [gross_values(one) for one in members])
    first = members[0]
    split, n_bars = inputs.split, inputs.bars.n_bars
    fills = _by_member([one.fills for one in members])
    if split < n_bars:
        last = first.equity.index[split - inputs.first - 1]
        fills["member"] = fills["member"].mask(fills["timestamp"] > last)
    return BookResult(
        parameters={"strategy": COMBINATION, "classifier": "none"},
        equity=pd.Series(equity, first.equity.index, name="equity"),
        fills=fills.sort_values("timestamp", kind="stable", ignore_index=True),
        in_sample=_metrics(whole, equity, gross, members, inputs.first, split),
        out_of_sample=_metrics(whole, equity, gross, members, split, n_bars)
        if split < n_bars
        else None,
        regimes=pd.Series(0, first.equity.index, name="regime"),
        bars=first.bars,
        rules=rules,
        waiting=first.waiting,
        rebalance=rebalance,
        _accounts=tuple(members),
    )


@dataclass(frozen=True, eq=False)
class SimulatedBook:
    """The members of a combination, simulated.

    Attributes:
        whole: the book; its inputs and its tile are those of the first member, but for the money.
        alone: what each member does with its own money alone.
        together: what each does as a part of the book.
    """

    whole: Rerun
    alone: Sequence[BacktestResult]
    together: Sequence[BacktestResult]


def simulate_book(
    file: Path,
    members: Sequence[tuple[Mapping[str, Any], float]],
    rebalance: Schedule,
    data: Path | None,
    trust: bool,
) -> SimulatedBook:
    """Simulate the members of a combination together. The caller is within ``naming_export``.

    Args:
        file: the file of the combination, from whose folder paths count.
        members: the export of each, see ``load_export``, and its share of the capital.
        rebalance: the schedule on which money moves between them.
        data: the bars, where they are no longer at the path that the file names.
        trust: approve the strategy files that the exports name, for good.

    Returns:
        What they do.

    Raises:
        ExportError: a member cannot be used, or the bars or a strategy are not those of its study.
        UntrustedCodeError: the user has neither run nor approved a strategy file.
        DataError: the bars cannot be used.
    """
    base = file.resolve().parent
    bars, reruns = None, []
    for place, (content, _) in enumerate(members, 1):
        terms = Terms.of_export(content, base, data)
        if bars is None:
            bars = bars_of_terms(file, terms)
            shared = (terms.data_hash, terms.first_bar, terms.holdout)
        opened = exported_set(Path(f"{file}: members #{place}"), content, 1, terms, bars, trust)
        reruns.append(rerun_set(opened.document, terms, bars, sealed=False))
        if (terms.data_hash, terms.first_bar, terms.holdout) != shared:
            raise ExportError(
                f"{file}: members #{place}: its bars, its first decision or its holdout are not those of"
                " members #1; combine the studies again"
            )
    first, own = reruns[0], [one.result for one in reruns]
    results = own
    if rebalance != "never":
        shares = np.array([share for _, share in members])
        results = simulate_sub_accounts(
            [(one.inputs, one.tile) for one in reruns], shares, rebalance
        )
    book = book_result(first.inputs, results, rebalance)
    inputs = replace(first.inputs, rules=book.rules)
    return SimulatedBook(replace(first, inputs=inputs, result=book), own, results)


def gross_values(result: BacktestResult) -> FloatArray:
    """The gross value of the positions at each close.

    Args:
        result: the result of one parameter set.

    Returns:
        Money, shape (n_bars,).
    """
    gross: FloatArray = np.abs(result.values).sum(axis=1)
    return gross


def _metrics(
    inputs: Inputs,
    equity: FloatArray,
    gross: FloatArray,
    members: Sequence[BacktestResult],
    first: int,
    last: int,
) -> dict[str, float]:
    """The metrics of the bars ``first`` to ``last - 1``, by the kernel of the sweep."""
    rules, counted = inputs.rules, inputs.rules.counted
    at = first - inputs.first
    period = Period(float(equity[at - 1]) if at else rules.initial_cash)
    for bar in range(first, last):
        money = float(equity[bar - inputs.first])
        period.add_bar(
            money,
            float(exposure_of(float(gross[bar - inputs.first]), money)),
            float(inputs.rates[bar, layout.RISK_FREE]),
            counted is None or bool(counted[bar]),
        )
    for one in members:
        period.add_lane(one.sums[last])
    money = float(equity[last - 1 - inputs.first])
    return period.metrics(money, money <= 0.0, inputs.bars.bars_per_year, rules.returns_per_year)
