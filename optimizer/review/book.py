"""What several parameter sets did together, each in a sub-account of one account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from kernels.portfolio import exposure_of
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

    Attributes:
        members: the result of each, in order; money that moves between them is in their equities. Fills,
            trades and ``orders_next`` have a column ``member``, from 1.
    """

    members: tuple[BacktestResult, ...] = ()

    def before_holdout(self, n_bars: int) -> BookResult:
        """The in-sample part alone, as if nothing were known of the bars after it.

        Args:
            n_bars: bars of ``equity`` in-sample.
        """
        found = super().before_holdout(n_bars)
        assert isinstance(found, BookResult)
        return replace(found, members=tuple(one.before_holdout(n_bars) for one in self.members))

    @cached_property
    def trades(self) -> pd.DataFrame:
        """Every trade of every member, from flat to flat, as ``BacktestResult.trades``."""
        return _by_member([one.trades for one in self.members])

    @property
    def orders_next(self) -> pd.DataFrame:
        """What each member has decided at the last close, as ``BacktestResult.orders_next``."""
        return _by_member([one.orders_next for one in self.members])

    def attribution(self) -> pd.DataFrame:
        """Where the profit came from, as ``BacktestResult.attribution``, over all members.

        A bar counts for the regime that the classifier of the member knew.
        """
        parts = pd.concat([one.attribution() for one in self.members])
        return parts.groupby(["by", "name"], sort=False)["profit"].sum().reset_index()


def _by_member(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(member=place) for place, table in enumerate(tables, 1)]
    return pd.concat(numbered, ignore_index=True)


def book_result(inputs: Inputs, members: Sequence[BacktestResult]) -> BookResult:
    """The result of several parameter sets together.

    Args:
        inputs: the prepared inputs of one of them; all have the same bars, rates, first decision and
            holdout.
        members: their results.

    Returns:
        Equity, fills and metrics of the whole.
    """
    rules = replace(inputs.rules, initial_cash=sum(one.rules.initial_cash for one in members))
    whole = replace(inputs, rules=rules)
    equity = _sum([np.asarray(one.equity, np.float64) for one in members])
    gross = _sum([gross_values(one) for one in members])
    first = members[0]
    split, n_bars = inputs.split, inputs.bars.n_bars
    fills = _by_member([one.fills for one in members])
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
        members=tuple(members),
    )


def simulate_book(
    file: Path,
    members: Sequence[tuple[Mapping[str, Any], float]],
    rebalance: Schedule,
    data: Path | None,
    trust: bool,
) -> tuple[Rerun, list[BacktestResult]]:
    """Simulate the members of a combination together. The caller is within ``naming_export``.

    Args:
        file: the file of the combination, from whose folder paths count.
        members: the export of each, see ``load_export``, and its share of the capital.
        rebalance: the schedule on which money moves between them.
        data: the bars, where they are no longer at the path that the file names.
        trust: approve the strategy files that the exports name, for good.

    Returns:
        The book, and what each member does with its own money alone.

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
        opened = exported_set(Path(f"{file}: members #{place}"), content, 1, terms, bars, trust)
        reruns.append(rerun_set(opened.document, terms, bars, sealed=False))
    first, own = reruns[0], [one.result for one in reruns]
    results = own
    if rebalance != "never":
        shares = np.array([share for _, share in members])
        results = simulate_sub_accounts(
            [(one.inputs, one.tile) for one in reruns], shares, rebalance
        )
    book = book_result(first.inputs, results)
    inputs = replace(first.inputs, rules=book.rules)
    return replace(first, inputs=inputs, result=book), own


def gross_values(result: BacktestResult) -> FloatArray:
    """The gross value of the positions at each close.

    Args:
        result: the result of one parameter set.

    Returns:
        Money, shape (n_bars,).
    """
    gross: FloatArray = np.abs(result.values).sum(axis=1)
    return gross


def _sum(parts: Sequence[FloatArray]) -> FloatArray:
    """The sum of arrays in their order, so that it is the same each time."""
    found = parts[0].copy()
    for part in parts[1:]:
        found += part
    return found


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
